//! The card behind a vfio-user socket: the driver's conformance suite, a command's whole life with the test as SSD, and
//! what happens when client and card wait for each other, or part.

use std::time::{Duration, Instant};

use volplane_abi::registers as register;
use volplane_abi::tables::table;
use volplane_abi::{
    opcode, status, submission_mode, vd_status, AllocationEntry, CompletionEntry, DeviceEntry, ExtentEntry,
    PathEntry, QueueEntry, SubmissionEntry, VdEntry,
};
use volplane_driver::{poll_until, Bar, Card, ClientQueue, Function, Platform, PAGE};
use volplane_tests::conformance;
use volplane_tests::harness::from_environment;
use volplane_tests::vfio_user::platform::ADDRESS;
use volplane_tests::vfio_user::{ClientFunction, ClientPlatform, Service, Sharing};

/// Longest time of what the card does, as the platform counts.
const LIMIT: Duration = Duration::from_millis(200);
/// Where the test's SSD has its doorbells.
const PEER: u64 = 0x50_0000_0000;
/// Device Control, with its status above.
const DEVICE_CONTROL: u16 = 0x48;

fn start(name: &str, sharing: Sharing) -> (Service, ClientPlatform) {
    let service = Service::start(name);
    let platform = ClientPlatform::new(service.path(), sharing);
    (service, platform)
}

fn register(card: &Card<ClientFunction>, offset: u32) -> u32 {
    card.function().read32(Bar::Bar0, offset.into()).expect("a register")
}

/// A command that is refused, and so needs no disk.
fn refused(id: u16) -> SubmissionEntry {
    SubmissionEntry::default().with_opcode(opcode::READ).with_namespace_id(1).with_command_id(id)
}

fn completion(
    platform: &mut ClientPlatform,
    queue: &mut ClientQueue<ClientFunction>,
) -> Option<CompletionEntry> {
    poll_until(platform, LIMIT, || queue.poll()).expect("a sound queue")
}

/// Waits for something in the test's own time.
fn soon(what: &str, mut happens: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !happens() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn conforms(sharing: Sharing) -> (u64, u64) {
    let seed = from_environment("VOLPLANE_SEED").unwrap_or(1);
    let (service, mut platform) = start(&format!("{sharing:?}"), sharing);
    conformance::run(&mut platform, ADDRESS, seed);
    platform.client().close();
    assert_eq!(service.goodbye(), "it closed the connection");
    platform.client().counts()
}

#[test]
fn conforms_with_memory_that_is_mapped() {
    assert_eq!(conforms(Sharing::Sealed), (0, 0), "no message");
}

#[test]
fn conforms_with_memory_that_may_shrink() {
    assert_eq!(conforms(Sharing::Unsealed), (0, 0), "no message");
}

#[test]
fn conforms_with_memory_behind_messages() {
    let (messages, bytes) = conforms(Sharing::Messages);
    assert!(messages > 1000 && bytes > 0x10000, "{messages} messages of {bytes} bytes");
}

/// A disk of one extent behind path 0, whose SSD is the test.
fn one_disk(platform: &mut ClientPlatform, card: &mut Card<ClientFunction>) -> volplane_driver::DmaMemory {
    let ring = platform.allocate(PAGE).expect("memory");
    let path = PathEntry::default()
        .with_sq_base(ring.iova().0)
        .with_sq_doorbell(PEER + 0x1008)
        .with_cq_doorbell(PEER + 0x100C)
        .with_sq_size_z(15)
        .with_cq_size_z(15)
        .with_limit(15)
        .with_submission_mode(submission_mode::FENCED)
        .with_valid(1);
    let device = DeviceEntry::default().with_namespace_id(1).with_valid(1);
    let device = device.with_transfer_limit(256).with_write_zeroes_limit(256);
    let extent = ExtentEntry::default().with_start(0x100).with_valid(1);
    let allocation =
        AllocationEntry::default().with_columns(1).with_stripe_shift(3).with_extent_shift(11).with_valid(1);
    let disk = VdEntry::default()
        .with_size_blocks(2048)
        .with_status(vd_status::ENABLED)
        .with_block_shift(9)
        .with_allocation_shift(11);
    card.table_write(platform, table::PATH, 0, &path.0).expect("a path");
    card.table_write(platform, table::DEVICE, 0, &device.0).expect("a device");
    card.table_write(platform, table::EXTENT, 0, &extent.0).expect("an extent");
    card.table_write(platform, table::ALLOCATION, 0, &allocation.0).expect("an allocation");
    card.table_write(platform, table::VD, 0, &disk.0).expect("a disk");
    ring
}

/// A read from the client's ring to its completion. The doorbell is a peer's and goes by message, and the SSD's answer
/// comes as clients send it: in two writes of 8 bytes.
fn a_read_goes_its_way(name: &str, sharing: Sharing) {
    let (_service, mut platform) = start(name, sharing);
    let client = platform.client();
    client.add_peer(PEER, 0x2000);
    let mut card = Card::open(&mut platform, ADDRESS).expect("the card opens");
    let ring = one_disk(&mut platform, &mut card);
    let buffer = platform.allocate(PAGE).expect("memory");
    let mut queue = card.create_queue(&mut platform, 1, 16, Some(3), 0).expect("a queue");
    // More than the SSD's queues hold, so that they wrap.
    for round in 0..40u16 {
        let command = SubmissionEntry::default()
            .with_opcode(opcode::READ)
            .with_namespace_id(1)
            .with_command_id(round)
            .with_starting_lba(8 * u64::from(round))
            .with_block_count_z(7)
            .with_prp1(buffer.iova().0);
        queue.submit(command).expect("room");
        queue.ring().expect("a doorbell");
        let tail = (round + 1) % 16;
        let mut rung = vec![];
        soon("a doorbell", || {
            rung.extend(client.take_peer_writes());
            rung.contains(&(PEER + 0x1008, u32::from(tail).to_le_bytes().to_vec()))
        });
        let entry: SubmissionEntry = ring.read_record(usize::from(round % 16) * 64);
        assert_eq!((entry.opcode(), entry.namespace_id()), (opcode::READ, 1));
        assert_eq!(entry.starting_lba(), 0x100 + 8 * u64::from(round));
        assert_eq!(entry.prp1(), buffer.iova().0);
        let phase = 1 - (round / 16) % 2;
        let answer = [0, 0, u32::from(tail), u32::from(entry.command_id()) | u32::from(phase) << 16];
        for half in 0..2 {
            let at = u64::from(round % 16) * 16 + half * 8;
            let [low, high] = [answer[half as usize * 2], answer[half as usize * 2 + 1]];
            let value = u64::from(low) | u64::from(high) << 32;
            card.function().write64(Bar::Bar2, at, value).expect("a window");
        }
        let done = completion(&mut platform, &mut queue).expect("a completion");
        assert_eq!((done.command_id(), done.status()), (round, 0));
        soon("an interrupt", || card.function().take_interrupt(3));
    }
    assert_eq!(register(&card, register::UNKNOWN_COMPLETIONS), 0);
    assert_eq!(register(&card, register::WRITE_ERRORS), 0);
    card.close(&mut platform).expect("the card resets");
}

#[test]
fn a_read_goes_its_way_with_memory_that_is_mapped() {
    a_read_goes_its_way("read-sealed", Sharing::Sealed);
}

#[test]
fn a_read_goes_its_way_with_memory_that_has_no_window() {
    a_read_goes_its_way("read-hidden", Sharing::Hidden);
}

#[test]
fn a_register_is_read_while_the_client_answers_no_dma() {
    let (_service, mut platform) = start("dead-lock", Sharing::Messages);
    let client = platform.client();
    let mut card = Card::open(&mut platform, ADDRESS).expect("the card opens");
    let mut queue = card.create_queue(&mut platform, 1, 64, None, 0).expect("a queue");
    client.hold();
    (0..32).for_each(|id| queue.submit(refused(id)).expect("room"));
    queue.ring().expect("a doorbell");
    client.wait_held(2);
    for _ in 0..200 {
        assert_eq!(register(&card, register::IDENTITY_LOW), u32::from_le_bytes(*b"VOLP"));
        assert_eq!(card.function().config_read32(0).expect("configuration space"), 0x9038_10EE);
    }
    // In another order than they were sent.
    client.release(true);
    for id in 0..32 {
        let done = completion(&mut platform, &mut queue).expect("a completion");
        assert_eq!((done.command_id(), done.status() & 0x7FF), (id, status::INVALID_NAMESPACE));
    }
}

#[test]
fn an_interrupt_waits_for_the_writes_before_it() {
    let (_service, mut platform) = start("interrupts", Sharing::Messages);
    let client = platform.client();
    let mut card = Card::open(&mut platform, ADDRESS).expect("the card opens");
    let mut queue = card.create_queue(&mut platform, 1, 16, Some(9), 0).expect("a queue");
    for id in 0..20 {
        client.hold_writes();
        queue.submit(refused(id)).expect("room");
        queue.ring().expect("a doorbell");
        client.wait_held(1);
        std::thread::sleep(Duration::from_millis(5));
        assert!(!card.function().take_interrupt(9), "before the completion was taken");
        client.release(false);
        soon("an interrupt", || card.function().take_interrupt(9));
        assert_eq!(queue.poll().expect("a sound queue").map(|done| done.command_id()), Some(id));
    }
}

#[test]
fn what_the_client_refuses_is_an_error_of_the_bus() {
    let (_service, mut platform) = start("refused", Sharing::Sealed);
    let client = platform.client();
    let mut card = Card::open(&mut platform, ADDRESS).expect("the card opens");
    let nowhere = QueueEntry::default().with_sq_base(0x7000_0000_0000).with_cq_base(0x7000_0001_0000);
    let nowhere = nowhere.with_sq_size_z(15).with_cq_size_z(15).with_enable(1);
    card.table_write(&mut platform, table::QUEUE, 1, &nowhere.0).expect("a queue");
    card.function().write32(Bar::Bar0, register::sq_tail_doorbell(1).into(), 1).expect("a doorbell");
    soon("the read fails", || register(&card, register::READ_ERRORS) == 1);
    assert_eq!(card.queue_state(&mut platform, 1).expect("its state").stopped(), 1);
    assert_eq!(client.counts().0, 1, "the client was asked once");

    // Without bus master enable nothing is reached, and nobody asked.
    let mut queue = card.create_queue(&mut platform, 2, 16, None, 0).expect("a queue");
    card.function().config_write32(4, 2).expect("configuration space");
    queue.submit(refused(1)).expect("room");
    queue.ring().expect("a doorbell");
    soon("the read fails", || register(&card, register::READ_ERRORS) == 2);
    card.function().config_write32(4, 6).expect("configuration space");
    assert_eq!(card.queue_state(&mut platform, 2).expect("its state").stopped(), 1);
    assert_eq!(client.counts().0, 1);
}

/// In the middle of traffic, with messages under way; late replies find nobody.
fn resets(name: &str, reset: impl Fn(&ClientFunction)) {
    let (_service, mut platform) = start(name, Sharing::Messages);
    let client = platform.client();
    for round in 0..10 {
        let mut card = Card::open(&mut platform, ADDRESS).expect("the card opens");
        assert_eq!(register(&card, register::COMMANDS_FETCHED), 0, "as new");
        let mut queue = card.create_queue(&mut platform, 1, 64, Some(1), 0).expect("a queue");
        if round % 2 == 0 {
            client.hold();
        } else {
            client.hold_writes();
        }
        (0..40).for_each(|id| queue.submit(refused(id)).expect("room"));
        queue.ring().expect("a doorbell");
        client.wait_held(1 + round / 5);
        reset(card.function());
        if round % 3 == 0 {
            assert_eq!(register(&card, register::CONTROL), 0, "while the late replies are not there");
        }
        client.release(round % 4 == 0);
        assert_eq!(card.function().config_read32(4).expect("configuration space") & 0xFFFF, 0);
        assert_eq!(card.function().config_read32(0x80).expect("configuration space") >> 16, 31);
        drop(queue);
        card.close(&mut platform).expect("the card resets");
    }
}

#[test]
fn a_function_level_reset_leaves_a_clean_card() {
    resets("flr", |function| {
        let control = function.config_read32(DEVICE_CONTROL).expect("configuration space");
        function.config_write32(DEVICE_CONTROL, control | 0x8000).expect("configuration space");
    });
}

#[test]
fn a_device_reset_leaves_a_clean_card() {
    resets("reset", |function| {
        function.client().ask(volplane_tests::vfio_user::command::DEVICE_RESET, &[], &[]).expect("a reset");
    });
}

#[test]
fn the_next_client_finds_a_card_as_at_power_up() {
    let service = Service::start("reconnect");
    for round in 0..6 {
        let sharing = [Sharing::Sealed, Sharing::Messages][round % 2];
        let mut platform = ClientPlatform::new(service.path(), sharing);
        let client = platform.client();
        let function = platform.open(ADDRESS).expect("the card");
        assert_eq!(function.config_read32(4).expect("configuration space") & 0xFFFF, 0, "no bus master");
        assert_eq!(function.read32(Bar::Bar0, register::CONTROL.into()).expect("a register"), 0);
        drop(function);
        let mut card = Card::open(&mut platform, ADDRESS).expect("the card opens");
        let mut queue = card.create_queue(&mut platform, 1, 64, Some(1), 0).expect("a queue");
        if sharing == Sharing::Messages {
            client.hold();
        }
        (0..40).for_each(|id| queue.submit(refused(id)).expect("room"));
        queue.ring().expect("a doorbell");
        if sharing == Sharing::Messages {
            client.wait_held(1);
        }
        client.close();
        assert_eq!(service.goodbye(), "it closed the connection");
    }
}
