//! The program without a card, `--card software`, against the clients people use.

mod support;

use std::process::{Command, Stdio};

use support::served::{fio, root, Served};
use support::stock::run;

#[test]
fn fio_and_nbdcopy_without_a_card() {
    let served = Served::start("software");
    fio(&served.uri("striped"), 2, 16);
    fio(&served.uri("concatenated"), 1, 8);
    let folder = tempfile::tempdir().expect("directory");
    let name = |file: &str| folder.path().join(file).to_str().expect("UTF-8").to_owned();
    let (image, copy) = (name("image"), name("copy"));
    let data: Vec<u8> = (0..8u32 << 20).map(|at| (at.wrapping_mul(0x9E37_79B1) >> 13) as u8).collect();
    std::fs::write(&image, &data).expect("written");
    run("nbdcopy", &[&image, &served.uri("striped")]);
    run("nbdcopy", &[&served.uri("striped"), &copy]);
    let copied = std::fs::read(&copy).expect("read");
    assert!(copied[..data.len()] == data, "the image came back changed");
    served.stop();
}

/// What needs a card says so, and is the user's mistake.
#[test]
fn what_shows_the_card_needs_one() {
    let example = root().join("examples/quickstart.toml");
    let example = example.to_str().expect("UTF-8");
    for arguments in [
        &["card", "--card", "software"][..],
        &["serve", example, "--card", "software", "--trace", "never.vcd"],
    ] {
        let ended = Command::new(env!("CARGO_BIN_EXE_volplane"))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("volplane runs");
        let told = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(2), "{arguments:?}: {told}");
        assert!(told.contains("card") && told.contains("software"), "{told}");
    }
}
