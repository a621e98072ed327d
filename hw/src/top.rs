//! The card's core: wires, no logic of its own beyond gathering acknowledgements and idleness.
//!
//! Bridges stand beside it, never inside. Interfaces: AXI4-Lite slave `bar0_*`, AXI4 master `m_*`, AXI4 slave
//! `bar2_*`, `irq`, `tick`, `ticks`, `timing`, `idle` (see `docs/architecture.md`). `trace_*` shows tests what
//! becomes of plans; a board leaves it open, and synthesis drops it.

use rust_hdl::prelude::*;

use crate::control::executor::ControlExecutor;
use crate::control::idle_gather::IdleGather;
use crate::exec::again_queue::AgainQueue;
use crate::exec::collector::Collector;
use crate::exec::command_store::CommandStore;
use crate::exec::epochs::Epochs;
use crate::exec::part_retry::PartRetry;
use crate::exec::plan_judge::PlanJudge;
use crate::exec::plan_list::PlanList;
use crate::exec::plan_slots::PlanSlots;
use crate::exec::plan_stops::PlanStops;
use crate::exec::record_writer::RecordWriter;
use crate::host::bar0::Bar0;
use crate::host::completion_writer::CompletionWriter;
use crate::host::entry_assembler::EntryAssembler;
use crate::host::msix::MsiX;
use crate::host::queue_pairs::QueuePairs;
use crate::host::range_fetch::RangeFetch;
use crate::host::read_master::ReadMaster;
use crate::host::registers::Registers;
use crate::host::reset_sequence::ResetSequence;
use crate::host::slot_quotas::SlotQuotas;
use crate::host::write_master::WriteMaster;
use crate::host::zero_filler::ZeroFiller;
use crate::nvme::completion_filter::CompletionFilter;
use crate::nvme::completion_poller::CompletionPoller;
use crate::nvme::completion_window::CompletionWindow;
use crate::nvme::deadlines::Deadlines;
use crate::nvme::fragment_ids::{FragmentId, FragmentIds};
use crate::nvme::path_doorbells::PathDoorbells;
use crate::nvme::path_returns::PathReturns;
use crate::nvme::submission::Submission;
use crate::prim::choice::Choice;
use crate::prim::merge::Merge;
use crate::prim::priority::Priority;
use crate::prim::stream::StreamOut;
use crate::records::*;
use crate::sizes::Sizes;
use crate::virt::admission::Admission;
use crate::virt::command_judge::AllocationLookup;
use crate::virt::fragment_builder::FragmentBuilder;
use crate::virt::mapper::Mapper;
use crate::virt::range_lock::RangeLock;

/// The core. `W` is the data width in bits, `B` in bytes.
#[derive(Clone, Debug, LogicBlock)]
pub struct Top<const W: usize, const B: usize> {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub tick: Signal<In, bool>,
    /// Ticks since power-up, modulo 2^32.
    pub ticks: Signal<In, Bits<32>>,
    /// A fragment may become overdue: `ticks` matters, though the card is idle.
    pub timing: Signal<Out, bool>,
    pub idle: Signal<Out, bool>,
    pub irq: Signal<Out, Bits<32>>,

    pub bar0_awaddr: Signal<In, Bits<18>>,
    pub bar0_awvalid: Signal<In, bool>,
    pub bar0_awready: Signal<Out, bool>,
    pub bar0_wdata: Signal<In, Bits<32>>,
    pub bar0_wstrb: Signal<In, Bits<4>>,
    pub bar0_wvalid: Signal<In, bool>,
    pub bar0_wready: Signal<Out, bool>,
    pub bar0_bresp: Signal<Out, Bits<2>>,
    pub bar0_bvalid: Signal<Out, bool>,
    pub bar0_bready: Signal<In, bool>,
    pub bar0_araddr: Signal<In, Bits<18>>,
    pub bar0_arvalid: Signal<In, bool>,
    pub bar0_arready: Signal<Out, bool>,
    pub bar0_rdata: Signal<Out, Bits<32>>,
    pub bar0_rresp: Signal<Out, Bits<2>>,
    pub bar0_rvalid: Signal<Out, bool>,
    pub bar0_rready: Signal<In, bool>,

    pub m_awaddr: Signal<Out, Bits<64>>,
    pub m_awlen: Signal<Out, Bits<8>>,
    pub m_awsize: Signal<Out, Bits<3>>,
    pub m_awburst: Signal<Out, Bits<2>>,
    pub m_awvalid: Signal<Out, bool>,
    pub m_awready: Signal<In, bool>,
    pub m_wdata: Signal<Out, Bits<W>>,
    pub m_wstrb: Signal<Out, Bits<B>>,
    pub m_wlast: Signal<Out, bool>,
    pub m_wvalid: Signal<Out, bool>,
    pub m_wready: Signal<In, bool>,
    pub m_bresp: Signal<In, Bits<2>>,
    pub m_bvalid: Signal<In, bool>,
    pub m_bready: Signal<Out, bool>,
    pub m_araddr: Signal<Out, Bits<64>>,
    pub m_arlen: Signal<Out, Bits<8>>,
    pub m_arsize: Signal<Out, Bits<3>>,
    pub m_arburst: Signal<Out, Bits<2>>,
    pub m_arvalid: Signal<Out, bool>,
    pub m_arready: Signal<In, bool>,
    pub m_rdata: Signal<In, Bits<W>>,
    pub m_rresp: Signal<In, Bits<2>>,
    pub m_rlast: Signal<In, bool>,
    pub m_rvalid: Signal<In, bool>,
    pub m_rready: Signal<Out, bool>,

    pub bar2_awaddr: Signal<In, Bits<19>>,
    pub bar2_awlen: Signal<In, Bits<8>>,
    pub bar2_awsize: Signal<In, Bits<3>>,
    pub bar2_awburst: Signal<In, Bits<2>>,
    pub bar2_awvalid: Signal<In, bool>,
    pub bar2_awready: Signal<Out, bool>,
    pub bar2_wdata: Signal<In, Bits<W>>,
    pub bar2_wstrb: Signal<In, Bits<B>>,
    pub bar2_wlast: Signal<In, bool>,
    pub bar2_wvalid: Signal<In, bool>,
    pub bar2_wready: Signal<Out, bool>,
    pub bar2_bresp: Signal<Out, Bits<2>>,
    pub bar2_bvalid: Signal<Out, bool>,
    pub bar2_bready: Signal<In, bool>,
    pub bar2_araddr: Signal<In, Bits<19>>,
    pub bar2_arlen: Signal<In, Bits<8>>,
    pub bar2_arsize: Signal<In, Bits<3>>,
    pub bar2_arburst: Signal<In, Bits<2>>,
    pub bar2_arvalid: Signal<In, bool>,
    pub bar2_arready: Signal<Out, bool>,
    pub bar2_rdata: Signal<Out, Bits<W>>,
    pub bar2_rresp: Signal<Out, Bits<2>>,
    pub bar2_rlast: Signal<Out, bool>,
    pub bar2_rvalid: Signal<Out, bool>,
    pub bar2_rready: Signal<In, bool>,

    // What becomes of plans, for tests: wires that nothing in the core reads.
    pub trace_admitted: Signal<Out, bool>,
    pub trace_admitted_slot: Signal<Out, Bits<12>>,
    pub trace_admitted_queue: Signal<Out, Bits<8>>,
    pub trace_admitted_id: Signal<Out, Bits<16>>,
    pub trace_begun: Signal<Out, bool>,
    pub trace_begun_slot: Signal<Out, Bits<12>>,
    pub trace_begun_disk: Signal<Out, Bits<16>>,
    pub trace_begun_plan: Signal<Out, Bits<16>>,
    pub trace_begun_masks: Signal<Out, Bits<40>>,
    pub trace_begun_present: Signal<Out, Bits<8>>,
    pub trace_begun_readable: Signal<Out, Bits<8>>,
    pub trace_begun_begun: Signal<Out, Bits<8>>,
    pub trace_begun_minimum: Signal<Out, Bits<4>>,
    pub trace_begun_is_read: Signal<Out, Bits<1>>,
    pub trace_held: Signal<Out, bool>,
    pub trace_begun_kept: Signal<Out, Bits<8>>,
    pub trace_again: Signal<Out, bool>,
    pub trace_again_slot: Signal<Out, Bits<12>>,
    pub trace_again_component: Signal<Out, Bits<3>>,
    pub trace_again_fresh: Signal<Out, Bits<1>>,
    pub trace_change: Signal<Out, bool>,
    pub trace_change_slot: Signal<Out, Bits<12>>,
    pub trace_change_disk: Signal<Out, Bits<16>>,
    pub trace_change_out: Signal<Out, Bits<8>>,
    pub trace_change_deactivate: Signal<Out, Bits<1>>,
    pub trace_changed: Signal<Out, bool>,
    pub trace_changed_states: Signal<Out, Bits<16>>,
    pub trace_changed_durably_out: Signal<Out, Bits<8>>,
    pub trace_changed_deactivated: Signal<Out, Bits<1>>,
    pub trace_issued: Signal<Out, bool>,
    pub trace_issued_id: Signal<Out, Bits<16>>,
    pub trace_issued_path: Signal<Out, Bits<8>>,
    pub trace_issued_slot: Signal<Out, Bits<12>>,
    pub trace_issued_component: Signal<Out, Bits<3>>,
    pub trace_issued_ordinal: Signal<Out, Bits<17>>,
    pub trace_part_begun: Signal<Out, bool>,
    pub trace_part_begun_slot: Signal<Out, Bits<12>>,
    pub trace_part_begun_component: Signal<Out, Bits<3>>,
    pub trace_part_begun_retries: Signal<Out, Bits<8>>,
    pub trace_returned: Signal<Out, bool>,
    pub trace_returned_slot: Signal<Out, Bits<12>>,
    pub trace_returned_component: Signal<Out, Bits<3>>,
    pub trace_returned_ordinal: Signal<Out, Bits<17>>,
    pub trace_returned_path: Signal<Out, Bits<8>>,
    pub trace_returned_id: Signal<Out, Bits<16>>,
    pub trace_returned_status: Signal<Out, Bits<15>>,
    pub trace_returned_own: Signal<Out, Bits<1>>,
    pub trace_failed: Signal<Out, bool>,
    pub trace_failed_slot: Signal<Out, Bits<12>>,
    pub trace_failed_component: Signal<Out, Bits<3>>,
    pub trace_failed_status: Signal<Out, Bits<15>>,
    pub trace_failed_path: Signal<Out, Bits<8>>,
    pub trace_failed_ordinal: Signal<Out, Bits<17>>,
    pub trace_failed_closed: Signal<Out, Bits<1>>,
    pub trace_failed_given_up: Signal<Out, Bits<1>>,
    pub trace_retry: Signal<Out, bool>,
    pub trace_retry_slot: Signal<Out, Bits<12>>,
    pub trace_retry_component: Signal<Out, Bits<3>>,
    pub trace_ended: Signal<Out, bool>,
    pub trace_ended_slot: Signal<Out, Bits<12>>,
    pub trace_ended_component: Signal<Out, Bits<3>>,
    pub trace_ended_status: Signal<Out, Bits<15>>,
    pub trace_ended_path: Signal<Out, Bits<8>>,
    pub trace_ended_ordinal: Signal<Out, Bits<17>>,
    pub trace_ended_closed: Signal<Out, Bits<1>>,
    pub trace_ended_given_up: Signal<Out, Bits<1>>,
    pub trace_over: Signal<Out, bool>,
    pub trace_over_slot: Signal<Out, Bits<12>>,
    pub trace_over_component: Signal<Out, Bits<3>>,
    pub trace_done: Signal<Out, bool>,
    pub trace_done_slot: Signal<Out, Bits<12>>,
    pub trace_done_status: Signal<Out, Bits<15>>,

    idle_gather: IdleGather,
    reset_sequence: ResetSequence,
    bar0: Bar0,
    registers: Registers,
    msix: MsiX,
    executor: ControlExecutor,
    epochs: Epochs,
    queue_pairs: QueuePairs,
    assembler: EntryAssembler<W, B>,
    range_fetch: RangeFetch<W, B>,
    slot_quotas: SlotQuotas,
    admission: Admission,
    mapper: Mapper,
    fragment_builder: FragmentBuilder<W>,
    submission: Submission,
    fragment_ids: FragmentIds,
    path_doorbells: PathDoorbells,
    window: CompletionWindow<W, B>,
    poller: CompletionPoller<W, B>,
    filter: CompletionFilter,
    deadlines: Deadlines,
    path_returns: PathReturns,
    plan_slots: PlanSlots,
    collector: Collector,
    part_retry: PartRetry,
    /// What is admitted once more, and what is tried again.
    retries: Merge<Again>,
    plan_stops: PlanStops,
    plan_list: PlanList,
    range_lock: RangeLock,
    command_store: CommandStore,
    /// Plans that go on with a further copy, and writes whose blocks may be free by now.
    again_queue: AgainQueue,
    again: Merge<Again>,
    /// Plans that ended, and those that need no lock any more.
    unlock: Merge<Bits<12>>,
    plan_judge: PlanJudge,
    record_writer: RecordWriter,
    wide_write: Choice<WideWrite>,
    control_raise: Merge<Bits<8>>,
    completion_writer: CompletionWriter,
    zero_filler: ZeroFiller<W>,
    /// Fragments that no SSD had: of closed paths, and of zeros.
    given_back: Merge<Returned>,
    /// Lists are read for fragments of SSDs, else for zeros.
    list_read: Choice<ReadRequest>,
    /// Completion queues are read when there is no fence to be read.
    fence_read: Priority<ReadRequest>,
    read_master: ReadMaster<W, B>,
    write_master: WriteMaster<W, B>,
    failed_taken: Signal<Local, bool>,
    part_taken: Signal<Local, bool>,
    issued_id: Signal<Local, FragmentId>,
    issued_part: Signal<Local, Part>,
    begun_part: Signal<Local, Part>,
    returned_part: Signal<Local, Part>,
    failed_part: Signal<Local, Part>,
    ended_part: Signal<Local, Part>,
    over_part: Signal<Local, Part>,
}

impl<const W: usize, const B: usize> Top<W, B> {
    /// A core of these sizes; `build_hash` is what the identity registers show.
    pub fn new(sizes: &Sizes, build_hash: u64) -> Self {
        assert!([128, 256, 512].contains(&W) && B * 8 == W, "data path of {W} bits, {B} bytes");
        Self {
            clock: Default::default(),
            reset: Default::default(),
            tick: Default::default(),
            ticks: Default::default(),
            timing: Default::default(),
            idle: Default::default(),
            irq: Default::default(),
            bar0_awaddr: Default::default(),
            bar0_awvalid: Default::default(),
            bar0_awready: Default::default(),
            bar0_wdata: Default::default(),
            bar0_wstrb: Default::default(),
            bar0_wvalid: Default::default(),
            bar0_wready: Default::default(),
            bar0_bresp: Default::default(),
            bar0_bvalid: Default::default(),
            bar0_bready: Default::default(),
            bar0_araddr: Default::default(),
            bar0_arvalid: Default::default(),
            bar0_arready: Default::default(),
            bar0_rdata: Default::default(),
            bar0_rresp: Default::default(),
            bar0_rvalid: Default::default(),
            bar0_rready: Default::default(),
            m_awaddr: Default::default(),
            m_awlen: Default::default(),
            m_awsize: Default::default(),
            m_awburst: Default::default(),
            m_awvalid: Default::default(),
            m_awready: Default::default(),
            m_wdata: Default::default(),
            m_wstrb: Default::default(),
            m_wlast: Default::default(),
            m_wvalid: Default::default(),
            m_wready: Default::default(),
            m_bresp: Default::default(),
            m_bvalid: Default::default(),
            m_bready: Default::default(),
            m_araddr: Default::default(),
            m_arlen: Default::default(),
            m_arsize: Default::default(),
            m_arburst: Default::default(),
            m_arvalid: Default::default(),
            m_arready: Default::default(),
            m_rdata: Default::default(),
            m_rresp: Default::default(),
            m_rlast: Default::default(),
            m_rvalid: Default::default(),
            m_rready: Default::default(),
            bar2_awaddr: Default::default(),
            bar2_awlen: Default::default(),
            bar2_awsize: Default::default(),
            bar2_awburst: Default::default(),
            bar2_awvalid: Default::default(),
            bar2_awready: Default::default(),
            bar2_wdata: Default::default(),
            bar2_wstrb: Default::default(),
            bar2_wlast: Default::default(),
            bar2_wvalid: Default::default(),
            bar2_wready: Default::default(),
            bar2_bresp: Default::default(),
            bar2_bvalid: Default::default(),
            bar2_bready: Default::default(),
            bar2_araddr: Default::default(),
            bar2_arlen: Default::default(),
            bar2_arsize: Default::default(),
            bar2_arburst: Default::default(),
            bar2_arvalid: Default::default(),
            bar2_arready: Default::default(),
            bar2_rdata: Default::default(),
            bar2_rresp: Default::default(),
            bar2_rlast: Default::default(),
            bar2_rvalid: Default::default(),
            bar2_rready: Default::default(),
            trace_admitted: Default::default(),
            trace_admitted_slot: Default::default(),
            trace_admitted_queue: Default::default(),
            trace_admitted_id: Default::default(),
            trace_begun: Default::default(),
            trace_begun_slot: Default::default(),
            trace_begun_disk: Default::default(),
            trace_begun_plan: Default::default(),
            trace_begun_masks: Default::default(),
            trace_begun_present: Default::default(),
            trace_begun_readable: Default::default(),
            trace_begun_begun: Default::default(),
            trace_begun_minimum: Default::default(),
            trace_begun_is_read: Default::default(),
            trace_held: Default::default(),
            trace_begun_kept: Default::default(),
            trace_again: Default::default(),
            trace_again_slot: Default::default(),
            trace_again_component: Default::default(),
            trace_again_fresh: Default::default(),
            trace_change: Default::default(),
            trace_change_slot: Default::default(),
            trace_change_disk: Default::default(),
            trace_change_out: Default::default(),
            trace_change_deactivate: Default::default(),
            trace_changed: Default::default(),
            trace_changed_states: Default::default(),
            trace_changed_durably_out: Default::default(),
            trace_changed_deactivated: Default::default(),
            trace_issued: Default::default(),
            trace_issued_id: Default::default(),
            trace_issued_path: Default::default(),
            trace_issued_slot: Default::default(),
            trace_issued_component: Default::default(),
            trace_issued_ordinal: Default::default(),
            trace_part_begun: Default::default(),
            trace_part_begun_slot: Default::default(),
            trace_part_begun_component: Default::default(),
            trace_part_begun_retries: Default::default(),
            trace_returned: Default::default(),
            trace_returned_slot: Default::default(),
            trace_returned_component: Default::default(),
            trace_returned_ordinal: Default::default(),
            trace_returned_path: Default::default(),
            trace_returned_id: Default::default(),
            trace_returned_status: Default::default(),
            trace_returned_own: Default::default(),
            trace_failed: Default::default(),
            trace_failed_slot: Default::default(),
            trace_failed_component: Default::default(),
            trace_failed_status: Default::default(),
            trace_failed_path: Default::default(),
            trace_failed_ordinal: Default::default(),
            trace_failed_closed: Default::default(),
            trace_failed_given_up: Default::default(),
            trace_retry: Default::default(),
            trace_retry_slot: Default::default(),
            trace_retry_component: Default::default(),
            trace_ended: Default::default(),
            trace_ended_slot: Default::default(),
            trace_ended_component: Default::default(),
            trace_ended_status: Default::default(),
            trace_ended_path: Default::default(),
            trace_ended_ordinal: Default::default(),
            trace_ended_closed: Default::default(),
            trace_ended_given_up: Default::default(),
            trace_over: Default::default(),
            trace_over_slot: Default::default(),
            trace_over_component: Default::default(),
            trace_done: Default::default(),
            trace_done_slot: Default::default(),
            trace_done_status: Default::default(),
            idle_gather: Default::default(),
            reset_sequence: Default::default(),
            bar0: Default::default(),
            registers: Registers::new(sizes, B as u32, build_hash),
            msix: MsiX::new(sizes),
            executor: ControlExecutor::new(sizes),
            epochs: Epochs::new(sizes),
            queue_pairs: QueuePairs::new(sizes),
            assembler: Default::default(),
            range_fetch: Default::default(),
            slot_quotas: SlotQuotas::new(sizes),
            admission: Admission::new(sizes),
            mapper: Mapper::new(sizes),
            fragment_builder: FragmentBuilder::new(sizes),
            submission: Submission::new(sizes),
            fragment_ids: FragmentIds::new(sizes),
            path_doorbells: PathDoorbells::new(sizes),
            window: Default::default(),
            poller: CompletionPoller::new(sizes),
            filter: CompletionFilter::new(sizes),
            deadlines: Deadlines::new(sizes),
            path_returns: PathReturns::new(sizes),
            plan_slots: PlanSlots::new(sizes),
            collector: Collector::new(sizes),
            part_retry: PartRetry::new(sizes),
            retries: Default::default(),
            plan_stops: PlanStops::new(sizes),
            plan_list: PlanList::new(sizes),
            range_lock: RangeLock::new(sizes),
            command_store: CommandStore::new(sizes),
            again_queue: AgainQueue::new(sizes),
            again: Default::default(),
            unlock: Default::default(),
            plan_judge: PlanJudge::new(sizes),
            record_writer: RecordWriter::new(sizes),
            wide_write: Default::default(),
            control_raise: Default::default(),
            completion_writer: CompletionWriter::new(sizes),
            zero_filler: Default::default(),
            given_back: Default::default(),
            list_read: Default::default(),
            fence_read: Default::default(),
            read_master: Default::default(),
            write_master: Default::default(),
            failed_taken: Default::default(),
            part_taken: Default::default(),
            issued_id: Default::default(),
            issued_part: Default::default(),
            begun_part: Default::default(),
            returned_part: Default::default(),
            failed_part: Default::default(),
            ended_part: Default::default(),
            over_part: Default::default(),
        }
    }
}

impl<const W: usize, const B: usize> Logic for Top<W, B> {
    #[hdl_gen]
    fn update(&mut self) {
        // The bus side and the sequence itself know only the card's reset; the rest also the soft one.
        self.bar0.clock.next = self.clock.val();
        self.window.clock.next = self.clock.val();
        self.reset_sequence.clock.next = self.clock.val();
        self.registers.clock.next = self.clock.val();
        self.msix.clock.next = self.clock.val();
        self.executor.clock.next = self.clock.val();
        self.epochs.clock.next = self.clock.val();
        self.queue_pairs.clock.next = self.clock.val();
        self.assembler.clock.next = self.clock.val();
        self.range_fetch.clock.next = self.clock.val();
        self.slot_quotas.clock.next = self.clock.val();
        self.admission.clock.next = self.clock.val();
        self.mapper.clock.next = self.clock.val();
        self.fragment_builder.clock.next = self.clock.val();
        self.submission.clock.next = self.clock.val();
        self.fragment_ids.clock.next = self.clock.val();
        self.path_doorbells.clock.next = self.clock.val();
        self.poller.clock.next = self.clock.val();
        self.filter.clock.next = self.clock.val();
        self.deadlines.clock.next = self.clock.val();
        self.part_retry.clock.next = self.clock.val();
        self.retries.clock.next = self.clock.val();
        self.path_returns.clock.next = self.clock.val();
        self.plan_slots.clock.next = self.clock.val();
        self.collector.clock.next = self.clock.val();
        self.plan_stops.clock.next = self.clock.val();
        self.plan_list.clock.next = self.clock.val();
        self.range_lock.clock.next = self.clock.val();
        self.command_store.clock.next = self.clock.val();
        self.again_queue.clock.next = self.clock.val();
        self.again.clock.next = self.clock.val();
        self.unlock.clock.next = self.clock.val();
        self.plan_judge.clock.next = self.clock.val();
        self.record_writer.clock.next = self.clock.val();
        self.wide_write.clock.next = self.clock.val();
        self.control_raise.clock.next = self.clock.val();
        self.completion_writer.clock.next = self.clock.val();
        self.zero_filler.clock.next = self.clock.val();
        self.given_back.clock.next = self.clock.val();
        self.list_read.clock.next = self.clock.val();
        self.read_master.clock.next = self.clock.val();
        self.write_master.clock.next = self.clock.val();
        self.bar0.reset.next = self.reset.val();
        self.window.reset.next = self.reset.val();
        self.reset_sequence.reset.next = self.reset.val();
        self.registers.reset.next = self.reset_sequence.core_reset.val();
        self.msix.reset.next = self.reset_sequence.core_reset.val();
        self.executor.reset.next = self.reset_sequence.core_reset.val();
        self.epochs.reset.next = self.reset_sequence.core_reset.val();
        self.queue_pairs.reset.next = self.reset_sequence.core_reset.val();
        self.assembler.reset.next = self.reset_sequence.core_reset.val();
        self.range_fetch.reset.next = self.reset_sequence.core_reset.val();
        self.slot_quotas.reset.next = self.reset_sequence.core_reset.val();
        self.admission.reset.next = self.reset_sequence.core_reset.val();
        self.mapper.reset.next = self.reset_sequence.core_reset.val();
        self.fragment_builder.reset.next = self.reset_sequence.core_reset.val();
        self.submission.reset.next = self.reset_sequence.core_reset.val();
        self.fragment_ids.reset.next = self.reset_sequence.core_reset.val();
        self.path_doorbells.reset.next = self.reset_sequence.core_reset.val();
        self.poller.reset.next = self.reset_sequence.core_reset.val();
        self.filter.reset.next = self.reset_sequence.core_reset.val();
        self.deadlines.reset.next = self.reset_sequence.core_reset.val();
        self.part_retry.reset.next = self.reset_sequence.core_reset.val();
        self.retries.reset.next = self.reset_sequence.core_reset.val();
        self.path_returns.reset.next = self.reset_sequence.core_reset.val();
        self.plan_slots.reset.next = self.reset_sequence.core_reset.val();
        self.collector.reset.next = self.reset_sequence.core_reset.val();
        self.plan_list.reset.next = self.reset_sequence.core_reset.val();
        self.range_lock.reset.next = self.reset_sequence.core_reset.val();
        self.command_store.reset.next = self.reset_sequence.core_reset.val();
        self.again_queue.reset.next = self.reset_sequence.core_reset.val();
        self.again.reset.next = self.reset_sequence.core_reset.val();
        self.unlock.reset.next = self.reset_sequence.core_reset.val();
        self.plan_judge.reset.next = self.reset_sequence.core_reset.val();
        self.record_writer.reset.next = self.reset_sequence.core_reset.val();
        self.wide_write.reset.next = self.reset_sequence.core_reset.val();
        self.control_raise.reset.next = self.reset_sequence.core_reset.val();
        self.completion_writer.reset.next = self.reset_sequence.core_reset.val();
        self.zero_filler.reset.next = self.reset_sequence.core_reset.val();
        self.given_back.reset.next = self.reset_sequence.core_reset.val();
        self.list_read.reset.next = self.reset_sequence.core_reset.val();
        self.read_master.reset.next = self.reset_sequence.core_reset.val();
        self.write_master.reset.next = self.reset_sequence.core_reset.val();

        // BAR0.
        self.bar0.awaddr.next = self.bar0_awaddr.val();
        self.bar0.awvalid.next = self.bar0_awvalid.val();
        self.bar0_awready.next = self.bar0.awready.val();
        self.bar0.wdata.next = self.bar0_wdata.val();
        self.bar0.wstrb.next = self.bar0_wstrb.val();
        self.bar0.wvalid.next = self.bar0_wvalid.val();
        self.bar0_wready.next = self.bar0.wready.val();
        self.bar0_bresp.next = self.bar0.bresp.val();
        self.bar0_bvalid.next = self.bar0.bvalid.val();
        self.bar0.bready.next = self.bar0_bready.val();
        self.bar0.araddr.next = self.bar0_araddr.val();
        self.bar0.arvalid.next = self.bar0_arvalid.val();
        self.bar0_arready.next = self.bar0.arready.val();
        self.bar0_rdata.next = self.bar0.rdata.val();
        self.bar0_rresp.next = self.bar0.rresp.val();
        self.bar0_rvalid.next = self.bar0.rvalid.val();
        self.bar0.rready.next = self.bar0_rready.val();
        self.m_awaddr.next = self.write_master.awaddr.val();
        self.m_awlen.next = self.write_master.awlen.val();
        self.m_awsize.next = self.write_master.awsize.val();
        self.m_awburst.next = self.write_master.awburst.val();

        // The master.
        self.m_awvalid.next = self.write_master.awvalid.val();
        self.write_master.awready.next = self.m_awready.val();
        self.m_wdata.next = self.write_master.wdata.val();
        self.m_wstrb.next = self.write_master.wstrb.val();
        self.m_wlast.next = self.write_master.wlast.val();
        self.m_wvalid.next = self.write_master.wvalid.val();
        self.write_master.wready.next = self.m_wready.val();
        self.write_master.bresp.next = self.m_bresp.val();
        self.write_master.bvalid.next = self.m_bvalid.val();
        self.m_bready.next = self.write_master.bready.val();
        self.m_araddr.next = self.read_master.araddr.val();
        self.m_arlen.next = self.read_master.arlen.val();
        self.m_arsize.next = self.read_master.arsize.val();
        self.m_arburst.next = self.read_master.arburst.val();
        self.m_arvalid.next = self.read_master.arvalid.val();
        self.read_master.arready.next = self.m_arready.val();
        self.read_master.rdata.next = self.m_rdata.val();
        self.read_master.rresp.next = self.m_rresp.val();
        self.read_master.rlast.next = self.m_rlast.val();
        self.read_master.rvalid.next = self.m_rvalid.val();
        self.m_rready.next = self.read_master.rready.val();

        // BAR2.
        self.window.awaddr.next = self.bar2_awaddr.val();
        self.window.awlen.next = self.bar2_awlen.val();
        self.window.awsize.next = self.bar2_awsize.val();
        self.window.awburst.next = self.bar2_awburst.val();
        self.window.awvalid.next = self.bar2_awvalid.val();
        self.bar2_awready.next = self.window.awready.val();
        self.window.wdata.next = self.bar2_wdata.val();
        self.window.wstrb.next = self.bar2_wstrb.val();
        self.window.wlast.next = self.bar2_wlast.val();
        self.window.wvalid.next = self.bar2_wvalid.val();
        self.bar2_wready.next = self.window.wready.val();
        self.bar2_bresp.next = self.window.bresp.val();
        self.bar2_bvalid.next = self.window.bvalid.val();
        self.window.bready.next = self.bar2_bready.val();
        self.window.araddr.next = self.bar2_araddr.val();
        self.window.arlen.next = self.bar2_arlen.val();
        self.window.arsize.next = self.bar2_arsize.val();
        self.window.arburst.next = self.bar2_arburst.val();
        self.window.arvalid.next = self.bar2_arvalid.val();
        self.bar2_arready.next = self.window.arready.val();
        self.bar2_rdata.next = self.window.rdata.val();
        self.bar2_rresp.next = self.window.rresp.val();
        self.bar2_rlast.next = self.window.rlast.val();
        self.bar2_rvalid.next = self.window.rvalid.val();
        self.window.rready.next = self.bar2_rready.val();

        // Register bus.
        self.registers.write_valid.next = self.bar0.write_valid.val();
        self.registers.write_address.next = self.bar0.write_address.val();
        self.registers.write_data.next = self.bar0.write_data.val();
        self.registers.read_valid.next = self.bar0.read_valid.val();
        self.registers.read_address.next = self.bar0.read_address.val();
        self.msix.write_valid.next = self.bar0.write_valid.val();
        self.msix.write_address.next = self.bar0.write_address.val();
        self.msix.write_data.next = self.bar0.write_data.val();
        self.msix.read_valid.next = self.bar0.read_valid.val();
        self.msix.read_address.next = self.bar0.read_address.val();
        self.queue_pairs.write_valid.next = self.bar0.write_valid.val();
        self.queue_pairs.write_address.next = self.bar0.write_address.val();
        self.queue_pairs.write_data.next = self.bar0.write_data.val();
        self.bar0.read_data.next = self.registers.read_data.val() | self.msix.read_data.val();
        self.bar0.read_done.next = self.registers.read_done.val() | self.msix.read_done.val();

        // What software reads leaves out the access that reads it.
        self.idle_gather.clock.next = self.clock.val();
        self.idle_gather.reset.next = self.reset.val();
        self.idle_gather.parts.next = bit_cast::<32, 1>(self.reset_sequence.idle.val().into())
            | (bit_cast::<32, 1>(self.msix.idle.val().into()) << 1)
            | (bit_cast::<32, 1>((self.executor.idle.val() & self.epochs.idle.val()).into()) << 2)
            | (bit_cast::<32, 1>(self.queue_pairs.idle.val().into()) << 3)
            | (bit_cast::<32, 1>(self.assembler.idle.val().into()) << 4)
            | (bit_cast::<32, 1>((self.range_fetch.idle.val() & self.slot_quotas.idle.val()).into()) << 5)
            | (bit_cast::<32, 1>(self.admission.idle.val().into()) << 6)
            | (bit_cast::<32, 1>(self.mapper.idle.val().into()) << 7)
            | (bit_cast::<32, 1>(self.fragment_builder.idle.val().into()) << 8)
            | (bit_cast::<32, 1>(self.submission.idle.val().into()) << 9)
            | (bit_cast::<32, 1>(self.fragment_ids.idle.val().into()) << 10)
            | (bit_cast::<32, 1>(self.path_doorbells.idle.val().into()) << 11)
            | (bit_cast::<32, 1>(self.window.idle.val().into()) << 12)
            | (bit_cast::<32, 1>((self.filter.idle.val() & self.poller.idle.val()).into()) << 13)
            | (bit_cast::<32, 1>(self.path_returns.idle.val().into()) << 14)
            | (bit_cast::<32, 1>(self.plan_slots.idle.val().into()) << 15)
            | (bit_cast::<32, 1>(self.collector.idle.val().into()) << 16)
            | (bit_cast::<32, 1>(self.completion_writer.idle.val().into()) << 17)
            | (bit_cast::<32, 1>(self.read_master.idle.val().into()) << 18)
            | (bit_cast::<32, 1>(self.write_master.idle.val().into()) << 19)
            | (bit_cast::<32, 1>(self.range_lock.idle.val().into()) << 20)
            | (bit_cast::<32, 1>(self.command_store.idle.val().into()) << 21)
            | (bit_cast::<32, 1>((self.again.idle.val() & self.again_queue.idle.val()).into()) << 22)
            | (bit_cast::<32, 1>(self.plan_judge.idle.val().into()) << 23)
            | (bit_cast::<32, 1>(self.record_writer.idle.val().into()) << 24)
            | (bit_cast::<32, 1>(self.control_raise.idle.val().into()) << 25)
            | (bit_cast::<32, 1>(self.unlock.idle.val().into()) << 26)
            | (bit_cast::<32, 1>(self.deadlines.idle.val().into()) << 27)
            | (bit_cast::<32, 1>(self.part_retry.idle.val().into()) << 28)
            | (bit_cast::<32, 1>(self.retries.idle.val().into()) << 29)
            | (bit_cast::<32, 1>(self.zero_filler.idle.val().into()) << 30)
            | (bit_cast::<32, 1>(self.given_back.idle.val().into()) << 31);
        self.idle_gather.access_idle.next = self.bar0.idle.val() & self.registers.idle.val();

        // Reset.
        self.bar0.hold_writes.next = self.queue_pairs.doorbells_full.val();
        self.bar0.hold.next = self.reset_sequence.core_reset.val();
        self.reset_sequence.request.next = self.registers.soft_reset.val();
        self.reset_sequence.read_quiet.next = self.read_master.quiet.val();
        self.reset_sequence.write_quiet.next = self.write_master.quiet.val();
        self.reset_sequence.initialised.next = self.plan_slots.initialised.val()
            & self.collector.initialised.val()
            & self.range_lock.initialised.val()
            & self.plan_judge.initialised.val()
            & self.admission.initialised.val()
            & self.fragment_ids.initialised.val()
            & self.filter.initialised.val()
            & self.poller.initialised.val()
            & self.deadlines.initialised.val();
        self.read_master.stop.next = self.reset_sequence.stop.val();
        self.write_master.stop.next = self.reset_sequence.stop.val();
        self.registers.ready.next = self.reset_sequence.ready.val();
        self.registers.control_stopped.next = self.queue_pairs.control_stopped.val();
        self.registers.card_idle.next = self.idle_gather.work_idle.val();
        self.registers.unknown_completions.next = self.filter.unknown.val();
        self.registers.bad_heads.next = self.path_returns.bad_heads.val();
        self.registers.read_errors.next = self.read_master.errors.val();
        self.registers.write_errors.next = self.write_master.errors.val();
        self.registers.tick.next = self.tick.val();
        self.registers.command_fetched.next = self.queue_pairs.command_fetched.val();
        self.registers.completion_written.next = self.completion_writer.client_completed.val();
        self.registers.fragment_issued.next = self.submission.issued_valid.val();

        // Interrupts.
        self.msix.tick.next = self.tick.val();
        self.msix.hard_reset.next = self.reset.val();
        self.msix.msix_enable.next = true;
        self.msix.coalesce_count.next = self.registers.coalesce_count.val();
        self.msix.coalesce_ticks.next = self.registers.coalesce_ticks.val();
        StreamOut::<Bits<8>>::join(&mut self.completion_writer.raise, &mut self.msix.raise_client);
        StreamOut::<Bits<8>>::join(&mut self.executor.raise, &mut self.control_raise.first);
        StreamOut::<Bits<8>>::join(&mut self.record_writer.raise, &mut self.control_raise.second);
        StreamOut::<Bits<8>>::join(&mut self.control_raise.out, &mut self.msix.raise_control);
        StreamOut::<SmallWrite>::join(&mut self.msix.write, &mut self.write_master.interrupt);
        self.irq.next = self.msix.irq.val();

        // Table bus.
        self.executor.table_ack.next = self.queue_pairs.table_ack.val()
            | self.admission.table_ack.val()
            | self.mapper.table_ack.val()
            | self.fragment_builder.table_ack.val()
            | self.submission.table_ack.val()
            | self.poller.table_ack.val()
            | self.plan_list.table_ack.val()
            | self.epochs.table_ack.val()
            | self.slot_quotas.table_ack.val();
        self.executor.table_busy.next = self.submission.table_busy.val();
        self.executor.table_data.next = self.queue_pairs.table_data.val()
            | self.admission.table_data.val()
            | self.mapper.table_data.val()
            | self.fragment_builder.table_data.val()
            | self.submission.table_data.val()
            | self.poller.table_data.val()
            | self.plan_list.table_data.val()
            | self.epochs.table_data.val()
            | self.slot_quotas.table_data.val();
        self.queue_pairs.table_valid.next = self.executor.table_valid.val();
        self.queue_pairs.table_request.next = self.executor.table_request.val();
        self.slot_quotas.table_valid.next = self.executor.table_valid.val();
        self.slot_quotas.table_request.next = self.executor.table_request.val();
        self.completion_writer.table_valid.next = self.executor.table_valid.val();
        self.completion_writer.table_request.next = self.executor.table_request.val();
        self.admission.table_valid.next = self.executor.table_valid.val();
        self.admission.table_request.next = self.executor.table_request.val();
        self.mapper.table_valid.next = self.executor.table_valid.val();
        self.mapper.table_request.next = self.executor.table_request.val();
        self.fragment_builder.table_valid.next = self.executor.table_valid.val();
        self.fragment_builder.table_request.next = self.executor.table_request.val();
        self.submission.table_valid.next = self.executor.table_valid.val();
        self.submission.table_request.next = self.executor.table_request.val();
        self.path_doorbells.table_valid.next = self.executor.table_valid.val();
        self.path_doorbells.table_request.next = self.executor.table_request.val();
        self.poller.table_valid.next = self.executor.table_valid.val();
        self.poller.table_request.next = self.executor.table_request.val();
        self.filter.table_valid.next = self.executor.table_valid.val();
        self.filter.table_request.next = self.executor.table_request.val();
        self.path_returns.table_valid.next = self.executor.table_valid.val();
        self.path_returns.table_request.next = self.executor.table_request.val();
        self.deadlines.table_valid.next = self.executor.table_valid.val();
        self.deadlines.table_request.next = self.executor.table_request.val();
        self.plan_list.table_valid.next = self.executor.table_valid.val();
        self.plan_list.table_request.next = self.executor.table_request.val();
        self.epochs.table_valid.next = self.executor.table_valid.val();
        self.epochs.table_request.next = self.executor.table_request.val();

        // Control ring.
        self.queue_pairs.enable.next = self.registers.enable.val();
        self.queue_pairs.control_sq_base.next = self.registers.control_sq_base.val();
        self.queue_pairs.control_entries_z.next = self.registers.control_entries_z.val();
        self.queue_pairs.control_done.next = self.executor.done.val();
        self.executor.enable.next = self.registers.enable.val();
        self.executor.control_cq_base.next = self.registers.control_cq_base.val();
        self.executor.control_entries_z.next = self.registers.control_entries_z.val();
        self.executor.control_vector.next = self.registers.control_vector.val();
        self.executor.control_interrupt.next = self.registers.control_interrupt.val();
        StreamOut::<Bits<512>>::join(&mut self.assembler.control, &mut self.executor.command);
        // Who raises a vector waits until the write before it was taken: no register in between.
        StreamOut::<WideWrite>::join(&mut self.executor.write, &mut self.wide_write.first);
        StreamOut::<WideWrite>::join(&mut self.record_writer.write, &mut self.wide_write.second);
        StreamOut::<WideWrite>::join(&mut self.wide_write.out, &mut self.write_master.control);

        // Fetch.
        StreamOut::<ReadRequest>::join(&mut self.queue_pairs.request, &mut self.read_master.fetch);
        self.assembler.answer_valid_fetch.next = self.read_master.answer_valid_fetch.val();
        self.assembler.answer_tag.next = self.read_master.answer_tag.val();
        self.assembler.answer_data.next = self.read_master.answer_data.val();
        self.assembler.answer_last.next = self.read_master.answer_last.val();
        self.assembler.answer_error.next = self.read_master.answer_error.val();
        self.queue_pairs.control_returned.next = self.assembler.control_returned.val();
        self.queue_pairs.client_returned.next = self.assembler.client_returned.val();
        self.queue_pairs.arrived.next = self.assembler.arrived.val();
        self.queue_pairs.arrived_queue.next = self.assembler.arrived_queue.val();
        self.queue_pairs.arrived_failed.next = self.assembler.arrived_failed.val();
        StreamOut::<FetchedEntry>::join(&mut self.assembler.client, &mut self.range_fetch.entry);
        StreamOut::<ReadRequest>::join(&mut self.range_fetch.range, &mut self.read_master.range);
        self.range_fetch.answer_valid_range.next = self.read_master.answer_valid_range.val();
        self.range_fetch.answer_data.next = self.read_master.answer_data.val();
        self.range_fetch.answer_last.next = self.read_master.answer_last.val();
        self.range_fetch.answer_error.next = self.read_master.answer_error.val();

        // Admission and map.
        StreamOut::<ClientCommand>::join(&mut self.range_fetch.command, &mut self.slot_quotas.command);
        StreamOut::<ClientCommand>::join(&mut self.slot_quotas.out, &mut self.admission.command);
        self.slot_quotas.told_room.next = self.queue_pairs.told_room.val();
        self.queue_pairs.passed.next = self.slot_quotas.passed_valid.val();
        self.queue_pairs.passed_queue.next = self.slot_quotas.passed_queue.val();
        self.queue_pairs.returned.next = self.slot_quotas.returned_valid.val();
        self.queue_pairs.returned_queue.next = self.slot_quotas.returned_queue.val();
        self.queue_pairs.shut.next = self.slot_quotas.shut.val();
        self.queue_pairs.woken.next = self.slot_quotas.woken.val();
        self.queue_pairs.careful.next = self.slot_quotas.careful.val();
        self.slot_quotas.reopened.next = self.queue_pairs.reopened.val();
        self.slot_quotas.restarted.next = self.queue_pairs.restarted.val();
        self.queue_pairs.awaken_valid.next = self.slot_quotas.awaken_valid.val();
        self.queue_pairs.awaken_queue.next = self.slot_quotas.awaken_queue.val();
        self.slot_quotas.awaken_taken.next = self.queue_pairs.awaken_taken.val();
        self.slot_quotas.ended_valid.next = self.completion_writer.release_valid.val();
        self.slot_quotas.ended.next = self.completion_writer.release_owner.val();
        StreamOut::<Bits<12>>::join(&mut self.plan_slots.allocate, &mut self.admission.slot);
        self.plan_slots.owner_valid.next = self.admission.owner_valid.val();
        self.plan_slots.owner_slot.next = self.admission.owner_slot.val();
        self.plan_slots.owner.next = self.admission.owner.val();
        StreamOut::<AllocationLookup>::join(&mut self.admission.lookup, &mut self.mapper.lookup);
        StreamOut::<AdmittedPlan>::join(&mut self.admission.plan, &mut self.mapper.plan);
        StreamOut::<PlanHeader>::join(&mut self.mapper.header, &mut self.fragment_builder.header);
        StreamOut::<Run>::join(&mut self.mapper.run, &mut self.fragment_builder.run);
        self.fragment_builder.path_valid.next = self.submission.path_valid.val();
        self.fragment_builder.suspect.next = self.deadlines.suspect.val();
        self.part_retry.query.next = self.fragment_builder.avoid_query.val();
        self.fragment_builder.avoided.next = self.part_retry.avoided.val();
        StreamOut::<ReadRequest>::join(&mut self.fragment_builder.list, &mut self.list_read.first);
        StreamOut::<ReadRequest>::join(&mut self.list_read.out, &mut self.read_master.list);
        self.fragment_builder.answer_valid_list.next = self.read_master.answer_valid_list.val();
        self.fragment_builder.answer_tag.next = self.read_master.answer_tag.val();
        self.fragment_builder.answer_data.next = self.read_master.answer_data.val();
        self.fragment_builder.answer_last.next = self.read_master.answer_last.val();
        self.fragment_builder.answer_error.next = self.read_master.answer_error.val();

        // Submission.
        StreamOut::<Fragment>::join(&mut self.fragment_builder.fragment, &mut self.submission.fragment);
        StreamOut::<Bits<16>>::join(&mut self.fragment_ids.id, &mut self.submission.id);
        self.submission.range_base.next = self.registers.range_base.val();
        StreamOut::<WideWrite>::join(&mut self.submission.write, &mut self.write_master.submission);
        StreamOut::<SmallWrite>::join(&mut self.submission.range_write, &mut self.write_master.range);
        self.filter.record_valid.next = self.submission.record_valid.val();
        self.filter.record_index.next = self.submission.record_index.val();
        self.filter.record.next = self.submission.record.val();
        self.deadlines.record_valid.next = self.submission.record_valid.val();
        self.deadlines.record_index.next = self.submission.record_index.val();
        self.deadlines.record.next = self.submission.record.val();
        self.deadlines.record_terms.next = self.submission.record_terms.val();
        self.deadlines.path_valid.next = self.submission.path_valid.val();
        self.deadlines.ticks.next = self.ticks.val();
        self.timing.next = self.deadlines.timing.val();
        self.path_doorbells.path_valid.next = self.submission.path_valid.val();
        self.submission.doorbells_hold.next = self.path_doorbells.holds.val();
        self.path_doorbells.issued_valid.next = self.submission.issued_valid.val();
        self.path_doorbells.issued_path.next = self.submission.issued_path.val();
        self.path_doorbells.issued_tail.next = self.submission.issued_tail.val();
        self.path_doorbells.accepted.next = self.write_master.accepted.val();
        self.path_doorbells.acknowledged.next = self.write_master.acknowledged.val();
        StreamOut::<SmallWrite>::join(&mut self.path_doorbells.write, &mut self.write_master.doorbell);
        StreamOut::<ReadRequest>::join(&mut self.path_doorbells.fence, &mut self.fence_read.first);
        StreamOut::<ReadRequest>::join(&mut self.poller.read, &mut self.fence_read.second);
        StreamOut::<ReadRequest>::join(&mut self.fence_read.out, &mut self.read_master.fence);
        self.path_doorbells.answer_valid_fence.next = self.read_master.answer_valid_fence.val();
        self.path_doorbells.answer_tag.next = self.read_master.answer_tag.val();
        self.path_doorbells.answer_last.next = self.read_master.answer_last.val();

        // Zeros.
        StreamOut::<ZeroFragment>::join(&mut self.fragment_builder.zeros, &mut self.zero_filler.fragment);
        StreamOut::<ReadRequest>::join(&mut self.zero_filler.list, &mut self.list_read.second);
        self.zero_filler.answer_valid_list.next = self.read_master.answer_valid_list.val();
        self.zero_filler.answer_tag.next = self.read_master.answer_tag.val();
        self.zero_filler.answer_data.next = self.read_master.answer_data.val();
        self.zero_filler.answer_last.next = self.read_master.answer_last.val();
        self.zero_filler.answer_error.next = self.read_master.answer_error.val();
        StreamOut::<ZeroWrite>::join(&mut self.zero_filler.write, &mut self.write_master.zero);
        self.zero_filler.zero_answered.next = self.write_master.zero_answered.val();
        self.zero_filler.zero_ended.next = self.write_master.zero_ended.val();
        self.zero_filler.zero_failed.next = self.write_master.zero_failed.val();

        // Completion.
        self.poller.issued_valid.next = self.submission.record_valid.val();
        self.poller.issued_path.next = self.submission.record.val().path;
        self.poller.ended_valid.next = self.path_returns.release_valid.val();
        self.poller.ended_path.next = self.path_returns.release_path.val();
        self.poller.answer_valid.next = self.read_master.answer_valid_fence.val();
        self.poller.answer_tag.next = self.read_master.answer_tag.val();
        self.poller.answer_data.next = self.read_master.answer_data.val();
        self.poller.answer_last.next = self.read_master.answer_last.val();
        self.poller.answer_error.next = self.read_master.answer_error.val();
        self.poller.window_valid.next = self.window.event_valid.val();
        self.poller.window_data.next = self.window.event_data.val();
        self.filter.event_valid.next = self.poller.event_valid.val();
        self.filter.event_data.next = self.poller.event_data.val();
        StreamOut::<WindowEvent>::join(&mut self.deadlines.abort, &mut self.filter.abort);
        self.deadlines.accepted_valid.next = self.filter.accepted_valid.val();
        self.deadlines.accepted_id.next = self.filter.accepted_id.val();
        StreamOut::<Bits<8>>::join(&mut self.deadlines.fence, &mut self.record_writer.fence);
        self.deadlines.quiesce_valid.next = self.executor.quiesce_valid.val();
        self.deadlines.quiesce_path.next = self.executor.quiesce_path.val();
        self.executor.quiesced.next = self.deadlines.quiesced.val();
        self.path_doorbells.cq_event_valid.next = self.filter.cq_event_valid.val();
        self.path_doorbells.cq_event_path.next = self.filter.cq_event_path.val();
        self.path_doorbells.cq_event_head.next = self.filter.cq_event_head.val();
        StreamOut::<Returned>::join(&mut self.filter.returned, &mut self.path_returns.returned);
        StreamOut::<Returned>::join(&mut self.submission.bounced, &mut self.given_back.first);
        StreamOut::<Returned>::join(&mut self.zero_filler.returned, &mut self.given_back.second);
        StreamOut::<Returned>::join(&mut self.given_back.out, &mut self.path_returns.bounced);
        StreamOut::<Returned>::join(&mut self.path_returns.passed, &mut self.collector.returned);
        self.fragment_ids.release_valid.next = self.path_returns.release_valid.val();
        self.fragment_ids.release_id.next = self.path_returns.release_id.val();
        StreamOut::<PlanClosed>::join(&mut self.fragment_builder.closed, &mut self.collector.closed);
        StreamOut::<PlanDone>::join(&mut self.collector.done, &mut self.plan_judge.single);
        StreamOut::<PlanDone>::join(&mut self.plan_judge.done, &mut self.completion_writer.done);
        self.plan_slots.query.next = self.completion_writer.query.val();
        self.completion_writer.query_owner.next = self.plan_slots.query_owner.val();
        self.plan_slots.release_valid.next = self.completion_writer.release_valid.val();
        self.plan_slots.release_slot.next = self.completion_writer.release_slot.val();
        self.queue_pairs.head_query.next = self.completion_writer.head_query.val();
        self.completion_writer.head_value.next = self.queue_pairs.head_value.val();
        self.queue_pairs.client_completed.next = self.completion_writer.client_completed.val();
        self.queue_pairs.client_completed_queue.next = self.completion_writer.client_completed_queue.val();
        StreamOut::<SmallWrite>::join(&mut self.completion_writer.write, &mut self.write_master.completion);

        // Plans of several components.
        self.command_store.write_valid.next = self.admission.owner_valid.val();
        self.command_store.write_slot.next = self.admission.owner_slot.val();
        self.command_store.write_command.next = self.admission.owned_command.val();
        StreamOut::<Again>::join(&mut self.plan_judge.again, &mut self.again_queue.asked);
        StreamOut::<Again>::join(&mut self.again_queue.out, &mut self.again.first);
        StreamOut::<Again>::join(&mut self.range_lock.again, &mut self.again.second);
        StreamOut::<Again>::join(&mut self.again.out, &mut self.retries.first);
        StreamOut::<Again>::join(&mut self.part_retry.again, &mut self.retries.second);
        StreamOut::<Again>::join(&mut self.retries.out, &mut self.command_store.again);
        StreamOut::<AgainCommand>::join(&mut self.command_store.out, &mut self.admission.again);
        StreamOut::<LockRequest>::join(&mut self.admission.lock, &mut self.range_lock.ask);
        self.admission.lock_answer.next = self.range_lock.answer_valid.val();
        self.admission.lock_granted.next = self.range_lock.granted.val();
        StreamOut::<Bits<12>>::join(&mut self.plan_judge.unlock, &mut self.unlock.first);
        StreamOut::<Bits<12>>::join(&mut self.admission.unlock, &mut self.unlock.second);
        StreamOut::<Bits<12>>::join(&mut self.unlock.out, &mut self.range_lock.release);
        self.admission.epoch.next = self.epochs.number.val();
        self.admission.hold.next = self.executor.hold.val();
        self.executor.epoch.next = self.epochs.number.val();
        self.epochs.advance.next = self.executor.advance.val();
        self.epochs.admitted_valid.next = self.admission.counted_valid.val();
        self.epochs.admitted_slot.next = self.admission.counted_slot.val();
        self.epochs.parked_valid.next = self.admission.parked_valid.val();
        self.epochs.parked_slot.next = self.admission.parked_slot.val();
        self.epochs.handed_valid.next = self.plan_judge.handed_valid.val();
        self.epochs.handed_slot.next = self.plan_judge.handed_slot.val();
        self.epochs.ended_valid.next = self.plan_judge.ended_valid.val();
        self.epochs.ended_slot.next = self.plan_judge.done.data.val().slot;
        self.plan_judge.begun_valid.next = self.admission.begun_valid.val();
        self.plan_judge.begun_slot.next = self.admission.begun_slot.val();
        self.plan_judge.begun.next = self.admission.begun.val();
        StreamOut::<PartDone>::join(&mut self.collector.part, &mut self.plan_judge.part);
        self.admission.over_valid.next = self.plan_judge.over_valid.val();
        self.admission.over.next = self.plan_judge.over.val();
        self.part_retry.admitted_valid.next = self.admission.owner_valid.val();
        self.part_retry.admitted_slot.next = self.admission.owner_slot.val();
        self.part_retry.begun_valid.next = self.admission.part_begun_valid.val();
        self.part_retry.begun.next = self.admission.part_begun.val();
        self.part_retry.renewing.next = self.submission.renewing.val();
        self.part_retry.path_written.next = self.submission.path_written.val();
        StreamOut::<PartDone>::join(&mut self.collector.failed, &mut self.part_retry.failed);
        StreamOut::<PartDone>::join(&mut self.part_retry.part, &mut self.plan_judge.failed);
        // At most one of the two is taken in a cycle.
        self.failed_taken.next = self.part_retry.part.valid.val() & self.plan_judge.failed.ready.val();
        self.part_taken.next = self.collector.part.valid.val() & self.plan_judge.part.ready.val();
        self.record_writer.outcome_valid.next = self.failed_taken.val() | self.part_taken.val();
        self.record_writer.outcome.next = self.collector.part.data.val();
        if self.failed_taken.val() {
            self.record_writer.outcome.next = self.part_retry.part.data.val();
        }
        self.plan_stops.write.next = self.plan_judge.noted_valid.val();
        self.plan_stops.slot.next = self.plan_judge.noted_slot.val();
        self.plan_stops.stopped.next = self.plan_judge.stops.val();
        self.plan_stops.issuing.next = self.submission.stop_query.val();
        self.submission.stopped.next = self.plan_stops.issuing_stopped.val();
        self.plan_stops.failing.next = self.part_retry.stop_query.val();
        self.part_retry.stopped.next = self.plan_stops.failing_stopped.val();
        self.plan_list.initialised.next = self.plan_judge.initialised.val();
        self.plan_list.begun_valid.next = self.admission.begun_valid.val();
        self.plan_list.begun_slot.next = self.admission.begun_slot.val();
        self.plan_list.begun.next = self.admission.begun.val();
        self.plan_list.noted_valid.next = self.plan_judge.noted_valid.val();
        self.plan_list.noted_slot.next = self.plan_judge.noted_slot.val();
        self.plan_list.noted.next = self.plan_judge.noted.val();
        StreamOut::<StateChange>::join(&mut self.plan_judge.change, &mut self.admission.change);
        self.plan_judge.changed_valid.next = self.admission.changed_valid.val();
        self.plan_judge.changed.next = self.admission.changed.val();
        self.plan_judge.changed_plan.next = self.admission.changed_plan.val();
        self.admission.keeps_valid.next = self.plan_judge.keeps_valid.val();
        self.admission.keeps.next = self.plan_judge.keeps.val();
        StreamOut::<Bits<12>>::join(&mut self.admission.resumed, &mut self.plan_judge.resumed);
        StreamOut::<RecordItem>::join(&mut self.plan_judge.item, &mut self.record_writer.item);
        StreamOut::<PlanDone>::join(&mut self.record_writer.done, &mut self.plan_judge.posted);
        StreamOut::<PlanDone>::join(&mut self.part_retry.done, &mut self.plan_judge.lost);
        StreamOut::<Bits<12>>::join(&mut self.record_writer.fetch, &mut self.command_store.fetch);
        self.record_writer.fetched_valid.next = self.command_store.fetched_valid.val();
        self.record_writer.fetched.next = self.command_store.fetched.val();
        self.record_writer.base.next = self.registers.exception_base.val();
        self.record_writer.entries_z.next = self.registers.exception_entries_z.val();
        self.record_writer.ring_vector.next = self.registers.exception_vector.val();
        self.record_writer.ring_interrupt.next = self.registers.exception_interrupt.val();
        self.record_writer.head.next = self.registers.exception_head.val();
        self.record_writer.enable.next = self.registers.enable.val();
        self.plan_judge.command_valid.next = self.executor.plan_valid.val();
        self.plan_judge.command.next = self.executor.plan_order.val();
        self.executor.plan_answered.next = self.plan_judge.answered.val();
        self.executor.plan_answer.next = self.plan_judge.answer.val();

        // Live state of queues and paths, for credit and for reading back.
        self.path_returns.query_path.next = self.submission.query_path.val();
        self.submission.query_head.next = self.path_returns.query_head.val();
        self.submission.query_returned.next = self.path_returns.query_returned.val();
        self.submission.tail_path.next = self.path_returns.tail_path.val();
        self.path_returns.tail_value.next = self.submission.tail_value.val();
        self.path_returns.state_query.next = self.submission.state_query.val();
        self.path_doorbells.state_query.next = self.submission.state_query.val();
        self.submission.state_head.next = self.path_returns.state_head.val();
        self.submission.state_returned.next = self.path_returns.state_returned.val();
        self.submission.state_rung.next = self.path_doorbells.state_rung.val();
        self.submission.state_cq_head.next = self.path_doorbells.state_cq_head.val();
        self.completion_writer.state_query.next = self.queue_pairs.state_query.val();
        self.queue_pairs.state_tail.next = self.completion_writer.state_tail.val();
        self.queue_pairs.state_phase.next = self.completion_writer.state_phase.val();

        // What becomes of plans, for tests.
        self.trace_admitted.next = self.admission.owner_valid.val();
        self.trace_admitted_slot.next = self.admission.owner_slot.val();
        self.trace_admitted_queue.next = self.admission.owner.val().queue;
        self.trace_admitted_id.next = self.admission.owner.val().command_id;
        self.trace_begun.next = self.admission.begun_valid.val();
        self.trace_begun_slot.next = self.admission.begun_slot.val();
        self.trace_begun_disk.next = self.admission.begun.val().disk;
        self.trace_begun_plan.next = self.admission.begun.val().plan;
        self.trace_begun_masks.next = self.admission.begun.val().masks;
        self.trace_begun_present.next = self.admission.begun.val().present;
        self.trace_begun_readable.next = self.admission.begun.val().readable;
        self.trace_begun_begun.next = self.admission.begun.val().begun;
        self.trace_begun_minimum.next = self.admission.begun.val().minimum;
        self.trace_begun_is_read.next = self.admission.begun.val().is_read;
        self.trace_held.next = self.executor.hold.val();
        self.trace_begun_kept.next = self.admission.begun.val().kept;
        self.trace_again.next = self.plan_judge.again.valid.val() & self.again_queue.asked.ready.val();
        self.trace_again_slot.next = self.plan_judge.again.data.val().slot;
        self.trace_again_component.next = self.plan_judge.again.data.val().component;
        self.trace_again_fresh.next = self.plan_judge.again.data.val().fresh;
        self.trace_change.next = self.plan_judge.change.valid.val() & self.admission.change.ready.val();
        self.trace_change_slot.next = self.plan_judge.judged_slot.val();
        self.trace_change_disk.next = self.plan_judge.change.data.val().disk;
        self.trace_change_out.next = self.plan_judge.change.data.val().out;
        self.trace_change_deactivate.next = self.plan_judge.change.data.val().deactivate;
        self.trace_changed.next = self.admission.changed_valid.val();
        self.trace_changed_states.next = self.admission.changed.val().states;
        self.trace_changed_durably_out.next = self.admission.changed.val().durably_out;
        self.trace_changed_deactivated.next = self.admission.changed.val().deactivated;
        self.trace_issued.next = self.submission.record_valid.val();
        self.issued_id.next.index = self.submission.record_index.val();
        self.issued_id.next.generation = self.submission.record.val().generation;
        self.trace_issued_id.next = self.issued_id.val().into();
        self.trace_issued_path.next = self.submission.record.val().path;
        self.issued_part.next = self.submission.record.val().part.into();
        self.trace_issued_slot.next = self.issued_part.val().slot;
        self.trace_issued_component.next = self.issued_part.val().component;
        self.trace_issued_ordinal.next = self.submission.record.val().ordinal;
        self.trace_part_begun.next = self.admission.part_begun_valid.val();
        self.begun_part.next = self.admission.part_begun.val().part.into();
        self.trace_part_begun_slot.next = self.begun_part.val().slot;
        self.trace_part_begun_component.next = self.begun_part.val().component;
        self.trace_part_begun_retries.next = self.admission.part_begun.val().retries;
        self.trace_returned.next = self.path_returns.passed.valid.val() & self.collector.returned.ready.val();
        self.returned_part.next = self.path_returns.passed.data.val().part.into();
        self.trace_returned_slot.next = self.returned_part.val().slot;
        self.trace_returned_component.next = self.returned_part.val().component;
        self.trace_returned_ordinal.next = self.path_returns.passed.data.val().ordinal;
        self.trace_returned_path.next = self.path_returns.passed.data.val().path;
        self.trace_returned_id.next = self.path_returns.passed.data.val().command_id;
        self.trace_returned_status.next = self.path_returns.passed.data.val().status;
        self.trace_returned_own.next = self.path_returns.passed.data.val().own;
        self.trace_failed.next = self.collector.failed.valid.val() & self.part_retry.failed.ready.val();
        self.failed_part.next = self.collector.failed.data.val().part.into();
        self.trace_failed_slot.next = self.failed_part.val().slot;
        self.trace_failed_component.next = self.failed_part.val().component;
        self.trace_failed_status.next = self.collector.failed.data.val().status;
        self.trace_failed_path.next = self.collector.failed.data.val().path;
        self.trace_failed_ordinal.next = self.collector.failed.data.val().ordinal;
        self.trace_failed_closed.next = self.collector.failed.data.val().closed;
        self.trace_failed_given_up.next = self.collector.failed.data.val().given_up;
        self.trace_retry.next = self.part_retry.again.valid.val() & self.retries.second.ready.val();
        self.trace_retry_slot.next = self.part_retry.again.data.val().slot;
        self.trace_retry_component.next = self.part_retry.again.data.val().component;
        self.trace_ended.next = self.part_retry.part.valid.val() & self.plan_judge.failed.ready.val();
        self.ended_part.next = self.part_retry.part.data.val().part.into();
        self.trace_ended_slot.next = self.ended_part.val().slot;
        self.trace_ended_component.next = self.ended_part.val().component;
        self.trace_ended_status.next = self.part_retry.part.data.val().status;
        self.trace_ended_path.next = self.part_retry.part.data.val().path;
        self.trace_ended_ordinal.next = self.part_retry.part.data.val().ordinal;
        self.trace_ended_closed.next = self.part_retry.part.data.val().closed;
        self.trace_ended_given_up.next = self.part_retry.part.data.val().given_up;
        self.trace_over.next = self.part_taken.val();
        self.over_part.next = self.collector.part.data.val().part.into();
        self.trace_over_slot.next = self.over_part.val().slot;
        self.trace_over_component.next = self.over_part.val().component;
        self.trace_done.next = self.plan_judge.done.valid.val() & self.completion_writer.done.ready.val();
        self.trace_done_slot.next = self.plan_judge.done.data.val().slot;
        self.trace_done_status.next = self.plan_judge.done.data.val().status;

        self.idle.next = self.idle_gather.idle.val();
    }
}
