//! Keeps commands in their rings while their queue, their disk or all together hold as many plan slots as they may.
//!
//! A valve before admission. A command passes if there is a slot for it within its queue's quota (`QueueEntry::slots`),
//! its disk's (table `QUOTA`), and beside those in reserve, which only queues with `QueueEntry::reserve` may take. Else
//! it goes back to its ring (`returned`) and its queue is `shut`: what was fetched behind it goes back too, and the
//! scheduler of fetches leaves the queue alone. When a slot of what it waited for is free, the queue is `woken` and
//! listed (`awaken_valid` until `awaken_taken`); once all that was fetched of it has passed or is back, the scheduler
//! says `reopened`. A queue that was shut is `careful`, that is fetched from a burst at a time, until it passes with room
//! for all that could be on its way. Those woken together (`SlotWakes`) are listed in turns, beginning behind the last
//! careful one that passed.
//!
//! `passed_valid` tells of each command that passes, `returned_valid` of each that does not, one cycle after it is
//! decided; `told_room` keeps room for two more. `ended` is the owner of a slot that is free again; `restarted` has
//! the bits of queues that begin anew. Owner of the table `QUOTA`; hears writes of `QUEUE`.
//!
//! Latency: 4 cycles from `command` to `out`; what `SlotWakes` is told 5 after `ended`, of the pool in the same
//! cycle. Throughput: a command every 2 cycles. Ordering: as they came. Reset drops commands, counts and quotas, and
//! takes none for 2^`vd_bits` cycles. `idle` comes a cycle late and goes with the input that ends it.

use rust_hdl::prelude::*;
use volplane_abi::table;

use super::slot_counts::{SlotCounts, SCARCE};
use super::slot_wakes::SlotWakes;
use crate::prim::fifo::Fifo;
use crate::prim::ram::LutRam;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{ClientCommand, QueueEntry, QuotaEntry, SlotOwner, TableRequest};
use crate::sizes::Sizes;

/// Slots below a bound, so many are told as free: those that pass meanwhile are not seen.
const UNSEEN: u64 = 4;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct SlotQuotas {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub command: StreamIn<ClientCommand>,
    pub out: StreamOut<ClientCommand>,
    pub told_room: Signal<In, bool>,
    pub passed_valid: Signal<Out, bool>,
    pub passed_queue: Signal<Out, Bits<8>>,
    pub returned_valid: Signal<Out, bool>,
    pub returned_queue: Signal<Out, Bits<8>>,
    pub shut: Signal<Out, Bits<32>>,
    pub woken: Signal<Out, Bits<32>>,
    pub careful: Signal<Out, Bits<32>>,
    pub reopened: Signal<In, Bits<32>>,
    pub restarted: Signal<In, Bits<32>>,
    pub awaken_valid: Signal<Out, bool>,
    pub awaken_queue: Signal<Out, Bits<8>>,
    pub awaken_taken: Signal<In, bool>,
    pub ended_valid: Signal<In, bool>,
    pub ended: Signal<In, SlotOwner>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    pub table_ack: Signal<Out, bool>,
    pub table_data: Signal<Out, Bits<256>>,
    pub idle: Signal<Out, bool>,

    queues: SlotCounts,
    disks: SlotCounts,
    commands: Fifo<ClientCommand>,
    verdicts: Fifo<Bits<1>>,
    wakes: SlotWakes,
    quotas: LutRam<Bits<16>>,
    takes: DFF<bool>,
    // A command, a cycle a digit.
    valid1: DFF<bool>,
    valid2: DFF<bool>,
    valid3: DFF<bool>,
    queue1: DFF<Bits<8>>,
    queue2: DFF<Bits<8>>,
    queue3: DFF<Bits<8>>,
    namespace1: DFF<Bits<32>>,
    disk2: DFF<Bits<5>>,
    disk3: DFF<Bits<5>>,
    named2: DFF<bool>,
    named3: DFF<bool>,
    bit2: DFF<Bits<32>>,
    bit3: DFF<Bits<32>>,
    shut3: DFF<bool>,
    careful3: DFF<bool>,
    reserve3: DFF<bool>,
    full3: DFF<bool>,
    all_full3: DFF<bool>,
    scarce3: DFF<bool>,
    /// Slots that are held.
    used: DFF<Bits<13>>,
    nearly_full: DFF<bool>,
    shut_queues: DFF<Bits<32>>,
    woken_queues: DFF<Bits<32>>,
    careful_queues: DFF<Bits<32>>,
    /// Those that may take slots in reserve.
    reserves: DFF<Bits<32>>,
    passed_register: DFF<bool>,
    returned_register: DFF<bool>,
    told_queue: DFF<Bits<8>>,
    /// The queue whose turn it is.
    first: DFF<Bits<5>>,
    // A table's access.
    access: DFF<bool>,
    is_quota: DFF<bool>,
    is_queue: DFF<bool>,
    is_inside: DFF<bool>,
    is_write: DFF<bool>,
    table_index: DFF<Bits<16>>,
    queue_bit: DFF<Bits<32>>,
    entry_slots: DFF<Bits<16>>,
    entry_reserve: DFF<bool>,
    queue_slots: DFF<Bits<16>>,
    queue_index: DFF<Bits<16>>,
    queue_write: DFF<bool>,
    answer_valid: DFF<bool>,
    answer: DFF<Bits<256>>,
    // For `idle`.
    rests: DFF<bool>,
    came: DFF<bool>,

    accepted: Signal<Local, bool>,
    offered: Signal<Local, ClientCommand>,
    queue_short: Signal<Local, Bits<5>>,
    above: Signal<Local, Bits<32>>,
    topmost: Signal<Local, Bits<32>>,
    low: Signal<Local, Bits<32>>,
    pool_over: Signal<Local, bool>,
    disk_over: Signal<Local, bool>,
    passes: Signal<Local, bool>,
    returns: Signal<Local, bool>,
    scarce: Signal<Local, bool>,
    goes: Signal<Local, bool>,
    drops: Signal<Local, bool>,
    shutting: Signal<Local, Bits<32>>,
    easing: Signal<Local, Bits<32>>,
    opening: Signal<Local, Bits<32>>,
    request_data: Signal<Local, Bits<256>>,
    queue_entry: Signal<Local, QueueEntry>,
    quota_entry: Signal<Local, QuotaEntry>,
    shown: Signal<Local, QuotaEntry>,
    shown_bits: Signal<Local, Bits<32>>,
    index_short: Signal<Local, Bits<5>>,
    quota_number: Constant<Bits<16>>,
    queue_number: Constant<Bits<16>>,
    quota_count: Constant<Bits<32>>,
    queue_count: Constant<Bits<32>>,
    high_mask: Constant<Bits<32>>,
    low_mask: Constant<Bits<32>>,
    most: Constant<Bits<13>>,
    most_clients: Constant<Bits<13>>,
    nearly: Constant<Bits<13>>,
    few: Constant<Bits<13>>,
    one13: Constant<Bits<13>>,
    zero13: Constant<Bits<13>>,
    one32: Constant<Bits<32>>,
    zero32: Constant<Bits<32>>,
    one16: Constant<Bits<16>>,
    zero16: Constant<Bits<16>>,
    one5: Constant<Bits<5>>,
    zero5: Constant<Bits<5>>,
    zero256: Constant<Bits<256>>,
    flag: Constant<Bits<1>>,
    clear: Constant<Bits<1>>,
}

impl SlotQuotas {
    /// For the queues, disks and slots of a build.
    pub fn new(sizes: &Sizes) -> Self {
        let slots = 1u64 << sizes.slot_bits;
        let clients = slots - sizes.reserved_slots();
        Self {
            clock: Default::default(),
            reset: Default::default(),
            command: Default::default(),
            out: Default::default(),
            told_room: Default::default(),
            passed_valid: Default::default(),
            passed_queue: Default::default(),
            returned_valid: Default::default(),
            returned_queue: Default::default(),
            shut: Default::default(),
            woken: Default::default(),
            careful: Default::default(),
            reopened: Default::default(),
            restarted: Default::default(),
            awaken_valid: Default::default(),
            awaken_queue: Default::default(),
            awaken_taken: Default::default(),
            ended_valid: Default::default(),
            ended: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            table_ack: Default::default(),
            table_data: Default::default(),
            idle: Default::default(),
            queues: SlotCounts::new(sizes, sizes.queue_bits),
            disks: SlotCounts::new(sizes, sizes.vd_bits),
            commands: Fifo::quick(3, 4),
            verdicts: Fifo::quick(3, 4),
            wakes: Default::default(),
            quotas: LutRam::new(sizes.vd_bits),
            takes: Default::default(),
            valid1: Default::default(),
            valid2: Default::default(),
            valid3: Default::default(),
            queue1: Default::default(),
            queue2: Default::default(),
            queue3: Default::default(),
            namespace1: Default::default(),
            disk2: Default::default(),
            disk3: Default::default(),
            named2: Default::default(),
            named3: Default::default(),
            bit2: Default::default(),
            bit3: Default::default(),
            shut3: Default::default(),
            careful3: Default::default(),
            reserve3: Default::default(),
            full3: Default::default(),
            all_full3: Default::default(),
            scarce3: Default::default(),
            used: Default::default(),
            nearly_full: Default::default(),
            shut_queues: Default::default(),
            woken_queues: Default::default(),
            careful_queues: Default::default(),
            reserves: Default::default(),
            passed_register: Default::default(),
            returned_register: Default::default(),
            told_queue: Default::default(),
            first: Default::default(),
            access: Default::default(),
            is_quota: Default::default(),
            is_queue: Default::default(),
            is_inside: Default::default(),
            is_write: Default::default(),
            table_index: Default::default(),
            queue_bit: Default::default(),
            entry_slots: Default::default(),
            entry_reserve: Default::default(),
            queue_slots: Default::default(),
            queue_index: Default::default(),
            queue_write: Default::default(),
            answer_valid: Default::default(),
            answer: Default::default(),
            rests: Default::default(),
            came: Default::default(),
            accepted: Default::default(),
            offered: Default::default(),
            queue_short: Default::default(),
            above: Default::default(),
            topmost: Default::default(),
            low: Default::default(),
            pool_over: Default::default(),
            disk_over: Default::default(),
            passes: Default::default(),
            returns: Default::default(),
            scarce: Default::default(),
            goes: Default::default(),
            drops: Default::default(),
            shutting: Default::default(),
            easing: Default::default(),
            opening: Default::default(),
            request_data: Default::default(),
            queue_entry: Default::default(),
            quota_entry: Default::default(),
            shown: Default::default(),
            shown_bits: Default::default(),
            index_short: Default::default(),
            quota_number: Constant::new((table::QUOTA as u64).to_bits()),
            queue_number: Constant::new((table::QUEUE as u64).to_bits()),
            quota_count: Constant::new((1u64 << sizes.vd_bits).to_bits()),
            queue_count: Constant::new((1u64 << sizes.queue_bits).to_bits()),
            high_mask: Constant::new((!((2u32 << sizes.vd_bits) - 1) as u64).to_bits()),
            low_mask: Constant::new(((1u64 << sizes.vd_bits) - 1).to_bits()),
            most: Constant::new(slots.to_bits()),
            most_clients: Constant::new(clients.to_bits()),
            nearly: Constant::new(clients.saturating_sub(UNSEEN).max(1).to_bits()),
            few: Constant::new(clients.saturating_sub(SCARCE).max(1).to_bits()),
            one13: Constant::new(1u64.to_bits()),
            zero13: Constant::new(0u64.to_bits()),
            one32: Constant::new(1u64.to_bits()),
            zero32: Constant::new(0u64.to_bits()),
            one16: Constant::new(1u64.to_bits()),
            zero16: Constant::new(0u64.to_bits()),
            one5: Constant::new(1u64.to_bits()),
            zero5: Constant::new(0u64.to_bits()),
            zero256: Constant::new(0u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
            clear: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for SlotQuotas {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self, clock, takes, valid1, valid2, valid3, queue1, queue2, queue3, namespace1, disk2, disk3
        );
        dff_setup!(self, clock, named2, named3, bit2, bit3, shut3, careful3, reserve3, full3, all_full3);
        dff_setup!(self, clock, scarce3, used, nearly_full, shut_queues, woken_queues, careful_queues);
        dff_setup!(self, clock, reserves, passed_register, returned_register, told_queue, first, access);
        dff_setup!(self, clock, is_quota, is_queue, is_inside, is_write, table_index, queue_bit, entry_slots);
        dff_setup!(self, clock, entry_reserve, queue_slots, queue_index, queue_write, answer_valid, answer);
        dff_setup!(self, clock, rests, came);
        clock!(self, clock, queues, disks, commands, verdicts, wakes, quotas);
        self.wakes.reset.next = self.reset.val();
        self.queues.reset.next = self.reset.val();
        self.disks.reset.next = self.reset.val();
        self.commands.reset.next = self.reset.val();
        self.verdicts.reset.next = self.reset.val();

        // A command is taken, every second cycle at most, and looked at in the three that follow.
        self.accepted.next = self.command.valid.val() & self.takes.q.val();
        self.takes.d.next = !self.accepted.val()
            & self.commands.room.val()
            & self.told_room.val()
            & self.queues.initialised.val()
            & self.disks.initialised.val();
        self.command.ready.next = self.takes.q.val();
        self.offered.next = self.command.data.val();
        self.commands.push.next = self.accepted.val();
        self.commands.data.next = self.offered.val();
        self.queues.look.next = self.accepted.val();
        self.queues.index.next = bit_cast::<16, 8>(self.offered.val().queue);
        self.disks.look.next = self.accepted.val();
        self.disks.index.next = bit_cast::<16, 32>(self.offered.val().namespace_id);
        self.valid1.d.next = self.accepted.val();
        self.queue1.d.next = self.offered.val().queue;
        self.namespace1.d.next = self.offered.val().namespace_id;
        self.valid2.d.next = self.valid1.q.val();
        self.queue2.d.next = self.queue1.q.val();
        self.queue_short.next = bit_cast::<5, 8>(self.queue1.q.val());
        self.bit2.d.next = (self.one32.val() << bit_cast::<32, 5>(self.queue_short.val()));
        // Disks are named from 1 on.
        self.above.next = self.namespace1.q.val() & self.high_mask.val();
        self.topmost.next = self.namespace1.q.val() & !(self.high_mask.val() | self.low_mask.val());
        self.low.next = self.namespace1.q.val() & self.low_mask.val();
        self.disk2.d.next = bit_cast::<5, 32>(self.low.val());
        self.named2.d.next = !self.above.val().any() & (self.topmost.val().any() != self.low.val().any());
        self.valid3.d.next = self.valid2.q.val();
        self.queue3.d.next = self.queue2.q.val();
        self.disk3.d.next = self.disk2.q.val();
        self.named3.d.next = self.named2.q.val();
        self.bit3.d.next = self.bit2.q.val();
        self.shut3.d.next = (self.shut_queues.q.val() & self.bit2.q.val()).any();
        self.careful3.d.next = (self.careful_queues.q.val() & self.bit2.q.val()).any();
        self.reserve3.d.next = (self.reserves.q.val() & self.bit2.q.val()).any();
        self.full3.d.next = (self.used.q.val() >= self.most_clients.val());
        self.all_full3.d.next = (self.used.q.val() >= self.most.val());
        self.scarce3.d.next = (self.used.q.val() >= self.few.val());

        // Decided.
        self.pool_over.next = self.all_full3.q.val() | (self.full3.q.val() & !self.reserve3.q.val());
        self.disk_over.next = self.disks.over.val() & self.named3.q.val();
        self.passes.next = self.valid3.q.val()
            & !self.shut3.q.val()
            & !self.pool_over.val()
            & !self.disk_over.val()
            & !self.queues.over.val();
        self.returns.next = self.valid3.q.val() & !self.passes.val();
        self.scarce.next =
            self.scarce3.q.val() | self.queues.scarce.val() | (self.disks.scarce.val() & self.named3.q.val());
        self.queues.take.next = self.passes.val();
        self.disks.take.next = self.passes.val() & self.named3.q.val();
        self.verdicts.push.next = self.valid3.q.val();
        self.verdicts.data.next = self.clear.val();
        if self.passes.val() {
            self.verdicts.data.next = self.flag.val();
        }
        self.passed_register.d.next = self.passes.val();
        self.returned_register.d.next = self.returns.val();
        self.told_queue.d.next = self.queue3.q.val();
        self.passed_valid.next = self.passed_register.q.val();
        self.passed_queue.next = self.told_queue.q.val();
        self.returned_valid.next = self.returned_register.q.val();
        self.returned_queue.next = self.told_queue.q.val();
        self.wakes.waits_valid.next = self.returns.val() & !self.shut3.q.val();
        self.wakes.waits_queue.next = self.queue3.q.val();
        self.wakes.waits_for.next.disk = self.disk3.q.val();
        self.wakes.waits_for.next.of_disk = self.clear.val();
        self.wakes.waits_for.next.of_queue = self.clear.val();
        if !self.pool_over.val() {
            if self.queues.over.val() {
                self.wakes.waits_for.next.of_queue = self.flag.val();
            } else {
                self.wakes.waits_for.next.of_disk = self.flag.val();
            }
        }
        if self.passes.val() & self.careful3.q.val() {
            self.first.d.next = bit_cast::<5, 8>(self.queue3.q.val()) + self.one5.val();
        }
        self.goes.next = (self.verdicts.out.data.val() == self.flag.val());
        self.out.valid.next = self.commands.out.valid.val() & self.verdicts.out.valid.val() & self.goes.val();
        self.out.data.next = self.commands.out.data.val();
        self.drops.next = self.out.ready.val() | !self.goes.val();
        self.commands.out.ready.next = self.verdicts.out.valid.val() & self.drops.val();
        self.verdicts.out.ready.next = self.commands.out.valid.val() & self.drops.val();

        // Slots in use, and those that are free again.
        if self.passes.val() & !self.ended_valid.val() {
            self.used.d.next = self.used.q.val() + self.one13.val();
        }
        if self.ended_valid.val() & !self.passes.val() {
            self.used.d.next = self.used.q.val() - self.one13.val();
        }
        self.nearly_full.d.next = (self.used.q.val() >= self.nearly.val());
        self.queues.ended.next = self.ended_valid.val();
        self.queues.ended_index.next = bit_cast::<16, 8>(self.ended.val().queue);
        self.disks.ended.next = self.ended_valid.val() & (self.ended.val().named == self.flag.val());
        self.disks.ended_index.next = self.ended.val().namespace;
        self.wakes.freed_disk_valid.next = self.disks.freed.val();
        self.wakes.freed_disk.next = self.disks.freed_index.val();
        self.wakes.freed_queue_valid.next = self.queues.freed.val();
        self.wakes.freed_queue.next = self.queues.freed_index.val();
        self.wakes.freed_any.next = self.ended_valid.val() & self.nearly_full.q.val();
        self.wakes.shut.next = self.shut_queues.q.val();
        self.wakes.first.next = self.first.q.val();
        self.awaken_valid.next = self.wakes.awaken_valid.val();
        self.awaken_queue.next = self.wakes.awaken_queue.val();
        self.wakes.awaken_taken.next = self.awaken_taken.val();
        self.shutting.next = self.zero32.val();
        if self.returns.val() {
            self.shutting.next = self.bit3.q.val();
        }
        self.easing.next = self.zero32.val();
        if self.passes.val() & !self.scarce.val() {
            self.easing.next = self.bit3.q.val();
        }
        self.opening.next = self.reopened.val() | self.restarted.val();
        self.shut_queues.d.next = ((self.shut_queues.q.val() & (!self.opening.val())) | self.shutting.val());
        self.woken_queues.d.next =
            ((self.woken_queues.q.val() | self.wakes.waking.val()) & (!self.opening.val()));
        self.careful_queues.d.next =
            ((self.careful_queues.q.val() & (!self.easing.val()) & (!self.restarted.val()))
                | self.shutting.val());
        self.shut.next = self.shut_queues.q.val();
        self.woken.next = self.woken_queues.q.val();
        self.careful.next = self.careful_queues.q.val();

        // Tables. The request stays as it is until it is answered.
        self.access.d.next = self.table_valid.val();
        self.is_quota.d.next = (self.table_request.val().table == self.quota_number.val())
            & (self.table_request.val().index < self.quota_count.val());
        self.is_queue.d.next = (self.table_request.val().table == self.queue_number.val());
        self.is_inside.d.next = (self.table_request.val().index < self.queue_count.val());
        self.is_write.d.next = (self.table_request.val().write == self.flag.val());
        self.table_index.d.next = bit_cast::<16, 32>(self.table_request.val().index);
        self.index_short.next = bit_cast::<5, 32>(self.table_request.val().index);
        self.queue_bit.d.next = (self.one32.val() << bit_cast::<32, 5>(self.index_short.val()));
        self.request_data.next = self.table_request.val().data;
        self.queue_entry.next = self.table_request.val().data.into();
        self.quota_entry.next = bit_cast::<32, 256>(self.request_data.val()).into();
        self.entry_slots.d.next = self.quota_entry.val().slots;
        self.entry_reserve.d.next = (self.queue_entry.val().reserve == self.flag.val());
        self.queue_slots.d.next = self.queue_entry.val().slots;
        self.queue_write.d.next = self.access.q.val()
            & self.is_queue.q.val()
            & self.is_inside.q.val()
            & self.is_write.q.val()
            & self.table_index.q.val().any();
        self.queue_index.d.next = self.table_index.q.val();
        if self.queue_write.q.val() {
            self.reserves.d.next = (self.reserves.q.val() & (!self.queue_bit.q.val()));
            if self.entry_reserve.q.val() {
                self.reserves.d.next = self.reserves.q.val() | self.queue_bit.q.val();
            }
        }
        self.queues.limit_write.next = self.queue_write.q.val();
        self.queues.limit_index.next = self.queue_index.q.val();
        self.queues.limit.next = self.queue_slots.q.val();
        // Counted by namespace, which is one more than the handle.
        self.disks.limit_write.next = self.access.q.val() & self.is_quota.q.val() & self.is_write.q.val();
        self.disks.limit_index.next = self.table_index.q.val() + self.one16.val();
        self.disks.limit.next = self.entry_slots.q.val();
        self.quotas.write.next = self.disks.limit_write.val();
        self.quotas.write_address.next = self.table_index.q.val();
        self.quotas.write_data.next = self.entry_slots.q.val();
        if !self.disks.initialised.val() {
            self.quotas.write.next = true;
            self.quotas.write_address.next = self.disks.walked.val();
            self.quotas.write_data.next = self.zero16.val();
        }
        self.quotas.read_address.next = self.table_index.q.val();
        self.answer_valid.d.next = self.access.q.val() & self.is_quota.q.val();
        self.shown.next.slots = self.quotas.read_data.val();
        self.shown.next.reserved = self.zero16.val();
        self.shown_bits.next = self.shown.val().into();
        self.table_ack.next = self.answer_valid.q.val();
        self.table_data.next = self.zero256.val();
        if self.answer_valid.q.val() & !self.is_write.q.val() {
            self.table_data.next = bit_cast::<256, 32>(self.shown_bits.val());
        }

        self.came.d.next = self.command.valid.val() | self.ended_valid.val() | self.table_valid.val();
        self.rests.d.next = self.queues.idle.val()
            & self.disks.idle.val()
            & self.commands.empty.val()
            & !self.valid1.q.val()
            & !self.valid2.q.val()
            & !self.valid3.q.val()
            & !self.access.q.val()
            & !self.queue_write.q.val()
            & self.wakes.idle.val();
        self.idle.next = self.rests.q.val() & !self.came.q.val();

        if self.reset.val() {
            self.takes.d.next = false;
            self.valid1.d.next = false;
            self.valid2.d.next = false;
            self.valid3.d.next = false;
            self.used.d.next = self.zero13.val();
            self.shut_queues.d.next = self.zero32.val();
            self.woken_queues.d.next = self.zero32.val();
            self.careful_queues.d.next = self.zero32.val();
            self.reserves.d.next = self.zero32.val();
            self.passed_register.d.next = false;
            self.returned_register.d.next = false;
            self.first.d.next = self.zero5.val();
            self.access.d.next = false;
            self.queue_write.d.next = false;
            self.answer_valid.d.next = false;
            self.rests.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests;
