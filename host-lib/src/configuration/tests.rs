use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Backing, CompletionMode, Configuration, ConfigurationError, Endurance, TableSizes};

const GOOD: &str = r#"[card]
width = 256
[[device]]
name = "a"
file = "a.img"
size = "8MiB"
block_size = 512
[[device]]
name = "b"
memory = true
size = 8388608
block_size = 512
latency_us = 80
[[disk]]
name = "striped"
block_size = 512
allocation_size = "1MiB"
[[disk.segment]]
size = "6MiB"
columns = [
  { device = "a", offset = 0 },
  { device = "b", offset = "1MiB" },
]
stripe_unit = "64KiB"
extent_size = "256KiB"
[[disk]]
name = "linear"
block_size = 512
allocation_size = "1MiB"
[[disk.segment]]
size = "1MiB"
columns = [{ device = "a", offset = "4MiB" }]
[[disk.segment]]
size = "513KiB"
columns = [{ device = "b", offset = "4MiB" }]
"#;

fn parse(text: &str) -> Result<Configuration, ConfigurationError> {
    Configuration::parse(text, Path::new("etc/x.toml"))
}

#[test]
fn a_good_one_is_read() {
    let read = parse(GOOD).expect("good");
    assert_eq!((read.card.width, read.card.completion_mode), (256, CompletionMode::Window));
    let text = GOOD.replace("width = 256", "completion_mode = \"host\"");
    let other = parse(&text).expect("good");
    assert_eq!((other.card.width, other.card.completion_mode), (128, CompletionMode::Host));
    assert_eq!(
        read.devices[0].backing,
        Backing::File { path: Path::new("etc/a.img").into(), create: false },
        "relative to the TOML's folder"
    );
    assert_eq!((read.devices[1].blocks, read.devices[1].bytes()), (16384, 8 << 20));
    assert_eq!(read.devices[1].latency.map(|time| time.as_micros()), Some(80));
    let striped = &read.disks[0].map;
    assert_eq!((striped.block_shift, striped.allocation_shift), (9, 11));
    assert_eq!((striped.segments[0].stripe_shift, striped.segments[0].extent_shift), (7, 9));
    assert_eq!(striped.segments[0].columns[1].start, 2048);
    let linear = &read.disks[1].map;
    assert_eq!(linear.blocks(), 2048 + 1026);
    assert_eq!((linear.segments[0].stripe_shift, linear.segments[0].extent_shift), (11, 11), "defaults");
    let with = |keys: &str| parse(&GOOD.replace("name = \"linear\"", &format!("name = \"linear\"\n{keys}")));
    let bare = with("bare = true").expect("good");
    assert_eq!((read.disks[1].bare, bare.disks[0].bare, bare.disks[1].bare), (false, false, true));
    let patient = with("time_out_ms = 20\nretries = 0").expect("good");
    let endurance = Endurance { time_out: Some(Duration::from_millis(20)), retries: Some(0) };
    assert_eq!((patient.disks[1].endurance, patient.disks[0].endurance), (endurance, Endurance::default()));
}

/// What is replaced in `GOOD`, by what, and the message behind `etc/x.toml:`.
const WRONG: &[(&str, &str, &str)] = &[
    ("width = 256", "width = 200", "2: card.width: must be 128, 256 or 512, not 200"),
    (
        "width = 256",
        "completion_mode = \"bar2\"",
        "2: card.completion_mode: must be one of window, host, not \"bar2\"",
    ),
    ("width = 256", "completion_mode = 1", "2: card.completion_mode: must be a string, not an integer"),
    ("width = 256", "width = 64", "2: card.width: must be 128 to 512, not 64"),
    ("[card]", "[cart]", "1: cart: unknown key; known are state_file, card, device, disk"),
    ("[card]", "[card", "1: TOML: unclosed table, expected `]`"),
    ("memory = true\n", "memory = true\nsize = 1\n", "12: TOML: duplicate key"),
    ("memory = true", "memory = 1", "10: device[1].memory: must be true or false, not an integer"),
    ("memory = true", "file = \"a.img\"", "10: device[1].file: etc/a.img is behind device \"a\" already"),
    (
        "memory = true",
        "latency = 1",
        "10: device[1].latency: unknown key; known are name, file, memory, create, address, size, \
         block_size, latency_us, queue_depth, mdts",
    ),
    ("memory = true\n", "", "8: device[1].file: missing: a device has a file, memory = true or an address"),
    (
        "memory = true",
        "memory = true\nfile = \"b\"",
        "10: device[1].memory: a device has a file or memory, not both",
    ),
    (
        "memory = true",
        "memory = true\ncreate = true",
        "11: device[1].create: only a device with a file can be created",
    ),
    ("name = \"b\"", "name = \"a\"", "9: device[1].name: another device is called \"a\""),
    ("name = \"b\"", "name = 7", "9: device[1].name: must be a string, not an integer"),
    ("name = \"b\"", "name = \"\"", "9: device[1].name: must have 1 to 255 bytes and no control characters"),
    ("name = \"linear\"", "name = \"striped\"", "27: disk[1].name: another disk is called \"striped\""),
    ("name = \"linear\"\n", "", "26: disk[1].name: missing"),
    ("size = \"8MiB\"", "size = 0", "6: device[0].size: must not be 0"),
    ("size = \"8MiB\"", "size = 1000", "6: device[0].size: 1000 is no multiple of the block (512)"),
    ("size = \"8MiB\"", "size = 1.5", "6: device[0].size: must be a size, not a float"),
    (
        "size = \"8MiB\"",
        "size = \"8MB\"",
        "6: device[0].size: must be a size: bytes, or a string like \"64KiB\" (units B, KiB, MiB, GiB, TiB)",
    ),
    (
        "size = \"8MiB\"",
        "size = -512",
        "6: device[0].size: must be a size: bytes, or a string like \"64KiB\" (units B, KiB, MiB, GiB, TiB)",
    ),
    (
        "size = \"8MiB\"",
        "size = \"99999999TiB\"",
        "6: device[0].size: must be a size: bytes, or a string like \"64KiB\" (units B, KiB, MiB, GiB, TiB)",
    ),
    ("latency_us = 80", "latency_us = -1", "13: device[1].latency_us: must be 0 to 60000000, not -1"),
    ("latency_us = 80", "queue_depth = 1", "13: device[1].queue_depth: must be 2 to 65536, not 1"),
    ("latency_us = 80", "mdts = \"5\"", "13: device[1].mdts: must be an integer, not a string"),
    (
        "block_size = 512\nlatency_us",
        "block_size = 4096\nlatency_us",
        "22: disk[0].segment[0].columns[1].device: device \"b\" has blocks of 4096 bytes, the disk of 512",
    ),
    (
        "block_size = 512\nlatency_us",
        "block_size = 520\nlatency_us",
        "12: device[1].block_size: must be 512 or 4096, not 520",
    ),
    (
        "allocation_size = \"1MiB\"",
        "allocation_size = \"3MiB\"",
        "17: disk[0].allocation_size: must be a power of two, not 3145728",
    ),
    (
        "allocation_size = \"1MiB\"",
        "allocation_size = \"512KiB\"",
        "17: disk[0].allocation_size: must be 1048576 (1 MiB) to 2199023255552 bytes, not 524288",
    ),
    ("allocation_size = \"1MiB\"\n", "", "14: disk[0].allocation_size: missing"),
    (
        "size = \"1MiB\"\ncolumns",
        "size = \"1025KiB\"\ncolumns",
        "31: disk[1].segment[0].size: 1049600 bytes are no multiple of allocation_size (1048576); \
         only the disk's last segment may end within an allocation",
    ),
    (
        "{ device = \"b\", offset = \"1MiB\" }",
        "{ device = \"c\", offset = \"1MiB\" }",
        "22: disk[0].segment[0].columns[1].device: there is no device \"c\"",
    ),
    (
        "{ device = \"b\", offset = \"1MiB\" }",
        "{ device = \"b\" }",
        "22: disk[0].segment[0].columns[1].offset: missing",
    ),
    (
        "{ device = \"b\", offset = \"1MiB\" }",
        "{ device = \"b\", offset = 100 }",
        "22: disk[0].segment[0].columns[1].offset: 100 is no multiple of the block (512)",
    ),
    (
        "{ device = \"b\", offset = \"1MiB\" }",
        "\"b\"",
        "22: disk[0].segment[0].columns[1]: must be a table, not a string",
    ),
    (
        "{ device = \"b\", offset = \"1MiB\" }",
        "{ device = \"b\", offset = \"6MiB\" }",
        "22: disk[0].segment[0].columns[1].offset: the column ends at block 18432 of device \"b\", \
         which has 16384",
    ),
    (
        "{ device = \"b\", offset = \"1MiB\" }",
        "{ device = \"a\", offset = \"1MiB\" }",
        "22: disk[0].segment[0].columns[1].offset: blocks 2048 to 8191 of device \"a\" overlap \
         disk[0].segment[0].columns[0] of line 21 (blocks 0 to 6143)",
    ),
    (
        "offset = \"4MiB\" }]\n[[",
        "offset = \"2MiB\" }]\n[[",
        "32: disk[1].segment[0].columns[0].offset: blocks 4096 to 6143 of device \"a\" overlap \
         disk[0].segment[0].columns[0] of line 21 (blocks 0 to 6143)",
    ),
    (
        "columns = [{ device = \"a\", offset = \"4MiB\" }]",
        "columns = []",
        "32: disk[1].segment[0].columns: there must be 1 to 16 columns, not 0",
    ),
    (
        "columns = [{ device = \"a\", offset = \"4MiB\" }]",
        "columns = \"a\"",
        "32: disk[1].segment[0].columns: must be a list of tables, not a string",
    ),
    (
        "columns = [{ device = \"a\", offset = \"4MiB\" }]\n",
        "",
        "30: disk[1].segment[0].columns: there must be 1 to 16 columns, not 0",
    ),
    ("stripe_unit = \"64KiB\"\n", "", "18: disk[0].segment[0].stripe_unit: missing: several columns need it"),
    (
        "stripe_unit = \"64KiB\"",
        "stripe_unit = 256",
        "24: disk[0].segment[0].stripe_unit: must be from a block (512) to an allocation (1048576), not 256",
    ),
    (
        "stripe_unit = \"64KiB\"",
        "stripe_unit = \"96KiB\"",
        "24: disk[0].segment[0].stripe_unit: must be a power of two, not 98304",
    ),
    (
        "extent_size = \"256KiB\"",
        "extent_size = \"32KiB\"",
        "25: disk[0].segment[0].extent_size: must be from a stripe unit (65536) to an allocation \
         (1048576), not 32768",
    ),
    (
        "extent_size = \"256KiB\"",
        "extend_size = \"256KiB\"",
        "25: disk[0].segment[0].extend_size: unknown key; known are size, columns, stripe_unit, extent_size",
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
fn nothing_and_too_much_are_refused() {
    let message = |text: &str| parse(text).expect_err("wrong").to_string();
    assert_eq!(message(""), "etc/x.toml:1: device: there must be 1 to 32 devices, not 0");
    let device = |i| format!("[[device]]\nname = \"d{i}\"\nmemory = true\nsize = 512\nblock_size = 512\n");
    let many: String = (0..33).map(device).collect();
    assert_eq!(message(&many), "etc/x.toml:1: device: there must be 1 to 32 devices, not 33");
    assert_eq!(message(&device(0)), "etc/x.toml:1: disk: there must be 1 to 65536 disks, not 0");
    let disk = "[[disk]]\nname = \"d\"\nblock_size = 512\nallocation_size = \"1MiB\"\n";
    let bare = device(0) + disk;
    assert_eq!(message(&bare), "etc/x.toml:6: disk[0].segment: missing: a disk has one segment or more");
    let wide = "{ device = \"d0\", offset = 0 },".repeat(17);
    let wide = format!("{bare}[[disk.segment]]\nsize = 512\ncolumns = [{wide}]\n");
    assert_eq!(
        message(&wide),
        "etc/x.toml:12: disk[0].segment[0].columns: there must be 1 to 16 columns, not 17"
    );
    let missing = Configuration::load(Path::new("/nowhere/x.toml")).expect_err("no file").to_string();
    assert!(missing.starts_with("/nowhere/x.toml: "), "{missing}");
}

#[test]
fn files_are_looked_at_and_made_only_when_asked_for() {
    let folder = tempfile::tempdir().expect("folder");
    let toml = folder.path().join("x.toml");
    let backing = folder.path().join("a.img");
    let load = |text: &str| {
        fs::write(&toml, text).expect("written");
        Configuration::load(&toml).map_err(|error| error.to_string())
    };
    let at = |line: usize, rest: String| format!("{}:{line}: device[0].{rest}", toml.display());
    let path = backing.display();

    let missing = load(GOOD).expect_err("no backing file");
    assert_eq!(missing, at(5, format!("file: {path} does not exist, and create is not true")));
    assert!(!backing.exists());

    File::create(&backing).and_then(|file| file.set_len(4096)).expect("created");
    let short = load(GOOD).expect_err("too short");
    assert_eq!(short, at(6, format!("size: device too small: {path} has 4096 bytes, size is 8388608")));

    fs::remove_file(&backing).expect("removed");
    fs::create_dir(&backing).expect("created");
    assert_eq!(load(GOOD).expect_err("a folder"), at(5, format!("file: {path} is no regular file")));
    fs::remove_dir(&backing).expect("removed");

    let create = GOOD.replacen("a.img\"", "new/a.img\"\ncreate = true", 1);
    let read = load(&create).expect("to be created");
    let made = folder.path().join("new/a.img");
    assert!(!made.exists(), "a check makes nothing");
    read.create_files().expect("created");
    assert_eq!(fs::metadata(&made).expect("there").len(), 8 << 20);
    fs::write(&made, vec![7; 8 << 20]).expect("written");
    read.create_files().expect("there already");
    assert!(fs::read(&made).expect("there").iter().all(|&byte| byte == 7), "left as it is");
    load(&create).expect("large enough");

    fs::hard_link(&made, &backing).expect("linked");
    let twice = create.replacen("memory = true", "file = \"a.img\"", 1);
    let message = load(&twice).expect_err("one file twice");
    assert_eq!(
        message,
        format!("{}:11: device[1].file: {path} is behind device \"a\" already", toml.display())
    );
}

#[test]
fn the_card_has_room_or_the_disk_is_named() {
    let read = parse(GOOD).expect("good");
    // 6 allocations of 2 columns × 2 extents; then 2 of one extent.
    let room = TableSizes {
        disks: 2,
        devices: 2,
        allocations: 8,
        extents: 26,
        columns: 2,
        plans: 3,
        diverts: 0,
        slots: 0,
    };
    read.check_room(&room).expect("fits exactly");
    let message = |room: TableSizes| read.check_room(&room).expect_err("too much").to_string();
    assert_eq!(
        message(TableSizes { allocations: 7, ..room }),
        "etc/x.toml:29: disk[1].allocation_size: too many allocations: 8 up to this disk, \
         the card has room for 7"
    );
    assert_eq!(
        message(TableSizes { extents: 25, ..room }),
        "etc/x.toml:30: disk[1].segment: too many extents: 26 up to this disk, the card has room for 25"
    );
    assert_eq!(
        message(TableSizes { disks: 1, ..room }),
        "etc/x.toml:27: disk[1].name: too many disks: the card has room for 1"
    );
    assert_eq!(
        message(TableSizes { devices: 1, ..room }),
        "etc/x.toml:9: device[1].name: too many devices: the card has room for 1"
    );
    assert_eq!(
        message(TableSizes { columns: 1, ..room }),
        "etc/x.toml:18: disk[0].segment: too many columns: 2, the card executes 1"
    );
}

/// A valid configuration as text: devices that just hold disks of random segments, shuffled together.
fn random_text(random: &mut ChaCha8Rng) -> String {
    let block: u64 = if random.random() { 512 } else { 4096 };
    let devices = random.random_range(1..=6usize);
    let mut ends = vec![0u64; devices];
    let mut disks = String::new();
    for disk in 0..random.random_range(1..=3) {
        let allocation = 1u64 << random.random_range(20..=22);
        disks +=
            &format!("[[disk]]\nname = \"vd{disk}\"\nblock_size = {block}\nallocation_size = {allocation}\n");
        let segments = random.random_range(1..=3);
        for segment in 0..segments {
            let low = block.trailing_zeros();
            let stripe = 1u64 << random.random_range(low..=allocation.trailing_zeros());
            let extent = 1u64 << random.random_range(stripe.trailing_zeros()..=allocation.trailing_zeros());
            let mut size = allocation * random.random_range(1..=3);
            if segment + 1 == segments && random.random() {
                size -= block * random.random_range(1..allocation / block);
            }
            let columns = random.random_range(1..=16u64);
            // The space by counting: each unit in turn to its column, all columns as long as the first.
            let mut space = 0;
            for start in (0..size).step_by(allocation as usize) {
                let units = (start..size.min(start + allocation)).step_by(stripe as usize).count() as u64;
                space += (0..units).filter(|unit| unit % columns == 0).count() as u64 * stripe;
            }
            let list: Vec<String> = (0..columns)
                .map(|_| {
                    let device = random.random_range(0..devices);
                    let offset = ends[device] + block * random.random_range(0..8);
                    ends[device] = offset + space;
                    format!("{{ device = \"ssd{device}\", offset = {offset} }}")
                })
                .collect();
            disks += &format!(
                "[[disk.segment]]\nsize = {size}\ncolumns = [{}]\nstripe_unit = {stripe}\nextent_size = {extent}\n",
                list.join(", ")
            );
        }
    }
    let mut text = String::new();
    for (device, end) in ends.iter().enumerate() {
        let size = (*end).max(block);
        text += &format!(
            "[[device]]\nname = \"ssd{device}\"\nmemory = true\nsize = {size}\nblock_size = {block}\n"
        );
    }
    text + &disks
}

fn seed() -> u64 {
    let seed = match std::env::var("VOLPLANE_SEED") {
        Ok(text) => text.parse().expect("VOLPLANE_SEED is a number"),
        Err(_) => rand::rng().next_u64(),
    };
    eprintln!("replay with VOLPLANE_SEED={seed}");
    seed
}

/// Reads the tables as the card does, without `locate`.
fn look_up(map: &crate::map::DiskMap, tables: &crate::map::MapTables, lba: u64) -> (u16, u64) {
    let allocation = &tables.allocations[(lba >> map.allocation_shift) as usize];
    let block = lba % (1 << map.allocation_shift);
    let (unit, in_unit) = (block >> allocation.stripe_shift(), block % (1 << allocation.stripe_shift()));
    let columns = u64::from(allocation.columns());
    let row_block = ((unit / columns) << allocation.stripe_shift()) + in_unit;
    let extent = (row_block >> allocation.extent_shift()) * columns + unit % columns;
    let extent = &tables.extents[allocation.first_extent() as usize + extent as usize];
    (extent.device(), extent.start() + row_block % (1 << allocation.extent_shift()))
}

#[test]
fn random_layouts_never_overlap_and_tables_agree_with_arithmetic() {
    let mut random = ChaCha8Rng::seed_from_u64(seed());
    for _ in 0..40 {
        let text = random_text(&mut random);
        let read = parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let mut owners: HashMap<(u16, u64), (usize, u64)> = HashMap::new();
        for (index, disk) in read.disks.iter().enumerate() {
            let map = &disk.map;
            let tables = map.tables(0, 0);
            assert_eq!(tables.allocations.len() as u64, map.allocations(), "{text}");
            assert_eq!(tables.extents.len() as u64, map.extents(), "{text}");
            assert_eq!(map.locate(map.blocks()), None);
            let mut lba = 0;
            while lba < map.blocks() {
                let location = map.locate(lba).expect("within the disk");
                assert!(location.run > 0 && lba + location.run <= map.blocks(), "block {lba} of\n{text}");
                for i in 0..location.run {
                    let place = (location.device, location.lba + i);
                    assert_eq!(place, look_up(map, &tables, lba + i), "block {} of\n{text}", lba + i);
                    assert!(place.1 < read.devices[usize::from(place.0)].blocks, "past the end\n{text}");
                    let before = owners.insert(place, (index, lba + i));
                    assert_eq!(before, None, "two blocks in one place\n{text}");
                }
                lba += location.run;
            }
        }
        let blocks: u64 = read.disks.iter().map(|disk| disk.map.blocks()).sum();
        assert_eq!(owners.len() as u64, blocks, "every block has one place");
    }
}
