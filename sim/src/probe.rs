//! What tests see of the machine: the commands SSDs received, and what went over the bus.

use std::collections::VecDeque;

use volplane_abi::{opcode, SubmissionEntry};

use crate::host_memory::Agent;

/// A run of host memory that a PRP names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Bus address.
    pub iova: u64,
    /// Bytes, at most a page.
    pub len: u32,
}

/// A command that an SSD fetched from an I/O queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandRecord {
    /// Number among the SSD's recorded commands, from 0.
    pub order: u64,
    /// When it was fetched, in simulated ns.
    pub at_ns: u64,
    /// Submission queue.
    pub queue: u16,
    /// The entry as fetched: opcode, NSID, SLBA, NLB, flags, CDW13.
    pub entry: SubmissionEntry,
    /// Its data, PRPs resolved; empty when it has none or its PRPs are wrong.
    pub segments: Vec<Segment>,
    /// Dataset Management: first block and count of each range.
    pub ranges: Vec<(u64, u32)>,
    /// Status that the checks of the entry gave; 0: it will be executed.
    pub status: u16,
}

impl CommandRecord {
    /// The runs of blocks it touches: first block and count.
    pub fn blocks(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let own = match self.entry.opcode() {
            opcode::FLUSH | opcode::DATASET_MANAGEMENT => None,
            _ => Some((self.entry.starting_lba(), u64::from(self.entry.block_count_z()) + 1)),
        };
        own.into_iter().chain(self.ranges.iter().map(|&(first, count)| (first, u64::from(count))))
    }
}

/// The end of a command that an SSD fetched from an I/O queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndRecord {
    /// Number of its `CommandRecord`.
    pub order: u64,
    /// When, in simulated ns.
    pub at_ns: u64,
    /// Whether its data moved, and blocks changed, without an error.
    pub effect: bool,
    /// Status field that it completes with.
    pub status: u16,
    /// Whether a completion is posted, at once or when its queue has room.
    pub completion: bool,
    /// A further record of one that had no room: its queue is gone, and it is never posted.
    pub withdrawn: bool,
    /// Records before this one of all controllers of its namespace: they tell in which order blocks changed.
    pub turn: u64,
}

/// What went over the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusAction {
    /// The card asked for host memory: the address was accepted.
    Read,
    /// The last beat of what the card asked for was accepted.
    ReadDone,
    /// A write to host memory.
    Write,
    /// A write to an SSD's doorbell.
    Doorbell,
    /// A message to the interrupt window.
    Interrupt,
    /// A write to the card's completion windows: by the SSD when it was posted.
    Posted,
    /// A write to the card's completion windows was accepted by the card.
    Window,
}

/// A transaction on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusRecord {
    /// When, in simulated ns; 4 ns are a cycle of the card.
    pub at_ns: u64,
    /// By whom.
    pub agent: Agent,
    /// What.
    pub action: BusAction,
    /// Bus address; for `Window` the offset in BAR2.
    pub iova: u64,
    /// Bytes.
    pub len: usize,
}

/// How a part of a plan ended that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartEnd {
    /// Status field of its failed fragment with the lowest number, else that it was closed with.
    pub status: u16,
    /// Path of that fragment.
    pub path: u8,
    /// Number of that fragment; of a part that was closed: of those that were issued.
    pub ordinal: u32,
    /// The status is the card's own, no SSD gave it.
    pub closed: bool,
    /// That fragment was not answered until its path was quiesced.
    pub given_up: bool,
}

/// Something that happened to a plan inside the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanEvent {
    /// A command got a slot. Its disk was looked up the cycle before.
    Admitted {
        /// Plan slot.
        slot: u16,
        /// Client's queue.
        queue: u16,
        /// Command identifier.
        command_id: u16,
    },
    /// It became a plan of the disk's template.
    Begun {
        /// Plan slot.
        slot: u16,
        /// Disk.
        disk: u16,
        /// Template.
        plan: u16,
        /// The masks that apply (`PlanMasks`).
        masks: u64,
        /// Components that are there.
        present: u8,
        /// Components in sync.
        readable: u8,
        /// Components that are begun.
        begun: u8,
        /// Copies that a write needs.
        minimum: u8,
        /// Components that keep the result that they had before.
        kept: u8,
        /// Whether it reads.
        is_read: bool,
    },
    /// It goes through admission once more.
    Again {
        /// Plan slot.
        slot: u16,
        /// The component to begin.
        component: u8,
        /// As if it had just come.
        fresh: bool,
    },
    /// It looks at its disk's states, and changes them if one of the two says so.
    Change {
        /// Plan slot.
        slot: u16,
        /// Disk.
        disk: u16,
        /// Components that are moved out.
        out: u8,
        /// Whether the disk is deactivated.
        deactivate: bool,
    },
    /// What stood there before the `Change` that came last.
    Changed {
        /// Two bits for each component.
        states: u16,
        /// Components whose being out is durable.
        durably_out: u8,
        /// Whether the disk is deactivated.
        deactivated: bool,
    },
    /// A fragment of it got an identifier; its entry is written next.
    Issued {
        /// Plan slot.
        slot: u16,
        /// Component.
        component: u8,
        /// Number of the fragment in its part.
        ordinal: u32,
        /// Path.
        path: u8,
        /// Identifier.
        id: u16,
    },
    /// One of its parts is begun, for the first time.
    PartBegun {
        /// Plan slot.
        slot: u16,
        /// Component.
        component: u8,
        /// How often it may be tried again.
        retries: u8,
    },
    /// A fragment of it has come back.
    Returned {
        /// Plan slot.
        slot: u16,
        /// Component.
        component: u8,
        /// Number of the fragment in its part.
        ordinal: u32,
        /// Path.
        path: u8,
        /// Identifier.
        id: u16,
        /// Status field.
        status: u16,
        /// The card ended it, no completion came.
        own: bool,
    },
    /// One of its parts has come back, and has failed.
    PartFailed {
        /// Plan slot.
        slot: u16,
        /// Component.
        component: u8,
        /// With what.
        end: PartEnd,
    },
    /// A part that failed begins again.
    PartAgain {
        /// Plan slot.
        slot: u16,
        /// Component.
        component: u8,
    },
    /// A part that failed does not begin again.
    PartEnded {
        /// Plan slot.
        slot: u16,
        /// Component.
        component: u8,
        /// What is told of it.
        end: PartEnd,
    },
    /// One of its parts has come back, and has not failed.
    PartOver {
        /// Plan slot.
        slot: u16,
        /// Component.
        component: u8,
    },
    /// Its client is told.
    Done {
        /// Plan slot.
        slot: u16,
        /// Status field.
        status: u16,
    },
}

/// An event with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanRecord {
    /// Cycle, of those that were evaluated.
    pub cycle: u64,
    /// Simulated time.
    pub at_ns: u64,
    /// What happened.
    pub event: PlanEvent,
}

/// Keeps the first records until they are taken.
pub(crate) struct Recorder<T> {
    kept: VecDeque<T>,
    capacity: usize,
    missed: u64,
}

impl<T> Recorder<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { kept: VecDeque::with_capacity(capacity.min(4096)), capacity, missed: 0 }
    }

    /// Whether records are wanted at all.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.capacity > 0
    }

    #[inline]
    pub(crate) fn push(&mut self, record: T) {
        if self.kept.len() < self.capacity {
            self.kept.push_back(record);
        } else if self.is_on() {
            self.missed += 1;
        }
    }

    /// The records since they were last taken, and how many found no room.
    pub(crate) fn take(&mut self) -> (Vec<T>, u64) {
        (self.kept.drain(..).collect(), std::mem::take(&mut self.missed))
    }
}
