//! Namespaces: how what is published in them is kept, what gives way to it, and who may do what there.

use super::super::event::Class;
use super::super::time::Micros;
use super::{Publication, Publisher};

/// What holds for every channel whose name begins with a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// The first segment of its channels.
    pub name: Box<str>,
    /// Messages that each stream remembers.
    pub history_messages_max: usize,
    /// Bytes of them.
    pub history_bytes_max: usize,
    /// For how long.
    pub ttl: Micros,
    /// What gives way to its messages.
    pub importance: Importance,
    /// How many may be published on each stream.
    pub rate: Option<Rate>,
    /// For how long a repeated `dedupe` key is known.
    pub dedupe: Micros,
    /// Who may publish.
    pub publishers: Publishers,
    /// Which connections may subscribe.
    pub subscribers: Subscribers,
}

/// What gives way to a message in a lane that is full, and whether it waits in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Importance {
    /// It is dropped, counted and told.
    Droppable,
    /// It is never lost: droppable messages and audio give way.
    Control,
    /// The same, and it goes ahead of them; never ahead of other control messages.
    Highest,
}

impl Importance {
    /// The class of its messages.
    #[must_use]
    pub const fn class(self) -> Class {
        match self {
            Self::Droppable => Class::Droppable,
            Self::Control | Self::Highest => Class::Control,
        }
    }
}

/// So many in a second, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In a second, at least one.
    pub per_s: u64,
    /// At once, at least one.
    pub burst: u64,
}

/// Who may publish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Publishers {
    /// The operator, and applications through the admin API.
    pub admin: bool,
    /// The server and its engines.
    pub server: bool,
    /// Connections that may subscribe, where their token does not say otherwise.
    pub user: bool,
}

/// Which connections may subscribe, on a server that asks who they are. Where nobody is asked, all may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscribers {
    /// All whose token does not say otherwise.
    Anyone,
    /// Those of the user whose id is the second segment.
    Own,
    /// Those whose token names the channel in its claim `channels`.
    Claimed,
}

/// All that a shard is told of channels.
#[derive(Clone, Debug)]
pub struct ChannelConfig {
    /// The namespaces that there are.
    pub namespaces: Vec<Namespace>,
    /// Streams that a shard remembers.
    pub streams_max: usize,
    /// Bytes of what it remembers of all of them.
    pub history_bytes_max: usize,
}

impl Default for ChannelConfig {
    fn default() -> Self {
        Self { namespaces: Namespace::built_in().into(), streams_max: 65_536, history_bytes_max: 64 << 20 }
    }
}

impl ChannelConfig {
    /// The namespace of this name, and its place among them.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<(usize, &Namespace)> {
        self.namespaces.iter().enumerate().find(|(_, namespace)| *namespace.name == *name)
    }
}

impl Namespace {
    /// A namespace as it is where nothing is said of it.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            history_messages_max: 100,
            history_bytes_max: 65_536,
            ttl: Micros::from_s(300),
            importance: Importance::Control,
            rate: Some(Rate { per_s: 100, burst: 200 }),
            dedupe: Micros::from_s(120),
            publishers: Publishers { admin: true, server: true, user: false },
            subscribers: Subscribers::Anyone,
        }
    }

    /// Those that are there without anybody's saying so (PROTOCOL 7).
    #[must_use]
    pub fn built_in() -> [Self; 4] {
        let events_rate = Some(Rate { per_s: 20_000, burst: 40_000 });
        [
            Self {
                ttl: Micros::from_s(24 * 3_600),
                publishers: Publishers { admin: true, server: true, user: true },
                subscribers: Subscribers::Own,
                ..Self::named("user")
            },
            Self {
                ttl: Micros::from_s(3_600),
                subscribers: Subscribers::Claimed,
                ..Self::named("collection")
            },
            Self {
                importance: Importance::Highest,
                publishers: Publishers { admin: true, server: false, user: false },
                ..Self::named("system")
            },
            Self {
                history_messages_max: 1_000,
                history_bytes_max: 1 << 20,
                ttl: Micros::from_s(60),
                importance: Importance::Droppable,
                rate: events_rate,
                subscribers: Subscribers::Claimed,
                ..Self::named("events")
            },
        ]
    }

    /// Whether whoever publishes this may, as far as the namespace is concerned.
    #[must_use]
    pub fn admits(&self, publication: &Publication) -> bool {
        match &publication.by {
            Publisher::Admin => self.publishers.admin,
            Publisher::Server => self.publishers.server,
            Publisher::User(Some(user)) if self.subscribers == Subscribers::Own => {
                self.publishers.user && second_of(&publication.channel) == Some(user)
            }
            Publisher::User(_) => self.publishers.user,
        }
    }
}

/// The second segment of a name or pattern.
#[must_use]
pub fn second_of(name: &str) -> Option<&str> {
    name.split(':').nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_say_who_may_publish() {
        let config = ChannelConfig::default();
        let user = |sub: Option<&str>| Publisher::User(sub.map(Into::into));
        for (channel, by, may) in [
            ("user:7:operation:1", Publisher::Admin, true),
            ("user:7:operation:1", Publisher::Server, true),
            ("user:7:operation:1", user(Some("7")), true),
            ("user:7:operation:1", user(Some("8")), false),
            ("user:7:operation:1", user(None), true),
            ("user", user(Some("8")), false),
            ("collection:1:items", Publisher::Server, true),
            ("collection:1:items", user(Some("7")), false),
            ("system:notice", Publisher::Admin, true),
            ("system:notice", Publisher::Server, false),
            ("system:notice", user(None), false),
            ("events:room.opened", Publisher::Server, true),
            ("events:room.opened", user(Some("7")), false),
        ] {
            let publication =
                Publication { by: by.clone(), ..Publication::new(channel, "{}", Publisher::Admin) };
            let name = channel.split(':').next().expect("a segment");
            let (_, namespace) = config.find(name).expect(name);
            assert_eq!(namespace.admits(&publication), may, "{channel} {by:?}");
        }
        assert!(config.find("nowhere").is_none());
    }
}
