//! What every card must do, whatever it is made of: one suite, generic over the backing.
//!
//! `run` opens the card, walks its register map, its control ring, its tables and its client queues, and resets it,
//! after it has opened it several times at once after it was left. It panics at the first difference, as a test does.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use volplane_abi::layout::{self, Field};
use volplane_abi::plan::COMPONENTS_MAX;
use volplane_abi::registers::{self as register, Access, Register};
use volplane_abi::tables::table;
use volplane_abi::{
    opcode, status, AllocationEntry, ComponentEntry, DeviceEntry, DivertEntry, ExtentEntry, PathCompletions,
    PathEntry, PlanEntry, QueueEntry, QuotaEntry, SubmissionEntry, VdEntry, TRANSACTION_MAX,
};
use volplane_driver::{Bar, Capabilities, Card, CardError, ClientQueue, Function, Platform, TableWrite};

/// Longest time of anything that the suite waits for.
const LIMIT: Duration = Duration::from_millis(100);
/// Times that the card is left without waiting for its reset.
const REOPENED: usize = 4;
/// Where the registers end and the MSI-X structures begin.
const REGISTERS_END: u32 = register::MSIX_TABLE;

/// Runs the suite on the card at `address`. The same seed makes the same accesses.
pub fn run<P: Platform>(platform: &mut P, address: &str, seed: u64) {
    println!("conformance of {address}, seed {seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for _ in 0..REOPENED {
        drop(Card::open(platform, address).expect("the card opens, whoever has just left it"));
    }
    let mut card = Card::open(platform, address).expect("the card opens");
    identity(&card);
    control_ring(platform, &mut card);
    tables(platform, &mut card, &mut random);
    bad_indices(platform, &mut card);
    transactions(platform, &mut card, &mut random);
    bad_doorbells(platform, &mut card);
    register_map(&card, &mut random);
    card.close(platform).expect("the card resets");
}

/// Identity, version and capabilities, from literal bytes.
fn identity<F: Function>(card: &Card<F>) {
    let read = |offset| card.function().read32(Bar::Bar0, offset).expect("register");
    assert_eq!(read(0x000), u32::from_le_bytes(*b"VOLP"));
    assert_eq!(read(0x004), u32::from_le_bytes(*b"LANE"));
    assert_eq!(read(0x008) >> 16, 1, "ABI major");
    assert!(card.status().expect("STATUS").ready());
    let capabilities = card.capabilities();
    assert!([16, 32, 64].contains(&capabilities.data_bytes), "{capabilities:?}");
    for (name, value) in [
        ("queues", capabilities.queues),
        ("virtual disks", capabilities.vds),
        ("allocations", capabilities.allocations),
        ("extents", capabilities.extents),
        ("devices", capabilities.devices),
        ("paths", capabilities.paths),
        ("slots", capabilities.slots),
        ("fragment identifiers", capabilities.fragment_ids),
    ] {
        assert!(value >= 1, "a card without {name}");
    }
    assert_eq!(card.registers().expect("dump").len(), register::ALL.len());
}

/// The control ring wraps, several times.
fn control_ring<P: Platform>(platform: &mut P, card: &mut Card<P::Function>) {
    for _ in 0..200 {
        card.nop(platform).expect("NOP");
    }
}

/// A table with its record and its number of entries.
struct Table {
    number: u16,
    first: u32,
    entries: u32,
    fields: &'static [Field],
    bytes: usize,
}

fn writable_tables(capabilities: &Capabilities) -> Vec<Table> {
    let table = |number, first, entries, fields, bytes| Table { number, first, entries, fields, bytes };
    let c = capabilities;
    let mut tables = vec![
        table(table::QUEUE, 1, c.queues, QueueEntry::FIELDS, QueueEntry::BYTES),
        table(table::VD, 0, c.vds, VdEntry::FIELDS, VdEntry::BYTES),
        table(table::ALLOCATION, 0, c.allocations, AllocationEntry::FIELDS, AllocationEntry::BYTES),
        table(table::EXTENT, 0, c.extents, ExtentEntry::FIELDS, ExtentEntry::BYTES),
        table(table::DEVICE, 0, c.devices, DeviceEntry::FIELDS, DeviceEntry::BYTES),
        table(table::PATH, 0, c.paths, PathEntry::FIELDS, PathEntry::BYTES),
        table(table::PATH_COMPLETIONS, 0, c.paths, PathCompletions::FIELDS, PathCompletions::BYTES),
    ];
    if c.plans > 1 {
        tables.extend([
            table(table::PLAN, 0, c.plans, PlanEntry::FIELDS, PlanEntry::BYTES),
            table(
                table::COMPONENT,
                0,
                c.plans * COMPONENTS_MAX as u32,
                ComponentEntry::FIELDS,
                ComponentEntry::BYTES,
            ),
            table(table::DIVERT, 0, c.divert_ranges, DivertEntry::FIELDS, DivertEntry::BYTES),
            table(table::QUOTA, 0, c.vds, QuotaEntry::FIELDS, QuotaEntry::BYTES),
        ]);
    }
    tables
}

/// A random value of a field that software may write: reserved bits are 0, references stay within
/// the card, rings are aligned, and no queue is enabled.
fn legal_value(field: &Field, c: &Capabilities, random: &mut impl Rng) -> u64 {
    let any = random.next_u64() & (u64::MAX >> (64 - field.width));
    let below = |bound: u32| any % u64::from(bound.max(1));
    match field.name {
        name if name.starts_with("reserved") => 0,
        "enable" | "function" => 0,
        "sq_base" | "cq_base" | "base" => any & !0xFFF,
        "sq_doorbell" | "cq_doorbell" => any & !0x3,
        "sq_size_z" | "cq_size_z" => 1 + any % 1023,
        "vector" => below(c.vectors),
        "client" => below(c.clients),
        "device" => below(c.devices),
        "path" => below(c.paths),
        "map_root" => below(c.allocations),
        "first_extent" => below(c.extents),
        "flush_devices" => any & (u64::MAX >> (64 - c.devices.min(32))),
        "status" => any % 3,
        "block_shift" => 9 + any % 4,
        "allocation_shift" => 8 + any % 25,
        "columns" => 1 + any % u64::from(c.columns.clamp(1, 16)),
        "stripe_shift" | "extent_shift" => any % 33,
        "read_action" => any % 3,
        "write_action" | "submission_mode" | "completion_mode" => any % 2,
        "limit" => 1 + any % 1023,
        _ => any,
    }
}

fn legal_record(table: &Table, c: &Capabilities, random: &mut impl Rng) -> Vec<u8> {
    let mut record = vec![0; table.bytes];
    let mut offset = 0;
    for field in table.fields {
        layout::set(&mut record, offset, field.width, legal_value(field, c, random));
        offset += field.width;
    }
    record
}

/// Every table keeps what is written, entry by entry; at the end no entry is valid.
fn tables<P: Platform>(platform: &mut P, card: &mut Card<P::Function>, random: &mut ChaCha8Rng) {
    let capabilities = card.capabilities().clone();
    for table in writable_tables(&capabilities) {
        let span = table.first..table.entries;
        let mut indices: BTreeSet<u32> = (0..40).map(|_| random.random_range(span.clone())).collect();
        indices.extend([table.first, table.entries - 1]);
        let records: Vec<(u32, Vec<u8>)> =
            indices.iter().map(|&index| (index, legal_record(&table, &capabilities, random))).collect();
        let write = |(index, record): &(u32, Vec<u8>)| TableWrite::new(table.number, *index, record);
        card.table_write_all(platform, records.iter().map(write)).expect("legal entries");
        for (index, record) in &records {
            let read = card.table_read(platform, table.number, *index).expect("an entry that exists");
            assert_eq!(&read[..table.bytes], &record[..], "table {} entry {index}", table.number);
            assert!(read[table.bytes..].iter().all(|&byte| byte == 0), "beyond the record");
        }
        // More than the control ring holds, in one batch.
        let zeros = vec![0; table.bytes];
        let clear = span.clone().map(|index| TableWrite::new(table.number, index, &zeros));
        card.table_write_all(platform, clear).expect("cleared");
        for index in indices {
            let read = card.table_read(platform, table.number, index).expect("an entry that exists");
            assert_eq!(read, [0; 32], "table {} entry {index} was cleared", table.number);
        }
    }
}

/// Entries and tables that do not exist are refused, and nothing else is harmed.
fn bad_indices<P: Platform>(platform: &mut P, card: &mut Card<P::Function>) {
    let capabilities = card.capabilities().clone();
    let refused = |result: Result<(), CardError>, what: &str| match result {
        Err(CardError::Table { status, .. }) => assert_eq!(status & 0x7FF, status::INVALID_FIELD, "{what}"),
        other => panic!("{what}: {other:?}"),
    };
    for table in writable_tables(&capabilities) {
        let zeros = vec![0; table.bytes];
        for index in [table.entries, table.entries + 1, 0x1_0000 + table.first, 0x8000_0000, u32::MAX] {
            let what = format!("table {} entry {index}", table.number);
            refused(card.table_write(platform, table.number, index, &zeros), &what);
            refused(card.table_read(platform, table.number, index).map(drop), &what);
        }
    }
    let last = table::NAMES.last().expect("tables").0;
    for number in [0, last + 1, 0x7F, 0xFFFF] {
        refused(card.table_write(platform, number, 0, &[]), "a table that does not exist");
        refused(card.table_read(platform, number, 0).map(drop), "a table that does not exist");
    }
    refused(card.table_write(platform, table::QUEUE, 0, &[]), "the control ring's own entry");
    refused(card.table_write(platform, table::QUEUE_STATE, 1, &[]), "live state is read only");
    refused(card.table_write(platform, table::PATH_STATE, 0, &[]), "live state is read only");
    refused(card.table_write(platform, table::PLAN_STATE, 0, &[]), "live state is read only");
    card.nop(platform).expect("the control ring lives");
}

/// What is committed is written, in order; what is not is not; and each commit ends an epoch.
fn transactions<P: Platform>(platform: &mut P, card: &mut Card<P::Function>, random: &mut ChaCha8Rng) {
    let disks = card.capabilities().vds;
    let entry = |size: u64| VdEntry::default().with_size_blocks(size);
    let mut sizes: Vec<u64> = vec![0; disks as usize];
    let mut ended = card.epochs(platform).expect("epochs").current();
    for round in 0..20 {
        let count = [0, 1, TRANSACTION_MAX, TRANSACTION_MAX + 1][random.random_range(0..4)];
        let mut writes: Vec<(u32, u64)> =
            (0..count).map(|_| (random.random_range(0..disks), random.random_range(1..1 << 48))).collect();
        let wrong = count > 0 && random.random_bool(0.3);
        if wrong {
            writes[random.random_range(0..count)].0 = disks + random.random_range(0..4);
        }
        let staged: Vec<TableWrite> =
            writes.iter().map(|&(disk, size)| TableWrite::new(table::VD, disk, &entry(size).0)).collect();
        match card.commit(platform, &staged) {
            Ok(epoch) => {
                assert!(!wrong && count <= TRANSACTION_MAX, "round {round}");
                assert_eq!(epoch, ended);
                writes.iter().for_each(|&(disk, size)| sizes[disk as usize] = size);
                ended += 1;
            }
            Err(CardError::TransactionSize { .. }) => assert!(count > TRANSACTION_MAX),
            Err(CardError::Table { status, .. }) => {
                assert!(wrong && status & 0x7FF == status::INVALID_FIELD, "round {round}: {status:#x}");
            }
            Err(error) => panic!("round {round}: {error}"),
        }
        for (disk, &size) in sizes.iter().enumerate() {
            let found: VdEntry = card.table_record(platform, table::VD, disk as u32).expect("an entry");
            assert_eq!(found, entry(size), "round {round}, disk {disk}");
        }
        let state = card.epochs(platform).expect("epochs");
        assert_eq!((state.current(), state.oldest()), (ended, ended), "nothing is under way");
    }
    card.table_write_all(platform, (0..disks).map(|disk| TableWrite::new(table::VD, disk, &entry(0).0)))
        .expect("cleared");
}

/// A doorbell beyond the ring stops that queue; its neighbour, and the control ring, go on.
fn bad_doorbells<P: Platform>(platform: &mut P, card: &mut Card<P::Function>) {
    if card.capabilities().queues < 3 {
        return;
    }
    for (doorbell, value) in [
        (register::sq_tail_doorbell(1), 16),
        (register::sq_tail_doorbell(1), u32::MAX),
        (register::sq_tail_doorbell(1), 0x1_0001),
        (register::cq_head_doorbell(1), 16),
        (register::cq_head_doorbell(1), 0x8000_0000),
    ] {
        let broken = card.create_queue(platform, 1, 16, None, 0).expect("queue 1");
        let mut sound = card.create_queue(platform, 2, 16, None, 0).expect("queue 2");
        let stopped = |card: &mut Card<P::Function>, platform: &mut P, number| {
            card.queue_state(platform, number).expect("queue state").stopped() == 1
        };
        assert!(!stopped(card, platform, 1) && !stopped(card, platform, 2));
        card.function().write32(Bar::Bar0, doorbell.into(), value).expect("doorbell");
        assert!(stopped(card, platform, 1), "{value:#x} at {doorbell:#x}");
        assert!(!stopped(card, platform, 2), "{value:#x} at {doorbell:#x}");
        // Twice around the ring: the neighbour's indices and phase are its own.
        for id in 0..40 {
            refused_command(platform, &mut sound, id);
        }
        card.delete_queue(platform, broken, LIMIT).expect("a stopped queue is deleted");
        card.delete_queue(platform, sound, LIMIT).expect("an idle queue is deleted");
    }
    // The same number, once more: pointers, phase and the stop are gone.
    let mut queue = card.create_queue(platform, 1, 2, None, 0).expect("queue 1");
    (0..5).for_each(|id| refused_command(platform, &mut queue, id));
    card.delete_queue(platform, queue, LIMIT).expect("an idle queue is deleted");
}

/// A command that no card executes, and what it must answer.
fn refused_command<P: Platform>(platform: &mut P, queue: &mut ClientQueue<P::Function>, id: u16) {
    let absent = SubmissionEntry::default().with_opcode(opcode::READ).with_namespace_id(1);
    let (command, expected) = match id % 3 {
        0 => (absent, status::INVALID_NAMESPACE),
        1 => (absent.with_namespace_id(0xFFFF_FFFF), status::INVALID_NAMESPACE),
        _ => (absent.with_opcode(0x7F), status::INVALID_OPCODE),
    };
    queue.submit(command.with_command_id(id)).expect("room");
    queue.ring().expect("doorbell");
    let completion = volplane_driver::poll_until(platform, LIMIT, || queue.poll())
        .expect("a sound queue")
        .expect("in time");
    assert_eq!((completion.command_id(), completion.sq_id()), (id, queue.number()));
    assert_eq!(completion.status(), expected | status::DNR);
}

/// Walks every register, known and unknown, with the control ring at rest.
fn register_map<F: Function>(card: &Card<F>, random: &mut ChaCha8Rng) {
    let read = |offset: u32| card.function().read32(Bar::Bar0, offset.into()).expect("read");
    let write = |offset: u32, value: u32| {
        card.function().write32(Bar::Bar0, offset.into(), value).expect("write");
    };
    write(register::CONTROL, 0);
    let mut next = 0;
    for Register { name, offset, access, write_mask, .. } in register::ALL {
        assert!(*offset >= next && offset % 4 == 0 && *offset < REGISTERS_END, "{name} at {offset:#x}");
        next = offset + 4;
        let before = read(*offset);
        for value in [u32::MAX, 0, random.next_u32(), 0x5555_5555, 0xAAAA_AAAA] {
            // CONTROL.reset is no value to be kept.
            let value = if *offset == register::CONTROL { value & !register::CONTROL_RESET } else { value };
            match access {
                Access::Constant => {
                    write(*offset, value);
                    assert_eq!(read(*offset), before, "{name} is constant");
                }
                Access::Live => {
                    let other = !read(*offset);
                    write(*offset, other);
                    assert_ne!(read(*offset), other, "{name} is read only");
                }
                Access::ReadWrite => {
                    write(*offset, value);
                    assert_eq!(read(*offset), value & write_mask, "{name} keeps its write mask");
                }
                Access::Command => assert_eq!(read(*offset), 0, "{name} is write only"),
            }
        }
        if *access == Access::ReadWrite {
            write(*offset, 0);
        }
    }
    let known: BTreeSet<u32> = register::ALL.iter().map(|register| register.offset).collect();
    for offset in (0..REGISTERS_END).step_by(4).filter(|offset| !known.contains(offset)) {
        write(offset, u32::MAX);
        assert_eq!(read(offset), 0, "unknown register {offset:#x}");
    }
    assert_eq!(read(register::CONTROL), 0, "no unknown register reaches CONTROL");
}
