//! A vfio-user client as a driver's platform.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{eventfd, EventfdFlags};
use rustix::fs::{fcntl_add_seals, ftruncate, memfd_create, MemfdFlags, SealFlags};
use volplane_driver::{AccessError, Bar, DmaMemory, Function, Iova, Platform, PAGE};

use super::client::Client;
use super::command;
use super::connection::words;

/// Name of the one function.
pub const ADDRESS: &str = "vfio-user";
/// Where the card's BARs are for its peers.
const BARS: [(u64, u64); 2] = [(0x40_0000_0000, 0x4_0000), (0x40_1000_0000, 0x8_0000)];
/// The simulated card is so many times slower than the clock at least: what the driver takes for a millisecond is so
/// many.
const SLOWNESS: u32 = 50;
/// Longest sleep.
const SLEEP_MAX: Duration = Duration::from_micros(200);

/// How the server reaches memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// By a file that cannot shrink.
    Sealed,
    /// By a file that can.
    Unsealed,
    /// By messages, in a window without a file.
    Messages,
    /// By messages, without a window.
    Hidden,
}

/// A machine with the card alone.
pub struct ClientPlatform {
    client: Client,
    sharing: Sharing,
    start: Instant,
    next_iova: u64,
}

impl ClientPlatform {
    /// Connects.
    pub fn new(path: &Path, sharing: Sharing) -> Self {
        let client = Client::connect(path);
        Self { client, sharing, start: Instant::now(), next_iova: 0x1_0000_0000 }
    }

    /// The client.
    pub fn client(&self) -> Client {
        self.client.clone()
    }
}

/// Tells the server that a window is no more.
struct Unmap {
    client: Option<Client>,
    iova: u64,
    bytes: u64,
}

impl Drop for Unmap {
    fn drop(&mut self) {
        let Some(client) = &self.client else { return };
        let payload =
            [words(&[24, 0]), self.iova.to_ne_bytes().into(), self.bytes.to_ne_bytes().into()].concat();
        // The connection may be at its end, and the window with it.
        let _ = client.send(command::DMA_UNMAP, &payload, &[]).recv_timeout(Duration::from_secs(5));
    }
}

fn system(what: &str) -> impl Fn(std::io::Error) -> AccessError + '_ {
    move |source| AccessError::System { what: what.into(), source }
}

impl Platform for ClientPlatform {
    type Function = ClientFunction;

    fn open(&mut self, address: &str) -> Result<ClientFunction, AccessError> {
        if address != ADDRESS {
            return Err(AccessError::NoFunction(address.into()));
        }
        Ok(ClientFunction { client: self.client.clone(), vectors: vec![] })
    }

    fn allocate(&mut self, bytes: usize) -> Result<DmaMemory, AccessError> {
        let len = bytes.next_multiple_of(PAGE);
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create("dma", flags).map_err(|error| system("memory")(error.into()))?;
        ftruncate(&file, len as u64).map_err(|error| system("memory")(error.into()))?;
        if self.sharing == Sharing::Sealed {
            let sealed = fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW);
            sealed.map_err(|error| system("memory")(error.into()))?;
        }
        let file = File::from(file);
        let iova = self.next_iova;
        self.next_iova += (len + PAGE) as u64;
        let mapped = self.sharing != Sharing::Hidden;
        if mapped {
            let address: Vec<u8> = [0, iova, len as u64].iter().flat_map(|word| word.to_ne_bytes()).collect();
            let fds = [file.as_fd()];
            let fds = if self.sharing == Sharing::Messages { &[][..] } else { &fds };
            let answer = self.client.ask(command::DMA_MAP, &[words(&[32, 3]), address].concat(), fds);
            answer.map_err(|errno| AccessError::NoMemory { bytes, reason: format!("errno {errno}") })?;
        }
        let unmap = Unmap { client: mapped.then(|| self.client.clone()), iova, bytes: len as u64 };
        let memory = DmaMemory::of_file(&file, len, Iova(iova), unmap).map_err(system("memory"))?;
        if matches!(self.sharing, Sharing::Messages | Sharing::Hidden) {
            self.client.add_memory(memory.clone());
        }
        Ok(memory)
    }

    fn now(&self) -> Duration {
        self.start.elapsed() / SLOWNESS
    }

    fn wait(&mut self, deadline: Duration) -> Result<(), AccessError> {
        let left = deadline.saturating_sub(self.now()).saturating_mul(SLOWNESS);
        std::thread::sleep(left.min(SLEEP_MAX));
        Ok(())
    }
}

/// The card.
pub struct ClientFunction {
    client: Client,
    vectors: Vec<OwnedFd>,
}

impl ClientFunction {
    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    fn read(&self, region: u32, offset: u64, bytes: usize) -> Result<Vec<u8>, AccessError> {
        let payload = [offset.to_ne_bytes().to_vec(), words(&[region, bytes as u32])].concat();
        let answer = self.client.ask(command::REGION_READ, &payload, &[]);
        let answer = answer.map_err(|errno| refused("a read", errno))?;
        Ok(answer[16..].to_vec())
    }

    fn write(&self, region: u32, offset: u64, data: &[u8]) -> Result<(), AccessError> {
        let head = [offset.to_ne_bytes().to_vec(), words(&[region, data.len() as u32])].concat();
        let answer = self.client.ask(command::REGION_WRITE, &[&head, data].concat(), &[]);
        answer.map(drop).map_err(|errno| refused("a write", errno))
    }
}

fn refused(what: &str, errno: u32) -> AccessError {
    system(what)(std::io::Error::from_raw_os_error(errno as i32))
}

fn region(bar: Bar) -> u32 {
    match bar {
        Bar::Bar0 => 0,
        Bar::Bar2 => 2,
    }
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("4 bytes"))
}

impl Function for ClientFunction {
    fn name(&self) -> &str {
        ADDRESS
    }

    fn bar_len(&self, bar: Bar) -> u64 {
        BARS[usize::from(bar == Bar::Bar2)].1
    }

    fn bar_iova(&self, bar: Bar) -> Iova {
        Iova(BARS[usize::from(bar == Bar::Bar2)].0)
    }

    fn read32(&self, bar: Bar, offset: u64) -> Result<u32, AccessError> {
        Ok(word(&self.read(region(bar), offset, 4)?))
    }

    fn write32(&self, bar: Bar, offset: u64, value: u32) -> Result<(), AccessError> {
        self.write(region(bar), offset, &value.to_le_bytes())
    }

    fn write64(&self, bar: Bar, offset: u64, value: u64) -> Result<(), AccessError> {
        self.write(region(bar), offset, &value.to_le_bytes())
    }

    fn config_read32(&self, offset: u16) -> Result<u32, AccessError> {
        Ok(word(&self.read(7, offset.into(), 4)?))
    }

    fn config_write32(&self, offset: u16, value: u32) -> Result<(), AccessError> {
        self.write(7, offset.into(), &value.to_le_bytes())
    }

    fn enable_interrupts(&mut self, vectors: u16) -> Result<(), AccessError> {
        let made: Result<Vec<OwnedFd>, _> =
            (0..vectors).map(|_| eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)).collect();
        self.vectors = made.map_err(|error| system("an eventfd")(error.into()))?;
        for (number, some) in self.vectors.chunks(8).enumerate() {
            let payload = words(&[20, 0x24, 2, number as u32 * 8, some.len() as u32]);
            let fds: Vec<_> = some.iter().map(AsFd::as_fd).collect();
            let answer = self.client.ask(command::DEVICE_SET_IRQS, &payload, &fds);
            answer.map_err(|errno| refused("interrupts", errno))?;
        }
        Ok(())
    }

    fn take_interrupt(&self, vector: u16) -> bool {
        let mut count = [0; 8];
        self.vectors.get(usize::from(vector)).is_some_and(|fd| rustix::io::read(fd, &mut count).is_ok())
    }

    fn reset(&mut self) -> Result<(), AccessError> {
        let answer = self.client.ask(command::DEVICE_RESET, &[], &[]);
        answer.map(drop).map_err(|errno| refused("a reset", errno))
    }
}
