//! What the thread that reads the socket hands to the thread that clocks the card.
//!
//! Replies to DMA overtake requests: the card goes on while a request waits for it. Both queues are bounded; the reader
//! waits for room, and with it the client. Looking whether there is anything costs the card's thread one load.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::stream::{Message, Sender};
use super::wire::Header;

/// Requests that wait.
const REQUESTS_MAX: usize = 64;
/// Replies that wait: more than are ever asked for.
const REPLIES_MAX: usize = 256;

/// What happened on the socket, but for replies.
pub(super) enum Incoming {
    /// A client is there.
    Connected(Sender),
    /// It asks for something.
    Request(Message),
    /// It sent a header after which nothing can be read any more.
    BadHeader(Header),
    /// It is gone.
    Gone,
    /// The server is to stop.
    Stop,
}

#[derive(Default)]
struct Queues {
    requests: VecDeque<Incoming>,
    replies: VecDeque<Message>,
    /// Nobody takes anything any more.
    closed: bool,
}

#[derive(Default)]
pub(super) struct Inbox {
    queues: Mutex<Queues>,
    news: AtomicBool,
    put: Condvar,
    taken: Condvar,
}

impl Inbox {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a request in when there is room; false when nobody takes it any more.
    pub(super) fn put_request(&self, request: Incoming) -> bool {
        self.put_in(
            |queues| queues.requests.len() < REQUESTS_MAX,
            |queues| queues.requests.push_back(request),
        )
    }

    /// Puts a reply in when there is room; false when nobody takes it any more.
    pub(super) fn put_reply(&self, reply: Message) -> bool {
        self.put_in(|queues| queues.replies.len() < REPLIES_MAX, |queues| queues.replies.push_back(reply))
    }

    fn put_in(&self, has_room: impl Fn(&Queues) -> bool, put: impl FnOnce(&mut Queues)) -> bool {
        let mut queues = self.queues();
        // No deadline of its own: the card's thread takes what is there, or closes the inbox when it ends.
        while !queues.closed && !has_room(&queues) {
            queues = self.taken.wait(queues).unwrap_or_else(PoisonError::into_inner);
        }
        if queues.closed {
            return false;
        }
        put(&mut queues);
        self.news.store(true, Ordering::Release);
        self.put.notify_one();
        true
    }

    /// Whether there is anything.
    #[inline]
    pub(super) fn has_news(&self) -> bool {
        self.news.load(Ordering::Acquire)
    }

    pub(super) fn take_request(&self) -> Option<Incoming> {
        self.take(|queues| queues.requests.pop_front())
    }

    pub(super) fn take_reply(&self) -> Option<Message> {
        self.take(|queues| queues.replies.pop_front())
    }

    fn take<T>(&self, take: impl FnOnce(&mut Queues) -> Option<T>) -> Option<T> {
        let mut queues = self.queues();
        let taken = take(&mut queues);
        let more = !queues.requests.is_empty() || !queues.replies.is_empty();
        self.news.store(more, Ordering::Release);
        if taken.is_some() {
            self.taken.notify_one();
        }
        taken
    }

    /// Waits until there is something, or for `limit`.
    pub(super) fn wait(&self, limit: Duration) {
        let queues = self.queues();
        let empty = |queues: &mut Queues| queues.requests.is_empty() && queues.replies.is_empty();
        drop(self.put.wait_timeout_while(queues, limit, empty).unwrap_or_else(PoisonError::into_inner));
    }

    /// Nobody takes anything any more.
    pub(super) fn close(&self) {
        self.queues().closed = true;
        self.taken.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_inbox_makes_the_reader_wait_and_a_closed_one_lets_it_go() {
        let inbox = Inbox::default();
        assert!(!inbox.has_news() && inbox.take_request().is_none());
        (0..REQUESTS_MAX).for_each(|_| assert!(inbox.put_request(Incoming::Gone)));
        std::thread::scope(|scope| {
            let one_more = scope.spawn(|| inbox.put_request(Incoming::Stop));
            assert!(inbox.has_news() && inbox.take_request().is_some());
            assert!(one_more.join().expect("no panic"), "there was room for it");
            let nobody = scope.spawn(|| inbox.put_request(Incoming::Stop));
            inbox.close();
            assert!(!nobody.join().expect("no panic"), "nobody takes it");
        });
        let left = std::iter::from_fn(|| inbox.take_request()).count();
        assert_eq!(left, REQUESTS_MAX);
        assert!(!inbox.has_news());
        inbox.wait(Duration::from_millis(1));
    }
}
