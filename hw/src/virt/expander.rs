//! Makes parts of commands whose disk has a plan: one for each component that the command goes to.
//!
//! `pending` brings commands with their disk's entry. A new one gets the template that the disk names: a read
//! goes to one component in sync, by the read policy; anything else to all that are written to. A write to
//! several asks for its blocks' lock (`lock`, answered by `lock_answer` and `lock_granted`); without it the
//! command is dropped here (`parked_valid`), and comes again when `RangeLock` says so; if it needs none then, `unlock`
//! says that. What the judge of plans has to know of the plan is told once, in `begun`, before the first part. A
//! command that comes again for one component becomes that part alone, tried again (`retry`) or begun, which
//! `part_begun` tells. A command that is refused, or has nothing to go to, becomes a single part. One that
//! hardware does not execute, or that touches a divert range of its template (`DivertScan`), begins nothing: it
//! becomes a part of component 0 that says so.
//!
//! A plan that the control path has given back keeps what `keeps` said before, if its disk names the same template
//! still and, of a write, nobody has written near its blocks since (`LastWriters`); else it begins whole. A write
//! goes to the other components that are written to. Where none is, and of a read, nothing is begun: `resumed`
//! tells the judge of plans, the cycle after `begun`, to go on with what there is.
//!
//! Of a read of the least busy copy `PartCounts` says which that is: by what has begun before, of which it is told here,
//! and by the parts that are `over`, as far as it knows by then.
//!
//! Latency from `pending` to the first part: 11 cycles for a read, 13 of the least busy copy; 8 and the lock's answer
//! for a write. Throughput: a command in that time, parts one in 3 cycles beside it; the look at divert ranges takes 5
//! for each more. Order: as they came. Owner of the tables `PLAN`, `COMPONENT` and `DIVERT`. Reset drops what is in
//! work; the tables stay. `initialised`: all parts are forgotten.

use rust_hdl::prelude::*;
use volplane_abi::plan::{component_state, read_policy};
use volplane_abi::{opcode, status, table, vd_status};

use super::divert_scan::DivertScan;
use super::last_writers::LastWriters;
use super::lookup_table::LookupTable;
use super::part_counts::PartCounts;
use super::part_issuer::{PartIssuer, PartsOrder};
use crate::prim::ram::BlockRam;
use crate::prim::register::Register;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{
    Again, ClientCommand, DiskEntry, DiskStates, ExpandedPart, KeptParts, LockRequest, PartBegun, PartOver,
    PendingCommand, PlanBegun, PlanEntry, TableRequest,
};
use crate::sizes::Sizes;

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum State {
    Idle,
    /// What it is stands in registers.
    Route,
    /// For the template and the lock.
    Wait,
    /// Of a read of the least busy copy: which that is takes two cycles longer.
    Count,
    Compare,
    /// The template has come: what it prefers is there, the components a cycle later.
    Choose,
    /// For the look at divert ranges.
    Scan,
    /// It comes again when its blocks are free.
    Drop,
    /// Hands them over.
    Hand,
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct Expander {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub initialised: Signal<Out, bool>,
    pub pending: StreamIn<PendingCommand>,
    pub lock: StreamOut<LockRequest>,
    pub lock_answer: Signal<In, bool>,
    pub lock_granted: Signal<In, bool>,
    pub unlock: StreamOut<Bits<12>>,
    pub epoch: Signal<In, Bits<32>>,
    /// A command waits for its blocks, and will be looked up anew.
    pub parked_valid: Signal<Out, bool>,
    pub parked_slot: Signal<Out, Bits<12>>,
    pub begun_valid: Signal<Out, bool>,
    pub begun_slot: Signal<Out, Bits<12>>,
    pub begun: Signal<Out, PlanBegun>,
    pub part_begun_valid: Signal<Out, bool>,
    pub part_begun: Signal<Out, PartBegun>,
    /// A part is over: the judge of plans has its end.
    pub over_valid: Signal<In, bool>,
    pub over: Signal<In, PartOver>,
    pub keeps_valid: Signal<In, bool>,
    pub keeps: Signal<In, KeptParts>,
    pub resumed: StreamOut<Bits<12>>,
    pub part: StreamOut<ExpandedPart>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    pub table_ack: Signal<Out, bool>,
    pub table_data: Signal<Out, Bits<256>>,
    pub idle: Signal<Out, bool>,

    plans: LookupTable<128>,
    issuer: PartIssuer,
    scan: DivertScan,
    writers: LastWriters,
    counts: PartCounts,
    kept_rows: BlockRam<KeptParts>,
    state: DFF<State>,
    /// A command has just come.
    arrived: DFF<bool>,
    // Of the pending command: right one cycle after it stands there.
    is_read: DFF<bool>,
    refused: DFF<bool>,
    goes_again: DFF<bool>,
    /// If it goes again: it begins a component, of which a plan template is.
    further: DFF<bool>,
    /// Hardware does not execute it.
    foreign: DFF<bool>,
    /// The control path gives it back: it passes divert ranges.
    resubmitted: DFF<bool>,
    diverted: DFF<bool>,
    /// It is written to several.
    locks: DFF<bool>,
    handle: DFF<Bits<16>>,
    locked: DFF<bool>,
    /// It comes from where it waited for its lock.
    parked: DFF<bool>,
    present: DFF<Bits<8>>,
    readable: DFF<Bits<8>>,
    writable: DFF<Bits<8>>,
    durably_out: DFF<Bits<8>>,
    copies: DFF<Bits<4>>,
    missing: DFF<bool>,
    template: Register<PlanEntry>,
    template_waits: DFF<bool>,
    lock_asks: DFF<bool>,
    lock_waits: DFF<bool>,
    denied: DFF<bool>,
    preferred: DFF<Bits<8>>,
    lowest_readable: DFF<Bits<8>>,
    enough: DFF<bool>,
    /// It writes blocks.
    writes: DFF<bool>,
    // Of a plan that is given back: right five cycles after it stands there.
    same_template: DFF<bool>,
    kept_row: DFF<Bits<8>>,
    kept_parts: DFF<Bits<8>>,
    parts: DFF<Bits<8>>,
    /// The component whose turn is next.
    turn: DFF<Bits<3>>,
    number: DFF<Bits<24>>,
    begun_register: DFF<bool>,
    begun_slot_register: DFF<Bits<12>>,
    begun_record: Register<PlanBegun>,
    /// Of the plan that is begun now nothing is.
    resuming: DFF<bool>,
    resumed_valid: DFF<bool>,
    resumed_slot: DFF<Bits<12>>,
    unlock_valid: DFF<bool>,
    unlock_slot: DFF<Bits<12>>,
    /// The pending command is done with: known a cycle ahead, since its successor's bits hang on it.
    takes: DFF<bool>,

    /// The state is about to be `Hand`.
    handing: Signal<Local, bool>,
    item: Signal<Local, PendingCommand>,
    command: Signal<Local, ClientCommand>,
    disk: Signal<Local, DiskEntry>,
    given: Signal<Local, DiskStates>,
    again: Signal<Local, Again>,
    fresh: Signal<Local, bool>,
    state_bits: Signal<Local, Bits<16>>,
    states: [Signal<Local, Bits<2>>; 8],
    present_now: Signal<Local, Bits<8>>,
    readable_now: Signal<Local, Bits<8>>,
    writable_now: Signal<Local, Bits<8>>,
    ones: [Signal<Local, Bits<4>>; 8],
    pairs: [Signal<Local, Bits<4>>; 4],
    some: Signal<Local, bool>,
    many: Signal<Local, bool>,
    asks_now: Signal<Local, bool>,
    reads: Signal<Local, bool>,
    start: Signal<Local, Bits<3>>,
    only: Signal<Local, Bits<8>>,
    from_turn: Signal<Local, Bits<8>>,
    below_readable: Signal<Local, Bits<8>>,
    lowest_preferred: Signal<Local, Bits<8>>,
    lowest: Signal<Local, Bits<8>>,
    seeks_least: Signal<Local, bool>,
    after_read: Signal<Local, Bits<3>>,
    chosen: Signal<Local, Bits<8>>,
    component: Signal<Local, Bits<3>>,
    one_component: Signal<Local, Bits<8>>,
    order: Signal<Local, PartsOrder>,
    nobody: Signal<Local, bool>,
    stops: Signal<Local, bool>,
    row: Signal<Local, KeptParts>,
    keeps_parts: Signal<Local, bool>,
    resumes: Signal<Local, bool>,
    begins: Signal<Local, bool>,
    handed: Signal<Local, ClientCommand>,
    scans: Signal<Local, bool>,
    lba: Signal<Local, Bits<64>>,
    settled: Signal<Local, bool>,
    request_plan: Signal<Local, Bits<16>>,
    epoch_now: Signal<Local, Bits<32>>,
    epochs_since: Signal<Local, Bits<3>>,

    read: Constant<Bits<8>>,
    compare: Constant<Bits<8>>,
    enabled: Constant<Bits<4>>,
    in_sync: Constant<Bits<2>>,
    write_only: Constant<Bits<2>>,
    absent: Constant<Bits<2>>,
    preferred_policy: Constant<Bits<2>>,
    least_policy: Constant<Bits<2>>,
    no_status: Constant<Bits<11>>,
    internal_error: Constant<Bits<11>>,
    no_plan: Constant<Bits<16>>,
    no_blocks: Constant<Bits<17>>,
    all8: Constant<Bits<8>>,
    one8: Constant<Bits<8>>,
    zero8: Constant<Bits<8>>,
    one4: Constant<Bits<4>>,
    zero4: Constant<Bits<4>>,
    one3: Constant<Bits<3>>,
    one16: Constant<Bits<16>>,
    one24: Constant<Bits<24>>,
    zero24: Constant<Bits<24>>,
    zero3: Constant<Bits<3>>,
    flag: Constant<Bits<1>>,
    clear: Constant<Bits<1>>,
}

impl Expander {
    /// With 2^`plan_bits` templates.
    pub fn new(sizes: &Sizes) -> Self {
        assert!((1..=13).contains(&sizes.plan_bits), "2^{} plan templates", sizes.plan_bits);
        Self {
            clock: Default::default(),
            reset: Default::default(),
            initialised: Default::default(),
            pending: Default::default(),
            lock: Default::default(),
            lock_answer: Default::default(),
            lock_granted: Default::default(),
            unlock: Default::default(),
            epoch: Default::default(),
            parked_valid: Default::default(),
            parked_slot: Default::default(),
            begun_valid: Default::default(),
            begun_slot: Default::default(),
            begun: Default::default(),
            part_begun_valid: Default::default(),
            part_begun: Default::default(),
            over_valid: Default::default(),
            over: Default::default(),
            keeps_valid: Default::default(),
            keeps: Default::default(),
            resumed: Default::default(),
            part: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            table_ack: Default::default(),
            table_data: Default::default(),
            idle: Default::default(),
            plans: LookupTable::new(table::PLAN, sizes.plan_bits, 0),
            issuer: PartIssuer::new(sizes),
            scan: DivertScan::new(sizes),
            writers: Default::default(),
            counts: PartCounts::new(sizes),
            kept_rows: BlockRam::new(sizes.slot_bits),
            state: Default::default(),
            arrived: Default::default(),
            is_read: Default::default(),
            refused: Default::default(),
            goes_again: Default::default(),
            further: Default::default(),
            foreign: Default::default(),
            resubmitted: Default::default(),
            diverted: Default::default(),
            locks: Default::default(),
            handle: Default::default(),
            locked: Default::default(),
            parked: Default::default(),
            present: Default::default(),
            readable: Default::default(),
            writable: Default::default(),
            durably_out: Default::default(),
            copies: Default::default(),
            missing: Default::default(),
            template: Default::default(),
            template_waits: Default::default(),
            lock_asks: Default::default(),
            lock_waits: Default::default(),
            denied: Default::default(),
            preferred: Default::default(),
            enough: Default::default(),
            writes: Default::default(),
            same_template: Default::default(),
            kept_row: Default::default(),
            kept_parts: Default::default(),
            parts: Default::default(),
            turn: Default::default(),
            number: Default::default(),
            begun_register: Default::default(),
            begun_slot_register: Default::default(),
            begun_record: Default::default(),
            resuming: Default::default(),
            resumed_valid: Default::default(),
            resumed_slot: Default::default(),
            unlock_valid: Default::default(),
            unlock_slot: Default::default(),
            handing: Default::default(),
            item: Default::default(),
            command: Default::default(),
            disk: Default::default(),
            given: Default::default(),
            again: Default::default(),
            fresh: Default::default(),
            state_bits: Default::default(),
            states: Default::default(),
            present_now: Default::default(),
            readable_now: Default::default(),
            writable_now: Default::default(),
            ones: Default::default(),
            pairs: Default::default(),
            some: Default::default(),
            many: Default::default(),
            lowest_readable: Default::default(),
            takes: Default::default(),
            asks_now: Default::default(),
            reads: Default::default(),
            start: Default::default(),
            only: Default::default(),
            from_turn: Default::default(),
            below_readable: Default::default(),
            lowest_preferred: Default::default(),
            lowest: Default::default(),
            seeks_least: Default::default(),
            after_read: Default::default(),
            chosen: Default::default(),
            component: Default::default(),
            one_component: Default::default(),
            order: Default::default(),
            nobody: Default::default(),
            stops: Default::default(),
            row: Default::default(),
            keeps_parts: Default::default(),
            resumes: Default::default(),
            begins: Default::default(),
            handed: Default::default(),
            scans: Default::default(),
            lba: Default::default(),
            settled: Default::default(),
            request_plan: Default::default(),
            epoch_now: Default::default(),
            epochs_since: Default::default(),
            read: Constant::new(u64::from(opcode::READ).to_bits()),
            compare: Constant::new(u64::from(opcode::COMPARE).to_bits()),
            enabled: Constant::new(u64::from(vd_status::ENABLED).to_bits()),
            in_sync: Constant::new(u64::from(component_state::IN_SYNC).to_bits()),
            write_only: Constant::new(u64::from(component_state::WRITE_ONLY).to_bits()),
            absent: Constant::new(u64::from(component_state::ABSENT).to_bits()),
            preferred_policy: Constant::new(u64::from(read_policy::PREFERRED).to_bits()),
            least_policy: Constant::new(u64::from(read_policy::LEAST_OUTSTANDING).to_bits()),
            no_status: Constant::new(u64::from(status::SUCCESS).to_bits()),
            internal_error: Constant::new(u64::from(status::INTERNAL_ERROR).to_bits()),
            no_plan: Constant::new(0u64.to_bits()),
            no_blocks: Constant::new(0u64.to_bits()),
            all8: Constant::new(0xFFu64.to_bits()),
            one8: Constant::new(1u64.to_bits()),
            zero8: Constant::new(0u64.to_bits()),
            one4: Constant::new(1u64.to_bits()),
            zero4: Constant::new(0u64.to_bits()),
            one3: Constant::new(1u64.to_bits()),
            one16: Constant::new(1u64.to_bits()),
            one24: Constant::new(1u64.to_bits()),
            zero24: Constant::new(0u64.to_bits()),
            zero3: Constant::new(0u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
            clear: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for Expander {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, state, is_read, refused, goes_again, locks, present, readable, writable);
        dff_setup!(self, clock, durably_out, copies, missing, template_waits, lock_asks, lock_waits, denied);
        dff_setup!(self, clock, preferred, enough, parts, turn, number, begun_register, begun_slot_register);
        dff_setup!(self, clock, handle, locked, lowest_readable, takes, unlock_valid, unlock_slot, parked);
        dff_setup!(self, clock, foreign, resubmitted, diverted, writes, same_template, kept_row, kept_parts);
        dff_setup!(self, clock, resuming, resumed_valid, resumed_slot, arrived, further);
        clock!(self, clock, plans, issuer, scan, writers, counts, kept_rows, template, begun_record);
        self.plans.reset.next = self.reset.val();
        self.issuer.reset.next = self.reset.val();
        self.plans.table_valid.next = self.table_valid.val();
        self.plans.table_request.next = self.table_request.val();
        self.issuer.table_valid.next = self.table_valid.val();
        self.issuer.table_request.next = self.table_request.val();
        self.scan.reset.next = self.reset.val();
        self.writers.reset.next = self.reset.val();
        self.counts.reset.next = self.reset.val();
        self.initialised.next = self.counts.initialised.val();
        self.scan.table_valid.next = self.table_valid.val();
        self.scan.table_request.next = self.table_request.val();
        self.table_ack.next =
            self.plans.table_ack.val() | self.issuer.table_ack.val() | self.scan.table_ack.val();
        self.table_data.next =
            self.plans.table_data.val() | self.issuer.table_data.val() | self.scan.table_data.val();
        StreamOut::<ExpandedPart>::link(&mut self.part, &mut self.issuer.part);
        self.part_begun_valid.next = self.issuer.begun_valid.val();
        self.part_begun.next = self.issuer.begun.val();

        // The pending command stands until it is done with.
        self.item.next = self.pending.data.val();
        self.command.next = self.item.val().command.into();
        self.disk.next = self.item.val().disk.into();
        self.given.next = self.item.val().states.into();
        self.again.next = self.item.val().again.into();
        self.fresh.next =
            (self.item.val().is_again == self.clear.val()) | (self.again.val().fresh == self.flag.val());

        // Idle: what it is.
        self.state_bits.next = self.given.val().states;
        self.present_now.next = self.zero8.val();
        self.readable_now.next = self.zero8.val();
        self.writable_now.next = self.zero8.val();
        for i in 0..8 {
            self.states[i].next = self.state_bits.val().get_bits::<2>(2 * i);
            if (self.states[i].val() != self.absent.val()) {
                self.present_now.next = self.present_now.val() | (self.one8.val() << i.to_bits::<3>());
            }
            if (self.states[i].val() == self.in_sync.val()) {
                self.readable_now.next = self.readable_now.val() | (self.one8.val() << i.to_bits::<3>());
            }
            if (self.states[i].val() == self.in_sync.val()) | (self.states[i].val() == self.write_only.val())
            {
                self.writable_now.next = self.writable_now.val() | (self.one8.val() << i.to_bits::<3>());
            }
        }
        self.reads.next = (self.command.val().opcode == self.read.val())
            | (self.command.val().opcode == self.compare.val());
        self.present.d.next = self.present_now.val();
        self.readable.d.next = self.readable_now.val();
        self.writable.d.next = self.writable_now.val();
        self.durably_out.d.next = self.given.val().durably_out;
        self.handle.d.next = bit_cast::<16, 32>(self.command.val().namespace_id) - self.one16.val();
        self.is_read.d.next = self.reads.val();
        self.goes_again.d.next = !self.fresh.val();
        self.further.d.next =
            (self.again.val().plan != self.no_plan.val()) & (self.again.val().retry == self.clear.val());
        self.parked.d.next = (self.item.val().is_again == self.flag.val())
            & (self.again.val().fresh == self.flag.val())
            & (self.again.val().plan == self.no_plan.val());
        self.refused.d.next = (self.command.val().refusal != self.no_status.val())
            | (self.command.val().trivial == self.flag.val())
            | (self.disk.val().status != self.enabled.val())
            | (self.disk.val().plan == self.no_plan.val())
            | (self.given.val().deactivated == self.flag.val());
        self.resubmitted.d.next = (self.item.val().is_again == self.flag.val())
            & (self.again.val().fresh == self.flag.val())
            & ((self.again.val().plan != self.no_plan.val()) | (self.again.val().retry == self.flag.val()));
        self.foreign.d.next = (self.command.val().foreign == self.flag.val()) & self.fresh.val();
        self.some.next = false;
        self.many.next = false;
        for i in 0..8 {
            if self.writable_now.val().get_bit(i) {
                self.many.next = self.many.val() | self.some.val();
                self.some.next = true;
            }
        }
        self.locks.d.next =
            !self.reads.val() & (self.command.val().blocks != self.no_blocks.val()) & self.many.val();

        // Route on: how many copies, whether any is missed, and what is to be asked.
        self.locked.d.next = self.locks.q.val();
        for i in 0..8 {
            self.ones[i].next = self.zero4.val();
            if self.readable.q.val().get_bit(i) {
                self.ones[i].next = self.one4.val();
            }
        }
        for i in 0..4 {
            self.pairs[i].next = self.ones[2 * i].val() + self.ones[2 * i + 1].val();
        }
        self.copies.d.next =
            (self.pairs[0].val() + self.pairs[1].val()) + (self.pairs[2].val() + self.pairs[3].val());
        self.missing.d.next =
            (self.present.q.val() & !self.writable.q.val() & !self.durably_out.q.val()).any();
        self.request_plan.next = self.disk.val().plan;
        self.plans.request.data.next = bit_cast::<32, 16>(self.request_plan.val());
        self.plans.request.valid.next =
            (self.state.q.val() == State::Route) & !self.goes_again.q.val() & !self.refused.q.val();
        self.template.load.next = self.plans.response_valid.val();
        self.template.d.next = self.plans.response.val().into();
        self.lba.next = self.command.val().lba;
        self.asks_now.next = (self.state.q.val() == State::Route)
            & !self.goes_again.q.val()
            & !self.refused.q.val()
            & self.locks.q.val()
            & self.plans.request.ready.val();
        self.lock.valid.next = self.lock_asks.q.val() | self.asks_now.val();
        self.lock.data.next.slot = self.item.val().slot;
        self.lock.data.next.disk = self.handle.q.val();
        self.lock.data.next.lba = bit_cast::<48, 64>(self.lba.val());
        self.lock.data.next.blocks = self.command.val().blocks;
        self.lock.data.next.block_shift = self.disk.val().block_shift;
        self.lock.data.next.resubmitted = self.resubmitted.q.val().into();
        if self.lock.ready.val() {
            self.lock_asks.d.next = false;
        }
        if self.plans.response_valid.val() {
            self.template_waits.d.next = false;
        }
        if self.lock_answer.val() {
            self.lock_waits.d.next = false;
            self.denied.d.next = !self.lock_granted.val();
        }
        self.settled.next = !self.template_waits.q.val() & !self.lock_waits.q.val();

        // What it keeps that was done before.
        self.writes.d.next = !self.reads.val() & (self.command.val().blocks != self.no_blocks.val());
        self.kept_rows.write.next = self.keeps_valid.val();
        self.kept_rows.write_address.next = bit_cast::<16, 12>(self.keeps.val().slot);
        self.kept_rows.write_data.next = self.keeps.val();
        self.kept_rows.read_address.next = bit_cast::<16, 12>(self.item.val().slot);
        self.row.next = self.kept_rows.read_data.val();
        self.writers.disk.next = self.handle.q.val();
        self.writers.lba.next = bit_cast::<48, 64>(self.lba.val());
        self.writers.blocks.next = self.command.val().blocks;
        self.writers.block_shift.next = self.disk.val().block_shift;
        self.writers.asked.next = self.row.val().sequence;
        self.same_template.d.next = (self.row.val().plan == self.disk.val().plan);
        self.kept_row.d.next = self.row.val().kept;
        self.kept_parts.d.next = self.zero8.val();
        if self.resubmitted.q.val()
            & self.same_template.q.val()
            & (self.writers.untouched.val() | !self.writes.q.val())
        {
            self.kept_parts.d.next = self.kept_row.q.val();
        }
        self.keeps_parts.next = self.kept_parts.q.val().any();

        // Prefer: those at or after the turn, or the preferred one; else the lowest of all.
        self.start.next = self.turn.q.val();
        if (self.template.q.val().read_policy == self.preferred_policy.val()) {
            self.start.next = self.template.q.val().preferred;
        }
        self.only.next = (self.one8.val() << self.start.val());
        self.from_turn.next = (self.all8.val() << self.start.val());
        self.preferred.d.next = self.readable.q.val() & self.from_turn.val();
        if (self.template.q.val().read_policy == self.preferred_policy.val()) {
            self.preferred.d.next = self.readable.q.val() & self.only.val();
        }
        self.enough.d.next = (self.copies.q.val() >= self.template.q.val().minimum) & !self.missing.q.val();

        // The least busy one.
        self.counts.disk.next = self.handle.q.val();
        self.counts.asks.next = self.arrived.q.val();
        self.counts.among.next = self.readable.q.val();
        self.counts.over_valid.next = self.over_valid.val();
        self.counts.over.next = self.over.val();
        self.seeks_least.next =
            self.is_read.q.val() & (self.template.q.val().read_policy == self.least_policy.val());

        // Choose.
        self.below_readable.next = self.readable.q.val() - self.one8.val();
        self.lowest_readable.d.next = self.readable.q.val() & !self.below_readable.val();
        self.lowest_preferred.next = self.zero8.val();
        for i in 0..8 {
            if self.preferred.q.val().get_bit(7 - i) {
                self.lowest_preferred.next = (self.one8.val() << (7 - i).to_bits::<3>());
            }
        }
        self.lowest.next = self.lowest_preferred.val();
        if !self.preferred.q.val().any() {
            self.lowest.next = self.lowest_readable.q.val();
        }
        if self.seeks_least.val() {
            self.lowest.next = self.counts.least.val();
        }
        // Of a read there is one: bit for bit the one behind it.
        self.after_read.next = self.zero3.val();
        for i in 0..8 {
            if self.parts.q.val().get_bit(i) {
                self.after_read.next = self.after_read.val() | (i.to_bits::<3>() + self.one3.val());
            }
        }
        self.chosen.next = self.writable.q.val() & !self.kept_parts.q.val();
        if self.is_read.q.val() {
            self.chosen.next = self.lowest.val();
            if self.keeps_parts.val() {
                self.chosen.next = self.zero8.val();
            }
        }
        self.parts.d.next = self.chosen.val();

        // Hand: to the issuer, and to the judge of plans.
        self.component.next = self.again.val().component;
        self.one_component.next = (self.one8.val() << self.component.val());
        self.stops.next = (self.foreign.q.val() | self.diverted.q.val()) & !self.refused.q.val();
        self.resumes.next = self.keeps_parts.val()
            & !self.parts.q.val().any()
            & (self.is_read.q.val() | self.writable.q.val().any())
            & !self.goes_again.q.val()
            & !self.refused.q.val()
            & !self.stops.val();
        self.nobody.next =
            !self.parts.q.val().any() & !self.refused.q.val() & !self.stops.val() & !self.resumes.val();
        self.begins.next = !self.goes_again.q.val()
            & !self.refused.q.val()
            & (self.parts.q.val().any() | self.stops.val() | self.resumes.val());
        self.handed.next = self.command.val();
        self.handed.next.diverted = self.diverted.q.val().into();
        self.order.next.command = self.handed.val().into();
        self.order.next.slot = self.item.val().slot;
        self.order.next.disk = self.item.val().disk;
        self.order.next.plan = self.disk.val().plan;
        self.order.next.parts = self.parts.q.val();
        if self.stops.val() {
            self.order.next.parts = self.one8.val();
        }
        self.order.next.single = (self.refused.q.val() | self.nobody.val()).into();
        self.order.next.refusal = self.no_status.val();
        if self.nobody.val() {
            self.order.next.refusal = self.internal_error.val();
        }
        if (self.given.val().deactivated == self.flag.val()) {
            self.order.next.deactivated = self.flag.val();
        } else {
            self.order.next.deactivated = self.clear.val();
        }
        self.order.next.retry = self.clear.val();
        if self.goes_again.q.val() {
            self.order.next.retry = self.again.val().retry;
            self.order.next.plan = self.again.val().plan;
            self.order.next.parts = self.one_component.val();
            self.order.next.single = (self.again.val().plan == self.no_plan.val()).into();
            self.order.next.refusal = self.no_status.val();
            self.order.next.deactivated = self.clear.val();
        }
        self.issuer.order.data.next = self.order.val();
        self.issuer.order.valid.next = false;
        // What begins is counted when it is handed over, but for a single part, and for one that is tried again.
        self.counts.begins.next = false;
        self.counts.parts.next = self.order.val().parts;
        self.begun_record.load.next = true;
        self.begun_record.d.next.disk = self.handle.q.val();
        self.begun_record.d.next.plan = self.disk.val().plan;
        self.begun_record.d.next.sequence = self.number.q.val();
        self.epoch_now.next = self.epoch.val();
        self.epochs_since.next = self.epoch_now.val().get_bits::<3>(0) - self.item.val().epoch;
        self.begun_record.d.next.epoch = self.epoch.val() - bit_cast::<32, 3>(self.epochs_since.val());
        self.begun_record.d.next.masks = self.template.q.val().write_masks;
        if self.is_read.q.val() {
            self.begun_record.d.next.masks = self.template.q.val().read_masks;
        }
        self.begun_record.d.next.present = self.present.q.val();
        self.begun_record.d.next.readable = self.readable.q.val();
        self.begun_record.d.next.begun = self.parts.q.val();
        if self.stops.val() {
            self.begun_record.d.next.begun = self.zero8.val();
        }
        self.begun_record.d.next.minimum = self.template.q.val().minimum;
        self.begun_record.d.next.is_read = self.is_read.q.val().into();
        self.begun_record.d.next.simple =
            ((self.is_read.q.val() | self.enough.q.val()) & !self.keeps_parts.val()).into();
        self.begun_record.d.next.locked = self.locked.q.val().into();
        self.begun_record.d.next.kept = self.kept_parts.q.val();
        self.begun_record.d.next.reserved = self.clear.val();
        self.begun_register.d.next = false;
        self.begun_slot_register.d.next = self.item.val().slot;
        self.parked_valid.next = (self.state.q.val() == State::Drop);
        self.parked_slot.next = self.item.val().slot;
        self.begun_valid.next = self.begun_register.q.val();
        self.begun_slot.next = self.begun_slot_register.q.val();
        self.begun.next = self.begun_record.q.val();
        self.unlock.valid.next = self.unlock_valid.q.val();
        self.unlock.data.next = self.unlock_slot.q.val();
        if self.unlock.ready.val() {
            self.unlock_valid.d.next = false;
        }
        if !self.unlock_valid.q.val() {
            self.unlock_slot.d.next = self.item.val().slot;
        }
        self.resuming.d.next = false;
        self.resumed.valid.next = self.resumed_valid.q.val();
        self.resumed.data.next = self.resumed_slot.q.val();
        if self.resumed.ready.val() {
            self.resumed_valid.d.next = false;
        }
        if self.resuming.q.val() {
            self.resumed_valid.d.next = true;
            self.resumed_slot.d.next = self.begun_slot_register.q.val();
        }
        self.writers.note.next = false;
        self.writers.number.next = self.number.q.val();
        self.scans.next = self.template.q.val().diverts.any()
            & (self.command.val().blocks != self.no_blocks.val())
            & !self.resubmitted.q.val();
        self.scan.start.next = false;
        self.scan.first.next = self.template.q.val().first_divert;
        self.scan.count.next = self.template.q.val().diverts;
        self.scan.lba.next = bit_cast::<48, 64>(self.lba.val());
        self.scan.blocks.next = self.command.val().blocks;
        self.handing.next = false;
        self.takes.d.next = false;
        self.arrived.d.next = false;
        match self.state.q.val() {
            State::Idle => {
                self.diverted.d.next = false;
                if self.pending.valid.val() {
                    self.arrived.d.next = true;
                    self.state.d.next = State::Route;
                }
            }
            State::Route => {
                if self.goes_again.q.val() | self.refused.q.val() {
                    self.handing.next = true;
                    self.state.d.next = State::Hand;
                } else if self.plans.request.ready.val() {
                    self.template_waits.d.next = true;
                    self.lock_asks.d.next = self.asks_now.val() & !self.lock.ready.val();
                    self.lock_waits.d.next = self.locks.q.val();
                    self.denied.d.next = false;
                    self.state.d.next = State::Wait;
                }
            }
            State::Wait => {
                if self.settled.val() {
                    self.state.d.next = State::Choose;
                    if self.denied.q.val() {
                        self.takes.d.next = true;
                        self.state.d.next = State::Drop;
                    } else if self.scans.val() {
                        self.scan.start.next = true;
                        self.state.d.next = State::Scan;
                    } else if self.locked.q.val() {
                        // The lock takes longer than the template and the choice.
                        self.handing.next = true;
                        self.state.d.next = State::Hand;
                    } else if self.seeks_least.val() {
                        self.state.d.next = State::Count;
                    }
                }
            }
            State::Count => {
                self.state.d.next = State::Compare;
            }
            State::Compare => {
                self.state.d.next = State::Choose;
            }
            State::Scan => {
                self.diverted.d.next = self.scan.touched.val();
                if self.scan.done.val() {
                    self.handing.next = true;
                    self.state.d.next = State::Hand;
                }
            }
            State::Choose => {
                self.handing.next = true;
                self.state.d.next = State::Hand;
            }
            State::Drop => {
                self.state.d.next = State::Idle;
            }
            State::Hand => {
                self.issuer.order.valid.next = self.takes.q.val() & !self.resumes.val();
                self.counts.begins.next = self.takes.q.val()
                    & ((self.begins.val() & !self.resumes.val())
                        | (self.goes_again.q.val() & self.further.q.val()));
                self.handing.next = !self.takes.q.val();
                if self.takes.q.val() {
                    self.unlock_valid.d.next =
                        self.parked.q.val() & (self.refused.q.val() | !self.locked.q.val());
                    self.state.d.next = State::Idle;
                    self.begun_register.d.next = self.begins.val();
                    self.resuming.d.next = self.resumes.val();
                    self.writers.note.next = self.begins.val() & self.writes.q.val();
                    self.number.d.next = self.number.q.val() + self.one24.val();
                    if self.is_read.q.val()
                        & !self.goes_again.q.val()
                        & !self.refused.q.val()
                        & self.parts.q.val().any()
                        & !self.stops.val()
                    {
                        self.turn.d.next = self.after_read.val();
                    }
                }
            }
            _ => {}
        }
        // Whoever is ready in the cycle before stays so.
        if self.handing.val()
            & self.issuer.order.ready.val()
            & !self.unlock_valid.q.val()
            & !self.resuming.q.val()
            & !self.resumed_valid.q.val()
        {
            self.takes.d.next = true;
        }
        self.pending.ready.next = self.takes.q.val();
        self.idle.next = (self.state.q.val() == State::Idle)
            & !self.pending.valid.val()
            & !self.begun_register.q.val()
            & !self.unlock_valid.q.val()
            & !self.resuming.q.val()
            & !self.resumed_valid.q.val()
            & self.plans.idle.val()
            & self.scan.idle.val()
            & self.issuer.idle.val();

        if self.reset.val() {
            self.state.d.next = State::Idle;
            self.arrived.d.next = false;
            self.lock_asks.d.next = false;
            self.lock_waits.d.next = false;
            self.template_waits.d.next = false;
            self.begun_register.d.next = false;
            self.takes.d.next = false;
            self.unlock_valid.d.next = false;
            self.resuming.d.next = false;
            self.resumed_valid.d.next = false;
            self.turn.d.next = self.zero3.val();
            // No slot was ever used by a plan of number 0.
            self.number.d.next = self.one24.val();
        }
    }
}

#[cfg(test)]
mod tests;
