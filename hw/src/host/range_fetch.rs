//! Parses clients' entries, and reads the range of a Dataset Management command.
//!
//! In order. An entry that no check can pass carries its `refusal` on: fused or SGL commands and what a
//! range cannot be (more than one, longer than 65,536 blocks, across a page) Invalid Field; an opcode that
//! is not executed Invalid Opcode; a range that is not dword aligned Invalid PRP Offset; one that the bus
//! refuses Data Transfer Error. Hints without deallocation and empty ranges are `trivial`.
//!
//! Handshake: streams. Latency: 2 cycles. Throughput: one command every 2 cycles; a Dataset Management
//! command takes 14 cycles and a bus read, during which the next ones wait. Reset drops the command.

use rust_hdl::prelude::*;
use volplane_abi::{opcode, registers, status};

use crate::prim::ram::LutRam;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{
    ClientCommand, DatasetAttributes, DeallocateRange, FetchedEntry, ReadRequest, SubmissionEntry,
};

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum State {
    Idle,
    Sort,
    Ask,
    Fill,
    Pick,
    Take,
    Judge,
    Offer,
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct RangeFetch<const W: usize, const B: usize> {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub entry: StreamIn<FetchedEntry>,
    pub command: StreamOut<ClientCommand>,
    pub range: StreamOut<ReadRequest>,
    pub answer_valid_range: Signal<In, bool>,
    pub answer_data: Signal<In, Bits<W>>,
    pub answer_last: Signal<In, bool>,
    pub answer_error: Signal<In, bool>,
    pub idle: Signal<Out, bool>,

    state: DFF<State>,
    parsed: DFF<ClientCommand>,
    beats: LutRam<Bits<W>>,
    beat: DFF<Bits<16>>,
    failed: DFF<bool>,
    dword: DFF<Bits<3>>,
    /// Byte address of the dword that is picked, counted from the first beat.
    place: DFF<Bits<16>>,
    found: DFF<Bits<128>>,

    fields: Signal<Local, SubmissionEntry>,
    attributes: Signal<Local, DatasetAttributes>,
    lba_bits: Signal<Local, Bits<64>>,
    range_fields: Signal<Local, DeallocateRange>,
    known: Signal<Local, bool>,
    has_blocks: Signal<Local, bool>,
    plain_dataset: Signal<Local, bool>,
    odd: Signal<Local, bool>,
    prp1: Signal<Local, Bits<64>>,
    prp1_low: Signal<Local, Bits<2>>,
    prp1_page: Signal<Local, Bits<12>>,
    in_beat: Signal<Local, Bits<12>>,
    two_beats: Signal<Local, bool>,
    beat_bits: Signal<Local, Bits<W>>,
    shift: Signal<Local, Bits<16>>,
    picked: Signal<Local, Bits<W>>,
    count: Signal<Local, Bits<32>>,

    flush_opcode: Constant<Bits<8>>,
    write_opcode: Constant<Bits<8>>,
    read_opcode: Constant<Bits<8>>,
    zeroes_opcode: Constant<Bits<8>>,
    dataset_opcode: Constant<Bits<8>>,
    invalid_field: Constant<Bits<11>>,
    invalid_opcode: Constant<Bits<11>>,
    invalid_offset: Constant<Bits<11>>,
    transfer_error: Constant<Bits<11>>,
    no_refusal: Constant<Bits<11>>,
    most_blocks: Constant<Bits<32>>,
    beat_bytes: Constant<Bits<8>>,
    two_beat_bytes: Constant<Bits<8>>,
    beat_mask: Constant<Bits<12>>,
    beat_mask16: Constant<Bits<16>>,
    beat_shift: Constant<Bits<16>>,
    last_start: Constant<Bits<12>>,
    page_last_start: Constant<Bits<12>>,
    no_tag: Constant<Bits<8>>,
    zero2: Constant<Bits<2>>,
    zero8: Constant<Bits<8>>,
    zero16: Constant<Bits<16>>,
    zero32: Constant<Bits<32>>,
    one16: Constant<Bits<16>>,
    four16: Constant<Bits<16>>,
    one17: Constant<Bits<17>>,
    zero3: Constant<Bits<3>>,
    one3: Constant<Bits<3>>,
    last_dword: Constant<Bits<3>>,
    flag: Constant<Bits<1>>,
    clear: Constant<Bits<1>>,
}

impl<const W: usize, const B: usize> Default for RangeFetch<W, B> {
    fn default() -> Self {
        assert!([128, 256, 512].contains(&W) && B * 8 == W, "bus of {W} bits, {B} bytes");
        Self {
            clock: Default::default(),
            reset: Default::default(),
            entry: Default::default(),
            command: Default::default(),
            range: Default::default(),
            answer_valid_range: Default::default(),
            answer_data: Default::default(),
            answer_last: Default::default(),
            answer_error: Default::default(),
            idle: Default::default(),
            state: Default::default(),
            parsed: Default::default(),
            beats: LutRam::new(1),
            beat: Default::default(),
            failed: Default::default(),
            dword: Default::default(),
            place: Default::default(),
            found: Default::default(),
            fields: Default::default(),
            attributes: Default::default(),
            lba_bits: Default::default(),
            range_fields: Default::default(),
            known: Default::default(),
            has_blocks: Default::default(),
            plain_dataset: Default::default(),
            odd: Default::default(),
            prp1: Default::default(),
            prp1_low: Default::default(),
            prp1_page: Default::default(),
            in_beat: Default::default(),
            two_beats: Default::default(),
            beat_bits: Default::default(),
            shift: Default::default(),
            picked: Default::default(),
            count: Default::default(),
            flush_opcode: Constant::new((opcode::FLUSH as u64).to_bits()),
            write_opcode: Constant::new((opcode::WRITE as u64).to_bits()),
            read_opcode: Constant::new((opcode::READ as u64).to_bits()),
            zeroes_opcode: Constant::new((opcode::WRITE_ZEROES as u64).to_bits()),
            dataset_opcode: Constant::new((opcode::DATASET_MANAGEMENT as u64).to_bits()),
            invalid_field: Constant::new((status::INVALID_FIELD as u64).to_bits()),
            invalid_opcode: Constant::new((status::INVALID_OPCODE as u64).to_bits()),
            invalid_offset: Constant::new((status::INVALID_PRP_OFFSET as u64).to_bits()),
            transfer_error: Constant::new((status::DATA_TRANSFER_ERROR as u64).to_bits()),
            no_refusal: Constant::new((status::SUCCESS as u64).to_bits()),
            most_blocks: Constant::new((registers::RANGE_BLOCKS_MAX as u64).to_bits()),
            beat_bytes: Constant::new((B as u64).to_bits()),
            two_beat_bytes: Constant::new((2 * B as u64).to_bits()),
            beat_mask: Constant::new((B as u64 - 1).to_bits()),
            beat_mask16: Constant::new((B as u64 - 1).to_bits()),
            beat_shift: Constant::new((B.ilog2() as u64).to_bits()),
            last_start: Constant::new((B as u64 - 16).to_bits()),
            page_last_start: Constant::new((4096u64 - 16).to_bits()),
            no_tag: Constant::new(0u64.to_bits()),
            zero2: Constant::new(0u64.to_bits()),
            zero8: Constant::new(0u64.to_bits()),
            zero16: Constant::new(0u64.to_bits()),
            zero32: Constant::new(0u64.to_bits()),
            one16: Constant::new(1u64.to_bits()),
            four16: Constant::new(4u64.to_bits()),
            one17: Constant::new(1u64.to_bits()),
            zero3: Constant::new(0u64.to_bits()),
            one3: Constant::new(1u64.to_bits()),
            last_dword: Constant::new(3u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
            clear: Constant::new(0u64.to_bits()),
        }
    }
}

impl<const W: usize, const B: usize> Logic for RangeFetch<W, B> {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, state, parsed, beat, failed, dword, place, found);
        self.entry.ready.next = (self.state.q.val() == State::Idle);
        self.command.valid.next = (self.state.q.val() == State::Offer);
        self.command.data.next = self.parsed.q.val();
        self.idle.next = (self.state.q.val() == State::Idle);

        self.fields.next = self.entry.data.val().entry.into();
        self.lba_bits.next = self.parsed.q.val().lba;
        self.attributes.next = self.lba_bits.val().into();
        self.range_fields.next = self.found.q.val().into();
        self.has_blocks.next = (self.fields.val().opcode == self.read_opcode.val())
            | (self.fields.val().opcode == self.write_opcode.val())
            | (self.fields.val().opcode == self.zeroes_opcode.val());
        self.plain_dataset.next = (self.fields.val().opcode == self.dataset_opcode.val());
        self.known.next = self.has_blocks.val()
            | self.plain_dataset.val()
            | (self.fields.val().opcode == self.flush_opcode.val());
        self.odd.next =
            (self.fields.val().fuse != self.zero2.val()) | (self.fields.val().psdt != self.zero2.val());

        self.prp1.next = self.parsed.q.val().prp1;
        self.prp1_low.next = self.prp1.val().get_bits::<2>(0);
        self.prp1_page.next = self.prp1.val().get_bits::<12>(0);
        self.in_beat.next = self.prp1_page.val() & self.beat_mask.val();
        self.two_beats.next = (self.in_beat.val() > self.last_start.val());
        self.range.valid.next = (self.state.q.val() == State::Ask);
        self.range.data.next.address = self.prp1.val();
        self.range.data.next.bytes = self.beat_bytes.val();
        if self.two_beats.val() {
            self.range.data.next.bytes = self.two_beat_bytes.val();
        }
        self.range.data.next.tag = self.no_tag.val();

        // The answer's beats are kept whole; the four dwords are picked one by one.
        self.beats.clock.next = self.clock.val();
        self.beats.write.next = self.answer_valid_range.val();
        self.beats.write_address.next = self.beat.q.val();
        self.beats.write_data.next = self.answer_data.val();
        self.beats.read_address.next = (self.place.q.val() >> self.beat_shift.val());
        self.beat_bits.next = self.beats.read_data.val();
        self.shift.next = ((self.place.q.val() & self.beat_mask16.val()) << 3);
        self.picked.next = (self.beat_bits.val() >> bit_cast::<W, 16>(self.shift.val()));
        self.count.next = self.range_fields.val().block_count;

        match self.state.q.val() {
            State::Idle => {
                self.parsed.d.next.queue = self.entry.data.val().queue;
                self.parsed.d.next.command_id = self.fields.val().command_id;
                self.parsed.d.next.opcode = self.fields.val().opcode;
                self.parsed.d.next.namespace_id = self.fields.val().namespace_id;
                self.parsed.d.next.prp1 = self.fields.val().prp1;
                self.parsed.d.next.prp2 = self.fields.val().prp2;
                self.parsed.d.next.lba = self.fields.val().starting_lba;
                self.parsed.d.next.blocks = bit_cast::<17, 16>(self.fields.val().block_count_z);
                self.parsed.d.next.deallocate = self.fields.val().deallocate;
                self.parsed.d.next.force_unit_access = self.fields.val().force_unit_access;
                self.parsed.d.next.limited_retry = self.fields.val().limited_retry;
                self.parsed.d.next.cdw13 = self.fields.val().cdw13;
                self.parsed.d.next.trivial = self.clear.val();
                self.parsed.d.next.refusal = self.no_refusal.val();
                if !self.known.val() {
                    self.parsed.d.next.refusal = self.invalid_opcode.val();
                }
                if self.odd.val() {
                    self.parsed.d.next.refusal = self.invalid_field.val();
                }
                if self.entry.valid.val() {
                    self.state.d.next = State::Sort;
                }
            }
            State::Sort => {
                self.beat.d.next = self.zero16.val();
                self.failed.d.next = false;
                self.dword.d.next = self.zero3.val();
                self.place.d.next = bit_cast::<16, 12>(self.in_beat.val());
                self.parsed.d.next.blocks = self.parsed.q.val().blocks + self.one17.val();
                self.state.d.next = State::Offer;
                if (self.parsed.q.val().opcode == self.dataset_opcode.val())
                    & (self.parsed.q.val().refusal == self.no_refusal.val())
                {
                    if (self.attributes.val().deallocate == self.clear.val()) {
                        self.parsed.d.next.trivial = self.flag.val();
                    } else if (self.attributes.val().range_count_z != self.zero8.val()) {
                        self.parsed.d.next.refusal = self.invalid_field.val();
                    } else if (self.prp1_low.val() != self.zero2.val()) {
                        self.parsed.d.next.refusal = self.invalid_offset.val();
                    } else if (self.prp1_page.val() > self.page_last_start.val()) {
                        self.parsed.d.next.refusal = self.invalid_field.val();
                    } else {
                        self.state.d.next = State::Ask;
                    }
                }
            }
            State::Ask => {
                if self.range.ready.val() {
                    self.state.d.next = State::Fill;
                }
            }
            State::Fill => {
                if self.answer_valid_range.val() {
                    self.beat.d.next = self.beat.q.val() + self.one16.val();
                    if self.answer_error.val() {
                        self.failed.d.next = true;
                    }
                    if self.answer_last.val() {
                        self.state.d.next = State::Pick;
                    }
                }
            }
            State::Pick => {
                self.state.d.next = State::Take;
            }
            State::Take => {
                self.found.d.next = (self.found.q.val() >> 32)
                    | (bit_cast::<128, 32>(bit_cast::<32, W>(self.picked.val())) << 96);
                self.place.d.next = self.place.q.val() + self.four16.val();
                self.dword.d.next = self.dword.q.val() + self.one3.val();
                self.state.d.next = State::Pick;
                if (self.dword.q.val() == self.last_dword.val()) {
                    self.state.d.next = State::Judge;
                }
            }
            State::Judge => {
                self.parsed.d.next.lba = self.range_fields.val().starting_lba;
                self.parsed.d.next.blocks = bit_cast::<17, 32>(self.count.val());
                if self.failed.q.val() {
                    self.parsed.d.next.refusal = self.transfer_error.val();
                } else if (self.count.val() == self.zero32.val()) {
                    self.parsed.d.next.trivial = self.flag.val();
                } else if (self.count.val() > self.most_blocks.val()) {
                    self.parsed.d.next.refusal = self.invalid_field.val();
                }
                self.state.d.next = State::Offer;
            }
            State::Offer => {
                if self.command.ready.val() {
                    self.state.d.next = State::Idle;
                }
            }
            _ => {}
        }

        if self.reset.val() {
            self.state.d.next = State::Idle;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use std::collections::VecDeque;

    fn number<const N: usize>(value: u64) -> Bits<N> {
        value.to_bits()
    }

    /// What a command must come out as: blocks, first block, refusal, trivial.
    fn expected(
        entry: &volplane_abi::SubmissionEntry,
        range: (u32, u64),
        refused: bool,
    ) -> (u64, u64, u64, u64) {
        let plain = (u64::from(entry.block_count_z()) + 1, entry.starting_lba());
        let refuse = |status: u16| (plain.0, plain.1, u64::from(status), 0);
        if entry.fuse() != 0 || entry.psdt() != 0 {
            return refuse(status::INVALID_FIELD);
        }
        match entry.opcode() {
            opcode::READ | opcode::WRITE | opcode::WRITE_ZEROES | opcode::FLUSH => (plain.0, plain.1, 0, 0),
            opcode::DATASET_MANAGEMENT => {
                if entry.starting_lba() >> 34 & 1 == 0 {
                    (plain.0, plain.1, 0, 1)
                } else if entry.starting_lba() & 0xFF != 0 {
                    refuse(status::INVALID_FIELD)
                } else if entry.prp1() % 4 != 0 {
                    refuse(status::INVALID_PRP_OFFSET)
                } else if entry.prp1() % 4096 > 4080 {
                    refuse(status::INVALID_FIELD)
                } else if refused {
                    (u64::from(range.0) & 0x1_FFFF, range.1, status::DATA_TRANSFER_ERROR.into(), 0)
                } else if range.0 == 0 {
                    (0, range.1, 0, 1)
                } else if range.0 > 65_536 {
                    (u64::from(range.0) & 0x1_FFFF, range.1, status::INVALID_FIELD.into(), 0)
                } else {
                    (range.0.into(), range.1, 0, 0)
                }
            }
            _ => refuse(status::INVALID_OPCODE),
        }
    }

    fn random_entries<const W: usize, const B: usize>(count: usize) {
        let mut bench = Bench::new(&format!("range_fetch_{W}"), RangeFetch::<W, B>::default());
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let mut dataset = 0;
        for index in 0..count {
            let op = [0x00, 0x01, 0x02, 0x08, 0x09, 0x09, 0x09, 0x05, 0x77][random.random_range(0..9usize)];
            let range = (
                [0u32, 1, 65_535, 65_536, 65_537, random.random()][random.random_range(0..6usize)],
                random.random::<u64>(),
            );
            let refused = random.random_bool(0.1);
            let page_offset = match random.random_range(0..4u32) {
                0 => random.random_range(0..4096),
                1 => 4080 + 4 * random.random_range(0..4),
                _ => 4 * random.random_range(0..1021),
            };
            let attributes = (u64::from(random.random_bool(0.9)) << 34) | u64::from(random.random_bool(0.1));
            let entry = volplane_abi::SubmissionEntry::default()
                .with_opcode(op)
                .with_fuse(u8::from(random.random_bool(0.05)))
                .with_psdt(u8::from(random.random_bool(0.05)))
                .with_command_id(random.random())
                .with_namespace_id(random.random())
                .with_prp1(0x4_0000_0000 + page_offset)
                .with_prp2(random.random())
                .with_starting_lba(if op == 9 { attributes } else { random.random() })
                .with_block_count_z(random.random())
                .with_force_unit_access(random.random_range(0..2))
                .with_cdw13(random.random());
            let bits = entry.0.iter().enumerate().fold(Bits::<512>::default(), |bits, (i, &byte)| {
                bits | (bit_cast::<512, 8>(u64::from(byte).to_bits()) << (8 * i as u64))
            });
            bench.set_record("entry$data", FetchedEntry { entry: bits, queue: number(index as u64 % 32) });
            bench.set("entry$valid", 1);
            let mut beats: VecDeque<(u64, bool)> = VecDeque::new();
            let mut out: Option<ClientCommand> = None;
            for _ in 0..500 {
                bench.set("command$ready", random.random_bool(0.5).into());
                bench.set("range$ready", random.random_bool(0.5).into());
                let beat = if random.random_bool(0.5) { beats.pop_front() } else { None };
                bench.set("answer_valid_range", beat.is_some().into());
                if let Some((at, last)) = beat {
                    let mut data = vec![0x5Au8; B];
                    let mut bytes = vec![0u8; 4];
                    bytes.extend(range.0.to_le_bytes());
                    bytes.extend(range.1.to_le_bytes());
                    for (i, byte) in bytes.iter().enumerate() {
                        let place = entry.prp1() + i as u64;
                        if place >= at && place < at + B as u64 {
                            data[(place - at) as usize] = *byte;
                        }
                    }
                    let words: Vec<u32> =
                        data.chunks(4).map(|c| u32::from_le_bytes(c.try_into().expect("4 bytes"))).collect();
                    bench.set_wide("answer_data", &words);
                    bench.set("answer_last", last.into());
                    bench.set("answer_error", refused.into());
                }
                bench.eval();
                let taken = bench.get("entry$valid") == 1 && bench.get("entry$ready") == 1;
                if bench.get("range$valid") == 1 && bench.get("range$ready") == 1 {
                    let request: ReadRequest = bench.get_record("range$data");
                    assert_eq!(request.address.to_u64(), entry.prp1());
                    let first = entry.prp1() & !(B as u64 - 1);
                    let many = request.bytes.to_u64() / B as u64;
                    assert!(first / 4096 == (first + many * B as u64 - 1) / 4096, "crosses a page");
                    beats.extend((0..many).map(|i| (first + i * B as u64, i == many - 1)));
                    dataset += 1;
                }
                if bench.get("command$valid") == 1 && bench.get("command$ready") == 1 {
                    out = Some(bench.get_record("command$data"));
                }
                bench.cycle();
                if taken {
                    bench.set("entry$valid", 0);
                }
                if out.is_some() {
                    break;
                }
            }
            let got = out.expect("a command within 500 cycles");
            let want = expected(&entry, range, refused);
            let seen = (got.blocks.to_u64(), got.lba.to_u64(), got.refusal.to_u64(), got.trivial.to_u64());
            if want.2 == 0 && want.3 == 0 {
                assert_eq!(seen, want, "{entry:?} {range:?}");
            } else {
                assert_eq!((seen.2, seen.3), (want.2, want.3), "{entry:?} {range:?} {refused}");
            }
            assert_eq!(got.command_id.to_u64(), u64::from(entry.command_id()));
            assert_eq!(got.queue.to_u64(), index as u64 % 32);
            assert_eq!(got.namespace_id.to_u64(), u64::from(entry.namespace_id()));
            assert_eq!((got.prp1.to_u64(), got.prp2.to_u64()), (entry.prp1(), entry.prp2()));
            assert_eq!(got.force_unit_access.to_u64(), u64::from(entry.force_unit_access()));
            assert_eq!(got.cdw13.to_u64(), u64::from(entry.cdw13()));
        }
        assert!(dataset > count / 10, "{dataset} ranges read");
    }

    #[test]
    fn entries_are_parsed_and_ranges_read() {
        random_entries::<128, 16>(2000);
        random_entries::<256, 32>(500);
        random_entries::<512, 64>(1000);
    }
}
