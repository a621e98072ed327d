//! `volplane serve` with real SSDs, used through the kernel's own NBD client: a file system and fio with verify, the
//! program killed and started again.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::refusals::{shell, SSDS};
use crate::stamped::Writers;
use crate::{expect, Checks, Outcome};

const CONFIGURATION: &str = "/tmp/disks.toml";
const SOCKET: &str = "/tmp/volplane.sock";
/// Longest time from the start of the program to its listening: the guest is emulated.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Writes that are acknowledged before the program is killed: twice around and more (`stamped`).
const WRITES_BEFORE_KILL: u64 = 600;
/// Writes to its mirror before an SSD is pulled.
const WRITES_BEFORE_REMOVAL: u64 = 100;
/// Where the second SSD's copy of the mirror cannot be read, and where it cannot be written, in the scenarios of errors
/// (run.py).
const BAD_READS_MIB: u64 = 2;
const BAD_WRITES_MIB: u64 = 12;
/// What is written there: small enough for one command, so that the copies are read in turns.
const PIECE: &str = "/tmp/piece";
const PIECES_A_MIB: u64 = 16;
/// Reads of a piece, of which each copy has some.
const READS: usize = 4;
/// Longest time from the wish to remove an SSD to its being gone.
const REMOVAL_LIMIT: Duration = Duration::from_secs(60);

/// Two SSDs, a disk striped over both and one mirrored on both.
fn configuration() -> String {
    let devices = SSDS.iter().enumerate().map(|(number, address)| {
        format!("[[device]]\nname = \"ssd{number}\"\naddress = \"{address}\"\nsize = \"192MiB\"\nblock_size = 512\n\n")
    });
    let column =
        |number: usize, offset: &str| format!("{{ device = \"ssd{number}\", offset = \"{offset}\" }}");
    let striped = format!(
        "[[disk]]\nname = \"striped\"\nblock_size = 512\nallocation_size = \"16MiB\"\ntime_out_ms = 16000\n\n\
         [[disk.segment]]\nsize = \"128MiB\"\ncolumns = [{}, {}]\nstripe_unit = \"64KiB\"\nextent_size = \"4MiB\"\n\n",
        column(0, "0MiB"),
        column(1, "0MiB"),
    );
    let mirrors = (0..2).map(|number| {
        format!(
            "[[disk.mirror]]\ntime_out_ms = 4000\n\n[[disk.mirror.segment]]\nsize = \"32MiB\"\ncolumns = [{}]\n\n",
            column(number, "128MiB")
        )
    });
    let mirrored = "[[disk]]\nname = \"mirrored\"\nblock_size = 512\nallocation_size = \"16MiB\"\n\
                    read_policy = \"round-robin\"\n\n";
    devices.chain([striped, mirrored.to_owned()]).chain(mirrors).collect()
}

/// A running `volplane serve`.
struct Server {
    process: Child,
    lines: mpsc::Receiver<String>,
}

impl Server {
    /// Starts it and waits until it listens.
    fn start(card: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let mut process = Command::new("/bin/volplane")
            .args(["serve", CONFIGURATION, "--card", card, "--socket", SOCKET])
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let output = process.stdout.take().ok_or("no output")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let server = Self { process, lines };
        server.wait_for("Listening on", START_LIMIT)?;
        Ok(server)
    }

    fn wait_for(&self, words: &str, limit: Duration) -> Outcome {
        loop {
            let line = self.lines.recv_timeout(limit).map_err(|_| format!("it never said {words:?}"))?;
            if line.contains(words) {
                return Ok(line);
            }
        }
    }

    /// Ends it as a person would, and gives its last word.
    fn stop(mut self) -> Outcome {
        shell(&format!("kill -TERM {}", self.process.id()))?;
        let word = self.wait_for("Stopped and flushed", START_LIMIT)?;
        expect(self.process.wait()?.success(), "it left with an error")?;
        Ok(word)
    }

    /// Ends it as the kernel does: nothing is flushed, no queue is deleted.
    fn kill(mut self) -> Outcome {
        self.process.kill()?;
        self.process.wait()?;
        Ok("killed".to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After a check that failed: the next one finds no process that has the SSDs.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn connect() -> Outcome {
    // By its path: busybox has a program of this name.
    shell(&format!(
        "/tools/nbd-client -unix {SOCKET} -N striped /dev/nbd0 && /tools/nbd-client -unix {SOCKET} -N mirrored /dev/nbd1"
    ))
}

/// Binds the SSDs, starts the program and connects its clients.
fn start_served(card: &str) -> Result<Server, Box<dyn std::error::Error>> {
    fs::write(CONFIGURATION, configuration())?;
    shell(&format!("volplane bind {}", SSDS.join(" ")))?;
    let server = Server::start(card)?;
    connect()?;
    Ok(server)
}

fn write_piece(mib: u64) -> Outcome {
    let place = mib * PIECES_A_MIB;
    shell(&format!("dd if={PIECE} of=/dev/nbd1 oflag=direct bs=64k count=1 seek={place}"))
}

/// Reads a piece from each copy.
fn piece_comes_back(mib: u64) -> Result<(), Box<dyn std::error::Error>> {
    let place = mib * PIECES_A_MIB;
    for _ in 0..READS {
        shell(&format!(
            "dd if=/dev/nbd1 of=/tmp/read iflag=direct bs=64k count=1 skip={place} && cmp /tmp/read {PIECE}"
        ))?;
    }
    Ok(())
}

fn file_system_is_sound() -> Outcome {
    let told = shell("e2fsck -fn /dev/nbd0")?;
    let count = told.lines().find(|line| line.contains(" files ")).ok_or_else(|| told.clone())?;
    Ok(count.to_owned())
}

fn disconnect() -> Outcome {
    shell("/tools/nbd-client -d /dev/nbd0; /tools/nbd-client -d /dev/nbd1")
}

/// `card` is what `--card` is given.
pub fn run(checks: &mut Checks, card: &str) {
    let mut server = None;
    checks.check("volplane lists, binds and shows the SSDs", || {
        fs::write(CONFIGURATION, configuration())?;
        let bound = shell(&format!("volplane bind {}", SSDS.join(" ")))?;
        expect(bound.matches("to vfio-pci").count() == SSDS.len(), &bound)?;
        let listed = shell("volplane devices")?;
        expect(listed.lines().filter(|line| line.contains("vfio-pci")).count() >= SSDS.len(), &listed)?;
        println!("{listed}");
        Ok(format!("{} bound", SSDS.len()))
    });
    checks.check("volplane serves", || {
        server = Some(Server::start(card)?);
        connect()?;
        Ok(format!("with --card {card}"))
    });
    checks.check("a file system is made, mounted and filled", || {
        shell("mkfs.ext4 -q /dev/nbd0 && mount -t ext4 /dev/nbd0 /mnt")?;
        shell("mkdir /mnt/copy && cp -a /bin /opt /modules /mnt/copy && sync && umount /mnt")?;
        file_system_is_sound()
    });
    checks.check("every file comes back", || {
        shell("echo 3 >/proc/sys/vm/drop_caches; mount -t ext4 -o ro /dev/nbd0 /mnt")?;
        let same =
            shell("for d in bin opt modules; do diff -r /$d /mnt/copy/$d || exit 1; done; du -sm /mnt/copy");
        shell("umount /mnt")?;
        Ok(format!("{} MiB", same?.split_whitespace().next().unwrap_or("?")))
    });
    checks.check("fio verifies what it wrote to a mirror", || fio_verifies("12M"));
    checks.check("killed in the middle of writes it starts again", || {
        let writers = Writers::start("/dev/nbd1");
        writers.wait_for(WRITES_BEFORE_KILL)?;
        let running = server.take().ok_or("it does not run")?;
        // Stopped wherever it is, it takes none of the writes to their end that are under way when it is killed.
        shell(&format!("kill -STOP {}", running.process.id()))?;
        writers.wait_for_rest()?;
        let killed = Instant::now();
        running.kill()?;
        disconnect()?;
        let stamped = writers.end()?;
        server = Some(Server::start(card)?);
        connect()?;
        let kept = stamped.check(killed)?;
        file_system_is_sound()?;
        shell("mount -t ext4 -o ro /dev/nbd0 /mnt")?;
        let same = shell("for d in bin opt modules; do diff -r /$d /mnt/copy/$d || exit 1; done");
        shell("umount /mnt")?;
        same?;
        Ok(kept)
    });
    checks.check("volplane stops and gives the SSDs back", || {
        disconnect()?;
        let word = server.take().ok_or("it does not run")?.stop()?;
        let back = shell(&format!("volplane unbind {}", SSDS.join(" ")))?;
        expect(back.matches("vfio-pci to nvme").count() == SSDS.len(), &back)?;
        Ok(word)
    });
}

/// The second SSD has a block that cannot be read and one that cannot be written. `card` is what `--card` is given.
pub fn errors(checks: &mut Checks, card: &str) {
    let mut server = None;
    checks.check("a block that one SSD cannot read comes from the other", || {
        server = Some(start_served(card)?);
        shell(&format!("dd if=/bin/in_guest of={PIECE} bs=64k count=1"))?;
        write_piece(BAD_READS_MIB)?;
        piece_comes_back(BAD_READS_MIB)?;
        server.as_ref().ok_or("it does not run")?.wait_for("copy 1 failed on ssd1", START_LIMIT)
    });
    checks.check("a copy that cannot be written is left out", || {
        write_piece(BAD_WRITES_MIB)?;
        let running = server.as_ref().ok_or("it does not run")?;
        running.wait_for("copy 1 missed a write and is out", START_LIMIT)
    });
    checks.check("the mirror goes on with one copy", || {
        piece_comes_back(BAD_READS_MIB)?;
        piece_comes_back(BAD_WRITES_MIB)?;
        fio_verifies("16M")
    });
    checks.check("the client saw no error", || {
        disconnect()?;
        let word = server.take().ok_or("it does not run")?.stop()?;
        expect(word.contains(" 0 answered with an error"), &word)?;
        Ok(word)
    });
}

/// The second SSD is pulled while its mirror is written to. `card` is what `--card` is given.
pub fn removal(checks: &mut Checks, card: &str) {
    let gone = SSDS[1];
    let mut server = None;
    checks.check("an SSD is removed under load", || {
        server = Some(start_served(card)?);
        let load =
            "fio --name=load --filename=/dev/nbd1 --direct=1 --rw=randrw --bs=4k --size=12M --time_based \
                    --runtime=15 --ioengine=psync --eta=never --output=/tmp/load.txt";
        let mut load = Command::new("/bin/sh").args(["-c", load]).spawn()?;
        let began = Instant::now();
        while writes("nbd1")? < WRITES_BEFORE_REMOVAL {
            expect(began.elapsed() < START_LIMIT, "nothing is written")?;
            std::thread::sleep(Duration::from_millis(20));
        }
        println!("HOST remove ssd1");
        let began = Instant::now();
        while Path::new("/sys/bus/pci/devices").join(gone).exists() {
            expect(began.elapsed() < REMOVAL_LIMIT, "it is still there")?;
            std::thread::sleep(Duration::from_millis(100));
        }
        let left = began.elapsed();
        expect(load.wait()?.success(), "its mirror's client saw an error")?;
        expect(fs::read_to_string("/tmp/load.txt")?.contains("err= 0"), "its mirror's client saw an error")?;
        Ok(format!("gone after {} ms, no error at its mirror", left.as_millis()))
    });
    checks.check("the mirror goes on without it", || {
        let told = server.as_ref().ok_or("it does not run")?.wait_for("ssd1", START_LIMIT)?;
        fio_verifies("4M")?;
        let listed = shell("volplane devices")?;
        expect(!listed.contains(gone), listed)?;
        Ok(told)
    });
    checks.check("killed, the SSD that is left is given back", || {
        disconnect()?;
        server.take().ok_or("it does not run")?.kill()?;
        shell(&format!("volplane unbind {}", SSDS[0]))
    });
}

/// Writes that a block device has completed.
fn writes(device: &str) -> Result<u64, Box<dyn std::error::Error>> {
    let text = fs::read_to_string(format!("/sys/block/{device}/stat"))?;
    // The fifth field (Documentation/block/stat.rst).
    Ok(text.split_whitespace().nth(4).ok_or("no such field")?.parse()?)
}

fn fio_verifies(size: &str) -> Outcome {
    shell(&format!(
        "fio --name=verify --filename=/dev/nbd1 --direct=1 --rw=randwrite --bsrange=512-64k --size={size} \
         --verify=crc32c --do_verify=1 --ioengine=psync --randseed=7 --output=/tmp/fio.txt"
    ))?;
    let text = fs::read_to_string("/tmp/fio.txt")?;
    expect(text.contains("err= 0"), &text)?;
    Ok(size.to_owned())
}
