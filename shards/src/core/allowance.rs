//! How much one connection may send: messages and bytes a second, each with a burst.
//!
//! Two leaky buckets of four bytes (the generic cell rate algorithm of ATM Forum TM 4.1, told in debts instead of
//! arrival times): whatever arrives costs time, time pays it back, and a debt beyond the burst is too much. What is
//! refused costs as well, so that who goes on regardless comes to the point where the connection ends.

use super::config::Limits;
use super::time::Micros;

/// Fixed point of a byte's price.
const PRICE_BITS: u32 = 20;

/// What things cost, and how much debt is how bad. Made once from the limits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tariff {
    /// Microseconds that a message costs; zero when messages are not limited.
    message: u32,
    /// Microseconds that 2^20 bytes cost; zero when bytes are not limited.
    mebibyte: u64,
    messages: Burst,
    bytes: Burst,
}

/// The debt, in microseconds, that a burst amounts to.
#[derive(Clone, Copy, Debug)]
struct Burst(u32);

impl Tariff {
    pub(super) fn of(limits: &Limits) -> Self {
        let price = |units: u64, per_s: u64| (units * 1_000_000).checked_div(per_s).unwrap_or(0);
        // A message of any allowed size has to fit, whatever the rate.
        let bytes_burst = limits.bytes_per_s + limits.message_bytes_max as u64;
        Self {
            message: price(1, limits.messages_per_s) as u32,
            mebibyte: price(1 << PRICE_BITS, limits.bytes_per_s),
            messages: Burst::of(price(limits.messages_burst, limits.messages_per_s)),
            bytes: Burst::of(price(bytes_burst, limits.bytes_per_s)),
        }
    }
}

impl Burst {
    /// At most so much that twice of it can still be told from more.
    fn of(micros: u64) -> Self {
        Self(micros.min(u64::from(u32::MAX / 4)) as u32)
    }

    fn verdict(self, debt: u32) -> Standing {
        match debt {
            _ if debt <= self.0 / 2 => Standing::Well,
            _ if debt <= self.0 - self.0 / 5 => Standing::Fair,
            _ if debt <= self.0 => Standing::Near,
            _ if debt <= self.0 * 2 => Standing::Over,
            _ => Standing::Ignored,
        }
    }
}

/// How a connection stands with a limit; the worse, the later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// At most half of the burst is used: warnings are forgotten.
    Well,
    /// Nothing to say.
    Fair,
    /// Four fifths of the burst are used: time to warn.
    Near,
    /// The burst is used up: nothing more is taken.
    Over,
    /// As much again was sent in spite of that.
    Ignored,
}

/// Which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limited {
    /// `limits.messages_per_s`
    Messages,
    /// `limits.bytes_per_s`
    Bytes,
}

/// What is left of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    /// Part of the burst, from 0 to 1000.
    pub(super) permille: u64,
    /// Until all of it is there again.
    pub(super) reset: Micros,
}

/// What one connection owes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Allowance {
    messages: u32,
    bytes: u32,
}

impl Allowance {
    /// Time pays back.
    pub(super) fn pass(&mut self, time: Micros) {
        let time = u32::try_from(time.0).unwrap_or(u32::MAX);
        self.messages = self.messages.saturating_sub(time);
        self.bytes = self.bytes.saturating_sub(time);
    }

    /// Bytes have arrived.
    pub(super) fn pay_bytes(&mut self, tariff: &Tariff, bytes: usize) {
        let price = (bytes as u64 * tariff.mebibyte) >> PRICE_BITS;
        self.bytes = self.bytes.saturating_add(u32::try_from(price).unwrap_or(u32::MAX));
    }

    /// A message has arrived: how the connection stands now, and with which limit.
    pub(super) fn pay_message(&mut self, tariff: &Tariff) -> (Standing, Limited) {
        self.messages = self.messages.saturating_add(tariff.message);
        let messages = (tariff.messages.verdict(self.messages), Limited::Messages);
        let bytes = (tariff.bytes.verdict(self.bytes), Limited::Bytes);
        if bytes.0 > messages.0 { bytes } else { messages }
    }

    /// What is left of a limit.
    pub(super) fn left(&self, tariff: &Tariff, of: Limited) -> Left {
        let (debt, burst) = match of {
            Limited::Messages => (self.messages, tariff.messages.0),
            Limited::Bytes => (self.bytes, tariff.bytes.0),
        };
        let left = u64::from(burst.saturating_sub(debt));
        let permille = (left * 1_000).checked_div(burst.into()).unwrap_or(1_000);
        Left { permille, reset: Micros(debt.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::ShardConfig;
    use super::*;

    fn tariff(messages_per_s: u64, messages_burst: u64, bytes_per_s: u64) -> Tariff {
        let mut limits = ShardConfig::default().limits;
        (limits.messages_per_s, limits.messages_burst) = (messages_per_s, messages_burst);
        (limits.bytes_per_s, limits.message_bytes_max) = (bytes_per_s, 1_000);
        Tariff::of(&limits)
    }

    #[test]
    fn a_burst_is_taken_whole_then_the_rate() {
        let tariff = tariff(100, 10, 0);
        let mut allowance = Allowance::default();
        let taken = (0..20).filter(|_| allowance.pay_message(&tariff).0 < Standing::Over).count();
        assert_eq!(taken, 10);
        // Paying back what was refused as well takes its time.
        allowance.pass(Micros::from_ms(200));
        for _ in 0..1_000 {
            assert!(allowance.pay_message(&tariff).0 < Standing::Near, "exactly the rate is never too much");
            allowance.pass(Micros::from_ms(10));
        }
    }

    #[test]
    fn who_is_refused_and_goes_on_is_ignored_no_longer_than_a_burst() {
        let tariff = tariff(100, 10, 0);
        let mut allowance = Allowance::default();
        let standings: Vec<_> = (0..21).map(|_| allowance.pay_message(&tariff).0).collect();
        let count = |of| standings.iter().filter(|&&standing| standing == of).count();
        assert_eq!(count(Standing::Near), 2);
        assert_eq!(count(Standing::Over), 10);
        assert_eq!(standings[20], Standing::Ignored);
    }

    #[test]
    fn bytes_count_apart_and_a_message_of_any_size_fits() {
        let tariff = tariff(0, 0, 100);
        let mut allowance = Allowance::default();
        allowance.pay_bytes(&tariff, 1_000);
        assert!(allowance.pay_message(&tariff).0 < Standing::Over);
        assert_eq!(allowance.left(&tariff, Limited::Bytes).reset, Micros::from_s(10));
        allowance.pay_bytes(&tariff, 200);
        assert_eq!(allowance.pay_message(&tariff), (Standing::Over, Limited::Bytes));
        allowance.pass(Micros::from_s(12));
        assert_eq!(allowance.pay_message(&tariff).0, Standing::Well);
        assert_eq!(allowance.left(&tariff, Limited::Bytes), Left { permille: 1_000, reset: Micros(0) });
    }

    #[test]
    fn a_limit_of_zero_is_none() {
        let tariff = tariff(0, 400, 0);
        let mut allowance = Allowance::default();
        for _ in 0..100_000 {
            allowance.pay_bytes(&tariff, 1 << 20);
            assert_eq!(allowance.pay_message(&tariff).0, Standing::Well);
        }
    }
}
