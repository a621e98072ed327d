//! What the card's ports reach: memory, peers and interrupts, whoever stands for them.
//!
//! The simulated machine's `Bus` knows every answer at once. Behind a vfio-user client some answers take time: what is
//! not known yet is asked for again at the next cycle, and the card is clocked meanwhile. Answers are asked for in the
//! order in which the reads, or the writes, were made.

use std::collections::VecDeque;

use crate::bus::{Bus, WindowWrite};
use crate::host_memory::{Agent, Refusal};
use crate::probe::BusAction;

/// How an access ended.
pub(crate) type Access = Result<(), Refusal>;

/// See the module's header. Static dispatch: all of it is asked for at every cycle.
pub(crate) trait CardBus {
    /// Time, in ns.
    fn now_ns(&self) -> u64;
    /// Writes on their way to BAR2.
    fn window_writes(&mut self) -> &mut VecDeque<WindowWrite>;
    /// The card's read of `len` bytes was accepted.
    fn accept_read(&mut self, iova: u64, len: usize);
    /// What the oldest accepted read finds; none: it is not known yet.
    fn answer_read(&mut self, iova: u64, into: &mut [u8]) -> Option<Access>;
    /// A write of the card, of at most `BURST_BYTES_MAX` bytes; none: `answer_write` will tell how it ended.
    fn post_write(&mut self, iova: u64, from: &[u8]) -> Option<Access>;
    /// How the oldest write ended of those whose end was left open; none: it is not known yet.
    fn answer_write(&mut self) -> Option<Access>;
    /// Something happened that a record may keep.
    fn note(&mut self, agent: Agent, action: BusAction, iova: u64, len: usize);
}

impl CardBus for Bus {
    #[inline]
    fn now_ns(&self) -> u64 {
        Bus::now_ns(self)
    }

    #[inline]
    fn window_writes(&mut self) -> &mut VecDeque<WindowWrite> {
        &mut self.window_writes
    }

    #[inline]
    fn accept_read(&mut self, iova: u64, len: usize) {
        self.push_card_writes();
        Bus::note(self, Agent::Card, BusAction::Read, iova, len);
    }

    #[inline]
    fn answer_read(&mut self, iova: u64, into: &mut [u8]) -> Option<Access> {
        Some(self.read_pushed(iova, into))
    }

    #[inline]
    fn post_write(&mut self, iova: u64, from: &[u8]) -> Option<Access> {
        Some(self.write(Agent::Card, iova, from))
    }

    /// Never asked: no write's end is left open.
    fn answer_write(&mut self) -> Option<Access> {
        Some(Ok(()))
    }

    #[inline]
    fn note(&mut self, agent: Agent, action: BusAction, iova: u64, len: usize) {
        Bus::note(self, agent, action, iova, len);
    }
}
