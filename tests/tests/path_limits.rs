//! A path's limit: what the SSD behind it may be given at once.

use volplane_abi::{opcode, submission_mode};
use volplane_driver::{Platform, PAGE};
use volplane_tests::harness::{plain, Machine};

/// Blocks from one stripe unit of the first SSD to its next: three SSDs, units of 8 blocks.
const ROW: u64 = 24;
/// Time in which the card has given away what it may.
const ISSUED_NS: u64 = 5_000;
/// Time an SSD takes for a command: longer.
const LATENCY_NS: u64 = 8_000;

#[test]
fn no_more_is_in_use_than_the_limit() {
    for limit in [1, 7, 40] {
        let mut configuration = plain::configuration(1, 128, submission_mode::DIRECT);
        configuration.simulator.ssds[0].latency_ns = LATENCY_NS;
        configuration.routes[0].limit = limit;
        let mut machine = Machine::start(configuration);
        let buffer = machine.platform.allocate(PAGE).expect("memory");
        let commands = machine.queues[0].free() as u64;
        assert!(commands > limit.into());
        for number in 0..commands {
            let entry = plain::command(opcode::READ, 0, number * ROW, 8, &buffer);
            machine.queues[0].submit(entry.with_command_id(number as u16)).expect("room");
        }
        machine.queues[0].ring().expect("a doorbell");
        machine.handle.run_for_ns(ISSUED_NS).expect("the card works");
        let state = machine.path_states()[&0];
        assert_eq!((state.issued(), state.returned()), (limit, 0), "limit {limit}");
        for _ in 0..commands {
            assert_eq!(machine.completion(0).status(), 0);
        }
        let state = machine.path_states()[&0];
        assert_eq!((u64::from(state.issued()), u64::from(state.returned())), (commands, commands));
        machine.assert_clean(|_| false);
    }
}
