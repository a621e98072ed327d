//! The card: what it says it is, and the driver's conformance suite on it.

use std::panic::AssertUnwindSafe;

use volplane_driver::{Bar, Card, Function, Platform, VfioPlatform};
use volplane_tests::conformance;

use crate::refusals::shell;
use crate::{expect, Checks};

/// Address of the card: the first root port.
pub const CARD: &str = "0000:01:00.0";
/// Seed of the conformance suite.
const SEED: u64 = 1;

pub fn bind(checks: &mut Checks) {
    checks.check("the card is bound", || {
        let bound = shell(&format!("volplane bind {CARD}"))?;
        expect(bound.contains("went to vfio-pci"), &bound)?;
        Ok(bound)
    });
}

pub fn run(checks: &mut Checks) {
    bind(checks);
    checks.check("the card says what it is", || {
        let mut platform = VfioPlatform::new()?;
        let card = Card::open(&mut platform, CARD)?;
        let function = card.function();
        let abilities = function.abilities();
        expect(abilities.function_level_reset, "no function level reset")?;
        let seen = format!(
            "{} bits, {} vectors, BAR0 of {} and BAR2 of {} bytes",
            card.capabilities().data_bytes * 8,
            abilities.vectors,
            function.bar_len(Bar::Bar0),
            function.bar_len(Bar::Bar2)
        );
        card.close(&mut platform)?;
        Ok(seen)
    });
    checks.check("the card is reset as a function", || {
        let mut platform = VfioPlatform::new()?;
        platform.open(CARD)?.reset()?;
        Card::open(&mut platform, CARD)?.close(&mut platform)?;
        Ok("and it comes up again".to_owned())
    });
    checks.check("the card conforms", || {
        let mut platform = VfioPlatform::new()?;
        let suite = AssertUnwindSafe(|| conformance::run(&mut platform, CARD, SEED));
        std::panic::catch_unwind(suite).map_err(|_| "see the panic above")?;
        Ok(format!("seed {SEED}"))
    });
}
