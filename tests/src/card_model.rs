//! A card in plain Rust: register map, control ring, tables and client queues, and no data path.
//!
//! It answers a doorbell before the write of it returns. The conformance suite runs on it, so that
//! the suite itself is tested without the RTL, and it can misbehave in ways that the RTL cannot.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use volplane_abi::plan::EXCEPTION_BYTES;
use volplane_abi::registers::{self as register, Access};
use volplane_abi::tables::table;
use volplane_abi::{
    control_opcode, opcode, status, CompletionEntry, ControlCommand, ControlCompletion, EpochState,
    ExceptionTail, QueueEntry, QueueState, SubmissionEntry, TRANSACTION_MAX,
};
use volplane_driver::{AccessError, Bar, DmaMemory, Function, Iova, Platform, PAGE};

/// Address of the one function.
pub const ADDRESS: &str = "model";

/// Capabilities of the model.
const CAPABILITIES: &[(u32, u32)] = &[
    (register::DATA_BYTES, 16),
    (register::CAP_QUEUES, 5),
    (register::CAP_VDS, 8),
    (register::CAP_ALLOCATIONS, 32),
    (register::CAP_EXTENTS, 300),
    (register::CAP_DEVICES, 8),
    (register::CAP_PATHS, 8),
    (register::CAP_SLOTS, 64),
    (register::CAP_FRAGMENT_IDS, 64),
    (register::CAP_FRAGMENTS, 2049),
    (register::CAP_COMPONENTS, 1),
    (register::CAP_VECTORS, 8),
    (register::CAP_TRANSFER_BYTES, register::TRANSFER_BYTES_MAX),
    (register::CAP_WINDOW_SHIFT, register::WINDOW_SHIFT),
    (register::CAP_COLUMNS, 16),
    (register::CAP_PLANS, 1),
];

/// How the model misbehaves.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// STATUS.ready never comes.
    pub never_ready: bool,
    /// Control commands are taken and not completed.
    pub silent: bool,
    /// The submission head of control completions, in place of the true one.
    pub control_sq_head: Option<u16>,
    /// Client commands are fetched and not completed.
    pub hold_client_commands: bool,
    /// Registers that read another value.
    pub registers: BTreeMap<u32, u32>,
}

/// A ring pair as the model drives it.
#[derive(Clone, Copy, Default)]
struct Pair {
    sq_base: u64,
    cq_base: u64,
    entries: u16,
    head: u16,
    tail: u16,
    cq_head: u16,
    cq_tail: u16,
    phase: u8,
    outstanding: u16,
    enabled: bool,
    stopped: bool,
}

#[derive(Default)]
struct State {
    faults: Faults,
    registers: BTreeMap<u32, u32>,
    tables: BTreeMap<(u16, u32), [u8; 32]>,
    pairs: BTreeMap<u16, Pair>,
    memory: Vec<DmaMemory>,
    doorbells: usize,
    now: Duration,
    /// Writes that wait for a commit.
    staged: Vec<ControlCommand>,
    epoch: u32,
}

/// The machine: the model and host memory, with a clock that runs only in `wait`.
#[derive(Default)]
pub struct ModelPlatform {
    state: Arc<Mutex<State>>,
}

/// The model's function.
pub struct ModelFunction {
    state: Arc<Mutex<State>>,
}

impl ModelPlatform {
    /// A machine whose card misbehaves.
    pub fn with_faults(faults: Faults) -> Self {
        let platform = Self::default();
        platform.set_faults(faults);
        platform
    }

    /// Changes how the card misbehaves.
    pub fn set_faults(&self, faults: Faults) {
        lock(&self.state).faults = faults;
    }

    /// Doorbells written so far.
    pub fn doorbells(&self) -> usize {
        lock(&self.state).doorbells
    }

    /// Posts a record with this tail in a place of the exception ring.
    pub fn post_exception(&self, place: u16, tail: ExceptionTail) {
        let state = lock(&self.state);
        let base =
            state.wide_register(register::EXCEPTION_BASE_LOW) + u64::from(place) * EXCEPTION_BYTES as u64;
        state.dma(base).write(EXCEPTION_BYTES - ExceptionTail::BYTES, &tail.0);
    }

    /// A register, as last written.
    pub fn register(&self, offset: u32) -> u32 {
        lock(&self.state).read_register(offset)
    }

    /// An entry of a table, as last written.
    pub fn entry(&self, table: u16, index: u32) -> [u8; 32] {
        lock(&self.state).tables.get(&(table, index)).copied().unwrap_or_default()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no panic while the model runs")
}

impl Platform for ModelPlatform {
    type Function = ModelFunction;

    fn open(&mut self, address: &str) -> Result<ModelFunction, AccessError> {
        if address != ADDRESS {
            return Err(AccessError::NoFunction(address.to_owned()));
        }
        Ok(ModelFunction { state: self.state.clone() })
    }

    fn allocate(&mut self, bytes: usize) -> Result<DmaMemory, AccessError> {
        let mut state = lock(&self.state);
        let no_memory = |error: std::io::Error| AccessError::NoMemory { bytes, reason: error.to_string() };
        let map = memmap2::MmapMut::map_anon(bytes.next_multiple_of(PAGE)).map_err(no_memory)?;
        let end = state.memory.last().map_or(0x10_0000_0000, |last| last.iova().0 + last.len() as u64);
        // A page that belongs to nobody follows each.
        let memory = DmaMemory::new(map, Iova(end + PAGE as u64), ());
        state.memory.push(memory.clone());
        Ok(memory)
    }

    fn now(&self) -> Duration {
        lock(&self.state).now
    }

    fn wait(&mut self, deadline: Duration) -> Result<(), AccessError> {
        let mut state = lock(&self.state);
        state.now = state.now.max(deadline);
        Ok(())
    }
}

impl Function for ModelFunction {
    fn name(&self) -> &str {
        ADDRESS
    }

    fn bar_len(&self, bar: Bar) -> u64 {
        match bar {
            Bar::Bar0 => register::BAR0_BYTES,
            Bar::Bar2 => 8 << register::WINDOW_SHIFT,
        }
    }

    fn bar_iova(&self, bar: Bar) -> Iova {
        Iova(if bar == Bar::Bar0 { 0xA000_0000 } else { 0xB000_0000 })
    }

    fn read32(&self, _bar: Bar, offset: u64) -> Result<u32, AccessError> {
        Ok(lock(&self.state).read_register(offset as u32))
    }

    fn write32(&self, _bar: Bar, offset: u64, value: u32) -> Result<(), AccessError> {
        lock(&self.state).write_register(offset as u32, value);
        Ok(())
    }

    fn config_read32(&self, _offset: u16) -> Result<u32, AccessError> {
        Ok(0)
    }

    fn config_write32(&self, _offset: u16, _value: u32) -> Result<(), AccessError> {
        Ok(())
    }

    fn enable_interrupts(&mut self, _vectors: u16) -> Result<(), AccessError> {
        Ok(())
    }

    fn take_interrupt(&self, _vector: u16) -> bool {
        false
    }

    fn reset(&mut self) -> Result<(), AccessError> {
        lock(&self.state).reset();
        Ok(())
    }
}

impl State {
    fn reset(&mut self) {
        self.registers.clear();
        self.tables.clear();
        self.pairs.clear();
        self.staged.clear();
        self.epoch = 0;
    }

    fn read_register(&self, offset: u32) -> u32 {
        if let Some(&value) = self.faults.registers.get(&offset) {
            return value;
        }
        match offset {
            register::IDENTITY_LOW => register::IDENTITY as u32,
            register::IDENTITY_HIGH => (register::IDENTITY >> 32) as u32,
            register::ABI_VERSION => register::ABI_VERSION_VALUE,
            register::STATUS if self.faults.never_ready => 0,
            register::STATUS => register::STATUS_READY,
            _ => match CAPABILITIES.iter().find(|(capability, _)| *capability == offset) {
                Some((_, value)) => *value,
                None => self.registers.get(&offset).copied().unwrap_or(0),
            },
        }
    }

    fn wide_register(&self, low: u32) -> u64 {
        u64::from(self.read_register(low)) | u64::from(self.read_register(low + 4)) << 32
    }

    fn write_register(&mut self, offset: u32, value: u32) {
        if offset >= register::DOORBELLS {
            self.doorbells += 1;
            return self.ring(offset - register::DOORBELLS, value);
        }
        if offset == register::CONTROL && value & register::CONTROL_RESET != 0 {
            return self.reset();
        }
        let known = register::ALL.iter().find(|known| known.offset == offset);
        let Some(known) = known.filter(|known| known.access == Access::ReadWrite) else { return };
        self.registers.insert(offset, value & known.write_mask);
        if offset == register::CONTROL && value & register::CONTROL_ENABLE != 0 {
            let pair = Pair {
                sq_base: self.wide_register(register::CONTROL_SQ_BASE_LOW),
                cq_base: self.wide_register(register::CONTROL_CQ_BASE_LOW),
                entries: (self.read_register(register::CONTROL_SIZE) & 0xFFF) as u16 + 1,
                phase: 1,
                enabled: true,
                ..Pair::default()
            };
            self.pairs.insert(0, pair);
        }
    }

    fn ring(&mut self, offset: u32, value: u32) {
        let number = (offset / register::DOORBELL_PAGE) as u16;
        let Some(mut pair) = self.pairs.get(&number).copied().filter(|pair| pair.enabled) else { return };
        if value >= pair.entries.into() {
            pair.stopped = true;
        } else if offset % register::DOORBELL_PAGE == register::DOORBELL_SQ_TAIL {
            pair.tail = value as u16;
        } else {
            pair.cq_head = value as u16;
        }
        while !pair.stopped && pair.head != pair.tail && (pair.cq_tail + 1) % pair.entries != pair.cq_head {
            let entry = pair.sq_base + u64::from(pair.head) * 64;
            pair.head = (pair.head + 1) % pair.entries;
            self.pairs.insert(number, pair);
            if number == 0 {
                self.control_command(entry, &mut pair);
            } else {
                self.client_command(number, entry, &mut pair);
            }
        }
        self.pairs.insert(number, pair);
    }

    fn control_command(&mut self, entry: u64, pair: &mut Pair) {
        let mut command = ControlCommand::default();
        self.dma(entry).read(0, &mut command.0);
        let before = pair.cq_tail;
        let mut result = 0;
        let (payload, status) = match command.opcode() {
            control_opcode::NOP => ([0; 32], status::SUCCESS),
            control_opcode::TABLE_WRITE => self.write_entry(&command),
            control_opcode::TABLE_READ => self.read_entry(command.table(), command.index()),
            control_opcode::TRANSACTION_STAGE => self.stage(command),
            control_opcode::TRANSACTION_COMMIT => {
                for staged in std::mem::take(&mut self.staged) {
                    self.write_entry(&staged);
                }
                result = self.epoch;
                self.epoch += 1;
                ([0; 32], status::SUCCESS)
            }
            control_opcode::TRANSACTION_CANCEL => {
                self.staged.clear();
                ([0; 32], status::SUCCESS)
            }
            _ => ([0; 32], status::INVALID_OPCODE),
        };
        if self.faults.silent {
            return;
        }
        let mut completion = ControlCompletion::default()
            .with_sq_head(self.faults.control_sq_head.unwrap_or(pair.head))
            .with_command_id(command.command_id())
            .with_phase(pair.phase)
            .with_result(result)
            .with_status(status);
        completion.0[..32].copy_from_slice(&payload);
        self.dma(pair.cq_base + u64::from(before) * 64).write(0, &completion.0);
        advance(pair);
    }

    fn client_command(&mut self, number: u16, entry: u64, pair: &mut Pair) {
        let mut command = SubmissionEntry::default();
        self.dma(entry).read(0, &mut command.0);
        if self.faults.hold_client_commands {
            pair.outstanding += 1;
            return;
        }
        let served =
            [opcode::FLUSH, opcode::READ, opcode::WRITE, opcode::WRITE_ZEROES, opcode::DATASET_MANAGEMENT];
        // No virtual disk is ever executed here.
        let refusal = if served.contains(&command.opcode()) {
            status::INVALID_NAMESPACE
        } else {
            status::INVALID_OPCODE
        };
        let completion = CompletionEntry::default()
            .with_sq_head(pair.head)
            .with_sq_id(number)
            .with_command_id(command.command_id())
            .with_phase(pair.phase)
            .with_status(refusal | status::DNR);
        self.dma(pair.cq_base + u64::from(pair.cq_tail) * 16).write(0, &completion.0);
        advance(pair);
    }

    fn stage(&mut self, command: ControlCommand) -> ([u8; 32], u16) {
        let refusal = match self.staged.len() {
            _ if command.table() != table::VD || !self.has_entry(table::VD, command.index()) => {
                status::INVALID_FIELD
            }
            TRANSACTION_MAX => status::COMMAND_SEQUENCE_ERROR,
            _ => {
                self.staged.push(command);
                return ([0; 32], status::SUCCESS);
            }
        };
        ([0; 32], refusal | status::DNR)
    }

    fn write_entry(&mut self, command: &ControlCommand) -> ([u8; 32], u16) {
        let (table, index) = (command.table(), command.index());
        let read_only = [table::QUEUE_STATE, table::PATH_STATE, table::PLAN_STATE].contains(&table);
        if read_only || !self.has_entry(table, index) {
            return ([0; 32], status::INVALID_FIELD | status::DNR);
        }
        let mut payload = [0; 32];
        let words = [command.payload0(), command.payload1(), command.payload2(), command.payload3()];
        for (bytes, word) in payload.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        self.tables.insert((table, index), payload);
        if table == table::QUEUE {
            let entry = QueueEntry(payload);
            let old = self.pairs.get(&(index as u16)).copied().unwrap_or_default();
            let pair = Pair {
                sq_base: entry.sq_base(),
                cq_base: entry.cq_base(),
                entries: entry.sq_size_z() + 1,
                phase: 1,
                outstanding: old.outstanding,
                enabled: entry.enable() == 1,
                ..Pair::default()
            };
            self.pairs.insert(index as u16, pair);
        }
        ([0; 32], status::SUCCESS)
    }

    fn read_entry(&self, table: u16, index: u32) -> ([u8; 32], u16) {
        if (table, index) == (table::EPOCH, 0) {
            // Every command ends at once here.
            let mut payload = [0; 32];
            let state = EpochState::default().with_current(self.epoch).with_oldest(self.epoch);
            payload[..EpochState::BYTES].copy_from_slice(&state.0);
            return (payload, status::SUCCESS);
        }
        if !self.has_entry(table, index) {
            return ([0; 32], status::INVALID_FIELD | status::DNR);
        }
        let mut payload = self.tables.get(&(table, index)).copied().unwrap_or_default();
        if table == table::QUEUE_STATE {
            let pair = self.pairs.get(&(index as u16)).copied().unwrap_or_default();
            let state = QueueState::default()
                .with_sq_head(pair.head)
                .with_sq_tail(pair.tail)
                .with_outstanding(pair.outstanding)
                .with_phase(pair.phase)
                .with_stopped(pair.stopped.into());
            payload[..QueueState::BYTES].copy_from_slice(&state.0);
        }
        (payload, status::SUCCESS)
    }

    fn has_entry(&self, table: u16, index: u32) -> bool {
        let capability = match table {
            table::QUEUE | table::QUEUE_STATE => register::CAP_QUEUES,
            table::VD => register::CAP_VDS,
            table::ALLOCATION => register::CAP_ALLOCATIONS,
            table::EXTENT => register::CAP_EXTENTS,
            table::DEVICE => register::CAP_DEVICES,
            table::PATH | table::PATH_STATE | table::PATH_COMPLETIONS => register::CAP_PATHS,
            _ => return false,
        };
        index < self.read_register(capability) && (table != table::QUEUE || index != 0)
    }

    /// The memory at a bus address; a test that leads the model elsewhere has a fault.
    fn dma(&self, iova: u64) -> DmaMemory {
        let holds =
            |memory: &&DmaMemory| (memory.iova().0..memory.iova().0 + memory.len() as u64).contains(&iova);
        let memory = self.memory.iter().find(holds).expect("an address that was allocated");
        let offset = (iova - memory.iova().0) as usize;
        memory.part(offset, memory.len() - offset)
    }
}

fn advance(pair: &mut Pair) {
    pair.cq_tail = (pair.cq_tail + 1) % pair.entries;
    pair.phase ^= u8::from(pair.cq_tail == 0);
}
