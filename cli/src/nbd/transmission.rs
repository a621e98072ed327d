//! Judges requests of the transmission phase. Pure: a request in, what to do with it out.

use volplane::Operation;

use super::export::Export;
use super::handshake::Session;
use super::protocol::{command, command_flag, Errno, Request};

/// Why a request is answered with an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The protocol's error.
    pub errno: Errno,
    /// For the user, where the client shows it.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(errno: Errno, message: impl Into<String>) -> Self {
        Refusal { errno, message: message.into() }
    }
}

/// What a request asks of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Read into buffers.
    Read,
    /// Write from buffers.
    Write {
        /// To stable media.
        force_unit_access: bool,
    },
    /// One operation without data.
    Plain {
        /// The operation.
        operation: Operation,
        /// A flush follows it: the operation itself cannot force its unit to stable media.
        flush_after: bool,
    },
}

/// The judgement on a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to the service.
    Execute(Work),
    /// There is nothing to do; it succeeds.
    Nothing,
    /// Its range is allocated, as far as this server knows.
    Allocated,
    /// It is answered with an error.
    Refuse(Refusal),
    /// The client leaves.
    Disconnect,
}

/// Judges a request.
pub fn judge(request: &Request, export: &Export, session: &Session, draining: bool) -> Verdict {
    if request.command == command::DISC {
        return Verdict::Disconnect;
    }
    if draining {
        return Verdict::Refuse(Refusal::new(Errno::Shutdown, "the server is shutting down"));
    }
    match judge_command(request, export, session) {
        Ok(verdict) => verdict,
        Err(refusal) => Verdict::Refuse(refusal),
    }
}

fn judge_command(request: &Request, export: &Export, session: &Session) -> Result<Verdict, Refusal> {
    let invalid = |message: &str| Refusal::new(Errno::Invalid, message);
    let flags = match request.command {
        command::READ if session.structured => command_flag::DF,
        command::READ | command::WRITE | command::FLUSH | command::TRIM => 0,
        command::WRITE_ZEROES => command_flag::NO_HOLE,
        command::BLOCK_STATUS if session.allocation_context => command_flag::REQ_ONE,
        command::BLOCK_STATUS => return Err(invalid("no metadata context was negotiated")),
        other => return Err(Refusal::new(Errno::Invalid, format!("unknown command {other}"))),
    };
    // FUA is valid on every command; clients are known to set it where nothing is written.
    if request.flags & !(flags | command_flag::FUA) != 0 {
        return Err(invalid("a flag that this command does not have"));
    }
    if request.command == command::FLUSH {
        if request.offset != 0 || request.length != 0 {
            return Err(invalid("a flush has no offset and no length"));
        }
        return Ok(Verdict::Execute(Work::Plain { operation: Operation::Flush, flush_after: false }));
    }
    check_range(request, export)?;
    if request.length == 0 {
        return if request.command == command::BLOCK_STATUS {
            Err(invalid("block status of nothing"))
        } else {
            Ok(Verdict::Nothing)
        };
    }
    let force_unit_access = request.flags & command_flag::FUA != 0;
    let block = u64::from(export.disk.block_size);
    let (lba, blocks) = (request.offset / block, u64::from(request.length) / block);
    Ok(match request.command {
        command::READ => Verdict::Execute(Work::Read),
        command::WRITE => Verdict::Execute(Work::Write { force_unit_access }),
        // NVMe's deallocate has no FUA.
        command::TRIM => Verdict::Execute(Work::Plain {
            operation: Operation::Deallocate { lba, blocks },
            flush_after: force_unit_access,
        }),
        command::WRITE_ZEROES => {
            let deallocate = request.flags & command_flag::NO_HOLE == 0;
            let operation = Operation::WriteZeroes { lba, blocks, deallocate, force_unit_access };
            Verdict::Execute(Work::Plain { operation, flush_after: false })
        }
        _ => Verdict::Allocated,
    })
}

fn check_range(request: &Request, export: &Export) -> Result<(), Refusal> {
    let sizes = export.block_sizes();
    let length = u64::from(request.length);
    let moves_data = matches!(request.command, command::READ | command::WRITE);
    if moves_data && request.length > sizes.maximum {
        let message = format!("{length} bytes are more than the {} of a request", sizes.maximum);
        return Err(Refusal::new(Errno::Invalid, message));
    }
    if request.offset.checked_add(length).is_none_or(|end| end > export.disk.bytes()) {
        let errno = match request.command {
            command::WRITE | command::WRITE_ZEROES => Errno::NoSpace,
            _ => Errno::Invalid,
        };
        let message = format!("beyond the end of the disk at {} bytes", export.disk.bytes());
        return Err(Refusal::new(errno, message));
    }
    let minimum = u64::from(sizes.minimum);
    if !request.offset.is_multiple_of(minimum) || !length.is_multiple_of(minimum) {
        return Err(Refusal::new(Errno::Invalid, format!("not aligned to blocks of {minimum} bytes")));
    }
    Ok(())
}

/// The protocol's error for the NVMe status of a failed operation.
pub fn errno_of_status(command: u16, status: u16) -> Errno {
    const CAPACITY_EXCEEDED: u16 = 0x081;
    const NAMESPACE_WRITE_PROTECTED: u16 = 0x020;
    const READ_ONLY_RANGE: u16 = 0x182;
    use volplane_abi::status;
    match status & 0x7FF {
        status::LBA_OUT_OF_RANGE if matches!(command, command::WRITE | command::WRITE_ZEROES) => {
            Errno::NoSpace
        }
        status::LBA_OUT_OF_RANGE | status::INVALID_FIELD | status::INVALID_OPCODE => Errno::Invalid,
        CAPACITY_EXCEEDED => Errno::NoSpace,
        NAMESPACE_WRITE_PROTECTED | READ_ONLY_RANGE => Errno::Permission,
        _ => Errno::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::super::export::tests::export;
    use super::*;

    const SESSION: Session = Session { export: 0, structured: true, allocation_context: true };

    fn request(command: u16, flags: u16, offset: u64, length: u32) -> Request {
        Request { flags, command, cookie: 7, offset, length }
    }

    fn verdict(request: &Request) -> Verdict {
        judge(request, &export("d", 512, 1 << 20, 65536), &SESSION, false)
    }

    fn errno(request: &Request) -> Option<Errno> {
        match verdict(request) {
            Verdict::Refuse(refusal) => Some(refusal.errno),
            _ => None,
        }
    }

    #[test]
    fn ranges_are_judged_at_their_borders() {
        const END: u64 = 512 << 20;
        use command::*;
        for (command, beyond) in [
            (READ, Errno::Invalid),
            (WRITE, Errno::NoSpace),
            (TRIM, Errno::Invalid),
            (WRITE_ZEROES, Errno::NoSpace),
            (BLOCK_STATUS, Errno::Invalid),
        ] {
            assert_eq!(errno(&request(command, 0, END - 512, 512)), None, "{command}");
            assert_eq!(errno(&request(command, 0, END - 512, 1024)), Some(beyond), "{command}");
            assert_eq!(errno(&request(command, 0, END, 512)), Some(beyond), "{command}");
            assert_eq!(errno(&request(command, 0, u64::MAX - 511, 512)), Some(beyond), "{command}");
            assert_eq!(errno(&request(command, 0, 1, 512)), Some(Errno::Invalid), "{command}");
            assert_eq!(errno(&request(command, 0, 0, 513)), Some(Errno::Invalid), "{command}");
        }
        assert_eq!(errno(&request(READ, 0, 0, 32 << 20)), None);
        assert_eq!(errno(&request(READ, 0, 0, (32 << 20) + 512)), Some(Errno::Invalid));
        assert_eq!(errno(&request(WRITE, 0, 0, (32 << 20) + 512)), Some(Errno::Invalid));
        assert_eq!(errno(&request(TRIM, 0, 0, 512 << 20)), None, "no payload, no such limit");
    }

    #[test]
    fn flags_belong_to_their_commands() {
        use command::*;
        for (command, flags, good) in [
            (READ, 1, true),
            (READ, 4, true),
            (READ, 2, false),
            (WRITE, 1, true),
            (WRITE, 4, false),
            (WRITE_ZEROES, 3, true),
            (WRITE_ZEROES, 16, false),
            (TRIM, 2, false),
            (BLOCK_STATUS, 8, true),
            (5, 0, false),
            (8, 0, false),
            (0xFFFF, 0, false),
        ] {
            assert_eq!(
                errno(&request(command, flags, 0, 512)),
                (!good).then_some(Errno::Invalid),
                "{command} {flags}"
            );
        }
        let simple = Session { export: 0, structured: false, allocation_context: false };
        let disk = export("d", 512, 8, 512);
        for command in [(READ, 4), (BLOCK_STATUS, 0)] {
            let verdict = judge(&request(command.0, command.1, 0, 512), &disk, &simple, false);
            assert!(matches!(verdict, Verdict::Refuse(_)), "not negotiated");
        }
    }

    #[test]
    fn work_carries_what_was_asked() {
        use command::*;
        let work = |operation, flush_after| Verdict::Execute(Work::Plain { operation, flush_after });
        assert_eq!(verdict(&request(FLUSH, 0, 0, 0)), work(Operation::Flush, false));
        assert_eq!(errno(&request(FLUSH, 0, 0, 512)), Some(Errno::Invalid));
        assert_eq!(
            verdict(&request(TRIM, 1, 1024, 512)),
            work(Operation::Deallocate { lba: 2, blocks: 1 }, true)
        );
        assert_eq!(
            verdict(&request(WRITE_ZEROES, 2, 0, 4096)),
            work(
                Operation::WriteZeroes { lba: 0, blocks: 8, deallocate: false, force_unit_access: false },
                false
            )
        );
        assert_eq!(verdict(&request(WRITE, 0, 0, 0)), Verdict::Nothing);
        assert_eq!(errno(&request(BLOCK_STATUS, 0, 0, 0)), Some(Errno::Invalid));
        assert_eq!(verdict(&request(DISC, 0, 0, 0)), Verdict::Disconnect);
        let disk = export("d", 512, 8, 512);
        let drained = judge(&request(READ, 0, 0, 512), &disk, &SESSION, true);
        assert!(matches!(drained, Verdict::Refuse(Refusal { errno: Errno::Shutdown, .. })));
    }

    #[test]
    fn statuses_become_errors() {
        use command::*;
        for (command, status, errno) in [
            (WRITE, 0x4080, Errno::NoSpace),
            (READ, 0x080, Errno::Invalid),
            (READ, 0x281, Errno::Io),
            (WRITE, 0x081, Errno::NoSpace),
            (WRITE, 0x182, Errno::Permission),
            (READ, 0x082, Errno::Io),
            (READ, 0x006, Errno::Io),
        ] {
            assert_eq!(errno_of_status(command, status), errno, "{command} {status:#x}");
        }
    }
}
