//! Which write began last in each region of the disks: whether blocks were written since a plan was begun.
//!
//! `disk`, `lba`, `blocks` and `block_shift` stand still. `untouched` says of them, 4 cycles later, that no write has
//! begun there since the plan of number `asked` did, if that is the one that was noted. `note` says that a write to
//! them begins as plan `number`. A region is 1 MiB, and 512 entries are shared by all: a plan may be taken for
//! overwritten that is not, and never the other way round, but after 2^12 notes of more than a region, or 2^24
//! plans. Of more than a region nothing is untouched.
//!
//! No handshake. Reset: entries stay, which are of plans that are gone.

use rust_hdl::prelude::*;

use crate::logic_record;
use crate::prim::ram::BlockRam;

/// Even and odd entries, each 2^this.
const HALF_BITS: usize = 8;

logic_record! {
    /// The last write of a region.
    LastWriter: 36 {
        /// Number of its plan.
        number = 24,
        /// Writes of more than a region that there had been.
        age = 12,
    }
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct LastWriters {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub disk: Signal<In, Bits<16>>,
    pub lba: Signal<In, Bits<48>>,
    pub blocks: Signal<In, Bits<17>>,
    pub block_shift: Signal<In, Bits<4>>,
    pub asked: Signal<In, Bits<24>>,
    pub untouched: Signal<Out, bool>,
    pub note: Signal<In, bool>,
    pub number: Signal<In, Bits<24>>,

    // A write of up to a region touches one of each at most.
    even: BlockRam<LastWriter>,
    odd: BlockRam<LastWriter>,
    region: DFF<Bits<9>>,
    blocks_z: DFF<Bits<17>>,
    long: DFF<bool>,
    age: DFF<Bits<12>>,
    even_same: DFF<bool>,
    odd_same: DFF<bool>,
    length_z: Signal<Local, Bits<17>>,
    beyond: Signal<Local, Bits<9>>,
    spread: Signal<Local, Bits<9>>,
    after: Signal<Local, Bits<9>>,
    even_region: Signal<Local, Bits<9>>,
    wanted: Signal<Local, LastWriter>,
    noted: Signal<Local, LastWriter>,
    shift9: Constant<Bits<4>>,
    shift10: Constant<Bits<4>>,
    shift11: Constant<Bits<4>>,
    one17: Constant<Bits<17>>,
    one12: Constant<Bits<12>>,
    zero12: Constant<Bits<12>>,
    one9: Constant<Bits<9>>,
}

impl Default for LastWriters {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            disk: Default::default(),
            lba: Default::default(),
            blocks: Default::default(),
            block_shift: Default::default(),
            asked: Default::default(),
            untouched: Default::default(),
            note: Default::default(),
            number: Default::default(),
            even: BlockRam::new(HALF_BITS),
            odd: BlockRam::new(HALF_BITS),
            region: Default::default(),
            blocks_z: Default::default(),
            long: Default::default(),
            age: Default::default(),
            even_same: Default::default(),
            odd_same: Default::default(),
            length_z: Default::default(),
            beyond: Default::default(),
            spread: Default::default(),
            after: Default::default(),
            even_region: Default::default(),
            wanted: Default::default(),
            noted: Default::default(),
            shift9: Constant::new(9u64.to_bits()),
            shift10: Constant::new(10u64.to_bits()),
            shift11: Constant::new(11u64.to_bits()),
            one17: Constant::new(1u64.to_bits()),
            one12: Constant::new(1u64.to_bits()),
            zero12: Constant::new(0u64.to_bits()),
            one9: Constant::new(1u64.to_bits()),
        }
    }
}

impl Logic for LastWriters {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, region, blocks_z, long, age, even_same, odd_same);
        clock!(self, clock, even, odd);
        // The region of the first block, and whether there may be a third one.
        self.blocks_z.d.next = self.blocks.val() - self.one17.val();
        self.length_z.next = self.blocks_z.q.val();
        self.region.d.next = self.lba.val().get_bits::<9>(8);
        self.beyond.next = self.length_z.val().get_bits::<9>(8);
        if (self.block_shift.val() == self.shift9.val()) {
            self.region.d.next = self.lba.val().get_bits::<9>(11);
            self.beyond.next = bit_cast::<9, 6>(self.length_z.val().get_bits::<6>(11));
        } else if (self.block_shift.val() == self.shift10.val()) {
            self.region.d.next = self.lba.val().get_bits::<9>(10);
            self.beyond.next = bit_cast::<9, 7>(self.length_z.val().get_bits::<7>(10));
        } else if (self.block_shift.val() == self.shift11.val()) {
            self.region.d.next = self.lba.val().get_bits::<9>(9);
            self.beyond.next = bit_cast::<9, 8>(self.length_z.val().get_bits::<8>(9));
        }
        self.long.d.next = self.beyond.val().any();
        self.spread.next = bit_cast::<9, 16>(self.disk.val()) << 5;

        // It and the one after it.
        self.after.next = self.region.q.val() + self.spread.val();
        self.even_region.next = self.after.val() + self.one9.val();
        self.even.read_address.next = bit_cast::<16, 9>(self.even_region.val()) >> 1;
        self.odd.read_address.next = bit_cast::<16, 9>(self.after.val()) >> 1;
        self.wanted.next.number = self.asked.val();
        self.wanted.next.age = self.age.q.val();
        self.even_same.d.next = (self.even.read_data.val() == self.wanted.val());
        self.odd_same.d.next = (self.odd.read_data.val() == self.wanted.val());
        self.untouched.next = self.even_same.q.val() & self.odd_same.q.val() & !self.long.q.val();

        self.noted.next.number = self.number.val();
        self.noted.next.age = self.age.q.val();
        self.even.write.next = self.note.val();
        self.even.write_address.next = bit_cast::<16, 9>(self.even_region.val()) >> 1;
        self.even.write_data.next = self.noted.val();
        self.odd.write.next = self.note.val();
        self.odd.write_address.next = bit_cast::<16, 9>(self.after.val()) >> 1;
        self.odd.write_data.next = self.noted.val();
        if self.note.val() & self.long.q.val() {
            self.age.d.next = self.age.q.val() + self.one12.val();
        }

        if self.reset.val() {
            self.age.d.next = self.zero12.val();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;

    /// A write that began.
    #[derive(Clone)]
    struct Write {
        disk: u64,
        bytes: std::ops::Range<u64>,
        number: u64,
    }

    const REGION: u64 = 1 << 20;

    fn entries(write: &Write) -> Vec<u64> {
        let first = write.bytes.start / REGION;
        [first, first + 1].map(|region| (region + (write.disk << 5)) % 512).into()
    }

    #[test]
    fn who_was_overwritten_is_never_untouched() {
        let mut bench = Bench::new("last_writers", LastWriters::default());
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let mut writes: Vec<Write> = Vec::new();
        let (mut overlapped, mut shared, mut untouched) = (0, 0, 0);
        for number in 1..4_000u64 {
            let (block_shift, disk) = (random.random_range(9..13u64), random.random_range(0..3u64));
            let most = REGION >> block_shift;
            let long = random.random_bool(0.02);
            let blocks = if long {
                most + random.random_range(1..65_537 - most)
            } else {
                random.random_range(1..=most)
            };
            let lba = random.random_range(0..40 * most);
            let bytes = lba << block_shift..(lba + blocks) << block_shift;
            let again =
                writes.iter().rev().nth(random.random_range(0..12)).filter(|_| random.random_bool(0.5));
            let (disk, bytes) = again.map_or((disk, bytes), |write| (write.disk, write.bytes.clone()));
            let (lba, blocks) = (bytes.start >> block_shift, (bytes.end - bytes.start) >> block_shift);
            // The same bytes in blocks of another size are no command.
            if lba << block_shift != bytes.start
                || blocks << block_shift != bytes.end - bytes.start
                || !(1..=65_536).contains(&blocks)
            {
                continue;
            }
            let here = Write { disk, bytes, number };
            bench.set("disk", disk.into());
            bench.set("lba", lba.into());
            bench.set("blocks", blocks.into());
            bench.set("block_shift", block_shift.into());
            // Of the last one there, and of one before it.
            let is_long = |write: &Write| write.bytes.end - write.bytes.start > REGION;
            for _ in 0..2 {
                let asked =
                    writes.iter().rposition(|write| write.disk == here.disk && write.bytes == here.bytes);
                let Some(asked) = asked.filter(|_| !writes.is_empty()) else { break };
                let own = writes[asked].clone();
                bench.set("asked", own.number.into());
                for _ in 0..4 {
                    bench.cycle();
                }
                let found = bench.get("untouched") == 1;
                let since = &writes[asked + 1..];
                let over = since.iter().any(|write| {
                    write.disk == own.disk
                        && write.bytes.start < own.bytes.end
                        && own.bytes.start < write.bytes.end
                });
                let mine = entries(&own);
                let near = since
                    .iter()
                    .any(|write| is_long(write) || entries(write).iter().any(|entry| mine.contains(entry)));
                assert!(!(over && found), "{:?} was overwritten", own.bytes);
                assert_eq!(found, !near && !is_long(&own), "{:?}", own.bytes);
                overlapped += u32::from(over);
                shared += u32::from(near && !over);
                untouched += u32::from(found);
                if random.random_bool(0.5) {
                    break;
                }
                writes.remove(asked);
                writes.retain(|write| write.disk != own.disk || write.bytes != own.bytes);
            }
            for _ in 0..2 {
                bench.cycle();
            }
            bench.set("note", 1);
            bench.set("number", number.into());
            bench.cycle();
            bench.set("note", 0);
            writes.push(here);
        }
        assert!(overlapped > 50 && shared > 50 && untouched > 50, "{overlapped} {shared} {untouched}");
    }
}
