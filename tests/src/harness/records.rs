//! What the SSDs received against what they should have received: the same commands, each once.

use std::collections::HashMap;

use volplane_abi::{opcode, SubmissionEntry};
use volplane_sim::CommandRecord;

use super::configuration::Route;
use volplane::software::{Fragment, Issued, Segment};

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

/// A plan's fragments, as they wait for their records.
#[derive(Debug)]
pub struct Waiting {
    /// What each fragment should be seen as.
    pub fragments: Vec<Received>,
    /// Which of them must be seen.
    pub issued: Issued,
    /// Which were seen.
    pub seen: Vec<bool>,
}

impl Waiting {
    /// None seen yet.
    pub fn new(fragments: Vec<Received>, issued: Issued) -> Self {
        let seen = vec![false; fragments.len()];
        Self { fragments, issued, seen }
    }
}

/// Gives every record to a fragment that waits for it.
///
/// # Errors
/// Names a record nobody waits for, or a plan whose fragments did not all come.
pub fn settle(plans: &mut [Waiting], records: impl IntoIterator<Item = Received>) -> Result<(), String> {
    let mut places: HashMap<Received, Vec<(usize, usize)>> = HashMap::new();
    for (number, plan) in plans.iter().enumerate() {
        for (ordinal, fragment) in plan.fragments.iter().enumerate() {
            places.entry(fragment.clone()).or_default().push((number, ordinal));
        }
    }
    for record in records {
        let Some((number, ordinal)) = places.get_mut(&record).and_then(Vec::pop) else {
            return Err(format!("a command that no plan explains: {record:x?}"));
        };
        plans[number].seen[ordinal] = true;
    }
    for (number, plan) in plans.iter().enumerate() {
        let seen = plan.seen.iter().filter(|&&seen| seen).count();
        let first = plan.seen.iter().take_while(|&&seen| seen).count();
        let complete = match plan.issued {
            Issued::All => seen == plan.fragments.len(),
            Issued::Prefix => seen == first,
        };
        if !complete {
            let missing = &plan.fragments[first];
            return Err(format!(
                "plan {number}: {seen} of {} fragments came, number {first} did not: {missing:x?}",
                plan.seen.len()
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lba: u64) -> Received {
        let segments = Some(vec![Segment { iova: 0x1000, len: 512 }]);
        Received { ssd: 0, queue: 1, command: (opcode::READ, 1, lba, 1, 0, 0, 0, 0), segments }
    }

    fn settled(issued: Issued, records: &[Received]) -> Result<(), String> {
        settle(&mut [Waiting::new(vec![read(1), read(2), read(3)], issued)], records.iter().cloned())
    }

    #[test]
    fn every_difference_is_seen() {
        let all = [read(3), read(1), read(2)];
        assert_eq!(settled(Issued::All, &all), Ok(()));
        assert!(settled(Issued::All, &all[..2]).is_err(), "one is missing");
        assert!(settled(Issued::All, &[read(1), read(2), read(3), read(3)]).is_err(), "one came twice");
        let other = |change: fn(&mut Received)| {
            let mut records = all.clone();
            change(&mut records[1]);
            settled(Issued::All, &records)
        };
        assert!(other(|record| record.ssd = 1).is_err());
        assert!(other(|record| record.queue = 2).is_err());
        assert!(other(|record| record.command.6 = 1).is_err());
        assert!(other(|record| record.segments = None).is_err());
        assert!(other(|record| record.segments.as_mut().expect("data")[0].iova += 4).is_err());
    }

    #[test]
    fn a_prefix_has_no_gap() {
        assert_eq!(settled(Issued::Prefix, &[]), Ok(()));
        assert_eq!(settled(Issued::Prefix, &[read(2), read(1)]), Ok(()));
        assert!(settled(Issued::Prefix, &[read(1), read(3)]).is_err());
        assert!(settled(Issued::Prefix, &[read(4)]).is_err());
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
