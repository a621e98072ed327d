//! Admits a client's command: checks it against its virtual disk and makes a plan of it.
//!
//! Commands come in, the parts of plans go out; each command takes a plan slot, a refused one too, and
//! `owner_valid` tells for one cycle whose it is, with the command itself. A disk without a plan template has one
//! part, which goes straight on; `Expander` makes the parts of the others, and those of a command that comes
//! `again`. `counted_valid` tells of each command when it is looked up, `parked_valid` when it waits for its blocks
//! and will be looked up anew. While `hold` is set none is taken. `CommandJudge` says what is refused. A part that is
//! mapped has one item in `lookup`: its first allocation, and how much lies beyond, in as many allocations as it takes.
//!
//! Latency, without a template: 9 cycles to `plan`, 8 to `lookup` when none waits before it, else 9. `idle` comes a
//! cycle late and goes with the command that ends it. Throughput: a command every 2 cycles. Ordering: among
//! commands without a template, and among those with one. Owner of the tables `VD`, `PLAN`, `COMPONENT` and
//! `STATES`; an entry changes between two commands. Reset drops what is in work; the tables stay.

use rust_hdl::prelude::*;
use volplane_abi::table;

use super::command_judge::{AllocationLookup, CommandJudge};
use super::expander::Expander;
use super::lookup_table::LookupTable;
use crate::exec::component_states::DiskStateTable;
use crate::prim::fifo::Fifo;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{
    AdmittedPlan, Again, AgainCommand, ClientCommand, DiskEntry, DiskStates, ExpandedPart, KeptParts,
    LockRequest, Part, PartBegun, PartOver, PendingCommand, PlanBegun, SlotOwner, StateChange, TableRequest,
};
use crate::sizes::Sizes;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct Admission {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub initialised: Signal<Out, bool>,
    pub command: StreamIn<ClientCommand>,
    pub again: StreamIn<AgainCommand>,
    pub slot: StreamIn<Bits<12>>,
    pub owner_valid: Signal<Out, bool>,
    pub owner_slot: Signal<Out, Bits<12>>,
    pub owner: Signal<Out, SlotOwner>,
    pub owned_command: Signal<Out, ClientCommand>,
    pub plan: StreamOut<AdmittedPlan>,
    pub lookup: StreamOut<AllocationLookup>,
    pub lock: StreamOut<LockRequest>,
    pub lock_answer: Signal<In, bool>,
    pub lock_granted: Signal<In, bool>,
    pub unlock: StreamOut<Bits<12>>,
    pub epoch: Signal<In, Bits<32>>,
    /// Nothing is admitted.
    pub hold: Signal<In, bool>,
    /// A command was looked up, in the epoch of now.
    pub counted_valid: Signal<Out, bool>,
    pub counted_slot: Signal<Out, Bits<12>>,
    pub parked_valid: Signal<Out, bool>,
    pub parked_slot: Signal<Out, Bits<12>>,
    pub begun_valid: Signal<Out, bool>,
    pub begun_slot: Signal<Out, Bits<12>>,
    pub begun: Signal<Out, PlanBegun>,
    pub part_begun_valid: Signal<Out, bool>,
    pub part_begun: Signal<Out, PartBegun>,
    pub over_valid: Signal<In, bool>,
    pub over: Signal<In, PartOver>,
    pub change: StreamIn<StateChange>,
    pub changed_valid: Signal<Out, bool>,
    pub changed: Signal<Out, DiskStates>,
    pub changed_plan: Signal<Out, Bits<16>>,
    pub keeps_valid: Signal<In, bool>,
    pub keeps: Signal<In, KeptParts>,
    pub resumed: StreamOut<Bits<12>>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    pub table_ack: Signal<Out, bool>,
    pub table_data: Signal<Out, Bits<256>>,
    pub idle: Signal<Out, bool>,

    disks: LookupTable<144>,
    states: DiskStateTable,
    expander: Expander,
    judge: CommandJudge,
    pending: Fifo<PendingCommand>,
    plans: Fifo<AdmittedPlan>,
    lookups: Fifo<AllocationLookup>,
    held_slot: DFF<Bits<12>>,
    held: DFF<bool>,
    // Looked up: the cycle after it was accepted, and the cycle that its disk's entry is there.
    valid1: DFF<bool>,
    command1: DFF<ClientCommand>,
    slot1: DFF<Bits<12>>,
    is_again1: DFF<bool>,
    again1: DFF<Bits<33>>,
    valid2: DFF<bool>,
    /// What goes to the judge: that command, else a part of the expander.
    command2: DFF<ClientCommand>,
    part2: DFF<Bits<16>>,
    terms2: DFF<Bits<16>>,
    slot2: DFF<Bits<12>>,
    is_again2: DFF<bool>,
    again2: DFF<Bits<33>>,
    epoch2: DFF<Bits<3>>,
    epoch3: DFF<Bits<3>>,
    /// A part of the expander went to the judge a cycle ago.
    expanded2: DFF<bool>,
    expanded_disk: DFF<DiskEntry>,
    // The cycle after: it is known to have a template.
    pends: DFF<bool>,
    command3: DFF<ClientCommand>,
    slot3: DFF<Bits<12>>,
    is_again3: DFF<bool>,
    again3: DFF<Bits<33>>,
    disk3: DFF<DiskEntry>,
    states3: DFF<DiskStates>,
    /// Bit i: cycle i + 3 of the pipeline, from the command's acceptance on, holds a part.
    valids: DFF<Bits<5>>,
    new1: DFF<bool>,
    // For `idle`: nothing in work, and something came.
    rests: DFF<bool>,
    expander_rests: DFF<bool>,
    came: DFF<bool>,

    may_accept: Signal<Local, bool>,
    accept_again: Signal<Local, bool>,
    accept_new: Signal<Local, bool>,
    accepted: Signal<Local, ClientCommand>,
    again_item: Signal<Local, AgainCommand>,
    again_fields: Signal<Local, Again>,
    again1_fields: Signal<Local, Again>,
    epoch_now: Signal<Local, Bits<32>>,
    disk2: Signal<Local, DiskEntry>,
    direct: Signal<Local, bool>,
    part1: Signal<Local, Part>,
    take_part: Signal<Local, bool>,
    offered_part: Signal<Local, ExpandedPart>,
    no_plan: Constant<Bits<16>>,
    no_component: Constant<Bits<3>>,
    no_terms: Constant<Bits<16>>,
    flag: Constant<Bits<1>>,
    clear: Constant<Bits<1>>,
    none: Constant<Bits<5>>,
    entering: Constant<Bits<5>>,
}

impl Admission {
    /// Admission to 2^`vd_bits` virtual disks.
    pub fn new(sizes: &Sizes) -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            initialised: Default::default(),
            command: Default::default(),
            again: Default::default(),
            slot: Default::default(),
            owner_valid: Default::default(),
            owner_slot: Default::default(),
            owner: Default::default(),
            owned_command: Default::default(),
            plan: Default::default(),
            lookup: Default::default(),
            lock: Default::default(),
            lock_answer: Default::default(),
            lock_granted: Default::default(),
            unlock: Default::default(),
            epoch: Default::default(),
            hold: Default::default(),
            counted_valid: Default::default(),
            counted_slot: Default::default(),
            parked_valid: Default::default(),
            parked_slot: Default::default(),
            begun_valid: Default::default(),
            begun_slot: Default::default(),
            begun: Default::default(),
            part_begun_valid: Default::default(),
            part_begun: Default::default(),
            over_valid: Default::default(),
            over: Default::default(),
            change: Default::default(),
            changed_valid: Default::default(),
            changed: Default::default(),
            changed_plan: Default::default(),
            keeps_valid: Default::default(),
            keeps: Default::default(),
            resumed: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            table_ack: Default::default(),
            table_data: Default::default(),
            idle: Default::default(),
            disks: LookupTable::new(table::VD, sizes.vd_bits, 1),
            states: DiskStateTable::new(sizes),
            expander: Expander::new(sizes),
            judge: Default::default(),
            pending: Fifo::lut(3, 5),
            plans: Fifo::lut(4, 8),
            lookups: Fifo::quick(4, 8),
            held_slot: Default::default(),
            held: Default::default(),
            valid1: Default::default(),
            command1: Default::default(),
            slot1: Default::default(),
            is_again1: Default::default(),
            again1: Default::default(),
            valid2: Default::default(),
            command2: Default::default(),
            part2: Default::default(),
            terms2: Default::default(),
            slot2: Default::default(),
            is_again2: Default::default(),
            again2: Default::default(),
            epoch2: Default::default(),
            epoch3: Default::default(),
            expanded2: Default::default(),
            expanded_disk: Default::default(),
            pends: Default::default(),
            command3: Default::default(),
            slot3: Default::default(),
            is_again3: Default::default(),
            again3: Default::default(),
            disk3: Default::default(),
            states3: Default::default(),
            valids: Default::default(),
            new1: Default::default(),
            rests: Default::default(),
            expander_rests: Default::default(),
            came: Default::default(),
            may_accept: Default::default(),
            accept_again: Default::default(),
            accept_new: Default::default(),
            accepted: Default::default(),
            again_item: Default::default(),
            again_fields: Default::default(),
            again1_fields: Default::default(),
            epoch_now: Default::default(),
            disk2: Default::default(),
            direct: Default::default(),
            part1: Default::default(),
            take_part: Default::default(),
            offered_part: Default::default(),
            no_plan: Constant::new(0u64.to_bits()),
            no_component: Constant::new(0u64.to_bits()),
            no_terms: Constant::new(0u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
            clear: Constant::new(0u64.to_bits()),
            none: Constant::new(0u64.to_bits()),
            entering: Constant::new(1u64.to_bits()),
        }
    }
}

impl Logic for Admission {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self, clock, held_slot, held, valid1, command1, slot1, is_again1, again1, valid2, command2
        );
        dff_setup!(
            self,
            clock,
            slot2,
            is_again2,
            again2,
            epoch2,
            epoch3,
            expanded2,
            expanded_disk,
            valids,
            new1,
            rests,
            expander_rests,
            came
        );
        dff_setup!(self, clock, part2, terms2, pends, command3, slot3, is_again3, again3, disk3, states3);
        clock!(self, clock, disks, states, expander, judge, pending, plans, lookups);
        self.disks.reset.next = self.reset.val();
        self.states.reset.next = self.reset.val();
        self.expander.reset.next = self.reset.val();
        self.pending.reset.next = self.reset.val();
        self.plans.reset.next = self.reset.val();
        self.lookups.reset.next = self.reset.val();
        StreamOut::<AdmittedPlan>::link(&mut self.plan, &mut self.plans.out);
        StreamOut::<AllocationLookup>::link(&mut self.lookup, &mut self.lookups.out);
        StreamOut::<LockRequest>::link(&mut self.lock, &mut self.expander.lock);
        StreamOut::<Bits<12>>::link(&mut self.unlock, &mut self.expander.unlock);
        StreamOut::<Bits<12>>::link(&mut self.resumed, &mut self.expander.resumed);
        StreamIn::<StateChange>::link(&mut self.change, &mut self.states.change);
        StreamOut::<PendingCommand>::join(&mut self.pending.out, &mut self.expander.pending);
        self.expander.lock_answer.next = self.lock_answer.val();
        self.expander.lock_granted.next = self.lock_granted.val();
        self.expander.epoch.next = self.epoch.val();
        self.parked_valid.next = self.expander.parked_valid.val();
        self.parked_slot.next = self.expander.parked_slot.val();
        self.begun_valid.next = self.expander.begun_valid.val();
        self.begun_slot.next = self.expander.begun_slot.val();
        self.begun.next = self.expander.begun.val();
        self.part_begun_valid.next = self.expander.part_begun_valid.val();
        self.part_begun.next = self.expander.part_begun.val();
        self.expander.over_valid.next = self.over_valid.val();
        self.expander.over.next = self.over.val();
        self.initialised.next = self.expander.initialised.val();
        self.changed_valid.next = self.states.changed_valid.val();
        self.changed.next = self.states.changed.val();
        self.changed_plan.next = self.states.changed_plan.val();
        self.expander.keeps_valid.next = self.keeps_valid.val();
        self.expander.keeps.next = self.keeps.val();
        self.disks.table_valid.next = self.table_valid.val();
        self.disks.table_request.next = self.table_request.val();
        self.states.table_valid.next = self.table_valid.val();
        self.states.table_request.next = self.table_request.val();
        self.expander.table_valid.next = self.table_valid.val();
        self.expander.table_request.next = self.table_request.val();
        self.table_ack.next =
            self.disks.table_ack.val() | self.states.table_ack.val() | self.expander.table_ack.val();
        self.table_data.next =
            self.disks.table_data.val() | self.states.table_data.val() | self.expander.table_data.val();

        // Accept: what comes again first. A slot is kept ready, so that `command.ready` rests on registers.
        self.may_accept.next = !self.hold.val()
            & self.plans.room.val()
            & self.lookups.room.val()
            & self.pending.room.val()
            & self.disks.request.ready.val();
        self.again_item.next = self.again.data.val();
        self.again_fields.next = self.again_item.val().again.into();
        self.accept_again.next = self.again.valid.val() & self.may_accept.val();
        self.accept_new.next =
            self.command.valid.val() & self.held.q.val() & self.may_accept.val() & !self.again.valid.val();
        self.again.ready.next = self.may_accept.val();
        self.command.ready.next = self.held.q.val() & self.may_accept.val() & !self.again.valid.val();
        self.accepted.next = self.command.data.val();
        if self.again.valid.val() {
            self.accepted.next = self.again_item.val().command.into();
        }
        self.disks.request.valid.next = self.accept_again.val() | self.accept_new.val();
        self.disks.request.data.next = self.accepted.val().namespace_id;
        self.states.query.next = self.accepted.val().namespace_id;
        self.slot.ready.next = !self.held.q.val();
        if self.accept_new.val() {
            self.held.d.next = false;
        }
        if self.slot.valid.val() & !self.held.q.val() {
            self.held.d.next = true;
            self.held_slot.d.next = self.slot.data.val();
        }

        // Looked up. Whose command a new one is stands in the cycle after.
        self.valid1.d.next = self.accept_again.val() | self.accept_new.val();
        self.new1.d.next = self.accept_new.val();
        self.command1.d.next = self.accepted.val();
        self.is_again1.d.next = self.again.valid.val();
        self.again1.d.next = self.again_item.val().again;
        self.slot1.d.next = self.held_slot.q.val();
        if self.again.valid.val() {
            self.slot1.d.next = self.again_fields.val().slot;
        }
        self.again1_fields.next = self.again1.q.val().into();
        self.counted_valid.next = self.valid1.q.val()
            & (!self.is_again1.q.val() | (self.again1_fields.val().fresh == self.flag.val()));
        self.counted_slot.next = self.slot1.q.val();
        self.epoch_now.next = self.epoch.val();
        self.epoch2.d.next = self.epoch_now.val().get_bits::<3>(0);
        self.epoch3.d.next = self.epoch2.q.val();
        self.owner_valid.next = self.new1.q.val();
        self.owner_slot.next = self.slot1.q.val();
        self.owner.next.queue = self.command1.q.val().queue;
        self.owner.next.command_id = self.command1.q.val().command_id;
        self.owner.next.namespace = bit_cast::<16, 32>(self.command1.q.val().namespace_id);
        self.owner.next.named = self.disks.known.val().into();
        self.owned_command.next = self.command1.q.val();
        self.valid2.d.next = self.valid1.q.val();
        self.slot2.d.next = self.slot1.q.val();
        self.is_again2.d.next = self.is_again1.q.val();
        self.again2.d.next = self.again1.q.val();
        self.disk2.next = self.disks.response.val().into();
        self.direct.next =
            self.valid2.q.val() & !self.is_again2.q.val() & (self.disk2.val().plan == self.no_plan.val());
        // Whether it has one is known too late to push it in the same cycle.
        self.pends.d.next = self.valid2.q.val() & !self.direct.val();
        self.command3.d.next = self.command2.q.val();
        self.slot3.d.next = self.slot2.q.val();
        self.is_again3.d.next = self.is_again2.q.val();
        self.again3.d.next = self.again2.q.val();
        self.states3.d.next = self.states.queried.val();
        self.pending.push.next = self.pends.q.val();
        self.pending.data.next.command = self.command3.q.val().into();
        self.pending.data.next.slot = self.slot3.q.val();
        self.pending.data.next.again = self.again3.q.val();
        self.pending.data.next.is_again = self.is_again3.q.val().into();
        self.pending.data.next.disk = self.disk3.q.val().into();
        self.pending.data.next.states = self.states3.q.val().into();
        self.pending.data.next.epoch = self.epoch3.q.val();

        // To the judge, from registers of its own: what was just looked up, else a part of the expander, its disk
        // a cycle later.
        self.offered_part.next = self.expander.part.data.val();
        self.take_part.next = self.expander.part.valid.val()
            & !self.valid1.q.val()
            & self.plans.room.val()
            & self.lookups.room.val();
        self.expander.part.ready.next =
            !self.valid1.q.val() & self.plans.room.val() & self.lookups.room.val();
        self.part1.next.slot = self.slot1.q.val();
        self.part1.next.component = self.no_component.val();
        self.part1.next.single = self.flag.val();
        self.command2.d.next = self.offered_part.val().command.into();
        self.part2.d.next = self.offered_part.val().part;
        self.terms2.d.next = self.offered_part.val().terms;
        if self.valid1.q.val() {
            self.command2.d.next = self.command1.q.val();
            self.part2.d.next = self.part1.val().into();
            self.terms2.d.next = self.no_terms.val();
        }
        self.judge.command.next = self.command2.q.val();
        self.judge.part.next = self.part2.q.val();
        self.judge.terms.next = self.terms2.q.val();
        self.expanded2.d.next = self.take_part.val();
        self.expanded_disk.d.next = self.offered_part.val().disk.into();
        self.disk3.d.next = self.disk2.val();
        if self.expanded2.q.val() {
            self.disk3.d.next = self.expanded_disk.q.val();
        }
        self.judge.disk.next = self.disk3.q.val();
        self.valids.d.next = (self.valids.q.val() << 1);
        if self.direct.val() | self.expanded2.q.val() {
            self.valids.d.next = (self.valids.q.val() << 1) | self.entering.val();
        }
        self.plans.data.next = self.judge.plan.val();
        self.plans.push.next = self.valids.q.val().get_bit(4);
        self.lookups.data.next = self.judge.lookup.val();
        self.lookups.push.next = self.valids.q.val().get_bit(4) & self.judge.mapped.val();

        self.came.d.next = self.accept_again.val() | self.accept_new.val() | self.table_valid.val();
        // A command that it has in work stands in `pending` first, a table access in `disks` as well.
        self.expander_rests.d.next = self.expander.idle.val();
        self.rests.d.next = (self.valids.q.val() == self.none.val())
            & !self.valid1.q.val()
            & !self.valid2.q.val()
            & !self.expanded2.q.val()
            & !self.pends.q.val()
            & self.pending.empty.val()
            & self.expander_rests.q.val()
            & self.plans.empty.val()
            & self.lookups.empty.val()
            & self.states.idle.val()
            & self.disks.idle.val();
        self.idle.next = self.rests.q.val() & !self.came.q.val();

        if self.reset.val() {
            self.held.d.next = false;
            self.valid1.d.next = false;
            self.new1.d.next = false;
            self.valid2.d.next = false;
            self.expanded2.d.next = false;
            self.pends.d.next = false;
            self.valids.d.next = self.none.val();
            self.rests.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use crate::records::VdEntry;
    use crate::virt::transfer_check::tests::model as transfer;
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use std::collections::{BTreeMap, VecDeque};
    use volplane_abi::{opcode, status, vd_status};

    /// A disk in plain numbers.
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Disk {
        size: u64,
        status: u8,
        block_shift: u32,
        allocation_shift: u32,
        root: u64,
        flush_devices: u64,
    }

    impl Disk {
        fn random(random: &mut ChaCha8Rng) -> Self {
            let status = [vd_status::ABSENT, vd_status::ENABLED, vd_status::DEACTIVATED, 9];
            Self {
                size: random.random::<u64>() >> random.random_range(16..48),
                status: if random.random_bool(0.7) {
                    vd_status::ENABLED
                } else {
                    status[random.random_range(0..4)]
                },
                block_shift: random.random_range(9..=12),
                allocation_shift: [8, 11, 16, 31, 32, 33][random.random_range(0..6)],
                root: u64::from(random.random::<u32>()) >> random.random_range(0..32),
                flush_devices: random.random::<u32>().into(),
            }
        }

        fn record(self) -> VdEntry {
            VdEntry {
                size_blocks: self.size.to_bits(),
                status: u64::from(self.status).to_bits(),
                block_shift: u64::from(self.block_shift).to_bits(),
                allocation_shift: u64::from(self.allocation_shift).to_bits(),
                map_root: self.root.to_bits(),
                flush_devices: self.flush_devices.to_bits(),
                ..Default::default()
            }
        }
    }

    /// What admission owes a command.
    fn model(
        command: &ClientCommand,
        disk: Option<Disk>,
        slot: u64,
    ) -> (AdmittedPlan, Option<AllocationLookup>) {
        let opcode = command.opcode.to_u64() as u8;
        let (lba, blocks) = (command.lba.to_u64(), command.blocks.to_u64());
        let d = disk.unwrap_or(Disk {
            size: 0,
            status: 0,
            block_shift: 0,
            allocation_shift: 0,
            root: 0,
            flush_devices: 0,
        });
        let mut plan = AdmittedPlan {
            part: (slot | 1 << 15).to_bits(),
            opcode: command.opcode,
            prp1: command.prp1,
            prp2: command.prp2,
            blocks: command.blocks,
            block_shift: u64::from(d.block_shift).to_bits(),
            deallocate: command.deallocate,
            force_unit_access: command.force_unit_access,
            limited_retry: command.limited_retry,
            cdw13: command.cdw13,
            allocation_shift: u64::from(d.allocation_shift).to_bits(),
            unmapped: 1u64.to_bits(),
            ..Default::default()
        };
        let prps = transfer(opcode, blocks, command.prp1.to_u64(), command.prp2.to_u64(), d.block_shift);
        let refusal = if command.refusal.any() {
            command.refusal.to_u64() as u16
        } else if d.status == vd_status::ABSENT {
            status::INVALID_NAMESPACE
        } else if d.status != vd_status::ENABLED {
            status::NAMESPACE_NOT_READY
        } else if opcode == opcode::FLUSH {
            plan.flush_devices = d.flush_devices.to_bits();
            plan.trivial = command.trivial;
            return (plan, None);
        } else if command.trivial.any() {
            plan.trivial = 1u64.to_bits();
            return (plan, None);
        } else if prps != status::SUCCESS {
            prps
        } else if u128::from(lba) + u128::from(blocks) > d.size.into() {
            status::LBA_OUT_OF_RANGE
        } else if d.allocation_shift > 32 {
            status::INTERNAL_ERROR
        } else {
            let size = 1u64 << d.allocation_shift;
            let first = blocks.min(size - lba % size);
            plan.unmapped = 0u64.to_bits();
            plan.first_blocks = first.to_bits();
            plan.crosses = u64::from(blocks > first).to_bits();
            let lookup = AllocationLookup {
                index: (d.root + lba / size).min(u32::MAX.into()).to_bits(),
                offset: (lba % size).to_bits(),
                rest: (blocks - first).to_bits(),
                allocation_shift: u64::from(d.allocation_shift).to_bits(),
            };
            return (plan, Some(lookup));
        };
        plan.refusal = u64::from(refusal).to_bits();
        (plan, None)
    }

    fn random_command(random: &mut ChaCha8Rng, disks: &[Disk]) -> ClientCommand {
        let handle = random.random_range(0..disks.len());
        let disk = disks[handle];
        let opcodes =
            [opcode::READ, opcode::WRITE, opcode::FLUSH, opcode::WRITE_ZEROES, opcode::DATASET_MANAGEMENT];
        let opcode = opcodes[random.random_range(0..5)];
        let blocks = if random.random_bool(0.1) {
            random.random_range(1..=65_536)
        } else {
            random.random_range(1..=(1u64 << 20 >> disk.block_shift))
        };
        let space = disk.size.saturating_sub(blocks);
        let lba = match random.random_range(0..10) {
            0 => space + 1,
            1 => space,
            2 => random.random(),
            3 => u64::MAX - random.random_range(0..65_536),
            4 => (space >> disk.allocation_shift << disk.allocation_shift).saturating_sub(blocks / 2),
            _ => random.random_range(0..=space),
        };
        let namespace = match random.random_range(0..20) {
            0 => 0,
            1 => disks.len() as u64 + 1,
            2 => random.random::<u32>().into(),
            _ => handle as u64 + 1,
        };
        let low = [0, 0, 4, 2048, random.random_range(0..4096)][random.random_range(0..5)];
        ClientCommand {
            queue: random.random_range(0..256u64).to_bits(),
            command_id: random.random_range(0..65_536u64).to_bits(),
            opcode: u64::from(opcode).to_bits(),
            namespace_id: namespace.to_bits(),
            prp1: ((random.random::<u64>() << 12) | low).to_bits(),
            prp2: ((random.random::<u64>() << 12) | [0, 0, 0, 8, 4][random.random_range(0..5)]).to_bits(),
            lba: lba.to_bits(),
            blocks: blocks.to_bits(),
            deallocate: random.random_range(0..2u64).to_bits(),
            force_unit_access: random.random_range(0..2u64).to_bits(),
            limited_retry: random.random_range(0..2u64).to_bits(),
            cdw13: u64::from(random.random::<u32>()).to_bits(),
            refusal: u64::from(if random.random_bool(0.05) { status::INVALID_OPCODE } else { 0 }).to_bits(),
            trivial: u64::from(random.random_bool(0.05)).to_bits(),
            ..Default::default()
        }
    }

    /// Accesses an entry of the table and waits for the acknowledge.
    fn access(bench: &mut Bench, write: bool, index: usize, disk: VdEntry) -> VdEntry {
        bench.set("table_valid", 1);
        let request = TableRequest {
            write: u64::from(write).to_bits(),
            table: u64::from(table::VD).to_bits(),
            index: (index as u64).to_bits(),
            data: disk.into(),
        };
        bench.set_record::<305>("table_request", request);
        for _ in 0..32 {
            bench.cycle();
            bench.set("table_valid", 0);
            if bench.get("table_ack") == 1 {
                return bench.get_record::<256, _>("table_data");
            }
        }
        panic!("entry {index}: no acknowledge");
    }

    fn check(vd_bits: usize, stalls: f64) {
        let sizes = Sizes { vd_bits, ..Sizes::DEFAULT };
        let mut bench = Bench::new(&format!("admission_{vd_bits}"), Admission::new(&sizes));
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let mut seen = BTreeMap::<u64, u64>::new();
        let mut mapped = 0;
        let (mut slots, mut offered_slot) = (VecDeque::new(), None);
        for _ in 0..20 {
            let disks: Vec<Disk> = (0..1 << vd_bits).map(|_| Disk::random(&mut random)).collect();
            for (i, disk) in disks.iter().enumerate() {
                access(&mut bench, true, i, disk.record());
            }
            let chosen = random.random_range(0..disks.len());
            assert_eq!(access(&mut bench, false, chosen, VdEntry::default()), disks[chosen].record());
            let (mut plans, mut lookups, mut owners) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
            let mut command = None;
            let mut given = 0;
            let mut cycles = 0;
            while given < 300 || !(plans.is_empty() && lookups.is_empty()) {
                cycles += 1;
                assert!(cycles < 20_000, "{} plans owed", plans.len());
                if command.is_none() && given < 300 && random.random_bool(1.0 - stalls) {
                    command = Some(random_command(&mut random, &disks));
                }
                if offered_slot.is_none() && random.random_bool(1.0 - stalls) {
                    offered_slot = Some(random.random_range(0..4096u64));
                }
                // A reader of the table takes its cycles without harm.
                bench.set("table_valid", random.random_bool(stalls / 8.0).into());
                bench.set_record::<305>(
                    "table_request",
                    TableRequest { table: u64::from(table::VD).to_bits(), ..Default::default() },
                );
                bench.set("command$valid", command.is_some().into());
                bench.set_record::<329>("command$data", command.unwrap_or_default());
                bench.set("slot$valid", offered_slot.is_some().into());
                bench.set("slot$data", offered_slot.unwrap_or(0).into());
                let hold = random.random_bool(stalls / 4.0);
                bench.set("hold", hold.into());
                let (plan_ready, lookup_ready) =
                    (random.random_bool(1.0 - stalls), random.random_bool(1.0 - stalls));
                bench.set("plan$ready", plan_ready.into());
                bench.set("lookup$ready", lookup_ready.into());
                bench.eval();
                if plan_ready && bench.get("plan$valid") == 1 {
                    let plan: AdmittedPlan = bench.get_record::<324, _>("plan$data");
                    assert_eq!(Some(plan), plans.pop_front());
                    *seen.entry(plan.refusal.to_u64()).or_insert(0) += 1;
                }
                if lookup_ready && bench.get("lookup$valid") == 1 {
                    assert_eq!(
                        Some(bench.get_record::<89, AllocationLookup>("lookup$data")),
                        lookups.pop_front()
                    );
                    mapped += 1;
                }
                if bench.get("owner_valid") == 1 {
                    let owner: SlotOwner = bench.get_record::<41, _>("owner");
                    assert_eq!(Some((bench.get("owner_slot") as u64, owner)), owners.pop_front());
                }
                let counted = (bench.get("counted_valid") == 1).then(|| bench.get("counted_slot") as u64);
                let begun = (bench.get("owner_valid") == 1).then(|| bench.get("owner_slot") as u64);
                assert_eq!(counted, begun, "every one that is looked up");
                assert!(!hold || bench.get("command$ready") == 0);
                if offered_slot.is_some() && bench.get("slot$ready") == 1 {
                    slots.extend(offered_slot.take());
                }
                if let Some(c) = command.filter(|_| bench.get("command$ready") == 1) {
                    let slot = slots.pop_front().expect("a command takes a slot that was given");
                    let namespace = c.namespace_id.to_u64() as usize;
                    let disk = namespace.checked_sub(1).and_then(|handle| disks.get(handle)).copied();
                    let (plan, lookup) = model(&c, disk, slot);
                    plans.push_back(plan);
                    lookups.extend(lookup);
                    let owner = SlotOwner {
                        queue: c.queue,
                        command_id: c.command_id,
                        namespace: (c.namespace_id.to_u64() & 0xFFFF).to_bits(),
                        named: u64::from(disk.is_some()).to_bits(),
                    };
                    owners.push_back((slot, owner));
                    command = None;
                    given += 1;
                }
                bench.cycle();
            }
            assert!(owners.is_empty());
            bench.set("table_valid", 0);
            for _ in 0..8 {
                bench.cycle();
            }
            assert_eq!(bench.get("idle"), 1);
            if stalls == 0.0 {
                assert!(cycles <= 2 * 300 + 20, "300 commands took {cycles} cycles");
            }
        }
        assert!(seen.len() == 8 && mapped > 500, "{seen:?}, {mapped} mapped");
    }

    #[test]
    fn admits_and_refuses_as_the_rules_say() {
        check(3, 0.4);
        check(3, 0.0);
        check(5, 0.1);
    }
}
