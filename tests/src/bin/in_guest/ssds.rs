//! The backing on QEMU's NVMe controllers, both in one address space.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use volplane_abi::nvme::{admin, aqa, cc, csts, register};
use volplane_abi::{opcode, status, CompletionEntry, SubmissionEntry};
use volplane_driver::{
    pci, poll_until, AccessError, Bar, DmaMemory, Function, Platform, VfioFunction, VfioPlatform, PAGE,
};

use crate::refusals::{self, shell, SSDS};
use crate::ssd::{Ssd, LIMIT};
use crate::{expect, Checks, Outcome};

/// Longest time until the kernel's log tells of an access that the IOMMU refused.
const LOG_LIMIT: Duration = Duration::from_secs(10);
/// Seed of all data.
const SEED: u64 = 20;

pub fn run(checks: &mut Checks) {
    checks.check("the kernel's interface is used", interface);
    checks.check("controllers come up in one address space", bring_up);
    checks.check("data come back at every size", data);
    checks.check("large memory is of huge pages", huge_pages);
    checks.check("memory is taken away again", memory_comes_and_goes);
    checks.check("DMA to what is not mapped is refused", unmapped);
    checks.check("an SSD writes to another's BAR", || peer(false));
    checks.check("and when that one was reset", || peer(true));
    checks.check("interrupts arrive by MSI-X", interrupts);
    checks.check("more interrupts than there are are refused", too_many_interrupts);
    checks.check("a function level reset resets", reset);
    checks.check("functions open once and again", again);
    refusals::unbind(checks);
}

/// iommufd where the kernel has it, a container where not.
fn interface() -> Outcome {
    let mut platform = VfioPlatform::new()?;
    expect(platform.interface().is_none(), "an interface before the first device")?;
    let _functions = [platform.open(SSDS[0])?, platform.open(SSDS[1])?];
    let interface = platform.interface().ok_or("no interface")?;
    let has_iommufd = Path::new(refusals::IOMMUFD).exists();
    expect((interface == "iommufd") == has_iommufd, format!("{interface}, iommufd: {has_iommufd}"))?;
    Ok(interface)
}

fn bring_up() -> Outcome {
    let mut platform = VfioPlatform::new()?;
    let mut said = Vec::new();
    let ssds: Result<Vec<Ssd>, _> = SSDS.iter().map(|ssd| Ssd::open(&mut platform, ssd)).collect();
    let mut bars = Vec::new();
    for ssd in ssds? {
        let function = ssd.controller.function();
        expect(pci::identity(function.as_ref())?.class == 0x01_08_02, "its class")?;
        expect(function.abilities().function_level_reset, "it knows the function level reset")?;
        bars.push(function.bar_iova(Bar::Bar0));
        let identity = ssd.controller.identity();
        said.push(format!("{:?} with {} blocks of {}", identity.serial, ssd.blocks, ssd.block));
        ssd.controller.shutdown(&mut platform)?;
    }
    expect(bars[0] != bars[1] && bars.iter().all(|bar| bar.0 != 0), format!("BARs at {bars:?}"))?;
    Ok(said.join(", "))
}

fn data() -> Outcome {
    let mut platform = VfioPlatform::new()?;
    let mut ssd = Ssd::open(&mut platform, SSDS[0])?;
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let most = ssd.transfer.min(1024) as usize;
    let buffer = platform.allocate(most * ssd.block + PAGE)?;
    let mut moved = 0;
    for blocks in [1, 7, 8, 9, 16, 17, 100, most] {
        let bytes = blocks * ssd.block;
        let lba = u64::from(random.next_u32()) % (ssd.blocks - blocks as u64);
        let mut data = vec![0; bytes];
        random.fill_bytes(&mut data);
        buffer.write(0, &data);
        let write = ssd.command(opcode::WRITE, lba, blocks, buffer.iova().0);
        expect(ssd.execute(&mut platform, write)? == status::SUCCESS, format!("write of {blocks} blocks"))?;
        buffer.fill(0, buffer.len(), 0xEE);
        let read = ssd.command(opcode::READ, lba, blocks, buffer.iova().0);
        expect(ssd.execute(&mut platform, read)? == status::SUCCESS, format!("read of {blocks} blocks"))?;
        let mut back = vec![0; buffer.len()];
        buffer.read(0, &mut back);
        expect(back[..bytes] == data, format!("{blocks} blocks came back as others"))?;
        expect(back[bytes..].iter().all(|&byte| byte == 0xEE), "bytes behind the buffer")?;
        moved += bytes;
    }
    ssd.controller.shutdown(&mut platform)?;
    Ok(format!("{moved} bytes each way"))
}

fn huge_pages() -> Outcome {
    let free = || -> Result<u64, Box<dyn Error>> {
        let text = std::fs::read_to_string("/proc/meminfo")?;
        let line = text.lines().find_map(|line| line.strip_prefix("HugePages_Free:"));
        Ok(line.ok_or("no HugePages_Free")?.trim().parse()?)
    };
    let mut platform = VfioPlatform::new()?;
    let _function = platform.open(SSDS[0])?;
    let before = free()?;
    let memory = platform.allocate(5 << 20)?;
    let during = free()?;
    expect(memory.len() == 5 << 20 && before == during + 3, format!("{before} free, then {during}"))?;
    expect(memory.iova().0.is_multiple_of(2 << 20), "its bus address")?;
    // More than there are: ordinary pages.
    let rest = platform.allocate(32 << 20)?;
    expect(free()? == during, "huge pages were taken in part")?;
    rest.write(rest.len() - 1, &[1]);
    drop((memory, rest));
    expect(free()? == before && platform.pinned() == 0, "not all was given back")?;
    Ok(format!("3 of {before}, and 32 MiB without"))
}

fn memory_comes_and_goes() -> Outcome {
    let mut platform = VfioPlatform::new()?;
    let _function = platform.open(SSDS[0])?;
    let first = platform.allocate(PAGE)?.iova();
    for _ in 0..200 {
        let held: Result<Vec<_>, _> = (1..20).map(|pages| platform.allocate(pages * PAGE)).collect();
        drop(held?);
    }
    expect(platform.allocate(PAGE)?.iova() == first, "bus addresses are lost")?;
    expect(platform.pinned() == 0, format!("{} bytes are still pinned", platform.pinned()))?;
    let error = VfioPlatform::new()?.allocate(PAGE).err().ok_or("memory without a device")?.to_string();
    expect(error.contains("no device is open yet"), &error)?;
    Ok("3800 times".to_owned())
}

/// A write whose data are not mapped any more, and a read to memory of this process. QEMU's SSDs say that such
/// commands succeeded; what counts is what the IOMMU says, and that nothing was written.
fn unmapped() -> Outcome {
    let mut platform = VfioPlatform::new()?;
    let mut ssd = Ssd::open(&mut platform, SSDS[0])?;
    let buffer = platform.allocate(PAGE)?;
    let gone = platform.allocate(PAGE)?.iova().0;
    let guard = vec![0xA5u8; 2 * PAGE];
    let own = (guard.as_ptr() as u64).next_multiple_of(PAGE as u64);
    for (code, iova) in [(opcode::WRITE, gone), (opcode::READ, own)] {
        let command = ssd.command(code, 0, 1, iova);
        ssd.execute(&mut platform, command)?;
    }
    let refused = format!("fault addr {gone:#x}");
    let logged = poll_until(&mut platform, LOG_LIMIT, || -> Result<_, Box<dyn Error>> {
        Ok(shell("dmesg")?.contains(&refused).then_some(()))
    })?;
    expect(logged.is_some(), format!("the kernel's log has no \"{refused}\""))?;
    expect(guard.iter().all(|&byte| byte == 0xA5), "memory that was never mapped was written")?;
    let read = ssd.command(opcode::READ, 0, 1, buffer.iova().0);
    expect(ssd.execute(&mut platform, read)? == status::SUCCESS, "it reads no more")?;
    ssd.controller.shutdown(&mut platform)?;
    Ok(refused)
}

/// The second SSD reads its blocks into memory in the first one's BAR2, and writes them from there.
fn peer(is_reset: bool) -> Outcome {
    let mut platform = VfioPlatform::new()?;
    let mut target = platform.open(SSDS[0])?;
    if is_reset {
        target.reset()?;
    }
    pci::enable(&target)?;
    let mut ssd = Ssd::open(&mut platform, SSDS[1])?;
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let (buffer, window) = (platform.allocate(PAGE)?, target.bar_iova(Bar::Bar2));
    expect(target.bar_len(Bar::Bar2) >= PAGE as u64, "the first SSD has no memory in BAR2")?;
    let mut data = vec![0; PAGE];
    random.fill_bytes(&mut data);
    buffer.write(0, &data);
    let blocks = PAGE / ssd.block;
    for (code, iova) in [(opcode::WRITE, buffer.iova().0), (opcode::READ, window.0)] {
        let command = ssd.command(code, 64, blocks, iova);
        expect(ssd.execute(&mut platform, command)? == status::SUCCESS, format!("command {code:#x}"))?;
    }
    for (number, word) in data.chunks_exact(4).enumerate() {
        let seen = target.read32(Bar::Bar2, number as u64 * 4)?;
        expect(seen.to_le_bytes() == *word, format!("word {number} is {seen:#x}"))?;
    }
    let back = ssd.command(opcode::WRITE, 128, blocks, window.0);
    expect(ssd.execute(&mut platform, back)? == status::SUCCESS, "a write from the peer's memory")?;
    buffer.fill(0, PAGE, 0);
    let read = ssd.command(opcode::READ, 128, blocks, buffer.iova().0);
    expect(ssd.execute(&mut platform, read)? == status::SUCCESS, "reading it")?;
    let mut seen = vec![0; PAGE];
    buffer.read(0, &mut seen);
    expect(seen == data, "what came from the peer's memory is something else")?;
    ssd.controller.shutdown(&mut platform)?;
    Ok(format!("{PAGE} bytes there and back through {window:?}"))
}

/// Admin queues of 8 entries for a function that is opened without the driver's `NvmeController`, and the controller
/// ready.
fn start(
    platform: &mut VfioPlatform,
    function: &VfioFunction,
) -> Result<(DmaMemory, DmaMemory), Box<dyn Error>> {
    let (sq, cq) = (platform.allocate(PAGE)?, platform.allocate(PAGE)?);
    pci::enable(function)?;
    function.write32(Bar::Bar0, register::AQA, aqa::ASQS.put32(7) | aqa::ACQS.put32(7))?;
    function.write64(Bar::Bar0, register::ASQ, sq.iova().0)?;
    function.write64(Bar::Bar0, register::ACQ, cq.iova().0)?;
    function.write32(Bar::Bar0, register::CC, cc::ENTRY_SIZES | cc::EN.put32(1))?;
    poll_until(platform, LIMIT, || is_ready(function).map(|ready| ready.then_some(())))?
        .ok_or("it does not become ready")?;
    Ok((sq, cq))
}

fn is_ready(function: &VfioFunction) -> Result<bool, AccessError> {
    Ok(csts::RDY.of32(function.read32(Bar::Bar0, register::CSTS)?) == 1)
}

/// The admin completion queue raises vector 0; the driver's own queues are polled.
fn interrupts() -> Outcome {
    let mut platform = VfioPlatform::new()?;
    let mut function = platform.open(SSDS[0])?;
    let vectors = function.abilities().vectors;
    function.enable_interrupts(2)?;
    let (sq, cq) = start(&mut platform, &function)?;
    let page = platform.allocate(PAGE)?;
    expect(!function.take_interrupt(0), "an interrupt of nothing")?;
    // Identify Controller: 1 in dword 10.
    let identify = SubmissionEntry::default().with_opcode(admin::IDENTIFY).with_starting_lba(1);
    sq.write_record(0, &identify.with_prp1(page.iova().0));
    function.write32(Bar::Bar0, register::DOORBELLS, 1)?;
    let began = platform.now();
    while !function.take_interrupt(0) && platform.now() < began + LIMIT {
        platform.wait(began + LIMIT)?;
    }
    expect(platform.now() < began + LIMIT, "no interrupt")?;
    expect(!function.take_interrupt(0) && !function.take_interrupt(1), "one more")?;
    let completion: CompletionEntry = cq.read_record(0);
    expect(
        cq.load_acquire(12) >> 16 & 1 == 1 && completion.status() & 0x7FF == status::SUCCESS,
        "its completion",
    )?;
    // With nothing to come the time runs out.
    let deadline = platform.now() + Duration::from_millis(30);
    platform.wait(deadline)?;
    expect(platform.now() >= deadline, "it woke up early")?;
    function.write32(Bar::Bar0, register::CC, 0)?;
    Ok(format!("one of {vectors} vectors"))
}

fn too_many_interrupts() -> Outcome {
    let mut function = VfioPlatform::new()?.open(SSDS[0])?;
    let error = function.enable_interrupts(4000).err().ok_or("4000 vectors")?.to_string();
    expect(error.contains("MSI-X vectors, 4000 are wanted"), &error)?;
    Ok(error)
}

fn reset() -> Outcome {
    let mut platform = VfioPlatform::new()?;
    let mut function = platform.open(SSDS[0])?;
    let queues = start(&mut platform, &function)?;
    function.reset()?;
    expect(!is_ready(&function)?, "it is as ready as before")?;
    expect(function.read32(Bar::Bar0, register::CC)? & 1 == 0, "it is still enabled")?;
    drop(queues);
    drop(function);
    let ssd = Ssd::open(&mut platform, SSDS[0])?;
    ssd.controller.shutdown(&mut platform)?;
    Ok("and it comes up again".to_owned())
}

fn again() -> Outcome {
    let mut platform = VfioPlatform::new()?;
    for _ in 0..5 {
        let first = platform.open(SSDS[0])?;
        let error = platform.open(SSDS[0]).err().ok_or("it opened twice")?.to_string();
        expect(error.contains("is already open"), &error)?;
        drop(first);
    }
    expect(platform.open("0000:1f:00.0").is_err(), "a function that is not there")?;
    Ok("5 times".to_owned())
}
