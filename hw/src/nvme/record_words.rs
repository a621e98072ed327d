//! Records as the words of a bench's wide port, and back.

use rust_hdl::prelude::*;
use volplane_abi::{table, PathEntry};

use crate::records::TableRequest;

/// The record whose `N` bits a port shows.
pub fn record<const N: usize, R: From<Bits<N>>>(words: &[u32]) -> R {
    let mut bits = Bits::<N>::default();
    for i in 0..N {
        bits = bits.replace_bit(i, words[i / 32] >> (i % 32) & 1 == 1);
    }
    bits.into()
}

/// The words that put a record on a port of `N` bits.
pub fn words<const N: usize, R>(record: R) -> Vec<u32>
where
    Bits<N>: From<R>,
{
    let bits = Bits::<N>::from(record);
    (0..N.div_ceil(32))
        .map(|word| {
            (0..32)
                .map(|i| 32 * word + i)
                .filter(|&i| i < N)
                .fold(0, |v, i| v | u32::from(bits.get_bit(i)) << (i % 32))
        })
        .collect()
}

/// The words of a request that writes the table entry of a path.
pub fn path_table_write(path: usize, entry: &PathEntry) -> Vec<u32> {
    let words_of_entry: Vec<u32> =
        entry.0.chunks(4).map(|c| u32::from_le_bytes(c.try_into().expect("four bytes"))).collect();
    words::<305, _>(TableRequest {
        write: 1.into(),
        table: u64::from(table::PATH).into(),
        index: (path as u64).into(),
        data: record::<256, _>(&words_of_entry),
    })
}
