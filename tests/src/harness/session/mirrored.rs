//! What a run does about mirrored disks: their commands' parts, and what a control path does to their states.

use rand::RngExt;
use volplane::software::{self, Cuts, Fragment};
use volplane_abi::plan::component_state;
use volplane_abi::tables::table;
use volplane_abi::SubmissionEntry;

use super::{memory, Pending, Session};
use crate::harness::mirrors::{Mirror, States};
use crate::harness::plan_judge::{Asked, Judge};

impl Session {
    /// What is known of a command before it is completed.
    pub(super) fn look_at(&self, entry: &SubmissionEntry) -> (Option<Asked>, Vec<Cuts>) {
        let (configuration, memory) = (&self.machine.configuration, memory(&self.machine.handle));
        if self.mirror(entry).is_some() {
            return (Some(Asked::new(&configuration.tables, entry, &memory)), Vec::new());
        }
        (None, vec![software::cut(&configuration.tables, entry, &memory)])
    }

    /// The mirrored disk that a command goes to.
    fn mirror(&self, entry: &SubmissionEntry) -> Option<&Mirror> {
        self.machine.configuration.mirror(entry.namespace_id().checked_sub(1)?)
    }

    /// Gives a read something to read, on each copy something else.
    pub(super) fn plant(&mut self, entry: &SubmissionEntry, asked: Option<&Asked>, parts: &[Cuts]) {
        let mut places: Vec<Fragment> = parts.iter().flat_map(|cuts| cuts.fragments.clone()).collect();
        if let (Some(asked), Some(mirror)) = (asked, self.mirror(entry)) {
            let tables = &self.machine.configuration.tables;
            let copies = mirror.template.present().numbers();
            places.extend(copies.flat_map(|number| asked.cuts(tables, mirror, number).fragments));
        }
        for fragment in places {
            let ssd = self.machine.configuration.route(fragment.path).expect("a path").ssd;
            self.media.plant(&self.machine.handle, ssd, fragment.lba, fragment.blocks);
        }
    }

    /// What a command's parts are, and the status it must end with.
    pub(super) fn decide(&mut self, queue: u16, pending: &Pending) -> Result<(Vec<Cuts>, u16), String> {
        let story = if self.machine.configuration.mirrors.is_empty() {
            None
        } else {
            self.hear()?;
            Some(self.stories.take(queue, pending.entry.command_id())?)
        };
        let (Some(asked), Some(story)) = (&pending.asked, story) else {
            let status = pending.parts[0].status(|fragment| self.outcome(fragment));
            return Ok((pending.parts.clone(), status));
        };
        let mirror = self.mirror(&pending.entry).expect("it was there when the command was sent");
        let seen = self.stories.seen_by(&story, mirror.disk);
        let configuration = &self.machine.configuration;
        let outcome = |fragment: &Fragment| self.outcome(fragment);
        let judge =
            Judge { tables: &configuration.tables, mirror, executor: configuration.executor, outcome };
        let found = judge.judge(asked, &story, &seen).map_err(|what| format!("{what}\n{story:x?}"))?;
        found.met.iter().for_each(|what| self.coverage.met(what));
        Ok((found.parts, found.status))
    }

    /// Takes in what the card's trace tells.
    fn hear(&mut self) -> Result<(), String> {
        let (records, missed) = self.machine.handle.take_plan_events();
        assert_eq!(missed, 0, "the record is too short");
        self.stories.feed(records)
    }

    /// Does what a control path would between two batches: brings components back, takes others out, and
    /// reactivates; then reads all states back.
    pub(super) fn resynchronise(&mut self) {
        if let Err(what) = self.hear() {
            self.fail(&what, None);
        }
        let mirrors: Vec<(u32, u8)> = self
            .machine
            .configuration
            .mirrors
            .iter()
            .map(|mirror| (mirror.disk, mirror.template.present().0))
            .collect();
        for &(disk, present) in mirrors.iter() {
            if self.random.random_bool(0.3) {
                continue;
            }
            let (now, select) = (self.stories.now(disk), self.random.random::<u8>() & present);
            let mut wished = States { deactivated: false, ..now };
            for state in &mut wished.states {
                *state = match (*state, self.random.random_range(0..4)) {
                    (component_state::OUT, 0) | (component_state::WRITE_ONLY, 0..2) => {
                        component_state::IN_SYNC
                    }
                    (component_state::OUT, _) => component_state::WRITE_ONLY,
                    (_, 0) if self.random.random_bool(0.2) => component_state::OUT,
                    (state, _) => state,
                };
            }
            // Who is taken out by the control path is out durably.
            let out = wished.those(&[component_state::OUT]).0;
            wished.durably_out |= out & select;
            let entry = wished.entry(select);
            let written =
                self.machine.card.table_write(&mut self.machine.platform, table::STATES, disk, &entry.0);
            written.expect("the states are written");
            self.stories.write(disk, now.written(&wished, select));
        }
        for (disk, found) in self.machine.component_states() {
            let expected = self.stories.now(disk);
            if found != expected {
                self.fail(&format!("disk {disk} is {found:?}, expected {expected:?}"), None);
            }
        }
    }
}
