//! `RangeFetch` against a plain reading of its entries.

use super::*;
use crate::bench::{seeded, Bench};
use rand::RngExt;
use std::collections::VecDeque;

fn number<const N: usize>(value: u64) -> Bits<N> {
    value.to_bits()
}

/// What a command must come out as: blocks, first block, refusal; 1: trivial, 2: foreign.
fn expected(entry: &volplane_abi::SubmissionEntry, range: (u32, u64), refused: bool) -> (u64, u64, u64, u64) {
    let blocks = if entry.opcode() == opcode::FLUSH { 0 } else { u64::from(entry.block_count_z()) + 1 };
    let plain = (blocks, entry.starting_lba());
    let refuse = |status: u16| (plain.0, plain.1, u64::from(status), 0);
    if entry.fuse() != 0 || entry.psdt() != 0 {
        return refuse(status::INVALID_FIELD);
    }
    match entry.opcode() {
        opcode::READ | opcode::WRITE | opcode::COMPARE | opcode::WRITE_ZEROES | opcode::FLUSH => {
            (plain.0, plain.1, 0, 0)
        }
        opcode::DATASET_MANAGEMENT => {
            if entry.starting_lba() >> 34 & 1 == 0 {
                (plain.0, plain.1, 0, 1)
            } else if entry.starting_lba() & 0xFF != 0 {
                (0, plain.1, 0, 2)
            } else if !entry.prp1().is_multiple_of(4) {
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
        let kind = got.trivial.to_u64() | got.foreign.to_u64() << 1;
        let seen = (got.blocks.to_u64(), got.lba.to_u64(), got.refusal.to_u64(), kind);
        if want.2 == 0 && want.3 != 1 {
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
fn a_command_every_other_cycle() {
    let mut bench = Bench::new("range_fetch_rate", RangeFetch::<128, 16>::default());
    bench.set("reset", 1);
    bench.cycle();
    bench.set("reset", 0);
    let entry = volplane_abi::SubmissionEntry::default().with_opcode(opcode::READ).with_starting_lba(77);
    let words: Vec<u32> =
        entry.0.chunks(4).map(|c| u32::from_le_bytes(c.try_into().expect("4 bytes"))).collect();
    bench.set_wide("entry$data", &words);
    bench.set("entry$valid", 1);
    bench.set("command$ready", 1);
    let mut offered = Vec::new();
    for _ in 0..200 {
        if bench.get("command$valid") == 1 {
            offered.push(bench.cycles);
        }
        bench.cycle();
    }
    assert_eq!(offered[0], 2, "1 cycle after the entry, which came in cycle 1");
    assert!(offered.len() >= 98, "{} commands", offered.len());
    // Held while nobody takes it, and the block is not idle until somebody has.
    bench.set("command$ready", 0);
    for _ in 0..3 {
        bench.cycle();
    }
    bench.set("entry$valid", 0);
    for _ in 0..5 {
        bench.cycle();
    }
    assert_eq!((bench.get("command$valid"), bench.get("idle")), (1, 0));
    bench.set("command$ready", 1);
    for _ in 0..5 {
        bench.cycle();
    }
    assert_eq!((bench.get("command$valid"), bench.get("idle")), (0, 1));
}

#[test]
fn entries_are_parsed_and_ranges_read() {
    random_entries::<128, 16>(2000);
    random_entries::<256, 32>(500);
    random_entries::<512, 64>(1000);
}
