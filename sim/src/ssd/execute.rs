//! I/O commands (NVM Command Set 1.0, section 3.2): checks when they are fetched, effects when their
//! time is over.

use volplane_abi::{opcode, DatasetAttributes, DeallocateRange, SubmissionEntry};

use crate::bus::Bus;
use crate::events::SsdEvent;
use crate::probe::{CommandRecord, EndRecord};
use crate::random;

use super::queues::Outcome;
use super::{prp, status, CommandFilter, Execution, InFlight, Ssd};

/// CDW10 and CDW11 of Dataset Management.
fn attributes(entry: &SubmissionEntry) -> DatasetAttributes {
    DatasetAttributes(entry.starting_lba().to_le_bytes())
}

impl Ssd {
    /// Checks a fetched command and gives it its time.
    pub(super) fn start(&mut self, bus: &mut Bus, queue: u16, entry: SubmissionEntry) {
        let slot = self.claim_slot();
        let record = &mut self.slots[slot].record;
        let mut record = std::mem::replace(record, empty_record());
        (record.order, record.at_ns, record.queue, record.entry) = (self.fetched, bus.now_ns(), queue, entry);
        record.segments.clear();
        record.ranges.clear();
        self.fetched += 1;
        let submission = self.submission[usize::from(queue)].as_mut();
        let free = submission.is_some_and(|queue| queue.identifiers.claim(entry.command_id()));
        if !free {
            self.complain(format!("queue {queue}: identifier {:#x} is in use", entry.command_id()));
        }
        let checked =
            if free { self.check_command(bus, &mut record) } else { Err(status::COMMAND_ID_CONFLICT) };
        record.status = checked.err().map_or(0, status::with_dnr);
        if self.record.is_on() {
            self.record.push(record.clone());
        }
        let jitter = random::up_to(&mut self.random, self.config.jitter_ns);
        let mut execution = Execution {
            delay_ns: self.config.latency_ns + jitter,
            effect: record.status == 0,
            completion: true,
            status: (record.status != 0).then_some(record.status),
        };
        if record.status == 0 {
            if let Some(filter) = &mut self.filter {
                execution = filter.judge(&record, execution);
            }
            execution = self.faults.judge(&record, execution);
        }
        self.slots[slot].record = record;
        self.slots[slot].execution = execution;
        if self.die_of_command(bus) {
            return;
        }
        if execution.delay_ns == 0 {
            self.finish(bus, slot);
        } else {
            let generation = self.slots[slot].generation;
            let at_ns = bus.now_ns().saturating_add(execution.delay_ns);
            bus.events.schedule(at_ns, self.index, SsdEvent::Execute { slot, generation });
        }
    }

    fn claim_slot(&mut self) -> usize {
        self.busy += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            let execution = Execution { delay_ns: 0, effect: false, completion: false, status: None };
            self.slots.push(InFlight { generation: 0, busy: false, record: empty_record(), execution });
            self.slots.len() - 1
        });
        self.slots[slot].busy = true;
        slot
    }

    /// Lets a command take effect and completes it.
    pub(super) fn finish(&mut self, bus: &mut Bus, slot: usize) {
        let execution = self.slots[slot].execution;
        // Taken out so that the effect has all of `self`; given back for its allocations.
        let record = std::mem::replace(&mut self.slots[slot].record, empty_record());
        let effect = if execution.effect { self.effect(bus, &record) } else { Ok(()) };
        let outcome = Outcome {
            submission_queue: record.queue,
            command_id: record.entry.command_id(),
            status: execution.status.unwrap_or(effect.err().map_or(0, status::with_dnr)),
            result: 0,
            order: record.order,
        };
        if self.ends.is_on() {
            self.ends.push(EndRecord {
                order: record.order,
                at_ns: bus.now_ns(),
                effect: execution.effect && effect.is_ok(),
                status: outcome.status,
                completion: execution.completion,
                withdrawn: false,
                turn: self.namespace.next_end(),
            });
        }
        let freed = &mut self.slots[slot];
        freed.record = record;
        freed.busy = false;
        freed.generation += 1;
        self.free.push(slot);
        self.busy -= 1;
        if execution.completion {
            self.complete(bus, outcome);
        }
    }

    fn check_command(&self, bus: &mut Bus, record: &mut CommandRecord) -> Result<(), u16> {
        let entry = record.entry;
        let known = [
            opcode::READ,
            opcode::WRITE,
            opcode::FLUSH,
            opcode::WRITE_ZEROES,
            opcode::DATASET_MANAGEMENT,
            opcode::COMPARE,
        ];
        if !known.contains(&entry.opcode()) {
            return Err(status::INVALID_OPCODE);
        }
        if entry.fuse() != 0 || entry.psdt() != 0 {
            return Err(status::INVALID_FIELD);
        }
        let all_namespaces = entry.opcode() == opcode::FLUSH && entry.namespace_id() == u32::MAX;
        if entry.namespace_id() != 1 && !all_namespaces {
            return Err(status::INVALID_NAMESPACE);
        }
        let bytes = match entry.opcode() {
            opcode::FLUSH => return Ok(()),
            opcode::DATASET_MANAGEMENT => ((entry.starting_lba() & 0xFF) + 1) * DeallocateRange::BYTES as u64,
            code => {
                let blocks = u64::from(entry.block_count_z()) + 1;
                let bytes = blocks << self.config.block_shift();
                let zeroes = code == opcode::WRITE_ZEROES;
                let limit = if zeroes && self.config.wzsl != 0 { self.config.wzsl } else { self.config.mdts };
                if entry.protection() != 0 || (limit != 0 && bytes > 4096 << limit) {
                    return Err(status::INVALID_FIELD);
                }
                self.check_range(entry.starting_lba(), blocks)?;
                if zeroes {
                    return Ok(());
                }
                bytes
            }
        };
        let agent = self.agent();
        let segments = &mut record.segments;
        prp::walk(entry.prp1(), entry.prp2(), bytes, |iova, into| bus.read(agent, iova, into), segments)?;
        if entry.opcode() == opcode::DATASET_MANAGEMENT {
            return self.read_ranges(bus, record);
        }
        Ok(())
    }

    fn check_range(&self, first: u64, blocks: u64) -> Result<(), u16> {
        let fits = first.checked_add(blocks).is_some_and(|end| end <= self.config.blocks);
        fits.then_some(()).ok_or(status::LBA_OUT_OF_RANGE)
    }

    fn read_ranges(&self, bus: &mut Bus, record: &mut CommandRecord) -> Result<(), u16> {
        let mut bytes = Vec::new();
        for segment in &record.segments {
            let at = bytes.len();
            bytes.resize(at + segment.len as usize, 0);
            bus.read(self.agent(), segment.iova, &mut bytes[at..])
                .map_err(|_| status::DATA_TRANSFER_ERROR)?;
        }
        for range in bytes.chunks_exact(DeallocateRange::BYTES) {
            let range = DeallocateRange(range.try_into().expect("a range has 16 bytes"));
            self.check_range(range.starting_lba(), u64::from(range.block_count()))?;
            record.ranges.push((range.starting_lba(), range.block_count()));
        }
        Ok(())
    }

    pub(super) fn effect(&mut self, bus: &mut Bus, record: &CommandRecord) -> Result<(), u16> {
        let entry = record.entry;
        let shift = self.config.block_shift();
        let offset = entry.starting_lba() << shift;
        let bytes = (u64::from(entry.block_count_z()) + 1) << shift;
        match entry.opcode() {
            opcode::READ => self.read_blocks(bus, record, offset, bytes as usize),
            opcode::WRITE => {
                self.gather(bus, record, bytes as usize)?;
                self.namespace
                    .write(offset, &self.buffer[..bytes as usize])
                    .map_err(|_| status::WRITE_FAULT)?;
                self.sync_if(entry.force_unit_access() == 1)
            }
            opcode::COMPARE => self.compare_blocks(bus, record, offset, bytes as usize),
            opcode::WRITE_ZEROES => {
                self.namespace.clear(offset, bytes).map_err(|_| status::WRITE_FAULT)?;
                self.sync_if(entry.force_unit_access() == 1)
            }
            opcode::FLUSH => self.sync_if(true),
            opcode::DATASET_MANAGEMENT if attributes(&entry).deallocate() == 1 => {
                for &(first, blocks) in &record.ranges {
                    let cleared = self.namespace.clear(first << shift, u64::from(blocks) << shift);
                    cleared.map_err(|_| status::WRITE_FAULT)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn sync_if(&self, wanted: bool) -> Result<(), u16> {
        if wanted {
            self.namespace.sync().map_err(|_| status::WRITE_FAULT)?;
        }
        Ok(())
    }

    fn read_blocks(
        &mut self,
        bus: &mut Bus,
        record: &CommandRecord,
        offset: u64,
        bytes: usize,
    ) -> Result<(), u16> {
        self.buffer.resize(self.buffer.len().max(bytes), 0);
        let buffer = &mut self.buffer[..bytes];
        self.namespace.read(offset, buffer).map_err(|_| status::UNRECOVERED_READ_ERROR)?;
        let mut rest = &self.buffer[..bytes];
        for segment in &record.segments {
            let (part, after) = rest.split_at(segment.len as usize);
            bus.write(self.agent(), segment.iova, part).map_err(|_| status::DATA_TRANSFER_ERROR)?;
            rest = after;
        }
        Ok(())
    }

    /// Reads a command's data from host memory into the front of `buffer`.
    fn gather(&mut self, bus: &mut Bus, record: &CommandRecord, bytes: usize) -> Result<(), u16> {
        let agent = self.agent();
        self.buffer.resize(self.buffer.len().max(bytes), 0);
        let mut at = 0;
        for segment in &record.segments {
            let part = &mut self.buffer[at..at + segment.len as usize];
            bus.read(agent, segment.iova, part).map_err(|_| status::DATA_TRANSFER_ERROR)?;
            at += segment.len as usize;
        }
        Ok(())
    }

    fn compare_blocks(
        &mut self,
        bus: &mut Bus,
        record: &CommandRecord,
        offset: u64,
        bytes: usize,
    ) -> Result<(), u16> {
        self.gather(bus, record, bytes)?;
        let mut kept = vec![0; bytes];
        self.namespace.read(offset, &mut kept).map_err(|_| status::UNRECOVERED_READ_ERROR)?;
        (kept == self.buffer[..bytes]).then_some(()).ok_or(status::COMPARE_FAILURE)
    }
}

fn empty_record() -> CommandRecord {
    CommandRecord {
        order: 0,
        at_ns: 0,
        queue: 0,
        entry: SubmissionEntry::default(),
        segments: Vec::new(),
        ranges: Vec::new(),
        status: 0,
    }
}
