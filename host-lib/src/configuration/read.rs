//! From TOML to `Configuration`: every field by itself.

use std::path::Path;
use std::time::Duration;

use volplane_abi::plan::COMPONENTS_MAX;

use super::document::{Section, Source};
use super::{
    Backing, CardOptions, Configuration, ConfigurationError, Device, Disk, DiskPlan, Endurance, Mirror,
    Origin,
};
use crate::engine::CompletionMode;
use crate::map::{Column, DiskMap, Segment};
use crate::software::{Components, MaskSet, ReadPolicy};

const CARD_KEYS: &[&str] = &["width", "completion_mode"];
const COMPLETION_MODES: &[&str] = &["window", "host"];
const DEVICE_KEYS: &[&str] = &[
    "name",
    "file",
    "memory",
    "create",
    "address",
    "size",
    "block_size",
    "latency_us",
    "queue_depth",
    "mdts",
];
const DISK_KEYS: &[&str] = &[
    "name",
    "block_size",
    "allocation_size",
    "segment",
    "mirror",
    "time_out_ms",
    "retries",
    "bare",
    "read_policy",
    "preferred",
    "minimum",
    "reads",
    "writes",
];
/// Keys of a disk that speak of copies.
const PLAN_KEYS: &[&str] = &["read_policy", "preferred", "minimum", "reads", "writes"];
/// Keys of a disk without copies: of a mirrored one each copy has its own.
const SINGLE_KEYS: &[&str] = &["time_out_ms", "retries", "bare"];
const READ_MASK_KEYS: &[&str] = &["continuation", "log", "log_with_data", "deactivate"];
const WRITE_MASK_KEYS: &[&str] = &["continuation", "success", "log", "log_with_data", "deactivate"];
const MIRROR_KEYS: &[&str] = &["time_out_ms", "retries", "segment"];
const READ_POLICIES: &[&str] = &["preferred", "round-robin", "least-outstanding"];
const SEGMENT_KEYS: &[&str] = &["size", "columns", "stripe_unit", "extent_size"];
const COLUMN_KEYS: &[&str] = &["device", "offset"];

/// `VdEntry::flush_devices` has a bit for each.
const DEVICES_MAX: usize = 32;
/// A handle has 16 bits.
const DISKS_MAX: usize = 1 << 16;
/// `VdEntry::size_blocks` and `ExtentEntry::start` have 48 bits.
const BLOCKS_MAX: u64 = (1 << 48) - 1;
const COLUMNS_MAX: usize = 16;
/// `ComponentEntry::time_out` has 24 bits, and a tick of the software data path is a microsecond.
const TIME_OUT_MS_MAX: u32 = 16_000;
pub(crate) const ALLOCATION_BYTES_MIN: u64 = 1 << 20;
const ALLOCATION_BLOCKS_MAX: u64 = 1 << 32;

pub(super) fn configuration(text: &str, file: &Path) -> Result<Configuration, ConfigurationError> {
    let source = Source::new(text, file)?;
    let root = source.root(&["state_file", "card", "device", "disk"])?;
    let card = match root.section("card", CARD_KEYS)? {
        Some(section) => card(&section)?,
        None => CardOptions::default(),
    };
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut devices: Vec<Device> = Vec::new();
    for section in root.list("device", DEVICE_KEYS)? {
        let device = device(&section, folder)?;
        distinct(&section, &device, &devices)?;
        devices.push(device);
    }
    if !(1..=DEVICES_MAX).contains(&devices.len()) {
        let problem = format!("there must be 1 to {DEVICES_MAX} devices, not {}", devices.len());
        return Err(root.wrong("device", problem));
    }
    let mut disks: Vec<Disk> = Vec::new();
    for section in root.list("disk", DISK_KEYS)? {
        let disk = disk(&section, &devices)?;
        if disks.iter().any(|other| other.name == disk.name) {
            return Err(section.wrong("name", format!("another disk is called {:?}", disk.name)));
        }
        disks.push(disk);
    }
    if !(1..=DISKS_MAX).contains(&disks.len()) {
        let problem = format!("there must be 1 to {DISKS_MAX} disks, not {}", disks.len());
        return Err(root.wrong("disk", problem));
    }
    let state_file = match root.string("state_file")? {
        Some(name) => folder.join(name),
        None => {
            let mut name = file.as_os_str().to_owned();
            name.push(".state");
            name.into()
        }
    };
    Ok(Configuration { card, devices, disks, state_file, file: file.to_owned() })
}

fn card(section: &Section<'_>) -> Result<CardOptions, ConfigurationError> {
    let mut card = CardOptions::default();
    if let Some(width) = section.integer("width", 128, 512)? {
        if !width.is_power_of_two() {
            return Err(section.wrong("width", format!("must be 128, 256 or 512, not {width}")));
        }
        card.width = width;
    }
    if section.word("completion_mode", COMPLETION_MODES)? == Some(1) {
        card.completion_mode = CompletionMode::Host;
    }
    Ok(card)
}

fn device(section: &Section<'_>, folder: &Path) -> Result<Device, ConfigurationError> {
    let name = section.require("name", section.string("name")?)?;
    let address = section.string("address")?;
    let block_size = block_size(section)?;
    let blocks = blocks(section, "size", block_size)?;
    let latency_us = section.integer("latency_us", 0, 60_000_000)?;
    Ok(Device {
        name,
        backing: backing(section, folder, address.is_some())?,
        address,
        blocks,
        block_size,
        latency: latency_us.map(|us| Duration::from_micros(us.into())),
        queue_depth: section.integer("queue_depth", 2, 1 << 16)?,
        mdts: section.integer("mdts", 0, 16)?.map(|mdts| mdts as u8),
        origin: section.origin(),
    })
}

fn backing(section: &Section<'_>, folder: &Path, address: bool) -> Result<Backing, ConfigurationError> {
    let file = section.string("file")?;
    let memory = section.boolean("memory")?.unwrap_or(false);
    let create = section.boolean("create")?;
    if create.is_some() && file.is_none() {
        return Err(section.wrong("create", "only a device with a file can be created"));
    }
    match (file, memory) {
        (Some(_), true) => Err(section.wrong("memory", "a device has a file or memory, not both")),
        (Some(file), false) => Ok(Backing::File { path: folder.join(file), create: create.unwrap_or(false) }),
        (None, true) => Ok(Backing::Memory),
        (None, false) if address => Ok(Backing::Function),
        (None, false) => {
            Err(section.wrong("file", "missing: a device has a file, memory = true or an address"))
        }
    }
}

/// Refuses a device that shares what must be its own with one of `others`.
fn distinct(section: &Section<'_>, device: &Device, others: &[Device]) -> Result<(), ConfigurationError> {
    for other in others {
        if other.name == device.name {
            return Err(section.wrong("name", format!("another device is called {:?}", device.name)));
        }
        if let (Backing::File { path, .. }, Backing::File { path: theirs, .. }) =
            (&device.backing, &other.backing)
        {
            if path == theirs {
                let problem = format!("{} is behind device {:?} already", path.display(), other.name);
                return Err(section.wrong("file", problem));
            }
        }
        if device.address.is_some() && device.address == other.address {
            return Err(section.wrong("address", format!("device {:?} has it already", other.name)));
        }
    }
    Ok(())
}

fn disk(section: &Section<'_>, devices: &[Device]) -> Result<Disk, ConfigurationError> {
    let name = section.require("name", section.string("name")?)?;
    let block_size = block_size(section)?;
    let allocation = power_of_two(section, "allocation_size")?;
    let allocation = section.require("allocation_size", allocation)?;
    let most = ALLOCATION_BLOCKS_MAX * u64::from(block_size);
    if !(ALLOCATION_BYTES_MIN..=most).contains(&allocation) {
        let problem = format!("must be {ALLOCATION_BYTES_MIN} (1 MiB) to {most} bytes, not {allocation}");
        return Err(section.wrong("allocation_size", problem));
    }
    if !section.has("mirror") {
        if let Some(key) = PLAN_KEYS.iter().find(|key| section.has(key)) {
            return Err(section.wrong(key, "only a disk with mirrors has it"));
        }
        let (map, column_origins) = map(section, "a disk", devices, block_size, allocation)?;
        let (endurance, origin) = (endurance(section)?, section.origin());
        let bare = section.boolean("bare")?.unwrap_or(false);
        if let Some(key) = SINGLE_KEYS[..2].iter().find(|key| bare && section.has(key)) {
            return Err(section.wrong(key, "a bare disk has none"));
        }
        return Ok(Disk { name, map, plan: None, endurance, bare, origin, column_origins });
    }
    if let Some(key) = SINGLE_KEYS.iter().find(|key| section.has(key)) {
        return Err(section.wrong(key, "only a disk without mirrors has it; each mirror has its own"));
    }
    if section.has("segment") {
        return Err(section.wrong("segment", "a disk has segments or mirrors, not both"));
    }
    let plan = plan(section, devices, block_size, allocation)?;
    let map = plan.mirrors[0].map.clone();
    let (endurance, origin) = (Endurance::default(), section.origin());
    Ok(Disk { name, map, plan: Some(plan), endurance, bare: false, origin, column_origins: Vec::new() })
}

fn endurance(section: &Section<'_>) -> Result<Endurance, ConfigurationError> {
    let time_out_ms = section.integer("time_out_ms", 0, TIME_OUT_MS_MAX)?;
    let time_out = time_out_ms.map(|ms| Duration::from_millis(ms.into()));
    let retries = section.integer("retries", 0, u8::MAX.into())?.map(|retries| retries as u8);
    Ok(Endurance { time_out, retries })
}

fn plan(
    section: &Section<'_>,
    devices: &[Device],
    block_size: u32,
    allocation: u64,
) -> Result<DiskPlan, ConfigurationError> {
    let sections = section.list("mirror", MIRROR_KEYS)?;
    if !(2..=COMPONENTS_MAX).contains(&sections.len()) {
        let problem = format!("there must be 2 to {COMPONENTS_MAX} mirrors, not {}", sections.len());
        return Err(section.wrong("mirror", problem));
    }
    let mut mirrors: Vec<Mirror> = Vec::new();
    for section in &sections {
        let (map, column_origins) = map(section, "a mirror", devices, block_size, allocation)?;
        if let Some(first) = mirrors.first().filter(|first| first.map.blocks() != map.blocks()) {
            let (blocks, wanted) = (map.blocks(), first.map.blocks());
            return Err(
                section.wrong("segment", format!("{blocks} blocks, where the first mirror has {wanted}"))
            );
        }
        mirrors.push(Mirror { map, endurance: endurance(section)?, column_origins });
    }
    let count = mirrors.len();
    let preferred = section.integer("preferred", 0, count as u32 - 1)?;
    let read_policy = match section.word("read_policy", READ_POLICIES)? {
        None | Some(0) => ReadPolicy::Preferred(preferred.unwrap_or(0) as u8),
        Some(_) if preferred.is_some() => {
            return Err(section.wrong("preferred", "of no meaning with this read_policy"));
        }
        Some(1) => ReadPolicy::RoundRobin,
        Some(_) => ReadPolicy::LeastOutstanding,
    };
    Ok(DiskPlan {
        reads: masks(section.section("reads", READ_MASK_KEYS)?.as_ref(), count)?,
        writes: masks(section.section("writes", WRITE_MASK_KEYS)?.as_ref(), count)?,
        minimum: section.integer("minimum", 0, count as u32)?.unwrap_or(1) as u8,
        mirrors,
        read_policy,
    })
}

/// The masks of `count` copies: what fails is forgiven and told of, unless the file says otherwise.
fn masks(section: Option<&Section<'_>>, count: usize) -> Result<MaskSet, ConfigurationError> {
    let all = Components::of(|number| number < count);
    let mut masks = MaskSet { continuation: all, log: all, ..MaskSet::default() };
    let Some(section) = section else { return Ok(masks) };
    for (field, mask) in [
        ("continuation", &mut masks.continuation),
        ("success", &mut masks.success),
        ("log", &mut masks.log),
        ("log_with_data", &mut masks.log_with_data),
        ("deactivate", &mut masks.deactivate),
    ] {
        if let Some(bits) = section.bits(field, count)? {
            *mask = Components(bits);
        }
    }
    if let Some(number) = masks.log_with_data.without(masks.log).numbers().next() {
        return Err(section.wrong("log_with_data", format!("mirror {number} is not in log")));
    }
    Ok(masks)
}

/// The segments of a disk or of a copy, and where their columns stand.
fn map(
    section: &Section<'_>,
    whose: &str,
    devices: &[Device],
    block_size: u32,
    allocation: u64,
) -> Result<(DiskMap, Vec<Vec<Origin>>), ConfigurationError> {
    let sections = section.list("segment", SEGMENT_KEYS)?;
    let Some(last) = sections.len().checked_sub(1) else {
        return Err(section.wrong("segment", format!("missing: {whose} has one segment or more")));
    };
    let (mut segments, mut column_origins) = (Vec::new(), Vec::new());
    for (index, segment) in sections.iter().enumerate() {
        let (read, origins) = self::segment(segment, devices, block_size, allocation)?;
        let bytes = read.blocks * u64::from(block_size);
        if index < last && bytes % allocation != 0 {
            let problem = format!(
                "{bytes} bytes are no multiple of allocation_size ({allocation}); \
                 only the disk's last segment may end within an allocation"
            );
            return Err(segment.wrong("size", problem));
        }
        segments.push(read);
        column_origins.push(origins);
    }
    let map = DiskMap {
        block_shift: block_size.trailing_zeros() as u8,
        allocation_shift: (allocation / u64::from(block_size)).trailing_zeros() as u8,
        segments,
    };
    // The sum of segments that are in bounds one by one may not be.
    let total = map.segments.iter().try_fold(0u64, |sum, segment| sum.checked_add(segment.blocks));
    if total.is_none_or(|blocks| blocks > BLOCKS_MAX) {
        return Err(section.wrong("segment", format!("a disk has at most {BLOCKS_MAX} blocks")));
    }
    Ok((map, column_origins))
}

fn segment(
    section: &Section<'_>,
    devices: &[Device],
    block_size: u32,
    allocation: u64,
) -> Result<(Segment, Vec<Origin>), ConfigurationError> {
    let blocks = blocks(section, "size", block_size)?;
    let sections = section.list("columns", COLUMN_KEYS)?;
    if !(1..=COLUMNS_MAX).contains(&sections.len()) {
        let problem = format!("there must be 1 to {COLUMNS_MAX} columns, not {}", sections.len());
        return Err(section.wrong("columns", problem));
    }
    let columns = sections.iter().map(|section| column(section, devices, block_size));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let extent = power_of_two(section, "extent_size")?.unwrap_or(allocation);
    let stripe = match power_of_two(section, "stripe_unit")? {
        Some(bytes) => bytes,
        None if columns.len() == 1 => extent,
        None => return Err(section.wrong("stripe_unit", "missing: several columns need it")),
    };
    if !(u64::from(block_size)..=allocation).contains(&stripe) {
        let problem =
            format!("must be from a block ({block_size}) to an allocation ({allocation}), not {stripe}");
        return Err(section.wrong("stripe_unit", problem));
    }
    if !(stripe..=allocation).contains(&extent) {
        let problem =
            format!("must be from a stripe unit ({stripe}) to an allocation ({allocation}), not {extent}");
        return Err(section.wrong("extent_size", problem));
    }
    let shift = |bytes: u64| (bytes / u64::from(block_size)).trailing_zeros() as u8;
    let origins = sections.iter().map(Section::origin).collect();
    Ok((Segment { blocks, columns, stripe_shift: shift(stripe), extent_shift: shift(extent) }, origins))
}

fn column(section: &Section<'_>, devices: &[Device], block_size: u32) -> Result<Column, ConfigurationError> {
    let name = section.require("device", section.string("device")?)?;
    let Some(index) = devices.iter().position(|device| device.name == name) else {
        return Err(section.wrong("device", format!("there is no device {name:?}")));
    };
    if devices[index].block_size != block_size {
        let problem = format!(
            "device {name:?} has blocks of {} bytes, the disk of {block_size}",
            devices[index].block_size
        );
        return Err(section.wrong("device", problem));
    }
    let offset = section.require("offset", section.size("offset")?)?;
    if offset % u64::from(block_size) != 0 {
        return Err(section.wrong("offset", format!("{offset} is no multiple of the block ({block_size})")));
    }
    Ok(Column { device: index as u16, start: offset / u64::from(block_size) })
}

fn block_size(section: &Section<'_>) -> Result<u32, ConfigurationError> {
    let size = section.require("block_size", section.size("block_size")?)?;
    match size {
        512 | 4096 => Ok(size as u32),
        _ => Err(section.wrong("block_size", format!("must be 512 or 4096, not {size}"))),
    }
}

fn blocks(section: &Section<'_>, field: &str, block_size: u32) -> Result<u64, ConfigurationError> {
    let bytes = section.require(field, section.size(field)?)?;
    let block = u64::from(block_size);
    if bytes == 0 {
        return Err(section.wrong(field, "must not be 0"));
    }
    if bytes % block != 0 {
        return Err(section.wrong(field, format!("{bytes} is no multiple of the block ({block})")));
    }
    if bytes / block > BLOCKS_MAX {
        return Err(section.wrong(field, format!("must be at most {BLOCKS_MAX} blocks")));
    }
    Ok(bytes / block)
}

fn power_of_two(section: &Section<'_>, field: &str) -> Result<Option<u64>, ConfigurationError> {
    match section.size(field)? {
        Some(bytes) if !bytes.is_power_of_two() => {
            Err(section.wrong(field, format!("must be a power of two, not {bytes}")))
        }
        size => Ok(size),
    }
}
