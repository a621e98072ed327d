//! Verilates the card at every width and compiles it with its shim.
//!
//! A width is built again only when its Verilog, the shim or Verilator changed: what it was built
//! from stands beside the archive in a stamp.
//!
//! `make mutants` has a card of its own built, with mutants behind a selector (`hw/mutants/weave.py`), under
//! a Cargo profile of its own: whatever else is built is neither changed by that nor built again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "src/card/port_list.rs"]
mod port_list;
use port_list::{Width, PORTS};

/// Data widths of the card.
const WIDTHS: [usize; 3] = [128, 256, 512];

/// Names the widths to build, with commas, where time matters; all of them without it.
const WIDTHS_VARIABLE: &str = "VOLPLANE_CARD_WIDTHS";

/// Names a file that takes the place of what the RTL emits: a card of `MUTANTS_WIDTH` bits whose top has one
/// more input, `mutsel`.
const MUTANTS_VARIABLE: &str = "VOLPLANE_CARD_MUTANTS";

/// Data width of the card with mutants.
const MUTANTS_WIDTH: usize = 128;

fn main() {
    for file in ["build.rs", "shim.cpp", "src/card/port_list.rs"] {
        println!("cargo:rerun-if-changed={file}");
    }
    let root = verilator::find_verilator_root().unwrap_or_else(|| {
        fail(
            "Verilator was not found: the simulator runs the card's Verilog through it.\n\
             Install it (Debian: apt-get install verilator), or set VERILATOR_ROOT.",
        )
    });
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    println!("cargo:rerun-if-env-changed={WIDTHS_VARIABLE}");
    println!("cargo:rerun-if-env-changed={MUTANTS_VARIABLE}");
    let mutants = std::env::var_os(MUTANTS_VARIABLE).map(PathBuf::from);
    let wanted = match &mutants {
        Some(_) => Some(MUTANTS_WIDTH.to_string()),
        None => std::env::var(WIDTHS_VARIABLE).ok(),
    };
    let is_wanted = |width: &usize| {
        let name = width.to_string();
        wanted.as_ref().is_none_or(|list| list.split(',').any(|item| item.trim() == name))
    };
    for width in WIDTHS {
        println!("cargo:rustc-check-cfg=cfg(card_{width})");
    }
    // Side by side: of each, what the RTL emits, Verilator and the last file to compile take one core alone.
    std::thread::scope(|scope| {
        for width in WIDTHS.into_iter().filter(is_wanted) {
            let directory = out.join(format!("card{width}"));
            println!("cargo:rustc-cfg=card_{width}");
            println!("cargo:rustc-link-search=native={}", directory.display());
            println!("cargo:rustc-link-lib=static={}", library(width));
            let (mutants, root) = (mutants.as_deref(), root.as_path());
            scope.spawn(move || build(width, mutants, root, &directory));
        }
    });
    build_threads(&root, &out.join("threads"));
    println!("cargo:rustc-link-lib=dylib=stdc++");
}

fn fail(message: &str) -> ! {
    eprintln!("\n{message}\n");
    std::process::exit(1)
}

/// The Verilog of a card with mutants.
fn read_mutants(path: &Path) -> String {
    println!("cargo:rerun-if-changed={}", path.display());
    let read = fs::read_to_string(path);
    read.unwrap_or_else(|error| fail(&format!("{MUTANTS_VARIABLE} names {}: {error}", path.display())))
}

/// Name of the library of a card.
fn library(width: usize) -> String {
    format!("Vcard{width}")
}

fn build(width: usize, mutants: Option<&Path>, root: &Path, out: &Path) {
    let verilog = mutants.map_or_else(|| volplane_hw::emit(width), read_mutants);
    let shim = fs::read_to_string("shim.cpp").expect("shim.cpp is in the crate");
    let ports = port_table(width);
    let version = verilator::verilator_version();
    let recipe = include_str!("build.rs");
    let stamp = format!("{root:?} {version:?}\n{recipe}\n{shim}\n{ports}\n{verilog}");
    let library = library(width);
    if fs::read_to_string(out.join("stamp")).is_ok_and(|before| before == stamp) {
        return;
    }
    let _ = fs::remove_dir_all(out);
    fs::create_dir_all(out).expect("OUT_DIR is writable");
    fs::write(out.join("top.v"), verilog).expect("OUT_DIR is writable");
    fs::write(out.join("ports.inc"), ports).expect("OUT_DIR is writable");
    verilate(width, out);
    let mut sources: Vec<PathBuf> = fs::read_dir(out)
        .expect("OUT_DIR is readable")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "cpp"))
        .collect();
    sources.sort();
    // What runs every cycle is optimised (a third level executes as many instructions and compiles half
    // as long again); what runs at the start, or for a waveform, is compiled fast.
    let (slow, fast): (Vec<PathBuf>, Vec<PathBuf>) = sources.into_iter().partition(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.contains("__Slow") || name.contains("__Trace")
    });
    let compile = |level: u32, sources: Vec<PathBuf>| {
        let mut compiler = compiler(root, level);
        if mutants.is_some() {
            compiler.define("MUTANTS", None);
        }
        compiler
            .include(out)
            .define("CARD", library.as_str())
            .define("CARD_HEADER", format!("\"{library}.h\"").as_str())
            .define("FUNCTION(name)", format!("card{width}_##name").as_str())
            .files(sources)
            .out_dir(out)
            .compile_intermediates()
    };
    let mut objects = compile(2, [fast, vec!["shim.cpp".into()]].concat());
    objects.extend(compile(0, slow));
    compiler(root, 3).objects(objects).out_dir(out).compile(&library);
    fs::write(out.join("stamp"), stamp).expect("OUT_DIR is writable");
}

fn verilate(width: usize, out: &Path) {
    let result = Command::new("verilator_bin")
        .args(["--cc", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert", "--trace"])
        // Lint is the matter of the RTL's own tests.
        .args(["--output-split", "20000", "-Wno-fatal", "-Wno-lint", "-Wno-style", "-Wno-UNOPTFLAT"])
        .args(["--top-module", "top", "--prefix", &format!("Vcard{width}"), "--Mdir"])
        .arg(out)
        .arg(out.join("top.v"))
        .output();
    match result {
        Ok(done) if done.status.success() => {}
        Ok(done) => fail(&format!(
            "Verilator refused the card at {width} bits:\n{}",
            String::from_utf8_lossy(&done.stderr)
        )),
        Err(error) => fail(&format!("verilator_bin cannot be run: {error}")),
    }
}

/// Verilator's thread support, which its run time refers to and the crate `verilated` leaves out.
fn build_threads(root: &Path, out: &Path) {
    fs::create_dir_all(out).expect("OUT_DIR is writable");
    println!("cargo:rustc-link-search=native={}", out.display());
    println!("cargo:rustc-link-lib=static=verilated_threads_only");
    if out.join("libverilated_threads_only.a").exists() {
        return;
    }
    compiler(root, 3)
        .file(root.join("include/verilated_threads.cpp"))
        .out_dir(out)
        .compile("verilated_threads_only");
}

/// The card is optimised in every profile: it is what takes the time of a simulation.
fn compiler(root: &Path, level: u32) -> cc::Build {
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("gnu++17")
        .opt_level(level)
        .debug(false)
        .warnings(false)
        .cargo_metadata(false)
        .flag("-faligned-new")
        .define("VM_TRACE", "1")
        .include(root.join("include"))
        .include(root.join("include/vltstd"));
    build
}

/// One line `PORT(index, name, bytes)` for each port; Verilator's types are of 1, 2, 4 and 8 bytes,
/// then of whole words.
fn port_table(width: usize) -> String {
    let bytes = |bits: usize| match bits {
        0..=8 => 1,
        9..=16 => 2,
        17..=32 => 4,
        33..=64 => 8,
        wide => wide.div_ceil(32) * 4,
    };
    let line = |(index, (name, of)): (usize, &(&str, Width))| {
        let bits = match *of {
            Width::Bits(bits) => bits,
            Width::Data => width,
            Width::Strobe => width / 8,
        };
        format!("PORT({index}, {name}, {})\n", bytes(bits))
    };
    PORTS.iter().enumerate().map(line).collect()
}
