//! Judges a client's command by its virtual disk's entry and makes a plan of it.
//!
//! The checks, the first that applies refusing: the refusal given with the command; no such disk; disk not
//! enabled; (a foreign or trivial command or a Flush passes here, unmapped); length and PRP entries
//! (`TransferCheck`); the range's end beyond the disk; a disk whose allocations are too long to address. A
//! foreign command, and then a diverted one, is stopped (`stop_cause`); a foreign one without a template is
//! refused before anything else. No handshake, no stall, no reset. `disk` belongs to the command of the cycle
//! before. Latency: 5 cycles. Throughput: one a cycle.

use rust_hdl::prelude::*;
use volplane_abi::{opcode, status, vd_status};

use super::allocation_index::AllocationIndex;
use super::transfer_check::TransferCheck;
use crate::exec::stop_cause::{DIVERT, NOT_EXECUTABLE};
use crate::records::{AdmittedPlan, ClientCommand, DiskEntry};

crate::logic_record! {
    /// The allocations of a mapped plan.
    AllocationLookup: 89 {
        /// Index of the first one's entry; the others follow.
        index = 32,
        /// The plan's first block, within the first allocation.
        offset = 32,
        /// Blocks that lie beyond the first allocation.
        rest = 17,
        /// log2 of the blocks of an allocation.
        allocation_shift = 8,
    }
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct CommandJudge {
    pub clock: Signal<In, Clock>,
    pub command: Signal<In, ClientCommand>,
    pub part: Signal<In, Bits<16>>,
    pub terms: Signal<In, Bits<16>>,
    pub disk: Signal<In, DiskEntry>,
    pub plan: Signal<Out, AdmittedPlan>,
    /// The plan's allocations, if it is mapped.
    pub lookup: Signal<Out, AllocationLookup>,
    pub mapped: Signal<Out, bool>,

    transfer: TransferCheck,
    first: AllocationIndex,
    // Cycle 1: beside the disk's entry.
    command1: DFF<ClientCommand>,
    part1: DFF<Bits<16>>,
    terms1: DFF<Bits<16>>,
    end1: DFF<Bits<49>>,
    far1: DFF<bool>,
    refused1: DFF<bool>,
    flush1: DFF<bool>,
    // Cycles 2 to 4: judged by the disk; the other checks go on.
    plan2: DFF<AdmittedPlan>,
    diverted2: DFF<bool>,
    far2: DFF<bool>,
    // The end against the size, in two halves.
    above_high2: DFF<bool>,
    below_high2: DFF<bool>,
    above_low2: DFF<bool>,
    unaddressable2: DFF<bool>,
    plan3: DFF<AdmittedPlan>,
    diverted3: DFF<bool>,
    beyond3: DFF<bool>,
    unaddressable3: DFF<bool>,
    plan4: DFF<AdmittedPlan>,
    diverted4: DFF<bool>,
    beyond4: DFF<bool>,
    unaddressable4: DFF<bool>,
    // Cycle 5: judged.
    plan5: DFF<AdmittedPlan>,

    /// It is foreign, and its disk has no template.
    alone: Signal<Local, bool>,
    lba: Signal<Local, Bits<64>>,
    lba_high: Signal<Local, Bits<16>>,
    status_of_disk: Signal<Local, Bits<11>>,
    /// Neither refused nor without a disk.
    fit: Signal<Local, bool>,
    end_blocks: Signal<Local, Bits<49>>,
    end_high: Signal<Local, Bits<25>>,
    end_low: Signal<Local, Bits<24>>,
    size: Signal<Local, Bits<49>>,
    size_high: Signal<Local, Bits<25>>,
    size_low: Signal<Local, Bits<24>>,
    rest: Signal<Local, Bits<17>>,
    is_mapped: Signal<Local, bool>,
    empty_plan: Constant<AdmittedPlan>,
    absent: Constant<Bits<4>>,
    enabled: Constant<Bits<4>>,
    most_shift: Constant<Bits<8>>,
    flush: Constant<Bits<8>>,
    no_status: Constant<Bits<11>>,
    no_plan: Constant<Bits<16>>,
    namespace_error: Constant<Bits<11>>,
    not_ready: Constant<Bits<11>>,
    field_error: Constant<Bits<11>>,
    offset_error: Constant<Bits<11>>,
    range_error: Constant<Bits<11>>,
    internal_error: Constant<Bits<11>>,
    foreign: Constant<Bits<11>>,
    divert: Constant<Bits<11>>,
    flag: Constant<Bits<1>>,
    clear: Constant<Bits<1>>,
}

impl Default for CommandJudge {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            command: Default::default(),
            part: Default::default(),
            terms: Default::default(),
            disk: Default::default(),
            plan: Default::default(),
            lookup: Default::default(),
            mapped: Default::default(),
            transfer: Default::default(),
            first: Default::default(),
            command1: Default::default(),
            part1: Default::default(),
            terms1: Default::default(),
            end1: Default::default(),
            far1: Default::default(),
            refused1: Default::default(),
            alone: Default::default(),
            flush1: Default::default(),
            plan2: Default::default(),
            diverted2: Default::default(),
            far2: Default::default(),
            above_high2: Default::default(),
            below_high2: Default::default(),
            above_low2: Default::default(),
            unaddressable2: Default::default(),
            plan3: Default::default(),
            diverted3: Default::default(),
            beyond3: Default::default(),
            unaddressable3: Default::default(),
            plan4: Default::default(),
            diverted4: Default::default(),
            beyond4: Default::default(),
            unaddressable4: Default::default(),
            plan5: Default::default(),
            lba: Default::default(),
            lba_high: Default::default(),
            status_of_disk: Default::default(),
            fit: Default::default(),
            end_blocks: Default::default(),
            end_high: Default::default(),
            end_low: Default::default(),
            size: Default::default(),
            size_high: Default::default(),
            size_low: Default::default(),
            rest: Default::default(),
            is_mapped: Default::default(),
            empty_plan: Constant::new(AdmittedPlan::default()),
            absent: Constant::new(u64::from(vd_status::ABSENT).to_bits()),
            enabled: Constant::new(u64::from(vd_status::ENABLED).to_bits()),
            most_shift: Constant::new(32u64.to_bits()),
            flush: Constant::new(u64::from(opcode::FLUSH).to_bits()),
            no_status: Constant::new(u64::from(status::SUCCESS).to_bits()),
            no_plan: Constant::new(0u64.to_bits()),
            namespace_error: Constant::new(u64::from(status::INVALID_NAMESPACE).to_bits()),
            not_ready: Constant::new(u64::from(status::NAMESPACE_NOT_READY).to_bits()),
            field_error: Constant::new(u64::from(status::INVALID_FIELD).to_bits()),
            offset_error: Constant::new(u64::from(status::INVALID_PRP_OFFSET).to_bits()),
            range_error: Constant::new(u64::from(status::LBA_OUT_OF_RANGE).to_bits()),
            internal_error: Constant::new(u64::from(status::INTERNAL_ERROR).to_bits()),
            foreign: Constant::new(u64::from(NOT_EXECUTABLE).to_bits()),
            divert: Constant::new(u64::from(DIVERT).to_bits()),
            flag: Constant::new(1u64.to_bits()),
            clear: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for CommandJudge {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            command1,
            part1,
            terms1,
            end1,
            far1,
            refused1,
            flush1,
            plan2,
            diverted2,
            far2,
            above_high2,
            below_high2,
            above_low2,
            unaddressable2,
            plan3,
            diverted3,
            beyond3,
            unaddressable3,
            plan4,
            diverted4,
            beyond4,
            unaddressable4,
            plan5
        );
        self.transfer.clock.next = self.clock.val();
        self.first.clock.next = self.clock.val();

        self.command1.d.next = self.command.val();
        self.part1.d.next = self.part.val();
        self.terms1.d.next = self.terms.val();
        self.lba.next = self.command.val().lba;
        self.lba_high.next = self.lba.val().get_bits::<16>(48);
        self.far1.d.next = self.lba_high.val().any();
        self.refused1.d.next = (self.command.val().refusal != self.no_status.val());
        self.flush1.d.next = (self.command.val().opcode == self.flush.val());
        self.end1.d.next = bit_cast::<49, 48>(self.lba.val().get_bits::<48>(0))
            + bit_cast::<49, 17>(self.command.val().blocks);

        self.alone.next =
            (self.command1.q.val().foreign == self.flag.val()) & (self.disk.val().plan == self.no_plan.val());
        self.status_of_disk.next = self.no_status.val();
        if self.refused1.q.val() {
            self.status_of_disk.next = self.command1.q.val().refusal;
        } else if self.alone.val() {
            self.status_of_disk.next = self.field_error.val();
        } else if (self.disk.val().status == self.absent.val()) {
            self.status_of_disk.next = self.namespace_error.val();
        } else if (self.disk.val().status != self.enabled.val()) {
            self.status_of_disk.next = self.not_ready.val();
        }
        self.fit.next =
            !self.refused1.q.val() & !self.alone.val() & (self.disk.val().status == self.enabled.val());
        self.plan2.d.next = self.empty_plan.val();
        self.plan2.d.next.part = self.part1.q.val();
        self.plan2.d.next.opcode = self.command1.q.val().opcode;
        self.plan2.d.next.prp1 = self.command1.q.val().prp1;
        self.plan2.d.next.prp2 = self.command1.q.val().prp2;
        self.plan2.d.next.blocks = self.command1.q.val().blocks;
        self.plan2.d.next.block_shift = self.disk.val().block_shift;
        self.plan2.d.next.deallocate = self.command1.q.val().deallocate;
        self.plan2.d.next.force_unit_access = self.command1.q.val().force_unit_access;
        self.plan2.d.next.limited_retry = self.command1.q.val().limited_retry;
        self.plan2.d.next.cdw13 = self.command1.q.val().cdw13;
        self.plan2.d.next.terms = self.terms1.q.val();
        self.plan2.d.next.allocation_shift = self.disk.val().allocation_shift;
        self.plan2.d.next.refusal = self.status_of_disk.val();
        if !self.fit.val() {
            self.plan2.d.next.unmapped = self.flag.val();
        } else if (self.command1.q.val().foreign == self.flag.val()) {
            self.plan2.d.next.unmapped = self.flag.val();
            self.plan2.d.next.refusal = self.foreign.val();
        } else if self.flush1.q.val() {
            self.plan2.d.next.unmapped = self.flag.val();
            self.plan2.d.next.trivial = self.command1.q.val().trivial;
            self.plan2.d.next.flush_devices = self.disk.val().flush_devices;
        } else if (self.command1.q.val().trivial == self.flag.val()) {
            self.plan2.d.next.unmapped = self.flag.val();
            self.plan2.d.next.trivial = self.flag.val();
        }
        self.diverted2.d.next = (self.command1.q.val().diverted == self.flag.val());
        self.far2.d.next = self.far1.q.val();
        self.end_blocks.next = self.end1.q.val();
        self.end_high.next = self.end_blocks.val().get_bits::<25>(24);
        self.end_low.next = self.end_blocks.val().get_bits::<24>(0);
        self.size.next = bit_cast::<49, 48>(self.disk.val().size_blocks);
        self.size_high.next = self.size.val().get_bits::<25>(24);
        self.size_low.next = self.size.val().get_bits::<24>(0);
        self.above_high2.d.next = (self.end_high.val() > self.size_high.val());
        self.below_high2.d.next = (self.end_high.val() < self.size_high.val());
        self.above_low2.d.next = (self.end_low.val() > self.size_low.val());
        self.unaddressable2.d.next = (self.disk.val().allocation_shift > self.most_shift.val());
        self.transfer.opcode.next = self.command1.q.val().opcode;
        self.transfer.blocks.next = self.command1.q.val().blocks;
        self.transfer.prp1.next = self.command1.q.val().prp1;
        self.transfer.prp2.next = self.command1.q.val().prp2;
        self.transfer.block_shift.next = self.disk.val().block_shift;
        self.first.lba.next = bit_cast::<48, 64>(self.command1.q.val().lba);
        self.first.blocks.next = self.command1.q.val().blocks;
        self.first.allocation_shift.next = self.disk.val().allocation_shift;
        self.first.map_root.next = self.disk.val().map_root;

        self.plan3.d.next = self.plan2.q.val();
        self.diverted3.d.next = self.diverted2.q.val();
        self.beyond3.d.next = self.far2.q.val()
            | self.above_high2.q.val()
            | (!self.below_high2.q.val() & self.above_low2.q.val());
        self.unaddressable3.d.next = self.unaddressable2.q.val();
        self.plan4.d.next = self.plan3.q.val();
        self.diverted4.d.next = self.diverted3.q.val();
        self.beyond4.d.next = self.beyond3.q.val();
        self.unaddressable4.d.next = self.unaddressable3.q.val();
        self.plan5.d.next = self.plan4.q.val();
        if (self.plan4.q.val().unmapped == self.clear.val()) {
            self.plan5.d.next.unmapped = self.flag.val();
            if self.transfer.too_long.val() {
                self.plan5.d.next.refusal = self.field_error.val();
            } else if self.transfer.bad_offset.val() {
                self.plan5.d.next.refusal = self.offset_error.val();
            } else if self.beyond4.q.val() {
                self.plan5.d.next.refusal = self.range_error.val();
            } else if self.unaddressable4.q.val() {
                self.plan5.d.next.refusal = self.internal_error.val();
            } else if self.diverted4.q.val() {
                self.plan5.d.next.refusal = self.divert.val();
            } else {
                self.plan5.d.next.unmapped = self.clear.val();
            }
        }

        self.is_mapped.next = (self.plan5.q.val().unmapped == self.clear.val());
        self.mapped.next = self.is_mapped.val();
        self.rest.next = self.first.rest.val();
        self.plan.next = self.plan5.q.val();
        if self.is_mapped.val() {
            self.plan.next.first_blocks = self.first.first_blocks.val();
            if self.first.crosses.val() {
                self.plan.next.crosses = self.flag.val();
            }
        }
        self.lookup.next.index = self.first.index.val();
        self.lookup.next.offset = self.first.offset.val();
        self.lookup.next.rest = self.rest.val();
        self.lookup.next.allocation_shift = self.plan5.q.val().allocation_shift;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Bench;

    /// A read of 8 blocks of a disk of 1,024.
    fn judged(bench: &mut Bench, command: ClientCommand, enabled: bool, plan: u64) -> (u64, bool) {
        let disk = DiskEntry {
            size_blocks: 1_024u64.to_bits(),
            status: if enabled { 1u64 } else { 2 }.to_bits(),
            block_shift: 9u64.to_bits(),
            allocation_shift: 11u64.to_bits(),
            plan: plan.to_bits(),
            ..Default::default()
        };
        bench.set_record::<329>("command", command);
        bench.set_record::<144>("disk", disk);
        (0..5).for_each(|_| bench.cycle());
        let plan: AdmittedPlan = bench.get_record::<324, _>("plan");
        assert_eq!(plan.unmapped.any(), bench.get("mapped") == 0);
        (plan.refusal.to_u64(), plan.unmapped.any())
    }

    /// What stops a command says less than what refuses it.
    #[test]
    fn refusals_go_before_stops() {
        let mut bench = Bench::new("command_judge", CommandJudge::default());
        let read = ClientCommand {
            opcode: u64::from(opcode::READ).to_bits(),
            lba: 1_016u64.to_bits(),
            blocks: 8u64.to_bits(),
            prp1: 0x1000u64.to_bits(),
            ..Default::default()
        };
        let diverted = ClientCommand { diverted: 1u64.to_bits(), ..read };
        let foreign = ClientCommand { foreign: 1u64.to_bits(), ..read };
        let beyond = ClientCommand { lba: 1_017u64.to_bits(), ..diverted };
        let unaligned = ClientCommand { prp1: 0x1001u64.to_bits(), ..diverted };
        let refused = ClientCommand { refusal: 2u64.to_bits(), ..foreign };
        assert_eq!(judged(&mut bench, read, true, 9), (0, false));
        assert_eq!(judged(&mut bench, diverted, true, 9), (DIVERT.into(), true));
        assert_eq!(judged(&mut bench, foreign, true, 9), (NOT_EXECUTABLE.into(), true));
        assert_eq!(judged(&mut bench, diverted, false, 9), (status::NAMESPACE_NOT_READY.into(), true));
        assert_eq!(judged(&mut bench, foreign, false, 9), (status::NAMESPACE_NOT_READY.into(), true));
        assert_eq!(judged(&mut bench, beyond, true, 9), (status::LBA_OUT_OF_RANGE.into(), true));
        assert_eq!(judged(&mut bench, unaligned, true, 9), (status::INVALID_PRP_OFFSET.into(), true));
        assert_eq!(judged(&mut bench, refused, true, 9), (2, true));
        let field = (status::INVALID_FIELD.into(), true);
        assert_eq!(judged(&mut bench, foreign, true, 0), field);
        assert_eq!(judged(&mut bench, foreign, false, 0), field);
    }
}
