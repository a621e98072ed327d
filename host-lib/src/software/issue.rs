//! Fragments on their way: paths, identifiers, completions, time-outs.

use volplane_abi::plan::{plan_status, reason, COMPONENTS_MAX};
use volplane_abi::status::DNR;

use super::engine::{is_read, Action, DataPath};
use super::plan::{Next, Owner, Stage};

/// A fragment that an SSD has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outstanding {
    slot: u16,
    part: usize,
    piece: usize,
    path: Option<u8>,
    device: u16,
    deadline: Option<u64>,
    /// Not answered in time.
    late: bool,
    /// Its answer no longer matters.
    abandoned: bool,
}

impl Outstanding {
    /// Its plan's slot, and the component.
    pub(super) fn of(&self) -> (u16, usize) {
        (self.slot, self.part)
    }
}

/// What is known of a path beside its table entry.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PathState {
    pub(super) outstanding: u32,
    /// A fence was asked for.
    pub(super) suspect: bool,
    /// Quiesced, and not set up again since.
    pub(super) down: bool,
}

impl DataPath {
    /// A fragment came back.
    pub fn returned(&mut self, id: u64, status: u16) {
        if let Some(path) = self.raw.returned(id, status) {
            self.paths.entry(path).or_default().outstanding -= 1;
            return self.run();
        }
        let Some(back) = self.outstanding.remove(&id) else {
            self.unknown += 1;
            return;
        };
        self.retire(&back);
        if !back.abandoned {
            self.settle(&back, status, false);
        }
        self.proceed(back.slot);
        self.run();
    }

    /// The time, in ticks.
    pub fn advance(&mut self, now: u64) {
        self.now = now;
        let due = |back: &Outstanding| !back.late && back.deadline.is_some_and(|deadline| deadline <= now);
        let late: Vec<u64> =
            self.outstanding.iter().filter(|(_, back)| due(back)).map(|(&id, _)| id).collect();
        for id in late {
            self.time_out(id);
        }
        self.run();
    }

    /// The earliest tick at which a fragment is late.
    pub fn deadline(&self) -> Option<u64> {
        let waited_for = self.outstanding.values().filter(|back| !back.late);
        waited_for.filter_map(|back| back.deadline).min()
    }

    /// Nothing that was given to a path is executed any more, now or later. It is not used until
    /// `path_up`.
    pub fn path_quiesced(&mut self, path: u8) {
        self.quiesce(path, true);
    }

    /// `path_quiesced` and `path_up` in one: what waits for a device's only path does not fail.
    pub fn path_renewed(&mut self, path: u8) {
        self.quiesce(path, false);
    }

    fn quiesce(&mut self, path: u8, down: bool) {
        let raw = self.raw.path_quiesced(path);
        let state = self.paths.entry(path).or_default();
        (state.down, state.suspect) = (down, false);
        state.outstanding -= raw;
        let lost: Vec<u64> =
            self.outstanding.iter().filter(|(_, back)| back.path == Some(path)).map(|(&id, _)| id).collect();
        for id in lost {
            let back = self.outstanding.remove(&id).expect("just found");
            self.retire(&back);
            if !back.abandoned {
                self.settle(&back, plan_status::ABORTED_SQ_DELETION, true);
            }
            self.proceed(back.slot);
        }
        self.run();
    }

    /// A path can be used again.
    pub fn path_up(&mut self, path: u8) {
        self.paths.entry(path).or_default().down = false;
        self.run();
    }

    /// Gives back what an outstanding fragment held.
    fn retire(&mut self, back: &Outstanding) {
        if let Some(path) = back.path {
            self.paths.entry(path).or_default().outstanding -= 1;
        }
        if back.late && self.plans.contains_key(&back.slot) {
            self.plan(back.slot).unquiesced -= 1;
        }
    }

    /// `given_up`: nobody has answered.
    fn settle(&mut self, back: &Outstanding, status: u16, given_up: bool) {
        let all = self.tables.paths_to(back.device);
        let bit = back.path.and_then(|path| all.iter().position(|&other| other == path));
        let bit = bit.map_or(0, |place| 1 << place);
        let usable = (0..all.len()).filter(|&place| self.is_usable(all[place]));
        let usable = usable.fold(0u8, |bits, place| bits | 1 << place);
        let plan = self.plan(back.slot);
        plan.parts[back.part].pieces[back.piece].given_up = given_up;
        let next = plan.settle(back.part, back.piece, status, bit, usable);
        debug_assert!(next == Next::Over || !plan.is_stopped());
    }

    fn time_out(&mut self, id: u64) {
        let slot = self.outstanding[&id].slot;
        let plan = self.plan(slot);
        plan.unquiesced += 1;
        // What only reads may be tried elsewhere at once; a write may yet be executed.
        let reads = is_read(&plan.entry);
        let back = self.outstanding.get_mut(&id).expect("it is outstanding");
        (back.late, back.abandoned) = (true, reads);
        let back = *back;
        if let Some(path) = back.path {
            let state = self.paths.entry(path).or_default();
            if !std::mem::replace(&mut state.suspect, true) {
                self.act(Action::Fence { path });
            }
        }
        if reads {
            self.settle(&back, plan_status::ABORTED_BY_HOST, true);
            self.proceed(back.slot);
        }
    }

    pub(super) fn is_usable(&self, path: u8) -> bool {
        let state = self.paths.get(&path).copied().unwrap_or_default();
        !state.down && self.tables.paths.get(&path).is_some_and(|entry| entry.valid() == 1)
    }

    /// Issues what can be issued of a plan; whether something waits that could not be.
    pub(super) fn issue(&mut self, slot: u16) -> bool {
        if !self.plans.contains_key(&slot) {
            return false;
        }
        for part in 0..COMPONENTS_MAX {
            while self.issue_one(slot, part) {}
        }
        let plan = &self.plans[&slot];
        let may = plan.owner == Owner::Accelerated && !plan.is_stopped() && !plan.blocked;
        may && plan.parts.iter().any(|part| part.next().is_some())
    }

    fn issue_one(&mut self, slot: u16, part: usize) -> bool {
        let plan = &self.plans[&slot];
        if plan.is_stopped() || plan.blocked || plan.owner != Owner::Accelerated {
            return false;
        }
        let Some(piece) = plan.parts[part].next() else {
            if plan.parts[part].faulted && !plan.parts[part].is_over() {
                let fault = if is_read(&plan.entry) { reason::READ_FAULT } else { reason::WRITE_FAULT };
                self.plan(slot).stop |= fault;
            }
            return false;
        };
        let found = &plan.parts[part].pieces[piece];
        let (mut fragment, tried) = (found.fragment.clone(), found.paths_tried);
        let ticks = plan.template.components[part].time_out;
        let deadline = (ticks != 0).then(|| self.now + u64::from(ticks));
        let device = fragment.device;
        if let Err(status) = fragment.segments {
            self.plan(slot).parts[part].pieces[piece].stage = Stage::Refused(status | DNR);
            return true;
        }
        let mut outstanding =
            Outstanding { slot, part, piece, path: None, device, deadline, late: false, abandoned: false };
        let id;
        if fragment.zeros {
            id = self.take_id(None);
            self.act(Action::Fill { id, fragment });
        } else {
            match self.path_for(device, tried) {
                PathChoice::None => {
                    self.plan(slot).strand(part, piece);
                    return true;
                }
                PathChoice::Full => return false,
                PathChoice::Path(path) => {
                    fragment.path = path;
                    outstanding.path = Some(path);
                    id = self.take_id(Some(path));
                    self.plan(slot).parts[part].pieces[piece].last_path = path;
                    self.act(Action::Issue { id, path, fragment });
                }
            }
        }
        self.outstanding.insert(id, outstanding);
        self.plan(slot).parts[part].pieces[piece].stage = Stage::Issued(id);
        true
    }

    /// A usable path to a device, with room or not.
    pub(super) fn any_path(&self, device: u16) -> Option<u8> {
        self.tables.paths_to(device).into_iter().find(|&path| self.is_usable(path))
    }

    /// An identifier for something that is given away, to a path or to the filler.
    pub(super) fn take_id(&mut self, path: Option<u8>) -> u64 {
        if let Some(path) = path {
            self.paths.entry(path).or_default().outstanding += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    /// A path to a device: not tried yet before tried, without a fence asked for before with one.
    fn path_for(&mut self, device: u16, tried: u8) -> PathChoice {
        let all = self.tables.paths_to(device);
        let policy = self.tables.devices.get(&device).map_or(0, |device| device.path_policy());
        let usable: Vec<usize> = (0..all.len()).filter(|&place| self.is_usable(all[place])).collect();
        if usable.is_empty() {
            return PathChoice::None;
        }
        let suspect = |place: usize| self.paths.get(&all[place]).is_some_and(|state| state.suspect);
        let rank = |place: usize| (tried >> place & 1, suspect(place));
        let best = usable.iter().map(|&place| rank(place)).min().expect("there is one");
        let among: Vec<usize> = usable.into_iter().filter(|&place| rank(place) == best).collect();
        let open: Vec<usize> = among.into_iter().filter(|&place| self.has_room(all[place])).collect();
        match self.chooser.path(policy, device, &open) {
            Some(place) => PathChoice::Path(all[place]),
            None => PathChoice::Full,
        }
    }

    fn has_room(&self, path: u8) -> bool {
        let limit = self.tables.paths.get(&path).map_or(0, |entry| entry.limit());
        self.outstanding_on(path) < u32::from(limit)
    }
}

/// Where a fragment can go.
enum PathChoice {
    Path(u8),
    /// Paths are there, without room.
    Full,
    None,
}
