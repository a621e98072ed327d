//! An SSD brought up by the driver, with a queue pair that it drives.

use std::error::Error;
use std::time::Duration;

use volplane_abi::{CompletionEntry, SubmissionEntry};
use volplane_driver::{
    poll_until, DmaMemory, NvmeController, Platform, QueuePair, VfioFunction, VfioPlatform, PAGE,
};

/// Longest time of a command: the guest is emulated.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A controller with one queue pair.
pub struct Ssd {
    pub controller: NvmeController<VfioFunction>,
    pub queue: QueuePair<VfioFunction>,
    pub block: usize,
    pub blocks: u64,
    /// Blocks of the largest transfer.
    pub transfer: u32,
    list: DmaMemory,
}

impl Ssd {
    pub fn open(platform: &mut VfioPlatform, address: &str) -> Result<Self, Box<dyn Error>> {
        let mut controller = NvmeController::open(platform, address)?;
        let limits = controller.limits(platform, 1)?;
        let queue = controller.create_host_queue(platform, 1, 16)?;
        let list = platform.allocate(PAGE)?;
        let (block, blocks, transfer) = (limits.block_bytes as usize, limits.blocks, limits.transfer_blocks);
        Ok(Self { controller, queue, block, blocks, transfer, list })
    }

    /// A command over `blocks` blocks from the start of `buffer`; its PRP list is good until the next.
    pub fn command(&self, opcode: u8, lba: u64, blocks: usize, buffer: u64) -> SubmissionEntry {
        let pages = (blocks * self.block).div_ceil(PAGE);
        let page = |number: usize| buffer + (number * PAGE) as u64;
        let prp2 = match pages {
            0 | 1 => 0,
            2 => page(1),
            _ => {
                (1..pages).for_each(|number| self.list.write((number - 1) * 8, &page(number).to_le_bytes()));
                self.list.iova().0
            }
        };
        SubmissionEntry::default()
            .with_opcode(opcode)
            .with_namespace_id(1)
            .with_starting_lba(lba)
            .with_block_count_z((blocks - 1) as u16)
            .with_prp1(buffer)
            .with_prp2(prp2)
    }

    /// Executes one command; the code and type of its status.
    pub fn execute(
        &mut self,
        platform: &mut VfioPlatform,
        command: SubmissionEntry,
    ) -> Result<u16, Box<dyn Error>> {
        self.queue.submit(command.with_command_id(7)).map_err(|_| "no room")?;
        self.queue.ring()?;
        let completion: CompletionEntry =
            poll_until(platform, LIMIT, || self.queue.poll())?.ok_or("no completion in time")?;
        Ok(completion.status() & 0x7FF)
    }
}
