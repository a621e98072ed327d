//! The program itself as the server, and fio on it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::stock::run;

/// The longest time until the program answers, and until it has stopped.
const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// `volplane serve` of the quick start's disks, with backing files of its own.
pub struct Served {
    program: Child,
    directory: tempfile::TempDir,
}

impl Served {
    /// On the card of this name.
    pub fn start(card: &str) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let examples = directory.path().join("examples");
        std::fs::create_dir(&examples).expect("directory");
        let file = examples.join("quickstart.toml");
        std::fs::copy(root().join("examples/quickstart.toml"), &file).expect("copy");
        let program = Command::new(env!("CARGO_BIN_EXE_volplane"))
            .args([Path::new("serve"), &file, Path::new("--card"), Path::new(card), Path::new("--socket")])
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

    pub fn uri(&self, disk: &str) -> String {
        format!("nbd+unix:///{disk}?socket={}", self.socket().display())
    }

    /// Ctrl-C; it must leave by itself.
    pub fn stop(mut self) {
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
pub fn fio(uri: &str, jobs: u32, depth: u32) {
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
