//! Extents that read as zeros: a thin disk on the card, and what a long fill costs others.

use volplane_abi::{extent_action, opcode, status, submission_mode, table};
use volplane_driver::{DmaMemory, Platform, PAGE};
use volplane_tests::harness::{plain, Configuration, Machine};

/// The disk that is thin, linear in extents of 1 MiB; the other one is as it was.
const THIN: u32 = 1;
/// Blocks of its extents, of 512 bytes.
const EXTENT: u64 = 2048;
const MIB: usize = 1 << 20;
/// What lies around buffers, and in them before they are read into.
const GUARD: u8 = 0xA5;
/// Most cycles that the filler takes for 4 KiB at 128 bits, without lists and with nobody else on the bus: 64
/// bursts of 4 beats, and a cycle between.
const CYCLES_4K_MAX: u64 = 325;
/// Most percent by which reads take longer beside a long fill.
const SLOWER_PERCENT_MAX: u64 = 10;

fn configuration() -> Configuration {
    let mut configuration = plain::configuration(1, 128, submission_mode::DIRECT);
    let tables = &mut configuration.tables;
    let allocation = tables.allocations.get_mut(&THIN).expect("the disk's");
    *allocation = allocation.with_columns(1).with_stripe_shift(11);
    for number in 3..6 {
        let extent = tables.extents.get_mut(&number).expect("an extent of the disk");
        *extent = extent.with_read_action(extent_action::ZERO).with_write_action(extent_action::FAULT);
    }
    configuration
}

/// A buffer of any length with its list, guards around it.
struct Buffer {
    memory: DmaMemory,
    list: DmaMemory,
    offset: usize,
    bytes: usize,
}

impl Buffer {
    fn new(machine: &mut Machine, offset: usize, bytes: usize) -> Self {
        let pages = (offset + bytes).div_ceil(PAGE);
        let memory = machine.platform.allocate((pages + 2) * PAGE).expect("memory");
        let list = machine.platform.allocate(PAGE).expect("memory");
        let buffer = Self { memory, list, offset: PAGE + offset, bytes };
        for page in 1..pages {
            let address = buffer.memory.iova().0 + ((page + 1) * PAGE) as u64;
            buffer.list.write(8 * (page - 1), &address.to_le_bytes());
        }
        buffer.clear();
        buffer
    }

    fn clear(&self) {
        self.memory.fill(0, self.memory.len(), GUARD);
    }

    fn read(&self, lba: u64) -> volplane_abi::SubmissionEntry {
        let pages = (self.offset % PAGE + self.bytes).div_ceil(PAGE);
        let mut second = [0; 8];
        self.list.read(0, &mut second);
        let second = if pages == 2 { u64::from_le_bytes(second) } else { self.list.iova().0 };
        plain::command(opcode::READ, THIN, lba, (self.bytes / 512) as u16, &self.memory)
            .with_prp1(self.memory.iova().0 + self.offset as u64)
            .with_prp2(second)
    }

    /// All bytes of the buffer hold zeros from `from` to `to`, and nothing else was touched.
    fn assert_zeros(&self, from: usize, to: usize) {
        let mut found = vec![0; self.memory.len()];
        self.memory.read(0, &mut found);
        let zeros = self.offset + from..self.offset + to;
        let wrong = (0..found.len()).find(|at| found[*at] != if zeros.contains(at) { 0 } else { GUARD });
        assert_eq!(wrong, None, "of {} bytes at {:#x}", self.bytes, self.offset);
    }
}

#[test]
fn a_thin_disk_reads_as_zeros_until_it_is_written() {
    let mut machine = Machine::start(configuration());
    // In one page; over a border, on dwords; with a list; over the border of two extents.
    for (offset, bytes, lba) in
        [(0, 512, 0), (0xF04, 512, 9), (0x204, 0x5000, 17), (0x40, 0x4000, EXTENT - 3)]
    {
        let buffer = Buffer::new(&mut machine, offset, bytes);
        assert_eq!(machine.execute(1, buffer.read(lba)), status::SUCCESS);
        buffer.assert_zeros(0, bytes);
    }
    // Writes find an extent that faults: nothing is lost that the disk could not hold.
    let page = machine.platform.allocate(PAGE).expect("memory");
    page.fill(0, PAGE, 0x77);
    let write = plain::command(opcode::WRITE, THIN, EXTENT, 8, &page);
    assert_eq!(machine.execute(1, write), status::INTERNAL_ERROR | status::DNR);
    // The control path gives the second extent its blocks, and the disk holds them.
    let extent = machine.configuration.tables.extents[&4];
    let extent = extent.with_read_action(extent_action::GO).with_write_action(extent_action::GO);
    machine.card.table_write(&mut machine.platform, table::EXTENT, 4, &extent.0).expect("an entry");
    assert_eq!(machine.execute(1, write), status::SUCCESS);
    let buffer = Buffer::new(&mut machine, 0x80, 0x2000);
    assert_eq!(machine.execute(1, buffer.read(EXTENT - 8)), status::SUCCESS);
    let mut found = vec![0; 0x2000];
    buffer.memory.read(buffer.offset, &mut found);
    assert!(found[..PAGE].iter().all(|&byte| byte == 0) && found[PAGE..].iter().all(|&byte| byte == 0x77));
    // A page that is not there is the client's own fault, and the next command is executed.
    let nowhere = buffer.read(0).with_prp2(0xFFFF_FFFF_FFFF_0000);
    assert_eq!(machine.execute(1, nowhere), status::DATA_TRANSFER_ERROR | status::DNR);
    buffer.clear();
    assert_eq!(machine.execute(1, buffer.read(0)), status::SUCCESS);
    buffer.assert_zeros(0, 0x2000);
    machine.assert_clean(|refusal| refusal.iova >= 0xFFFF_FFFF_FFFF_0000);
}

/// Cycles of reads of 4 KiB, many at once, until all have come.
fn reads(machine: &mut Machine, buffer: &DmaMemory) -> u64 {
    let since = machine.handle.counters().cycles_evaluated;
    for round in 0..16 {
        let count = machine.queues[0].free() as u64;
        for number in 0..count {
            let entry = plain::command(opcode::READ, 0, (round * count + number) % 384 * 8, 8, buffer);
            machine.queues[0].submit(entry.with_command_id(number as u16)).expect("room");
        }
        machine.queues[0].ring().expect("a doorbell");
        for _ in 0..count {
            assert_eq!(machine.completion(0).status(), status::SUCCESS);
        }
    }
    machine.handle.counters().cycles_evaluated - since
}

#[test]
fn a_long_fill_yields_to_others() {
    let mut machine = Machine::start(configuration());
    let page = machine.platform.allocate(PAGE).expect("memory");
    let buffer = Buffer::new(&mut machine, 0, MIB);
    let since = machine.handle.counters().cycles_evaluated;
    assert_eq!(machine.execute(1, buffer.read(0)), status::SUCCESS);
    let alone = (machine.handle.counters().cycles_evaluated - since) / 256;
    buffer.assert_zeros(0, MIB);
    assert!(alone <= CYCLES_4K_MAX, "{alone} cycles for 4 KiB");

    let without = reads(&mut machine, &page);
    buffer.clear();
    let fills = machine.queues[1].free().min(32) as u64;
    for number in 0..fills {
        machine.queues[1].submit(buffer.read(0).with_command_id(number as u16)).expect("room");
    }
    machine.queues[1].ring().expect("a doorbell");
    let beside = reads(&mut machine, &page);
    assert!(machine.queues[1].poll().expect("a sound queue").is_none_or(|_| true));
    println!("4 KiB of zeros: {alone} cycles; reads: {without} cycles alone, {beside} beside a fill");
    assert!(beside * 100 <= without * (100 + SLOWER_PERCENT_MAX), "{beside} instead of {without} cycles");
    for _ in 0..fills {
        assert_eq!(machine.completion(1).status(), status::SUCCESS);
    }
    buffer.assert_zeros(0, MIB);
    machine.assert_clean(|_| false);
}
