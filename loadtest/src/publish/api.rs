//! The publishing side: batches at their times, over connections to the management API that are kept.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Deserialize;

use super::ledger::Given;
use super::{Audience, Plan};
use crate::clock::{now_us, sleep};
use crate::tally::{Counts, Times};

/// How long the server has for the answer to a batch: it gives up on one itself after 15 seconds.
const ANSWER: Duration = Duration::from_secs(20);
/// Batches that could not leave so long after the end are withheld.
const OVERTIME_US: u64 = 1_000_000;
const HEADERS_MAX: usize = 32;

/// What is to be published, and which batch is next; shared by the publishers.
pub(super) struct Schedule<'a> {
    pub(super) plan: &'a Plan,
    pub(super) authority: &'a str,
    pub(super) rate: f64,
    pub(super) batch: u64,
    pub(super) total: u64,
    pub(super) start_us: u64,
    pub(super) next: AtomicU64,
}

/// What became of the publications of one publisher, and of all in the end.
#[derive(Debug, Default)]
pub(super) struct Published {
    pub(super) answers: Counts,
    /// By stream: one for `system`, one for each user.
    pub(super) given: Vec<Given>,
    pub(super) taken: u64,
    pub(super) withheld: u64,
    pub(super) subscribers: u64,
    /// Answers that some shard is missing from, so that they count too few subscribers.
    pub(super) late_shards: u64,
    /// From the time when a batch was due to its writing, and from there to its answer.
    pub(super) lateness: Times,
    pub(super) answer_times: Times,
    pub(super) end_us: u64,
}

impl Published {
    pub(super) fn new(streams: usize) -> Self {
        Self { given: vec![Given::default(); streams], ..Self::default() }
    }

    /// Adds another publisher's.
    pub(super) fn merge(&mut self, other: &Self) {
        other.answers.iter().for_each(|(name, n)| *self.answers.entry(name.clone()).or_default() += n);
        self.given.iter_mut().zip(&other.given).for_each(|(mine, theirs)| mine.add(theirs));
        self.taken += other.taken;
        self.withheld += other.withheld;
        self.subscribers += other.subscribers;
        self.late_shards += other.late_shards;
        self.lateness.merge(&other.lateness);
        self.answer_times.merge(&other.answer_times);
        self.end_us = self.end_us.max(other.end_us);
    }

    fn count(&mut self, answer: &str, n: u64) {
        *self.answers.entry(answer.to_owned()).or_default() += n;
    }

    /// Takes the answer to the publication of this number.
    fn take(&mut self, number: u64, item: &Item) {
        let stream = (number % self.given.len() as u64) as usize;
        match (item.status, item.offset) {
            (200, Some(offset)) if item.duplicate != Some(true) => {
                self.count("200", 1);
                self.taken += 1;
                self.subscribers += item.subscribers.unwrap_or(0);
                self.late_shards += u64::from(item.late_shards.unwrap_or(0) > 0);
                self.given[stream].take(offset, number);
            }
            (status, _) => {
                let reason = item.reason.as_deref().unwrap_or(if status == 200 { "duplicate" } else { "" });
                self.count(format!("{status} {reason}").trim_end(), 1);
                self.given[stream].uncertain += u64::from(status >= 500);
            }
        }
    }

    /// A whole batch was answered otherwise, or not at all.
    fn fail(&mut self, numbers: std::ops::Range<u64>, what: &str, uncertain: bool) {
        self.count(what, numbers.end - numbers.start);
        let streams = self.given.len() as u64;
        numbers.for_each(|number| self.given[(number % streams) as usize].uncertain += u64::from(uncertain));
    }
}

/// The answer to a batch.
#[derive(Deserialize)]
struct Answer {
    results: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    status: u16,
    reason: Option<String>,
    offset: Option<u64>,
    duplicate: Option<bool>,
    subscribers: Option<u64>,
    late_shards: Option<u64>,
}

impl Schedule<'_> {
    /// Publishes batch after batch, as a publisher among others, until there are no more.
    pub(super) fn publish(&self) -> Published {
        let mut published = Published::new(self.plan.streams());
        let mut line = Line::new(self.authority);
        let deadline_us = self.start_us + (self.total as f64 * 1e6 / self.rate) as u64 + OVERTIME_US;
        loop {
            let first = self.next.fetch_add(1, Ordering::Relaxed) * self.batch;
            if first >= self.total {
                return published;
            }
            let numbers = first..(first + self.batch).min(self.total);
            let due_us = self.start_us + (first as f64 * 1e6 / self.rate) as u64;
            while let Some(rest) = due_us.checked_sub(now_us()).filter(|&rest| rest > 0) {
                sleep(rest);
            }
            let written_us = now_us();
            if written_us > deadline_us {
                published.withheld += numbers.end - numbers.start;
                continue;
            }
            published.lateness.record(written_us - due_us);
            let answer = line.post(&body(self.plan.to, self.plan.clients, numbers.clone(), written_us));
            published.end_us = now_us();
            published.answer_times.record(published.end_us - written_us);
            match answer {
                Ok((200, answer)) => match serde_json::from_slice::<Answer>(&answer) {
                    Ok(Answer { results }) if results.len() as u64 == numbers.end - numbers.start => {
                        numbers.zip(&results).for_each(|(number, item)| published.take(number, item));
                    }
                    _ => published.fail(numbers, "unreadable", true),
                },
                Ok((status, _)) => published.fail(numbers, &format!("batch {status}"), status >= 500),
                Err(fault) => {
                    line = Line::new(self.authority);
                    published.fail(numbers, &fault, true);
                }
            }
        }
    }
}

/// A batch of these numbers, written now: `data` is the number and the time.
fn body(to: Audience, clients: u32, numbers: std::ops::Range<u64>, now_us: u64) -> String {
    let items: Vec<String> = numbers
        .map(|number| {
            let channel = match to {
                Audience::System => "system:load".to_owned(),
                Audience::Users => format!("user:{}:operation:1", number % u64::from(clients)),
            };
            format!(r#"{{"channel":"{channel}","data":[{number},{now_us}]}}"#)
        })
        .collect();
    format!("[{}]", items.join(","))
}

/// A connection to the management API, made when it is needed and kept.
struct Line<'a> {
    authority: &'a str,
    stream: Option<TcpStream>,
    read: Vec<u8>,
}

impl<'a> Line<'a> {
    fn new(authority: &'a str) -> Self {
        Self { authority, stream: None, read: Vec::new() }
    }

    /// Asks, and waits for the status and the body of the answer.
    fn post(&mut self, body: &str) -> Result<(u16, Vec<u8>), String> {
        self.exchange(body).map_err(|error| format!("connection: {}", error.kind()))
    }

    fn exchange(&mut self, body: &str) -> std::io::Result<(u16, Vec<u8>)> {
        let request = format!(
            "POST /api/v1/publish HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.authority,
            body.len()
        );
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let stream = TcpStream::connect(self.authority)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(ANSWER))?;
                none.insert(stream)
            }
        };
        stream.write_all(request.as_bytes())?;
        let mut chunk = [0; 16 << 10];
        loop {
            if let Some((status, head, length)) = parse_head(&self.read)?
                && let Some(body) = self.read.get(head..head + length)
            {
                let body = body.to_vec();
                self.read.drain(..head + length);
                return Ok((status, body));
            }
            match stream.read(&mut chunk)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                n => self.read.extend_from_slice(&chunk[..n]),
            }
        }
    }
}

/// Status, length of the head and length of the body, once the head is whole.
fn parse_head(bytes: &[u8]) -> std::io::Result<Option<(u16, usize, usize)>> {
    let invalid = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(end) = head.parse(bytes).map_err(|_| invalid())? else {
        return Ok(None);
    };
    let length = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse().ok());
    Ok(Some((head.code.ok_or_else(invalid)?, end, length.ok_or_else(invalid)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_name_the_channel_of_each_number() {
        assert_eq!(body(Audience::System, 2, 4..5, 9), r#"[{"channel":"system:load","data":[4,9]}]"#);
        assert_eq!(
            body(Audience::Users, 2, 2..4, 9),
            r#"[{"channel":"user:0:operation:1","data":[2,9]},{"channel":"user:1:operation:1","data":[3,9]}]"#
        );
    }

    #[test]
    fn answers_are_counted_by_status_and_what_is_unsure_is_remembered() {
        let answer = r#"{"published":1,"failed":2,"results":[
            {"status":200,"id":"a-1","offset":1,"duplicate":false,"shards":2,"subscribers":3,"late_shards":1},
            {"status":429,"reason":"rate_limited","detail":"x"},
            {"status":503,"reason":"unanswered","detail":"x"},
            {"status":200,"id":"a-1","offset":1,"duplicate":true,"shards":2,"subscribers":3}]}"#;
        let answer: Answer = serde_json::from_str(answer).expect("an answer");
        let mut published = Published::new(2);
        (0..).zip(&answer.results).for_each(|(number, item)| published.take(number, item));
        published.fail(4..6, "batch 413", false);
        published.fail(6..7, "connection: timed out", true);
        let mut whole = Published::new(2);
        whole.merge(&published);
        assert_eq!((whole.taken, whole.subscribers, whole.late_shards), (1, 3, 1));
        assert_eq!(whole.given.iter().map(|given| given.uncertain).collect::<Vec<_>>(), [2, 0]);
        let counts = [
            ("200", 1),
            ("200 duplicate", 1),
            ("429 rate_limited", 1),
            ("503 unanswered", 1),
            ("batch 413", 2),
            ("connection: timed out", 1),
        ];
        assert_eq!(whole.answers, counts.map(|(name, n)| (name.to_owned(), n)).into());
    }

    #[test]
    fn an_answer_is_read_when_its_head_is_whole_and_says_how_long_it_is() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{";
        assert_eq!(parse_head(answer).expect("a head"), Some((200, 39, 12)));
        assert_eq!(parse_head(&answer[..20]).expect("a part"), None);
        assert!(parse_head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
