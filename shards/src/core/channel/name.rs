//! Names of channels, and patterns of them.

use std::fmt;

use super::super::ids::ShardId;
use super::super::route;

/// Segments of a name or pattern at most: they bound every walk through the tree of subscriptions.
pub const SEGMENTS_MAX: usize = 16;
/// Bytes of a name or pattern at most: room for the longest `sub` and the longest session id.
pub const NAME_BYTES_MAX: usize = 512;

/// Namespaces that are one stream each: what is said in them concerns everyone, in one order.
const WHOLE: [&str; 2] = ["system", "events"];

/// A channel's name: segments between colons, none of them empty or with a `*` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelName(Box<str>);

/// What a subscription names: segments between colons, of which a `*` stands for any one and a final `*` for one or
/// more. The first is the namespace, and no `*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern(Box<str>);

/// The text is no channel's name, or no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// It is empty or too long, or has too many segments.
    #[error("it has to have 1 to 16 segments and at most 512 bytes")]
    Size,
    /// A segment is empty.
    #[error("a segment between its colons is empty")]
    EmptySegment,
    /// There is a `*` where none may be.
    #[error("a '*' has to be a whole segment of a subscription, and not its first")]
    Star,
    /// There are control characters.
    #[error("it has control characters")]
    Control,
}

impl ChannelName {
    /// Takes the text as a name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        check(text)?;
        if text.contains('*') { Err(BadName::Star) } else { Ok(Self(text.into())) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its first segment.
    #[must_use]
    pub fn namespace(&self) -> &str {
        namespace_of(&self.0)
    }
}

impl Pattern {
    /// Takes the text as a pattern. Every name is one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        check(text)?;
        let odd = |(at, segment): (usize, &str)| segment.contains('*') && (at == 0 || segment != "*");
        if text.split(':').enumerate().any(odd) {
            return Err(BadName::Star);
        }
        Ok(Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its first segment.
    #[must_use]
    pub fn namespace(&self) -> &str {
        namespace_of(&self.0)
    }

    /// The segments before its first `*`, as a name.
    #[must_use]
    pub fn literal(&self) -> &str {
        // Behind the namespace every `*` is a whole segment.
        self.0.find('*').map_or(&*self.0, |star| &self.0[..star - 1])
    }

    /// The stream that everything it names is part of; nothing when that may be parts of several.
    #[must_use]
    pub fn stream(&self) -> Option<&str> {
        let literal = self.literal();
        let stream = stream_of(literal);
        let whole = WHOLE.contains(&stream) || literal.len() == self.0.len() || literal.contains(':');
        whole.then_some(stream)
    }

    /// Whether it may name something of a stream. May say yes wrongly.
    #[must_use]
    pub fn may_meet(&self, stream: &str) -> bool {
        match self.stream() {
            Some(own) => own == stream,
            None => namespace_of(stream) == self.namespace(),
        }
    }

    /// Whether it names this channel.
    #[must_use]
    pub fn names(&self, channel: &str) -> bool {
        let mut segments = channel.split(':');
        let mut patterns = self.0.split(':').peekable();
        while let Some(pattern) = patterns.next() {
            let Some(segment) = segments.next() else { return false };
            if pattern == "*" && patterns.peek().is_none() {
                return true;
            }
            if pattern != "*" && pattern != segment {
                return false;
            }
        }
        segments.next().is_none()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check(text: &str) -> Result<(), BadName> {
    if text.is_empty() || text.len() > NAME_BYTES_MAX || text.split(':').count() > SEGMENTS_MAX {
        return Err(BadName::Size);
    }
    if text.split(':').any(str::is_empty) {
        return Err(BadName::EmptySegment);
    }
    if text.chars().any(char::is_control) { Err(BadName::Control) } else { Ok(()) }
}

fn namespace_of(name: &str) -> &str {
    name.split_once(':').map_or(name, |(first, _)| first)
}

/// The stream that a channel is part of: what has one order, one history and one owner. Its namespace and second
/// segment, or the namespace alone where that is one stream.
#[must_use]
pub fn stream_of(channel: &str) -> &str {
    let mut colons = channel.match_indices(':').map(|(at, _)| at);
    match (colons.next(), colons.next()) {
        (Some(first), _) if WHOLE.contains(&&channel[..first]) => &channel[..first],
        (_, Some(second)) => &channel[..second],
        _ => channel,
    }
}

/// The shard that owns a channel's stream, of `shards`, which is at least one.
#[must_use]
pub fn owner(channel: &str, shards: u16) -> ShardId {
    route::owner(stream_of(channel), shards)
}

/// Every prefix of a name that ends with a segment, the name itself included.
pub(in crate::core) fn prefixes(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices(':').map(|(at, _)| &name[..at]).chain([name])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_segments_and_patterns_stars() {
        for good in ["a", "user:7:operation:1", "system:notice", "room:Ä b.c", &"a:".repeat(15).add("a")] {
            assert_eq!(ChannelName::parse(good).expect(good).as_str(), good);
            assert!(Pattern::parse(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("", BadName::Size),
            (&*"x".repeat(513), BadName::Size),
            (&*"a:".repeat(16).add("a"), BadName::Size),
            (":", BadName::EmptySegment),
            ("a::b", BadName::EmptySegment),
            ("a:", BadName::EmptySegment),
            ("a:b\n", BadName::Control),
            ("*", BadName::Star),
            ("*:a", BadName::Star),
            ("a:b*", BadName::Star),
        ] {
            assert_eq!(ChannelName::parse(bad), Err(why), "{bad}");
            assert_eq!(Pattern::parse(bad), Err(why), "{bad}");
        }
        for pattern in ["a:*", "a:*:b", "a:*:*"] {
            assert_eq!(ChannelName::parse(pattern), Err(BadName::Star));
            assert!(Pattern::parse(pattern).is_ok());
        }
    }

    #[test]
    fn a_star_is_one_segment_and_a_final_one_the_rest() {
        for (pattern, name, holds) in [
            ("a", "a", true),
            ("a", "a:b", false),
            ("a:*", "a", false),
            ("a:*", "a:b", true),
            ("a:*", "a:b:c:d", true),
            ("a:*:c", "a:b:c", true),
            ("a:*:c", "a:b:d", false),
            ("a:*:c", "a:b:c:d", false),
            ("a:*:*", "a:b", false),
            ("a:*:*", "a:b:c:d", true),
        ] {
            assert_eq!(Pattern::parse(pattern).expect(pattern).names(name), holds, "{pattern} {name}");
        }
    }

    #[test]
    fn a_stream_is_a_namespace_with_its_second_segment_or_as_a_whole() {
        for (name, stream) in [
            ("user:7:operation:1", "user:7"),
            ("user:7", "user:7"),
            ("user", "user"),
            ("system:notice:now", "system"),
            ("system", "system"),
            ("events:room.opened", "events"),
            ("news:sports:football", "news:sports"),
        ] {
            assert_eq!(stream_of(name), stream, "{name}");
        }
        for (pattern, stream) in [
            ("user:7:*", Some("user:7")),
            ("user:7:*:1", Some("user:7")),
            ("user:7", Some("user:7")),
            ("user:*", None),
            ("user:*:operation:1", None),
            ("system:*", Some("system")),
            ("events:*:x", Some("events")),
            ("user", Some("user")),
        ] {
            assert_eq!(Pattern::parse(pattern).expect(pattern).stream(), stream, "{pattern}");
        }
    }

    trait Add {
        fn add(self, more: &str) -> String;
    }

    impl Add for String {
        fn add(mut self, more: &str) -> String {
            self.push_str(more);
            self
        }
    }
}
