//! What the SSDs' blocks should hold.
//!
//! Each block written has a number of its own, and the number gives its bytes: a block in a wrong place,
//! or an old one, is told from the right one.

use std::collections::BTreeMap;

use volplane_sim::SimHandle;

use super::mix;

/// Blocks at either end of a long range that are looked at; the rest only where it held something.
const EDGE_BLOCKS: u64 = 64;

/// The blocks of all SSDs; what is not there holds zeros.
pub struct Media {
    blocks: Vec<BTreeMap<u64, u64>>,
    sizes: Vec<u64>,
    names: Vec<String>,
    next_token: u64,
    /// Blocks to look at.
    touched: Vec<BTreeMap<u64, ()>>,
    /// Numbers of blocks that have changed since `begin`, as they were then.
    before: Vec<BTreeMap<u64, u64>>,
}

impl Media {
    /// Empty SSDs: name and block size.
    pub fn new(ssds: impl Iterator<Item = (String, u32)>) -> Self {
        let (names, sizes): (Vec<String>, Vec<u64>) =
            ssds.map(|(name, size)| (name, u64::from(size))).unzip();
        let count = names.len();
        let touched = vec![BTreeMap::new(); count];
        let before = touched.iter().map(|_| BTreeMap::new()).collect();
        Self { blocks: vec![BTreeMap::new(); count], sizes, names, next_token: 1, touched, before }
    }

    /// Numbers for `count` blocks that are going to be written.
    pub fn tokens(&mut self, count: u64) -> u64 {
        let first = self.next_token;
        self.next_token += count;
        first
    }

    /// The number of a block; 0: zeros.
    pub fn token(&self, ssd: usize, block: u64) -> u64 {
        self.blocks[ssd].get(&block).copied().unwrap_or(0)
    }

    /// From now on `token_before` speaks of now.
    pub fn begin(&mut self) {
        self.before.iter_mut().for_each(BTreeMap::clear);
    }

    /// The number a block had at the last `begin`, what was planted since then counted in.
    pub fn token_before(&self, ssd: usize, block: u64) -> u64 {
        self.before[ssd].get(&block).copied().unwrap_or_else(|| self.token(ssd, block))
    }

    /// The blocks of a range that hold something, with their numbers.
    pub fn held(&self, ssd: usize, block: u64, count: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.blocks[ssd].range(block..block + count).map(|(&at, &token)| (at, token))
    }

    /// Blocks were written, with numbers from `token` on.
    pub fn write(&mut self, ssd: usize, block: u64, count: u64, token: u64) {
        for n in 0..count {
            let old = self.blocks[ssd].insert(block + n, token + n).unwrap_or(0);
            self.before[ssd].entry(block + n).or_insert(old);
            self.touched[ssd].insert(block + n, ());
        }
        self.touch_around(ssd, block, count);
    }

    /// Blocks were zeroed or deallocated.
    pub fn clear(&mut self, ssd: usize, block: u64, count: u64) {
        let held: Vec<u64> = self.blocks[ssd].range(block..block + count).map(|(&at, _)| at).collect();
        for at in held {
            let old = self.blocks[ssd].remove(&at).unwrap_or(0);
            self.before[ssd].entry(at).or_insert(old);
            self.touched[ssd].insert(at, ());
        }
        let edge = count.min(EDGE_BLOCKS);
        for at in (block..block + edge).chain(block + count - edge..block + count) {
            self.touched[ssd].insert(at, ());
        }
        self.touch_around(ssd, block, count);
    }

    fn touch_around(&mut self, ssd: usize, block: u64, count: u64) {
        self.touched[ssd].extend(block.checked_sub(1).map(|at| (at, ())));
        self.touched[ssd].insert(block + count, ());
    }

    /// Gives a block that holds zeros something to read, behind the card's back.
    ///
    /// # Panics
    /// When the SSD has no such block.
    pub fn plant(&mut self, handle: &SimHandle, ssd: usize, block: u64, token: u64) {
        if self.token(ssd, block) == 0 {
            self.blocks[ssd].insert(block, token);
            self.put(handle, ssd, block, token);
        }
    }

    /// Gives a block the number of another, as a control path copies it.
    ///
    /// # Panics
    /// When the SSD has no such block.
    pub fn copy(&mut self, handle: &SimHandle, ssd: usize, block: u64, token: u64) {
        if token == 0 {
            self.clear(ssd, block, 1);
        } else {
            self.write(ssd, block, 1, token);
        }
        self.put(handle, ssd, block, token);
    }

    fn put(&self, handle: &SimHandle, ssd: usize, block: u64, token: u64) {
        let size = self.sizes[ssd];
        let bytes = content(token, size as usize);
        handle.write_media(&self.names[ssd], block * size, &bytes).expect("the block exists");
    }

    /// Compares the blocks that were touched since the last time, and their neighbours.
    ///
    /// # Errors
    /// Says which block differs.
    pub fn check_touched(&mut self, handle: &SimHandle) -> Result<(), String> {
        for ssd in 0..self.names.len() {
            for (at, ()) in std::mem::take(&mut self.touched[ssd]) {
                self.check(handle, ssd, at)?;
            }
        }
        Ok(())
    }

    /// Compares every block that should hold something.
    ///
    /// # Errors
    /// Says which block differs.
    pub fn check_all(&self, handle: &SimHandle) -> Result<(), String> {
        for (ssd, blocks) in self.blocks.iter().enumerate() {
            blocks.keys().try_for_each(|&at| self.check(handle, ssd, at))?;
        }
        Ok(())
    }

    fn check(&self, handle: &SimHandle, ssd: usize, at: u64) -> Result<(), String> {
        let size = self.sizes[ssd];
        let mut found = vec![0; size as usize];
        // The block behind the last one is a neighbour, too.
        if handle.read_media(&self.names[ssd], at * size, &mut found).is_err() {
            return Ok(());
        }
        let token = self.token(ssd, at);
        if found != content(token, size as usize) {
            let first = u64::from_le_bytes(found[..8].try_into().expect("8 bytes"));
            let name = &self.names[ssd];
            return Err(format!(
                "block {at:#x} of {name} should hold number {token}, begins with {first:#x}"
            ));
        }
        Ok(())
    }
}

/// The bytes of the block with this number.
pub fn content(token: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    fill(token, &mut bytes);
    bytes
}

/// Gives `block` the bytes of this number.
pub fn fill(token: u64, block: &mut [u8]) {
    if token == 0 {
        return block.fill(0);
    }
    for (word, bytes) in block.chunks_exact_mut(8).enumerate() {
        bytes.copy_from_slice(&mix(token << 16 | word as u64).to_le_bytes());
    }
}
