//! Who may come in: what a shard asks about a token, and what it learns.
//!
//! The core knows no key and no clock. Whoever makes a shard gives it a [`Gate`]; that checks signatures and wall-clock
//! times and says for how long from now a token is good.

use ::core::fmt::Debug;

use super::channel::Pattern;
use super::engine::EngineKind;
use super::ids::SessionId;
use super::time::Micros;

/// Tells good tokens from bad ones. Called on the shards' threads, so it must not wait for anything.
pub trait Gate: Send + Sync + Debug {
    /// What the token allows.
    ///
    /// # Errors
    /// When it is not good here and now.
    fn check(&self, token: &str) -> Result<Pass, Denied>;
}

/// What a good token allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Whose it is.
    pub sub: Box<str>,
    /// How long it is good from now on; nothing when it has no end.
    pub valid_for: Option<Micros>,
    /// Patterns of the rooms it is for; nothing when it is for any.
    pub rooms: Option<Box<[Box<str>]>>,
    /// The only engine it is for; nothing when it is for any.
    pub engine: Option<EngineKind>,
    /// What it says of the model session of a room that its bearer makes.
    pub realtime: Option<Box<RealtimeClaim>>,
    /// What its bearer may do on which channels.
    pub channels: Channels,
    /// What its bearer is subscribed to from the beginning.
    pub subscriptions: Box<[Pattern]>,
    /// What else its bearer may do.
    pub role: Role,
}

/// What a token says of a model session, instead of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RealtimeClaim {
    /// The model.
    pub model: Option<Box<str>>,
    /// The voice.
    pub voice: Option<Box<str>>,
    /// The instructions.
    pub instructions: Option<Box<str>>,
}

/// What a bearer may do on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Hear what is published.
    Subscribe,
    /// Publish.
    Publish,
}

/// Some rights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    /// These, and this one too.
    #[must_use]
    pub const fn and(self, right: Right) -> Self {
        Self(self.0 | 1 << right as u8)
    }

    /// These and those.
    #[must_use]
    pub const fn or(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether this one is among them.
    #[must_use]
    pub const fn has(self, right: Right) -> bool {
        self.0 & 1 << right as u8 != 0
    }
}

/// What a token allows on which channels: patterns with rights. Nothing where the token says nothing of channels, and
/// then it limits nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Channels(Option<Box<[ChannelRights]>>);

/// A pattern, and the rights on what it names.
pub type ChannelRights = (Box<str>, Rights);

impl Channels {
    /// Only what these patterns name; nothing at all if there are none.
    #[must_use]
    pub fn only(patterns: impl IntoIterator<Item = ChannelRights>) -> Self {
        Self(Some(patterns.into_iter().collect()))
    }

    /// Whether the token allows this on a channel of this name. Several patterns may name it: their rights add up.
    #[must_use]
    pub fn allow(&self, channel: &str, right: Right) -> bool {
        self.0.is_none() || self.claim(channel, right)
    }

    /// Whether the token says so itself.
    #[must_use]
    pub fn claim(&self, channel: &str, right: Right) -> bool {
        let named = |patterns: &[ChannelRights]| {
            patterns.iter().any(|(pattern, rights)| rights.has(right) && matches(pattern, channel))
        };
        self.0.as_deref().is_some_and(named)
    }
}

/// As tokens write it; null where they say nothing.
impl serde::Serialize for Channels {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(patterns) = &self.0 else { return serializer.serialize_none() };
        let words = |rights: Rights| -> Vec<&str> {
            Right::ALL.iter().filter(|right| rights.has(**right)).map(|right| right.name()).collect()
        };
        serializer.collect_map(patterns.iter().map(|(pattern, rights)| (pattern, words(*rights))))
    }
}

impl Right {
    /// Every right.
    pub const ALL: [Self; 2] = [Self::Subscribe, Self::Publish];

    /// As tokens write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
        }
    }

    /// The right that is written so.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|right| right.name() == name)
    }
}

/// What a bearer may do beside joining rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Nothing.
    Member,
    /// Use the admin API.
    Admin,
}

/// Why a token does not help. The words are fixed, so that no part of a token can be in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// 401: the token is not good.
    Unauthorized(&'static str),
    /// 403: the token is good, but not for this.
    Forbidden(&'static str),
}

impl Denied {
    /// Why, in words for the client.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Unauthorized(reason) | Self::Forbidden(reason) => reason,
        }
    }
}

impl Pass {
    /// Checks that it is for a room in which this engine answers.
    ///
    /// # Errors
    /// [`Denied::Forbidden`], which says whether the room or the engine is the reason.
    pub fn admits(&self, room: &SessionId, engine: EngineKind) -> Result<(), Denied> {
        let named = |rooms: &[Box<str>]| rooms.iter().any(|pattern| matches(pattern, room.as_str()));
        if !self.rooms.as_deref().is_none_or(named) {
            return Err(Denied::Forbidden("the token is not for this room"));
        }
        if self.engine.is_some_and(|only| only != engine) {
            return Err(Denied::Forbidden("the token is for another engine"));
        }
        Ok(())
    }
}

/// Whether the text is as the pattern says, in which `*` stands for any run of characters, none included. Takes at most
/// the product of both lengths in steps.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut read) = (0, 0);
    // Behind the last star, and what it has taken so far: when the rest does not fit it takes one more.
    let mut star = None;
    while read < text.len() {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            star = Some((at, read));
        } else if pattern.get(at) == Some(&text[read]) {
            (at, read) = (at + 1, read + 1);
        } else if let Some((behind, taken)) = star {
            star = Some((behind, taken + 1));
            (at, read) = (behind, taken + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (pattern, text) in [
            ("a", "a"),
            ("*", ""),
            ("*", "abc"),
            ("a*", "a"),
            ("a*c", "abbc"),
            ("*b*b", "abcbb"),
            ("a**", "ab"),
            ("t:*:1", "t::1"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", ""),
            ("a", "ab"),
            ("a", "A"),
            ("a*c", "ab"),
            ("*b*b", "ab"),
            ("t:*:1", "t:1"),
            ("?", "a"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
        let long = "a".repeat(16_000);
        assert!(!matches(&"a*".repeat(100), &format!("b{long}")));
    }

    #[test]
    fn rights_on_channels_follow_from_the_patterns_that_name_them() {
        let both = Rights::default().and(Right::Subscribe).and(Right::Publish);
        let hear = Rights::default().and(Right::Subscribe);
        let say = Rights::default().and(Right::Publish);
        let channels = Channels::only([
            ("room:*".into(), both),
            ("user:42:*".into(), hear),
            ("user:*:typing".into(), say),
        ]);
        let allowed = |channels: &Channels, name: &str| Right::ALL.map(|right| channels.allow(name, right));
        for (name, rights) in [
            ("room:a", [true, true]),
            ("room:", [true, true]),
            ("user:42:operation:1", [true, false]),
            ("user:42:typing", [true, true]),
            ("user:43:typing", [false, true]),
            ("user:43:operation:1", [false, false]),
            ("Room:a", [false, false]),
            ("", [false, false]),
        ] {
            assert_eq!(allowed(&channels, name), rights, "{name}");
        }
        assert_eq!(allowed(&Channels::only([]), "room:a"), [false, false]);
        assert_eq!(allowed(&Channels::default(), "room:a"), [true, true]);
        let json = |channels: &Channels| serde_json::to_string(channels).expect("JSON");
        assert_eq!(
            json(&channels),
            r#"{"room:*":["subscribe","publish"],"user:42:*":["subscribe"],"user:*:typing":["publish"]}"#
        );
        assert_eq!(json(&Channels::default()), "null");
    }

    #[test]
    fn a_pass_says_whether_room_or_engine_is_the_reason() {
        let pass = |rooms: Option<&[&str]>, engine| Pass {
            sub: "u".into(),
            valid_for: None,
            rooms: rooms.map(|rooms| rooms.iter().map(|&room| room.into()).collect()),
            engine,
            realtime: None,
            channels: Channels::default(),
            subscriptions: Box::default(),
            role: Role::Member,
        };
        let room = SessionId::parse("class:7").expect("valid");
        let reason = |pass: Pass| pass.admits(&room, EngineKind::Echo).map_err(Denied::reason);
        assert_eq!(reason(pass(None, None)), Ok(()));
        assert_eq!(reason(pass(Some(&["x", "class:*"]), Some(EngineKind::Echo))), Ok(()));
        assert_eq!(reason(pass(Some(&[]), None)), Err("the token is not for this room"));
        assert_eq!(reason(pass(Some(&["class"]), None)), Err("the token is not for this room"));
        assert_eq!(reason(pass(None, Some(EngineKind::Relay))), Err("the token is for another engine"));
    }
}
