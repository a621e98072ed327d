// The ports of the card's top, in one list: `build.rs` makes the C++ side of it, the macro the Rust
// side, and the C++ compiler checks their sizes.

/// Width of a port.
#[derive(Clone, Copy)]
pub enum Width {
    /// A number of bits.
    Bits(usize),
    /// The data width.
    Data,
    /// A bit for each byte of data.
    Strobe,
}

macro_rules! ports {
    ($($port:ident $name:literal $width:expr;)*) => {
        /// A port of the top.
        #[derive(Clone, Copy)]
        #[allow(dead_code, missing_docs)]
        pub enum Port { $($port),* }

        /// Name and width of every port, in the order of `Port`.
        #[allow(dead_code)]
        pub const PORTS: &[(&str, Width)] = &[$(($name, $width)),*];
    };
}

use Width::{Bits, Data, Strobe};

ports! {
    Clock "clock" Bits(1);
    Reset "reset" Bits(1);
    Tick "tick" Bits(1);
    Ticks "ticks" Bits(32);
    Timing "timing" Bits(1);
    Idle "idle" Bits(1);
    Irq "irq" Bits(32);
    Bar0Awaddr "bar0_awaddr" Bits(18);
    Bar0Awvalid "bar0_awvalid" Bits(1);
    Bar0Awready "bar0_awready" Bits(1);
    Bar0Wdata "bar0_wdata" Bits(32);
    Bar0Wstrb "bar0_wstrb" Bits(4);
    Bar0Wvalid "bar0_wvalid" Bits(1);
    Bar0Wready "bar0_wready" Bits(1);
    Bar0Bresp "bar0_bresp" Bits(2);
    Bar0Bvalid "bar0_bvalid" Bits(1);
    Bar0Bready "bar0_bready" Bits(1);
    Bar0Araddr "bar0_araddr" Bits(18);
    Bar0Arvalid "bar0_arvalid" Bits(1);
    Bar0Arready "bar0_arready" Bits(1);
    Bar0Rdata "bar0_rdata" Bits(32);
    Bar0Rresp "bar0_rresp" Bits(2);
    Bar0Rvalid "bar0_rvalid" Bits(1);
    Bar0Rready "bar0_rready" Bits(1);
    MAwaddr "m_awaddr" Bits(64);
    MAwlen "m_awlen" Bits(8);
    MAwsize "m_awsize" Bits(3);
    MAwburst "m_awburst" Bits(2);
    MAwvalid "m_awvalid" Bits(1);
    MAwready "m_awready" Bits(1);
    MWdata "m_wdata" Data;
    MWstrb "m_wstrb" Strobe;
    MWlast "m_wlast" Bits(1);
    MWvalid "m_wvalid" Bits(1);
    MWready "m_wready" Bits(1);
    MBresp "m_bresp" Bits(2);
    MBvalid "m_bvalid" Bits(1);
    MBready "m_bready" Bits(1);
    MAraddr "m_araddr" Bits(64);
    MArlen "m_arlen" Bits(8);
    MArsize "m_arsize" Bits(3);
    MArburst "m_arburst" Bits(2);
    MArvalid "m_arvalid" Bits(1);
    MArready "m_arready" Bits(1);
    MRdata "m_rdata" Data;
    MRresp "m_rresp" Bits(2);
    MRlast "m_rlast" Bits(1);
    MRvalid "m_rvalid" Bits(1);
    MRready "m_rready" Bits(1);
    Bar2Awaddr "bar2_awaddr" Bits(19);
    Bar2Awlen "bar2_awlen" Bits(8);
    Bar2Awsize "bar2_awsize" Bits(3);
    Bar2Awburst "bar2_awburst" Bits(2);
    Bar2Awvalid "bar2_awvalid" Bits(1);
    Bar2Awready "bar2_awready" Bits(1);
    Bar2Wdata "bar2_wdata" Data;
    Bar2Wstrb "bar2_wstrb" Strobe;
    Bar2Wlast "bar2_wlast" Bits(1);
    Bar2Wvalid "bar2_wvalid" Bits(1);
    Bar2Wready "bar2_wready" Bits(1);
    Bar2Bresp "bar2_bresp" Bits(2);
    Bar2Bvalid "bar2_bvalid" Bits(1);
    Bar2Bready "bar2_bready" Bits(1);
    Bar2Araddr "bar2_araddr" Bits(19);
    Bar2Arlen "bar2_arlen" Bits(8);
    Bar2Arsize "bar2_arsize" Bits(3);
    Bar2Arburst "bar2_arburst" Bits(2);
    Bar2Arvalid "bar2_arvalid" Bits(1);
    Bar2Arready "bar2_arready" Bits(1);
    Bar2Rdata "bar2_rdata" Data;
    Bar2Rresp "bar2_rresp" Bits(2);
    Bar2Rlast "bar2_rlast" Bits(1);
    Bar2Rvalid "bar2_rvalid" Bits(1);
    Bar2Rready "bar2_rready" Bits(1);
    TraceAdmitted "trace_admitted" Bits(1);
    TraceAdmittedSlot "trace_admitted_slot" Bits(12);
    TraceAdmittedQueue "trace_admitted_queue" Bits(8);
    TraceAdmittedId "trace_admitted_id" Bits(16);
    TraceBegun "trace_begun" Bits(1);
    TraceBegunSlot "trace_begun_slot" Bits(12);
    TraceBegunDisk "trace_begun_disk" Bits(16);
    TraceBegunPlan "trace_begun_plan" Bits(16);
    TraceBegunMasks "trace_begun_masks" Bits(40);
    TraceBegunPresent "trace_begun_present" Bits(8);
    TraceBegunReadable "trace_begun_readable" Bits(8);
    TraceBegunBegun "trace_begun_begun" Bits(8);
    TraceBegunMinimum "trace_begun_minimum" Bits(4);
    TraceBegunKept "trace_begun_kept" Bits(8);
    TraceBegunIsRead "trace_begun_is_read" Bits(1);
    TraceHeld "trace_held" Bits(1);
    TraceAgain "trace_again" Bits(1);
    TraceAgainSlot "trace_again_slot" Bits(12);
    TraceAgainComponent "trace_again_component" Bits(3);
    TraceAgainFresh "trace_again_fresh" Bits(1);
    TraceChange "trace_change" Bits(1);
    TraceChangeSlot "trace_change_slot" Bits(12);
    TraceChangeDisk "trace_change_disk" Bits(16);
    TraceChangeOut "trace_change_out" Bits(8);
    TraceChangeDeactivate "trace_change_deactivate" Bits(1);
    TraceChanged "trace_changed" Bits(1);
    TraceChangedStates "trace_changed_states" Bits(16);
    TraceChangedDurablyOut "trace_changed_durably_out" Bits(8);
    TraceChangedDeactivated "trace_changed_deactivated" Bits(1);
    TraceIssued "trace_issued" Bits(1);
    TraceIssuedId "trace_issued_id" Bits(16);
    TraceIssuedPath "trace_issued_path" Bits(8);
    TraceIssuedSlot "trace_issued_slot" Bits(12);
    TraceIssuedComponent "trace_issued_component" Bits(3);
    TraceIssuedOrdinal "trace_issued_ordinal" Bits(17);
    TracePartBegun "trace_part_begun" Bits(1);
    TracePartBegunSlot "trace_part_begun_slot" Bits(12);
    TracePartBegunComponent "trace_part_begun_component" Bits(3);
    TracePartBegunRetries "trace_part_begun_retries" Bits(8);
    TraceReturned "trace_returned" Bits(1);
    TraceReturnedSlot "trace_returned_slot" Bits(12);
    TraceReturnedComponent "trace_returned_component" Bits(3);
    TraceReturnedOrdinal "trace_returned_ordinal" Bits(17);
    TraceReturnedPath "trace_returned_path" Bits(8);
    TraceReturnedId "trace_returned_id" Bits(16);
    TraceReturnedStatus "trace_returned_status" Bits(15);
    TraceReturnedOwn "trace_returned_own" Bits(1);
    TraceFailed "trace_failed" Bits(1);
    TraceFailedSlot "trace_failed_slot" Bits(12);
    TraceFailedComponent "trace_failed_component" Bits(3);
    TraceFailedStatus "trace_failed_status" Bits(15);
    TraceFailedPath "trace_failed_path" Bits(8);
    TraceFailedOrdinal "trace_failed_ordinal" Bits(17);
    TraceFailedClosed "trace_failed_closed" Bits(1);
    TraceFailedGivenUp "trace_failed_given_up" Bits(1);
    TraceRetry "trace_retry" Bits(1);
    TraceRetrySlot "trace_retry_slot" Bits(12);
    TraceRetryComponent "trace_retry_component" Bits(3);
    TraceEnded "trace_ended" Bits(1);
    TraceEndedSlot "trace_ended_slot" Bits(12);
    TraceEndedComponent "trace_ended_component" Bits(3);
    TraceEndedStatus "trace_ended_status" Bits(15);
    TraceEndedPath "trace_ended_path" Bits(8);
    TraceEndedOrdinal "trace_ended_ordinal" Bits(17);
    TraceEndedClosed "trace_ended_closed" Bits(1);
    TraceEndedGivenUp "trace_ended_given_up" Bits(1);
    TraceOver "trace_over" Bits(1);
    TraceOverSlot "trace_over_slot" Bits(12);
    TraceOverComponent "trace_over_component" Bits(3);
    TraceDone "trace_done" Bits(1);
    TraceDoneSlot "trace_done_slot" Bits(12);
    TraceDoneStatus "trace_done_status" Bits(15);
}
