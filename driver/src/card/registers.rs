//! Typed access to BAR0's registers, over the register map of the ABI.

use std::fmt;
use std::sync::Arc;

use volplane_abi::registers::{self as register, Register};

use super::CardError;
use crate::platform::{AccessError, Bar, Function};

/// A register with the value it had when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisterValue {
    /// Name, offset, use and meaning.
    pub register: &'static Register,
    /// Value.
    pub value: u32,
}

impl fmt::Display for RegisterValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Register { name, offset, doc, .. } = self.register;
        write!(f, "{offset:#05x} {name:<22} {:#010x}  {}", self.value, doc.trim())
    }
}

/// The STATUS register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u32);

impl Status {
    /// Tables and identifiers are initialised.
    pub fn ready(self) -> bool {
        self.0 & register::STATUS_READY != 0
    }

    /// The control ring stopped on a bad doorbell or a failed fetch.
    pub fn control_stopped(self) -> bool {
        self.0 & register::STATUS_CONTROL_STOPPED != 0
    }

    /// Only time can change anything.
    pub fn idle(self) -> bool {
        self.0 & register::STATUS_IDLE != 0
    }
}

/// The register block of a card.
#[derive(Debug)]
pub struct Registers<F> {
    function: Arc<F>,
}

impl<F: Function> Registers<F> {
    pub(crate) fn new(function: Arc<F>) -> Self {
        Self { function }
    }

    /// The function behind it.
    pub fn function(&self) -> &Arc<F> {
        &self.function
    }

    /// Reads the register at an offset of `abi::registers`.
    ///
    /// # Errors
    /// The platform's.
    pub fn read(&self, offset: u32) -> Result<u32, AccessError> {
        self.function.read32(Bar::Bar0, offset.into())
    }

    /// Reads STATUS.
    ///
    /// # Errors
    /// The platform's.
    pub fn status(&self) -> Result<Status, AccessError> {
        status(self.function.as_ref())
    }

    /// Reads every register, in order of offset.
    ///
    /// # Errors
    /// The platform's.
    pub fn read_all(&self) -> Result<Vec<RegisterValue>, AccessError> {
        let read = |register: &'static Register| {
            self.read(register.offset).map(|value| RegisterValue { register, value })
        };
        register::ALL.iter().map(read).collect()
    }

    pub(crate) fn write(&self, offset: u32, value: u32) -> Result<(), AccessError> {
        self.function.write32(Bar::Bar0, offset.into(), value)
    }

    /// Writes the two registers of a 64-bit quantity whose low half is at `offset`.
    pub(crate) fn write64(&self, offset: u32, value: u64) -> Result<(), AccessError> {
        self.write(offset, value as u32)?;
        self.write(offset + 4, (value >> 32) as u32)
    }
}

/// Reads STATUS.
pub(super) fn status<F: Function>(function: &F) -> Result<Status, AccessError> {
    function.read32(Bar::Bar0, register::STATUS.into()).map(Status)
}

/// Refuses what is no card, and a card of another ABI.
pub(super) fn check_identity<F: Function>(function: &F) -> Result<(), CardError> {
    let card = || function.name().to_owned();
    if function.bar_len(Bar::Bar0) < register::BAR0_BYTES {
        return Err(CardError::NotACard { card: card(), identity: 0 });
    }
    let read = |offset: u32| function.read32(Bar::Bar0, offset.into());
    let (low, high) = (read(register::IDENTITY_LOW)?, read(register::IDENTITY_HIGH)?);
    let identity = u64::from(low) | u64::from(high) << 32;
    if identity != register::IDENTITY {
        return Err(CardError::NotACard { card: card(), identity });
    }
    let version = read(register::ABI_VERSION)?;
    let major = register::ABI_VERSION_MAJOR.of32(version) as u16;
    let minor = register::ABI_VERSION_MINOR.of32(version) as u16;
    // Written for any minor of the ABI; at minor 0 no card is too old.
    #[allow(clippy::absurd_extreme_comparisons)]
    if major != register::ABI_MAJOR || minor < register::ABI_MINOR {
        return Err(CardError::AbiVersion { card: card(), major, minor });
    }
    Ok(())
}
