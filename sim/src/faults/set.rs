//! The faults of one SSD.

use rand_chacha::ChaCha8Rng;

use crate::probe::CommandRecord;
use crate::random;
use crate::ssd::{CommandFilter, Execution};

use super::decorator::Decorator;
use super::{Fault, FaultId, FaultReport};

/// All that were started of one SSD, and the generators they draw from.
pub(crate) struct FaultSet {
    seed: u64,
    ssd: usize,
    name: String,
    /// Those that strike, in order of their start.
    active: Vec<(FaultId, Decorator)>,
    stopped: Vec<FaultReport>,
    next: u64,
    /// Decides what the commands of a dying controller came to.
    random: ChaCha8Rng,
}

impl FaultSet {
    pub(crate) fn new(seed: u64, ssd: usize, name: &str) -> Self {
        let random = random::fork(seed, &format!("ssd {name} death"));
        Self { seed, ssd, name: name.into(), active: Vec::new(), stopped: Vec::new(), next: 0, random }
    }

    pub(crate) fn start(&mut self, fault: Fault, now_ns: u64) -> FaultId {
        let id = FaultId { ssd: self.ssd, number: self.next };
        self.next += 1;
        let random = random::fork(self.seed, &format!("ssd {} fault {}", self.name, id.number));
        self.active.push((id, Decorator::new(fault, now_ns, random)));
        id
    }

    pub(crate) fn stop(&mut self, id: FaultId, now_ns: u64) {
        if let Some(at) = self.active.iter().position(|(other, _)| *other == id) {
            let (id, decorator) = self.active.remove(at);
            self.stopped.push(report(&self.name, id, &decorator, Some(now_ns)));
        }
    }

    pub(crate) fn active(&self) -> Vec<FaultId> {
        self.active.iter().map(|(id, _)| *id).collect()
    }

    /// Counts a death that no command brought.
    pub(crate) fn note_death(&mut self, id: FaultId) {
        if let Some((_, decorator)) = self.active.iter_mut().find(|(other, _)| *other == id) {
            decorator.strikes = 1;
        }
    }

    /// The faults whose death the command judged last brought.
    pub(crate) fn take_deadly(&mut self) -> Vec<(FaultId, Fault)> {
        let deadly = self
            .active
            .iter_mut()
            .filter_map(|(id, decorator)| decorator.take_deadly().then(|| (*id, decorator.fault.clone())));
        deadly.collect()
    }

    /// Whether a command of a dying controller took effect.
    pub(crate) fn took_effect(&mut self) -> bool {
        random::up_to(&mut self.random, 1) == 1
    }

    /// All faults, in order of their start.
    pub(crate) fn reports(&self) -> Vec<FaultReport> {
        let active = self.active.iter().map(|(id, decorator)| report(&self.name, *id, decorator, None));
        let mut reports: Vec<FaultReport> = self.stopped.iter().cloned().chain(active).collect();
        reports.sort_by_key(|report| report.id);
        reports
    }
}

impl CommandFilter for FaultSet {
    fn judge(&mut self, command: &CommandRecord, planned: Execution) -> Execution {
        self.active.iter_mut().fold(planned, |planned, (_, decorator)| decorator.judge(command, planned))
    }
}

fn report(ssd: &str, id: FaultId, decorator: &Decorator, stopped_ns: Option<u64>) -> FaultReport {
    FaultReport {
        id,
        ssd: ssd.into(),
        fault: decorator.fault.clone(),
        started_ns: decorator.started_ns,
        stopped_ns,
        strikes: decorator.strikes,
    }
}
