//! Which of a device's paths its pieces take: bit i stands for path i of its entry.
//!
//! In turns: those that are there and have a valid entry, without those that are suspect while there is another.
//! Else the lowest of them alone, so that a turn among the choices is the device's policy, whichever it is. No bit:
//! no usable path.
//!
//! No handshake: `choices` are those of the entry that was at `device` 3 cycles before, with the valid
//! paths of 4 cycles before; a device a cycle. No reset.

use rust_hdl::prelude::*;
use volplane_abi::plan::path_policy;

use super::path_usable::PathUsable;
use crate::records::DeviceEntry;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct PathChoices {
    pub clock: Signal<In, Clock>,
    pub device: Signal<In, DeviceEntry>,
    /// Bit i: path i has a valid entry.
    pub path_valid: Signal<In, Bits<32>>,
    /// Bit i: path i is better not used.
    pub suspect: Signal<In, Bits<32>>,
    pub choices: Signal<Out, Bits<4>>,

    paths: [PathUsable; 4],
    sound: [PathUsable; 4],
    // Those that the device has, while `paths` finds out.
    there: DFF<Bits<4>>,
    there_then: DFF<Bits<4>>,
    in_turns: DFF<bool>,
    in_turns_then: DFF<bool>,
    chosen: DFF<Bits<4>>,
    usable: Signal<Local, Bits<4>>,
    preferable: Signal<Local, Bits<4>>,
    among: Signal<Local, Bits<4>>,
    none: Constant<Bits<4>>,
    places: [Constant<Bits<4>>; 4],
    up_to: [Constant<Bits<4>>; 4],
    more: [Constant<Bits<2>>; 3],
    round_robin: Constant<Bits<2>>,
    flag: Constant<Bits<1>>,
}

impl Default for PathChoices {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            device: Default::default(),
            path_valid: Default::default(),
            suspect: Default::default(),
            choices: Default::default(),
            paths: Default::default(),
            sound: Default::default(),
            there: Default::default(),
            there_then: Default::default(),
            in_turns: Default::default(),
            in_turns_then: Default::default(),
            chosen: Default::default(),
            usable: Default::default(),
            preferable: Default::default(),
            among: Default::default(),
            none: Constant::new(0u64.to_bits()),
            places: std::array::from_fn(|place| Constant::new((1u64 << place).to_bits())),
            up_to: std::array::from_fn(|place| Constant::new(((2u64 << place) - 1).to_bits())),
            more: std::array::from_fn(|count| Constant::new((count as u64).to_bits())),
            round_robin: Constant::new(u64::from(path_policy::ROUND_ROBIN).to_bits()),
            flag: Constant::new(1u64.to_bits()),
        }
    }
}

impl Logic for PathChoices {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, there, there_then, in_turns, in_turns_then, chosen);
        for i in 0..4 {
            self.paths[i].clock.next = self.clock.val();
            self.paths[i].path_valid.next = self.path_valid.val();
            self.sound[i].clock.next = self.clock.val();
            self.sound[i].path_valid.next = self.path_valid.val() & !self.suspect.val();
        }
        self.paths[0].number.next = self.device.val().path;
        self.paths[1].number.next = self.device.val().path1;
        self.paths[2].number.next = self.device.val().path2;
        self.paths[3].number.next = self.device.val().path3;
        self.sound[0].number.next = self.device.val().path;
        self.sound[1].number.next = self.device.val().path1;
        self.sound[2].number.next = self.device.val().path2;
        self.sound[3].number.next = self.device.val().path3;
        self.preferable.next = (bit_cast::<4, 1>(self.sound[0].usable.val().into())
            | (bit_cast::<4, 1>(self.sound[1].usable.val().into()) << 1)
            | (bit_cast::<4, 1>(self.sound[2].usable.val().into()) << 2)
            | (bit_cast::<4, 1>(self.sound[3].usable.val().into()) << 3))
            & self.there_then.q.val();
        self.usable.next = bit_cast::<4, 1>(self.paths[0].usable.val().into())
            | (bit_cast::<4, 1>(self.paths[1].usable.val().into()) << 1)
            | (bit_cast::<4, 1>(self.paths[2].usable.val().into()) << 2)
            | (bit_cast::<4, 1>(self.paths[3].usable.val().into()) << 3);
        self.there.d.next = self.up_to[3].val();
        if (self.device.val().more_paths == self.more[0].val()) {
            self.there.d.next = self.up_to[0].val();
        }
        if (self.device.val().more_paths == self.more[1].val()) {
            self.there.d.next = self.up_to[1].val();
        }
        if (self.device.val().more_paths == self.more[2].val()) {
            self.there.d.next = self.up_to[2].val();
        }
        if (self.device.val().valid != self.flag.val()) {
            self.there.d.next = self.none.val();
        }
        self.in_turns.d.next = (self.device.val().path_policy == self.round_robin.val());

        self.there_then.d.next = self.there.q.val();
        self.in_turns_then.d.next = self.in_turns.q.val();
        self.among.next = self.preferable.val();
        if !self.preferable.val().any() {
            self.among.next = self.usable.val() & self.there_then.q.val();
        }
        self.chosen.d.next = self.among.val();
        if !self.in_turns_then.q.val() {
            if self.among.val().get_bit(0) {
                self.chosen.d.next = self.places[0].val();
            } else if self.among.val().get_bit(1) {
                self.chosen.d.next = self.places[1].val();
            } else if self.among.val().get_bit(2) {
                self.chosen.d.next = self.places[2].val();
            }
        }
        self.choices.next = self.chosen.q.val();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;

    /// Numbers beyond the 32 paths are never valid.
    #[test]
    fn the_usable_paths_by_policy() {
        let mut bench = Bench::new("path_choices", PathChoices::default());
        let mut random = seeded();
        let mut expected = vec![];
        let (mut empty, mut several, mut skipped) = (0, 0, 0);
        let (mut valid, mut suspect): (u32, u32) = (0, 0);
        let mut forced = 0;
        for step in 0..4_000 {
            let most = if random.random_bool(0.1) { 256u64 } else { 32 };
            let paths: [u64; 4] = std::array::from_fn(|_| random.random_range(0..most));
            let (more, policy) = (random.random_range(0..4u8), random.random_range(0..4u8));
            let there = random.random_bool(0.9);
            let entry = DeviceEntry {
                path: paths[0].to_bits(),
                path1: paths[1].to_bits(),
                path2: paths[2].to_bits(),
                path3: paths[3].to_bits(),
                more_paths: u64::from(more).to_bits(),
                path_policy: u64::from(policy).to_bits(),
                valid: u64::from(there).to_bits(),
                ..Default::default()
            };
            // The valid paths of the cycle before, which the block has taken by now.
            let of = |paths_valid: u32| -> Vec<usize> {
                (0..=usize::from(more))
                    .filter(|&place| there && paths[place] < 32 && paths_valid >> paths[place] & 1 == 1)
                    .collect()
            };
            let sound = of(valid & !suspect);
            let usable = if sound.is_empty() { of(valid) } else { sound };
            forced += u64::from(!usable.is_empty() && of(valid & !suspect).is_empty());
            let all = usable.iter().map(|place| 1u128 << place).sum::<u128>();
            let lowest = usable.first().map_or(0, |place| 1u128 << place);
            let want = if policy == path_policy::ROUND_ROBIN { all } else { lowest };
            expected.push(want);
            empty += u64::from(want == 0);
            several += u64::from(want.count_ones() > 2);
            skipped += u64::from(policy != path_policy::ROUND_ROBIN && want > 1);
            valid = random.random::<u32>() | random.random::<u32>();
            bench.set_record("device", entry);
            suspect = random.random::<u32>() & random.random::<u32>();
            bench.set("path_valid", valid.into());
            bench.set("suspect", suspect.into());
            bench.cycle();
            if step > 3 {
                assert_eq!(bench.get("choices"), expected[step - 2], "step {step}");
            }
        }
        assert!(forced > 100, "{forced}");
        assert!(empty > 100 && several > 100 && skipped > 100, "{empty} {several} {skipped}");
    }
}
