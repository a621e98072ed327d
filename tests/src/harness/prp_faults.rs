//! Commands whose PRPs are wrong, each in one way.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use volplane_abi::SubmissionEntry;

use super::arena::{Arena, Buffer};

/// Makes something wrong with the PRPs of `entry`, whose data is in `buffer`, if its shape allows; the
/// entry as it is sent.
pub fn spoil(
    random: &mut ChaCha8Rng,
    arena: &Arena,
    buffer: &mut Buffer,
    entry: SubmissionEntry,
) -> SubmissionEntry {
    let pages = (buffer.prp1 as usize % 4096 + buffer.bytes).div_ceil(4096);
    let hole = arena.hole() + 4096;
    let odd = random.random_range(1..1024) * 4;
    let number = if pages > 2 { Some(random.random_range(0..pages - 1)) } else { None };
    match (random.random_range(0..8), pages) {
        (0, _) => entry.with_prp1(buffer.prp1 | random.random_range(1..4)),
        (1, _) => entry.with_prp1(hole + buffer.prp1 % 4096),
        (2 | 3, 1) => entry,
        (2, 2) => entry.with_prp2(buffer.prp2 + odd),
        (3, 2) => entry.with_prp2(hole),
        (2, _) => entry.with_prp2(buffer.prp2 | random.random_range(1..8)),
        (3, _) => entry.with_prp2(hole + buffer.prp2 % 4096),
        (4, _) => {
            arena.replace_entry(buffer, number, |page| page + odd);
            entry
        }
        (5, _) => {
            arena.replace_entry(buffer, number, |_| hole);
            entry
        }
        (6, _) => {
            arena.replace_entry(buffer, None, |page| page + odd);
            entry
        }
        _ => {
            arena.replace_entry(buffer, None, |_| hole);
            entry
        }
    }
}
