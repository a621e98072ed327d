//! The registers of BAR0, but for MSI-X and doorbells.
//!
//! Offsets, write masks and meanings are those of `volplane_abi::registers`; the tables below only
//! say where a value comes from. A read of an offset of this block is answered with `read_done` 3
//! cycles after `read_valid`, any other not at all. A write takes effect 2 cycles after
//! `write_valid`; a read that `Bar0` accepts after a write's answer sees it. Accepts a pulse of each in
//! every cycle.
//!
//! Event inputs are pulses, one event each, and are counted here. `card_idle` is what STATUS shows and
//! leaves out this block and `Bar0`: the read that asks would make them busy. `soft_reset` is a
//! pulse; from that pulse on STATUS is not ready. Reset (the core's) clears the read-write registers
//! and the counters; a read in work is then answered by nobody.

use rust_hdl::prelude::*;
use volplane_abi::plan::COMPONENTS_MAX;
use volplane_abi::registers;

use crate::sizes::Sizes;

const CONSTANTS: usize = 23;
const STORED: usize = 13;
const LIVE: usize = 9;

/// Read-write registers, in the order of `Registers::stored`.
const STORED_OFFSETS: [u32; STORED] = [
    registers::CONTROL,
    registers::CONTROL_SQ_BASE_LOW,
    registers::CONTROL_SQ_BASE_HIGH,
    registers::CONTROL_CQ_BASE_LOW,
    registers::CONTROL_CQ_BASE_HIGH,
    registers::CONTROL_SIZE,
    registers::INTERRUPT_COALESCING,
    registers::RANGE_BASE_LOW,
    registers::RANGE_BASE_HIGH,
    registers::EXCEPTION_BASE_LOW,
    registers::EXCEPTION_BASE_HIGH,
    registers::EXCEPTION_SIZE,
    registers::EXCEPTION_HEAD,
];

/// Live registers, in the order of `Registers::live`.
const LIVE_OFFSETS: [u32; LIVE] = [
    registers::STATUS,
    registers::UNKNOWN_COMPLETIONS,
    registers::BAD_HEADS,
    registers::READ_ERRORS,
    registers::WRITE_ERRORS,
    registers::TICKS,
    registers::COMMANDS_FETCHED,
    registers::COMPLETIONS_WRITTEN,
    registers::FRAGMENTS_ISSUED,
];

/// Offset and value of each constant register.
fn constants(sizes: &Sizes, data_bytes: u32, build_hash: u64) -> [(u32, u32); CONSTANTS] {
    [
        (registers::IDENTITY_LOW, registers::IDENTITY as u32),
        (registers::IDENTITY_HIGH, (registers::IDENTITY >> 32) as u32),
        (registers::ABI_VERSION, registers::ABI_VERSION_VALUE),
        (registers::DATA_BYTES, data_bytes),
        (registers::BUILD_HASH_LOW, build_hash as u32),
        (registers::BUILD_HASH_HIGH, (build_hash >> 32) as u32),
        (registers::CAP_QUEUES, 1 << sizes.queue_bits),
        (registers::CAP_VDS, 1 << sizes.vd_bits),
        (registers::CAP_CLIENTS, 0),
        (registers::CAP_ALLOCATIONS, 1 << sizes.allocation_bits),
        (registers::CAP_EXTENTS, 1 << sizes.extent_bits),
        (registers::CAP_DEVICES, 1 << sizes.device_bits),
        (registers::CAP_PATHS, 1 << sizes.path_bits),
        (registers::CAP_SLOTS, 1 << sizes.slot_bits),
        (registers::CAP_FRAGMENT_IDS, 1 << sizes.id_bits),
        // At worst every block of a command lies in a stripe unit of its own.
        (registers::CAP_FRAGMENTS, registers::RANGE_BLOCKS_MAX),
        (registers::CAP_COMPONENTS, COMPONENTS_MAX as u32),
        (registers::CAP_DIVERT_RANGES, 1 << sizes.divert_bits),
        (registers::CAP_VECTORS, 1 << sizes.vector_bits),
        (registers::CAP_TRANSFER_BYTES, registers::TRANSFER_BYTES_MAX),
        (registers::CAP_WINDOW_SHIFT, registers::WINDOW_SHIFT),
        (registers::CAP_COLUMNS, 16),
        (registers::CAP_PLANS, 1 << sizes.plan_bits),
    ]
}

fn write_mask(offset: u32) -> u32 {
    let register = registers::ALL.iter().find(|register| register.offset == offset);
    register.expect("every offset above is a register of the ABI").write_mask
}

fn offset_constant(offset: u32) -> Constant<Bits<18>> {
    Constant::new(u64::from(offset).to_bits())
}

fn word(value: u32) -> Constant<Bits<32>> {
    Constant::new(u64::from(value).to_bits())
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct Registers {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub write_valid: Signal<In, bool>,
    pub write_address: Signal<In, Bits<18>>,
    pub write_data: Signal<In, Bits<32>>,
    pub read_valid: Signal<In, bool>,
    pub read_address: Signal<In, Bits<18>>,
    pub read_data: Signal<Out, Bits<32>>,
    pub read_done: Signal<Out, bool>,
    pub enable: Signal<Out, bool>,
    pub soft_reset: Signal<Out, bool>,
    pub control_sq_base: Signal<Out, Bits<64>>,
    pub control_cq_base: Signal<Out, Bits<64>>,
    pub control_entries_z: Signal<Out, Bits<16>>,
    pub control_vector: Signal<Out, Bits<8>>,
    pub control_interrupt: Signal<Out, bool>,
    pub coalesce_count: Signal<Out, Bits<8>>,
    pub coalesce_ticks: Signal<Out, Bits<8>>,
    pub range_base: Signal<Out, Bits<64>>,
    pub exception_base: Signal<Out, Bits<64>>,
    pub exception_entries_z: Signal<Out, Bits<16>>,
    pub exception_vector: Signal<Out, Bits<8>>,
    pub exception_interrupt: Signal<Out, bool>,
    pub exception_head: Signal<Out, Bits<16>>,
    pub ready: Signal<In, bool>,
    pub control_stopped: Signal<In, bool>,
    pub card_idle: Signal<In, bool>,
    pub unknown_completions: Signal<In, Bits<32>>,
    pub bad_heads: Signal<In, Bits<32>>,
    pub read_errors: Signal<In, Bits<32>>,
    pub write_errors: Signal<In, Bits<32>>,
    pub tick: Signal<In, bool>,
    pub command_fetched: Signal<In, bool>,
    pub completion_written: Signal<In, bool>,
    pub fragment_issued: Signal<In, bool>,
    pub idle: Signal<Out, bool>,

    constant_offset: [Constant<Bits<18>>; CONSTANTS],
    constant_value: [Constant<Bits<32>>; CONSTANTS],
    constant_hit: [DFF<bool>; CONSTANTS],
    stored_offset: [Constant<Bits<18>>; STORED],
    stored_mask: [Constant<Bits<32>>; STORED],
    stored_hit: [DFF<bool>; STORED],
    write_hit: [DFF<bool>; STORED],
    stored: [DFF<Bits<32>>; STORED],
    live_offset: [Constant<Bits<18>>; LIVE],
    live_hit: [DFF<bool>; LIVE],
    live: [Signal<Local, Bits<32>>; LIVE],
    written: DFF<Bits<32>>,
    write_pending: DFF<bool>,
    read_pending: DFF<bool>,
    constant_read: DFF<Bits<32>>,
    stored_read: DFF<Bits<32>>,
    live_read: DFF<Bits<32>>,
    known: DFF<bool>,
    answer: DFF<Bits<32>>,
    answered: DFF<bool>,
    soft_reset_register: DFF<bool>,
    ticks: DFF<Bits<32>>,
    commands: DFF<Bits<32>>,
    completions: DFF<Bits<32>>,
    fragments: DFF<Bits<32>>,
    status_ready: Signal<Local, Bits<32>>,
    status_stopped: Signal<Local, Bits<32>>,
    status_idle: Signal<Local, Bits<32>>,
    constant_sum: Signal<Local, Bits<32>>,
    stored_sum: Signal<Local, Bits<32>>,
    live_sum: Signal<Local, Bits<32>>,
    any_hit: Signal<Local, bool>,
    ring_vector: Signal<Local, Bits<32>>,
    ring_interrupt: Signal<Local, Bits<32>>,
    enabled: Signal<Local, Bits<32>>,
    reset_bit: Signal<Local, Bits<32>>,
    exception_size: Signal<Local, Bits<32>>,
    exception_vector_bits: Signal<Local, Bits<32>>,
    exception_enabled: Signal<Local, Bits<32>>,
    coalescing: Signal<Local, Bits<32>>,
    ring_size: Signal<Local, Bits<32>>,
    enable_mask: Constant<Bits<32>>,
    reset_mask: Constant<Bits<32>>,
    ready_value: Constant<Bits<32>>,
    stopped_value: Constant<Bits<32>>,
    idle_value: Constant<Bits<32>>,
    interrupt_mask: Constant<Bits<32>>,
    vector_shift: Constant<Bits<32>>,
    entries_mask: Constant<Bits<32>>,
    zero: Constant<Bits<32>>,
    one: Constant<Bits<32>>,
}

impl Registers {
    /// The registers of a card of `sizes` with data beats of `data_bytes`, built from RTL that hashes to
    /// `build_hash`.
    pub fn new(sizes: &Sizes, data_bytes: u32, build_hash: u64) -> Self {
        let constants = constants(sizes, data_bytes, build_hash);
        // The kernel takes the fields of INTERRUPT_COALESCING from bits 7:0 and 15:8.
        assert_eq!((registers::COALESCING_COUNT.low(), registers::COALESCING_COUNT.width()), (0, 8));
        assert_eq!((registers::COALESCING_TICKS.low(), registers::COALESCING_TICKS.width()), (8, 8));
        Self {
            clock: Default::default(),
            reset: Default::default(),
            write_valid: Default::default(),
            write_address: Default::default(),
            write_data: Default::default(),
            read_valid: Default::default(),
            read_address: Default::default(),
            read_data: Default::default(),
            read_done: Default::default(),
            enable: Default::default(),
            soft_reset: Default::default(),
            control_sq_base: Default::default(),
            control_cq_base: Default::default(),
            control_entries_z: Default::default(),
            control_vector: Default::default(),
            control_interrupt: Default::default(),
            coalesce_count: Default::default(),
            coalesce_ticks: Default::default(),
            range_base: Default::default(),
            exception_base: Default::default(),
            exception_entries_z: Default::default(),
            exception_vector: Default::default(),
            exception_interrupt: Default::default(),
            exception_head: Default::default(),
            ready: Default::default(),
            control_stopped: Default::default(),
            card_idle: Default::default(),
            unknown_completions: Default::default(),
            bad_heads: Default::default(),
            read_errors: Default::default(),
            write_errors: Default::default(),
            tick: Default::default(),
            command_fetched: Default::default(),
            completion_written: Default::default(),
            fragment_issued: Default::default(),
            idle: Default::default(),
            constant_offset: constants.map(|(offset, _)| offset_constant(offset)),
            constant_value: constants.map(|(_, value)| word(value)),
            constant_hit: Default::default(),
            stored_offset: STORED_OFFSETS.map(offset_constant),
            stored_mask: STORED_OFFSETS.map(|offset| word(write_mask(offset))),
            stored_hit: Default::default(),
            write_hit: Default::default(),
            stored: Default::default(),
            live_offset: LIVE_OFFSETS.map(offset_constant),
            live_hit: Default::default(),
            live: Default::default(),
            written: Default::default(),
            write_pending: Default::default(),
            read_pending: Default::default(),
            constant_read: Default::default(),
            stored_read: Default::default(),
            live_read: Default::default(),
            known: Default::default(),
            answer: Default::default(),
            answered: Default::default(),
            soft_reset_register: Default::default(),
            ticks: Default::default(),
            commands: Default::default(),
            completions: Default::default(),
            fragments: Default::default(),
            status_ready: Default::default(),
            status_stopped: Default::default(),
            status_idle: Default::default(),
            constant_sum: Default::default(),
            stored_sum: Default::default(),
            live_sum: Default::default(),
            any_hit: Default::default(),
            ring_vector: Default::default(),
            ring_interrupt: Default::default(),
            enabled: Default::default(),
            reset_bit: Default::default(),
            exception_size: Default::default(),
            exception_vector_bits: Default::default(),
            exception_enabled: Default::default(),
            coalescing: Default::default(),
            ring_size: Default::default(),
            enable_mask: word(registers::CONTROL_ENABLE),
            reset_mask: word(registers::CONTROL_RESET),
            ready_value: word(registers::STATUS_READY),
            stopped_value: word(registers::STATUS_CONTROL_STOPPED),
            idle_value: word(registers::STATUS_IDLE),
            interrupt_mask: word(registers::RING_SIZE_INTERRUPT),
            vector_shift: word(registers::RING_SIZE_VECTOR_SHIFT),
            entries_mask: word(registers::RING_ENTRIES_MAX - 1),
            zero: word(0),
            one: word(1),
        }
    }
}

impl Logic for Registers {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            written,
            write_pending,
            read_pending,
            constant_read,
            stored_read,
            live_read,
            known,
            answer,
            answered,
            soft_reset_register,
            ticks,
            commands,
            completions,
            fragments
        );
        // Stage 1: which register.
        self.write_pending.d.next = self.write_valid.val();
        self.written.d.next = self.write_data.val();
        self.read_pending.d.next = self.read_valid.val();
        for i in 0..23 {
            self.constant_hit[i].clock.next = self.clock.val();
            self.constant_hit[i].d.next = (self.read_address.val() == self.constant_offset[i].val());
        }
        for i in 0..9 {
            self.live_hit[i].clock.next = self.clock.val();
            self.live_hit[i].d.next = (self.read_address.val() == self.live_offset[i].val());
        }
        for i in 0..13 {
            self.stored_hit[i].clock.next = self.clock.val();
            self.stored_hit[i].d.next = (self.read_address.val() == self.stored_offset[i].val());
            self.write_hit[i].clock.next = self.clock.val();
            self.write_hit[i].d.next = (self.write_address.val() == self.stored_offset[i].val());
        }

        // Stage 2: the register; at most one of the hits is set.
        self.reset_bit.next = (self.written.q.val() & self.reset_mask.val());
        self.soft_reset_register.d.next =
            self.write_pending.q.val() & self.write_hit[0].q.val() & self.reset_bit.val().any();
        for i in 0..13 {
            self.stored[i].clock.next = self.clock.val();
            self.stored[i].d.next = self.stored[i].q.val();
            if self.write_pending.q.val() & self.write_hit[i].q.val() {
                self.stored[i].d.next = (self.written.q.val() & self.stored_mask[i].val());
            }
        }
        self.status_ready.next = self.zero.val();
        self.status_stopped.next = self.zero.val();
        self.status_idle.next = self.zero.val();
        if self.ready.val() & !self.soft_reset_register.q.val() {
            self.status_ready.next = self.ready_value.val();
        }
        if self.control_stopped.val() {
            self.status_stopped.next = self.stopped_value.val();
        }
        if self.card_idle.val() {
            self.status_idle.next = self.idle_value.val();
        }
        self.live[0].next = (self.status_ready.val() | self.status_stopped.val() | self.status_idle.val());
        self.live[1].next = self.unknown_completions.val();
        self.live[2].next = self.bad_heads.val();
        self.live[3].next = self.read_errors.val();
        self.live[4].next = self.write_errors.val();
        self.live[5].next = self.ticks.q.val();
        self.live[6].next = self.commands.q.val();
        self.live[7].next = self.completions.q.val();
        self.live[8].next = self.fragments.q.val();
        self.constant_sum.next = self.zero.val();
        self.stored_sum.next = self.zero.val();
        self.live_sum.next = self.zero.val();
        self.any_hit.next = false;
        for i in 0..23 {
            if self.constant_hit[i].q.val() {
                self.constant_sum.next = (self.constant_sum.val() | self.constant_value[i].val());
                self.any_hit.next = true;
            }
        }
        for i in 0..13 {
            if self.stored_hit[i].q.val() {
                self.stored_sum.next = (self.stored_sum.val() | self.stored[i].q.val());
                self.any_hit.next = true;
            }
        }
        for i in 0..9 {
            if self.live_hit[i].q.val() {
                self.live_sum.next = (self.live_sum.val() | self.live[i].val());
                self.any_hit.next = true;
            }
        }
        self.constant_read.d.next = self.constant_sum.val();
        self.stored_read.d.next = self.stored_sum.val();
        self.live_read.d.next = self.live_sum.val();
        self.known.d.next = self.read_pending.q.val() & self.any_hit.val();

        // Stage 3: the answer, 0 when there is none, for others answer on the same wires.
        self.answered.d.next = self.known.q.val();
        self.answer.d.next = self.zero.val();
        if self.known.q.val() {
            self.answer.d.next =
                (self.constant_read.q.val() | self.stored_read.q.val() | self.live_read.q.val());
        }
        self.read_done.next = self.answered.q.val();
        self.read_data.next = self.answer.q.val();
        self.idle.next = !self.write_pending.q.val()
            & !self.read_pending.q.val()
            & !self.known.q.val()
            & !self.answered.q.val()
            & !self.soft_reset_register.q.val();

        if self.tick.val() {
            self.ticks.d.next = self.ticks.q.val() + self.one.val();
        }
        if self.command_fetched.val() {
            self.commands.d.next = self.commands.q.val() + self.one.val();
        }
        if self.completion_written.val() {
            self.completions.d.next = self.completions.q.val() + self.one.val();
        }
        if self.fragment_issued.val() {
            self.fragments.d.next = self.fragments.q.val() + self.one.val();
        }

        self.soft_reset.next = self.soft_reset_register.q.val();
        self.enabled.next = (self.stored[0].q.val() & self.enable_mask.val());
        self.enable.next = self.enabled.val().any();
        self.control_sq_base.next =
            bit_cast::<64, 32>(self.stored[1].q.val()) | (bit_cast::<64, 32>(self.stored[2].q.val()) << 32);
        self.control_cq_base.next =
            bit_cast::<64, 32>(self.stored[3].q.val()) | (bit_cast::<64, 32>(self.stored[4].q.val()) << 32);
        self.ring_size.next = (self.stored[5].q.val() & self.entries_mask.val());
        self.control_entries_z.next = bit_cast::<16, 32>(self.ring_size.val());
        self.ring_vector.next = (self.stored[5].q.val() >> self.vector_shift.val());
        self.control_vector.next = bit_cast::<8, 32>(self.ring_vector.val());
        self.ring_interrupt.next = (self.stored[5].q.val() & self.interrupt_mask.val());
        self.control_interrupt.next = self.ring_interrupt.val().any();
        self.coalescing.next = self.stored[6].q.val();
        self.coalesce_count.next = self.coalescing.val().get_bits::<8>(0);
        self.coalesce_ticks.next = self.coalescing.val().get_bits::<8>(8);
        self.range_base.next =
            bit_cast::<64, 32>(self.stored[7].q.val()) | (bit_cast::<64, 32>(self.stored[8].q.val()) << 32);
        self.exception_base.next =
            bit_cast::<64, 32>(self.stored[9].q.val()) | (bit_cast::<64, 32>(self.stored[10].q.val()) << 32);
        self.exception_size.next = (self.stored[11].q.val() & self.entries_mask.val());
        self.exception_entries_z.next = bit_cast::<16, 32>(self.exception_size.val());
        self.exception_vector_bits.next = (self.stored[11].q.val() >> self.vector_shift.val());
        self.exception_vector.next = bit_cast::<8, 32>(self.exception_vector_bits.val());
        self.exception_enabled.next = (self.stored[11].q.val() & self.interrupt_mask.val());
        self.exception_interrupt.next = self.exception_enabled.val().any();
        self.exception_head.next = bit_cast::<16, 32>(self.stored[12].q.val());

        if self.reset.val() {
            for i in 0..13 {
                self.stored[i].d.next = self.zero.val();
            }
            self.write_pending.d.next = false;
            self.read_pending.d.next = false;
            self.known.d.next = false;
            self.answered.d.next = false;
            self.answer.d.next = self.zero.val();
            self.soft_reset_register.d.next = false;
            self.ticks.d.next = self.zero.val();
            self.commands.d.next = self.zero.val();
            self.completions.d.next = self.zero.val();
            self.fragments.d.next = self.zero.val();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use registers::Access;
    use std::collections::BTreeMap;

    const HASH: u64 = 0x0123_4567_89AB_CDEF;

    fn start(name: &str, sizes: &Sizes, data_bytes: u32) -> Bench {
        let mut bench = Bench::new(name, Registers::new(sizes, data_bytes, HASH));
        bench.set("reset", 1);
        bench.cycle();
        bench.cycle();
        bench.set("reset", 0);
        bench
    }

    fn write(bench: &mut Bench, offset: u32, value: u32) {
        bench.set("write_valid", 1);
        bench.set("write_address", offset.into());
        bench.set("write_data", value.into());
        bench.cycle();
        bench.set("write_valid", 0);
    }

    fn read(bench: &mut Bench, offset: u32) -> Option<u32> {
        bench.set("read_valid", 1);
        bench.set("read_address", offset.into());
        bench.cycle();
        bench.set("read_valid", 0);
        let mut value = None;
        for cycle in 1..33 {
            if bench.get("read_done") == 1 {
                assert_eq!(cycle, 3, "the header's latency");
                value = Some(bench.get("read_data") as u32);
            } else {
                assert_eq!(bench.get("read_data"), 0);
            }
            bench.cycle();
        }
        value
    }

    /// Walks the ABI's map; the numbers of the identity are typed from the document.
    fn walk(name: &str, sizes: Sizes, data_bytes: u32) {
        let mut bench = start(name, &sizes, data_bytes);
        assert_eq!(read(&mut bench, 0x000), Some(0x504C_4F56));
        assert_eq!(read(&mut bench, 0x004), Some(0x454E_414C));
        assert_eq!(read(&mut bench, 0x008), Some(0x0001_0005));
        assert_eq!(read(&mut bench, 0x00C), Some(data_bytes));
        assert_eq!(read(&mut bench, 0x010), Some(0x89AB_CDEF));
        assert_eq!(read(&mut bench, 0x018), Some(1 << sizes.queue_bits));
        assert_eq!(read(&mut bench, 0x034), Some(1 << sizes.slot_bits));
        for register in registers::ALL {
            let before = read(&mut bench, register.offset);
            assert!(before.is_some(), "{} is not answered", register.name);
            if register.access == Access::ReadWrite {
                assert_eq!(before, Some(0), "{}", register.name);
                for value in [0xFFFF_FFFD, 0x5A5A_5A58, 0xA5A5_A5A5] {
                    write(&mut bench, register.offset, value);
                    assert_eq!(read(&mut bench, register.offset), Some(value & register.write_mask));
                }
            } else {
                write(&mut bench, register.offset, 0xFFFF_FFFF);
                assert_eq!(read(&mut bench, register.offset), before, "{}", register.name);
            }
        }
        for offset in (0..registers::BAR0_BYTES as u32).step_by(4).filter(|o| o % 0x404 == 0 || *o < 0x200) {
            let known = registers::ALL.iter().any(|register| register.offset == offset);
            assert_eq!(read(&mut bench, offset).is_some(), known, "{offset:#x}");
        }
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        for register in registers::ALL.iter().filter(|register| register.access == Access::ReadWrite) {
            assert_eq!(read(&mut bench, register.offset), Some(0), "{}", register.name);
        }
    }

    #[test]
    fn the_map_is_the_abis() {
        walk("registers_default", Sizes::DEFAULT, 16);
        walk("registers_ecp5", Sizes::ECP5, 64);
    }

    #[test]
    fn control_outputs_follow_and_reset_pulses() {
        let mut bench = start("registers_outputs", &Sizes::DEFAULT, 16);
        for (offset, value) in [
            (0x088, 0x1234_5FFF),
            (0x08C, 0x9ABC_DEF0),
            (0x090, 0x1111_1000),
            (0x094, 0x2222_2222),
            (0x098, 0x8012_0345),
            (0x09C, 0x0000_0708),
            (0x0A0, 0x3333_3000),
            (0x0A4, 0x4444_4444),
            (0x0A8, 0x5555_5FFF),
            (0x0AC, 0x6666_6666),
            (0x0B0, 0x8017_0ABC),
            (0x0B4, 0x0000_0DEF),
            (0x080, 0x0000_0001),
        ] {
            write(&mut bench, offset, value);
        }
        bench.cycle();
        assert_eq!(bench.get("control_sq_base"), 0x9ABC_DEF0_1234_5000);
        assert_eq!(bench.get("control_cq_base"), 0x2222_2222_1111_1000);
        assert_eq!(bench.get("control_entries_z"), 0x345);
        assert_eq!(bench.get("control_vector"), 0x12);
        assert_eq!((bench.get("control_interrupt"), bench.get("enable")), (1, 1));
        assert_eq!((bench.get("coalesce_count"), bench.get("coalesce_ticks")), (8, 7));
        assert_eq!(bench.get("range_base"), 0x4444_4444_3333_3000);
        assert_eq!(bench.get("exception_base"), 0x6666_6666_5555_5000);
        assert_eq!((bench.get("exception_entries_z"), bench.get("exception_vector")), (0xABC, 0x17));
        assert_eq!((bench.get("exception_interrupt"), bench.get("exception_head")), (1, 0xDEF));

        bench.set("ready", 1);
        write(&mut bench, 0x080, 0x0000_0003);
        let mut pulses = 0;
        // The earliest read that `Bar0` can accept after the write is already not ready.
        bench.set("read_valid", 1);
        bench.set("read_address", 0x084);
        for cycle in 0..4 {
            bench.cycle();
            bench.set("read_valid", 0);
            pulses += bench.get("soft_reset");
            if bench.get("soft_reset") == 1 {
                bench.cycle();
                bench.set("ready", 0);
                pulses += bench.get("soft_reset");
            }
            if bench.get("read_done") == 1 {
                assert_eq!(bench.get("read_data") & 1, 0, "cycle {cycle}");
            }
        }
        assert_eq!((pulses, bench.get("enable")), (1, 1));
    }

    /// Random accesses, events and status inputs against a map of offsets.
    #[test]
    fn matches_a_model_under_random_traffic() {
        let mut bench = start("registers_random", &Sizes::DEFAULT, 16);
        let mut random = seeded();
        let mut stored: BTreeMap<u32, u32> = STORED_OFFSETS.iter().map(|&offset| (offset, 0)).collect();
        let mut events = [0u32; 4];
        let names = ["tick", "command_fetched", "completion_written", "fragment_issued"];
        for _ in 0..4_000 {
            let inputs: [u32; 4] = random.random();
            let flags: [bool; 3] = random.random();
            for (name, value) in
                ["unknown_completions", "bad_heads", "read_errors", "write_errors"].iter().zip(inputs)
            {
                bench.set(name, value.into());
            }
            for (name, value) in ["ready", "control_stopped", "card_idle"].iter().zip(flags) {
                bench.set(name, value.into());
            }
            for (name, count) in names.iter().zip(&mut events) {
                let pulses = random.random_range(0..3u32);
                bench.set(name, 1);
                for _ in 0..pulses {
                    bench.cycle();
                }
                bench.set(name, 0);
                *count += pulses;
            }
            let offset = registers::ALL[random.random_range(0..registers::ALL.len())].offset;
            if random.random_bool(0.5) {
                let value = random.random::<u32>() & !registers::CONTROL_RESET;
                write(&mut bench, offset, value);
                bench.cycle();
                stored.entry(offset).and_modify(|kept| *kept = value & write_mask(offset));
            }
            let offset = registers::ALL[random.random_range(0..registers::ALL.len())].offset;
            let expected = match offset {
                registers::STATUS => {
                    u32::from(flags[0]) | u32::from(flags[1]) << 1 | u32::from(flags[2]) << 2
                }
                0x0C0..=0x0CC => inputs[(offset as usize - 0x0C0) / 4],
                0x0D0..=0x0DC => events[(offset as usize - 0x0D0) / 4],
                _ => match stored.get(&offset) {
                    Some(&value) => value,
                    None => {
                        constants(&Sizes::DEFAULT, 16, HASH)
                            .iter()
                            .find(|&&(at, _)| at == offset)
                            .expect("a constant")
                            .1
                    }
                },
            };
            assert_eq!(read(&mut bench, offset), Some(expected), "{offset:#x}");
        }
    }
}
