//! A server in this process.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{channel, Receiver};
use std::thread::JoinHandle;
use std::time::Duration;

use volplane_sim::vfio_user::{Server, ServerError, ServerEvent};
use volplane_sim::CardConfig;

/// Longest time until a server tells of a client that came or went.
const LIMIT: Duration = Duration::from_secs(30);

/// A server with the card of 128 bits; it must end well.
pub struct Service {
    path: PathBuf,
    stopper: Option<UnixStream>,
    thread: Option<JoinHandle<Result<(), ServerError>>>,
    events: Receiver<ServerEvent>,
}

impl Service {
    /// Starts a server whose socket is `name` in the folder for temporary files.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("volplane-{name}-{}", std::process::id()));
        let server = Server::bind(&path, &CardConfig::new(128)).expect("a server");
        let (stop, stopper) = UnixStream::pair().expect("a pair of sockets");
        let (tell, events) = channel();
        let thread = std::thread::spawn(move || {
            server.run(stop.as_fd(), |event| {
                // The test may not care any more.
                let _ = tell.send(event);
            })
        });
        Self { path, stopper: Some(stopper), thread: Some(thread), events }
    }

    /// Its socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why the next client went that goes.
    ///
    /// # Panics
    /// When none goes.
    pub fn goodbye(&self) -> String {
        loop {
            match self.events.recv_timeout(LIMIT).expect("an event") {
                ServerEvent::Gone(why) => return why,
                ServerEvent::Connected => {}
            }
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.stopper.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended.expect("a thread").expect("no panic").expect("no error");
            assert!(!self.path.exists(), "the socket is gone");
        }
    }
}
