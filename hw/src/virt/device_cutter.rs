//! Cuts runs at the transfer limits of their devices, and names the path.
//!
//! A header and its runs come in, pieces go out, in order. A Read or Write is cut at the device's transfer
//! limit (MDTS), a Write Zeroes at its own (WZSL), a Dataset Management range not at all; a Flush becomes one
//! piece for each device of its set. Each piece takes one of the device's usable paths, by the device's policy:
//! `PathChoices` has worked out which come into question when its piece comes, and `PathTurns` keeps a turn for
//! each device. A Read's run in an extent that reads as zeros becomes one piece, without device or path. What
//! cannot be executed (a refused plan, an extent that is invalid or faults, a device that is invalid, without a
//! limit or a usable path) becomes a closing piece, with Host Pathing Error where only a path is wanting, and
//! what is left of its plan's runs is dropped. An extent that faults stops a part instead (`stop_cause`),
//! unless its plan is that part alone. A plan that is tried again (`PartTerms::retried`) takes none of the
//! paths that it avoids, and 13 cycles more for each piece.
//!
//! Handshake: streams. Latency: 2 cycles from run to piece. Throughput: a plan of one piece every 2
//! cycles, further pieces and further runs one every 2. `idle` rises a cycle late. Owner of the device
//! table. Reset drops the plan in work; the table stays.

use rust_hdl::prelude::*;
use volplane_abi::plan::plan_status;
use volplane_abi::{opcode, status};

use super::device_table::DeviceTable;
use super::flush_scan::FlushScan;
use super::path_choices::PathChoices;
use super::path_turns::PathTurns;
use super::run_check::RunCheck;
use crate::exec::stop_cause::FAULT;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{DeviceEntry, ExtentEntry, Part, PartTerms, Piece, PlanHeader, Run, TableRequest};
use crate::sizes::Sizes;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct DeviceCutter {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub header: StreamIn<PlanHeader>,
    pub run: StreamIn<Run>,
    pub piece: StreamOut<Piece>,
    /// Bit i: path i has a valid entry.
    pub path_valid: Signal<In, Bits<32>>,
    /// Bit i: path i is better not used.
    pub suspect: Signal<In, Bits<32>>,
    /// Asks which paths a plan avoids, and is answered 2 cycles later.
    pub avoid_query: Signal<Out, Bits<12>>,
    pub avoided: Signal<In, Bits<32>>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    pub table_ack: Signal<Out, bool>,
    pub table_data: Signal<Out, Bits<256>>,
    pub idle: Signal<Out, bool>,

    devices: DeviceTable,
    turns: PathTurns,
    /// The choices of a plan that is tried again.
    others: PathChoices,
    scan: FlushScan,
    check: RunCheck,
    // First stage: the plan, what its header says, and the run.
    plan: DFF<PlanHeader>,
    plan_have: DFF<bool>,
    refused_plan: DFF<bool>,
    is_flush: DFF<bool>,
    /// It has runs.
    mapped: DFF<bool>,
    is_zeroes: DFF<bool>,
    is_range: DFF<bool>,
    is_read: DFF<bool>,
    is_compare: DFF<bool>,
    current: DFF<Run>,
    run_have: DFF<bool>,
    /// The next piece is the plan's first.
    first: DFF<bool>,
    /// The plan is closed, what is left of it is dropped.
    dropping: DFF<bool>,
    // Second stage: the piece, as if it had all blocks of the run.
    out: DFF<Piece>,
    out_valid: DFF<bool>,
    /// It is a run's piece.
    of_run: DFF<bool>,
    /// It came in the cycle before.
    fresh: DFF<bool>,
    /// The plan is tried again; its choices take time after each change of the first stage.
    retried: DFF<bool>,
    steady: DFF<Bits<4>>,
    other_choices: DFF<Bits<4>>,
    idle_register: DFF<bool>,

    settled: Signal<Local, bool>,
    choices: Signal<Local, Bits<4>>,
    terms: Signal<Local, PartTerms>,
    plan_part: Signal<Local, Part>,
    out_part: Signal<Local, Part>,
    refuses: Signal<Local, bool>,
    flushes: Signal<Local, bool>,
    free: Signal<Local, bool>,
    load: Signal<Local, bool>,
    no_data: Signal<Local, bool>,
    flushing: Signal<Local, bool>,
    closed_plan: Signal<Local, bool>,
    ends: Signal<Local, bool>,
    header_room: Signal<Local, bool>,
    run_room: Signal<Local, bool>,
    arriving: Signal<Local, ExtentEntry>,
    extent: Signal<Local, ExtentEntry>,
    next_extent: Signal<Local, ExtentEntry>,
    device: Signal<Local, DeviceEntry>,
    address: Signal<Local, Bits<16>>,
    path: Signal<Local, Bits<8>>,

    flush_opcode: Constant<Bits<8>>,
    read_opcode: Constant<Bits<8>>,
    compare_opcode: Constant<Bits<8>>,
    zeroes_opcode: Constant<Bits<8>>,
    deallocate_opcode: Constant<Bits<8>>,
    internal_error: Constant<Bits<11>>,
    path_error: Constant<Bits<11>>,
    fault: Constant<Bits<11>>,
    places: [Constant<Bits<2>>; 4],
    no_status: Constant<Bits<11>>,
    zero17: Constant<Bits<17>>,
    no_prp: Constant<Bits<64>>,
    steady_after: Constant<Bits<4>>,
    zero4: Constant<Bits<4>>,
    one4: Constant<Bits<4>>,
    flag: Constant<Bits<1>>,
    clear: Constant<Bits<1>>,
}

impl DeviceCutter {
    /// A cutter with a device table of 2^`device_bits`.
    pub fn new(sizes: &Sizes) -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            header: Default::default(),
            run: Default::default(),
            piece: Default::default(),
            path_valid: Default::default(),
            suspect: Default::default(),
            avoid_query: Default::default(),
            avoided: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            table_ack: Default::default(),
            table_data: Default::default(),
            idle: Default::default(),
            devices: DeviceTable::new(sizes),
            turns: PathTurns::new(sizes.device_bits),
            others: Default::default(),
            scan: Default::default(),
            check: Default::default(),
            plan: Default::default(),
            plan_have: Default::default(),
            refused_plan: Default::default(),
            is_flush: Default::default(),
            mapped: Default::default(),
            settled: Default::default(),
            choices: Default::default(),
            terms: Default::default(),
            plan_part: Default::default(),
            out_part: Default::default(),
            refuses: Default::default(),
            flushes: Default::default(),
            is_zeroes: Default::default(),
            is_range: Default::default(),
            is_read: Default::default(),
            is_compare: Default::default(),
            current: Default::default(),
            run_have: Default::default(),
            first: Default::default(),
            dropping: Default::default(),
            out: Default::default(),
            out_valid: Default::default(),
            of_run: Default::default(),
            fresh: Default::default(),
            retried: Default::default(),
            steady: Default::default(),
            other_choices: Default::default(),
            idle_register: Default::default(),
            free: Default::default(),
            load: Default::default(),
            no_data: Default::default(),
            flushing: Default::default(),
            closed_plan: Default::default(),
            ends: Default::default(),
            header_room: Default::default(),
            run_room: Default::default(),
            arriving: Default::default(),
            extent: Default::default(),
            next_extent: Default::default(),
            device: Default::default(),
            address: Default::default(),
            path: Default::default(),
            flush_opcode: Constant::new((opcode::FLUSH as u64).to_bits()),
            read_opcode: Constant::new((opcode::READ as u64).to_bits()),
            compare_opcode: Constant::new((opcode::COMPARE as u64).to_bits()),
            zeroes_opcode: Constant::new((opcode::WRITE_ZEROES as u64).to_bits()),
            deallocate_opcode: Constant::new((opcode::DATASET_MANAGEMENT as u64).to_bits()),
            internal_error: Constant::new((status::INTERNAL_ERROR as u64).to_bits()),
            path_error: Constant::new((plan_status::HOST_PATH_ERROR as u64).to_bits()),
            fault: Constant::new(u64::from(FAULT).to_bits()),
            places: std::array::from_fn(|place| Constant::new((place as u64).to_bits())),
            no_status: Constant::new((status::SUCCESS as u64).to_bits()),
            zero17: Constant::new(0u64.to_bits()),
            no_prp: Constant::new(0u64.to_bits()),
            steady_after: Constant::new(12u64.to_bits()),
            zero4: Constant::new(0u64.to_bits()),
            one4: Constant::new(1u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
            clear: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for DeviceCutter {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            plan,
            plan_have,
            refused_plan,
            is_flush,
            mapped,
            is_zeroes,
            is_range,
            is_read,
            is_compare,
            current,
            run_have,
            first,
            dropping,
            out,
            out_valid,
            of_run,
            fresh,
            retried,
            steady,
            other_choices,
            idle_register
        );
        self.devices.clock.next = self.clock.val();
        self.devices.reset.next = self.reset.val();
        self.devices.table_valid.next = self.table_valid.val();
        self.devices.table_request.next = self.table_request.val();
        self.table_ack.next = self.devices.table_ack.val();
        self.table_data.next = self.devices.table_data.val();

        // What is cut comes back to the first stage, so nothing may arrive there meanwhile.
        self.header_room.next = !self.plan_have.q.val() & self.check.not_over.val();
        self.run_room.next = !self.run_have.q.val() & self.check.not_over.val();
        self.header.ready.next = self.header_room.val();
        self.run.ready.next = self.run_room.val();
        self.refuses.next = (self.header.data.val().refusal != self.no_status.val())
            | (self.header.data.val().trivial == self.flag.val());
        self.flushes.next = (self.header.data.val().opcode == self.flush_opcode.val());
        self.terms.next = self.header.data.val().terms.into();
        if self.header_room.val() {
            self.retried.d.next = (self.terms.val().retried == self.flag.val());
            self.plan.d.next = self.header.data.val();
            self.plan_have.d.next = self.header.valid.val();
            self.refused_plan.d.next = self.refuses.val();
            self.is_flush.d.next = !self.refuses.val() & self.flushes.val();
            self.mapped.d.next = !self.refuses.val() & !self.flushes.val();
            self.is_zeroes.d.next = (self.header.data.val().opcode == self.zeroes_opcode.val());
            self.is_range.d.next = (self.header.data.val().opcode == self.deallocate_opcode.val());
            self.is_read.d.next = (self.header.data.val().opcode == self.read_opcode.val())
                | (self.header.data.val().opcode == self.compare_opcode.val());
            self.is_compare.d.next = (self.header.data.val().opcode == self.compare_opcode.val());
            self.first.d.next = true;
        }
        if self.run_room.val() {
            self.current.d.next = self.run.data.val();
            self.run_have.d.next = self.run.valid.val();
        }

        // The device's entry is read while the run arrives, and again while it waits.
        self.closed_plan.next = self.refused_plan.q.val() | self.scan.none.val();
        self.free.next = !self.out_valid.q.val() | self.piece.ready.val();
        self.no_data.next = self.is_flush.q.val() | self.is_zeroes.q.val() | self.is_range.q.val();
        self.flushing.next = self.plan_have.q.val() & self.is_flush.q.val();
        self.arriving.next = self.run.data.val().extent.into();
        self.extent.next = self.current.q.val().extent.into();
        self.address.next = self.extent.val().device;
        if self.flushing.val() {
            self.address.next = self.scan.device.val();
        } else if self.run_room.val() {
            self.address.next = self.arriving.val().device;
        }
        self.devices.address.next = self.address.val();
        self.device.next = self.devices.entry.val();
        self.devices.path_valid.next = self.path_valid.val();
        self.turns.clock.next = self.clock.val();
        self.turns.address.next = self.address.val();
        self.devices.suspect.next = self.suspect.val();

        // A plan that is tried again waits for what is left of the choices without the paths that it avoids.
        self.plan_part.next = self.plan.q.val().part.into();
        self.avoid_query.next = self.plan_part.val().slot;
        self.others.clock.next = self.clock.val();
        self.others.device.next = self.device.val();
        self.others.path_valid.next = self.path_valid.val() & !self.avoided.val();
        self.others.suspect.next = self.suspect.val();
        self.other_choices.d.next = self.others.choices.val();
        self.choices.next = self.devices.choices.val();
        if self.retried.q.val() {
            self.choices.next = self.other_choices.q.val();
        }
        self.settled.next = !self.retried.q.val() | (self.steady.q.val() == self.steady_after.val());
        if (self.steady.q.val() != self.steady_after.val()) {
            self.steady.d.next = self.steady.q.val() + self.one4.val();
        }
        self.turns.choices.next = self.choices.val();
        self.path.next = self.device.val().path;
        if (self.turns.place.val() == self.places[1].val()) {
            self.path.next = self.device.val().path1;
        }
        if (self.turns.place.val() == self.places[2].val()) {
            self.path.next = self.device.val().path2;
        }
        if (self.turns.place.val() == self.places[3].val()) {
            self.path.next = self.device.val().path3;
        }
        self.check.extent.next = self.extent.val();
        self.check.device.next = self.device.val();
        self.check.blocks.next = self.current.q.val().blocks;
        self.check.is_read.next = self.is_read.q.val();
        self.check.is_compare.next = self.is_compare.q.val();
        self.check.is_zeroes.next = self.is_zeroes.q.val();
        self.check.is_range.next = self.is_range.q.val();
        self.check.is_flush.next = self.is_flush.q.val();
        self.check.choices.next = self.choices.val();
        // As long as it does not go on, nothing of it may be taken as cut.
        self.check.is_run.next = self.plan_have.q.val()
            & self.run_have.q.val()
            & self.mapped.q.val()
            & !self.dropping.q.val()
            & self.settled.val();
        self.check.is_closed.next = self.closed_plan.val();
        self.check.clock.next = self.clock.val();
        self.check.reset.next = self.reset.val();
        self.check.take.next = self.free.val();
        self.ends.next = (self.current.q.val().last == self.flag.val());
        if !self.mapped.q.val() {
            self.ends.next = self.closed_plan.val() | self.scan.last.val();
        }

        // From the first stage to the second.
        self.load.next = self.free.val()
            & self.plan_have.q.val()
            & !self.dropping.q.val()
            & (self.closed_plan.val()
                | (self.settled.val()
                    & (self.scan.ready.val() | (self.run_have.q.val() & self.mapped.q.val()))));
        if (self.header_room.val() & self.header.valid.val())
            | (self.run_room.val() & self.run.valid.val())
            | (self.flushing.val() & !self.scan.ready.val())
            | self.load.val()
        {
            self.steady.d.next = self.zero4.val();
        }
        self.turns.here.next = self.plan_have.q.val()
            & !self.dropping.q.val()
            & self.settled.val()
            & (self.scan.ready.val() | (self.run_have.q.val() & self.mapped.q.val()));
        self.turns.leaves.next = self.free.val();
        self.fresh.d.next = self.load.val();
        if self.free.val() {
            self.out_valid.d.next = self.load.val();
            self.of_run.d.next = self.load.val() & self.mapped.q.val();
            self.out.d.next.part = self.plan.q.val().part;
            self.out.d.next.opcode = self.plan.q.val().opcode;
            self.out.d.next.prp1 = self.plan.q.val().prp1;
            self.out.d.next.prp2 = self.plan.q.val().prp2;
            self.out.d.next.plan_blocks = self.plan.q.val().blocks;
            self.out.d.next.block_shift = self.plan.q.val().block_shift;
            self.out.d.next.deallocate = self.plan.q.val().deallocate;
            self.out.d.next.force_unit_access = self.plan.q.val().force_unit_access;
            self.out.d.next.limited_retry = self.plan.q.val().limited_retry;
            self.out.d.next.cdw13 = self.plan.q.val().cdw13;
            self.out.d.next.plan_offset = self.current.q.val().plan_offset;
            self.out.d.next.blocks = self.current.q.val().blocks;
            self.out.d.next.path = self.path.val();
            self.out.d.next.namespace_id = self.device.val().namespace_id;
            self.out.d.next.lba =
                self.extent.val().start + bit_cast::<48, 33>(self.current.q.val().extent_offset);
            self.out.d.next.status = self.plan.q.val().refusal;
            self.out.d.next.terms = self.plan.q.val().terms;
            self.out.d.next.first = self.clear.val();
            if self.first.q.val() {
                self.out.d.next.first = self.flag.val();
            }
            self.out.d.next.last = self.clear.val();
            if self.ends.val() {
                self.out.d.next.last = self.flag.val();
            }
            self.out.d.next.closing = self.clear.val();
            if self.closed_plan.val() {
                self.out.d.next.closing = self.flag.val();
            }
            // Without data, no PRP entries.
            if self.no_data.val() {
                self.out.d.next.prp1 = self.no_prp.val();
                self.out.d.next.prp2 = self.no_prp.val();
            }
            self.out.d.next.whole = self.clear.val();
            if self.no_data.val() {
                self.out.d.next.whole = self.flag.val();
            }
            self.out.d.next.zeros = self.clear.val();
        }
        if self.load.val() {
            self.first.d.next = false;
            if self.ends.val() {
                self.plan_have.d.next = false;
            }
            if self.mapped.q.val() {
                self.run_have.d.next = false;
            }
        }
        // A refused piece is known a cycle after it came, a cycle before the next could come.
        if self.fresh.q.val()
            & self.check.refused.val()
            & (self.check.over.val() | (self.out.q.val().last == self.clear.val()))
        {
            self.dropping.d.next = true;
        }
        if self.dropping.q.val() {
            if self.is_flush.q.val() {
                self.plan_have.d.next = false;
                self.dropping.d.next = false;
            } else if self.run_have.q.val() {
                self.run_have.d.next = false;
                if (self.current.q.val().last == self.flag.val()) {
                    self.plan_have.d.next = false;
                    self.dropping.d.next = false;
                }
            }
        }
        self.scan.clock.next = self.clock.val();
        self.scan.start.next = self.header_room.val();
        self.scan.devices.next = self.header.data.val().flush_devices;
        self.scan.active.next = self.flushing.val() & !self.dropping.q.val();
        self.scan.taken.next = self.load.val() & self.scan.ready.val();

        // The second stage's piece, and what it leaves of its run.
        self.piece.valid.next = self.out_valid.q.val();
        self.piece.data.next = self.out.q.val();
        self.out_part.next = self.out.q.val().part.into();
        if (self.out.q.val().first == self.flag.val())
            & (self.out.q.val().last == self.flag.val())
            & self.check.not_over.val()
        {
            self.piece.data.next.whole = self.flag.val();
        }
        if self.check.over.val() {
            self.piece.data.next.blocks = self.check.limit.val();
            self.piece.data.next.last = self.clear.val();
        } else if !self.of_run.q.val() {
            self.piece.data.next.blocks = self.zero17.val();
        }
        if self.check.zeros.val() {
            self.piece.data.next.zeros = self.flag.val();
        }
        if self.check.refused.val() {
            self.piece.data.next.closing = self.flag.val();
            self.piece.data.next.last = self.flag.val();
            self.piece.data.next.status = self.internal_error.val();
            if self.check.no_path.val() {
                self.piece.data.next.status = self.path_error.val();
            }
            // An extent that faults is an exception, if there is a plan that could be one.
            if self.check.faults.val() & (self.out_part.val().single == self.clear.val()) {
                self.piece.data.next.status = self.fault.val();
            }
        }
        self.next_extent.next = self.extent.val();
        self.next_extent.next.start = self.out.q.val().lba;
        if self.check.over.val() {
            self.current.d.next.blocks = self.out.q.val().blocks - self.check.limit.val();
            self.current.d.next.plan_offset = self.out.q.val().plan_offset + self.check.limit.val();
            self.current.d.next.extent = self.next_extent.val().into();
            self.current.d.next.extent_offset = bit_cast::<33, 17>(self.check.limit.val());
            if self.piece.ready.val() {
                self.run_have.d.next = true;
                self.plan_have.d.next = true;
            }
        }
        self.idle_register.d.next = !self.header.valid.val()
            & !self.run.valid.val()
            & !self.plan_have.q.val()
            & !self.run_have.q.val()
            & !self.out_valid.q.val()
            & self.devices.settled.val();
        self.idle.next = self.idle_register.q.val();

        if self.reset.val() {
            self.plan_have.d.next = false;
            self.run_have.d.next = false;
            self.dropping.d.next = false;
            self.out_valid.d.next = false;
            self.of_run.d.next = false;
            self.fresh.d.next = false;
            self.idle_register.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests;
