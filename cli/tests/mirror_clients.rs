//! A mirrored disk under fio while an SSD of it fails: the client sees nothing, and the copies that are left are
//! equal. In software, and on the simulated card.

mod support;

use std::path::Path;

use support::served::{example, fio_of, Served};
use support::stock::run;

const NAME: &str = "mirror.toml";

/// The image of an SSD.
fn image(folder: &Path, ssd: usize) -> Vec<u8> {
    std::fs::read(folder.join(format!("target/mirror/ssd{ssd}.img"))).expect("an image")
}

/// Whether two copies hold the same: both are laid out alike, each over two SSDs of its own.
fn equal(folder: &Path, one: usize, other: usize) -> bool {
    (0..2).all(|column| image(folder, 2 * one + column) == image(folder, 2 * other + column))
}

/// Serves the example with a fault, with time-outs that do not make the test long.
fn serve(card: &str, fault: &str) -> Served {
    let directory = example(NAME);
    let file = directory.path().join("examples").join(NAME);
    let text = std::fs::read_to_string(&file).expect("readable");
    assert_eq!(text.matches("time_out_ms = 100").count(), 3);
    std::fs::write(&file, text.replace("time_out_ms = 100", "time_out_ms = 20")).expect("written");
    Served::start_in(directory, NAME, card, &["--fault", fault])
}

/// fio on the disk, executed by `card`, while copy 1 fails by `fault`; then the copies, what was told, and the same
/// disk again.
fn survives(card: &str, fault: &str, wanted: &[&str]) {
    let served = serve(card, fault);
    fio_of(&served.uri("mirrored"), 2, 8, 16);
    let (directory, told) = served.stop_and_keep();
    let folder = directory.path();
    for line in
        wanted.iter().chain(&["mirrored: copy 1 missed a write and is out", " 0 answered with an error"])
    {
        assert!(told.contains(line), "{fault}: {line:?} is not in\n{told}");
    }
    assert!(equal(folder, 0, 2), "{fault}: the copies that are left differ");
    assert!(!equal(folder, 0, 1), "{fault}: copy 1 missed nothing");
    let state = std::fs::read_to_string(folder.join("examples/mirror.toml.state")).expect("a state file");
    assert!(
        state.contains("disk = \"mirrored\"\ncopy = 1\n") && state.matches("[[out]]").count() == 1,
        "{state}"
    );

    // After a restart the SSD answers, but its copy is stale: it is neither read nor written.
    let stale = (image(folder, 2), image(folder, 3));
    let served = Served::start_in(directory, NAME, card, &[]);
    let copy = tempfile::NamedTempFile::new().expect("a file");
    let copy = copy.path().to_str().expect("UTF-8");
    run("nbdcopy", &[&served.uri("mirrored"), copy]);
    fio_of(&served.uri("mirrored"), 1, 8, 3);
    let (directory, told) = served.stop_and_keep();
    let folder = directory.path();
    assert!(told.contains("mirrored: copy 1 is out since an earlier run"), "{told}");
    assert!(equal(folder, 0, 2), "{fault}: the copies differ after a restart");
    assert!(stale == (image(folder, 2), image(folder, 3)), "{fault}: copy 1 was written");
}

#[test]
fn an_ssd_that_fails_writes() {
    for card in ["software", "sim"] {
        survives(
            card,
            "ssd2:error:status=0x280,skip=30,writes=1",
            &["mirrored: copy 1 failed on ssd2: Write Fault (280h)"],
        );
    }
}

#[test]
fn an_ssd_that_does_not_answer() {
    let aborted = "mirrored: copy 1 failed on ssd3: Command Aborted due to SQ Deletion (008h)";
    for card in ["software", "sim"] {
        survives(card, "ssd3:silent:skip=80", &["ssd3: no answer in time, queues made anew", aborted]);
    }
}

#[test]
fn an_ssd_that_is_pulled_out() {
    // The card tells of the last error on a path, and not that there is none left.
    let failures = [
        ("software", "mirrored: copy 1 failed on ssd2: Host Pathing Error (370h)"),
        ("sim", "mirrored: copy 1 failed on ssd2: Command Aborted due to SQ Deletion (008h)"),
    ];
    for (card, failure) in failures {
        survives(card, "ssd2:dead:skip=60", &["ssd2: gone", failure]);
    }
}

/// What names no fault or no device is the user's mistake.
#[test]
fn wrong_faults_are_refused() {
    let directory = example(NAME);
    let file = directory.path().join("examples").join(NAME);
    for (fault, told) in [("ssd9:dead", "no device \"ssd9\""), ("ssd1:tired", "no fault \"tired\"")] {
        let ended = std::process::Command::new(env!("CARGO_BIN_EXE_volplane"))
            .args([
                "serve",
                file.to_str().expect("UTF-8"),
                "--card",
                "software",
                "--port",
                "0",
                "--fault",
                fault,
            ])
            .output()
            .expect("volplane runs");
        let message = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(ended.status.code() == Some(2) && message.contains(told), "{fault}: {message}");
    }
}
