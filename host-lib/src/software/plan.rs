//! A plan in execution: its parts, their fragments, and who owns it.

use volplane_abi::plan::{plan_status, reason, status_class, StatusClass, COMPONENTS_MAX};
use volplane_abi::status::{CODE_AND_TYPE, DNR};
use volplane_abi::{opcode, SubmissionEntry};
use volplane_driver::PlanHandle;

use super::cut::{Admission, Cuts, Fragment};
use super::template::PlanTemplate;
use super::verdict::{End, Parts, Progress};

/// Whom a command came from, and how it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientTag {
    /// Queue; 0 is the control path.
    pub queue: u16,
    /// Identifier of its command.
    pub command: u16,
}

/// Who a plan belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The data path.
    Accelerated,
    /// The control path; a record of it was posted.
    Control,
    /// The control path, which only has to release it: the plan has ended.
    Ended(End),
}

/// Where a fragment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// To be issued.
    Waiting,
    /// Given to an SSD under this identifier.
    Issued(u64),
    /// Succeeded.
    Done,
    /// Failed for good.
    Failed(u16),
    /// Ended with a result that is the client's own doing.
    Refused(u16),
}

/// A fragment of a part.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The command.
    pub fragment: Fragment,
    /// Where it stands.
    pub stage: Stage,
    /// Times it was given again, further paths not counted.
    pub tries: u8,
    /// Bit i: it was given to path i of its device.
    pub paths_tried: u8,
    /// Path it was last given to.
    pub last_path: u8,
    /// It was not answered when it was last given: not in time, or not until its path was quiesced.
    pub given_up: bool,
}

/// What one component does for a plan.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// Fragments, in order of offset.
    pub pieces: Vec<Piece>,
    /// It was begun.
    pub begun: bool,
    /// Of a part that does not reach its end: the reason is the component's map.
    pub closing: u16,
    /// It ended on a faulting extent.
    pub faulted: bool,
}

/// What becomes of a piece that came back with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is issued again.
    Again,
    /// It has ended.
    Over,
}

impl Part {
    /// A part that was just begun.
    pub fn begin(cuts: Cuts) -> Self {
        let piece = |fragment| {
            let (stage, tries, paths_tried, last_path) = (Stage::Waiting, 0, 0, 0);
            Piece { fragment, stage, tries, paths_tried, last_path, given_up: false }
        };
        let pieces = cuts.fragments.into_iter().map(piece).collect();
        Self { pieces, begun: true, closing: cuts.closing, faulted: cuts.faulted }
    }

    fn has(&self, stage: impl Fn(&Stage) -> bool) -> bool {
        self.pieces.iter().any(|piece| stage(&piece.stage))
    }

    /// A fragment of it has ended without success: the rest is not issued.
    pub fn is_over(&self) -> bool {
        self.has(|stage| matches!(stage, Stage::Failed(_) | Stage::Refused(_)))
    }

    /// The next fragment to issue.
    pub fn next(&self) -> Option<usize> {
        if self.is_over() {
            return None;
        }
        self.pieces.iter().position(|piece| piece.stage == Stage::Waiting)
    }

    /// Whether everything issued has come back.
    pub fn is_drained(&self) -> bool {
        !self.has(|stage| matches!(stage, Stage::Issued(_)))
    }

    /// Whether it has failed with a fragment that was given up.
    pub fn is_given_up(&self) -> bool {
        let over = |piece: &&Piece| matches!(piece.stage, Stage::Failed(_) | Stage::Refused(_));
        self.pieces.iter().find(over).is_some_and(|piece| piece.given_up)
    }

    /// Blocks that were written or read, from the first one on, without a gap.
    pub fn blocks_done(&self) -> u64 {
        let done = self.pieces.iter().take_while(|piece| piece.stage == Stage::Done);
        done.map(|piece| piece.fragment.blocks).sum()
    }

    /// What has become of it. `stopped`: nothing more of the plan is issued.
    pub fn progress(&self, stopped: bool) -> Progress {
        if !self.begun {
            return Progress::Idle;
        }
        let ended = self.pieces.iter().find_map(|piece| match piece.stage {
            Stage::Failed(status) => Some(Progress::Failed(status)),
            Stage::Refused(status) => Some(Progress::Refused(status)),
            _ => None,
        });
        match ended {
            _ if !self.is_drained() => Progress::Running,
            Some(ended) => ended,
            None if self.next().is_some() => {
                if stopped {
                    Progress::Idle
                } else {
                    Progress::Running
                }
            }
            None if self.closing != 0 && !self.faulted => Progress::Failed(self.closing),
            None if self.faulted => Progress::Idle,
            None => Progress::Done,
        }
    }
}

/// A plan in execution.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its name now.
    pub handle: PlanHandle,
    /// Whom it answers.
    pub client: ClientTag,
    /// The virtual disk.
    pub disk: u16,
    /// The client's command.
    pub entry: SubmissionEntry,
    /// First block and blocks; 0 for Flush.
    pub range: (u64, u64),
    /// What it was admitted as.
    pub admission: Admission,
    /// Order of admission.
    pub order: u64,
    /// Epoch in which it was admitted.
    pub epoch: u64,
    /// The disk's template at that time,
    pub template: PlanTemplate,
    /// and its number.
    pub template_number: u16,
    /// Since the control path has it, others have written its blocks, or were about to.
    pub overtaken: bool,
    /// Parts by component.
    pub parts: [Part; COMPONENTS_MAX],
    /// Who it belongs to.
    pub owner: Owner,
    /// Reasons for which nothing more is issued.
    pub stop: u16,
    /// The client is answered with this status as soon as nothing is under way.
    pub aborted: Option<u16>,
    /// Fragments that were not answered in time and may still touch memory or media.
    pub unquiesced: usize,
    /// The disk was deactivated on its account.
    pub deactivated: bool,
    /// Writes to these blocks of this disk, admitted later, wait for it.
    pub locks: Option<(u16, (u64, u64))>,
    /// It waits for writes admitted earlier.
    pub blocked: bool,
    /// What follows when this has succeeded: the second half of a copy.
    pub then: Option<Box<Second>>,
}

/// The second half of a copy: a write of what was read.
#[derive(Clone, Debug)]
pub struct Second {
    /// Virtual disk.
    pub disk: u16,
    /// Command.
    pub entry: SubmissionEntry,
    /// What it was admitted as.
    pub admission: Admission,
    /// First block and blocks.
    pub range: (u64, u64),
}

impl Plan {
    /// Progress of all parts.
    pub fn progress(&self) -> Parts {
        let stopped = self.is_stopped();
        std::array::from_fn(|number| self.parts[number].progress(stopped))
    }

    /// Whether this is a write, of a copy that follows too, to blocks that a plan wrote.
    pub fn overlaps(&self, other: &Plan) -> bool {
        let ((lba, blocks), (first, count)) = (self.range, other.range);
        let writes = !matches!(self.entry.opcode(), opcode::READ | opcode::COMPARE);
        writes && self.disk == other.disk && lba < first + count && first < lba + blocks
    }

    /// Whether nothing more is issued.
    pub fn is_stopped(&self) -> bool {
        self.stop != 0 || self.aborted.is_some()
    }

    /// Whether nothing of it is under way, late fragments included.
    pub fn is_quiet(&self) -> bool {
        self.unquiesced == 0 && self.parts.iter().all(Part::is_drained)
    }

    /// What a record of it says besides the reasons for which there is one.
    pub fn noted(&self) -> u16 {
        if self.parts.iter().any(Part::is_given_up) {
            reason::TIME_OUT
        } else {
            0
        }
    }

    /// Ends or repeats a piece that came back. `path_bit` and `others`: the path it was on among its
    /// device's, and the usable ones of those, as bits.
    pub fn settle(&mut self, part: usize, piece: usize, status: u16, path_bit: u8, others: u8) -> Next {
        let (stopped, retries) = (self.is_stopped(), self.template.components[part].retries);
        let piece = &mut self.parts[part].pieces[piece];
        piece.paths_tried |= path_bit;
        let class = status_class(status);
        piece.stage = match class {
            StatusClass::Success => Stage::Done,
            StatusClass::Client => Stage::Refused(status & STATUS_KEPT),
            StatusClass::Final => Stage::Failed(status & STATUS_KEPT),
            StatusClass::Path | StatusClass::Retry if stopped => Stage::Failed(status & STATUS_KEPT),
            StatusClass::Path if others & !piece.paths_tried != 0 => Stage::Waiting,
            StatusClass::Path | StatusClass::Retry if piece.tries < retries => {
                piece.tries += 1;
                piece.paths_tried = if class == StatusClass::Path { path_bit } else { 0 };
                Stage::Waiting
            }
            StatusClass::Path | StatusClass::Retry => Stage::Failed(status & STATUS_KEPT),
        };
        if piece.stage == Stage::Waiting {
            Next::Again
        } else {
            Next::Over
        }
    }

    /// Fails a piece for which there is no path.
    pub fn strand(&mut self, part: usize, piece: usize) {
        let piece = &mut self.parts[part].pieces[piece];
        (piece.stage, piece.given_up) = (Stage::Failed(plan_status::HOST_PATH_ERROR), false);
    }
}

/// Code, type and Do Not Retry: More and the retry delay are an SSD's own affair.
pub const STATUS_KEPT: u16 = CODE_AND_TYPE | DNR;
