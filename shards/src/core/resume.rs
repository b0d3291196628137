//! The token with which a member comes back: which member of which room it was, signed, so that nobody can be another.
//!
//! It says nothing that is secret, and can't be made without the key. It is good for one room, one numbering of its events
//! and, where clients have to say who they are, one user. That it ends with its room needs no clock.

use super::ids::{MemberNumber, SessionId};

/// Bytes of a key.
pub(super) const KEY_BYTES: usize = 32;

/// The key that an operator's secret makes, however long it is.
#[must_use]
pub fn resume_key(secret: &str) -> [u8; KEY_BYTES] {
    blake3::derive_key("voxhall 2026 auth.resume_key", secret.as_bytes())
}

/// What stands before the signature: a version, the member, the epoch, and what that goes on from.
const SIGNED_BYTES: usize = 1 + 2 + 8 + 8 + 8;
const TOKEN_BYTES: usize = SIGNED_BYTES + blake3::OUT_LEN;

/// The only version there is.
const VERSION: u8 = 1;

/// What a token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ResumeToken {
    /// Which member its bearer was.
    pub(super) member: MemberNumber,
    /// By which numbering it knows the room's events.
    pub(super) epoch: u64,
    /// The numbering before that, and the last number that both share: a store that is not told of the new one before it
    /// matters knows the old one. Zeros where there was none.
    pub(super) from: (u64, u64),
}

/// For which room and whom a token is, which it does not repeat.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound<'a> {
    /// Only who has it can make a token.
    pub(super) key: &'a [u8; KEY_BYTES],
    /// The room.
    pub(super) session: &'a SessionId,
    /// The user; nothing where nobody is asked.
    pub(super) sub: Option<&'a str>,
}

impl ResumeToken {
    /// As a client gets it: letters, digits, `-` and `_`.
    pub(super) fn write(self, bound: Bound<'_>) -> Box<str> {
        let mut bytes = [0; TOKEN_BYTES];
        bytes[0] = VERSION;
        bytes[1..3].copy_from_slice(&self.member.0.to_be_bytes());
        for (place, number) in bytes[3..].chunks_exact_mut(8).zip([self.epoch, self.from.0, self.from.1]) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        let signature = bound.signature(&bytes[..SIGNED_BYTES]);
        bytes[SIGNED_BYTES..].copy_from_slice(signature.as_bytes());
        base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes).into()
    }

    /// What a client's token says; nothing when it was not made for this room and user, or with another key.
    pub(super) fn read(text: &str, bound: Bound<'_>) -> Option<Self> {
        let bytes = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(text).ok()?;
        let bytes: [u8; TOKEN_BYTES] = bytes.try_into().ok()?;
        let (said, signature) = bytes.split_at(SIGNED_BYTES);
        let signature: [u8; blake3::OUT_LEN] = signature.try_into().ok()?;
        // This comparison takes the same time wherever the two differ.
        if bound.signature(said) != signature || said[0] != VERSION {
            return None;
        }
        let member = MemberNumber(u16::from_be_bytes([said[1], said[2]]));
        let mut numbers =
            said[3..].chunks_exact(8).filter_map(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        let (epoch, from) = (numbers.next()?, (numbers.next()?, numbers.next()?));
        Some(Self { member, epoch, from })
    }
}

impl Bound<'_> {
    /// No two rooms, users or members have the same bytes to sign: the room's length stands before it, and the user comes last.
    fn signature(&self, said: &[u8]) -> blake3::Hash {
        let session = self.session.as_str().as_bytes();
        let mut hasher = blake3::Hasher::new_keyed(self.key);
        hasher.update(b"voxhall resume").update(said).update(&[session.len() as u8]).update(session);
        match self.sub {
            Some(sub) => hasher.update(b"u").update(sub.as_bytes()),
            None => &mut hasher,
        };
        hasher.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_room_and_user_under_its_key_and_for_nothing_else() {
        let room = |name: &str| SessionId::parse(name).expect("a name");
        let (a, b) = (room("a"), room("b"));
        let key = [7; KEY_BYTES];
        let token =
            ResumeToken { member: MemberNumber(0x1234), epoch: 0x0012_3456_789a_bcde, from: (7, u64::MAX) };
        let bound = Bound { key: &key, session: &a, sub: None };
        let text = token.write(bound);
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{text}");
        assert_eq!(ResumeToken::read(&text, bound), Some(token));
        let theirs = Bound { sub: Some("u"), ..bound };
        assert_eq!(ResumeToken::read(&token.write(theirs), theirs), Some(token));
        let other_key = [8; KEY_BYTES];
        for other in [
            Bound { session: &b, ..bound },
            Bound { sub: Some(""), ..bound },
            theirs,
            Bound { key: &other_key, ..bound },
        ] {
            assert_eq!(ResumeToken::read(&text, other), None, "{other:?}");
        }
        assert_eq!(ResumeToken::read(&token.write(theirs), Bound { sub: Some("v"), ..theirs }), None);
    }

    #[test]
    fn no_bit_of_a_token_can_be_changed_and_no_other_text_is_one() {
        let session = SessionId::parse("a").expect("a name");
        let bound = Bound { key: &[7; KEY_BYTES], session: &session, sub: None };
        let token = ResumeToken { member: MemberNumber(1), epoch: 5, from: (0, 0) };
        let text = token.write(bound);
        let bytes = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(&*text).expect("base64");
        for bit in 0..bytes.len() * 8 {
            let mut forged = bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let forged = base64_simd::URL_SAFE_NO_PAD.encode_to_string(forged);
            assert_eq!(ResumeToken::read(&forged, bound), None, "bit {bit}");
        }
        for bad in ["", "a", "\u{e9}", &text[1..], &format!("{text}A"), &"A".repeat(79), &"A".repeat(9_999)] {
            assert_eq!(ResumeToken::read(bad, bound), None, "{bad}");
        }
    }
}
