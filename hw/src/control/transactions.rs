//! Transactions: writes to the table of virtual disks that are made between two commands that are admitted.
//!
//! `order` is a pulse with one of the control ring's commands: a write is staged, all are forgotten, or all are made.
//! `answered` comes with `answer`, a status, and of a commit with `epoch`, the one that it ends. The writes go out by
//! `write`, one a cycle, each entry's bits two cycles behind its index, which is when its table looks at them.
//!
//! While `hold` is set nothing is admitted: 6 cycles of a commit, and one more for each write. It waits for nobody.
//! `advance` begins the next epoch two cycles after the last admission of the old one, which is when that is counted.
//! Latency: 2 cycles from `order` to `answered`, of a commit 8 and one more for each write. Reset forgets all.

use rust_hdl::prelude::*;
use volplane_abi::{control_opcode, status, table, TRANSACTION_MAX};

use crate::logic_record;
use crate::prim::ram::{BlockRam, LutRam};
use crate::sizes::Sizes;

logic_record! {
    /// A control command of a transaction.
    TransactionOrder: 200 {
        /// Opcode of the control ring.
        opcode = 8,
        /// Table.
        table = 16,
        /// Index.
        index = 32,
        /// Entry (`DiskEntry`).
        disk = 144,
    }
}

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum State {
    Idle,
    Weigh,
    /// The last command that was admitted is counted,
    Drain,
    /// and a new epoch begins.
    Advance,
    Write,
    /// The last write is made.
    Settle,
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct Transactions {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub order_valid: Signal<In, bool>,
    pub order: Signal<In, TransactionOrder>,
    pub answered: Signal<Out, bool>,
    pub answer: Signal<Out, Bits<11>>,
    pub epoch: Signal<Out, Bits<32>>,
    /// The epoch of now.
    pub number: Signal<In, Bits<32>>,
    pub hold: Signal<Out, bool>,
    pub advance: Signal<Out, bool>,
    pub write_valid: Signal<Out, bool>,
    pub write_index: Signal<Out, Bits<16>>,
    pub write_disk: Signal<Out, Bits<144>>,

    state: DFF<State>,
    indices: LutRam<Bits<16>>,
    entries: BlockRam<Bits<144>>,
    staged: DFF<Bits<7>>,
    is_full: DFF<bool>,
    is_stage: DFF<bool>,
    is_commit: DFF<bool>,
    /// It names an entry of the table of virtual disks.
    fits: DFF<bool>,
    place: DFF<Bits<7>>,
    place_before: DFF<Bits<7>>,
    going: DFF<bool>,
    left: DFF<Bits<2>>,
    held: DFF<bool>,
    advances: DFF<bool>,
    answered_register: DFF<bool>,
    answer_register: DFF<Bits<11>>,
    epoch_register: DFF<Bits<32>>,
    index: Signal<Local, Bits<32>>,
    stages: Signal<Local, bool>,
    opcode_stage: Constant<Bits<8>>,
    opcode_commit: Constant<Bits<8>>,
    disks: Constant<Bits<16>>,
    beyond_mask: Constant<Bits<32>>,
    good: Constant<Bits<11>>,
    invalid_field: Constant<Bits<11>>,
    full: Constant<Bits<11>>,
    most: Constant<Bits<7>>,
    one7: Constant<Bits<7>>,
    zero7: Constant<Bits<7>>,
    one2: Constant<Bits<2>>,
    zero2: Constant<Bits<2>>,
    settling: Constant<Bits<2>>,
}

impl Transactions {
    /// On 2^`vd_bits` virtual disks.
    pub fn new(sizes: &Sizes) -> Self {
        assert!((1..=16).contains(&sizes.vd_bits), "2^{} virtual disks", sizes.vd_bits);
        const { assert!(TRANSACTION_MAX == 64) };
        Self {
            clock: Default::default(),
            reset: Default::default(),
            order_valid: Default::default(),
            order: Default::default(),
            answered: Default::default(),
            answer: Default::default(),
            epoch: Default::default(),
            number: Default::default(),
            hold: Default::default(),
            advance: Default::default(),
            write_valid: Default::default(),
            write_index: Default::default(),
            write_disk: Default::default(),
            state: Default::default(),
            indices: LutRam::new(6),
            entries: BlockRam::new(6),
            staged: Default::default(),
            is_full: Default::default(),
            is_stage: Default::default(),
            is_commit: Default::default(),
            fits: Default::default(),
            place: Default::default(),
            place_before: Default::default(),
            going: Default::default(),
            left: Default::default(),
            held: Default::default(),
            advances: Default::default(),
            answered_register: Default::default(),
            answer_register: Default::default(),
            epoch_register: Default::default(),
            index: Default::default(),
            stages: Default::default(),
            opcode_stage: Constant::new(u64::from(control_opcode::TRANSACTION_STAGE).to_bits()),
            opcode_commit: Constant::new(u64::from(control_opcode::TRANSACTION_COMMIT).to_bits()),
            disks: Constant::new(u64::from(table::VD).to_bits()),
            beyond_mask: Constant::new((u64::from(u32::MAX) & !((1u64 << sizes.vd_bits) - 1)).to_bits()),
            good: Constant::new(u64::from(status::SUCCESS).to_bits()),
            invalid_field: Constant::new(u64::from(status::INVALID_FIELD).to_bits()),
            full: Constant::new(u64::from(status::COMMAND_SEQUENCE_ERROR).to_bits()),
            most: Constant::new((TRANSACTION_MAX as u64).to_bits()),
            one7: Constant::new(1u64.to_bits()),
            zero7: Constant::new(0u64.to_bits()),
            one2: Constant::new(1u64.to_bits()),
            zero2: Constant::new(0u64.to_bits()),
            settling: Constant::new(2u64.to_bits()),
        }
    }
}

impl Logic for Transactions {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, state, staged, is_full, is_stage, is_commit, fits, place, place_before);
        dff_setup!(self, clock, going, left, held, advances, answered_register, answer_register);
        dff_setup!(self, clock, epoch_register);
        clock!(self, clock, indices, entries);
        self.hold.next = self.held.q.val();
        self.advance.next = self.advances.q.val();
        self.answered.next = self.answered_register.q.val();
        self.answer.next = self.answer_register.q.val();
        self.epoch.next = self.epoch_register.q.val();
        self.advances.d.next = false;
        self.answered_register.d.next = false;

        // The order stands until it is answered.
        self.index.next = self.order.val().index;
        self.is_full.d.next = (self.staged.q.val() == self.most.val());
        self.is_stage.d.next = (self.order.val().opcode == self.opcode_stage.val());
        self.is_commit.d.next = (self.order.val().opcode == self.opcode_commit.val());
        self.fits.d.next =
            (self.order.val().table == self.disks.val()) & !(self.index.val() & self.beyond_mask.val()).any();
        self.stages.next = false;

        // An index a cycle after its place was asked for, the entry two cycles later.
        self.indices.read_address.next = bit_cast::<16, 7>(self.place.q.val());
        self.place_before.d.next = self.place.q.val();
        self.entries.read_address.next = bit_cast::<16, 7>(self.place_before.q.val());
        self.write_valid.next = self.going.q.val();
        self.write_index.next = self.indices.read_data.val();
        self.write_disk.next = self.entries.read_data.val();
        self.going.d.next = false;

        match self.state.q.val() {
            State::Idle => {
                self.place.d.next = self.zero7.val();
                self.left.d.next = self.settling.val();
                if self.order_valid.val() {
                    self.state.d.next = State::Weigh;
                }
            }
            State::Weigh => {
                self.answered_register.d.next = true;
                self.answer_register.d.next = self.good.val();
                self.state.d.next = State::Idle;
                if self.is_stage.q.val() {
                    if !self.fits.q.val() {
                        self.answer_register.d.next = self.invalid_field.val();
                    } else if self.is_full.q.val() {
                        self.answer_register.d.next = self.full.val();
                    } else {
                        self.stages.next = true;
                        self.staged.d.next = self.staged.q.val() + self.one7.val();
                    }
                } else if self.is_commit.q.val() {
                    self.answered_register.d.next = false;
                    self.held.d.next = true;
                    self.state.d.next = State::Drain;
                } else {
                    self.staged.d.next = self.zero7.val();
                }
            }
            State::Drain => {
                self.advances.d.next = true;
                self.epoch_register.d.next = self.number.val();
                self.state.d.next = State::Advance;
            }
            State::Advance => {
                self.state.d.next = State::Write;
            }
            State::Write => {
                self.state.d.next = State::Settle;
                if (self.place.q.val() != self.staged.q.val()) {
                    self.going.d.next = true;
                    self.place.d.next = self.place.q.val() + self.one7.val();
                    self.state.d.next = State::Write;
                }
            }
            State::Settle => {
                self.left.d.next = self.left.q.val() - self.one2.val();
                if (self.left.q.val() == self.zero2.val()) {
                    self.held.d.next = false;
                    self.staged.d.next = self.zero7.val();
                    self.answered_register.d.next = true;
                    self.answer_register.d.next = self.good.val();
                    self.state.d.next = State::Idle;
                }
            }
            _ => {}
        }
        self.indices.write.next = self.stages.val();
        self.indices.write_address.next = bit_cast::<16, 7>(self.staged.q.val());
        self.indices.write_data.next = bit_cast::<16, 32>(self.index.val());
        self.entries.write.next = self.stages.val();
        self.entries.write_address.next = bit_cast::<16, 7>(self.staged.q.val());
        self.entries.write_data.next = self.order.val().disk;
        if self.reset.val() {
            self.state.d.next = State::Idle;
            self.staged.d.next = self.zero7.val();
            self.held.d.next = false;
            self.going.d.next = false;
            self.advances.d.next = false;
            self.answered_register.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;

    const STAGE: u8 = control_opcode::TRANSACTION_STAGE;
    const COMMIT: u8 = control_opcode::TRANSACTION_COMMIT;
    const CANCEL: u8 = control_opcode::TRANSACTION_CANCEL;

    /// What was seen until the answer.
    #[derive(Debug, Default)]
    struct Seen {
        answer: u64,
        cycles: u64,
        held: u64,
        writes: Vec<(u64, Vec<u32>)>,
    }

    /// Gives an order and looks on until it is answered.
    fn order(bench: &mut Bench, opcode: u8, table: u16, index: u32, disk: &[u32; 5], number: u32) -> Seen {
        let mut bits = Bits::<144>::default();
        for (at, word) in disk.iter().enumerate() {
            for bit in (0..32).filter(|bit| word >> bit & 1 == 1 && 32 * at + bit < 144) {
                bits = bits.replace_bit(32 * at + bit, true);
            }
        }
        let order = TransactionOrder {
            opcode: u64::from(opcode).to_bits(),
            table: u64::from(table).to_bits(),
            index: u64::from(index).to_bits(),
            disk: bits,
        };
        bench.set_record::<200>("order", order);
        bench.set("order_valid", 1);
        let mut seen = Seen::default();
        let (mut indices, mut advanced) = (Vec::<(u64, u64)>::new(), None);
        bench.set("number", number.into());
        loop {
            bench.cycle();
            bench.set("order_valid", 0);
            if advanced.is_some() {
                bench.set("number", u128::from(number.wrapping_add(1)));
            }
            bench.eval();
            seen.cycles += 1;
            seen.held += bench.get("hold") as u64;
            if let Some(&(_, index)) = indices.iter().find(|&&(at, _)| at + 2 == seen.cycles) {
                assert_eq!(bench.get("hold"), 1, "written while others are admitted");
                seen.writes.push((index, bench.get_wide("write_disk")));
            }
            if bench.get("write_valid") == 1 {
                indices.push((seen.cycles, bench.get("write_index") as u64));
            }
            if bench.get("advance") == 1 {
                assert!(
                    advanced.is_none() && indices.is_empty() && seen.held == 2,
                    "at cycle {}",
                    seen.cycles
                );
                advanced = Some(seen.cycles);
            }
            if bench.get("answered") == 1 {
                break;
            }
            assert!(seen.cycles < 100, "no answer");
        }
        assert_eq!((bench.get("hold"), seen.writes.len()), (0, indices.len()));
        assert_eq!(advanced.is_some(), opcode == COMMIT);
        if opcode == COMMIT {
            assert_eq!(bench.get("epoch") as u32, number);
        }
        seen.answer = bench.get("answer") as u64;
        seen
    }

    #[test]
    fn what_is_staged_is_written_once_in_order() {
        let mut bench =
            Bench::new("transactions", Transactions::new(&Sizes { vd_bits: 8, ..Sizes::DEFAULT }));
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let mut staged: Vec<(u64, Vec<u32>)> = Vec::new();
        let (mut commits, mut full, mut wrong, mut number) = (0, 0, 0, u32::MAX - 20);
        for round in 0..6_000 {
            let commits_now = random.random_bool(if round % 1_000 < 500 { 0.3 } else { 0.01 });
            if commits_now {
                let seen = order(&mut bench, COMMIT, 0, 0, &[0; 5], number);
                let count = staged.len() as u64;
                assert_eq!(seen.answer, 0);
                assert_eq!((seen.held, seen.cycles), (count + 6, count + 8));
                assert_eq!(seen.writes, staged);
                staged.clear();
                number = number.wrapping_add(1);
                commits += 1;
            } else if random.random_bool(0.005) {
                let seen = order(&mut bench, CANCEL, 0, 0, &[0; 5], number);
                assert_eq!((seen.answer, seen.cycles, seen.held), (0, 2, 0));
                staged.clear();
            } else {
                let table = if random.random_bool(0.05) { table::PLAN } else { table::VD };
                let index = random.random_range(0..260u32) | u32::from(random.random_bool(0.02)) << 16;
                let mut disk: [u32; 5] = random.random();
                disk[4] &= 0xFFFF;
                let seen = order(&mut bench, STAGE, table, index, &disk, number);
                assert_eq!((seen.cycles, seen.held), (2, 0));
                let expected = match (table == table::VD && index < 256, staged.len() < TRANSACTION_MAX) {
                    (false, _) => status::INVALID_FIELD,
                    (true, false) => status::COMMAND_SEQUENCE_ERROR,
                    (true, true) => status::SUCCESS,
                };
                assert_eq!(seen.answer, u64::from(expected));
                full += u32::from(expected == status::COMMAND_SEQUENCE_ERROR);
                wrong += u32::from(expected == status::INVALID_FIELD);
                if expected == status::SUCCESS {
                    staged.push((index.into(), disk.to_vec()));
                }
            }
        }
        assert!(commits > 500 && full > 20 && wrong > 100, "{commits} commits, {full} full, {wrong} wrong");
    }
}
