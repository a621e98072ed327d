//! What must come of a command when it is completed, or when the control path gets its plan.

use volplane::software::plan::STATUS_KEPT;
use volplane::software::verdict::Progress;
use volplane::software::{Components, Fragment};
use volplane_abi::opcode;
use volplane_abi::status::SUCCESS;

use super::{control_path, witness, Pending, Session};
use crate::harness::media::fill;
use crate::harness::part_judge::Parted;
use crate::harness::part_retries::Retries;
use crate::harness::plan_judge::{Judge, Outcome};
use crate::harness::plan_story::{CommandKey, Run, Story};
use crate::harness::volumes::{Content, Read, Written};

impl Session {
    /// The status that a command must have been completed with. What it wrote and read is noted, the data that it
    /// was given are compared.
    pub(super) fn judge_completion(
        &mut self,
        command: CommandKey,
        pending: &mut Pending,
    ) -> Result<u16, String> {
        let story = self.stories.take(command)?;
        let run = story.run();
        let is_read = pending.entry.opcode() == opcode::READ;
        let (outcome, status) = match pending.decided.take() {
            Some(decided) => decided,
            None => {
                let outcome = self.judge(pending, run, story.status)?;
                if outcome.is_decided_later() {
                    return Err(format!("the control path was to decide: {outcome:x?}\n{run:x?}"));
                }
                if let Some(expected) = outcome.record.as_ref().filter(|_| !pending.logged) {
                    self.told.insert(command, control_path::told(pending, &story, expected));
                }
                let status = outcome.status;
                (outcome, status)
            }
        };
        if !is_read && !self.was_given_up(&outcome) {
            self.note_written(pending, run, &outcome, self.step);
        }
        if pending.entry.opcode() == opcode::COMPARE {
            self.note_compared(pending, &story, &outcome)?;
        }
        let tokens = self.check_data(pending, &story)?;
        // What the control path says of a read that it ends is not what was read.
        if is_read && status == SUCCESS && outcome.status == SUCCESS && !self.was_given_up(&outcome) {
            let missing = || format!("it succeeded, but not all blocks were read\n{story:x?}");
            let tokens = tokens.into_iter().collect::<Option<Vec<Content>>>().ok_or_else(missing)?;
            let (serial, lba) = (pending.serial, pending.claim.lba);
            let read = Read { serial, lba, tokens, sent: pending.sent, completed: self.step };
            self.volumes.read(pending.claim.disk, read);
        }
        Ok(status)
    }

    /// The control path got it, and ended it.
    fn was_given_up(&self, outcome: &Outcome) -> bool {
        outcome.record.as_ref().is_some_and(|record| record.tail.owned() == 1)
    }

    /// What must come of a run.
    pub(super) fn judge(
        &mut self,
        pending: &mut Pending,
        run: &Run,
        status: Option<u16>,
    ) -> Result<Outcome, String> {
        let reads = [opcode::READ, opcode::COMPARE].contains(&pending.entry.opcode());
        self.note_quieted(run, reads);
        let configuration = &self.machine.configuration;
        let Some(asked) = &pending.asked else {
            let cuts = witness::cuts(configuration, &self.arena, pending, 0);
            let paths = &self.stories.paths;
            let retries =
                Retries::follow(run, None, false, paths).map_err(|what| format!("{what}\n{run:x?}"))?;
            let found = Parted::of((&configuration.tables, paths), cuts, run, &retries, 0);
            let found = found.map_err(|what| format!("{what}\n{run:x?}"))?;
            retries.met.iter().for_each(|what| self.coverage.met_alone(what));
            let mut outcome = Outcome { status: found.status, ..Outcome::default() };
            outcome.parts[0] = found.progress;
            return Ok(outcome);
        };
        let asked = asked.clone();
        let first = run.begun.map_or(Components::NONE, |begun| Components(begun.begun));
        for component in first.numbers().chain(run.further.iter().copied()) {
            witness::cuts(configuration, &self.arena, pending, component);
        }
        let mirror = self.mirror(&pending.entry).expect("it was there when the command was sent");
        let seen = self.stories.seen_by(run, mirror.disk);
        let cuts = |component: usize| pending.cuts[component].as_ref().expect("a component that was begun");
        let tables = &configuration.tables;
        let judged =
            Judge { tables, paths: &self.stories.paths, mirror, cuts }.judge(&asked, run, status, &seen);
        let outcome = judged.map_err(|what| format!("{what}\n{run:x?}"))?;
        outcome.met.iter().for_each(|what| self.coverage.met(what));
        Ok(outcome)
    }

    /// Notes what a run has written; `completed`: the step at which its client was told.
    pub(super) fn note_written(&mut self, pending: &Pending, run: &Run, outcome: &Outcome, completed: u64) {
        let (claim, code) = (&pending.claim, pending.entry.opcode());
        let zeroes = [opcode::WRITE_ZEROES, opcode::DATASET_MANAGEMENT].contains(&code);
        if claim.blocks == 0 || !(code == opcode::WRITE || zeroes) {
            return;
        }
        let mirror = self.machine.configuration.mirror(claim.disk);
        let parts = match (&run.begun, mirror) {
            (Some(begun), _) => Components(begun.begun | begun.kept),
            (None, Some(_)) => return,
            (None, None) if run.attempts.is_empty() => return,
            (None, None) => Components::one(0),
        };
        let ends =
            || run.attempts.iter().filter_map(|attempt| attempt.ended.as_ref()).map(|ended| ended.at_ns);
        if !parts.any() {
            return;
        }
        let given_up = completed == u64::MAX;
        let written = Written {
            serial: pending.serial,
            blocks: claim.lba..claim.lba + claim.blocks,
            token: (!zeroes).then_some(pending.token),
            sent: pending.sent,
            completed,
            begun: run.begun.map_or(run.admitted, |begun| begun.cycle),
            locked: parts.count() > 1,
            succeeded: outcome.status == SUCCESS && !given_up,
            parts,
            took: Components::default(),
            ended: ends().min().zip(ends().max()),
        };
        let present = mirror.map_or(Components::NONE, |mirror| mirror.template.present());
        let done = Components::of(|number| outcome.parts[number] == Progress::Done);
        self.volumes.written(claim.disk, written, done, present);
    }

    /// Compares the buffer of a read: data where a fragment moved some, untouched elsewhere. The numbers of its
    /// blocks.
    fn check_data(&self, pending: &Pending, story: &Story) -> Result<Vec<Option<Content>>, String> {
        let holed = |part: &Fragment| match &part.segments {
            Ok(segments) => segments.iter().any(|part| self.arena.is_hole(part.iova)),
            Err(_) => true,
        };
        let fragments = || pending.cuts.iter().flatten().flat_map(|cuts| &cuts.fragments);
        if pending.entry.opcode() != opcode::READ || pending.buffer.bytes == 0 || fragments().any(holed) {
            return Ok(Vec::new());
        }
        let mut tokens = vec![None; pending.claim.blocks as usize];
        let attempts = story.runs.iter().flat_map(|run| &run.attempts);
        let mut moved: Vec<_> = attempts
            .filter_map(|attempt| Some((attempt, attempt.ended.as_ref().filter(|ended| ended.effect)?)))
            .collect();
        moved.sort_by_key(|(_, ended)| ended.at_ns);
        for (attempt, ended) in moved {
            let cuts = pending.cuts[attempt.component].as_ref().expect("it was judged");
            let Fragment { first, blocks, zeros, .. } = cuts.fragments[attempt.ordinal];
            let tokens = &mut tokens[first as usize..][..blocks as usize];
            if zeros {
                tokens.fill(Some(Content::Zeros));
            } else {
                let ended = ended.tokens.iter().copied().map(|token| Some(Content::Token(token)));
                tokens.iter_mut().zip(ended).for_each(|(token, read)| *token = read);
            }
        }
        let mut expected = self.arena.blank(&pending.buffer);
        let size = pending.buffer.bytes / tokens.len();
        for (block, token) in expected.chunks_exact_mut(size).zip(&tokens) {
            match token {
                Some(Content::Token(token)) => fill(*token, block),
                Some(Content::Zeros) => block.fill(0),
                None => {}
            }
        }
        let found = self.arena.read(&pending.buffer);
        if found == expected {
            return Ok(tokens);
        }
        let at = (0..found.len()).find(|&at| found[at] != expected[at]);
        Err(format!("byte {at:#x?} of the data differs\n{story:x?}"))
    }
}

/// The bits of a status that a plan keeps.
pub(super) const fn kept(status: u16) -> u16 {
    status & STATUS_KEPT
}
