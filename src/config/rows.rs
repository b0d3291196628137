//! Short forms for the rows of the table of keys.

use super::keys::{Default, Key, Kind};

/// How many keys there are in all families.
pub(super) const fn count(families: &[&[Key]]) -> usize {
    let (mut at, mut count) = (0, 0);
    while at < families.len() {
        count += families[at].len();
        at += 1;
    }
    count
}

/// The keys of all families in one table.
pub(super) const fn joined<const COUNT: usize>(families: &[&[Key]]) -> [Key; COUNT] {
    let mut keys = [families[0][0]; COUNT];
    let (mut family, mut at, mut place) = (0, 0, 0);
    while place < COUNT {
        if at == families[family].len() {
            (family, at) = (family + 1, 0);
        } else {
            keys[place] = families[family][at];
            (at, place) = (at + 1, place + 1);
        }
    }
    keys
}

pub(super) const fn number(
    name: &'static str,
    unit: &'static str,
    default: u64,
    (min, max): (u64, u64),
    reason: &'static str,
) -> Key {
    Key { name, kind: Kind::Number { unit, min, max }, default: Default::Number(default), reason }
}

pub(super) const fn derived(
    name: &'static str,
    unit: &'static str,
    how: &'static str,
    (min, max): (u64, u64),
    reason: &'static str,
) -> Key {
    Key { name, kind: Kind::Number { unit, min, max }, default: Default::Derived(how), reason }
}

pub(super) const fn choice(
    name: &'static str,
    of: &'static [&'static str],
    default: &'static str,
    reason: &'static str,
) -> Key {
    Key { name, kind: Kind::Choice(of), default: Default::Text(default), reason }
}

pub(super) const fn address(name: &'static str, default: &'static str, reason: &'static str) -> Key {
    Key { name, kind: Kind::Address, default: Default::Text(default), reason }
}

pub(super) const fn switch(name: &'static str, reason: &'static str) -> Key {
    Key { name, kind: Kind::Switch, default: Default::Off, reason }
}

pub(super) const fn text(name: &'static str, reason: &'static str) -> Key {
    Key { name, kind: Kind::Text, default: Default::Text(""), reason }
}

pub(super) const fn list(name: &'static str, reason: &'static str) -> Key {
    Key { name, kind: Kind::List, default: Default::NoList, reason }
}

pub(super) const fn file(name: &'static str, reason: &'static str) -> Key {
    Key { name, kind: Kind::File, default: Default::Unset, reason }
}
