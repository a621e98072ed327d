use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use volplane_abi::plan::TIME_OUT_SHIFT;

use super::*;
use crate::bench::{seeded, Bench};
use crate::nvme::path_write::write_request;
use crate::records::{PartTerms, PathEntry};

const PATHS: u64 = 4;
const IDS: usize = 64;

/// A fragment that is outstanding.
#[derive(Clone, Copy, Debug)]
struct Issued {
    generation: u64,
    path: u64,
    turn: u64,
    /// From this unit on it is overdue.
    deadline: Option<u64>,
}

fn start() -> Bench {
    let sizes = Sizes { id_bits: IDS.ilog2() as usize, ..Sizes::DEFAULT };
    let mut bench = Bench::new("deadlines", Deadlines::new(&sizes));
    bench.set("reset", 1);
    bench.cycle();
    bench.set("reset", 0);
    for _ in 0..IDS + 2 {
        bench.cycle();
    }
    assert_eq!((bench.get("initialised"), bench.get("idle"), bench.get("timing")), (1, 1, 0));
    bench
}

/// The block, and what it has to know.
struct Run {
    bench: Bench,
    random: ChaCha8Rng,
    moment: u64,
    issued: BTreeMap<u64, Issued>,
    free: VecDeque<(u64, u64)>,
    valid: u64,
    turns: [u64; PATHS as usize],
    suspect: u64,
    fences: u64,
    aborts: u64,
}

impl Run {
    fn new() -> Self {
        let mut run = Self {
            bench: start(),
            random: seeded(),
            moment: 65_000,
            issued: BTreeMap::new(),
            free: (0..IDS as u64).map(|index| (index, 7)).collect(),
            valid: 0,
            turns: [0; PATHS as usize],
            suspect: 0,
            fences: 0,
            aborts: 0,
        };
        run.bench.set("ticks", u128::from(run.moment << TIME_OUT_SHIFT & 0xFFFF_FFFF));
        for path in 0..PATHS {
            run.write_path(path, true);
        }
        run
    }

    fn cycle(&mut self) {
        self.bench.cycle();
    }

    fn write_path(&mut self, path: u64, valid: bool) {
        self.look(0);
        let entry = PathEntry { valid: u64::from(valid).to_bits(), ..PathEntry::default() };
        self.bench.set_record("table_request", write_request(path as usize, entry));
        self.bench.set("table_valid", 1);
        self.cycle();
        self.bench.set("table_valid", 0);
        for _ in 0..4 {
            self.cycle();
        }
        self.valid = self.valid & !(1 << path) | u64::from(valid) << path;
        self.turns[path as usize] ^= u64::from(valid);
        self.suspect &= !(1 << path);
        self.bench.set("path_valid", self.valid.into());
        assert_eq!(self.bench.get("suspect"), self.suspect.into());
    }

    fn issue(&mut self) {
        let path = self.random.random_range(0..PATHS);
        let Some((index, generation)) = self.free.pop_front() else { return };
        if self.valid >> path & 1 == 0 {
            return self.free.push_front((index, generation));
        }
        let time_out = self.random.random_range(0..4u64);
        let timed = self.random.random_bool(0.7);
        let record =
            IdRecord { generation: generation.to_bits(), path: path.to_bits(), ..Default::default() };
        let terms = PartTerms {
            time_out: time_out.to_bits(),
            timed: u64::from(timed).to_bits(),
            retried: u64::from(self.random.random_bool(0.5)).to_bits(),
        };
        let deadline = timed.then_some(self.moment + time_out + 2);
        let turn = self.turns[path as usize];
        self.issued.insert(index, Issued { generation, path, turn, deadline });
        self.bench.set("record_valid", 1);
        self.bench.set("record_index", index.into());
        self.bench.set_record::<50>("record", record);
        self.bench.set_record::<16>("record_terms", terms);
        self.cycle();
        self.bench.set("record_valid", 0);
        self.cycle();
        if timed {
            self.cycle();
            // Or it is looking now.
            assert!(self.bench.get("timing") == 1 || self.bench.get("idle") == 0);
        }
    }

    /// Lets one come back.
    fn come_back(&mut self, index: u64) {
        let Some(issued) = self.issued.remove(&index) else { return };
        self.bench.set("accepted_valid", 1);
        self.bench.set("accepted_id", (issued.generation << 11 | index).into());
        self.cycle();
        self.bench.set("accepted_valid", 0);
        self.free.push_back((index, (issued.generation + 1) % 32));
    }

    /// Runs until the block is idle; what it asked for. What it aborts comes back.
    fn settle(&mut self) -> (Vec<u64>, Vec<(u64, u64)>) {
        let (mut fences, mut aborts) = (Vec::new(), Vec::new());
        for waited in 0.. {
            assert!(waited < 30 * IDS, "it does not come to rest");
            let ready = [self.random.random_bool(0.7), self.random.random_bool(0.7)];
            self.bench.set("fence$ready", ready[0].into());
            self.bench.set("abort$ready", ready[1].into());
            self.bench.eval();
            if ready[0] && self.bench.get("fence$valid") == 1 {
                fences.push(self.bench.get("fence$data") as u64);
            }
            let mut aborted = None;
            if ready[1] && self.bench.get("abort$valid") == 1 {
                let event: WindowEvent = self.bench.get_record::<67, _>("abort$data");
                let id = FragmentId::from(event.command_id);
                assert_eq!(event.status.to_u64(), u64::from(plan_status::ABORTED_SQ_DELETION));
                aborts.push((id.index.to_u64(), event.path.to_u64()));
                assert_eq!(self.issued[&id.index.to_u64()].generation, id.generation.to_u64());
                aborted = Some(id.index.to_u64());
            }
            let idle = self.bench.get("idle") == 1;
            self.cycle();
            self.bench.set("quiesce_valid", 0);
            if let Some(index) = aborted {
                self.come_back(index);
            }
            if idle && waited > 4 {
                self.bench.set("fence$ready", 0);
                self.bench.set("abort$ready", 0);
                return (fences, aborts);
            }
        }
        unreachable!()
    }

    /// Lets time pass, and compares what the look finds.
    fn look(&mut self, units: u64) {
        self.moment += units;
        self.bench.set("ticks", u128::from(self.moment << TIME_OUT_SHIFT & 0xFFFF_FFFF));
        let (fences, aborts) = self.settle();
        let overdue: BTreeSet<u64> = self
            .issued
            .values()
            .filter(|it| it.deadline.is_some_and(|deadline| deadline <= self.moment))
            .filter(|it| self.valid >> it.path & 1 == 1 && self.turns[it.path as usize] == it.turn)
            .map(|it| it.path)
            .filter(|path| self.suspect >> path & 1 == 0)
            .collect();
        assert_eq!(fences.iter().copied().collect::<BTreeSet<_>>(), overdue, "at {}", self.moment);
        assert_eq!((fences.len(), aborts.len()), (overdue.len(), 0), "each once");
        for path in overdue {
            self.suspect |= 1 << path;
            self.fences += 1;
        }
        assert_eq!(self.bench.get("suspect"), self.suspect.into());
        let waits = self.issued.values().any(|it| it.deadline.is_some_and(|deadline| deadline > self.moment));
        assert!(!waits || self.bench.get("timing") == 1, "it would not look again");
    }

    fn quiesce(&mut self, path: u64) {
        let over: BTreeSet<(u64, u64)> = self
            .issued
            .iter()
            .filter(|(_, it)| it.path == path)
            .filter(|(_, it)| self.valid >> path & 1 == 0 || self.turns[path as usize] != it.turn)
            .map(|(&index, it)| (index, it.path))
            .collect();
        self.bench.set("quiesce_path", path.into());
        self.bench.set("quiesce_valid", 1);
        let (fences, aborts) = self.settle();
        assert!(fences.is_empty());
        assert_eq!(aborts.len(), over.len());
        assert_eq!(aborts.into_iter().collect::<BTreeSet<_>>(), over);
        self.aborts += over.len() as u64;
    }
}

#[test]
fn asks_for_fences_and_ends_what_is_quiesced() {
    let mut run = Run::new();
    let (mut half, mut whole) = (0, 0);
    for _ in 0..4_000 {
        match run.random.random_range(0..100) {
            0..50 => run.issue(),
            50..75 => {
                let index = run.random.random_range(0..IDS as u64);
                run.come_back(index);
            }
            75..90 => {
                let units = run.random.random_range(1..3);
                run.look(units);
            }
            90..96 => {
                let path = run.random.random_range(0..PATHS);
                if run.valid >> path & 1 == 1 {
                    run.write_path(path, false);
                } else {
                    // In either order: queues are made anew before or after what was lost is given up.
                    if run.random.random_bool(0.5) {
                        run.quiesce(path);
                        half += 1;
                    }
                    run.write_path(path, true);
                    run.quiesce(path);
                    whole += 1;
                }
            }
            _ => {
                let path = run.random.random_range(0..PATHS);
                run.quiesce(path);
            }
        }
    }
    assert!(run.fences > 30 && run.aborts > 100 && half > 20 && whole > 20, "{} {}", run.fences, run.aborts);
}

#[test]
fn a_look_takes_as_long_as_the_header_says() {
    let mut run = Run::new();
    run.bench.set("quiesce_path", 1);
    run.bench.set("quiesce_valid", 1);
    run.bench.eval();
    let since = run.bench.cycles;
    run.cycle();
    run.bench.set("quiesce_valid", 0);
    while run.bench.get("quiesced") == 0 {
        run.cycle();
        assert!(run.bench.cycles < since + 200);
    }
    assert!(run.bench.cycles - since <= IDS as u64 + 12, "{}", run.bench.cycles - since);
}
