//! What the server has said of dropped messages to one listener, and what came of asking for them.

use serde::Serialize;

use super::events::Line;

/// News of drops, over many listeners. Every one is answered in one of three ways: its messages can be told again, they can't
/// and the server says so, or they had no number in the room's log.
#[derive(Debug, Default, Serialize)]
pub(super) struct Drops {
    /// How many such news there were, and of how many messages.
    pub(super) news: u64,
    pub(super) messages: u64,
    /// News whose messages were told again, from the room's history; and these messages.
    pub(super) recovered: u64,
    pub(super) recovered_messages: u64,
    /// News whose messages the server could not all tell again, and said so; and these messages.
    pub(super) lost: u64,
    pub(super) lost_messages: u64,
    /// News of nothing that the room numbers.
    pub(super) unnumbered: u64,
    /// News that nobody answered.
    pub(super) unanswered: u64,
    /// Messages that came late although no news had named them.
    pub(super) unnamed: u64,
}

impl Drops {
    /// Adds another thread's.
    pub(super) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.news, other.news),
            (&mut self.messages, other.messages),
            (&mut self.recovered, other.recovered),
            (&mut self.recovered_messages, other.recovered_messages),
            (&mut self.lost, other.lost),
            (&mut self.lost_messages, other.lost_messages),
            (&mut self.unnumbered, other.unnumbered),
            (&mut self.unanswered, other.unanswered),
            (&mut self.unnamed, other.unnamed),
        ] {
            *mine += theirs;
        }
    }
}

/// One listener's.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    /// What has been named, by the room's numbers: first and last of each.
    named: Vec<(u64, u64)>,
    /// News that wait for an answer, and their messages.
    open: u64,
    open_messages: u64,
    /// The number of the latest news: what is told again is none.
    latest: u64,
}

impl Gaps {
    /// Takes an `outbox.dropped`.
    pub(super) fn take(&mut self, line: &Line<'_>, drops: &mut Drops) {
        if let Some(seq) = line.seq {
            if seq <= self.latest {
                return;
            }
            self.latest = seq;
        }
        drops.news += 1;
        drops.messages += line.count.unwrap_or(0);
        match (line.seq, line.first_seq, line.last_seq) {
            (Some(_), Some(first), Some(last)) => {
                self.named.push((first, last));
                self.open += 1;
                self.open_messages += line.count.unwrap_or(0);
            }
            _ => drops.unnumbered += 1,
        }
    }

    /// News that wait for an answer.
    pub(super) fn open(&self) -> u64 {
        self.open
    }

    /// The server has said whether it can tell everything again.
    pub(super) fn answered(&mut self, recovered: bool, drops: &mut Drops) {
        let (news, messages) = (std::mem::take(&mut self.open), std::mem::take(&mut self.open_messages));
        if recovered {
            drops.recovered += news;
            drops.recovered_messages += messages;
        } else {
            drops.lost += news;
            drops.lost_messages += messages;
            self.named.clear();
        }
    }

    /// Whether this number was named as that of a dropped message.
    pub(super) fn has_named(&self, seq: u64) -> bool {
        self.named.iter().rev().any(|&(first, last)| (first..=last).contains(&seq))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(gaps: &mut Gaps, drops: &mut Drops, line: &str) {
        gaps.take(&serde_json::from_str(line).expect("a line"), drops);
    }

    #[test]
    fn each_news_counts_once_and_has_one_answer() {
        let (mut gaps, mut drops) = (Gaps::default(), Drops::default());
        let news = r#"{"type":"outbox.dropped","seq":40,"class":"droppable","count":5,"first_seq":30,"last_seq":36}"#;
        take(&mut gaps, &mut drops, news);
        take(&mut gaps, &mut drops, news);
        let unnumbered =
            r#"{"type":"outbox.dropped","class":"droppable","count":2,"first_seq":null,"last_seq":null}"#;
        take(&mut gaps, &mut drops, unnumbered);
        assert_eq!((drops.news, drops.messages, drops.unnumbered, gaps.open()), (2, 7, 1, 1));
        assert_eq!([29, 30, 36, 37].map(|seq| gaps.has_named(seq)), [false, true, true, false]);
        gaps.answered(true, &mut drops);
        gaps.answered(false, &mut drops);
        assert_eq!((drops.recovered, drops.recovered_messages, drops.lost, gaps.open()), (1, 5, 0, 0));
    }
}
