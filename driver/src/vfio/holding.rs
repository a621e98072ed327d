//! What a function has of the kernel: the open device, and its BARs here and at bus addresses.
//!
//! It is shared with a thread, because the kernel may ask for the device back at any time: it is to be removed, or to go
//! to another driver, and that waits until nobody has it open. Then it is reset and closed, and whoever still uses the
//! function finds what he finds of one that was pulled out: its registers read all ones. Peers that still ring its
//! doorbells write to that memory of ones, for its bus addresses may be another device's soon.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{poll, PollFlags};
use vfio_bindings::bindings::vfio::VFIO_PCI_REQ_IRQ_INDEX;
use vfio_ioctls::{VfioDevice, VfioError};
use vmm_sys_util::eventfd::EventFd;

use super::interface::Interface;
use super::kernel::{self, MappedBar};
use super::platform::AddressSpace;
use crate::memory::Iova;

/// A BAR and where peers reach it.
pub(super) struct PlacedBar {
    /// VFIO's number of it.
    pub(super) region: u32,
    pub(super) mapped: MappedBar,
    pub(super) iova: Iova,
}

/// An open device.
pub(super) struct OpenDevice {
    /// What `vfio-ioctls` keeps of it.
    pub(super) device: VfioDevice,
    /// The same device. It is dropped after `device`, so that the crate finds the group in use and leaves it in its
    /// container: with the last group all mappings would go. It also keeps the device in sysfs, where `device` looks
    /// for its group as it is dropped, and panics without one. iommufd needs neither.
    pub(super) file: File,
}

/// See the module.
pub(super) struct Holding {
    pub(super) bar0: Option<PlacedBar>,
    pub(super) bar2: Option<PlacedBar>,
    /// Raised when the kernel wants the device back.
    request: EventFd,
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

    /// Lets peers reach the BARs of a device that was reset, where they do no more.
    ///
    /// # Errors
    /// The kernel's; peers are refused then.
    pub(super) fn reach_again(&self, device: &VfioDevice, interface: &Interface) -> Result<(), VfioError> {
        if !interface.forgets_bars() {
            return Ok(());
        }
        self.bars().try_for_each(|bar| {
            // Nothing is there when this failed before; mapping says what else is in the way.
            let _ = interface.unmap(bar.iova.0, bar.mapped.len());
            interface.map_bar(bar.iova.0, device, bar.region, &bar.mapped)
        })
    }

    /// Gives the device back.
    fn give_back(&self, interface: &Interface) {
        let Some(open) = self.open().take() else { return };
        // A device that cannot be reset is reset when the kernel closes it.
        let _ = kernel::reset(&open.file);
        for bar in self.bars() {
            let unmapped = interface.unmap(bar.iova.0, bar.mapped.len()).is_ok();
            // Where one of these fails, peers are refused there, and the kernel has to wait.
            if unmapped && bar.mapped.become_ones().is_ok() {
                let _ = interface.map(bar.iova.0, &mut &bar.mapped);
            }
        }
    }
}

/// A thread that waits for the kernel's request for a device. It ends when it has answered it, or when this is dropped.
pub(super) struct Watch {
    end: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// # Errors
    /// When there is no thread or descriptor to be had.
    pub(super) fn start(holding: &Arc<Holding>, space: &Arc<AddressSpace>) -> io::Result<Self> {
        let end = Arc::new(kernel::new_event()?);
        let (ending, holding, space) = (end.clone(), holding.clone(), space.clone());
        let thread = std::thread::Builder::new().name("vfio request".to_owned()).spawn(move || {
            if is_requested(&holding.request, &ending) {
                // Whoever has a device has an interface.
                if let Ok(interface) = space.interface() {
                    holding.give_back(interface);
                }
            }
        })?;
        Ok(Self { end, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // An event that cannot be counted any more was counted often.
        let _ = self.end.write(1);
        // A thread that panicked has nothing more to do either.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Waits for one of the two, and says whether it was the request alone.
fn is_requested(request: &EventFd, end: &EventFd) -> bool {
    loop {
        let mut events = [kernel::readable(request), kernel::readable(end)];
        match poll(&mut events, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return false,
        }
        let [requested, ended] = events.map(|event| event.revents().contains(PollFlags::IN));
        if requested || ended {
            return !ended;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_heard_until_the_end() {
        for (raise, requested) in [([true, false], true), ([true, true], false), ([false, true], false)] {
            let events = [0; 2].map(|_| kernel::new_event().expect("an event"));
            for (event, _) in events.iter().zip(raise).filter(|(_, raise)| *raise) {
                event.write(1).expect("raised");
            }
            assert_eq!(is_requested(&events[0], &events[1]), requested, "{raise:?}");
        }
    }
}
