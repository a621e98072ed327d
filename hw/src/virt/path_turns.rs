//! The path that a device's next piece takes, of its choices: in turns, each device by itself.
//!
//! A turn is the place (0 to 3 in the device's entry) that was taken last; the next is the first choice
//! behind it, else the lowest. A piece of the device that `address` named in the cycle before is `here` as
//! long as it waits, and `leaves` in the last of these cycles; `choices` are those of its device. Its turn
//! is written in the first cycle, so that nobody waits for `leaves`; `place` follows from the turn as it
//! was. At least a cycle lies between two pieces. Turns begin anywhere, and survive reset.

use rust_hdl::prelude::*;

use crate::prim::ram::FifoRam;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct PathTurns {
    pub clock: Signal<In, Clock>,
    pub address: Signal<In, Bits<16>>,
    pub choices: Signal<In, Bits<4>>,
    pub here: Signal<In, bool>,
    pub leaves: Signal<In, bool>,
    /// Says something while there is a choice.
    pub place: Signal<Out, Bits<2>>,

    turns: FifoRam<Bits<2>>,
    asked: DFF<Bits<16>>,
    /// The piece that is here has taken its turn.
    taken: DFF<bool>,
    turn: Signal<Local, Bits<2>>,
    behind: Signal<Local, Bits<4>>,
    chosen: Signal<Local, Bits<2>>,
    from: [Constant<Bits<4>>; 3],
    places: [Constant<Bits<2>>; 4],
    none: Constant<Bits<4>>,
}

impl PathTurns {
    /// The turns of 2^`device_bits` devices.
    pub fn new(device_bits: usize) -> Self {
        Self {
            clock: Default::default(),
            address: Default::default(),
            choices: Default::default(),
            here: Default::default(),
            leaves: Default::default(),
            taken: Default::default(),
            place: Default::default(),
            turns: FifoRam::new(device_bits, false, false),
            asked: Default::default(),
            turn: Default::default(),
            behind: Default::default(),
            chosen: Default::default(),
            from: std::array::from_fn(|place| Constant::new(((0xEu64 << place) & 0xF).to_bits())),
            places: std::array::from_fn(|place| Constant::new((place as u64).to_bits())),
            none: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for PathTurns {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, asked, taken);
        self.turns.clock.next = self.clock.val();
        self.turns.read_address.next = self.address.val();
        self.asked.d.next = self.address.val();
        self.turn.next = self.turns.read_data.val();
        self.behind.next = self.none.val();
        if (self.turn.val() == self.places[0].val()) {
            self.behind.next = self.choices.val() & self.from[0].val();
        }
        if (self.turn.val() == self.places[1].val()) {
            self.behind.next = self.choices.val() & self.from[1].val();
        }
        if (self.turn.val() == self.places[2].val()) {
            self.behind.next = self.choices.val() & self.from[2].val();
        }
        if (self.behind.val() == self.none.val()) {
            self.behind.next = self.choices.val();
        }
        self.chosen.next = self.places[3].val();
        if self.behind.val().get_bit(0) {
            self.chosen.next = self.places[0].val();
        } else if self.behind.val().get_bit(1) {
            self.chosen.next = self.places[1].val();
        } else if self.behind.val().get_bit(2) {
            self.chosen.next = self.places[2].val();
        }
        self.place.next = self.chosen.val();
        self.taken.d.next = self.here.val() & !self.leaves.val();
        self.turns.read.next = !self.here.val();
        self.turns.pass.next = false;
        self.turns.write.next = self.here.val() & !self.taken.q.val();
        self.turns.write_address.next = self.asked.q.val();
        self.turns.write_data.next = self.chosen.val();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;

    #[test]
    fn each_device_takes_turns_among_its_choices() {
        let mut bench = Bench::new("path_turns", PathTurns::new(4));
        let mut random = seeded();
        // The place that was taken last is known once a piece was seen.
        let mut turns = [None::<usize>; 16];
        let (mut wrapped, mut waited) = (0, 0);
        let choices: [u8; 16] = std::array::from_fn(|_| random.random_range(1..16));
        for piece in 0..20_000 {
            let device = random.random_range(0..if piece % 1_000 < 300 { 2 } else { 16 });
            let now = if piece % 1_000 < 500 { choices[device] } else { random.random_range(1..16) };
            bench.set("here", 0);
            bench.set("choices", random.random_range(0..16));
            for _ in 0..random.random_range(0..3) {
                bench.set("address", random.random_range(0..16));
                bench.cycle();
            }
            bench.set("address", device as u128);
            bench.cycle();
            bench.set("here", 1);
            bench.set("choices", now.into());
            let cycles = random.random_range(1..4);
            waited += u64::from(cycles > 1);
            let mut taken = None;
            for cycle in 1..=cycles {
                bench.set("leaves", u128::from(cycle == cycles));
                bench.eval();
                let place = bench.get("place") as usize;
                assert!(now >> place & 1 == 1);
                assert_eq!(*taken.get_or_insert(place), place, "it stays while the piece waits");
                if let Some(turn) = turns[device] {
                    let want = (1..=4).map(|step| (turn + step) % 4).find(|place| now >> place & 1 == 1);
                    assert_eq!(Some(place), want, "piece {piece}: device {device}, turn {turn}, {now:#b}");
                    wrapped += usize::from(place <= turn);
                }
                bench.cycle();
            }
            turns[device] = taken;
        }
        assert!(wrapped > 500 && waited > 500 && turns.iter().all(Option::is_some), "{wrapped} {waited}");
    }
}
