//! Makes fragments of plans and their runs: only wires `DeviceCutter`, `PrpBuilder` and `ListReader`.
//!
//! Every plan ends either with a fragment marked last or with one `closed` item, never both.
//! Latency from run to fragment: 3 cycles for a whole plan whose header came a cycle before. Throughput:
//! 2 cycles a plan of one fragment. `idle` rises late.

use rust_hdl::prelude::*;

use super::device_cutter::DeviceCutter;
use super::list_reader::{list_tag, ListReader};
use super::prp_builder::PrpBuilder;
use crate::prim::slice::Slice;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{Fragment, Piece, PlanClosed, PlanHeader, ReadRequest, Run, TableRequest, ZeroFragment};
use crate::sizes::Sizes;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct FragmentBuilder<const W: usize> {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub header: StreamIn<PlanHeader>,
    pub run: StreamIn<Run>,
    pub fragment: StreamOut<Fragment>,
    /// Fragments of zeros, in one order with the others.
    pub zeros: StreamOut<ZeroFragment>,
    pub closed: StreamOut<PlanClosed>,
    /// Bit i: path i has a valid entry.
    pub path_valid: Signal<In, Bits<32>>,
    pub suspect: Signal<In, Bits<32>>,
    pub avoid_query: Signal<Out, Bits<12>>,
    pub avoided: Signal<In, Bits<32>>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    pub table_ack: Signal<Out, bool>,
    pub table_data: Signal<Out, Bits<256>>,
    pub list: StreamOut<ReadRequest>,
    pub answer_valid_list: Signal<In, bool>,
    pub answer_tag: Signal<In, Bits<8>>,
    pub answer_data: Signal<In, Bits<W>>,
    pub answer_last: Signal<In, bool>,
    pub answer_error: Signal<In, bool>,
    pub idle: Signal<Out, bool>,

    headers: Slice<PlanHeader>,
    cutter: DeviceCutter,
    prp: PrpBuilder,
    reader: ListReader<W>,
}

impl<const W: usize> FragmentBuilder<W> {
    /// A builder with a device table of 2^`device_bits`.
    pub fn new(sizes: &Sizes) -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            header: Default::default(),
            run: Default::default(),
            fragment: Default::default(),
            zeros: Default::default(),
            closed: Default::default(),
            path_valid: Default::default(),
            suspect: Default::default(),
            avoid_query: Default::default(),
            avoided: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            table_ack: Default::default(),
            table_data: Default::default(),
            list: Default::default(),
            answer_valid_list: Default::default(),
            answer_tag: Default::default(),
            answer_data: Default::default(),
            answer_last: Default::default(),
            answer_error: Default::default(),
            idle: Default::default(),
            headers: Default::default(),
            cutter: DeviceCutter::new(sizes),
            prp: Default::default(),
            reader: ListReader::new(list_tag::FRAGMENTS),
        }
    }
}

impl<const W: usize> Logic for FragmentBuilder<W> {
    #[hdl_gen]
    fn update(&mut self) {
        self.cutter.clock.next = self.clock.val();
        self.cutter.reset.next = self.reset.val();
        self.prp.clock.next = self.clock.val();
        self.prp.reset.next = self.reset.val();
        self.reader.clock.next = self.clock.val();
        self.reader.reset.next = self.reset.val();

        StreamIn::<PlanHeader>::link(&mut self.header, &mut self.headers.inlet);
        StreamOut::<PlanHeader>::join(&mut self.headers.out, &mut self.cutter.header);
        self.headers.clock.next = self.clock.val();
        self.headers.reset.next = self.reset.val();
        StreamIn::<Run>::link(&mut self.run, &mut self.cutter.run);
        StreamOut::<Piece>::join(&mut self.cutter.piece, &mut self.prp.piece);
        StreamOut::<Fragment>::link(&mut self.fragment, &mut self.prp.fragment);
        StreamOut::<ZeroFragment>::link(&mut self.zeros, &mut self.prp.zeros);
        StreamOut::<PlanClosed>::link(&mut self.closed, &mut self.prp.closed);
        StreamOut::<ReadRequest>::link(&mut self.list, &mut self.reader.list);

        self.cutter.path_valid.next = self.path_valid.val();
        self.cutter.suspect.next = self.suspect.val();
        self.avoid_query.next = self.cutter.avoid_query.val();
        self.cutter.avoided.next = self.avoided.val();
        self.cutter.table_valid.next = self.table_valid.val();
        self.cutter.table_request.next = self.table_request.val();
        self.table_ack.next = self.cutter.table_ack.val();
        self.table_data.next = self.cutter.table_data.val();

        self.reader.request.next = self.prp.request.val();
        self.reader.address.next = self.prp.address.val();
        self.reader.forget.next = self.prp.forget.val();
        self.prp.answer.next = self.reader.answer.val();
        self.prp.entry.next = self.reader.entry.val();
        self.prp.failed.next = self.reader.failed.val();
        self.reader.answer_valid_list.next = self.answer_valid_list.val();
        self.reader.answer_tag.next = self.answer_tag.val();
        self.reader.answer_data.next = self.answer_data.val();
        self.reader.answer_last.next = self.answer_last.val();
        self.reader.answer_error.next = self.answer_error.val();
        self.idle.next = self.headers.idle.val() & self.cutter.idle.val() & self.prp.idle.val();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use crate::exec::stop_cause;
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use std::collections::{BTreeMap, VecDeque};
    use volplane_abi::{extent_action, opcode, status};

    const PAGE: u64 = 4096;
    /// Stands for a path where no device has part in a fragment.
    const ZEROS: u64 = 0xFF;

    /// A plan as the test makes it: its header, its runs, and how the client's list was laid out.
    struct Plan {
        header: PlanHeader,
        runs: Vec<Run>,
        pages: Vec<u64>,
        list_error: bool,
        bad_entry: Option<usize>,
    }

    /// A fragment in plain numbers: what an SSD would do with it.
    #[derive(Debug, PartialEq)]
    struct Command {
        path: u64,
        lba: u64,
        blocks: u64,
        last: bool,
        bytes: Vec<(u64, u64)>,
    }

    struct Memory {
        words: BTreeMap<u64, u64>,
        refuse: bool,
    }

    /// Makes pages, a list at a random offset in its page, and the chain where it overflows.
    fn lay_out(random: &mut ChaCha8Rng, memory: &mut Memory, bytes: u64) -> (u64, u64, Vec<u64>) {
        memory.words.clear();
        let offset = if random.random_bool(0.5) { 0 } else { random.random_range(0..1024u64) * 4 };
        let count = (offset + bytes).div_ceil(PAGE) as usize;
        let pages: Vec<u64> =
            (0..count).map(|i| (0x10_0000 + i as u64 * 7 + random.random_range(0..3)) << 12).collect();
        let prp1 = pages[0] + offset;
        if count <= 2 {
            return (prp1, pages.get(1).copied().unwrap_or(0xDEAD_B000), pages);
        }
        let entries = &pages[1..];
        // The list begins anywhere in a page; half of the time so that the chain pointer is near.
        let first_slot = match random.random_range(0..3u32) {
            0 => 0,
            1 => random.random_range(0..511u64),
            _ => 512 - (entries.len() as u64 + 1).min(511).saturating_sub(random.random_range(0..4)).max(2),
        };
        let prp2 = 0x77_0000_0000 + first_slot * 8;
        let slots = (512 - first_slot) as usize;
        let chain = 0x88_0000_0000u64;
        for (i, &entry) in entries.iter().enumerate() {
            let at = if entries.len() <= slots || i < slots - 1 {
                prp2 + 8 * i as u64
            } else {
                chain + 8 * (i - (slots - 1)) as u64
            };
            memory.words.insert(at, entry);
        }
        if entries.len() > slots {
            memory.words.insert(prp2 + 8 * (slots as u64 - 1), chain);
        }
        (prp1, prp2, pages)
    }

    /// What an NVMe controller reads of PRP entries (NVMe Base 2.0, section 4.1.1).
    fn walk(memory: &Memory, prp1: u64, prp2: u64, bytes: u64) -> Vec<u64> {
        let mut pages = vec![prp1];
        let mut left = bytes.saturating_sub(PAGE - prp1 % PAGE);
        if left == 0 {
            return pages;
        }
        if left <= PAGE {
            pages.push(prp2);
            return pages;
        }
        let mut at = prp2;
        while left > 0 {
            let last_slot = at % PAGE == PAGE - 8;
            let entry = *memory.words.get(&at).unwrap_or(&0xBAD0_0000_0000);
            if last_slot && left > PAGE {
                at = entry;
                continue;
            }
            pages.push(entry & !(PAGE - 1)); // An SSD would refuse an offset; here its place counts.
            left = left.saturating_sub(PAGE);
            at += 8;
        }
        pages
    }

    fn number<const N: usize>(value: u64) -> Bits<N> {
        value.to_bits()
    }

    fn device(path: u64, limit: u64, zeroes: u64, valid: bool) -> crate::records::DeviceEntry {
        crate::records::DeviceEntry {
            namespace_id: number(path + 1),
            transfer_limit: number(limit),
            write_zeroes_limit: number(zeroes),
            path: number(path),
            valid: number(valid.into()),
            ..Default::default()
        }
    }

    const LIMITS: [(u64, u64); 4] = [(256, 128), (2048, 65_536), (8, 16), (37, 5)];

    fn write_devices(bench: &mut Bench) {
        for (i, (limit, zeroes)) in LIMITS.iter().enumerate() {
            let bits: Bits<128> = device(i as u64, *limit, *zeroes, true).into();
            let request = TableRequest {
                write: number(1),
                table: number(volplane_abi::table::DEVICE.into()),
                index: number(i as u64),
                data: bit_cast::<256, 128>(bits),
            };
            bench.set_record("table_request", request);
            bench.set("table_valid", 1);
            bench.cycle();
            bench.set("table_valid", 0);
            let acked = (0..32).any(|_| {
                bench.eval();
                let ack = bench.get("table_ack") == 1;
                bench.cycle();
                ack
            });
            assert!(acked, "device {i}");
        }
    }

    fn random_plan(random: &mut ChaCha8Rng, memory: &mut Memory, slot: u64) -> Plan {
        let shift: u64 = random.random_range(9..=12);
        let op =
            [opcode::READ, opcode::WRITE, opcode::READ, opcode::WRITE_ZEROES, opcode::DATASET_MANAGEMENT]
                [random.random_range(0..5usize)];
        let most = (1u64 << 20) >> shift;
        let total = match random.random_range(0..4u32) {
            0 => random.random_range(1..=most),
            1 => most,
            2 => ((PAGE * random.random_range(1..=3)) >> shift).max(1),
            _ => random.random_range(1..=most.min(64)),
        };
        let (prp1, prp2, pages) = lay_out(random, memory, total << shift);
        memory.refuse = random.random_bool(0.05);
        let mut bad_entry = None;
        if random.random_bool(0.05) && pages.len() > 2 {
            let which = random.random_range(1..pages.len());
            let at = *memory.words.iter().find(|(_, v)| **v == pages[which]).expect("entry").0;
            memory.words.insert(at, pages[which] + 8);
            bad_entry = Some(which);
        }
        let mut runs = vec![];
        let mut at = 0;
        while at < total {
            let blocks =
                if random.random_bool(0.3) { total - at } else { random.random_range(1..=total - at) };
            let invalid = random.random_bool(0.01);
            let fault = random.random_bool(0.01);
            let reads = if random.random_bool(0.2) { extent_action::ZERO } else { extent_action::GO };
            let extent = crate::records::ExtentEntry {
                start: number(random.random_range(0..1u64 << 40)),
                device: number(random.random_range(0..LIMITS.len() as u64)),
                read_action: number(if fault { extent_action::FAULT } else { reads }.into()),
                write_action: number(if fault { extent_action::FAULT } else { extent_action::GO }.into()),
                valid: number(u64::from(!invalid)),
                ..Default::default()
            };
            runs.push(Run {
                plan_offset: number(at),
                blocks: number(blocks),
                extent_offset: number(random.random_range(0..1u64 << 32)),
                last: number(u64::from(at + blocks == total)),
                extent: extent.into(),
            });
            at += blocks;
        }
        let header = PlanHeader {
            part: number(slot),
            opcode: number(op.into()),
            prp1: number(prp1),
            prp2: number(prp2),
            blocks: number(total),
            block_shift: number(shift),
            force_unit_access: number(random.random_range(0..2)),
            cdw13: number(random.random_range(0..1u64 << 32)),
            ..Default::default()
        };
        Plan { header, runs, pages, list_error: memory.refuse, bad_entry }
    }

    /// What must come of a plan: the bytes of every run at its place on its device, in order.
    fn expected(plan: &Plan) -> (Vec<Command>, Option<u64>) {
        let shift = plan.header.block_shift.to_u64();
        let offset = plan.header.prp1.to_u64() % PAGE;
        let has_data = [opcode::READ, opcode::WRITE].contains(&(plan.header.opcode.to_u64() as u8));
        let mut commands = vec![];
        for run in &plan.runs {
            let extent: crate::records::ExtentEntry = run.extent.into();
            let reads = plan.header.opcode.to_u64() == u64::from(opcode::READ);
            let zeros = reads && extent.read_action.to_u64() == u64::from(extent_action::ZERO);
            let fault = u64::from(extent_action::FAULT);
            let faults = extent.write_action.to_u64() == fault || extent.read_action.to_u64() == fault;
            if extent.valid.to_u64() == 0 {
                return (commands, Some(status::INTERNAL_ERROR.into()));
            }
            if faults {
                return (commands, Some(stop_cause::FAULT.into()));
            }
            for block in 0..run.blocks.to_u64() {
                let mut bytes = vec![];
                let from = offset + ((run.plan_offset.to_u64() + block) << shift);
                let mut done = 0;
                while has_data && done < 1 << shift {
                    let at = from + done;
                    let take = ((1 << shift) - done).min(PAGE - at % PAGE);
                    bytes.push((plan.pages[(at / PAGE) as usize] + at % PAGE, take));
                    done += take;
                }
                let lba = extent.start.to_u64() + run.extent_offset.to_u64() + block;
                commands.push(Command {
                    path: if zeros { ZEROS } else { extent.device.to_u64() },
                    lba: if zeros { 0 } else { lba },
                    blocks: 1,
                    last: false,
                    bytes,
                });
            }
        }
        (commands, None)
    }

    /// One command cut into blocks, with the bytes its PRP entries name.
    fn blocks_of(plan: &Plan, memory: &Memory, fragment: &Fragment) -> Vec<Command> {
        let shift = plan.header.block_shift.to_u64();
        let count = fragment.blocks.to_u64();
        let has_data = [opcode::READ, opcode::WRITE].contains(&(plan.header.opcode.to_u64() as u8));
        let mut places = VecDeque::new();
        if has_data {
            let pages = walk(memory, fragment.prp1.to_u64(), fragment.prp2.to_u64(), count << shift);
            let mut left = count << shift;
            for page in pages {
                let take = left.min(PAGE - page % PAGE);
                places.push_back((page, take));
                left -= take;
            }
        }
        (0..count)
            .map(|block| {
                let mut bytes = vec![];
                let mut left = if has_data { 1u64 << shift } else { 0 };
                while left > 0 {
                    let (at, room) = places.pop_front().expect("the pages hold the blocks");
                    let take = left.min(room);
                    bytes.push((at, take));
                    if room > take {
                        places.push_front((at + take, room - take));
                    }
                    left -= take;
                }
                let zeros = fragment.path.to_u64() == ZEROS;
                Command {
                    path: fragment.path.to_u64(),
                    lba: if zeros { 0 } else { fragment.lba.to_u64() + block },
                    blocks: 1,
                    last: false,
                    bytes,
                }
            })
            .collect()
    }

    /// Feeds one plan with stalls everywhere and returns its fragments and its closing, if any.
    fn execute<const W: usize>(
        bench: &mut Bench,
        random: &mut ChaCha8Rng,
        memory: &Memory,
        plan: &Plan,
    ) -> (Vec<Fragment>, Option<PlanClosed>) {
        let (mut fragments, mut closed): (Vec<Fragment>, Option<PlanClosed>) = (vec![], None);
        let mut runs: VecDeque<Run> = plan.runs.iter().copied().collect();
        let mut header = Some(plan.header);
        let mut beats: VecDeque<(u64, bool)> = VecDeque::new();
        let (stall, bytes) = (random.random_range(0.0..0.7), W as u64 / 8);
        for _ in 0..200_000 {
            let offer_header = header.is_some() && !random.random_bool(stall);
            let offer_run = !runs.is_empty() && !random.random_bool(stall);
            bench.set("header$valid", offer_header.into());
            bench.set_record("header$data", header.unwrap_or_default());
            bench.set("run$valid", offer_run.into());
            bench.set_record("run$data", runs.front().copied().unwrap_or_default());
            bench.set("fragment$ready", (!random.random_bool(stall)).into());
            bench.set("zeros$ready", (!random.random_bool(stall)).into());
            bench.set("closed$ready", (!random.random_bool(stall)).into());
            bench.set("list$ready", (!random.random_bool(stall)).into());
            let beat = if random.random_bool(stall) { None } else { beats.front().copied() };
            bench.set("answer_valid_list", beat.is_some().into());
            if let Some((at, last)) = beat {
                let words: Vec<u32> = (0..bytes / 8)
                    .flat_map(|i| {
                        let word = *memory.words.get(&(at + 8 * i)).unwrap_or(&0x0BAD_0BAD_0000_0000);
                        [word as u32, (word >> 32) as u32]
                    })
                    .collect();
                bench.set_wide("answer_data", &words);
                bench.set("answer_last", last.into());
                bench.set("answer_error", memory.refuse.into());
                beats.pop_front();
            }
            bench.eval();
            if offer_header && bench.get("header$ready") == 1 {
                header = None;
            }
            if offer_run && bench.get("run$ready") == 1 {
                runs.pop_front();
            }
            if bench.get("fragment$valid") == 1 && bench.get("fragment$ready") == 1 {
                fragments.push(bench.get_record("fragment$data"));
            }
            if bench.get("zeros$valid") == 1 && bench.get("zeros$ready") == 1 {
                let ZeroFragment { part, ordinal, last, prp1, prp2, blocks, block_shift } =
                    bench.get_record("zeros$data");
                assert_eq!(block_shift, plan.header.block_shift);
                let path = number(ZEROS);
                fragments.push(Fragment {
                    part,
                    ordinal,
                    last,
                    prp1,
                    prp2,
                    blocks,
                    path,
                    ..Default::default()
                });
            }
            if bench.get("closed$valid") == 1 && bench.get("closed$ready") == 1 {
                assert!(closed.is_none(), "closed twice");
                closed = Some(bench.get_record::<44, PlanClosed>("closed$data"));
            }
            if bench.get("list$valid") == 1 && bench.get("list$ready") == 1 {
                let request: ReadRequest = bench.get_record("list$data");
                let (at, length) = (request.address.to_u64(), request.bytes.to_u64());
                assert_eq!((at % 128, length), (0, 128));
                beats.extend((0..length / bytes).map(|i| (at + i * bytes, i == length / bytes - 1)));
            }
            bench.cycle();
            let ended = closed.is_some() || fragments.last().is_some_and(|f| f.last.to_u64() == 1);
            if ended && header.is_none() && runs.is_empty() && bench.get("idle") == 1 {
                bench.set("header$valid", 0);
                bench.set("run$valid", 0);
                bench.set("answer_valid_list", 0);
                return (fragments, closed);
            }
        }
        panic!("the plan did not end: {:?}", plan.header);
    }

    fn random_plans<const W: usize>(count: u64) {
        let mut bench =
            Bench::new(&format!("fragment_builder_{W}"), FragmentBuilder::<W>::new(&Sizes::DEFAULT));
        let mut random = seeded();
        bench.set("path_valid", 0xF);
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        write_devices(&mut bench);
        let (mut stopped, mut lists, mut trimmed, mut filled) = (0, 0, 0, 0);
        for index in 0..count {
            let mut memory = Memory { words: BTreeMap::new(), refuse: false };
            let plan = random_plan(&mut random, &mut memory, index % 4096);
            let (fragments, closed) = execute::<W>(&mut bench, &mut random, &memory, &plan);
            let (want, want_status) = expected(&plan);
            let mut got = vec![];
            for (i, fragment) in fragments.iter().enumerate() {
                assert_eq!(fragment.part.to_u64(), index % 4096);
                assert_eq!(fragment.ordinal.to_u64(), i as u64);
                let zeros = fragment.path.to_u64() == ZEROS;
                let limits = if zeros { (u64::MAX, 0) } else { LIMITS[fragment.path.to_u64() as usize] };
                filled += u64::from(zeros);
                match plan.header.opcode.to_u64() as u8 {
                    opcode::WRITE_ZEROES => assert!(fragment.blocks.to_u64() <= limits.1),
                    opcode::DATASET_MANAGEMENT => {}
                    _ => assert!(fragment.blocks.to_u64() <= limits.0),
                }
                got.extend(blocks_of(&plan, &memory, fragment));
            }
            let poisoned = plan.bad_entry.is_some() || plan.list_error;
            if poisoned && closed.is_some_and(|c| c.status.to_u64() != u64::from(status::INTERNAL_ERROR)) {
                // The card met the refused line or the bad entry; what it had issued was right.
                stopped += 1;
                assert!(got.len() < want.len() || want_status.is_some());
                assert_eq!(got[..], want[..got.len()], "{:?}", plan.header);
                continue;
            }
            assert_eq!(closed.map(|c| c.status.to_u64()), want_status, "{:?}", plan.header);
            assert_eq!(got, want, "{:?} {fragments:?}", plan.header);
            lists += u64::from(plan.pages.len() > 2 && fragments.len() > 1);
            trimmed += u64::from(fragments.len() > 1 && plan.pages.len() > 250);
        }
        assert!(stopped > count / 200 && lists > count / 5 && trimmed > 0, "{stopped} {lists} {trimmed}");
        assert!(filled > count / 10, "{filled} fragments of zeros");
    }

    #[test]
    fn every_byte_goes_where_the_map_says_at_128_bits() {
        random_plans::<128>(600);
    }

    #[test]
    fn every_byte_goes_where_the_map_says_at_512_bits() {
        random_plans::<512>(300);
    }

    #[test]
    fn latency_and_throughput_of_whole_plans() {
        let mut bench = Bench::new("fragment_builder_128", FragmentBuilder::<128>::new(&Sizes::DEFAULT));
        bench.set("path_valid", 0xF);
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        write_devices(&mut bench);
        let extent = crate::records::ExtentEntry { valid: number(1), ..Default::default() };
        let run = Run { blocks: number(8), last: number(1), extent: extent.into(), ..Default::default() };
        let header = PlanHeader {
            opcode: number(opcode::READ.into()),
            blocks: number(8),
            block_shift: number(9),
            ..Default::default()
        };
        bench.set_record("header$data", header);
        bench.set_record("run$data", run);
        // The header comes a cycle before the run.
        bench.set("header$valid", 1);
        bench.cycle();
        for port in ["run$valid", "fragment$ready", "closed$ready", "list$ready"] {
            bench.set(port, 1);
        }
        let since = bench.cycles;
        for i in 0..200 {
            let offered = (0..4).any(|_| {
                bench.eval();
                let offered = bench.get("fragment$valid") == 1;
                if !offered {
                    bench.cycle();
                }
                offered
            });
            assert!(offered);
            assert_eq!(bench.cycles - since, 3 + 2 * i, "fragment {i}");
            bench.cycle();
        }
    }

    #[test]
    fn a_flush_goes_to_each_device_of_the_set() {
        let mut bench = Bench::new("fragment_builder_flush", FragmentBuilder::<128>::new(&Sizes::DEFAULT));
        let mut random = seeded();
        bench.set("path_valid", 0xF);
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        write_devices(&mut bench);
        for set in (0..16u64).cycle().take(200) {
            let header = PlanHeader {
                opcode: number(opcode::FLUSH.into()),
                flush_devices: number(set),
                ..Default::default()
            };
            let plan = Plan { header, runs: vec![], pages: vec![], list_error: false, bad_entry: None };
            let memory = Memory { words: BTreeMap::new(), refuse: false };
            let (fragments, closed) = execute::<128>(&mut bench, &mut random, &memory, &plan);
            let paths: Vec<u64> = fragments.iter().map(|f| f.path.to_u64()).collect();
            assert_eq!(paths, (0..4).filter(|i| set >> i & 1 == 1).collect::<Vec<_>>(), "set {set:#x}");
            assert_eq!(closed.map(|c| c.status.to_u64()), (set == 0).then_some(0));
            assert!(fragments.iter().all(|f| (f.prp1.to_u64(), f.blocks.to_u64()) == (0, 0)));
        }
    }
}
