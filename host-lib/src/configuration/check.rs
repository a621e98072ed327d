//! Checks of the whole: placement on the devices, the backing files, the card's room.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Backing, Configuration, ConfigurationError, Device, TableSizes};
use crate::map::DiskMap;

/// A column's space on its device.
struct Space {
    end: u64,
    owner: String,
}

impl Configuration {
    /// Every column within its device, and no two on the same blocks.
    pub(super) fn check_placement(&self) -> Result<(), ConfigurationError> {
        let mut used: Vec<BTreeMap<u64, Space>> = self.devices.iter().map(|_| BTreeMap::new()).collect();
        for disk in &self.disks {
            let placed = disk.placed().flat_map(|(map, origins)| map.segments.iter().zip(origins));
            for (segment, origins) in placed {
                let space = segment.space(disk.map.allocation_shift);
                for (column, origin) in segment.columns.iter().zip(origins) {
                    let device = &self.devices[usize::from(column.device)];
                    let end = column.start + space;
                    if end > device.blocks {
                        let problem = format!(
                            "the column ends at block {end} of device {:?}, which has {}",
                            device.name, device.blocks
                        );
                        return Err(self.error(origin, "offset", problem));
                    }
                    let spaces = &mut used[usize::from(column.device)];
                    if let Some((start, other)) = overlapped(spaces, column.start, end) {
                        let problem = format!(
                            "blocks {} to {} of device {:?} overlap {} (blocks {start} to {})",
                            column.start,
                            end - 1,
                            device.name,
                            other.owner,
                            other.end - 1
                        );
                        return Err(self.error(origin, "offset", problem));
                    }
                    let (line, path) = origin.table();
                    let owner = format!("{path} of line {line}");
                    spaces.insert(column.start, Space { end, owner });
                }
            }
        }
        Ok(())
    }

    /// Every backing file there or to be created, large enough, and behind one device only. Looks at
    /// metadata alone.
    pub fn check_files(&self) -> Result<(), ConfigurationError> {
        let mut seen = HashMap::new();
        for device in &self.devices {
            let Backing::File { path, create } = &device.backing else { continue };
            let wrong = |problem: String| Err(self.error(&device.origin, "file", problem));
            let metadata = match fs::metadata(path) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound && *create => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return wrong(format!("{} does not exist, and create is not true", path.display()));
                }
                Err(error) => return wrong(format!("{}: {error}", path.display())),
            };
            if !metadata.is_file() {
                return wrong(format!("{} is no regular file", path.display()));
            }
            if metadata.len() < device.bytes() {
                let problem = format!(
                    "device too small: {} has {} bytes, size is {}",
                    path.display(),
                    metadata.len(),
                    device.bytes()
                );
                return Err(self.error(&device.origin, "size", problem));
            }
            if let Some(other) = seen.insert((metadata.dev(), metadata.ino()), &device.name) {
                return wrong(format!("{} is behind device {other:?} already", path.display()));
            }
        }
        Ok(())
    }

    /// Makes the missing files of devices with `create`, sparse and of the device's size, and their
    /// folders. Files that are there stay as they are.
    pub fn create_files(&self) -> Result<(), ConfigurationError> {
        for device in &self.devices {
            let Backing::File { path, create: true } = &device.backing else { continue };
            create_file(path, device).map_err(|error| {
                self.error(&device.origin, "file", format!("cannot create {}: {error}", path.display()))
            })?;
        }
        Ok(())
    }

    /// Everything within the room of the card's tables.
    pub fn check_room(&self, room: &TableSizes) -> Result<(), ConfigurationError> {
        if let Some(device) = self.devices.get(usize::try_from(room.devices).unwrap_or(usize::MAX)) {
            let problem = format!("too many devices: the card has room for {}", room.devices);
            return Err(self.error(&device.origin, "name", problem));
        }
        let (mut handles, mut plans, mut allocations, mut extents) = (0, 1, 0, 0);
        for disk in &self.disks {
            let wrong = |field, problem| Err(self.error(&disk.origin, field, problem));
            // Each further copy is a virtual disk too.
            handles += disk.maps().count() as u64;
            if handles > room.disks {
                return wrong("name", format!("too many disks: the card has room for {}", room.disks));
            }
            plans += u64::from(!disk.bare);
            if !disk.bare && plans > room.plans {
                let most = room.plans.saturating_sub(1);
                let problem = format!("too many disks that are not bare: the card has room for {most}");
                return wrong("name", problem);
            }
            allocations += disk.maps().map(DiskMap::allocations).sum::<u64>();
            if allocations > room.allocations {
                let problem = format!(
                    "too many allocations: {allocations} up to this disk, the card has room for {}",
                    room.allocations
                );
                return wrong("allocation_size", problem);
            }
            extents += disk.maps().map(DiskMap::extents).sum::<u64>();
            if extents > room.extents {
                let problem = format!(
                    "too many extents: {extents} up to this disk, the card has room for {}",
                    room.extents
                );
                return wrong("segment", problem);
            }
            let segments = disk.maps().flat_map(|map| &map.segments);
            let widest = segments.map(|segment| segment.columns.len()).max().unwrap_or(0);
            if widest as u64 > room.columns {
                let problem = format!("too many columns: {widest}, the card executes {}", room.columns);
                return wrong("segment", problem);
            }
        }
        Ok(())
    }
}

fn overlapped(spaces: &BTreeMap<u64, Space>, start: u64, end: u64) -> Option<(u64, &Space)> {
    let before = spaces.range(..end).next_back();
    before.filter(|(_, space)| space.end > start).map(|(&start, space)| (start, space))
}

fn create_file(path: &Path, device: &Device) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => file.set_len(device.bytes()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}
