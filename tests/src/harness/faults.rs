//! Errors that SSDs give by place, as a function of what they are asked, and the faults that come and go.

use rand::seq::IndexedRandom;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use volplane_abi::opcode;
use volplane_abi::plan::plan_status::{ABORTED_SQ_DELETION, ABORT_REQUESTED, COMPARE_FAILURE};
use volplane_abi::plan::{status_class, StatusClass};
use volplane_abi::status::{
    CODE_AND_TYPE, DATA_TRANSFER_ERROR, DNR, INVALID_FIELD, LBA_OUT_OF_RANGE, PATH_RELATED,
};
use volplane_sim::{CommandFilter, CommandRecord, Commands, Execution, Fault, FaultId, FaultKind, SimHandle};

use super::mix;

/// Statuses that every list of errors has: some with DNR, More or a retry delay.
const STATUSES: [u16; 6] = [0x0281, 0x4281, 0x2280, 0x0006, 0x0882, 0x4002];
/// Those that are the client's own doing.
const OF_CLIENT: [u16; 4] = [INVALID_FIELD, DATA_TRANSFER_ERROR, LBA_OUT_OF_RANGE, COMPARE_FAILURE];
/// More, and the retry delay.
const UNKEPT: u16 = 0x3800;
/// Most commands that such a fault strikes that loses them.
const LOST_MAX: u64 = 6;
/// Faults that are there at once.
const FAULTS_MAX: usize = 3;

/// A status of any class, with or without Do Not Retry, made of a drawn number.
fn any_status(drawn: u64) -> u16 {
    let number = (drawn >> 8) as u16;
    let code = match drawn % 8 {
        0 => OF_CLIENT[usize::from(number % 4)],
        1 => [ABORT_REQUESTED, ABORTED_SQ_DELETION][usize::from(number % 2)],
        2 => PATH_RELATED | number & 0xFF,
        _ => (number & CODE_AND_TYPE).max(1),
    };
    code | (drawn >> 32) as u16 & (DNR | UNKEPT)
}

fn is_of_path(status: u16) -> bool {
    status_class(status) == StatusClass::Path
}

/// Which fragments fail.
#[derive(Clone, Copy, Debug)]
pub struct Errors {
    /// Chooses them.
    pub seed: u64,
    /// Of 4,096 fragments, how many.
    pub of_4096: u64,
}

impl Errors {
    /// The status field that `ssd` completes a command of `queue` with; 0 when it executes it. What is wrong with
    /// a path is wrong with most of them.
    fn verdict(&self, (ssd, queue): (usize, u16), code: u8, lba: u64) -> u16 {
        let drawn = mix(mix(self.seed ^ (ssd as u64) << 56 ^ u64::from(code) << 48) ^ lba);
        if code == opcode::FLUSH || drawn % 4096 >= self.of_4096 {
            return 0;
        }
        let status = match drawn >> 12 & 1 {
            0 => STATUSES[(drawn >> 32) as usize % STATUSES.len()],
            _ => any_status(drawn >> 16),
        };
        match mix(drawn ^ u64::from(queue)) % 4 {
            0 if is_of_path(status) => 0,
            _ => status,
        }
    }

    /// A filter that makes `ssd` behave so.
    pub fn filter(self, ssd: usize) -> Box<dyn CommandFilter> {
        Box::new(Filter { errors: self, ssd })
    }
}

struct Filter {
    errors: Errors,
    ssd: usize,
}

impl CommandFilter for Filter {
    fn judge(&mut self, command: &CommandRecord, planned: Execution) -> Execution {
        let lba = command.ranges.first().map_or(command.entry.starting_lba(), |range| range.0);
        match self.errors.verdict((self.ssd, command.queue), command.entry.opcode(), lba) {
            0 => planned,
            status => Execution { effect: false, status: Some(status), ..planned },
        }
    }
}

/// Commands that are not answered, or late, or executed late, by a time that is long after `unit_ns`.
fn lost(random: &mut ChaCha8Rng, drawn: u32, unit_ns: u64) -> (FaultKind, u32, &'static str) {
    let (shortest_ns, longest_ns) =
        (unit_ns * random.random_range(1..6), unit_ns * random.random_range(6..30));
    match drawn {
        0 => (FaultKind::Drop { after_effect: true }, 4096, "an answer lost after its effect"),
        1 => (FaultKind::Drop { after_effect: false }, 4096, "a command lost"),
        2 => (FaultKind::Delay { shortest_ns, longest_ns }, 4096, "a delay beyond time-outs"),
        _ => (FaultKind::Zombie { shortest_ns, longest_ns }, 4096, "a zombie"),
    }
}

/// Faults that begin and end while a run goes on.
#[derive(Default)]
pub struct Weather {
    under_way: Vec<FaultId>,
}

impl Weather {
    /// Now and then a fault begins, or one ends; the name of what begins.
    pub fn change(
        &mut self,
        random: &mut ChaCha8Rng,
        handle: &SimHandle,
        paths: &[(String, u16)],
        hurried: Option<u64>,
    ) -> Option<&'static str> {
        if !random.random_ratio(1, 12) {
            return None;
        }
        if self.under_way.len() == FAULTS_MAX || (!self.under_way.is_empty() && random.random_bool(0.4)) {
            handle.stop_fault(self.under_way.remove(0));
            return None;
        }
        let lossy = hurried.filter(|_| random.random_bool(0.4));
        let (kind, most, met) = match random.random_range(0..5) {
            drawn if lossy.is_some() => lost(random, drawn, lossy.expect("as above")),
            0 | 1 => {
                let (status, after_effect) = (any_status(random.random()), random.random_bool(0.3));
                let status = if random.random_bool(0.2) { PATH_RELATED | status & 0xFF } else { status };
                let kind = FaultKind::Error { status, after_effect };
                (kind, 400, if after_effect { "an error after its effect" } else { "an error for a time" })
            }
            2 => (FaultKind::Delay { shortest_ns: 0, longest_ns: 100_000 }, 1024, "a delay"),
            3 => (FaultKind::Reorder { window_ns: 30_000 }, 4096, "a reordering SSD"),
            _ => (FaultKind::Slow { service_ns: random.random_range(50..1_000) }, 4096, "a slow SSD"),
        };
        let (ssd, queue) = paths.choose(random).expect("a path");
        let mut commands = Commands::all().with_chance(random.random_range(1..=most));
        // A bad path fails most of its commands, while others of the SSD are well.
        let is_bad = matches!(kind, FaultKind::Error { status, .. } if is_of_path(status));
        if is_bad && random.random_bool(0.6) {
            commands = commands.with_queue(*queue).with_chance(random.random_range(64..=4096));
        }
        let is_other = matches!(kind, FaultKind::Error { status, .. } if !is_of_path(status));
        if is_other && random.random_bool(0.25) {
            let of_4096 = random.random_range(512..=4096);
            commands = commands.with_opcodes(&[opcode::COMPARE]).with_chance(of_4096);
        }
        if lossy.is_some() {
            commands = commands.with_count(random.random_range(0..8), random.random_range(1..=LOST_MAX));
        }
        self.under_way.push(handle.start_fault(ssd, Fault::new(kind).with_commands(commands)));
        Some(met)
    }

    /// All faults end.
    pub fn end(&mut self, handle: &SimHandle) {
        self.under_way.drain(..).for_each(|fault| handle.stop_fault(fault));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn errors_are_of_all_classes_with_and_without_dnr() {
        let drawn: Vec<u16> = (0..200_000).map(|number| any_status(mix(number))).collect();
        let codes: BTreeSet<u16> = drawn.iter().map(|status| status & (CODE_AND_TYPE | DNR)).collect();
        assert!(drawn.iter().all(|status| status & CODE_AND_TYPE != 0));
        let of_class = |class| (1..=CODE_AND_TYPE).filter(move |&code| status_class(code) == class);
        let certain = of_class(StatusClass::Client).chain(of_class(StatusClass::Path));
        for code in certain.flat_map(|code| [code, code | DNR]) {
            assert!(codes.contains(&code), "{code:#06x}");
        }
        let most = (1..=CODE_AND_TYPE).filter(|code| codes.contains(code) && codes.contains(&(code | DNR)));
        assert!(most.count() > 1_500);
    }
}
