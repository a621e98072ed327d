//! Interrupts by the client's eventfds.
//!
//! A vector with an eventfd has an entry in the card's own table: its message goes to `INTERRUPT_PAGE`, with the vector
//! as data. A vector without one is masked there, and stays pending in the card. What the card wrote before a message
//! is seen before the eventfd is signalled: a vector that was raised behind writes which the client has not
//! acknowledged waits for them, and further messages of it are one with the first.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::PollFlags;

use super::address_space::INTERRUPT_PAGE;
use super::stream::is_ready;

#[derive(Default)]
struct Vector {
    eventfd: Option<OwnedFd>,
    /// Raised behind this write of the card.
    behind: Option<u64>,
}

pub(super) struct Interrupts {
    vectors: Vec<Vector>,
}

impl Interrupts {
    pub(super) fn new(vectors: u16) -> Self {
        Self { vectors: (0..vectors).map(|_| Vector::default()).collect() }
    }

    /// Vectors there are.
    pub(super) fn len(&self) -> usize {
        self.vectors.len()
    }

    /// The vector that a write of the card raises, if it is a message.
    pub(super) fn vector_of(&self, address: u64, data: &[u8]) -> Option<usize> {
        let data = u32::from_le_bytes(data.try_into().ok()?);
        let vector = usize::try_from(data).ok().filter(|&vector| vector < self.vectors.len());
        vector.filter(|_| address == INTERRUPT_PAGE)
    }

    /// Gives a vector an eventfd, or takes it.
    pub(super) fn set(&mut self, vector: usize, eventfd: Option<OwnedFd>) {
        self.vectors[vector] = Vector { eventfd, behind: None };
    }

    /// Whether a vector has an eventfd.
    pub(super) fn is_set(&self, vector: usize) -> bool {
        self.vectors[vector].eventfd.is_some()
    }

    /// Raises a vector that must wait for a write of the card.
    pub(super) fn raise_behind(&mut self, vector: usize, write: u64) {
        self.vectors[vector].behind = Some(write);
    }

    /// Signals vectors that waited, now that all writes before `open` are acknowledged; none: all of them are.
    pub(super) fn release(&mut self, open: Option<u64>) {
        for number in 0..self.vectors.len() {
            let behind = self.vectors[number].behind;
            if behind.is_some_and(|write| open.is_none_or(|open| write < open)) {
                self.vectors[number].behind = None;
                self.signal(number);
            }
        }
    }

    /// Signals a vector's eventfd.
    pub(super) fn signal(&self, vector: usize) {
        let Some(eventfd) = &self.vectors[vector].eventfd else { return };
        // One that is full, or is no eventfd, must not hold the card up: it is signalled already, or never will be.
        if is_ready(eventfd.as_fd(), PollFlags::OUT, &[], Some(Instant::now())) == Ok(true) {
            let _ = rustix::io::write(eventfd, &1u64.to_ne_bytes());
        }
    }

    /// Forgets what waits: the card was reset. Eventfds are the client's, and stay.
    pub(super) fn reset(&mut self) {
        self.vectors.iter_mut().for_each(|vector| vector.behind = None);
    }

    /// Takes all eventfds.
    pub(super) fn clear(&mut self) {
        self.vectors.iter_mut().for_each(|vector| *vector = Vector::default());
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{eventfd, EventfdFlags};
    use rustix::io::Errno;

    use super::*;

    fn taken(fd: &OwnedFd) -> Option<u64> {
        let mut count = [0; 8];
        match rustix::io::read(fd, &mut count) {
            Ok(_) => Some(u64::from_ne_bytes(count)),
            Err(error) => {
                assert_eq!(error, Errno::AGAIN);
                None
            }
        }
    }

    #[test]
    fn a_vector_waits_for_the_writes_before_it() {
        let mut interrupts = Interrupts::new(4);
        let fd = eventfd(0, EventfdFlags::NONBLOCK).expect("an eventfd");
        interrupts.set(2, Some(fd.try_clone().expect("a descriptor")));
        assert!(interrupts.is_set(2) && !interrupts.is_set(1));
        interrupts.signal(2);
        interrupts.signal(1);
        assert_eq!(taken(&fd), Some(1));
        interrupts.raise_behind(2, 5);
        interrupts.release(Some(5));
        assert_eq!(taken(&fd), None, "write 5 is open");
        interrupts.release(Some(6));
        assert_eq!(taken(&fd), Some(1));
        interrupts.raise_behind(2, 7);
        interrupts.reset();
        interrupts.release(None);
        assert_eq!(taken(&fd), None);
    }

    #[test]
    fn what_is_no_message_raises_nothing_and_a_full_eventfd_holds_nobody_up() {
        let mut interrupts = Interrupts::new(4);
        assert_eq!(interrupts.vector_of(INTERRUPT_PAGE, &[3, 0, 0, 0]), Some(3));
        for (address, data) in [
            (INTERRUPT_PAGE + 4, &[3, 0, 0, 0][..]),
            (INTERRUPT_PAGE, &[4, 0, 0, 0]),
            (INTERRUPT_PAGE, &[3, 0, 0, 1]),
            (INTERRUPT_PAGE, &[3, 0]),
            (INTERRUPT_PAGE, &[3; 8]),
        ] {
            assert_eq!(interrupts.vector_of(address, data), None);
        }
        let fd = eventfd(0, EventfdFlags::empty()).expect("an eventfd");
        rustix::io::write(&fd, &(u64::MAX - 1).to_ne_bytes()).expect("full");
        interrupts.set(0, Some(fd));
        interrupts.signal(0);
    }
}
