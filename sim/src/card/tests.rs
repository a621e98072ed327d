//! The Verilated card behind the driver's traits: what the simulator adds to it, not the RTL's own
//! functions. The control ring's NOP uses every wire of it: a doorbell, a read of host memory, writes
//! to it, and an interrupt.

use std::time::Duration;

use volplane_abi::{control_opcode, registers, ControlCommand, ControlCompletion};
use volplane_driver::{Bar, DmaMemory, Function, Platform};

use crate::{
    BusAction, CardConfig, SimFunction, SimHandle, SimPlatform, SimulatorConfig, TraceConfig, CARD_WIDTHS,
};

const VECTOR: u16 = 5;
const ENTRIES: u32 = 8;

struct Host {
    platform: SimPlatform,
    handle: SimHandle,
    card: SimFunction,
    sq: DmaMemory,
    cq: DmaMemory,
    sent: u32,
}

impl Host {
    fn new(config: SimulatorConfig) -> Self {
        let mut platform = SimPlatform::new(config).expect("configuration");
        let handle = platform.handle();
        let card = platform.open("sim:card").expect("card");
        let sq = platform.allocate(4096).expect("memory");
        let cq = platform.allocate(4096).expect("memory");
        let mut host = Host { platform, handle, card, sq, cq, sent: 0 };
        host.enable();
        host
    }

    fn of_width(width: usize) -> Self {
        Self::new(SimulatorConfig::new(crate::test_seed()).with_card(CardConfig::new(width)))
    }

    fn register(&self, offset: u32) -> u32 {
        self.card.read32(Bar::Bar0, u64::from(offset)).expect("an answer")
    }

    fn set(&self, offset: u32, value: u32) {
        self.card.write32(Bar::Bar0, u64::from(offset), value).expect("posted");
    }

    fn enable(&mut self) {
        // The walk over the locks' RAM takes longest: 2^14 cycles.
        for _ in 0..10_000 {
            if self.register(registers::STATUS) & registers::STATUS_READY != 0 {
                break;
            }
        }
        assert_ne!(self.register(registers::STATUS) & registers::STATUS_READY, 0, "ready in time");
        self.card.enable_interrupts(VECTOR + 1).expect("interrupts");
        let (sq, cq) = (self.sq.iova().0, self.cq.iova().0);
        self.set(registers::CONTROL_SQ_BASE_LOW, sq as u32);
        self.set(registers::CONTROL_SQ_BASE_HIGH, (sq >> 32) as u32);
        self.set(registers::CONTROL_CQ_BASE_LOW, cq as u32);
        self.set(registers::CONTROL_CQ_BASE_HIGH, (cq >> 32) as u32);
        let vector = u32::from(VECTOR) << registers::RING_SIZE_VECTOR_SHIFT;
        self.set(registers::CONTROL_SIZE, (ENTRIES - 1) | vector | registers::RING_SIZE_INTERRUPT);
        self.set(registers::CONTROL, registers::CONTROL_ENABLE);
    }

    /// Puts a NOP in the ring and rings.
    fn send(&mut self) {
        let command =
            ControlCommand::default().with_opcode(control_opcode::NOP).with_command_id(self.sent as u16);
        self.sq.write_record((self.sent % ENTRIES) as usize * ControlCommand::BYTES, &command);
        self.sent += 1;
        self.set(registers::sq_tail_doorbell(0), self.sent % ENTRIES);
    }

    /// Waits for the interrupt; the last command's completion is there then.
    fn receive(&mut self) {
        let deadline = self.platform.now() + Duration::from_millis(1);
        while !self.card.take_interrupt(VECTOR) {
            assert!(self.platform.now() < deadline, "no interrupt");
            self.platform.wait(deadline).expect("wait");
        }
        let number = self.sent - 1;
        let at = (number % ENTRIES) as usize * ControlCompletion::BYTES;
        let completion: ControlCompletion = self.cq.read_record(at);
        assert_eq!(u32::from(completion.phase()), (number / ENTRIES + 1) % 2);
        assert_eq!((u32::from(completion.command_id()), completion.status()), (number, 0));
        self.set(registers::cq_head_doorbell(0), self.sent % ENTRIES);
    }
}

#[test]
fn registers_and_rings_work_at_every_width_with_stalls_and_late_writes() {
    for &width in CARD_WIDTHS {
        for (stalls, delay_ns) in [(0, None), (64, Some((0, 500))), (200, Some((100, 2000)))] {
            let card = CardConfig::new(width).with_latency_cycles(20, 5).with_stalls(stalls);
            let mut config = SimulatorConfig::new(crate::test_seed()).with_card(card);
            config.visibility_delay_ns = delay_ns;
            let mut host = Host::new(config);
            assert_eq!(host.card.read64(Bar::Bar0, 0).expect("identity"), u64::from_le_bytes(*b"VOLPLANE"));
            assert_eq!(host.register(registers::DATA_BYTES), width as u32 / 8);
            assert_eq!(host.register(registers::CONTROL_SQ_BASE_LOW), host.sq.iova().0 as u32);
            for _ in 0..3 * ENTRIES {
                host.send();
                host.receive();
            }
            assert_eq!(host.card.read32(Bar::Bar2, 0x40).expect("an answer"), 0);
            assert_eq!(host.handle.protocol_errors(), [""; 0]);
            assert_eq!(host.handle.refusals(), []);
        }
    }
}

#[test]
fn the_bus_record_tells_a_command_s_way() {
    let card = CardConfig::new(128);
    let mut host = Host::new(SimulatorConfig::new(1).with_card(card).with_bus_record(1000));
    host.handle.take_bus_record();
    host.send();
    host.receive();
    let (records, missed) = host.handle.take_bus_record();
    let actions: Vec<BusAction> = records.iter().map(|record| record.action).collect();
    let (read, rest) = actions.split_at(2);
    assert_eq!((read, missed), (&[BusAction::Read, BusAction::ReadDone][..], 0));
    assert!(rest.len() >= 2 && rest[..rest.len() - 1].iter().all(|&action| action == BusAction::Write));
    assert_eq!(rest.last(), Some(&BusAction::Interrupt));
    assert_eq!(records[0].iova, host.sq.iova().0);
    assert!(records.windows(2).all(|pair| pair[0].at_ns <= pair[1].at_ns));
}

#[test]
fn idle_time_is_skipped_and_its_first_ticks_are_delivered() {
    let mut host = Host::of_width(128);
    host.handle.run_for_ns(2000).expect("run");
    let (before, ticks) = (host.handle.counters(), host.register(registers::TICKS));
    let start = host.platform.now();
    host.platform.wait(start + Duration::from_secs(1)).expect("wait");
    assert!(host.platform.now() >= start + Duration::from_secs(1));
    let after = host.handle.counters();
    assert!(after.cycles_skipped - before.cycles_skipped > 249_000_000);
    assert!(after.cycles_evaluated - before.cycles_evaluated < 2500);
    let ticked = host.register(registers::TICKS) - ticks;
    assert!((64..68).contains(&ticked), "{ticked} ticks");
    host.send();
    host.receive();
}

#[test]
fn time_ticks_while_the_card_works() {
    let mut host = Host::of_width(128);
    let (start, ticks) = (host.platform.now(), host.register(registers::TICKS));
    while host.platform.now() < start + Duration::from_micros(50) {
        host.send();
        host.receive();
    }
    let passed = (host.platform.now() - start).as_micros() as u32;
    let ticked = host.register(registers::TICKS) - ticks;
    assert!(ticked.abs_diff(passed) <= 1, "{ticked} ticks in {passed} µs");
}

#[test]
fn a_frozen_card_does_nothing_and_a_thawed_one_goes_on() {
    let mut host = Host::of_width(128);
    host.handle.freeze();
    let frozen = host.handle.counters();
    host.send();
    host.handle.run_for_ns(10_000_000).expect("run");
    assert!(!host.card.take_interrupt(VECTOR));
    let mut completions = vec![0xEE; 4096];
    host.cq.read(0, &mut completions);
    assert!(completions.iter().all(|&byte| byte == 0));
    assert!(host.card.read32(Bar::Bar0, 0).is_err(), "no answer");
    assert_eq!(host.handle.counters().cycles_evaluated, frozen.cycles_evaluated);
    host.handle.thaw();
    host.receive();
    assert_eq!(host.register(registers::IDENTITY_LOW), u32::from_le_bytes(*b"VOLP"));
}

#[test]
fn posted_writes_are_bounded_before_a_frozen_card() {
    let host = Host::of_width(128);
    host.handle.freeze();
    let refused = (0..1000).find(|_| host.card.write32(Bar::Bar0, 0x9C, 0).is_err());
    assert!(refused.is_some_and(|after| after >= 100));
    host.handle.thaw();
    host.set(registers::INTERRUPT_COALESCING, 7);
    assert_eq!(host.register(registers::INTERRUPT_COALESCING), 7);
}

#[test]
fn a_peer_s_writes_reach_bar2() {
    for &width in CARD_WIDTHS {
        let mut card = CardConfig::new(width).with_stalls(200);
        card.window_merge_of_256 = 200;
        let host = Host::new(SimulatorConfig::new(crate::test_seed()).with_card(card));
        let before = host.register(registers::UNKNOWN_COMPLETIONS);
        // Completions of nobody, with phase 1, whole and in halves.
        let mut entry = [0xFF; 16];
        entry[14] = 1;
        for slot in 0..20u64 {
            if slot % 3 == 0 {
                host.handle.write_window(slot * 16, &entry[..8]);
                host.handle.write_window(slot * 16 + 8, &entry[8..]);
            } else {
                host.handle.write_window(slot * 16, &entry);
            }
        }
        host.handle.run_for_ns(50_000).expect("run");
        assert_eq!(host.register(registers::UNKNOWN_COMPLETIONS) - before, 20, "at {width} bits");
        assert_eq!(host.handle.protocol_errors(), [""; 0]);
        // Two bursts of 128 bytes, 16 a cycle: the peer's own stalls, much longer, are not the card's.
        let waited = host.handle.window_wait_max();
        assert!(waited <= 20, "{waited} cycles at {width} bits");
    }
}

#[test]
fn a_reset_by_the_port_gives_a_clean_card() {
    let mut host = Host::of_width(128);
    host.send();
    host.card.reset().expect("reset");
    assert_eq!(host.register(registers::CONTROL), 0);
    assert_eq!(host.register(registers::CONTROL_SQ_BASE_LOW), 0);
    host.cq.fill(0, 4096, 0);
    host.card.take_interrupt(VECTOR);
    host.sent = 0;
    host.enable();
    host.send();
    host.receive();
    assert_eq!(host.handle.protocol_errors(), [""; 0]);
}

#[test]
fn one_seed_makes_one_run() {
    let run = |seed| {
        let card = CardConfig::new(128).with_latency_cycles(9, 3).with_stalls(90);
        let config = SimulatorConfig::new(seed).with_card(card).with_bus_record(10_000);
        let mut host = Host::new(config.with_visibility_delay_ns(10, 400));
        for _ in 0..20 {
            host.send();
            host.receive();
        }
        (host.handle.counters(), host.handle.take_bus_record().0)
    };
    let seed = crate::test_seed();
    assert!(run(seed) == run(seed));
    assert!(run(seed) != run(seed + 1), "stalls differ by seed");
}

#[test]
fn a_waveform_holds_the_cycles_asked_for() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("card.vcd");
    let trace = TraceConfig { path: path.clone(), from_cycle: 30, to_cycle: 50 };
    let host = Host::new(SimulatorConfig::new(1).with_card(CardConfig::new(128).with_trace(trace)));
    drop(host);
    let text = std::fs::read_to_string(&path).expect("VCD");
    let times: Vec<u64> = text.lines().filter_map(|line| line.strip_prefix('#')?.parse().ok()).collect();
    assert_eq!((times.first(), times.last(), times.len()), (Some(&120), Some(&198), 40));
    assert!(text.contains(" m_araddr ") && text.contains(" clock "));
    let nowhere = TraceConfig { path: "/nonexistent/card.vcd".into(), from_cycle: 0, to_cycle: 1 };
    let config = SimulatorConfig::new(1).with_card(CardConfig::new(128).with_trace(nowhere));
    assert!(SimPlatform::new(config).is_err());
}

#[test]
fn a_card_of_another_width_is_refused() {
    assert!(SimPlatform::new(SimulatorConfig::new(1).with_card(CardConfig::new(64))).is_err());
    assert!(
        SimPlatform::new(SimulatorConfig::new(1).with_card(CardConfig::new(128).with_stalls(251))).is_err()
    );
}
