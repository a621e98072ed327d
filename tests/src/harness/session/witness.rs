//! What a run hears of its machine while it goes on: plans from the card's trace, commands and their ends from
//! the SSDs. Every fragment is compared with what the model cuts when its SSD fetches it, and takes effect on
//! the media that the run expects when its SSD has ended it.

use volplane::software::{self, Fragment, Segment};
use volplane_abi::status::DATA_TRANSFER_ERROR;
use volplane_abi::{opcode, SubmissionEntry};
use volplane_sim::{Agent, CommandRecord, EndRecord, SimHandle};

use super::{Cuts, Pending, Session};
use crate::harness::arena::Arena;
use crate::harness::mirrors::Mirror;
use crate::harness::plan_judge::Asked;
use crate::harness::plan_story::{CommandKey, Ended};
use crate::harness::records;
use crate::harness::traffic::Claim;
use crate::harness::Configuration;
use volplane_abi::plan::COMPONENTS_MAX;

/// A fragment that an SSD executes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    path: u8,
    id: u16,
    opcode: u8,
    lba: u64,
    blocks: u64,
    /// Number of the first block written.
    token: u64,
    /// Whose it is, and its first block there.
    command: CommandKey,
    first: u64,
}

impl Flight {
    /// Its path.
    pub(super) fn path(&self) -> u8 {
        self.path
    }
}

impl Session {
    /// What is known of a command before it is completed.
    pub(super) fn look_at(&self, entry: &SubmissionEntry) -> (Option<Asked>, [Option<Cuts>; COMPONENTS_MAX]) {
        let (configuration, memory) = (&self.machine.configuration, memory(&self.machine.handle));
        let mut cuts = [const { None }; COMPONENTS_MAX];
        if self.mirror(entry).is_some() {
            return (Some(Asked::new(&configuration.tables, entry, &memory)), cuts);
        }
        let mut plain = software::cut(&configuration.tables, entry, &memory);
        note_holes(&self.arena, &mut plain);
        cuts[0] = Some(plain);
        (None, cuts)
    }

    /// The mirrored disk that a command goes to.
    pub(super) fn mirror(&self, entry: &SubmissionEntry) -> Option<&Mirror> {
        self.machine.configuration.mirror(entry.namespace_id().checked_sub(1)?)
    }

    /// Gives a read something to read.
    pub(super) fn plant(&mut self, claim: &Claim) {
        let (configuration, handle) = (&self.machine.configuration, &self.machine.handle);
        let states = configuration.mirror(claim.disk).map(|mirror| self.stories.now(mirror.disk));
        let blocks = claim.lba..claim.lba + claim.blocks;
        let states = states.as_ref();
        self.volumes.plant((configuration, handle), &mut self.media, (claim.disk, blocks), states);
    }

    /// Takes in what the card's trace and the SSDs tell, and sees that nobody rings a queue that is gone or closed.
    pub(super) fn hear(&mut self) -> Result<(), String> {
        self.machine.check_closed()?;
        if let Some(complaint) = self.machine.handle.ssd_complaints().into_iter().next() {
            return Err(complaint);
        }
        let ssds = self.machine.configuration.simulator.ssds.len();
        let mut heard = Vec::with_capacity(ssds);
        for number in 0..ssds {
            let name = self.machine.configuration.ssd(number);
            let (commands, missed) = self.machine.handle.take_commands(name);
            let (ends, ends_missed) = self.machine.handle.take_ends(name);
            assert_eq!((missed, ends_missed), (0, 0), "the record is too short");
            heard.push((commands, ends));
        }
        let (events, missed) = self.machine.handle.take_plan_events();
        assert_eq!(missed, 0, "the record is too short");
        let pending = &self.pending;
        let namespace = |command| pending.get(&command).map(|pending| pending.entry.namespace_id());
        let met = self.slots.look(&self.machine.configuration, &events, namespace)?;
        met.into_iter().for_each(|what| self.coverage.met(what));
        self.stories.feed(events)?;
        self.stories.paths.look(self.machine.handle.now_ns());
        let met = std::mem::take(&mut self.stories.paths.met);
        met.into_iter().for_each(|what| self.coverage.met(what));
        let mut all_ends = Vec::new();
        for (ssd, (commands, ends)) in heard.into_iter().enumerate() {
            commands.iter().try_for_each(|command| self.fetched(ssd, command))?;
            self.note_last_effects(ssd, &ends);
            all_ends.extend(ends.into_iter().map(|end| (ssd, end)));
        }
        // Controllers of the same blocks tell each what it did: their turns say in which order.
        all_ends.sort_by_key(|(_, end)| end.turn);
        all_ends.iter().try_for_each(|(ssd, end)| self.ended(*ssd, end))
    }

    /// An SSD has fetched a command.
    fn fetched(&mut self, ssd: usize, record: &CommandRecord) -> Result<(), String> {
        let configuration = &self.machine.configuration;
        let id = record.entry.command_id();
        let path = configuration.path(ssd, record.queue);
        let nobody = || format!("a command that nobody issued: SSD {ssd}, {record:x?}");
        let path = path.ok_or_else(nobody)?;
        let place = self.stories.fragment(path, id).ok_or_else(nobody)?;
        let pending = self.pending.get_mut(&place.command).ok_or_else(nobody)?;
        let cuts = cuts(configuration, &self.arena, pending, place.component);
        let Some(fragment) = cuts.fragments.get(place.ordinal) else {
            return Err(format!("{place:?} is no fragment of {cuts:#x?}\n{record:x?}"));
        };
        let route = configuration.route(path).ok_or_else(nobody)?;
        let (found, expected) = (records::received(ssd, record)?, records::expected(fragment, route));
        let leads_there = configuration.tables.paths_to(fragment.device).contains(&path);
        if fragment.zeros || !leads_there || found != expected {
            return Err(format!("{place:?}: found {found:x?}\nexpected {expected:x?}"));
        }
        let Fragment { device, opcode, lba, blocks, first, .. } = *fragment;
        let (token, command) = (pending.token + first, place.command);
        let flight = Flight { path, id, opcode, lba, blocks, token, command, first };
        self.flights.insert((ssd, record.order), flight);
        *self.fragments.entry(path).or_default() += 1;
        self.note_served(device);
        Ok(())
    }

    /// An SSD has ended a command.
    fn ended(&mut self, ssd: usize, end: &EndRecord) -> Result<(), String> {
        if end.withdrawn {
            self.answers.get(&(ssd, end.order)).into_iter().for_each(|place| self.stories.withdraw(place));
            return Ok(());
        }
        let flight = self.flights.remove(&(ssd, end.order));
        let Flight { path, id, opcode, lba, blocks, token, command, first } =
            flight.ok_or_else(|| format!("SSD {ssd} ends what it did not begin: {end:?}"))?;
        let mut tokens = Vec::new();
        let medium = self.machine.configuration.medium(ssd);
        match opcode {
            opcode::COMPARE => tokens = self.compared(command, first, (medium, lba..lba + blocks), end)?,
            _ if !end.effect => {}
            opcode::READ => tokens.extend((lba..lba + blocks).map(|block| self.media.token(medium, block))),
            opcode::WRITE => self.media.write(medium, lba, blocks, token),
            opcode::WRITE_ZEROES | opcode::DATASET_MANAGEMENT => self.media.clear(medium, lba, blocks),
            _ => {}
        }
        let EndRecord { at_ns, effect, status, completion, .. } = *end;
        let place = self.stories.end(path, id, Ended { at_ns, effect, status, completion, tokens });
        self.answers.extend(place.map(|place| ((ssd, end.order), place)));
        Ok(())
    }
}

/// A command's part of a component.
pub(super) fn cuts<'a>(
    configuration: &Configuration,
    arena: &Arena,
    pending: &'a mut Pending,
    component: usize,
) -> &'a Cuts {
    let Pending { asked, cuts, entry, .. } = pending;
    cuts[component].get_or_insert_with(|| {
        let asked = asked.as_ref().expect("a disk without a plan has one part");
        let mirror = configuration.mirror(entry.namespace_id() - 1).expect("it was asked");
        let mut cuts = asked.cuts(&configuration.tables, mirror, component);
        note_holes(arena, &mut cuts);
        cuts
    })
}

/// Of zeros nobody but the bus says that a page is not there.
fn note_holes(arena: &Arena, cuts: &mut Cuts) {
    for fragment in cuts.fragments.iter_mut().filter(|fragment| fragment.zeros) {
        let holed = |segments: &Vec<Segment>| segments.iter().any(|part| arena.is_hole(part.iova));
        if fragment.segments.as_ref().is_ok_and(holed) {
            fragment.segments = Err(DATA_TRANSFER_ERROR);
        }
    }
}

/// Host memory as the model reads it.
fn memory(handle: &SimHandle) -> impl Fn(u64) -> Option<u64> + '_ {
    |at| {
        let mut word = [0; 8];
        let mapped = handle.memory().is_mapped(at, word.len());
        mapped.then(|| {
            handle.memory().read(Agent::Host, at, &mut word).ok().map(|()| u64::from_le_bytes(word))
        })?
    }
}
