//! Executes the commands of the control ring, one at a time and in order.
//!
//! A table command becomes one pulse of `table_valid` with `table_request` stable until the table's owner
//! acknowledges; when nobody has after 64 cycles in which no owner was `table_busy` with it, the table or the
//! entry does not exist: Invalid Field. A command on a plan is one pulse of `plan_valid` with `plan_order`,
//! answered by the judge of plans with a status; *path quiesced* one of `quiesce_valid` with `quiesce_path`, until
//! `quiesced`. An unknown opcode is Invalid Opcode. `Transactions` stages and makes writes to the table of virtual
//! disks; `hold` and `advance` are its.
//! The completion goes to the entry at the tail of the completion ring with the phase tag of
//! this round (the first is 1), `raise` follows once the bus master has taken it, and `done` tells the queue
//! pairs that the entry they had reserved is used. Both rings have the same size and one completion answers
//! each command in order, so the submission head a completion reports is the place after its own.
//!
//! Handshake: streams; the reservation guarantees a free ring entry. Latency: 3 cycles from command to
//! completion, of a table command one more and the table's. `idle` rises a cycle late. While `enable` is
//! clear, and no command is in work, the ring begins anew at entry 0; reset does the same and drops a
//! command in work.

use rust_hdl::prelude::*;
use volplane_abi::plan::plan_status;
use volplane_abi::{control_opcode, status, table};

use super::transactions::Transactions;
use crate::exec::plan_judge::PlanOrder;
use crate::prim::register::Register;
use crate::prim::stream::{StreamIn, StreamOut};
use crate::records::{ControlCommand, ControlCompletion, TableRequest, WideWrite};
use crate::sizes::Sizes;

#[derive(Copy, Clone, Debug, PartialEq, LogicState)]
enum State {
    Idle,
    Decode,
    /// Waits for the table's owner.
    Table,
    /// Waits for the judge of plans.
    Plan,
    /// Waits until what a path was given has ended.
    Path,
    /// Waits for the transactions.
    Transaction,
    /// Builds the completion and its address.
    Build,
    Write,
    Raise,
}

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct ControlExecutor {
    pub clock: Signal<In, Clock>,
    pub reset: Signal<In, bool>,
    pub command: StreamIn<Bits<512>>,
    pub control_cq_base: Signal<In, Bits<64>>,
    pub control_entries_z: Signal<In, Bits<16>>,
    pub control_vector: Signal<In, Bits<8>>,
    pub control_interrupt: Signal<In, bool>,
    pub enable: Signal<In, bool>,
    pub table_valid: Signal<Out, bool>,
    pub table_request: Signal<Out, TableRequest>,
    pub table_ack: Signal<In, bool>,
    /// A table's owner will acknowledge, in any time.
    pub table_busy: Signal<In, bool>,
    pub table_data: Signal<In, Bits<256>>,
    pub plan_valid: Signal<Out, bool>,
    pub plan_order: Signal<Out, PlanOrder>,
    pub plan_answered: Signal<In, bool>,
    pub plan_answer: Signal<In, Bits<11>>,
    pub quiesce_valid: Signal<Out, bool>,
    pub quiesce_path: Signal<Out, Bits<5>>,
    pub quiesced: Signal<In, bool>,
    pub hold: Signal<Out, bool>,
    pub advance: Signal<Out, bool>,
    /// The epoch of now.
    pub epoch: Signal<In, Bits<32>>,
    pub write: StreamOut<WideWrite>,
    pub raise: StreamOut<Bits<8>>,
    pub done: Signal<Out, bool>,
    pub idle: Signal<Out, bool>,

    transactions: Transactions,
    state: DFF<State>,
    /// The states Idle and Build once more, for the many bits that wait for them.
    resting: DFF<bool>,
    building: DFF<bool>,
    current: Register<ControlCommand>,
    request_valid: DFF<bool>,
    plan_request: DFF<bool>,
    path_request: DFF<bool>,
    transaction_request: DFF<bool>,
    waited: DFF<Bits<7>>,
    told: DFF<bool>,
    told_answer: DFF<Bits<11>>,
    /// It has waited as long as it waits.
    late: DFF<bool>,
    result: Register<Bits<256>>,
    /// The completion carries `result`.
    answered: DFF<bool>,
    acknowledged: DFF<bool>,
    answer: DFF<Bits<256>>,
    status: DFF<Bits<15>>,
    tail: DFF<Bits<16>>,
    phase: DFF<bool>,
    write_register: Register<WideWrite>,
    is_read: DFF<bool>,
    done_register: DFF<bool>,
    /// The tail is at the ring's last entry.
    at_end: DFF<bool>,
    idle_register: DFF<bool>,
    /// The completion carries the epoch.
    commits: DFF<bool>,
    completion: Signal<Local, ControlCompletion>,
    payload: Signal<Local, Bits<256>>,
    staged: Signal<Local, Bits<144>>,
    given: Signal<Local, Bits<256>>,
    following: Signal<Local, Bits<16>>,
    index: Signal<Local, Bits<32>>,
    index_high: Signal<Local, Bits<20>>,
    beyond_paths: Signal<Local, Bits<27>>,
    nop: Constant<Bits<8>>,
    table_write: Constant<Bits<8>>,
    table_read: Constant<Bits<8>>,
    plan_release: Constant<Bits<8>>,
    plan_complete: Constant<Bits<8>>,
    plan_resubmit: Constant<Bits<8>>,
    plan_take_over: Constant<Bits<8>>,
    plan_abort: Constant<Bits<8>>,
    path_quiesced: Constant<Bits<8>>,
    transaction_stage: Constant<Bits<8>>,
    transaction_commit: Constant<Bits<8>>,
    transaction_cancel: Constant<Bits<8>>,
    disks: Constant<Bits<16>>,
    zero32: Constant<Bits<32>>,
    plan_gone: Constant<Bits<15>>,
    do_not_retry: Constant<Bits<15>>,
    success: Constant<Bits<15>>,
    invalid_opcode: Constant<Bits<15>>,
    invalid_field: Constant<Bits<15>>,
    patience: Constant<Bits<7>>,
    one7: Constant<Bits<7>>,
    zero7: Constant<Bits<7>>,
    one16: Constant<Bits<16>>,
    zero16: Constant<Bits<16>>,
    zero256: Constant<Bits<256>>,
    empty: Constant<Bits<512>>,
    flag: Constant<Bits<1>>,
    clear: Constant<Bits<1>>,
}

/// A refusal that repeating the command does not change.
fn refusal(value: u16) -> Constant<Bits<15>> {
    Constant::new(u64::from(value | status::DNR).to_bits())
}

impl ControlExecutor {
    /// With transactions on 2^`vd_bits` virtual disks.
    pub fn new(sizes: &Sizes) -> Self {
        Self {
            clock: Default::default(),
            reset: Default::default(),
            command: Default::default(),
            control_cq_base: Default::default(),
            control_entries_z: Default::default(),
            control_vector: Default::default(),
            control_interrupt: Default::default(),
            enable: Default::default(),
            table_valid: Default::default(),
            table_request: Default::default(),
            table_ack: Default::default(),
            table_busy: Default::default(),
            table_data: Default::default(),
            plan_valid: Default::default(),
            plan_order: Default::default(),
            plan_answered: Default::default(),
            plan_answer: Default::default(),
            quiesce_valid: Default::default(),
            quiesce_path: Default::default(),
            quiesced: Default::default(),
            hold: Default::default(),
            advance: Default::default(),
            epoch: Default::default(),
            write: Default::default(),
            raise: Default::default(),
            done: Default::default(),
            idle: Default::default(),
            transactions: Transactions::new(sizes),
            state: Default::default(),
            resting: Default::default(),
            building: Default::default(),
            current: Default::default(),
            request_valid: Default::default(),
            plan_request: Default::default(),
            path_request: Default::default(),
            transaction_request: Default::default(),
            waited: Default::default(),
            late: Default::default(),
            told: Default::default(),
            told_answer: Default::default(),
            result: Default::default(),
            answered: Default::default(),
            acknowledged: Default::default(),
            answer: Default::default(),
            status: Default::default(),
            tail: Default::default(),
            phase: Default::default(),
            write_register: Default::default(),
            is_read: Default::default(),
            done_register: Default::default(),
            at_end: Default::default(),
            idle_register: Default::default(),
            commits: Default::default(),
            completion: Default::default(),
            payload: Default::default(),
            staged: Default::default(),
            given: Default::default(),
            following: Default::default(),
            index: Default::default(),
            index_high: Default::default(),
            beyond_paths: Default::default(),
            nop: Constant::new(u64::from(control_opcode::NOP).to_bits()),
            table_write: Constant::new(u64::from(control_opcode::TABLE_WRITE).to_bits()),
            table_read: Constant::new(u64::from(control_opcode::TABLE_READ).to_bits()),
            plan_release: Constant::new(u64::from(control_opcode::PLAN_RELEASE).to_bits()),
            plan_complete: Constant::new(u64::from(control_opcode::PLAN_COMPLETE).to_bits()),
            plan_resubmit: Constant::new(u64::from(control_opcode::PLAN_RESUBMIT).to_bits()),
            plan_take_over: Constant::new(u64::from(control_opcode::PLAN_TAKE_OVER).to_bits()),
            plan_abort: Constant::new(u64::from(control_opcode::PLAN_ABORT).to_bits()),
            path_quiesced: Constant::new(u64::from(control_opcode::PATH_QUIESCED).to_bits()),
            transaction_stage: Constant::new(u64::from(control_opcode::TRANSACTION_STAGE).to_bits()),
            transaction_commit: Constant::new(u64::from(control_opcode::TRANSACTION_COMMIT).to_bits()),
            transaction_cancel: Constant::new(u64::from(control_opcode::TRANSACTION_CANCEL).to_bits()),
            disks: Constant::new(u64::from(table::VD).to_bits()),
            zero32: Constant::new(0u64.to_bits()),
            plan_gone: refusal(plan_status::PLAN_GONE),
            do_not_retry: Constant::new(u64::from(status::DNR).to_bits()),
            success: Constant::new(u64::from(status::SUCCESS).to_bits()),
            invalid_opcode: refusal(status::INVALID_OPCODE),
            invalid_field: refusal(status::INVALID_FIELD),
            patience: Constant::new(63u64.to_bits()),
            one7: Constant::new(1u64.to_bits()),
            zero7: Constant::new(0u64.to_bits()),
            one16: Constant::new(1u64.to_bits()),
            zero16: Constant::new(0u64.to_bits()),
            zero256: Constant::new(0u64.to_bits()),
            empty: Constant::new(0u64.to_bits()),
            flag: Constant::new(1u64.to_bits()),
            clear: Constant::new(0u64.to_bits()),
        }
    }
}

impl Logic for ControlExecutor {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(
            self,
            clock,
            state,
            resting,
            building,
            request_valid,
            plan_request,
            path_request,
            transaction_request,
            commits,
            waited,
            late,
            told,
            told_answer,
            answered,
            acknowledged,
            answer,
            status,
            tail,
            phase,
            is_read,
            done_register,
            at_end,
            idle_register
        );
        clock!(self, clock, transactions, current, result, write_register);
        self.transactions.reset.next = self.reset.val();
        self.command.ready.next = (self.state.q.val() == State::Idle);
        self.table_valid.next = self.request_valid.q.val() | self.transactions.write_valid.val();
        self.write.valid.next = (self.state.q.val() == State::Write);
        self.write.data.next = self.write_register.q.val();
        self.raise.valid.next = (self.state.q.val() == State::Raise);
        self.raise.data.next = self.control_vector.val();
        self.done.next = self.done_register.q.val();
        self.idle_register.d.next =
            (self.state.q.val() == State::Idle) & !self.done_register.q.val() & !self.command.valid.val();
        self.idle.next = self.idle_register.q.val();
        self.request_valid.d.next = false;
        self.plan_request.d.next = false;
        self.path_request.d.next = false;
        self.transaction_request.d.next = false;
        self.quiesce_valid.next = self.path_request.q.val();
        self.plan_valid.next = self.plan_request.q.val();
        self.index.next = self.current.q.val().index;
        self.quiesce_path.next = self.index.val().get_bits::<5>(0);
        self.plan_order.next.opcode = self.current.q.val().opcode;
        self.plan_order.next.slot = bit_cast::<12, 32>(self.index.val());
        self.plan_order.next.command = self.current.q.val().payload0;
        self.index_high.next = self.index.val().get_bits::<20>(12);
        self.beyond_paths.next = self.index.val().get_bits::<27>(5);
        self.done_register.d.next = false;

        self.table_request.next.write = self.flag.val();
        if self.is_read.q.val() {
            self.table_request.next.write = self.clear.val();
        }
        self.table_request.next.table = self.current.q.val().table;
        self.table_request.next.index = self.current.q.val().index;
        self.payload.next = bit_cast::<256, 64>(self.current.q.val().payload0)
            | (bit_cast::<256, 64>(self.current.q.val().payload1) << 64)
            | (bit_cast::<256, 64>(self.current.q.val().payload2) << 128)
            | (bit_cast::<256, 64>(self.current.q.val().payload3) << 192);
        self.table_request.next.data = self.payload.val();
        if (self.state.q.val() == State::Transaction) {
            self.table_request.next.write = self.flag.val();
            self.table_request.next.table = self.disks.val();
            self.table_request.next.index = bit_cast::<32, 16>(self.transactions.write_index.val());
            self.table_request.next.data = bit_cast::<256, 144>(self.transactions.write_disk.val());
        }
        self.staged.next = bit_cast::<144, 256>(self.payload.val());
        self.transactions.order_valid.next = self.transaction_request.q.val();
        self.transactions.order.next.opcode = self.current.q.val().opcode;
        self.transactions.order.next.table = self.current.q.val().table;
        self.transactions.order.next.index = self.current.q.val().index;
        self.transactions.order.next.disk = self.staged.val();
        self.transactions.number.next = self.epoch.val();
        self.hold.next = self.transactions.hold.val();
        self.advance.next = self.transactions.advance.val();

        self.following.next = self.tail.q.val() + self.one16.val();
        // The tail stands still from one command's end to the next one's.
        self.at_end.d.next = (self.tail.q.val() == self.control_entries_z.val());
        if self.at_end.q.val() {
            self.following.next = self.zero16.val();
        }
        self.completion.next = self.empty.val().into();
        self.given.next = self.zero256.val();
        if self.answered.q.val() {
            self.given.next = self.result.q.val();
        }
        self.completion.next.payload0 = self.given.val().get_bits::<64>(0);
        self.completion.next.payload1 = self.given.val().get_bits::<64>(64);
        self.completion.next.payload2 = self.given.val().get_bits::<64>(128);
        self.completion.next.payload3 = self.given.val().get_bits::<64>(192);
        self.completion.next.result = self.zero32.val();
        if self.commits.q.val() {
            self.completion.next.result = self.transactions.epoch.val();
        }
        self.completion.next.sq_head = self.following.val();
        self.completion.next.command_id = self.current.q.val().command_id;
        self.completion.next.phase = self.clear.val();
        if self.phase.q.val() {
            self.completion.next.phase = self.flag.val();
        }
        self.completion.next.status = self.status.q.val();

        // All tables answer on one wire each.
        self.acknowledged.d.next = self.table_ack.val();
        self.answer.d.next = self.table_data.val();
        self.told.d.next = self.plan_answered.val();
        self.told_answer.d.next = self.plan_answer.val();
        self.result.load.next = self.acknowledged.q.val();
        self.result.d.next = self.answer.q.val();
        self.current.load.next = self.resting.q.val();
        self.current.d.next = self.command.data.val().into();
        self.write_register.load.next = self.building.q.val();
        self.write_register.d.next.address =
            self.control_cq_base.val() + (bit_cast::<64, 16>(self.tail.q.val()) << 6);
        self.write_register.d.next.data = self.completion.val().into();
        self.building.d.next = false;
        match self.state.q.val() {
            State::Idle => {
                self.answered.d.next = false;
                self.commits.d.next = false;
                self.status.d.next = self.success.val();
                self.waited.d.next = self.zero7.val();
                self.late.d.next = false;
                if self.command.valid.val() {
                    self.state.d.next = State::Decode;
                    self.resting.d.next = false;
                }
            }
            State::Decode => {
                self.is_read.d.next = (self.current.q.val().opcode == self.table_read.val());
                self.state.d.next = State::Build;
                self.building.d.next = true;
                if (self.current.q.val().opcode == self.table_read.val())
                    | (self.current.q.val().opcode == self.table_write.val())
                {
                    self.request_valid.d.next = true;
                    self.state.d.next = State::Table;
                    self.building.d.next = false;
                } else if (self.current.q.val().opcode == self.plan_release.val())
                    | (self.current.q.val().opcode == self.plan_complete.val())
                    | (self.current.q.val().opcode == self.plan_resubmit.val())
                    | (self.current.q.val().opcode == self.plan_take_over.val())
                    | (self.current.q.val().opcode == self.plan_abort.val())
                {
                    if self.index_high.val().any() {
                        self.status.d.next = self.plan_gone.val();
                    } else {
                        self.plan_request.d.next = true;
                        self.state.d.next = State::Plan;
                        self.building.d.next = false;
                    }
                } else if (self.current.q.val().opcode == self.path_quiesced.val()) {
                    if self.beyond_paths.val().any() {
                        self.status.d.next = self.invalid_field.val();
                    } else {
                        self.path_request.d.next = true;
                        self.state.d.next = State::Path;
                        self.building.d.next = false;
                    }
                } else if (self.current.q.val().opcode == self.transaction_stage.val())
                    | (self.current.q.val().opcode == self.transaction_commit.val())
                    | (self.current.q.val().opcode == self.transaction_cancel.val())
                {
                    self.transaction_request.d.next = true;
                    self.state.d.next = State::Transaction;
                    self.building.d.next = false;
                } else if (self.current.q.val().opcode != self.nop.val()) {
                    self.status.d.next = self.invalid_opcode.val();
                }
            }
            State::Table => {
                if !self.table_busy.val() {
                    self.waited.d.next = self.waited.q.val() + self.one7.val();
                    self.late.d.next = (self.waited.q.val() == self.patience.val());
                }
                if self.acknowledged.q.val() {
                    self.answered.d.next = self.is_read.q.val();
                    self.state.d.next = State::Build;
                    self.building.d.next = true;
                } else if self.late.q.val() {
                    self.status.d.next = self.invalid_field.val();
                    self.state.d.next = State::Build;
                    self.building.d.next = true;
                }
            }
            State::Plan => {
                if self.told.q.val() {
                    if self.told_answer.q.val().any() {
                        self.status.d.next =
                            bit_cast::<15, 11>(self.told_answer.q.val()) | self.do_not_retry.val();
                    }
                    self.state.d.next = State::Build;
                    self.building.d.next = true;
                }
            }
            State::Path => {
                if self.quiesced.val() {
                    self.state.d.next = State::Build;
                    self.building.d.next = true;
                }
            }
            State::Transaction => {
                self.commits.d.next = (self.current.q.val().opcode == self.transaction_commit.val());
                if self.transactions.answered.val() {
                    if self.transactions.answer.val().any() {
                        self.status.d.next =
                            bit_cast::<15, 11>(self.transactions.answer.val()) | self.do_not_retry.val();
                    }
                    self.state.d.next = State::Build;
                    self.building.d.next = true;
                }
            }
            State::Build => {
                self.state.d.next = State::Write;
            }
            State::Write => {
                if self.write.ready.val() {
                    self.done_register.d.next = true;
                    self.tail.d.next = self.following.val();
                    if self.at_end.q.val() {
                        self.phase.d.next = !self.phase.q.val();
                    }
                    self.state.d.next = State::Idle;
                    self.resting.d.next = true;
                    if self.control_interrupt.val() {
                        self.state.d.next = State::Raise;
                        self.resting.d.next = false;
                    }
                }
            }
            State::Raise => {
                if self.raise.ready.val() {
                    self.state.d.next = State::Idle;
                    self.resting.d.next = true;
                }
            }
            _ => {}
        }
        if !self.enable.val() | self.reset.val() {
            self.tail.d.next = self.zero16.val();
            self.phase.d.next = true;
        }
        if self.reset.val() {
            self.state.d.next = State::Idle;
            self.resting.d.next = true;
            self.building.d.next = false;
            self.request_valid.d.next = false;
            self.plan_request.d.next = false;
            self.path_request.d.next = false;
            self.transaction_request.d.next = false;
            self.told.d.next = false;
            self.done_register.d.next = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{seeded, Bench};
    use rand::RngExt;
    use std::collections::{BTreeMap, VecDeque};
    use volplane_abi as abi;

    fn words(bytes: &[u8]) -> Vec<u32> {
        bytes.chunks(4).map(|b| u32::from_le_bytes(b.try_into().expect("whole words"))).collect()
    }

    fn bytes(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn start(name: &str) -> Bench {
        let mut bench = Bench::new(name, ControlExecutor::new(&Sizes { vd_bits: 3, ..Sizes::DEFAULT }));
        bench.set("reset", 1);
        bench.cycle();
        bench.set("reset", 0);
        bench
    }

    #[test]
    fn refuses_what_nobody_acknowledges() {
        let mut bench = start("executor_directed");
        bench.set("control_cq_base", 0x1_0000_F000);
        bench.set("control_entries_z", 15);
        bench.set("enable", 1);
        bench.set("write$ready", 1);
        let cases = [(0x00u32, 0u32), (0x7F, 0x4001), (0x01, 0x4002), (0x02, 0x4002)];
        for (index, (opcode, status)) in cases.into_iter().enumerate() {
            let mut entry = [0u32; 16];
            entry[0] = opcode | 0xBEEF << 16;
            entry[1] = 99;
            bench.set("command$valid", 1);
            bench.set_wide("command$data", &entry);
            bench.cycle();
            bench.set("command$valid", 0);
            let mut waited = 0;
            while bench.get("write$valid") == 0 {
                bench.cycle();
                waited += 1;
                assert!(waited < 80, "no completion");
            }
            let write = bench.get_wide("write$data");
            // The specification's dwords 2 and 3, at the end of the 64 bytes.
            assert_eq!(write[16], index as u32 + 1);
            assert_eq!(write[17], 0xBEEF | 1 << 16 | status << 17);
            assert!(write[2..16].iter().all(|&word| word == 0));
            bench.cycle();
            assert_eq!((bench.get("done"), bench.get("raise$valid")), (1, 0));
            bench.cycle();
            assert_eq!(bench.get("idle"), 0);
        }
        bench.cycle();
        assert_eq!(bench.get("idle"), 1, "a cycle late");
    }

    /// One command and what must become of it.
    struct Expected {
        command: abi::ControlCommand,
        known: bool,
        /// Of a command on a plan; who has no slot is gone.
        status: u16,
    }

    /// Random commands to two tables of a model, with stalls on every port and rings of two sizes.
    #[test]
    fn every_command_completes_once_in_order() {
        let mut bench = start("executor_random");
        let mut random = seeded();
        let (base, vector) = (0xFFFF_FFFF_F000u64, 9u32);
        bench.set("control_cq_base", base.into());
        bench.set("control_vector", vector.into());
        for (entries, interrupt) in [(5u64, false), (64, true)] {
            bench.set("control_entries_z", (entries - 1).into());
            bench.set("control_interrupt", interrupt.into());
            bench.set("enable", 0);
            bench.cycle();
            bench.set("enable", 1);
            let mut tables: BTreeMap<(u16, u32), Vec<u8>> = BTreeMap::new();
            let mut expected: VecDeque<Expected> = VecDeque::new();
            let mut offered: Option<abi::ControlCommand> = None;
            let mut ack: Option<(u32, Vec<u8>, bool)> = None;
            let mut read_back = vec![0u8; 32];
            let (mut plan, mut plans) = (None::<(u32, u16)>, 0);
            let (mut staged, mut commits, mut epoch) = (Vec::<abi::ControlCommand>::new(), 0, 77u32);
            // Indices that a commit has shown, and when; how many of its writes were seen whole.
            let (mut indices, mut made) = (Vec::<(u32, u32)>::new(), 0);
            let (mut quiescing, mut quieted) = (None::<u32>, 0);
            let (mut completed, mut raised, mut done, mut requests) = (0u64, 0u64, 0u64, 0u64);
            for cycle in 0..60_000u32 {
                if offered.is_none() && random.random_bool(0.3) {
                    let mut command = abi::ControlCommand(random.random());
                    let opcode = [0, 1, 1, 2, 2, 3, 0x10, 0x11, 0x12, 0x20, 0x30, 0x30, 0x31, 0x32]
                        [random.random_range(0..14)];
                    let table = random.random_range(2..5u16);
                    let index = random.random_range(0..6u32) | [0, 0, 0, 4096, 32][random.random_range(0..5)];
                    command = command.with_opcode(opcode).with_table(table).with_index(index);
                    offered = Some(command);
                }
                bench.set("command$valid", offered.is_some().into());
                if let Some(command) = &offered {
                    bench.set_wide("command$data", &words(&command.0));
                }
                bench.set("epoch", epoch.into());
                bench.set("write$ready", random.random_bool(0.5).into());
                bench.set("raise$ready", random.random_bool(0.5).into());
                bench.set("table_ack", 0);
                bench.set_wide("table_data", &[0; 8]);
                bench.eval();
                let committing = bench.get("hold") == 1;
                if let Some(&(_, index)) = indices.iter().find(|(at, _)| at + 2 == cycle) {
                    let bits = bytes(&bench.get_wide("table_request"));
                    let data: Vec<u8> =
                        (0..18).map(|i| abi::layout::get(&bits, 49 + 8 * i, 8) as u8).collect();
                    assert_eq!((index, &data[..]), (staged[made].index(), &staged[made].0[32..50]));
                    made += 1;
                }
                if bench.get("table_valid") == 1 && committing {
                    let bits = bytes(&bench.get_wide("table_request"));
                    let (table, write) = (abi::layout::get(&bits, 1, 16), bits[0] & 1);
                    assert_eq!((table, write), (u64::from(abi::table::VD), 1));
                    indices.push((cycle, abi::layout::get(&bits, 17, 32) as u32));
                } else if bench.get("table_valid") == 1 {
                    requests += 1;
                    let command = expected.back().expect("a command in work").command;
                    let request = bench.get_wide("table_request");
                    let bits = bytes(&request);
                    assert_eq!(request[0] & 1, u32::from(command.opcode() == 1));
                    assert_eq!(abi::layout::get(&bits, 1, 16), u64::from(command.table()));
                    assert_eq!(abi::layout::get(&bits, 17, 32), u64::from(command.index()));
                    let data: Vec<u8> =
                        (0..32).map(|i| abi::layout::get(&bits, 49 + 8 * i, 8) as u8).collect();
                    let key = (command.table(), command.index());
                    read_back = vec![0; 32];
                    let known = command.table() < 4 && command.index() < 4;
                    expected.back_mut().expect("a command in work").known = known;
                    if known {
                        if command.opcode() == 1 {
                            assert_eq!(data, command.0[32..64]);
                            tables.insert(key, data);
                        } else {
                            read_back = tables.get(&key).cloned().unwrap_or(vec![0xEE; 32]);
                        }
                        // Some owners take their time, and say so.
                        let busy = random.random_bool(0.2);
                        bench.set("table_busy", busy.into());
                        let left =
                            if busy { random.random_range(33..300) } else { random.random_range(1..33) };
                        ack = Some((left, read_back.clone(), command.opcode() == 2));
                    }
                }
                if let Some((left, data, is_read)) = &mut ack {
                    if *left == 0 {
                        bench.set("table_ack", 1);
                        bench.set("table_busy", 0);
                        bench.set_wide("table_data", &words(if *is_read { data } else { &[0xFF; 32] }));
                        ack = None;
                    } else {
                        *left -= 1;
                    }
                }
                bench.set("plan_answered", 0);
                if let Some((left, answer)) = &mut plan {
                    if *left == 0 {
                        bench.set("plan_answered", 1);
                        bench.set("plan_answer", u128::from(*answer));
                        plan = None;
                    } else {
                        *left -= 1;
                    }
                }
                bench.set("quiesced", 0);
                if let Some(left) = &mut quiescing {
                    if *left == 0 {
                        bench.set("quiesced", 1);
                        quiescing = None;
                    } else {
                        *left -= 1;
                    }
                }
                bench.eval();
                if bench.get("quiesce_valid") == 1 {
                    let command = expected.back().expect("a command in work").command;
                    assert_eq!((command.opcode(), bench.get("quiesce_path")), (0x20, command.index().into()));
                    quiescing = Some(random.random_range(1..40));
                    quieted += 1;
                }
                if bench.get("plan_valid") == 1 {
                    let it = expected.back_mut().expect("a command in work");
                    let order: PlanOrder = bench.get_record::<84, _>("plan_order");
                    assert_eq!(order.opcode.to_u64(), u64::from(it.command.opcode()));
                    assert_eq!(order.slot.to_u64(), u64::from(it.command.index()));
                    assert_eq!(order.command.to_u64(), it.command.payload0());
                    let answer = [0u16, 0x1C0][random.random_range(0..2)];
                    it.status = if answer == 0 { 0 } else { 0x4000 | answer };
                    plan = Some((random.random_range(1..40), answer));
                    plans += 1;
                }
                let advances = bench.get("advance") == 1;
                commits += u32::from(advances);
                done += bench.get("done") as u64;
                if bench.get("raise$valid") == 1 && bench.get("raise$ready") == 1 {
                    assert_eq!(bench.get("raise$data"), u128::from(vector));
                    raised += 1;
                    assert_eq!(raised, completed, "after its completion, before the next");
                }
                if bench.get("write$valid") == 1 && bench.get("write$ready") == 1 {
                    let Expected { command, known, status } =
                        expected.pop_front().expect("a command in work");
                    let write = bytes(&bench.get_wide("write$data"));
                    let address = u64::from_le_bytes(write[..8].try_into().expect("8 bytes"));
                    assert_eq!(address, base + 64 * (completed % entries));
                    assert!(quiescing.is_none(), "before all has ended");
                    let completion = abi::ControlCompletion(write[8..72].try_into().expect("64 bytes"));
                    let status = match (command.opcode(), known) {
                        (0x10..=0x12, _) => status,
                        (0x20, _) if command.index() < 32 => 0,
                        (0x30, _) if command.table() != abi::table::VD || command.index() > 7 => 0x4002,
                        (0x30, _) if staged.len() == abi::TRANSACTION_MAX => 0x400C,
                        (0x30..=0x32, _) => 0,
                        (0x20, _) => 0x4002,
                        (0, _) | (1..=2, true) => 0,
                        (1..=2, false) => 0x4002,
                        _ => 0x4001,
                    };
                    assert_eq!(completion.status(), status);
                    match command.opcode() {
                        0x30 if status == 0 => staged.push(command),
                        0x31 => {
                            assert_eq!((made, indices.len()), (staged.len(), staged.len()));
                            assert_eq!(completion.result(), epoch - 1, "the one that it ended");
                        }
                        _ => {}
                    }
                    if [0x31, 0x32].contains(&command.opcode()) {
                        (staged, indices, made) = (Vec::new(), Vec::new(), 0);
                    } else {
                        assert!(completion.result() == 0 && indices.is_empty());
                    }
                    assert_eq!(completion.command_id(), command.command_id());
                    assert_eq!(u64::from(completion.sq_head()), (completed + 1) % entries);
                    assert_eq!(u64::from(completion.phase()), 1 - completed / entries % 2);
                    let payload = if command.opcode() == 2 { read_back.clone() } else { vec![0; 32] };
                    assert_eq!(completion.0[..32], payload);
                    completed += 1;
                }
                if offered.is_some() && bench.get("command$ready") == 1 {
                    let command = offered.take().expect("offered");
                    expected.push_back(Expected { command, known: false, status: 0x41C0 });
                    assert_eq!(expected.len(), 1, "one at a time");
                }
                epoch += u32::from(advances);
                bench.cycle();
            }
            bench.set("command$valid", 0);
            bench.set("write$ready", 1);
            bench.set("raise$ready", 1);
            bench.set("plan_answered", 1);
            for _ in 0..100 {
                bench.cycle();
            }
            assert_eq!(bench.get("idle"), 1);
            assert!(
                completed > 1_000 && requests > 500 && plans > 200 && quieted > 50 && commits > 50,
                "{completed} completions"
            );
            assert!(done.abs_diff(completed) <= 1);
            assert_eq!(raised > 0, interrupt);
        }
    }
}
