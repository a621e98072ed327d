//! What a function has of the kernel: the open device, and its BARs here and at bus addresses.
//!
//! It is shared with the container, because the kernel may ask for the device back: it is to be removed, or to go to
//! another driver, and that waits until nobody has it open. Then it is reset and closed, and whoever still uses the
//! function finds what he finds of one that was pulled out: its registers read all ones. Peers that still ring its
//! doorbells write to that memory of ones, for its bus addresses may be another device's soon.

use std::fs::File;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vfio_bindings::bindings::vfio::VFIO_PCI_REQ_IRQ_INDEX;
use vfio_ioctls::{VfioContainer, VfioDevice};
use vmm_sys_util::eventfd::EventFd;

use super::kernel::{self, MappedBar};
use crate::memory::Iova;

/// A BAR and where peers reach it.
pub(super) struct PlacedBar {
    pub(super) mapped: MappedBar,
    pub(super) iova: Iova,
}

/// An open device.
pub(super) struct OpenDevice {
    /// What `vfio-ioctls` keeps of it.
    pub(super) device: VfioDevice,
    /// The same device. It is dropped after `device`, so that the crate finds the group in use and leaves it in the
    /// container: with the last group all mappings would go. It also keeps the device in sysfs, where `device` looks
    /// for its group as it is dropped, and panics without one.
    pub(super) file: File,
}

/// See the module.
pub(super) struct Holding {
    pub(super) bar0: Option<PlacedBar>,
    pub(super) bar2: Option<PlacedBar>,
    /// Raised when the kernel wants the device back.
    pub(super) request: EventFd,
    open: Mutex<Option<OpenDevice>>,
}

impl Holding {
    pub(super) fn new(open: OpenDevice, bars: [Option<PlacedBar>; 2], request: EventFd) -> Self {
        let [bar0, bar2] = bars;
        // A kernel without such requests waits for the end of the process instead.
        let _ = open.device.enable_irq(VFIO_PCI_REQ_IRQ_INDEX, vec![&request]);
        Self { bar0, bar2, request, open: Mutex::new(Some(open)) }
    }

    /// The device, if the kernel has not got it back.
    pub(super) fn open(&self) -> MutexGuard<'_, Option<OpenDevice>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its BARs.
    pub(super) fn bars(&self) -> impl Iterator<Item = &PlacedBar> {
        [&self.bar0, &self.bar2].into_iter().flatten()
    }

    /// Gives the device back, if the kernel has asked for it.
    pub(super) fn answer_request(&self, container: &VfioContainer) {
        if self.request.read().is_err() {
            return;
        }
        let Some(open) = self.open().take() else { return };
        // A device that cannot be reset is reset when the kernel closes it.
        let _ = kernel::reset(&open.file);
        for bar in self.bars() {
            let unmapped = container.vfio_dma_unmap(bar.iova.0, bar.mapped.len() as usize).is_ok();
            // Where one of these fails, peers are refused there, and the kernel has to wait.
            if unmapped && bar.mapped.become_ones().is_ok() {
                let _ = kernel::map_dma(container, bar.iova.0, &mut &bar.mapped);
            }
        }
    }
}
