//! Runs the clients people use.

use std::process::{Command, Stdio};

/// Runs a client for at most 120 s; returns what it printed. Fails when the client fails.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let (good, text) = run_any(program, arguments);
    assert!(good, "{program} {arguments:?} failed:\n{text}");
    text
}

/// The same, whether it fails or not.
pub fn run_any(program: &str, arguments: &[&str]) -> (bool, String) {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).exists()));
    assert!(found, "{program} is not installed; `make` installs it");
    // Debian's nbdsh needs Debian's Python, whatever other Python stands first in the path.
    let path = format!("/usr/bin:{}", std::env::var("PATH").expect("a path"));
    let output = Command::new("timeout")
        .env("PATH", path)
        .args(["-k", "5", "120", program])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("timeout(1) runs");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text.into_owned())
}
