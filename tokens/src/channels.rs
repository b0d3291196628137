//! The claims `channels`, patterns of channels with the rights that each gives, and `subscriptions`, patterns alone.

use std::fmt;

use serde::Deserialize;
use serde::de::{Error, MapAccess, Visitor};
use shards::core::channel::Pattern;
use shards::core::{Channels, Right, Rights};

/// Most patterns, and the longest one: they are kept with every connection.
const PATTERNS_MAX: usize = 64;
const PATTERN_BYTES_MAX: usize = 256;

/// The claim as it was read. What is not understood makes the token bad: it might have been meant to forbid something.
pub(super) struct Claimed(pub(super) Channels);

impl<'de> Deserialize<'de> for Claimed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Patterns)
    }
}

/// The claim `subscriptions` as it was read: what its bearer is subscribed to from the beginning.
pub(super) struct Subscribed(pub(super) Box<[Pattern]>);

impl<'de> Deserialize<'de> for Subscribed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<Box<str>>::deserialize(deserializer)?;
        if texts.len() > PATTERNS_MAX {
            return Err(D::Error::custom("a subscription too many"));
        }
        let patterns = texts.iter().map(|text| Pattern::parse(text)).collect::<Result<_, _>>();
        patterns.map(Self).map_err(D::Error::custom)
    }
}

/// Reads a subscription as it is typed.
///
/// # Errors
/// What is wrong with it.
pub fn subscription(text: &str) -> Result<String, String> {
    Pattern::parse(text).map(|pattern| pattern.as_str().to_owned()).map_err(|bad| bad.to_string())
}

struct Patterns;

impl<'de> Visitor<'de> for Patterns {
    type Value = Claimed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("patterns of channels with lists of rights")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Claimed, M::Error> {
        let mut patterns: Vec<(Box<str>, Rights)> = Vec::new();
        while let Some((pattern, words)) = map.next_entry::<Box<str>, Vec<Box<str>>>()? {
            let known = patterns.iter().any(|(other, _)| *other == pattern);
            if known || patterns.len() == PATTERNS_MAX || !is_pattern(&pattern) {
                return Err(M::Error::custom(
                    "a pattern that is empty, too long, there twice or one too many",
                ));
            }
            let rights = words.iter().try_fold(Rights::default(), |rights, word| {
                Right::named(word).map(|right| rights.and(right))
            });
            patterns.push((pattern, rights.ok_or_else(|| M::Error::custom("a right that is not known"))?));
        }
        Ok(Claimed(Channels::only(patterns)))
    }
}

fn is_pattern(text: &str) -> bool {
    (1..=PATTERN_BYTES_MAX).contains(&text.len())
}

/// Reads a pattern and its rights as they are typed: `room:*=subscribe,publish`.
///
/// # Errors
/// What to write instead.
pub fn channel(text: &str) -> Result<(Box<str>, Rights), String> {
    let expected = || "write it as PATTERN=subscribe,publish, or with one of the two".to_owned();
    let (pattern, words) =
        text.rsplit_once('=').filter(|(pattern, _)| is_pattern(pattern)).ok_or_else(expected)?;
    let rights = words.split(',').try_fold(Rights::default(), |rights, word| {
        Right::named(word.trim()).map(|right| rights.and(right)).ok_or_else(expected)
    })?;
    Ok((pattern.into(), rights))
}

/// What a token says that gives these rights; nothing when there are none to give.
#[must_use]
pub fn claim(wanted: &[(Box<str>, Rights)]) -> Option<Channels> {
    let mut patterns: Vec<(Box<str>, Rights)> = Vec::new();
    for (pattern, rights) in wanted {
        match patterns.iter_mut().find(|(known, _)| known == pattern) {
            Some((_, known)) => *known = known.or(*rights),
            None => patterns.push((pattern.clone(), *rights)),
        }
    }
    (!patterns.is_empty()).then(|| Channels::only(patterns))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Channels, serde_json::Error> {
        serde_json::from_str::<Claimed>(json).map(|claimed| claimed.0)
    }

    #[test]
    fn a_claim_gives_what_it_says() {
        let channels = read(r#"{"room:*":["subscribe","publish"],"user:42:*":["subscribe"],"log":[]}"#);
        let channels = channels.expect("well formed");
        for (name, rights) in [
            ("room:7", [true, true]),
            ("user:42:operation:1", [true, false]),
            ("log", [false, false]),
            ("user:43", [false, false]),
        ] {
            assert_eq!(Right::ALL.map(|right| channels.allow(name, right)), rights, "{name}");
        }
        assert!(!read("{}").expect("well formed").allow("room:7", Right::Subscribe));
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        let many: Vec<String> = (0..=PATTERNS_MAX).map(|at| format!(r#""c{at}":[]"#)).collect();
        for json in [
            r#"["room:*"]"#,
            r#""room:*""#,
            "7",
            r#"{"room:*":"subscribe"}"#,
            r#"{"room:*":{"subscribe":true}}"#,
            r#"{"room:*":["Subscribe"]}"#,
            r#"{"room:*":["subscribe","delete"]}"#,
            r#"{"room:*":[1]}"#,
            r#"{"room:*":null}"#,
            r#"{"":["subscribe"]}"#,
            r#"{"a":["subscribe"],"a":["publish"]}"#,
            &format!(r#"{{"{}":[]}}"#, "x".repeat(257)),
            &format!("{{{}}}", many.join(",")),
        ] {
            assert!(read(json).is_err(), "{json}");
        }
    }

    #[test]
    fn subscriptions_are_patterns_of_channels() {
        let read = |json: &str| serde_json::from_str::<Subscribed>(json).map(|subscribed| subscribed.0);
        let patterns = read(r#"["system:*","user:42:operation:*"]"#).expect("well formed");
        assert_eq!(
            patterns.iter().map(Pattern::as_str).collect::<Vec<_>>(),
            ["system:*", "user:42:operation:*"]
        );
        assert_eq!(read("[]").expect("well formed").len(), 0);
        let many = serde_json::to_string(&vec!["a"; PATTERNS_MAX + 1]).expect("JSON");
        for json in [r#""system:*""#, r#"["*"]"#, r#"[""]"#, r#"["a::b"]"#, "[1]", "null", &many] {
            assert!(read(json).is_err(), "{json}");
        }
        assert_eq!(subscription("user:7:*").as_deref(), Ok("user:7:*"));
        assert!(subscription("a*").is_err());
    }

    #[test]
    fn what_is_typed_is_what_is_claimed() {
        let typed =
            ["a=b:*=subscribe, publish", "c=publish", "c=subscribe"].map(|text| channel(text).expect(text));
        let json = serde_json::to_string(&claim(&typed)).expect("JSON");
        assert_eq!(json, r#"{"a=b:*":["subscribe","publish"],"c":["subscribe","publish"]}"#);
        assert!(claim(&[]).is_none());
        for text in ["", "a", "=subscribe", "a=", "a=read", "a=subscribe,"] {
            assert!(channel(text).is_err(), "{text}");
        }
    }
}
