use super::*;
use crate::bench::{seeded, Bench};
use crate::records::{ComponentEntry, DivertEntry, Part, PartOver, PartTerms};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::collections::VecDeque;
use volplane_abi::plan::TIME_OUT_SHIFT;

const PLANS: usize = 8;
/// Disks of which parts are counted; the others share their counts.
const ROWS: usize = 4;

#[derive(Clone, Copy)]
struct Template {
    entry: PlanEntry,
    components: [ComponentEntry; 8],
}

impl Template {
    fn random(random: &mut ChaCha8Rng) -> Self {
        let mut number = |bits: u32| random.random::<u64>() >> (64 - bits);
        let entry = PlanEntry {
            read_masks: number(40).to_bits(),
            write_masks: number(40).to_bits(),
            read_policy: (number(16) % 3).to_bits(),
            preferred: number(3).to_bits(),
            minimum: number(3).to_bits(),
            diverts: (number(2) * number(1)).to_bits(),
            first_divert: number(3).to_bits(),
            ..Default::default()
        };
        let components = std::array::from_fn(|_| ComponentEntry {
            disk: number(16).to_bits(),
            retries: number(8).to_bits(),
            allocation_shift: number(6).to_bits(),
            map_root: number(32).to_bits(),
            flush_devices: number(32).to_bits(),
            time_out: (number(24) * number(1)).to_bits(),
            ..Default::default()
        });
        Self { entry, components }
    }
}

fn access(bench: &mut Bench, number: u16, index: usize, data: Bits<256>) {
    bench.set("table_valid", 1);
    let request = TableRequest {
        write: 1u64.to_bits(),
        table: u64::from(number).to_bits(),
        index: (index as u64).to_bits(),
        data,
    };
    bench.set_record::<305>("table_request", request);
    for _ in 0..32 {
        bench.cycle();
        bench.set("table_valid", 0);
        if bench.get("table_ack") == 1 {
            return;
        }
    }
    panic!("table {number} entry {index}: no acknowledge");
}

fn write_templates(bench: &mut Bench, templates: &[Template]) {
    for (number, template) in templates.iter().enumerate() {
        let plan: Bits<128> = template.entry.into();
        access(bench, table::PLAN, number, bit_cast::<256, 128>(plan));
        for (component, entry) in template.components.iter().enumerate() {
            let entry: Bits<128> = (*entry).into();
            access(bench, table::COMPONENT, number * 8 + component, bit_cast::<256, 128>(entry));
        }
    }
}

fn random_pending(random: &mut ChaCha8Rng, slot: u64) -> PendingCommand {
    let opcodes = [opcode::READ, opcode::WRITE, opcode::WRITE, opcode::FLUSH, opcode::COMPARE];
    let foreign = random.random_bool(0.05);
    let opcode = if foreign { opcode::DATASET_MANAGEMENT } else { opcodes[random.random_range(0..5)] };
    let blocks = if foreign || opcode == opcode::FLUSH { 0 } else { random.random_range(1..9u64) };
    let command = ClientCommand {
        queue: random.random_range(0..256u64).to_bits(),
        command_id: random.random_range(0..65_536u64).to_bits(),
        opcode: u64::from(opcode).to_bits(),
        namespace_id: random.random_range(1..65_536u64).to_bits(),
        lba: random.random_range(0..1u64 << 48).to_bits(),
        blocks: blocks.to_bits(),
        refusal: u64::from(if random.random_bool(0.03) { status::INVALID_FIELD } else { 0 }).to_bits(),
        trivial: u64::from(random.random_bool(0.03) && !foreign).to_bits(),
        foreign: u64::from(foreign).to_bits(),
        ..Default::default()
    };
    let disk = DiskEntry {
        size_blocks: random.random_range(0..1u64 << 48).to_bits(),
        status: if random.random_bool(0.95) { 1u64 } else { 2 }.to_bits(),
        block_shift: random.random_range(9..13u64).to_bits(),
        allocation_shift: 7u64.to_bits(),
        map_root: 77u64.to_bits(),
        flush_devices: 777u64.to_bits(),
        plan: if random.random_bool(0.95) { random.random_range(1..PLANS as u64) } else { 0 }.to_bits(),
    };
    // Often without any in sync.
    let states = random.random::<u16>() & if random.random_bool(0.2) { 0xAAAA } else { u16::MAX };
    let states = DiskStates {
        states: u64::from(states).to_bits(),
        durably_out: u64::from(random.random::<u8>() | random.random::<u8>()).to_bits(),
        deactivated: u64::from(random.random_bool(0.03)).to_bits(),
    };
    let again = Again {
        slot: slot.to_bits(),
        component: random.random_range(0..8u64).to_bits(),
        plan: random.random_range(1..PLANS as u64).to_bits(),
        fresh: u64::from(random.random_bool(0.3)).to_bits(),
        retry: u64::from(random.random_bool(0.5)).to_bits(),
    };
    // One that is tried again may be of a disk without a template.
    let bare = again.retry.any() && random.random_bool(0.3);
    let plan = if bare && !again.fresh.any() { 0u64.to_bits() } else { again.plan };
    let again = Again { plan, ..again };
    // From where it waited for its lock, or from the control path.
    let parked = again.fresh.any() && random.random_bool(0.7);
    let again = Again { plan: if parked { 0u64.to_bits() } else { again.plan }, ..again };
    PendingCommand {
        epoch: random.random_range(0..8u64).to_bits(),
        command: command.into(),
        slot: slot.to_bits(),
        again: again.into(),
        is_again: u64::from(random.random_bool(0.35)).to_bits(),
        disk: disk.into(),
        states: states.into(),
    }
}

/// The control path has given it back, now or before it waited for its lock.
fn is_resubmitted(item: &PendingCommand) -> bool {
    let again: Again = item.again.into();
    item.is_again.any() && again.fresh.any() && (again.plan.any() || again.retry.any())
}

/// What a plan that is given back has kept, and which write of which plan it is.
fn random_row(
    random: &mut ChaCha8Rng,
    item: &mut PendingCommand,
    written: &[(ClientCommand, DiskEntry, u64)],
) -> KeptParts {
    let mut sequence = random.random_range(0..1u64 << 24);
    let wanted: ClientCommand = item.command.into();
    if let Some((command, disk, number)) = written.iter().rev().nth(random.random_range(0..12)) {
        if wanted.opcode.to_u64() as u8 == opcode::WRITE {
            (item.command, sequence) = ((*command).into(), *number);
            item.disk = DiskEntry { block_shift: disk.block_shift, ..item.disk.into() }.into();
        }
    }
    let plan = DiskEntry::from(item.disk).plan;
    KeptParts {
        slot: item.slot,
        kept: if random.random_bool(0.1) { 0u64 } else { random.random::<u8>().into() }.to_bits(),
        plan: if random.random_bool(0.8) { plan } else { 9u64.to_bits() },
        sequence: sequence.to_bits(),
    }
}

/// Which plan was the last to write to each region.
struct Writers([u64; 512]);

impl Writers {
    fn entries(command: &ClientCommand, disk: &DiskEntry) -> [usize; 2] {
        let region = command.lba.to_u64() >> (20 - disk.block_shift.to_u64());
        let first = region + ((command.namespace_id.to_u64() - 1) << 5);
        [first as usize % 512, (first + 1) as usize % 512]
    }
}

/// Parts under way, by row of the counts and component.
struct UnderWay(Vec<[u32; 8]>);

impl UnderWay {
    fn row(item: &PendingCommand) -> usize {
        let command: ClientCommand = item.command.into();
        (command.namespace_id.to_u64() - 1) as usize % ROWS
    }

    /// Of some components the least busy one, as a set.
    fn least(&self, item: &PendingCommand, among: u8) -> u8 {
        let counts = &self.0[Self::row(item)];
        let least = (0..8).filter(|i| among >> i & 1 == 1).min_by_key(|&i| counts[i]);
        least.map_or(0, |i| 1 << i)
    }

    /// Some part that is under way.
    fn any(&self, random: &mut ChaCha8Rng) -> Option<(usize, usize)> {
        let rows = (0..ROWS * 8).map(|at| (at / 8, at % 8));
        let there: Vec<_> = rows.filter(|&(row, component)| self.0[row][component] > 0).collect();
        (!there.is_empty()).then(|| there[random.random_range(0..there.len())])
    }
}

/// What becomes of a command.
#[derive(Default)]
struct Expected {
    parts: Vec<ExpandedPart>,
    begun: Option<PlanBegun>,
    lock: bool,
    unlock: bool,
    /// Nothing is begun, the judge goes on.
    resumes: bool,
    /// It writes.
    writes: bool,
}

fn part(
    item: &PendingCommand,
    component: usize,
    single: bool,
    command: ClientCommand,
    disk: DiskEntry,
) -> ExpandedPart {
    let part = Part {
        slot: item.slot,
        component: (component as u64).to_bits(),
        single: u64::from(single).to_bits(),
    };
    ExpandedPart { command: command.into(), part: part.into(), disk: disk.into(), ..Default::default() }
}

fn model(
    item: &PendingCommand,
    templates: &[Template],
    ranges: &[(u64, u64)],
    (turn, sequence): (u8, u64),
    (row, writers, under_way): (&KeptParts, &Writers, &UnderWay),
) -> Expected {
    let command: ClientCommand = item.command.into();
    let disk: DiskEntry = item.disk.into();
    let again: Again = item.again.into();
    let states: DiskStates = item.states.into();
    let mapped = |plan: u64, number: usize| {
        let map = templates[plan as usize].components[number];
        let disk = DiskEntry {
            status: 1u64.to_bits(),
            allocation_shift: map.allocation_shift,
            map_root: map.map_root,
            flush_devices: map.flush_devices,
            ..disk
        };
        let terms = PartTerms {
            time_out: (map.time_out.to_u64() >> TIME_OUT_SHIFT).to_bits(),
            timed: u64::from(map.time_out.any()).to_bits(),
            retried: u64::from(item.is_again.any() && !again.fresh.any() && again.retry.any()).to_bits(),
        };
        ExpandedPart { terms: terms.into(), ..part(item, number, false, command, disk) }
    };
    if item.is_again.any() && !again.fresh.any() {
        let terms = PartTerms { retried: again.retry, ..Default::default() };
        let parts = if again.plan.any() {
            vec![mapped(again.plan.to_u64(), again.component.index())]
        } else {
            vec![ExpandedPart { terms: terms.into(), ..part(item, 0, true, command, disk) }]
        };
        return Expected { parts, ..Expected::default() };
    }
    let deactivated = states.deactivated.any();
    let enabled = disk.status.to_u64() == 1;
    let parked = item.is_again.any() && !again.plan.any();
    if command.refusal.any() || command.trivial.any() || !enabled || !disk.plan.any() || deactivated {
        let status = if deactivated { 2u64.to_bits() } else { disk.status };
        let parts = vec![part(item, 0, true, command, DiskEntry { status, ..disk })];
        return Expected { parts, unlock: parked, ..Expected::default() };
    }
    let template = templates[disk.plan.index()];
    let state = |i: usize| (states.states.to_u64() >> (2 * i)) as u8 & 3;
    let set =
        |wanted: &[u8]| (0..8).filter(|&i| wanted.contains(&state(i))).fold(0u8, |bits, i| bits | 1 << i);
    let (in_sync, write_only, out) =
        (component_state::IN_SYNC, component_state::WRITE_ONLY, component_state::OUT);
    let (readable, writable) = (set(&[in_sync]), set(&[in_sync, write_only]));
    let present = set(&[in_sync, write_only, out]);
    let is_read = [opcode::READ, opcode::COMPARE].contains(&(command.opcode.to_u64() as u8));
    let resubmitted = is_resubmitted(item);
    let writes = !is_read && command.blocks.any();
    let last = Writers::entries(&command, &disk).map(|entry| writers.0[entry] == row.sequence.to_u64());
    let keeps = resubmitted && row.plan == disk.plan && (!writes || last == [true; 2]);
    let kept = if keeps { row.kept.to_u64() as u8 } else { 0 };
    let parts = if is_read && kept != 0 {
        0
    } else if is_read && template.entry.read_policy.to_u64() as u8 == read_policy::LEAST_OUTSTANDING {
        under_way.least(item, readable)
    } else if is_read {
        let from =
            if template.entry.read_policy.any() { turn } else { template.entry.preferred.to_u64() as u8 };
        let among = if template.entry.read_policy.any() { 0xFF << from } else { 1 << from };
        let lowest = |set: u8| set & set.wrapping_neg();
        if readable & among != 0 {
            lowest(readable & among)
        } else {
            lowest(readable)
        }
    } else {
        writable & !kept
    };
    let (first, count) = (template.entry.first_divert.index(), template.entry.diverts.index());
    let (lba, blocks) = (command.lba.to_u64(), command.blocks.to_u64());
    let touched = |range: &(u64, u64)| lba <= range.1 && range.0 < lba + blocks;
    let diverted = blocks != 0 && !resubmitted && ranges[first..first + count].iter().any(touched);
    let stops = diverted || command.foreign.any();
    let resumes = kept != 0 && parts == 0 && (is_read || writable != 0) && !stops;
    if parts == 0 && !stops && !resumes {
        let refusal = u64::from(status::INTERNAL_ERROR).to_bits();
        let parts = vec![part(item, 0, true, ClientCommand { refusal, ..command }, disk)];
        return Expected { parts, unlock: parked, ..Expected::default() };
    }
    let lock = !is_read && writable.count_ones() > 1 && command.blocks.any();
    let missing = present & !writable & !(states.durably_out.to_u64() as u8) != 0;
    let enough = u64::from(readable.count_ones()) >= template.entry.minimum.to_u64() && !missing;
    let masks = if is_read { template.entry.read_masks } else { template.entry.write_masks };
    let begun = PlanBegun {
        disk: (command.namespace_id.to_u64() - 1).to_bits(),
        plan: disk.plan,
        sequence: sequence.to_bits(),
        epoch: (6..=13u64).find(|epoch| epoch % 8 == item.epoch.to_u64()).expect("one of eight").to_bits(),
        masks,
        present: u64::from(present).to_bits(),
        readable: u64::from(readable).to_bits(),
        begun: u64::from(if stops { 0 } else { parts }).to_bits(),
        minimum: template.entry.minimum,
        is_read: u64::from(is_read).to_bits(),
        simple: u64::from((is_read || enough) && kept == 0).to_bits(),
        locked: u64::from(lock).to_bits(),
        kept: u64::from(kept).to_bits(),
        ..Default::default()
    };
    let command = ClientCommand { diverted: u64::from(diverted).to_bits(), ..command };
    let parts = if stops { 1 } else { parts };
    let parts = (0..8)
        .filter(|i| parts >> i & 1 == 1)
        .map(|i| ExpandedPart { command: command.into(), ..mapped(disk.plan.to_u64(), i) });
    let parts = parts.collect();
    Expected { parts, begun: Some(begun), lock, unlock: parked && !lock, resumes, writes }
}

#[test]
fn parts_are_those_of_the_template() {
    let (plan_bits, vd_bits) = (PLANS.ilog2() as usize, ROWS.ilog2() as usize);
    let sizes = Sizes { plan_bits, vd_bits, ..Sizes::DEFAULT };
    let mut bench = Bench::new("expander", Expander::new(&sizes));
    let mut random = seeded();
    bench.set("reset", 1);
    bench.cycle();
    bench.set("reset", 0);
    bench.set("epoch", 13);
    let templates: Vec<Template> = (0..PLANS).map(|_| Template::random(&mut random)).collect();
    write_templates(&mut bench, &templates);
    let ranges: Vec<(u64, u64)> = (0..16)
        .map(|_| {
            let first = random.random_range(0..1u64 << 48);
            (first, (first + random.random_range(0..1 << 45)).min((1 << 48) - 1))
        })
        .collect();
    for (index, &(first, last)) in ranges.iter().enumerate() {
        let (first, last) = (first.to_bits(), last.to_bits());
        let entry = DivertEntry { first, last, valid: 1u64.to_bits(), ..Default::default() };
        let entry: Bits<128> = entry.into();
        access(&mut bench, table::DIVERT, index, bit_cast::<256, 128>(entry));
    }
    let (mut turn, mut sequence, mut slot) = (0u8, 1u64, 0u64);
    let (mut foreign, mut diverted, mut partial) = (0, 0, 0);
    let mut next: Option<(PendingCommand, Expected)> = None;
    let (mut writers, mut written) = (Writers([0; 512]), Vec::new());
    let (mut resumed, mut resumes) = (VecDeque::new(), 0);
    let mut pending: Option<(PendingCommand, Expected)> = None;
    let mut parts: VecDeque<ExpandedPart> = VecDeque::new();
    let mut begun: VecDeque<(u64, PlanBegun)> = VecDeque::new();
    // The lock: cycles until its answer.
    let (mut lock_due, mut asked) = (None, false);
    let (mut denials, mut seen, mut kinds) = (0, 0, [0; 3]);
    let (mut dropped, mut parked) = (false, 0u32);
    // Parts that are begun, with the component's tries.
    let (mut begins, mut begins_seen) = (VecDeque::<PartBegun>::new(), 0);
    let (mut unlocks, mut unlocked) = (VecDeque::new(), 0);
    // An end is known some cycles after it was told; nothing is asked meanwhile.
    let (mut under_way, mut unsettled, mut least, mut not_lowest) =
        (UnderWay(vec![[0; 8]; ROWS]), 0u32, 0, 0);
    while bench.get("initialised") == 0 {
        bench.cycle();
    }
    for _ in 0..160_000 {
        bench.set("keeps_valid", 0);
        bench.set("over_valid", 0);
        unsettled = unsettled.saturating_sub(1);
        let over = under_way.any(&mut random).filter(|_| pending.is_none() && next.is_none());
        if let Some((row, component)) = over.filter(|_| unsettled == 0 && random.random_bool(0.2)) {
            under_way.0[row][component] -= 1;
            let over = PartOver { disk: (row as u64).to_bits(), component: (component as u64).to_bits() };
            bench.set("over_valid", 1);
            bench.set_record::<19>("over", over);
            unsettled = 8;
        }
        if pending.is_none() && next.is_some() {
            pending = next.take();
            (asked, dropped) = (false, false);
        } else if pending.is_none() && unsettled == 0 && random.random_bool(0.8) {
            // What it keeps is told before it comes.
            slot = (slot + 1) % 4096;
            let mut item = random_pending(&mut random, slot);
            let mut row = KeptParts::default();
            if is_resubmitted(&item) {
                row = random_row(&mut random, &mut item, &written);
                bench.set("keeps_valid", 1);
                bench.set_record::<60>("keeps", row);
            }
            let expected = model(&item, &templates, &ranges, (turn, sequence), (&row, &writers, &under_way));
            next = Some((item, expected));
        }
        bench.set("pending$valid", pending.is_some().into());
        bench.set_record::<547>("pending$data", pending.as_ref().map(|it| it.0).unwrap_or_default());
        let part_ready = random.random_bool(0.8);
        bench.set("part$ready", part_ready.into());
        let lock_ready = random.random_bool(0.8);
        bench.set("lock$ready", lock_ready.into());
        bench.set("lock_answer", u128::from(lock_due == Some(0)));
        let granted = random.random_bool(0.8);
        bench.set("lock_granted", granted.into());
        if lock_due == Some(0) && !granted {
            dropped = true;
            denials += 1;
        }
        lock_due = lock_due.and_then(|due: u32| due.checked_sub(1));
        bench.eval();
        if lock_ready && bench.get("lock$valid") == 1 {
            let (item, expected) = pending.as_ref().expect("it asks for what is pending");
            let request: LockRequest = bench.get_record::<98, _>("lock$data");
            let command: ClientCommand = item.command.into();
            let disk: DiskEntry = item.disk.into();
            assert!(expected.lock && !asked, "one lock for each write to several");
            assert_eq!((request.slot, request.blocks), (item.slot, command.blocks));
            assert_eq!(request.lba.to_u64(), command.lba.to_u64());
            assert_eq!(request.disk.to_u64(), command.namespace_id.to_u64() - 1);
            assert_eq!(request.block_shift, disk.block_shift);
            assert_eq!(request.resubmitted.any(), is_resubmitted(item));
            asked = true;
            // The lock takes its time, on which what is kept relies.
            lock_due = Some(random.random_range(5..12));
        }
        let unlock_ready = random.random_bool(0.5);
        bench.set("unlock$ready", unlock_ready.into());
        bench.eval();
        if unlock_ready && bench.get("unlock$valid") == 1 {
            assert_eq!(unlocks.pop_front(), Some(bench.get("unlock$data") as u64));
            unlocked += 1;
        }
        let resumed_ready = random.random_bool(0.5);
        bench.set("resumed$ready", resumed_ready.into());
        bench.eval();
        if resumed_ready && bench.get("resumed$valid") == 1 {
            let slot = bench.get("resumed$data") as u64;
            assert_eq!(resumed.pop_front(), Some(slot));
            assert!(begun.iter().all(|(begun, _)| *begun != slot), "it was begun before");
            resumes += 1;
        }
        if bench.get("part_begun_valid") == 1 {
            assert_eq!(Some(bench.get_record::<40, PartBegun>("part_begun")), begins.pop_front());
            begins_seen += 1;
        }
        if bench.get("begun_valid") == 1 {
            let record: PlanBegun = bench.get_record::<168, _>("begun");
            assert_eq!(Some((bench.get("begun_slot") as u64, record)), begun.pop_front());
        }
        if bench.get("parked_valid") == 1 {
            let (item, _) = pending.as_ref().expect("it is pending");
            assert_eq!((bench.get("parked_slot") as u64, dropped), (item.slot.to_u64(), true));
            parked += 1;
        }
        if part_ready && bench.get("part$valid") == 1 {
            let part: ExpandedPart = bench.get_record::<505, _>("part$data");
            assert_eq!(Some(part), parts.pop_front());
            seen += 1;
        }
        let idle = bench.get("idle") == 1;
        let nothing = pending.is_none() && parts.is_empty() && begun.is_empty() && resumed.is_empty();
        assert!(!idle || nothing);
        if pending.is_some() && bench.get("pending$ready") == 1 {
            let (item, expected) = pending.take().expect("only what is pending is taken");
            assert_eq!(expected.lock, asked);
            kinds[usize::from(expected.begun.is_some()) + usize::from(expected.lock)] += 1;
            if !dropped {
                let first = expected.parts.first();
                let tried = first.is_some_and(|part| PartTerms::from(part.terms).retried.any());
                let plan = if item.is_again.any() && !Again::from(item.again).fresh.any() {
                    Again::from(item.again).plan
                } else {
                    DiskEntry::from(item.disk).plan
                };
                for part in expected.parts.iter().map(|part| Part::from(part.part)) {
                    if !part.single.any() && !tried {
                        let component = templates[plan.index()].components[part.component.index()];
                        begins.push_back(PartBegun { part: part.into(), plan, retries: component.retries });
                        under_way.0[UnderWay::row(&item)][part.component.index()] += 1;
                    }
                }
                unlocks.extend(expected.unlock.then_some(item.slot.to_u64()));
                parts.extend(expected.parts);
                begun.extend(expected.begun.map(|begun| (item.slot.to_u64(), begun)));
                resumed.extend(expected.resumes.then_some(item.slot.to_u64()));
                partial += u32::from(expected.begun.is_some_and(|it| it.kept.any() && it.begun.any()));
                if expected.begun.is_some() && expected.writes {
                    let (command, disk) = (item.command.into(), item.disk.into());
                    for entry in Writers::entries(&command, &disk) {
                        writers.0[entry] = sequence;
                    }
                    written.push((command, disk, sequence));
                }
                let stopped = |begun: &PlanBegun| !begun.begun.any() && !expected.resumes;
                if let Some(begun) = expected.begun.filter(stopped) {
                    foreign += u32::from(!begun.is_read.any());
                    diverted += u32::from(begun.is_read.any());
                }
                if let Some(begun) = expected.begun.filter(|it| it.is_read.any() && it.begun.any()) {
                    let policy = templates[plan.index()].entry.read_policy.to_u64() as u8;
                    let lowest = 1 << begun.readable.to_u64().trailing_zeros();
                    let is_least = policy == read_policy::LEAST_OUTSTANDING;
                    least += u32::from(is_least);
                    not_lowest += u32::from(is_least && begun.begun.to_u64() != lowest);
                    turn = (begun.begun.to_u64().trailing_zeros() as u8 + 1) % 8;
                }
                sequence += 1;
            }
        }
        bench.cycle();
    }
    let enough = denials > 200 && seen > 3_000 && unlocked > 50 && kinds.iter().all(|&kind| kind > 300);
    assert!(begins_seen > 2_000 && begins.len() < 9, "{begins_seen} {}", begins.len());
    assert!(enough, "{denials} {seen} {unlocked} {kinds:?}");
    assert!(parked.abs_diff(denials) <= 1, "{parked} parked, {denials} denied");
    assert!(foreign > 50 && diverted > 50, "{foreign} {diverted}");
    assert!(least > 300 && not_lowest > 100, "{least} of the least busy, {not_lowest} not of the lowest");
    assert!(resumes > 50 && partial > 50, "{resumes} go on, {partial} in part");
}

/// Cycles from an item to the first of its parts and to the last one of `count`; the lock answers 8 cycles
/// after it was asked.
fn cycles_to_parts(bench: &mut Bench, opcode: u8, count: usize) -> (u64, u64) {
    let command = ClientCommand {
        opcode: u64::from(opcode).to_bits(),
        namespace_id: 1u64.to_bits(),
        blocks: 8u64.to_bits(),
        ..Default::default()
    };
    let disk = DiskEntry { status: 1u64.to_bits(), plan: 1u64.to_bits(), ..Default::default() };
    let states = DiskStates { states: 0b01_01_01u64.to_bits(), ..Default::default() };
    let item = PendingCommand {
        command: command.into(),
        disk: disk.into(),
        states: states.into(),
        ..Default::default()
    };
    bench.set_record::<547>("pending$data", item);
    bench.set("pending$valid", 1);
    bench.set("lock_granted", 1);
    let (since, mut due, mut seen) = (bench.cycles, None, Vec::new());
    while seen.len() < count {
        bench.set("lock_answer", u128::from(due == Some(bench.cycles)));
        bench.eval();
        if bench.get("lock$valid") == 1 {
            due = Some(bench.cycles + 8);
        }
        if bench.get("part$valid") == 1 {
            seen.push(bench.cycles - since);
        }
        let taken = bench.get("pending$ready") == 1;
        bench.cycle();
        if taken {
            bench.set("pending$valid", 0);
        }
        assert!(bench.cycles < since + 60, "{seen:?}");
    }
    (seen[0], seen[count - 1])
}

#[test]
fn latencies_are_those_of_the_header() {
    let sizes = Sizes { plan_bits: 1, ..Sizes::DEFAULT };
    let mut bench = Bench::new("expander_latency", Expander::new(&sizes));
    bench.set("reset", 1);
    bench.cycle();
    bench.set("reset", 0);
    let template = |policy: u8| {
        let template = Template::random(&mut seeded());
        let read_policy = u64::from(policy).to_bits();
        let none = 0u64.to_bits();
        Template { entry: PlanEntry { read_policy, diverts: none, ..template.entry }, ..template }
    };
    write_templates(&mut bench, &[template(read_policy::ROUND_ROBIN); 2]);
    for port in ["part", "lock", "unlock"] {
        bench.set(&format!("{port}$ready"), 1);
    }
    bench.cycle();
    assert_eq!(cycles_to_parts(&mut bench, opcode::READ, 1), (11, 11));
    assert_eq!(cycles_to_parts(&mut bench, opcode::WRITE, 3), (8 + 8, 8 + 8 + 6));
    write_templates(&mut bench, &[template(read_policy::LEAST_OUTSTANDING); 2]);
    assert_eq!(cycles_to_parts(&mut bench, opcode::READ, 1), (13, 13));
}
