//! Writes the core's Verilog: `emit --width 128 [--sizes default|ecp5] --out FILE`.

use std::process::ExitCode;

use volplane_hw::Sizes;

fn main() -> ExitCode {
    let (mut width, mut sizes, mut out) = (128usize, Sizes::DEFAULT, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next();
        match (argument.as_str(), value.as_deref()) {
            ("--width", Some("128" | "256" | "512")) => {
                width = value.as_deref().map_or(128, |v| v.parse().unwrap_or(128))
            }
            ("--sizes", Some("default")) => sizes = Sizes::DEFAULT,
            ("--sizes", Some("ecp5")) => sizes = Sizes::ECP5,
            ("--out", Some(path)) => out = Some(path.to_string()),
            _ => {
                eprintln!("emit --width 128|256|512 [--sizes default|ecp5] --out FILE");
                return ExitCode::from(2);
            }
        }
    }
    let Some(out) = out else {
        eprintln!("emit: --out is missing");
        return ExitCode::from(2);
    };
    let path = std::path::Path::new(&out);
    let written = path
        .parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| std::fs::write(path, volplane_hw::emit_sized(width, &sizes)));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("emit: {out}: {error}");
            ExitCode::FAILURE
        }
    }
}
