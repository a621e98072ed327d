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

use rand::seq::IndexedRandom;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use volplane_abi::plan::TIME_OUT_SHIFT;
use volplane_sim::{Commands, Fault, FaultId, FaultKind, Moment};

use super::renewal::Step;
use super::Session;
use crate::harness::volumes;

/// One in so many looks begins an outage, if there are fewer than so many.
const OUTAGE_OF: u32 = 500;
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
}

impl Outages {
    pub(super) fn new(random: ChaCha8Rng) -> Self {
        Self { random, under_way: Vec::new() }
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
        let Outages { random, under_way } = &mut self.outages;
        let controllers: Vec<usize> = (0..configuration.simulator.ssds.len()).collect();
        let &controller = controllers.choose(random).expect("an SSD");
        let kind = random.random_range(0..5);
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
        let kind = match kind {
            0 | 1 => Some(FaultKind::DeadDevice(moment)),
            2 | 3 => Some(FaultKind::DeadPath(moment)),
            _ => None,
        };
        let fault = kind.map(|kind| Fault::new(kind).with_commands(commands));
        let death =
            fault.map(|fault| self.machine.handle.start_fault(configuration.ssd(controller), fault));
        let known = death.is_none();
        let outages = struck.iter().map(|&controller| Outage { controller, death, known, look_ns, due_ns });
        under_way.extend(outages);
        if known {
            self.close_paths(controller, now_ns);
        }
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
            if outage.death.is_some() && !is_gone && outage.look_ns <= now_ns {
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
            self.machine.reset_controller(outage.controller);
            self.hear_all();
            self.coverage.met(match outage.death {
                Some(_) => "a controller that is there again",
                None => "a controller reset as a fence",
            });
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

    /// Notes what is met when an SSD has fetched a command by this controller.
    pub(super) fn note_served(&mut self, controller: usize) {
        if !self.outages.any() {
            return;
        }
        let configuration = &self.machine.configuration;
        let is_dead = |other: usize| self.outages.is_struck(other) && self.machine.is_gone(other);
        if configuration.controllers(configuration.medium(controller)).any(is_dead) {
            self.coverage.met("a command by another path than a dead one");
        }
    }
}
