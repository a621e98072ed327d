//! Commands that compare: what they are given to compare with, and what must come of them.
//!
//! A Compare is a read whose data stay where they are: what its SSD found must be what a read may find, and its client
//! is told whether that is what it was given.

use std::ops::Range;

use rand::seq::IteratorRandom;
use rand::RngExt;
use volplane_abi::plan::{component_state, plan_status};
use volplane_abi::status::{CODE_AND_TYPE, SUCCESS};
use volplane_abi::{opcode, SubmissionEntry};
use volplane_sim::EndRecord;

use super::{Pending, Session};
use crate::harness::arena::Buffer;
use crate::harness::coverage;
use crate::harness::media::fill;
use crate::harness::plan_judge::Outcome;
use crate::harness::plan_story::{Attempt, CommandKey, PartStep, Story};
use crate::harness::traffic::Claim;
use crate::harness::volumes::{held, Content, Read};

/// Of 16 Compares, how many are given another block on purpose.
const OTHERS_OF_16: u32 = 5;

impl Session {
    /// Gives a Compare something to compare with: what a copy in sync holds now, or what is being written, and now and
    /// then another block; the numbers of the blocks.
    pub(super) fn offer(&mut self, entry: &SubmissionEntry, claim: &Claim, buffer: &Buffer) -> Vec<u64> {
        if entry.opcode() != opcode::COMPARE || claim.blocks == 0 {
            return Vec::new();
        }
        let mirror = self.machine.configuration.mirror(claim.disk).expect("only mirrored disks are compared");
        let in_sync = self.stories.now(claim.disk).those(&[component_state::IN_SYNC]);
        let component = in_sync.numbers().choose(&mut self.random);
        let blocks = claim.lba..claim.lba + claim.blocks;
        let mut offered = vec![0; claim.blocks as usize];
        if let Some(component) = component {
            let map = &mirror.maps[component];
            let found = held(&self.machine.configuration, &self.media, map, &blocks);
            found.into_iter().for_each(|(block, number)| offered[(block - claim.lba) as usize] = number);
        }
        let written = self.pending.values().filter(|other| other.claim.writes && other.claim.overlaps(claim));
        if let Some(other) = written.max_by_key(|other| other.serial).filter(|_| self.random.random_bool(0.5))
        {
            let writes = other.entry.opcode() == opcode::WRITE;
            let theirs = other.claim.lba..other.claim.lba + other.claim.blocks;
            for block in theirs.start.max(blocks.start)..theirs.end.min(blocks.end) {
                let number = if writes { other.token + (block - theirs.start) } else { 0 };
                offered[(block - claim.lba) as usize] = number;
            }
        }
        if self.random.random_ratio(OTHERS_OF_16, 16) {
            let at = self.random.random_range(0..offered.len());
            offered[at] = self.media.tokens(1);
        }
        self.arena.write(buffer, &data(&offered, buffer.bytes));
        offered
    }

    /// An SSD has ended a fragment of a Compare; the numbers of its blocks, if it looked at them.
    pub(super) fn compared(
        &self,
        command: CommandKey,
        first: u64,
        (ssd, blocks): (usize, Range<u64>),
        end: &EndRecord,
    ) -> Result<Vec<u64>, String> {
        let pending = self.pending.get(&command).ok_or("a Compare that is over was under way")?;
        let found: Vec<u64> = blocks.map(|block| self.media.token(ssd, block)).collect();
        let offered = &pending.offered[first as usize..][..found.len()];
        let failed = end.status & CODE_AND_TYPE == plan_status::COMPARE_FAILURE;
        match (end.effect, *offered == found) {
            (true, false) => Err(format!("SSD {ssd} found {found:?} equal to {offered:?}")),
            (false, _) if end.status == SUCCESS && end.completion => {
                Err(format!("SSD {ssd} compared nothing: {end:?}"))
            }
            // A fault may say so of what is equal.
            (true, true) | (false, false) if end.effect || failed => Ok(found),
            _ => Ok(Vec::new()),
        }
    }

    /// Checks a Compare that was completed, and notes what it has read.
    pub(super) fn note_compared(
        &mut self,
        pending: &Pending,
        story: &Story,
        outcome: &Outcome,
    ) -> Result<(), String> {
        let Pending { offered, claim, .. } = pending;
        if self.arena.read(&pending.buffer) != data(offered, pending.buffer.bytes) {
            return Err("what it was given to compare with has changed".into());
        }
        let attempts = || story.runs.iter().flat_map(|run| &run.attempts);
        let mut differs = false;
        for attempt in attempts() {
            let Some((first, tokens)) = looked_at(pending, attempt) else { continue };
            differs |= offered[first as usize..][..tokens.len()] != *tokens;
            let tokens = tokens.iter().copied().map(Content::Token).collect();
            let (serial, lba) = (pending.serial, claim.lba + first);
            let read = Read { serial, lba, tokens, sent: pending.sent, completed: self.step };
            self.volumes.read(claim.disk, read);
        }
        let run = story.run();
        let failed = outcome.status & CODE_AND_TYPE == plan_status::COMPARE_FAILURE;
        let written = self.recent.iter().any(|other| other.writes && other.overlaps(claim));
        let met = [
            (outcome.status == SUCCESS && run.begun.is_some(), coverage::COMPARE_EQUAL),
            (failed && differs, coverage::COMPARE_DIFFERENT),
            (outcome.status == SUCCESS && written, coverage::COMPARE_OF_WRITTEN),
            (run.parts.iter().any(|event| event.step == PartStep::Again), coverage::COMPARE_AGAIN),
            (!run.further.is_empty(), coverage::COMPARE_FURTHER),
        ];
        met.iter().filter(|(is_met, _)| *is_met).for_each(|(_, what)| self.coverage.met(what));
        Ok(())
    }
}

/// Where in its command a fragment begins that its SSD has compared, and the numbers of the blocks that were there.
fn looked_at<'a>(pending: &Pending, attempt: &'a Attempt) -> Option<(u64, &'a [u64])> {
    let ended = attempt.ended.as_ref().filter(|ended| !ended.tokens.is_empty())?;
    let cuts = pending.cuts[attempt.component].as_ref().expect("it was judged");
    Some((cuts.fragments[attempt.ordinal].first, &ended.tokens))
}

/// The bytes of blocks with these numbers.
fn data(numbers: &[u64], bytes: usize) -> Vec<u8> {
    let mut data = vec![0; bytes];
    let size = bytes / numbers.len().max(1);
    data.chunks_exact_mut(size).zip(numbers).for_each(|(block, &number)| fill(number, block));
    data
}
