//! The driver brings up the simulator's SSDs and moves data through queues in host memory.

use std::time::Duration;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use volplane_abi::{opcode, status, CompletionEntry, SubmissionEntry};
use volplane_driver::{
    pci, poll_until, DmaMemory, Iova, NvmeController, NvmeError, Platform, QueuePair, PAGE,
};
use volplane_sim::{SimFunction, SimHandle, SimPlatform, SimulatorConfig, SsdConfig, SSD_BAR0};

const LIMIT: Duration = Duration::from_secs(1);
/// Compare Failure (NVM Command Set 1.0, figure 15).
const COMPARE_FAILURE: u16 = 0x285;

fn seed() -> u64 {
    let seed = std::env::var("VOLPLANE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(11);
    println!("replay with VOLPLANE_SEED={seed}");
    seed
}

fn machine(ssds: impl IntoIterator<Item = SsdConfig>) -> (SimPlatform, SimHandle) {
    let config = ssds.into_iter().fold(SimulatorConfig::new(seed()), SimulatorConfig::with_ssd);
    let platform = SimPlatform::new(config).expect("a sound configuration");
    let handle = platform.handle();
    (platform, handle)
}

/// 512-byte blocks, MDTS 128 KiB, WZSL 512 KiB.
fn small() -> SsdConfig {
    SsdConfig::new("small", 512, 1 << 16).with_limits(5, 7)
}

fn open(platform: &mut SimPlatform, name: &str) -> NvmeController<SimFunction> {
    NvmeController::open(platform, &format!("sim:{name}")).expect("the controller comes up")
}

/// A queue pair may be used from any thread.
const _: fn() = || {
    fn sends<T: Send>() {}
    sends::<QueuePair<SimFunction>>();
};

/// Nobody touched memory or registers that are not theirs.
fn assert_clean(handle: &SimHandle) {
    assert!(handle.refusals().is_empty(), "{:?}", handle.refusals());
    assert_eq!(handle.ssd_complaints(), Vec::<String>::new());
}

/// A command over all of `buffer`, from `offset` in its first page, with a PRP list in `list`.
fn transfer(
    code: u8,
    lba: u64,
    blocks: u32,
    buffer: &DmaMemory,
    offset: usize,
    list: &DmaMemory,
) -> SubmissionEntry {
    let pages = (offset + blocks as usize * 512).div_ceil(PAGE);
    let page = |number: usize| buffer.iova().0 + (number * PAGE) as u64;
    let prp2 = match pages {
        1 => 0,
        2 => page(1),
        _ => {
            assert!(pages <= 513, "one list");
            (1..pages).for_each(|number| list.write((number - 1) * 8, &page(number).to_le_bytes()));
            list.iova().0
        }
    };
    SubmissionEntry::default()
        .with_opcode(code)
        .with_namespace_id(1)
        .with_starting_lba(lba)
        .with_block_count_z((blocks - 1) as u16)
        .with_prp1(buffer.iova().0 + offset as u64)
        .with_prp2(prp2)
}

fn completion(platform: &mut SimPlatform, queue: &mut QueuePair<SimFunction>) -> CompletionEntry {
    poll_until(platform, LIMIT, || queue.poll()).expect("a sound queue").expect("a completion in time")
}

/// Executes one command; the code and type of its status.
fn execute(platform: &mut SimPlatform, queue: &mut QueuePair<SimFunction>, command: SubmissionEntry) -> u16 {
    queue.submit(command.with_command_id(77)).expect("room");
    queue.ring().expect("doorbell");
    let completion = completion(platform, queue);
    assert_eq!((completion.command_id(), completion.sq_id()), (77, queue.number()));
    completion.status() & 0x7FF
}

#[test]
fn controllers_say_what_they_are() {
    let large = SsdConfig::new("large", 4096, 1 << 20).with_limits(0, 0);
    let odd = SsdConfig {
        queue_entries_max: 33,
        queue_pairs_max: 3,
        ..SsdConfig::new("odd", 1024, 999).with_limits(3, 0)
    };
    let (mut platform, handle) = machine([small(), large, odd]);

    let mut controller = open(&mut platform, "small");
    assert_eq!(controller.namespaces(), [1]);
    assert!(!controller.identity().model.is_empty() && !controller.identity().serial.is_empty());
    assert_eq!((controller.io_queues(), controller.queue_entries_max()), (16, 1024));
    let ids = pci::identity(controller.function().as_ref()).expect("configuration space");
    assert_eq!(ids.class, 0x01_08_02, "an NVMe I/O controller");
    let limits = controller.limits(&mut platform, 1).expect("limits");
    assert_eq!((limits.block_bytes, limits.blocks, limits.queue_entries_max), (512, 1 << 16, 1024));
    assert_eq!((limits.transfer_blocks, limits.write_zeroes_blocks), (256, 1024));
    assert!(limits.write_zeroes && limits.dataset_management);
    match controller.limits(&mut platform, 2) {
        Err(NvmeError::Namespace { controller, namespace: 2, .. }) => assert_eq!(controller, "sim:small"),
        other => panic!("{other:?}"),
    }

    let limits = open(&mut platform, "large").limits(&mut platform, 1).expect("limits");
    assert_eq!((limits.block_bytes, limits.blocks), (4096, 1 << 20));
    assert_eq!((limits.transfer_blocks, limits.write_zeroes_blocks), (65536, 65536), "no limit but NLB's");

    let mut controller = open(&mut platform, "odd");
    assert_eq!((controller.io_queues(), controller.queue_entries_max()), (3, 33));
    let limits = controller.limits(&mut platform, 1).expect("limits");
    assert_eq!((limits.block_bytes, limits.blocks), (1024, 999));
    assert_eq!((limits.transfer_blocks, limits.write_zeroes_blocks), (32, 32), "without WZSL, MDTS");
    assert_clean(&handle);
}

#[test]
fn a_controller_opens_once_and_again_after_shutdown() {
    let (mut platform, handle) = machine([small()]);
    assert!(matches!(NvmeController::open(&mut platform, "sim:absent"), Err(NvmeError::Access(_))));
    let controller = open(&mut platform, "small");
    assert!(matches!(NvmeController::open(&mut platform, "sim:small"), Err(NvmeError::Access(_))));
    controller.shutdown(&mut platform).expect("shut down");
    drop(open(&mut platform, "small"));
    open(&mut platform, "small").shutdown(&mut platform).expect("up again after a mere drop");
    assert_clean(&handle);
}

#[test]
fn data_comes_back_at_every_size_and_offset() {
    let (mut platform, handle) = machine([small()]);
    let mut random = ChaCha8Rng::seed_from_u64(seed());
    let mut controller = open(&mut platform, "small");
    let mut queue = controller.create_host_queue(&mut platform, 1, 4).expect("queue");
    let buffer = platform.allocate(34 * PAGE).expect("memory");
    let list = platform.allocate(PAGE).expect("memory");
    for (blocks, offset) in
        [(1, 0), (8, 0), (8, 4), (9, 0), (16, 0), (16, 512), (17, 2048), (24, 4092), (256, 0), (256, 4092)]
    {
        let (bytes, lba) = (blocks as usize * 512, random.random_range(0..65536 - 256));
        let mut data = vec![0; bytes];
        random.fill_bytes(&mut data);
        buffer.fill(0, buffer.len(), 0xEE);
        buffer.write(offset, &data);
        let write = transfer(opcode::WRITE, lba, blocks, &buffer, offset, &list);
        assert_eq!(execute(&mut platform, &mut queue, write), status::SUCCESS);
        let mut media = vec![0; bytes];
        handle.read_media("small", lba * 512, &mut media).expect("media");
        assert!(media == data, "{blocks} blocks from offset {offset} reached the media");

        buffer.fill(0, buffer.len(), 0xEE);
        let read = transfer(opcode::READ, lba, blocks, &buffer, offset, &list);
        assert_eq!(execute(&mut platform, &mut queue, read), status::SUCCESS);
        let mut back = vec![0; buffer.len()];
        buffer.read(0, &mut back);
        assert!(back[offset..offset + bytes] == data, "{blocks} blocks to offset {offset} came back");
        assert!(
            back[..offset].iter().chain(&back[offset + bytes..]).all(|&byte| byte == 0xEE),
            "guard bytes"
        );

        let compare = transfer(opcode::COMPARE, lba, blocks, &buffer, offset, &list);
        assert_eq!(execute(&mut platform, &mut queue, compare), status::SUCCESS);
        buffer.write(offset + bytes - 1, &[!data[bytes - 1]]);
        assert_eq!(execute(&mut platform, &mut queue, compare), COMPARE_FAILURE);
    }
    controller.delete_io_queue_pair(&mut platform, 1).expect("deleted");
    controller.shutdown(&mut platform).expect("shut down");
    assert_clean(&handle);
}

#[test]
fn commands_beyond_the_limits_are_refused() {
    let (mut platform, handle) = machine([small()]);
    let mut controller = open(&mut platform, "small");
    let limits = controller.limits(&mut platform, 1).expect("limits");
    let mut queue = controller.create_host_queue(&mut platform, 1, 16).expect("queue");
    let buffer = platform.allocate(33 * PAGE).expect("memory");
    let list = platform.allocate(PAGE).expect("memory");
    let mut run = |code, lba, blocks| {
        let command = transfer(code, lba, blocks, &buffer, 0, &list);
        execute(&mut platform, &mut queue, command)
    };
    for code in [opcode::READ, opcode::WRITE] {
        assert_eq!(run(code, 0, limits.transfer_blocks), status::SUCCESS, "MDTS");
        assert_eq!(run(code, 0, limits.transfer_blocks + 1), status::INVALID_FIELD, "MDTS and a block");
        assert_eq!(run(code, limits.blocks - 1, 1), status::SUCCESS, "the last block");
        assert_eq!(run(code, limits.blocks - 1, 2), status::LBA_OUT_OF_RANGE);
        assert_eq!(run(code, limits.blocks, 1), status::LBA_OUT_OF_RANGE);
        assert_eq!(run(code, u64::MAX, 1), status::LBA_OUT_OF_RANGE);
    }
    let mut zero = |blocks: u32| {
        let command = SubmissionEntry::default().with_opcode(opcode::WRITE_ZEROES).with_namespace_id(1);
        execute(&mut platform, &mut queue, command.with_block_count_z((blocks - 1) as u16))
    };
    assert_eq!(zero(limits.write_zeroes_blocks), status::SUCCESS, "WZSL");
    assert_eq!(zero(limits.write_zeroes_blocks + 1), status::INVALID_FIELD, "WZSL and a block");
    let wrong = SubmissionEntry::default().with_opcode(opcode::READ).with_namespace_id(2);
    assert_eq!(execute(&mut platform, &mut queue, wrong), status::INVALID_NAMESPACE);
    assert_clean(&handle);
}

#[test]
fn a_full_queue_drains_in_any_order() {
    let ssd = SsdConfig { parallelism: 5, ..small().with_latency_ns(10_000, 90_000) };
    let (mut platform, handle) = machine([ssd]);
    let mut random = ChaCha8Rng::seed_from_u64(seed());
    let mut controller = open(&mut platform, "small");
    let mut queue = controller.create_host_queue(&mut platform, 3, 8).expect("queue");
    let buffer = platform.allocate(16 * 512).expect("memory");
    let (mut next, mut waiting, mut overtaken, mut full) = (0u16, Vec::new(), 0, 0);
    while next < 500 || !waiting.is_empty() {
        for _ in 0..random.random_range(0..12) {
            if next == 500 {
                break;
            }
            // Each writes its own identifier to its own block, from its own part of the buffer.
            let part = buffer.part(usize::from(next % 16) * 512, 512);
            if waiting.iter().any(|id| id % 16 == next % 16) {
                break;
            }
            part.write(0, &next.to_le_bytes());
            let command = transfer(opcode::WRITE, next.into(), 1, &part, 0, &part);
            if queue.submit(command.with_command_id(next)).is_err() {
                full += 1;
                break;
            }
            waiting.push(next);
            next += 1;
        }
        queue.ring().expect("doorbell");
        assert_eq!(queue.outstanding(), waiting.len());
        if !waiting.is_empty() {
            let completion = completion(&mut platform, &mut queue);
            assert_eq!(completion.status(), 0);
            let at = waiting.iter().position(|&id| id == completion.command_id()).expect("completed once");
            overtaken += usize::from(at != 0);
            waiting.remove(at);
        }
    }
    assert!(overtaken > 0 && full > 0, "{overtaken} overtaken, {full} times full");
    for id in 0..500u16 {
        let mut block = [0; 2];
        handle.read_media("small", u64::from(id) * 512, &mut block).expect("media");
        assert_eq!(u16::from_le_bytes(block), id);
    }
    assert_clean(&handle);
}

#[test]
fn queues_the_controller_cannot_have_are_refused() {
    let (mut platform, handle) =
        machine([SsdConfig { queue_entries_max: 64, queue_pairs_max: 2, ..small() }]);
    let mut controller = open(&mut platform, "small");
    let sq = platform.allocate(2 * PAGE).expect("memory");
    let cq = platform.allocate(PAGE).expect("memory");
    let mut create = |id, sq: &DmaMemory, sq_entries, cq: Iova, cq_entries| {
        controller.create_io_queue_pair(&mut platform, id, sq, sq_entries, cq, cq_entries)
    };
    let bad: [(u16, DmaMemory, u16, Iova, u16); 8] = [
        (0, sq.clone(), 64, cq.iova(), 64),
        (3, sq.clone(), 64, cq.iova(), 64),
        (1, sq.clone(), 1, cq.iova(), 64),
        (1, sq.clone(), 64, cq.iova(), 1),
        (1, sq.clone(), 65, cq.iova(), 64),
        (1, sq.clone(), 64, cq.iova(), 65),
        (1, sq.part(512, PAGE), 64, cq.iova(), 64),
        (1, sq.part(0, PAGE - 64), 64, cq.iova(), 64),
    ];
    for (id, sq, sq_entries, cq, cq_entries) in &bad {
        let result = create(*id, sq, *sq_entries, *cq, *cq_entries);
        assert!(matches!(result, Err(NvmeError::QueueArgument { queue, .. }) if queue == *id), "{result:?}");
    }
    let short = cq.part(0, 63 * 16);
    let result = controller.create_io_queue_pair(&mut platform, 1, &sq, 64, &short, 64);
    assert!(matches!(result, Err(NvmeError::QueueArgument { queue: 1, .. })), "{result:?}");
    cq.fill(0, PAGE, 0xFF);
    controller.create_io_queue_pair(&mut platform, 1, &sq, 32, &cq, 63).expect("a pair in host memory");
    let mut bytes = vec![0; PAGE];
    cq.read(0, &mut bytes);
    assert!(bytes[..63 * 16].iter().all(|&byte| byte == 0), "a queue in host memory begins as zeros");
    assert!(bytes[63 * 16..].iter().all(|&byte| byte == 0xFF), "and nothing behind it is touched");
    controller.delete_io_queue_pair(&mut platform, 1).expect("deleted");
    let mut create = |id, sq: &DmaMemory, sq_entries, cq: Iova, cq_entries| {
        controller.create_io_queue_pair(&mut platform, id, sq, sq_entries, cq, cq_entries)
    };
    let doorbells = create(2, &sq, 64, cq.iova(), 64).expect("the second and last pair");
    assert_eq!((doorbells.sq_tail, doorbells.cq_head), (Iova(SSD_BAR0 + 0x1010), Iova(SSD_BAR0 + 0x1014)));
    assert!(matches!(create(2, &sq, 64, cq.iova(), 64), Err(NvmeError::QueueArgument { queue: 2, .. })));
    controller.delete_io_queue_pair(&mut platform, 2).expect("deleted");
    assert!(matches!(
        controller.delete_io_queue_pair(&mut platform, 2),
        Err(NvmeError::QueueArgument { .. })
    ));
    assert_clean(&handle);
}

#[test]
fn a_refused_admin_command_names_its_opcode_and_status() {
    let (mut platform, handle) = machine([small()]);
    let mut controller = open(&mut platform, "small");
    let unknown = SubmissionEntry::default().with_opcode(0x7F);
    match controller.admin(&mut platform, unknown) {
        Err(error @ NvmeError::Admin { opcode: 0x7F, status: 0x4001, .. }) => {
            let text = "NVMe controller sim:small: admin command 0x7f ended with status 0x4001";
            assert_eq!(error.to_string(), text);
        }
        other => panic!("{other:?}"),
    }
    controller.limits(&mut platform, 1).expect("the admin queue goes on");
    assert_clean(&handle);
}

#[test]
fn deleting_a_pair_or_resetting_ends_what_was_under_way() {
    let (mut platform, handle) = machine([small().with_latency_ns(50_000_000, 0)]);
    let mut controller = open(&mut platform, "small");
    handle.write_media("small", 0, &[0xAB; 512]).expect("media");
    for reset in [false, true] {
        let mut queue = controller.create_host_queue(&mut platform, 1, 16).expect("queue");
        let buffer = platform.allocate(PAGE).expect("memory");
        for id in 0..10 {
            let code = if id % 2 == 0 { opcode::READ } else { opcode::WRITE };
            queue.submit(transfer(code, 0, 1, &buffer, 0, &buffer).with_command_id(id)).expect("room");
        }
        queue.ring().expect("doorbell");
        assert!(queue.poll().expect("a sound queue").is_none());
        if reset {
            controller.reset(&mut platform).expect("reset");
        } else {
            controller.delete_io_queue_pair(&mut platform, 1).expect("deleted");
        }
        handle.run_for_ns(200_000_000).expect("time passes");
        assert!(queue.poll().expect("a sound queue").is_none(), "no completion after");
        let (mut memory, mut media) = ([0; 512], [0; 512]);
        buffer.read(0, &mut memory);
        handle.read_media("small", 0, &mut media).expect("media");
        assert_eq!((memory, media), ([0; 512], [0xAB; 512]), "neither memory nor media changed");
    }
    assert_eq!(controller.namespaces(), [1]);
    drop(controller);
    assert_clean(&handle);
}
