//! The Verilated card behind its shim: ports as memory, and evaluation.
//!
//! Verilator keeps a port of up to 8, 16, 32 or 64 bits in an integer of that size and a wider one in
//! little-endian words, so that every port is bytes in order of significance.

#![allow(unsafe_code)] // Calls the Verilated C++ and touches its ports through raw pointers.

use std::ffi::c_void;
use std::path::Path;
use std::ptr::{null_mut, NonNull};

use verilated::vcd::{Vcd, VcdC};

use super::port_list::{Port, Width, PORTS};

/// Bytes of the widest data port.
pub(crate) const DATA_BYTES_MAX: usize = 64;

/// A beat of data; the first bytes of it at narrower widths.
pub(crate) type Beat = [u8; DATA_BYTES_MAX];

/// Where the ports of one card are.
pub(crate) struct Ports {
    table: [*mut u8; PORTS.len()],
    /// Bytes of a data port.
    beat_bytes: usize,
    /// Backs `table` where no Verilated card does.
    #[cfg(test)]
    _plain: Vec<Beat>,
}

impl Ports {
    /// Ports of no card, for tests of what stands around them.
    #[cfg(test)]
    pub(crate) fn plain(width: usize) -> Self {
        let mut plain = vec![[0; DATA_BYTES_MAX]; PORTS.len()];
        let mut table = [null_mut(); PORTS.len()];
        for (pointer, beat) in table.iter_mut().zip(&mut plain) {
            *pointer = beat.as_mut_ptr();
        }
        Self { table, beat_bytes: width / 8, _plain: plain }
    }

    /// Bytes of a data beat.
    #[inline]
    pub(crate) fn beat_bytes(&self) -> usize {
        self.beat_bytes
    }

    /// The address of a port that is at least `bytes` wide. The check folds away: ports are named by
    /// constants.
    #[inline(always)]
    fn at(&self, port: Port, bytes: usize) -> *mut u8 {
        let wide = match PORTS[port as usize].1 {
            Width::Bits(bits) => bits.div_ceil(8).next_power_of_two(),
            Width::Data => self.beat_bytes,
            Width::Strobe => self.beat_bytes / 8,
        };
        assert!(bytes <= wide, "the port is narrower");
        self.table[port as usize]
    }

    #[inline(always)]
    pub(crate) fn flag(&self, port: Port) -> bool {
        self.byte(port) != 0
    }

    #[inline(always)]
    pub(crate) fn byte(&self, port: Port) -> u8 {
        // SAFETY: `at` checked the size; the port lives as long as `self`, and only this thread uses it.
        unsafe { self.at(port, 1).read() }
    }

    #[inline(always)]
    pub(crate) fn half(&self, port: Port) -> u16 {
        // SAFETY: as in `word`.
        unsafe { self.at(port, 2).cast::<u16>().read_unaligned() }
    }

    #[inline(always)]
    pub(crate) fn word(&self, port: Port) -> u32 {
        // SAFETY: as in `byte`; Verilator aligns an integer of 32 bits, a plain port is aligned for it
        // or read unaligned.
        unsafe { self.at(port, 4).cast::<u32>().read_unaligned() }
    }

    #[inline(always)]
    pub(crate) fn quad(&self, port: Port) -> u64 {
        // SAFETY: as in `word`.
        unsafe { self.at(port, 8).cast::<u64>().read_unaligned() }
    }

    #[inline(always)]
    pub(crate) fn set_flag(&mut self, port: Port, value: bool) {
        self.set_byte(port, u8::from(value));
    }

    #[inline(always)]
    pub(crate) fn set_byte(&mut self, port: Port, value: u8) {
        // SAFETY: as in `byte`.
        unsafe { self.at(port, 1).write(value) }
    }

    #[inline(always)]
    pub(crate) fn set_word(&mut self, port: Port, value: u32) {
        // SAFETY: as in `word`.
        unsafe { self.at(port, 4).cast::<u32>().write_unaligned(value) }
    }

    #[cfg(test)]
    pub(crate) fn set_quad(&mut self, port: Port, value: u64) {
        // SAFETY: as in `word`.
        unsafe { self.at(port, 8).cast::<u64>().write_unaligned(value) }
    }

    /// Copies a data port out.
    #[inline]
    pub(crate) fn data(&self, port: Port, into: &mut Beat) {
        let from = self.at(port, self.beat_bytes);
        // SAFETY: `at` checked the size of the port, a `Beat` is at least as long, and they are apart.
        unsafe { std::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), self.beat_bytes) }
    }

    /// Copies a beat, as long as the port, to a data port.
    #[inline]
    pub(crate) fn set_data(&mut self, port: Port, from: &[u8]) {
        assert_eq!(from.len(), self.beat_bytes);
        // SAFETY: `at` checked the size of the port, `from` is as long, and they are apart.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), self.at(port, from.len()), from.len()) }
    }

    /// A strobe port: bit i for byte i of the beat.
    #[inline]
    pub(crate) fn strobe(&self, port: Port) -> u64 {
        let bytes = self.beat_bytes / 8;
        let mut value = [0; 8];
        // SAFETY: `at` checks the size of the port, at most 8 bytes.
        unsafe { std::ptr::copy_nonoverlapping(self.at(port, bytes), value.as_mut_ptr(), bytes) }
        u64::from_le_bytes(value)
    }

    #[inline]
    pub(crate) fn set_strobe(&mut self, port: Port, value: u64) {
        let bytes = self.beat_bytes / 8;
        // SAFETY: as in `strobe`.
        unsafe { std::ptr::copy_nonoverlapping(value.to_le_bytes().as_ptr(), self.at(port, bytes), bytes) }
    }
}

/// The shim's functions for one width.
struct Functions {
    new: unsafe extern "C" fn(*mut *mut u8) -> *mut c_void,
    eval: unsafe extern "C" fn(*mut c_void),
    trace: unsafe extern "C" fn(*mut c_void, *mut VcdC),
    delete: unsafe extern "C" fn(*mut c_void),
}

macro_rules! shim {
    ($functions:ident, $new:ident, $eval:ident, $trace:ident, $delete:ident) => {
        extern "C" {
            fn $new(ports: *mut *mut u8) -> *mut c_void;
            fn $eval(card: *mut c_void);
            fn $trace(card: *mut c_void, vcd: *mut VcdC);
            fn $delete(card: *mut c_void);
        }
        static $functions: Functions = Functions { new: $new, eval: $eval, trace: $trace, delete: $delete };
    };
}
#[cfg(card_128)]
shim!(CARD_128, card128_new, card128_eval, card128_trace, card128_delete);
#[cfg(card_256)]
shim!(CARD_256, card256_new, card256_eval, card256_trace, card256_delete);
#[cfg(card_512)]
shim!(CARD_512, card512_new, card512_eval, card512_trace, card512_delete);

/// Data widths, in bits, of the cards that were built: all that the RTL offers, or fewer if
/// `VOLPLANE_CARD_WIDTHS` said so.
pub const CARD_WIDTHS: &[usize] = &[
    #[cfg(card_128)]
    128,
    #[cfg(card_256)]
    256,
    #[cfg(card_512)]
    512,
];

/// A Verilated card.
pub(crate) struct Model {
    pub(crate) ports: Ports,
    functions: &'static Functions,
    card: NonNull<c_void>,
    waveform: Option<Vcd>,
}

// SAFETY: the C++ object and its waveform belong to this value alone, and Verilator ties neither to a
// thread: any thread may use them, one at a time, which `&mut self` ensures.
unsafe impl Send for Model {}

impl Model {
    /// The card of `width` bits; none if it was not built (see `build.rs`).
    pub(crate) fn new(width: usize) -> Option<Self> {
        let functions = match width {
            #[cfg(card_128)]
            128 => &CARD_128,
            #[cfg(card_256)]
            256 => &CARD_256,
            #[cfg(card_512)]
            512 => &CARD_512,
            _ => return None,
        };
        let mut table = [null_mut(); PORTS.len()];
        // SAFETY: the shim fills as many pointers as the list has ports; both come of one list.
        let card = NonNull::new(unsafe { (functions.new)(table.as_mut_ptr()) })?;
        let ports = Ports {
            table,
            beat_bytes: width / 8,
            #[cfg(test)]
            _plain: Vec::new(),
        };
        Some(Self { ports, functions, card, waveform: None })
    }

    /// Lets the outputs follow the inputs and the clock.
    #[inline]
    pub(crate) fn eval(&mut self) {
        // SAFETY: `card` came of `new` and is deleted only by `drop`.
        unsafe { (self.functions.eval)(self.card.as_ptr()) }
    }

    /// Opens a waveform; to be done before the first evaluation.
    pub(crate) fn trace(&mut self, path: &Path) -> std::io::Result<()> {
        let mut waveform = Vcd::default();
        // SAFETY: both objects are alive; the waveform is closed by `drop` before the card goes.
        unsafe { (self.functions.trace)(self.card.as_ptr(), waveform.0) };
        waveform.open(path)?;
        self.waveform = Some(waveform);
        Ok(())
    }

    /// Writes the present state to the waveform, at a time in ns.
    pub(crate) fn dump(&mut self, time_ns: u64) {
        if let Some(waveform) = &mut self.waveform {
            waveform.dump(time_ns);
        }
    }

    /// Writes what is buffered of the waveform.
    pub(crate) fn flush(&mut self) {
        if let Some(waveform) = &mut self.waveform {
            waveform.flush();
        }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.waveform = None;
        // SAFETY: `card` came of `new` and is not used after this.
        unsafe { (self.functions.delete)(self.card.as_ptr()) }
    }
}
