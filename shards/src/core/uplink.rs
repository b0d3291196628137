//! The two halves of a member that listens over server-sent events: the stream that it hears, and the requests in which it
//! speaks. The requests may overtake each other, so that events with numbers are put into their order here.

use std::collections::BTreeMap;

use ::core::net::IpAddr;

use super::event::{ClientError, ClientEvent};
use super::http::Body;
use super::ids::ConnKey;
use super::time::Micros;

/// Events of one member that wait for earlier ones at most.
const WAITING_MAX: usize = 64;
/// How long they wait.
const WAIT: Micros = Micros::from_s(5);

/// What a connection has that hears its events as a stream over plain HTTP.
#[derive(Debug)]
pub(super) struct Stream {
    /// Whether it comes in chunks; otherwise it ends with the connection.
    pub(super) chunked: bool,
    /// When it was last sent a comment, so that nothing between takes it for dead.
    pub(super) pinged: Micros,
    /// What its member posts.
    pub(super) uplink: Uplink,
    /// The bodies of its member's that are being read.
    pub(super) bodies: Bodies,
}

/// Bodies that are being read.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    /// How many.
    pub(super) count: usize,
    /// What has come of them.
    pub(super) bytes: usize,
}

impl Stream {
    /// One that begins now, of a member whose last number was this.
    pub(super) fn new(now: Micros, chunked: bool, taken: u64) -> Self {
        Self {
            chunked,
            pinged: now,
            uplink: Uplink { taken, ..Uplink::default() },
            bodies: Bodies::default(),
        }
    }
}

/// An event that was posted, or why it is none.
#[derive(Debug)]
pub(super) struct Posted {
    /// What it was parsed into.
    pub(super) event: Result<ClientEvent, ClientError>,
    /// Its audio, where it brings some.
    pub(super) audio: Vec<u8>,
    /// How long it was.
    pub(super) bytes: usize,
}

/// What becomes of an event with a number.
#[derive(Debug)]
pub(super) enum Offer {
    /// It is its turn.
    Now(Posted),
    /// It was taken before.
    Duplicate,
    /// It waits for earlier ones.
    Waits,
    /// It does so already.
    WaitsAlready,
    /// Too many wait already, or too much.
    Full,
}

/// Puts posted events into the order of their numbers, which count from 1 without a gap.
#[derive(Debug, Default)]
pub(super) struct Uplink {
    /// The number of the last event that was taken.
    pub(super) taken: u64,
    waiting: BTreeMap<u64, Posted>,
    /// Until when the first of those that wait does so.
    until: Micros,
}

impl Uplink {
    /// Takes an event with a number; all that wait have so many bytes at most.
    pub(super) fn offer(&mut self, now: Micros, seq: u64, posted: Posted, bytes_max: usize) -> Offer {
        if seq <= self.taken {
            return Offer::Duplicate;
        }
        if self.waiting.contains_key(&seq) {
            return Offer::WaitsAlready;
        }
        if seq == self.taken + 1 {
            self.taken = seq;
            return Offer::Now(posted);
        }
        if self.waiting.len() == WAITING_MAX || self.bytes() + posted.bytes > bytes_max {
            return Offer::Full;
        }
        if self.waiting.is_empty() {
            self.until = now + WAIT;
        }
        self.waiting.insert(seq, posted);
        Offer::Waits
    }

    /// The next event that waited and has its turn now.
    pub(super) fn next(&mut self, now: Micros) -> Option<Posted> {
        let entry = self.waiting.first_entry().filter(|first| *first.key() == self.taken + 1)?;
        self.taken += 1;
        let posted = entry.remove();
        self.until = now + WAIT;
        Some(posted)
    }

    /// When those that wait are taken all the same.
    pub(super) fn deadline(&self) -> Option<Micros> {
        (!self.waiting.is_empty()).then_some(self.until)
    }

    /// Gives up on what is missing before the first that waits: the numbers, the first and the last.
    pub(super) fn skip(&mut self) -> Option<(u64, u64)> {
        let first = *self.waiting.first_key_value()?.0;
        let missing = (self.taken + 1, first - 1);
        self.taken = missing.1;
        Some(missing)
    }

    /// Bytes of what waits.
    pub(super) fn bytes(&self) -> usize {
        self.waiting.values().map(|posted| posted.bytes).sum()
    }
}

/// A request with a body, from its head to the next.
#[derive(Debug)]
pub(super) struct Post {
    /// How far it is.
    pub(super) stage: PostStage,
    /// Where its member listens.
    pub(super) listener: ConnKey,
    /// The body so far.
    pub(super) bytes: Vec<u8>,
    /// What has come behind it: the next request.
    pub(super) rest: Vec<u8>,
    /// When it has to be further.
    pub(super) deadline: Micros,
    /// Whether another request may follow.
    pub(super) keep: bool,
    /// The page that may read the answer.
    pub(super) origin: Option<Box<str>>,
    /// Whether the peer is a process of this host.
    pub(super) local: bool,
    /// The proxy between, if one has named the client; the next request may be another client's.
    pub(super) via: Option<IpAddr>,
}

/// How far a request with a body is.
#[derive(Debug)]
pub(super) enum PostStage {
    /// Its body is read.
    Body(Body),
    /// Its answer is in the lane.
    Answering,
    /// It was answered; another may follow.
    Idle,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posted(seq: u64) -> Posted {
        let event = Err(ClientError::new("test", seq.to_string()));
        Posted { event, audio: Vec::new(), bytes: 10 }
    }

    /// Offers these; what was taken, in order.
    fn taken(uplink: &mut Uplink, seqs: &[u64]) -> Vec<u64> {
        let mut out = Vec::new();
        let mut note =
            |posted: Posted| out.push(posted.event.expect_err("a test's").message.parse().expect("a number"));
        for &seq in seqs {
            if let Offer::Now(first) = uplink.offer(Micros(1), seq, posted(seq), usize::MAX) {
                note(first);
                while let Some(next) = uplink.next(Micros(1)) {
                    note(next);
                }
            }
        }
        out
    }

    #[test]
    fn numbers_are_taken_in_order_and_once() {
        let mut uplink = Uplink::default();
        assert_eq!(taken(&mut uplink, &[1, 3, 5, 4, 4, 1]), [1]);
        assert_eq!((uplink.taken, uplink.bytes()), (1, 30));
        assert_eq!(taken(&mut uplink, &[2, 2, 6]), [2, 3, 4, 5, 6]);
        assert_eq!((uplink.taken, uplink.bytes(), uplink.deadline()), (6, 0, None));
    }

    #[test]
    fn a_gap_is_given_up_and_named() {
        let mut uplink = Uplink::default();
        assert_eq!(taken(&mut uplink, &[3, 6]), [0_u64; 0]);
        assert_eq!(uplink.deadline(), Some(Micros(1) + WAIT));
        assert_eq!(uplink.skip(), Some((1, 2)));
        assert!(uplink.next(Micros(9)).is_some());
        assert!(uplink.next(Micros(9)).is_none());
        assert_eq!(uplink.deadline(), Some(Micros(9) + WAIT), "the next gap has its own time");
        assert_eq!(uplink.skip(), Some((4, 5)));
        assert_eq!(taken(&mut uplink, &[1, 5]), [0_u64; 0]);
    }

    #[test]
    fn only_so_many_wait() {
        let mut uplink = Uplink::default();
        let most = WAITING_MAX as u64;
        assert_eq!(taken(&mut uplink, &(2..most + 2).collect::<Vec<_>>()), [0_u64; 0]);
        assert!(matches!(uplink.offer(Micros(1), most + 2, posted(0), usize::MAX), Offer::Full));
        assert_eq!(taken(&mut uplink, &[1]).len(), WAITING_MAX + 1);
        let mut uplink = Uplink::default();
        let mut offer = |seq| uplink.offer(Micros(1), seq, posted(seq), 25);
        assert!(matches!(offer(3), Offer::Waits) && matches!(offer(4), Offer::Waits));
        assert!(matches!(offer(3), Offer::WaitsAlready), "it is not there twice");
        assert!(
            matches!(offer(5), Offer::Full) && matches!(offer(1), Offer::Now(_)),
            "whose turn it is waits for no room"
        );
    }
}
