//! One fault at work.

use rand_chacha::ChaCha8Rng;

use crate::probe::CommandRecord;
use crate::random;
use crate::ssd::{CommandFilter, Execution};

use super::{Commands, Fault, FaultKind, Moment};

/// A fault around whatever was planned.
pub(crate) struct Decorator {
    pub(super) fault: Fault,
    pub(super) started_ns: u64,
    pub(super) strikes: u64,
    random: ChaCha8Rng,
    /// Commands that met the conditions so far.
    met: u64,
    /// When the latest command is due, of those that are reordered or slow.
    latest_ns: u64,
    /// A command just brought the controller's death.
    deadly: bool,
}

impl Decorator {
    pub(super) fn new(fault: Fault, started_ns: u64, random: ChaCha8Rng) -> Self {
        Self { fault, started_ns, strikes: 0, random, met: 0, latest_ns: 0, deadly: false }
    }

    /// Whether a command just brought death; asked once.
    pub(super) fn take_deadly(&mut self) -> bool {
        std::mem::take(&mut self.deadly)
    }

    fn is_in_time(&self, now_ns: u64) -> bool {
        let after_ns = now_ns - self.started_ns.min(now_ns);
        after_ns >= self.fault.from_ns && self.fault.until_ns.is_none_or(|until_ns| after_ns < until_ns)
    }

    fn selects(&mut self, command: &CommandRecord) -> bool {
        if !self.is_in_time(command.at_ns) || !meets(&self.fault.commands, command) {
            return false;
        }
        let commands = &self.fault.commands;
        self.met += 1;
        self.met > commands.skip
            && commands.most.is_none_or(|most| self.strikes < most)
            && random::up_to(&mut self.random, 4095) < u64::from(commands.of_4096)
    }

    fn draw(&mut self, shortest: u64, longest: u64) -> u64 {
        shortest.saturating_add(random::up_to(&mut self.random, longest.saturating_sub(shortest)))
    }

    /// Delays a command; whether it overtakes an earlier one.
    fn reorder(&mut self, command: &CommandRecord, planned: &mut Execution, window_ns: u64) -> bool {
        planned.delay_ns = planned.delay_ns.saturating_add(self.draw(0, window_ns));
        let due_ns = command.at_ns.saturating_add(planned.delay_ns);
        let overtakes = due_ns < self.latest_ns;
        self.latest_ns = self.latest_ns.max(due_ns);
        overtakes
    }

    /// Puts a command behind those before it; whether that takes longer than planned.
    fn slow(&mut self, command: &CommandRecord, planned: &mut Execution, service_ns: u64) -> bool {
        let begin_ns = self.latest_ns.max(command.at_ns);
        let alone_ns = command.at_ns.saturating_add(planned.delay_ns);
        self.latest_ns = begin_ns.saturating_add(service_ns).max(alone_ns);
        planned.delay_ns = self.latest_ns - command.at_ns;
        self.latest_ns > alone_ns
    }
}

impl CommandFilter for Decorator {
    fn judge(&mut self, command: &CommandRecord, planned: Execution) -> Execution {
        let mut judged = planned;
        if !self.selects(command) {
            return judged;
        }
        let struck = match self.fault.kind {
            FaultKind::Error { status, after_effect } => {
                judged.effect &= after_effect;
                judged.status = Some(status);
                true
            }
            FaultKind::Drop { after_effect } => {
                judged.effect &= after_effect;
                judged.completion = false;
                true
            }
            FaultKind::Delay { shortest_ns, longest_ns } | FaultKind::Zombie { shortest_ns, longest_ns } => {
                judged.delay_ns = planned.delay_ns.saturating_add(self.draw(shortest_ns, longest_ns));
                true
            }
            FaultKind::Reorder { window_ns } => self.reorder(command, &mut judged, window_ns),
            FaultKind::Slow { service_ns } => self.slow(command, &mut judged, service_ns),
            FaultKind::DeadPath(Moment::Command) | FaultKind::DeadDevice(Moment::Command) => {
                self.deadly = self.strikes == 0;
                self.deadly
            }
            FaultKind::DeadPath(Moment::Beginning) | FaultKind::DeadDevice(Moment::Beginning) => false,
        };
        self.strikes += u64::from(struck);
        judged
    }
}

/// Whether a command meets the conditions that need no counting.
fn meets(commands: &Commands, command: &CommandRecord) -> bool {
    let code = command.entry.opcode();
    (commands.opcodes.is_empty() || commands.opcodes.contains(&code))
        && commands.queue.is_none_or(|queue| queue == command.queue)
        && commands.blocks.as_ref().is_none_or(|blocks| {
            command.blocks().any(|(first, count)| {
                count > 0 && first < blocks.end && first.saturating_add(count) > blocks.start
            })
        })
}
