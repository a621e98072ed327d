//! Controllers that die and come back, and those that the control path resets while they are well: a fence of all their
//! paths at once.
//!
//! A controller dies alone (`DeadPath`), or with all others of its blocks (`DeadDevice`). The control path learns of it
//! when it wants to delete queues there, mostly as the card has asked for a fence, or by a look. It closes all paths of
//! the controller and says that they are quiet, for nothing is executed any more that was given to them; or it does so
//! when the controller is there again and was brought up. That comes no earlier than all its paths are closed: what
//! the card rings before would be a doorbell of no queue.
//!
//! A controller that is well is reset (CC.EN 1, 0, 1) when all of its paths are closed.

use std::collections::BTreeSet;

use rand::seq::IndexedRandom;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use volplane_abi::plan::{component_state, TIME_OUT_SHIFT};
use volplane_sim::{Commands, EndRecord, Fault, FaultId, FaultKind, Moment};

use super::renewal::Step;
use super::Session;
use crate::harness::volumes;

/// One in so many looks begins an outage, if there are fewer than so many.
const OUTAGE_OF: u32 = 300;
const OUTAGES_MAX: usize = 3;
/// Units of 1,024 ticks after which the control path looks whether a controller is there.
const LOOK_UNITS: (u64, u64) = (4, 32);
/// Longest until a controller comes back, or is reset, once its paths are closed, in simulated ns.
const BACK_NS: u64 = 300_000;

/// A controller that is gone, or is to be reset.
#[derive(Clone, Copy, Debug)]
struct Outage {
    controller: usize,
    /// What kills it; `None`: it is well.
    death: Option<FaultId>,
    /// What it is in the coverage.
    met: &'static str,
    /// The control path knows.
    known: bool,
    /// When it looks.
    look_ns: u64,
    /// When it ends, at the earliest.
    due_ns: u64,
}

/// Controllers that are gone, or are to be reset.
pub(super) struct Outages {
    random: ChaCha8Rng,
    under_way: Vec<Outage>,
    /// Disks and components that were out when their device was there again, and are not in sync yet.
    missed: BTreeSet<(u32, usize)>,
}

impl Outages {
    pub(super) fn new(random: ChaCha8Rng) -> Self {
        Self { random, under_way: Vec::new(), missed: BTreeSet::new() }
    }

    /// Whether there are any.
    pub(super) fn any(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// All end as soon as they can: how many there are.
    pub(super) fn hurry(&mut self, now_ns: u64) -> u64 {
        for outage in &mut self.under_way {
            (outage.look_ns, outage.due_ns) = (now_ns, now_ns);
        }
        self.under_way.len() as u64
    }

    fn of(&self, controller: usize) -> Option<&Outage> {
        self.under_way.iter().find(|outage| outage.controller == controller)
    }

    /// Whether something kills a controller, or has.
    pub(super) fn is_struck(&self, controller: usize) -> bool {
        self.of(controller).is_some_and(|outage| outage.death.is_some())
    }
}

impl Session {
    /// Begins an outage now and then, finds those that nobody has noticed, and ends them.
    pub(super) fn look_after_controllers(&mut self, now_ns: u64) {
        let begins = self.outages.random.random_ratio(1, OUTAGE_OF);
        if begins && !self.pending.is_empty() && self.outages.under_way.len() < OUTAGES_MAX {
            self.begin_outage(now_ns);
        }
        self.end_outage(now_ns);
    }

    fn begin_outage(&mut self, now_ns: u64) {
        let configuration = &self.machine.configuration;
        let Outages { random, under_way, .. } = &mut self.outages;
        let controllers: Vec<usize> = (0..configuration.simulator.ssds.len()).collect();
        let &controller = controllers.choose(random).expect("an SSD");
        let kind = random.random_range(0..6);
        let moment = [Moment::Beginning, Moment::Command][random.random_range(0..2)];
        let commands = Commands::all().with_count(random.random_range(0..8), 1);
        let struck: Vec<usize> = match kind {
            0 | 1 => configuration.controllers(configuration.medium(controller)).collect(),
            _ => vec![controller],
        };
        if under_way.iter().any(|outage| struck.contains(&outage.controller)) {
            return;
        }
        let unit_ns = configuration.tick_ns() << TIME_OUT_SHIFT;
        let look_ns = now_ns + unit_ns * random.random_range(LOOK_UNITS.0..=LOOK_UNITS.1);
        let due_ns = now_ns + random.random_range(0..BACK_NS);
        let at_once = random.random_bool(0.6);
        let (kind, met) = match (kind, moment) {
            (0 | 1, Moment::Beginning) => (Some(FaultKind::DeadDevice(moment)), "a dead device"),
            (0 | 1, Moment::Command) => (Some(FaultKind::DeadDevice(moment)), "a device killed by a command"),
            (2 | 3, Moment::Beginning) => (Some(FaultKind::DeadPath(moment)), "a dead path"),
            (2 | 3, Moment::Command) => (Some(FaultKind::DeadPath(moment)), "a path killed by a command"),
            _ => (None, "a controller reset as a fence"),
        };
        let fault = kind.map(|kind| Fault::new(kind).with_commands(commands));
        let death = fault.map(|fault| self.machine.handle.start_fault(configuration.ssd(controller), fault));
        let known = death.is_none();
        let outages =
            struck.iter().map(|&controller| Outage { controller, death, met, known, look_ns, due_ns });
        under_way.extend(outages);
        if known {
            self.close_paths(controller, now_ns);
            if at_once {
                self.reset_at_once(controller, now_ns);
            }
        }
    }

    /// Resets a controller while it executes what it was just given.
    fn reset_at_once(&mut self, controller: usize, now_ns: u64) {
        for path in self.machine.configuration.paths_of(controller) {
            self.close_at_once(path);
        }
        for outage in self.outages.under_way.iter_mut().filter(|outage| outage.controller == controller) {
            outage.due_ns = now_ns;
        }
        self.end_outage(now_ns);
    }

    /// Whether a step may be taken of a path: nothing is asked of a controller that is gone, or is to be reset, or may die
    /// of the next command.
    pub(super) fn may_be_done(&self, path: u8, step: Step) -> bool {
        let route = self.machine.configuration.route(path).expect("a path of the machine");
        let Some(outage) = self.outages.of(route.ssd) else { return true };
        let is_gone = self.machine.is_gone(outage.controller);
        match step {
            Step::Delete => is_gone || self.machine.has_no_queues(path),
            Step::Open => is_gone && !outage.known,
            _ => true,
        }
    }

    /// Whether the controller of a path is gone, and its queues with it: then the control path knows.
    pub(super) fn finds_death(&mut self, path: u8) -> bool {
        let route = self.machine.configuration.route(path).expect("a path of the machine");
        let controller = route.ssd;
        if !self.machine.is_gone(controller) {
            return false;
        }
        self.machine.lose_path_queues(path);
        self.know(controller, "a death found where queues were to be deleted");
        true
    }

    fn know(&mut self, controller: usize, met: &'static str) {
        let outage = self.outages.under_way.iter_mut().find(|outage| outage.controller == controller);
        let Some(outage) = outage.filter(|outage| !outage.known) else { return };
        outage.known = true;
        self.coverage.met(met);
        let now_ns = self.machine.handle.now_ns();
        self.close_paths(controller, now_ns);
    }

    /// Ends those outages whose time has come; whether there was one.
    pub(super) fn end_outage(&mut self, now_ns: u64) -> bool {
        for outage in self.outages.under_way.clone() {
            let is_gone = self.machine.is_gone(outage.controller);
            if is_gone && outage.look_ns <= now_ns {
                self.know(outage.controller, "a death found by a look");
            }
            let together: Vec<Outage> = match outage.death {
                None => vec![outage],
                death => self.outages.under_way.iter().filter(|it| it.death == death).copied().collect(),
            };
            let is_well = together.iter().all(|outage| !self.machine.is_gone(outage.controller));
            if outage.death.is_some() && is_well && outage.look_ns <= now_ns {
                // No command has brought it.
                self.forget(&together);
                return true;
            }
            if together.iter().all(|outage| self.may_end(outage, now_ns)) {
                self.forget(&together);
                self.bring_up(&together);
                return true;
            }
        }
        false
    }

    fn may_end(&self, outage: &Outage, now_ns: u64) -> bool {
        let is_closed = |path: &u8| self.stories.paths.is_closed(*path);
        let paths = self.machine.configuration.paths_of(outage.controller);
        outage.known && outage.due_ns <= now_ns && paths.iter().all(is_closed)
    }

    /// The outages are over; what kills controllers ends.
    fn forget(&mut self, outages: &[Outage]) {
        let is_over = |outage: &Outage| outages.iter().any(|over| over.controller == outage.controller);
        self.outages.under_way.retain(|outage| !is_over(outage));
        self.hear_all();
        if let Some(death) = outages.iter().find_map(|outage| outage.death) {
            self.machine.handle.stop_fault(death);
        }
    }

    /// Resets controllers whose paths are closed.
    fn bring_up(&mut self, outages: &[Outage]) {
        for outage in outages {
            for _ in
                self.flights.keys().filter(|(ssd, _)| *ssd == outage.controller && outage.death.is_none())
            {
                self.coverage.met("a command cut off by the reset of its controller");
            }
            self.machine.reset_controller(outage.controller);
            self.hear_all();
            self.coverage.met(outage.met);
            self.note_missed(outage);
        }
    }

    /// Notes copies that are out when their device is there again.
    fn note_missed(&mut self, outage: &Outage) {
        let configuration = &self.machine.configuration;
        let medium = configuration.medium(outage.controller);
        let are_of =
            |outages: &[Outage]| outages.iter().any(|it| configuration.medium(it.controller) == medium);
        if outage.death.is_none() || are_of(&self.outages.under_way) {
            return;
        }
        for mirror in &configuration.mirrors {
            let out = self.stories.now(mirror.disk).those(&[component_state::OUT]);
            let on_it =
                |number: &usize| volumes::media_of(configuration, &mirror.maps[*number]).contains(&medium);
            self.outages.missed.extend(out.numbers().filter(on_it).map(|number| (mirror.disk, number)));
        }
    }

    /// A component has become in sync.
    pub(super) fn note_synced(&mut self, disk: u32, component: usize) {
        if self.outages.missed.remove(&(disk, component)) {
            self.coverage.met("a copy brought up after its controller was there again");
        }
    }

    /// Notes the ends of what took effect as its controller died: these are the last.
    pub(super) fn note_last_effects(&mut self, controller: usize, ends: &[EndRecord]) {
        if !self.outages.is_struck(controller) || !self.machine.is_gone(controller) {
            return;
        }
        let last_ns = ends.iter().map(|end| end.at_ns).max();
        let is_last = |end: &&EndRecord| Some(end.at_ns) == last_ns && end.effect && !end.completion;
        for _ in ends.iter().filter(is_last) {
            self.coverage.met("an effect as its controller died");
        }
    }

    /// Whether all blocks of a component can be reached.
    pub(super) fn is_reachable(&self, disk: u32, component: usize) -> bool {
        if !self.outages.any() {
            return true;
        }
        let configuration = &self.machine.configuration;
        let mirror = configuration.mirror(disk).expect("a mirrored disk");
        let is_there = |&medium: &usize| {
            configuration.controllers(medium).any(|controller| !self.outages.is_struck(controller))
        };
        volumes::media_of(configuration, &mirror.maps[component]).iter().all(is_there)
    }

    /// Notes what is met when an SSD has fetched a command for a device.
    pub(super) fn note_served(&mut self, device: u16) {
        let configuration = &self.machine.configuration;
        let is_closed = |path: &u8| self.stories.paths.is_closed(*path);
        let others = configuration.tables.paths_to(device);
        let mut closed = others.iter().filter(|path| is_closed(path)).peekable();
        if closed.peek().is_none() {
            return;
        }
        let controller = |path: &u8| configuration.route(*path).expect("a path of the machine").ssd;
        let met = match closed.any(|path| self.machine.is_gone(controller(path))) {
            true => "a command by another path than a dead one",
            false => "a command by another path than a closed one",
        };
        self.coverage.met(met);
    }
}
