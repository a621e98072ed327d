//! The calls of the kernel and of `pci-driver` that are unsafe, each behind a safe one.

#![allow(unsafe_code)] // The one module of the VFIO backing that may.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::null_mut;

use memmap2::{MmapMut, MmapOptions, MmapRaw};
use pci_driver::regions::{PciMemoryRegion, PciRegion, Permissions};
use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::ioctl::{ioctl, opcode, NoArg};
use rustix::mm::{mmap_anonymous, mremap_fixed, munmap, MapFlags, MremapFlags, ProtFlags};
use vfio_ioctls::{VfioDevice, VfioError, VfioOps};
use vmm_sys_util::eventfd::EventFd;

/// `VFIO_DEVICE_RESET` of linux/vfio.h. `vfio-ioctls` issues it too, but does not tell whether it worked.
const DEVICE_RESET: rustix::ioctl::Opcode = opcode::none(b';', 100 + 11);

/// Memory of this process that devices may be given: its bytes are reached by raw pointers only.
pub(super) trait Mapped {
    /// First byte.
    fn start(&mut self) -> *mut u8;
    /// Bytes.
    fn len(&self) -> usize;
}

impl Mapped for MmapMut {
    fn start(&mut self) -> *mut u8 {
        self.as_mut_ptr()
    }

    fn len(&self) -> usize {
        self.as_ref().len()
    }
}

impl Mapped for &MappedBar {
    fn start(&mut self) -> *mut u8 {
        self.mapping.as_mut_ptr()
    }

    fn len(&self) -> usize {
        self.mapping.len()
    }
}

/// Lets all devices of an address space reach `memory` at `iova`, until that range is unmapped.
///
/// # Errors
/// The kernel's.
pub(super) fn map_dma(space: &dyn VfioOps, iova: u64, memory: &mut impl Mapped) -> Result<(), VfioError> {
    let (len, start) = (memory.len(), memory.start());
    // SAFETY: the range is a mapping of ours that nobody has a reference to: `DmaMemory` and `MappedBar` reach it by
    // raw pointers, with atomic or volatile accesses. Who owns it unmaps `iova` first; should that fail, the kernel
    // keeps the pages pinned for the devices, and nothing else of this process is there.
    unsafe { space.vfio_dma_map(iova, len, start) }
}

/// Resets a device by whatever its kernel driver can do for it alone, function level reset first.
///
/// # Errors
/// The kernel's; `ENOTTY` when the device cannot be reset.
pub(super) fn reset(device: &File) -> io::Result<()> {
    // SAFETY: VFIO_DEVICE_RESET takes no argument, and reads and writes no memory of this process.
    Ok(unsafe { ioctl(device, NoArg::<DEVICE_RESET>::new()) }?)
}

/// A second descriptor of a device.
///
/// # Errors
/// The kernel's.
pub(super) fn duplicate(device: &VfioDevice) -> io::Result<File> {
    // SAFETY: the descriptor is open as long as `device` is, which is borrowed for longer than this.
    let borrowed = unsafe { BorrowedFd::borrow_raw(device.as_raw_fd()) };
    Ok(File::from(borrowed.as_fd().try_clone_to_owned()?))
}

/// An event descriptor that is read without waiting.
///
/// # Errors
/// The kernel's.
pub(super) fn new_event() -> io::Result<EventFd> {
    EventFd::new((EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).bits() as i32)
}

/// Asks `poll` whether an event was raised.
pub(super) fn readable(event: &EventFd) -> PollFd<'_> {
    // SAFETY: the descriptor is open as long as `event` is, which is borrowed for as long as the result.
    PollFd::from_borrowed_fd(unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) }, PollFlags::IN)
}

/// A BAR in the memory of this process.
#[derive(Debug)]
pub(super) struct MappedBar {
    /// Names `mapping`, and never leaves this struct.
    region: PciMemoryRegion<'static>,
    mapping: MmapRaw,
}

impl MappedBar {
    /// Maps `len` bytes at `offset` of a device's descriptor.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn new(device: &File, offset: u64, len: usize) -> io::Result<Self> {
        let mapping = MmapOptions::new().offset(offset).len(len).map_raw(device)?;
        // SAFETY: the region is used through `&self` only, and the mapping lives as long.
        let region = unsafe { PciMemoryRegion::new_raw(mapping.as_mut_ptr(), len, Permissions::ReadWrite) };
        Ok(Self { region, mapping })
    }

    /// Bytes.
    pub(super) fn len(&self) -> u64 {
        self.mapping.len() as u64
    }

    /// Puts memory of ones in the place of the device's: so reads a BAR whose device is gone. What is written changes
    /// that memory and nothing else.
    ///
    /// # Errors
    /// The kernel's; the BAR is as it was then.
    pub(super) fn become_ones(&self) -> io::Result<()> {
        let len = self.mapping.len();
        // SAFETY: a mapping of its own, of no address that anybody knows, filled before anybody does.
        let ones = unsafe {
            let ones =
                mmap_anonymous(null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)?;
            ones.cast::<u8>().write_bytes(0xFF, len);
            ones
        };
        let place = self.mapping.as_mut_ptr().cast();
        // SAFETY: it replaces, at once, the whole of a mapping that is ours, of the same length, and reached by volatile
        // accesses of raw pointers only; `mapping` unmaps what is there when it goes.
        let moved = unsafe { mremap_fixed(ones, len, len, MremapFlags::MAYMOVE, place) };
        if moved.is_err() {
            // SAFETY: still at the address that it was given above, and nobody else knows it.
            let _ = unsafe { munmap(ones, len) };
        }
        Ok(moved.map(drop)?)
    }

    /// Reads 4 bytes, aligned; `None` outside.
    pub(super) fn read32(&self, offset: u64) -> Option<u32> {
        self.holds(offset).then(|| self.region.read_le_u32(offset).ok()).flatten()
    }

    /// Writes 4 bytes, aligned; `None` outside.
    pub(super) fn write32(&self, offset: u64, value: u32) -> Option<()> {
        self.holds(offset).then(|| self.region.write_le_u32(offset, value).ok()).flatten()
    }

    /// Checked here: `pci-driver` adds without looking for an overflow.
    fn holds(&self, offset: u64) -> bool {
        offset.is_multiple_of(4) && offset < self.len() && self.len() - offset >= 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_read_and_written_inside_only() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(8192).expect("its length");
        let bar = MappedBar::new(&file, 4096, 4096).expect("a mapping");
        assert_eq!(bar.write32(4092, 0x1234_5678), Some(()));
        assert_eq!(bar.read32(4092), Some(0x1234_5678));
        for offset in [4096, 2, 4093, u64::MAX - 3, u64::MAX] {
            assert_eq!((bar.read32(offset), bar.write32(offset, 0)), (None, None), "{offset:#x}");
        }
        let mut bytes = [0; 4];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 8188).expect("the file");
        assert_eq!(u32::from_le_bytes(bytes), 0x1234_5678);
    }

    #[test]
    fn a_bar_that_is_gone_reads_ones() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(8192).expect("its length");
        let bar = MappedBar::new(&file, 0, 8192).expect("a mapping");
        bar.become_ones().expect("ones");
        assert_eq!((bar.read32(0), bar.read32(8188)), (Some(u32::MAX), Some(u32::MAX)));
        assert_eq!(bar.write32(4096, 7), Some(()));
        let mut bytes = vec![1; 8192];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 0).expect("the file");
        assert!(bytes.iter().all(|&byte| byte == 0), "what was behind it is left alone");
    }

    #[test]
    fn what_is_no_vfio_device_cannot_be_reset() {
        let file = tempfile::tempfile().expect("a file");
        assert_eq!(
            reset(&file).expect_err("no device").raw_os_error(),
            Some(rustix::io::Errno::NOTTY.raw_os_error())
        );
    }
}
