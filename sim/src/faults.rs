//! Faults of SSDs: decorators around `CommandFilter`, started and stopped while the simulation runs.
//!
//! *Survivable*, so that the system has to keep every byte and complete every command once, and a test
//! may turn them on at will: any error status, before or after the effect; any delay; completions that
//! overtake one another; a completion that never comes; a command that takes effect long after its
//! sender gave up (*zombie*), as long as its queue is deleted, or its controller reset, before what it
//! touches is used again; the death of a path, if the device has another; the death of a device, if
//! another in-sync mirror is left. *Not survivable*: the death of every copy; and a status of success
//! for what was not done, which is therefore no fault here.
//!
//! A fault is a plain value (`Fault`): what happens (`FaultKind`), to which commands (`Commands`), and
//! when. Faults of one SSD wrap each other in the order in which they were started, around the filter
//! of `SimHandle::set_filter`. Every fault draws from a generator of its own, forked from the seed by
//! the SSD's name and the fault's number there, and counts how often it struck. Commands that fail the
//! checks of their entry, and admin commands, are struck by no fault but the death of a controller.
//!
//! A command that is late keeps one of its controller's `parallelism` places until its time is over, as
//! in a real SSD: many zombies starve a controller that has few.

mod decorator;
mod set;

use std::ops::Range;

pub(crate) use set::FaultSet;

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The command completes with an error.
    Error {
        /// Status field: code in 7:0, type in 10:8, retry delay in 12:11, More in 13, DNR in 14.
        status: u16,
        /// Whether data moved and blocks changed all the same.
        after_effect: bool,
    },
    /// The command takes longer, by a drawn time.
    Delay {
        /// Least, in ns.
        shortest_ns: u64,
        /// Most, in ns.
        longest_ns: u64,
    },
    /// No completion ever comes; its identifier stays in use.
    Drop {
        /// Whether the command took effect.
        after_effect: bool,
    },
    /// Commands take up to `window_ns` longer, so that later ones overtake earlier ones; it strikes
    /// when one overtakes.
    Reorder {
        /// Most that is added, in ns.
        window_ns: u64,
    },
    /// The command takes effect and completes a drawn, long time after it was due, so after its sender
    /// gave up; unless its queue was deleted or its controller reset in between.
    Zombie {
        /// Least, in ns.
        shortest_ns: u64,
        /// Most, in ns.
        longest_ns: u64,
    },
    /// Commands are served one after another, each for at least a time.
    Slow {
        /// The time, in ns.
        service_ns: u64,
    },
    /// The controller is gone, as if pulled out: it fetches and posts nothing, its registers read all
    /// ones. Of each command in execution it is drawn whether it took effect before. When the fault
    /// stops, the controller is there again, as at power-on; doorbells rung before it is enabled are
    /// complained of.
    DeadPath(Moment),
    /// All controllers of the namespace are gone. The blocks stay for when the fault stops.
    DeadDevice(Moment),
}

/// When a controller dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// When the fault begins.
    Beginning,
    /// When the fault's commands first select one; that command is in execution then.
    Command,
}

/// Which commands a fault strikes: those that meet every condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commands {
    /// Opcodes; empty: any.
    pub opcodes: Vec<u8>,
    /// Blocks, of which the command touches one; a flush touches none.
    pub blocks: Option<Range<u64>>,
    /// Submission queue.
    pub queue: Option<u16>,
    /// So many that meet the conditions above are let pass first.
    pub skip: u64,
    /// Most that are struck.
    pub most: Option<u64>,
    /// Of 4,096 that are left, how many are drawn.
    pub of_4096: u32,
}

impl Commands {
    /// All I/O commands.
    pub fn all() -> Self {
        Self { opcodes: Vec::new(), blocks: None, queue: None, skip: 0, most: None, of_4096: 4096 }
    }

    /// Only these opcodes.
    #[must_use]
    pub fn with_opcodes(mut self, opcodes: &[u8]) -> Self {
        self.opcodes = opcodes.to_vec();
        self
    }

    /// Only those that touch one of these blocks.
    #[must_use]
    pub fn with_blocks(mut self, blocks: Range<u64>) -> Self {
        self.blocks = Some(blocks);
        self
    }

    /// Only those of one submission queue.
    #[must_use]
    pub fn with_queue(mut self, queue: u16) -> Self {
        self.queue = Some(queue);
        self
    }

    /// After `skip` of them, at most `most`: `(n, 1)` is the n-th, counted from 0.
    #[must_use]
    pub fn with_count(mut self, skip: u64, most: u64) -> Self {
        (self.skip, self.most) = (skip, Some(most));
        self
    }

    /// Of 4,096 of them, so many, drawn.
    #[must_use]
    pub fn with_chance(mut self, of_4096: u32) -> Self {
        self.of_4096 = of_4096;
        self
    }
}

/// A fault of one SSD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What happens.
    pub kind: FaultKind,
    /// To which commands; without meaning for a death at the beginning.
    pub commands: Commands,
    /// When it begins, in simulated ns after it was started.
    pub from_ns: u64,
    /// When it is over, in simulated ns after it was started; `None`: when it is stopped.
    pub until_ns: Option<u64>,
}

impl Fault {
    /// A fault of all commands, from when it is started until it is stopped.
    pub fn new(kind: FaultKind) -> Self {
        Self { kind, commands: Commands::all(), from_ns: 0, until_ns: None }
    }

    /// Strikes only some commands.
    #[must_use]
    pub fn with_commands(mut self, commands: Commands) -> Self {
        self.commands = commands;
        self
    }

    /// Sets when it begins and is over, in simulated ns after it was started.
    #[must_use]
    pub fn with_time_ns(mut self, from: u64, until: Option<u64>) -> Self {
        (self.from_ns, self.until_ns) = (from, until);
        self
    }

    /// The moment of a death.
    pub(crate) fn death(&self) -> Option<Moment> {
        match self.kind {
            FaultKind::DeadPath(moment) | FaultKind::DeadDevice(moment) => Some(moment),
            _ => None,
        }
    }
}

/// Names a fault that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FaultId {
    /// Number of the SSD.
    pub(crate) ssd: usize,
    /// Number among the faults started of it.
    pub(crate) number: u64,
}

/// A fault that was started, for a failing run to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultReport {
    /// Its name.
    pub id: FaultId,
    /// The SSD.
    pub ssd: String,
    /// The fault.
    pub fault: Fault,
    /// When it was started, in simulated ns.
    pub started_ns: u64,
    /// When it was stopped, in simulated ns.
    pub stopped_ns: Option<u64>,
    /// How often it struck: commands, or 1 for a death.
    pub strikes: u64,
}
