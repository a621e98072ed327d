//! Controllers that are gone, and that come back.

use super::namespace::Two;
use super::*;
use crate::{Commands, Fault, FaultKind, Moment};

const CSTS: u64 = 0x1C;

/// Writes blocks 0 to `count` − 1 without waiting.
fn send(host: &Host, pair: &mut Pair, buffer: &DmaMemory, count: u64) {
    for lba in 0..count {
        let mut entry = io(1, lba, 1, buffer.iova().0, 0);
        entry[0] |= (lba as u32) << 16;
        pair.push(entry);
    }
    pair.ring(&host.ssd);
}

fn filled(host: &mut Host) -> DmaMemory {
    let buffer = host.platform.allocate(4096).expect("memory");
    buffer.fill(0, 4096, 0x77);
    buffer
}

fn written(host: &Host, ssd: &str, blocks: usize) -> usize {
    let mut media = vec![0; blocks * 512];
    host.handle.read_media(ssd, 0, &mut media).expect("media");
    media.chunks(512).filter(|block| block[..] == [0x77; 512]).count()
}

fn is_dead(ssd: &SimFunction) -> bool {
    ssd.read32(Bar::Bar0, CSTS).expect("CSTS") == u32::MAX
}

#[test]
fn a_dead_path_answers_nothing_and_comes_back_as_at_power_on() {
    let mut host = Host::new(SsdConfig::new("nvme0", 512, 100).with_latency_ns(10_000, 0));
    let buffer = filled(&mut host);
    let mut pair = host.create_pair(1, 64);
    send(&host, &mut pair, &buffer, 60);
    let death = host.handle.start_fault("nvme0", Fault::new(FaultKind::DeadPath(Moment::Beginning)));
    assert!(is_dead(&host.ssd) && host.ssd.read64(Bar::Bar0, 0).expect("CAP") == u64::MAX);
    assert_eq!(host.ssd.config_read32(0).expect("vendor"), u32::MAX);
    assert!(host.ssd.reset().is_err());
    // Of 60 commands in execution some took effect, none completes, and none takes effect any more.
    let struck = written(&host, "nvme0", 60);
    assert!((10..=50).contains(&struck), "{struck}");
    let (ends, missed) = host.handle.take_ends("nvme0");
    assert_eq!((ends.len(), missed), (struck, 0), "the ends of those are recorded");
    assert!(ends.iter().all(|end| end.effect && !end.completion && !end.withdrawn));
    host.ssd.write32(Bar::Bar0, 0x14, 1 | 6 << 16 | 4 << 20).expect("CC");
    pair.ring(&host.ssd);
    host.handle.run_for_ns(1_000_000).expect("run");
    assert_eq!((pair.pop(), written(&host, "nvme0", 60)), (None, struck));
    assert!(is_dead(&host.ssd) && host.handle.ssd_complaints().is_empty());

    host.handle.stop_fault(death);
    assert_eq!(host.ssd.read32(Bar::Bar0, CSTS).expect("CSTS"), 0);
    assert_eq!(host.ssd.read64(Bar::Bar0, 0x28).expect("ASQ"), 0, "as at power-on");
    assert_eq!((host.handle.fault_strikes(death), written(&host, "nvme0", 60)), (1, struck));
    host.admin = Pair::new(&mut host.platform, 0, 8);
    host.enable();
    let mut pair = host.create_pair(1, 8);
    assert_eq!(status_of(host.execute(&mut pair, io(2, 0, 1, buffer.iova().0, 0))), 0);
}

#[test]
fn a_command_brings_the_death_of_its_path_and_the_other_path_serves() {
    let mut two = Two::new();
    let buffer = filled(&mut two.host);
    let mut first = two.host.create_pair(1, 64);
    let third = Commands::all().with_opcodes(&[1]).with_count(2, 1);
    let fault = Fault::new(FaultKind::DeadPath(Moment::Command)).with_commands(third);
    let death = two.host.handle.start_fault("a", fault);
    send(&two.host, &mut first, &buffer, 2);
    assert!(first.pop().is_some() && first.pop().is_some() && !is_dead(&two.host.ssd));
    send(&two.host, &mut first, &buffer, 5);
    assert_eq!((first.pop(), two.host.handle.fault_strikes(death)), (None, 1));
    assert!(is_dead(&two.host.ssd) && !is_dead(&two.other.0));
    assert_eq!(two.host.handle.take_commands("a").0.len(), 3, "nothing is fetched after it");
    two.turn();
    let mut second = two.host.create_pair(1, 8);
    for lba in 0..2 {
        assert_eq!(status_of(two.host.execute(&mut second, io(5, lba, 1, buffer.iova().0, 0))), 0, "compare");
    }
}

#[test]
fn a_device_dies_on_all_its_paths_and_keeps_its_blocks() {
    for moment in [Moment::Beginning, Moment::Command] {
        let mut two = Two::new();
        let buffer = filled(&mut two.host);
        let mut pair = two.host.create_pair(1, 8);
        assert_eq!(status_of(two.host.execute(&mut pair, io(1, 9, 1, buffer.iova().0, 0))), 0);
        let device = two.host.handle.start_fault("b", Fault::new(FaultKind::DeadDevice(moment)));
        if moment == Moment::Command {
            assert!(!is_dead(&two.host.ssd) && !is_dead(&two.other.0));
            two.turn();
            let mut other = two.host.create_pair(1, 8);
            send(&two.host, &mut other, &buffer, 1);
            two.turn();
            two.host.handle.run_for_ns(0).expect("run");
        }
        assert!(is_dead(&two.host.ssd) && is_dead(&two.other.0), "{moment:?}");
        // One path has a second reason to be dead.
        let path = two.host.handle.start_fault("a", Fault::new(FaultKind::DeadPath(Moment::Beginning)));
        two.host.handle.stop_fault(device);
        assert!(is_dead(&two.host.ssd) && !is_dead(&two.other.0));
        two.host.handle.stop_fault(path);
        assert!(!is_dead(&two.host.ssd));
        assert_eq!(two.host.handle.fault_strikes(device), 1);
        let mut block = [0; 512];
        two.host.handle.read_media("b", 9 * 512, &mut block).expect("media");
        assert_eq!(block, [0x77; 512]);
    }
}

#[test]
fn a_death_begins_and_ends_by_the_clock_unless_it_is_stopped() {
    let two = Two::new();
    let handle = &two.host.handle;
    let (a, b) = (&two.host.ssd, &two.other.0);
    let timed = |kind| Fault::new(kind).with_time_ns(1000, Some(3000));
    let both = handle.start_fault("a", timed(FaultKind::DeadDevice(Moment::Beginning)));
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push((is_dead(a), is_dead(b)));
        handle.run_for_ns(1000).expect("run");
    }
    assert_eq!(seen, [(false, false), (true, true), (true, true), (false, false)]);
    let never = handle.start_fault("b", timed(FaultKind::DeadPath(Moment::Beginning)));
    handle.stop_fault(never);
    handle.run_for_ns(2000).expect("run");
    assert!(!is_dead(b));
    assert_eq!((handle.fault_strikes(both), handle.fault_strikes(never)), (1, 0));
}
