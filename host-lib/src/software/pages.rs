//! Physical region pages (NVMe Base 2.0, section 4.1.1): what a client's PRP entries name.

use volplane_abi::status;

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// Reads an aligned 8-byte word of host memory; `None` where nothing is mapped.
pub type Memory<'a> = dyn Fn(u64) -> Option<u64> + 'a;

/// A run of host memory within a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Segment {
    /// Bus address.
    pub iova: u64,
    /// Bytes.
    pub len: u32,
}

/// The pages of a command's buffer.
#[derive(Clone, Debug)]
pub struct Pages {
    /// Offset of the data in page 0.
    offset: u64,
    bytes: u64,
    /// Address of every page, or the status with which it cannot be had.
    pages: Vec<Result<u64, u16>>,
    /// Slots from the list's first to the end of its page; 0 without a list.
    first_slots: u64,
}

impl Pages {
    /// Looks up the pages of `bytes` bytes.
    ///
    /// # Errors
    /// The status of an entry that is wrong in the command itself.
    pub fn walk(prp1: u64, prp2: u64, bytes: u64, memory: &Memory<'_>) -> Result<Self, u16> {
        if !prp1.is_multiple_of(4) {
            return Err(status::INVALID_PRP_OFFSET);
        }
        let offset = prp1 % PAGE;
        let count = (offset + bytes).div_ceil(PAGE);
        let mut pages = vec![Ok(prp1 - offset)];
        let mut first_slots = 0;
        match count {
            0 | 1 => {}
            2 if !prp2.is_multiple_of(PAGE) => return Err(status::INVALID_PRP_OFFSET),
            2 => pages.push(Ok(prp2)),
            _ if !prp2.is_multiple_of(8) => return Err(status::INVALID_PRP_OFFSET),
            _ => {
                first_slots = (PAGE - prp2 % PAGE) / 8;
                pages.extend(list(prp2, count - 1, memory));
            }
        }
        Ok(Self { offset, bytes, pages, first_slots })
    }

    /// The memory of bytes `from..to` of the data.
    ///
    /// # Errors
    /// The status of the first page among them that cannot be had.
    pub fn segments(&self, from: u64, to: u64) -> Result<Vec<Segment>, u16> {
        let mut segments = Vec::new();
        let mut at = from + self.offset;
        while at < to + self.offset {
            let page = self.pages[(at / PAGE) as usize]?;
            let len = (PAGE - at % PAGE).min(to + self.offset - at);
            segments.push(Segment { iova: page + at % PAGE, len: len as u32 });
            at += len;
        }
        Ok(segments)
    }

    /// Where a fragment of bytes `from..to` must end so that the list it is handed does not end on the
    /// slot that holds the chain pointer; `to` when there is no such danger.
    ///
    /// An SSD that is pointed at a slot of the client's first list page takes the page's last slot for
    /// data when its own list ends there, but for the client, who goes on, it is the pointer.
    pub fn safe_end(&self, from: u64, to: u64) -> u64 {
        let entries = self.pages.len() as u64 - 1;
        if entries <= self.first_slots {
            return to;
        }
        // Page n of the buffer is entry n - 1 of the list.
        let (first, last) = ((from + self.offset) / PAGE, (to - 1 + self.offset) / PAGE);
        let list_handed = last >= first + 2;
        if list_handed && last == self.first_slots {
            last * PAGE - self.offset
        } else {
            to
        }
    }

    /// Bytes of the data.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// The first `count` entries of the list at `start`.
fn list(start: u64, count: u64, memory: &Memory<'_>) -> Vec<Result<u64, u16>> {
    let mut entries = Vec::new();
    let mut at = start;
    while (entries.len() as u64) < count {
        let rest = count - entries.len() as u64;
        let chained = at % PAGE == PAGE - 8 && rest > 1;
        match (memory(at), chained) {
            (Some(next), true) if next % PAGE == 0 => at = next,
            (Some(_), true) => {
                entries.extend((0..rest).map(|_| Err(status::INVALID_PRP_OFFSET)));
            }
            (None, true) => entries.extend((0..rest).map(|_| Err(status::DATA_TRANSFER_ERROR))),
            (Some(page), false) => {
                entries.push(if page % PAGE == 0 { Ok(page) } else { Err(status::INVALID_PRP_OFFSET) });
                at += 8;
            }
            (None, false) => {
                entries.push(Err(status::DATA_TRANSFER_ERROR));
                at += 8;
            }
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(prp1: u64, prp2: u64, bytes: u64, words: &[(u64, u64)]) -> Result<Pages, u16> {
        Pages::walk(prp1, prp2, bytes, &|at| words.iter().find(|word| word.0 == at).map(|word| word.1))
    }

    fn all(pages: &Pages) -> Vec<(u64, u32)> {
        let segments = pages.segments(0, pages.bytes()).expect("sound");
        segments.iter().map(|segment| (segment.iova, segment.len)).collect()
    }

    #[test]
    fn one_two_and_three_pages() {
        assert_eq!(all(&walk(0x1E00, 0xBAD, 512, &[]).expect("one")), [(0x1E00, 512)]);
        let two = walk(0x1E04, 0x9000, 512, &[]).expect("two");
        assert_eq!(all(&two), [(0x1E04, 508), (0x9000, 4)]);
        assert_eq!(two.segments(500, 512).expect("sound")[0], Segment { iova: 0x1FF8, len: 8 });
        let three = walk(0x1800, 0x5008, 8192, &[(0x5008, 0xA000), (0x5010, 0x7000)]).expect("three");
        assert_eq!(all(&three), [(0x1800, 2048), (0xA000, 4096), (0x7000, 2048)]);
        assert_eq!(walk(0x1002, 0, 512, &[]).err(), Some(0x13));
        assert_eq!(walk(0x1000, 0x9008, 8192, &[]).err(), Some(0x13));
        assert_eq!(walk(0x1000, 0x5004, 12288, &[]).err(), Some(0x13));
        assert!(walk(0x1000, 0x9003, 4096, &[]).is_ok(), "PRP2 is not looked at");
    }

    #[test]
    fn the_last_slot_of_a_page_is_data_or_a_pointer() {
        let words = [(0x5FF0, 0xA000), (0x5FF8, 0x8000), (0x8000, 0xB000), (0x8008, 0xC000)];
        let exact = walk(0x1000, 0x5FF0, 4096 * 3, &words).expect("two entries, two slots");
        assert_eq!(all(&exact), [(0x1000, 4096), (0xA000, 4096), (0x8000, 4096)]);
        let chained = walk(0x1000, 0x5FF0, 4096 * 4, &words).expect("three entries, two slots");
        assert_eq!(all(&chained), [(0x1000, 4096), (0xA000, 4096), (0xB000, 4096), (0xC000, 4096)]);
        let only = walk(0x1000, 0x5FF8, 4096 * 3, &words).expect("two entries, one slot");
        assert_eq!(all(&only), [(0x1000, 4096), (0xB000, 4096), (0xC000, 4096)]);
    }

    #[test]
    fn a_list_must_not_end_on_the_pointer() {
        let words = [(0x5FF0, 0xA000), (0x5FF8, 0x8000), (0x8000, 0xB000), (0x8008, 0xC000)];
        let chained = walk(0x1200, 0x5FF0, 4096 * 4 - 512, &words).expect("sound");
        // Pages 0 to 2 would take entries 0 and 1, but slot 1 is the pointer: page 2 is cut off.
        assert_eq!(chained.safe_end(0, 4096 * 3 - 512), 8192 - 512);
        assert_eq!(chained.safe_end(0, 4096 * 2 - 511), 8192 - 512);
        // A list that ends before it, two pages without a list, and one that goes on behind it.
        assert_eq!(chained.safe_end(0, 4096 * 2 - 512), 4096 * 2 - 512);
        assert_eq!(chained.safe_end(4096, 4096 * 3 - 512), 4096 * 3 - 512);
        assert_eq!(chained.safe_end(0, 4096 * 4 - 512), 4096 * 4 - 512);
        let exact = walk(0x1000, 0x5FF0, 4096 * 3, &words).expect("sound");
        assert_eq!(exact.safe_end(0, 4096 * 3), 4096 * 3, "the last slot is data");
    }

    #[test]
    fn bad_entries_spoil_only_what_needs_them() {
        let words = [(0x5FE8, 0xA000), (0x5FF0, 0xA00C), (0x5FF8, 0x8000)];
        let pages = walk(0x1000, 0x5FE8, 4096 * 5, &words).expect("sound in itself");
        assert!(pages.segments(0, 8192).is_ok());
        assert_eq!(pages.segments(0, 8193), Err(status::INVALID_PRP_OFFSET));
        assert_eq!(pages.segments(4096 * 3, 4096 * 4), Err(status::DATA_TRANSFER_ERROR));
    }
}
