//! A mirror over the three SSDs of the plain machine, for directed tests.

use volplane_abi::plan::{component_state, COMPONENTS_MAX};
use volplane_abi::tables::table;
use volplane_abi::{
    opcode, submission_mode, vd_status, AllocationEntry, ComponentEntry, ComponentStates, ExtentEntry,
    PlanEntry, PlanMasks, VdEntry,
};
use volplane_driver::{ExceptionRecord, Platform, TableWrite, PAGE};
use volplane_sim::{Commands, Fault, FaultKind};

use super::media::content;
use super::{plain, Configuration, Machine};

/// The mirrored disk, behind those of the plain machine.
pub const DISK: u32 = 5;
/// Its plan template.
pub const PLAN: u32 = 3;
/// Copies of the disk, one on each SSD.
pub const COPIES: u32 = 3;
/// Blocks of the disk, of 512 bytes: as many as an extent of each SSD.
pub const BLOCKS: u64 = 1 << 11;
/// Where its copy begins on each SSD: the second disk of the plain machine is not used.
const START: u64 = 1 << 11;
/// All copies.
pub const ALL: u8 = (1 << COPIES) - 1;

/// A machine with a mirrored disk.
pub struct Mirror {
    /// The machine.
    pub machine: Machine,
}

impl Mirror {
    /// The plain machine, with it.
    pub fn start(policy: u8, write: PlanMasks, read: PlanMasks) -> Self {
        Self::start_on(plain::configuration(1, 128, submission_mode::DIRECT), policy, write, read)
    }

    /// On another machine of three SSDs.
    ///
    /// # Panics
    /// When anything refuses.
    pub fn start_on(configuration: Configuration, policy: u8, write: PlanMasks, read: PlanMasks) -> Self {
        Self::on(Machine::start(configuration), policy, write, read)
    }

    /// On a machine of three SSDs that has none.
    ///
    /// # Panics
    /// When anything refuses.
    pub fn on(machine: Machine, policy: u8, write: PlanMasks, read: PlanMasks) -> Self {
        let mut mirror = Self { machine };
        let plan = PlanEntry::default()
            .with_read_masks(read.field())
            .with_write_masks(write.field())
            .with_read_policy(policy)
            .with_minimum(1);
        mirror.write(table::PLAN, PLAN, &plan.0);
        for copy in 0..COPIES {
            let (allocation, extent) = (100 + copy, 1000 + copy);
            let component = ComponentEntry::default()
                .with_disk(200 + copy as u16)
                .with_allocation_shift(11)
                .with_map_root(allocation)
                .with_flush_devices(1 << copy);
            mirror.write(table::COMPONENT, ComponentEntry::index(PLAN as u16, copy as usize), &component.0);
            let entry = ExtentEntry::default().with_start(START).with_device(copy as u16).with_valid(1);
            mirror.write(table::EXTENT, extent, &entry.0);
            let entry = AllocationEntry::default()
                .with_first_extent(extent)
                .with_columns(1)
                .with_stripe_shift(11)
                .with_extent_shift(11)
                .with_valid(1);
            mirror.write(table::ALLOCATION, allocation, &entry.0);
        }
        mirror.set_states(ALL, component_state::ABSENT, 0);
        mirror.set_states(ALL, component_state::IN_SYNC, 0);
        let disk = VdEntry::default()
            .with_size_blocks(BLOCKS)
            .with_status(vd_status::ENABLED)
            .with_block_shift(9)
            .with_plan(PLAN as u16);
        mirror.write(table::VD, DISK, &disk.0);
        mirror
    }

    /// Writes an entry of a table.
    ///
    /// # Panics
    /// When the card refuses it.
    pub fn write(&mut self, number: u16, index: u32, record: &[u8]) {
        let write = TableWrite::new(number, index, record);
        self.machine
            .card
            .table_write_all(&mut self.machine.platform, [write])
            .expect("the card takes the entry");
    }

    /// Sets components to a state; those of `durable` are durably out.
    pub fn set_states(&mut self, select: u8, state: u8, durable: u8) {
        let states =
            (0..COMPONENTS_MAX).fold(ComponentStates::default(), |entry, i| entry.with_state(i, state));
        let entry = states.with_select(select).with_durably_out(durable).with_reactivate(1);
        self.write(table::STATES, DISK, &entry.0);
    }

    /// The states of the copies, and whether the disk is deactivated.
    ///
    /// # Panics
    /// When the card does not say.
    pub fn states(&mut self) -> (Vec<u8>, bool) {
        let entry: ComponentStates = self
            .machine
            .card
            .table_record(&mut self.machine.platform, table::STATES, DISK)
            .expect("the card shows the entry");
        let states = (0..COPIES as usize).map(|copy| entry.state(copy)).collect();
        (states, entry.deactivated() == 1)
    }

    /// Lets every command to an SSD of these opcodes end with `status`.
    pub fn fail(&mut self, ssd: u32, opcodes: &[u8], status: u16) {
        let kind = FaultKind::Error { status, after_effect: false };
        let fault = Fault::new(kind).with_commands(Commands::all().with_opcodes(opcodes));
        self.machine.handle.start_fault(&format!("nvme{ssd}"), fault);
    }

    /// All SSDs are well again.
    pub fn mend(&mut self) {
        self.machine.handle.stop_faults();
    }

    /// Blocks of a copy.
    ///
    /// # Panics
    /// When the machine does not answer.
    pub fn media(&self, copy: u32, lba: u64, blocks: u64) -> Vec<u8> {
        let mut found = vec![0; blocks as usize * 512];
        let at = (START + lba) * 512;
        self.machine.handle.read_media(&format!("nvme{copy}"), at, &mut found).expect("media");
        found
    }

    /// Submits a write of 8 blocks of what `token` stands for.
    pub fn submit_write(&mut self, id: u16, lba: u64, token: u64) {
        self.submit_short_write(id, lba, 8, token);
    }

    /// Submits a write of up to 8 blocks.
    ///
    /// # Panics
    /// When the machine does not answer.
    pub fn submit_short_write(&mut self, id: u16, lba: u64, blocks: u16, token: u64) {
        let buffer = self.machine.platform.allocate(PAGE).expect("memory");
        buffer.write(0, &content(token, PAGE));
        let entry = plain::command(opcode::WRITE, DISK, lba, blocks, &buffer).with_command_id(id);
        self.machine.queues[0].submit(entry).expect("room");
        self.machine.queues[0].ring().expect("a doorbell");
        // The SSD may still read it when the client is told of an exception.
        std::mem::forget(buffer);
    }

    /// Writes 8 blocks and waits for the status.
    pub fn put(&mut self, lba: u64, token: u64) -> u16 {
        self.submit_write(7, lba, token);
        self.machine.completion(0).status()
    }

    /// Reads 8 blocks.
    pub fn get(&mut self, lba: u64) -> (u16, Vec<u8>) {
        let buffer = self.machine.platform.allocate(PAGE).expect("memory");
        let entry = plain::command(opcode::READ, DISK, lba, 8, &buffer).with_command_id(9);
        let status = self.machine.execute(0, entry);
        let mut found = vec![0; PAGE];
        buffer.read(0, &mut found);
        (status, found)
    }

    /// Lets the card work, and takes the records that there are.
    ///
    /// # Panics
    /// When the machine does not answer.
    pub fn records(&mut self) -> Vec<ExceptionRecord> {
        self.machine.handle.run_for_ns(50_000).expect("the card works");
        self.machine.card.take_exceptions(100).expect("sound records")
    }

    /// The one record that there is.
    ///
    /// # Panics
    /// When there is none, or more.
    pub fn one_record(&mut self) -> ExceptionRecord {
        let mut records = self.records();
        assert_eq!(records.len(), 1, "{records:?}");
        records.remove(0)
    }

    /// # Panics
    /// When something has completed.
    pub fn none_completed(&mut self) {
        assert_eq!(self.machine.queues[0].poll().expect("a sound queue"), None);
    }
}

/// Failures are forgiven and logged.
pub fn forgiving() -> PlanMasks {
    PlanMasks::default().with_continuation(ALL).with_log(ALL)
}
