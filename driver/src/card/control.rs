//! The control ring: table writes and reads, many in flight.

use std::time::Duration;

use volplane_abi::tables::table;
use volplane_abi::{
    control_opcode, registers as register, status, ControlCommand, ControlCompletion, EpochState, PathState,
    PlanCommand, QueueState, TRANSACTION_MAX,
};
use zerocopy::FromBytes;

use super::registers::Registers;
use super::{Card, CardError};
use crate::platform::{AccessError, Function, Platform};
use crate::queue_pair::{Placement, QueuePair};
use crate::wait::poll_until;

/// Entries of both rings.
const ENTRIES: u16 = 64;
/// Longest time until a next control command completes. The card needs microseconds.
const COMMAND_LIMIT: Duration = Duration::from_millis(200);
/// Bytes that a control command carries.
const PAYLOAD_BYTES: usize = 32;
/// Where the payload begins in a command: after opcode, identifier, table, index and reserves.
const COMMAND_PAYLOAD: usize = payload_offset(ControlCommand::FIELDS);
/// Where the payload begins in a completion.
const COMPLETION_PAYLOAD: usize = payload_offset(ControlCompletion::FIELDS);

const fn payload_offset(fields: &[volplane_abi::layout::Field]) -> usize {
    volplane_abi::layout::offset_of(fields, volplane_abi::layout::index_of(fields, "payload0")) / 8
}

/// An entry to be written to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableWrite {
    table: u16,
    index: u32,
    payload: [u8; PAYLOAD_BYTES],
    bytes: usize,
}

impl TableWrite {
    /// The bytes of a record of `abi::tables` for entry `index` of a table of `abi::table`.
    pub fn new(table: u16, index: u32, record: &[u8]) -> Self {
        let mut payload = [0; PAYLOAD_BYTES];
        let fits = record.len().min(PAYLOAD_BYTES);
        payload[..fits].copy_from_slice(&record[..fits]);
        Self { table, index, payload, bytes: record.len() }
    }
}

/// What a control command asks for.
#[derive(Clone, Copy, Debug)]
struct Request {
    opcode: u8,
    write: TableWrite,
}

impl Request {
    fn operation(&self) -> &'static str {
        match self.opcode {
            control_opcode::TABLE_WRITE => "write",
            control_opcode::TABLE_READ => "read",
            control_opcode::PLAN_RELEASE => "release",
            control_opcode::PLAN_COMPLETE => "completion",
            control_opcode::PLAN_RESUBMIT => "resubmission",
            control_opcode::PLAN_TAKE_OVER => "take-over",
            control_opcode::PLAN_ABORT => "abort",
            control_opcode::PATH_QUIESCED => "end of what was given",
            control_opcode::TRANSACTION_STAGE => "staged write",
            control_opcode::TRANSACTION_COMMIT => "commit",
            control_opcode::TRANSACTION_CANCEL => "end",
            _ => "no operation",
        }
    }

    fn table_name(&self) -> &'static str {
        if self.opcode == control_opcode::PATH_QUIESCED {
            return "path";
        }
        match self.opcode {
            control_opcode::TRANSACTION_STAGE => {}
            control_opcode::TRANSACTION_COMMIT.. => return "transaction",
            control_opcode::PLAN_RELEASE.. => return "plan slot",
            _ => {}
        }
        let named = table::NAMES.iter().find(|(number, _)| *number == self.write.table);
        named.map_or("unknown table", |(_, name)| name)
    }

    fn command(&self, command_id: u16) -> ControlCommand {
        let mut command = ControlCommand::default()
            .with_opcode(self.opcode)
            .with_command_id(command_id)
            .with_table(self.write.table)
            .with_index(self.write.index);
        command.0[COMMAND_PAYLOAD..][..PAYLOAD_BYTES].copy_from_slice(&self.write.payload);
        command
    }
}

/// Who waits for the completion of a command identifier.
#[derive(Clone, Copy, Debug)]
enum Waiter {
    Nobody,
    Request(Request),
    /// A call that gave up; the identifier is free again when its completion comes.
    GaveUp,
}

/// The control ring of a card.
pub(super) struct ControlRing<F> {
    pair: QueuePair<F, ControlCommand, ControlCompletion>,
    waiters: [Waiter; ENTRIES as usize],
    /// Writes may be staged that nobody will commit.
    staged: bool,
}

impl<F: Function> ControlRing<F> {
    /// Allocates the rings and programs the registers; the card must not be enabled.
    pub(super) fn start<P: Platform<Function = F>>(
        platform: &mut P,
        registers: &Registers<F>,
    ) -> Result<Self, AccessError> {
        let sq = platform.allocate(usize::from(ENTRIES) * ControlCommand::BYTES)?;
        let cq = platform.allocate(usize::from(ENTRIES) * ControlCompletion::BYTES)?;
        registers.write64(register::CONTROL_SQ_BASE_LOW, sq.iova().0)?;
        registers.write64(register::CONTROL_CQ_BASE_LOW, cq.iova().0)?;
        // Polled: no vector.
        registers.write(register::CONTROL_SIZE, u32::from(ENTRIES) - 1)?;
        let place = Placement {
            number: 0,
            sq,
            sq_entries: ENTRIES,
            cq,
            cq_entries: ENTRIES,
            sq_tail_doorbell: register::sq_tail_doorbell(0).into(),
            cq_head_doorbell: register::cq_head_doorbell(0).into(),
        };
        let pair = QueuePair::new(registers.function().clone(), place);
        Ok(Self { pair, waiters: [Waiter::Nobody; ENTRIES as usize], staged: false })
    }

    /// Executes requests, as many at once as fit, and tells `done` of each that has succeeded, with its index.
    /// After a refusal no more are submitted, and those under way are waited for.
    fn execute<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
        registers: &Registers<F>,
        requests: impl Iterator<Item = Request>,
        done: impl FnMut(u32, &ControlCompletion),
    ) -> Result<(), CardError> {
        let result = self.submit_all(platform, registers, requests, done);
        if result.is_err() {
            for waiter in &mut self.waiters {
                if matches!(waiter, Waiter::Request(_)) {
                    *waiter = Waiter::GaveUp;
                }
            }
        }
        result
    }

    fn submit_all<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
        registers: &Registers<F>,
        requests: impl Iterator<Item = Request>,
        mut done: impl FnMut(u32, &ControlCompletion),
    ) -> Result<(), CardError> {
        let card = registers.function().name();
        let mut requests = requests.peekable();
        let mut refusal = None;
        loop {
            while refusal.is_none() {
                let Some(id) = self.free_id() else { break };
                let Some(request) = requests.next() else { break };
                match check_size(card, &request.write, request.table_name()) {
                    Ok(()) => self.submit(id, request),
                    Err(error) => refusal = Some(error),
                }
            }
            self.pair.ring()?;
            // Calls that gave up may hold all of the ring: then the next request waits for room.
            let next = if refusal.is_none() { requests.peek().copied() } else { None };
            let Some(waiting) = self.any_waiting().or(next) else { break };
            let first = poll_until(platform, COMMAND_LIMIT, || self.pair.poll())?;
            let Some(first) = first else {
                return Err(CardError::ControlTimeout {
                    card: card.to_owned(),
                    operation: waiting.operation(),
                    table: waiting.table_name(),
                    index: waiting.write.index,
                    waited: COMMAND_LIMIT,
                    status: registers.read(register::STATUS)?,
                });
            };
            let mut next = Some(first);
            while let Some(completion) = next {
                match self.complete(card, &completion) {
                    Ok(Some(index)) => done(index, &completion),
                    Ok(None) => {}
                    Err(error) => drop(refusal.get_or_insert(error)),
                }
                next = self.pair.poll()?;
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    fn submit(&mut self, id: u16, request: Request) {
        self.pair.submit(request.command(id)).expect("free_id saw a free entry");
        self.waiters[usize::from(id)] = Waiter::Request(request);
    }

    /// A command identifier that can be submitted now.
    fn free_id(&self) -> Option<u16> {
        let free = |waiter: &Waiter| matches!(waiter, Waiter::Nobody);
        let id = self.waiters.iter().position(free)?;
        (self.pair.free() > 0).then_some(id as u16)
    }

    /// A request that is waited for.
    fn any_waiting(&self) -> Option<Request> {
        self.waiters.iter().find_map(|waiter| match waiter {
            Waiter::Request(request) => Some(*request),
            _ => None,
        })
    }

    /// Takes note of a completion: the index of its request, if it is one that is waited for; an error when the
    /// card refused the request.
    fn complete(&mut self, card: &str, completion: &ControlCompletion) -> Result<Option<u32>, CardError> {
        let Some(waiter) = self.waiters.get_mut(usize::from(completion.command_id())) else {
            return Err(self.unknown(card, completion));
        };
        match std::mem::replace(waiter, Waiter::Nobody) {
            Waiter::Request(request) if completion.status() != status::SUCCESS => Err(CardError::Table {
                card: card.to_owned(),
                operation: request.operation(),
                table: request.table_name(),
                index: request.write.index,
                status: completion.status(),
            }),
            Waiter::Request(request) => Ok(Some(request.write.index)),
            Waiter::GaveUp => Ok(None),
            Waiter::Nobody => Err(self.unknown(card, completion)),
        }
    }

    fn unknown(&self, card: &str, completion: &ControlCompletion) -> CardError {
        let (function, command) = (card.to_owned(), completion.command_id());
        crate::queue_pair::QueueError::Unexpected { function, queue: self.pair.number(), command }.into()
    }
}

fn check_size(card: &str, write: &TableWrite, table: &'static str) -> Result<(), CardError> {
    if write.bytes <= PAYLOAD_BYTES {
        return Ok(());
    }
    Err(CardError::RecordSize { card: card.to_owned(), table, index: write.index, bytes: write.bytes })
}

impl<F: Function> Card<F> {
    /// A control command that does nothing: whether the control ring is alive.
    ///
    /// # Errors
    /// `CardError`.
    pub fn nop<P: Platform<Function = F>>(&mut self, platform: &mut P) -> Result<(), CardError> {
        let request = Request { opcode: control_opcode::NOP, write: TableWrite::new(0, 0, &[]) };
        self.control.execute(platform, &self.registers, std::iter::once(request), |_, _| {})
    }

    /// A command on the plan in a slot.
    pub(super) fn plan_command<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
        opcode: u8,
        slot: u16,
        command: PlanCommand,
    ) -> Result<(), CardError> {
        let request = Request { opcode, write: TableWrite::new(0, slot.into(), &command.0) };
        self.control.execute(platform, &self.registers, std::iter::once(request), |_, _| {})
    }

    /// Tells the card that nothing is executed any more of what `path` was given before its table entry was last
    /// written: the queue was deleted, or its controller reset. All of it that was not answered ends.
    ///
    /// # Errors
    /// `CardError::Table` for a path that the card does not have, and what else `CardError` names.
    pub fn path_quiesced<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
        path: u8,
    ) -> Result<(), CardError> {
        let request =
            Request { opcode: control_opcode::PATH_QUIESCED, write: TableWrite::new(0, path.into(), &[]) };
        self.control.execute(platform, &self.registers, std::iter::once(request), |_, _| {})
    }

    /// Writes an entry of a table.
    ///
    /// # Errors
    /// `CardError::Table` when the card refuses it, and what else `CardError` names.
    pub fn table_write<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
        table: u16,
        index: u32,
        record: &[u8],
    ) -> Result<(), CardError> {
        self.table_write_all(platform, [TableWrite::new(table, index, record)])
    }

    /// Writes entries, in order, keeping the control ring full.
    ///
    /// # Errors
    /// The first refusal. Writes before it took effect; writes after it may have.
    pub fn table_write_all<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
        writes: impl IntoIterator<Item = TableWrite>,
    ) -> Result<(), CardError> {
        let requests = writes.into_iter().map(|write| Request { opcode: control_opcode::TABLE_WRITE, write });
        self.control.execute(platform, &self.registers, requests, |_, _| {})
    }

    /// Makes writes to the table of virtual disks at once: a command is admitted before all of them or after. Gives
    /// the epoch that this ended: when it is closed (`epochs`), whatever was admitted before has ended, or is the
    /// control path's. Without any writes it only tells apart what comes before and what comes after.
    ///
    /// # Errors
    /// `CardError::TransactionSize` for more than `TRANSACTION_MAX`, `CardError::Table` for what is no virtual disk of
    /// the card: then nothing was written. And what else `CardError` names.
    pub fn commit<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
        writes: &[TableWrite],
    ) -> Result<u32, CardError> {
        if writes.len() > TRANSACTION_MAX {
            let card = self.registers.function().name().to_owned();
            return Err(CardError::TransactionSize { card, writes: writes.len() });
        }
        // Whatever a call that failed has left is forgotten first.
        let bare = |opcode| Request { opcode, write: TableWrite::new(0, 0, &[]) };
        let forget = self.control.staged.then(|| bare(control_opcode::TRANSACTION_CANCEL));
        let stage = |&write: &TableWrite| Request { opcode: control_opcode::TRANSACTION_STAGE, write };
        let staging = forget.into_iter().chain(writes.iter().map(stage));
        self.control.staged = true;
        self.control.execute(platform, &self.registers, staging, |_, _| {})?;
        let commit = std::iter::once(bare(control_opcode::TRANSACTION_COMMIT));
        let mut epoch = 0;
        self.control.execute(platform, &self.registers, commit, |_, completion| {
            epoch = completion.result();
        })?;
        self.control.staged = false;
        Ok(epoch)
    }

    /// Which epochs are open.
    ///
    /// # Errors
    /// As `table_read`.
    pub fn epochs<P: Platform<Function = F>>(&mut self, platform: &mut P) -> Result<EpochState, CardError> {
        self.table_record(platform, table::EPOCH, 0)
    }

    /// Reads an entry of a table, lowest bits first.
    ///
    /// # Errors
    /// `CardError::Table` when the card refuses it, and what else `CardError` names.
    pub fn table_read<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
        table: u16,
        index: u32,
    ) -> Result<[u8; PAYLOAD_BYTES], CardError> {
        let mut payload = [0; PAYLOAD_BYTES];
        self.table_read_all(platform, table, std::iter::once(index), |_, found| payload = *found)?;
        Ok(payload)
    }

    /// Reads entries of a table, in order, keeping the control ring full; `found` is told of each.
    ///
    /// # Errors
    /// The first refusal.
    pub fn table_read_all<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
        table: u16,
        indices: impl IntoIterator<Item = u32>,
        mut found: impl FnMut(u32, &[u8; PAYLOAD_BYTES]),
    ) -> Result<(), CardError> {
        let requests = indices.into_iter().map(|index| Request {
            opcode: control_opcode::TABLE_READ,
            write: TableWrite::new(table, index, &[]),
        });
        self.control.execute(platform, &self.registers, requests, |index, completion| {
            let payload = &completion.0[COMPLETION_PAYLOAD..][..PAYLOAD_BYTES];
            found(index, payload.try_into().expect("the length of the slice"));
        })
    }

    /// Reads an entry of a table as its record.
    ///
    /// # Errors
    /// As `table_read`.
    ///
    /// # Panics
    /// When `T` is larger than any entry.
    pub fn table_record<P: Platform<Function = F>, T: FromBytes>(
        &mut self,
        platform: &mut P,
        table: u16,
        index: u32,
    ) -> Result<T, CardError> {
        let payload = self.table_read(platform, table, index)?;
        Ok(T::read_from_bytes(&payload[..size_of::<T>()]).expect("the record's size"))
    }

    /// Live state of a client queue.
    ///
    /// # Errors
    /// As `table_read`.
    pub fn queue_state<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
        number: u16,
    ) -> Result<QueueState, CardError> {
        self.table_record(platform, table::QUEUE_STATE, number.into())
    }

    /// Live state of a path.
    ///
    /// # Errors
    /// As `table_read`.
    pub fn path_state<P: Platform<Function = F>>(
        &mut self,
        platform: &mut P,
        path: u8,
    ) -> Result<PathState, CardError> {
        self.table_record(platform, table::PATH_STATE, path.into())
    }
}
