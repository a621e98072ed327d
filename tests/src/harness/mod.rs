//! Random machines and random traffic, for the differential tests of the card.
//!
//! One seed chooses everything: SSDs, tables, rings, commands, buffers, faults. A `Session` brings the
//! machine up, sends commands and compares what comes of them with `crate::model`: completions, what
//! every SSD received, media, and host memory with the guard bytes around every buffer.
//!
//! * `configuration`: the machine. `disks`: the map of its virtual disks.
//! * `machine`: brings it up through the driver. `raw_queue`: a client ring without the driver's care.
//! * `arena`: pages for buffers and lists, with guards. `prp_faults`: lists that are wrong.
//! * `traffic`: commands. `faults`: what SSDs do wrong. `media`: what SSDs should hold. `volumes`: what disks hold for
//!   their clients, made of `intervals` of blocks.
//! * `records`: what SSDs received against what they should have. `coverage`: what was met on the way.
//! * `mirrors`: disks with plan templates. `plan_story`: what the card's trace tells of their plans.
//!   `plan_judge`: what must come of these, by what `part_judge` says of their parts and `part_retries` of those
//!   that begin again. `path_story`: what has become of paths meanwhile; `part_counts`: how busy copies are.
//! * `session`: the run; in it `witness` hears what is done, `judgement` says what must come of it, `compare` also
//!   of a Compare, `control_path` answers, `renewal` makes paths anew, `outages` lets controllers die or resets them, `slots` says who may hold plan slots, and
//!   `liveness` how long all takes to end. `ledger`: what becomes of each command when a card is reset.
//! * `plain`: a machine and a client for directed tests; `triple`: a mirror on it.

pub mod arena;
pub mod configuration;
pub mod coverage;
pub mod disks;
pub mod faults;
pub mod intervals;
pub mod ledger;
pub mod machine;
pub mod media;
pub mod mirrors;
pub mod part_counts;
pub mod part_judge;
pub mod part_retries;
pub mod path_story;
pub mod plain;
pub mod plan_judge;
pub mod plan_story;
pub mod prp_faults;
pub mod raw_queue;
pub mod records;
pub mod session;
pub mod traffic;
pub mod triple;
pub mod volumes;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

pub use configuration::Configuration;
pub use coverage::Coverage;
pub use machine::Machine;
pub use session::Session;

/// The generator of a part of the run called `part`, so that a change in one leaves the others alone.
pub fn fork(seed: u64, part: &str) -> ChaCha8Rng {
    // FNV-1a: stable across releases.
    let hash = part
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3));
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&hash.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// A well-mixed function of a number (SplitMix64), for patterns that need no state.
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

/// Whether the card of this width was built; one that was left out (`VOLPLANE_CARD_WIDTHS`) is said so.
///
/// # Panics
/// Where everything is to be tested (`VOLPLANE_WHOLE=1`), and it was not.
pub fn is_built(width: usize) -> bool {
    let built = volplane_sim::CARD_WIDTHS.contains(&width);
    assert!(built || !is_whole(), "VOLPLANE_WHOLE=1 without a card of {width} bits");
    if !built {
        println!("there is no card of {width} bits in this build: nothing is tested");
    }
    built
}

/// Whether everything is to be tested, not only what finds a plain error (`make thorough`).
pub fn is_whole() -> bool {
    from_environment("VOLPLANE_WHOLE") == Some(1)
}

/// A number from the environment.
///
/// # Panics
/// When the variable is set to something else.
pub fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}
