//! Who comes in, and for how long: origins and tokens at the handshake, fresh tokens in band, and the end of a stay.

use std::borrow::Cow;

use super::super::conn::{Identity, Open, Phase};
use super::super::counters::Refusal;
use super::super::engine::EngineKind;
use super::super::event::{ClientError, ServerEvent};
use super::super::gate::{Denied, Pass};
use super::super::http::{Request, answer};
use super::super::ids::{ConnKey, MemberNumber, RoomKey, SessionId};
use super::super::room::Member;
use super::super::time::Micros;
use super::{Effects, Shard};

/// What the subprotocol begins with that brings a token: ours, and the vendor's for browsers. It is never the one that is
/// chosen.
const BEARERS: [&str; 2] = ["bearer.", "openai-insecure-api-key."];

const NO_TOKEN: Denied = Denied::Unauthorized(
    "a token is needed: Authorization: Bearer <token>, the subprotocol bearer.<token>, or ?token=<token>",
);
pub(super) const WRONG_ORIGIN: Denied =
    Denied::Forbidden("pages of this origin may not connect: see server.allowed_origins");

/// A refusal and its answer.
pub(super) type Refused = (Refusal, Vec<u8>);

impl Shard {
    /// Checks where a request comes from and whose it is; a token may be among the subprotocols that it offers. Nothing is known of the asker where nobody is asked.
    ///
    /// # Errors
    /// With 400, 401 or 403.
    pub(super) fn let_in<'a>(
        &self,
        request: &Request<'a>,
        offered: &[&'a str],
    ) -> Result<Option<Pass>, Refused> {
        if !self.config.origins.allow(request) {
            return Err(refused(WRONG_ORIGIN));
        }
        let Some(gate) = &self.config.gate else { return Ok(None) };
        let token = token_of(request, offered).map_err(|TwoTokens| {
            let mut out = Vec::new();
            answer::problem(400, "Bad Request", "there is more than one token", None, &[], &mut out);
            (Refusal::BadRequest, out)
        })?;
        let checked = token.ok_or(NO_TOKEN).and_then(|token| gate.check(&token));
        checked.map(Some).map_err(refused)
    }

    /// Checks a pass against the room as it is, or as it would be made.
    pub(super) fn admit(&self, pass: &Pass, session: &SessionId, wanted: EngineKind) -> Result<(), Denied> {
        let there = self.find_room(session).and_then(|key| self.rooms.get(key.index));
        pass.admits(session, wanted)?;
        there.map_or(Ok(()), |room| pass.admits(session, room.kind))
    }

    /// From now on the connection is this bearer's.
    pub(super) fn identify(&mut self, now: Micros, key: ConnKey, pass: Option<Pass>) {
        let Some(pass) = pass else { return };
        if let Some(Phase::Open(open)) = self.conn(key).map(|conn| &mut conn.phase) {
            open.identity = Some(Identity::new(now, pass));
            self.arm(now, key);
        }
    }

    /// Checks a token that is brought in band: it has to be the same user's, and good for what the connection is for.
    ///
    /// # Errors
    /// For the client; nothing has changed.
    pub(super) fn fresh_pass(
        &self,
        key: ConnKey,
        token: &str,
        admits: impl FnOnce(&Pass) -> Result<(), Denied>,
    ) -> Result<Pass, ClientError> {
        let refuse =
            |why: &str| ClientError::invalid_value("token", format!("The token is not taken: {why}."));
        let Some(gate) = &self.config.gate else {
            return Err(refuse("this server runs without authentication"));
        };
        let pass = gate.check(token).map_err(|denied| refuse(denied.reason()))?;
        let identity = self.open_conn(key).and_then(|(_, open)| open.identity.as_ref());
        if identity.is_none_or(|identity| identity.sub != pass.sub) {
            return Err(refuse("it is another user's"));
        }
        admits(&pass).map_err(|denied| refuse(denied.reason()))?;
        Ok(pass)
    }

    /// The same for a member of a room.
    ///
    /// # Errors
    /// For the client; nothing has changed.
    pub(super) fn fresh_pass_of_member(
        &self,
        key: ConnKey,
        room: RoomKey,
        token: &str,
    ) -> Result<Pass, ClientError> {
        let room = self.rooms.get(room.index);
        self.fresh_pass(key, token, |pass| {
            room.map_or(Ok(()), |room| pass.admits(&room.session_id, room.kind))
        })
    }

    /// A fresh token counts, and its bearer is told. Nobody else is.
    pub(super) fn refresh(
        &mut self,
        now: Micros,
        key: ConnKey,
        room: RoomKey,
        member: MemberNumber,
        pass: Pass,
    ) {
        self.counters.tokens_refreshed += 1;
        self.identify(now, key, Some(pass));
        self.end_forbidden(now, key);
        if let Some(view) = self.session_view(room, Member { number: member, conn: key }) {
            self.tell(now, key, &ServerEvent::SessionUpdated(Box::new(view)));
        }
    }

    /// Checks that a member's token is for the engine that it wants the room to have.
    ///
    /// # Errors
    /// For the client.
    pub(super) fn may_choose(&self, key: ConnKey, engine: EngineKind) -> Result<(), ClientError> {
        let only = self.open_conn(key).and_then(|(_, open)| open.identity.as_ref()?.engine);
        match only {
            Some(only) if only != engine => {
                let message = format!("Your token is for the engine {}.", only.name());
                Err(ClientError::invalid_value("session.engine", message))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn token_expired(&mut self, now: Micros, key: ConnKey, fx: &mut Effects) {
        self.counters.tokens_expired += 1;
        self.close(now, key, 1008, "the token has expired", fx);
    }

    /// Closes every connection of a user: how many.
    pub(super) fn disconnect_user(&mut self, now: Micros, sub: &str, fx: &mut Effects) -> usize {
        let named = |open: &Open| open.identity.as_ref().is_some_and(|identity| *identity.sub == *sub);
        let theirs: Vec<ConnKey> = self
            .conns
            .iter()
            .filter(|(_, conn)| matches!(&conn.phase, Phase::Open(open) if named(open)))
            .map(|(index, conn)| ConnKey { index, generation: conn.generation })
            .collect();
        for &key in &theirs {
            self.counters.tokens_revoked += 1;
            self.close(now, key, 1008, "disconnected by the operator", fx);
        }
        theirs.len()
    }
}

/// The answer to somebody who is denied (RFC 9110 section 11.6.1, RFC 6750 section 3).
pub(super) fn refused(denied: Denied) -> Refused {
    let (refusal, status, title, headers): (_, _, _, &[_]) = match denied {
        Denied::Unauthorized(_) => {
            (Refusal::Unauthorized, 401, "Unauthorized", &[("WWW-Authenticate", "Bearer")])
        }
        Denied::Forbidden(_) => (Refusal::Forbidden, 403, "Forbidden", &[]),
    };
    let mut out = Vec::new();
    answer::problem(status, title, denied.reason(), None, headers, &mut out);
    (refusal, out)
}

/// Tokens that differ: whichever was taken, somebody else in between may have looked at the other.
struct TwoTokens;

/// The token of a request, wherever it stands.
fn token_of<'a>(request: &Request<'a>, offered: &[&'a str]) -> Result<Option<Cow<'a, str>>, TwoTokens> {
    let headers = request.header_values("authorization").filter_map(bearer).map(Cow::Borrowed);
    let brought = |name: &'a str| BEARERS.iter().find_map(|bearer| name.strip_prefix(bearer));
    let offered = offered.iter().copied().filter_map(brought);
    let query = request.query_pairs().filter(|(name, _)| name == "token").map(|(_, value)| value);
    let mut tokens = headers.chain(offered.map(Cow::Borrowed)).chain(query);
    let first = tokens.next();
    if tokens.any(|other| Some(other) != first) { Err(TwoTokens) } else { Ok(first) }
}

/// The token of an `Authorization` header. Another scheme is a proxy's business.
fn bearer(value: &[u8]) -> Option<&str> {
    // What is not text is no token, which the gate says.
    let text = std::str::from_utf8(value).unwrap_or("Bearer ");
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
