//! One root seed, forked for every component, so that a change in one leaves the others' streams alone.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The generator of the component called `name`.
pub(crate) fn fork(seed: u64, name: &str) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&hash(name).to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// FNV-1a: stable across releases, which the standard hasher is not.
pub(crate) fn hash(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
    text.bytes().fold(0xCBF2_9CE4_8422_2325, step)
}

/// A number from 0 to `limit`, both included.
pub(crate) fn up_to(random: &mut ChaCha8Rng, limit: u64) -> u64 {
    match limit.checked_add(1) {
        Some(values) => random.next_u64() % values,
        None => random.next_u64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ_by_seed_and_by_name() {
        let draw = |seed, name| fork(seed, name).next_u64();
        assert_eq!(draw(1, "card"), draw(1, "card"));
        assert_ne!(draw(1, "card"), draw(2, "card"));
        assert_ne!(draw(1, "card"), draw(1, "ssd0"));
        let mut random = fork(7, "range");
        let drawn: Vec<u64> = (0..200).map(|_| up_to(&mut random, 3)).collect();
        assert!((0..4).all(|value| drawn.contains(&value)) && drawn.iter().all(|&value| value < 4));
    }
}
