//! Transactions on the RTL: what is committed together is seen together, whatever is admitted meanwhile.

use volplane_abi::tables::table;
use volplane_abi::{opcode, status, submission_mode, vd_status, VdEntry, TRANSACTION_MAX};
use volplane_driver::{CardError, Platform, TableWrite, PAGE};
use volplane_tests::harness::{plain, Machine};

/// Entries of the client's ring: commands that the card admits while a transaction is staged and made.
const ENTRIES: u16 = 2048;
/// Disks that change.
const DISKS: u32 = TRANSACTION_MAX as u32;
/// From the disk of a read to that of the next: not in the order of the writes, or a commit that takes time would look
/// as one that takes none.
const STRIDE: u32 = 37;

fn start() -> Machine {
    let mut configuration = plain::configuration(1, 128, submission_mode::DIRECT);
    configuration.clients[0].entries = ENTRIES;
    let mut machine = Machine::start(configuration);
    let entries = all(&mut machine, vd_status::ENABLED);
    machine.card.table_write_all(&mut machine.platform, entries).expect("the card takes the entries");
    machine
}

/// The entries of all disks, each with the map of the first, in this status.
fn all(machine: &mut Machine, status: u8) -> Vec<TableWrite> {
    let first: VdEntry = machine.card.table_record(&mut machine.platform, table::VD, 0).expect("an entry");
    let entry = first.with_status(status);
    (0..DISKS).map(|disk| TableWrite::new(table::VD, disk, &entry.0)).collect()
}

/// Reads all disks, each in its turn, while `change` is made: which commands saw the disks deactivated, in order.
fn seen(machine: &mut Machine, change: impl FnOnce(&mut Machine)) -> Vec<bool> {
    let buffer = machine.platform.allocate(PAGE).expect("memory");
    let count = usize::from(ENTRIES) - 1;
    for number in 0..count {
        let entry = plain::command(opcode::READ, number as u32 * STRIDE % DISKS, 0, 8, &buffer);
        machine.queues[0].submit(entry.with_command_id(number as u16)).expect("room");
    }
    machine.queues[0].ring().expect("a doorbell");
    change(machine);
    let mut seen = vec![None; count];
    for _ in 0..count {
        let completion = machine.completion(0);
        let refused = match completion.status() {
            status::SUCCESS => false,
            found => {
                assert_eq!(found, status::NAMESPACE_NOT_READY | status::DNR);
                true
            }
        };
        let before = seen[usize::from(completion.command_id())].replace(refused);
        assert_eq!(before, None, "completed twice");
    }
    seen.into_iter().map(|seen| seen.expect("completed")).collect()
}

fn switches(seen: &[bool]) -> usize {
    seen.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

#[test]
fn a_commit_is_seen_by_all_disks_at_once() {
    let mut machine = start();
    let mut status = vd_status::ENABLED;
    for round in 0..6 {
        status = if status == vd_status::ENABLED { vd_status::DEACTIVATED } else { vd_status::ENABLED };
        let writes = all(&mut machine, status);
        let seen = seen(&mut machine, |machine| {
            machine.card.commit(&mut machine.platform, &writes).expect("a commit");
        });
        assert_eq!(switches(&seen), 1, "round {round}: {seen:?}");
        assert_eq!(seen[0], status == vd_status::ENABLED);
    }
    // Written one by one they are not.
    let writes = all(&mut machine, vd_status::DEACTIVATED);
    let seen = seen(&mut machine, |machine| {
        machine.card.table_write_all(&mut machine.platform, writes).expect("the card takes the entries");
    });
    assert!(switches(&seen) > 1, "{seen:?}");
    let pause = machine.handle.admission_pause_max();
    assert!((65..=128).contains(&pause), "{pause} cycles without an admission");
    machine.assert_clean(|_| false);
}

#[test]
fn what_is_refused_or_forgotten_is_never_written() {
    let mut machine = start();
    let count = machine.card.capabilities().vds;
    let disk = |index: u32| TableWrite::new(table::VD, index, &VdEntry::default().with_size_blocks(7).0);
    for (writes, wrong) in [
        (vec![disk(0), disk(1), disk(count)], count),
        (vec![disk(0), TableWrite::new(table::PLAN, 1, &[1]), disk(2)], 1),
        (vec![disk(u32::MAX), disk(0)], u32::MAX),
    ] {
        let error = machine.card.commit(&mut machine.platform, &writes).expect_err("no such entry");
        let CardError::Table { operation, index, status, .. } = error else { panic!("{error}") };
        assert_eq!((operation, index, status), ("staged write", wrong, status::INVALID_FIELD | status::DNR));
    }
    let many: Vec<TableWrite> = (0..=DISKS).map(disk).collect();
    let error = machine.card.commit(&mut machine.platform, &many).expect_err("too many");
    assert!(error.to_string().contains("a transaction of 65 writes, where 64 fit"), "{error}");
    // What was staged before the refusals is not part of the next one.
    let before = machine.card.epochs(&mut machine.platform).expect("epochs");
    let epoch = machine.card.commit(&mut machine.platform, &[disk(3)]).expect("a commit");
    let after = machine.card.epochs(&mut machine.platform).expect("epochs");
    assert_eq!((epoch, after.current()), (before.current(), before.current() + 1));
    assert!(after.is_closed(epoch) && !after.is_closed(epoch + 1), "{after:?}");
    for index in 0..DISKS {
        let entry: VdEntry =
            machine.card.table_record(&mut machine.platform, table::VD, index).expect("an entry");
        assert_eq!(entry.size_blocks() == 7, index == 3, "disk {index}");
    }
    machine.assert_clean(|_| false);
}
