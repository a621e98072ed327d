//! The commands of all plans, by slot: for what goes through admission again, and for records.
//!
//! A command is written when it is admitted. `again` asks for one that is to go through admission once more, in
//! order; `fetch` for one that a record tells of, answered by a pulse `fetched_valid`. Each has every other cycle
//! in which nothing is in work. A command at `out` keeps nobody from being fetched: admission may wait for a path
//! which a fence is to free, and records of fences come behind others.
//!
//! Latency: 3 cycles to `out`, 2 to `fetched_valid`, after at most one for the turn. Throughput: one in 5 cycles.
//! Reset drops what is in work.

use rust_hdl::prelude::*;

use crate::prim::ram::BlockRam;
use crate::prim::register::Register;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{Again, AgainCommand, ClientCommand};
use crate::sizes::Sizes;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct CommandStore {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub write_valid: Signal<In, bool>,
    pub write_slot: Signal<In, Bits<12>>,
    pub write_command: Signal<In, ClientCommand>,
    pub again: StreamIn<Again>,
    pub out: StreamOut<AgainCommand>,
    pub fetch: StreamIn<Bits<12>>,
    pub fetched_valid: Signal<Out, bool>,
    pub fetched: Signal<Out, ClientCommand>,
    pub idle: Signal<Out, bool>,

    commands: BlockRam<ClientCommand>,
    /// The memory reads, and the cycle in which the command is there.
    first: DFF<bool>,
    second: DFF<bool>,
    for_fetch: DFF<bool>,
    fetch_turn: DFF<bool>,
    asked: DFF<Bits<33>>,
    offered: Register<AgainCommand>,
    offered_valid: DFF<bool>,

    free: Signal<Local, bool>,
    vacant: Signal<Local, bool>,
    takes_fetch: Signal<Local, bool>,
    takes_again: Signal<Local, bool>,
    asking: Signal<Local, Again>,
    slot: Signal<Local, Bits<12>>,
}

impl CommandStore {
    /// The commands of 2^`slot_bits` plans.
    pub fn new(sizes: &Sizes) -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            write_valid: Default::default(),
            write_slot: Default::default(),
            write_command: Default::default(),
            again: Default::default(),
            out: Default::default(),
            fetch: Default::default(),
            fetched_valid: Default::default(),
            fetched: Default::default(),
            idle: Default::default(),
            commands: BlockRam::new(sizes.slot_bits),
            first: Default::default(),
            second: Default::default(),
            for_fetch: Default::default(),
            fetch_turn: Default::default(),
            asked: Default::default(),
            offered: Default::default(),
            offered_valid: Default::default(),
            free: Default::default(),
            vacant: Default::default(),
            takes_fetch: Default::default(),
            takes_again: Default::default(),
            asking: Default::default(),
            slot: Default::default(),
        }
    }
}

impl Logic for CommandStore {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, first, second, for_fetch, fetch_turn, asked, offered_valid);
        clock!(self, clock, commands, offered);
        self.commands.write.next = self.write_valid.val();
        self.commands.write_address.next = bit_cast::<16, 12>(self.write_slot.val());
        self.commands.write_data.next = self.write_command.val();

        // One at a time.
        self.free.next = !self.first.q.val() & !self.second.q.val();
        self.vacant.next = self.free.val() & !self.offered_valid.q.val();
        self.fetch.ready.next = self.free.val() & self.fetch_turn.q.val();
        self.again.ready.next = self.vacant.val() & !self.fetch_turn.q.val();
        self.takes_fetch.next = self.free.val() & self.fetch_turn.q.val() & self.fetch.valid.val();
        self.takes_again.next = self.vacant.val() & !self.fetch_turn.q.val() & self.again.valid.val();
        if self.free.val() {
            self.fetch_turn.d.next = !self.fetch_turn.q.val();
        }
        self.asking.next = self.again.data.val();
        self.slot.next = self.asking.val().slot;
        if self.fetch_turn.q.val() {
            self.slot.next = self.fetch.data.val();
        }
        self.commands.read_address.next = bit_cast::<16, 12>(self.slot.val());
        self.first.d.next = self.takes_fetch.val() | self.takes_again.val();
        if self.free.val() {
            self.for_fetch.d.next = self.takes_fetch.val();
            self.asked.d.next = self.again.data.val().into();
        }
        self.second.d.next = self.first.q.val();
        self.fetched_valid.next = self.second.q.val() & self.for_fetch.q.val();
        self.fetched.next = self.commands.read_data.val();
        self.offered.load.next = self.second.q.val() & !self.for_fetch.q.val();
        self.offered.d.next.again = self.asked.q.val();
        self.offered.d.next.command = self.commands.read_data.val().into();
        self.out.valid.next = self.offered_valid.q.val();
        self.out.data.next = self.offered.q.val();
        if self.out.ready.val() {
            self.offered_valid.d.next = false;
        }
        if self.second.q.val() & !self.for_fetch.q.val() {
            self.offered_valid.d.next = true;
        }
        self.idle.next = self.vacant.val() & !self.again.valid.val() & !self.fetch.valid.val();

        if self.reset.val() {
            self.first.d.next = false;
            self.second.d.next = false;
            self.fetch_turn.d.next = false;
            self.offered_valid.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use std::collections::VecDeque;

    const SLOTS: usize = 16;

    #[test]
    fn gives_back_what_was_written() {
        let sizes = Sizes { slot_bits: SLOTS.ilog2() as usize, ..Sizes::DEFAULT };
        let mut bench = Bench::new("command_store", CommandStore::new(&sizes));
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let mut commands: Vec<Option<ClientCommand>> = vec![None; SLOTS];
        let (mut again, mut fetch) = (None::<Again>, None::<usize>);
        let mut out: VecDeque<AgainCommand> = VecDeque::new();
        let mut fetched: VecDeque<(u32, ClientCommand)> = VecDeque::new();
        let (mut given, mut told, mut passed, mut waited) = (0, 0, 0, 0);
        for cycle in 0..20_000u32 {
            let known = |random: &mut rand_chacha::ChaCha8Rng| {
                let slot = random.random_range(0..SLOTS);
                commands[slot].map(|_| slot)
            };
            if again.is_none() && random.random_bool(0.4) {
                again = known(&mut random).map(|slot| Again {
                    slot: (slot as u64).to_bits(),
                    component: random.random_range(0..8u64).to_bits(),
                    plan: random.random_range(0..9u64).to_bits(),
                    fresh: random.random_range(0..2u64).to_bits(),
                    retry: random.random_range(0..2u64).to_bits(),
                });
            }
            if fetch.is_none() && random.random_bool(0.4) {
                fetch = known(&mut random);
            }
            bench.set("again$valid", again.is_some().into());
            bench.set_record::<33>("again$data", again.unwrap_or_default());
            bench.set("fetch$valid", fetch.is_some().into());
            bench.set("fetch$data", fetch.unwrap_or(0) as u128);
            // For a while nothing is taken, as when admission waits for a path.
            let ready = cycle / 64 % 4 != 0 && random.random_bool(0.6);
            bench.set("out$ready", ready.into());
            // A slot is not written while anything is asked of it.
            let slot = random.random_range(0..SLOTS);
            let quiet = again.is_none() && fetch.is_none() && out.is_empty() && fetched.is_empty();
            let write = quiet && random.random_bool(0.5);
            bench.set("write_valid", write.into());
            if write {
                let command = ClientCommand {
                    prp1: random.random::<u64>().to_bits(),
                    cdw13: u64::from(random.random::<u32>()).to_bits(),
                    blocks: random.random_range(0..1u64 << 17).to_bits(),
                    ..Default::default()
                };
                bench.set("write_slot", slot as u128);
                bench.set_record::<329>("write_command", command);
                commands[slot] = Some(command);
            }
            bench.eval();
            assert!(bench.get("idle") == 0 || out.is_empty() && fetched.is_empty());
            if ready && bench.get("out$valid") == 1 {
                assert_eq!(Some(bench.get_record::<362, AgainCommand>("out$data")), out.pop_front());
                given += 1;
            }
            if bench.get("fetched_valid") == 1 {
                let (since, command) = fetched.pop_front().expect("a command was asked for");
                assert_eq!((bench.get_record::<329, ClientCommand>("fetched"), cycle - since), (command, 2));
                told += 1;
            }
            if let Some(it) = again.filter(|_| bench.get("again$ready") == 1) {
                let command = commands[it.slot.index()].expect("it was written");
                out.push_back(AgainCommand { again: it.into(), command: command.into() });
                again = None;
                passed += u32::from(fetch.is_some());
                assert!(passed <= 1, "a fetch was passed over twice");
            }
            if let Some(slot) = fetch.filter(|_| bench.get("fetch$ready") == 1) {
                fetched.push_back((cycle, commands[slot].expect("it was written")));
                (fetch, passed) = (None, 0);
            }
            waited = if fetch.is_some() { waited + 1 } else { 0 };
            assert!(waited <= 5, "a fetch waits for {waited} cycles");
            bench.cycle();
        }
        assert!(given > 1_000 && told > 1_000, "{given} given, {told} told");
    }
}
