//! A function through VFIO: its BARs in the memory of this process and at bus addresses, its configuration space by reads
//! and writes of its descriptor, its interrupts as event descriptors.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{fence, Ordering};
use std::sync::Arc;
use std::time::Duration;

use vfio_bindings::bindings::vfio::{
    VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_BAR2_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_REGION_INFO_FLAG_MMAP,
};
use vfio_ioctls::VfioDevice;

use super::config_space::{self, Abilities};
use super::holding::{Holding, OpenDevice, PlacedBar, Watch};
use super::kernel::{self, MappedBar};
use super::platform::{AddressSpace, Vectors};
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
    vectors: Option<Arc<Vectors>>,
    /// Dropped first: the device is ours alone then.
    watch: Option<Watch>,
    holding: Arc<Holding>,
    space: Arc<AddressSpace>,
}

impl VfioFunction {
    pub(super) fn new(
        space: Arc<AddressSpace>,
        device: VfioDevice,
        address: PciAddress,
    ) -> Result<Self, AccessError> {
        let name = address.to_string();
        let system = |what: &str| {
            let what = format!("{name}: {what}");
            move |source: io::Error| AccessError::System { what, source }
        };
        let file = kernel::duplicate(&device).map_err(system("a second descriptor"))?;
        let open = OpenDevice { device, file };
        let request = kernel::new_event().map_err(system("an event descriptor"))?;
        let mut bytes = [0; config_space::BYTES];
        let configuration = open.device.get_region_offset(VFIO_PCI_CONFIG_REGION_INDEX);
        open.file.read_exact_at(&mut bytes, configuration).map_err(system("configuration space"))?;
        let abilities = Abilities::of(&bytes).map_err(system("its list of capabilities"))?;
        // A BAR that does not answer cannot be given to peers.
        let command = pci::with_memory([bytes[4], bytes[5]]);
        let written = open.file.write_all_at(&command, configuration + 4);
        written.map_err(system("configuration space"))?;
        let bar0 = place(&space, &open, address, VFIO_PCI_BAR0_REGION_INDEX, "BAR0")?;
        let bar2 = place(&space, &open, address, VFIO_PCI_BAR2_REGION_INDEX, "BAR2");
        let bar2 =
            bar2.inspect_err(|_| bar0.iter().for_each(|bar| space.unmap(bar.iova, bar.mapped.len())))?;
        let holding = Arc::new(Holding::new(open, [bar0, bar2], request));
        let mut function = Self { address, name, abilities, vectors: None, watch: None, holding, space };
        let watch = Watch::start(&function.holding, &function.space);
        function.watch = Some(watch.map_err(|source| AccessError::System {
            what: format!("{address}: a thread for the kernel's requests"),
            source,
        })?);
        Ok(function)
    }

    /// What it can do.
    pub fn abilities(&self) -> Abilities {
        self.abilities
    }

    fn placed(&self, bar: Bar) -> Option<&PlacedBar> {
        match bar {
            Bar::Bar0 => self.holding.bar0.as_ref(),
            Bar::Bar2 => self.holding.bar2.as_ref(),
        }
    }

    fn bad_access(&self, bar: Bar, offset: u64) -> AccessError {
        AccessError::BadAccess { function: self.name.clone(), bar, offset, width: 4 }
    }

    fn config_error(&self, what: &str, offset: u16, source: io::Error) -> AccessError {
        let what = format!("{}: {what} of configuration space at {offset:#x}", self.name);
        AccessError::System { what, source }
    }

    fn end_interrupts(&mut self) -> Result<(), AccessError> {
        let Some(vectors) = self.vectors.take() else { return Ok(()) };
        self.space.forget(&vectors);
        let ended = self.holding.open().as_ref().map_or(Ok(()), |open| open.device.disable_msix());
        ended.map_err(|source| self.vfio_error("the end of its interrupts", source))
    }

    /// What is said of a function that the kernel has back.
    fn gone(&self, what: &'static str) -> AccessError {
        AccessError::NoAnswer { function: self.name.clone(), what, waited: Duration::ZERO }
    }

    fn vfio_error(&self, what: &str, source: vfio_ioctls::VfioError) -> AccessError {
        Refusal::Vfio { what: format!("{}: {what}", self.name), source }.into()
    }
}

impl Drop for VfioFunction {
    fn drop(&mut self) {
        self.watch.take();
        // The descriptor goes next: then the kernel ends what could not be ended here.
        let _ = self.end_interrupts();
        for bar in self.holding.bars() {
            self.space.unmap(bar.iova, bar.mapped.len());
        }
        drop(self.holding.open().take());
        self.space.closed(self.address);
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
        let offset = offset & !3;
        let mut bytes = [0xFF; 4];
        if let Some(OpenDevice { device, file }) = self.holding.open().as_ref() {
            let at = device.get_region_offset(VFIO_PCI_CONFIG_REGION_INDEX) + u64::from(offset);
            let read = file.read_exact_at(&mut bytes, at);
            read.map_err(|source| self.config_error("read", offset, source))?;
        }
        Ok(u32::from_le_bytes(bytes))
    }

    fn config_write32(&self, offset: u16, value: u32) -> Result<(), AccessError> {
        let offset = offset & !3;
        let open = self.holding.open();
        let Some(OpenDevice { device, file }) = open.as_ref() else { return Ok(()) };
        let at = device.get_region_offset(VFIO_PCI_CONFIG_REGION_INDEX) + u64::from(offset);
        let written = file.write_all_at(&value.to_le_bytes(), at);
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
        let events: io::Result<Vectors> = (0..vectors).map(|_| kernel::new_event()).collect();
        let events = events.map_err(|source| AccessError::System {
            what: format!("{}: event descriptors of {vectors} interrupts", self.name),
            source,
        })?;
        let enabled = match self.holding.open().as_ref() {
            Some(open) => open.device.enable_msix(events.iter().collect()),
            None => return Err(self.gone("the request for interrupts")),
        };
        enabled.map_err(|source| self.vfio_error(&format!("{vectors} MSI-X vectors"), source))?;
        let events = Arc::new(events);
        self.space.listen(&events);
        self.vectors = Some(events);
        Ok(())
    }

    fn take_interrupt(&self, vector: u16) -> bool {
        let event = self.vectors.as_ref().and_then(|vectors| vectors.get(usize::from(vector)));
        event.is_some_and(|event| event.read().is_ok())
    }

    fn reset(&mut self) -> Result<(), AccessError> {
        let open = self.holding.open();
        let Some(OpenDevice { device, file }) = open.as_ref() else { return Err(self.gone("a reset")) };
        let reset = kernel::reset(file);
        // After one that failed, too.
        let reached = self.holding.reach_again(device, self.space.interface()?);
        reset.map_err(|source| match rustix::io::Errno::from_io_error(&source) {
            Some(rustix::io::Errno::NOTTY) => Refusal::NoReset(self.address).into(),
            _ => AccessError::System { what: format!("{}: reset", self.name), source },
        })?;
        reached.map_err(|source| self.vfio_error("its BARs after a reset, for peers", source))
    }
}

/// Maps a BAR, if the device has it, here and for peers.
fn place(
    space: &AddressSpace,
    open: &OpenDevice,
    address: PciAddress,
    region: u32,
    bar: &'static str,
) -> Result<Option<PlacedBar>, Refusal> {
    let bytes = open.device.get_region_size(region);
    if bytes == 0 {
        return Ok(None);
    }
    let refuse = |reason: String| Refusal::Bar { address, bar, bytes, reason };
    if open.device.get_region_flags(region) & VFIO_REGION_INFO_FLAG_MMAP == 0 {
        return Err(refuse(
            "the kernel does not allow it (a BAR smaller than a page, or of I/O ports)".into(),
        ));
    }
    let len = usize::try_from(bytes).map_err(|error| refuse(error.to_string()))?;
    let offset = open.device.get_region_offset(region);
    let mapped = MappedBar::new(&open.file, offset, len).map_err(|error| refuse(error.to_string()))?;
    let iova = space.map_bar(&open.device, region, &mapped, BAR_ALIGNMENT);
    let iova = iova.map_err(|error| refuse(format!("for peers: {error}")))?;
    Ok(Some(PlacedBar { region, mapped, iova }))
}
