//! Finds the pages that a fragment of zeros covers.
//!
//! A fragment's PRP entries name its pages as they do for an SSD: PRP2 is the second of two pages, or points to
//! a list, whose slot at the end of a page is a pointer to the next one if more than one entry is left. The
//! bytes in each page become a run, in order. A run is given once it is known whether another follows: the last
//! one says how the fragment was found, and is an earlier one than it should be where the list cannot be read,
//! or an entry of it has an offset.
//!
//! Handshake: streams. Latency: 5 cycles from fragment to run, 6 more for an entry on a line of the list that
//! was read for this fragment before, else the bus and 7. Throughput: a run in 5 cycles where no list is read.
//! Order kept. `idle` falls in time. Reset drops the fragment in work.

use rust_hdl::prelude::*;

use crate::logic_record;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::ZeroFragment;

logic_record! {
    /// Bytes of a fragment that lie in one page.
    ZeroRun: 114 {
        /// Bus address, a multiple of 4.
        address = 64,
        /// Bytes, 4 to 4,096, a multiple of 4.
        bytes = 13,
        /// 1: the fragment's last run.
        ends = 1,
        /// Of the last run: 1: the page behind it is not known, since the list could not be read;
        unread = 1,
        /// 1: as above, since an entry has an offset.
        wrong = 1,
        /// Part of a plan (`Part`).
        part = 16,
        /// Number of the fragment in its plan.
        ordinal = 17,
        /// 1: the plan's last fragment.
        last = 1,
    }
}

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum State {
    Resting,
    /// Blocks to bytes.
    Scaling,
    /// Bytes to the end of the page,
    Measuring,
    /// whether that is enough, and what is left,
    Comparing,
    Deciding,
    /// whether one page holds what is left.
    Locating,
    /// An entry of the list is asked for.
    Asking,
    Waiting,
    Judging,
    Offering,
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct ZeroPages {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub fragment: StreamIn<ZeroFragment>,
    pub run: StreamOut<ZeroRun>,
    /// To the list reader.
    pub request: Signal<Out, bool>,
    pub address: Signal<Out, Bits<64>>,
    pub forget: Signal<Out, bool>,
    pub answer: Signal<In, bool>,
    pub entry: Signal<In, Bits<64>>,
    pub failed: Signal<In, bool>,
    pub idle: Signal<Out, bool>,

    state: DFF<State>,
    work: DFF<ZeroFragment>,
    /// The page in work, and the one behind it.
    here: DFF<Bits<64>>,
    next_page: DFF<Bits<64>>,
    /// The next slot of the list: its page, and its number there.
    list_page: DFF<Bits<52>>,
    list_slot: DFF<Bits<9>>,
    /// Bytes from `here` on, in its page at most, and behind it.
    left: DFF<Bits<32>>,
    room: DFF<Bits<32>>,
    rest: DFF<Bits<32>>,
    bytes: DFF<Bits<13>>,
    /// All that is left lies in this page; one page holds what is behind it.
    fits: DFF<bool>,
    single: DFF<bool>,
    /// PRP2 has not been looked at.
    first: DFF<bool>,
    /// The slot that is read holds the pointer to the next list page.
    is_chain: DFF<bool>,
    entry_bad: DFF<bool>,
    unread: DFF<bool>,
    wrong: DFF<bool>,

    prp2: Signal<Local, Bits<64>>,
    at: Signal<Local, Bits<64>>,
    here_offset: Signal<Local, Bits<12>>,
    left_low: Signal<Local, Bits<13>>,
    room_low: Signal<Local, Bits<13>>,
    prp2_page: Signal<Local, Bits<52>>,
    prp2_slot: Signal<Local, Bits<9>>,
    entry_page: Signal<Local, Bits<52>>,
    entry_offset: Signal<Local, Bits<12>>,
    asked: Signal<Local, Bits<64>>,

    page: Constant<Bits<32>>,
    last_slot: Constant<Bits<9>>,
    one9: Constant<Bits<9>>,
    zero9: Constant<Bits<9>>,
    zero12: Constant<Bits<12>>,
    flag: Constant<Bits<1>>,
    clear: Constant<Bits<1>>,
}

impl Default for ZeroPages {
    fn default() -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            fragment: Default::default(),
            run: Default::default(),
            request: Default::default(),
            address: Default::default(),
            forget: Default::default(),
            answer: Default::default(),
            entry: Default::default(),
            failed: Default::default(),
            idle: Default::default(),
            state: Default::default(),
            work: Default::default(),
            here: Default::default(),
            next_page: Default::default(),
            list_page: Default::default(),
            list_slot: Default::default(),
            left: Default::default(),
            room: Default::default(),
            rest: Default::default(),
            bytes: Default::default(),
            fits: Default::default(),
            single: Default::default(),
            first: Default::default(),
            is_chain: Default::default(),
            entry_bad: Default::default(),
            unread: Default::default(),
            wrong: Default::default(),
            prp2: Default::default(),
            at: Default::default(),
            here_offset: Default::default(),
            left_low: Default::default(),
            room_low: Default::default(),
            prp2_page: Default::default(),
            prp2_slot: Default::default(),
            entry_page: Default::default(),
            entry_offset: Default::default(),
            asked: Default::default(),
            page: Constant::new(4096u64.to_bits()),
            last_slot: Constant::new(511u64.to_bits()),
            one9: Constant::new(1u64.to_bits()),
            zero9: Constant::new(0u64.to_bits()),
            zero12: Constant::new(0u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
            clear: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for ZeroPages {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, state, work, here, next_page, list_page, list_slot, left, room, rest, bytes);
        dff_setup!(self, clock, fits, single, first, is_chain, entry_bad, unread, wrong);
        self.fragment.ready.next = (self.state.q.val() == State::Resting);
        self.idle.next = (self.state.q.val() == State::Resting) & !self.fragment.valid.val();
        self.forget.next = (self.state.q.val() == State::Scaling);
        self.request.next = (self.state.q.val() == State::Asking);
        self.asked.next = (bit_cast::<64, 52>(self.list_page.q.val()) << 12)
            | (bit_cast::<64, 9>(self.list_slot.q.val()) << 3);
        self.address.next = self.asked.val();

        self.run.valid.next = (self.state.q.val() == State::Offering);
        self.run.data.next.address = self.here.q.val();
        self.run.data.next.bytes = self.bytes.q.val();
        self.run.data.next.ends = self.clear.val();
        if self.fits.q.val() | self.unread.q.val() | self.wrong.q.val() {
            self.run.data.next.ends = self.flag.val();
        }
        self.run.data.next.unread = self.clear.val();
        if self.unread.q.val() {
            self.run.data.next.unread = self.flag.val();
        }
        self.run.data.next.wrong = self.clear.val();
        if self.wrong.q.val() {
            self.run.data.next.wrong = self.flag.val();
        }
        self.run.data.next.part = self.work.q.val().part;
        self.run.data.next.ordinal = self.work.q.val().ordinal;
        self.run.data.next.last = self.work.q.val().last;

        self.prp2.next = self.work.q.val().prp2;
        self.prp2_page.next = self.prp2.val().get_bits::<52>(12);
        self.prp2_slot.next = self.prp2.val().get_bits::<9>(3);
        self.at.next = self.here.q.val();
        self.here_offset.next = self.at.val().get_bits::<12>(0);
        self.left_low.next = self.left.q.val().get_bits::<13>(0);
        self.room_low.next = self.room.q.val().get_bits::<13>(0);
        self.entry_page.next = self.entry.val().get_bits::<52>(12);
        self.entry_offset.next = self.entry.val().get_bits::<12>(0);
        self.entry_bad.d.next = (self.entry_offset.val() != self.zero12.val());
        self.single.d.next = (self.rest.q.val() <= self.page.val());

        match self.state.q.val() {
            State::Resting => {
                self.work.d.next = self.fragment.data.val();
                self.here.d.next = self.fragment.data.val().prp1;
                self.first.d.next = true;
                self.unread.d.next = false;
                self.wrong.d.next = false;
                if self.fragment.valid.val() {
                    self.state.d.next = State::Scaling;
                }
            }
            State::Scaling => {
                self.left.d.next = (bit_cast::<32, 17>(self.work.q.val().blocks)
                    << bit_cast::<32, 4>(self.work.q.val().block_shift));
                self.list_page.d.next = self.prp2_page.val();
                self.list_slot.d.next = self.prp2_slot.val();
                self.state.d.next = State::Measuring;
            }
            State::Measuring => {
                self.room.d.next = self.page.val() - bit_cast::<32, 12>(self.here_offset.val());
                self.state.d.next = State::Comparing;
            }
            State::Comparing => {
                self.fits.d.next = (self.left.q.val() <= self.room.q.val());
                self.rest.d.next = self.left.q.val() - self.room.q.val();
                self.state.d.next = State::Deciding;
            }
            State::Deciding => {
                self.bytes.d.next = self.room_low.val();
                self.state.d.next = State::Locating;
                if self.fits.q.val() {
                    self.bytes.d.next = self.left_low.val();
                    self.state.d.next = State::Offering;
                }
            }
            State::Locating => {
                self.is_chain.d.next =
                    (self.list_slot.q.val() == self.last_slot.val()) & !self.single.q.val();
                self.next_page.d.next = self.prp2.val();
                self.state.d.next = State::Asking;
                if self.first.q.val() & self.single.q.val() {
                    self.state.d.next = State::Offering;
                }
            }
            State::Asking => {
                self.state.d.next = State::Waiting;
            }
            State::Waiting => {
                if self.answer.val() {
                    self.state.d.next = State::Judging;
                }
            }
            State::Judging => {
                self.unread.d.next = self.failed.val();
                self.wrong.d.next = self.entry_bad.q.val() & !self.failed.val();
                self.next_page.d.next = self.entry.val();
                self.list_slot.d.next = self.list_slot.q.val() + self.one9.val();
                self.state.d.next = State::Offering;
                if self.is_chain.q.val() & !self.failed.val() & !self.entry_bad.q.val() {
                    self.list_page.d.next = self.entry_page.val();
                    self.list_slot.d.next = self.zero9.val();
                    self.first.d.next = false;
                    self.state.d.next = State::Locating;
                }
            }
            State::Offering => {
                if self.run.ready.val() {
                    self.here.d.next = self.next_page.q.val();
                    self.left.d.next = self.rest.q.val();
                    self.first.d.next = false;
                    self.state.d.next = State::Measuring;
                    if self.fits.q.val() | self.unread.q.val() | self.wrong.q.val() {
                        self.state.d.next = State::Resting;
                    }
                }
            }
            _ => {}
        }

        if self.reset.val() {
            self.state.d.next = State::Resting;
        }
    }
}
