//! The NBD server against seeded random clients: noise, and many that compare what they read.

mod support;

use std::time::Duration;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use support::client::*;
use support::{seed, Running};
use volplane_cli::nbd::Limits;

const MIB: u64 = 1 << 20;
const DISKS: &[(&str, u32, u64)] = &[("a", 512, 64 << 11), ("b", 4096, 4 << 8)];

/// Random bytes, and right streams with wrong bytes in them.
#[test]
fn noise_never_stops_the_server() {
    let seed = seed(20);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let limits = Limits { handshake: Duration::from_millis(300), ..Limits::default() };
    let server = Running::start(DISKS, limits, seed);
    for _ in 0..300 {
        let mut client = if random.random_bool(0.5) {
            Client::open(&server.socket, "a", random.random_bool(0.5))
        } else {
            Client::connect(&server.socket)
        };
        let mut noise = Vec::new();
        for _ in 0..random.random_range(1..20) {
            match random.random_range(0..4) {
                0 => noise.extend((0..random.random_range(0..200)).map(|_| random.random::<u8>())),
                1 => {
                    noise.extend_from_slice(b"IHAVEOPT");
                    noise.extend_from_slice(&random.random_range(0..12u32).to_be_bytes());
                    let len = random.random_range(0..64u32);
                    noise.extend_from_slice(&len.to_be_bytes());
                    noise.extend((0..len).map(|_| random.random_range(0..4u8)));
                }
                _ => {
                    let length = random.random_range(0..9u32) * 512;
                    let command = random.random_range(0..9);
                    let flags = random.random_range(0..64);
                    let offset = random.random_range(0..70 * MIB) / 512 * 512;
                    noise.extend(Client::header(flags, command, random.random(), offset, length));
                    if command == WRITE {
                        noise.extend(vec![0xF0; length as usize]);
                    }
                }
            }
        }
        if random.random_bool(0.3) {
            let at = random.random_range(0..noise.len().max(1)).min(noise.len().saturating_sub(1));
            noise.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 0x10);
        }
        client.send(&noise);
    }
    let mut healthy = Client::open(&server.socket, "b", true);
    assert_eq!(healthy.write_whole(8192, &[0x3C; 40960]), 0);
    assert_eq!(healthy.read(8192, 40960), Ok(vec![0x3C; 40960]));
    drop(healthy);
    assert!(server.finish().expect("a clean end").connections >= 301);
}

/// One client of the comparison: its own part of the disk, a model of it, requests in flight that
/// do not overlap.
fn compare(server: &Running, index: u64, seed: u64) {
    const PART: u64 = 2 * MIB;
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ index << 32);
    let mut client = Client::open(&server.socket, "a", !index.is_multiple_of(3));
    let base = index * PART;
    let mut model = vec![0u8; PART as usize];
    let mut cookie = 0;
    for _ in 0..24 {
        let mut expected = std::collections::BTreeMap::new();
        let mut at = 0;
        while at < PART {
            let length = (512u64 << random.random_range(0..12)).min(PART - at);
            let length = random.random_range(1..=length / 512) * 512;
            let range = at as usize..(at + length) as usize;
            cookie += 1;
            match random.random_range(0..8) {
                0..4 => {
                    client.request(0, READ, cookie, base + at, length as u32);
                    expected.insert(cookie, Some(range));
                }
                4..7 => {
                    random.fill_bytes(&mut model[range.clone()]);
                    client.write(random.random_range(0..2), cookie, base + at, &model[range]);
                    expected.insert(cookie, None);
                }
                _ => {
                    model[range].fill(0);
                    client.request(2, WRITE_ZEROES, cookie, base + at, length as u32);
                    expected.insert(cookie, None);
                }
            }
            at += length + random.random_range(0..64) * 512;
            while expected.len() > 16 || (at >= PART && !expected.is_empty()) {
                let reply = client.reply().expect("reply");
                assert_eq!(reply.error, 0);
                if let Some(range) = expected.remove(&reply.cookie).expect("asked for") {
                    assert!(reply.data == model[range], "connection {index}, cookie {}", reply.cookie);
                }
            }
        }
    }
    let inside = server.inside();
    assert!(inside.contents[0][base as usize..(base + PART) as usize] == model, "connection {index}");
}

#[test]
fn thirty_two_connections_each_see_their_own_writes() {
    let seed = seed(32);
    let limits = Limits { memory_bytes: 8 << 20, connection_bytes: 2 << 20, ..Limits::default() };
    let server = Running::start(DISKS, limits, seed);
    server.inside().capacity = 50;
    std::thread::scope(|scope| {
        for index in 0..32 {
            let server = &server;
            scope.spawn(move || compare(server, index, seed));
        }
    });
    assert!(server.inside().allocated <= 8 << 20);
    assert_eq!(server.finish().expect("a clean end").dropped, 0);
}
