//! What a token says, and what of it a shard needs to know.

use std::time::Duration;

use serde::Deserialize;
use shards::core::gate::RealtimeClaim;
use shards::core::{Denied, Micros, Pass, Role};

use super::channels::{Claimed, Subscribed};

/// Longest `sub`. It is kept with every connection.
const SUB_BYTES_MAX: usize = 256;

/// The claims that mean something here, beside those that are only compared: `aud`, `iss` and `nbf`.
#[derive(Deserialize)]
pub(super) struct Claims {
    sub: String,
    exp: Option<f64>,
    rooms: Option<Vec<String>>,
    engine: Option<String>,
    channels: Option<Claimed>,
    subscriptions: Option<Subscribed>,
    role: Option<String>,
    realtime: Option<ClaimedRealtime>,
}

/// What a token says of the model session of its room.
#[derive(Deserialize)]
struct ClaimedRealtime {
    model: Option<Box<str>>,
    voice: Option<Box<str>>,
    instructions: Option<Box<str>>,
}

impl From<ClaimedRealtime> for RealtimeClaim {
    fn from(claimed: ClaimedRealtime) -> Self {
        let ClaimedRealtime { model, voice, instructions } = claimed;
        Self { model, voice, instructions }
    }
}

impl Claims {
    /// What a token with these claims allows, `now` being the time since 1970.
    pub(super) fn pass(self, now: Duration, leeway: Duration) -> Result<Pass, Denied> {
        if !(1..=SUB_BYTES_MAX).contains(&self.sub.len()) {
            return Err(Denied::Unauthorized("the token's sub is empty or longer than 256 bytes"));
        }
        let left = self.exp.map(|exp| exp + leeway.as_secs_f64() - now.as_secs_f64());
        if left.is_some_and(|seconds| seconds <= 0.0) {
            return Err(EXPIRED);
        }
        let engine = self.engine.map(|name| name.parse()).transpose();
        Ok(Pass {
            sub: self.sub.into(),
            // Positive, and what is too long for the type becomes its end.
            valid_for: left.map(|seconds| Micros((seconds * 1e6) as u64)),
            rooms: self.rooms.map(|rooms| rooms.into_iter().map(Into::into).collect()),
            engine: engine
                .map_err(|_| Denied::Forbidden("the token is for an engine that is not served here"))?,
            realtime: self.realtime.map(|claimed| Box::new(claimed.into())),
            channels: self.channels.map(|claimed| claimed.0).unwrap_or_default(),
            subscriptions: self.subscriptions.map(|claimed| claimed.0).unwrap_or_default(),
            role: if self.role.as_deref() == Some("admin") { Role::Admin } else { Role::Member },
        })
    }
}

/// Its time is over.
pub(super) const EXPIRED: Denied = Denied::Unauthorized("the token has expired");

#[cfg(test)]
mod tests {
    use shards::core::engine::EngineKind;
    use shards::core::{Channels, Right};

    use super::*;

    const NOW: Duration = Duration::from_millis(1_000_500);

    fn pass(json: &str) -> Result<Pass, Denied> {
        let claims: Claims = serde_json::from_str(json).expect("claims of the right types");
        claims.pass(NOW, Duration::from_secs(2))
    }

    #[test]
    fn a_token_is_good_until_its_exp_and_the_leeway_have_passed() {
        let left = |exp: &str| pass(&format!(r#"{{"sub":"u","exp":{exp}}}"#)).map(|pass| pass.valid_for);
        assert_eq!(left("1010"), Ok(Some(Micros::from_ms(11_500))));
        assert_eq!(left("1000.25"), Ok(Some(Micros::from_ms(1_750))));
        assert_eq!(left("998.5"), Err(EXPIRED));
        assert_eq!(left("-5"), Err(EXPIRED));
        assert_eq!(left("1e300"), Ok(Some(Micros(u64::MAX))));
        assert_eq!(pass(r#"{"sub":"u"}"#).map(|pass| pass.valid_for), Ok(None));
    }

    #[test]
    fn a_token_says_what_the_model_session_of_its_room_is_told() {
        let realtime = |json: &str| pass(json).expect("good").realtime;
        let claim =
            realtime(r#"{"sub":"u","realtime":{"model":"m","voice":"v","instructions":"i","more":1}}"#);
        let all = RealtimeClaim {
            model: Some("m".into()),
            voice: Some("v".into()),
            instructions: Some("i".into()),
        };
        assert_eq!(claim.as_deref(), Some(&all));
        assert_eq!(realtime(r#"{"sub":"u","realtime":{}}"#), Some(Box::default()));
        assert_eq!(realtime(r#"{"sub":"u"}"#), None);
        assert!(serde_json::from_str::<Claims>(r#"{"sub":"u","realtime":{"model":7}}"#).is_err());
    }

    #[test]
    fn what_is_not_claimed_is_not_limited_but_a_role() {
        let plain = pass(r#"{"sub":"u","scope":"x"}"#).expect("good");
        assert_eq!((plain.rooms, plain.engine, plain.role), (None, None, Role::Member));
        assert_eq!(plain.channels, Channels::default());
        let full =
            r#"{"sub":"u","rooms":["a*"],"channels":{"b":["publish"]},"engine":"relay","role":"admin"}"#;
        let full = pass(full).expect("good");
        assert_eq!(Right::ALL.map(|right| full.channels.allow("b", right)), [false, true]);
        assert_eq!(full.rooms, Some(["a*".into()].into()));
        assert_eq!((full.engine, full.role), (Some(EngineKind::Relay), Role::Admin));
        assert_eq!(pass(r#"{"sub":"u","role":"teacher"}"#).expect("good").role, Role::Member);
        let subscribed = pass(r#"{"sub":"u","subscriptions":["user:u:*"]}"#).expect("good").subscriptions;
        assert_eq!(subscribed.iter().map(|pattern| pattern.as_str()).collect::<Vec<_>>(), ["user:u:*"]);
        assert!(matches!(pass(r#"{"sub":"u","engine":"cello"}"#), Err(Denied::Forbidden(_))));
        assert!(matches!(pass(r#"{"sub":""}"#), Err(Denied::Unauthorized(_))));
    }
}
