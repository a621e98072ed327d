//! The MSI-X table and pending bits of BAR0, and the interrupts sent from them.
//!
//! A raised vector passes the coalescer; when it fires, `irq` has a one-cycle pulse for bridges that
//! own MSI-X, and its pending bit is set. A vector that is pending, not masked and enabled by
//! `msix_enable` is sent: its message goes to `write` and the pending bit is cleared, so raises that
//! come faster than messages leave share one. What is masked stays pending and is sent on unmasking;
//! a message may still leave for a vector that was masked less than 6 cycles before.
//! Layout of an entry and of the pending bits: PCIe Base 5.0, section 7.7.2.
//!
//! Handshake: streams; the register bus is that of `Bar0`, a read is answered 3 cycles after
//! `read_valid`, of this block's offsets only. Latency: 8 cycles from firing to `write` when nothing else
//! is sent. Throughput: a message every 8 cycles or so, vectors in turn. `idle` rises some cycles late.
//!
//! Reset (the core's) forgets what is pending or waits; messages and masks belong to the operating
//! system and stay. `hard_reset` (the card's own or function level reset) masks every vector.

use rust_hdl::prelude::*;
use volplane_abi::registers;

use super::interrupt_coalescer::InterruptCoalescer;
use super::vector_picker::VectorPicker;
use crate::prim::ram::LutRam;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::SmallWrite;
use crate::sizes::Sizes;

/// Bytes of an entry of the table.
const ENTRY_BYTES: u64 = 16;
/// Bytes in which the pending bits of up to 64 vectors lie.
const PENDING_BYTES: u64 = 8;

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum State {
    /// Waits for a vector to send.
    Idle,
    /// Reads its message, unless the register bus reads.
    Fetch,
    Capture,
    Send,
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct MsiX {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub hard_reset: Signal<In, bool>,
    pub write_valid: Signal<In, bool>,
    pub write_address: Signal<In, Bits<18>>,
    pub write_data: Signal<In, Bits<32>>,
    pub read_valid: Signal<In, bool>,
    pub read_address: Signal<In, Bits<18>>,
    pub read_data: Signal<Out, Bits<32>>,
    pub read_done: Signal<Out, bool>,
    pub raise_client: StreamIn<Bits<8>>,
    pub raise_control: StreamIn<Bits<8>>,
    pub coalesce_count: Signal<In, Bits<8>>,
    pub coalesce_ticks: Signal<In, Bits<8>>,
    pub tick: Signal<In, bool>,
    pub msix_enable: Signal<In, bool>,
    pub write: StreamOut<SmallWrite>,
    pub irq: Signal<Out, Bits<32>>,
    pub idle: Signal<Out, bool>,

    coalescer: InterruptCoalescer,
    picker: VectorPicker,
    address_low: LutRam<Bits<32>>,
    address_high: LutRam<Bits<32>>,
    message: LutRam<Bits<32>>,
    masked: DFF<Bits<32>>,
    pending: DFF<Bits<32>>,
    /// Pending, not masked and enabled, a cycle ago.
    sendable: DFF<Bits<32>>,
    sendable_any: DFF<bool>,
    // The register bus: an access of the table one cycle after its pulse.
    write_hit: DFF<bool>,
    write_offset: DFF<Bits<18>>,
    written: DFF<Bits<32>>,
    table_hit: DFF<bool>,
    pending_hit: DFF<bool>,
    read_offset: DFF<Bits<18>>,
    table_select: DFF<bool>,
    pending_select: DFF<bool>,
    read_word: DFF<Bits<2>>,
    /// The mask bits of the eight vectors around the one that is read, and its place there.
    read_masks: DFF<Bits<8>>,
    read_place: DFF<Bits<3>>,
    answered: DFF<bool>,
    answer: DFF<Bits<32>>,
    state: DFF<State>,
    sending: DFF<Bits<16>>,
    /// The bit of the vector that is sent; it was sendable when it was taken.
    sending_hot: DFF<Bits<32>>,
    sending_live: DFF<bool>,
    /// The state is idle.
    resting: DFF<bool>,
    enabled: DFF<bool>,
    /// Something may have changed what is to be sent.
    recent: DFF<bool>,
    /// Something may have come a cycle ago.
    entered: DFF<bool>,
    idle_register: DFF<bool>,
    message_register: DFF<SmallWrite>,
    write_at: Signal<Local, Bits<18>>,
    read_at: Signal<Local, Bits<18>>,
    write_vector: Signal<Local, Bits<5>>,
    write_word: Signal<Local, Bits<2>>,
    write_hot: Signal<Local, Bits<32>>,
    read_vector: Signal<Local, Bits<5>>,
    table_word: Signal<Local, Bits<32>>,
    mask_word: Signal<Local, Bits<32>>,
    pending_word: Signal<Local, Bits<32>>,
    ready_to_send: Signal<Local, Bits<32>>,
    read_byte: Signal<Local, Bits<5>>,
    read_masked: Signal<Local, bool>,
    picked: Signal<Local, Bits<32>>,
    cleared: Signal<Local, Bits<32>>,
    read_address_now: Signal<Local, Bits<16>>,
    table_base: Constant<Bits<18>>,
    table_end: Constant<Bits<18>>,
    pending_base: Constant<Bits<18>>,
    pending_end: Constant<Bits<18>>,
    word0: Constant<Bits<2>>,
    word1: Constant<Bits<2>>,
    word2: Constant<Bits<2>>,
    word3: Constant<Bits<2>>,
    byte_mask: Constant<Bits<5>>,
    mask_bit: Constant<Bits<32>>,
    one32: Constant<Bits<32>>,
    zero32: Constant<Bits<32>>,
    all32: Constant<Bits<32>>,
    clear: Constant<Bits<1>>,
}

fn offset(value: u64) -> Constant<Bits<18>> {
    Constant::new(value.to_bits())
}

impl MsiX {
    /// MSI-X with 2^`vector_bits` vectors.
    pub fn new(sizes: &Sizes) -> Self {
        let table = u64::from(registers::MSIX_TABLE);
        let pending = u64::from(registers::MSIX_PBA);
        Self {
            clock: Default::default(),
            reset: Default::default(),
            hard_reset: Default::default(),
            write_valid: Default::default(),
            write_address: Default::default(),
            write_data: Default::default(),
            read_valid: Default::default(),
            read_address: Default::default(),
            read_data: Default::default(),
            read_done: Default::default(),
            raise_client: Default::default(),
            raise_control: Default::default(),
            coalesce_count: Default::default(),
            coalesce_ticks: Default::default(),
            tick: Default::default(),
            msix_enable: Default::default(),
            write: Default::default(),
            irq: Default::default(),
            idle: Default::default(),
            coalescer: InterruptCoalescer::new(sizes),
            picker: Default::default(),
            address_low: LutRam::new(5),
            address_high: LutRam::new(5),
            message: LutRam::new(5),
            masked: Default::default(),
            pending: Default::default(),
            sendable: Default::default(),
            sendable_any: Default::default(),
            write_hit: Default::default(),
            write_offset: Default::default(),
            written: Default::default(),
            table_hit: Default::default(),
            pending_hit: Default::default(),
            read_offset: Default::default(),
            table_select: Default::default(),
            pending_select: Default::default(),
            read_word: Default::default(),
            read_masks: Default::default(),
            read_place: Default::default(),
            answered: Default::default(),
            answer: Default::default(),
            state: Default::default(),
            sending: Default::default(),
            sending_hot: Default::default(),
            sending_live: Default::default(),
            resting: Default::default(),
            enabled: Default::default(),
            recent: Default::default(),
            entered: Default::default(),
            idle_register: Default::default(),
            message_register: Default::default(),
            write_at: Default::default(),
            read_at: Default::default(),
            write_vector: Default::default(),
            write_word: Default::default(),
            write_hot: Default::default(),
            read_vector: Default::default(),
            table_word: Default::default(),
            mask_word: Default::default(),
            pending_word: Default::default(),
            ready_to_send: Default::default(),
            read_byte: Default::default(),
            read_masked: Default::default(),
            picked: Default::default(),
            cleared: Default::default(),
            read_address_now: Default::default(),
            table_base: offset(table),
            table_end: offset(table + (ENTRY_BYTES << sizes.vector_bits)),
            pending_base: offset(pending),
            pending_end: offset(pending + PENDING_BYTES),
            word0: Constant::new(0u64.to_bits()),
            word1: Constant::new(1u64.to_bits()),
            word2: Constant::new(2u64.to_bits()),
            word3: Constant::new(3u64.to_bits()),
            byte_mask: Constant::new(0x18u64.to_bits()),
            mask_bit: Constant::new(1u64.to_bits()),
            one32: Constant::new(1u64.to_bits()),
            zero32: Constant::new(0u64.to_bits()),
            all32: Constant::new(0xFFFF_FFFFu64.to_bits()),
            clear: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for MsiX {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            masked,
            pending,
            sendable,
            sendable_any,
            write_hit,
            write_offset,
            written,
            table_hit,
            pending_hit,
            read_offset,
            table_select,
            pending_select,
            read_word,
            read_masks,
            read_place,
            answered,
            answer,
            state,
            sending,
            sending_hot,
            sending_live,
            resting,
            enabled,
            recent,
            entered,
            idle_register,
            message_register
        );
        clock!(self, clock, coalescer, picker, address_low, address_high, message);
        self.coalescer.reset.next = self.reset.val();
        self.picker.reset.next = self.reset.val();
        StreamIn::<Bits<8>>::link(&mut self.raise_client, &mut self.coalescer.raise_client);
        StreamIn::<Bits<8>>::link(&mut self.raise_control, &mut self.coalescer.raise_control);
        self.coalescer.coalesce_count.next = self.coalesce_count.val();
        self.coalescer.coalesce_ticks.next = self.coalesce_ticks.val();
        self.coalescer.tick.next = self.tick.val();
        self.irq.next = self.coalescer.fired.val();

        // Writes of the table.
        self.write_hit.d.next = self.write_valid.val()
            & (self.write_address.val() >= self.table_base.val())
            & (self.write_address.val() < self.table_end.val());
        self.write_offset.d.next = self.write_address.val() - self.table_base.val();
        self.written.d.next = self.write_data.val();
        self.write_at.next = self.write_offset.q.val();
        self.write_word.next = self.write_at.val().get_bits::<2>(2);
        self.write_vector.next = self.write_at.val().get_bits::<5>(4);
        self.write_hot.next = (self.one32.val() << bit_cast::<32, 5>(self.write_vector.val()));
        self.mask_word.next = self.written.q.val() & self.mask_bit.val();
        self.address_low.write.next = self.write_hit.q.val() & (self.write_word.val() == self.word0.val());
        self.address_high.write.next = self.write_hit.q.val() & (self.write_word.val() == self.word1.val());
        self.message.write.next = self.write_hit.q.val() & (self.write_word.val() == self.word2.val());
        self.address_low.write_address.next = bit_cast::<16, 5>(self.write_vector.val());
        self.address_high.write_address.next = bit_cast::<16, 5>(self.write_vector.val());
        self.message.write_address.next = bit_cast::<16, 5>(self.write_vector.val());
        self.address_low.write_data.next = self.written.q.val();
        self.address_high.write_data.next = self.written.q.val();
        self.message.write_data.next = self.written.q.val();
        if self.write_hit.q.val() & (self.write_word.val() == self.word3.val()) {
            self.masked.d.next = self.masked.q.val() & !self.write_hot.val();
            if self.mask_word.val().any() {
                self.masked.d.next = self.masked.q.val() | self.write_hot.val();
            }
        }

        // Reads of the table and of the pending bits; they come before the sender's.
        self.table_hit.d.next = self.read_valid.val()
            & (self.read_address.val() >= self.table_base.val())
            & (self.read_address.val() < self.table_end.val());
        self.pending_hit.d.next = self.read_valid.val()
            & (self.read_address.val() >= self.pending_base.val())
            & (self.read_address.val() < self.pending_end.val());
        self.read_offset.d.next = self.read_address.val() - self.table_base.val();
        self.read_at.next = self.read_offset.q.val();
        self.read_vector.next = self.read_at.val().get_bits::<5>(4);
        self.read_address_now.next = self.sending.q.val();
        if self.table_hit.q.val() {
            self.read_address_now.next = bit_cast::<16, 5>(self.read_vector.val());
        }
        self.address_low.read_address.next = self.read_address_now.val();
        self.address_high.read_address.next = self.read_address_now.val();
        self.message.read_address.next = self.read_address_now.val();
        self.table_select.d.next = self.table_hit.q.val();
        self.pending_select.d.next = self.pending_hit.q.val();
        self.read_word.d.next = self.read_at.val().get_bits::<2>(2);
        self.read_byte.next = self.read_vector.val() & self.byte_mask.val();
        self.read_masks.d.next = self.masked.q.val().get_bits::<8>(self.read_byte.val().index());
        self.read_place.d.next = self.read_at.val().get_bits::<3>(4);
        self.read_masked.next = self.read_masks.q.val().get_bit(self.read_place.q.val().index());
        self.table_word.next = self.address_low.read_data.val();
        if (self.read_word.q.val() == self.word1.val()) {
            self.table_word.next = self.address_high.read_data.val();
        }
        if (self.read_word.q.val() == self.word2.val()) {
            self.table_word.next = self.message.read_data.val();
        }
        if (self.read_word.q.val() == self.word3.val()) {
            self.table_word.next = self.zero32.val();
            if self.read_masked.val() {
                self.table_word.next = self.mask_bit.val();
            }
        }
        self.pending_word.next = self.zero32.val();
        if (self.read_word.q.val() == self.word0.val()) {
            self.pending_word.next = self.pending.q.val();
        }
        self.answered.d.next = self.table_select.q.val() | self.pending_select.q.val();
        self.answer.d.next = self.zero32.val();
        if self.table_select.q.val() {
            self.answer.d.next = self.table_word.val();
        }
        if self.pending_select.q.val() {
            self.answer.d.next = self.pending_word.val();
        }
        self.read_done.next = self.answered.q.val();
        self.read_data.next = self.answer.q.val();

        // The sender.
        self.ready_to_send.next = self.zero32.val();
        self.enabled.d.next = self.msix_enable.val();
        if self.enabled.q.val() {
            self.ready_to_send.next = self.pending.q.val() & !self.masked.q.val();
        }
        self.sendable.d.next = self.ready_to_send.val();
        self.picker.candidates.next = self.sendable.q.val();
        self.sendable_any.d.next = self.ready_to_send.val().any();
        self.picker.start.next = self.sendable_any.q.val();
        self.picker.pick.ready.next = self.resting.q.val();
        self.picked.next = self.picker.one_hot.val() & self.sendable.q.val();
        self.cleared.next = self.zero32.val();
        self.write.valid.next = (self.state.q.val() == State::Send);
        self.write.data.next = self.message_register.q.val();
        match self.state.q.val() {
            State::Idle => {
                self.sending.d.next = bit_cast::<16, 8>(self.picker.pick.data.val());
                self.sending_hot.d.next = self.picker.one_hot.val();
                self.sending_live.d.next = self.picked.val().any();
                if self.picker.pick.valid.val() {
                    self.state.d.next = State::Fetch;
                    self.resting.d.next = false;
                }
            }
            State::Fetch => {
                if !self.sending_live.q.val() {
                    // It has been sent or masked since the snapshot.
                    self.state.d.next = State::Idle;
                    self.resting.d.next = true;
                } else if !self.table_hit.q.val() {
                    // A raise before this is told by the message that is about to be read.
                    self.cleared.next = self.sending_hot.q.val();
                    self.state.d.next = State::Capture;
                }
            }
            State::Capture => {
                self.message_register.d.next.address = bit_cast::<64, 32>(self.address_low.read_data.val())
                    | (bit_cast::<64, 32>(self.address_high.read_data.val()) << 32);
                self.message_register.d.next.data = bit_cast::<128, 32>(self.message.read_data.val());
                self.message_register.d.next.quad = self.clear.val();
                self.state.d.next = State::Send;
            }
            State::Send => {
                if self.write.ready.val() {
                    self.state.d.next = State::Idle;
                    self.resting.d.next = true;
                }
            }
            _ => {}
        }
        self.pending.d.next = (self.pending.q.val() & !self.cleared.val()) | self.coalescer.fired.val();
        self.entered.d.next = self.raise_client.valid.val()
            | self.raise_control.valid.val()
            | self.tick.val()
            | (self.msix_enable.val() & !self.enabled.q.val());
        self.recent.d.next = !self.coalescer.idle.val() | self.write_hit.q.val() | self.entered.q.val();
        self.idle_register.d.next = self.coalescer.idle.val()
            & self.picker.idle.val()
            & !self.recent.q.val()
            & !self.sendable_any.q.val()
            & self.resting.q.val()
            & !self.entered.q.val()
            & !self.write_hit.q.val()
            & !self.table_hit.q.val()
            & !self.pending_hit.q.val()
            & !self.table_select.q.val()
            & !self.pending_select.q.val()
            & !self.answered.q.val();
        // A read has no consequence, and whoever asked waits for its answer.
        self.idle.next = self.idle_register.q.val() & !self.entered.q.val() & !self.write_hit.q.val();

        if self.reset.val() {
            self.pending.d.next = self.zero32.val();
            self.sendable.d.next = self.zero32.val();
            self.sendable_any.d.next = false;
            self.resting.d.next = true;
            self.state.d.next = State::Idle;
        }
        if self.hard_reset.val() {
            self.masked.d.next = self.all32.val();
            self.write_hit.d.next = false;
            self.table_hit.d.next = false;
            self.pending_hit.d.next = false;
            self.table_select.d.next = false;
            self.pending_select.d.next = false;
            self.answered.d.next = false;
            self.answer.d.next = self.zero32.val();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;

    fn start(name: &str, sizes: &Sizes) -> Bench {
        let mut bench = Bench::new(name, MsiX::new(sizes));
        bench.set("reset", 1);
        bench.set("hard_reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        bench.set("hard_reset", 0);
        bench.set("msix_enable", 1);
        bench.cycle();
        bench
    }

    fn write(bench: &mut Bench, offset: u32, value: u32) {
        bench.set("write_valid", 1);
        bench.set("write_address", offset.into());
        bench.set("write_data", value.into());
        bench.cycle();
        bench.set("write_valid", 0);
        bench.cycle();
    }

    fn read(bench: &mut Bench, offset: u32) -> Option<u32> {
        bench.set("read_valid", 1);
        bench.set("read_address", offset.into());
        bench.cycle();
        bench.set("read_valid", 0);
        let mut value = None;
        for cycle in 1..8 {
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

    fn pulse(bench: &mut Bench, port: &str, vector: u32) {
        bench.set(&format!("{port}$data"), vector.into());
        bench.set(&format!("{port}$valid"), 1);
        bench.cycle();
        bench.set(&format!("{port}$valid"), 0);
    }

    /// Messages sent until idle: address, data.
    fn messages(bench: &mut Bench) -> Vec<(u64, u32)> {
        let mut sent = Vec::new();
        bench.set("write$ready", 1);
        for _ in 0..400 {
            bench.eval();
            if bench.get("write$valid") == 1 {
                let words = bench.get_wide("write$data");
                assert!(words[3..].iter().all(|&word| word == 0), "4 bytes");
                sent.push((u64::from(words[1]) << 32 | u64::from(words[0]), words[2]));
            }
            if bench.get("idle") == 1 {
                bench.set("write$ready", 0);
                return sent;
            }
            bench.cycle();
        }
        panic!("never idle");
    }

    #[test]
    fn masks_hold_and_unmasking_sends() {
        let mut bench = start("msix_directed", &Sizes::DEFAULT);
        let entry = 0x1000 + 16 * 7;
        for (word, value) in [(0, 0xFEE0_1000), (4, 0x0000_0012), (8, 0x4041)] {
            write(&mut bench, entry + word, value);
            assert_eq!(read(&mut bench, entry + word), Some(value));
        }
        assert_eq!(read(&mut bench, entry + 12), Some(1), "masked after reset");
        pulse(&mut bench, "raise_control", 7);
        assert_eq!(messages(&mut bench), []);
        assert_eq!((read(&mut bench, 0x2000), read(&mut bench, 0x2004)), (Some(1 << 7), Some(0)));
        write(&mut bench, entry + 12, 0);
        assert_eq!(messages(&mut bench), [(0x12_FEE0_1000, 0x4041)]);
        assert_eq!((read(&mut bench, 0x2000), read(&mut bench, entry + 12)), (Some(0), Some(0)));
        assert_eq!((read(&mut bench, 0x0FFC), read(&mut bench, 0x1200)), (None, None));
        assert_eq!((read(&mut bench, 0x2008), read(&mut bench, 0x080)), (None, None));

        pulse(&mut bench, "raise_client", 7);
        let (mut irq, mut fired, mut offered) = (0, 0, 0);
        for cycle in 0..20 {
            bench.eval();
            irq += bench.get("irq");
            fired = if bench.get("irq") == 0 { fired } else { cycle };
            offered = if bench.get("write$valid") == 1 && offered == 0 { cycle } else { offered };
            bench.cycle();
        }
        assert_eq!((irq, bench.get("write$valid")), (1 << 7, 1), "one pulse, and the message waits");
        assert_eq!(offered - fired, 8, "the header's latency");
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        assert_eq!(messages(&mut bench), [], "forgotten");
        assert_eq!((read(&mut bench, entry + 12), read(&mut bench, entry + 8)), (Some(0), Some(0x4041)));
        bench.set("msix_enable", 0);
        pulse(&mut bench, "raise_client", 7);
        assert_eq!(messages(&mut bench), []);
        bench.set("msix_enable", 1);
        bench.cycle();
        assert_eq!(messages(&mut bench), [(0x12_FEE0_1000, 0x4041)]);
    }

    fn address(vector: u32) -> u64 {
        0x8000_0000_0000_0000 | u64::from(vector) << 34 | u64::from(vector) << 4
    }

    fn fill_table(bench: &mut Bench, vectors: u32) {
        for vector in 0..vectors {
            let entry = 0x1000 + 16 * vector;
            write(bench, entry, address(vector) as u32);
            write(bench, entry + 4, (address(vector) >> 32) as u32);
            write(bench, entry + 8, 0xA000 + vector);
        }
    }

    /// The vector whose message is offered.
    fn offered(bench: &Bench, vectors: u32) -> u32 {
        let words = bench.get_wide("write$data");
        let vector = words[2].wrapping_sub(0xA000);
        assert!(vector < vectors, "a message of no vector");
        assert_eq!(u64::from(words[1]) << 32 | u64::from(words[0]), address(vector));
        vector
    }

    /// Random raises, masks and stalls, followed cycle by cycle: `irq` sets a pending bit, a message
    /// clears it 2 cycles before it is offered, and a vector masked 4 cycles before that is not sent.
    fn sends_what_fired(name: &str, sizes: &Sizes) {
        let mut bench = start(name, sizes);
        let mut random = seeded();
        let vectors = 1u32 << sizes.vector_bits;
        fill_table(&mut bench, vectors);
        // Of each vector: the cycles it fired in since its pending bit was cleared, and when its mask
        // was written.
        let mut fired: Vec<Vec<u64>> = vec![Vec::new(); vectors as usize];
        let mut masks: Vec<Vec<(u64, bool)>> = vec![vec![(0, true)]; vectors as usize];
        let (mut sent, mut fires, mut holding) = (0, 0, false);
        for cycle in 10..40_000u64 {
            let draining = cycle >= 39_000;
            let vector = random.random_range(0..vectors);
            let (target, mask) = match draining {
                true => ((cycle - 39_000).min(u64::from(vectors) - 1) as u32, false),
                false => (vector, random.random_bool(0.3)),
            };
            let write_mask =
                if draining { cycle < 39_000 + u64::from(vectors) } else { random.random_bool(0.02) };
            bench.set("write_valid", write_mask.into());
            bench.set("write_address", (0x100C + 16 * target).into());
            bench.set("write_data", mask.into());
            if write_mask {
                masks[target as usize].push((cycle, mask));
            }
            bench.set("raise_client$valid", (!draining && random.random_bool(0.1)).into());
            bench.set("raise_client$data", vector.into());
            bench.set("raise_control$valid", (!draining && random.random_bool(0.02)).into());
            bench.set("raise_control$data", random.random_range(0..vectors).into());
            bench.set("write$ready", random.random_bool([0.9, 0.2][(cycle / 1_000 % 2) as usize]).into());
            bench.eval();
            let irq = bench.get("irq") as u32;
            for (vector, fired) in fired.iter_mut().enumerate().filter(|(i, _)| irq >> i & 1 == 1) {
                assert!(vector < vectors as usize);
                fired.push(cycle);
                fires += 1;
            }
            let valid = bench.get("write$valid") == 1;
            if valid && !holding {
                let vector = offered(&bench, vectors) as usize;
                let cleared = cycle - 2;
                let before = fired[vector].len();
                fired[vector].retain(|&at| at >= cleared);
                assert!(fired[vector].len() < before, "vector {vector} sent, but not pending");
                let mask = masks[vector].iter().rev().find(|&&(at, _)| at + 4 <= cleared);
                assert!(mask.is_some_and(|&(_, mask)| !mask), "vector {vector} sent, but masked");
                sent += 1;
            }
            holding = valid && bench.get("write$ready") == 0;
            bench.cycle();
        }
        assert_eq!(bench.get("idle"), 1);
        assert!(fired.iter().all(Vec::is_empty), "pending and never sent: {fired:?}");
        assert!(sent > 1_000 && sent <= fires, "{sent} messages of {fires} interrupts");
    }

    #[test]
    fn sends_to_every_vector() {
        sends_what_fired("msix_32", &Sizes::DEFAULT);
        sends_what_fired("msix_4", &Sizes { vector_bits: 2, ..Sizes::DEFAULT });
    }

    /// Reads of the table share its port with the sender: both see what belongs to them.
    #[test]
    fn reads_of_the_table_do_not_disturb_messages() {
        let mut bench = start("msix_reads", &Sizes::DEFAULT);
        let mut random = seeded();
        fill_table(&mut bench, 32);
        for vector in 0..32 {
            write(&mut bench, 0x100C + 16 * vector, 0);
        }
        let (mut expected, mut reads, mut sent) = (None, 0, 0);
        for cycle in 0..20_000u64 {
            let vector = random.random_range(0..32u32);
            bench.set("raise_client$valid", random.random_bool(0.5).into());
            bench.set("raise_client$data", random.random_range(0..32u32).into());
            bench.set("write$ready", random.random_bool(0.9).into());
            let read = expected.is_none() && random.random_bool(0.5);
            bench.set("read_valid", read.into());
            bench.set("read_address", (0x1008 + 16 * vector).into());
            bench.eval();
            if bench.get("read_done") == 1 {
                assert_eq!(Some(bench.get("read_data") as u32), expected.take(), "cycle {cycle}");
                reads += 1;
            }
            if read {
                expected = Some(0xA000 + vector);
            }
            if bench.get("write$valid") == 1 {
                offered(&bench, 32);
                sent += bench.get("write$ready");
            }
            bench.cycle();
        }
        assert!(reads > 3_000 && sent > 1_500, "{reads} reads, {sent} messages");
    }
}
