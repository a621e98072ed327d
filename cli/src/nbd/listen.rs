//! Listening sockets: Unix, and TCP on loopback alone, since nothing here authenticates a client.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use mio::event::Source;
use mio::{Interest, Registry, Token};

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A TCP port of a loopback address; port 0 takes any free one.
    Tcp(SocketAddr),
    /// A Unix socket; a stale one, on which nobody listens, is replaced.
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => write!(f, "{address}"),
            Endpoint::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is reachable from other machines.
    #[error(
        "{0}: not a loopback address; NBD here has no authentication, so only 127.0.0.0/8 and ::1 are served"
    )]
    NotLoopback(SocketAddr),
    /// Something else has this name.
    #[error("{}: exists and is not a socket", .0.display())]
    NotASocket(PathBuf),
    /// Another server answers there.
    #[error("{}: another server listens on it", .0.display())]
    InUse(PathBuf),
    /// The operating system refused.
    #[error("{endpoint}: cannot listen: {source}")]
    System {
        /// Where.
        endpoint: Endpoint,
        /// Its error.
        source: io::Error,
    },
}

/// A listening socket. Its file goes with it.
pub(super) enum Listener {
    Tcp(mio::net::TcpListener),
    Unix { socket: mio::net::UnixListener, path: PathBuf, identity: Option<(u64, u64)> },
}

impl Listener {
    pub(super) fn open(endpoint: &Endpoint) -> Result<Self, ListenError> {
        let system = |source| ListenError::System { endpoint: endpoint.clone(), source };
        match endpoint {
            Endpoint::Tcp(address) if !address.ip().is_loopback() => Err(ListenError::NotLoopback(*address)),
            Endpoint::Tcp(address) => {
                Ok(Listener::Tcp(mio::net::TcpListener::bind(*address).map_err(system)?))
            }
            Endpoint::Unix(path) => {
                remove_stale(path)?;
                let socket = mio::net::UnixListener::bind(path).map_err(system)?;
                Ok(Listener::Unix { socket, path: path.clone(), identity: identity(path) })
            }
        }
    }

    /// Where it listens in fact: with the port that was found.
    pub(super) fn endpoint(&self) -> io::Result<Endpoint> {
        Ok(match self {
            Listener::Tcp(socket) => Endpoint::Tcp(socket.local_addr()?),
            Listener::Unix { path, .. } => Endpoint::Unix(path.clone()),
        })
    }

    pub(super) fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Tcp(socket) => {
                let (stream, _) = socket.accept()?;
                // Replies are gathered before they are written; Nagle would only delay them.
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Listener::Unix { socket, .. } => Ok(Stream::Unix(socket.accept()?.0)),
        }
    }

    pub(super) fn source(&mut self) -> &mut dyn Source {
        match self {
            Listener::Tcp(socket) => socket,
            Listener::Unix { socket, .. } => socket,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix { path, identity: ours, .. } = self {
            // Another server may have put its own socket here meanwhile; that one stays.
            if ours.is_some() && identity(path) == *ours {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(ListenError::NotASocket(path.to_owned()));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)
            .map_err(|source| ListenError::System { endpoint: Endpoint::Unix(path.to_owned()), source }),
        _ => Err(ListenError::InUse(path.to_owned())),
    }
}

/// A connected socket.
pub(super) enum Stream {
    Tcp(mio::net::TcpStream),
    Unix(mio::net::UnixStream),
}

impl Stream {
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self {
            Stream::Tcp(stream) => registry.register(stream, token, interest),
            Stream::Unix(stream) => registry.register(stream, token, interest),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(into),
            Stream::Unix(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(from),
            Stream::Unix(stream) => stream.write(from),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_served() {
        for address in ["0.0.0.0:0", "192.0.2.1:10809", "[::]:0"] {
            let address = address.parse().expect("address");
            assert!(matches!(Listener::open(&Endpoint::Tcp(address)), Err(ListenError::NotLoopback(_))));
        }
        let any_port = Endpoint::Tcp("127.0.0.1:0".parse().expect("address"));
        let listener = Listener::open(&any_port).expect("loopback");
        assert_ne!(listener.endpoint().expect("endpoint"), any_port, "the port that was found is told");
    }

    #[test]
    fn a_stale_socket_is_replaced_and_nothing_else() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("socket");
        let endpoint = Endpoint::Unix(path.clone());

        let first = Listener::open(&endpoint).expect("first");
        assert!(matches!(Listener::open(&endpoint), Err(ListenError::InUse(_))));
        drop(first);
        assert!(!path.exists(), "the file goes with the listener");

        drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket left behind"));
        drop(Listener::open(&endpoint).expect("replaced"));

        std::fs::write(&path, "precious").expect("file");
        assert!(matches!(Listener::open(&endpoint), Err(ListenError::NotASocket(_))));
        assert_eq!(std::fs::read_to_string(&path).expect("file"), "precious");
    }
}
