//! What became of every command of a card that is reset in the middle, and what its blocks and buffers may hold.
//!
//! A command is completed once, or lost once. A block holds what it held before or what a write gave it that no later one,
//! which was completed before anybody looked, had overwritten. Every buffer lies in a page of its own between guards.

use std::collections::BTreeMap;

use volplane_abi::{opcode, SubmissionEntry};
use volplane_driver::{DmaMemory, Platform, PAGE};

use super::media::content;
use super::mix;

/// Bytes of a block.
pub const BLOCK: usize = 512;
/// Most blocks of a command: its data and the guards around it are a page.
pub const BLOCKS_MAX: u64 = 7;
/// Where data begin in their page.
const OFFSET: usize = 256;
/// Most commands of a ledger.
pub const COMMANDS_MAX: usize = 640;

/// A command.
#[derive(Clone, Debug)]
pub struct Command {
    /// Its client queue, by place, and its identifier there.
    pub key: (usize, u16),
    /// Disk.
    pub disk: u32,
    /// First block.
    pub lba: u64,
    /// Blocks.
    pub blocks: u64,
    /// Number of the first block written; 0: it reads.
    pub token: u64,
    sent: u64,
    /// When it was completed, with which status.
    pub ended: Option<(u64, u16)>,
    lost: bool,
}

impl Command {
    fn covers(&self, disk: u32, lba: u64) -> bool {
        self.disk == disk && (self.lba..self.lba + self.blocks).contains(&lba)
    }

    /// Whether they share a block.
    pub fn overlaps(&self, other: &Self) -> bool {
        let apart = self.lba >= other.lba + other.blocks || other.lba >= self.lba + self.blocks;
        self.disk == other.disk && !apart
    }
}

/// The commands of one life of a card.
pub struct Ledger {
    memory: DmaMemory,
    /// In the order in which they were sent; each has the page of its number.
    commands: Vec<Command>,
    numbers: BTreeMap<(usize, u16), usize>,
    /// What blocks held at the beginning, if not zeros.
    before: BTreeMap<(u32, u64), u64>,
    step: u64,
    next_token: u64,
    salt: u64,
}

impl Ledger {
    /// Of a card on which nothing was sent; blocks hold `before`, and numbers of blocks from `next_token` on are new.
    ///
    /// # Panics
    /// When there is no memory.
    pub fn new(platform: &mut impl Platform, before: BTreeMap<(u32, u64), u64>, next_token: u64) -> Self {
        let memory = platform.allocate(COMMANDS_MAX * PAGE).expect("memory");
        let (commands, numbers) = (Vec::new(), BTreeMap::new());
        let ledger = Self { memory, commands, numbers, before, step: 0, next_token, salt: next_token };
        (0..COMMANDS_MAX).for_each(|number| ledger.memory.write(number * PAGE, &ledger.pattern(number)));
        ledger
    }

    fn pattern(&self, number: usize) -> Vec<u8> {
        content(mix(self.salt << 16 | number as u64) | 1, PAGE)
    }

    /// Another command; `None` when the ledger is full, or the identifier was used.
    pub fn send(
        &mut self,
        key: (usize, u16),
        writes: bool,
        (disk, lba, blocks): (u32, u64, u64),
    ) -> Option<SubmissionEntry> {
        let number = self.commands.len();
        if number == COMMANDS_MAX || self.numbers.contains_key(&key) {
            return None;
        }
        let token = if writes { self.next_token } else { 0 };
        for block in 0..blocks * u64::from(writes) {
            let at = number * PAGE + OFFSET + block as usize * BLOCK;
            self.memory.write(at, &content(token + block, BLOCK));
        }
        self.next_token += blocks;
        self.step += 1;
        self.numbers.insert(key, number);
        let (sent, ended, lost) = (self.step, None, false);
        self.commands.push(Command { key, disk, lba, blocks, token, sent, ended, lost });
        let entry = SubmissionEntry::default()
            .with_opcode(if writes { opcode::WRITE } else { opcode::READ })
            .with_command_id(key.1)
            .with_namespace_id(disk + 1)
            .with_starting_lba(lba)
            .with_block_count_z(blocks as u16 - 1)
            .with_prp1(self.memory.iova().0 + (number * PAGE + OFFSET) as u64);
        Some(entry)
    }

    /// A command was completed.
    ///
    /// # Panics
    /// When it was not under way, or has read what it cannot have.
    pub fn complete(&mut self, key: (usize, u16), status: u16) {
        let number = *self.numbers.get(&key).unwrap_or_else(|| panic!("a completion of no command: {key:?}"));
        let command = &self.commands[number];
        assert!(command.ended.is_none() && !command.lost, "a second end of {command:?}");
        if command.token == 0 && status == 0 {
            for block in 0..command.blocks {
                let mut found = vec![0; BLOCK];
                self.memory.read(number * PAGE + OFFSET + block as usize * BLOCK, &mut found);
                let held = self.may_hold(command.disk, command.lba + block, command.sent);
                let sound = held.iter().any(|&token| content(token, BLOCK) == found);
                assert!(sound, "block {block} of {command:?} holds none of {held:?}");
            }
        }
        self.step += 1;
        self.commands[number].ended = Some((self.step, status));
    }

    /// A command was reported as lost.
    ///
    /// # Panics
    /// When it was completed, reported before, or never sent.
    pub fn lose(&mut self, key: (usize, u16)) {
        let number = *self.numbers.get(&key).unwrap_or_else(|| panic!("the loss of no command: {key:?}"));
        let command = &mut self.commands[number];
        assert!(command.ended.is_none() && !command.lost, "a second end of {command:?}");
        command.lost = true;
    }

    /// Commands that were neither completed nor reported.
    pub fn open(&self) -> impl Iterator<Item = &Command> {
        self.commands.iter().filter(|command| command.ended.is_none() && !command.lost)
    }

    /// Commands that were completed with an error.
    pub fn failed(&self) -> Vec<&Command> {
        let is_error = |command: &&Command| command.ended.is_some_and(|(_, status)| status != 0);
        self.commands.iter().filter(is_error).collect()
    }

    /// What each block holds that was written last, one after another.
    pub fn newest(&self) -> BTreeMap<(u32, u64), u64> {
        let mut held = self.before.clone();
        for write in self.commands.iter().filter(|command| command.token > 0) {
            held.extend(
                (0..write.blocks).map(|block| ((write.disk, write.lba + block), write.token + block)),
            );
        }
        held
    }

    /// Commands that were sent, and those of them that were reported as lost.
    pub fn counts(&self) -> (usize, usize) {
        (self.commands.len(), self.commands.iter().filter(|command| command.lost).count())
    }

    /// Numbers that a block may hold: of the writes that were completed before step `from` the last ones count.
    fn may_hold(&self, disk: u32, lba: u64, from: u64) -> Vec<u64> {
        let writes = || self.commands.iter().filter(|command| command.token > 0 && command.covers(disk, lba));
        let over = |ended: u64| {
            let is_newer =
                |other: &Command| matches!(other.ended, Some((at, 0)) if at < from) && other.sent > ended;
            writes().any(is_newer)
        };
        let old = self.before.get(&(disk, lba)).copied().unwrap_or(0);
        let mut held: Vec<u64> = if over(0) { Vec::new() } else { vec![old] };
        let left = writes().filter(|write| !write.ended.is_some_and(|(ended, _)| over(ended)));
        held.extend(left.map(|write| write.token + (lba - write.lba)));
        held
    }

    /// Looks whether a block may hold these bytes. `complete`: it is a copy that has missed no write.
    ///
    /// # Errors
    /// Says what it may hold.
    pub fn check_block(&self, disk: u32, lba: u64, found: &[u8], complete: bool) -> Result<(), String> {
        let held = self.may_hold(disk, lba, if complete { u64::MAX } else { 0 });
        if held.iter().any(|&token| content(token, BLOCK) == found) {
            return Ok(());
        }
        Err(format!("block {lba} of disk {disk} begins with {:x?}, may hold {held:?}", &found[..8]))
    }

    /// Looks whether guards are as they were, and data of writes.
    ///
    /// # Panics
    /// When they are not.
    pub fn check_guards(&self) {
        for number in 0..COMMANDS_MAX {
            let (mut found, mut expected) = (vec![0; PAGE], self.pattern(number));
            self.memory.read(number * PAGE, &mut found);
            if let Some(command) = self.commands.get(number) {
                let data = OFFSET..OFFSET + command.blocks as usize * BLOCK;
                if command.token == 0 {
                    expected[data.clone()].copy_from_slice(&found[data]);
                } else {
                    let blocks = expected[data].chunks_exact_mut(BLOCK).zip(command.token..);
                    blocks.for_each(|(block, token)| block.copy_from_slice(&content(token, BLOCK)));
                }
            }
            assert!(found == expected, "around the buffer of {:?}", self.commands.get(number));
        }
    }

    /// The client uses all buffers for something else; gives what looks whether anybody has written to them since.
    ///
    /// # Panics
    /// That does, when somebody has.
    pub fn reuse(mut self) -> impl Fn() {
        self.salt = !self.salt;
        (0..COMMANDS_MAX).for_each(|number| self.memory.write(number * PAGE, &self.pattern(number)));
        move || {
            for number in 0..COMMANDS_MAX {
                let mut found = vec![0; PAGE];
                self.memory.read(number * PAGE, &mut found);
                let command = self.commands.get(number);
                assert!(
                    found == self.pattern(number),
                    "the buffer of {command:?} was written to after its end"
                );
            }
        }
    }

    /// The next number of a block that is not used.
    pub fn next_token(&self) -> u64 {
        self.next_token
    }
}
