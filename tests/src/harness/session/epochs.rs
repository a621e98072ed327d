//! Epochs of a run: commits under load, and what the card says of them against what is known of commands.

use std::collections::BTreeSet;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use volplane_abi::tables::table;
use volplane_abi::{EpochState, TRANSACTION_MAX};
use volplane_driver::TableWrite;

use super::Session;
use crate::harness::plan_story::CommandKey;

/// Epochs that are looked at.
const WATCHED: usize = 12;
/// Looks at the end, after which all epochs must be closed.
const LOOKS: u32 = 16;

/// The epochs that were ended.
pub(super) struct Epochs {
    random: ChaCha8Rng,
    /// Commits.
    pub(super) commits: u32,
    /// The oldest that was open when the card was last asked.
    pub(super) oldest: u32,
    /// Epochs that were open then, with commands whose plans the card had when they were ended.
    watched: Vec<(u32, BTreeSet<CommandKey>)>,
}

impl Epochs {
    pub(super) fn new(random: ChaCha8Rng) -> Self {
        Self { random, commits: 0, oldest: 0, watched: Vec::new() }
    }

    /// A command's plan is the control path's: it holds no epoch any more.
    pub(super) fn leave(&mut self, command: CommandKey) {
        for (_, commands) in &mut self.watched {
            commands.remove(&command);
        }
    }
}

impl Session {
    /// Ends an epoch. The disk of `switched` has this template then. Now and then entries of disks are written
    /// besides, as they are.
    pub(super) fn commit(&mut self, switched: Option<(u32, u16)>) {
        if let Err(what) = self.hear() {
            self.fail(&what, None);
        }
        let begun = |command: &CommandKey| {
            let story = self.stories.get(*command)?;
            story.run().begun.filter(|_| story.status.is_none())
        };
        let decided = |command: &CommandKey| self.pending[command].decided.is_some();
        let commands = self.pending.keys().filter(|key| begun(key).is_some() && !decided(key));
        let commands: BTreeSet<CommandKey> = commands.copied().collect();
        let mut writes = Vec::new();
        let random = &mut self.epochs.random;
        let vds: Vec<_> = self.machine.configuration.tables.vds.iter().collect();
        for _ in 0..[0, 0, 3, TRANSACTION_MAX - 1][random.random_range(0..4)] {
            let (&disk, entry) = vds[random.random_range(0..vds.len())];
            writes.push(TableWrite::new(table::VD, disk, &entry.0));
        }
        writes.extend(switched.map(|(disk, _)| {
            TableWrite::new(table::VD, disk, &self.machine.configuration.tables.vds[&disk].0)
        }));
        let since = self.cycle();
        let epoch = self.machine.card.commit(&mut self.machine.platform, &writes);
        let epoch = epoch.unwrap_or_else(|error| self.fail(&error.to_string(), None));
        if let Some((disk, plan)) = switched {
            self.stories.switch((since, self.cycle()), disk, plan);
        }
        let Epochs { commits, oldest, .. } = self.epochs;
        if !(oldest..=commits).contains(&epoch) {
            let what = format!("epoch {epoch} after {commits} commits, where {oldest} was open");
            self.fail(&what, None);
        }
        self.epochs.commits += 1;
        if self.epochs.watched.len() < WATCHED && !commands.is_empty() {
            self.epochs.watched.push((epoch, commands));
        }
        self.coverage.met("a commit under load");
        if self.epochs.random.random_bool(0.5) {
            self.look_at_epochs();
        }
    }

    /// An epoch that is closed has no command left that the card had.
    pub(super) fn look_at_epochs(&mut self) -> EpochState {
        let state = self.machine.card.epochs(&mut self.machine.platform);
        let state = state.unwrap_or_else(|error| self.fail(&error.to_string(), None));
        // Whoever has ended by then, or was handed over, is known to be.
        if let Err(what) = self.hear() {
            self.fail(&what, None);
        }
        self.take_records();
        let Epochs { commits, oldest, .. } = self.epochs;
        if state.oldest() < oldest || state.current() > commits || state.oldest() > state.current() {
            self.fail(&format!("{state:?} after {commits} commits, where {oldest} was open"), None);
        }
        self.epochs.oldest = state.oldest();
        let watched = std::mem::take(&mut self.epochs.watched);
        let (closed, open): (Vec<_>, Vec<_>) =
            watched.into_iter().partition(|(epoch, _)| state.is_closed(*epoch));
        self.epochs.watched = open;
        if !self.epochs.watched.is_empty() {
            self.coverage.met("an epoch open under its commands");
        }
        for (epoch, commands) in closed {
            self.coverage.met("an epoch closed under load");
            for command in commands {
                // Its record may be on the way: then nothing of it is at an SSD.
                let waits = self.stories.get(command).is_some_and(|story| {
                    story.status.is_none()
                        && story.run().attempts.iter().any(|attempt| attempt.returned.is_none())
                });
                if waits && self.pending.contains_key(&command) {
                    let what = format!("epoch {epoch} is closed, and the card has {command:?}: {state:?}");
                    self.fail(&what, self.pending.get(&command));
                }
            }
        }
        state
    }

    /// Nothing is under way: all epochs but that of now are closed, soon.
    pub(super) fn close_epochs(&mut self) {
        for _ in 0..LOOKS {
            let state = self.look_at_epochs();
            if state.oldest() == state.current() {
                return;
            }
        }
        let state = self.look_at_epochs();
        self.fail(&format!("nothing is under way, and {state:?}"), None);
    }
}
