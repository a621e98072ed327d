//! The program as a user meets it: exit codes and messages.

use std::path::Path;
use std::process::{Command, Output};

fn volplane(arguments: &[&str]) -> Output {
    Command::new("timeout")
        .args(["-k", "5", "60", env!("CARGO_BIN_EXE_volplane")])
        .args(arguments)
        .output()
        .expect("timeout(1) runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("messages are UTF-8")
}

const GOOD: &str = r#"
[[device]]
name = "ssd0"
file = "ssd0.img"
create = true
size = "64MiB"
block_size = 512

[[device]]
name = "ssd1"
memory = true
size = "64MiB"
block_size = 512

[[disk]]
name = "mixed"
block_size = 512
allocation_size = "16MiB"

[[disk.segment]]
size = "64MiB"
columns = [{ device = "ssd0", offset = 0 }, { device = "ssd1", offset = 0 }]
stripe_unit = "64KiB"
extent_size = "4MiB"

[[disk.segment]]
size = "32MiB"
columns = [{ device = "ssd1", offset = "32MiB" }]
"#;

fn write(directory: &Path, contents: &str) -> String {
    let path = directory.join("disks.toml");
    std::fs::write(&path, contents).expect("configuration");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn check_tells_devices_and_disks() {
    let directory = tempfile::tempdir().expect("directory");
    let file = write(directory.path(), GOOD);
    let output = volplane(&["check", &file]);
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for line in [
        "ssd1    64 MiB  512 B  memory",
        "mixed  96 MiB  512 B  64 MiB striped by 64 KiB over ssd0 ssd1, then 32 MiB on ssd1",
    ] {
        assert!(told.contains(line), "no \"{line}\" in\n{told}");
    }
    assert!(!directory.path().join("ssd0.img").exists(), "nothing is touched");
}

#[test]
fn wrong_configurations_are_one_line_with_file_line_and_field() {
    for (old, new, line, field) in [
        ("{ device = \"ssd1\", offset = 0 }", "{ device = \"ssd9\", offset = 0 }", 22, "device"),
        ("offset = \"32MiB\"", "offset = \"16MiB\"", 28, "offset"),
        ("offset = \"32MiB\"", "offset = \"48MiB\"", 28, "offset"),
        ("columns = [{ device = \"ssd1\", offset = \"32MiB\" }]", "columns = []", 28, "columns"),
        ("create = true", "create = false", 4, "file"),
        ("name = \"ssd1\"", "name = \"ssd0\"", 10, "name"),
        ("memory = true", "memory = \"yes\"", 11, "memory"),
        (
            "size = \"64MiB\"\nblock_size = 512\n\n[[disk]]",
            "size = 512\nblock_size = 512\n\n[[disk]]",
            22,
            "columns",
        ),
        ("[[device]]", "[[device", 2, "TOML"),
    ] {
        let directory = tempfile::tempdir().expect("directory");
        assert!(GOOD.contains(old), "{old}");
        let file = write(directory.path(), &GOOD.replacen(old, new, 1));
        for command in ["check", "serve"] {
            let output = volplane(&[command, &file]);
            let told = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{new}: {told}");
            assert_eq!(told.lines().count(), 1, "{told}");
            assert!(told.starts_with(&format!("{file}:{line}: ")), "line {line} expected: {told}");
            assert!(told.contains(field), "{field} expected: {told}");
            assert!(output.stdout.is_empty());
            assert_eq!(std::fs::read_dir(directory.path()).expect("directory").count(), 1, "nothing touched");
        }
    }
}

#[test]
fn wrong_arguments_leave_with_2() {
    let directory = tempfile::tempdir().expect("directory");
    let file = write(directory.path(), GOOD);
    for arguments in [
        &["serve"][..],
        &["frobnicate"],
        &["serve", &file, "--port", "70000"],
        &["serve", &file, "--listen", "nowhere"],
        &["serve", &file, "--listen", "0.0.0.0:10809"],
        &["serve", &file, "--trace-from", "5"],
        &["card", "--card", "65:00"],
        &["serve", &file, "--card", "ffff:ff:1f.7"],
        &["bind"],
        &["bind", "nvme0"],
        &["check", "/nonexistent/disks.toml"],
    ] {
        let output = volplane(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
    }
    assert!(!directory.path().join("ssd0.img").exists(), "nothing is touched");
    assert_eq!(volplane(&["--help"]).status.code(), Some(0));
}

#[test]
fn a_device_that_is_not_there_leaves_with_1() {
    for command in [&["card", "--card"][..], &["bind"], &["unbind"]] {
        let output = volplane(&[command, &["ffff:ff:1f.7"]].concat());
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {told}");
        assert!(told.starts_with("volplane: ") && told.lines().count() == 1, "{told}");
    }
}
