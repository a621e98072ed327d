//! The program `volplane-card`: what it prints, how it stops, whom it serves.

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{kill_process, Pid, Signal};

/// A VERSION message without capabilities, and its reply.
const VERSION: &[u8] = &[1, 0, 1, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const AGREED: &[u8] = b"\x01\0\x01\0\x28\0\0\0\x01\0\0\0\0\0\0\0\0\0\x01\0{\"capabilities\":{}}\0";

struct Program {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn start(socket: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_volplane-card"))
            .arg("--socket")
            .arg(socket)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut program = Self { child, lines };
        assert_eq!(program.line(), format!("listening on {}", socket.display()));
        program
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("a line").expect("text")
    }

    fn stop(mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a signal");
        assert!(self.child.wait().expect("its end").success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("card.sock");
    (folder, socket)
}

fn client(socket: &Path) -> UnixStream {
    let mut client = UnixStream::connect(socket).expect("a server");
    client.write_all(VERSION).expect("sent");
    let mut reply = vec![0; AGREED.len()];
    client.read_exact(&mut reply).expect("a reply");
    assert_eq!(reply, AGREED);
    client
}

#[test]
fn it_serves_one_client_after_another_until_it_is_told_to_stop() {
    let (_folder, socket) = folder();
    for signal in [Signal::TERM, Signal::INT] {
        let mut program = Program::start(&socket);
        for _ in 0..3 {
            drop(client(&socket));
            assert_eq!(program.line(), "a client is there");
            assert_eq!(program.line(), "the client is gone: it closed the connection");
        }
        let _stays = client(&socket);
        program.stop(signal);
        assert!(!socket.exists(), "the socket is gone");
    }
}

#[test]
fn it_takes_over_a_socket_that_nobody_listens_on_and_no_other() {
    let (_folder, socket) = folder();
    let first = Program::start(&socket);
    let second = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_volplane-card"));
        command.arg("--socket").arg(&socket).output().expect("the program starts")
    };
    let refused = second();
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.starts_with(&format!("volplane-card: {}: ", socket.display())), "{said}");
    // Killed: it leaves its socket.
    drop(first);
    assert!(socket.exists());
    Program::start(&socket).stop(Signal::TERM);
}

#[test]
fn wrong_arguments_are_refused() {
    let (_folder, socket) = folder();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_volplane-card"));
        command.args(arguments).output().expect("the program starts")
    };
    assert_eq!(run(&[]).status.code(), Some(2));
    let path = socket.to_str().expect("text");
    let narrow = run(&["--socket", path, "--width", "100"]);
    assert_eq!(narrow.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&narrow.stderr), "volplane-card: card: there is none of 100 bits\n");
    let nowhere = run(&["--socket", "/nowhere/card.sock"]);
    assert_eq!(nowhere.status.code(), Some(1));
}
