//! Records as the words of a bench's port, for tests.

use rust_hdl::prelude::*;

use crate::records::of_bits;

/// What has `N` bits. RustHDL's own conversion of a record takes many times as long, and is what tests would
/// wait for.
pub trait Packed<const N: usize> {
    /// The bits, lowest first.
    fn pack(&self) -> Vec<bool>;
}

impl<const N: usize> Packed<N> for Bits<N> {
    fn pack(&self) -> Vec<bool> {
        (0..N).map(|i| self.get_bit(i)).collect()
    }
}

/// The words of a record's bits, lowest first.
pub(crate) fn words<const N: usize>(record: impl Packed<N>) -> Vec<u32> {
    let mut words = vec![0; N.div_ceil(32)];
    for (i, bit) in record.pack().into_iter().enumerate() {
        words[i / 32] |= u32::from(bit) << (i % 32);
    }
    words
}

/// The bits that words of a port stand for.
pub(crate) fn bits<const N: usize>(words: &[u32]) -> Bits<N> {
    let mut bits = [false; N];
    for (i, bit) in bits.iter_mut().enumerate() {
        *bit = words[i / 32] >> (i % 32) & 1 == 1;
    }
    of_bits(&bits)
}
