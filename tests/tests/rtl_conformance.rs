//! The driver's conformance suite on the Verilated card: the register map, the control ring, every table,
//! doorbells, interrupt vectors.

use volplane_abi::registers;
use volplane_driver::{Bar, Card, Function};
use volplane_sim::{CardConfig, SimPlatform, SimulatorConfig};
use volplane_tests::conformance;
use volplane_tests::harness::{from_environment, is_built, mix};

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

/// What a host finds in the table of interrupt vectors is what it wrote, mask bits too.
#[test]
fn the_interrupt_table_reads_back() {
    let mut platform =
        SimPlatform::new(SimulatorConfig::new(1).with_card(CardConfig::new(128))).expect("a machine");
    let card = Card::open(&mut platform, "sim:card").expect("the card comes up");
    let vectors = card.capabilities().vectors;
    let words = (0..vectors).flat_map(|vector| (0..4).map(move |word| (vector, word)));
    let offset = |vector: u32, word: u32| u64::from(registers::MSIX_TABLE + vector * 16 + word * 4);
    for round in 0..4u64 {
        let value = |vector: u32, word: u32| {
            let mixed = mix(round << 16 | u64::from(vector * 4 + word)) as u32;
            // An address is of whole words, and of the last word only the mask bit is there.
            [mixed & !3, mixed, mixed, mixed & 1][word as usize]
        };
        for (vector, word) in words.clone() {
            let written = card.function().write32(Bar::Bar0, offset(vector, word), value(vector, word));
            written.expect("a register");
        }
        for (vector, word) in words.clone() {
            let found = card.function().read32(Bar::Bar0, offset(vector, word)).expect("a register");
            assert_eq!(found, value(vector, word), "word {word} of vector {vector}");
        }
    }
}

#[test]
fn width_256() {
    if is_built(256) {
        conforms(256, 48);
    }
}

#[test]
fn width_512() {
    if is_built(512) {
        conforms(512, 48);
    }
}
