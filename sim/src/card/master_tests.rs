//! The two masters against scripted slaves with stalls on both sides.

use std::collections::VecDeque;

use rand::Rng;

use super::checker::Errors;
use super::model::{Ports, DATA_BYTES_MAX};
use super::port_list::Port;
use super::register_master::RegisterMaster;
use super::stalls::Stalls;
use super::window_master::WindowMaster;
use crate::bus::{Bus, Layout};
use crate::random;

#[test]
fn register_writes_go_in_order_and_a_read_follows_them() {
    for stalls in [0, 100, 220] {
        let mut ports = Ports::plain(128);
        let mut stalls = Stalls::new(stalls, crate::test_seed());
        let (mut master, mut errors) = (RegisterMaster::new(), Errors::default());
        let mut random = random::fork(crate::test_seed(), "slave");
        let (mut addresses, mut data) = (VecDeque::new(), VecDeque::new());
        let (mut written, mut reads) = (Vec::new(), 0u32);
        for number in 0..50 {
            master.post(number * 4, number * 3);
        }
        master.ask(0x84);
        for _ in 0..5000 {
            // The slave: takes at random, answers what it has taken.
            if ports.flag(Port::Bar0Awvalid) && ports.flag(Port::Bar0Awready) {
                addresses.push_back(ports.word(Port::Bar0Awaddr));
            }
            if ports.flag(Port::Bar0Wvalid) && ports.flag(Port::Bar0Wready) {
                data.push_back(ports.word(Port::Bar0Wdata));
            }
            let answered = ports.flag(Port::Bar0Bvalid) && ports.flag(Port::Bar0Bready);
            let read = ports.flag(Port::Bar0Rvalid) && ports.flag(Port::Bar0Rready);
            let asked = ports.flag(Port::Bar0Arvalid) && ports.flag(Port::Bar0Arready);
            master.sample(&ports, &mut errors);
            if asked {
                assert_eq!((written.len(), ports.word(Port::Bar0Araddr)), (50, 0x84));
                reads += 1;
            }
            if answered || !ports.flag(Port::Bar0Bvalid) {
                let pair = if addresses.is_empty() || data.is_empty() {
                    None
                } else {
                    addresses.pop_front().zip(data.pop_front())
                };
                written.extend(pair);
                ports.set_flag(Port::Bar0Bvalid, pair.is_some());
            }
            ports.set_flag(Port::Bar0Rvalid, (ports.flag(Port::Bar0Rvalid) && !read) || asked);
            ports.set_word(Port::Bar0Rdata, 0x1234);
            for ready in [Port::Bar0Awready, Port::Bar0Wready, Port::Bar0Arready] {
                ports.set_flag(ready, random.next_u32().is_multiple_of(3));
            }
            stalls.next();
            master.drive(&mut ports, &stalls);
        }
        assert_eq!(written, (0..50).map(|number| (number * 4, number * 3)).collect::<Vec<_>>());
        assert!(errors.list().is_empty(), "{:?}", errors.list());
        assert_eq!((master.take_answer(), reads, master.is_idle()), (Some(0x1234), 1, true));
    }
}

#[test]
fn an_answer_that_nobody_wants_answers_no_later_question() {
    let mut ports = Ports::plain(128);
    let (mut master, mut errors) = (RegisterMaster::new(), Errors::default());
    let stalls = Stalls::new(0, 1);
    let mut step = |master: &mut RegisterMaster, asks: bool, data: Option<u32>| {
        ports.set_flag(Port::Bar0Arready, asks);
        ports.set_flag(Port::Bar0Rvalid, data.is_some());
        ports.set_word(Port::Bar0Rdata, data.unwrap_or(0));
        master.sample(&ports, &mut errors);
        master.drive(&mut ports, &stalls);
        (ports.flag(Port::Bar0Arvalid), ports.word(Port::Bar0Araddr))
    };
    master.ask(0x10);
    assert_eq!(step(&mut master, false, None), (true, 0x10));
    assert_eq!(master.take_answer(), None, "given up");
    master.ask(0x20);
    assert_eq!(step(&mut master, false, None), (true, 0x10), "what is valid stays");
    assert!(!step(&mut master, true, None).0);
    assert_eq!(step(&mut master, false, Some(1)), (true, 0x20), "the first answer is dropped");
    assert!(!master.has_answer());
    step(&mut master, true, None);
    step(&mut master, false, Some(2));
    assert_eq!(master.take_answer(), Some(2));
    step(&mut master, false, Some(3));
    assert!(errors.list()[0].contains("data without a read"));
}

/// Runs seeded completions through a master into a scripted BAR2; returns its bytes, those expected,
/// and how many bursts there were.
fn windows(width: usize, stall: u8, merge: u8) -> (Vec<u8>, Vec<u8>, usize) {
    let layout = Layout { ssds: 1, ssd_bar0_bytes: 0x2000, card_bar2_bytes: 0x80000 };
    let mut bus = Bus::new(layout, 1, None, 0);
    let mut ports = Ports::plain(width);
    let mut stalls = Stalls::new(stall, crate::test_seed());
    let mut master = WindowMaster::new(64, merge, 1);
    let mut errors = Errors::default();
    let mut random = random::fork(crate::test_seed(), "windows");
    let (mut seen, mut expected) = (vec![0u8; 16384], vec![0u8; 16384]);
    let (mut addresses, mut beats) = (VecDeque::new(), VecDeque::new());
    let (mut bursts, mut unanswered) = (0, 0);
    let mut at = 0;
    for _ in 0..20_000 {
        // Completions come in groups, so that some wait behind others and may be merged.
        let group = if random.next_u32().is_multiple_of(8) { 4 } else { 0 };
        for _ in 0..group {
            if at == 16384 {
                break;
            }
            let len = if at % 16 == 8 || random.next_u32().is_multiple_of(2) { 8 } else { 16 };
            let data: Vec<u8> = (0..len).map(|_| random.next_u32() as u8).collect();
            expected[at..at + len].copy_from_slice(&data);
            bus.write_window(at as u64, &data);
            at += len;
        }
        if ports.flag(Port::Bar2Awvalid) && ports.flag(Port::Bar2Awready) {
            let len = usize::from(ports.byte(Port::Bar2Awlen)) + 1;
            let address = ports.word(Port::Bar2Awaddr) as usize;
            assert!(len * width / 8 <= 128 + width / 8 && address / 4096 == (address + 1) / 4096);
            addresses.push_back((address, len));
        }
        if ports.flag(Port::Bar2Wvalid) && ports.flag(Port::Bar2Wready) {
            let mut beat = [0; DATA_BYTES_MAX];
            ports.data(Port::Bar2Wdata, &mut beat);
            beats.push_back((beat, ports.strobe(Port::Bar2Wstrb), ports.flag(Port::Bar2Wlast)));
        }
        let answered = ports.flag(Port::Bar2Bvalid) && ports.flag(Port::Bar2Bready);
        master.sample(&ports, &mut bus, &mut errors);
        unanswered -= usize::from(answered);
        while addresses.front().is_some_and(|(_, len)| beats.len() >= *len) {
            let (address, len) = addresses.pop_front().expect("looked at");
            let bytes = width / 8;
            for number in 0..len {
                let (beat, strobe, last) = beats.pop_front().expect("counted");
                assert_eq!(last, number + 1 == len);
                let base = address / bytes * bytes + number * bytes;
                for byte in (0..bytes).filter(|byte| strobe >> byte & 1 == 1) {
                    assert!(base + byte >= address);
                    seen[base + byte] = beat[byte];
                }
            }
            bursts += 1;
            unanswered += 1;
        }
        ports.set_flag(Port::Bar2Bvalid, unanswered > 0);
        for ready in [Port::Bar2Awready, Port::Bar2Wready] {
            ports.set_flag(ready, !random.next_u32().is_multiple_of(3));
        }
        stalls.next();
        master.drive(&mut ports, &mut bus, &stalls);
    }
    assert!(errors.list().is_empty(), "{:?}", errors.list());
    assert!(master.is_idle() && (1..64).contains(&master.wait_max()));
    (seen, expected, bursts)
}

#[test]
fn completions_reach_their_windows_in_order_alone_and_merged() {
    for (width, stall) in [(128, 0), (256, 100), (512, 200)] {
        let (seen, expected, alone) = windows(width, stall, 0);
        assert!(seen == expected);
        let (seen, expected, merged) = windows(width, stall, 255);
        assert!(seen == expected);
        assert!(merged < alone, "{merged} of {alone}");
    }
}

#[test]
fn a_window_that_waits_too_long_is_an_error() {
    let layout = Layout { ssds: 1, ssd_bar0_bytes: 0x2000, card_bar2_bytes: 0x80000 };
    let mut bus = Bus::new(layout, 1, None, 0);
    let mut ports = Ports::plain(128);
    let stalls = Stalls::new(0, 1);
    let (mut master, mut errors) = (WindowMaster::new(5, 0, 1), Errors::default());
    bus.write_window(0, &[1; 16]);
    ports.set_flag(Port::Bar2Wready, true);
    for _ in 0..6 {
        master.drive(&mut ports, &mut bus, &stalls);
        master.sample(&ports, &mut bus, &mut errors);
    }
    assert_eq!(errors.list(), ["cycle 0: bar2_aw: kept waiting for 6 cycles"]);
    assert_eq!(master.wait_max(), 6);
}
