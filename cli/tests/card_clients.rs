//! The program on the Verilated card against the clients people use: what `stock_clients.rs` asks of the
//! NBD server alone, the whole way to the backing files.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::stock::{run, run_any};

/// The longest time until the program answers, and until it has stopped.
const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// `volplane serve` of the quick start's disks, with backing files of its own.
struct Served {
    program: Child,
    directory: tempfile::TempDir,
}

impl Served {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let examples = directory.path().join("examples");
        std::fs::create_dir(&examples).expect("directory");
        let file = examples.join("quickstart.toml");
        std::fs::copy(root().join("examples/quickstart.toml"), &file).expect("copy");
        let program = Command::new(env!("CARGO_BIN_EXE_volplane"))
            .args([Path::new("serve"), &file, Path::new("--socket")])
            .arg(directory.path().join("nbd.sock"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("volplane starts");
        let served = Self { program, directory };
        let until = Instant::now() + LIMIT;
        while !served.socket().exists() {
            assert!(Instant::now() < until, "volplane serve did not come up");
            std::thread::sleep(PAUSE);
        }
        served
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("nbd.sock")
    }

    fn uri(&self, disk: &str) -> String {
        format!("nbd+unix:///{disk}?socket={}", self.socket().display())
    }

    /// Ctrl-C; it must leave by itself.
    fn stop(mut self) {
        run("kill", &["-INT", &self.program.id().to_string()]);
        let until = Instant::now() + LIMIT;
        loop {
            match self.program.try_wait().expect("its own child") {
                Some(status) => return assert!(status.success(), "volplane serve: {status}"),
                None => assert!(Instant::now() < until, "volplane serve did not stop"),
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Of no effect when it has stopped; a test that failed must not leave it behind.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// Mixed block sizes, whatever their place in the stripe, several jobs; then all of it is read again.
fn fio(uri: &str, jobs: u32, depth: u32) {
    let told = run(
        "fio",
        &[
            "--name=mixed",
            "--ioengine=nbd",
            &format!("--uri={uri}"),
            "--rw=randrw",
            "--bsrange=512-1M",
            "--blockalign=512",
            &format!("--iodepth={depth}"),
            "--verify=crc32c",
            "--verify_fatal=1",
            "--verify_state_save=0",
            "--size=24M",
            &format!("--numjobs={jobs}"),
            "--offset_increment=24M",
            "--randseed=11",
            "--randrepeat=1",
            "--group_reporting",
        ],
    );
    assert!(told.contains("err= 0"), "{told}");
}

#[test]
fn fio_qemu_io_and_nbdsh_on_the_card() {
    let served = Served::start();
    let info = run("nbdinfo", &["--list", &served.uri("")]);
    assert!(info.contains("export=\"striped\":") && info.contains("export=\"concatenated\":"), "{info}");
    fio(&served.uri("striped"), 2, 16);
    fio(&served.uri("concatenated"), 4, 8);
    // The stripe unit is 64 KiB, the row 256 KiB, the allocation 16 MiB; the concatenated disk changes
    // its device at 128 MiB.
    for (disk, border) in
        [("striped", 64 << 10), ("striped", 256 << 10), ("striped", 16 << 20), ("concatenated", 128u64 << 20)]
    {
        let at = border - 1536;
        let commands = [
            format!("write -P 0x{:x} {at} 3072", 0x20 + border.trailing_zeros()),
            format!("write -P 0x77 -f {border} 512"),
            format!("write -z {} 512", border - 512),
            format!("read -P 0x{:x} {at} 1024", 0x20 + border.trailing_zeros()),
            format!("read -P 0 {} 512", border - 512),
            format!("read -P 0x77 {border} 512"),
            format!("read -P 0x{:x} {} 1024", 0x20 + border.trailing_zeros(), border + 512),
            "flush".to_owned(),
        ];
        let uri = served.uri(disk);
        let mut arguments = vec!["-f", "raw"];
        arguments.extend(commands.iter().flat_map(|command| ["-c", command]));
        arguments.push(&uri);
        let told = run("qemu-io", &arguments);
        assert!(!told.contains("verification failed") && !told.contains("rror"), "{told}");
        let wrong = format!("read -P 0x78 {border} 512");
        let (_, told) = run_any("qemu-io", &["-f", "raw", "-c", &wrong, &uri]);
        assert!(told.contains("verification failed"), "the check itself works: {told}");
    }
    let script = format!(
        "h.connect_uri({:?})\ndata = bytes(range(256)) * 512\nh.pwrite(data, 65536 - 512)\n\
         assert h.pread(len(data), 65536 - 512) == data\nh.flush()\nprint('all good')",
        served.uri("striped")
    );
    let told = run("nbdsh", &["-c", &script]);
    assert!(told.contains("all good"), "{told}");
    served.stop();
}

/// The real-input check of `make demo`, of a small image.
#[test]
fn a_real_file_system_comes_back_whole() {
    let script = root().join("examples/demo.sh");
    let script = script.to_str().expect("UTF-8");
    let told = run("bash", &[script, env!("CARGO_BIN_EXE_volplane"), "48"]);
    assert_eq!(told.matches(" pass ").count(), told.matches(" s\n").count(), "{told}");
    for row in ["striped -> file", "concatenated -> file", "put together independently", "e2fsck of"] {
        assert!(told.contains(row), "{told}");
    }
}
