//! The class of a status field: `volplane_abi::plan::status_class`, a bit for each class but that of the final ones.
//!
//! Registered: latency 1 cycle, one a cycle. No reset.

use rust_hdl::prelude::*;
use volplane_abi::plan::plan_status;
use volplane_abi::status;

/// See the module's header.
#[derive(Clone, Debug, LogicBlock)]
pub struct StatusKind {
    pub clock: Signal<In, Clock>,
    pub status: Signal<In, Bits<15>>,
    pub is_good: Signal<Out, bool>,
    pub is_of_client: Signal<Out, bool>,
    pub is_of_path: Signal<Out, bool>,
    /// It may succeed when it is given again.
    pub may_pass: Signal<Out, bool>,

    good: DFF<bool>,
    of_client: DFF<bool>,
    of_path: DFF<bool>,
    retryable: DFF<bool>,
    code: Signal<Local, Bits<15>>,
    type_bits: Signal<Local, Bits<15>>,
    none: Constant<Bits<15>>,
    code_and_type: Constant<Bits<15>>,
    type_mask: Constant<Bits<15>>,
    do_not_retry: Constant<Bits<15>>,
    success: Constant<Bits<15>>,
    invalid_field: Constant<Bits<15>>,
    transfer_error: Constant<Bits<15>>,
    out_of_range: Constant<Bits<15>>,
    compare_failure: Constant<Bits<15>>,
    path_related: Constant<Bits<15>>,
    abort_requested: Constant<Bits<15>>,
    queue_deleted: Constant<Bits<15>>,
}

impl Default for StatusKind {
    fn default() -> Self {
        let value = |value: u16| Constant::new(u64::from(value).to_bits());
        Self {
            clock: Default::default(),
            status: Default::default(),
            is_good: Default::default(),
            is_of_client: Default::default(),
            is_of_path: Default::default(),
            may_pass: Default::default(),
            good: Default::default(),
            of_client: Default::default(),
            of_path: Default::default(),
            retryable: Default::default(),
            code: Default::default(),
            type_bits: Default::default(),
            none: value(0),
            code_and_type: value(status::CODE_AND_TYPE),
            type_mask: value(status::TYPE),
            do_not_retry: value(status::DNR),
            success: value(status::SUCCESS),
            invalid_field: value(status::INVALID_FIELD),
            transfer_error: value(status::DATA_TRANSFER_ERROR),
            out_of_range: value(status::LBA_OUT_OF_RANGE),
            compare_failure: value(plan_status::COMPARE_FAILURE),
            path_related: value(status::PATH_RELATED),
            abort_requested: value(plan_status::ABORT_REQUESTED),
            queue_deleted: value(plan_status::ABORTED_SQ_DELETION),
        }
    }
}

impl Logic for StatusKind {
    #[hdl_gen]
    fn update(&mut self) {
        dff_setup!(self, clock, good, of_client, of_path, retryable);
        self.code.next = self.status.val() & self.code_and_type.val();
        self.type_bits.next = self.status.val() & self.type_mask.val();
        self.good.d.next = (self.code.val() == self.success.val());
        self.of_client.d.next = (self.code.val() == self.invalid_field.val())
            | (self.code.val() == self.transfer_error.val())
            | (self.code.val() == self.out_of_range.val())
            | (self.code.val() == self.compare_failure.val());
        self.of_path.d.next = (self.type_bits.val() == self.path_related.val())
            | (self.code.val() == self.abort_requested.val())
            | (self.code.val() == self.queue_deleted.val());
        self.retryable.d.next = ((self.status.val() & self.do_not_retry.val()) == self.none.val());
        self.is_good.next = self.good.q.val();
        self.is_of_client.next = self.of_client.q.val();
        self.is_of_path.next = self.of_path.q.val();
        self.may_pass.next =
            self.retryable.q.val() & !self.good.q.val() & !self.of_client.q.val() & !self.of_path.q.val();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Bench;
    use volplane_abi::plan::{status_class, StatusClass};

    #[test]
    fn classes_are_those_of_the_abi() {
        let mut bench = Bench::new("status_kind", StatusKind::default());
        for status in 0..0x8000u16 {
            bench.set("status", status.into());
            bench.cycle();
            let expected = match status_class(status) {
                StatusClass::Success => [1, 0, 0, 0],
                StatusClass::Client => [0, 1, 0, 0],
                StatusClass::Path => [0, 0, 1, 0],
                StatusClass::Retry => [0, 0, 0, 1],
                StatusClass::Final => [0, 0, 0, 0],
            };
            let found = ["is_good", "is_of_client", "is_of_path", "may_pass"].map(|port| bench.get(port));
            assert_eq!(found, expected, "status {status:#06x}");
        }
    }
}
