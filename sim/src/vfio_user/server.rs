//! The socket: one client after another, each read by the caller's thread.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::PollFlags;

use super::device::Device;
use super::inbox::{Inbox, Incoming};
use super::stream::{is_ready, receive, Sender, StreamEnd};
use super::wire;
use crate::config::{CardConfig, ConfigError};

/// Why the server cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The card cannot be built.
    #[error(transparent)]
    Card(#[from] ConfigError),
    /// The socket cannot be had.
    #[error("{path}: {source}")]
    Socket {
        /// Its path.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// Waiting failed.
    #[error("waiting for a client: {0}")]
    Wait(std::io::Error),
    /// The card does not answer.
    #[error("the card does not answer a register read")]
    Silent,
    /// The card has more interrupt vectors than MSI-X.
    #[error("the card has {0} interrupt vectors")]
    Vectors(u32),
    /// The card broke its bus's protocol.
    #[error("the card broke the AXI protocol: {0}")]
    Protocol(String),
    /// The card's thread cannot be started, or is gone.
    #[error("the card's thread: {0}")]
    Thread(String),
}

/// What a server tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// A client is there.
    Connected,
    /// It is gone, for this reason.
    Gone(String),
}

/// A card that listens on a socket.
pub struct Server {
    path: PathBuf,
    listener: UnixListener,
    inbox: Arc<Inbox>,
    /// Readable when the card's thread is at its end.
    ended: UnixStream,
    card: JoinHandle<Result<(), ServerError>>,
}

impl Server {
    /// Builds the card and listens. A socket that nobody listens on any more is taken over.
    ///
    /// # Errors
    /// `ServerError`.
    pub fn bind(path: &Path, config: &CardConfig) -> Result<Self, ServerError> {
        let device = Device::new(config)?;
        let listener = listen(path).map_err(|source| ServerError::Socket { path: path.into(), source })?;
        let (ended, ends) = UnixStream::pair().map_err(ServerError::Wait)?;
        let inbox = Arc::new(Inbox::default());
        let thread = std::thread::Builder::new().name("card".into());
        let card = {
            let inbox = inbox.clone();
            thread.spawn(move || {
                // Dropped in any case, so that nobody waits for a thread that is gone.
                let _closes = Closes { inbox: &inbox, _ends: ends };
                device.run(&inbox)
            })
        };
        let card = card.map_err(|error| ServerError::Thread(error.to_string()))?;
        Ok(Self { path: path.into(), listener, inbox, ended, card })
    }

    /// Serves one client after another until `stop` is readable, and tells of each.
    ///
    /// # Errors
    /// `ServerError`. A client's faults are events, not errors.
    pub fn run(self, stop: BorrowedFd<'_>, mut tell: impl FnMut(ServerEvent)) -> Result<(), ServerError> {
        let result = self.serve_all(stop, &mut tell);
        // A socket that somebody else has removed is as it should be.
        let _ = std::fs::remove_file(&self.path);
        self.inbox.put_request(Incoming::Stop);
        let card = self.card.join().map_err(|_| ServerError::Thread("it panicked".into()))?;
        card.and(result)
    }

    fn serve_all(&self, stop: BorrowedFd<'_>, tell: &mut dyn FnMut(ServerEvent)) -> Result<(), ServerError> {
        let stops = [stop, self.ended.as_fd()];
        loop {
            let ready = is_ready(self.listener.as_fd(), PollFlags::IN, &stops, None);
            if !ready.map_err(|error| ServerError::Wait(error.into()))? {
                return Ok(());
            }
            let socket = match self.listener.accept() {
                Ok((socket, _)) => OwnedFd::from(socket),
                Err(error) if is_passing(&error) => continue,
                Err(error) => return Err(ServerError::Wait(error)),
            };
            tell(ServerEvent::Connected);
            let socket = Arc::new(socket);
            let sender = Sender::new(socket.clone());
            let Some(end) = self.serve(&socket, sender.clone(), &stops) else { return Ok(()) };
            tell(ServerEvent::Gone(sender.why().unwrap_or_else(|| end.to_string())));
            if matches!(end, StreamEnd::Stopped) {
                return Ok(());
            }
        }
    }

    /// Reads a client's messages until it is gone; none: the card's thread is.
    fn serve(&self, socket: &OwnedFd, sender: Sender, stops: &[BorrowedFd<'_>]) -> Option<StreamEnd> {
        let mut taken = self.inbox.put_request(Incoming::Connected(sender));
        let end = loop {
            if !taken {
                return None;
            }
            taken = match receive(socket.as_fd(), stops) {
                Ok(message) if message.header.flags & wire::TYPE == wire::TYPE_REPLY => {
                    self.inbox.put_reply(message)
                }
                Ok(message) => self.inbox.put_request(Incoming::Request(message)),
                Err(StreamEnd::BadHeader(header)) => {
                    self.inbox.put_request(Incoming::BadHeader(header));
                    break StreamEnd::BadHeader(header);
                }
                Err(end) => break end,
            };
        };
        self.inbox.put_request(Incoming::Gone).then_some(end)
    }
}

struct Closes<'a> {
    inbox: &'a Inbox,
    _ends: UnixStream,
}

impl Drop for Closes<'_> {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

/// Whether the next client may come all the same.
fn is_passing(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
    matches!(error.kind(), ConnectionAborted | Interrupted | WouldBlock)
}

fn listen(path: &Path) -> std::io::Result<UnixListener> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => match UnixStream::connect(path) {
            Err(refused) if refused.kind() == std::io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path)?;
                UnixListener::bind(path)
            }
            _ => Err(error),
        },
        other => other,
    }?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
