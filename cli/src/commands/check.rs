//! `volplane check`: a configuration, checked and told.

use std::path::Path;

use volplane::configuration::{Backing, Disk};
use volplane::map::DiskMap;
use volplane::Configuration;

use super::{print, size, table, Failure};

/// Checks a configuration and prints what it describes.
pub fn run(file: &Path) -> Result<(), Failure> {
    let configuration = Configuration::load(file)?;
    print(&describe(&configuration));
    Ok(())
}

fn describe(configuration: &Configuration) -> String {
    let mut devices = vec![heading(&["device", "size", "block", "behind it"])];
    for device in &configuration.devices {
        let behind = match &device.backing {
            Backing::File { path, .. } if path.exists() => format!("file {}", path.display()),
            Backing::File { path, .. } => format!("file {} (made when served)", path.display()),
            Backing::Memory => "memory".to_owned(),
            Backing::Function => format!("PCI function {}", device.address.as_deref().unwrap_or("unknown")),
        };
        devices.push(vec![device.name.clone(), size(device.bytes()), size(device.block_size.into()), behind]);
    }
    let mut disks = vec![heading(&["disk", "size", "block", "layout"])];
    for disk in &configuration.disks {
        let block = 1u64 << disk.map.block_shift;
        let bytes = size(disk.map.blocks() * block);
        disks.push(vec![disk.name.clone(), bytes, size(block), layout(configuration, disk)]);
    }
    format!("{}\n{}", table(&devices), table(&disks))
}

fn heading(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Where a disk lies, copy by copy.
fn layout(configuration: &Configuration, disk: &Disk) -> String {
    if disk.plan.is_none() {
        return segments(configuration, &disk.map);
    }
    let copies = disk.maps().enumerate();
    let copies = copies.map(|(copy, map)| format!("copy {copy}: {}", segments(configuration, map)));
    copies.collect::<Vec<_>>().join("; ")
}

/// The segments of a map, one after the other.
fn segments(configuration: &Configuration, map: &DiskMap) -> String {
    let segments = map.segments.iter().map(|segment| {
        let name = |device: u16| {
            configuration.devices.get(usize::from(device)).map_or("?", |device| device.name.as_str())
        };
        let names: Vec<&str> = segment.columns.iter().map(|column| name(column.device)).collect();
        let bytes = size(segment.blocks << map.block_shift);
        if names.len() == 1 {
            format!("{bytes} on {}", names[0])
        } else {
            let unit = size(1 << (segment.stripe_shift + map.block_shift));
            format!("{bytes} striped by {unit} over {}", names.join(" "))
        }
    });
    segments.collect::<Vec<_>>().join(", then ")
}
