//! Memories: block RAM and LUT RAM with one write and one read port.
//!
//! The depth is a constructor argument, not a type: addresses are 16 bits wide on the port and the
//! upper ones are ignored. Contents survive reset. A read of the address that is written in the same
//! cycle returns either value; users never rely on it.

use rust_hdl::prelude::*;

/// Block RAM, read latency 2: the RAM and its output register. No enable: it reads every cycle.
#[derive(Clone, Debug, LogicBlock)]
pub struct BlockRam<T: Synth> {
    pub clock: Signal<In, Clock>,
    pub write: Signal<In, bool>,
    pub write_address: Signal<In, Bits<16>>,
    pub write_data: Signal<In, T>,
    pub read_address: Signal<In, Bits<16>>,
    pub read_data: Signal<Out, T>,
    _address_bits: usize,
}

impl<T: Synth> BlockRam<T> {
    /// A memory of 2^`address_bits` words.
    pub fn new(address_bits: usize) -> Self {
        assert!((1..=16).contains(&address_bits), "RAM of 2^{address_bits} words");
        Self {
            clock: Default::default(),
            write: Default::default(),
            write_address: Default::default(),
            write_data: Default::default(),
            read_address: Default::default(),
            read_data: Default::default(),
            _address_bits: address_bits,
        }
    }
}

impl<T: Synth> Logic for BlockRam<T> {
    fn update(&mut self) {}

    fn connect(&mut self) {
        self.read_data.connect();
    }

    fn hdl(&self) -> Verilog {
        Verilog::Custom(format!(
            "\
(* ram_style = \"block\", no_rw_check *) reg [{data}:0] mem [0:{last}];
reg [{data}:0] fetched;
always @(posedge clock) begin
    if (write) mem[write_address[{address}:0]] <= write_data;
end
always @(posedge clock) begin
    fetched <= mem[read_address[{address}:0]];
    read_data <= fetched;
end
",
            data = T::BITS - 1,
            last = (1usize << self._address_bits) - 1,
            address = self._address_bits - 1,
        ))
    }
}

/// LUT RAM, read latency 1: an asynchronous read into the output register.
#[derive(Clone, Debug, LogicBlock)]
pub struct LutRam<T: Synth> {
    pub clock: Signal<In, Clock>,
    pub write: Signal<In, bool>,
    pub write_address: Signal<In, Bits<16>>,
    pub write_data: Signal<In, T>,
    pub read_address: Signal<In, Bits<16>>,
    pub read_data: Signal<Out, T>,
    _address_bits: usize,
}

impl<T: Synth> LutRam<T> {
    /// A memory of 2^`address_bits` words.
    pub fn new(address_bits: usize) -> Self {
        assert!((1..=10).contains(&address_bits), "LUT RAM of 2^{address_bits} words");
        Self {
            clock: Default::default(),
            write: Default::default(),
            write_address: Default::default(),
            write_data: Default::default(),
            read_address: Default::default(),
            read_data: Default::default(),
            _address_bits: address_bits,
        }
    }
}

impl<T: Synth> Logic for LutRam<T> {
    fn update(&mut self) {}

    fn connect(&mut self) {
        self.read_data.connect();
    }

    fn hdl(&self) -> Verilog {
        Verilog::Custom(format!(
            "\
(* ram_style = \"distributed\", no_rw_check *) reg [{data}:0] mem [0:{last}];
always @(posedge clock) begin
    if (write) mem[write_address[{address}:0]] <= write_data;
end
always @(posedge clock) begin
    read_data <= mem[read_address[{address}:0]];
end
",
            data = T::BITS - 1,
            last = (1usize << self._address_bits) - 1,
            address = self._address_bits - 1,
        ))
    }
}

/// The storage of a FIFO: written like the others, read into the output register when `read` is set;
/// where it was made so, `pass` puts `write_data` there in place of what the memory holds.
#[derive(Clone, Debug, LogicBlock)]
pub struct FifoRam<T: Synth> {
    pub clock: Signal<In, Clock>,
    pub write: Signal<In, bool>,
    pub write_address: Signal<In, Bits<16>>,
    pub write_data: Signal<In, T>,
    pub read: Signal<In, bool>,
    pub pass: Signal<In, bool>,
    pub read_address: Signal<In, Bits<16>>,
    pub read_data: Signal<Out, T>,
    _address_bits: usize,
    _style: &'static str,
    _passes: bool,
}

impl<T: Synth> FifoRam<T> {
    /// A memory of 2^`address_bits` words, in block RAM or in LUTs.
    pub fn new(address_bits: usize, block: bool, passes: bool) -> Self {
        assert!((1..=16).contains(&address_bits), "FIFO of 2^{address_bits} words");
        Self {
            clock: Default::default(),
            write: Default::default(),
            write_address: Default::default(),
            write_data: Default::default(),
            read: Default::default(),
            pass: Default::default(),
            read_address: Default::default(),
            read_data: Default::default(),
            _address_bits: address_bits,
            _style: if block { "block" } else { "distributed" },
            _passes: passes,
        }
    }
}

impl<T: Synth> Logic for FifoRam<T> {
    fn update(&mut self) {}

    fn connect(&mut self) {
        self.read_data.connect();
    }

    fn hdl(&self) -> Verilog {
        Verilog::Custom(format!(
            "\
(* ram_style = \"{style}\", no_rw_check *) reg [{data}:0] mem [0:{last}];
always @(posedge clock) begin
    if (write) mem[write_address[{address}:0]] <= write_data;
end
always @(posedge clock) begin
    if (read) read_data <= {source};
end
",
            style = self._style,
            source = if self._passes {
                format!("pass ? write_data : mem[read_address[{}:0]]", self._address_bits - 1)
            } else {
                format!("mem[read_address[{}:0]]", self._address_bits - 1)
            },
            data = T::BITS - 1,
            last = (1usize << self._address_bits) - 1,
            address = self._address_bits - 1,
        ))
    }
}
