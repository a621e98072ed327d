//! The NBD server against clients that are wrong, slow, many or gone.

mod support;

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use support::client::*;
use support::{seed, Running};
use volplane::Operation;
use volplane_cli::nbd::{Limits, ServeError};

const MIB: u64 = 1 << 20;
const DISKS: &[(&str, u32, u64)] = &[("a", 512, 64 << 11), ("b", 4096, 4 << 8)];

fn start() -> Running {
    Running::start(DISKS, Limits::default(), seed(1))
}

fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut data = vec![0; len];
    ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut data);
    data
}

/// A healthy client's view: everything it does works.
fn assert_serves(server: &Running) {
    let mut client = Client::open(&server.socket, "b", true);
    let data = pattern(7, 40960);
    assert_eq!(client.write_whole(8192, &data), 0);
    assert_eq!(client.read(8192, 40960).expect("read"), data);
}

#[test]
fn bad_magic_closes_that_connection_alone() {
    let server = start();
    let mut other = Client::open(&server.socket, "a", true);
    for structured in [false, true] {
        let mut client = Client::open(&server.socket, "a", structured);
        let mut header = Client::header(0, READ, 1, 0, 512);
        header[0] ^= 1;
        client.send(&header);
        assert!(client.is_closed());
    }
    let mut client = Client::connect(&server.socket);
    client.send(b"IHAVEOPX\x00\x00\x00\x03\x00\x00\x00\x00");
    assert!(client.is_closed());
    let mut client = Client::connect(&server.socket);
    client.send(b"IHAVEOPT\x00\x00\x00\x01\x00\x00\x00\x04none");
    assert!(client.is_closed(), "EXPORT_NAME cannot tell an error");
    assert!(other.read(0, 512).is_ok());
}

#[test]
fn wrong_requests_are_answered_and_the_connection_goes_on() {
    for structured in [false, true] {
        let server = start();
        let mut client = Client::open(&server.socket, "a", structured);
        let end = 64 * MIB;
        for (command, offset, length, error) in [
            (READ, end, 512, EINVAL),
            (READ, end - 512, 1024, EINVAL),
            (READ, u64::MAX - 511, 512, EINVAL),
            (READ, 0, (32 << 20) + 512, EINVAL),
            (READ, 1, 512, EINVAL),
            (READ, 0, 100, EINVAL),
            (WRITE, end, 1024, ENOSPC),
            (WRITE, end - 512, 512 << 10, ENOSPC),
            (WRITE, 3, 512, EINVAL),
            (WRITE, 0, 513, EINVAL),
            (WRITE, 0, (32 << 20) + 512, EINVAL),
            (TRIM, end, 512, EINVAL),
            (WRITE_ZEROES, end - 512, 1024, ENOSPC),
            (WRITE_ZEROES, 512, 511, EINVAL),
            (FLUSH, 0, 512, EINVAL),
            (5, 0, 512, EINVAL),
            (0x7777, 0, 512, EINVAL),
            (BLOCK_STATUS, end, 512, EINVAL),
        ] {
            if command == WRITE {
                assert_eq!(
                    client.write_whole(offset, &vec![0x77; length as usize]),
                    error,
                    "{offset} {length}"
                );
            } else {
                assert_eq!(client.ask(0, command, offset, length), error, "{command} {offset} {length}");
            }
        }
        assert_eq!(client.ask(0x8000, READ, 0, 512), EINVAL, "unknown flag");
        assert_eq!(client.ask(0, READ, 0, 0), 0, "reading nothing works");
        assert_eq!(client.write_whole(0, &[]), 0);
        assert!(client.read(end - 512, 512).is_ok());
        let reads = server.inside().submitted.len();
        assert_eq!(reads, 1, "nothing wrong reached the service");
        assert_eq!(server.finish().expect("end").errors, 19);
    }
}

#[test]
fn options_too_long_are_refused_and_endless_handshakes_ended() {
    let limits = Limits { handshake: Duration::from_millis(600), ..Limits::default() };
    let server = Running::start(DISKS, limits, 1);
    let mut client = Client::connect(&server.socket);
    let replies = client.option(7, &vec![0; 300_000]);
    assert_eq!(replies[0].0, 1 << 31 | 9);
    let replies = client.option(3, &[]);
    assert_eq!(replies.len(), 3, "the session goes on: two exports and the end");

    let mut silent = Client::connect(&server.socket);
    let mut huge = Client::connect(&server.socket);
    huge.send(b"IHAVEOPT\x00\x00\x00\x06\xff\xff\xff\xffabc");
    let begin = Instant::now();
    assert!(silent.is_closed() && huge.is_closed() && client.is_closed());
    assert!(begin.elapsed() < Duration::from_secs(5));
    let mut idle = Client::open(&server.socket, "a", true);
    std::thread::sleep(Duration::from_millis(900));
    assert!(idle.read(0, 512).is_ok(), "transmission has no deadline");
}

#[test]
fn a_write_cut_off_is_never_submitted_and_its_memory_returns() {
    let limits = Limits { memory_bytes: 32 << 20, ..Limits::default() };
    let server = Running::start(DISKS, limits, 1);
    for round in 0..12 {
        let mut client = Client::open(&server.socket, "a", true);
        client.request(0, WRITE, 1, 0, 8 << 20);
        client.send(&pattern(round, (8 << 20) - 1 - round as usize * 500_000));
        if round % 2 == 0 {
            client.half_close();
            assert!(client.is_closed());
        }
    }
    let mut client = Client::open(&server.socket, "a", true);
    let data = pattern(99, 32 << 20);
    assert_eq!(client.write_whole(MIB, &data), 0, "all 32 MiB are there");
    assert_eq!(client.read(MIB, 32 << 20).expect("read"), data);
    let inside = server.inside();
    let writes = inside.submitted.iter().filter(|(_, o)| matches!(o, Operation::Write { .. }));
    assert_eq!(writes.count(), 32, "those of the last write only");
    assert!(inside.contents[0][..MIB as usize].iter().all(|&byte| byte == 0));
    assert!(inside.allocated <= 32 << 20);
}

#[test]
fn a_client_gone_with_requests_under_way_harms_nobody() {
    let server = start();
    server.inside().held = true;
    for _ in 0..8 {
        let mut client = Client::open(&server.socket, "a", false);
        for cookie in 0..16 {
            client.write(0, cookie, cookie * MIB, &[0x5A; 4096]);
            client.request(0, READ, 100 + cookie, cookie * MIB, 65536);
        }
    }
    server.until("everything is submitted", |inside| inside.submitted.len() == 8 * 32);
    // A new client takes the place of one that left, and must not get its replies.
    let mut client = Client::open(&server.socket, "b", true);
    client.request(0, READ, 1, 0, 4096);
    server.inside().held = false;
    assert_eq!(client.reply().expect("reply").cookie, 1);
    assert_serves(&server);
}

#[test]
fn hundreds_of_requests_in_one_breath() {
    let server = start();
    let data = pattern(3, 4 << 20);
    server.inside().contents[0][..4 << 20].copy_from_slice(&data);
    server.inside().capacity = 37;
    for structured in [false, true] {
        let mut client = Client::open(&server.socket, "a", structured);
        for cookie in 0..900 {
            client.request(0, READ, cookie, cookie * 4096, 4096);
        }
        let mut seen = [false; 900];
        for _ in 0..900 {
            let reply = client.reply().expect("reply");
            let at = reply.cookie as usize;
            assert!(!std::mem::replace(&mut seen[at], true), "one reply each");
            assert_eq!((reply.error, &reply.data[..]), (0, &data[at * 4096..(at + 1) * 4096]));
        }
    }
}

#[test]
fn requests_of_a_connection_are_bounded() {
    let limits = Limits { requests: 8, ..Limits::default() };
    let server = Running::start(DISKS, limits, 1);
    server.inside().held = true;
    let mut client = Client::open(&server.socket, "a", true);
    for cookie in 0..100 {
        client.request(0, READ, cookie, 0, 512);
    }
    server.until("eight are submitted", |inside| inside.submitted.len() >= 8);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(server.inside().submitted.len(), 8, "and no more");
    server.inside().held = false;
    for _ in 0..100 {
        assert_eq!(client.reply().expect("reply").error, 0);
    }
}

#[test]
fn a_slow_reader_holds_up_nobody_and_loses_nothing() {
    let limits = Limits { connection_bytes: 8 << 20, memory_bytes: 64 << 20, ..Limits::default() };
    let server = Running::start(DISKS, limits, 1);
    let data = pattern(5, 64 << 20);
    server.inside().contents[0].copy_from_slice(&data);
    let mut slow: Vec<Client> = (0..4).map(|_| Client::open(&server.socket, "a", true)).collect();
    for client in &mut slow {
        for cookie in 0..60 {
            client.request(0, READ, cookie, cookie * MIB, 1 << 20);
        }
    }
    std::thread::sleep(Duration::from_millis(200));
    let begin = Instant::now();
    for _ in 0..50 {
        assert_serves(&server);
    }
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert!(server.inside().allocated <= 4 * (8 << 20) + (4 << 20), "{}", server.inside().allocated);
    for client in &mut slow {
        for _ in 0..60 {
            let reply = client.reply().expect("reply");
            let at = (reply.cookie * MIB) as usize;
            assert!(reply.data == data[at..at + (1 << 20)], "contents");
        }
    }
}

#[test]
fn who_holds_memory_and_stalls_is_disconnected_when_others_wait() {
    let limits = Limits { memory_bytes: 32 << 20, stall: Duration::from_millis(500), ..Limits::default() };
    let server = Running::start(DISKS, limits, 1);
    let mut hog = Client::open(&server.socket, "a", true);
    hog.request(0, WRITE, 1, 0, 32 << 20);
    hog.send(&[0; 1000]);
    std::thread::sleep(Duration::from_millis(900));
    hog.send(&[0; 1000]);
    let mut client = Client::open(&server.socket, "a", true);
    assert_eq!(client.write_whole(0, &[1; 4096]), 0, "it waits, then has its turn");
    assert!(hog.is_closed());
    assert!(server.inside().submitted.len() == 1);
}

#[test]
fn a_large_request_has_its_turn_for_memory() {
    let limits = Limits { memory_bytes: 4 << 20, ..Limits::default() };
    let server = Running::start(DISKS, limits, 1);
    let finished = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut small = Client::open(&server.socket, "a", true);
                for _ in 0..8 {
                    small.request(0, READ, 0, 0, 1 << 20);
                }
                while !finished.load(std::sync::atomic::Ordering::Relaxed) {
                    assert_eq!(small.reply().expect("reply").error, 0);
                    small.request(0, READ, 0, 0, 1 << 20);
                }
            });
        }
        std::thread::sleep(Duration::from_millis(100));
        let mut large = Client::open(&server.socket, "a", true);
        large.stream.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
        large.request(0, READ, 1, 0, 4 << 20);
        let reply = large.reply();
        finished.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(reply.expect("not starved").error, 0);
    });
}

#[test]
fn options_are_not_read_while_their_replies_wait() {
    let server = start();
    let client = Client::connect(&server.socket);
    client.stream.set_nonblocking(true).expect("nonblocking");
    let list = b"IHAVEOPT\x00\x00\x00\x03\x00\x00\x00\x00".repeat(256);
    let (mut sent, mut refused) = (0, 0);
    while refused < 20 && sent < 32 << 20 {
        match std::io::Write::write(&mut &client.stream, &list) {
            Ok(count) => (sent, refused) = (sent + count, 0),
            Err(_) => {
                refused += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
    assert!(sent < 8 << 20, "{sent} bytes of options were read without end");
    assert_serves(&server);
}

#[test]
fn connections_are_bounded() {
    let limits = Limits { connections: 4, ..Limits::default() };
    let server = Running::start(DISKS, limits, 1);
    let mut four: Vec<Client> = (0..4).map(|_| Client::open(&server.socket, "a", true)).collect();
    let mut fifth = std::os::unix::net::UnixStream::connect(&server.socket).expect("connect");
    let mut greeting = Vec::new();
    std::io::Read::read_to_end(&mut fifth, &mut greeting).expect("closed");
    assert!(greeting.is_empty());
    four.pop();
    let begin = Instant::now();
    let served = loop {
        let mut again = std::os::unix::net::UnixStream::connect(&server.socket).expect("connect");
        if std::io::Read::read_exact(&mut again, &mut [0; 18]).is_ok() {
            break true;
        }
        if begin.elapsed() > Duration::from_secs(5) {
            break false;
        }
    };
    assert!(served, "a place that is free is given");
    assert!(four[0].read(0, 512).is_ok());
}

#[test]
fn errors_of_the_service_reach_their_request_alone() {
    for structured in [false, true] {
        let server = start();
        server.inside().failures =
            vec![(0, 4096..4100, 0x281), (0, 8192..8193, 0x080), (0, 9000..9001, 0x081)];
        let mut client = Client::open(&server.socket, "a", structured);
        assert_eq!(client.read(4090 * 512, 16 * 512), Err(EIO));
        assert_eq!(client.read(0, 4 << 20), Err(EIO), "one bad part fails the whole");
        assert_eq!(client.write_whole(4099 * 512, &[1; 512]), EIO);
        assert_eq!(client.write_whole(8192 * 512, &[1; 512]), ENOSPC);
        assert_eq!(client.read(8192 * 512, 512), Err(EINVAL));
        assert_eq!(client.ask(0, WRITE_ZEROES, 9000 * 512, 512), ENOSPC);
        assert_eq!(client.ask(FUA, TRIM, 4096 * 512, 512), EIO);
        assert_eq!(client.read(4100 * 512, 512), Ok(vec![0; 512]));
    }
}

#[test]
fn flush_fua_and_trim_become_what_they_mean() {
    let server = start();
    let mut one = Client::open(&server.socket, "a", true);
    let mut two = Client::open(&server.socket, "a", true);
    assert_eq!(one.write_whole(0, &[1; 512]), 0);
    assert_eq!(two.ask(0, FLUSH, 0, 0), 0);
    one.write(FUA, 1, 512, &[2; 512]);
    assert_eq!(one.reply().expect("reply").error, 0);
    assert_eq!(one.ask(FUA, TRIM, 1024, 1024), 0);
    assert_eq!(one.ask(0, TRIM, 4096, 4096), 0);
    assert_eq!(one.ask(0, WRITE_ZEROES, 0, 32 << 20), 0);
    assert_eq!(one.ask(FUA | 2, WRITE_ZEROES, 0, 64 << 20), 0);
    let zeroes = |blocks, deallocate, force_unit_access| Operation::WriteZeroes {
        lba: 0,
        blocks,
        deallocate,
        force_unit_access,
    };
    let expected = [
        Operation::Write { lba: 0, blocks: 1, force_unit_access: false },
        Operation::Flush,
        Operation::Write { lba: 1, blocks: 1, force_unit_access: true },
        Operation::Deallocate { lba: 2, blocks: 2 },
        Operation::Flush,
        Operation::Deallocate { lba: 8, blocks: 8 },
        zeroes(65536, true, false),
        zeroes(131072, false, true),
    ];
    let completed: Vec<_> = server.inside().completed.iter().map(|&(_, operation)| operation).collect();
    assert_eq!(completed, expected);
}

#[test]
fn block_status_says_allocated() {
    let server = start();
    let mut client = Client::open(&server.socket, "a", true);
    client.request(8, BLOCK_STATUS, 5, 4096, 8192);
    let reply = client.reply().expect("reply");
    assert_eq!((reply.cookie, reply.error), (5, 0));
    assert_eq!(reply.data, b"\x00\x00\x00\x01\x00\x00\x20\x00\x00\x00\x00\x00");
    assert_eq!(server.inside().submitted.len(), 0);
}

#[test]
fn disconnect_and_half_close_end_what_is_under_way() {
    let server = start();
    for disconnect in [true, false] {
        let mut client = Client::open(&server.socket, "a", true);
        for cookie in 0..20 {
            client.write(0, cookie, cookie * 4096, &[9; 4096]);
        }
        if disconnect {
            client.request(0, DISC, 0, 0, 0);
        } else {
            client.half_close();
        }
        for _ in 0..20 {
            assert_eq!(client.reply().expect("reply").error, 0);
        }
        assert!(client.is_closed());
    }
}

#[test]
fn an_idle_server_lets_no_time_pass() {
    let server = start();
    let mut client = Client::open(&server.socket, "a", true);
    assert!(client.read(0, 512).is_ok());
    std::thread::sleep(Duration::from_millis(50));
    let before = (server.inside().waits, server.ticks_used());
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(server.inside().waits, before.0);
    // A tick is 10 ms; a loop that spins uses fifty, or half of them on a busy machine.
    assert!(server.ticks_used() - before.1 < 5, "it sleeps");
}

#[test]
fn stopping_ends_what_is_under_way_refuses_the_rest_and_flushes() {
    let mut server = start();
    server.inside().held = true;
    let mut client = Client::open(&server.socket, "a", true);
    client.write(0, 1, 0, &[3; 4096]);
    server.until("it is submitted", |inside| !inside.submitted.is_empty());
    server.stop = None;
    while server.socket.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    client.write(0, 2, 8192, &[4; 4096]);
    let refused = client.reply().expect("reply");
    assert_eq!((refused.cookie, refused.error), (2, ESHUTDOWN));
    server.inside().held = false;
    let reply = client.reply().expect("reply");
    assert_eq!((reply.cookie, reply.error), (1, 0));
    assert!(client.is_closed());
    let inside = server.inside.clone();
    server.finish().expect("a clean end");
    let inside = inside.lock().expect("lock");
    assert_eq!(inside.contents[0][..4096], [3; 4096]);
    assert!(inside.contents[0][8192..12288] == [0; 4096]);
    let mut last = inside.completed[inside.completed.len() - 2..].to_vec();
    last.sort_by_key(|(disk, _)| *disk);
    assert_eq!(last, [(0, Operation::Flush), (1, Operation::Flush)], "every disk is flushed last");
}

#[test]
fn a_drain_has_a_deadline() {
    let limits = Limits { drain: Duration::from_millis(200), ..Limits::default() };
    let server = Running::start(DISKS, limits, 1);
    server.inside().held = true;
    let mut client = Client::open(&server.socket, "a", true);
    client.request(0, READ, 1, 0, 512);
    server.until("it is submitted", |inside| !inside.submitted.is_empty());
    assert!(matches!(server.finish(), Err(ServeError::DrainTimeout { operations: 1, .. })));
    assert!(client.is_closed());
}
