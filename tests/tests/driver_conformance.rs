//! The driver against a card in plain Rust: the conformance suite, and what a bad card leads to.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use volplane_abi::registers as register;
use volplane_abi::tables::table;
use volplane_abi::{status, ExceptionTail, SubmissionEntry, VdEntry};
use volplane_driver::{Card, CardError, ExceptionRecord, PlanHandle, QueueError, TableWrite};
use volplane_tests::card_model::{Faults, ModelFunction, ModelPlatform, ADDRESS};
use volplane_tests::conformance;

const LIMIT: Duration = Duration::from_millis(5);

fn open(faults: Faults) -> Result<Card<ModelFunction>, CardError> {
    Card::open(&mut ModelPlatform::with_faults(faults), ADDRESS)
}

#[test]
fn the_model_conforms() {
    let seed = std::env::var("VOLPLANE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    conformance::run(&mut ModelPlatform::default(), ADDRESS, seed);
}

#[test]
fn the_suite_sees_a_card_that_does_not_conform() {
    for (offset, value) in [
        (register::CONTROL_SIZE, 63),              // keeps one value
        (register::CAP_SLOTS, 0),                  // no slots
        (register::UNKNOWN_COMPLETIONS + 0x40, 1), // an unknown register
    ] {
        let faults = Faults { registers: [(offset, value)].into(), ..Faults::default() };
        let mut platform = ModelPlatform::with_faults(faults);
        let run = AssertUnwindSafe(|| conformance::run(&mut platform, ADDRESS, 1));
        assert!(std::panic::catch_unwind(run).is_err(), "{offset:#x} reading {value}");
    }
}

#[test]
fn cards_of_another_kind_or_abi_are_refused() {
    let with = |offset, value| Faults { registers: [(offset, value)].into(), ..Faults::default() };
    assert!(matches!(open(with(register::IDENTITY_HIGH, 0)), Err(CardError::NotACard { .. })));
    let version = u32::from(register::ABI_MAJOR) << 16 | u32::from(register::ABI_MINOR);
    assert!(matches!(
        open(with(register::ABI_VERSION, 0x2_0000)),
        Err(CardError::AbiVersion { major: 2, .. })
    ));
    assert!(matches!(open(with(register::ABI_VERSION, 0)), Err(CardError::AbiVersion { major: 0, .. })));
    assert!(open(with(register::ABI_VERSION, version + 1)).is_ok(), "a later minor is welcome");
    for (name, offset, value) in [
        ("CAP_QUEUES", register::CAP_QUEUES, 0),
        ("CAP_QUEUES", register::CAP_QUEUES, 49),
        ("CAP_FRAGMENT_IDS", register::CAP_FRAGMENT_IDS, u32::MAX),
        ("CAP_WINDOW_SHIFT", register::CAP_WINDOW_SHIFT, 64),
        ("CAP_PATHS", register::CAP_PATHS, 9),
        ("CAP_VECTORS", register::CAP_VECTORS, 4096),
    ] {
        match open(with(offset, value)) {
            Err(CardError::Capability { name: found, .. }) => assert_eq!(found, name),
            other => panic!("{name} {value}: {other:?}"),
        }
    }
    let dead = Faults { never_ready: true, ..Faults::default() };
    assert!(matches!(open(dead), Err(CardError::NotReady { .. })));
}

#[test]
fn a_batch_keeps_the_ring_full_and_rings_seldom() {
    let mut platform = ModelPlatform::default();
    let mut card = Card::open(&mut platform, ADDRESS).expect("card");
    let before = platform.doorbells();
    let entry = |index: u32| VdEntry::default().with_size_blocks(u64::from(index) + 1);
    let writes = (0..630).map(|n| TableWrite::new(table::VD, n % 8, &entry(n).0));
    card.table_write_all(&mut platform, writes).expect("legal entries");
    // 63 commands fit at once: ten batches, each with one tail doorbell and at most five head doorbells.
    let doorbells = platform.doorbells() - before;
    assert!((20..=60).contains(&doorbells), "{doorbells} doorbells for 630 writes");
    for index in 0..8 {
        let last: VdEntry = card.table_record(&mut platform, table::VD, index).expect("entry");
        assert_eq!(last, entry((622..630).find(|n| n % 8 == index).expect("one of eight")));
    }
}

#[test]
fn a_refused_write_ends_the_batch_and_names_itself() {
    let mut platform = ModelPlatform::default();
    let mut card = Card::open(&mut platform, ADDRESS).expect("card");
    let entry = VdEntry::default().with_status(1);
    let indices = [0, 1, 8, 2].into_iter().chain(std::iter::repeat_n(3, 1000));
    let result =
        card.table_write_all(&mut platform, indices.map(|index| TableWrite::new(table::VD, index, &entry.0)));
    match result {
        Err(CardError::Table { operation, table, index, status, .. }) => {
            assert_eq!((operation, table, index), ("write", "virtual disk", 8));
            assert_eq!(status, status::INVALID_FIELD | status::DNR);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(platform.entry(table::VD, 1), entry.0, "what came before took effect");
    card.nop(&mut platform).expect("the ring goes on");
    let too_long = card.table_write(&mut platform, table::VD, 5, &[1; 33]);
    assert!(matches!(too_long, Err(CardError::RecordSize { bytes: 33, .. })));
    assert_eq!(platform.entry(table::VD, 5), [0; 32]);
}

#[test]
fn a_silent_card_costs_a_limit_and_not_the_driver() {
    let mut platform = ModelPlatform::default();
    let mut card = Card::open(&mut platform, ADDRESS).expect("card");
    platform.set_faults(Faults { silent: true, ..Faults::default() });
    for _ in 0..100 {
        let result = card.table_read(&mut platform, table::VD, 3);
        match result {
            Err(CardError::ControlTimeout { operation, table, index, .. }) => {
                assert_eq!((operation, table, index), ("read", "virtual disk", 3));
            }
            other => panic!("{other:?}"),
        }
    }
    platform.set_faults(Faults::default());
    let lost = card.table_write(&mut platform, table::VD, 3, &[1; 8]);
    assert!(matches!(lost, Err(CardError::ControlTimeout { operation: "write", .. })), "no room: {lost:?}");
}

#[test]
fn a_wild_submission_head_is_an_error() {
    for head in [2, 63, 64, 0xFFFF] {
        let wild = Faults { control_sq_head: Some(head), ..Faults::default() };
        let mut platform = ModelPlatform::with_faults(wild);
        let mut card = Card::open(&mut platform, ADDRESS).expect("card");
        let result = card.nop(&mut platform);
        assert!(matches!(result, Err(CardError::Queue(QueueError::BadHead { .. }))), "{head}: {result:?}");
    }
}

#[test]
fn queues_the_card_has_not_are_refused() {
    let mut platform = ModelPlatform::default();
    let mut card = Card::open(&mut platform, ADDRESS).expect("card");
    let mut refused =
        |number, entries, vector| match card.create_queue(&mut platform, number, entries, vector, 0) {
            Err(CardError::QueueArgument { queue, reason, .. }) => {
                assert_eq!(queue, number);
                reason
            }
            other => panic!("queue {number} of {entries}: {other:?}"),
        };
    let (none, size) = ("the card has no client queue of this number", "a ring has 2 to 4096 entries");
    assert_eq!(refused(0, 16, None), none);
    assert_eq!(refused(5, 16, None), none);
    assert_eq!(refused(1, 1, None), size);
    assert_eq!(refused(1, 4097, None), size);
    assert_eq!(refused(1, 16, Some(8)), "the card has no such interrupt vector");
    let kept = card.create_queue(&mut platform, 1, 4096, Some(7), 0).expect("queue 1");
    assert!(card.create_queue(&mut platform, 1, 16, None, 0).is_err(), "taken");

    let mut other_platform = ModelPlatform::default();
    let mut other = Card::open(&mut other_platform, ADDRESS).expect("card");
    let foreign = other.create_queue(&mut other_platform, 1, 16, None, 0).expect("queue 1");
    assert!(card.delete_queue(&mut platform, foreign, LIMIT).is_err(), "another card's queue");
    card.delete_queue(&mut platform, kept, LIMIT).expect("deleted");
    card.create_queue(&mut platform, 1, 16, None, 0).expect("free again");
}

#[test]
fn a_queue_with_commands_in_the_card_is_not_deleted() {
    let mut platform = ModelPlatform::default();
    let mut card = Card::open(&mut platform, ADDRESS).expect("card");
    let mut queue = card.create_queue(&mut platform, 1, 16, None, 0).expect("queue 1");
    platform.set_faults(Faults { hold_client_commands: true, ..Faults::default() });
    queue.submit(SubmissionEntry::default()).expect("room");
    queue.ring().expect("doorbell");
    assert_eq!(queue.outstanding(), 1);
    match card.delete_queue(&mut platform, queue, LIMIT) {
        Err(CardError::QueueBusy { queue: 1, outstanding: 1, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert!(card.create_queue(&mut platform, 1, 16, None, 0).is_err(), "its rings are still the card's");
}

#[test]
fn a_record_of_no_plan_is_an_error_and_loses_no_other() {
    let mut platform = ModelPlatform::default();
    let mut card = Card::open(&mut platform, ADDRESS).expect("the card opens");
    let slots = card.capabilities().slots as u16;
    let tail = |slot| ExceptionTail::default().with_slot(slot).with_phase(1);
    for (place, slot) in [3, slots - 1, slots, 7].into_iter().enumerate() {
        platform.post_exception(place as u16, tail(slot));
    }
    let slots_of = |records: Vec<ExceptionRecord>| -> Vec<u16> {
        records.iter().map(|record| record.handle().slot).collect()
    };
    assert_eq!(slots_of(card.take_exceptions(1).expect("one")), [3]);
    assert_eq!(slots_of(card.take_exceptions(9).expect("those before the bad one")), [slots - 1]);
    assert_eq!(platform.register(register::EXCEPTION_HEAD), 2);
    match card.take_exceptions(9) {
        Err(CardError::Record { slot, .. }) => assert_eq!(slot, slots),
        other => panic!("{other:?}"),
    }
    assert_eq!(slots_of(card.take_exceptions(9).expect("those behind it")), [7]);
    assert!(card.take_exceptions(9).expect("none").is_empty());
    assert_eq!(platform.register(register::EXCEPTION_HEAD), 4);
    // A card without plans knows no command on one.
    let plan = PlanHandle { slot: 3, generation: 1 };
    let refused = card.release_plan(&mut platform, plan);
    assert!(matches!(refused, Err(CardError::Table { .. })), "{refused:?}");
}
