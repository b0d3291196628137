//! How much a client may send, and how often an address may come: what is warned of, refused, and ended.

use super::super::allowance::{Limited, Standing};
use super::super::conn::{Conn, Phase, Seat, Told};
use super::super::effect::Caller;
use super::super::event::{ErrorEvent, ServerEvent};
use super::super::ids::ConnKey;
use super::super::time::Micros;
use super::{Effects, Shard};

/// The close code for a client that does not keep to the rules (PROTOCOL 6).
const POLICY: u16 = 1008;

impl Shard {
    /// Charges a message, and says whether it is taken. Who comes near a limit is told once; who passes it is refused
    /// and told so once, and how much was refused when it is served again; who goes on all the same is closed.
    pub(super) fn affords(&mut self, now: Micros, key: ConnKey, fx: &mut Effects) -> bool {
        let conn = self.conns.find_mut(key);
        let Some(Conn { phase: Phase::Open(open), allowance, told, refused, .. }) = conn else {
            return false;
        };
        if open.seat == Seat::Echo {
            // It is there for suites that send as fast as they can, and nothing can be told on it.
            return true;
        }
        let (standing, limited) = allowance.pay_message(&self.tariff);
        if standing >= Standing::Over {
            *refused += 1;
            self.counters.rate_limited += 1;
            if standing == Standing::Ignored {
                self.fail(now, key, POLICY, "more was sent than the limits allow", fx);
            } else if std::mem::replace(told, Told::Over) != Told::Over {
                self.tell_refusal(now, key, limited);
            }
            return false;
        }
        let told_before = *told;
        *told = match standing {
            Standing::Well => Told::Nothing,
            Standing::Near => Told::Near,
            _ => told_before.min(Told::Near),
        };
        if told_before == Told::Over || *told > told_before {
            let refused = std::mem::take(refused);
            self.tell_left(now, key, limited, refused);
        }
        true
    }

    /// Charges bytes that came compressed, as the many they are: a message that would inflate to its bound costs as
    /// much as one that was sent so long.
    pub(super) fn charge_bytes(&mut self, key: ConnKey, bytes: usize) {
        let tariff = self.tariff;
        if let Some(conn) = self.conn(key) {
            conn.allowance.pay_bytes(&tariff, bytes);
        }
    }

    fn tell_left(&mut self, now: Micros, key: ConnKey, limited: Limited, refused: u32) {
        let Some(conn) = self.conn(key) else { return };
        let allowance = conn.allowance;
        let left = allowance.left(&self.tariff, limited);
        let (name, limit) = self.name(limited);
        let remaining = limit * left.permille / 1_000;
        self.tell(now, key, &ServerEvent::RateLimits { name, limit, remaining, reset: left.reset, refused });
    }

    fn tell_refusal(&mut self, now: Micros, key: ConnKey, limited: Limited) {
        let (name, limit) = self.name(limited);
        let error = ErrorEvent {
            kind: "rate_limit_error",
            code: "rate_limit_exceeded",
            message: format!(
                "more than {limit} {name} came at once: what comes now is refused until you have waited, and going on \
                 ends the connection"
            )
            .into(),
            param: None,
            event_id: None,
            retryable: true,
        };
        self.tell(now, key, &ServerEvent::Error(Box::new(error)));
    }

    /// What is limited, and how much of it may come at once.
    fn name(&self, limited: Limited) -> (&'static str, u64) {
        let limits = &self.config.limits;
        match limited {
            Limited::Messages => ("messages", limits.messages_burst),
            Limited::Bytes => ("bytes", limits.bytes_per_s + limits.message_bytes_max as u64),
        }
    }

    /// Whether a TLS handshake may begin with a peer. One that speaks for others has no bound: who they are is told
    /// behind the handshake.
    pub(super) fn may_shake_hands(&mut self, now: Micros, peer: Caller) -> bool {
        !self.config.limits.handshakes || self.trusts(peer) || self.handshakes.take(now, peer.address().ip())
    }
}
