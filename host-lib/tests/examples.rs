//! The examples: the quick start is right, and the independent reassembly agrees with the layout.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use volplane::configuration::Backing;
use volplane::Configuration;

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");

#[test]
fn the_quick_start_has_a_striped_and_a_concatenated_disk() {
    let file = Path::new(EXAMPLES).join("quickstart.toml");
    let text = fs::read_to_string(&file).expect("the example is there");
    let configuration = Configuration::parse(&text, &file).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(configuration.devices.len(), 4);
    assert!(configuration.devices.iter().all(|device| device.bytes() == 256 << 20));
    let bytes = |disk: usize| configuration.disks[disk].map.blocks() * 512;
    assert_eq!((bytes(0), bytes(1)), (512 << 20, 384 << 20));
    assert_eq!(configuration.disks[0].map.segments[0].columns.len(), 4);
    assert_eq!(configuration.disks[1].map.segments.len(), 3);
}

#[test]
fn the_mirror_has_three_copies_that_share_no_device() {
    let file = Path::new(EXAMPLES).join("mirror.toml");
    let text = fs::read_to_string(&file).expect("the example is there");
    let configuration = Configuration::parse(&text, &file).unwrap_or_else(|error| panic!("{error}"));
    let devices: Vec<u32> = configuration.disks[0].maps().map(|map| map.devices()).collect();
    assert_eq!(devices, [0b11, 0b1100, 0b110000]);
    assert_eq!(configuration.state_file, Path::new(EXAMPLES).join("mirror.toml.state"));
}

/// Devices of random bytes, and a disk of a few segments with random layouts on them.
fn random_text(random: &mut ChaCha8Rng) -> String {
    const DEVICES: u64 = 4;
    let mut text = String::new();
    for device in 0..DEVICES {
        text += &format!(
            "[[device]]\nname = \"ssd{device}\"\nfile = \"ssd{device}.img\"\ncreate = true\n\
             size = \"32MiB\"\nblock_size = 512\n"
        );
    }
    text += "[[disk]]\nname = \"odd\"\nblock_size = 512\nallocation_size = \"1MiB\"\n";
    let mut ends = [0u64; DEVICES as usize];
    for segment in 0..3u64 {
        let stripe = 512u64 << random.random_range(0..=11);
        let tail = if segment == 2 { 512 * random.random_range(0..2000) } else { 0 };
        let count = random.random_range(1..=DEVICES);
        let columns: Vec<String> = (0..count)
            .map(|column| {
                let end = &mut ends[column as usize];
                let offset = *end + 512 * random.random_range(0..100);
                *end = offset + (4 << 20);
                format!("{{ device = \"ssd{column}\", offset = {offset} }}")
            })
            .collect();
        text += &format!(
            "[[disk.segment]]\nsize = {}\nstripe_unit = {stripe}\ncolumns = [{}]\n",
            (3 << 20) - tail,
            columns.join(", ")
        );
    }
    text
}

#[test]
fn reassembly_knows_the_same_layout() {
    let seed = match std::env::var("VOLPLANE_SEED") {
        Ok(text) => text.parse().expect("VOLPLANE_SEED is a number"),
        Err(_) => rand::rng().next_u64(),
    };
    eprintln!("replay with VOLPLANE_SEED={seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for _ in 0..5 {
        let folder = tempfile::tempdir().expect("folder");
        let toml = folder.path().join("odd.toml");
        let text = random_text(&mut random);
        fs::write(&toml, &text).expect("written");
        let configuration = Configuration::load(&toml).unwrap_or_else(|error| panic!("{error}\n{text}"));
        configuration.create_files().expect("created");
        let files: Vec<fs::File> = configuration
            .devices
            .iter()
            .map(|device| {
                let Backing::File { path, .. } = &device.backing else { panic!("a file each") };
                let mut data = vec![0; device.bytes() as usize];
                random.fill_bytes(&mut data);
                fs::write(path, &data).expect("written");
                fs::File::open(path).expect("opened")
            })
            .collect();

        let map = &configuration.disks[0].map;
        let mut expected = Vec::new();
        let mut lba = 0;
        while let Some(location) = map.locate(lba) {
            let mut piece = vec![0; location.run as usize * 512];
            files[usize::from(location.device)].read_exact_at(&mut piece, location.lba * 512).expect("read");
            expected.extend(piece);
            lba += location.run;
        }
        let script = Path::new(EXAMPLES).join("reassemble.py");
        let output = Command::new("python3").arg(script).arg(&toml).arg("odd").output().expect("python3");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout == expected, "the images differ for\n{text}");
    }
}
