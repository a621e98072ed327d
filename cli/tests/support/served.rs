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

/// `volplane serve` of the disks of an example, with backing files of its own.
pub struct Served {
    program: Child,
    directory: tempfile::TempDir,
}

impl Served {
    /// The quick start on the card of this name.
    pub fn start(card: &str) -> Self {
        Self::start_in(example("quickstart.toml"), "quickstart.toml", card, &[])
    }

    /// The example of this name that `example` has put into a directory, with further arguments. What it prints goes
    /// to the file `told`.
    pub fn start_in(directory: tempfile::TempDir, name: &str, card: &str, arguments: &[&str]) -> Self {
        let file = directory.path().join("examples").join(name);
        let told = std::fs::File::create(directory.path().join("told")).expect("created");
        let program = Command::new(env!("CARGO_BIN_EXE_volplane"))
            .args([Path::new("serve"), &file, Path::new("--card"), Path::new(card), Path::new("--socket")])
            .arg(directory.path().join("nbd.sock"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(told)
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
    pub fn stop(self) {
        self.stop_and_keep();
    }

    /// As `stop`; returns where its files are, and what it printed.
    pub fn stop_and_keep(mut self) -> (tempfile::TempDir, String) {
        run("kill", &["-INT", &self.program.id().to_string()]);
        let until = Instant::now() + LIMIT;
        loop {
            match self.program.try_wait().expect("its own child") {
                Some(status) => {
                    assert!(status.success(), "volplane serve: {status}");
                    break;
                }
                None => assert!(Instant::now() < until, "volplane serve did not stop"),
            }
            std::thread::sleep(PAUSE);
        }
        let directory = std::mem::replace(&mut self.directory, tempfile::tempdir().expect("directory"));
        let told = std::fs::read_to_string(directory.path().join("told")).expect("readable");
        (directory, told)
    }
}

/// A directory with an example in it, whose backing files will be there too.
pub fn example(name: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("directory");
    let examples = directory.path().join("examples");
    std::fs::create_dir(&examples).expect("directory");
    std::fs::copy(root().join("examples").join(name), examples.join(name)).expect("copy");
    directory
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
    fio_of(uri, jobs, depth, 24);
}

/// The same, of so many MiB a job.
pub fn fio_of(uri: &str, jobs: u32, depth: u32, mib: u32) {
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
            &format!("--size={mib}M"),
            &format!("--numjobs={jobs}"),
            &format!("--offset_increment={mib}M"),
            "--randseed=11",
            "--randrepeat=1",
            "--group_reporting",
        ],
    );
    assert!(told.contains("err= 0"), "{told}");
}
