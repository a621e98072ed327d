//! Cuts runs at the transfer limits of their devices, and names the path.
//!
//! A header and its runs come in, pieces go out, in order. A Read or Write is cut at the device's
//! transfer limit (MDTS), a Write Zeroes at its own (WZSL), a Dataset Management range not at all;
//! a Flush becomes one piece for each device of its set. What cannot be executed (a refused plan, an
//! extent that is invalid or faults, a device without a limit or a valid path) becomes a closing
//! piece, and what is left of its plan's runs is dropped.
//!
//! Handshake: streams. Latency: 3 cycles from run to piece. Throughput: a plan of one piece every 3
//! cycles, further pieces of a run one a cycle, further runs one every 3. Owner of the device table.
//! Reset drops the plan in work; the table stays.

use rust_hdl::prelude::*;
use volplane_abi::{extent_action, opcode, status, table};

use crate::prim::ram::LutRam;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{DeviceEntry, ExtentEntry, Piece, PlanHeader, Run, TableRequest};
use crate::sizes::Sizes;

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum State {
    /// Waits for a header and, where runs follow, the first of them.
    Idle,
    /// Waits for a further run.
    NextRun,
    /// The device's entry is there: checks it and prepares the cut.
    Check,
    /// Gives a piece a cycle.
    Cut,
    /// Drops what is left of a closed plan.
    DropRuns,
    /// Looks for the next device to flush, one a cycle.
    FlushScan,
    /// Gives the device's flush.
    FlushCut,
}

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
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    pub table_ack: Signal<Out, bool>,
    pub table_data: Signal<Out, Bits<256>>,
    pub idle: Signal<Out, bool>,

    devices: LutRam<DeviceEntry>,
    devices_readback: LutRam<DeviceEntry>,
    state: DFF<State>,
    plan: DFF<PlanHeader>,
    current: DFF<Run>,
    extent: Signal<Local, ExtentEntry>,
    run_extent: Signal<Local, ExtentEntry>,
    path_ok: Signal<Local, bool>,
    flush_rest: Signal<Local, Bits<32>>,
    limit_now: Signal<Local, Bits<17>>,
    /// Blocks of the run not yet in a piece.
    rest: DFF<Bits<17>>,
    plan_offset: DFF<Bits<17>>,
    lba: DFF<Bits<48>>,
    limit: DFF<Bits<17>>,
    refused: DFF<bool>,
    first: DFF<bool>,
    out: DFF<Piece>,
    out_valid: DFF<bool>,
    flush_mask: DFF<Bits<32>>,
    flush_device: DFF<Bits<16>>,
    ack: DFF<bool>,
    ack_wait: DFF<bool>,

    out_free: Signal<Local, bool>,
    cut_blocks: Signal<Local, Bits<17>>,
    is_last_piece: Signal<Local, bool>,
    device: Signal<Local, DeviceEntry>,
    path_bits: Signal<Local, Bits<32>>,
    is_flush: Signal<Local, bool>,
    unmapped: Signal<Local, bool>,
    extent_bad: Signal<Local, bool>,
    action: Signal<Local, Bits<2>>,
    selected: Signal<Local, bool>,
    template: Signal<Local, Piece>,
    device_bits: Signal<Local, Bits<128>>,
    request_low: Signal<Local, Bits<128>>,

    flush_opcode: Constant<Bits<8>>,
    read_opcode: Constant<Bits<8>>,
    compare_opcode: Constant<Bits<8>>,
    zeroes_opcode: Constant<Bits<8>>,
    deallocate_opcode: Constant<Bits<8>>,
    go: Constant<Bits<2>>,
    internal_error: Constant<Bits<11>>,
    table_number: Constant<Bits<16>>,
    table_size: Constant<Bits<32>>,
    no_status: Constant<Bits<11>>,
    unlimited: Constant<Bits<17>>,
    zero17: Constant<Bits<17>>,
    zero32: Constant<Bits<32>>,
    one16: Constant<Bits<16>>,
    zero16: Constant<Bits<16>>,
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
            table_valid: Default::default(),
            table_request: Default::default(),
            table_ack: Default::default(),
            table_data: Default::default(),
            idle: Default::default(),
            devices: LutRam::new(sizes.device_bits),
            devices_readback: LutRam::new(sizes.device_bits),
            state: Default::default(),
            plan: Default::default(),
            current: Default::default(),
            extent: Default::default(),
            rest: Default::default(),
            plan_offset: Default::default(),
            lba: Default::default(),
            limit: Default::default(),
            refused: Default::default(),
            first: Default::default(),
            out: Default::default(),
            out_valid: Default::default(),
            flush_mask: Default::default(),
            flush_device: Default::default(),
            run_extent: Default::default(),
            path_ok: Default::default(),
            zero16: Constant::new(0u64.to_bits()),
            flush_rest: Default::default(),
            limit_now: Default::default(),
            ack: Default::default(),
            ack_wait: Default::default(),
            out_free: Default::default(),
            cut_blocks: Default::default(),
            is_last_piece: Default::default(),
            device: Default::default(),
            path_bits: Default::default(),
            is_flush: Default::default(),
            unmapped: Default::default(),
            extent_bad: Default::default(),
            action: Default::default(),
            selected: Default::default(),
            template: Default::default(),
            device_bits: Default::default(),
            request_low: Default::default(),
            flush_opcode: Constant::new((opcode::FLUSH as u64).to_bits()),
            read_opcode: Constant::new((opcode::READ as u64).to_bits()),
            compare_opcode: Constant::new((opcode::COMPARE as u64).to_bits()),
            zeroes_opcode: Constant::new((opcode::WRITE_ZEROES as u64).to_bits()),
            deallocate_opcode: Constant::new((opcode::DATASET_MANAGEMENT as u64).to_bits()),
            go: Constant::new((extent_action::GO as u64).to_bits()),
            internal_error: Constant::new((status::INTERNAL_ERROR as u64).to_bits()),
            table_number: Constant::new((table::DEVICE as u64).to_bits()),
            table_size: Constant::new((1u64 << sizes.device_bits).to_bits()),
            no_status: Constant::new((status::SUCCESS as u64).to_bits()),
            unlimited: Constant::new((volplane_abi::registers::RANGE_BLOCKS_MAX as u64).to_bits()),
            zero17: Constant::new(0u64.to_bits()),
            zero32: Constant::new(0u64.to_bits()),
            one16: Constant::new(1u64.to_bits()),
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
            state,
            plan,
            current,
            rest,
            plan_offset,
            lba,
            limit,
            refused,
            first,
            out,
            out_valid,
            flush_mask,
            flush_device,
            ack,
            ack_wait
        );
        self.header.ready.next = false;
        self.run.ready.next = false;
        self.piece.valid.next = self.out_valid.q.val();
        self.piece.data.next = self.out.q.val();
        self.out_free.next = !self.out_valid.q.val() | self.piece.ready.val();
        if self.piece.ready.val() {
            self.out_valid.d.next = false;
        }
        self.idle.next = (self.state.q.val() == State::Idle) & !self.out_valid.q.val();

        // The table: two copies, one for the data path, one for reading back.
        self.devices.clock.next = self.clock.val();
        self.devices_readback.clock.next = self.clock.val();
        self.selected.next = self.table_valid.val()
            & (self.table_request.val().table == self.table_number.val())
            & (self.table_request.val().index < self.table_size.val());
        self.request_low.next = bit_cast::<128, 256>(self.table_request.val().data);
        self.devices.write.next = self.selected.val() & (self.table_request.val().write == self.flag.val());
        self.devices_readback.write.next = self.devices.write.val();
        self.devices.write_address.next = bit_cast::<16, 32>(self.table_request.val().index);
        self.devices_readback.write_address.next = bit_cast::<16, 32>(self.table_request.val().index);
        self.devices_readback.read_address.next = bit_cast::<16, 32>(self.table_request.val().index);
        self.devices.write_data.next = self.request_low.val().into();
        self.devices_readback.write_data.next = self.request_low.val().into();
        self.ack_wait.d.next = self.selected.val();
        self.ack.d.next = self.ack_wait.q.val();
        self.table_ack.next = self.ack.q.val();
        self.device_bits.next = self.devices_readback.read_data.val().into();
        self.table_data.next = bits::<256>(0);
        if self.ack.q.val() {
            self.table_data.next = bit_cast::<256, 128>(self.device_bits.val());
        }

        self.run_extent.next = self.run.data.val().extent.into();
        self.extent.next = self.current.q.val().extent.into();
        self.devices.read_address.next = self.extent.val().device;
        if (self.state.q.val() == State::Idle) | (self.state.q.val() == State::NextRun) {
            self.devices.read_address.next = self.run_extent.val().device;
        }
        if (self.state.q.val() == State::FlushScan) | (self.state.q.val() == State::FlushCut) {
            self.devices.read_address.next = self.flush_device.q.val();
        }
        self.device.next = self.devices.read_data.val();
        self.path_bits.next = (self.path_valid.val() >> bit_cast::<32, 8>(self.device.val().path));
        self.path_ok.next = self.path_bits.val().get_bit(0) & (self.device.val().valid == self.flag.val());
        self.is_flush.next = (self.header.data.val().opcode == self.flush_opcode.val());
        self.unmapped.next = (self.header.data.val().refusal != self.no_status.val())
            | (self.header.data.val().trivial == self.flag.val())
            | (self.is_flush.val() & (self.header.data.val().flush_devices == self.zero32.val()));
        self.action.next = self.extent.val().write_action;
        if (self.plan.q.val().opcode == self.read_opcode.val())
            | (self.plan.q.val().opcode == self.compare_opcode.val())
        {
            self.action.next = self.extent.val().read_action;
        }
        self.extent_bad.next =
            (self.extent.val().valid == self.clear.val()) | (self.action.val() != self.go.val());
        self.cut_blocks.next = self.rest.q.val();
        if (self.limit.q.val() < self.rest.q.val()) {
            self.cut_blocks.next = self.limit.q.val();
        }
        self.is_last_piece.next = (self.cut_blocks.val() == self.rest.q.val());

        self.template.next = self.out.q.val();
        self.template.next.slot = self.plan.q.val().slot;
        self.template.next.opcode = self.plan.q.val().opcode;
        self.template.next.prp1 = self.plan.q.val().prp1;
        self.template.next.prp2 = self.plan.q.val().prp2;
        self.template.next.plan_blocks = self.plan.q.val().blocks;
        self.template.next.block_shift = self.plan.q.val().block_shift;
        self.template.next.deallocate = self.plan.q.val().deallocate;
        self.template.next.force_unit_access = self.plan.q.val().force_unit_access;
        self.template.next.limited_retry = self.plan.q.val().limited_retry;
        self.template.next.cdw13 = self.plan.q.val().cdw13;
        self.template.next.plan_offset = self.plan_offset.q.val();
        self.template.next.blocks = self.cut_blocks.val();
        self.template.next.path = self.device.val().path;
        self.template.next.namespace_id = self.device.val().namespace_id;
        self.template.next.lba = self.lba.q.val();
        self.template.next.first = self.clear.val();
        if self.first.q.val() {
            self.template.next.first = self.flag.val();
        }
        self.template.next.last = self.clear.val();
        self.template.next.closing = self.clear.val();
        self.template.next.status = self.no_status.val();

        self.limit_now.next = self.device.val().transfer_limit;
        if (self.plan.q.val().opcode == self.zeroes_opcode.val()) {
            self.limit_now.next = self.device.val().write_zeroes_limit;
        }
        if (self.plan.q.val().opcode == self.deallocate_opcode.val()) {
            self.limit_now.next = self.unlimited.val();
        }
        self.flush_rest.next = (self.flush_mask.q.val() >> 1);

        match self.state.q.val() {
            State::Idle => {
                self.first.d.next = true;
                self.plan.d.next = self.header.data.val();
                self.current.d.next = self.run.data.val();
                self.flush_mask.d.next = self.header.data.val().flush_devices;
                self.flush_device.d.next = self.zero16.val();
                if self.header.valid.val() {
                    if self.unmapped.val() {
                        if self.out_free.val() {
                            self.header.ready.next = true;
                            self.out_valid.d.next = true;
                            self.out.d.next.slot = self.header.data.val().slot;
                            self.out.d.next.first = self.flag.val();
                            self.out.d.next.last = self.flag.val();
                            self.out.d.next.closing = self.flag.val();
                            self.out.d.next.status = self.header.data.val().refusal;
                        }
                    } else if self.is_flush.val() {
                        self.header.ready.next = true;
                        self.state.d.next = State::FlushScan;
                    } else if self.run.valid.val() {
                        self.header.ready.next = true;
                        self.run.ready.next = true;
                        self.state.d.next = State::Check;
                    }
                }
            }
            State::NextRun => {
                self.current.d.next = self.run.data.val();
                if self.run.valid.val() {
                    self.run.ready.next = true;
                    self.state.d.next = State::Check;
                }
            }
            State::Check => {
                self.lba.d.next =
                    self.extent.val().start + bit_cast::<48, 33>(self.current.q.val().extent_offset);
                self.rest.d.next = self.current.q.val().blocks;
                self.plan_offset.d.next = self.current.q.val().plan_offset;
                self.limit.d.next = self.limit_now.val();
                self.refused.d.next =
                    self.extent_bad.val() | !self.path_ok.val() | (self.limit_now.val() == self.zero17.val());
                self.state.d.next = State::Cut;
            }
            State::Cut => {
                if self.out_free.val() {
                    self.out_valid.d.next = true;
                    self.first.d.next = false;
                    self.out.d.next = self.template.val();
                    self.rest.d.next = self.rest.q.val() - self.cut_blocks.val();
                    self.plan_offset.d.next = self.plan_offset.q.val() + self.cut_blocks.val();
                    self.lba.d.next = self.lba.q.val() + bit_cast::<48, 17>(self.cut_blocks.val());
                    if self.refused.q.val() {
                        self.out.d.next.closing = self.flag.val();
                        self.out.d.next.status = self.internal_error.val();
                        self.out.d.next.last = self.flag.val();
                        self.state.d.next = State::DropRuns;
                        if (self.current.q.val().last == self.flag.val()) {
                            self.state.d.next = State::Idle;
                        }
                    } else if self.is_last_piece.val() {
                        self.out.d.next.last = self.current.q.val().last;
                        self.state.d.next = State::NextRun;
                        if (self.current.q.val().last == self.flag.val()) {
                            self.state.d.next = State::Idle;
                        }
                    }
                }
            }
            State::DropRuns => {
                self.run.ready.next = true;
                if self.run.valid.val() & (self.run.data.val().last == self.flag.val()) {
                    self.state.d.next = State::Idle;
                }
            }
            State::FlushScan => {
                if self.flush_mask.q.val().get_bit(0) {
                    self.state.d.next = State::FlushCut;
                } else {
                    self.flush_mask.d.next = self.flush_rest.val();
                    self.flush_device.d.next = self.flush_device.q.val() + self.one16.val();
                }
            }
            State::FlushCut => {
                if self.out_free.val() {
                    self.out_valid.d.next = true;
                    self.first.d.next = false;
                    self.out.d.next = self.template.val();
                    self.out.d.next.blocks = self.zero17.val();
                    self.flush_mask.d.next = self.flush_rest.val();
                    self.flush_device.d.next = self.flush_device.q.val() + self.one16.val();
                    self.state.d.next = State::FlushScan;
                    if (self.flush_rest.val() == self.zero32.val()) {
                        self.out.d.next.last = self.flag.val();
                        self.state.d.next = State::Idle;
                    }
                    if !self.path_ok.val() {
                        self.out.d.next.closing = self.flag.val();
                        self.out.d.next.status = self.internal_error.val();
                        self.out.d.next.last = self.flag.val();
                        self.state.d.next = State::Idle;
                    }
                }
            }
            _ => {}
        }

        if self.reset.val() {
            self.state.d.next = State::Idle;
            self.out_valid.d.next = false;
            self.ack_wait.d.next = false;
            self.ack.d.next = false;
        }
    }
}
