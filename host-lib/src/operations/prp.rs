//! PRP entries (NVMe Base 2.0, section 4.1.1).

use volplane_driver::{DmaMemory, Iova, PAGE};

/// PRP entries 1 and 2 of `bytes` (1 and up) at `buffer`; see `of_pages` for the list.
pub(crate) fn entries(buffer: Iova, bytes: usize, list: &DmaMemory) -> (u64, u64) {
    let page = PAGE as u64;
    let second = (buffer.0 | (page - 1)) + 1;
    let more = (buffer.0 + bytes as u64).saturating_sub(second).div_ceil(page) as usize;
    of_pages(buffer.0, (0..more).map(|number| second + number as u64 * page), list)
}

/// PRP entries 1 and 2 of data that begins at `first` and goes on in the pages `rest`. With more than one
/// of those, the list is written to `list`, a page; it reaches 2 MiB, twice what a command may transfer,
/// so lists never chain.
pub(crate) fn of_pages(
    first: u64,
    mut rest: impl ExactSizeIterator<Item = u64>,
    list: &DmaMemory,
) -> (u64, u64) {
    if rest.len() < 2 {
        return (first, rest.next().unwrap_or(0));
    }
    for (index, address) in rest.enumerate() {
        list.write(index * 8, &address.to_le_bytes());
    }
    (first, list.iova().0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: u64 = 0x7000_0000;

    fn built(buffer: u64, bytes: usize) -> (u64, u64, Vec<u64>) {
        let map = memmap2::MmapMut::map_anon(PAGE).expect("memory");
        let list = DmaMemory::new(map, Iova(LIST), ());
        list.fill(0, PAGE, 0xEE);
        let (prp1, prp2) = entries(Iova(buffer), bytes, &list);
        let mut page = [0; PAGE];
        list.read(0, &mut page);
        let words = page.chunks(8).map(|word| u64::from_le_bytes(word.try_into().expect("8 bytes")));
        (prp1, prp2, words.take_while(|&word| word != 0xEEEE_EEEE_EEEE_EEEE).collect())
    }

    #[test]
    fn one_page_has_no_second_entry() {
        assert_eq!(built(0x1000, 4096), (0x1000, 0, vec![]));
        assert_eq!(built(0x1E00, 512), (0x1E00, 0, vec![]));
    }

    #[test]
    fn two_pages_have_two_entries() {
        assert_eq!(built(0x1E04, 512), (0x1E04, 0x2000, vec![]));
        assert_eq!(built(0x1000, 8192), (0x1000, 0x2000, vec![]));
        assert_eq!(built(0x1FFC, 4100), (0x1FFC, 0x2000, vec![]));
    }

    #[test]
    fn more_pages_have_a_list_without_the_first() {
        assert_eq!(built(0x1000, 8704), (0x1000, LIST, vec![0x2000, 0x3000]));
        assert_eq!(built(0x1FFC, 4104), (0x1FFC, LIST, vec![0x2000, 0x3000]));
    }

    #[test]
    fn the_longest_command_fits_a_page_of_list() {
        let (_, _, list) = built(0x1FFC, 1 << 20);
        assert_eq!(list.len(), 256);
        assert_eq!(list[255], 0x2000 + 255 * 0x1000);
    }
}
