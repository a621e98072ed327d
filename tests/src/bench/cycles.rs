//! Cycles of the card, from the Verilated RTL: exact, and the same at every run.

use std::time::Duration;

use volplane_abi::opcode;
use volplane_sim::{Agent, BusAction, BusRecord, CARD_WIDTHS};

use super::figure::{Direction, Figure};
use super::machine::{Addresses, Load, Machine};

/// Widths of the data path with the goal and the bus-beat limit of a read of one fragment: 512 / W
/// beats in and out, one completion, and two doorbells of which each serves eight commands.
const WIDTHS: [(usize, f64, f64); 3] = [(128, 8.0, 5.25), (256, 3.6, 3.25), (512, 2.8, 2.25)];
/// Goal and bus-beat limit.
type Bars = (f64, f64);
/// Commands to mirrors at 128 bits.
const MIRRORS: [(&str, Load, Option<Bars>); 3] = [
    ("cycles_per_mirror2_write_4k", Load { opcode: opcode::WRITE, copies: 2 }, Some((12.0, 9.25))),
    ("cycles_per_mirror3_write_4k", Load { opcode: opcode::WRITE, copies: 3 }, None),
    ("cycles_per_mirror2_read_4k", Load { opcode: opcode::READ, copies: 2 }, None),
];
/// Width at which latency is measured: the default.
const LATENCY_WIDTH: usize = 128;
/// Client queues that keep the card busy. Their rings hold more commands than the card has plan
/// slots, and more than it completes while the host looks away.
const CLIENTS: u16 = 4;
/// Reads before the measurement begins: the card is full and every ring has wrapped.
const WARM_UP: u64 = 10_000;
/// Reads measured: many times what the card holds, so that what it holds at either end is no matter.
const MEASURED: u64 = 60_000;
/// Reads whose latency is measured.
const LATENCIES: usize = 64;
/// Longest time of the host between two looks; shorter than the rings last.
const LOOK: Duration = Duration::from_micros(10);
/// Looks without a completion after which the card counts as stuck.
const LOOKS_MAX: u32 = 1_000;
/// Nanoseconds of a card cycle in the simulator's records.
const CYCLE_NS: u64 = 4;

/// What a sustained read costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Throughput {
    /// Cycles a read.
    pub cycles: f64,
    /// Beats a read on the card's write channel: where it comes near `cycles`, the bus binds.
    pub write_beats: f64,
    /// Doorbells a read, among those beats.
    pub doorbells: f64,
}

/// The cycle figures, in the order of the report.
pub fn figures() -> Vec<Figure> {
    let mut figures = Vec::new();
    // All widths, unless `VOLPLANE_CARD_WIDTHS` left some out of the build.
    for (width, goal, limit) in WIDTHS.into_iter().filter(|(width, ..)| CARD_WIDTHS.contains(width)) {
        let Throughput { cycles, write_beats, doorbells } = throughput(width, Load::READ);
        let figure =
            |name, value, unit| Figure::new(format!("{name}_w{width}"), value, unit, Direction::Lower);
        figures.push(figure("cycles_per_read_4k", cycles, "cycles").with_goal(goal).with_limit(limit));
        figures.push(figure("write_beats_per_read_4k", write_beats, "beats"));
        figures.push(figure("doorbells_per_read_4k", doorbells, "doorbells"));
    }
    for (name, load, aims) in MIRRORS {
        let Throughput { cycles, .. } = throughput(LATENCY_WIDTH, load);
        let figure = Figure::new(format!("{name}_w{LATENCY_WIDTH}"), cycles, "cycles", Direction::Lower);
        figures.push(match aims {
            Some((goal, limit)) => figure.with_goal(goal).with_limit(limit),
            None => figure,
        });
    }
    let (submit, complete) = latency();
    let latency = |name, cycles: u64, goal| {
        Figure::new(name, cycles as f64, "cycles", Direction::Lower).with_goal(goal)
    };
    figures.push(latency("latency_submit_cycles", submit, 80.0));
    figures.push(latency("latency_complete_cycles", complete, 24.0));
    let pause = Figure::new("admission_pause_cycles_max", pause().into(), "cycles", Direction::Lower);
    figures.push(pause.with_goal(128.0));
    figures.extend(super::rare::figures());
    figures
}

/// Commands of 4 KiB that lie in one extent, sustained, with more commands in the rings than the card
/// takes.
///
/// # Panics
/// When a command fails, or the card was idle for a moment: then the host was what bound.
pub(super) fn throughput(width: usize, load: Load) -> Throughput {
    let mut machine = Machine::new(width, CLIENTS, load);
    let mut completed = 0;
    let mut beats = Beats::default();
    let mut run = |machine: &mut Machine, until: u64| {
        let mut looks = 0;
        while completed < until {
            machine.submit(usize::MAX);
            machine.wait(LOOK);
            beats.count(&machine.take_bus_record(), width);
            let count = machine.collect();
            completed += count;
            looks = if count == 0 { looks + 1 } else { 0 };
            assert!(looks < LOOKS_MAX, "{width} bits: no completion in {looks} looks after {completed}");
        }
        (machine.counters(), completed, beats)
    };
    let (before, first, beats_before) = run(&mut machine, WARM_UP);
    let (after, last, beats_after) = run(&mut machine, first + MEASURED);
    assert_eq!(after.cycles_skipped, before.cycles_skipped, "{width} bits: the card waited for the host");
    let a_read = |before: u64, after: u64| (after - before) as f64 / (last - first) as f64;
    Throughput {
        cycles: a_read(before.cycles_evaluated, after.cycles_evaluated),
        write_beats: a_read(beats_before.all, beats_after.all),
        doorbells: a_read(beats_before.doorbells, beats_after.doorbells),
    }
}

/// Longest time without an admission while the largest transactions are made, under full load.
fn pause() -> u32 {
    let mut machine = Machine::new(LATENCY_WIDTH, CLIENTS, Load::READ);
    let (mut completed, mut commits, mut looks) = (0, 0, 0);
    while completed < MEASURED / 6 {
        machine.submit(usize::MAX);
        machine.wait(LOOK);
        completed += machine.collect();
        looks += 1;
        assert!(looks < LOOKS_MAX, "the card is stuck");
        if completed > LATENCIES as u64 * (commits + 1) {
            machine.commit();
            commits += 1;
        }
    }
    assert!(commits > 8, "{commits} commits");
    machine.admission_pause_max()
}

/// Beats on the card's write channel.
#[derive(Clone, Copy, Default)]
struct Beats {
    all: u64,
    doorbells: u64,
}

impl Beats {
    fn count(&mut self, records: &[BusRecord], width: usize) {
        for record in records.iter().filter(|record| record.agent == Agent::Card) {
            match record.action {
                BusAction::Write => self.all += (record.len * 8).div_ceil(width) as u64,
                BusAction::Doorbell => {
                    self.all += 1;
                    self.doorbells += 1;
                }
                BusAction::Interrupt => self.all += 1,
                _ => {}
            }
        }
    }
}

/// The longest latencies of reads one at a time, in cycles: from the last beat of the fetched command
/// to the SSD's doorbell, and from the SSD's completion in BAR2 to the client's completion.
///
/// # Panics
/// When a read fails, or a transaction of it is missing on the bus.
pub fn latency() -> (u64, u64) {
    let mut machine = Machine::new(LATENCY_WIDTH, 1, Load::READ);
    let addresses = machine.addresses();
    let (mut submit, mut complete) = (0, 0);
    for read in 0..LATENCIES {
        machine.take_bus_record();
        machine.submit(1);
        let mut looks = 0;
        while machine.collect() == 0 {
            looks += 1;
            assert!(looks < LOOKS_MAX, "read {read} is not completed");
            machine.wait(LOOK);
        }
        let records = machine.take_bus_record();
        let (one, other) = latencies_of(&records, &addresses)
            .unwrap_or_else(|missing| panic!("read {read}: no {missing} in {records:#?}"));
        (submit, complete) = (submit.max(one), complete.max(other));
    }
    (submit, complete)
}

/// Both latencies of the one read that `records` are of, or what is missing.
fn latencies_of(records: &[BusRecord], addresses: &Addresses) -> Result<(u64, u64), &'static str> {
    let mut rest = records.iter();
    let mut next = |what: &'static str, is: &dyn Fn(&BusRecord) -> bool| {
        rest.find(|record| is(record)).map(|record| record.at_ns).ok_or(what)
    };
    let by_card = |record: &BusRecord, action| record.agent == Agent::Card && record.action == action;
    let fetched = next("fetch of the command", &|record| {
        by_card(record, BusAction::ReadDone) && addresses.submission_ring.contains(&record.iova)
    })?;
    let rung = next("doorbell", &|record| {
        by_card(record, BusAction::Doorbell) && addresses.doorbells.contains(&record.iova)
    })?;
    let returned = next("completion of the SSD", &|record| record.action == BusAction::Window)?;
    let completed = next("completion of the client", &|record| {
        by_card(record, BusAction::Write) && addresses.completion_ring.contains(&record.iova)
    })?;
    Ok(((rung - fetched) / CYCLE_NS, (completed - returned) / CYCLE_NS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(cycle: u64, agent: Agent, action: BusAction, iova: u64) -> BusRecord {
        BusRecord { at_ns: cycle * CYCLE_NS, agent, action, iova, len: 16 }
    }

    #[test]
    fn latencies_are_between_the_right_beats() {
        let addresses = Addresses {
            submission_ring: 0x1000..0x2000,
            completion_ring: 0x3000..0x4000,
            doorbells: vec![0x9008, 0xA008],
        };
        let card = |cycle, action, iova| record(cycle, Agent::Card, action, iova);
        let records = [
            card(5, BusAction::Read, 0x1040),
            card(6, BusAction::ReadDone, 0x8000), // a list
            card(10, BusAction::ReadDone, 0x1040),
            card(30, BusAction::Write, 0x5000),    // the SSD's entry
            card(33, BusAction::ReadDone, 0x5000), // the fence
            card(34, BusAction::Doorbell, 0x900C), // a completion head of an earlier read
            card(40, BusAction::Doorbell, 0xA008),
            record(41, Agent::Ssd(1), BusAction::Write, 0x3000),
            record(42, Agent::Ssd(1), BusAction::Posted, 0xB000),
            record(45, Agent::Host, BusAction::Window, 0x4000),
            card(50, BusAction::Doorbell, 0xA00C),
            card(61, BusAction::Write, 0x3FF0),
        ];
        assert_eq!(latencies_of(&records, &addresses), Ok((30, 16)));
        assert_eq!(latencies_of(&records[..11], &addresses), Err("completion of the client"));
        assert_eq!(latencies_of(&records[..6], &addresses), Err("doorbell"));
    }
}
