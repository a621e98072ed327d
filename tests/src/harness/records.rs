//! What an SSD received for a fragment against what it should have received.

use volplane_abi::{opcode, SubmissionEntry};
use volplane_sim::CommandRecord;

use super::configuration::Route;
use volplane::software::{Fragment, Segment};

/// Dataset Management of one range, deallocate: CDW10 and CDW11.
const DEALLOCATE_ONE: u64 = 1 << 34;

/// Everything about a command that matters, without its identifier.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Received {
    ssd: usize,
    queue: u16,
    /// Opcode, NSID, first block, blocks, deallocate, FUA, limited retry, CDW13.
    command: (u8, u32, u64, u64, u8, u8, u8, u32),
    /// Data; `None`: its pages cannot be had, and the SSD said so.
    segments: Option<Vec<Segment>>,
}

/// A command an SSD should receive for a fragment.
pub fn expected(fragment: &Fragment, route: &Route) -> Received {
    Received {
        ssd: route.ssd,
        queue: route.queue,
        command: (
            fragment.opcode,
            fragment.namespace_id,
            fragment.lba,
            fragment.blocks,
            fragment.deallocate,
            fragment.force_unit_access,
            fragment.limited_retry,
            fragment.cdw13,
        ),
        segments: fragment.segments.clone().ok(),
    }
}

/// A command an SSD received.
///
/// # Errors
/// Says which field holds what no command of the card may hold.
pub fn received(ssd: usize, record: &CommandRecord) -> Result<Received, String> {
    let entry = record.entry;
    check_unused(&entry).map_err(|field| format!("SSD {ssd} received {field} in {entry:?}"))?;
    let (mut lba, mut blocks) = (entry.starting_lba(), u64::from(entry.block_count_z()) + 1);
    let mut segments: Vec<Segment> =
        record.segments.iter().map(|part| Segment { iova: part.iova, len: part.len }).collect();
    match (entry.opcode(), record.ranges.as_slice()) {
        (opcode::FLUSH, _) => blocks = u64::from(entry.block_count_z()),
        (opcode::DATASET_MANAGEMENT, &[(first, count)]) if lba == DEALLOCATE_ONE => {
            (lba, blocks) = (first, count.into());
            segments.clear();
        }
        (opcode::DATASET_MANAGEMENT, ranges) => {
            return Err(format!("SSD {ssd} received ranges {ranges:?} in {entry:?}"));
        }
        _ => {}
    }
    Ok(Received {
        ssd,
        queue: record.queue,
        command: (
            entry.opcode(),
            entry.namespace_id(),
            lba,
            blocks,
            entry.deallocate(),
            entry.force_unit_access(),
            entry.limited_retry(),
            entry.cdw13(),
        ),
        segments: (record.status == 0).then_some(segments),
    })
}

fn check_unused(entry: &SubmissionEntry) -> Result<(), &'static str> {
    let unused: [(&str, u64); 8] = [
        ("a fused operation", entry.fuse().into()),
        ("SGLs", entry.psdt().into()),
        ("reserved bits of CDW0", entry.reserved_cdw0().into()),
        ("CDW2 or CDW3", entry.cdw2_3()),
        ("metadata", entry.metadata_pointer()),
        ("reserved bits of CDW12", entry.reserved_cdw12().into()),
        ("protection information", entry.protection().into()),
        ("CDW14 or CDW15", entry.cdw14_15()),
    ];
    unused.iter().find(|field| field.1 != 0).map_or(Ok(()), |field| Err(field.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lba: u64) -> Received {
        let segments = Some(vec![Segment { iova: 0x1000, len: 512 }]);
        Received { ssd: 0, queue: 1, command: (opcode::READ, 1, lba, 1, 0, 0, 0, 0), segments }
    }

    #[test]
    fn fields_that_carry_nothing_are_zero() {
        let record = |entry: SubmissionEntry| CommandRecord {
            order: 0,
            at_ns: 0,
            queue: 1,
            entry,
            segments: vec![volplane_sim::Segment { iova: 0x1000, len: 512 }],
            ranges: Vec::new(),
            status: 0,
        };
        let entry =
            SubmissionEntry::default().with_opcode(opcode::READ).with_namespace_id(1).with_starting_lba(7);
        assert_eq!(received(0, &record(entry)), Ok(read(7)));
        assert!(received(0, &record(entry.with_metadata_pointer(1 << 40))).is_err());
        assert!(received(0, &record(entry.with_protection(2))).is_err());
        assert!(received(0, &record(entry.with_opcode(opcode::DATASET_MANAGEMENT))).is_err());
    }
}
