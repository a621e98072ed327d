//! Tells completions of fragments in flight from all others, and takes each once.
//!
//! Purpose: an event is accepted if its identifier's record has the same generation and path and has
//! not been returned in that generation; any other is counted in `unknown` and dropped. Accepted or
//! not, an event moves its path's completion queue head (`cq_event`, see `CompletionHeads`).
//! What the card ends itself (`abort`) is let through in the same way, but neither moves a head nor counts as unknown.
//! Handshake: an event a cycle, without ready; `returned` is a stream out of a FIFO as deep as there
//! are identifiers, each in it at most once, so it never overflows. `record_valid` writes an
//! identifier's record, before its fragment's entry is visible to the SSD.
//! Latency: event to `returned` offered 6 cycles, to `cq_event_valid` 2. Throughput: one a cycle.
//! Order: as the events came.
//! Reset: nothing is in flight; a walk of 2^`id_bits` cycles erases the records, events before
//! `initialised` are unknown, and no path is configured.
//! Failure: none; SSDs are not trusted in identifiers.

use rust_hdl::prelude::*;

use super::completion_heads::CompletionHeads;
use super::fragment_ids::FragmentId;
use crate::logic_record;
use crate::prim::fifo::Fifo;
use crate::prim::ram::BlockRam;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{IdRecord, Returned, TableRequest, WindowEvent};
use crate::Sizes;

logic_record! {
    /// The last return of an identifier.
    LastReturn: 6 {
        /// Generation.
        generation = 5,
        /// 1: there was one since reset.
        returned = 1,
    }
}

/// The filter.
#[derive(Clone, Debug, LogicBlock)]
pub struct CompletionFilter {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub event_valid: Signal<In, bool>,
    pub event_data: Signal<In, WindowEvent>,
    /// A fragment that the card ends; taken in cycles without event.
    pub abort: StreamIn<WindowEvent>,
    pub record_valid: Signal<In, bool>,
    pub record_index: Signal<In, Bits<11>>,
    pub record: Signal<In, IdRecord>,
    pub returned: StreamOut<Returned>,
    /// A fragment was let through, 1 cycle ago.
    pub accepted_valid: Signal<Out, bool>,
    pub accepted_id: Signal<Out, Bits<16>>,
    /// Events dropped, modulo 2^32.
    pub unknown: Signal<Out, Bits<32>>,
    pub cq_event_valid: Signal<Out, bool>,
    pub cq_event_path: Signal<Out, Bits<8>>,
    /// The completion queue's entry after the event's.
    pub cq_event_head: Signal<Out, Bits<16>>,
    pub table_valid: Signal<In, bool>,
    pub table_request: Signal<In, TableRequest>,
    pub initialised: Signal<Out, bool>,
    pub idle: Signal<Out, bool>,
    heads: CompletionHeads,
    /// What each identifier stands for; `reserved` is 0 where nothing was written since reset.
    records: BlockRam<IdRecord>,
    last_returns: BlockRam<LastReturn>,
    accepted: Fifo<Returned>,
    walking: DFF<bool>,
    walk_index: DFF<Bits<16>>,
    /// The event while its record is read, and when it has come.
    event1_valid: DFF<bool>,
    event1: DFF<WindowEvent>,
    event2_valid: DFF<bool>,
    event2: DFF<WindowEvent>,
    /// The event with its record; `known` is right but for the events just before it, whose
    /// acceptance the RAM did not show yet: 1, 2 and 3 cycles ahead with the same identifier.
    event3_valid: DFF<bool>,
    event3: DFF<WindowEvent>,
    record3: DFF<IdRecord>,
    known3: DFF<bool>,
    same1: DFF<bool>,
    same2: DFF<bool>,
    same3: DFF<bool>,
    /// A fragment that the card ends waits for a cycle without event.
    aborting_valid: DFF<bool>,
    aborting: DFF<WindowEvent>,
    /// The card's own.
    own1: DFF<bool>,
    own2: DFF<bool>,
    own3: DFF<bool>,
    id4: DFF<Bits<16>>,
    index4: DFF<Bits<11>>,
    index5: DFF<Bits<11>>,
    accepted4: DFF<bool>,
    accepted5: DFF<bool>,
    accepted6: DFF<bool>,
    dropped: DFF<bool>,
    dropped_count: DFF<Bits<32>>,
    event0: Signal<Local, WindowEvent>,
    id0: Signal<Local, FragmentId>,
    id2: Signal<Local, FragmentId>,
    id3: Signal<Local, FragmentId>,
    live: Signal<Local, IdRecord>,
    last_return: Signal<Local, LastReturn>,
    fresh: Signal<Local, bool>,
    accepting: Signal<Local, bool>,
    answer: Signal<Local, Returned>,
    last_index: Constant<Bits<16>>,
    /// Bits of an index that no identifier of this build has.
    beyond: Constant<Bits<11>>,
    no_index: Constant<Bits<11>>,
    index2: Signal<Local, Bits<11>>,
    zero16: Constant<Bits<16>>,
    one16: Constant<Bits<16>>,
    zero32: Constant<Bits<32>>,
    one32: Constant<Bits<32>>,
    zero1: Constant<Bits<1>>,
    one1: Constant<Bits<1>>,
    one3: Constant<Bits<3>>,
    erased: Constant<Bits<50>>,
    none: Constant<Bits<6>>,
}

impl CompletionFilter {
    /// The filter of a build.
    pub fn new(sizes: &Sizes) -> Self {
        let last_index = (1u64 << sizes.id_bits) - 1;
        Self {
            clock: Default::default(),
            reset: Default::default(),
            event_valid: Default::default(),
            event_data: Default::default(),
            abort: Default::default(),
            record_valid: Default::default(),
            record_index: Default::default(),
            record: Default::default(),
            returned: Default::default(),
            accepted_valid: Default::default(),
            accepted_id: Default::default(),
            unknown: Default::default(),
            cq_event_valid: Default::default(),
            cq_event_path: Default::default(),
            cq_event_head: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            initialised: Default::default(),
            idle: Default::default(),
            heads: CompletionHeads::new(sizes),
            records: BlockRam::new(sizes.id_bits),
            last_returns: BlockRam::new(sizes.id_bits),
            accepted: Fifo::block(sizes.id_bits, 1),
            walking: Default::default(),
            walk_index: Default::default(),
            event1_valid: Default::default(),
            event1: Default::default(),
            event2_valid: Default::default(),
            event2: Default::default(),
            event3_valid: Default::default(),
            event3: Default::default(),
            record3: Default::default(),
            known3: Default::default(),
            same1: Default::default(),
            same2: Default::default(),
            same3: Default::default(),
            aborting_valid: Default::default(),
            aborting: Default::default(),
            own1: Default::default(),
            own2: Default::default(),
            own3: Default::default(),
            id4: Default::default(),
            index4: Default::default(),
            index5: Default::default(),
            accepted4: Default::default(),
            accepted5: Default::default(),
            accepted6: Default::default(),
            dropped: Default::default(),
            dropped_count: Default::default(),
            event0: Default::default(),
            id0: Default::default(),
            id2: Default::default(),
            id3: Default::default(),
            live: Default::default(),
            last_return: Default::default(),
            fresh: Default::default(),
            accepting: Default::default(),
            answer: Default::default(),
            last_index: Constant::new(last_index.to_bits()),
            no_index: Constant::new(0u64.to_bits()),
            index2: Default::default(),
            beyond: Constant::new((!last_index & 0x7FF).to_bits()),
            zero16: Constant::new(0u64.to_bits()),
            one16: Constant::new(1u64.to_bits()),
            zero32: Constant::new(0u64.to_bits()),
            one32: Constant::new(1u64.to_bits()),
            zero1: Constant::new(0u64.to_bits()),
            one1: Constant::new(1u64.to_bits()),
            one3: Constant::new(1u64.to_bits()),
            erased: Constant::new(0u64.to_bits()),
            none: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for CompletionFilter {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, walking, walk_index, event1_valid, event1, event2_valid, event2);
        dff_setup!(self, clock, event3_valid, event3, record3, known3, same1, same2, same3, index4, index5);
        dff_setup!(self, clock, accepted4, accepted5, accepted6, dropped, dropped_count, own1, own2);
        dff_setup!(self, clock, own3, id4, aborting_valid, aborting);
        self.records.clock.next = self.clock.val();
        self.last_returns.clock.next = self.clock.val();
        self.accepted.clock.next = self.clock.val();
        self.accepted.reset.next = self.reset.val();

        // Records come from Submission; the walk after reset erases them.
        self.live.next = self.record.val();
        self.live.next.reserved = self.one3.val();
        self.records.write.next = self.record_valid.val() | self.walking.q.val();
        self.records.write_address.next = bit_cast::<16, 11>(self.record_index.val());
        self.records.write_data.next = self.live.val();
        if self.walking.q.val() {
            self.records.write_address.next = self.walk_index.q.val();
            self.records.write_data.next = self.erased.val().into();
            self.walk_index.d.next = self.walk_index.q.val() + self.one16.val();
            self.walking.d.next = (self.walk_index.q.val() != self.last_index.val());
        }
        self.initialised.next = !self.walking.q.val();

        // Both RAMs are read for the event.
        self.event0.next = self.event_data.val();
        self.abort.ready.next = !self.aborting_valid.q.val();
        if !self.aborting_valid.q.val() {
            self.aborting_valid.d.next = self.abort.valid.val();
            self.aborting.d.next = self.abort.data.val();
        } else if !self.event_valid.val() {
            self.aborting_valid.d.next = false;
        }
        if !self.event_valid.val() {
            self.event0.next = self.aborting.q.val();
        }
        self.id0.next = self.event0.val().command_id.into();
        self.records.read_address.next = bit_cast::<16, 11>(self.id0.val().index);
        self.last_returns.read_address.next = bit_cast::<16, 11>(self.id0.val().index);
        self.event1_valid.d.next = self.event_valid.val() | self.aborting_valid.q.val();
        self.event1.d.next = self.event0.val();
        self.own1.d.next = !self.event_valid.val();
        self.own2.d.next = self.own1.q.val();
        self.own3.d.next = self.own2.q.val();
        self.event2_valid.d.next = self.event1_valid.q.val();
        self.event2.d.next = self.event1.q.val();

        // Is it known?
        self.id2.next = self.event2.q.val().command_id.into();
        self.id3.next = self.event3.q.val().command_id.into();
        self.event3_valid.d.next = self.event2_valid.q.val();
        self.event3.d.next = self.event2.q.val();
        self.record3.d.next = self.records.read_data.val();
        self.fresh.next = (self.last_returns.read_data.val().generation != self.id2.val().generation)
            | (self.last_returns.read_data.val().returned == self.zero1.val());
        self.index2.next = self.id2.val().index;
        self.known3.d.next = !self.walking.q.val()
            & self.fresh.val()
            & ((self.index2.val() & self.beyond.val()) == self.no_index.val())
            & (self.records.read_data.val().generation == self.id2.val().generation)
            & (self.records.read_data.val().path == self.event2.q.val().path)
            & (self.records.read_data.val().reserved == self.one3.val());
        self.same1.d.next = (self.id2.val().index == self.id3.val().index);
        self.same2.d.next = (self.id2.val().index == self.index4.q.val());
        self.same3.d.next = (self.id2.val().index == self.index5.q.val());

        // Accept it, or drop it.
        self.accepting.next = self.event3_valid.q.val()
            & self.known3.q.val()
            & !(self.same1.q.val() & self.accepted4.q.val())
            & !(self.same2.q.val() & self.accepted5.q.val())
            & !(self.same3.q.val() & self.accepted6.q.val());
        self.index4.d.next = self.id3.val().index;
        self.index5.d.next = self.index4.q.val();
        self.id4.d.next = self.event3.q.val().command_id;
        self.accepted_valid.next = self.accepted4.q.val();
        self.accepted_id.next = self.id4.q.val();
        self.accepted4.d.next = self.accepting.val();
        self.accepted5.d.next = self.accepted4.q.val();
        self.accepted6.d.next = self.accepted5.q.val();
        self.last_return.next.generation = self.id3.val().generation;
        self.last_return.next.returned = self.one1.val();
        self.last_returns.write.next = self.accepting.val() | self.walking.q.val();
        self.last_returns.write_address.next = bit_cast::<16, 11>(self.id3.val().index);
        self.last_returns.write_data.next = self.last_return.val();
        if self.walking.q.val() {
            self.last_returns.write_address.next = self.walk_index.q.val();
            self.last_returns.write_data.next = self.none.val().into();
        }
        self.answer.next.path = self.event3.q.val().path;
        self.answer.next.sq_head = self.event3.q.val().sq_head;
        self.answer.next.command_id = self.event3.q.val().command_id;
        self.answer.next.part = self.record3.q.val().part;
        self.answer.next.ordinal = self.record3.q.val().ordinal;
        self.answer.next.last = self.record3.q.val().last;
        self.answer.next.status = self.event3.q.val().status;
        self.answer.next.own = self.own3.q.val().into();
        self.accepted.push.next = self.accepting.val();
        self.accepted.data.next = self.answer.val();
        self.returned.valid.next = self.accepted.out.valid.val();
        self.returned.data.next = self.accepted.out.data.val();
        self.accepted.out.ready.next = self.returned.ready.val();
        self.dropped.d.next = self.event3_valid.q.val() & !self.accepting.val() & !self.own3.q.val();
        if self.dropped.q.val() {
            self.dropped_count.d.next = self.dropped_count.q.val() + self.one32.val();
        }
        self.unknown.next = self.dropped_count.q.val();

        self.heads.clock.next = self.clock.val();
        self.heads.reset.next = self.reset.val();
        self.heads.event_valid.next = self.event_valid.val();
        self.heads.event_data.next = self.event_data.val();
        self.heads.table_valid.next = self.table_valid.val();
        self.heads.table_request.next = self.table_request.val();
        self.cq_event_valid.next = self.heads.cq_event_valid.val();
        self.cq_event_path.next = self.heads.cq_event_path.val();
        self.cq_event_head.next = self.heads.cq_event_head.val();

        self.idle.next = !self.walking.q.val()
            & self.accepted.empty.val()
            & !self.abort.valid.val()
            & !self.aborting_valid.q.val()
            & !self.event1_valid.q.val()
            & !self.event2_valid.q.val()
            & !self.event3_valid.q.val()
            & !self.dropped.q.val()
            & self.heads.idle.val();

        if self.reset.val() {
            self.walking.d.next = true;
            self.walk_index.d.next = self.zero16.val();
            self.aborting_valid.d.next = false;
            self.event1_valid.d.next = false;
            self.event2_valid.d.next = false;
            self.event3_valid.d.next = false;
            self.accepted4.d.next = false;
            self.accepted5.d.next = false;
            self.accepted6.d.next = false;
            self.dropped.d.next = false;
            self.dropped_count.d.next = self.zero32.val();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use crate::nvme::path_write::write_request;
    use crate::records::PathEntry;
    use rand::RngExt;
    use std::collections::VecDeque;

    const PATHS: usize = 4;

    fn start(bench: &mut Bench, ids: usize) {
        bench.set("event_valid", 0);
        bench.set("record_valid", 0);
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        let mut cycles = 0;
        while bench.get("initialised") == 0 {
            bench.cycle();
            cycles += 1;
            assert!(cycles <= ids, "the walk takes {cycles} cycles");
        }
    }

    fn write_path(bench: &mut Bench, path: usize, size_z: u64) {
        let entry = PathEntry { cq_size_z: size_z.into(), valid: 1.into(), ..PathEntry::default() };
        bench.set_record("table_request", write_request(path, entry));
        bench.set("table_valid", 1);
        bench.cycle();
        bench.set("table_valid", 0);
        bench.cycle();
        bench.cycle();
    }

    fn set_event(bench: &mut Bench, path: u64, position: u64, id: u64, sq_head: u64, status: u64) {
        let event = WindowEvent {
            path: path.into(),
            position: position.into(),
            command_id: id.into(),
            sq_head: sq_head.into(),
            status: status.into(),
        };
        bench.set_record("event_data", event);
        bench.set("event_valid", 1);
    }

    /// What an identifier was issued for: generation, path, slot, ordinal, last.
    type Issued = (u64, u64, u64, u64, u64);

    /// True and false completions, close together and far apart, with the returns taken at random.
    fn check(id_bits: usize) {
        let ids = 1u64 << id_bits;
        let sizes = Sizes { id_bits, path_bits: PATHS.ilog2() as usize, ..Sizes::DEFAULT };
        let mut bench = Bench::new(&format!("completion_filter_{id_bits}"), CompletionFilter::new(&sizes));
        let mut random = seeded();
        start(&mut bench, ids as usize);
        let queue_sizes_z = [15u64, 6, 1023];
        for (path, &size_z) in queue_sizes_z.iter().enumerate() {
            write_path(&mut bench, path, size_z);
        }
        let mut free: VecDeque<(u64, u64)> =
            (0..ids).map(|index| (random.random_range(0..32), index)).collect();
        let mut issued: Vec<Option<Issued>> = vec![None; ids as usize];
        let mut expected: VecDeque<Returned> = VecDeque::new();
        let mut heads: VecDeque<Option<(u128, u128)>> = VecDeque::from([None, None]);
        let (mut unknown, mut accepted) = (0u128, 0);
        let mut recent: Vec<(u64, u64)> = Vec::new();
        // What the card ends itself: on its way in, waiting for a cycle without event, and how often it came first.
        let (mut aborting, mut own, mut late) = (None::<(u64, u64, u64)>, 0, 0);
        for cycle in 0..30_000 {
            // A completion: of an identifier in flight, of one completed just now, or anything.
            bench.set("event_valid", 0);
            let flying: Vec<usize> = (0..ids as usize).filter(|&i| issued[i].is_some()).collect();
            let mut head = None;
            // Path, identifier, submission head, status, and whether it is the card's own.
            let mut come = None;
            if random.random_bool(0.8) && cycle < 29_000 {
                let true_one = (!flying.is_empty() && random.random_bool(0.5))
                    .then(|| flying[random.random_range(0..flying.len())])
                    .map(|i| {
                        (issued[i].expect("in flight").0 << 11 | i as u64, issued[i].expect("in flight").1)
                    });
                let (id, path) = match true_one {
                    Some(one) => one,
                    None if !recent.is_empty() && random.random_bool(0.7) => {
                        recent[random.random_range(0..recent.len())]
                    }
                    None => (random.random_range(0..1 << 16), random.random_range(0..32)),
                };
                let reach = if random.random_bool(0.5) { 8 } else { 1024 };
                let position = random.random_range(0..reach);
                let (sq_head, status) = (random.random_range(0..1 << 16), random.random_range(0..1 << 15));
                set_event(&mut bench, path, position, id, sq_head, status);
                if let Some(&size_z) = queue_sizes_z.get(path as usize) {
                    if position <= size_z {
                        head = Some((u128::from(path), u128::from((position + 1) % (size_z + 1))));
                    }
                }
                come = Some((path, id, sq_head, status, 0u64));
            } else if let Some((path, id, status)) = aborting.take() {
                come = Some((path, id, 0, status, 1));
            }
            if let Some((path, id, sq_head, status, by_card)) = come {
                let index = (id & 0x7FF) as usize;
                match issued.get(index).copied().flatten() {
                    Some((generation, on, slot, ordinal, last)) if generation == id >> 11 && on == path => {
                        issued[index] = None;
                        accepted += 1;
                        own += by_card;
                        expected.push_back(Returned {
                            path: path.into(),
                            sq_head: sq_head.into(),
                            command_id: id.into(),
                            part: slot.into(),
                            ordinal: ordinal.into(),
                            last: last.into(),
                            status: status.into(),
                            own: by_card.into(),
                        });
                    }
                    _ if by_card == 1 => late += 1,
                    _ => unknown += 1,
                }
                recent.push((id, path));
                if recent.len() > 3 {
                    recent.remove(0);
                }
            }
            heads.push_back(head);
            // The card ends one in flight, or one that has just come back.
            bench.set("abort$valid", 0);
            if aborting.is_none()
                && come.is_none_or(|it| it.4 == 0)
                && random.random_bool(0.1)
                && cycle < 28_900
            {
                let flying = (0..ids).find_map(|index| Some((issued[index as usize]?, index)));
                let one = flying.map(|(it, index)| (it.0 << 11 | index, it.1));
                let one = if random.random_bool(0.3) { recent.last().copied() } else { one };
                if let Some((id, path)) = one {
                    let status = random.random_range(0..1 << 15);
                    let event = WindowEvent {
                        path: path.into(),
                        command_id: id.into(),
                        status: status.into(),
                        ..WindowEvent::default()
                    };
                    bench.set_record("abort$data", event);
                    bench.set("abort$valid", 1);
                    bench.eval();
                    assert_eq!(bench.get("abort$ready"), 1);
                    aborting = Some((path, id, status));
                }
            }
            // An identifier rests a while before it is used again.
            bench.set("record_valid", 0);
            if free.len() > ids as usize / 2 + 8 {
                let (generation, index) = free.pop_front().expect("some are free");
                let it = (
                    generation,
                    random.random_range(0..3),
                    random.random_range(0..1 << 12),
                    random.random_range(0..1 << 17),
                    random.random_range(0..2),
                );
                let record = IdRecord {
                    generation: generation.into(),
                    path: it.1.into(),
                    part: it.2.into(),
                    ordinal: it.3.into(),
                    last: it.4.into(),
                    reserved: 0.into(),
                };
                bench.set("record_valid", 1);
                bench.set("record_index", index.into());
                bench.set_record("record", record);
                issued[index as usize] = Some(it);
            }
            let ready = random.random_bool(if cycle / 1_000 % 2 == 0 { 0.2 } else { 0.9 });
            bench.set("returned$ready", ready.into());
            bench.eval();
            let now = heads.pop_front().expect("two cycles behind");
            assert_eq!(bench.get("cq_event_valid") == 1, now.is_some(), "cycle {cycle}");
            if let Some((path, head)) = now {
                assert_eq!((bench.get("cq_event_path"), bench.get("cq_event_head")), (path, head));
            }
            if ready && bench.get("returned$valid") == 1 {
                let returned: Returned = bench.get_record("returned$data");
                assert_eq!(Some(returned), expected.pop_front(), "cycle {cycle}");
                let id = returned.command_id.to_u64();
                free.push_back((((id >> 11) + 1) % 32, id & 0x7FF));
            }
            bench.cycle();
        }
        assert!(expected.is_empty() && accepted > 3_000, "{accepted} accepted");
        assert!(own > 200 && late > 50, "{own} ended by the card, {late} too late");
        assert_eq!(bench.get("unknown"), unknown);
        assert_eq!(bench.get("idle"), 1);
    }

    #[test]
    fn accepts_each_fragment_once() {
        check(5);
        check(8);
    }

    #[test]
    fn a_completion_from_before_a_reset_is_unknown() {
        let sizes = Sizes { id_bits: 4, ..Sizes::DEFAULT };
        let mut bench = Bench::new("completion_filter_reset", CompletionFilter::new(&sizes));
        start(&mut bench, 16);
        let write_record = |bench: &mut Bench, index: u128| {
            bench.set("record_valid", 1);
            bench.set("record_index", index);
            // Generation 7, path 3.
            bench.set("record", 3 << 5 | 7);
            bench.cycle();
            bench.set("record_valid", 0);
        };
        write_record(&mut bench, 5);
        write_record(&mut bench, 6);
        bench.set("returned$ready", 1);
        set_event(&mut bench, 3, 0, 7 << 11 | 5, 1, 0);
        for cycle in 0..7 {
            bench.eval();
            assert_eq!(bench.get("returned$valid") == 1, cycle == 6, "offered after 6 cycles");
            bench.cycle();
            bench.set("event_valid", 0);
        }
        assert_eq!((bench.get("idle"), bench.get("unknown")), (1, 0));
        start(&mut bench, 16);
        for id in [7 << 11 | 5, 7 << 11 | 6] {
            set_event(&mut bench, 3, 0, id, 1, 0);
            bench.cycle();
        }
        bench.set("event_valid", 0);
        for _ in 0..10 {
            bench.cycle();
            assert_eq!(bench.get("returned$valid"), 0);
        }
        assert_eq!(bench.get("unknown"), 2);
        // The same generation again, after reset, is a new fragment.
        write_record(&mut bench, 5);
        set_event(&mut bench, 3, 0, 7 << 11 | 5, 1, 0);
        bench.cycle();
        bench.set("event_valid", 0);
        let offered = (0..10).filter(|_| {
            bench.eval();
            let valid = bench.get("returned$valid") == 1;
            bench.cycle();
            valid
        });
        assert_eq!(offered.count(), 1);
    }
}
