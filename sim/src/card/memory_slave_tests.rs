//! The slave against a scripted master: seeded bursts with stalls on every channel, at every width.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use volplane_driver::DmaMemory;

use super::*;
use crate::bus::{Bus, Layout, INTERRUPT_WINDOW, SSD_BAR0};
use crate::random;

struct Rig {
    ports: Ports,
    bus: Bus,
    slave: MemorySlave,
    stalls: Stalls,
    errors: Errors,
}

impl Rig {
    fn new(width: usize, stalls: u8, delay_ns: Option<(u64, u64)>) -> Self {
        let layout = Layout { ssds: 1, ssd_bar0_bytes: 0x2000, card_bar2_bytes: 0x80000 };
        Rig {
            ports: Ports::plain(width),
            bus: Bus::new(layout, 1, delay_ns, 0),
            slave: MemorySlave::new(3, 2),
            stalls: Stalls::new(stalls, crate::test_seed()),
            errors: Errors::default(),
        }
    }

    fn cycle(&mut self) {
        self.slave.sample(&self.ports, &mut self.bus, &mut self.errors);
        let cycle = self.errors.cycle;
        self.stalls.next();
        self.slave.drive(&mut self.ports, &mut self.bus, &self.stalls, cycle);
        self.errors.cycle += 1;
    }

    fn address(&mut self, channel: [Port; 5], address: u64, beats: usize) {
        let [valid, addr, len, size, burst] = channel;
        self.ports.set_quad(addr, address);
        self.ports.set_byte(len, beats as u8 - 1);
        self.ports.set_byte(size, self.ports.beat_bytes().trailing_zeros() as u8);
        self.ports.set_byte(burst, 1);
        self.ports.set_flag(valid, true);
    }

    /// Runs until a handshake of `valid` and `ready`, and takes `valid` back.
    fn finish(&mut self, valid: Port, ready: Port) {
        for _ in 0..1000 {
            let done = self.ports.flag(valid) && self.ports.flag(ready);
            self.cycle();
            if done {
                self.ports.set_flag(valid, false);
                return;
            }
        }
        panic!("no handshake");
    }

    fn data(&mut self, beat: &[u8], strobe: u64, last: bool) {
        self.ports.set_data(Port::MWdata, beat);
        self.ports.set_strobe(Port::MWstrb, strobe);
        self.ports.set_flag(Port::MWlast, last);
        self.ports.set_flag(Port::MWvalid, true);
    }

    /// A write, address or data first; returns its response.
    fn write(&mut self, address: u64, data: &[u8], strobe: u64, data_first: bool) -> u8 {
        let bytes = self.ports.beat_bytes();
        let beats = data.len() / bytes;
        if !data_first {
            self.address(WRITE, address, beats);
            self.finish(Port::MAwvalid, Port::MAwready);
        }
        for (number, beat) in data.chunks(bytes).enumerate() {
            self.data(beat, strobe, number + 1 == beats);
            self.finish(Port::MWvalid, Port::MWready);
        }
        if data_first {
            self.address(WRITE, address, beats);
            self.finish(Port::MAwvalid, Port::MAwready);
        }
        self.ports.set_flag(Port::MBready, true);
        for _ in 0..1000 {
            let response = self.ports.flag(Port::MBvalid).then(|| self.ports.byte(Port::MBresp));
            self.cycle();
            if let Some(response) = response {
                self.ports.set_flag(Port::MBready, false);
                return response;
            }
        }
        panic!("no response");
    }

    fn read(&mut self, address: u64, beats: usize, random: &mut ChaCha8Rng) -> (Vec<u8>, u8) {
        self.address(READ, address, beats);
        self.finish(Port::MArvalid, Port::MArready);
        let (mut data, mut worst) = (Vec::new(), 0);
        for _ in 0..2000 {
            let ready = !random.next_u32().is_multiple_of(4);
            self.ports.set_flag(Port::MRready, ready);
            let mut last = false;
            if ready && self.ports.flag(Port::MRvalid) {
                let mut beat = [0; DATA_BYTES_MAX];
                self.ports.data(Port::MRdata, &mut beat);
                data.extend_from_slice(&beat[..self.ports.beat_bytes()]);
                worst = worst.max(self.ports.byte(Port::MRresp));
                last = self.ports.flag(Port::MRlast);
            }
            self.cycle();
            if last {
                self.ports.set_flag(Port::MRready, false);
                return (data, worst);
            }
        }
        panic!("no data");
    }
}

const WRITE: [Port; 5] = [Port::MAwvalid, Port::MAwaddr, Port::MAwlen, Port::MAwsize, Port::MAwburst];
const READ: [Port; 5] = [Port::MArvalid, Port::MAraddr, Port::MArlen, Port::MArsize, Port::MArburst];

fn contents(memory: &DmaMemory) -> Vec<u8> {
    let mut bytes = vec![0; memory.len()];
    memory.read(0, &mut bytes);
    bytes
}

#[test]
fn random_bursts_reach_memory_as_they_should() {
    for (width, stalls) in [(128, 0), (128, 120), (256, 60), (512, 200)] {
        let mut rig = Rig::new(width, stalls, None);
        let mut random = random::fork(crate::test_seed(), "bursts");
        let memory = rig.bus.memory.allocate(8192).expect("memory");
        let mut model = contents(&memory);
        let beat = width / 8;
        for step in 0..300 {
            let beats = random.next_u32() as usize % (128 / beat) + 1;
            let slots = 4096 / beat - beats + 1;
            let page = random.next_u32() as usize % 2 * 4096;
            let at = page + random.next_u32() as usize % slots * beat;
            let address = memory.iova().0 + at as u64;
            match random.next_u32() % 3 {
                0 => {
                    let (data, response) = rig.read(address, beats, &mut random);
                    assert_eq!(response, 0);
                    assert!(data == model[at..at + beats * beat], "step {step} at {width} bits");
                }
                1 => {
                    let data: Vec<u8> = (0..beats * beat).map(|_| random.next_u32() as u8).collect();
                    let first = random.next_u32().is_multiple_of(2);
                    assert_eq!(rig.write(address, &data, u64::MAX >> (64 - beat), first), 0);
                    model[at..at + data.len()].copy_from_slice(&data);
                }
                _ => {
                    let data: Vec<u8> = (0..beat).map(|_| random.next_u32() as u8).collect();
                    let strobe = random.next_u64() & u64::MAX >> (64 - beat);
                    assert_eq!(rig.write(address, &data, strobe, false), 0);
                    for byte in (0..beat).filter(|byte| strobe >> byte & 1 == 1) {
                        model[at + byte] = data[byte];
                    }
                }
            }
        }
        assert!(contents(&memory) == model);
        assert!(rig.errors.list().is_empty(), "{:?}", rig.errors.list());
        assert!(rig.slave.is_idle(&rig.ports) && rig.bus.memory.refused() == 0);
    }
}

#[test]
fn doorbells_and_messages_are_single_words_of_a_beat() {
    let mut rig = Rig::new(256, 30, None);
    let mut beat = [0; 32];
    beat[8..12].copy_from_slice(&[5, 0, 1, 0]);
    assert_eq!(rig.write(SSD_BAR0 + 0x1008, &beat, 0xF << 8, false), OKAY);
    let rung = rig.bus.doorbell_writes.pop_front().expect("a doorbell");
    assert_eq!((rung.ssd, rung.offset, rung.value), (0, 0x1008, 0x1_0005));
    beat[..4].copy_from_slice(&[3, 0, 0, 0]);
    assert_eq!(rig.write(INTERRUPT_WINDOW, &beat, 0xF, true), OKAY);
    assert!(rig.bus.take_raised());
    assert_eq!(rig.write(INTERRUPT_WINDOW, &[3; 32], 0xF, true), SLVERR, "no such vector");
    assert!(rig.errors.list().is_empty());
    assert_eq!(rig.write(INTERRUPT_WINDOW, &[3; 32], 0xFF, true), SLVERR, "two words");
    assert_eq!(rig.write(0x2000_0000, &[3; 32], 0xFF, true), SLVERR, "unmapped memory");
    assert_eq!(rig.write(SSD_BAR0 + 0x4000, &beat, 0xF, true), DECERR, "beyond the BAR");
    let mut random = random::fork(1, "");
    assert_eq!(rig.read(SSD_BAR0, 1, &mut random).1, DECERR, "peers are not read");
    assert_eq!(rig.read(0x1000, 2, &mut random).1, SLVERR);
    assert_eq!(rig.bus.memory.refused(), 6);
}

#[test]
fn a_read_pushes_what_was_written_before_it() {
    let mut rig = Rig::new(128, 0, Some((1_000_000, 2_000_000)));
    let memory = rig.bus.memory.allocate(4096).expect("memory");
    assert_eq!(rig.write(memory.iova().0, &[0x77; 16], 0xFFFF, false), OKAY);
    assert_eq!(memory.load_acquire(0), 0, "not seen yet");
    let (data, _) = rig.read(memory.iova().0, 1, &mut random::fork(1, ""));
    assert_eq!((data, memory.load_acquire(0)), (vec![0x77; 16], 0x7777_7777));
}

#[test]
fn broken_bursts_are_errors() {
    let broken = |act: &dyn Fn(&mut Rig, u64)| {
        let mut rig = Rig::new(128, 0, None);
        let memory = rig.bus.memory.allocate(4096).expect("memory");
        rig.cycle();
        act(&mut rig, memory.iova().0);
        rig.errors.list().join("; ")
    };
    let early = broken(&|rig, iova| {
        rig.address(WRITE, iova, 2);
        rig.finish(Port::MAwvalid, Port::MAwready);
        rig.data(&[0; 16], 0xFFFF, true);
        rig.finish(Port::MWvalid, Port::MWready);
    });
    assert!(early.contains("1 beats, the address says 2"), "{early}");
    let partial = broken(&|rig, iova| {
        rig.write(iova, &[0; 32], 0xFF, false);
    });
    assert!(partial.contains("partial strobes in a burst"), "{partial}");
    let below = broken(&|rig, iova| {
        rig.write(iova + 8, &[0; 16], 0xF, false);
    });
    assert!(below.contains("below the address"), "{below}");
    let endless = broken(&|rig, _| {
        for _ in 0..9 {
            rig.data(&[0; 16], 0xFFFF, false);
            rig.finish(Port::MWvalid, Port::MWready);
        }
    });
    assert!(endless.contains("goes on after 128 bytes"), "{endless}");
}
