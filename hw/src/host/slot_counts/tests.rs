//! `SlotCounts` against plain numbers.

use super::*;
use crate::bench::{seeded, Bench};
use rand::RngExt;

/// A command that was looked at, and when.
struct Look {
    at: u64,
    index: usize,
}

/// What the block is to know of an index.
#[derive(Clone, Default)]
struct Count {
    limit: u64,
    held: u64,
    /// Cycles in which a command was counted, and in which one ended.
    taken: Vec<u64>,
    ended: Vec<u64>,
}

impl Count {
    /// Held, as far as takes before one cycle and ends up to another are concerned.
    fn seen(&self, taken_before: u64, ended_until: u64) -> i64 {
        let taken = self.taken.iter().filter(|at| **at < taken_before).count();
        let ended = self.ended.iter().filter(|at| **at <= ended_until).count();
        taken as i64 - ended as i64
    }

    fn is_limited(&self, slots: u64) -> bool {
        self.limit > 0 && self.limit < slots
    }
}

fn check(slot_bits: usize, index_bits: usize) {
    let sizes = Sizes { slot_bits, ..Sizes::DEFAULT };
    let mut bench =
        Bench::new(&format!("slot_counts_{slot_bits}_{index_bits}"), SlotCounts::new(&sizes, index_bits));
    let mut random = seeded();
    let slots = 1u64 << slot_bits;
    let mut counts = vec![Count::default(); 1 << index_bits];
    bench.set("reset", 1);
    bench.cycle();
    bench.set("reset", 0);
    while bench.get("initialised") == 0 {
        bench.cycle();
        assert!(bench.cycles < (2 << index_bits) + 8);
    }
    let (mut looks, mut last_look) = (Vec::<Look>::new(), 0);
    let mut freed = Vec::new();
    let mut quiet_from = 0;
    let (mut overs, mut nears, mut frees, mut bypasses) = (0, 0, 0, 0);
    for cycle in 0..60_000u64 {
        let mut active = false;
        // Limits change between commands.
        bench.set("limit_write", 0);
        let calm = looks.is_empty() && cycle > quiet_from + 8;
        if calm && random.random_bool(0.3) {
            let index = if random.random_bool(0.6) { 0 } else { random.random_range(0..counts.len()) };
            let limit = match random.random_range(0..8) {
                0 => 0,
                1 => slots + random.random_range(0..3),
                2 => 0xFFFF,
                3 => random.random_range(1..slots),
                _ => random.random_range(1..=9),
            };
            counts[index].limit = limit;
            bench.set("limit_write", 1);
            bench.set("limit_index", index as u128);
            bench.set("limit", limit.into());
            quiet_from = cycle;
            active = true;
        }
        let eager = cycle / 2_000 % 2 == 0;
        let looking = cycle >= last_look + 2
            && cycle > quiet_from + 4
            && cycle % 200 < 180
            && random.random_bool(if eager { 0.9 } else { 0.3 });
        bench.set("look", looking.into());
        // Mostly the same few.
        let index = if random.random_bool(0.7) { 0 } else { random.random_range(0..counts.len()) };
        bench.set("index", index as u128 | u128::from(random.random_range(0..8u32)) << index_bits & 0xFFFF);
        if looking {
            looks.push(Look { at: cycle, index });
            last_look = cycle;
            active = true;
        }
        // One that is held ends.
        let held: Vec<usize> = (1..counts.len()).filter(|index| counts[*index].held > 0).collect();
        let ending = if random.random_bool(0.5) || held.is_empty() {
            0
        } else {
            held[random.random_range(0..held.len())]
        };
        let ends = counts[ending].held > 0
            && cycle > quiet_from + 4
            && random.random_bool(if eager { 0.3 } else { 0.2 });
        bench.set("ended", ends.into());
        bench.set("ended_index", ending as u128);
        if ends {
            active = true;
            counts[ending].held -= 1;
            counts[ending].ended.push(cycle);
            let count = &counts[ending];
            let room = count.limit as i64 - 1 - count.seen(cycle, cycle);
            if count.is_limited(slots) && (0..4).contains(&room) {
                freed.push((cycle + 5, ending));
            }
        }
        bench.set("take", 0);
        bench.eval();
        if let Some(place) = looks.iter().position(|look| look.at + 3 == cycle) {
            let Look { at, index } = looks.remove(place);
            active = true;
            let count = &counts[index];
            // Every command before it, and what ended early enough.
            let held = count.seen(cycle, at.wrapping_sub(2));
            bypasses += u32::from(held != count.seen(at, at.wrapping_sub(2)));
            let over = count.is_limited(slots) && held >= count.limit as i64;
            assert_eq!(bench.get("over") == 1, over, "cycle {cycle}: {held} of {}", count.limit);
            // The command before it is not looked at closely.
            let near = bench.get("scarce") == 1;
            let left = count.limit as i64 - count.seen(at, at.wrapping_sub(2));
            assert_eq!(near, count.is_limited(slots) && left <= SCARCE as i64, "cycle {cycle}: {left} left");
            (overs, nears) = (overs + u32::from(over), nears + u32::from(near && !over));
            let total: u64 = counts.iter().map(|count| count.held).sum();
            if !over && total < slots && random.random_bool(0.95) {
                bench.set("take", 1);
                counts[index].held += 1;
                counts[index].taken.push(cycle);
            }
        }
        let told = (bench.get("freed") == 1).then(|| bench.get("freed_index") as usize);
        let due = freed.iter().position(|(at, _)| *at == cycle);
        let due = due.map(|place| freed.remove(place).1);
        assert_eq!(told, due, "cycle {cycle}");
        frees += u32::from(told.is_some());
        assert!(!active || cycle == 0 || looking || ends || bench.get("idle") == 0 || calm, "cycle {cycle}");
        bench.cycle();
        if cycle % 200 == 195 {
            assert!(looks.is_empty());
        }
    }
    for port in ["look", "ended", "take", "limit_write"] {
        bench.set(port, 0);
    }
    for _ in 0..8 {
        bench.cycle();
    }
    assert_eq!(bench.get("idle"), 1);
    assert!(overs > 1_000 && nears > 1_000, "{overs} over, {nears} near");
    assert!(frees > 1_000 && bypasses > 1_000, "{frees} freed, {bypasses} just behind another");
}

#[test]
fn agrees_with_plain_numbers() {
    check(10, 5);
    check(6, 8);
}
