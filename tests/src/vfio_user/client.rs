//! A client that answers DMA messages while it asks.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use volplane_driver::DmaMemory;

use super::connection::{header, message, Connection, Reply};

/// Longest time that a test waits for an answer.
const LIMIT: Duration = Duration::from_secs(30);

/// A DMA message of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dma {
    /// Number, for the reply.
    pub id: u16,
    /// Command.
    pub command: u16,
    /// Address.
    pub iova: u64,
    /// Bytes.
    pub len: usize,
    /// What is written.
    pub data: Vec<u8>,
}

#[derive(Default)]
struct Shared {
    waiting: BTreeMap<u16, Sender<Reply>>,
    next_id: u16,
    /// Memory by address.
    memory: Vec<DmaMemory>,
    /// Where a peer's registers are: writes are kept.
    peer: Option<(u64, usize)>,
    peer_writes: Vec<(u64, Vec<u8>)>,
    /// DMA messages, or writes alone, are kept, and answered when that ends.
    holds_reads: bool,
    holds_writes: bool,
    held: VecDeque<Dma>,
    messages: u64,
    bytes: u64,
    /// The connection is at its end.
    ended: bool,
}

/// A client. Clones are one.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Mutex<Shared>>,
    sender: Arc<Mutex<Connection>>,
    reader: Arc<Mutex<Option<JoinHandle<()>>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// Connects and agrees on a version.
    pub fn connect(path: &Path) -> Self {
        let connection = Connection::negotiated(path);
        let mut incoming = connection.again();
        let client =
            Self { shared: Arc::default(), sender: Arc::new(Mutex::new(connection)), reader: Arc::default() };
        let (shared, sender) = (client.shared.clone(), client.sender.clone());
        let reader = std::thread::spawn(move || {
            while let Some(message) = incoming.receive() {
                take(&shared, &sender, message);
            }
            let mut shared = lock(&shared);
            shared.ended = true;
            shared.waiting.clear();
        });
        *lock(&client.reader) = Some(reader);
        client
    }

    /// Sends a command; its reply comes to the receiver.
    pub fn send(&self, command: u16, payload: &[u8], fds: &[BorrowedFd<'_>]) -> Receiver<Reply> {
        let (answer, reply) = channel();
        let id = {
            let mut shared = lock(&self.shared);
            shared.next_id = shared.next_id.wrapping_add(1);
            let id = shared.next_id;
            if !shared.ended {
                shared.waiting.insert(id, answer);
            }
            id
        };
        lock(&self.sender).send_fds(&message(id, command, payload), fds);
        reply
    }

    /// Sends a command and waits for its reply, or its errno; that of a connection at its end is ENOTCONN.
    ///
    /// # Panics
    /// When there is none.
    pub fn ask(&self, command: u16, payload: &[u8], fds: &[BorrowedFd<'_>]) -> Result<Vec<u8>, u32> {
        match self.send(command, payload, fds).recv_timeout(LIMIT) {
            Ok(reply) => reply.result(),
            Err(RecvTimeoutError::Disconnected) => Err(107),
            Err(RecvTimeoutError::Timeout) => panic!("no reply to command {command} within {LIMIT:?}"),
        }
    }

    /// Adds memory that DMA messages reach.
    pub fn add_memory(&self, memory: DmaMemory) {
        lock(&self.shared).memory.push(memory);
    }

    /// Says where a peer's registers are.
    pub fn add_peer(&self, iova: u64, len: usize) {
        lock(&self.shared).peer = Some((iova, len));
    }

    /// What was written to the peer's registers since it was last asked.
    pub fn take_peer_writes(&self) -> Vec<(u64, Vec<u8>)> {
        std::mem::take(&mut lock(&self.shared).peer_writes)
    }

    /// Keeps DMA messages from now on.
    pub fn hold(&self) {
        let mut shared = lock(&self.shared);
        (shared.holds_reads, shared.holds_writes) = (true, true);
    }

    /// Keeps DMA writes from now on.
    pub fn hold_writes(&self) {
        lock(&self.shared).holds_writes = true;
    }

    /// DMA messages that are kept.
    pub fn held(&self) -> usize {
        lock(&self.shared).held.len()
    }

    /// Waits until `count` DMA messages are kept.
    ///
    /// # Panics
    /// When they do not come.
    pub fn wait_held(&self, count: usize) {
        let deadline = Instant::now() + LIMIT;
        while self.held() < count {
            assert!(Instant::now() < deadline, "{} DMA messages instead of {count}", self.held());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Answers what was kept, the last first if `backwards`, and keeps no more.
    pub fn release(&self, backwards: bool) {
        let mut held: Vec<Dma> = {
            let mut shared = lock(&self.shared);
            (shared.holds_reads, shared.holds_writes) = (false, false);
            shared.held.drain(..).collect()
        };
        if backwards {
            held.reverse();
        }
        held.into_iter().for_each(|dma| answer(&self.shared, &self.sender, &dma));
    }

    /// DMA messages answered, and their bytes of data.
    pub fn counts(&self) -> (u64, u64) {
        let shared = lock(&self.shared);
        (shared.messages, shared.bytes)
    }

    /// Ends the connection.
    pub fn close(&self) {
        lock(&self.sender).close();
        if let Some(reader) = lock(&self.reader).take() {
            reader.join().expect("no panic");
        }
        // Dropped without the lock: it may unmap.
        let memory = std::mem::take(&mut lock(&self.shared).memory);
        drop(memory);
    }
}

fn take(shared: &Mutex<Shared>, sender: &Mutex<Connection>, message: Reply) {
    if message.flags & 0xF == 1 {
        if let Some(waiting) = lock(shared).waiting.remove(&message.id) {
            // Whoever asked may wait no more.
            let _ = waiting.send(message);
        }
        return;
    }
    let number = |at: usize| u64::from_ne_bytes(message.payload[at..at + 8].try_into().expect("8 bytes"));
    let dma = Dma {
        id: message.id,
        command: message.command,
        iova: number(0),
        len: number(8) as usize,
        data: message.payload[16..].to_vec(),
    };
    let mut state = lock(shared);
    let is_write = dma.command == super::command::DMA_WRITE;
    if if is_write { state.holds_writes } else { state.holds_reads } {
        state.held.push_back(dma);
        return;
    }
    drop(state);
    answer(shared, sender, &dma);
}

/// Executes a DMA message and replies.
fn answer(shared: &Mutex<Shared>, sender: &Mutex<Connection>, dma: &Dma) {
    let found = execute(&mut lock(shared), dma);
    let mut payload = dma.iova.to_ne_bytes().to_vec();
    payload.extend_from_slice(&(dma.len as u64).to_ne_bytes());
    let reply = match found {
        Some(data) => {
            payload.extend_from_slice(&data);
            [header(dma.id, dma.command, 16 + payload.len() as u32, 1, 0), payload].concat()
        }
        None => header(dma.id, dma.command, 16, 0x21, 14),
    };
    lock(sender).send(&reply);
}

fn execute(shared: &mut Shared, dma: &Dma) -> Option<Vec<u8>> {
    shared.messages += 1;
    shared.bytes += dma.len as u64;
    let within = |base: u64, len: usize| dma.iova >= base && dma.iova - base + dma.len as u64 <= len as u64;
    if shared.peer.is_some_and(|(base, len)| within(base, len)) && !dma.data.is_empty() {
        shared.peer_writes.push((dma.iova, dma.data.clone()));
        return Some(vec![]);
    }
    let memory = shared.memory.iter().find(|memory| within(memory.iova().0, memory.len()))?;
    let offset = (dma.iova - memory.iova().0) as usize;
    if dma.command == super::command::DMA_WRITE {
        memory.write(offset, &dma.data);
        return Some(vec![]);
    }
    let mut data = vec![0; dma.len];
    memory.read(offset, &mut data);
    Some(data)
}
