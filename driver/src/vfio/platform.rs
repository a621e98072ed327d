//! The address space of all devices: what they reach, interrupts to wait for, and time.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use memmap2::{MmapMut, MmapOptions};
use rustix::event::{poll, PollFd, Timespec};
use vfio_ioctls::{VfioDevice, VfioError};
use vmm_sys_util::eventfd::EventFd;

use super::function::VfioFunction;
use super::interface::Interface;
use super::iova::{reserved_regions, IovaSpace};
use super::kernel::{self, Mapped, MappedBar};
use super::refusal::{self, Refusal};
use crate::host::{PciAddress, SystemTree};
use crate::memory::{DmaMemory, Iova, PAGE};
use crate::platform::{AccessError, Platform};

/// A huge page of x86-64, and log2 of it.
const HUGE_PAGE: usize = 1 << HUGE_PAGE_BITS;
const HUGE_PAGE_BITS: u8 = 21;
/// Times shorter than this are waited for by looking at the clock: sleeping takes longer.
const SPIN: Duration = Duration::from_micros(50);

/// The machine, through Linux VFIO. Functions are PCI addresses.
///
/// The address space lives until the platform, every function of it and all its memory are gone.
pub struct VfioPlatform {
    tree: SystemTree,
    space: Arc<AddressSpace>,
    started: Instant,
}

/// What devices share.
#[derive(Default)]
pub(super) struct AddressSpace {
    /// Decided by the first device that was opened.
    interface: OnceLock<Interface>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    free: IovaSpace,
    /// Groups whose reserved regions are not handed out.
    groups: BTreeSet<u32>,
    opened: BTreeSet<PciAddress>,
    /// Bytes of memory that devices reach; BARs do not count.
    pinned: u64,
    /// What functions raise.
    interrupts: Vec<Arc<Vectors>>,
}

/// The event descriptors of a function's interrupt vectors.
pub(super) type Vectors = Vec<EventFd>;

impl VfioPlatform {
    /// An address space with nothing in it.
    ///
    /// # Errors
    /// `AccessError::Vfio` where the kernel has no VFIO.
    pub fn new() -> Result<Self, AccessError> {
        Self::with_tree(SystemTree::of_this_machine())
    }

    fn with_tree(tree: SystemTree) -> Result<Self, AccessError> {
        refusal::check_vfio(&tree)?;
        Ok(Self { tree, space: Arc::default(), started: Instant::now() })
    }

    /// By which interface of the kernel devices are opened, in words; `None` before the first was.
    pub fn interface(&self) -> Option<String> {
        self.space.interface.get().map(Interface::to_string)
    }

    /// Bytes of memory that devices reach.
    pub fn pinned(&self) -> u64 {
        self.space.state().pinned
    }
}

impl AddressSpace {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The interface; a refusal before there is a device.
    pub(super) fn interface(&self) -> Result<&Interface, Refusal> {
        self.interface.get().ok_or(Refusal::NoDevice)
    }

    /// Lets all devices reach `memory`; gives its bus address.
    fn map(&self, memory: &mut impl Mapped, alignment: usize) -> Result<Iova, Refusal> {
        let len = memory.len() as u64;
        self.place(len, alignment, |interface, iova| interface.map(iova, memory))
    }

    /// Lets all devices reach a BAR; gives its bus address.
    pub(super) fn map_bar(
        &self,
        device: &VfioDevice,
        region: u32,
        bar: &MappedBar,
        alignment: usize,
    ) -> Result<Iova, Refusal> {
        self.place(bar.len(), alignment, |interface, iova| interface.map_bar(iova, device, region, bar))
    }

    fn place(
        &self,
        len: u64,
        alignment: usize,
        map: impl FnOnce(&Interface, u64) -> Result<(), VfioError>,
    ) -> Result<Iova, Refusal> {
        let interface = self.interface()?;
        let mut state = self.state();
        let iova = state.free.take(len, alignment as u64).ok_or(Refusal::NoBusAddresses)?;
        if let Err(error) = map(interface, iova) {
            state.free.give_back(iova, len);
            return Err(refusal::map_refusal(error, state.pinned, len));
        }
        Ok(Iova(iova))
    }

    /// Takes memory away from all devices. Addresses that the kernel does not give up are never handed out again.
    pub(super) fn unmap(&self, iova: Iova, len: u64) {
        if self.interface().is_ok_and(|interface| interface.unmap(iova.0, len).is_ok()) {
            self.state().free.give_back(iova.0, len);
        }
    }

    /// Waits for these vectors too from now on.
    pub(super) fn listen(&self, vectors: &Arc<Vectors>) {
        self.state().interrupts.push(vectors.clone());
    }

    /// Waits for them no more.
    pub(super) fn forget(&self, vectors: &Arc<Vectors>) {
        self.state().interrupts.retain(|known| !Arc::ptr_eq(known, vectors));
    }

    /// A function was closed, or not opened.
    pub(super) fn closed(&self, address: PciAddress) {
        self.state().opened.remove(&address);
    }
}

/// DMA memory that is unmapped when this goes.
struct Unmap {
    space: Arc<AddressSpace>,
    iova: Iova,
    len: u64,
}

impl Drop for Unmap {
    fn drop(&mut self) {
        self.space.unmap(self.iova, self.len);
        self.space.state().pinned -= self.len;
    }
}

impl Platform for VfioPlatform {
    type Function = VfioFunction;

    fn open(&mut self, address: &str) -> Result<VfioFunction, AccessError> {
        let address: PciAddress = address.parse().map_err(Refusal::Address)?;
        let (_, group) = refusal::check_function(&self.tree, address).map_err(|refusal| {
            refusal.map_or_else(|| AccessError::NoFunction(address.to_string()), AccessError::from)
        })?;
        {
            let mut state = self.space.state();
            if !state.opened.insert(address) {
                return Err(AccessError::Busy(address.to_string()));
            }
            if !state.groups.contains(&group) {
                let path = self.tree.path(format!("/sys/kernel/iommu_groups/{group}/reserved_regions"));
                let text = std::fs::read_to_string(path).unwrap_or_default();
                reserved_regions(&text).into_iter().for_each(|region| state.free.remove(region));
            }
        }
        let opened = self.open_device(address, group).map_err(AccessError::from).and_then(|device| {
            self.space.state().groups.insert(group);
            VfioFunction::new(self.space.clone(), device, address)
        });
        if opened.is_err() {
            self.space.closed(address);
        }
        opened
    }

    fn allocate(&mut self, bytes: usize) -> Result<DmaMemory, AccessError> {
        let refuse = |reason: String| AccessError::NoMemory { bytes, reason };
        if bytes == 0 {
            return Err(refuse("nothing asked for".to_owned()));
        }
        let len = bytes.checked_next_multiple_of(PAGE).ok_or_else(|| refuse("too large".to_owned()))?;
        let (mut memory, alignment) = anonymous(len).map_err(|error| refuse(error.to_string()))?;
        let iova = self.space.map(&mut memory, alignment).map_err(|reason| refuse(reason.to_string()))?;
        let mapped = memory.len() as u64;
        self.space.state().pinned += mapped;
        let unmap = Unmap { space: self.space.clone(), iova, len: mapped };
        Ok(DmaMemory::new(memory, iova, unmap).part(0, len))
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn wait(&mut self, deadline: Duration) -> Result<(), AccessError> {
        let left = deadline.saturating_sub(self.now());
        if left < SPIN {
            while self.now() < deadline {
                std::hint::spin_loop();
            }
            return Ok(());
        }
        let interrupts = self.space.state().interrupts.clone();
        let mut descriptors: Vec<PollFd<'_>> =
            interrupts.iter().flat_map(|vectors| vectors.iter()).map(kernel::readable).collect();
        // Longer waits than the kernel counts end earlier, as they may.
        let timeout = Timespec::try_from(left).ok();
        match poll(&mut descriptors, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => {
                Err(AccessError::System { what: "waiting for interrupts".to_owned(), source: error.into() })
            }
        }
    }
}

impl VfioPlatform {
    fn open_device(&self, address: PciAddress, group: u32) -> Result<VfioDevice, Refusal> {
        if let Some(interface) = self.space.interface.get() {
            let device = interface.open(&self.tree, address);
            return device.map_err(|error| refusal::function_refusal(&self.tree, address, group, error));
        }
        let (interface, device) = Interface::with_first(&self.tree, address, group)?;
        self.space.interface.get_or_init(|| interface);
        Ok(device)
    }
}

/// Zeroed memory of at least `len` bytes, and what its bus address should be a multiple of: huge pages where the
/// memory is that large and the machine has some to give, ordinary ones that the kernel may join where not.
fn anonymous(len: usize) -> std::io::Result<(MmapMut, usize)> {
    if len < HUGE_PAGE {
        return Ok((MmapMut::map_anon(len)?, PAGE));
    }
    if let Some(whole) = len.checked_next_multiple_of(HUGE_PAGE) {
        if let Ok(memory) = MmapOptions::new().huge(Some(HUGE_PAGE_BITS)).len(whole).map_anon() {
            return Ok((memory, HUGE_PAGE));
        }
    }
    let memory = MmapMut::map_anon(len)?;
    // Advice: a kernel without transparent huge pages refuses it, and the memory is as good.
    let _ = memory.advise(memmap2::Advice::HugePage);
    Ok((memory, HUGE_PAGE))
}
