//! Completion queues in host memory, which the card reads: they wrap, are made anew, and are not believed once they are
//! not a path's any more. That the data are there before a completion is, `visibility.rs` shows.

use volplane_abi::plan::{component_state, read_policy, reason};
use volplane_abi::tables::table;
use volplane_abi::{
    completion_mode, opcode, registers, submission_mode, CompletionEntry, ComponentEntry, PathCompletions,
};
use volplane_driver::{DmaMemory, Platform, PAGE};
use volplane_sim::{Commands, Fault, FaultKind, PlanEvent};
use volplane_tests::harness::media::content;
use volplane_tests::harness::triple::{forgiving, Mirror, COPIES, PLAN};
use volplane_tests::harness::{plain, Configuration, Machine};

/// Blocks from one stripe unit of the first SSD to its next: three SSDs, units of 8 blocks.
const ROW: u64 = 24;
/// Ticks of a time-out, and simulated ns after which the card has seen that it has passed.
const TIME_OUT: u32 = 2_000;
const PASSED_NS: u64 = 600_000;
/// Simulated ns of a tick: a card that has something to read is never idle, and time costs cycles.
const TICK_NS: u64 = 80;
/// A cycle of the card, in ns.
const CYCLE_NS: u64 = 4;

/// The plain machine, whose completion queues are in host memory, of so many entries.
fn in_host(cq_entries: u16) -> Configuration {
    let mut configuration = plain::configuration(1, 128, submission_mode::DIRECT);
    configuration.simulator.card.as_mut().expect("a card").tick_ns = TICK_NS;
    for route in &mut configuration.routes {
        (route.completions, route.cq_entries) = (completion_mode::HOST, cq_entries);
        route.limit = route.limit.min(cq_entries - 1);
    }
    configuration
}

/// A mirror on it, whose copies wait as long as `TIME_OUT` and have two tries.
fn impatient(cq_entries: u16) -> Mirror {
    let mut mirror = Mirror::start_on(in_host(cq_entries), read_policy::PREFERRED, forgiving(), forgiving());
    for copy in 0..COPIES as usize {
        let index = ComponentEntry::index(PLAN as u16, copy);
        let machine = &mut mirror.machine;
        let entry: ComponentEntry =
            machine.card.table_record(&mut machine.platform, table::COMPONENT, index).expect("a component");
        mirror.write(table::COMPONENT, index, &entry.with_time_out(TIME_OUT).with_retries(2).0);
    }
    mirror
}

/// Lets time pass until the card has asked for fences: of which paths.
fn fences(mirror: &mut Mirror) -> Vec<u8> {
    mirror.machine.handle.run_for_ns(PASSED_NS).expect("the card works");
    let records = mirror.records();
    assert!(records.iter().all(|record| record.tail.reasons() == reason::TIME_OUT), "{records:?}");
    records.iter().map(|record| record.tail.path()).collect()
}

/// Reads `count` pages of the first SSD, as many at once as there is room for.
fn read_pages(machine: &mut Machine, buffer: &DmaMemory, count: u64) {
    let (mut sent, mut ended) = (0, 0);
    while ended < count {
        while sent < count && machine.queues[0].free() > 0 {
            let entry = plain::command(opcode::READ, 0, sent % 80 * ROW, 8, buffer);
            machine.queues[0].submit(entry.with_command_id(sent as u16)).expect("room");
            sent += 1;
        }
        machine.queues[0].ring().expect("a doorbell");
        assert_eq!(machine.completion(0).status(), 0, "after {ended}");
        ended += 1;
    }
}

fn unknown(machine: &Machine) -> u32 {
    machine.card.register_block().read(registers::UNKNOWN_COMPLETIONS).expect("a register")
}

#[test]
fn a_queue_wraps_many_times_whatever_its_length() {
    for entries in [2, 3, 4, 5, 31, 64] {
        let mut machine = Machine::start(in_host(entries));
        let buffer = machine.platform.allocate(PAGE).expect("memory");
        let count = 40 * u64::from(entries.max(16)) + 1;
        read_pages(&mut machine, &buffer, count);
        machine.handle.run_for_ns(20_000).expect("the card works");
        let state = machine.path_states()[&0];
        assert_eq!((u64::from(state.issued()), u64::from(state.returned())), (count, count));
        assert_eq!(u64::from(state.cq_head()), count % u64::from(entries), "{entries} entries");
        assert_eq!(unknown(&machine), 0);
        machine.assert_clean(|_| false);
    }
}

/// How many cycles after an SSD has written it an answer is seen: in a window, and in host memory.
#[test]
fn an_answer_is_seen_soon() {
    let seen = |completions: u8, read_latency: u32, paths: usize| {
        let mut configuration = in_host(64);
        configuration.routes.iter_mut().for_each(|route| route.completions = completions);
        let card = configuration.simulator.card.as_mut().expect("a card");
        (card.record_plans, card.read_latency_cycles) = (1 << 12, read_latency);
        for ssd in &mut configuration.simulator.ssds {
            (ssd.latency_ns, ssd.jitter_ns) = (3_000, 2_000);
        }
        let mut machine = Machine::start(configuration);
        let buffer = machine.platform.allocate(PAGE).expect("memory");
        let mut cycles = Vec::new();
        for round in 0..60 {
            for path in 0..paths as u64 {
                let entry = plain::command(opcode::READ, 0, round * ROW + 8 * path, 8, &buffer);
                machine.queues[0].submit(entry.with_command_id(path as u16)).expect("room");
            }
            machine.queues[0].ring().expect("a doorbell");
            for _ in 0..paths {
                assert_eq!(machine.completion(0).status(), 0);
            }
            let came = |event: PlanEvent| match event {
                PlanEvent::Returned { path, .. } => Some(usize::from(path)),
                _ => None,
            };
            let returned: Vec<(usize, u64)> = machine
                .handle
                .take_plan_events()
                .0
                .into_iter()
                .filter_map(|record| Some((came(record.event)?, record.at_ns)))
                .collect();
            assert_eq!(returned.len(), paths);
            for (path, at_ns) in returned {
                let ends = machine.handle.take_ends(&format!("nvme{path}")).0;
                cycles.push((at_ns - ends.last().expect("its end").at_ns) / CYCLE_NS);
            }
        }
        let mean = cycles.iter().sum::<u64>() / cycles.len() as u64;
        let (least, most) = (cycles.iter().min().copied(), cycles.iter().max().copied());
        (least.unwrap_or(0), mean, most.unwrap_or(0))
    };
    for (latency, paths) in [(0, 1), (0, 3), (100, 1), (100, 3)] {
        let (window, host) =
            (seen(completion_mode::WINDOW, latency, paths), seen(completion_mode::HOST, latency, paths));
        println!(
            "read latency {latency}, {paths} paths: window {window:?}, host {host:?} (least, mean, most)"
        );
        // A round over the paths: each a read that finds nothing and its pause; then the one that finds it.
        let read = u64::from(latency) + 24;
        assert!(host.2 <= window.2 + (paths as u64) * (read + 34) + read + 24, "{host:?}, {window:?}");
    }
}

#[test]
fn what_is_not_answered_is_given_again_when_the_queue_is_made_anew() {
    let mut mirror = impatient(4);
    let mut number = 0;
    for round in 0..12 {
        // So that queues are left somewhere in the middle, of either phase.
        for _ in 0..round {
            number += 1;
            assert_eq!(mirror.put(number % 20 * 8, number), 0);
        }
        let lost = Fault::new(FaultKind::Drop { after_effect: round % 2 == 0 });
        let writes = Commands::all().with_opcodes(&[opcode::WRITE]).with_count(0, 1);
        mirror.machine.handle.start_fault("nvme1", lost.with_commands(writes));
        number += 1;
        mirror.submit_write(1, 0, number);
        // Behind it, and answered.
        for id in 2..5 {
            number += 1;
            mirror.submit_write(id, u64::from(id) * 8, number);
        }
        assert_eq!(fences(&mut mirror), [1], "round {round}");
        mirror.machine.fence(1);
        for _ in 1..5 {
            assert_eq!(mirror.machine.completion(0).status(), 0);
        }
        mirror.machine.handle.stop_faults();
        for copy in 0..COPIES {
            for id in 1..5 {
                let lba = if id == 1 { 0 } else { id * 8 };
                assert_eq!(mirror.media(copy, lba, 8), content(number - 4 + id, PAGE), "copy {copy}");
            }
        }
    }
    assert_eq!((mirror.records(), mirror.states().0), (Vec::new(), vec![component_state::IN_SYNC; 3]));
    assert_eq!(unknown(&mirror.machine), 0);
    mirror.machine.assert_clean(|_| false);
}

/// A path that is closed gets nothing new; what its SSD still answers is read.
#[test]
fn an_answer_on_a_closed_path_counts() {
    let mut mirror = impatient(64);
    let late = FaultKind::Delay { shortest_ns: 100_000, longest_ns: 100_000 };
    let once = Commands::all().with_opcodes(&[opcode::WRITE]).with_count(0, 1);
    mirror.machine.handle.start_fault("nvme2", Fault::new(late).with_commands(once));
    mirror.submit_write(1, 0, 1);
    mirror.machine.handle.run_for_ns(20_000).expect("the card works");
    mirror.machine.close_path(2, true);
    mirror.none_completed();
    mirror.machine.handle.run_for_ns(150_000).expect("the card works");
    assert_eq!(mirror.machine.completion(0).status(), 0);
    mirror.machine.renew_path(2);
    assert_eq!(mirror.put(8, 2), 0);
    assert_eq!((mirror.records(), mirror.states().0), (Vec::new(), vec![component_state::IN_SYNC; 3]));
    mirror.machine.assert_clean(|_| false);
}

/// Whatever stands in the memory, and though it is not there: others go on, and the path's own commands are given again.
#[test]
fn what_no_ssd_should_write_harms_nobody_else() {
    for mapped in [true, false] {
        let mut mirror = impatient(64);
        let machine = &mut mirror.machine;
        // The card reads another queue than its SSD writes: full of new entries, or not there.
        let wrong = machine.platform.allocate(PAGE).expect("memory");
        for place in 0..64u16 {
            let entry = CompletionEntry::default()
                .with_command_id(place.wrapping_mul(0x0801))
                .with_sq_head(0xFFFF)
                .with_phase(1)
                .with_status(place);
            wrong.write(usize::from(place) * CompletionEntry::BYTES, &entry.0);
        }
        let iova = wrong.iova().0;
        let _held = mapped.then_some(wrong);
        let place = PathCompletions::default().with_base(iova);
        let path = machine.configuration.tables.paths[&1];
        machine
            .card
            .table_write(&mut machine.platform, table::PATH_COMPLETIONS, 1, &place.0)
            .expect("an entry");
        machine.card.table_write(&mut machine.platform, table::PATH, 1, &path.0).expect("an entry");
        mirror.submit_write(1, 0, 1);
        let buffer = mirror.machine.platform.allocate(PAGE).expect("memory");
        read_pages(&mut mirror.machine, &buffer, 200);
        assert_eq!(fences(&mut mirror), [1]);
        mirror.machine.fence(1);
        assert_eq!(mirror.machine.completion(0).status(), 0);
        assert_eq!(mirror.media(1, 0, 8), content(1, PAGE));
        assert_eq!(mirror.put(8, 2), 0);
        assert_eq!(unknown(&mirror.machine) > 60, mapped, "{} unknown", unknown(&mirror.machine));
        // The SSD is told of heads that it knows nothing of.
        assert_eq!(mirror.machine.handle.ssd_complaints().is_empty(), !mapped);
        assert_eq!(mirror.machine.handle.protocol_errors(), Vec::<String>::new());
        let range = iova..iova + PAGE as u64;
        let refusals = mirror.machine.handle.refusals();
        assert!(refusals.iter().all(|refusal| range.contains(&refusal.iova)), "{refusals:?}");
        assert_eq!(refusals.is_empty(), mapped);
    }
}
