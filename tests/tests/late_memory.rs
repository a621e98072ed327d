//! Host memory that sees the card's writes later than an SSD sees its doorbells, as PCIe allows between
//! destinations: a fenced path survives it, a direct path is seen to fail.

#[allow(dead_code)] // Shared with the engine's tests, which use more of it.
#[path = "engine/rig.rs"]
mod rig;

use std::path::Path;

use rig::{options, seed, three_disks, Rig};
use volplane::{BlockService, EngineOptions, Operation, SubmissionMode, VdHandle};

/// Writes and reads back block after block; says what went wrong first, if anything did.
fn first_fault(mode: SubmissionMode, seed: u64) -> Option<String> {
    let options = EngineOptions { submission_mode: mode, ..options() };
    let mut rig = Rig::start(&three_disks(128, "memory = true"), Path::new("."), seed, &options, |config| {
        config.visibility_delay_ns = Some((500, 3000));
    });
    let memory = rig.engine.allocate(4096).expect("memory");
    for lba in 0..200u64 {
        let data = [lba as u8 ^ 0x5A; 4096];
        for operation in
            [Operation::Write { lba: lba * 8, blocks: 8, force_unit_access: false }, Operation::Read { lba: lba * 8, blocks: 8 }]
        {
            if matches!(operation, Operation::Read { .. }) {
                memory.fill(0, 4096, 0);
            } else {
                memory.write(0, &data);
            }
            if let Err(error) = rig.engine.submit(VdHandle(0), operation, Some(memory.clone()), lba) {
                return Some(format!("{operation}: {error}"));
            }
            let deadline = rig.engine.now() + rig::LIMIT;
            let mut done = vec![];
            while done.is_empty() {
                let now = rig.engine.now();
                if now >= deadline {
                    return Some(format!("{operation}: no completion"));
                }
                if let Err(error) = rig.engine.poll(&mut done).and_then(|_| rig.engine.wait(now + rig::LOOK)) {
                    return Some(format!("{operation}: {error}"));
                }
            }
            if let Err(error) = &done[0].result {
                return Some(format!("{operation}: {error}"));
            }
        }
        let mut back = [0; 4096];
        memory.read(0, &mut back);
        if back != data {
            return Some(format!("block {lba} reads back wrong"));
        }
        if let Some(complaint) = rig.handle.ssd_complaints().first() {
            return Some(complaint.clone());
        }
    }
    None
}

#[test]
fn a_fenced_path_survives() {
    assert_eq!(first_fault(SubmissionMode::Fenced, seed(1)), None);
}

#[test]
fn a_direct_path_is_seen_to_fail() {
    let fault = first_fault(SubmissionMode::Direct, seed(1));
    println!("seen: {fault:?}");
    assert!(fault.is_some(), "late memory went unnoticed on a direct path");
}
