//! Where a write's pages stand in the table of locks.
//!
//! A page is 4 KiB of a disk, and its bucket `page + hash(disk)` modulo the buckets. `request` stays as it
//! is from the cycle in which it is first there; 2 cycles later `bucket`, of its first page, and
//! `pages_less_one` are right, `single` if it is one page, and `too_long` if it has more than 257, and stay so. Blocks have 512 bytes to 4 KiB. No handshake, no order to keep,
//! no reset, no failure.

use rust_hdl::prelude::*;

use crate::records::LockRequest;

/// Pages of the longest write that locks its pages: 1 MiB, and one for an unaligned start.
pub const LOCKED_PAGES_MAX: u64 = 257;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct LockPlace {
    pub clock: Signal<In, Clock>,
    pub request: Signal<In, LockRequest>,
    pub bucket: Signal<Out, Bits<16>>,
    pub pages_less_one: Signal<Out, Bits<17>>,
    pub single: Signal<Out, bool>,
    pub too_long: Signal<Out, bool>,

    page: DFF<Bits<16>>,
    hash: DFF<Bits<16>>,
    /// Blocks of the first page before the range.
    skipped: DFF<Bits<3>>,
    blocks_less_one: DFF<Bits<17>>,
    bucket_register: DFF<Bits<16>>,
    /// The last block, counted from the first page's begin.
    last: DFF<Bits<17>>,
    size_register: DFF<Bits<2>>,
    /// What the last block of the longest range is below, and its bits that are not of the first page.
    limit: DFF<Bits<17>>,
    beyond: DFF<Bits<17>>,
    lba: Signal<Local, Bits<48>>,
    shift: Signal<Local, Bits<4>>,
    /// The two lower bits of the shift tell the block sizes apart.
    size: Signal<Local, Bits<2>>,
    disk: Signal<Local, Bits<16>>,
    page_now: Signal<Local, Bits<16>>,
    in_page: Signal<Local, Bits<3>>,
    sum: Signal<Local, Bits<16>>,
    outside: Signal<Local, Bits<17>>,
    of_512: Constant<Bits<2>>,
    of_1024: Constant<Bits<2>>,
    of_2048: Constant<Bits<2>>,
    mask_1024: Constant<Bits<3>>,
    mask_2048: Constant<Bits<3>>,
    none: Constant<Bits<3>>,
    limit_512: Constant<Bits<17>>,
    limit_1024: Constant<Bits<17>>,
    limit_2048: Constant<Bits<17>>,
    limit_4096: Constant<Bits<17>>,
    beyond_512: Constant<Bits<17>>,
    beyond_1024: Constant<Bits<17>>,
    beyond_2048: Constant<Bits<17>>,
    beyond_4096: Constant<Bits<17>>,
    bucket_mask: Constant<Bits<16>>,
    one: Constant<Bits<17>>,
}

impl LockPlace {
    /// Among 2^`lock_bits` buckets.
    pub fn new(lock_bits: usize) -> Self {
        assert!((9..=16).contains(&lock_bits), "2^{lock_bits} locks");
        Self {
            clock: Default::default(),
            request: Default::default(),
            bucket: Default::default(),
            pages_less_one: Default::default(),
            single: Default::default(),
            too_long: Default::default(),
            page: Default::default(),
            hash: Default::default(),
            skipped: Default::default(),
            blocks_less_one: Default::default(),
            bucket_register: Default::default(),
            last: Default::default(),
            size_register: Default::default(),
            limit: Default::default(),
            beyond: Default::default(),
            lba: Default::default(),
            shift: Default::default(),
            size: Default::default(),
            disk: Default::default(),
            page_now: Default::default(),
            in_page: Default::default(),
            sum: Default::default(),
            outside: Default::default(),
            of_512: Constant::new((9u64 & 3).to_bits()),
            of_1024: Constant::new((10u64 & 3).to_bits()),
            of_2048: Constant::new((11u64 & 3).to_bits()),
            mask_1024: Constant::new(3u64.to_bits()),
            mask_2048: Constant::new(1u64.to_bits()),
            none: Constant::new(0u64.to_bits()),
            limit_512: Constant::new((LOCKED_PAGES_MAX << 3).to_bits()),
            limit_1024: Constant::new((LOCKED_PAGES_MAX << 2).to_bits()),
            limit_2048: Constant::new((LOCKED_PAGES_MAX << 1).to_bits()),
            limit_4096: Constant::new(LOCKED_PAGES_MAX.to_bits()),
            beyond_512: Constant::new((0x1_FFFFu64 >> 3 << 3).to_bits()),
            beyond_1024: Constant::new((0x1_FFFFu64 >> 2 << 2).to_bits()),
            beyond_2048: Constant::new((0x1_FFFFu64 >> 1 << 1).to_bits()),
            beyond_4096: Constant::new(0x1_FFFFu64.to_bits()),
            bucket_mask: Constant::new(((1u64 << lock_bits) - 1).to_bits()),
            one: Constant::new(1u64.to_bits()),
        }
    }
}

impl Logic for LockPlace {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            page,
            hash,
            skipped,
            blocks_less_one,
            bucket_register,
            last,
            size_register,
            limit,
            beyond
        );
        self.lba.next = self.request.val().lba;
        self.shift.next = self.request.val().block_shift;
        self.size.next = self.shift.val().get_bits::<2>(0);
        self.disk.next = self.request.val().disk;

        self.page_now.next = self.lba.val().get_bits::<16>(0);
        self.in_page.next = self.none.val();
        if (self.size.val() == self.of_512.val()) {
            self.page_now.next = self.lba.val().get_bits::<16>(3);
            self.in_page.next = self.lba.val().get_bits::<3>(0);
        } else if (self.size.val() == self.of_1024.val()) {
            self.page_now.next = self.lba.val().get_bits::<16>(2);
            self.in_page.next = self.lba.val().get_bits::<3>(0) & self.mask_1024.val();
        } else if (self.size.val() == self.of_2048.val()) {
            self.page_now.next = self.lba.val().get_bits::<16>(1);
            self.in_page.next = self.lba.val().get_bits::<3>(0) & self.mask_2048.val();
        }
        self.size_register.d.next = self.size.val();
        self.limit.d.next = self.limit_4096.val();
        self.beyond.d.next = self.beyond_4096.val();
        if (self.size.val() == self.of_512.val()) {
            self.limit.d.next = self.limit_512.val();
            self.beyond.d.next = self.beyond_512.val();
        } else if (self.size.val() == self.of_1024.val()) {
            self.limit.d.next = self.limit_1024.val();
            self.beyond.d.next = self.beyond_1024.val();
        } else if (self.size.val() == self.of_2048.val()) {
            self.limit.d.next = self.limit_2048.val();
            self.beyond.d.next = self.beyond_2048.val();
        }
        self.page.d.next = self.page_now.val();
        // Far apart for disks with neighbouring numbers, and no adder.
        self.hash.d.next = (self.disk.val() << 6) ^ (self.disk.val() << 10) ^ (self.disk.val() << 13);
        self.skipped.d.next = self.in_page.val();
        self.blocks_less_one.d.next = self.request.val().blocks - self.one.val();

        self.sum.next = self.page.q.val() + self.hash.q.val();
        self.bucket_register.d.next = self.sum.val() & self.bucket_mask.val();
        self.last.d.next = bit_cast::<17, 3>(self.skipped.q.val()) + self.blocks_less_one.q.val();

        self.outside.next = self.last.q.val() & self.beyond.q.val();
        self.single.next = !self.outside.val().any();
        self.too_long.next = (self.last.q.val() >= self.limit.q.val());
        self.bucket.next = self.bucket_register.q.val();
        self.pages_less_one.next = self.last.q.val();
        if (self.size_register.q.val() == self.of_512.val()) {
            self.pages_less_one.next = bit_cast::<17, 14>(self.last.q.val().get_bits::<14>(3));
        } else if (self.size_register.q.val() == self.of_1024.val()) {
            self.pages_less_one.next = bit_cast::<17, 15>(self.last.q.val().get_bits::<15>(2));
        } else if (self.size_register.q.val() == self.of_2048.val()) {
            self.pages_less_one.next = bit_cast::<17, 16>(self.last.q.val().get_bits::<16>(1));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use crate::host::record_words::words;
    use rand::RngExt;

    /// A request, given back by the control path if its slot is odd.
    pub(crate) fn request(slot: u64, disk: u64, lba: u64, blocks: u64, block_shift: u64) -> Vec<u32> {
        words::<98>(LockRequest {
            slot: slot.into(),
            disk: disk.into(),
            lba: lba.into(),
            blocks: blocks.into(),
            block_shift: block_shift.into(),
            resubmitted: (slot & 1).into(),
        })
    }

    /// First and last page of blocks.
    pub(crate) fn pages(lba: u64, blocks: u64, block_shift: u64) -> (u64, u64) {
        ((lba << block_shift) >> 12, ((lba + blocks - 1) << block_shift) >> 12)
    }

    /// A page's bucket.
    pub(crate) fn bucket(disk: u64, page: u64, lock_bits: usize) -> u64 {
        (page + ((disk << 6) ^ (disk << 10) ^ (disk << 13))) & ((1 << lock_bits) - 1)
    }

    #[test]
    fn every_range_has_its_pages() {
        for lock_bits in [9, 14, 16] {
            let mut bench = Bench::new(&format!("lock_place_{lock_bits}"), LockPlace::new(lock_bits));
            let mut random = seeded();
            for _ in 0..10_000 {
                let shift = random.random_range(9..=12u64);
                let lba = random.random_range(0..1u64 << 48) >> random.random_range(0..48);
                let edge = (256 << (12 - shift)) + random.random_range(0..20);
                let any = random.random_range(1..=65_536);
                let blocks = [1, random.random_range(1..=8), 65_536, any, edge][random.random_range(0..5)];
                let disk = random.random_range(0..1u64 << 16) >> random.random_range(0..16);
                bench.set_wide("request", &request(0xFFF, disk, lba, blocks, shift));
                bench.cycle();
                bench.cycle();
                let (first, last) = pages(lba, blocks, shift);
                assert_eq!(bench.get("bucket") as u64, bucket(disk, first, lock_bits));
                assert_eq!(bench.get("pages_less_one") as u64, last - first);
                assert_eq!(bench.get("single") == 1, last == first);
                assert_eq!(bench.get("too_long") == 1, last - first >= 257);
            }
        }
    }
}
