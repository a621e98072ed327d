//! A block service in memory, a server over it, and a client that speaks raw NBD.
#![allow(dead_code)] // Every test binary uses its own part of it.

pub mod client;
pub mod served;
pub mod stock;

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use volplane::{
    BlockService, Completion, DmaMemory, IoError, Operation, ServiceError, SubmitError, VdHandle, VirtualDisk,
};
use volplane_cli::nbd::{Endpoint, Limits, Report, ServeError, Server};

/// The seed of a test: `VOLPLANE_SEED` or `default`, printed.
pub fn seed(default: u64) -> u64 {
    let seed = std::env::var("VOLPLANE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(default);
    println!("replay with VOLPLANE_SEED={seed}");
    seed
}

/// What tests see of the service while the server owns it.
#[derive(Default)]
pub struct Inside {
    /// Bytes of every disk.
    pub contents: Vec<Vec<u8>>,
    /// Operations in order of submission.
    pub submitted: Vec<(u16, Operation)>,
    /// Operations in order of completion.
    pub completed: Vec<(u16, Operation)>,
    /// Operations that touch these blocks of a disk fail with the status.
    pub failures: Vec<(u16, std::ops::Range<u64>, u16)>,
    /// Nothing completes while it is set.
    pub held: bool,
    /// Most operations at a time.
    pub capacity: usize,
    /// Bytes of DMA memory given out.
    pub allocated: usize,
    /// Calls of `wait`.
    pub waits: u64,
    /// Completes in another order than submitted, some late.
    pub random: Option<ChaCha8Rng>,
}

/// Disks in memory. An operation has its effect when it completes, so a buffer that is touched too
/// early shows.
pub struct MemoryService {
    disks: Vec<VirtualDisk>,
    inside: Arc<Mutex<Inside>>,
    pending: Vec<(VdHandle, Operation, Option<DmaMemory>, u64)>,
    done: Vec<Completion>,
    now: Duration,
    next_iova: u64,
}

impl MemoryService {
    pub fn new(disks: &[(&str, u32, u64)], seed: u64) -> (Self, Arc<Mutex<Inside>>) {
        let disks: Vec<VirtualDisk> = disks
            .iter()
            .enumerate()
            .map(|(i, &(name, block_size, blocks))| VirtualDisk {
                handle: VdHandle(i as u16),
                name: name.to_owned(),
                block_size,
                blocks,
                preferred_io_bytes: 64 << 10,
            })
            .collect();
        let inside = Arc::new(Mutex::new(Inside {
            contents: disks.iter().map(|disk| vec![0; disk.bytes() as usize]).collect(),
            capacity: 1000,
            random: Some(ChaCha8Rng::seed_from_u64(seed)),
            ..Inside::default()
        }));
        let service = MemoryService {
            disks,
            inside: inside.clone(),
            pending: Vec::new(),
            done: Vec::new(),
            now: Duration::ZERO,
            next_iova: 1 << 32,
        };
        (service, inside)
    }

    fn execute(
        disk: &VirtualDisk,
        inside: &mut Inside,
        operation: Operation,
        memory: Option<&DmaMemory>,
    ) -> Result<(), IoError> {
        inside.completed.push((disk.handle.0, operation));
        let Some((lba, blocks)) = operation.range() else {
            return Ok(());
        };
        for (failing, range, status) in &inside.failures {
            if *failing == disk.handle.0 && lba < range.end && range.start < lba + blocks {
                return Err(IoError { disk: disk.handle, operation, status: *status });
            }
        }
        let block = disk.block_size as usize;
        let (start, len) = (lba as usize * block, blocks as usize * block);
        let bytes = &mut inside.contents[usize::from(disk.handle.0)][start..start + len];
        match (operation, memory) {
            (Operation::Read { .. }, Some(memory)) => memory.write(0, bytes),
            (Operation::Write { .. }, Some(memory)) => memory.read(0, bytes),
            // What is read after a deallocate is undefined; this value would be noticed.
            (Operation::Deallocate { .. }, _) => bytes.fill(0xDD),
            _ => bytes.fill(0),
        }
        Ok(())
    }
}

impl BlockService for MemoryService {
    fn virtual_disks(&self) -> &[VirtualDisk] {
        &self.disks
    }

    fn allocate(&mut self, bytes: usize) -> Result<DmaMemory, ServiceError> {
        self.inside.lock().expect("lock").allocated += bytes;
        let mapping = memmap2::MmapMut::map_anon(bytes).expect("memory");
        self.next_iova += bytes as u64;
        Ok(DmaMemory::new(mapping, volplane_driver::Iova(self.next_iova), ()))
    }

    fn submit(
        &mut self,
        disk: VdHandle,
        operation: Operation,
        buffer: Option<DmaMemory>,
        tag: u64,
    ) -> Result<(), SubmitError> {
        let mut inside = self.inside.lock().expect("lock");
        if self.pending.len() + self.done.len() >= inside.capacity {
            return Err(SubmitError::Full);
        }
        let known = self.disks.get(usize::from(disk.0)).ok_or(SubmitError::NoSuchDisk(disk))?;
        if let Some((lba, blocks)) = operation.range() {
            if blocks == 0 || lba + blocks > known.blocks {
                return Err(SubmitError::OutOfRange { disk, operation, blocks: known.blocks });
            }
            let needed = if operation.has_buffer() { blocks * u64::from(known.block_size) } else { 0 };
            if buffer.as_ref().map_or(0, |buffer| buffer.len() as u64) < needed {
                return Err(SubmitError::BadBuffer { disk, operation, reason: "too short" });
            }
        }
        if buffer.is_some() != operation.has_buffer() {
            return Err(SubmitError::BadBuffer { disk, operation, reason: "one where none belongs" });
        }
        inside.submitted.push((disk.0, operation));
        self.pending.push((disk, operation, buffer, tag));
        Ok(())
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> Result<usize, ServiceError> {
        let count = self.done.len();
        done.append(&mut self.done);
        Ok(count)
    }

    fn outstanding(&self) -> usize {
        self.pending.len() + self.done.len()
    }

    fn now(&self) -> Duration {
        self.now
    }

    fn wait(&mut self, deadline: Duration) -> Result<(), ServiceError> {
        self.now = self.now.max(deadline);
        let mut inside = self.inside.lock().expect("lock");
        inside.waits += 1;
        if inside.held {
            drop(inside);
            std::thread::sleep(Duration::from_micros(100));
            return Ok(());
        }
        let count = self.pending.len().div_ceil(2);
        for _ in 0..count {
            let chosen =
                inside.random.as_mut().map_or(0, |random| random.random_range(0..self.pending.len()));
            let (disk, operation, memory, tag) = self.pending.swap_remove(chosen);
            let result =
                Self::execute(&self.disks[usize::from(disk.0)], &mut inside, operation, memory.as_ref());
            self.done.push(Completion { tag, result });
        }
        Ok(())
    }
}

/// A server on a thread of its own.
pub struct Running {
    pub inside: Arc<Mutex<Inside>>,
    pub socket: PathBuf,
    pub tcp: std::net::SocketAddr,
    pub stop: Option<UnixStream>,
    name: String,
    thread: Option<JoinHandle<Result<Report, ServeError>>>,
    directory: tempfile::TempDir,
}

impl Running {
    /// Serves `disks` (name, block size, blocks) on a Unix socket and a TCP port.
    pub fn start(disks: &[(&str, u32, u64)], limits: Limits, seed: u64) -> Running {
        let (service, inside) = MemoryService::new(disks, seed);
        let directory = tempfile::tempdir().expect("directory");
        let socket = directory.path().join("nbd.sock");
        let mut server = Server::new(service, limits).expect("server");
        server.listen(&Endpoint::Unix(socket.clone())).expect("listen");
        let any_port = Endpoint::Tcp("127.0.0.1:0".parse().expect("address"));
        let Endpoint::Tcp(tcp) = server.listen(&any_port).expect("listen") else {
            panic!("a TCP endpoint was asked for");
        };
        let (stop, stopped) = UnixStream::pair().expect("pair");
        static SERVERS: AtomicU32 = AtomicU32::new(0);
        let name = format!("server-{}", SERVERS.fetch_add(1, Ordering::Relaxed));
        let builder = std::thread::Builder::new().name(name.clone());
        let thread = builder.spawn(move || server.run(stopped)).expect("thread");
        Running { inside, socket, tcp, stop: Some(stop), name, thread: Some(thread), directory }
    }

    pub fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().expect("the server's thread lives")
    }

    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// URI of an export on the Unix socket.
    pub fn uri(&self, export: &str) -> String {
        volplane_cli::nbd::export_uri(&Endpoint::Unix(self.socket.clone()), export)
    }

    /// URI of an export on the TCP port.
    pub fn tcp_uri(&self, export: &str) -> String {
        volplane_cli::nbd::export_uri(&Endpoint::Tcp(self.tcp), export)
    }

    /// Waits until `what` holds.
    pub fn until(&self, what: &str, mut holds: impl FnMut(&Inside) -> bool) {
        for _ in 0..2000 {
            if holds(&self.inside()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("not within 10 s: {what}");
    }

    /// Clock ticks of processor time that the server's thread has used.
    pub fn ticks_used(&self) -> u64 {
        let tasks = std::fs::read_dir("/proc/self/task").expect("tasks");
        for task in tasks {
            let folder = task.expect("task").path();
            let Ok(stat) = std::fs::read_to_string(folder.join("stat")) else {
                continue;
            };
            let (head, fields) = stat.rsplit_once(')').expect("a name in parentheses");
            if head.ends_with(&format!("({}", self.name)) {
                let field = |at: usize| fields.split_whitespace().nth(at).expect("field");
                let ticks = |at: usize| field(at).parse::<u64>().expect("ticks");
                return ticks(11) + ticks(12);
            }
        }
        panic!("the server's thread is gone");
    }

    /// Stops the server and waits for its end.
    pub fn finish(mut self) -> Result<Report, ServeError> {
        self.stop = None;
        self.thread.take().expect("not yet joined").join().expect("the server does not panic")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("the server does not panic").expect("the server ends well");
            }
        }
    }
}
