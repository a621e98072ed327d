//! The driver's conformance suite on the Verilated card: the register map, the control ring, every table,
//! doorbells.

use volplane_sim::{CardConfig, SimPlatform, SimulatorConfig};
use volplane_tests::conformance;
use volplane_tests::harness::from_environment;

fn conforms(width: usize, stalls: u8) {
    let seed = from_environment("VOLPLANE_SEED").unwrap_or(1);
    let card = CardConfig::new(width).with_stalls(stalls).with_latency_cycles(20, 10);
    let mut platform = SimPlatform::new(SimulatorConfig::new(seed).with_card(card)).expect("a machine");
    conformance::run(&mut platform, "sim:card", seed);
    assert_eq!(platform.handle().protocol_errors(), Vec::<String>::new());
    assert_eq!(platform.handle().ssd_complaints(), Vec::<String>::new());
}

#[test]
fn width_128() {
    conforms(128, 0);
    conforms(128, 96);
}

#[test]
fn width_256() {
    conforms(256, 48);
}

#[test]
fn width_512() {
    conforms(512, 48);
}
