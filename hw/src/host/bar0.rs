//! The AXI4-Lite slave of BAR0: turns bus accesses into pulses of the register bus.
//!
//! A write whose address and data have both come, in either order, becomes one pulse of
//! `write_valid` and is answered OKAY in the same cycle; a write with a byte missing from its
//! strobes is answered and otherwise ignored. A read becomes one pulse of `read_valid`, with
//! `read_address` stable until it is answered: by `read_data` with `read_done` up to 32 cycles later,
//! or with 0 when nobody knows the address. One write and one read at a time, independent of each
//! other; a read accepted after a write's answer comes after the write.
//!
//! Latency: 2 cycles from the last of AW and W to the pulse, 3 from AR to its pulse and back when
//! answered at once. Throughput: a write every 2 cycles. Reset is the external one alone, so that a
//! soft reset ends no bus access; it drops an access in work.

use rust_hdl::prelude::*;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct Bar0 {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    /// The register bus sleeps: accesses wait.
    pub hold: Signal<In, bool>,
    /// Writes wait: one more pulse may come after it is set.
    pub hold_writes: Signal<In, bool>,
    pub awvalid: Signal<In, bool>,
    pub awready: Signal<Out, bool>,
    pub awaddr: Signal<In, Bits<18>>,
    pub wvalid: Signal<In, bool>,
    pub wready: Signal<Out, bool>,
    pub wdata: Signal<In, Bits<32>>,
    pub wstrb: Signal<In, Bits<4>>,
    pub bvalid: Signal<Out, bool>,
    pub bready: Signal<In, bool>,
    pub bresp: Signal<Out, Bits<2>>,
    pub arvalid: Signal<In, bool>,
    pub arready: Signal<Out, bool>,
    pub araddr: Signal<In, Bits<18>>,
    pub rvalid: Signal<Out, bool>,
    pub rready: Signal<In, bool>,
    pub rdata: Signal<Out, Bits<32>>,
    pub rresp: Signal<Out, Bits<2>>,
    pub write_valid: Signal<Out, bool>,
    pub write_address: Signal<Out, Bits<18>>,
    pub write_data: Signal<Out, Bits<32>>,
    pub write_strobe: Signal<Out, Bits<4>>,
    pub read_valid: Signal<Out, bool>,
    pub read_address: Signal<Out, Bits<18>>,
    pub read_data: Signal<In, Bits<32>>,
    pub read_done: Signal<In, bool>,
    pub idle: Signal<Out, bool>,

    address_held: DFF<bool>,
    address: DFF<Bits<18>>,
    data_held: DFF<bool>,
    data: DFF<Bits<32>>,
    strobe: DFF<Bits<4>>,
    pulse: DFF<bool>,
    pulse_address: DFF<Bits<18>>,
    pulse_data: DFF<Bits<32>>,
    answered: DFF<bool>,
    reading: DFF<bool>,
    read_pulse: DFF<bool>,
    read_at: DFF<Bits<18>>,
    waited: DFF<Bits<6>>,
    read_value: DFF<Bits<32>>,
    read_answered: DFF<bool>,
    whole: Signal<Local, bool>,
    full_strobe: Constant<Bits<4>>,
    patience: Constant<Bits<6>>,
    one: Constant<Bits<6>>,
    no_wait: Constant<Bits<6>>,
    nothing: Constant<Bits<32>>,
    okay: Constant<Bits<2>>,
}

impl Default for Bar0 {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            hold: Default::default(),
            hold_writes: Default::default(),
            awvalid: Default::default(),
            awready: Default::default(),
            awaddr: Default::default(),
            wvalid: Default::default(),
            wready: Default::default(),
            wdata: Default::default(),
            wstrb: Default::default(),
            bvalid: Default::default(),
            bready: Default::default(),
            bresp: Default::default(),
            arvalid: Default::default(),
            arready: Default::default(),
            araddr: Default::default(),
            rvalid: Default::default(),
            rready: Default::default(),
            rdata: Default::default(),
            rresp: Default::default(),
            write_valid: Default::default(),
            write_address: Default::default(),
            write_data: Default::default(),
            write_strobe: Default::default(),
            read_valid: Default::default(),
            read_address: Default::default(),
            read_data: Default::default(),
            read_done: Default::default(),
            idle: Default::default(),
            address_held: Default::default(),
            address: Default::default(),
            data_held: Default::default(),
            data: Default::default(),
            strobe: Default::default(),
            pulse: Default::default(),
            pulse_address: Default::default(),
            pulse_data: Default::default(),
            answered: Default::default(),
            reading: Default::default(),
            read_pulse: Default::default(),
            read_at: Default::default(),
            waited: Default::default(),
            read_value: Default::default(),
            read_answered: Default::default(),
            whole: Default::default(),
            full_strobe: Constant::new(0xFu64.to_bits()),
            patience: Constant::new(32u64.to_bits()),
            one: Constant::new(1u64.to_bits()),
            no_wait: Constant::new(0u64.to_bits()),
            nothing: Constant::new(0u64.to_bits()),
            okay: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for Bar0 {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            address_held,
            address,
            data_held,
            data,
            strobe,
            pulse,
            pulse_address,
            pulse_data,
            answered,
            reading,
            read_pulse,
            read_at,
            waited,
            read_value,
            read_answered
        );
        self.awready.next = !self.address_held.q.val();
        self.wready.next = !self.data_held.q.val();
        self.bvalid.next = self.answered.q.val();
        self.bresp.next = self.okay.val();
        self.arready.next = !self.reading.q.val() & !self.hold.val();
        self.rvalid.next = self.read_answered.q.val();
        self.rdata.next = self.read_value.q.val();
        self.rresp.next = self.okay.val();
        self.write_valid.next = self.pulse.q.val();
        self.write_address.next = self.pulse_address.q.val();
        self.write_data.next = self.pulse_data.q.val();
        self.write_strobe.next = self.full_strobe.val();
        self.read_valid.next = self.read_pulse.q.val();
        self.read_address.next = self.read_at.q.val();
        self.idle.next = !self.address_held.q.val()
            & !self.data_held.q.val()
            & !self.pulse.q.val()
            & !self.answered.q.val()
            & !self.reading.q.val();

        // Writes.
        self.pulse.d.next = false;
        if self.awvalid.val() & !self.address_held.q.val() {
            self.address_held.d.next = true;
            self.address.d.next = self.awaddr.val();
        }
        if self.wvalid.val() & !self.data_held.q.val() {
            self.data_held.d.next = true;
            self.data.d.next = self.wdata.val();
            self.strobe.d.next = self.wstrb.val();
        }
        if self.bready.val() {
            self.answered.d.next = false;
        }
        self.whole.next = self.address_held.q.val()
            & self.data_held.q.val()
            & (!self.answered.q.val() | self.bready.val())
            & !self.hold_writes.val()
            & !self.hold.val();
        if self.whole.val() {
            self.address_held.d.next = false;
            self.data_held.d.next = false;
            self.answered.d.next = true;
            self.pulse.d.next = (self.strobe.q.val() == self.full_strobe.val());
            self.pulse_address.d.next = self.address.q.val();
            self.pulse_data.d.next = self.data.q.val();
        }

        // Reads: `reading` lasts until the answer is taken.
        self.read_pulse.d.next = false;
        if self.reading.q.val() {
            if self.read_answered.q.val() {
                if self.rready.val() {
                    self.read_answered.d.next = false;
                    self.reading.d.next = false;
                }
            } else {
                self.waited.d.next = self.waited.q.val() + self.one.val();
                if self.read_done.val() {
                    self.read_answered.d.next = true;
                    self.read_value.d.next = self.read_data.val();
                } else if (self.waited.q.val() == self.patience.val()) {
                    self.read_answered.d.next = true;
                    self.read_value.d.next = self.nothing.val();
                }
            }
        } else if self.arvalid.val() & !self.hold.val() {
            self.reading.d.next = true;
            self.read_pulse.d.next = true;
            self.read_at.d.next = self.araddr.val();
            self.waited.d.next = self.no_wait.val();
        }

        if self.reset.val() {
            self.address_held.d.next = false;
            self.data_held.d.next = false;
            self.pulse.d.next = false;
            self.answered.d.next = false;
            self.reading.d.next = false;
            self.read_pulse.d.next = false;
            self.read_answered.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use std::collections::VecDeque;

    fn start(name: &str) -> Bench {
        let mut bench = Bench::new(name, Bar0::default());
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        bench
    }

    #[test]
    fn answers_a_write_and_an_unknown_read() {
        let mut bench = start("bar0_directed");
        bench.set("wvalid", 1);
        bench.set("wdata", 0xDEAD_BEEF);
        bench.set("wstrb", 0xF);
        bench.set("bready", 1);
        bench.cycle();
        bench.set("wvalid", 0);
        bench.set("awvalid", 1);
        bench.set("awaddr", 0x2_1008);
        bench.cycle();
        bench.set("awvalid", 0);
        assert_eq!(bench.get("write_valid"), 0);
        bench.cycle();
        assert_eq!((bench.get("write_valid"), bench.get("bvalid"), bench.get("bresp")), (1, 1, 0));
        assert_eq!((bench.get("write_address"), bench.get("write_data")), (0x2_1008, 0xDEAD_BEEF));
        bench.cycle();
        assert_eq!((bench.get("write_valid"), bench.get("bvalid"), bench.get("idle")), (0, 0, 1));

        bench.set("arvalid", 1);
        bench.set("araddr", 0x44);
        bench.cycle();
        bench.set("arvalid", 0);
        assert_eq!((bench.get("read_valid"), bench.get("read_address")), (1, 0x44));
        let mut waited = 0;
        while bench.get("rvalid") == 0 {
            bench.cycle();
            waited += 1;
            assert!(waited < 40, "no answer to an unknown read");
        }
        assert!(waited > 32, "answered after {waited} cycles, before a block could");
        assert_eq!((bench.get("rdata"), bench.get("rresp")), (0, 0));
    }

    /// Random traffic on all five channels; what arrives at the register bus, and in which order, is
    /// compared with what was sent.
    #[test]
    fn passes_every_access_once_and_in_order() {
        let mut bench = start("bar0_random");
        let mut random = seeded();
        let mut addresses = VecDeque::new();
        let mut data = VecDeque::new();
        let (mut awvalid, mut wvalid, mut arvalid) = (None, None, None);
        let (mut answers_due, mut writes_seen, mut reads_seen) = (0u32, 0u32, 0u32);
        let mut read: Option<(u128, Option<u32>)> = None;
        let mut expected_read = None;
        for _ in 0..30_000 {
            let aw = *awvalid.get_or_insert_with(|| {
                random.random_bool(0.5).then(|| u128::from(random.random::<u32>()) >> 14)
            });
            let w = *wvalid.get_or_insert_with(|| {
                let strobe = if random.random_bool(0.8) { 0xF } else { random.random_range(0..16u32) };
                random.random_bool(0.5).then(|| (random.random::<u32>(), strobe))
            });
            let ar = *arvalid.get_or_insert_with(|| {
                random.random_bool(0.3).then(|| u128::from(random.random::<u32>()) >> 14)
            });
            bench.set("awvalid", aw.is_some().into());
            bench.set("awaddr", aw.unwrap_or(0));
            bench.set("wvalid", w.is_some().into());
            bench.set("wdata", w.unwrap_or_default().0.into());
            bench.set("wstrb", w.unwrap_or_default().1.into());
            bench.set("arvalid", ar.is_some().into());
            bench.set("araddr", ar.unwrap_or(0));
            bench.set("bready", random.random_bool(0.6).into());
            bench.set("rready", random.random_bool(0.6).into());
            bench.set("read_done", 0);
            bench.eval();

            // A block answers after some cycles, or nobody does.
            if bench.get("read_valid") == 1 {
                assert!(read.is_none(), "two reads at a time");
                let delay = random.random_bool(0.9).then(|| random.random_range(0..32));
                read = Some((bench.get("read_address"), delay));
                expected_read = Some(0);
                reads_seen += 1;
            }
            if let Some((address, delay)) = &mut read {
                assert_eq!(bench.get("read_address"), *address, "stable until answered");
                match delay {
                    Some(0) => {
                        let value = random.random::<u32>();
                        bench.set("read_done", 1);
                        bench.set("read_data", value.into());
                        expected_read = Some(value);
                        read = None;
                    }
                    Some(left) => *left -= 1,
                    None => {}
                }
            }
            bench.eval();
            if bench.get("rvalid") == 1 && bench.get("rready") == 1 {
                assert_eq!(Some(bench.get("rdata") as u32), expected_read.take());
                read = None;
            }
            if bench.get("write_valid") == 1 {
                let (address, (value, strobe)) = (addresses.pop_front(), data.pop_front().expect("a write"));
                assert_eq!(Some(bench.get("write_address")), address);
                assert_eq!((bench.get("write_data") as u32, 0xF), (value, strobe));
                writes_seen += 1;
            }
            while data.front().is_some_and(|&(_, strobe)| strobe != 0xF) && !addresses.is_empty() {
                // Ignored, but answered.
                data.pop_front();
                addresses.pop_front();
            }
            if bench.get("bvalid") == 1 && bench.get("bready") == 1 {
                answers_due = answers_due.checked_sub(1).expect("an answer that nobody asked for");
            }
            if aw.is_none() || bench.get("awready") == 1 {
                addresses.extend(aw);
                awvalid = None;
            }
            if w.is_none() || bench.get("wready") == 1 {
                data.extend(w);
                answers_due += u32::from(w.is_some());
                wvalid = None;
            }
            if ar.is_none() || bench.get("arready") == 1 {
                arvalid = None;
            }
            bench.cycle();
        }
        assert!(answers_due <= 2 && writes_seen > 3_000 && reads_seen > 1_000, "{writes_seen} {reads_seen}");
    }
}
