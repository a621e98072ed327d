//! The device table: the data path reads an entry a cycle, with the choices among its paths; the control
//! ring reads and writes.
//!
//! `entry` and `choices` are those of the device that `address` named in the cycle before; upper bits of
//! `address` are ignored. There are two copies of the table: one for the data path, which an access by the
//! control ring takes no cycle from, and one that is read back. While nobody reads it back, the second is
//! swept, an entry a cycle, and what `PathChoices` says of it is kept: a change of `path_valid` is seen
//! 2^`device_bits` + 8 cycles later at most, and 5 for each access meanwhile: sooner than a command comes
//! here from its ring. A write reaches
//! the data path together with its choices, in one cycle.
//!
//! An access is acknowledged after 8 cycles. `settled` is low for 64 cycles after one to another
//! table, which may be that of the paths.
//! Reset drops the acknowledgement, and lets a write that was begun end; the entries stay.

use rust_hdl::prelude::*;
use volplane_abi::table;

use super::path_choices::PathChoices;
use crate::prim::ram::LutRam;
use crate::records::{DeviceEntry, TableRequest};
use crate::sizes::Sizes;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct DeviceTable {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub address: Signal<In, Bits<16>>,
    pub entry: Signal<Out, DeviceEntry>,
    /// See `PathChoices`.
    pub choices: Signal<Out, Bits<4>>,
    /// Bit i: path i has a valid entry.
    pub path_valid: Signal<In, Bits<32>>,
    /// Bit i: path i is better not used.
    pub suspect: Signal<In, Bits<32>>,
    pub settled: Signal<Out, bool>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    pub table_ack: Signal<Out, bool>,
    pub table_data: Signal<Out, Bits<256>>,

    devices: LutRam<DeviceEntry>,
    devices_readback: LutRam<DeviceEntry>,
    kept_choices: LutRam<Bits<4>>,
    chooser: PathChoices,
    // An access: a cycle to compare, one for the address, one of the RAM's, three of the choices', one to write
    // and answer. The request stays for them.
    asked: DFF<bool>,
    table_matches: DFF<bool>,
    index_fits: DFF<bool>,
    writing: DFF<bool>,
    addressed: DFF<bool>,
    fetched: DFF<bool>,
    narrowed: DFF<bool>,
    judged: DFF<bool>,
    chosen: DFF<bool>,
    /// The access under way writes; it is to be acknowledged.
    is_write: DFF<bool>,
    answers: DFF<bool>,
    ack: DFF<bool>,
    ack_data: DFF<Bits<128>>,
    // The sweep: the next device, the one whose entry is read, and those behind it.
    swept: DFF<Bits<5>>,
    reading: DFF<Bits<16>>,
    read: DFF<Bits<16>>,
    narrowing: DFF<Bits<16>>,
    judging: DFF<Bits<16>>,
    choosing: DFF<Bits<16>>,
    settling: DFF<Bits<6>>,
    settled_register: DFF<bool>,
    selected: Signal<Local, bool>,
    holds: Signal<Local, bool>,
    request_index: Signal<Local, Bits<16>>,
    request_low: Signal<Local, Bits<128>>,
    device_bits: Signal<Local, Bits<128>>,
    table_number: Constant<Bits<16>>,
    table_size: Constant<Bits<32>>,
    flag: Constant<Bits<1>>,
    no_data: Constant<Bits<128>>,
    one5: Constant<Bits<5>>,
    one6: Constant<Bits<6>>,
    none6: Constant<Bits<6>>,
    longest: Constant<Bits<6>>,
}

impl DeviceTable {
    /// A table of 2^`device_bits`.
    pub fn new(sizes: &Sizes) -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            address: Default::default(),
            entry: Default::default(),
            choices: Default::default(),
            path_valid: Default::default(),
            suspect: Default::default(),
            settled: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            table_ack: Default::default(),
            table_data: Default::default(),
            devices: LutRam::new(sizes.device_bits),
            devices_readback: LutRam::new(sizes.device_bits),
            kept_choices: LutRam::new(sizes.device_bits),
            chooser: Default::default(),
            asked: Default::default(),
            table_matches: Default::default(),
            index_fits: Default::default(),
            writing: Default::default(),
            addressed: Default::default(),
            fetched: Default::default(),
            narrowed: Default::default(),
            judged: Default::default(),
            chosen: Default::default(),
            is_write: Default::default(),
            answers: Default::default(),
            ack: Default::default(),
            ack_data: Default::default(),
            swept: Default::default(),
            reading: Default::default(),
            read: Default::default(),
            narrowing: Default::default(),
            judging: Default::default(),
            choosing: Default::default(),
            settling: Default::default(),
            settled_register: Default::default(),
            holds: Default::default(),
            selected: Default::default(),
            request_index: Default::default(),
            request_low: Default::default(),
            device_bits: Default::default(),
            table_number: Constant::new((table::DEVICE as u64).to_bits()),
            table_size: Constant::new((1u64 << sizes.device_bits).to_bits()),
            flag: Constant::new(1u64.to_bits()),
            no_data: Constant::new(0u64.to_bits()),
            one5: Constant::new(1u64.to_bits()),
            one6: Constant::new(1u64.to_bits()),
            none6: Constant::new(0u64.to_bits()),
            longest: Constant::new(63u64.to_bits()),
        }
    }
}

impl Logic for DeviceTable {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            asked,
            table_matches,
            index_fits,
            writing,
            addressed,
            fetched,
            narrowed,
            judged,
            chosen,
            is_write,
            answers,
            ack,
            ack_data,
            swept,
            reading,
            read,
            narrowing,
            judging,
            choosing,
            settling,
            settled_register
        );
        self.devices.clock.next = self.clock.val();
        self.devices_readback.clock.next = self.clock.val();
        self.kept_choices.clock.next = self.clock.val();
        self.chooser.clock.next = self.clock.val();
        self.devices.read_address.next = self.address.val();
        self.kept_choices.read_address.next = self.address.val();
        self.entry.next = self.devices.read_data.val();
        self.choices.next = self.kept_choices.read_data.val();

        self.asked.d.next = self.table_valid.val();
        self.table_matches.d.next = (self.table_request.val().table == self.table_number.val());
        self.index_fits.d.next = (self.table_request.val().index < self.table_size.val());
        self.writing.d.next = (self.table_request.val().write == self.flag.val());
        self.selected.next = self.asked.q.val() & self.table_matches.q.val() & self.index_fits.q.val();
        self.request_index.next = bit_cast::<16, 32>(self.table_request.val().index);
        self.request_low.next = bit_cast::<128, 256>(self.table_request.val().data);
        self.addressed.d.next = self.selected.val();
        self.fetched.d.next = self.addressed.q.val();
        self.narrowed.d.next = self.fetched.q.val();
        self.judged.d.next = self.narrowed.q.val();
        self.chosen.d.next = self.judged.q.val();
        if self.selected.val() {
            self.is_write.d.next = self.writing.q.val();
            self.answers.d.next = true;
        }

        // The copy that is read back has a write before it is read for the access.
        self.devices_readback.write.next = self.selected.val() & self.writing.q.val();
        self.devices_readback.write_address.next = self.request_index.val();
        self.devices_readback.write_data.next = self.request_low.val().into();
        self.swept.d.next = self.swept.q.val() + self.one5.val();
        self.reading.d.next = bit_cast::<16, 5>(self.swept.q.val());
        self.holds.next = self.addressed.q.val() | self.fetched.q.val() | self.narrowed.q.val();
        if self.selected.val() {
            self.swept.d.next = bit_cast::<5, 16>(self.reading.q.val());
        } else if self.holds.val() {
            self.swept.d.next = self.swept.q.val();
        }
        if self.selected.val() | self.holds.val() {
            self.reading.d.next = self.request_index.val();
        }
        self.devices_readback.read_address.next = self.reading.q.val();
        self.read.d.next = self.reading.q.val();
        self.narrowing.d.next = self.read.q.val();
        self.judging.d.next = self.narrowing.q.val();
        self.choosing.d.next = self.judging.q.val();
        self.chooser.device.next = self.devices_readback.read_data.val();
        self.chooser.path_valid.next = self.path_valid.val();
        self.chooser.suspect.next = self.suspect.val();

        // What was swept while the copy was written is passed over, and swept again.
        self.kept_choices.write.next = !self.judged.q.val();
        self.kept_choices.write_address.next = self.choosing.q.val();
        self.kept_choices.write_data.next = self.chooser.choices.val();
        self.devices.write.next = self.chosen.q.val() & self.is_write.q.val();
        self.devices.write_address.next = self.choosing.q.val();
        self.devices.write_data.next = self.request_low.val().into();

        self.ack.d.next = self.chosen.q.val() & self.answers.q.val();
        self.device_bits.next = self.devices_readback.read_data.val().into();
        self.ack_data.d.next = self.no_data.val();
        if self.chosen.q.val() {
            self.ack_data.d.next = self.device_bits.val();
            self.answers.d.next = false;
        }
        self.table_ack.next = self.ack.q.val();
        self.table_data.next = bit_cast::<256, 128>(self.ack_data.q.val());

        self.settled_register.d.next = (self.settling.q.val() == self.none6.val());
        if (self.settling.q.val() != self.none6.val()) {
            self.settling.d.next = self.settling.q.val() - self.one6.val();
        }
        if (self.asked.q.val() & !self.table_matches.q.val()) | self.reset.val() {
            self.settling.d.next = self.longest.val();
            self.settled_register.d.next = false;
        }
        self.settled.next = self.settled_register.q.val();

        if self.reset.val() {
            self.asked.d.next = false;
            self.answers.d.next = false;
            self.ack.d.next = false;
            self.ack_data.d.next = self.no_data.val();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use volplane_abi::plan::path_policy;

    /// Cycles after which a change of `path_valid` is seen, in a table of 16 with a few accesses.
    const SWEEP: usize = 40;

    fn random_entry(random: &mut ChaCha8Rng) -> DeviceEntry {
        let mut number = |most: u64| random.random_range(0..most);
        DeviceEntry {
            namespace_id: number(1 << 32).to_bits(),
            path: number(32).to_bits(),
            path1: number(32).to_bits(),
            path2: number(32).to_bits(),
            path3: number(32).to_bits(),
            more_paths: number(4).to_bits(),
            path_policy: number(2).to_bits(),
            valid: number(10).min(1).to_bits(),
            ..Default::default()
        }
    }

    fn choices(entry: &DeviceEntry, valid: u32) -> u128 {
        let paths = [entry.path, entry.path1, entry.path2, entry.path3].map(|path| path.to_u64());
        let usable = (0..=entry.more_paths.to_u64() as usize)
            .filter(|&place| entry.valid.any() && valid >> paths[place] & 1 == 1)
            .fold(0u128, |set, place| set | 1 << place);
        let in_turns = entry.path_policy.to_u64() == u64::from(path_policy::ROUND_ROBIN);
        if in_turns {
            usable
        } else {
            usable & usable.wrapping_neg()
        }
    }

    fn bits(entry: &DeviceEntry) -> Bits<128> {
        (*entry).into()
    }

    /// An access by the control ring: what it asks for, and the cycles since.
    struct Access {
        index: usize,
        new: Option<DeviceEntry>,
        since: u64,
    }

    /// Entries and choices of random addresses belong together in every cycle, whatever is written or
    /// becomes valid meanwhile.
    #[test]
    fn entries_come_with_their_choices() {
        let mut bench = Bench::new("device_table", DeviceTable::new(&Sizes::DEFAULT));
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let mut entries: [Option<DeviceEntry>; 16] = [None; 16];
        let mut access: Option<Access> = None;
        let mut valids = vec![0u32; SWEEP];
        let (mut accesses, mut changed) = (0, 0);
        let mut asked = 0;
        for _ in 0..60_000 {
            let valid = *valids.last().expect("some");
            let next = if random.random_bool(0.02) { random.random() } else { valid };
            changed += u64::from(next != valid);
            valids.push(next);
            bench.set("path_valid", next.into());
            bench.set("table_valid", 0);
            if access.is_none() && random.random_bool(0.05) {
                let new = (accesses < 16 || random.random_bool(0.7)).then(|| random_entry(&mut random));
                let index = if accesses < 16 { accesses } else { random.random_range(0..16) };
                let request = TableRequest {
                    write: u64::from(new.is_some()).to_bits(),
                    table: u64::from(table::DEVICE).to_bits(),
                    index: (index as u64).to_bits(),
                    data: bit_cast::<256, 128>(new.map_or(Bits::default(), |new| bits(&new))),
                };
                bench.set_record("table_request", request);
                bench.set("table_valid", 1);
                access = Some(Access { index, new, since: bench.cycles });
                accesses += 1;
            }
            let address = access.as_ref().filter(|_| random.random_bool(0.5)).map(|access| access.index);
            let address = address.unwrap_or_else(|| random.random_range(0..16));
            bench.set("address", address as u128);
            bench.eval();
            // What was asked for in the cycle before.
            let found: DeviceEntry = bench.get_record::<128, _>("entry");
            let under_way =
                access.as_ref().filter(|access| access.index == asked).and_then(|access| access.new);
            if let Some(old) = entries[asked] {
                let is_new = under_way.is_some_and(|new| bits(&new) == bits(&found));
                assert!(is_new || bits(&old) == bits(&found), "device {asked}");
                let allowed: Vec<u128> =
                    valids[valids.len() - SWEEP..].iter().map(|&valid| choices(&found, valid)).collect();
                let given = bench.get("choices");
                assert!(allowed.contains(&given), "device {asked}: {given:#b} of {allowed:?}");
            }
            if bench.get("table_ack") == 1 {
                let Access { index, new, since } = access.take().expect("an access");
                assert!(bench.cycles - since <= 7, "acknowledged after {}", bench.cycles - since);
                entries[index] = new.or(entries[index]);
                let found: Bits<256> = bench.get_record::<256, _>("table_data");
                assert_eq!(found, bit_cast::<256, 128>(bits(&entries[index].expect("written"))));
            } else {
                assert_eq!(bench.get_wide("table_data"), vec![0; 8]);
            }
            asked = address;
            bench.cycle();
        }
        assert!(accesses > 2_000 && changed > 500, "{accesses} {changed}");
    }

    #[test]
    fn accesses_to_other_tables_take_time_to_settle() {
        let mut bench = Bench::new("device_table", DeviceTable::new(&Sizes::DEFAULT));
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        (0..70).for_each(|_| bench.cycle());
        for (number, settles) in [(table::PATH, false), (table::DEVICE, true), (table::EXTENT, false)] {
            let request = TableRequest { table: u64::from(number).to_bits(), ..Default::default() };
            bench.set_record("table_request", request);
            bench.set("table_valid", 1);
            bench.cycle();
            bench.set("table_valid", 0);
            bench.cycle();
            for cycle in 0..100 {
                bench.eval();
                assert_eq!(
                    bench.get("settled") == 1,
                    settles || cycle >= 64,
                    "table {number}, cycle {cycle}"
                );
                bench.cycle();
            }
        }
    }
}
