//! Who may come in: what a shard asks about a token, and what it learns.
//!
//! The core knows no key and no clock. Whoever makes a shard gives it a [`Gate`]; that checks signatures and wall-clock
//! times and says for how long from now a token is good.

use ::core::fmt::Debug;

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
    /// What else its bearer may do.
    pub role: Role,
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
    fn a_pass_says_whether_room_or_engine_is_the_reason() {
        let pass = |rooms: Option<&[&str]>, engine| Pass {
            sub: "u".into(),
            valid_for: None,
            rooms: rooms.map(|rooms| rooms.iter().map(|&room| room.into()).collect()),
            engine,
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
