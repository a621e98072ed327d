//! What `make full-system` runs inside a virtual machine: checks of the VFIO backing on a real kernel.
//!
//! `in_guest SCENARIO` prints a line a check, which `tests/full-system/run.py` reads: `CHECK name: ok, what was seen`
//! or `CHECK name: FAILED why`; `HOST remove ID` asks it to pull a device out. It leaves with 0 when all passed. Some
//! checks start this program again, as another user or process (`child.rs`).

mod bare;
mod card;
mod child;
mod refusals;
mod served;
mod ssd;
mod ssds;
mod stamped;

use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

/// What a check saw, or why it failed.
type Outcome = Result<String, Box<dyn Error>>;

/// Runs checks and counts those that failed.
#[derive(Default)]
struct Checks {
    failed: usize,
}

impl Checks {
    fn check(&mut self, name: &str, check: impl FnOnce() -> Outcome) {
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(check));
        match outcome.unwrap_or_else(|_| Err("it panicked, see above".into())) {
            Ok(seen) => println!("CHECK {name}: ok, {seen}"),
            Err(error) => {
                self.failed += 1;
                println!("CHECK {name}: FAILED {error}");
            }
        }
    }
}

/// Fails a check unless something holds.
fn expect(holds: bool, otherwise: impl Into<String>) -> Result<(), Box<dyn Error>> {
    holds.then_some(()).ok_or_else(|| otherwise.into().into())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut checks = Checks::default();
    match arguments.first().map(String::as_str) {
        Some("bare") => bare::run(&mut checks),
        Some("no-iommu") => bare::without_iommu(&mut checks),
        Some("ssds") => {
            refusals::run(&mut checks);
            ssds::run(&mut checks);
        }
        Some("software") => served::run(&mut checks, "software"),
        Some("errors") => served::errors(&mut checks, "software"),
        Some("removal") => served::removal(&mut checks, "software"),
        Some("card") => {
            card::run(&mut checks);
            served::run(&mut checks, card::CARD);
        }
        Some("card-errors") => {
            card::bind(&mut checks);
            served::errors(&mut checks, card::CARD);
        }
        Some("card-removal") => {
            card::bind(&mut checks);
            served::removal(&mut checks, card::CARD);
        }
        Some("child") => return child::run(&arguments[1..]),
        other => {
            println!("no scenario {other:?}");
            return ExitCode::from(2);
        }
    }
    ExitCode::from(u8::from(checks.failed > 0))
}
