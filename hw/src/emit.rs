//! Emits the core's Verilog, with the hash of its own text in the identity registers.

use rust_hdl::prelude::*;

use crate::sizes::Sizes;
use crate::top::Top;

fn text<const W: usize, const B: usize>(sizes: &Sizes, build_hash: u64) -> String {
    let mut top = Top::<W, B>::new(sizes, build_hash);
    top.connect_all();
    generate_verilog(&top)
}

/// FNV-1a: the same for the same text whatever compiled this, unlike the standard library's hasher.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

fn hashed<const W: usize, const B: usize>(sizes: &Sizes) -> String {
    let build_hash = fnv1a(text::<W, B>(sizes, 0).as_bytes());
    text::<W, B>(sizes, build_hash)
}

/// The core's Verilog at a data width of 128, 256 or 512 bits; its top module is `top`.
///
/// # Panics
/// On any other width, and when RustHDL's checks find an open signal.
pub fn emit_sized(width: usize, sizes: &Sizes) -> String {
    let sizes = *sizes;
    // The core is a large value that RustHDL builds on the stack.
    let emitter = std::thread::Builder::new().stack_size(64 << 20).spawn(move || match width {
        128 => hashed::<128, 16>(&sizes),
        256 => hashed::<256, 32>(&sizes),
        512 => hashed::<512, 64>(&sizes),
        _ => panic!("no core of {width} bits"),
    });
    match emitter.map(std::thread::JoinHandle::join) {
        Ok(Ok(verilog)) => verilog,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(error) => panic!("no thread to emit in: {error}"),
    }
}

/// The core at the default sizes.
pub fn emit(width: usize) -> String {
    emit_sized(width, &Sizes::DEFAULT)
}

#[cfg(test)]
mod tests {
    /// Values of the function's own test suite.
    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(super::fnv1a(b""), 0xCBF2_9CE4_8422_2325);
        assert_eq!(super::fnv1a(b"a"), 0xAF63_DC4C_8601_EC8C);
        assert_eq!(super::fnv1a(b"foobar"), 0x8594_4171_F739_67E8);
    }
}
