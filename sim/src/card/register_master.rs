//! The host's accesses to BAR0: an AXI4-Lite master.
//!
//! Posted writes go in order; a read is asked when all writes before it are answered. One read at a
//! time; a read nobody waits for any more is answered into the void.

use std::collections::VecDeque;

use super::checker::{Errors, Held, Payload};
use super::model::Ports;
use super::port_list::Port;
use super::stalls::{Channel, Stalls};

/// Writes issued and not yet answered.
const UNANSWERED_MAX: u32 = 4;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Question {
    None,
    /// To be asked.
    Waiting(u32),
    /// Asked.
    Asked,
}

pub(crate) struct RegisterMaster {
    posted: VecDeque<(u32, u32)>,
    /// The write being issued, and which of its halves are still to be accepted.
    address_left: bool,
    data_left: bool,
    unanswered: u32,
    question: Question,
    /// Whether the asker of `question` still waits.
    wanted: bool,
    next_question: Option<u32>,
    answer: Option<u32>,
    aw_valid: bool,
    w_valid: bool,
    b_ready: bool,
    ar_valid: bool,
    r_ready: bool,
    held_b: Held,
    held_r: Held,
}

impl RegisterMaster {
    pub(crate) fn new() -> Self {
        Self {
            posted: VecDeque::new(),
            address_left: false,
            data_left: false,
            unanswered: 0,
            question: Question::None,
            wanted: false,
            next_question: None,
            answer: None,
            aw_valid: false,
            w_valid: false,
            b_ready: false,
            ar_valid: false,
            r_ready: false,
            held_b: Held::default(),
            held_r: Held::default(),
        }
    }

    /// Queues a write.
    pub(crate) fn post(&mut self, offset: u32, value: u32) {
        self.posted.push_back((offset, value));
    }

    /// Writes queued.
    pub(crate) fn posted(&self) -> usize {
        self.posted.len()
    }

    /// Asks for a register; an earlier question is given up.
    pub(crate) fn ask(&mut self, offset: u32) {
        self.give_up();
        self.next_question = Some(offset);
    }

    /// The answer, once it is there.
    pub(crate) fn take_answer(&mut self) -> Option<u32> {
        let answer = self.answer.take();
        if answer.is_none() {
            self.give_up();
        }
        answer
    }

    pub(crate) fn has_answer(&self) -> bool {
        self.answer.is_some()
    }

    fn give_up(&mut self) {
        self.answer = None;
        self.next_question = None;
        self.wanted = false;
        if matches!(self.question, Question::Waiting(_)) && !self.ar_valid {
            self.question = Question::None;
        }
    }

    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.posted.is_empty()
            && !self.address_left
            && !self.data_left
            && self.unanswered == 0
            && self.question == Question::None
            && self.next_question.is_none()
    }

    #[inline]
    pub(crate) fn sample(&mut self, ports: &Ports, errors: &mut Errors) {
        let issuing = self.address_left || self.data_left;
        if self.aw_valid && ports.flag(Port::Bar0Awready) {
            (self.aw_valid, self.address_left) = (false, false);
        }
        if self.w_valid && ports.flag(Port::Bar0Wready) {
            (self.w_valid, self.data_left) = (false, false);
        }
        if issuing && !self.address_left && !self.data_left {
            self.unanswered += 1;
        }
        let b_valid = ports.flag(Port::Bar0Bvalid);
        let response = || [u64::from(ports.byte(Port::Bar0Bresp)); 10];
        self.held_b.check(errors, "bar0_b", b_valid, self.b_ready, response);
        if b_valid && self.b_ready {
            match self.unanswered.checked_sub(1) {
                Some(left) => self.unanswered = left,
                None => errors.push("bar0_b", "a response without a write"),
            }
        }
        self.sample_read(ports, errors);
    }

    fn sample_read(&mut self, ports: &Ports, errors: &mut Errors) {
        if self.ar_valid && ports.flag(Port::Bar0Arready) {
            self.ar_valid = false;
            self.question = Question::Asked;
        }
        let r_valid = ports.flag(Port::Bar0Rvalid);
        let payload = || {
            let mut payload = Payload::default();
            payload[0] = u64::from(ports.word(Port::Bar0Rdata));
            payload[1] = u64::from(ports.byte(Port::Bar0Rresp));
            payload
        };
        self.held_r.check(errors, "bar0_r", r_valid, self.r_ready, payload);
        if r_valid && self.r_ready {
            if self.question == Question::Asked {
                self.answer = self.wanted.then(|| ports.word(Port::Bar0Rdata));
                self.question = Question::None;
            } else {
                errors.push("bar0_r", "data without a read");
            }
        }
    }

    #[inline]
    pub(crate) fn drive(&mut self, ports: &mut Ports, stalls: &Stalls) {
        if !self.address_left && !self.data_left && self.unanswered < UNANSWERED_MAX {
            if let Some((offset, value)) = self.posted.pop_front() {
                ports.set_word(Port::Bar0Awaddr, offset);
                ports.set_word(Port::Bar0Wdata, value);
                ports.set_byte(Port::Bar0Wstrb, 0xF);
                (self.address_left, self.data_left) = (true, true);
            }
        }
        self.aw_valid |= self.address_left && stalls.allow(Channel::HostAddress);
        self.w_valid |= self.data_left && stalls.allow(Channel::HostData);
        ports.set_flag(Port::Bar0Awvalid, self.aw_valid);
        ports.set_flag(Port::Bar0Wvalid, self.w_valid);
        self.b_ready = stalls.allow(Channel::HostResponse);
        self.r_ready = self.b_ready;
        ports.set_flag(Port::Bar0Bready, self.b_ready);
        ports.set_flag(Port::Bar0Rready, self.r_ready);
        if self.question == Question::None {
            if let Some(offset) = self.next_question.take() {
                (self.question, self.wanted) = (Question::Waiting(offset), true);
            }
        }
        let written = self.posted.is_empty() && !self.address_left && !self.data_left && self.unanswered == 0;
        if let Question::Waiting(offset) = self.question {
            if written && !self.ar_valid && stalls.allow(Channel::HostAddress) {
                ports.set_word(Port::Bar0Araddr, offset);
                self.ar_valid = true;
            }
        }
        ports.set_flag(Port::Bar0Arvalid, self.ar_valid);
    }
}
