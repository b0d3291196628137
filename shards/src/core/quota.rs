//! What a node gives out only so often, counted over all its shards: connections, rooms, connections of each user and of
//! each address; and whether there is memory for more.
//!
//! Shards reserve before they do the work and give back when its fruit has gone, from threads of their own and without
//! waiting for each other, so a bound is never passed, however many ask at once. Bounded by what is out: a user or an
//! address is remembered only while it has a connection.

use ::core::net::IpAddr;
use ::core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::channel::Interest;
use super::config::ShardConfig;
use super::networks::{bits_of, host_of};

/// Lists in the table of users, and in that of addresses, at most: half a megabyte each.
const LISTS_MAX: usize = 65_536;

/// What all shards of a node may give out, and have; and which channels they listen to.
#[derive(Debug)]
pub struct Quotas {
    connections: Total,
    rooms: Total,
    users: Shares,
    addresses: Shares,
    memory_short: AtomicBool,
    /// Who of them listens to which channels.
    pub(super) interest: Interest,
    /// Keeps anybody from choosing names that collide.
    seed: u64,
}

/// Which bound stands in the way of one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exhausted {
    /// `limits.connections_max`.
    Connections,
    /// `limits.connections_per_user_max`.
    User,
    /// `limits.connections_per_ip_max`.
    Address,
}

/// What is out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Out {
    /// Connections.
    pub connections: usize,
    /// Rooms.
    pub rooms: usize,
    /// Users with a connection, where they are counted.
    pub users: usize,
    /// Addresses with a connection, where they are counted.
    pub addresses: usize,
}

impl Quotas {
    /// Nothing is out yet. Users are counted only where a gate says who they are.
    #[must_use]
    pub fn new(config: &ShardConfig, seed: u64) -> Self {
        let limits = &config.limits;
        let each_user_max = if config.gate.is_some() { limits.connections_per_user_max } else { 0 };
        Self {
            connections: Total::new(limits.connections_max),
            rooms: Total::new(limits.rooms_max),
            users: Shares::new(each_user_max, limits.connections_max),
            addresses: Shares::new(limits.connections_per_ip_max, limits.connections_max),
            memory_short: AtomicBool::new(false),
            interest: Interest::new(config.shards, seed),
            seed,
        }
    }

    /// Says whether the process has come near the memory it may have: shards take nothing new on then.
    pub fn set_memory_short(&self, short: bool) {
        self.memory_short.store(short, Relaxed);
    }

    pub(super) fn memory_is_short(&self) -> bool {
        self.memory_short.load(Relaxed)
    }

    /// What is out now.
    #[must_use]
    pub fn out(&self) -> Out {
        Out {
            connections: self.connections.out(),
            rooms: self.rooms.out(),
            users: self.users.known.load(Relaxed),
            addresses: self.addresses.known.load(Relaxed),
        }
    }

    /// Subscriptions to channels in the node.
    #[must_use]
    pub fn subscriptions(&self) -> u64 {
        self.interest.total()
    }

    /// Whether no connection is left: worth knowing before a token is checked, and no promise.
    pub(super) fn is_full(&self) -> bool {
        self.connections.out() >= self.connections.max
    }

    /// Reserves a connection. The node's is last, so that those who have had theirs keep it from nobody.
    ///
    /// # Errors
    /// Which bound is reached; nothing is reserved then.
    pub(super) fn take_connection(&self, user: Option<&str>, from: IpAddr) -> Result<(), Exhausted> {
        let (user, address) = (self.user(user), self.address(from));
        if !self.addresses.take(address) {
            return Err(Exhausted::Address);
        }
        if !self.users.take(user) {
            self.addresses.give_back(address);
            return Err(Exhausted::User);
        }
        if !self.connections.take() {
            self.users.give_back(user);
            self.addresses.give_back(address);
            return Err(Exhausted::Connections);
        }
        Ok(())
    }

    /// Gives back what was reserved for the same user and address.
    pub(super) fn give_back_connection(&self, user: Option<&str>, from: IpAddr) {
        self.connections.give_back(1);
        self.users.give_back(self.user(user));
        self.addresses.give_back(self.address(from));
    }

    /// Reserves a room, if one is left.
    pub(super) fn take_room(&self) -> bool {
        self.rooms.take()
    }

    pub(super) fn give_back_rooms(&self, rooms: usize) {
        self.rooms.give_back(rooms);
    }

    fn user(&self, sub: Option<&str>) -> Option<u64> {
        sub.map(|sub| xxh3_64_with_seed(sub.as_bytes(), self.seed))
    }

    /// The host itself is not counted.
    fn address(&self, from: IpAddr) -> Option<u64> {
        let counts = !from.to_canonical().is_loopback();
        counts.then(|| xxh3_64_with_seed(&bits_of(host_of(from)).to_le_bytes(), self.seed))
    }
}

/// One count with a bound.
#[derive(Debug)]
struct Total {
    out: AtomicUsize,
    max: usize,
}

impl Total {
    const fn new(max: usize) -> Self {
        Self { out: AtomicUsize::new(0), max }
    }

    fn out(&self) -> usize {
        self.out.load(Relaxed)
    }

    fn take(&self) -> bool {
        self.out.fetch_update(Relaxed, Relaxed, |out| (out < self.max).then_some(out + 1)).is_ok()
    }

    fn give_back(&self, count: usize) {
        let before = self.out.fetch_sub(count, Relaxed);
        debug_assert!(before >= count, "more came back than was out");
    }
}

/// A count for each of many, all with the same bound; zero is none, and then nothing is counted.
///
/// A table of short lists, found by hash. A list is never changed: it is replaced, if nobody has replaced it meanwhile.
#[derive(Debug)]
struct Shares {
    lists: Box<[ArcSwapOption<Vec<Share>>]>,
    /// How many there are in all lists.
    known: AtomicUsize,
    each_max: usize,
}

/// What one of them has out: one at least.
#[derive(Clone, Copy, Debug)]
struct Share {
    who: u64,
    out: usize,
}

impl Shares {
    /// Dimensioned for so many at once.
    fn new(each_max: usize, expected: usize) -> Self {
        let lists = if each_max == 0 { 0 } else { (expected / 8).clamp(64, LISTS_MAX) };
        let lists = (0..lists).map(|_| ArcSwapOption::empty()).collect();
        Self { lists, known: AtomicUsize::new(0), each_max }
    }

    fn take(&self, who: Option<u64>) -> bool {
        self.change(who, |out| (out < self.each_max).then_some(out + 1))
    }

    fn give_back(&self, who: Option<u64>) {
        let given = self.change(who, |out| out.checked_sub(1));
        debug_assert!(given, "more came back than was out");
    }

    /// Makes of what one has out what `to` says, unless that says no.
    fn change(&self, who: Option<u64>, to: impl Fn(usize) -> Option<usize>) -> bool {
        let Some(who) = who.filter(|_| self.each_max > 0) else { return true };
        let list = &self.lists[(who % self.lists.len() as u64) as usize];
        let mut now = list.load();
        loop {
            let shares = now.as_ref().map_or(&[][..], |shares| shares.as_slice());
            let had = shares.iter().find(|share| share.who == who).map_or(0, |share| share.out);
            let Some(has) = to(had) else { return false };
            let rest = shares.iter().copied().filter(|share| share.who != who);
            let next: Vec<Share> = rest.chain((has > 0).then_some(Share { who, out: has })).collect();
            let next = (!next.is_empty()).then(|| Arc::new(next));
            let before = list.compare_and_swap(&*now, next);
            if before.as_ref().map(Arc::as_ptr) == now.as_ref().map(Arc::as_ptr) {
                if had == 0 {
                    self.known.fetch_add(1, Relaxed);
                } else if has == 0 {
                    self.known.fetch_sub(1, Relaxed);
                }
                return true;
            }
            now = before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::gate::{Denied, Gate, Pass};
    use super::*;

    #[derive(Debug)]
    struct ClosedGate;

    impl Gate for ClosedGate {
        fn check(&self, _token: &str) -> Result<Pass, Denied> {
            Err(Denied::Unauthorized("nobody comes in"))
        }
    }

    fn quotas(connections: usize, each_user: usize, each_address: usize) -> Quotas {
        let mut config = ShardConfig { gate: Some(Arc::new(ClosedGate)), ..ShardConfig::default() };
        let limits = &mut config.limits;
        (limits.connections_max, limits.rooms_max) = (connections, 3);
        (limits.connections_per_user_max, limits.connections_per_ip_max) = (each_user, each_address);
        Quotas::new(&config, 7)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn whoever_is_refused_has_reserved_nothing() {
        let quotas = quotas(2, 1, 2);
        let here = address("198.51.100.7");
        assert_eq!(quotas.take_connection(Some("ann"), here), Ok(()));
        assert_eq!(quotas.take_connection(Some("ann"), here), Err(Exhausted::User));
        assert_eq!(quotas.take_connection(Some("bob"), here), Ok(()));
        assert_eq!(quotas.take_connection(Some("cay"), here), Err(Exhausted::Address));
        assert_eq!(quotas.take_connection(Some("cay"), address("198.51.100.8")), Err(Exhausted::Connections));
        assert_eq!(quotas.out(), Out { connections: 2, rooms: 0, users: 2, addresses: 1 });
        quotas.give_back_connection(Some("ann"), here);
        quotas.give_back_connection(Some("bob"), here);
        assert_eq!(quotas.out(), Out::default(), "who has nothing is forgotten");
    }

    #[test]
    fn a_host_is_one_address_however_it_is_written_and_this_one_is_none() {
        let quotas = quotas(100, 0, 1);
        for (one, other) in [("192.0.2.1", "::ffff:192.0.2.1"), ("2001:db8:1:2:a::1", "2001:db8:1:2:ffff::9")]
        {
            assert_eq!(quotas.take_connection(None, address(one)), Ok(()));
            assert_eq!(quotas.take_connection(None, address(other)), Err(Exhausted::Address));
            quotas.give_back_connection(None, address(other));
        }
        for host in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(quotas.take_connection(Some("u"), address(host)), Ok(()));
            assert_eq!(quotas.take_connection(Some("u"), address(host)), Ok(()));
        }
        assert_eq!(quotas.out(), Out { connections: 8, ..Out::default() });
    }
}
