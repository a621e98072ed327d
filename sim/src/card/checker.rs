//! The AXI rules that the card must keep (AMBA AXI, chapter A3), and those of its own contract.
//!
//! A channel that is valid stays so, with the same payload, until it is ready. Bursts are INCR, of
//! full-width beats, at most 128 bytes, and cross no 4 KiB border; a partial write is a single beat.

use crate::bus::BURST_BYTES_MAX;

/// Errors kept.
const ERRORS_KEPT: usize = 64;

/// Most words of a channel's payload: the data of a beat, its strobes and flags.
const PAYLOAD_WORDS: usize = 10;

/// A channel's payload, to be compared.
pub(crate) type Payload = [u64; PAYLOAD_WORDS];

/// What a channel held that was valid and not yet ready.
#[derive(Default)]
pub(crate) struct Held {
    payload: Option<Payload>,
}

impl Held {
    /// Looks at one cycle of a channel; `payload` is asked for only when it matters.
    #[inline]
    pub(crate) fn check(
        &mut self,
        errors: &mut Errors,
        channel: &'static str,
        valid: bool,
        ready: bool,
        payload: impl FnOnce() -> Payload,
    ) {
        if self.payload.is_none() && (!valid || ready) {
            return;
        }
        self.check_held(errors, channel, valid, ready, payload);
    }

    #[cold]
    fn check_held(
        &mut self,
        errors: &mut Errors,
        channel: &'static str,
        valid: bool,
        ready: bool,
        payload: impl FnOnce() -> Payload,
    ) {
        let now = valid.then(payload);
        match (self.payload, now) {
            (Some(_), None) => errors.push(channel, "valid went away before ready"),
            (Some(before), Some(now)) if before != now => {
                errors.push(channel, "the payload changed before ready");
            }
            _ => {}
        }
        self.payload = now.filter(|_| !ready);
    }
}

/// An address channel's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Burst {
    pub(crate) address: u64,
    /// Beats − 1.
    pub(crate) len: u8,
    /// log2 of the bytes of a beat.
    pub(crate) size: u8,
    /// 1: INCR.
    pub(crate) kind: u8,
}

impl Burst {
    pub(crate) fn beats(&self) -> usize {
        usize::from(self.len) + 1
    }

    /// Address of the first byte of its first beat.
    pub(crate) fn base(&self, beat_bytes: usize) -> u64 {
        self.address - self.address % beat_bytes as u64
    }

    pub(crate) fn payload(&self) -> Payload {
        let mut payload = Payload::default();
        payload[0] = self.address;
        payload[1] = u64::from(self.len) | u64::from(self.size) << 8 | u64::from(self.kind) << 16;
        payload
    }
}

/// What the card did wrong.
#[derive(Default)]
pub(crate) struct Errors {
    list: Vec<String>,
    /// The present cycle, for messages.
    pub(crate) cycle: u64,
}

impl Errors {
    #[cold]
    pub(crate) fn push(&mut self, channel: &str, what: impl std::fmt::Display) {
        if self.list.len() < ERRORS_KEPT {
            self.list.push(format!("cycle {}: {channel}: {what}", self.cycle));
        }
    }

    pub(crate) fn list(&self) -> &[String] {
        &self.list
    }

    /// Checks a burst of the card at a beat of `beat_bytes`.
    pub(crate) fn check_burst(&mut self, channel: &'static str, burst: Burst, beat_bytes: usize) {
        let Burst { address, size, kind, .. } = burst;
        let bytes = burst.beats() * beat_bytes;
        let offset = address as usize % beat_bytes;
        if kind != 1 {
            self.push(channel, format_args!("burst type {kind} at {address:#x} is not INCR"));
        }
        if 1usize.checked_shl(u32::from(size)) != Some(beat_bytes) {
            self.push(channel, format_args!("beats of 2^{size} bytes at {address:#x} are not full"));
        }
        if bytes > BURST_BYTES_MAX {
            self.push(channel, format_args!("{bytes} bytes at {address:#x} are too long"));
        }
        if burst.len > 0 && offset != 0 {
            self.push(channel, format_args!("burst at {address:#x} is not aligned to its beats"));
        }
        if address as usize % 4096 - offset + bytes > 4096 {
            self.push(channel, format_args!("{bytes} bytes at {address:#x} cross a 4 KiB border"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_valid_channel_stays_until_ready() {
        let run = |cycles: &[(bool, bool, u64)]| {
            let (mut held, mut errors) = (Held::default(), Errors::default());
            for &(valid, ready, value) in cycles {
                held.check(&mut errors, "x", valid, ready, || [value; PAYLOAD_WORDS]);
                errors.cycle += 1;
            }
            errors.list
        };
        let (t, f) = (true, false);
        assert!(
            run(&[(f, t, 0), (t, t, 1), (t, t, 2), (t, f, 3), (t, f, 3), (t, t, 3), (f, f, 0)]).is_empty()
        );
        assert_eq!(run(&[(t, f, 1), (f, f, 1)]), ["cycle 1: x: valid went away before ready"]);
        assert_eq!(run(&[(t, f, 1), (t, t, 2), (f, f, 0)]), ["cycle 1: x: the payload changed before ready"]);
    }

    #[test]
    fn bursts_follow_the_contract() {
        let broken = |address, len, size, kind| {
            let mut errors = Errors::default();
            errors.check_burst("aw", Burst { address, len, size, kind }, 16);
            errors.list.len()
        };
        assert_eq!(broken(0x1_0000_0F80, 7, 4, 1), 0);
        assert_eq!(broken(0xFF4, 0, 4, 1), 0, "a single beat may begin within the beat");
        assert_eq!(broken(0x1000, 7, 4, 2), 1, "WRAP");
        assert_eq!(broken(0x1000, 7, 3, 1), 1, "narrow");
        assert_eq!(broken(0x1000, 8, 4, 1), 1, "144 bytes");
        assert_eq!(broken(0x1008, 1, 4, 1), 1, "unaligned");
        assert_eq!(broken(0x0F90, 7, 4, 1), 1, "4 KiB border");
    }
}
