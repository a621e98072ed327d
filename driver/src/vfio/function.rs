//! A function through VFIO: its BARs in the memory of this process and at bus addresses of the container, its
//! configuration space by reads and writes of its descriptor, its interrupts as event descriptors.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{fence, Ordering};
use std::sync::Arc;

use rustix::event::EventfdFlags;
use vfio_bindings::bindings::vfio::{
    VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_BAR2_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_REGION_INFO_FLAG_MMAP,
};
use vfio_ioctls::VfioDevice;
use vmm_sys_util::eventfd::EventFd;

use super::config_space::{self, Abilities};
use super::kernel::{self, MappedBar};
use super::platform::{Container, Vectors};
use super::refusal::Refusal;
use crate::host::PciAddress;
use crate::memory::Iova;
use crate::pci;
use crate::platform::{AccessError, Bar, Function};

/// Where a BAR begins in the address space: that is a multiple of its size, which real BARs of more than a page need
/// not for anything here, but analysers show it.
const BAR_ALIGNMENT: usize = 1 << 20;

/// A function, open; it is closed when this is dropped: its interrupts end and nobody reaches its BARs any more.
pub struct VfioFunction {
    address: PciAddress,
    name: String,
    abilities: Abilities,
    bar0: Option<PlacedBar>,
    bar2: Option<PlacedBar>,
    vectors: Option<Arc<Vectors>>,
    container: Arc<Container>,
    /// What `vfio-ioctls` keeps of it.
    device: VfioDevice,
    /// The same device. It is dropped after `device`, so that the crate finds the group in use and leaves it in the
    /// container: with the last group all mappings would go. It also keeps the device in sysfs, where `device` looks
    /// for its group as it is dropped, and panics without one.
    file: File,
}

/// A BAR and where peers reach it.
struct PlacedBar {
    mapped: MappedBar,
    iova: Iova,
}

impl VfioFunction {
    pub(super) fn new(
        container: Arc<Container>,
        device: VfioDevice,
        address: PciAddress,
    ) -> Result<Self, AccessError> {
        let name = address.to_string();
        let system = |what: &str| {
            let what = format!("{name}: {what}");
            move |source: io::Error| AccessError::System { what, source }
        };
        let file = kernel::duplicate(&device).map_err(system("a second descriptor"))?;
        let mut function = Self {
            address,
            abilities: Abilities::default(),
            bar0: None,
            bar2: None,
            vectors: None,
            container,
            device,
            file,
            name: name.clone(),
        };
        let mut space = [0; config_space::BYTES];
        function.config_read(0, &mut space)?;
        function.abilities = Abilities::of(&space).map_err(system("its list of capabilities"))?;
        // A BAR that does not answer cannot be given to peers.
        pci::enable_memory(&function)?;
        function.bar0 = function.place(VFIO_PCI_BAR0_REGION_INDEX, "BAR0")?;
        function.bar2 = function.place(VFIO_PCI_BAR2_REGION_INDEX, "BAR2")?;
        Ok(function)
    }

    /// What it can do.
    pub fn abilities(&self) -> Abilities {
        self.abilities
    }

    /// Maps a BAR, if it has it, here and for peers.
    fn place(&self, region: u32, bar: &'static str) -> Result<Option<PlacedBar>, Refusal> {
        let bytes = self.device.get_region_size(region);
        if bytes == 0 {
            return Ok(None);
        }
        let refuse = |reason: String| Refusal::Bar { address: self.address, bar, bytes, reason };
        if self.device.get_region_flags(region) & VFIO_REGION_INFO_FLAG_MMAP == 0 {
            return Err(refuse(
                "the kernel does not allow it (a BAR smaller than a page, or of I/O ports)".into(),
            ));
        }
        let len = usize::try_from(bytes).map_err(|error| refuse(error.to_string()))?;
        let offset = self.device.get_region_offset(region);
        let mut mapped =
            MappedBar::new(&self.file, offset, len).map_err(|error| refuse(error.to_string()))?;
        let iova = self.container.map(&mut mapped, BAR_ALIGNMENT);
        let iova = iova.map_err(|error| refuse(format!("for peers: {error}")))?;
        Ok(Some(PlacedBar { mapped, iova }))
    }

    fn placed(&self, bar: Bar) -> Option<&PlacedBar> {
        match bar {
            Bar::Bar0 => self.bar0.as_ref(),
            Bar::Bar2 => self.bar2.as_ref(),
        }
    }

    fn bad_access(&self, bar: Bar, offset: u64) -> AccessError {
        AccessError::BadAccess { function: self.name.clone(), bar, offset, width: 4 }
    }

    fn config_read(&self, offset: u16, into: &mut [u8]) -> Result<(), AccessError> {
        let at = self.device.get_region_offset(VFIO_PCI_CONFIG_REGION_INDEX) + u64::from(offset);
        self.file.read_exact_at(into, at).map_err(|source| self.config_error("read", offset, source))
    }

    fn config_error(&self, what: &str, offset: u16, source: io::Error) -> AccessError {
        let what = format!("{}: {what} of configuration space at {offset:#x}", self.name);
        AccessError::System { what, source }
    }

    fn end_interrupts(&mut self) -> Result<(), AccessError> {
        let Some(vectors) = self.vectors.take() else { return Ok(()) };
        self.container.forget(&vectors);
        self.device.disable_msix().map_err(|source| self.vfio_error("the end of its interrupts", source))
    }

    fn vfio_error(&self, what: &str, source: vfio_ioctls::VfioError) -> AccessError {
        Refusal::Vfio { what: format!("{}: {what}", self.name), source }.into()
    }
}

impl Drop for VfioFunction {
    fn drop(&mut self) {
        // The descriptor goes next: then the kernel ends what could not be ended here.
        let _ = self.end_interrupts();
        for bar in [self.bar0.take(), self.bar2.take()].into_iter().flatten() {
            self.container.unmap(bar.iova, bar.mapped.len());
        }
        self.container.closed(self.address);
    }
}

impl Function for VfioFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn bar_len(&self, bar: Bar) -> u64 {
        self.placed(bar).map_or(0, |bar| bar.mapped.len())
    }

    fn bar_iova(&self, bar: Bar) -> Iova {
        self.placed(bar).map_or(Iova(0), |bar| bar.iova)
    }

    fn read32(&self, bar: Bar, offset: u64) -> Result<u32, AccessError> {
        let value = self.placed(bar).and_then(|bar| bar.mapped.read32(offset));
        value.ok_or_else(|| self.bad_access(bar, offset))
    }

    fn write32(&self, bar: Bar, offset: u64, value: u32) -> Result<(), AccessError> {
        // DMA memory is written by relaxed stores; the device may read it as soon as it sees this.
        fence(Ordering::SeqCst);
        let written = self.placed(bar).and_then(|bar| bar.mapped.write32(offset, value));
        written.ok_or_else(|| self.bad_access(bar, offset))
    }

    fn config_read32(&self, offset: u16) -> Result<u32, AccessError> {
        let mut bytes = [0; 4];
        self.config_read(offset & !3, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn config_write32(&self, offset: u16, value: u32) -> Result<(), AccessError> {
        let offset = offset & !3;
        let at = self.device.get_region_offset(VFIO_PCI_CONFIG_REGION_INDEX) + u64::from(offset);
        let written = self.file.write_all_at(&value.to_le_bytes(), at);
        written.map_err(|source| self.config_error("write", offset, source))
    }

    fn enable_interrupts(&mut self, vectors: u16) -> Result<(), AccessError> {
        self.end_interrupts()?;
        let has = self.abilities.vectors;
        if vectors > has {
            return Err(Refusal::Vectors { address: self.address, has, wanted: vectors }.into());
        }
        if vectors == 0 {
            return Ok(());
        }
        let flags = (EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).bits() as i32;
        let events: io::Result<Vectors> = (0..vectors).map(|_| EventFd::new(flags)).collect();
        let events = events.map_err(|source| AccessError::System {
            what: format!("{}: event descriptors of {vectors} interrupts", self.name),
            source,
        })?;
        let enabled = self.device.enable_msix(events.iter().collect());
        enabled.map_err(|source| self.vfio_error(&format!("{vectors} MSI-X vectors"), source))?;
        let events = Arc::new(events);
        self.container.listen(&events);
        self.vectors = Some(events);
        Ok(())
    }

    fn take_interrupt(&self, vector: u16) -> bool {
        let event = self.vectors.as_ref().and_then(|vectors| vectors.get(usize::from(vector)));
        event.is_some_and(|event| event.read().is_ok())
    }

    fn reset(&mut self) -> Result<(), AccessError> {
        kernel::reset(&self.file).map_err(|source| match rustix::io::Errno::from_io_error(&source) {
            Some(rustix::io::Errno::NOTTY) => Refusal::NoReset(self.address).into(),
            _ => AccessError::System { what: format!("{}: reset", self.name), source },
        })
    }
}
