//! The two halves of an NVMe-style queue pair in DMA memory (NVMe Base 2.0, section 3.3.1).
//!
//! `SubmissionRing` is filled by us and emptied by the device; `CompletionRing` the other way
//! round. Both hold indices only: the doorbell value is handed out, once per change, and who owns
//! the registers writes it. An index that the device reports is checked before it is used.

use std::marker::PhantomData;

use volplane_abi::layout::{index_of, offset_of};
use volplane_abi::{CompletionEntry, ControlCommand, ControlCompletion, SubmissionEntry};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::memory::DmaMemory;

/// The submission ring has no free entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the submission ring is full")]
pub struct Full;

/// A submission head that the device cannot have reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("submission head {reported} is not within {head} and doorbell {rung} of {entries} entries")]
pub struct BadHead {
    /// What the device reported.
    pub reported: u16,
    /// What it reported before.
    pub head: u16,
    /// The last doorbell.
    pub rung: u16,
    /// Entries of the ring.
    pub entries: u16,
}

/// A command, as far as a queue pair must know it.
pub trait Submission: IntoBytes + Immutable {
    /// Command identifier.
    fn command_id(&self) -> u16;
}

impl Submission for SubmissionEntry {
    fn command_id(&self) -> u16 {
        SubmissionEntry::command_id(self)
    }
}

impl Submission for ControlCommand {
    fn command_id(&self) -> u16 {
        ControlCommand::command_id(self)
    }
}

/// The producer's half. One entry stays free, so that a full ring differs from an empty one.
#[derive(Debug)]
pub struct SubmissionRing<S> {
    memory: DmaMemory,
    entries: u16,
    /// First entry that the device may not have fetched.
    head: u16,
    /// Next entry to fill.
    tail: u16,
    /// The tail that the device was last told.
    rung: u16,
    entry: PhantomData<fn(S)>,
}

impl<S: IntoBytes + Immutable> SubmissionRing<S> {
    /// A ring at the start of `memory`.
    ///
    /// # Panics
    /// With fewer than 2 entries, or more than `memory` holds.
    pub fn new(memory: DmaMemory, entries: u16) -> Self {
        assert!(entries >= 2, "a ring needs two entries");
        assert!(usize::from(entries) * size_of::<S>() <= memory.len(), "{entries} entries in {memory:?}");
        Self { memory, entries, head: 0, tail: 0, rung: 0, entry: PhantomData }
    }

    /// Entries that fit at once.
    pub fn capacity(&self) -> u16 {
        self.entries - 1
    }

    /// Entries that fit now.
    pub fn free(&self) -> u16 {
        self.capacity() - distance(self.head, self.tail, self.entries)
    }

    /// Writes an entry; the device sees it with the next doorbell.
    ///
    /// # Errors
    /// `Full`.
    pub fn push(&mut self, entry: &S) -> Result<(), Full> {
        if self.free() == 0 {
            return Err(Full);
        }
        self.memory.write_record(usize::from(self.tail) * size_of::<S>(), entry);
        self.tail = after(self.tail, self.entries);
        Ok(())
    }

    /// The tail doorbell's value, if it changed since it was last taken.
    pub fn take_doorbell(&mut self) -> Option<u16> {
        if self.rung == self.tail {
            return None;
        }
        self.rung = self.tail;
        Some(self.tail)
    }

    /// Frees what the device has fetched.
    ///
    /// # Errors
    /// `BadHead` when the device never was told of an entry before `reported`, or the ring is
    /// shorter; nothing is freed.
    pub fn advance(&mut self, reported: u16) -> Result<(), BadHead> {
        let told = distance(self.head, self.rung, self.entries);
        if reported >= self.entries || distance(self.head, reported, self.entries) > told {
            return Err(BadHead { reported, head: self.head, rung: self.rung, entries: self.entries });
        }
        self.head = reported;
        Ok(())
    }
}

/// A completion, as far as a ring must know it.
pub trait Completion: FromBytes + IntoBytes + Copy {
    /// The phase tag in the entry's last dword.
    const PHASE: u32;
    /// Next submission entry that the device fetches.
    fn sq_head(&self) -> u16;
    /// Command identifier.
    fn command_id(&self) -> u16;
}

macro_rules! completion {
    ($entry:ident) => {
        impl Completion for $entry {
            const PHASE: u32 =
                1 << (offset_of($entry::FIELDS, index_of($entry::FIELDS, "phase")) + 32 - $entry::BYTES * 8);

            fn sq_head(&self) -> u16 {
                $entry::sq_head(self)
            }

            fn command_id(&self) -> u16 {
                $entry::command_id(self)
            }
        }
    };
}
completion!(CompletionEntry);
completion!(ControlCompletion);

/// The consumer's half.
#[derive(Debug)]
pub struct CompletionRing<C> {
    memory: DmaMemory,
    entries: u16,
    /// Next entry to look at.
    head: u16,
    /// Whether the tag of a new entry at `head` is 1.
    phase: bool,
    /// Entries consumed since the device was last told.
    owed: u16,
    entry: PhantomData<fn() -> C>,
}

impl<C: Completion> CompletionRing<C> {
    /// A ring at the start of `memory`, which must be zero.
    ///
    /// # Panics
    /// With fewer than 2 entries, or more than `memory` holds.
    pub fn new(memory: DmaMemory, entries: u16) -> Self {
        assert!(entries >= 2, "a ring needs two entries");
        assert!(usize::from(entries) * size_of::<C>() <= memory.len(), "{entries} entries in {memory:?}");
        Self { memory, entries, head: 0, phase: true, owed: 0, entry: PhantomData }
    }

    /// Takes the next completion, if the device has written it.
    pub fn pop(&mut self) -> Option<C> {
        let at = usize::from(self.head) * size_of::<C>();
        let last = self.memory.load_acquire(at + size_of::<C>() - 4);
        if (last & C::PHASE != 0) != self.phase {
            return None;
        }
        let mut entry: C = self.memory.read_record(at);
        // The dword that was judged is the one that counts, should the device write it again.
        entry.as_mut_bytes()[size_of::<C>() - 4..].copy_from_slice(&last.to_le_bytes());
        self.head = after(self.head, self.entries);
        self.phase ^= self.head == 0;
        self.owed += 1;
        Some(entry)
    }

    /// The head doorbell's value, if at least `least` (1 and up) entries were consumed since it was
    /// last taken.
    pub fn take_doorbell(&mut self, least: u16) -> Option<u16> {
        if self.owed < least.max(1) {
            return None;
        }
        self.owed = 0;
        Some(self.head)
    }
}

fn after(index: u16, entries: u16) -> u16 {
    if index + 1 == entries {
        0
    } else {
        index + 1
    }
}

/// Steps from `from` up to `to`, both below `entries`.
fn distance(from: u16, to: u16, entries: u16) -> u16 {
    if to >= from {
        to - from
    } else {
        to + (entries - from)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::memory::Iova;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn memory(bytes: usize) -> DmaMemory {
        DmaMemory::new(memmap2::MmapMut::map_anon(bytes).expect("memory"), Iova(0x1000), ())
    }

    fn seed() -> u64 {
        let seed = std::env::var("VOLPLANE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(7);
        println!("replay with VOLPLANE_SEED={seed}");
        seed
    }

    /// A device at the other end: fetches in order, completes in any order.
    struct Device {
        entries: u16,
        sq: DmaMemory,
        cq: DmaMemory,
        sq_head: u16,
        sq_tail: u16,
        cq_tail: u16,
        cq_head: u16,
        phase: u8,
        fetched: VecDeque<u16>,
    }

    impl Device {
        fn new(entries: u16, sq: &DmaMemory, cq: &DmaMemory) -> Self {
            let (sq, cq, fetched) = (sq.clone(), cq.clone(), VecDeque::new());
            Self { entries, sq, cq, sq_head: 0, sq_tail: 0, cq_tail: 0, cq_head: 0, phase: 1, fetched }
        }

        fn fetch(&mut self) -> bool {
            if self.sq_head == self.sq_tail {
                return false;
            }
            let entry: SubmissionEntry = self.sq.read_record(usize::from(self.sq_head) * 64);
            self.fetched.push_back(entry.command_id());
            self.sq_head = (self.sq_head + 1) % self.entries;
            true
        }

        fn complete(&mut self, nth: usize) -> bool {
            let next = (self.cq_tail + 1) % self.entries;
            if nth >= self.fetched.len() || next == self.cq_head {
                return false;
            }
            let id = self.fetched.remove(nth).expect("in range");
            let entry = CompletionEntry::default()
                .with_sq_head(self.sq_head)
                .with_command_id(id)
                .with_phase(self.phase);
            self.cq.write_record(usize::from(self.cq_tail) * 16, &entry);
            self.cq_tail = next;
            self.phase ^= u8::from(next == 0);
            true
        }
    }

    #[test]
    fn every_command_comes_back_once_through_many_wraps() {
        let mut random = ChaCha8Rng::seed_from_u64(seed());
        for entries in [2, 3, 4, 7, 64] {
            let (sq, cq) = (memory(4096), memory(4096));
            let mut device = Device::new(entries, &sq, &cq);
            let mut submissions = SubmissionRing::<SubmissionEntry>::new(sq, entries);
            let mut completions = CompletionRing::<CompletionEntry>::new(cq, entries);
            let (mut next, mut outstanding, mut full) = (0u16, Vec::new(), 0);
            while next < 50 * entries {
                match random.random_range(0..6) {
                    0 | 1 => {
                        let before = submissions.free();
                        match submissions.push(&SubmissionEntry::default().with_command_id(next)) {
                            Ok(()) => {
                                assert_eq!(submissions.free(), before - 1);
                                outstanding.push(next);
                                next += 1;
                            }
                            Err(Full) => {
                                assert_eq!(before, 0);
                                full += 1;
                            }
                        }
                    }
                    2 => device.sq_tail = submissions.take_doorbell().unwrap_or(device.sq_tail),
                    3 => drop(device.fetch()),
                    4 => drop(device.complete(random.random_range(0..4))),
                    _ => {
                        if let Some(completion) = completions.pop() {
                            let found = outstanding.iter().position(|&id| id == completion.command_id());
                            outstanding.swap_remove(found.expect("outstanding, and not seen before"));
                            submissions.advance(completion.sq_head()).expect("an honest device");
                        }
                        device.cq_head = completions.take_doorbell(1).unwrap_or(device.cq_head);
                    }
                }
            }
            assert!(full > 0, "{entries} entries were never full");
            device.sq_tail = submissions.take_doorbell().unwrap_or(device.sq_tail);
            while !outstanding.is_empty() {
                assert!(device.fetch() | device.complete(0), "{outstanding:?} got lost");
                while let Some(completion) = completions.pop() {
                    outstanding.retain(|&id| id != completion.command_id());
                }
                device.cq_head = completions.take_doorbell(1).unwrap_or(device.cq_head);
            }
        }
    }

    #[test]
    fn the_doorbell_is_handed_out_once_per_change() {
        let mut ring = SubmissionRing::<ControlCommand>::new(memory(4096), 4);
        assert_eq!(ring.take_doorbell(), None);
        for _ in 0..3 {
            ring.push(&ControlCommand::default()).expect("room");
        }
        assert_eq!(ring.push(&ControlCommand::default()), Err(Full));
        assert_eq!(ring.take_doorbell(), Some(3));
        assert_eq!(ring.take_doorbell(), None);
        ring.advance(2).expect("two were fetched");
        ring.push(&ControlCommand::default()).expect("room");
        assert_eq!(ring.take_doorbell(), Some(0), "the tail wraps");
    }

    #[test]
    fn only_heads_between_the_last_head_and_the_doorbell_are_believed() {
        for (start, rung, unrung) in [(0, 0, 0), (0, 3, 2), (5, 4, 1), (7, 7, 0), (6, 2, 5)] {
            let ring = || {
                let mut ring = SubmissionRing::<SubmissionEntry>::new(memory(4096), 8);
                (ring.head, ring.tail, ring.rung) = (start, start, start);
                (0..rung).for_each(|_| ring.push(&SubmissionEntry::default()).expect("room"));
                let _ = ring.take_doorbell();
                (0..unrung).for_each(|_| ring.push(&SubmissionEntry::default()).expect("room"));
                ring
            };
            let honest: Vec<u16> = (0..=rung).map(|fetched| (start + fetched) % 8).collect();
            for reported in (0..16).chain([0x7FFF, 0x8000, 0xFFFF]) {
                let mut ring = ring();
                let (free, advanced) = (ring.free(), ring.advance(reported));
                assert_eq!(advanced.is_ok(), honest.contains(&reported), "{start} {rung} {reported}");
                if let Err(bad) = advanced {
                    assert_eq!(bad.reported, reported);
                    assert_eq!(ring.free(), free, "a refused head frees nothing");
                }
            }
        }
    }

    #[test]
    fn an_old_phase_is_not_a_completion() {
        let cq = memory(4096);
        let mut ring = CompletionRing::<ControlCompletion>::new(cq.clone(), 2);
        assert_eq!(ring.pop(), None);
        // Literal bytes: the phase tag is bit 16 of the last dword, for both kinds of completion.
        for (round, tag) in [(0u8, 1u8), (1, 0), (2, 1)] {
            for slot in 0..2 {
                assert_eq!(ring.pop(), None, "round {round}, slot {slot}");
                cq.write(slot * 64, &[round; 60]);
                cq.write(slot * 64 + 60, &[0x34, 0x12, tag, 0]);
                let completion = ring.pop().expect("a new completion");
                assert_eq!(completion.command_id(), 0x1234);
                assert_eq!(completion.payload0(), u64::from_le_bytes([round; 8]));
            }
        }
        assert_eq!(
            (ring.take_doorbell(7), ring.take_doorbell(6), ring.take_doorbell(1)),
            (None, Some(0), None)
        );
        assert_eq!(<CompletionEntry as Completion>::PHASE, 1 << 16);
    }
}
