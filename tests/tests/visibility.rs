//! PCIe orders posted writes per path only: what the card writes to host memory may be seen after the
//! doorbell it writes to an SSD. The fenced submission mode survives that, the direct one does not. And what an SSD
//! writes there may be seen after the completion that it writes to the card: the host completion mode survives that.

use volplane_abi::{completion_mode, opcode, submission_mode};
use volplane_driver::{Platform, PAGE};
use volplane_tests::harness::media::content;
use volplane_tests::harness::{from_environment, plain, Configuration, Machine, Session};

/// Shortest and longest time until a write to host memory is seen, in ns.
const DELAY_NS: (u64, u64) = (500, 3_000);
/// Time for everything to come.
const LIMIT_NS: u64 = 2_000_000;
const COMMANDS: u64 = 60;

/// Writes blocks and counts what went wrong: commands without completion or with an error, blocks that
/// do not hold what was written, complaints of the SSDs.
fn faults(mode: u8, delay_ns: Option<(u64, u64)>) -> usize {
    let mut configuration = plain::configuration(1, 128, mode);
    configuration.simulator.visibility_delay_ns = delay_ns;
    let mut machine = Machine::start(configuration);
    let buffer = machine.platform.allocate(COMMANDS as usize * PAGE).expect("memory");
    for number in 0..COMMANDS {
        let place = buffer.part(number as usize * PAGE, PAGE);
        place.write(0, &content(number + 1, PAGE));
        let entry = plain::command(opcode::WRITE, 0, number * 8, 8, &place).with_command_id(number as u16);
        machine.queues[0].submit(entry).expect("room");
        machine.queues[0].ring().expect("a doorbell");
        machine.handle.run_for_ns(300).expect("the card works");
    }
    machine.handle.run_for_ns(LIMIT_NS).expect("the card works");
    let mut succeeded = 0;
    while let Ok(Some(completion)) = machine.queues[0].poll() {
        succeeded += u64::from(completion.status() == 0);
    }
    let wrong = |number: &u64| {
        // Stripe units of 8 blocks over three SSDs.
        let (ssd, row) = (number % 3, number / 3);
        let mut found = vec![0; PAGE];
        machine.handle.read_media(&format!("nvme{ssd}"), row * 8 * 512, &mut found).expect("media");
        found != content(number + 1, PAGE)
    };
    let lost = (0..COMMANDS).filter(wrong).count();
    (COMMANDS - succeeded) as usize + lost + machine.handle.ssd_complaints().len()
}

#[test]
fn direct_fails_where_memory_is_late_and_fenced_does_not() {
    assert_eq!(faults(submission_mode::DIRECT, None), 0, "direct, memory in time");
    assert_eq!(faults(submission_mode::FENCED, None), 0, "fenced, memory in time");
    assert_eq!(faults(submission_mode::FENCED, Some(DELAY_NS)), 0, "fenced, memory late");
    let seen = faults(submission_mode::DIRECT, Some(DELAY_NS));
    assert!(seen > 0, "direct survives late memory: the delay does nothing");
}

#[test]
fn fenced_paths_survive_late_memory_under_random_traffic() {
    let first = from_environment("VOLPLANE_SEED");
    let seeds = first.map_or(1..5, |seed| seed..seed + 1);
    for seed in seeds {
        let mut configuration = Configuration::random(seed, 128);
        configuration.simulator.visibility_delay_ns = Some(DELAY_NS);
        for route in &mut configuration.routes {
            route.mode = submission_mode::FENCED;
        }
        Session::start(configuration).run(from_environment("VOLPLANE_COMMANDS").unwrap_or(1_500));
    }
}

/// Reads blocks, and counts those that are not in the client's buffer when it is told that they are.
fn early(completions: u8, delay_ns: Option<(u64, u64)>) -> usize {
    let mut configuration = plain::configuration(1, 128, submission_mode::DIRECT);
    configuration.simulator.ssd_visibility_delay_ns = delay_ns;
    for route in &mut configuration.routes {
        route.completions = completions;
    }
    let mut machine = Machine::start(configuration);
    let buffer = machine.platform.allocate(COMMANDS as usize * PAGE).expect("memory");
    for number in 0..COMMANDS {
        let (ssd, row) = (number % 3, number / 3);
        let written =
            machine.handle.write_media(&format!("nvme{ssd}"), row * 8 * 512, &content(number + 1, PAGE));
        written.expect("media");
        let place = buffer.part(number as usize * PAGE, PAGE);
        let entry = plain::command(opcode::READ, 0, number * 8, 8, &place).with_command_id(number as u16);
        machine.queues[0].submit(entry).expect("room");
    }
    machine.queues[0].ring().expect("a doorbell");
    let (mut early, mut left) = (0, COMMANDS);
    for _ in 0..LIMIT_NS / 100 {
        machine.handle.run_for_ns(100).expect("the card works");
        while let Some(completion) = machine.queues[0].poll().expect("a sound queue") {
            assert_eq!(completion.status(), 0);
            let number = u64::from(completion.command_id());
            let mut found = vec![0; PAGE];
            buffer.read(number as usize * PAGE, &mut found);
            early += usize::from(found != content(number + 1, PAGE));
            left -= 1;
        }
    }
    assert_eq!(left, 0, "commands without completion");
    machine.assert_clean(|_| false);
    early
}

#[test]
fn windows_fail_where_an_ssds_data_are_late_and_host_memory_does_not() {
    assert_eq!(early(completion_mode::WINDOW, None), 0, "windows, data in time");
    assert_eq!(early(completion_mode::HOST, None), 0, "host memory, data in time");
    assert_eq!(early(completion_mode::HOST, Some(DELAY_NS)), 0, "host memory, data late");
    let seen = early(completion_mode::WINDOW, Some(DELAY_NS));
    assert!(seen > 0, "windows survive late data: the delay does nothing");
}

#[test]
fn completions_in_host_memory_survive_late_data_under_random_traffic() {
    let first = from_environment("VOLPLANE_SEED");
    let seeds = first.map_or(1..4, |seed| seed..seed + 1);
    for seed in seeds {
        let mut configuration = Configuration::random(seed, 128);
        configuration.simulator.visibility_delay_ns = Some(DELAY_NS);
        configuration.simulator.ssd_visibility_delay_ns = Some(DELAY_NS);
        for route in &mut configuration.routes {
            (route.mode, route.completions) = (submission_mode::FENCED, completion_mode::HOST);
        }
        Session::start(configuration).run(from_environment("VOLPLANE_COMMANDS").unwrap_or(1_000));
    }
}
