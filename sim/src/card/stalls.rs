//! Which channels stall in a cycle.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::random;

/// A channel that may stall.
#[derive(Clone, Copy)]
pub(crate) enum Channel {
    /// Host memory takes no read address.
    ReadAddress,
    /// Host memory gives no read data.
    ReadData,
    /// Host memory takes no write address.
    WriteAddress,
    /// Host memory takes no write data.
    WriteData,
    /// Host memory gives no write response.
    WriteResponse,
    /// The host's register access waits on its address.
    HostAddress,
    /// The host's register access waits on its data.
    HostData,
    /// The host takes no answer or response.
    HostResponse,
    /// An SSD's completion waits on its address.
    WindowAddress,
    /// An SSD's completion waits on its data.
    WindowData,
    /// An SSD takes no response.
    WindowResponse,
}

/// Seeded stalls; each channel has a byte of the cycle's random bits.
pub(crate) struct Stalls {
    of_256: u8,
    random: ChaCha8Rng,
    bits: u128,
}

impl Stalls {
    pub(crate) fn new(of_256: u8, seed: u64) -> Self {
        Self { of_256, random: random::fork(seed, "stalls"), bits: u128::MAX }
    }

    /// Draws the next cycle's stalls.
    #[inline]
    pub(crate) fn next(&mut self) {
        if self.of_256 > 0 {
            self.bits = u128::from(self.random.next_u64()) << 64 | u128::from(self.random.next_u64());
        }
    }

    /// Whether a channel may go on in this cycle.
    #[inline]
    pub(crate) fn allow(&self, channel: Channel) -> bool {
        (self.bits >> (channel as u32 * 8)) as u8 >= self.of_256
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_as_asked_and_channels_differ() {
        let mut none = Stalls::new(0, 1);
        let mut some = Stalls::new(64, 1);
        let (mut stalled, mut different) = (0, 0);
        for _ in 0..4000 {
            none.next();
            some.next();
            assert!(none.allow(Channel::ReadAddress) && none.allow(Channel::WindowResponse));
            stalled += u32::from(!some.allow(Channel::WindowResponse));
            different += u32::from(some.allow(Channel::ReadData) != some.allow(Channel::WindowResponse));
        }
        assert!((800..1200).contains(&stalled), "{stalled} of 4000, wanted a quarter");
        assert!(different > 1000);
    }
}
