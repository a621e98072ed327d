//! Messages that no client should send to the vfio-user server: each has its answer, none ends the server or makes it
//! lose its place. And random ones, for 5 seconds, or `VOLPLANE_FUZZ_SECONDS`, replayed with `VOLPLANE_SEED`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::fs::{ftruncate, memfd_create, MemfdFlags};
use volplane_abi::registers as register;
use volplane_driver::Card;
use volplane_tests::harness::from_environment;
use volplane_tests::vfio_user::connection::{header, message, words};
use volplane_tests::vfio_user::platform::ADDRESS;
use volplane_tests::vfio_user::{command, ClientPlatform, Connection, Reply, Service, Sharing};

const EEXIST: u32 = 17;
const EINVAL: u32 = 22;
const EOPNOTSUPP: u32 = 95;

fn memory(bytes: u64) -> OwnedFd {
    let file = memfd_create("memory", MemfdFlags::CLOEXEC).expect("memory");
    ftruncate(&file, bytes).expect("room");
    file
}

/// A region access: offset, region, count, data.
fn access(offset: u64, region: u32, count: u32, data: &[u8]) -> Vec<u8> {
    [&offset.to_ne_bytes()[..], &words(&[region, count]), data].concat()
}

fn map(flags: u32, offset: u64, address: u64, size: u64) -> Vec<u8> {
    let numbers: Vec<u8> = [offset, address, size].iter().flat_map(|number| number.to_ne_bytes()).collect();
    [words(&[32, flags]), numbers].concat()
}

fn unmap(flags: u32, address: u64, size: u64) -> Vec<u8> {
    [&words(&[24, flags])[..], &address.to_ne_bytes(), &size.to_ne_bytes()].concat()
}

fn irqs(flags: u32, index: u32, start: u32, count: u32, data: &[u8]) -> Vec<u8> {
    [words(&[20, flags, index, start, count]), data.to_vec()].concat()
}

/// The device still answers, and this is the next answer.
fn is_in_step(connection: &mut Connection) {
    let info = connection.ask(command::DEVICE_GET_INFO, &words(&[16, 0, 0, 0]), &[]);
    assert_eq!(info, Ok(words(&[16, 3, 9, 3])));
}

#[test]
fn what_the_device_is_made_of() {
    let service = Service::start("made-of");
    let mut connection = Connection::negotiated(service.path());
    is_in_step(&mut connection);
    for (region, flags, size) in
        [(0, 3, 0x4_0000u64), (1, 0, 0), (2, 3, 0x8_0000), (6, 0, 0), (7, 3, 4096), (8, 0, 0)]
    {
        let info =
            connection.ask(command::DEVICE_GET_REGION_INFO, &words(&[32, 0, region, 0, 0, 0, 0, 0]), &[]);
        let expected = [words(&[32, flags, region, 0]), size.to_ne_bytes().into(), words(&[0, 0])].concat();
        assert_eq!(info, Ok(expected), "region {region}");
    }
    for (index, flags, count) in [(0, 0, 0), (1, 0, 0), (2, 1, 32)] {
        let info = connection.ask(command::DEVICE_GET_IRQ_INFO, &words(&[16, 0, index, 0]), &[]);
        assert_eq!(info, Ok(words(&[16, flags, index, count])), "interrupts {index}");
    }
    let all =
        connection.ask(command::REGION_READ, &access(0, 7, 4096, &[]), &[]).expect("configuration space");
    assert_eq!((all.len(), &all[16..20]), (16 + 4096, &[0xEE, 0x10, 0x38, 0x90][..]));
    let identity = connection.ask(command::REGION_READ, &access(0, 0, 8, &[]), &[]).expect("registers");
    assert_eq!(identity[16..], *b"VOLPLANE");
    // The table of interrupts is the server's: what is written there is not taken.
    for value in [[0; 4], [0xFF; 4]] {
        let before = connection.ask(command::REGION_READ, &access(0x1000, 0, 8, &[]), &[]);
        connection.ask(command::REGION_WRITE, &access(0x1000, 0, 4, &value), &[]).expect("dropped");
        assert_eq!(connection.ask(command::REGION_READ, &access(0x1000, 0, 8, &[]), &[]), before);
    }
    assert_eq!(connection.ask(command::DEVICE_RESET, &[], &[]), Ok(vec![]));
    assert_eq!(connection.ask(command::DMA_MAP, &map(3, 0, 0x1000, 0x1000), &[]), Ok(vec![]));
    assert_eq!(
        connection.ask(command::DMA_UNMAP, &unmap(0, 0x1000, 0x1000), &[]),
        Ok(unmap(0, 0x1000, 0x1000))
    );
    assert_eq!(connection.ask(command::DMA_UNMAP, &unmap(2, 0, 0), &[]), Ok(unmap(2, 0, 0)));
}

#[test]
fn requests_that_are_refused_leave_the_connection_in_step() {
    let service = Service::start("refused-requests");
    let mut connection = Connection::negotiated(service.path());
    let mapped = memory(0x4000);
    connection.ask(command::DMA_MAP, &map(3, 0, 0x10_0000, 0x2000), &[mapped.as_fd()]).expect("a window");
    let (pipe, _other_end) = rustix::pipe::pipe().expect("a pipe");
    let info = words(&[16, 0, 0, 0]);
    let nine = [mapped.as_fd(); 9];
    let one = &nine[..1];
    let two = &nine[..2];
    let pipe = &[pipe.as_fd()][..];
    let none: &[BorrowedFd<'_>] = &[];
    use command::*;
    let cases: Vec<(u16, Vec<u8>, &[BorrowedFd<'_>], u32)> = vec![
        (0, vec![], none, EOPNOTSUPP),
        (6, words(&[16, 0, 0, 0]), none, EOPNOTSUPP),
        (14, vec![], none, EOPNOTSUPP),
        (15, vec![0; 100], none, EOPNOTSUPP),
        (0xFFFF, vec![1; 5000], none, EOPNOTSUPP),
        (DMA_READ, vec![0; 16], none, EOPNOTSUPP),
        (DMA_WRITE, vec![0; 24], none, EOPNOTSUPP),
        (VERSION, vec![0, 0, 1, 0], none, EINVAL),
        (DEVICE_GET_INFO, vec![], none, EINVAL),
        (DEVICE_GET_INFO, info[..15].to_vec(), none, EINVAL),
        (DEVICE_GET_INFO, [&info[..], &[0]].concat(), none, EINVAL),
        (DEVICE_GET_INFO, words(&[15, 0, 0, 0]), none, EINVAL),
        (DEVICE_GET_INFO, info.clone(), one, EINVAL),
        (DEVICE_GET_INFO, info, &nine, EINVAL),
        (DEVICE_GET_REGION_INFO, words(&[32, 0, 9, 0, 0, 0, 0, 0]), none, EINVAL),
        (DEVICE_GET_REGION_INFO, words(&[32, 0, u32::MAX, 0, 0, 0, 0, 0]), none, EINVAL),
        (DEVICE_GET_REGION_INFO, words(&[32, 0, 0]), none, EINVAL),
        (DEVICE_GET_IRQ_INFO, words(&[16, 0, 3, 0]), none, EINVAL),
        (DEVICE_GET_IRQ_INFO, words(&[0, 0, 0, 0]), none, EINVAL),
        (DEVICE_SET_IRQS, words(&[20, 0x24, 2, 0]), none, EINVAL),
        (DEVICE_SET_IRQS, irqs(0, 2, 0, 1, &[]), none, EINVAL),
        (DEVICE_SET_IRQS, irqs(0x20, 2, 0, 1, &[]), none, EINVAL),
        (DEVICE_SET_IRQS, irqs(0x23, 2, 0, 1, &[1]), none, EINVAL),
        (DEVICE_SET_IRQS, irqs(0x0C, 2, 0, 1, &[]), one, EINVAL),
        (DEVICE_SET_IRQS, irqs(0x24, 0, 0, 1, &[]), one, EINVAL),
        (DEVICE_SET_IRQS, irqs(0x24, 9, 0, 0, &[]), none, EINVAL),
        (DEVICE_SET_IRQS, irqs(0x24, 2, u32::MAX, 2, &[]), two, EINVAL),
        (DEVICE_SET_IRQS, irqs(0x24, 2, 31, 2, &[]), two, EINVAL),
        (DEVICE_SET_IRQS, irqs(0x24, 2, 0, 2, &[]), one, EINVAL),
        (DEVICE_SET_IRQS, irqs(0x24, 2, 0, 1, &[]), two, EINVAL),
        (DEVICE_SET_IRQS, irqs(0x24, 2, 0, 1, &[0; 4]), one, EINVAL),
        (DEVICE_SET_IRQS, irqs(0x24, 2, 0, 9, &[]), &nine, EINVAL),
        (DEVICE_SET_IRQS, irqs(0x21, 2, 0, 1, &[]), one, EINVAL),
        (DEVICE_SET_IRQS, irqs(0x21, 2, 1, 0, &[]), none, EINVAL),
        (DEVICE_SET_IRQS, irqs(0x22, 2, 0, 4, &[1; 3]), none, EINVAL),
        (REGION_READ, access(0, 0, 4, &[])[..15].to_vec(), none, EINVAL),
        (REGION_READ, access(0, 0, 4, &[0]), none, EINVAL),
        (REGION_READ, access(0, 1, 4, &[]), none, EINVAL),
        (REGION_READ, access(0, 99, 4, &[]), none, EINVAL),
        (REGION_READ, access(4094, 7, 4, &[]), none, EINVAL),
        (REGION_READ, access(u64::MAX, 7, 4, &[]), none, EINVAL),
        (REGION_READ, access(0, 7, 0, &[]), none, EINVAL),
        (REGION_READ, access(0, 7, u32::MAX, &[]), none, EINVAL),
        (REGION_READ, access(0, 0, 0, &[]), none, EINVAL),
        (REGION_READ, access(0, 0, 2, &[]), none, EINVAL),
        (REGION_READ, access(0, 0, 3, &[]), none, EINVAL),
        (REGION_READ, access(2, 0, 4, &[]), none, EINVAL),
        (REGION_READ, access(4, 0, 8, &[]), none, EINVAL),
        (REGION_READ, access(0, 0, 16, &[]), none, EINVAL),
        (REGION_READ, access(0, 0, u32::MAX, &[]), none, EINVAL),
        (REGION_READ, access(0x4_0000, 0, 4, &[]), none, EINVAL),
        (REGION_READ, access(u64::MAX - 3, 0, 4, &[]), none, EINVAL),
        (REGION_READ, access(0x8_0000, 2, 4, &[]), none, EINVAL),
        (REGION_WRITE, access(0x80, 0, 4, &[0; 3]), none, EINVAL),
        (REGION_WRITE, access(0x80, 0, 4, &[0; 5]), none, EINVAL),
        (REGION_WRITE, access(0x80, 0, 2, &[0; 2]), none, EINVAL),
        (REGION_WRITE, access(0x80, 0, 1 << 20, &vec![0; 1 << 20]), none, EINVAL),
        (REGION_WRITE, access(4095, 7, 2, &[0; 2]), none, EINVAL),
        (REGION_WRITE, access(8, 2, 16, &[0; 16]), none, EINVAL),
        (REGION_WRITE, access(0, 2, 32, &[0; 32]), none, EINVAL),
        (DMA_MAP, map(3, 0, 0x20_0000, 0x1000)[..31].to_vec(), none, EINVAL),
        (DMA_MAP, map(3, 0, 0x20_0000, 0x1000), two, EINVAL),
        (DMA_MAP, map(3, 0, 0x20_0000, 0x1000), pipe, EINVAL),
        (DMA_MAP, map(3, 0x4000, 0x20_0000, 0x1000), one, EINVAL),
        (DMA_MAP, map(3, 0, 0x20_0000, 0), none, EINVAL),
        (DMA_MAP, map(0, 0, 0x20_0000, 0x1000), none, EINVAL),
        (DMA_MAP, map(3, 0, 0x20_0008, 0x1000), none, EINVAL),
        (DMA_MAP, map(3, 0, 0x10_1000, 0x1000), one, EEXIST),
        (DMA_UNMAP, unmap(0, 0x10_0000, 0x1000), none, EINVAL),
        (DMA_UNMAP, unmap(1, 0x10_0000, 0x2000), none, EINVAL),
        (DMA_UNMAP, unmap(0, 0x10_0000, 0), none, EINVAL),
        (DEVICE_RESET, vec![0], none, EINVAL),
    ];
    for (number, (command, payload, fds, expected)) in cases.into_iter().enumerate() {
        let shown = &payload[..payload.len().min(64)];
        let what = format!("case {number}: command {command}, {shown:x?}, {} descriptors", fds.len());
        assert_eq!(connection.ask(command, &payload, fds), Err(expected), "{what}");
        is_in_step(&mut connection);
    }
}

#[test]
fn a_message_in_pieces_is_one_and_one_without_a_reply_has_none() {
    let service = Service::start("pieces");
    let mut connection = Connection::negotiated(service.path());
    for byte in message(5, command::REGION_READ, &access(0, 7, 4, &[])) {
        connection.send(&[byte]);
        std::thread::sleep(Duration::from_micros(300));
    }
    let reply = connection.receive().expect("a reply");
    assert_eq!((reply.id, reply.flags), (5, 1));
    // Neither a success nor an error; a register access and an answer at once.
    for payload in [access(0, 7, 4, &[]), access(0, 99, 4, &[]), access(0, 0, 4, &[])] {
        let size = 16 + payload.len() as u32;
        connection.send(&[header(6, command::REGION_READ, size, 0x10, 0), payload].concat());
    }
    is_in_step(&mut connection);
    // Many at once, in order.
    let many: Vec<u8> =
        (0..500).flat_map(|id| message(id, command::REGION_READ, &access(0, 0, 4, &[]))).collect();
    let mut sender = connection.again();
    let sending = std::thread::spawn(move || sender.send(&many));
    (0..500).for_each(|id| assert_eq!(connection.receive().map(|reply| reply.id), Some(id)));
    sending.join().expect("sent");
}

#[test]
fn what_cannot_be_understood_ends_the_connection_with_one_message() {
    let service = Service::start("closed");
    let version = |text: &[u8]| message(1, command::VERSION, &[&[0, 0, 1, 0], text].concat());
    let first = "its first message is command 4, not VERSION";
    let refused = "its version, or its capabilities, cannot be agreed on";
    // What is sent, whether the version is agreed on before, the error, and the reason.
    let cases: Vec<(Vec<u8>, bool, Option<u32>, &str)> = vec![
        (message(1, command::DEVICE_GET_INFO, &words(&[16, 0, 0, 0])), false, Some(EINVAL), first),
        (message(1, command::VERSION, &[1, 0, 0, 0]), false, Some(EINVAL), refused),
        (message(1, command::VERSION, &[0, 0]), false, Some(EINVAL), refused),
        (version(b"{"), false, Some(EINVAL), refused),
        (version(b"{}"), false, Some(EINVAL), refused),
        (version(b"[]\0"), false, Some(EINVAL), refused),
        (version(b"{\"capabilities\":{\"max_msg_fds\":\"8\"}}\0"), false, Some(EINVAL), refused),
        (
            version(&[b"{\"capabilities\":".to_vec(), vec![b'{'; 100_000]].concat()),
            false,
            Some(EINVAL),
            refused,
        ),
        (header(1, 4, 15, 0, 0), true, Some(EINVAL), "a message of 15 bytes and type 0"),
        (header(1, 4, 0, 0, 0), true, Some(EINVAL), "a message of 0 bytes and type 0"),
        (header(1, 4, u32::MAX, 0, 0), true, Some(EINVAL), "a message of 4294967295 bytes and type 0"),
        (header(1, 4, 16, 7, 0), true, Some(EINVAL), "a message of 16 bytes and type 7"),
        (header(1, 11, 16, 1, 0), true, None, "it replied to command 11 of number 1, which was not sent"),
        (header(1, 4, 32, 0, 0), true, None, "it closed the connection in the middle of a message"),
        (vec![1], true, None, "it closed the connection in the middle of a message"),
        (vec![], true, None, "it closed the connection"),
        (vec![], false, None, "it closed the connection"),
    ];
    for (bytes, agreed, error, why) in cases {
        let path = service.path();
        let mut connection = if agreed { Connection::negotiated(path) } else { Connection::new(path) };
        connection.send(&bytes);
        if let Some(errno) = error {
            assert_eq!(connection.receive().expect("an error").result(), Err(errno), "{why}");
        } else if !why.contains("was not sent") {
            connection.end();
        }
        assert_eq!(connection.receive(), None, "{why}");
        assert_eq!(service.goodbye(), why);
    }
}

/// Reads a register.
fn read(connection: &mut Connection, offset: u32) -> u32 {
    let answer =
        connection.ask(command::REGION_READ, &access(offset.into(), 0, 4, &[]), &[]).expect("a register");
    u32::from_le_bytes(answer[16..].try_into().expect("4 bytes"))
}

fn write(connection: &mut Connection, region: u32, offset: u32, value: u32) {
    let data = access(offset.into(), region, 4, &value.to_le_bytes());
    connection.ask(command::REGION_WRITE, &data, &[]).expect("taken");
}

/// Has the card fetch a control command from memory that only messages reach; its DMA message.
fn asked_for_a_command(connection: &mut Connection) -> Reply {
    let deadline = Instant::now() + Duration::from_secs(20);
    while read(connection, register::STATUS) & register::STATUS_READY == 0 {
        assert!(Instant::now() < deadline, "the card is not ready");
    }
    write(connection, 7, 4, 6);
    write(connection, 0, register::CONTROL_SQ_BASE_HIGH, 1);
    write(connection, 0, register::CONTROL_CQ_BASE_HIGH, 2);
    write(connection, 0, register::CONTROL_SIZE, 7);
    write(connection, 0, register::CONTROL, register::CONTROL_ENABLE);
    let doorbell = access(register::sq_tail_doorbell(0).into(), 0, 4, &[1, 0, 0, 0]);
    connection.send(&message(9, command::REGION_WRITE, &doorbell));
    let mut messages = [connection.receive().expect("one"), connection.receive().expect("and the other")];
    messages.sort_by_key(|message| message.flags & 0xF);
    let [asked, written] = messages;
    assert_eq!((written.id, written.flags), (9, 1));
    assert_eq!((asked.command, asked.flags), (command::DMA_READ, 0));
    assert_eq!(asked.payload[..8], 0x1_0000_0000u64.to_ne_bytes());
    assert_eq!(asked.payload[8..], 64u64.to_ne_bytes());
    asked
}

#[test]
fn replies_to_dma_that_cannot_be_right() {
    let service = Service::start("bad-replies");
    let answer = |asked: &Reply, command, flags, payload: &[u8]| {
        [header(asked.id, command, 16 + payload.len() as u32, flags, 14), payload.to_vec()].concat()
    };
    // Of another length, or an error with data: an error of the bus, and the connection goes on.
    for (flags, count, bytes) in
        [(1, 64u64, 63), (1, 64, 65), (1, 63, 64), (1, 64, 0), (0x21, 64, 64), (0x21, 0, 0)]
    {
        let mut connection = Connection::negotiated(service.path());
        let asked = asked_for_a_command(&mut connection);
        let payload = [&asked.payload[..8], &count.to_ne_bytes(), &vec![0; bytes]].concat();
        connection.send(&answer(&asked, command::DMA_READ, flags, &payload));
        let deadline = Instant::now() + Duration::from_secs(20);
        while read(&mut connection, register::READ_ERRORS) != 1 {
            assert!(Instant::now() < deadline, "flags {flags:#x}, {count}, {bytes} bytes");
        }
        connection.close();
        service.goodbye();
    }
    // Of another command, of another number, or once more: the connection ends.
    for (command, add, times) in
        [(command::DMA_WRITE, 0, 1), (command::DMA_READ, 1, 1), (command::DMA_READ, 0, 2)]
    {
        let mut connection = Connection::negotiated(service.path());
        let asked = asked_for_a_command(&mut connection);
        let asked = Reply { id: asked.id.wrapping_add(add), ..asked };
        let payload = [&asked.payload[..], &[0; 64]].concat();
        (0..times).for_each(|_| connection.send(&answer(&asked, command, 1, &payload)));
        let why = format!("it replied to command {command} of number {}, which was not sent", asked.id);
        while connection.receive().is_some() {}
        assert_eq!(service.goodbye(), why);
    }
}

/// A message that may be right.
fn plausible(random: &mut ChaCha8Rng) -> Vec<u8> {
    let address = u64::from(random.next_u32() % 64) << 12;
    let size = 1 << (12 + random.random_range(0..4));
    let offset = u64::from(random.next_u32() % 0x4_0000) & !3;
    let (command, payload) = match random.random_range(0..12) {
        0 => (command::DMA_MAP, map(random.random_range(0..4), 0, address, size)),
        1 => (command::DMA_UNMAP, unmap(random.random_range(0..3), address, size)),
        2 => (command::DEVICE_GET_INFO, words(&[16, 0, 0, 0])),
        3 => (command::DEVICE_GET_REGION_INFO, words(&[32, 0, random.random_range(0..10), 0, 0, 0, 0, 0])),
        4 => (command::DEVICE_GET_IRQ_INFO, words(&[16, 0, random.random_range(0..4), 0])),
        5 => {
            let flags = 0x20 | 1 << random.random_range(0..3);
            let (start, count) = (random.random_range(0..34), random.random_range(0..4));
            (command::DEVICE_SET_IRQS, irqs(flags, 2, start, count, &[]))
        }
        6 => (command::REGION_READ, access(offset, [0, 2, 7][random.random_range(0..3)], 4, &[])),
        7 => (command::REGION_WRITE, access(offset, 0, 8, &random.next_u64().to_ne_bytes())),
        8 => (command::REGION_WRITE, access(offset & !15, 2, 16, &[random.next_u32() as u8; 16])),
        9 => (command::REGION_WRITE, access(offset & 0xFFC, 7, 4, &random.next_u32().to_ne_bytes())),
        10 => (command::DEVICE_RESET, vec![]),
        _ => (random.random_range(0..20), vec![0; random.random_range(0..100)]),
    };
    message(random.next_u32() as u16, command, &payload)
}

/// One connection: plausible messages, some of them bent, with descriptors where they may not belong.
fn fuzz(service: &Service, random: &mut ChaCha8Rng, file: &OwnedFd) {
    let agreed = random.random_bool(0.9);
    let mut connection =
        if agreed { Connection::negotiated(service.path()) } else { Connection::new(service.path()) };
    for _ in 0..random.random_range(1..60) {
        let mut bytes = plausible(random);
        match random.random_range(0..10) {
            0 => {
                let at = random.random_range(0..bytes.len());
                bytes[at] ^= 1 << random.random_range(0..8);
            }
            1 => bytes.truncate(random.random_range(1..=bytes.len())),
            2 => bytes[4..8].copy_from_slice(&random.random_range(0..200u32).to_ne_bytes()),
            3 => bytes[8] = random.next_u32() as u8,
            _ => {}
        }
        let fds = [file.as_fd(); 10];
        let count = if random.random_bool(0.3) { random.random_range(0..=10) } else { 0 };
        // The server may have closed the connection already.
        if !connection.try_send_fds(&bytes, &fds[..count]) {
            break;
        }
    }
    if random.random_bool(0.3) {
        return connection.close();
    }
    connection.end();
    while connection.receive().is_some() {}
}

#[test]
fn random_messages_do_no_harm() {
    let seed = from_environment("VOLPLANE_SEED").unwrap_or(1);
    let seconds = from_environment("VOLPLANE_FUZZ_SECONDS").unwrap_or(5);
    println!("replay with VOLPLANE_SEED={seed} VOLPLANE_FUZZ_SECONDS={seconds} cargo test -p volplane-tests --test vfio_user_malformed random");
    let service = Service::start("fuzz");
    let file = memory(0x8000);
    let (mut random, deadline) =
        (ChaCha8Rng::seed_from_u64(seed), Instant::now() + Duration::from_secs(seconds));
    let mut connections = 0;
    while Instant::now() < deadline {
        fuzz(&service, &mut random, &file);
        service.goodbye();
        connections += 1;
    }
    println!("{connections} connections");
    let mut platform = ClientPlatform::new(service.path(), Sharing::Sealed);
    let mut card = Card::open(&mut platform, ADDRESS).expect("the card opens");
    card.nop(&mut platform).expect("and works");
}
