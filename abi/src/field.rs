//! A field of a register or of a command's dword: where it stands, written once.

/// Bits `low` to `low + width − 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    low: u32,
    width: u32,
}

impl Field {
    /// A field; `bits(31, 16)` as specifications write 31:16.
    pub const fn bits(high: u32, low: u32) -> Self {
        assert!(low <= high && high < 64);
        Self { low, width: high - low + 1 }
    }

    /// A field of one bit.
    pub const fn bit(low: u32) -> Self {
        Self::bits(low, low)
    }

    /// Its lowest bit.
    pub const fn low(self) -> u32 {
        self.low
    }

    /// Its bits.
    pub const fn width(self) -> u32 {
        self.width
    }

    /// The largest value it holds.
    pub const fn most(self) -> u64 {
        u64::MAX >> (64 - self.width)
    }

    /// Its bits, in place.
    pub const fn mask(self) -> u64 {
        self.most() << self.low
    }

    /// Its value in a register of 64 bits.
    pub const fn of(self, register: u64) -> u64 {
        register >> self.low & self.most()
    }

    /// Its value in a register of 32 bits.
    pub const fn of32(self, register: u32) -> u32 {
        self.of(register as u64) as u32
    }

    /// A register in which it alone is set.
    ///
    /// # Panics
    /// When the value does not fit.
    pub const fn put(self, value: u64) -> u64 {
        assert!(value <= self.most(), "the value does not fit the field");
        value << self.low
    }

    /// The same in a register of 32 bits.
    ///
    /// # Panics
    /// When the value does not fit, or the field is not of such a register.
    pub const fn put32(self, value: u32) -> u32 {
        assert!(self.low + self.width <= 32, "the field lies beyond 32 bits");
        self.put(value as u64) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::Field;

    #[test]
    fn values_come_back() {
        let field = Field::bits(23, 16);
        assert_eq!((field.low(), field.width(), field.most(), field.mask()), (16, 8, 0xFF, 0xFF_0000));
        assert_eq!(field.of(0x12_CDAB_5678), 0xAB);
        assert_eq!(field.put32(0x5A), 0x5A_0000);
        assert_eq!(Field::bits(63, 0).of(u64::MAX), u64::MAX);
        assert_eq!(Field::bit(37).put(1), 1 << 37);
    }

    #[test]
    #[should_panic(expected = "does not fit")]
    fn a_value_too_large_is_refused() {
        Field::bits(3, 0).put(16);
    }
}
