//! How a record of the ABI is described, and what is made of the description.
//!
//! Each record is written once, as a macro that hands its fields to another macro
//! (`vd_entry!(packed_record)` here, `vd_entry!(logic_record)` in `hw`). The first field stands in
//! the lowest bits; bytes are little-endian. Nothing else in the workspace writes a bit position.

/// One field of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name, as in the Rust accessor and in the RTL.
    pub name: &'static str,
    /// Width in bits.
    pub width: usize,
    /// What it means, for the generated documents.
    pub doc: &'static str,
}

/// The bit at which the field at `index` begins.
pub const fn offset_of(fields: &[Field], index: usize) -> usize {
    let mut offset = 0;
    let mut i = 0;
    while i < index {
        offset += fields[i].width;
        i += 1;
    }
    offset
}

/// The index of the field called `name`; a misspelt name fails the build.
pub const fn index_of(fields: &[Field], name: &str) -> usize {
    let mut i = 0;
    while i < fields.len() {
        if same(fields[i].name.as_bytes(), name.as_bytes()) {
            return i;
        }
        i += 1;
    }
    panic!("no such field");
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// Reads `width` (at most 64) bits at bit `offset`.
#[inline]
pub const fn get(bytes: &[u8], offset: usize, width: usize) -> u64 {
    let (first, shift) = (offset / 8, offset % 8);
    // At most nine bytes hold them. The count is known where the place is, so that the loop becomes a load.
    let count = (shift + width).div_ceil(8);
    let mut value = 0u128;
    let mut byte = 0;
    while byte < count {
        value |= (bytes[first + byte] as u128) << (8 * byte);
        byte += 1;
    }
    let mask = if width < 64 { (1u64 << width) - 1 } else { u64::MAX };
    (value >> shift) as u64 & mask
}

/// Writes the low `width` (at most 64) bits of `value` at bit `offset`.
#[inline]
pub fn set(bytes: &mut [u8], offset: usize, width: usize, value: u64) {
    let mut done = 0;
    while done < width {
        let bit = offset + done;
        let (byte, shift) = (bit / 8, bit % 8);
        let take = (8 - shift).min(width - done);
        let mask = ((1u16 << take) - 1) as u8;
        let part = (value >> done) as u8 & mask;
        bytes[byte] = (bytes[byte] & !(mask << shift)) | (part << shift);
        done += take;
    }
}

/// Makes a byte-exact struct with typed accessors of a record's description.
#[macro_export]
macro_rules! packed_record {
    (
        $(#[doc = $record_doc:literal])*
        $name:ident : $bits:literal {
            $( $(#[doc = $doc:literal])* $field:ident / $set:ident : $ty:ident = $width:literal, )*
        }
    ) => {
        $(#[doc = $record_doc])*
        #[repr(transparent)]
        #[derive(
            Clone, Copy, PartialEq, Eq,
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable,
            zerocopy::KnownLayout, zerocopy::Unaligned,
        )]
        pub struct $name(pub [u8; $bits / 8]);

        impl $name {
            /// Size in bytes.
            pub const BYTES: usize = $bits / 8;
            /// Name of the record.
            pub const NAME: &'static str = stringify!($name);
            /// What the record is.
            pub const DOC: &'static str = concat!($($record_doc, "\n",)*);
            /// Its fields, lowest bits first.
            pub const FIELDS: &'static [$crate::layout::Field] = &[
                $( $crate::layout::Field {
                    name: stringify!($field),
                    width: $width,
                    doc: concat!($($doc, "\n",)*),
                }, )*
            ];
            const _FILLED: () = assert!(
                $crate::layout::offset_of(Self::FIELDS, Self::FIELDS.len()) == $bits,
                "the fields do not fill the record"
            );

            $(
                $(#[doc = $doc])*
                #[inline]
                pub const fn $field(&self) -> $ty {
                    const OFFSET: usize = $crate::layout::offset_of(
                        $name::FIELDS,
                        $crate::layout::index_of($name::FIELDS, stringify!($field)),
                    );
                    $crate::layout::get(&self.0, OFFSET, $width) as $ty
                }

                #[doc = concat!("Sets `", stringify!($field), "`; bits beyond its width are dropped.")]
                #[inline]
                #[must_use]
                pub fn $set(mut self, value: $ty) -> Self {
                    const OFFSET: usize = $crate::layout::offset_of(
                        $name::FIELDS,
                        $crate::layout::index_of($name::FIELDS, stringify!($field)),
                    );
                    $crate::layout::set(&mut self.0, OFFSET, $width, u64::from(value));
                    self
                }
            )*
        }

        impl Default for $name {
            fn default() -> Self {
                let () = Self::_FILLED;
                Self([0; $bits / 8])
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.debug_struct(stringify!($name))
                    $( .field(stringify!($field), &self.$field()) )*
                    .finish()
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_across_bytes_round_trip() {
        let mut bytes = [0xFFu8; 16];
        set(&mut bytes, 5, 64, 0x0123_4567_89AB_CDEF);
        assert_eq!(get(&bytes, 5, 64), 0x0123_4567_89AB_CDEF);
        assert_eq!(bytes[0] & 0x1F, 0x1F, "bits below stay");
        assert_eq!(get(&bytes, 69, 59), (1 << 59) - 1, "bits above stay");
    }
}
