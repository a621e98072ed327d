//! The NBD server against the clients people use. They must be installed (`make` does it): a test
//! that skips itself would say nothing.

mod support;

use std::path::{Path, PathBuf};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use support::stock::{run, run_any};
use support::Running;
use volplane_cli::nbd::Limits;

const MIB: usize = 1 << 20;
const DISKS: &[(&str, u32, u64)] = &[("striped", 512, 48 << 11), ("big blocks", 4096, 48 << 8)];

fn start(seed: u64) -> Running {
    Running::start(DISKS, Limits::default(), support::seed(seed))
}

/// A file with data, holes and a tail of zeroes.
fn image(server: &Running, seed: u64) -> (PathBuf, Vec<u8>) {
    let mut data = vec![0; 48 * MIB];
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.fill_bytes(&mut data[..20 * MIB]);
    random.fill_bytes(&mut data[30 * MIB + 512..40 * MIB + 4096]);
    data[5 * MIB..6 * MIB].fill(0);
    let path = server.directory().join("image");
    std::fs::write(&path, &data).expect("image");
    (path, data)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary path is UTF-8")
}

#[test]
fn nbdinfo_sees_the_exports() {
    let server = start(1);
    let list = run("nbdinfo", &["--list", &server.uri("")]);
    assert!(list.contains("export=\"striped\":") && list.contains("export=\"big blocks\":"), "{list}");
    for uri in [server.uri("big blocks"), server.tcp_uri("big blocks")] {
        let info = run("nbdinfo", &[&uri]);
        for line in [
            "export-size: 50331648",
            "newstyle-fixed",
            "structured packets",
            "base:allocation",
            "can_multi_conn: true",
            "can_flush: true",
            "can_fua: true",
            "can_trim: true",
            "can_zero: true",
            "can_df: true",
            "can_fast_zero: false",
            "is_read_only: false",
            "block_size_minimum: 4096",
            "block_size_preferred: 65536",
            "block_size_maximum: 33554432",
        ] {
            assert!(info.contains(line), "no \"{line}\" in\n{info}");
        }
    }
    assert_eq!(run("nbdinfo", &["--size", &server.uri("striped")]).trim(), "50331648");
    let map = run("nbdinfo", &["--map", &server.uri("striped")]);
    let fields: Vec<&str> = map.split_whitespace().collect();
    assert_eq!(fields, ["0", "50331648", "0", "data"], "{map}");
    let (good, error) = run_any("nbdinfo", &[&server.uri("nothing")]);
    assert!(!good && error.contains("for export: nothing"), "{error}");
}

#[test]
fn nbdcopy_and_qemu_img_read_what_the_other_wrote() {
    let server = start(2);
    let (path, data) = image(&server, 2);
    let back = server.directory().join("back");
    let (striped, big) = (server.uri("striped"), server.tcp_uri("big blocks"));

    run("nbdcopy", &["--flush", text(&path), &striped]);
    assert!(server.inside().contents[0] == data, "nbdcopy wrote");
    run("qemu-img", &["convert", "-f", "raw", "-O", "raw", &striped, text(&back)]);
    assert!(std::fs::read(&back).expect("copy") == data, "qemu-img read");

    run("qemu-img", &["convert", "-n", "-W", "-m", "16", "-f", "raw", "-O", "raw", text(&path), &big]);
    assert!(server.inside().contents[1] == data, "qemu-img wrote");
    std::fs::remove_file(&back).expect("remove");
    run("nbdcopy", &["--connections=4", "--requests=64", &big, text(&back)]);
    assert!(std::fs::read(&back).expect("copy") == data, "nbdcopy read");

    run("qemu-img", &["compare", "-f", "raw", "-F", "raw", &striped, &big]);
    server.inside().contents[1][7 * MIB + 5] ^= 1;
    let (same, told) = run_any("qemu-img", &["compare", "-f", "raw", "-F", "raw", &striped, &big]);
    assert!(!same && told.contains("mismatch"), "{told}");
    server.inside().contents[1][7 * MIB + 5] ^= 1;
    run("nbdcopy", &["--destination-is-zero", &big, &striped]);
    assert!(server.inside().contents[0] == data, "from disk to disk");
}

#[test]
fn qemu_io_patterns_at_borders() {
    let server = start(3);
    for uri in [server.uri("striped"), server.tcp_uri("striped")] {
        let commands = [
            "write -P 0x11 65024 1024",
            "write -P 0x22 -f 131072 512",
            "aio_write -P 0x33 1048064 1049088",
            "aio_write -P 0x44 4M 8M",
            "aio_flush",
            "write -z 5M 64k",
            "write -z -u 6M 64k",
            "write -P 0x55 50331136 512",
            "read -P 0x11 65024 1024",
            "read -P 0 66048 512",
            "read -P 0x22 131072 512",
            "read -P 0x33 1048064 1049088",
            "read -P 0x44 4M 1M",
            "read -P 0 5M 64k",
            "read -P 0 6M 64k",
            "read -P 0x44 7M 5M",
            "read -P 0x55 50331136 512",
            "discard 8M 1M",
            "flush",
        ];
        let mut arguments = vec!["-f", "raw"];
        arguments.extend(commands.iter().flat_map(|command| ["-c", command]));
        arguments.push(&uri);
        let told = run("qemu-io", &arguments);
        assert!(!told.contains("verification failed") && !told.contains("rror"), "{told}");
        assert!(server.inside().contents[0][8 * MIB..9 * MIB].iter().all(|&byte| byte == 0xDD), "discarded");
        let (_, told) = run_any("qemu-io", &["-f", "raw", "-c", "read -P 0x12 65024 1024", &uri]);
        assert!(told.contains("verification failed"), "the check itself works: {told}");
    }
}

#[test]
fn nbdsh_agrees_with_and_without_structured_replies() {
    let server = start(4);
    let script = r#"
import os, nbd
def check(h, structured):
    assert h.get_structured_replies_negotiated() == structured
    size, block = h.get_size(), h.get_block_size(nbd.SIZE_MINIMUM)
    data = os.urandom(3 * 1024 * 1024)
    h.pwrite(data, block)
    assert h.pread(len(data), block) == data
    h.pwrite(b'\xaa' * block, size - block, nbd.CMD_FLAG_FUA)
    assert h.pread(block, size - block) == b'\xaa' * block
    h.zero(block, size - block, nbd.CMD_FLAG_NO_HOLE)
    assert h.pread(block, size - block) == bytes(block)
    h.trim(block, 0, nbd.CMD_FLAG_FUA)
    h.flush()
    h.set_strict_mode(0)
    for call, errno in [
        (lambda: h.pread(block, size), 'EINVAL'),
        (lambda: h.pwrite(bytes(block), size), 'ENOSPC'),
        (lambda: h.zero(block, size), 'ENOSPC'),
        (lambda: h.trim(block, size), 'EINVAL'),
        (lambda: h.pread(block, 1), 'EINVAL'),
        (lambda: h.cache(block, 0), 'EINVAL'),
    ]:
        try:
            call()
            assert False, errno
        except nbd.Error as error:
            assert error.errno == errno, (error.errno, errno)
    assert h.pread(len(data) - block, 2 * block) == data[block:]
    if structured:
        extents = []
        h.block_status(8 * block, 0, lambda context, offset, entries, error: extents.append((context, offset, entries)))
        assert extents == [('base:allocation', 0, [8 * block, 0])], extents
    h.shutdown()
for uri in URIS:
    for structured in (True, False):
        h = nbd.NBD()
        h.set_request_structured_replies(structured)
        if structured:
            h.add_meta_context('base:allocation')
        h.connect_uri(uri)
        check(h, structured)
print('all good')
"#;
    let uris = [server.uri("striped"), server.tcp_uri("striped"), server.uri("big blocks")];
    let script = script.replace("URIS", &format!("{uris:?}"));
    let told = run("nbdsh", &["-c", &script]);
    assert!(told.contains("all good"), "{told}");
}

#[test]
fn fio_verifies_mixed_random_io() {
    let server = start(5);
    let uri = format!("--uri={}", server.uri("striped"));
    let told = run(
        "fio",
        &[
            "--name=mixed",
            "--ioengine=nbd",
            &uri,
            "--rw=randrw",
            "--bsrange=512-1M",
            "--blockalign=512",
            "--iodepth=32",
            "--verify=crc32c",
            "--verify_fatal=1",
            "--verify_state_save=0",
            "--size=12M",
            "--numjobs=4",
            "--offset_increment=12M",
            "--randseed=5",
            "--randrepeat=1",
            "--group_reporting",
        ],
    );
    assert!(told.contains("err= 0"), "{told}");
}
