//! How often each address asks for a WebSocket: one bucket for each that has asked lately.
//!
//! Bounded: addresses whose buckets are full again are forgotten, and past [`ADDRESSES_MAX`] a new one is let in
//! uncounted, since refusing it would let a crowd shut everybody out.

use ::core::net::IpAddr;
use std::collections::HashMap;

use xxhash_rust::xxh3::Xxh3Builder;

use super::networks::host_of;
use super::time::Micros;

/// Addresses remembered at once.
const ADDRESSES_MAX: usize = 65_536;
/// New addresses between two looks for those that can be forgotten.
const SWEEP_EVERY: usize = 4_096;

/// The buckets.
#[derive(Debug)]
pub(super) struct Upgrades {
    /// What an upgrade costs; zero when nothing is limited. A second's worth may come at once.
    price: Micros,
    /// Until when what each address has asked for is paid back.
    paid: HashMap<IpAddr, Micros, Xxh3Builder>,
    until_sweep: usize,
}

impl Upgrades {
    /// `seed` keeps anybody from choosing addresses that collide.
    pub(super) fn new(per_s: u64, seed: u64) -> Self {
        let price = Micros(1_000_000_u64.checked_div(per_s).unwrap_or(0));
        let hasher = Xxh3Builder::new().with_seed(seed);
        Self { price, paid: HashMap::with_hasher(hasher), until_sweep: SWEEP_EVERY }
    }

    /// Whether the address may have another upgrade, which it then has had. The host itself always may.
    pub(super) fn take(&mut self, now: Micros, from: IpAddr) -> bool {
        if self.price == Micros(0) || from.to_canonical().is_loopback() {
            return true;
        }
        let host = host_of(from);
        if !self.paid.contains_key(&host) && !self.has_room(now) {
            return true;
        }
        let paid = self.paid.entry(host).or_insert(now);
        let after = (*paid).max(now) + self.price;
        let allowed = after <= now + Micros::from_s(1);
        if allowed {
            *paid = after;
        }
        allowed
    }

    fn has_room(&mut self, now: Micros) -> bool {
        self.until_sweep -= 1;
        if self.until_sweep == 0 {
            self.until_sweep = SWEEP_EVERY;
            self.paid.retain(|_, paid| *paid > now);
        }
        self.paid.len() < ADDRESSES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_gets_a_seconds_worth_at_once_and_then_the_rate() {
        let mut upgrades = Upgrades::new(10, 1);
        let (flood, other) = (address("198.51.100.7"), address("198.51.100.8"));
        let taken = |upgrades: &mut Upgrades, at| {
            (0..100).filter(|_| upgrades.take(Micros::from_ms(at), flood)).count()
        };
        assert_eq!(taken(&mut upgrades, 1_000), 10);
        assert!(upgrades.take(Micros::from_ms(1_000), other), "one does not pay for another");
        assert_eq!(taken(&mut upgrades, 1_500), 5);
        assert_eq!(taken(&mut upgrades, 9_000), 10);
    }

    #[test]
    fn a_host_has_one_bucket_however_it_is_written() {
        let mut upgrades = Upgrades::new(1, 1);
        let now = Micros::from_s(5);
        assert!(upgrades.take(now, address("2001:db8:1:2:a::1")));
        assert!(!upgrades.take(now, address("2001:db8:1:2:ffff::9")));
        assert!(upgrades.take(now, address("2001:db8:1:3::1")));
        assert!(upgrades.take(now, address("192.0.2.1")));
        assert!(!upgrades.take(now, address("::ffff:192.0.2.1")));
    }

    #[test]
    fn memory_is_bounded_and_those_who_have_paid_are_forgotten() {
        let mut upgrades = Upgrades::new(1, 1);
        let crowd = |from: u32, count: u32| (from..from + count).map(|bits| IpAddr::V4(bits.into()));
        for from in crowd(1 << 24, 100_000) {
            assert!(upgrades.take(Micros::from_s(1), from));
        }
        assert_eq!(upgrades.paid.len(), ADDRESSES_MAX);
        for from in crowd(9 << 24, SWEEP_EVERY as u32) {
            assert!(upgrades.take(Micros::from_s(3), from));
        }
        assert!(upgrades.paid.len() <= SWEEP_EVERY);
    }
}
