//! Round robin over paths for three kinds of work: answers of fences first, then tails, then heads.
//!
//! Handshake: `found` says that something is due, as of two cycles ago. `choose` with `found` begins a
//! choice; `pick` in the next cycle ends it, and from the cycle after on `kind`, `path` and `chosen`
//! stand. `served` moves the turn past `chosen`. Throughput: a choice in 3 cycles.
//! Ordering: the lowest path above the last one served that has work of the kind, else the lowest.
//! Reset: the turn is at path 0.

use rust_hdl::prelude::*;

use super::path_encoder::PathEncoder;
use crate::logic_record;

logic_record! {
    /// What is to be done for a path, one of the three.
    DoorbellKind: 3 {
        /// A fence was answered.
        answer = 1,
        /// A submission tail.
        tail = 1,
        /// A completion head.
        head = 1,
    }
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct PathChooser {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub answers: Signal<In, Bits<32>>,
    /// Paths with tails and with heads, which of them are due, and whether all are.
    pub tails: Signal<In, Bits<32>>,
    pub tails_due: Signal<In, Bits<32>>,
    pub all_tails: Signal<In, bool>,
    pub heads: Signal<In, Bits<32>>,
    pub heads_due: Signal<In, Bits<32>>,
    pub all_heads: Signal<In, bool>,
    pub choose: Signal<In, bool>,
    pub pick: Signal<In, bool>,
    pub served: Signal<In, bool>,
    pub found: Signal<Out, bool>,
    pub kind: Signal<Out, DoorbellKind>,
    pub path: Signal<Out, Bits<8>>,
    /// The path as one bit.
    pub chosen: Signal<Out, Bits<32>>,
    encoder: PathEncoder,
    /// What is due; in each quarter of the paths, whether there is any, and any above the last one served.
    due_answers: DFF<Bits<32>>,
    due_tails: DFF<Bits<32>>,
    due_heads: DFF<Bits<32>>,
    any_answer: [DFF<bool>; 4],
    any_tail: [DFF<bool>; 4],
    any_head: [DFF<bool>; 4],
    answer_above: [DFF<bool>; 4],
    tail_above: [DFF<bool>; 4],
    head_above: [DFF<bool>; 4],
    /// Paths above the last one served.
    after: DFF<Bits<32>>,
    kind_register: DFF<DoorbellKind>,
    candidates: DFF<Bits<32>>,
    path_register: DFF<Bits<8>>,
    chosen_register: DFF<Bits<32>>,
    answers_after: Signal<Local, Bits<32>>,
    tails_after: Signal<Local, Bits<32>>,
    heads_after: Signal<Local, Bits<32>>,
    tails_now: Signal<Local, Bits<32>>,
    heads_now: Signal<Local, Bits<32>>,
    tails_now_after: Signal<Local, Bits<32>>,
    heads_now_after: Signal<Local, Bits<32>>,
    some_answer: Signal<Local, bool>,
    some_tail: Signal<Local, bool>,
    due: Signal<Local, Bits<32>>,
    above: Signal<Local, bool>,
    negative: Signal<Local, Bits<32>>,
    below: Signal<Local, Bits<32>>,
    flag: Constant<Bits<1>>,
    clear: Constant<Bits<1>>,
    zero: Constant<Bits<32>>,
    one: Constant<Bits<32>>,
    all: Constant<Bits<32>>,
}

impl Default for PathChooser {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            answers: Default::default(),
            tails: Default::default(),
            tails_due: Default::default(),
            all_tails: Default::default(),
            heads: Default::default(),
            heads_due: Default::default(),
            all_heads: Default::default(),
            choose: Default::default(),
            pick: Default::default(),
            served: Default::default(),
            found: Default::default(),
            kind: Default::default(),
            path: Default::default(),
            chosen: Default::default(),
            encoder: Default::default(),
            due_answers: Default::default(),
            due_tails: Default::default(),
            due_heads: Default::default(),
            any_answer: Default::default(),
            any_tail: Default::default(),
            any_head: Default::default(),
            answer_above: Default::default(),
            tail_above: Default::default(),
            head_above: Default::default(),
            after: Default::default(),
            kind_register: Default::default(),
            candidates: Default::default(),
            path_register: Default::default(),
            chosen_register: Default::default(),
            answers_after: Default::default(),
            tails_after: Default::default(),
            heads_after: Default::default(),
            tails_now: Default::default(),
            heads_now: Default::default(),
            tails_now_after: Default::default(),
            heads_now_after: Default::default(),
            some_answer: Default::default(),
            some_tail: Default::default(),
            due: Default::default(),
            above: Default::default(),
            negative: Default::default(),
            below: Default::default(),
            flag: Constant::new(1u64.to_bits()),
            clear: Constant::new(0u64.to_bits()),
            zero: Constant::new(0u64.to_bits()),
            one: Constant::new(1u64.to_bits()),
            all: Constant::new(0xFFFF_FFFFu64.to_bits()),
        }
    }
}

impl Logic for PathChooser {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, due_answers, due_tails, due_heads, after, kind_register, candidates);
        dff_setup!(self, clock, path_register, chosen_register);
        self.due_answers.d.next = self.answers.val();
        self.tails_now.next = self.tails.val() & self.tails_due.val();
        self.heads_now.next = self.heads.val() & self.heads_due.val();
        self.due_tails.d.next = self.tails_now.val();
        if self.all_tails.val() {
            self.due_tails.d.next = self.tails.val();
        }
        self.due_heads.d.next = self.heads_now.val();
        if self.all_heads.val() {
            self.due_heads.d.next = self.heads.val();
        }
        self.answers_after.next = self.answers.val() & self.after.q.val();
        self.tails_after.next = self.tails.val() & self.after.q.val();
        self.heads_after.next = self.heads.val() & self.after.q.val();
        self.tails_now_after.next = self.tails_now.val() & self.after.q.val();
        self.heads_now_after.next = self.heads_now.val() & self.after.q.val();
        // Each with trees of its own, so that `all_` comes in behind them.
        for i in 0..4 {
            self.any_answer[i].clock.next = self.clock.val();
            self.any_tail[i].clock.next = self.clock.val();
            self.any_head[i].clock.next = self.clock.val();
            self.answer_above[i].clock.next = self.clock.val();
            self.tail_above[i].clock.next = self.clock.val();
            self.head_above[i].clock.next = self.clock.val();
            self.any_answer[i].d.next = self.answers.val().get_bits::<8>(8 * i).any();
            self.any_tail[i].d.next = self.tails_now.val().get_bits::<8>(8 * i).any()
                | (self.tails.val().get_bits::<8>(8 * i).any() & self.all_tails.val());
            self.any_head[i].d.next = self.heads_now.val().get_bits::<8>(8 * i).any()
                | (self.heads.val().get_bits::<8>(8 * i).any() & self.all_heads.val());
            self.answer_above[i].d.next = self.answers_after.val().get_bits::<8>(8 * i).any();
            self.tail_above[i].d.next = self.tails_now_after.val().get_bits::<8>(8 * i).any()
                | (self.tails_after.val().get_bits::<8>(8 * i).any() & self.all_tails.val());
            self.head_above[i].d.next = self.heads_now_after.val().get_bits::<8>(8 * i).any()
                | (self.heads_after.val().get_bits::<8>(8 * i).any() & self.all_heads.val());
            if self.reset.val() {
                self.any_answer[i].d.next = false;
                self.any_tail[i].d.next = false;
                self.any_head[i].d.next = false;
            }
        }
        self.some_answer.next = (self.any_answer[0].q.val()
            | self.any_answer[1].q.val()
            | self.any_answer[2].q.val()
            | self.any_answer[3].q.val());
        self.some_tail.next = (self.any_tail[0].q.val()
            | self.any_tail[1].q.val()
            | self.any_tail[2].q.val()
            | self.any_tail[3].q.val());
        self.found.next = self.some_answer.val()
            | self.some_tail.val()
            | (self.any_head[0].q.val()
                | self.any_head[1].q.val()
                | self.any_head[2].q.val()
                | self.any_head[3].q.val());

        // The kind, and its paths of this turn.
        self.due.next = self.due_heads.q.val();
        self.above.next = self.head_above[0].q.val()
            | self.head_above[1].q.val()
            | self.head_above[2].q.val()
            | self.head_above[3].q.val();
        if self.some_answer.val() {
            self.due.next = self.due_answers.q.val();
            self.above.next = self.answer_above[0].q.val()
                | self.answer_above[1].q.val()
                | self.answer_above[2].q.val()
                | self.answer_above[3].q.val();
        } else if self.some_tail.val() {
            self.due.next = self.due_tails.q.val();
            self.above.next = self.tail_above[0].q.val()
                | self.tail_above[1].q.val()
                | self.tail_above[2].q.val()
                | self.tail_above[3].q.val();
        }
        if self.choose.val() {
            self.candidates.d.next = self.due.val();
            if self.above.val() {
                self.candidates.d.next = self.due.val() & self.after.q.val();
            }
            self.kind_register.d.next.answer = self.some_answer.val().into();
            self.kind_register.d.next.tail = (self.some_tail.val() & !self.some_answer.val()).into();
            self.kind_register.d.next.head = self.flag.val();
            if self.some_answer.val() | self.some_tail.val() {
                self.kind_register.d.next.head = self.clear.val();
            }
        }

        // The lowest of them.
        self.encoder.candidates.next = self.candidates.q.val();
        self.negative.next = self.zero.val() - self.candidates.q.val();
        if self.pick.val() {
            self.path_register.d.next = self.encoder.lowest.val();
            self.chosen_register.d.next = self.candidates.q.val() & self.negative.val();
        }
        self.below.next = self.chosen_register.q.val() - self.one.val();
        if self.served.val() {
            self.after.d.next = self.all.val() ^ (self.chosen_register.q.val() | self.below.val());
        }
        self.kind.next = self.kind_register.q.val();
        self.path.next = self.path_register.q.val();
        self.chosen.next = self.chosen_register.q.val();

        if self.reset.val() {
            self.after.d.next = self.all.val();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;

    /// The lowest path of `due` above `last`, else the lowest.
    fn next(due: u32, last: Option<u32>) -> u32 {
        let above = last.map_or(due, |last| due & !1 << last);
        if above != 0 {
            above.trailing_zeros()
        } else {
            due.trailing_zeros()
        }
    }

    /// None, one, some or many.
    fn some(random: &mut impl RngExt) -> u32 {
        match random.random_range(0..4) {
            0 => 0,
            1 => 1 << random.random_range(0..32u32),
            2 => random.random::<u32>() & random.random::<u32>() & random.random::<u32>(),
            _ => random.random(),
        }
    }

    #[test]
    fn answers_then_tails_then_heads_each_in_turns() {
        let mut bench = Bench::new("path_chooser", PathChooser::default());
        let mut random = seeded();
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let (mut last, mut kinds, mut turned) = (None, [0; 3], 0);
        for round in 0..20_000 {
            let answers = if random.random_bool(0.3) { some(&mut random) } else { 0 };
            let [tails, tails_due, heads, heads_due] = std::array::from_fn(|_| some(&mut random));
            let (all_tails, all_heads) = (random.random_bool(0.2), random.random_bool(0.2));
            for (name, value) in [
                ("answers", answers),
                ("tails", tails),
                ("tails_due", tails_due),
                ("all_tails", all_tails.into()),
                ("heads", heads),
                ("heads_due", heads_due),
                ("all_heads", all_heads.into()),
            ] {
                bench.set(name, value.into());
            }
            bench.cycle();
            bench.cycle();
            bench.eval();
            let due = [
                answers,
                if all_tails { tails } else { tails & tails_due },
                if all_heads { heads } else { heads & heads_due },
            ];
            let kind = due.iter().position(|&paths| paths != 0);
            assert_eq!(bench.get("found") == 1, kind.is_some(), "round {round}");
            let Some(kind) = kind else { continue };
            for step in ["choose", "pick"] {
                bench.set(step, 1);
                bench.cycle();
                bench.set(step, 0);
            }
            bench.eval();
            let expected = next(due[kind], last);
            assert_eq!(bench.get("path"), expected.into(), "round {round}: {due:x?} after {last:?}");
            assert_eq!(bench.get("chosen"), 1 << expected);
            assert_eq!(bench.get("kind"), 1 << kind, "round {round}");
            kinds[kind] += 1;
            turned += u32::from(expected != due[kind].trailing_zeros());
            if random.random_bool(0.8) {
                bench.set("served", 1);
                bench.cycle();
                bench.set("served", 0);
                last = Some(expected);
            }
        }
        assert!(kinds.iter().all(|&count| count > 1_000) && turned > 3_000, "{kinds:?}, {turned}");
    }
}
