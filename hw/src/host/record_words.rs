//! Records as the words of a bench's port, for tests.

use rust_hdl::prelude::*;

/// The words of a record's bits, lowest first.
pub(crate) fn words<const N: usize>(bits: impl Into<Bits<N>>) -> Vec<u32> {
    let bits = bits.into();
    (0..N.div_ceil(32))
        .map(|word| {
            (word * 32..N.min(word * 32 + 32))
                .fold(0, |value, bit| value | u32::from(bits.get_bit(bit)) << (bit % 32))
        })
        .collect()
}

/// The bits that words of a port stand for.
pub(crate) fn bits<const N: usize>(words: &[u32]) -> Bits<N> {
    (0..N).fold(Bits::default(), |value: Bits<N>, bit| {
        value.replace_bit(bit, words[bit / 32] >> (bit % 32) & 1 == 1)
    })
}
