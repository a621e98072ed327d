//! What a client asks for, and how each request is answered.
//!
//! A request is answered once, by a reply or by an error alone, unless it wants no reply. `INVAL` is a payload of
//! another length, a field that cannot be, or file descriptors where none belong; `OPNOTSUPP` a command that is not
//! known here. After either the connection goes on. It ends after a first message that is not VERSION, or cannot be
//! agreed on.

use rustix::io::Errno;
use volplane_abi::registers;
use volplane_driver::Bar;
use zerocopy::IntoBytes;

use super::config_space;
use super::device::{AccessKind, Device, RegisterAccess};
use super::stream::Message;
use super::version;
use super::wire::{
    self, command, DeviceInfo, DmaMap, DmaUnmap, Header, IrqInfo, IrqSet, RegionAccess, RegionInfo,
    DEVICE_PCI, DEVICE_RESETS, IRQ_ACTION_TRIGGER, IRQ_DATA_BOOL, IRQ_DATA_EVENTFD, IRQ_DATA_NONE,
    IRQ_EVENTFD, REGION_READ_WRITE, UNMAP_ALL,
};
use crate::card::BAR2_BYTES;

/// Regions of a PCI device: six BARs, the ROM, configuration space, VGA.
const REGIONS: u32 = 9;
const REGION_BAR0: u32 = 0;
const REGION_BAR2: u32 = 2;
const REGION_CONFIG: u32 = 7;
/// Kinds of interrupts that can be asked for: INTx, MSI, MSI-X, of which the card has the last.
const IRQS: u32 = 3;
const IRQ_MSIX: u32 = 2;
/// Most bytes of an access of registers: clients split.
const REGISTER_BYTES_MAX: usize = 8;
/// Most bytes of an access of the completion windows: an entry.
const WINDOW_BYTES_MAX: usize = 16;

/// The answer to a request.
enum Answer {
    /// This payload.
    Now(Vec<u8>),
    /// The card is asked first.
    Later,
}

impl Device {
    /// Takes a request, and answers it unless the card is asked first.
    pub(super) fn request(&mut self, message: Message) {
        let Message { header, .. } = message;
        let is_version = header.command == command::VERSION;
        if !self.negotiated && !is_version {
            self.answer_error(header, Errno::INVAL);
            return self.give_up(format!("its first message is command {}, not VERSION", header.command));
        }
        let began = self.negotiated;
        match self.execute(message) {
            Ok(Answer::Now(payload)) => self.answer(header, &[&payload]),
            Ok(Answer::Later) => {}
            Err(error) => {
                self.answer_error(header, error);
                if !began {
                    self.give_up("its version, or its capabilities, cannot be agreed on".into());
                }
            }
        }
    }

    fn execute(&mut self, message: Message) -> Result<Answer, Errno> {
        let Message { header, payload, fds, too_many_fds } = message;
        let most = match header.command {
            command::DMA_MAP => 1,
            command::DEVICE_SET_IRQS => version::FDS_MAX,
            _ => 0,
        };
        if too_many_fds || fds.len() > most {
            return Err(Errno::INVAL);
        }
        let now = |record: &dyn Fn() -> Result<Vec<u8>, Errno>| record().map(Answer::Now);
        match header.command {
            command::VERSION if self.negotiated => Err(Errno::INVAL),
            command::VERSION => {
                let answer = version::negotiate(&payload)?;
                self.negotiated = true;
                Ok(Answer::Now(answer))
            }
            command::DMA_MAP => {
                let map: DmaMap = sized(&payload, |map: &DmaMap| map.argsz)?;
                self.bus.windows.map(&map, fds.into_iter().next())?;
                Ok(Answer::Now(vec![]))
            }
            command::DMA_UNMAP => {
                let unmap: DmaUnmap = sized(&payload, |unmap: &DmaUnmap| unmap.argsz)?;
                match unmap.flags {
                    0 => self.bus.windows.unmap(unmap.address, unmap.size)?,
                    UNMAP_ALL => self.bus.windows.clear(),
                    _ => return Err(Errno::INVAL),
                }
                Ok(Answer::Now(payload))
            }
            command::DEVICE_GET_INFO => now(&|| device_info(&payload)),
            command::DEVICE_GET_REGION_INFO => now(&|| region_info(&payload)),
            command::DEVICE_GET_IRQ_INFO => now(&|| irq_info(&payload, self.bus.interrupts.len())),
            command::DEVICE_SET_IRQS => {
                self.set_irqs(&payload, fds)?;
                Ok(Answer::Now(vec![]))
            }
            command::REGION_READ => self.read_region(header, &payload),
            command::REGION_WRITE => self.write_region(header, &payload),
            command::DEVICE_RESET if !payload.is_empty() => Err(Errno::INVAL),
            command::DEVICE_RESET => {
                self.reset();
                Ok(Answer::Now(vec![]))
            }
            _ => Err(Errno::OPNOTSUPP),
        }
    }

    fn set_irqs(&mut self, payload: &[u8], fds: Vec<std::os::fd::OwnedFd>) -> Result<(), Errno> {
        let (set, data) = wire::first::<IrqSet>(payload).ok_or(Errno::INVAL)?;
        let vectors = if set.index == IRQ_MSIX { self.bus.interrupts.len() } else { 0 };
        let (start, count) = (set.start as usize, set.count as usize);
        let fits = set.index < IRQS && start.checked_add(count).is_some_and(|end| end <= vectors);
        if !fits || (set.argsz as usize) < size_of::<IrqSet>() || set.flags & IRQ_ACTION_TRIGGER == 0 {
            return Err(Errno::INVAL);
        }
        let range = start..start + count;
        match (set.flags & !IRQ_ACTION_TRIGGER, fds.len()) {
            (IRQ_DATA_NONE, 0) if data.is_empty() && start == 0 && count == 0 => {
                (0..vectors).for_each(|vector| self.set_vector(vector, None));
            }
            (IRQ_DATA_NONE, 0) if data.is_empty() && count > 0 => {
                range.for_each(|vector| self.bus.interrupts.signal(vector));
            }
            (IRQ_DATA_BOOL, 0) if data.len() == count => {
                let raised = range.zip(data).filter(|(_, &raise)| raise != 0);
                raised.for_each(|(vector, _)| self.bus.interrupts.signal(vector));
            }
            (IRQ_DATA_EVENTFD, 0) if data.is_empty() && count > 0 => {
                range.for_each(|vector| self.set_vector(vector, None));
            }
            (IRQ_DATA_EVENTFD, given) if data.is_empty() && given == count => {
                range.zip(fds).for_each(|(vector, fd)| self.set_vector(vector, Some(fd)));
            }
            _ => return Err(Errno::INVAL),
        }
        Ok(())
    }

    fn set_vector(&mut self, vector: usize, eventfd: Option<std::os::fd::OwnedFd>) {
        self.bus.interrupts.set(vector, eventfd);
        self.program_vector(vector);
    }

    fn read_region(&mut self, header: Header, payload: &[u8]) -> Result<Answer, Errno> {
        let request: RegionAccess = wire::whole(payload).ok_or(Errno::INVAL)?;
        let count = request.count as usize;
        if request.region == REGION_CONFIG {
            let offset = config_offset(&request)?;
            let mut answer = payload.to_vec();
            answer.resize(payload.len() + count, 0);
            self.space.read(offset, &mut answer[payload.len()..]);
            return Ok(Answer::Now(answer));
        }
        let bar = bar_of(&request, REGISTER_BYTES_MAX, REGISTER_BYTES_MAX)?;
        if !count.is_multiple_of(4) {
            return Err(Errno::INVAL);
        }
        let kind = AccessKind::Read { found: Vec::with_capacity(count), asked: false };
        self.access = Some(RegisterAccess { header, request, bar, kind, since: self.cycles });
        Ok(Answer::Later)
    }

    fn write_region(&mut self, header: Header, payload: &[u8]) -> Result<Answer, Errno> {
        let (request, data) = wire::first::<RegionAccess>(payload).ok_or(Errno::INVAL)?;
        if data.len() != request.count as usize {
            return Err(Errno::INVAL);
        }
        let answer = Answer::Now(request.as_bytes().to_vec());
        if request.region == REGION_CONFIG {
            if self.space.write(config_offset(&request)?, data) {
                self.reset();
            }
            self.bus.master = self.space.is_master();
            return Ok(answer);
        }
        let bar = bar_of(&request, REGISTER_BYTES_MAX, WINDOW_BYTES_MAX)?;
        if bar == Bar::Bar0 && !data.len().is_multiple_of(4) {
            return Err(Errno::INVAL);
        }
        // The table of interrupts is this server's: a client has eventfds instead.
        let table = u64::from(registers::MSIX_TABLE);
        let table = table..table + 16 * self.bus.interrupts.len() as u64;
        if bar == Bar::Bar0 && table.contains(&request.offset) {
            return Ok(answer);
        }
        let kind = AccessKind::Write { data: data.to_vec(), done: 0 };
        self.access = Some(RegisterAccess { header, request, bar, kind, since: self.cycles });
        Ok(Answer::Later)
    }
}

/// The record that a payload is, whole, if the client has room for an answer of its size.
fn sized<T: zerocopy::FromBytes>(payload: &[u8], argsz: impl Fn(&T) -> u32) -> Result<T, Errno> {
    let record = wire::whole::<T>(payload).ok_or(Errno::INVAL)?;
    if (argsz(&record) as usize) < size_of::<T>() {
        return Err(Errno::INVAL);
    }
    Ok(record)
}

fn device_info(payload: &[u8]) -> Result<Vec<u8>, Errno> {
    sized(payload, |info: &DeviceInfo| info.argsz)?;
    let argsz = size_of::<DeviceInfo>() as u32;
    let info = DeviceInfo { argsz, flags: DEVICE_RESETS | DEVICE_PCI, regions: REGIONS, irqs: IRQS };
    Ok(info.as_bytes().to_vec())
}

fn region_bytes(region: u32) -> u64 {
    match region {
        REGION_BAR0 => registers::BAR0_BYTES,
        REGION_BAR2 => BAR2_BYTES,
        REGION_CONFIG => config_space::BYTES as u64,
        _ => 0,
    }
}

fn region_info(payload: &[u8]) -> Result<Vec<u8>, Errno> {
    let index = sized(payload, |info: &RegionInfo| info.argsz)?.index;
    if index >= REGIONS {
        return Err(Errno::INVAL);
    }
    let size = region_bytes(index);
    let flags = if size > 0 { REGION_READ_WRITE } else { 0 };
    let argsz = size_of::<RegionInfo>() as u32;
    Ok(RegionInfo { argsz, flags, index, capabilities: 0, size, offset: 0 }.as_bytes().to_vec())
}

fn irq_info(payload: &[u8], vectors: usize) -> Result<Vec<u8>, Errno> {
    let index = sized(payload, |info: &IrqInfo| info.argsz)?.index;
    if index >= IRQS {
        return Err(Errno::INVAL);
    }
    let count = if index == IRQ_MSIX { vectors as u32 } else { 0 };
    let flags = if count > 0 { IRQ_EVENTFD } else { 0 };
    Ok(IrqInfo { argsz: size_of::<IrqInfo>() as u32, flags, index, count }.as_bytes().to_vec())
}

/// Where in configuration space an access begins that lies within it.
fn config_offset(request: &RegionAccess) -> Result<usize, Errno> {
    let end = request.offset.checked_add(request.count.into()).ok_or(Errno::INVAL)?;
    if request.count == 0 || end > region_bytes(REGION_CONFIG) {
        return Err(Errno::INVAL);
    }
    Ok(request.offset as usize)
}

/// The BAR of an access that lies within it: of a power of two of bytes, aligned, of at most `most0` or `most2`.
fn bar_of(request: &RegionAccess, most0: usize, most2: usize) -> Result<Bar, Errno> {
    let (bar, most) = match request.region {
        REGION_BAR0 => (Bar::Bar0, most0),
        REGION_BAR2 => (Bar::Bar2, most2),
        _ => return Err(Errno::INVAL),
    };
    let count = request.count as usize;
    let aligned = count.is_power_of_two() && request.offset.is_multiple_of(count as u64);
    if !aligned || count > most || request.offset >= region_bytes(request.region) {
        return Err(Errno::INVAL);
    }
    Ok(bar)
}
