//! Faults of simulated SSDs, as the command line names them.

use std::str::FromStr;

use volplane_abi::opcode;
use volplane_sim::{Commands, Fault, FaultKind, Moment};

/// Unrecovered Read Error.
const DEFAULT_STATUS: u16 = 0x281;
/// A status field has 15 bits.
const STATUS_MAX: u64 = 0x7FFF;

/// A fault and the device that has it: `DEVICE:FAULT[:OPTION=N,...]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFault {
    /// Name in the configuration.
    pub device: String,
    /// The fault.
    pub fault: Fault,
}

/// Why a text names no fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// Parts are missing.
    #[error("must be DEVICE:FAULT or DEVICE:FAULT:OPTION=N,...")]
    Shape,
    /// No such fault.
    #[error("there is no fault {0:?}; known are error, silent, dead")]
    Kind(String),
    /// No such option.
    #[error("there is no option {0:?}; known are status, skip, count, reads, writes")]
    Option(String),
    /// A number that is none, or is out of bounds.
    #[error("{option}: {value:?} is no number that it can be")]
    Number {
        /// Option.
        option: String,
        /// Its value.
        value: String,
    },
}

impl FromStr for NamedFault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let mut parts = text.splitn(3, ':');
        let (Some(device), Some(kind)) = (parts.next(), parts.next()) else { return Err(FaultError::Shape) };
        let (mut status, mut skip, mut most, mut opcodes) = (DEFAULT_STATUS, 0, u64::MAX, Vec::new());
        for option in parts.next().into_iter().flat_map(|options| options.split(',')) {
            let (name, value) = option.split_once('=').ok_or(FaultError::Shape)?;
            let wrong = || FaultError::Number { option: name.to_owned(), value: value.to_owned() };
            let number = number(value).ok_or_else(wrong)?;
            match name {
                "status" if (1..=STATUS_MAX).contains(&number) => status = number as u16,
                "skip" => skip = number,
                "count" => most = number,
                "reads" if number == 1 => opcodes.push(opcode::READ),
                "writes" if number == 1 => opcodes.push(opcode::WRITE),
                "status" | "reads" | "writes" => return Err(wrong()),
                _ => return Err(FaultError::Option(name.to_owned())),
            }
        }
        let kind = match kind {
            "error" => FaultKind::Error { status, after_effect: false },
            "silent" => FaultKind::Drop { after_effect: false },
            "dead" => FaultKind::DeadDevice(Moment::Command),
            _ => return Err(FaultError::Kind(kind.to_owned())),
        };
        let commands = Commands::all().with_opcodes(&opcodes).with_count(skip, most);
        Ok(Self { device: device.to_owned(), fault: Fault::new(kind).with_commands(commands) })
    }
}

/// A number, in decimal or with `0x`.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read() {
        let read = |text: &str| text.parse::<NamedFault>();
        let fault = read("ssd1:error:status=0x4280,skip=7,count=2,writes=1").expect("a fault");
        assert_eq!(fault.device, "ssd1");
        assert_eq!(fault.fault.kind, FaultKind::Error { status: 0x4280, after_effect: false });
        let commands = Commands::all().with_opcodes(&[opcode::WRITE]).with_count(7, 2);
        assert_eq!(fault.fault.commands, commands);
        let dead = read("a:dead").expect("a fault").fault;
        assert_eq!(dead.kind, FaultKind::DeadDevice(Moment::Command));
        assert_eq!(read("ssd1"), Err(FaultError::Shape));
        assert_eq!(read("ssd1:error:skip"), Err(FaultError::Shape));
        assert_eq!(read("ssd1:slow"), Err(FaultError::Kind("slow".into())));
        assert_eq!(read("a:dead:after=1"), Err(FaultError::Option("after".into())));
        for wrong in ["a:error:status=0x8000", "a:error:status=0", "a:dead:skip=x", "a:dead:reads=2"] {
            assert!(matches!(read(wrong), Err(FaultError::Number { .. })), "{wrong}");
        }
    }
}
