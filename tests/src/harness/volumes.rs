//! What the disks hold for those who read and write them: values that a read may have, the order of overlapping
//! writes, and that copies in sync are equal.
//!
//! A write of several copies is begun when it has the lock of its blocks: the order of overlapping ones is that
//! of their beginnings. All other order is that of the clients: a command that was completed before another was
//! sent comes before it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use volplane::software::{map, Components, Tables};
use volplane_abi::plan::{component_state, COMPONENTS_MAX};
use volplane_abi::VdEntry;
use volplane_sim::SimHandle;

use super::configuration::Configuration;
use super::intervals::Intervals;
use super::media::Media;
use super::mirrors::{Mirror, States};

/// A run of a write, or of what zeroes blocks.
#[derive(Clone, Debug)]
pub struct Written {
    /// Number of the command.
    pub serial: u64,
    /// Blocks of the disk.
    pub blocks: Range<u64>,
    /// Number of the first block; `None`: zeros.
    pub token: Option<u64>,
    /// Steps of the session at which it was sent, and completed; of a run that the control path got: never.
    pub sent: u64,
    /// As above.
    pub completed: u64,
    /// Cycle in which it was begun, and whether with the lock of its blocks.
    pub begun: u64,
    /// As above.
    pub locked: bool,
    /// It was a success.
    pub succeeded: bool,
    /// Components it was begun for.
    pub parts: Components,
    /// Those of them that have all of it; all of them where it failed, which leaves them undefined. `Volumes::written`
    /// sets it.
    pub took: Components,
    /// Ends of its first and of its last fragment, in ns.
    pub ended: Option<(u64, u64)>,
}

impl Written {
    fn overlaps(&self, blocks: &Range<u64>) -> bool {
        self.blocks.start < blocks.end && blocks.start < self.blocks.end
    }

    fn precedes(&self, other: &Self) -> bool {
        self.completed < other.sent || (self.locked && other.locked && self.begun < other.begun)
    }

    fn gives(&self, block: u64, token: u64) -> bool {
        self.token.map_or(0, |first| first + (block - self.blocks.start)) == token
    }
}

/// What a block was read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The block of an SSD with this number.
    Token(u64),
    /// Zeros, whatever an SSD holds: its extent says so.
    Zeros,
}

/// A read that succeeded.
#[derive(Clone, Debug)]
pub struct Read {
    /// Number of the command.
    pub serial: u64,
    /// First block of the disk.
    pub lba: u64,
    /// Its blocks.
    pub tokens: Vec<Content>,
    /// Steps of the session at which it was sent, and completed.
    pub sent: u64,
    /// As above.
    pub completed: u64,
}

/// A disk.
#[derive(Default)]
struct Volume {
    /// Since the last check.
    writes: Vec<Written>,
    reads: Vec<Read>,
    /// By component: blocks that missed a write.
    lagging: [Intervals; COMPONENTS_MAX],
    /// Since the last check: what copies in sync were given to read.
    planted: BTreeMap<u64, u64>,
    /// As above: what a copy held that became in sync where no other had anything better.
    adopted: BTreeSet<(u64, u64)>,
    /// Blocks whose last write failed.
    undefined: Intervals,
    /// Components in sync when what is to be checked began.
    in_sync: Components,
}

/// Where blocks of a disk are.
#[derive(Clone, Copy, Debug)]
struct Spot {
    first: u64,
    blocks: u64,
    ssd: usize,
    lba: u64,
}

/// All disks.
#[derive(Default)]
pub struct Volumes {
    disks: BTreeMap<u32, Volume>,
}

/// Where the blocks of a map are, those that are anywhere.
fn spots(configuration: &Configuration, map: &VdEntry, blocks: &Range<u64>) -> Vec<Spot> {
    let tables: &Tables = &configuration.tables;
    let spot = |run: map::Run| {
        let (extent, at) = run.place?;
        let device = tables.devices.get(&extent.device())?;
        let route = configuration.route(device.path())?;
        Some(Spot {
            first: blocks.start + run.first,
            blocks: run.blocks,
            ssd: configuration.medium(route.ssd),
            lba: extent.start() + at,
        })
    };
    map::runs(tables, map, blocks.start, blocks.end - blocks.start).into_iter().filter_map(spot).collect()
}

/// The SSDs that hold a map's blocks, whether its disk reaches them or not.
pub fn media_of(configuration: &Configuration, map: &VdEntry) -> BTreeSet<usize> {
    let tables: &Tables = &configuration.tables;
    let whole = 1u64 << map.allocation_shift();
    let numbers = (0..map.size_blocks().div_ceil(whole)).map(|number| map.map_root() + number as u32);
    let extents = numbers.filter_map(|number| tables.allocations.get(&number)).flat_map(|entry| {
        let columns = u64::from(entry.columns());
        let rows = whole.div_ceil(1 << entry.stripe_shift()).div_ceil(columns);
        let column = (rows << entry.stripe_shift()).min(whole).div_ceil(1 << entry.extent_shift());
        entry.first_extent()..entry.first_extent() + (column * columns) as u32
    });
    let devices = extents.filter_map(|number| tables.devices.get(&tables.extents.get(&number)?.device()));
    let routes = devices.filter_map(|device| configuration.route(device.path()));
    routes.map(|route| configuration.medium(route.ssd)).collect()
}

/// The maps of a disk's components; a disk without a plan is its own.
fn maps(configuration: &Configuration, disk: u32) -> Vec<(usize, &VdEntry)> {
    match configuration.mirror(disk) {
        Some(mirror) => {
            mirror.template.present().numbers().map(|number| (number, &mirror.maps[number])).collect()
        }
        None => vec![(0, &configuration.tables.vds[&disk])],
    }
}

impl Volumes {
    /// Nothing is under way, and disks are in these states.
    pub fn begin(&mut self, mirrors: &[Mirror], states: impl Fn(u32) -> States) {
        for mirror in mirrors {
            self.disks.entry(mirror.disk).or_default().in_sync = in_sync(&states(mirror.disk));
        }
    }

    /// A command read blocks.
    pub fn read(&mut self, disk: u32, read: Read) {
        self.disks.entry(disk).or_default().reads.push(read);
    }

    /// A run has written blocks; `done`: the components that took all of it, of those `present`.
    pub fn written(&mut self, disk: u32, mut written: Written, done: Components, present: Components) {
        let volume = self.disks.entry(disk).or_default();
        let blocks = written.blocks.clone();
        written.took = if written.succeeded { done } else { written.parts };
        for component in present.numbers() {
            // One that ran beside it, or came behind it and was told before, may have missed the component and have
            // what the others hold.
            let is_apart = |other: &Written| {
                let is_over = written.parts.has(component) && other.precedes(&written);
                other.completed < written.sent
                    || is_over
                    || other.took.has(component)
                    || !other.overlaps(&blocks)
            };
            if !written.took.has(component) {
                volume.lagging[component].insert(blocks.clone());
            } else if written.succeeded && volume.writes.iter().all(is_apart) {
                volume.lagging[component].remove(blocks.clone());
            }
        }
        volume.writes.push(written);
    }

    /// Gives blocks something to read that hold zeros: the same on all copies, and on those that are out
    /// something else.
    pub fn plant(
        &mut self,
        (configuration, handle): (&Configuration, &SimHandle),
        media: &mut Media,
        (disk, blocks): (u32, Range<u64>),
        states: Option<&States>,
    ) {
        let volume = self.disks.entry(disk).or_default();
        let first = media.tokens(blocks.end - blocks.start);
        for (component, map) in maps(configuration, disk) {
            let is_out = states.is_some_and(|states| states.states[component] == component_state::OUT);
            for spot in spots(configuration, map, &blocks) {
                for at in 0..spot.blocks {
                    let block = spot.first + at;
                    let stale = is_out || volume.lagging[component].has(block);
                    let token = if stale { media.tokens(1) } else { first + (block - blocks.start) };
                    media.plant(handle, spot.ssd, spot.lba + at, token);
                    volume.planted.insert(block, first + (block - blocks.start));
                    if is_out {
                        volume.lagging[component].insert(block..block + 1);
                    }
                }
            }
        }
    }

    /// Copies what a component missed from one of `sources` that did not, but for blocks in `busy`; whether it is
    /// as good as they are.
    pub fn bring_up(
        &mut self,
        (configuration, handle): (&Configuration, &SimHandle),
        media: &mut Media,
        (disk, component, sources): (u32, usize, Components),
        busy: &[Range<u64>],
    ) -> bool {
        let volume = self.disks.entry(disk).or_default();
        let mirror = configuration.mirror(disk).expect("a mirrored disk");
        let mut quiet = volume.lagging[component].clone();
        busy.iter().for_each(|blocks| quiet.remove(blocks.clone()));
        let sources = sources.and(mirror.template.present());
        for missed in quiet.iter() {
            let mut left = Intervals::default();
            left.insert(missed.clone());
            for source in sources.numbers() {
                // What it has somewhere, and has not missed itself.
                let mut good = Intervals::default();
                for range in left.iter() {
                    let spots = spots(configuration, &mirror.maps[source], &range);
                    spots.iter().for_each(|spot| good.insert(spot.first..spot.first + spot.blocks));
                }
                volume.lagging[source].iter().for_each(|range| good.remove(range));
                for range in good.iter() {
                    copy_blocks((configuration, handle), media, (mirror, source, component), &range);
                    left.remove(range);
                }
            }
            for range in left.iter() {
                volume.adopted.extend(held(configuration, media, &mirror.maps[component], &range));
            }
            // What is here is what it is from now on; copies that nobody asked may hold something else.
            let others = mirror.template.present().numbers();
            for other in others.filter(|&other| other != component && !sources.has(other)) {
                left.iter().for_each(|range| volume.lagging[other].insert(range));
            }
            // Who has a block nowhere has missed nothing of it: it stays what it is. Where all missed it, they are no better.
            for source in sources.numbers() {
                let mut good = left.clone();
                volume.lagging[source].iter().for_each(|range| good.remove(range));
                good.iter().for_each(|range| left.remove(range));
            }
            for range in left.iter() {
                sources.numbers().for_each(|other| volume.lagging[other].insert(range.clone()));
            }
            volume.lagging[component].remove(missed);
        }
        volume.lagging[component].is_empty()
    }

    /// Checks all that was read and written since the last time; nothing is under way.
    ///
    /// # Errors
    /// Says what cannot be.
    pub fn check(
        &mut self,
        configuration: &Configuration,
        media: &Media,
        states: impl Fn(u32) -> States,
    ) -> Result<(), String> {
        for (&disk, volume) in &mut self.disks {
            let mut writes = std::mem::take(&mut volume.writes);
            writes.sort_by_key(|write| write.begun);
            check_order(disk, &writes)?;
            for read in std::mem::take(&mut volume.reads) {
                check_read(configuration, media, disk, volume, &writes, &read)?;
            }
            for write in &writes {
                match write.succeeded {
                    true => volume.undefined.remove(write.blocks.clone()),
                    false => volume.undefined.insert(write.blocks.clone()),
                }
            }
            volume.planted.clear();
            volume.adopted.clear();
            let Some(mirror) = configuration.mirror(disk) else { continue };
            check_copies(configuration, media, mirror, in_sync(&states(disk)), volume, &writes)?;
        }
        Ok(())
    }
}

fn in_sync(states: &States) -> Components {
    states.those(&[component_state::IN_SYNC])
}

/// The blocks of a range that hold something on a copy.
pub fn held(
    configuration: &Configuration,
    media: &Media,
    map: &VdEntry,
    blocks: &Range<u64>,
) -> BTreeMap<u64, u64> {
    let held = |spot: Spot| {
        media
            .held(spot.ssd, spot.lba, spot.blocks)
            .map(move |(at, token)| (spot.first + (at - spot.lba), token))
    };
    spots(configuration, map, blocks).into_iter().flat_map(held).collect()
}

/// Gives blocks of a copy what another one holds; those that are nowhere on that one stay as they are.
fn copy_blocks(
    (configuration, handle): (&Configuration, &SimHandle),
    media: &mut Media,
    (mirror, source, component): (&Mirror, usize, usize),
    blocks: &Range<u64>,
) {
    let held = |number: usize| held(configuration, media, &mirror.maps[number], blocks);
    let (from, to) = (held(source), held(component));
    let sources = spots(configuration, &mirror.maps[source], blocks);
    let has = |block: u64| sources.iter().any(|spot| (spot.first..spot.first + spot.blocks).contains(&block));
    for spot in spots(configuration, &mirror.maps[component], blocks) {
        let range = spot.first..spot.first + spot.blocks;
        let changed: BTreeMap<u64, u64> = (to.range(range.clone()))
            .filter(|(&block, _)| has(block))
            .map(|(&block, _)| (block, 0))
            .chain(from.range(range).map(|(&block, &token)| (block, token)))
            .collect();
        for (block, token) in changed {
            if to.get(&block).copied().unwrap_or(0) != token {
                media.copy(handle, spot.ssd, spot.lba + (block - spot.first), token);
            }
        }
    }
}

/// Overlapping writes to several copies were executed one after another, as they were begun.
fn check_order(disk: u32, writes: &[Written]) -> Result<(), String> {
    let locked: Vec<&Written> = writes.iter().filter(|write| write.locked && write.ended.is_some()).collect();
    for (number, first) in locked.iter().enumerate() {
        for second in locked[number + 1..].iter().filter(|second| second.overlaps(&first.blocks)) {
            let (Some((_, last)), Some((next, _))) = (first.ended, second.ended) else { continue };
            if next < last {
                return Err(format!("disk {disk}: executed beside each other: {first:?} and {second:?}"));
            }
        }
    }
    Ok(())
}

/// Every block read is that of a write that nothing completed had overwritten when the read was sent.
fn check_read(
    configuration: &Configuration,
    media: &Media,
    disk: u32,
    volume: &Volume,
    writes: &[Written],
    read: &Read,
) -> Result<(), String> {
    let blocks = read.lba..read.lba + read.tokens.len() as u64;
    let near: Vec<&Written> =
        writes.iter().filter(|write| write.overlaps(&blocks) && write.sent < read.completed).collect();
    let done: Vec<&Written> =
        near.iter().filter(|write| write.succeeded && write.completed < read.sent).copied().collect();
    for (block, &content) in blocks.zip(&read.tokens) {
        let Content::Token(token) = content else { continue };
        let over = |write: &Written| write.blocks.contains(&block);
        let of_write = near.iter().any(|write| {
            let is_last = !done.iter().any(|later| over(later) && write.precedes(later));
            over(write) && write.gives(block, token) && is_last
        });
        let held = || held_before(configuration, media, disk, volume, block);
        let planted =
            |block| volume.planted.get(&block) == Some(&token) || volume.adopted.contains(&(block, token));
        let is_first = || !done.iter().any(|write| over(write));
        if !(of_write
            || is_first() && (planted(block) || was_held(&held(), volume.undefined.has(block), token)))
        {
            return Err(format!(
                "disk {disk}, block {block}: command {} read number {token}, which is none of {:?} or {:#?}",
                read.serial,
                held(),
                near.iter().filter(|write| over(write)).collect::<Vec<_>>()
            ));
        }
    }
    Ok(())
}

/// Whether a copy that was in sync held this number; any copy where none of these has the block, or a failed
/// write left it undefined.
fn was_held(held: &[(usize, bool, u64)], undefined: bool, token: u64) -> bool {
    let known = !undefined && held.iter().any(|held| held.1);
    held.iter().any(|&(_, in_sync, number)| number == token && (in_sync || !known))
}

/// The numbers that a block had on its copies before the commands that are checked: by component, and whether
/// that was in sync.
fn held_before(
    configuration: &Configuration,
    media: &Media,
    disk: u32,
    volume: &Volume,
    block: u64,
) -> Vec<(usize, bool, u64)> {
    let copies = maps(configuration, disk).into_iter();
    copies
        .filter_map(|(number, map)| {
            let spot = *spots(configuration, map, &(block..block + 1)).first()?;
            let counts = configuration.mirror(disk).is_none() || volume.in_sync.has(number);
            Some((number, counts, media.token_before(spot.ssd, spot.lba)))
        })
        .collect()
}

/// Copies in sync are equal where they were written, but for blocks whose last write failed.
fn check_copies(
    configuration: &Configuration,
    media: &Media,
    mirror: &Mirror,
    in_sync: Components,
    volume: &Volume,
    writes: &[Written],
) -> Result<(), String> {
    let disk = mirror.disk;
    if let Some(number) = in_sync.numbers().find(|&number| !volume.lagging[number].is_empty()) {
        let missed = &volume.lagging[number];
        return Err(format!("disk {disk}: copy {number} is in sync, and missed {missed:?}"));
    }
    let mut touched = Intervals::default();
    writes.iter().for_each(|write| touched.insert(write.blocks.clone()));
    for blocks in touched.iter() {
        let mut copies = Vec::new();
        let mut both = Intervals::default();
        both.insert(blocks.clone());
        for number in in_sync.numbers() {
            let map = &mirror.maps[number];
            let mut holes = Intervals::default();
            holes.insert(blocks.clone());
            spots(configuration, map, &blocks)
                .iter()
                .for_each(|spot| holes.remove(spot.first..spot.first + spot.blocks));
            holes.iter().for_each(|hole| both.remove(hole));
            copies.push((number, held(configuration, media, map, &blocks)));
        }
        volume.undefined.iter().for_each(|range| both.remove(range));
        let Some((first, expected)) = copies.first() else { continue };
        for (number, found) in &copies[1..] {
            for range in both.iter() {
                let (one, other) = (expected.range(range.clone()), found.range(range));
                if one.clone().ne(other.clone()) {
                    let apart = |found: &BTreeMap<u64, u64>, other: &BTreeMap<u64, u64>, block: &u64| {
                        found.get(block) != other.get(block)
                    };
                    let keys = one.chain(other).map(|(&block, _)| block);
                    let block = keys.into_iter().find(|block| apart(expected, found, block));
                    let block = block.expect("they differ");
                    let over: Vec<&Written> =
                        writes.iter().filter(|write| write.blocks.contains(&block)).collect();
                    return Err(format!(
                        "disk {disk}: copies {first} and {number} differ in block {block}: {:?} and {:?}, written by {over:#?}",
                        expected.get(&block),
                        found.get(&block)
                    ));
                }
            }
        }
    }
    Ok(())
}
