//! Processes beside the one that checks: they try one thing and print what they were told.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use volplane_driver::{Platform, VfioPlatform};

use crate::Outcome;

/// The user who may open VFIO's files here, and is not root.
const USER: u32 = 1000;
/// What a child's user may pin.
const LIMIT_KIB: u64 = 256;

/// What a child is asked to do.
pub fn run(arguments: &[String]) -> ExitCode {
    let [what, address] = arguments else { return ExitCode::from(2) };
    let told = match what.as_str() {
        "open" => open(address).map(|_| "it opened".to_owned()),
        "pin" => open(address).and_then(|(mut platform, _function)| {
            let first = platform.allocate(64 << 10).map_err(|error| error.to_string())?;
            let more = platform.allocate(1 << 20).err().ok_or("1 MiB was pinned")?;
            let interface = platform.interface().ok_or("no interface")?;
            Ok(format!("{interface}: {} bytes, then: {more}", first.len()))
        }),
        _ => return ExitCode::from(2),
    };
    println!("{}", told.unwrap_or_else(|error| error));
    ExitCode::SUCCESS
}

fn open(address: &str) -> Result<(VfioPlatform, volplane_driver::VfioFunction), String> {
    let mut platform = VfioPlatform::new().map_err(|error| error.to_string())?;
    let function = platform.open(address).map_err(|error| error.to_string())?;
    Ok((platform, function))
}

/// Starts this program again to open a function; what it prints.
pub fn opens(address: &str) -> Outcome {
    said(Command::new(std::env::current_exe()?).args(["child", "open", address]))
}

/// The same as another user, who may pin little memory.
pub fn pins(address: &str) -> Outcome {
    let program = std::env::current_exe()?;
    let limited = format!("ulimit -l {LIMIT_KIB}; exec {} child pin {address}", program.display());
    said(Command::new("/bin/sh").args(["-c", &limited]).uid(USER).gid(USER))
}

fn said(command: &mut Command) -> Outcome {
    let output = command.output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
