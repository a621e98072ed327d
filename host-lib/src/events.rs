//! What a service has to tell whoever runs it: failures that clients did not see, and what came of them.

use std::collections::VecDeque;
use std::fmt;

use volplane_abi::plan::plan_status;
use volplane_abi::status::{self, CODE_AND_TYPE};

/// Most events that wait to be taken.
const EVENTS_MAX: usize = 64;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A copy of a disk failed a command, retries and paths used up.
    CopyFailed {
        /// Disk.
        disk: String,
        /// Copy.
        copy: usize,
        /// Device of the failed part, if it has one.
        device: Option<String>,
        /// NVMe status field.
        status: u16,
    },
    /// A copy missed a write and is neither read nor written any more.
    CopyOut {
        /// Disk.
        disk: String,
        /// Copy.
        copy: usize,
    },
    /// A copy is out since an earlier run.
    CopyStillOut {
        /// Disk.
        disk: String,
        /// Copy.
        copy: usize,
    },
    /// That a copy is out could not be made durable: writes that miss it fail.
    NotDurable {
        /// Disk.
        disk: String,
        /// Why.
        reason: String,
    },
    /// A failure has deactivated a disk.
    Deactivated {
        /// Disk.
        disk: String,
    },
    /// A command became the control path's, which ended it.
    Exception {
        /// Disk.
        disk: String,
        /// Why, by name.
        reasons: String,
        /// NVMe status field it ended with.
        status: u16,
    },
    /// A device did not answer in time, or wrote what it cannot mean: its queues were made anew.
    Renewed {
        /// Device.
        device: String,
    },
    /// A device is gone from its bus.
    Gone {
        /// Device.
        device: String,
    },
    /// A device could not be made quiet, and what it was given stays open.
    Stuck {
        /// Device.
        device: String,
        /// Why.
        reason: String,
    },
    /// Events that nobody took in time.
    Dropped,
}

/// Something that happened, once or several times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// How often.
    pub times: u64,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            EventKind::CopyFailed { disk, copy, device, status } => {
                write!(f, "{disk}: copy {copy} failed")?;
                if let Some(device) = device {
                    write!(f, " on {device}")?;
                }
                write!(f, ": {}", StatusName(*status))?;
            }
            EventKind::CopyOut { disk, copy } => write!(f, "{disk}: copy {copy} missed a write and is out")?,
            EventKind::CopyStillOut { disk, copy } => {
                write!(f, "{disk}: copy {copy} is out since an earlier run")?;
            }
            EventKind::NotDurable { disk, reason } => {
                write!(f, "{disk}: a copy is out, and that could not be kept: {reason}")?;
            }
            EventKind::Deactivated { disk } => write!(f, "{disk}: deactivated by a failure")?,
            EventKind::Exception { disk, reasons, status } => {
                write!(f, "{disk}: a command ended as an exception ({reasons}): {}", StatusName(*status))?;
            }
            EventKind::Renewed { device } => write!(f, "{device}: no answer in time, queues made anew")?,
            EventKind::Gone { device } => write!(f, "{device}: gone")?,
            EventKind::Stuck { device, reason } => write!(f, "{device}: cannot be made quiet: {reason}")?,
            EventKind::Dropped => return write!(f, "{} events more were not kept", self.times),
        }
        if self.times > 1 {
            write!(f, " ({} times)", self.times)?;
        }
        Ok(())
    }
}

/// Events that wait to be taken: those that are the same are counted, and their number is bounded.
#[derive(Debug, Default)]
pub(crate) struct EventLog {
    events: VecDeque<Event>,
    dropped: u64,
}

impl EventLog {
    pub(crate) fn note(&mut self, kind: EventKind) {
        if let Some(known) = self.events.iter_mut().find(|event| event.kind == kind) {
            known.times += 1;
        } else if self.events.len() < EVENTS_MAX {
            self.events.push_back(Event { kind, times: 1 });
        } else {
            self.dropped += 1;
        }
    }

    /// All of them, oldest first.
    pub(crate) fn take(&mut self) -> Vec<Event> {
        let mut events: Vec<Event> = self.events.drain(..).collect();
        let times = std::mem::take(&mut self.dropped);
        events.extend((times > 0).then_some(Event { kind: EventKind::Dropped, times }));
        events
    }
}

/// A status field for people: its name in the NVMe specifications, and its type and code.
pub(crate) struct StatusName(pub(crate) u16);

impl fmt::Display for StatusName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.0 & CODE_AND_TYPE;
        let name = match value {
            status::SUCCESS => "Successful Completion",
            status::INVALID_OPCODE => "Invalid Command Opcode",
            status::INVALID_FIELD => "Invalid Field in Command",
            status::DATA_TRANSFER_ERROR => "Data Transfer Error",
            0x005 => "Commands Aborted due to Power Loss Notification",
            status::INTERNAL_ERROR => "Internal Error",
            plan_status::ABORT_REQUESTED => "Command Abort Requested",
            plan_status::ABORTED_SQ_DELETION => "Command Aborted due to SQ Deletion",
            status::INVALID_NAMESPACE => "Invalid Namespace or Format",
            status::INVALID_PRP_OFFSET => "PRP Offset Invalid",
            0x020 => "Namespace is Write Protected",
            status::LBA_OUT_OF_RANGE => "LBA Out of Range",
            0x081 => "Capacity Exceeded",
            status::NAMESPACE_NOT_READY => "Namespace Not Ready",
            0x083 => "Reservation Conflict",
            0x280 => "Write Fault",
            0x281 => "Unrecovered Read Error",
            0x282 => "End-to-end Guard Check Error",
            plan_status::COMPARE_FAILURE => "Compare Failure",
            0x286 => "Access Denied",
            0x287 => "Deallocated or Unwritten Logical Block",
            0x300 => "Internal Path Error",
            0x301 => "Asymmetric Access Persistent Loss",
            0x302 => "Asymmetric Access Inaccessible",
            0x303 => "Asymmetric Access Transition",
            0x360 => "Controller Pathing Error",
            plan_status::HOST_PATH_ERROR => "Host Pathing Error",
            plan_status::ABORTED_BY_HOST => "Command Aborted By Host",
            _ => "NVMe status",
        };
        write!(f, "{name} ({value:03X}h)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(copy: usize, status: u16) -> EventKind {
        EventKind::CopyFailed { disk: "d".into(), copy, device: Some("ssd1".into()), status }
    }

    #[test]
    fn the_same_is_counted_and_the_rest_is_bounded() {
        let mut log = EventLog::default();
        for _ in 0..3 {
            log.note(failed(1, 0x4281));
        }
        log.note(failed(2, 0x1C5));
        let told: Vec<String> = log.take().iter().map(Event::to_string).collect();
        let expected = [
            "d: copy 1 failed on ssd1: Unrecovered Read Error (281h) (3 times)",
            "d: copy 2 failed on ssd1: NVMe status (1C5h)",
        ];
        assert_eq!(told, expected);
        (0..EVENTS_MAX + 5).for_each(|copy| log.note(failed(copy, 6)));
        let events = log.take();
        assert_eq!(events.len(), EVENTS_MAX + 1);
        assert_eq!(events[EVENTS_MAX].to_string(), "5 events more were not kept");
        assert!(log.take().is_empty());
    }
}
