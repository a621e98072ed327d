//! What has become of each disk's components: the table `STATES`.
//!
//! Admission looks a disk up (`query`, an NSID, answered in `queried` two cycles later, zero for a disk that is not
//! there). `change` moves components out and deactivates the disk, in one cycle for whoever looks it up; a change
//! without either only reads. Each is answered by a pulse `changed_valid` with what stood there before, and with the
//! template that the disk's entry names (`changed_plan`): writes to the table `VD` are listened to, which may follow
//! each other every cycle, as `LookupTable` has them. The control ring writes by the rules of `ComponentStates`: only
//! selected components; one that is out becomes in sync only by way of write-only, so that a change is never
//! overwritten by who has not seen it. A write of all components as absent, with `reactivate`, clears an entry
//! whatever the memory held.
//!
//! Latency: `change` to `changed_valid` 5 cycles, if no access of the control ring stands before it.
//! Throughput: a lookup a cycle, a change every 6. Reset drops what is in work; the table stays.

use rust_hdl::prelude::*;
use volplane_abi::plan::component_state;
use volplane_abi::table;

use crate::prim::ram::BlockRam;
use crate::prim::stream::StreamIn;
use crate::records::{ComponentStates, DiskEntry, DiskStates, StateChange, TableRequest};
use crate::sizes::Sizes;

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum State {
    Idle,
    /// The RAM reads, for two cycles.
    Read,
    Wait,
    /// The entry is there.
    Modify,
    Write,
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct DiskStateTable {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub query: Signal<In, Bits<32>>,
    pub queried: Signal<Out, DiskStates>,
    pub change: StreamIn<StateChange>,
    pub changed_valid: Signal<Out, bool>,
    pub changed: Signal<Out, DiskStates>,
    pub changed_plan: Signal<Out, Bits<16>>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    pub table_ack: Signal<Out, bool>,
    pub table_data: Signal<Out, Bits<256>>,
    pub idle: Signal<Out, bool>,

    // The same entries twice: for admission, by NSID, and for changes.
    looked_up: BlockRam<DiskStates>,
    entries: BlockRam<DiskStates>,
    /// The template of each disk, as the table `VD` was written.
    templates: BlockRam<Bits<16>>,
    /// The index of a query is that of a disk, a cycle and two cycles later.
    inside1: DFF<bool>,
    inside2: DFF<bool>,
    state: DFF<State>,
    /// An access of the control ring waits.
    control_valid: DFF<bool>,
    is_table: DFF<bool>,
    // Of a write to the table of disks: its cycle, and the next, in which the entry is there.
    is_disk: DFF<bool>,
    is_write: DFF<bool>,
    disk_index: DFF<Bits<16>>,
    disk_write: DFF<bool>,
    disk_address: DFF<Bits<16>>,
    is_inside: DFF<bool>,
    control_waits: DFF<bool>,
    by_control: DFF<bool>,
    address: DFF<Bits<16>>,
    moved_out: DFF<Bits<8>>,
    deactivates: DFF<bool>,
    found: DFF<DiskStates>,
    found_plan: DFF<Bits<16>>,
    changed_register: DFF<bool>,
    acknowledge: DFF<bool>,
    answer: DFF<Bits<256>>,

    query_high: Signal<Local, Bits<32>>,
    query_top: Signal<Local, Bits<32>>,
    query_low: Signal<Local, Bits<32>>,
    written: Signal<Local, ComponentStates>,
    asked: Signal<Local, Bits<64>>,
    disk_bits: Signal<Local, Bits<144>>,
    disk_written: Signal<Local, DiskEntry>,
    next: Signal<Local, DiskStates>,
    now_states: Signal<Local, Bits<16>>,
    new_states: Signal<Local, Bits<16>>,
    state_now: [Signal<Local, Bits<2>>; 8],
    state_new: [Signal<Local, Bits<2>>; 8],
    state_next: [Signal<Local, Bits<2>>; 8],
    durable_next: Signal<Local, Bits<8>>,
    joined: Signal<Local, Bits<8>>,
    selected: Signal<Local, Bits<8>>,
    shown: Signal<Local, ComponentStates>,
    table_number: Constant<Bits<16>>,
    disk_table: Constant<Bits<16>>,
    table_size: Constant<Bits<32>>,
    high_mask: Constant<Bits<32>>,
    low_mask: Constant<Bits<32>>,
    one16: Constant<Bits<16>>,
    in_sync: Constant<Bits<2>>,
    out: Constant<Bits<2>>,
    absent: Constant<Bits<2>>,
    nothing: Constant<DiskStates>,
    nothing_shown: Constant<ComponentStates>,
    zero8: Constant<Bits<8>>,
    zero256: Constant<Bits<256>>,
    flag: Constant<Bits<1>>,
    clear: Constant<Bits<1>>,
}

impl DiskStateTable {
    /// The states of 2^`vd_bits` disks.
    pub fn new(sizes: &Sizes) -> Self {
        let bits = sizes.vd_bits;
        Self {
            clock: Default::default(),
            reset: Default::default(),
            query: Default::default(),
            queried: Default::default(),
            change: Default::default(),
            changed_valid: Default::default(),
            changed: Default::default(),
            changed_plan: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            table_ack: Default::default(),
            table_data: Default::default(),
            idle: Default::default(),
            looked_up: BlockRam::new(bits),
            entries: BlockRam::new(bits),
            templates: BlockRam::new(bits),
            inside1: Default::default(),
            inside2: Default::default(),
            state: Default::default(),
            control_valid: Default::default(),
            is_table: Default::default(),
            is_disk: Default::default(),
            is_write: Default::default(),
            disk_index: Default::default(),
            disk_write: Default::default(),
            disk_address: Default::default(),
            is_inside: Default::default(),
            control_waits: Default::default(),
            by_control: Default::default(),
            address: Default::default(),
            moved_out: Default::default(),
            deactivates: Default::default(),
            found: Default::default(),
            found_plan: Default::default(),
            changed_register: Default::default(),
            acknowledge: Default::default(),
            answer: Default::default(),
            query_high: Default::default(),
            query_top: Default::default(),
            query_low: Default::default(),
            written: Default::default(),
            asked: Default::default(),
            disk_bits: Default::default(),
            disk_written: Default::default(),
            next: Default::default(),
            now_states: Default::default(),
            new_states: Default::default(),
            state_now: Default::default(),
            state_new: Default::default(),
            state_next: Default::default(),
            durable_next: Default::default(),
            joined: Default::default(),
            selected: Default::default(),
            shown: Default::default(),
            table_number: Constant::new(u64::from(table::STATES).to_bits()),
            disk_table: Constant::new(u64::from(table::VD).to_bits()),
            table_size: Constant::new((1u64 << bits).to_bits()),
            high_mask: Constant::new((!((2u32 << bits) - 1) as u64).to_bits()),
            low_mask: Constant::new(((1u64 << bits) - 1).to_bits()),
            one16: Constant::new(1u64.to_bits()),
            in_sync: Constant::new(u64::from(component_state::IN_SYNC).to_bits()),
            out: Constant::new(u64::from(component_state::OUT).to_bits()),
            absent: Constant::new(u64::from(component_state::ABSENT).to_bits()),
            nothing: Constant::new(DiskStates::default()),
            nothing_shown: Constant::new(ComponentStates::default()),
            zero8: Constant::new(0u64.to_bits()),
            zero256: Constant::new(0u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
            clear: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for DiskStateTable {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, inside1, inside2, state, control_valid, is_table, is_inside, control_waits);
        dff_setup!(self, clock, by_control, address, moved_out, deactivates, found, changed_register);
        dff_setup!(self, clock, acknowledge, answer, is_disk, found_plan);
        dff_setup!(self, clock, is_write, disk_index, disk_write, disk_address);
        self.looked_up.clock.next = self.clock.val();
        self.entries.clock.next = self.clock.val();
        self.templates.clock.next = self.clock.val();

        // NSID 1 is entry 0: entries of `looked_up` stand one further, the last at 0.
        self.query_high.next = self.query.val() & self.high_mask.val();
        self.query_top.next = self.query.val() & !(self.high_mask.val() | self.low_mask.val());
        self.query_low.next = self.query.val() & self.low_mask.val();
        self.inside1.d.next =
            !self.query_high.val().any() & (self.query_top.val().any() != self.query_low.val().any());
        self.inside2.d.next = self.inside1.q.val();
        self.looked_up.read_address.next = bit_cast::<16, 32>(self.query.val());
        self.queried.next = self.nothing.val();
        if self.inside2.q.val() {
            self.queried.next = self.looked_up.read_data.val();
        }

        // The control ring first: it waits for nobody.
        self.control_valid.d.next = self.table_valid.val();
        self.is_table.d.next = (self.table_request.val().table == self.table_number.val());
        self.is_inside.d.next = (self.table_request.val().index < self.table_size.val());
        if self.control_valid.q.val() & self.is_table.q.val() & self.is_inside.q.val() {
            self.control_waits.d.next = true;
        }
        // The entries of disks are another's; their templates are kept here as well.
        self.is_disk.d.next = (self.table_request.val().table == self.disk_table.val());
        self.disk_bits.next = bit_cast::<144, 256>(self.table_request.val().data);
        self.disk_written.next = self.disk_bits.val().into();
        self.is_write.d.next = (self.table_request.val().write == self.flag.val());
        self.disk_index.d.next = bit_cast::<16, 32>(self.table_request.val().index);
        self.disk_write.d.next = self.control_valid.q.val()
            & self.is_disk.q.val()
            & self.is_inside.q.val()
            & self.is_write.q.val();
        self.disk_address.d.next = self.disk_index.q.val();
        self.templates.write.next = self.disk_write.q.val();
        self.templates.write_address.next = self.disk_address.q.val();
        self.templates.write_data.next = self.disk_written.val().plan;
        self.templates.read_address.next = self.address.q.val();
        self.change.ready.next = (self.state.q.val() == State::Idle) & !self.control_waits.q.val();
        self.entries.read_address.next = self.address.q.val();

        // The entry as it is written: by the control ring, else by a change.
        self.asked.next = bit_cast::<64, 256>(self.table_request.val().data);
        self.written.next = self.asked.val().into();
        self.selected.next = self.written.val().select;
        self.now_states.next = self.found.q.val().states;
        self.new_states.next = self.written.val().states;
        self.next.next = self.found.q.val();
        self.joined.next = self.zero8.val();
        for i in 0..8 {
            self.state_now[i].next = self.now_states.val().get_bits::<2>(2 * i);
            self.state_new[i].next = self.new_states.val().get_bits::<2>(2 * i);
            self.state_next[i].next = self.state_now[i].val();
            if self.by_control.q.val() {
                if self.selected.val().get_bit(i)
                    & !((self.state_new[i].val() == self.in_sync.val())
                        & (self.state_now[i].val() == self.out.val()))
                {
                    self.state_next[i].next = self.state_new[i].val();
                }
            } else if self.moved_out.q.val().get_bit(i) & (self.state_now[i].val() != self.absent.val()) {
                self.state_next[i].next = self.out.val();
            }
        }
        self.durable_next.next = self.found.q.val().durably_out;
        if self.by_control.q.val() {
            self.durable_next.next = (self.found.q.val().durably_out & !self.selected.val())
                | (self.written.val().durably_out & self.selected.val());
        }
        self.next.next.states = bit_cast::<16, 2>(self.state_next[0].val())
            | (bit_cast::<16, 2>(self.state_next[1].val()) << 2)
            | (bit_cast::<16, 2>(self.state_next[2].val()) << 4)
            | (bit_cast::<16, 2>(self.state_next[3].val()) << 6)
            | (bit_cast::<16, 2>(self.state_next[4].val()) << 8)
            | (bit_cast::<16, 2>(self.state_next[5].val()) << 10)
            | (bit_cast::<16, 2>(self.state_next[6].val()) << 12)
            | (bit_cast::<16, 2>(self.state_next[7].val()) << 14);
        self.next.next.durably_out = self.durable_next.val();
        if self.by_control.q.val() {
            if (self.written.val().reactivate == self.flag.val()) {
                self.next.next.deactivated = self.written.val().deactivated;
            }
        } else if self.deactivates.q.val() {
            self.next.next.deactivated = self.flag.val();
        }
        self.entries.write.next = false;
        self.entries.write_address.next = self.address.q.val();
        self.entries.write_data.next = self.next.val();
        self.looked_up.write.next = false;
        self.looked_up.write_address.next = self.address.q.val() + self.one16.val();
        self.looked_up.write_data.next = self.next.val();

        self.changed_valid.next = self.changed_register.q.val();
        self.changed.next = self.found.q.val();
        self.changed_plan.next = self.found_plan.q.val();
        self.shown.next = self.nothing_shown.val();
        self.shown.next.states = self.found.q.val().states;
        self.shown.next.durably_out = self.found.q.val().durably_out;
        self.shown.next.deactivated = self.found.q.val().deactivated;
        self.table_ack.next = self.acknowledge.q.val();
        self.table_data.next = self.answer.q.val();
        self.changed_register.d.next = false;
        self.acknowledge.d.next = false;
        self.answer.d.next = self.zero256.val();
        match self.state.q.val() {
            State::Idle => {
                self.by_control.d.next = self.control_waits.q.val();
                self.moved_out.d.next = self.change.data.val().out;
                self.deactivates.d.next = self.change.data.val().deactivate.into();
                self.address.d.next = self.change.data.val().disk;
                if self.control_waits.q.val() {
                    self.address.d.next = bit_cast::<16, 32>(self.table_request.val().index);
                    self.control_waits.d.next = false;
                    self.state.d.next = State::Read;
                } else if self.change.valid.val() {
                    self.state.d.next = State::Read;
                }
            }
            State::Read => {
                self.state.d.next = State::Wait;
            }
            State::Wait => {
                self.state.d.next = State::Modify;
            }
            State::Modify => {
                self.found.d.next = self.entries.read_data.val();
                self.found_plan.d.next = self.templates.read_data.val();
                self.state.d.next = State::Write;
            }
            State::Write => {
                self.state.d.next = State::Idle;
                self.entries.write.next = true;
                self.looked_up.write.next = true;
                if self.by_control.q.val() {
                    self.acknowledge.d.next = true;
                    if (self.table_request.val().write == self.clear.val()) {
                        self.entries.write.next = false;
                        self.looked_up.write.next = false;
                        self.answer.d.next = bit_cast::<256, 64>(self.shown.val().into());
                    }
                } else {
                    self.changed_register.d.next = true;
                }
            }
            _ => {}
        }
        self.idle.next = (self.state.q.val() == State::Idle)
            & !self.control_valid.q.val()
            & !self.control_waits.q.val()
            & !self.acknowledge.q.val()
            & !self.changed_register.q.val();

        if self.reset.val() {
            self.state.d.next = State::Idle;
            self.control_valid.d.next = false;
            self.disk_write.d.next = false;
            self.control_waits.d.next = false;
            self.acknowledge.d.next = false;
            self.answer.d.next = self.zero256.val();
            self.changed_register.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use std::collections::VecDeque;

    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    struct Disk {
        states: [u8; 8],
        durably_out: u8,
        deactivated: bool,
    }

    impl Disk {
        fn record(self) -> DiskStates {
            let states = (0..8).fold(0u64, |bits, i| bits | u64::from(self.states[i]) << (2 * i));
            DiskStates {
                states: states.to_bits(),
                durably_out: u64::from(self.durably_out).to_bits(),
                deactivated: u64::from(self.deactivated).to_bits(),
            }
        }

        fn change(&mut self, out: u8, deactivate: bool) {
            for (i, state) in self.states.iter_mut().enumerate() {
                if out >> i & 1 == 1 && *state != component_state::ABSENT {
                    *state = component_state::OUT;
                }
            }
            self.deactivated |= deactivate;
        }

        fn write(&mut self, entry: volplane_abi::ComponentStates) {
            for i in (0..8).filter(|i| entry.select() >> i & 1 == 1) {
                let wanted = (entry.states() >> (2 * i) & 3) as u8;
                if !(wanted == component_state::IN_SYNC && self.states[i] == component_state::OUT) {
                    self.states[i] = wanted;
                }
                self.durably_out = self.durably_out & !(1 << i) | entry.durably_out() & 1 << i;
            }
            if entry.reactivate() == 1 {
                self.deactivated = entry.deactivated() == 1;
            }
        }
    }

    const DISKS: u32 = 8;

    fn control(random: &mut ChaCha8Rng) -> (bool, u16, u32, volplane_abi::ComponentStates) {
        let entry = volplane_abi::ComponentStates::default()
            .with_states(random.random())
            .with_durably_out(random.random())
            .with_select(random.random())
            .with_deactivated(random.random_range(0..2))
            .with_reactivate(random.random_range(0..2));
        let table = if random.random_bool(0.1) { table::VD } else { table::STATES };
        (random.random_bool(0.6), table, random.random_range(0..DISKS + 1), entry)
    }

    fn request(write: bool, number: u16, index: u32, entry: volplane_abi::ComponentStates) -> TableRequest {
        // An entry of a disk names a template.
        let bits = u64::from_le_bytes(entry.0);
        let plan: Bits<256> = template(entry).to_bits();
        TableRequest {
            write: u64::from(write).to_bits(),
            table: u64::from(number).to_bits(),
            index: u64::from(index).to_bits(),
            data: if number == table::VD { plan << 128 } else { bits.to_bits() },
        }
    }

    fn template(entry: volplane_abi::ComponentStates) -> u64 {
        u64::from_le_bytes(entry.0) & 0xFFFF
    }

    #[test]
    fn agrees_with_a_model_at_random() {
        let sizes = Sizes { vd_bits: DISKS.ilog2() as usize, ..Sizes::DEFAULT };
        let mut bench = Bench::new("component_states", DiskStateTable::new(&sizes));
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        // Nothing is known of what the memory holds: one write defines an entry.
        for index in 0..DISKS {
            let absent = volplane_abi::ComponentStates::default().with_select(0xFF).with_reactivate(1);
            bench.set("table_valid", 1);
            bench.set_record::<305>("table_request", request(true, table::STATES, index, absent));
            while bench.get("table_ack") == 0 {
                bench.cycle();
                bench.set("table_valid", 0);
            }
            bench.cycle();
        }
        let mut disks = [Disk::default(); DISKS as usize];
        // Each entry as lookups may see it while it changes.
        let mut before = disks;
        let mut asked: VecDeque<u32> = [0, 0].into();
        let mut change: Option<StateChange> = None;
        let mut taken: Option<(u64, StateChange)> = None;
        let mut access: Option<(u64, bool, u16, u32, volplane_abi::ComponentStates)> = None;
        // The template of each disk before the last write of its entry, and after.
        let mut templates = [[None; 2]; DISKS as usize];
        let (mut changes, mut accesses, mut lookups, mut named) = (0, 0, 0, 0);
        for cycle in 0..60_000u64 {
            if change.is_none() && random.random_bool(0.3) {
                change = Some(StateChange {
                    disk: random.random_range(0..u64::from(DISKS)).to_bits(),
                    out: u64::from(random.random::<u8>() & random.random::<u8>()).to_bits(),
                    deactivate: u64::from(random.random_bool(0.2)).to_bits(),
                });
            }
            bench.set("change$valid", change.is_some().into());
            bench.set_record::<25>("change$data", change.unwrap_or_default());
            bench.set("table_valid", 0);
            if access.is_none() && random.random_bool(0.05) {
                let (write, number, index, entry) = control(&mut random);
                bench.set("table_valid", 1);
                bench.set_record::<305>("table_request", request(write, number, index, entry));
                access = Some((cycle, write, number, index, entry));
                if write && number == table::VD && index < DISKS {
                    let templates = &mut templates[index as usize];
                    *templates = [templates[1], Some(template(entry))];
                }
            }
            let query = random.random_range(0..DISKS + 3) | [0, 0, 0, 1 << 20][random.random_range(0..4)];
            bench.set("query", query.into());
            bench.eval();

            asked.push_back(query);
            let query = asked.pop_front().expect("two are kept");
            let states: DiskStates = bench.get_record::<25, _>("queried");
            if query == 0 || query > DISKS {
                assert_eq!(states, DiskStates::default(), "NSID {query}");
            } else if cycle > 2 {
                let (old, new) = (before[query as usize - 1], disks[query as usize - 1]);
                let moving = taken.is_some() || access.is_some();
                assert!(
                    states == new.record() || old.record() == states || moving,
                    "NSID {query}: {states:?}"
                );
                lookups += u32::from(!moving && old == new);
            }
            before = disks;
            if bench.get("changed_valid") == 1 {
                let (since, it) = taken.take().expect("an answer without a change");
                assert!(cycle - since == 5, "{} cycles", cycle - since);
                let disk = &mut disks[it.disk.index()];
                assert_eq!(bench.get_record::<25, DiskStates>("changed"), disk.record());
                let known = templates[it.disk.index()];
                let found = bench.get("changed_plan") as u64;
                let moving = access.is_some_and(|access| access.2 == table::VD);
                assert!(
                    known[1].is_none_or(|now| now == found)
                        || moving && known[0].is_none_or(|old| old == found)
                );
                named += u32::from(known[0].is_some() && !moving);
                disk.change(it.out.to_u64() as u8, it.deactivate.any());
                changes += 1;
            }
            if bench.get("table_ack") == 1 {
                let (_, write, number, index, entry) =
                    access.take().expect("an acknowledge without an access");
                assert!(number == table::STATES && index < DISKS);
                let disk = &mut disks[index as usize];
                if write {
                    disk.write(entry);
                } else {
                    let shown = volplane_abi::ComponentStates::default()
                        .with_states(disk.record().states.to_u64() as u16)
                        .with_durably_out(disk.durably_out)
                        .with_deactivated(disk.deactivated.into());
                    let words = bench.get_wide("table_data");
                    assert_eq!(u64::from(words[0]) | u64::from(words[1]) << 32, u64::from_le_bytes(shown.0));
                    assert!(words[2..].iter().all(|&word| word == 0));
                }
                accesses += 1;
            } else {
                assert!(bench.get_wide("table_data").iter().all(|&word| word == 0));
            }
            if bench.get("change$ready") == 1 {
                if let Some(it) = change.take() {
                    assert!(taken.is_none());
                    taken = Some((cycle, it));
                }
            }
            if let Some((since, _, number, index, _)) = access {
                let refused = number != table::STATES || index >= DISKS;
                assert!(refused || cycle - since < 32, "no acknowledge");
                if cycle - since == 40 {
                    access = None;
                }
            }
            bench.cycle();
        }
        assert!(changes > 3_000 && accesses > 500 && lookups > 1_000, "{changes} {accesses} {lookups}");
        assert!(named > 1_000, "{named}");
    }

    /// Entries of disks that are written in every cycle, each two cycles behind its index: as a transaction writes them.
    #[test]
    fn templates_of_a_transaction_are_known() {
        let mut bench = Bench::new(
            "component_states_commit",
            DiskStateTable::new(&Sizes { vd_bits: 3, ..Sizes::DEFAULT }),
        );
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let named = |index: u64| 100 + index * 7;
        for cycle in 0..u64::from(DISKS) + 2 {
            bench.set("table_valid", u128::from(cycle < u64::from(DISKS)));
            let plan: Bits<256> = named(cycle.saturating_sub(2)).to_bits();
            let request = TableRequest {
                write: 1u64.to_bits(),
                table: u64::from(table::VD).to_bits(),
                index: cycle.to_bits(),
                data: plan << 128,
            };
            bench.set_record::<305>("table_request", request);
            bench.cycle();
        }
        bench.set("table_valid", 0);
        for index in 0..u64::from(DISKS) {
            let change = StateChange { disk: index.to_bits(), ..Default::default() };
            bench.set("change$valid", 1);
            bench.set_record::<25>("change$data", change);
            let mut waited = 0;
            while bench.get("changed_valid") == 0 {
                bench.cycle();
                bench.set("change$valid", 0);
                bench.eval();
                waited += 1;
                assert!(waited < 20, "no answer");
            }
            assert_eq!(bench.get("changed_plan") as u64, named(index), "disk {index}");
            bench.cycle();
        }
    }
}
