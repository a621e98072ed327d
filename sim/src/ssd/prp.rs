//! Physical region pages: where a command's data lies (NVMe Base 2.0, section 4.1.1).
//!
//! PRP1 may have an offset in its page, a multiple of 4. If the data ends within that page, PRP2 is
//! not looked at; if it ends within the next, PRP2 is that page; otherwise PRP2 points at a list,
//! at a multiple of 8. All pages but the first have offset 0. When a list does not end in its page,
//! the page's last slot points at the next list, which begins at a page.

use crate::host_memory::Refusal;
use crate::probe::Segment;

use super::status;

const PAGE: u64 = 4096;

/// Resolves the PRPs of `bytes` (more than 0) of data into `segments`; `read_list` reads list
/// entries from host memory.
pub(crate) fn walk(
    prp1: u64,
    prp2: u64,
    bytes: u64,
    mut read_list: impl FnMut(u64, &mut [u8]) -> Result<(), Refusal>,
    segments: &mut Vec<Segment>,
) -> Result<(), u16> {
    segments.clear();
    if !prp1.is_multiple_of(4) {
        return Err(status::INVALID_PRP_OFFSET);
    }
    let first = (PAGE - prp1 % PAGE).min(bytes);
    segments.push(Segment { iova: prp1, len: first as u32 });
    let mut rest = bytes - first;
    if rest == 0 {
        return Ok(());
    }
    if rest <= PAGE {
        return push_page(prp2, &mut rest, segments);
    }
    if !prp2.is_multiple_of(8) {
        return Err(status::INVALID_PRP_OFFSET);
    }
    let mut list = prp2;
    let mut buffer = [0; PAGE as usize];
    while rest > 0 {
        let slots = (PAGE - list % PAGE) / 8;
        let wanted = rest.div_ceil(PAGE);
        let entries = &mut buffer[..wanted.min(slots) as usize * 8];
        read_list(list, entries).map_err(|_| status::DATA_TRANSFER_ERROR)?;
        let mut entries = entries
            .chunks_exact(8)
            .map(|entry| u64::from_le_bytes(entry.try_into().expect("list entries have 8 bytes")));
        let pages = if wanted > slots { slots - 1 } else { wanted };
        for entry in entries.by_ref().take(pages as usize) {
            push_page(entry, &mut rest, segments)?;
        }
        if let Some(next) = entries.next() {
            if next % PAGE != 0 {
                return Err(status::INVALID_PRP_OFFSET);
            }
            list = next;
        }
    }
    Ok(())
}

fn push_page(page: u64, rest: &mut u64, segments: &mut Vec<Segment>) -> Result<(), u16> {
    if !page.is_multiple_of(PAGE) {
        return Err(status::INVALID_PRP_OFFSET);
    }
    let len = (*rest).min(PAGE);
    segments.push(Segment { iova: page, len: len as u32 });
    *rest -= len;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_memory::{Agent, HostMemory};

    fn resolve(prp1: u64, prp2: u64, bytes: u64, lists: &[(u64, Vec<u64>)]) -> Result<Vec<(u64, u32)>, u16> {
        let host = HostMemory::default();
        let mut segments = Vec::new();
        let read_list = |iova: u64, into: &mut [u8]| {
            let Some((base, entries)) = lists.iter().find(|(base, _)| *base == iova) else {
                return host.read(Agent::Ssd(0), iova, into);
            };
            assert!(into.len() as u64 <= 4096 - base % 4096, "a list is read within its page");
            assert!(into.len() / 8 <= entries.len(), "no more of the list is read than is needed");
            for (to, entry) in into.chunks_exact_mut(8).zip(entries) {
                to.copy_from_slice(&entry.to_le_bytes());
            }
            Ok(())
        };
        walk(prp1, prp2, bytes, read_list, &mut segments)?;
        Ok(segments.iter().map(|segment| (segment.iova, segment.len)).collect())
    }

    #[test]
    fn one_and_two_pages() {
        assert_eq!(resolve(0x1000, 0xBAD, 4096, &[]), Ok(vec![(0x1000, 4096)]));
        assert_eq!(resolve(0x1E00, 0xBAD, 512, &[]), Ok(vec![(0x1E00, 512)]));
        assert_eq!(resolve(0x1E04, 0x9000, 512, &[]), Ok(vec![(0x1E04, 508), (0x9000, 4)]));
        assert_eq!(resolve(0x1000, 0x9000, 8192, &[]), Ok(vec![(0x1000, 4096), (0x9000, 4096)]));
    }

    #[test]
    fn lists_and_the_slot_that_ends_a_page() {
        let list = |pages: u64| (0..pages).map(|page| 0x10_0000 + page * 0x2000).collect::<Vec<_>>();
        let short = resolve(0x1800, 0x5000, 4096 * 3, &[(0x5000, list(3))]).expect("valid");
        assert_eq!(short, [(0x1800, 2048), (0x10_0000, 4096), (0x10_2000, 4096), (0x10_4000, 2048)]);
        // Two entries left and two slots: both are data.
        let exact = resolve(0x1000, 0x5FF0, 4096 * 3, &[(0x5FF0, list(2))]).expect("valid");
        assert_eq!(exact, [(0x1000, 4096), (0x10_0000, 4096), (0x10_2000, 4096)]);
        // Three entries left and two slots: the second points at the next list.
        let chained = resolve(
            0x1000,
            0x5FF0,
            4096 * 4,
            &[(0x5FF0, vec![0xA000, 0x8000]), (0x8000, vec![0xB000, 0xC000])],
        );
        assert_eq!(chained, Ok(vec![(0x1000, 4096), (0xA000, 4096), (0xB000, 4096), (0xC000, 4096)]));
        // Only the last slot: it holds no data at all.
        let pointer = resolve(0x1000, 0x5FF8, 12288, &[(0x5FF8, vec![0x8000]), (0x8000, list(2))]);
        assert_eq!(pointer.expect("valid").len(), 3);
        // 513 entries from a page's start: 511, a pointer, 2.
        let mut long = list(511);
        long.push(0x8000);
        let segments = resolve(0x1000, 0x5000, 4096 * 514, &[(0x5000, long), (0x8000, list(2))]);
        assert_eq!(segments.expect("valid").len(), 514);
    }

    #[test]
    fn wrong_offsets_and_unmapped_lists() {
        let invalid = Err(status::INVALID_PRP_OFFSET);
        assert_eq!(resolve(0x1002, 0, 512, &[]), invalid);
        assert_eq!(resolve(0x1000, 0x9200, 8192, &[]), invalid);
        assert_eq!(resolve(0x1000, 0x5004, 12288, &[(0x5004, vec![0; 2])]), invalid);
        assert_eq!(resolve(0x1000, 0x5000, 12288, &[(0x5000, vec![0xA000, 0xB008])]), invalid);
        let chain = [(0x5FF0, vec![0xA000, 0x8008]), (0x8008, vec![0xB000, 0xC000])];
        assert_eq!(resolve(0x1000, 0x5FF0, 16384, &chain), invalid);
        assert_eq!(resolve(0x1000, 0x5000, 12288, &[]), Err(status::DATA_TRANSFER_ERROR));
    }
}
