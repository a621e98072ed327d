//! Errors that SSDs give, as a function of what they are asked, so that both sides know them.

use volplane_abi::opcode;
use volplane_sim::{CommandFilter, CommandRecord, Execution};

use super::mix;

/// Statuses as an SSD may give them: some with DNR, More or a retry delay.
const STATUSES: [u16; 6] = [0x0281, 0x4281, 0x2280, 0x0006, 0x0882, 0x4002];

/// Which fragments fail.
#[derive(Clone, Copy, Debug)]
pub struct Errors {
    /// Chooses them.
    pub seed: u64,
    /// Of 4,096 fragments, how many.
    pub of_4096: u64,
}

impl Errors {
    /// The status field that `ssd` completes a command with; 0 when it executes it.
    pub fn verdict(&self, ssd: usize, code: u8, lba: u64) -> u16 {
        let drawn = mix(mix(self.seed ^ (ssd as u64) << 56 ^ u64::from(code) << 48) ^ lba);
        if code == opcode::FLUSH || drawn % 4096 >= self.of_4096 {
            return 0;
        }
        STATUSES[(drawn >> 32) as usize % STATUSES.len()]
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
        match self.errors.verdict(self.ssd, command.entry.opcode(), lba) {
            0 => planned,
            status => Execution { effect: false, status: Some(status), ..planned },
        }
    }
}
