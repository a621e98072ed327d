//! Writers that number what they write, until it fails: what was acknowledged must be there whatever happened to the
//! server, and what was under way must be the old block or the new one, whole.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use memmap2::MmapMut;
use rustix::fs::OFlags;

use crate::{expect, Outcome};

/// Bytes of a block.
const BLOCK: usize = 4096;
/// Writers, each with blocks of its own, which it writes in turns.
const WRITERS: u64 = 4;
const BLOCKS: u64 = 64;
/// Longest time until enough was written.
const LIMIT: Duration = Duration::from_secs(60);
/// Time in which something is acknowledged as long as anybody works: the guest is emulated.
const REST: Duration = Duration::from_millis(500);
/// Copies there may be, each of which is read at least once, as they are read in turns.
const READS: usize = 4;

/// What a writer wrote.
struct Written {
    /// By block: the number that was acknowledged at last, 0 for none.
    acknowledged: Vec<u64>,
    /// The number whose write failed, and when that began.
    failed: (u64, Instant),
}

/// Writers at work.
pub struct Writers {
    device: PathBuf,
    acknowledged: Arc<AtomicU64>,
    writers: Vec<JoinHandle<std::io::Result<Written>>>,
}

impl Writers {
    /// Starts them on a block device.
    pub fn start(device: &str) -> Self {
        let (device, acknowledged) = (PathBuf::from(device), Arc::new(AtomicU64::new(0)));
        let start = |writer: u64| {
            let (device, acknowledged) = (device.clone(), acknowledged.clone());
            std::thread::spawn(move || write(&device, writer, &acknowledged))
        };
        let writers = (0..WRITERS).map(start).collect();
        Self { device, acknowledged, writers }
    }

    /// Waits until so many writes were acknowledged.
    pub fn wait_for(&self, count: u64) -> Outcome {
        let began = Instant::now();
        while self.acknowledged.load(Ordering::Relaxed) < count {
            expect(began.elapsed() < LIMIT, "writes take too long")?;
            expect(
                !self.writers.iter().any(JoinHandle::is_finished),
                "a write failed with the server there",
            )?;
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(format!("{count} writes"))
    }

    /// Waits until nothing is acknowledged any more, as when the server is stopped: each writer waits for its write.
    pub fn wait_for_rest(&self) -> Outcome {
        let began = Instant::now();
        loop {
            let before = self.acknowledged.load(Ordering::Relaxed);
            std::thread::sleep(REST);
            if self.acknowledged.load(Ordering::Relaxed) == before {
                return Ok(format!("{before} writes"));
            }
            expect(began.elapsed() < LIMIT, "writes go on with the server stopped")?;
        }
    }

    /// Waits until all have failed, which they do when the server is gone.
    pub fn end(self) -> Result<Stamped, Box<dyn std::error::Error>> {
        let mut written = Vec::new();
        for writer in self.writers {
            written.push(writer.join().map_err(|_| "a writer panicked")??);
        }
        Ok(Stamped { device: self.device, written })
    }
}

/// What all writers wrote.
pub struct Stamped {
    device: PathBuf,
    written: Vec<Written>,
}

impl Stamped {
    /// Reads every block; `killed` is when the server was.
    pub fn check(&self, killed: Instant) -> Outcome {
        let device = open(&self.device)?;
        let (mut found, mut blocks) = (MmapMut::map_anon(BLOCK)?, 0);
        for (writer, written) in self.written.iter().enumerate() {
            for (block, &acknowledged) in (0..).zip(&written.acknowledged).filter(|(_, &number)| number > 0) {
                let place = writer as u64 * BLOCKS + block;
                let failed = Some(written.failed.0).filter(|number| number % BLOCKS == block);
                for _ in 0..READS {
                    device.read_exact_at(&mut found, place * BLOCK as u64)?;
                    let number = numbered(&found, place);
                    let holds = number == Some(acknowledged) || failed.is_some() && number == failed;
                    expect(holds, format!("block {place}: {number:?}, {acknowledged} was acknowledged"))?;
                }
                blocks += 1;
            }
        }
        let under_way = self.written.iter().filter(|written| written.failed.1 < killed).count();
        let writers = self.written.len();
        expect(under_way == writers, format!("{under_way} of {writers} writes were under way"))?;
        Ok(format!("{blocks} blocks hold what was acknowledged, {under_way} writes were under way"))
    }
}

fn open(device: &Path) -> std::io::Result<std::fs::File> {
    OpenOptions::new().read(true).write(true).custom_flags(OFlags::DIRECT.bits() as i32).open(device)
}

fn write(device: &Path, writer: u64, count: &AtomicU64) -> std::io::Result<Written> {
    let device = open(device)?;
    let mut data = MmapMut::map_anon(BLOCK)?;
    let mut acknowledged = vec![0; BLOCKS as usize];
    for number in 1.. {
        let block = number % BLOCKS;
        let place = writer * BLOCKS + block;
        fill(&mut data, place, number);
        let began = Instant::now();
        if device.write_all_at(&data, place * BLOCK as u64).is_err() {
            return Ok(Written { acknowledged, failed: (number, began) });
        }
        acknowledged[block as usize] = number;
        count.fetch_add(1, Ordering::Relaxed);
    }
    unreachable!("numbers do not end")
}

/// A block: where it is, and its number, again and again.
fn fill(data: &mut [u8], place: u64, number: u64) {
    for (word, bytes) in data.chunks_exact_mut(8).enumerate() {
        bytes.copy_from_slice(&[place, number][word % 2].to_le_bytes());
    }
}

/// The number of a block that is whole, and where it should be.
fn numbered(data: &[u8], place: u64) -> Option<u64> {
    let word = |index: usize| Some(u64::from_le_bytes(data.get(8 * index..8 * index + 8)?.try_into().ok()?));
    let number = word(1)?;
    let mut expected = vec![0; data.len()];
    fill(&mut expected, place, number);
    (data == expected).then_some(number)
}
