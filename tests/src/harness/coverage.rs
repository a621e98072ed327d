//! What a run has met, so that a test can insist that its traffic is as varied as it claims.

use std::collections::BTreeMap;

use volplane_abi::opcode;
use volplane_abi::status::{self, DNR};

use volplane::software::{Cuts, Fragment, Issued};

const SENT: &str = "sent";
const SENT_DEEP: &str = "sent with many in flight";
const ZEROS: &str = "zeros";
/// Of 1,000 commands, how many at least read zeros.
const ZEROS_PER_MILLE: u64 = 10;
/// Of 100 commands to mirrored disks, how many at least find many in flight.
const DEEP_PERCENT: u64 = 90;

/// What parts that failed must have met at least so often, in all machines of a test.
const RETRIES: [(&str, u64); 7] = [
    ("a part that avoids a path", 750),
    ("a part that fails where another did", 80),
    ("a part tried again", 750),
    ("a part that tries all paths again", 200),
    ("a part that succeeds when it is tried again", 600),
    ("a part that failed on all paths", 100),
    ("a part that has used up its tries", 150),
];

/// What commands that compare must have met, in all machines of a test.
const COMPARES: [(&str, u64); 5] = [
    (COMPARE_EQUAL, 200),
    (COMPARE_DIFFERENT, 200),
    (COMPARE_OF_WRITTEN, 100),
    (COMPARE_AGAIN, 10),
    (COMPARE_FURTHER, 5),
];
/// What late commands, and paths that are made anew, must have met, in all machines of a test.
const FENCES: [(&str, u64); 11] = [
    ("a fence", 80),
    ("a path made anew unasked", 20),
    ("an answer that came late", 500),
    ("an answer on a path that was closed", 100),
    ("an unanswered command quiesced", 80),
    ("a command cut off by the deletion of its queue", 500),
    ("a write given again after a fence", 300),
    ("a read given again after a fence", 200),
    ("a part that waits for a path", 200),
    ("a record that tells of a time-out", 20),
    ("a fragment given back by a closed path", 20),
];
/// What controllers that die or are reset, and paths that stay closed, must have met, in all machines of a test.
const OUTAGES: [(&str, u64); 17] = [
    ("a dead path", 8),
    ("a path killed by a command", 12),
    ("a dead device", 8),
    ("a device killed by a command", 8),
    ("a controller reset as a fence", 25),
    ("a command cut off by the reset of its controller", 5),
    ("a death found where queues were to be deleted", 30),
    ("a death found by a look", 5),
    ("an outage when the last command was sent", 2),
    ("an effect as its controller died", 30),
    ("a command lost with its controller", 1_500),
    ("a command by another path than a dead one", 200),
    ("a command by another path than a closed one", 2_000),
    ("a part without a path", 250),
    ("a path closed for a while", 50),
    ("a path given up for now", 50),
    ("a copy brought up after its controller was there again", 15),
];
/// A Compare that succeeds,
pub const COMPARE_EQUAL: &str = "a Compare of what is equal";
/// that an SSD ended as it found a difference,
pub const COMPARE_DIFFERENT: &str = "a Compare that finds a difference";
/// that succeeds with blocks some of which were just written,
pub const COMPARE_OF_WRITTEN: &str = "a Compare of what was just written";
/// that was tried again,
pub const COMPARE_AGAIN: &str = "a Compare that is tried again";
/// or went on with another copy.
pub const COMPARE_FURTHER: &str = "a Compare with a further copy";

/// Those of them that disks without a plan meet as well: they have tries for want of a path only.
const OF_PATHS: [&str; 4] = [
    "a part that avoids a path",
    "a part that tries all paths again",
    "a part that succeeds when it is tried again",
    "a part that failed on all paths",
];
const ALONE: &str = "without a plan";

/// How often each kind of command was met.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    counts: BTreeMap<String, u64>,
    /// Most cycles after the last fault until nothing was left, and where it came closest to its limit.
    drained: (u64, (u64, u64)),
}

impl Coverage {
    /// Notes a command, its cuts and its status.
    pub fn note(&mut self, code: u8, cuts: &Cuts, status: u16) {
        let fragments = cuts.fragments.len();
        self.count(format!("opcode {code:#04x} done"), status == status::SUCCESS);
        self.count(format!("status {status:#06x}"), true);
        self.count("several fragments".into(), fragments > 1);
        self.count("hundreds of fragments".into(), fragments >= 200);
        self.count("cut before a chain pointer".into(), cuts.chain_cuts > 0);
        self.count("a wrong list entry behind fragments".into(), cuts.issued == Issued::Prefix);
        self.count("stopped on the way".into(), fragments > 0 && cuts.closing != status::SUCCESS);
        let zeros = |fragment: &Fragment| fragment.zeros;
        let (some, all) = (cuts.fragments.iter().any(zeros), cuts.fragments.iter().all(zeros));
        self.count(ZEROS.into(), some && status == status::SUCCESS);
        self.count("zeros beside data".into(), some && !all && status == status::SUCCESS);
        let no_page = some && status & !DNR == status::DATA_TRANSFER_ERROR;
        self.count("zeros that have no page".into(), no_page);
        let wrong = some && status == status::INVALID_PRP_OFFSET | DNR;
        self.count("zeros whose list is wrong".into(), wrong);
    }

    /// Notes a command that was sent, and whether many were in flight.
    pub fn sent(&mut self, deep: bool) {
        self.count(SENT.into(), true);
        self.count(SENT_DEEP.into(), deep);
    }

    /// Commands that were sent.
    pub fn commands(&self) -> u64 {
        self.counts.get(SENT).copied().unwrap_or(0)
    }

    /// What was met of plans, and how often.
    pub fn plans(&self) -> String {
        let of_plans = |what: &String| !what.starts_with("status ") && !what.starts_with("opcode ");
        let met = self.counts.iter().filter(|(what, _)| of_plans(what));
        met.map(|(what, count)| format!("{what}: {count}\n")).collect()
    }

    /// Notes how many cycles after the last fault nothing was left, and how many it might have taken.
    pub fn drained(&mut self, cycles: u64, limit: u64) {
        let (longest, (closest, of)) = &mut self.drained;
        *longest = cycles.max(*longest);
        if cycles * *of >= *closest * limit {
            (*closest, *of) = (cycles, limit);
        }
    }

    /// The longest that anything took to end after the last fault.
    pub fn ends(&self) -> String {
        let (longest, (closest, of)) = self.drained;
        format!(
            "all ended at most {longest} cycles after the last fault, at the closest in {closest} of {of}"
        )
    }

    /// Notes something else that was met.
    pub fn met(&mut self, what: &str) {
        self.count(what.to_owned(), true);
    }

    /// Notes what was met of a disk without a plan.
    pub fn met_alone(&mut self, what: &str) {
        self.count(format!("{ALONE}: {what}"), true);
    }

    /// Panics unless the traffic of mirrored disks has met everything that it can bring about.
    pub fn assert_plans_complete(&self) {
        let needed = [
            "a write to several copies",
            "a write that fails",
            "a write without a copy",
            "a component moved out",
            "a read of the least busy copy",
            "a read of a less busy copy than the first",
            "a read of a further copy",
            "a read of no copy",
            "a disk deactivated by a failure",
            "refused by a deactivated disk",
            "refused before it was begun",
            "nobody to go to",
            "a plan of the control path",
            "a missed write held",
            "a plan held for its data",
            "a failure logged",
            "a plan released",
            "a plan completed by the control path",
            "a plan resubmitted",
            "a plan resubmitted in part",
            "a component cannot be restarted, or must be",
            "its disk has another template than when it was begun",
            "a write begun in part",
            "a write that only goes on",
            "a read that goes on",
            "a plan stopped before its end",
            "a plan taken over",
            "a plan aborted",
            "an extent that faults",
            "a plan not for hardware",
            "a plan diverted",
            "a part of a stopped plan",
            "a plan that is gone",
            "a plan not to be decided so",
            "a state changed under load",
            "a template switched under load",
            "a commit under load",
            "an epoch open under its commands",
            "an epoch closed under load",
            "an error for a time",
            "an error after its effect",
            "a delay",
            "a reordering SSD",
            "a slow SSD",
            "an answer lost after its effect",
            "a command lost",
            "a delay beyond time-outs",
            "a zombie",
            "a queue with all its slots",
            "a disk with all its slots",
        ];
        for what in needed {
            assert!(self.counts.contains_key(what), "{what} was never met: {:#?}", self.counts);
        }
        for (what, least) in RETRIES.into_iter().chain(COMPARES).chain(FENCES).chain(OUTAGES) {
            let found = self.counts.get(what).copied().unwrap_or(0);
            assert!(found >= least, "{what} was met {found} times, expected {least}");
        }
        for what in OF_PATHS {
            let alone = format!("{ALONE}: {what}");
            assert!(self.counts.contains_key(&alone), "{alone} was never met: {:#?}", self.counts);
        }
        self.assert_zeros();
        let deep = self.counts.get(SENT_DEEP).copied().unwrap_or(0);
        assert!(deep * 100 >= self.commands() * DEEP_PERCENT, "{deep} of {} were deep", self.commands());
    }

    /// Adds what another run has met.
    pub fn merge(&mut self, other: &Coverage) {
        for (what, count) in &other.counts {
            *self.counts.entry(what.clone()).or_default() += count;
        }
        let (longest, (closest, of)) = other.drained;
        self.drained(closest, of);
        self.drained.0 = self.drained.0.max(longest);
    }

    /// Panics unless everything that the traffic can bring about was met.
    pub fn assert_complete(&self) {
        let statuses = [
            status::SUCCESS,
            status::DATA_TRANSFER_ERROR,
            status::INVALID_OPCODE | DNR,
            status::INVALID_FIELD | DNR,
            status::INTERNAL_ERROR | DNR,
            status::INVALID_NAMESPACE | DNR,
            status::INVALID_PRP_OFFSET | DNR,
            status::LBA_OUT_OF_RANGE | DNR,
            status::NAMESPACE_NOT_READY | DNR,
            // Errors of SSDs, see `faults`: More and the retry delay do not come through.
            0x0281,
            0x4281,
            0x0280,
        ];
        let codes =
            [opcode::READ, opcode::WRITE, opcode::FLUSH, opcode::WRITE_ZEROES, opcode::DATASET_MANAGEMENT];
        let needed = statuses.iter().map(|status| format!("status {status:#06x}"));
        let needed = needed.chain(codes.iter().map(|code| format!("opcode {code:#04x} done")));
        let shapes = [
            "several fragments",
            "hundreds of fragments",
            "cut before a chain pointer",
            "a wrong list entry behind fragments",
            "stopped on the way",
            "zeros beside data",
            "zeros that have no page",
            "zeros whose list is wrong",
            "a queue with all its slots",
            "a disk with all its slots",
        ];
        for what in needed.chain(shapes.map(str::to_owned)) {
            assert!(self.counts.contains_key(&what), "{what} was never met: {:#?}", self.counts);
        }
        self.assert_zeros();
    }

    fn assert_zeros(&self) {
        let zeros = self.counts.get(ZEROS).copied().unwrap_or(0);
        assert!(
            zeros * 1_000 >= self.commands() * ZEROS_PER_MILLE,
            "{zeros} of {} read zeros",
            self.commands()
        );
    }

    fn count(&mut self, what: String, met: bool) {
        if met {
            *self.counts.entry(what).or_default() += 1;
        }
    }
}
