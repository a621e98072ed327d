//! Mirrored disks: what is read, and each wrong field by its line.

use std::path::Path;
use std::time::Duration;

use super::{Configuration, ConfigurationError, TableSizes};
use crate::software::{Components, MaskSet, ReadPolicy};

const GOOD: &str = r#"state_file = "kept/what.state"
[[device]]
name = "a"
memory = true
size = "8MiB"
block_size = 512
[[device]]
name = "b"
memory = true
size = "8MiB"
block_size = 512
[[disk]]
name = "mirrored"
block_size = 512
allocation_size = "1MiB"
read_policy = "round-robin"
minimum = 2
[disk.writes]
success = [0, 2]
log = "none"
deactivate = [1]
[disk.reads]
log_with_data = "all"
[[disk.mirror]]
[[disk.mirror.segment]]
size = "2MiB"
columns = [{ device = "a", offset = 0 }]
[[disk.mirror]]
time_out_ms = 250
retries = 7
[[disk.mirror.segment]]
size = "2MiB"
columns = [{ device = "a", offset = "4MiB" }, { device = "b", offset = 0 }]
stripe_unit = "64KiB"
[[disk.mirror]]
segment = [{ size = "2MiB", columns = [{ device = "b", offset = "4MiB" }] }]
[[disk]]
name = "plain"
block_size = 512
allocation_size = "1MiB"
segment = [{ size = "1MiB", columns = [{ device = "b", offset = "7MiB" }] }]
"#;

fn parse(text: &str) -> Result<Configuration, ConfigurationError> {
    Configuration::parse(text, Path::new("etc/x.toml"))
}

#[test]
fn a_mirrored_disk_is_read() {
    let read = parse(GOOD).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(read.state_file, Path::new("etc/kept/what.state"));
    let disk = &read.disks[0];
    let plan = disk.plan.as_ref().expect("copies");
    assert_eq!((plan.mirrors.len(), disk.maps().count(), read.disks[1].maps().count()), (3, 3, 1));
    assert_eq!(disk.map, plan.mirrors[0].map);
    assert_eq!(plan.mirrors[1].map.segments[0].columns.len(), 2);
    let more: Vec<_> =
        plan.mirrors.iter().map(|mirror| (mirror.endurance.time_out, mirror.endurance.retries)).collect();
    assert_eq!(more, [(None, None), (Some(Duration::from_millis(250)), Some(7)), (None, None)]);
    let all = Components(7);
    let writes = MaskSet {
        continuation: all,
        success: Components(5),
        deactivate: Components(2),
        ..MaskSet::default()
    };
    assert_eq!((plan.writes, plan.minimum, plan.read_policy), (writes, 2, ReadPolicy::RoundRobin));
    let reads = MaskSet { continuation: all, log: all, log_with_data: all, ..MaskSet::default() };
    assert_eq!(plan.reads, reads);
    // The state file is beside the configuration if nothing else is said.
    let (_, rest) = GOOD.split_once('\n').expect("lines");
    assert_eq!(parse(rest).expect("good").state_file, Path::new("etc/x.toml.state"));
}

#[test]
fn what_is_not_said_forgives_and_logs() {
    let from = GOOD.find("read_policy").expect("there");
    let to = GOOD.find("[[disk.mirror]]").expect("there");
    let read = parse(&format!("{}{}", &GOOD[..from], &GOOD[to..])).expect("good");
    let plan = read.disks[0].plan.as_ref().expect("copies");
    let all = Components(7);
    let masks = MaskSet { continuation: all, log: all, ..MaskSet::default() };
    assert_eq!((plan.reads, plan.writes), (masks, masks));
    assert_eq!((plan.minimum, plan.read_policy), (1, ReadPolicy::Preferred(0)));
}

/// What is replaced in `GOOD`, by what, and the message behind `etc/x.toml:`.
const WRONG: &[(&str, &str, &str)] = &[
    (
        "read_policy = \"round-robin\"",
        "read_policy = \"random\"",
        "16: disk[0].read_policy: must be one of preferred, round-robin, least-outstanding, not \"random\"",
    ),
    ("minimum = 2", "minimum = 4", "17: disk[0].minimum: must be 0 to 3, not 4"),
    ("minimum = 2", "preferred = 1", "17: disk[0].preferred: of no meaning with this read_policy"),
    ("read_policy = \"round-robin\"", "preferred = 3", "16: disk[0].preferred: must be 0 to 2, not 3"),
    (
        "success = [0, 2]",
        "success = [0, 3]",
        "19: disk[0].writes.success: must be \"all\", \"none\" or a list of numbers from 0 to 2",
    ),
    (
        "success = [0, 2]",
        "success = \"some\"",
        "19: disk[0].writes.success: must be \"all\", \"none\" or a list of numbers from 0 to 2",
    ),
    ("deactivate = [1]", "log_with_data = [1]", "21: disk[0].writes.log_with_data: mirror 1 is not in log"),
    (
        "log_with_data = \"all\"",
        "success = \"all\"",
        "23: disk[0].reads.success: unknown key; known are continuation, log, log_with_data, deactivate",
    ),
    (
        "time_out_ms = 250",
        "time_out_ms = 16001",
        "29: disk[0].mirror[1].time_out_ms: must be 0 to 16000, not 16001",
    ),
    ("retries = 7", "retries = 256", "30: disk[0].mirror[1].retries: must be 0 to 255, not 256"),
    (
        "retries = 7",
        "tries = 7",
        "30: disk[0].mirror[1].tries: unknown key; known are time_out_ms, retries, segment",
    ),
    (
        "segment = [{ size = \"2MiB\"",
        "segment = [{ size = \"1MiB\"",
        "36: disk[0].mirror[2].segment: 2048 blocks, where the first mirror has 4096",
    ),
    (
        "segment = [{ size = \"2MiB\", columns = [{ device = \"b\", offset = \"4MiB\" }] }]",
        "",
        "35: disk[0].mirror[2].segment: missing: a mirror has one segment or more",
    ),
    (
        "{ device = \"b\", offset = \"4MiB\" }",
        "{ device = \"b\", offset = 0 }",
        "36: disk[0].mirror[2].segment[0].columns[0].offset: blocks 0 to 4095 of device \"b\" overlap \
         disk[0].mirror[1].segment[0].columns[1] of line 33 (blocks 0 to 2047)",
    ),
    (
        "name = \"plain\"",
        "name = \"plain\"\nminimum = 1",
        "39: disk[1].minimum: only a disk with mirrors has it",
    ),
    (
        "name = \"plain\"",
        "name = \"plain\"\ntime_out_ms = 16001",
        "39: disk[1].time_out_ms: must be 0 to 16000, not 16001",
    ),
    (
        "name = \"plain\"",
        "name = \"plain\"\nbare = true\nretries = 1",
        "40: disk[1].retries: a bare disk has none",
    ),
    (
        "read_policy = \"round-robin\"",
        "read_policy = \"round-robin\"\nbare = true",
        "17: disk[0].bare: only a disk without mirrors has it; each mirror has its own",
    ),
    (
        "name = \"plain\"",
        "name = \"plain\"\nmirror = [{}, {}]",
        "42: disk[1].segment: a disk has segments or mirrors, not both",
    ),
    (
        "segment = [{ size = \"1MiB\"",
        "mirror = [{ segment = [] }] #",
        "41: disk[1].mirror: there must be 2 to 8 mirrors, not 1",
    ),
];

#[test]
fn each_wrong_field_is_named_with_its_line() {
    for &(from, to, expected) in WRONG {
        assert!(GOOD.contains(from), "{from:?} is not in the text");
        let message = match parse(&GOOD.replacen(from, to, 1)) {
            Ok(_) => panic!("{to:?} was taken"),
            Err(error) => error.to_string(),
        };
        assert_eq!(message, format!("etc/x.toml:{expected}"));
    }
}

#[test]
fn copies_take_room_too() {
    let read = parse(GOOD).expect("good");
    let room = TableSizes {
        disks: 4,
        devices: 2,
        allocations: 7,
        extents: 9,
        columns: 2,
        plans: 3,
        diverts: 0,
        slots: 0,
    };
    read.check_room(&room).expect("fits exactly");
    let message = |room: TableSizes| read.check_room(&room).expect_err("too much").to_string();
    assert_eq!(
        message(TableSizes { plans: 2, ..room }),
        "etc/x.toml:38: disk[1].name: too many disks that are not bare: the card has room for 1"
    );
    assert_eq!(
        message(TableSizes { disks: 3, ..room }),
        "etc/x.toml:38: disk[1].name: too many disks: the card has room for 3"
    );
    assert!(message(TableSizes { allocations: 6, ..room }).contains("disk[1].allocation_size: too many"));
    assert!(message(TableSizes { extents: 8, ..room }).contains("disk[1].segment: too many extents: 9"));
    assert!(message(TableSizes { columns: 1, ..room }).contains("disk[0].segment: too many columns: 2"));
}
