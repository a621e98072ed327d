//! The ABI against bytes typed from the specification, never derived from the ABI itself.

use volplane_abi::{
    completion_mode, table, CompletionEntry, DeallocateRange, ExtentEntry, PathCompletions, PathEntry,
    QueueEntry, QuotaEntry, SubmissionEntry, VdEntry,
};

/// NVMe Base 2.0 figure 86 and NVM Command Set 1.0 figure 75: a Write of 8 blocks with FUA.
#[test]
fn a_write_command() {
    let mut bytes = [0u8; 64];
    bytes[0] = 0x01; // opcode
    bytes[2..4].copy_from_slice(&[0x34, 0x12]); // CID
    bytes[4..8].copy_from_slice(&[7, 0, 0, 0]); // NSID
    bytes[24..32].copy_from_slice(&[0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0x0E]); // PRP1
    bytes[32..40].copy_from_slice(&[0, 0x20, 0, 0, 0, 0, 0, 0]); // PRP2
    bytes[40..48].copy_from_slice(&[0xEF, 0xCD, 0xAB, 0x89, 0x67, 0x45, 0x23, 0x01]); // SLBA
    bytes[48..52].copy_from_slice(&[7, 0, 0, 0x40]); // NLB − 1, FUA in bit 30
    bytes[52..56].copy_from_slice(&[0x78, 0x56, 0x34, 0x12]); // CDW13
    let entry = SubmissionEntry::default()
        .with_opcode(1)
        .with_command_id(0x1234)
        .with_namespace_id(7)
        .with_prp1(0x0EDC_BA98_7654_3210)
        .with_prp2(0x2000)
        .with_starting_lba(0x0123_4567_89AB_CDEF)
        .with_block_count_z(7)
        .with_force_unit_access(1)
        .with_cdw13(0x1234_5678);
    assert_eq!(entry.0, bytes);
}

/// Flags of CDW0 and CDW12 at their places.
#[test]
fn flags_of_a_command() {
    assert_eq!(SubmissionEntry::default().with_fuse(2).0[1], 0x02);
    assert_eq!(SubmissionEntry::default().with_psdt(1).0[1], 0x40);
    assert_eq!(SubmissionEntry::default().with_deallocate(1).0[51], 0x02);
    assert_eq!(SubmissionEntry::default().with_limited_retry(1).0[51], 0x80);
    assert_eq!(SubmissionEntry::default().with_metadata_pointer(1).0[16], 1);
}

/// NVMe Base 2.0 figure 90: LBA Out of Range with DNR, phase 1.
#[test]
fn a_completion() {
    let bytes = [0, 0, 0, 0, 0, 0, 0, 0, 0x05, 0x00, 0x02, 0x00, 0xCD, 0xAB, 0x01, 0x81];
    let entry = CompletionEntry(bytes);
    assert_eq!((entry.sq_head(), entry.sq_id(), entry.command_id()), (5, 2, 0xABCD));
    assert_eq!((entry.phase(), entry.status()), (1, 0x4080));
}

/// NVM Command Set 1.0 figure 40.
#[test]
fn a_deallocate_range() {
    let range = DeallocateRange::default().with_block_count(0x0102_0304).with_starting_lba(0x0506);
    assert_eq!(range.0, [0, 0, 0, 0, 4, 3, 2, 1, 6, 5, 0, 0, 0, 0, 0, 0]);
}

/// Positions that the card and its software agreed on once; a change is a new ABI version.
#[test]
fn table_entries_stay_where_they_are() {
    let vd = VdEntry::default().with_size_blocks(0x0605_0403_0201).with_status(1).with_block_shift(9);
    assert_eq!(vd.0[..7], [1, 2, 3, 4, 5, 6, 0x91]);
    let extent = ExtentEntry::default().with_start(1).with_device(0x0302).with_valid(1).with_read_action(2);
    assert_eq!(extent.0, [1, 0, 0, 0, 0, 0, 2, 3, 0x12]);
    let path = PathEntry::default().with_limit(0x0102).with_submission_mode(1).with_valid(1);
    assert_eq!(path.0[28..32], [2, 1, 0x05, 0]);
    let path = PathEntry::default().with_renewing(1).with_completion_mode(completion_mode::HOST);
    assert_eq!(path.0[28..32], [0, 0, 0x18, 0]);
    assert_eq!((table::PATH_COMPLETIONS, completion_mode::WINDOW), (15, 0));
    let completions = PathCompletions::default().with_base(0x0807_0605_0403_2000);
    assert_eq!(completions.0, [0, 0x20, 3, 4, 5, 6, 7, 8]);
    let queue = QueueEntry::default().with_function(0x0102).with_slots(0x0304).with_reserve(1);
    assert_eq!(queue.0[26..32], [2, 1, 4, 3, 1, 0]);
    assert_eq!((table::QUOTA, QuotaEntry::default().with_slots(0x0102).0), (16, [2, 1, 0, 0]));
}
