//! The bus: time, addresses and posted writes between host memory, the card and the SSDs.
//!
//! A device's write goes by its address to host memory, to the interrupt window, to an SSD's
//! doorbells or to the card's completion windows; peers are never read. Writes of one agent to one
//! destination stay in order. With a visibility delay, what the card writes to host memory is seen
//! late, in order among itself, while its doorbells are not delayed; and so for each SSD and its completions in
//! BAR2. This is what PCIe allows.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;

use crate::events::EventQueue;
use crate::host_memory::{Agent, Direction, HostMemory, Refusal, IOVA_END};
use crate::probe::{BusAction, BusRecord, Recorder};
use crate::random;
use crate::ssd_visibility::{LateAction, SsdVisibility};

/// Messages here raise interrupts, as on x86.
pub const INTERRUPT_WINDOW: u64 = 0xFEE0_0000;
/// Bytes of the interrupt window.
pub const INTERRUPT_WINDOW_BYTES: u64 = 0x1000;
/// The card's BAR0.
pub const CARD_BAR0: u64 = 0x7F00_0000_0000;
/// The card's BAR2.
pub const CARD_BAR2: u64 = 0x7F10_0000_0000;
/// BAR0 of SSD 0; the others follow at `SSD_BAR0_STRIDE`.
pub const SSD_BAR0: u64 = 0x7F20_0000_0000;
/// Distance of the SSDs' BARs.
pub const SSD_BAR0_STRIDE: u64 = 0x10_0000;
/// Most bytes of a write on the bus: the card's longest burst.
pub const BURST_BYTES_MAX: usize = 128;

/// Vectors of one function; raised by the simulation, taken by the driver without its lock.
pub(crate) type InterruptFlags = Arc<[AtomicBool]>;

/// A write on its way to the card's BAR2.
#[derive(Clone, Copy)]
pub(crate) struct WindowWrite {
    pub(crate) offset: u64,
    pub(crate) len: usize,
    pub(crate) bytes: [u8; 16],
}

/// A write on its way to an SSD's BAR0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DoorbellWrite {
    pub(crate) ssd: usize,
    pub(crate) offset: u64,
    pub(crate) value: u32,
}

struct DelayedWrite {
    at_ns: u64,
    iova: u64,
    len: usize,
    bytes: [u8; BURST_BYTES_MAX],
}

/// The card's writes that others do not see yet.
struct Visibility {
    shortest_ns: u64,
    longest_ns: u64,
    random: ChaCha8Rng,
    /// In order of time.
    waiting: VecDeque<DelayedWrite>,
}

/// How the machine is laid out on the bus.
pub(crate) struct Layout {
    pub(crate) ssds: usize,
    pub(crate) ssd_bar0_bytes: u64,
    /// 0 without a card.
    pub(crate) card_bar2_bytes: u64,
}

pub(crate) struct Bus {
    now_ns: u64,
    clock: Arc<AtomicU64>,
    pub(crate) memory: HostMemory,
    pub(crate) events: EventQueue,
    layout: Layout,
    /// The card's, then the SSDs'.
    interrupts: Vec<InterruptFlags>,
    raised: bool,
    written: bool,
    pub(crate) window_writes: VecDeque<WindowWrite>,
    pub(crate) doorbell_writes: VecDeque<DoorbellWrite>,
    visibility: Option<Visibility>,
    ssd_visibility: Option<SsdVisibility>,
    pub(crate) record: Recorder<BusRecord>,
}

enum Target {
    Memory,
    Interrupts,
    Ssd { number: usize, offset: u64 },
    Window { offset: u64 },
    Nothing,
}

impl Bus {
    pub(crate) fn new(layout: Layout, seed: u64, delay_ns: Option<(u64, u64)>, record: usize) -> Self {
        let flags = || (0..256).map(|_| AtomicBool::new(false)).collect();
        Self {
            now_ns: 0,
            clock: Arc::default(),
            memory: HostMemory::default(),
            events: EventQueue::default(),
            interrupts: (0..=layout.ssds).map(|_| flags()).collect(),
            layout,
            raised: false,
            written: false,
            window_writes: VecDeque::new(),
            doorbell_writes: VecDeque::new(),
            visibility: delay_ns.map(|(shortest_ns, longest_ns)| Visibility {
                shortest_ns,
                longest_ns: longest_ns.max(shortest_ns),
                random: random::fork(seed, "visibility"),
                waiting: VecDeque::new(),
            }),
            ssd_visibility: None,
            record: Recorder::new(record),
        }
    }

    /// Has the SSDs' writes to host memory seen late.
    pub(crate) fn delay_ssds(&mut self, seed: u64, delay_ns: (u64, u64)) {
        self.ssd_visibility = Some(SsdVisibility::new(self.layout.ssds, seed, delay_ns));
    }

    /// Simulated time.
    #[inline]
    pub(crate) fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Simulated time, to be read without the simulation's lock.
    pub(crate) fn clock(&self) -> Arc<AtomicU64> {
        self.clock.clone()
    }

    #[inline]
    pub(crate) fn set_now_ns(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        self.clock.store(now_ns, Ordering::Relaxed);
    }

    /// When something happens by itself: an event, or a late write.
    #[inline]
    pub(crate) fn next_ns(&self) -> Option<u64> {
        let late = self.visibility.as_ref().and_then(|late| late.waiting.front()).map(|write| write.at_ns);
        let ssds = self.ssd_visibility.as_ref().and_then(SsdVisibility::next_ns);
        [self.events.next_ns(), late, ssds].into_iter().flatten().min()
    }

    /// The vectors of a function: 0 is the card, n + 1 is SSD n.
    pub(crate) fn interrupts(&self, function: usize) -> InterruptFlags {
        self.interrupts[function].clone()
    }

    /// An interrupt of an SSD, behind what it wrote.
    pub(crate) fn raise_ssd(&mut self, ssd: usize, vector: u16) {
        match &mut self.ssd_visibility {
            Some(late) => late.put(ssd, self.now_ns, LateAction::Raise { vector }),
            None => self.raise(1 + ssd, vector),
        }
    }

    pub(crate) fn raise(&mut self, function: usize, vector: u16) {
        if let Some(flag) = self.interrupts[function].get(usize::from(vector)) {
            flag.store(true, Ordering::Release);
            self.raised = true;
        }
    }

    /// Whether a vector was raised since this was last asked.
    #[inline]
    pub(crate) fn take_raised(&mut self) -> bool {
        std::mem::take(&mut self.raised)
    }

    #[inline]
    pub(crate) fn is_raised(&self) -> bool {
        self.raised
    }

    /// Whether anything in host memory changed since this was last asked.
    pub(crate) fn take_written(&mut self) -> bool {
        std::mem::take(&mut self.written)
    }

    #[inline]
    pub(crate) fn is_written(&self) -> bool {
        self.written
    }

    #[inline]
    pub(crate) fn note(&mut self, agent: Agent, action: BusAction, iova: u64, len: usize) {
        if self.record.is_on() {
            self.record.push(BusRecord { at_ns: self.now_ns, agent, action, iova, len });
        }
    }

    fn target(&self, iova: u64, len: usize) -> Target {
        let within =
            |base: u64, size: u64| iova >= base && iova - base <= size && len as u64 <= size - (iova - base);
        if within(INTERRUPT_WINDOW, INTERRUPT_WINDOW_BYTES) {
            return Target::Interrupts;
        }
        if iova < IOVA_END {
            return Target::Memory;
        }
        if within(CARD_BAR2, self.layout.card_bar2_bytes) {
            return Target::Window { offset: iova - CARD_BAR2 };
        }
        if within(SSD_BAR0, self.layout.ssds as u64 * SSD_BAR0_STRIDE) {
            let (number, offset) = ((iova - SSD_BAR0) / SSD_BAR0_STRIDE, (iova - SSD_BAR0) % SSD_BAR0_STRIDE);
            if offset + len as u64 <= self.layout.ssd_bar0_bytes {
                return Target::Ssd { number: number as usize, offset };
            }
        }
        Target::Nothing
    }

    /// A read by a device; of host memory only. The card's own earlier writes are seen by it, and
    /// then by all.
    pub(crate) fn read(&mut self, agent: Agent, iova: u64, into: &mut [u8]) -> Result<(), Refusal> {
        match agent {
            Agent::Card => self.push_card_writes(),
            Agent::Ssd(ssd) => self.push_ssd_writes(ssd),
            Agent::Host => {}
        }
        match self.target(iova, into.len()) {
            Target::Memory => self.memory.read(agent, iova, into),
            _ => Err(self.memory.refuse(agent, iova, into.len(), Direction::Read)),
        }
    }

    /// A read by the card whose earlier writes were pushed when it was asked for.
    pub(crate) fn read_pushed(&mut self, iova: u64, into: &mut [u8]) -> Result<(), Refusal> {
        match self.target(iova, into.len()) {
            Target::Memory => self.memory.read(Agent::Card, iova, into),
            _ => Err(self.memory.refuse(Agent::Card, iova, into.len(), Direction::Read)),
        }
    }

    /// A write by a device, of at most `BURST_BYTES_MAX` bytes by the card and of any length to
    /// host memory by an SSD.
    pub(crate) fn write(&mut self, agent: Agent, iova: u64, from: &[u8]) -> Result<(), Refusal> {
        let refused = |bus: &Self| Err(bus.memory.refuse(agent, iova, from.len(), Direction::Write));
        match (self.target(iova, from.len()), agent) {
            (Target::Memory, _) => {
                self.note(agent, BusAction::Write, iova, from.len());
                if agent == Agent::Card && self.visibility.is_some() {
                    if !self.memory.is_mapped(iova, from.len()) {
                        return refused(self);
                    }
                    self.delay(iova, from);
                    return Ok(());
                }
                if let (Agent::Ssd(ssd), Some(late)) = (agent, &mut self.ssd_visibility) {
                    if !self.memory.is_mapped(iova, from.len()) {
                        return refused(self);
                    }
                    late.put(ssd, self.now_ns, LateAction::Write { iova, bytes: from.to_vec() });
                    return Ok(());
                }
                self.written = true;
                self.memory.write(agent, iova, from)
            }
            (Target::Interrupts, Agent::Card)
                if from.len() == 4 && iova.is_multiple_of(4) && from[1..] == [0; 3] =>
            {
                self.note(agent, BusAction::Interrupt, iova, 4);
                if self.visibility.is_some() {
                    self.delay(iova, from);
                } else {
                    self.raise(0, u16::from(from[0]));
                }
                Ok(())
            }
            (Target::Ssd { number, offset }, Agent::Card) if from.len() == 4 && offset % 4 == 0 => {
                self.note(agent, BusAction::Doorbell, iova, 4);
                let value = u32::from_le_bytes(from.try_into().expect("4 bytes"));
                self.doorbell_writes.push_back(DoorbellWrite { ssd: number, offset, value });
                Ok(())
            }
            (Target::Window { offset }, Agent::Ssd(_)) if from.len() <= 16 => {
                self.note(agent, BusAction::Posted, iova, from.len());
                self.write_window(offset, from);
                Ok(())
            }
            _ => refused(self),
        }
    }

    /// Puts a write of at most 16 bytes on its way to the card's BAR2.
    pub(crate) fn write_window(&mut self, offset: u64, from: &[u8]) {
        let mut bytes = [0; 16];
        bytes[..from.len()].copy_from_slice(from);
        self.window_writes.push_back(WindowWrite { offset, len: from.len(), bytes });
    }

    fn delay(&mut self, iova: u64, from: &[u8]) {
        let now_ns = self.now_ns;
        let Some(late) = &mut self.visibility else { return };
        let chosen = late.shortest_ns + random::up_to(&mut late.random, late.longest_ns - late.shortest_ns);
        let after = late.waiting.back().map_or(0, |write| write.at_ns);
        let mut bytes = [0; BURST_BYTES_MAX];
        bytes[..from.len()].copy_from_slice(from);
        late.waiting.push_back(DelayedWrite {
            at_ns: after.max(now_ns + chosen),
            iova,
            len: from.len(),
            bytes,
        });
    }

    /// Makes the card's writes visible whose time has come.
    #[inline]
    pub(crate) fn show_due_writes(&mut self) {
        if self.visibility.is_some() {
            self.show_writes_until(self.now_ns);
        }
        if self.ssd_visibility.is_some() {
            (0..self.layout.ssds).for_each(|ssd| self.show_ssd_until(ssd, self.now_ns));
        }
    }

    /// Makes all of an SSD's earlier writes visible: a read by it, or the answer to one of it, pushes them.
    pub(crate) fn push_ssd_writes(&mut self, ssd: usize) {
        self.show_ssd_until(ssd, u64::MAX);
    }

    fn show_ssd_until(&mut self, ssd: usize, time_ns: u64) {
        while let Some(action) = self.ssd_visibility.as_mut().and_then(|late| late.take(ssd, time_ns)) {
            match action {
                // A region unmapped since the write was accepted is on record as refused.
                LateAction::Write { iova, bytes } => {
                    self.written |= self.memory.write(Agent::Ssd(ssd), iova, &bytes).is_ok();
                }
                LateAction::Raise { vector } => self.raise(1 + ssd, vector),
            }
        }
    }

    /// Makes all of the card's earlier writes visible: a read, or the answer to one, pushes them.
    pub(crate) fn push_card_writes(&mut self) {
        if self.visibility.is_some() {
            self.show_writes_until(u64::MAX);
        }
    }

    fn show_writes_until(&mut self, time_ns: u64) {
        while let Some(late) = &mut self.visibility {
            if late.waiting.front().is_none_or(|write| write.at_ns > time_ns) {
                return;
            }
            let Some(write) = late.waiting.pop_front() else { return };
            let bytes = &write.bytes[..write.len];
            if matches!(self.target(write.iova, write.len), Target::Interrupts) {
                self.raise(0, u16::from(bytes[0]));
            } else {
                // A region unmapped since the write was accepted is on record as refused.
                self.written |= self.memory.write(Agent::Card, write.iova, bytes).is_ok();
            }
        }
    }

    /// Forgets writes that a reset of the card has overtaken on its own wires.
    pub(crate) fn drop_window_writes(&mut self) {
        self.window_writes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bus(delay_ns: Option<(u64, u64)>) -> Bus {
        Bus::new(Layout { ssds: 2, ssd_bar0_bytes: 0x4000, card_bar2_bytes: 0x80000 }, 1, delay_ns, 16)
    }

    #[test]
    fn writes_go_where_their_address_says() {
        let mut bus = bus(None);
        let memory = bus.memory.allocate(4096).expect("memory");
        bus.write(Agent::Card, memory.iova().0 + 4, &[1, 2, 3, 4]).expect("memory");
        assert_eq!(memory.load_acquire(4), 0x0403_0201);
        bus.write(Agent::Card, INTERRUPT_WINDOW, &[7, 0, 0, 0]).expect("window");
        assert!(bus.take_raised() && !bus.take_raised());
        assert!(bus.interrupts(0)[7].load(Ordering::Acquire));
        bus.write(Agent::Card, SSD_BAR0 + SSD_BAR0_STRIDE + 0x1008, &[9, 0, 0, 0]).expect("doorbell");
        assert_eq!(bus.doorbell_writes, [DoorbellWrite { ssd: 1, offset: 0x1008, value: 9 }]);
        bus.write(Agent::Ssd(0), CARD_BAR2 + 0x4010, &[5; 16]).expect("BAR2");
        assert_eq!((bus.window_writes[0].offset, bus.window_writes[0].len), (0x4010, 16));
        assert_eq!(bus.memory.refused(), 0);

        assert!(bus.write(Agent::Card, CARD_BAR2, &[0; 16]).is_err(), "the card is not its own peer");
        assert!(bus.write(Agent::Card, SSD_BAR0 + 0x4000, &[0; 4]).is_err(), "beyond the BAR");
        assert!(bus.write(Agent::Card, SSD_BAR0 + 2 * SSD_BAR0_STRIDE, &[0; 4]).is_err(), "no such SSD");
        assert!(bus.write(Agent::Ssd(1), SSD_BAR0 + 0x1000, &[0; 4]).is_err(), "SSDs ring nobody");
        assert!(bus.read(Agent::Card, SSD_BAR0, &mut [0; 4]).is_err(), "peers are not read");
        assert_eq!(bus.memory.refused(), 5);
    }

    #[test]
    fn late_writes_stay_in_order_and_a_read_pushes_them() {
        let mut bus = bus(Some((100, 300)));
        let memory = bus.memory.allocate(4096).expect("memory");
        let iova = memory.iova().0;
        for value in 1..=20u32 {
            bus.write(Agent::Card, iova, &value.to_le_bytes()).expect("memory");
        }
        bus.write(Agent::Card, INTERRUPT_WINDOW, &[3, 0, 0, 0]).expect("window");
        bus.write(Agent::Card, SSD_BAR0 + 0x1000, &[1, 0, 0, 0]).expect("doorbell");
        assert_eq!(bus.doorbell_writes.len(), 1, "doorbells are not late");
        assert_eq!((memory.load_acquire(0), bus.is_raised()), (0, false));
        let mut last = 0;
        while let Some(next_ns) = bus.next_ns() {
            assert!((100..=300).contains(&next_ns));
            bus.set_now_ns(next_ns);
            bus.show_due_writes();
            assert!(memory.load_acquire(0) >= last);
            last = memory.load_acquire(0);
            assert!(!bus.is_raised() || last == 20, "the message stays behind the data");
        }
        assert!(last == 20 && bus.is_raised());

        bus.write(Agent::Card, iova + 8, &[0xAB; 4]).expect("memory");
        let mut seen = [0; 4];
        bus.read(Agent::Ssd(0), iova + 8, &mut seen).expect("memory");
        assert_eq!(seen, [0; 4], "others' reads push nothing");
        bus.read(Agent::Card, iova + 64, &mut [0; 4]).expect("memory");
        assert_eq!(memory.load_acquire(8), 0xABAB_ABAB);
    }

    #[test]
    fn late_writes_of_an_ssd_stay_behind_each_other_and_its_completions_in_bar2_do_not() {
        let mut bus = bus(None);
        bus.delay_ssds(1, (100, 300));
        let memory = bus.memory.allocate(4096).expect("memory");
        let iova = memory.iova().0;
        bus.write(Agent::Ssd(0), iova, &[1; 64]).expect("data");
        bus.write(Agent::Ssd(0), iova + 64, &[2; 16]).expect("completion");
        bus.raise_ssd(0, 3);
        bus.write(Agent::Ssd(1), iova + 128, &[3; 4]).expect("data");
        bus.write(Agent::Ssd(0), CARD_BAR2, &[5; 16]).expect("BAR2");
        assert_eq!((bus.window_writes.len(), memory.load_acquire(0)), (1, 0));
        bus.write(Agent::Card, iova + 256, &[4; 4]).expect("memory");
        assert_eq!(memory.load_acquire(256), 0x0404_0404, "the card's are seen at once");
        while let Some(next_ns) = bus.next_ns() {
            assert!((100..=300).contains(&next_ns));
            bus.set_now_ns(next_ns);
            bus.show_due_writes();
            assert!(memory.load_acquire(64) == 0 || memory.load_acquire(0) != 0, "data first");
            assert!(!bus.is_raised() || memory.load_acquire(64) != 0, "the message stays behind");
        }
        assert!(bus.is_raised() && memory.load_acquire(128) == 0x0303_0303);

        bus.write(Agent::Ssd(1), iova + 8, &[0xAB; 4]).expect("memory");
        bus.read(Agent::Card, iova, &mut [0; 4]).expect("memory");
        bus.read(Agent::Ssd(0), iova, &mut [0; 4]).expect("memory");
        assert_eq!(memory.load_acquire(8), 0x0101_0101, "others' reads push nothing");
        bus.read(Agent::Ssd(1), iova, &mut [0; 4]).expect("memory");
        assert_eq!(memory.load_acquire(8), 0xABAB_ABAB);
        assert!(bus.write(Agent::Ssd(1), iova + 4096, &[0; 4]).is_err(), "refused at once");
    }
}
