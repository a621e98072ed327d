//! No shortcut: with the card's clock stopped, no byte reaches a client or a backing file.

use std::fs;

use tempfile::TempDir;
use volplane_abi::{opcode, submission_mode, SubmissionEntry};
use volplane_driver::{DmaMemory, Platform, PAGE};
use volplane_tests::harness::media::content;
use volplane_tests::harness::{plain, Machine};

/// Commands of each kind.
const COMMANDS: u64 = 20;
/// How long the clock stands: ages for a card.
const FROZEN_NS: u64 = 50_000_000;

struct Files {
    folder: TempDir,
    names: Vec<String>,
}

impl Files {
    fn read(&self) -> Vec<Vec<u8>> {
        self.names.iter().map(|name| fs::read(self.folder.path().join(name)).expect("a file")).collect()
    }
}

/// A machine whose SSDs are files, full of what nobody writes.
fn machine() -> (Machine, Files) {
    let mut configuration = plain::configuration(1, 128, submission_mode::FENCED);
    let folder = tempfile::tempdir().expect("a folder");
    let mut names = Vec::new();
    for ssd in &mut configuration.simulator.ssds {
        let path = folder.path().join(&ssd.name);
        let bytes = (ssd.blocks * u64::from(ssd.block_size)) as usize;
        fs::write(&path, vec![0x5A; bytes]).expect("a file");
        *ssd = ssd.clone().with_file(path);
        names.push(ssd.name.clone());
    }
    (Machine::start(configuration), Files { folder, names })
}

/// Sends reads on one queue and writes on the other.
fn send(machine: &mut Machine, reads: &DmaMemory, writes: &DmaMemory) {
    for number in 0..COMMANDS {
        let place = |memory: &DmaMemory| memory.part(number as usize * PAGE, PAGE);
        let command = |code, memory: &DmaMemory| -> SubmissionEntry {
            plain::command(code, 0, number * 16, 8, &place(memory)).with_command_id(number as u16)
        };
        machine.queues[0]
            .submit(command(opcode::READ, reads).with_starting_lba(1000 + number * 8))
            .expect("room");
        machine.queues[1].submit(command(opcode::WRITE, writes)).expect("room");
    }
    machine.queues.iter_mut().for_each(|queue| queue.ring().expect("a doorbell"));
}

fn bytes(memory: &DmaMemory) -> Vec<u8> {
    let mut bytes = vec![0; memory.len()];
    memory.read(0, &mut bytes);
    bytes
}

#[test]
fn a_frozen_card_moves_nothing() {
    let (mut machine, files) = machine();
    let allocate =
        |machine: &mut Machine| machine.platform.allocate(COMMANDS as usize * PAGE).expect("memory");
    let (reads, writes) = (allocate(&mut machine), allocate(&mut machine));
    reads.fill(0, reads.len(), 0xEE);
    let data: Vec<u8> = (0..COMMANDS).flat_map(|number| content(number + 1, PAGE)).collect();
    writes.write(0, &data);

    let before = files.read();
    machine.handle.freeze();
    send(&mut machine, &reads, &writes);
    machine.handle.run_for_ns(FROZEN_NS).expect("time passes");
    assert!(files.read() == before, "a backing file was written");
    assert!(bytes(&reads).iter().all(|&byte| byte == 0xEE), "a client was given data");
    for queue in &mut machine.queues {
        assert_eq!(queue.poll().expect("a sound queue"), None, "a client was given a completion");
    }
    for name in &files.names {
        assert_eq!(machine.handle.take_commands(name).0, [], "an SSD was given a command");
    }

    machine.handle.thaw();
    for queue in 0..2 {
        for _ in 0..COMMANDS {
            assert_eq!(machine.completion(queue).status(), 0);
        }
    }
    assert!(bytes(&reads).iter().all(|&byte| byte == 0x5A), "the reads were executed");
    assert!(files.read() != before, "the writes were executed");
    machine.assert_clean(|_| false);
}

#[test]
fn what_is_under_way_stands_still_as_well() {
    let (mut machine, files) = machine();
    let (reads, writes) = {
        let mut allocate = || machine.platform.allocate(COMMANDS as usize * PAGE).expect("memory");
        (allocate(), allocate())
    };
    send(&mut machine, &reads, &writes);
    // A few commands have reached their SSDs by now; those end, and no others begin.
    machine.handle.run_for_ns(1_000).expect("the card works");
    machine.handle.freeze();
    machine.handle.run_for_ns(FROZEN_NS).expect("time passes");
    let begun: usize = files.names.iter().map(|name| machine.handle.take_commands(name).0.len()).sum();
    assert!(begun < 2 * COMMANDS as usize, "{begun} commands were begun");
    let before = (files.read(), bytes(&reads));
    machine.queues.iter_mut().for_each(|queue| while queue.poll().expect("a sound queue").is_some() {});
    machine.handle.run_for_ns(FROZEN_NS).expect("time passes");
    assert!((files.read(), bytes(&reads)) == before, "a byte moved");
    for queue in &mut machine.queues {
        assert_eq!(queue.poll().expect("a sound queue"), None);
    }
    machine.handle.thaw();
    for queue in 0..2 {
        while machine.queues[queue].outstanding() > 0 {
            assert_eq!(machine.completion(queue).status(), 0);
        }
    }
    machine.assert_clean(|_| false);
}
