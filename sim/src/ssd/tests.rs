//! The SSD through the driver's traits. Entries and registers are typed here from the NVMe
//! specification, not taken from `abi`, so that an error there does not hide.

mod death;
mod faults;
mod namespace;

use std::time::Duration;

use rand::Rng;
use volplane_driver::{Bar, DmaMemory, Function, Platform};

use crate::{
    CommandFilter, CommandRecord, CompletionWrites, Execution, SimFunction, SimHandle, SimPlatform,
    SimulatorConfig, SsdConfig,
};

const DNR: u32 = 0x4000;

/// One queue pair, as a plain driver keeps it.
struct Pair {
    id: u64,
    sq: DmaMemory,
    cq: DmaMemory,
    entries: u32,
    tail: u32,
    head: u32,
    phase: u32,
}

struct Host {
    platform: SimPlatform,
    handle: SimHandle,
    ssd: SimFunction,
    admin: Pair,
    next_id: u32,
}

type Completion = [u32; 4];

fn status_of(completion: Completion) -> u32 {
    completion[3] >> 17
}

impl Host {
    fn new(config: SsdConfig) -> Self {
        Self::of_machine(SimulatorConfig::new(crate::test_seed()).with_ssd(config))
    }

    /// Of the machine's first SSD.
    fn of_machine(config: SimulatorConfig) -> Self {
        let address = format!("sim:{}", config.ssds[0].name);
        let config = config.with_command_record(1000);
        let mut platform = SimPlatform::new(config).expect("configuration");
        let handle = platform.handle();
        let ssd = platform.open(&address).expect("SSD");
        let admin = Pair::new(&mut platform, 0, 8);
        let mut host = Host { platform, handle, ssd, admin, next_id: 0 };
        host.enable();
        host
    }

    fn enable(&mut self) {
        let ssd = &self.ssd;
        ssd.write32(Bar::Bar0, 0x24, 7 << 16 | 7).expect("AQA");
        ssd.write64(Bar::Bar0, 0x28, self.admin.sq.iova().0).expect("ASQ");
        ssd.write64(Bar::Bar0, 0x30, self.admin.cq.iova().0).expect("ACQ");
        ssd.write32(Bar::Bar0, 0x14, 1 | 6 << 16 | 4 << 20).expect("CC");
        assert_eq!(ssd.read32(Bar::Bar0, 0x1C).expect("CSTS"), 0, "ready takes time");
        while self.ssd.read32(Bar::Bar0, 0x1C).expect("CSTS") != 1 {
            let deadline = self.platform.now() + Duration::from_micros(50);
            assert!(deadline < Duration::from_secs(1));
            self.platform.wait(deadline).expect("wait");
        }
    }

    /// Executes one command and returns its completion.
    fn execute(&mut self, pair: &mut Pair, mut entry: [u32; 16]) -> Completion {
        self.next_id = (self.next_id + 1) & 0xFFFF;
        entry[0] |= self.next_id << 16;
        pair.push(entry);
        pair.ring(&self.ssd);
        let completion = self.reap(pair);
        assert_eq!(completion[3] & 0xFFFF, self.next_id, "command identifier");
        completion
    }

    fn reap(&mut self, pair: &mut Pair) -> Completion {
        let deadline = self.platform.now() + Duration::from_secs(1);
        loop {
            if let Some(completion) = pair.pop() {
                pair.ring_head(&self.ssd);
                return completion;
            }
            assert!(self.platform.now() < deadline, "no completion");
            self.platform.wait(deadline).expect("wait");
        }
    }

    fn admin(&mut self, opcode: u32, prp1: u64, dw10: u32, dw11: u32) -> Completion {
        let mut entry = [0; 16];
        entry[0] = opcode;
        (entry[6], entry[7]) = (prp1 as u32, (prp1 >> 32) as u32);
        (entry[10], entry[11]) = (dw10, dw11);
        let mut admin = std::mem::replace(&mut self.admin, Pair::none(&mut self.platform));
        let completion = self.execute(&mut admin, entry);
        self.admin = admin;
        completion
    }

    fn create_pair(&mut self, id: u32, entries: u32) -> Pair {
        let pair = Pair::new(&mut self.platform, u64::from(id), entries);
        let size = (entries - 1) << 16 | id;
        // Create I/O Completion Queue with interrupt vector 5, then its submission queue.
        assert_eq!(status_of(self.admin(0x05, pair.cq.iova().0, size, 5 << 16 | 3)), 0);
        assert_eq!(status_of(self.admin(0x01, pair.sq.iova().0, size, id << 16 | 1)), 0);
        pair
    }

    fn identify(&mut self, cns: u32, namespace: u32) -> Vec<u8> {
        let page = self.platform.allocate(4096).expect("memory");
        let mut admin = std::mem::replace(&mut self.admin, Pair::none(&mut self.platform));
        let mut entry = [0; 16];
        (entry[0], entry[1], entry[10]) = (0x06, namespace, cns);
        (entry[6], entry[7]) = (page.iova().0 as u32, (page.iova().0 >> 32) as u32);
        let completion = self.execute(&mut admin, entry);
        self.admin = admin;
        assert_eq!(status_of(completion), 0);
        let mut bytes = vec![0; 4096];
        page.read(0, &mut bytes);
        bytes
    }
}

impl Pair {
    fn new(platform: &mut SimPlatform, id: u64, entries: u32) -> Self {
        let sq = platform.allocate(entries as usize * 64).expect("memory");
        let cq = platform.allocate(entries as usize * 16).expect("memory");
        Pair { id, sq, cq, entries, tail: 0, head: 0, phase: 1 }
    }

    fn none(platform: &mut SimPlatform) -> Self {
        Pair::new(platform, 99, 1)
    }

    fn push(&mut self, entry: [u32; 16]) {
        let bytes: Vec<u8> = entry.iter().flat_map(|dword| dword.to_le_bytes()).collect();
        self.sq.write(self.tail as usize * 64, &bytes);
        self.tail = (self.tail + 1) % self.entries;
    }

    fn ring(&self, ssd: &SimFunction) {
        ssd.write32(Bar::Bar0, 0x1000 + self.id * 8, self.tail).expect("doorbell");
    }

    fn pop(&mut self) -> Option<Completion> {
        let at = self.head as usize * 16;
        let dword = |index: usize| self.cq.load_acquire(at + index * 4);
        if dword(3) >> 16 & 1 != self.phase {
            return None;
        }
        let completion = [dword(0), dword(1), dword(2), dword(3)];
        self.head += 1;
        if self.head == self.entries {
            (self.head, self.phase) = (0, self.phase ^ 1);
        }
        Some(completion)
    }

    fn ring_head(&self, ssd: &SimFunction) {
        ssd.write32(Bar::Bar0, 0x1004 + self.id * 8, self.head).expect("doorbell");
    }
}

fn io(opcode: u32, lba: u64, blocks: u32, prp1: u64, prp2: u64) -> [u32; 16] {
    let mut entry = [0; 16];
    (entry[0], entry[1]) = (opcode, 1);
    (entry[6], entry[7]) = (prp1 as u32, (prp1 >> 32) as u32);
    (entry[8], entry[9]) = (prp2 as u32, (prp2 >> 32) as u32);
    (entry[10], entry[11]) = (lba as u32, (lba >> 32) as u32);
    entry[12] = blocks - 1;
    entry
}

#[test]
fn registers_and_identify_say_what_was_configured() {
    let mut host = Host::new(SsdConfig::new("nvme0", 4096, 1000).with_limits(3, 9));
    assert_eq!(host.ssd.read64(Bar::Bar0, 0).expect("CAP"), 1023 | 1 << 16 | 20 << 24 | 1 << 37);
    assert_eq!(host.ssd.read32(Bar::Bar0, 8).expect("VS"), 0x0001_0400);
    let controller = host.identify(1, 0);
    assert_eq!(&controller[4..24], b"nvme0               ");
    assert_eq!((controller[77], controller[512], controller[513], controller[525]), (3, 0x66, 0x44, 1));
    assert_eq!(&controller[516..522], &[1, 0, 0, 0, 0b1101, 0]);
    let namespace = host.identify(0, 1);
    assert_eq!(&namespace[..8], &1000u64.to_le_bytes());
    assert_eq!((namespace[26], &namespace[128..132]), (0, &[0u8, 0, 12, 0][..]));
    assert_eq!(&host.identify(2, 0)[..8], &[1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(&host.identify(2, 1)[..4], &[0; 4]);
    assert_eq!(host.identify(6, 0)[1], 9);
    let queues = host.admin(0x09, 0, 7, 63 << 16 | 3);
    assert_eq!((queues[0], status_of(queues)), (15 << 16 | 3, 0));
    assert_eq!(host.ssd.config_read32(8).expect("class") >> 8, 0x01_08_02);
    assert_eq!(host.ssd.bar_iova(Bar::Bar0).0, host.ssd.config_read32(0x14).map_or(0, u64::from) << 32);
}

#[test]
fn wrong_admin_commands_get_their_status() {
    let mut host = Host::new(SsdConfig::new("nvme0", 512, 1000));
    let pair = host.create_pair(1, 4);
    let base = pair.cq.iova().0;
    for (opcode, prp1, dw10, dw11, status) in [
        (0x7F, 0, 0, 0, 0x001),
        (0x09, 0, 1, 0, 0x002),
        (0x06, base, 0x42, 0, 0x002),
        (0x05, base, 3 << 16 | 1, 1, 0x101),
        (0x05, base, 3 << 16, 1, 0x101),
        (0x05, base, 3 << 16 | 17, 1, 0x101),
        (0x05, base, 2, 1, 0x102),
        (0x05, base, 1024 << 16 | 2, 1, 0x102),
        (0x05, base, 3 << 16 | 2, 0, 0x002),
        (0x05, base + 8, 3 << 16 | 2, 1, 0x013),
        (0x05, base, 3 << 16 | 2, 256 << 16 | 3, 0x108),
        (0x01, base, 3 << 16 | 2, 2 << 16 | 1, 0x100),
        (0x04, 0, 1, 0, 0x10C),
        (0x04, 0, 2, 0, 0x101),
        (0x00, 0, 2, 0, 0x101),
    ] {
        let completion = host.admin(opcode, prp1, dw10, dw11);
        assert_eq!(status_of(completion), status | DNR, "opcode {opcode:#x}, {dw10:#x}, {dw11:#x}");
    }
    assert_eq!(status_of(host.admin(0x00, 0, 1, 0)), 0);
    assert_eq!(status_of(host.admin(0x04, 0, 1, 0)), 0);
    assert!(host.handle.ssd_complaints().is_empty());
}

#[test]
fn io_commands_move_data_and_check_their_fields() {
    let mut host = Host::new(SsdConfig::new("nvme0", 512, 1000).with_limits(1, 2));
    let mut pair = host.create_pair(3, 4);
    let buffer = host.platform.allocate(3 * 4096).expect("memory");
    let page = buffer.iova().0;
    let data: Vec<u8> = (0..1024u32).map(|i| (i * 7) as u8).collect();
    buffer.write(4096 - 512, &data);
    let mut run = |entry| status_of(host.execute(&mut pair, entry));
    assert_eq!(run(io(0x01, 998, 2, page + 3584, page + 4096)), 0, "write");
    assert_eq!(run(io(0x05, 998, 2, page + 3584, page + 4096)), 0, "compare");
    assert_eq!(run(io(0x02, 998, 2, page + 8192, 0)), 0, "read");
    assert_eq!(run(io(0x02, 999, 2, page, 0)), 0x80 | DNR, "beyond the end");
    assert_eq!(run(io(0x02, u64::MAX, 2, page, 0)), 0x80 | DNR);
    assert_eq!(run(io(0x02, 0, 17, page, page + 4096)), 0x02 | DNR, "MDTS");
    assert_eq!(run(io(0x08, 0, 33, 0, 0)), 0x02 | DNR, "WZSL");
    assert_eq!(run(io(0x08, 0, 32, 0, 0)), 0);
    assert_eq!(run(io(0x02, 0, 1, page + 2, 0)), 0x13 | DNR, "PRP offset");
    assert_eq!(run(io(0x02, 0, 1, 0x9_0000, 0)), 0x04, "unmapped buffer");
    assert_eq!(run(io(0x55, 0, 1, page, 0)), 0x01 | DNR);
    let mut other = io(0x02, 0, 1, page, 0);
    other[1] = 2;
    assert_eq!(run(other), 0x0B | DNR, "namespace");
    let mut flush = [0; 16];
    flush[1] = u32::MAX;
    assert_eq!(run(flush), 0);
    buffer.write(4096, &[1]);
    assert_eq!(run(io(0x05, 998, 2, page + 3584, page + 4096)), 0x285 | DNR, "compare");
    let mut back = vec![0; 1024];
    buffer.read(8192, &mut back);
    assert_eq!(back, data);
    // Deallocate two ranges: blocks 998 and 5 to 6.
    let ranges: [u32; 8] = [0, 1, 998, 0, 0, 2, 5, 0];
    let ranges: Vec<u8> = ranges.iter().flat_map(|dword| dword.to_le_bytes()).collect();
    buffer.write(0, &ranges);
    let mut trim = io(0x09, 1 | 4 << 32, 1, page, 0);
    trim[13] = 0x1234;
    assert_eq!(run(trim), 0);
    host.handle.read_media("nvme0", 998 * 512, &mut back).expect("media");
    assert!(back[..512].iter().all(|&byte| byte == 0) && back[512..] == data[512..]);
    let (commands, missed) = host.handle.take_commands("nvme0");
    let trim = commands.last().expect("recorded");
    assert_eq!((missed, &trim.ranges[..], trim.entry.cdw13()), (0, &[(998, 1), (5, 2)][..], 0x1234));
    assert_eq!(
        commands[0].segments.iter().map(|s| (s.iova - page, s.len)).collect::<Vec<_>>(),
        [(3584, 512), (4096, 512)]
    );
    assert_eq!((commands[3].status, commands[3].order), (0x80 | DNR as u16, 3));
    assert_eq!(host.handle.refusals().len(), 1, "the unmapped buffer");
}

/// Random reads and writes, several queues and depths, against a plain vector.
fn random_traffic(config: SsdConfig, steps: u32) -> (u64, Vec<u8>) {
    const BLOCKS: u64 = 300;
    let shift = config.block_size.trailing_zeros();
    let mut host = Host::new(config);
    let mut random = crate::random::fork(crate::test_seed(), "traffic");
    let mut draw = |limit: u64| random.next_u64() % limit;
    let mut pairs: Vec<Pair> = (1..=3).map(|id| host.create_pair(id, 5 + id)).collect();
    // Every command its own third of the disk, so that their order does not matter.
    let mut model = vec![0u8; (BLOCKS << shift) as usize];
    let buffers = host.platform.allocate(3 * 4 * 65536).expect("memory");
    for step in 0..steps {
        for (number, pair) in pairs.iter_mut().enumerate() {
            let lba = draw(BLOCKS - 16);
            let blocks = draw((65536 >> shift).min(BLOCKS - lba)) + 1;
            let bytes = (blocks << shift) as usize;
            // Room for a list in front of the pages, which begin with an offset.
            let area = number * 4 * 65536;
            let offset = draw(1024) as usize * 4;
            let first = buffers.iova().0 + (area + 8192 + offset) as u64;
            let pages = (offset + bytes).div_ceil(4096) as u64;
            let list_at = area + 4096 - 8 * (draw(3) + 1).min(pages.max(2) - 1) as usize;
            let next_page = |page: u64| (first & !4095) + page * 4096;
            let list: Vec<u64> = (1..pages).map(next_page).collect();
            let prp2 = match pages {
                1 => 0,
                2 => list[0],
                _ => write_list(&buffers, list_at, area + 4096, &list),
            };
            let range = (lba << shift) as usize..(lba << shift) as usize + bytes;
            if draw(2) == 0 {
                let data: Vec<u8> = (0..bytes).map(|i| (i as u32 * 31 + step * 17) as u8).collect();
                buffers.write(area + 8192 + offset, &data);
                assert_eq!(status_of(host.execute(pair, io(1, lba, blocks as u32, first, prp2))), 0);
                model[range].copy_from_slice(&data);
            } else {
                buffers.fill(area + 8192, 5 * 65536 / 2, 0xEE);
                assert_eq!(status_of(host.execute(pair, io(2, lba, blocks as u32, first, prp2))), 0);
                let mut found = vec![0; bytes + 8];
                buffers.read(area + 8192 + offset, &mut found);
                assert!(found[..bytes] == model[range], "step {step}: block {lba}");
                assert_eq!(&found[bytes..], &[0xEE; 8], "step {step}: written past the end");
            }
        }
    }
    assert!(host.handle.ssd_complaints().is_empty() && host.handle.refusals().is_empty());
    let mut media = vec![0; model.len()];
    host.handle.read_media("nvme0", 0, &mut media).expect("media");
    assert!(media == model);
    (host.handle.now_ns(), media)
}

/// Writes a PRP list at `at` that goes on in the page at `next` when it does not end in its own.
fn write_list(memory: &DmaMemory, at: usize, next: usize, list: &[u64]) -> u64 {
    let slots = (4096 - at % 4096) / 8;
    let put = |at: usize, entries: &[u64]| {
        for (number, entry) in entries.iter().enumerate() {
            memory.write(at + number * 8, &entry.to_le_bytes());
        }
    };
    if list.len() <= slots {
        put(at, list);
    } else {
        put(at, &list[..slots - 1]);
        put(at + (slots - 1) * 8, &[memory.iova().0 + next as u64]);
        put(next, &list[slots - 1..]);
    }
    memory.iova().0 + at as u64
}

#[test]
fn random_traffic_keeps_every_byte_and_repeats() {
    let jittery = || {
        SsdConfig::new("nvme0", 512, 300)
            .with_latency_ns(10_000, 90_000)
            .with_completion_writes(CompletionWrites::Mixed)
    };
    assert!(random_traffic(jittery(), 60) == random_traffic(jittery(), 60), "one seed, one run");
    let file = tempfile::NamedTempFile::new().expect("file");
    file.as_file().set_len(300 << 12).expect("length");
    random_traffic(SsdConfig::new("nvme0", 4096, 300).with_file(file.path()), 40);
}

#[test]
fn a_full_completion_queue_holds_completions_back() {
    let mut config = SsdConfig::new("nvme0", 512, 100);
    config.parallelism = 3;
    let mut host = Host::new(config);
    let mut pair = host.create_pair(1, 4);
    // The submission queue has its doorbell rung thrice as the completion queue fills: 3 + 3.
    for id in 0..6u32 {
        let mut entry = [0; 16];
        (entry[0], entry[1]) = (id << 16, 1);
        pair.push(entry);
        if id % 3 == 2 {
            pair.ring(&host.ssd);
        }
    }
    host.handle.run_for_ns(1_000_000).expect("run");
    let mut ids = Vec::new();
    while let Some(completion) = pair.pop() {
        ids.push(completion[3] & 0xFFFF);
    }
    assert_eq!(ids, [0, 1, 2], "one entry stays free");
    assert!(host.ssd.take_interrupt(5) && !host.ssd.take_interrupt(5));
    pair.ring_head(&host.ssd);
    while let Some(completion) = pair.pop() {
        ids.push(completion[3] & 0xFFFF);
        assert_eq!(completion[2], 1 << 16 | pair.tail);
    }
    assert_eq!(ids, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn bad_doorbells_and_lost_queues_are_complained_of() {
    let mut host = Host::new(SsdConfig::new("nvme0", 512, 100));
    let pair = host.create_pair(1, 4);
    for (offset, value) in [(0x1008, 4), (0x100C, 1), (0x1010, 0), (0x1FF8, 0)] {
        host.ssd.write32(Bar::Bar0, offset, value).expect("doorbell");
    }
    assert_eq!(host.handle.ssd_complaints().len(), 4);
    let rung = |queue| host.handle.doorbells_rung(0, queue);
    assert_eq!((rung(1), rung(2)), (2, 1), "whether there are such queues or not");
    assert!(host.ssd.write32(Bar::Bar0, 0x2000, 0).is_err() && host.ssd.read32(Bar::Bar2, 0).is_err());
    assert_eq!(host.ssd.read32(Bar::Bar0, 0x1C).expect("CSTS"), 1);
    drop(pair.sq);
    host.ssd.write32(Bar::Bar0, 0x1008, 1).expect("doorbell");
    assert_eq!(host.ssd.read32(Bar::Bar0, 0x1C).expect("CSTS"), 3, "fatal");
}

struct Script(Vec<Execution>);

impl CommandFilter for Script {
    fn judge(&mut self, _command: &CommandRecord, planned: Execution) -> Execution {
        self.0.pop().unwrap_or(planned)
    }
}

#[test]
fn a_filter_decides_and_a_deleted_queue_takes_its_commands_along() {
    let mut host = Host::new(SsdConfig::new("nvme0", 512, 100));
    let mut pair = host.create_pair(1, 8);
    let buffer = host.platform.allocate(4096).expect("memory");
    buffer.fill(0, 4096, 0x77);
    let write = |lba: u64, id: u32| {
        let mut entry = io(1, lba, 1, buffer.iova().0, 0);
        entry[0] |= id << 16;
        entry
    };
    let plain = Execution { delay_ns: 0, effect: true, completion: true, status: None };
    let script = vec![
        Execution { delay_ns: 5_000_000, ..plain },
        Execution { completion: false, ..plain },
        Execution { effect: false, status: Some(0x281), ..plain },
        Execution { delay_ns: 3000, ..plain },
    ];
    host.handle.set_filter("nvme0", Some(Box::new(Script(script))));
    for id in 0..4 {
        pair.push(write(u64::from(id), id));
    }
    pair.ring(&host.ssd);
    host.handle.run_for_ns(100_000).expect("run");
    let seen: Vec<(u32, u32)> =
        std::iter::from_fn(|| pair.pop()).map(|c| (c[3] & 0xFFFF, status_of(c))).collect();
    assert_eq!(seen, [(1, 0x281), (0, 0)]);
    assert_eq!(status_of(host.admin(0x00, 0, 1, 0)), 0, "delete the submission queue");
    host.handle.run_for_ns(10_000_000).expect("run");
    let mut media = [0; 4 * 512];
    host.handle.read_media("nvme0", 0, &mut media).expect("media");
    let written: Vec<u8> = media.chunks(512).map(|block| block[0]).collect();
    assert_eq!(written, [0x77, 0, 0x77, 0], "late command 3 was aborted");
    assert_eq!(pair.pop(), None);
}

#[test]
fn a_controller_reset_forgets_queues_and_commands() {
    let mut host = Host::new(SsdConfig::new("nvme0", 512, 100).with_latency_ns(1_000_000, 0));
    let mut pair = host.create_pair(1, 8);
    let buffer = host.platform.allocate(4096).expect("memory");
    buffer.fill(0, 4096, 0x77);
    pair.push(io(1, 0, 1, buffer.iova().0, 0));
    pair.ring(&host.ssd);
    host.ssd.write32(Bar::Bar0, 0x14, 0).expect("CC");
    assert_eq!(host.ssd.read32(Bar::Bar0, 0x1C).expect("CSTS"), 0);
    host.handle.run_for_ns(10_000_000).expect("run");
    let mut block = [0xEE; 512];
    host.handle.read_media("nvme0", 0, &mut block).expect("media");
    assert_eq!((block, pair.pop()), ([0; 512], None));
    host.admin = Pair::new(&mut host.platform, 0, 8);
    host.enable();
    let mut pair = host.create_pair(1, 8);
    assert_eq!(status_of(host.execute(&mut pair, io(1, 0, 1, buffer.iova().0, 0))), 0);
}

#[test]
fn functions_open_once_and_time_is_simulated() {
    let config = SimulatorConfig::new(1).with_ssd(SsdConfig::new("a", 512, 8));
    let mut platform = SimPlatform::new(config).expect("configuration");
    assert!(platform.open("sim:b").is_err() && platform.open("a").is_err());
    assert!(platform.open("sim:card").is_err());
    let first = platform.open("sim:a").expect("free");
    assert!(platform.open("sim:a").is_err());
    drop(first);
    assert!(platform.open("sim:a").is_ok());
    let before = platform.now();
    platform.wait(before + Duration::from_secs(3600)).expect("wait");
    assert_eq!(platform.now(), before + Duration::from_secs(3600), "idle time is skipped");
    let twice = SsdConfig::new("a", 512, 8);
    let config = SimulatorConfig::new(1).with_ssd(twice.clone()).with_ssd(twice);
    assert!(SimPlatform::new(config).is_err());
    let config = SimulatorConfig::new(1).with_ssd(SsdConfig::new("a", 500, 8));
    assert!(SimPlatform::new(config).is_err());
}
