//! Runs one block, Verilated, from a Rust test. Verilator is the truth about the RTL.
//!
//! A block's Verilog is linted (`-Wall`, see `LINT_ALLOWED`), Verilated, compiled to a shared
//! object in `target/bench/` (kept by the hash of its text) and loaded. Ports are set and read by
//! name; nested ports carry `$` (`out$valid`).

#![allow(unsafe_code)] // Loads and calls what Verilator wrote, in tests only.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rust_hdl::prelude::*;

use crate::host::record_words;

/// Names of modules are not names of files; widths of RustHDL's literals are 32 bits; a record's
/// field that a block does not need stays unread, as does the name of a state where a register only holds
/// it. The rest of `-Wall` must be silent.
const LINT_ALLOWED: [&str; 4] = ["-Wno-DECLFILENAME", "-Wno-WIDTH", "-Wno-UNUSEDSIGNAL", "-Wno-UNUSEDPARAM"];

/// How benches are compiled. Without the last one the loader would share Verilator's statics between them,
/// and the first bench to go would take them from the others.
const COMPILE: [&str; 4] = ["-std=c++17", "-O1", "-fPIC", "-fno-gnu-unique"];

/// A generator whose seed is printed; `VOLPLANE_SEED` replays a run.
pub fn seeded() -> ChaCha8Rng {
    let seed = std::env::var("VOLPLANE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1u64);
    println!("seed {seed}; replay with VOLPLANE_SEED={seed}");
    ChaCha8Rng::seed_from_u64(seed)
}

struct Port {
    pointer: *mut u32,
    words: usize,
    bits: usize,
}

/// A Verilated block.
pub struct Bench {
    model: *mut c_void,
    eval: unsafe extern "C" fn(*mut c_void),
    destroy: unsafe extern "C" fn(*mut c_void),
    ports: BTreeMap<String, Port>,
    _library: libloading::Library,
    /// Cycles run.
    pub cycles: u64,
}

impl Bench {
    /// Connects, checks, lints, Verilates and loads a block; `name` tells benches apart on disk.
    pub fn new<U: Block>(name: &str, mut uut: U) -> Self {
        uut.connect_all();
        Self::from_verilog(name, &generate_verilog_unchecked(&uut))
    }

    /// The same, of Verilog text whose top module is `top`.
    pub fn from_verilog(name: &str, verilog: &str) -> Self {
        let library_path = build(name, verilog);
        let ports = parse_ports(verilog);
        // SAFETY: the library was just built from our own shim; its symbols have the types below.
        unsafe {
            let library = libloading::Library::new(&library_path).expect("load the Verilated block");
            let create =
                library.get::<unsafe extern "C" fn() -> *mut c_void>(b"bench_create").expect("symbol");
            let eval = *library.get::<unsafe extern "C" fn(*mut c_void)>(b"bench_eval").expect("symbol");
            let destroy =
                *library.get::<unsafe extern "C" fn(*mut c_void)>(b"bench_destroy").expect("symbol");
            let port = library
                .get::<unsafe extern "C" fn(*mut c_void, i32) -> *mut u32>(b"bench_port")
                .expect("symbol");
            let model = create();
            let ports = ports
                .into_iter()
                .enumerate()
                .map(|(i, (name, bits))| {
                    (name, Port { pointer: port(model, i as i32), words: bits.div_ceil(32), bits })
                })
                .collect();
            let mut bench = Self { model, eval, destroy, ports, _library: library, cycles: 0 };
            // Registers begin with random contents, inputs with 0: the first edge is the first cycle's.
            for name in bench.ports.keys().cloned().collect::<Vec<_>>() {
                bench.set_wide(&name, &[]);
            }
            bench.eval();
            bench
        }
    }

    fn port(&self, name: &str) -> &Port {
        self.ports.get(name).unwrap_or_else(|| panic!("no port {name}: {:?}", self.ports.keys()))
    }

    /// Drives an input of up to 128 bits.
    pub fn set(&mut self, name: &str, value: u128) {
        let port = self.port(name);
        assert!(port.bits >= 128 || value >> port.bits == 0, "{value:#x} does not fit {name}");
        self.set_wide(name, &std::array::from_fn::<u32, 4, _>(|i| (value >> (32 * i)) as u32));
    }

    /// Drives an input of any width, lowest word first; missing words are 0.
    pub fn set_wide(&mut self, name: &str, words: &[u32]) {
        let port = self.port(name);
        for i in 0..port.words {
            let word = words.get(i).copied().unwrap_or(0);
            // SAFETY: the pointer is the model's own storage of the port, `words` long when wide;
            // narrower ports are 1, 2 or 4 bytes.
            unsafe {
                match port.bits {
                    1..=8 => *(port.pointer as *mut u8) = word as u8,
                    9..=16 => *(port.pointer as *mut u16) = word as u16,
                    _ => *port.pointer.add(i) = word,
                }
            }
        }
    }

    /// Reads a port of up to 128 bits.
    pub fn get(&self, name: &str) -> u128 {
        let words = self.get_wide(name);
        assert!(words.len() <= 4, "{name} is wider than 128 bits");
        words.iter().rev().fold(0, |value, &word| value << 32 | u128::from(word))
    }

    /// Reads a port of any width, lowest word first.
    pub fn get_wide(&self, name: &str) -> Vec<u32> {
        let port = self.port(name);
        (0..port.words)
            // SAFETY: as in `set_wide`.
            .map(|i| unsafe {
                match port.bits {
                    1..=8 => u32::from(*(port.pointer as *const u8)),
                    9..=16 => u32::from(*(port.pointer as *const u16)),
                    _ => *port.pointer.add(i),
                }
            })
            .collect()
    }

    /// Drives an input with a record or bits of its width.
    pub fn set_record<const N: usize>(&mut self, name: &str, record: impl record_words::Packed<N>) {
        assert_eq!(self.port(name).bits, N, "width of {name}");
        self.set_wide(name, &record_words::words(record));
    }

    /// Reads a port as a record or bits of its width.
    pub fn get_record<const N: usize, T: From<Bits<N>>>(&self, name: &str) -> T {
        assert_eq!(self.port(name).bits, N, "width of {name}");
        record_words::bits(&self.get_wide(name)).into()
    }

    /// Settles combinational logic.
    pub fn eval(&mut self) {
        // SAFETY: the model is alive until drop.
        unsafe { (self.eval)(self.model) }
    }

    /// One clock cycle: a rising edge with the inputs as set, then the falling one.
    pub fn cycle(&mut self) {
        self.eval();
        self.set("clock", 1);
        self.eval();
        self.set("clock", 0);
        self.eval();
        self.cycles += 1;
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // SAFETY: created by the same library, destroyed once.
        unsafe { (self.destroy)(self.model) }
    }
}

fn run(command: &mut Command) {
    let output =
        command.output().unwrap_or_else(|e| panic!("{command:?}: {e} (is Verilator installed? make setup)"));
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{text}");
}

/// Fails on any lint that is not in `LINT_ALLOWED`.
pub fn lint(verilog_path: &Path) {
    run(Command::new("verilator_bin")
        .args(["--lint-only", "-Wall", "--top-module", "top"])
        .args(LINT_ALLOWED)
        .arg(verilog_path));
}

/// The run time every bench links, compiled once.
fn runtime(root: &Path, directory: &Path) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            let object = directory.join("verilated.o");
            if !object.exists() {
                let both = directory.join(format!("runtime.{}.cpp", std::process::id()));
                fs::write(&both, "#include \"verilated.cpp\"\n#include \"verilated_threads.cpp\"\n")
                    .expect("write");
                let scratch = directory.join(format!("verilated.{}.o", std::process::id()));
                run(Command::new("g++")
                    .args(COMPILE)
                    .arg("-c")
                    .arg(format!("-I{}", root.join("include").display()))
                    .arg(&both)
                    .arg("-o")
                    .arg(&scratch));
                fs::rename(scratch, &object).expect("rename");
                fs::remove_file(both).expect("remove");
            }
            object
        })
        .clone()
}

fn build(name: &str, verilog: &str) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let root = verilator::find_verilator_root().expect("Verilator is not installed: make setup");
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    fs::create_dir_all(&directory).expect("target/bench");
    let mut hasher = DefaultHasher::new();
    (verilog, shim(verilog), COMPILE).hash(&mut hasher);
    let stem = format!("{name}_{:016x}", hasher.finish());
    let library = directory.join(format!("{stem}.so"));
    if library.exists() {
        return library;
    }
    let include = root.join("include");
    let object = {
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        runtime(&root, &directory)
    };
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let turn = NEXT.fetch_add(1, Ordering::Relaxed);
    let work = directory.join(format!("{stem}.{}.{turn}", std::process::id()));
    fs::create_dir_all(&work).expect("work directory");
    let source = work.join("top.v");
    fs::write(&source, verilog).expect("write Verilog");
    lint(&source);
    run(Command::new("verilator_bin")
        .args([
            "--cc",
            "-O3",
            "--x-assign",
            "unique",
            "--x-initial",
            "unique",
            "--prefix",
            "Vtop",
            "--top-module",
            "top",
        ])
        .args(["-Wno-fatal", "-Wno-WIDTH", "--Mdir"])
        .arg(&work)
        .arg(&source));
    fs::write(work.join("shim.cpp"), shim(verilog)).expect("write shim");
    // One translation unit: Verilator's headers take longer to read than a block takes to compile.
    let mut sources: Vec<String> = fs::read_dir(&work)
        .expect("work directory")
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".cpp"))
        .map(|name| format!("#include \"{name}\"\n"))
        .collect();
    sources.sort();
    fs::write(work.join("all.cpp"), sources.concat()).expect("write all.cpp");
    let scratch = work.join("bench.so");
    run(Command::new("g++")
        .args(COMPILE)
        .arg("-shared")
        .arg(format!("-I{}", include.display()))
        .arg(format!("-I{}", work.display()))
        .arg(work.join("all.cpp"))
        .arg(&object)
        .arg("-o")
        .arg(&scratch));
    fs::rename(&scratch, &library).expect("rename");
    fs::remove_dir_all(&work).expect("remove work directory");
    library
}

/// Name and width of each port of module `top`, in order.
fn parse_ports(verilog: &str) -> Vec<(String, usize)> {
    let start = verilog.find("module top").expect("module top");
    let body = &verilog[start..];
    let body = &body[..body.find("endmodule").expect("endmodule")];
    body.lines()
        .filter_map(|line| {
            let line = line.trim().trim_end_matches(';');
            let rest =
                ["input wire", "output reg", "output wire"].iter().find_map(|p| line.strip_prefix(p))?.trim();
            Some(match rest.strip_prefix('[') {
                Some(range) => {
                    let (high, name) = range.split_once(":0]").expect("range");
                    (name.trim().to_string(), high.trim().parse::<usize>().expect("width") + 1)
                }
                None => (rest.to_string(), 1),
            })
        })
        .collect()
}

fn shim(verilog: &str) -> String {
    let ports: String = parse_ports(verilog)
        .iter()
        .enumerate()
        .map(|(i, (name, _))| {
            format!(
                "case {i}: return (uint32_t*)&m->{};\n",
                name.replace("$$", "__024__024").replace('$', "__024")
            )
        })
        .collect();
    format!(
        "#include \"Vtop.h\"\nextern \"C\" {{\n\
         void* bench_create() {{ Verilated::randReset(2); Verilated::randSeed(1); return new Vtop; }}\n\
         void bench_eval(void* p) {{ ((Vtop*)p)->eval(); }}\n\
         void bench_destroy(void* p) {{ delete (Vtop*)p; }}\n\
         uint32_t* bench_port(void* p, int i) {{ Vtop* m = (Vtop*)p; switch (i) {{ {ports} default: return nullptr; }} }}\n}}\n"
    )
}
