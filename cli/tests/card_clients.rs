//! The program on the Verilated card against the clients people use: what `stock_clients.rs` asks of the
//! NBD server alone, the whole way to the backing files.

mod support;

use support::served::{fio, root, Served};
use support::stock::{run, run_any};

#[test]
fn fio_qemu_io_and_nbdsh_on_the_card() {
    let served = Served::start("sim");
    let info = run("nbdinfo", &["--list", &served.uri("")]);
    assert!(info.contains("export=\"striped\":") && info.contains("export=\"concatenated\":"), "{info}");
    fio(&served.uri("striped"), 2, 16);
    fio(&served.uri("concatenated"), 4, 8);
    // The stripe unit is 64 KiB, the row 256 KiB, the allocation 16 MiB; the concatenated disk changes
    // its device at 128 MiB.
    for (disk, border) in
        [("striped", 64 << 10), ("striped", 256 << 10), ("striped", 16 << 20), ("concatenated", 128u64 << 20)]
    {
        let at = border - 1536;
        let commands = [
            format!("write -P 0x{:x} {at} 3072", 0x20 + border.trailing_zeros()),
            format!("write -P 0x77 -f {border} 512"),
            format!("write -z {} 512", border - 512),
            format!("read -P 0x{:x} {at} 1024", 0x20 + border.trailing_zeros()),
            format!("read -P 0 {} 512", border - 512),
            format!("read -P 0x77 {border} 512"),
            format!("read -P 0x{:x} {} 1024", 0x20 + border.trailing_zeros(), border + 512),
            "flush".to_owned(),
        ];
        let uri = served.uri(disk);
        let mut arguments = vec!["-f", "raw"];
        arguments.extend(commands.iter().flat_map(|command| ["-c", command]));
        arguments.push(&uri);
        let told = run("qemu-io", &arguments);
        assert!(!told.contains("verification failed") && !told.contains("rror"), "{told}");
        let wrong = format!("read -P 0x78 {border} 512");
        let (_, told) = run_any("qemu-io", &["-f", "raw", "-c", &wrong, &uri]);
        assert!(told.contains("verification failed"), "the check itself works: {told}");
    }
    let script = format!(
        "h.connect_uri({:?})\ndata = bytes(range(256)) * 512\nh.pwrite(data, 65536 - 512)\n\
         assert h.pread(len(data), 65536 - 512) == data\nh.flush()\nprint('all good')",
        served.uri("striped")
    );
    let told = run("nbdsh", &["-c", &script]);
    assert!(told.contains("all good"), "{told}");
    served.stop();
}

/// The real-input check of `make demo`, of a small image.
#[test]
fn a_real_file_system_comes_back_whole() {
    let script = root().join("examples/demo.sh");
    let script = script.to_str().expect("UTF-8");
    let told = run("bash", &[script, env!("CARGO_BIN_EXE_volplane"), "48"]);
    assert_eq!(told.matches(" pass ").count(), told.matches(" s\n").count(), "{told}");
    for row in ["striped -> file", "concatenated -> file", "put together independently", "e2fsck of"] {
        assert!(told.contains(row), "{told}");
    }
}
