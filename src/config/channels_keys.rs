//! Channels: the rows of the table for `channels.*`, and the namespaces that `channels.namespaces` describes.

use shards::core::Micros;
use shards::core::channel::{
    ChannelConfig, ChannelName, Importance, Namespace, Publishers, Rate, Subscribers,
};

use super::keys::Key;
use super::resolve::Resolver;
use super::rows::{list, number};

/// Namespaces at most, the built-in ones included: each publication looks for its own among them.
const NAMESPACES_MAX: usize = 64;

const NAMESPACES_NAME: &str = "channels.namespaces";

/// The word that changes what another one says.
const BURST: &str = "messages_burst";

const NAMESPACES: Key = list(
    NAMESPACES_NAME,
    "Namespaces of channels, each a name and what differs from the defaults: \"news ttl_s=600 class=droppable publish=admin+user\". One of a built-in name changes that one.",
);

const STREAMS_MAX: Key = number(
    "channels.streams_max",
    "streams per shard",
    65_536,
    (1, 16_777_216),
    "Streams that a shard remembers; those that have been silent longest are forgotten first.",
);

const HISTORY_BYTES_MAX: Key = number(
    "channels.history_bytes_max",
    "bytes per shard",
    64 << 20,
    (1_048_576, 1 << 40),
    "What a shard remembers of all its streams together.",
);

pub(super) const SUBSCRIPTIONS_MAX: Key = number(
    "limits.subscriptions_max",
    "subscriptions",
    128,
    (0, 65_536),
    "Subscriptions of one connection to channels.",
);

/// In the order in which they are shown.
pub(super) const KEYS: &[Key] = &[NAMESPACES, STREAMS_MAX, HISTORY_BYTES_MAX];

impl Resolver<'_> {
    pub(super) fn check_channels(&mut self) {
        if let Err((problem, remedy)) = self.namespaces() {
            self.blame(NAMESPACES_NAME, problem, remedy);
        }
    }

    pub(super) fn channels(&self) -> ChannelConfig {
        ChannelConfig {
            namespaces: self.namespaces().expect("checked with the rest"),
            streams_max: self.number("channels.streams_max") as usize,
            history_bytes_max: self.number("channels.history_bytes_max") as usize,
        }
    }

    fn namespaces(&self) -> Result<Vec<Namespace>, (String, String)> {
        namespaces(self.list(NAMESPACES_NAME))
    }
}

/// The built-in namespaces with what is said of them, and the others.
fn namespaces(described: &[String]) -> Result<Vec<Namespace>, (String, String)> {
    let mut all: Vec<Namespace> = Namespace::built_in().into();
    let mut seen: Vec<&str> = Vec::new();
    for text in described {
        let mut words = text.split_whitespace();
        let name = words.next().unwrap_or_default();
        if !ChannelName::parse(name).is_ok_and(|parsed| parsed.namespace() == name) || name.contains('=') {
            let problem = format!("does not begin with a namespace's name: \"{text}\"");
            return Err((
                problem,
                "begin with the first segment of its channels, as in \"news ttl_s=600\"".to_owned(),
            ));
        }
        if seen.contains(&name) {
            return Err((format!("describes {name} twice"), "leave one of the two out".to_owned()));
        }
        seen.push(name);
        let known = all.iter().position(|namespace| *namespace.name == *name);
        let place = known.unwrap_or_else(|| {
            all.push(Namespace::named(name));
            all.len() - 1
        });
        let mut words: Vec<&str> = words.collect();
        let key = |word: &str| word.split_once('=').map_or(word, |(key, _)| key).to_owned();
        if let Some(again) =
            (1..words.len()).find(|&at| words[..at].iter().any(|word| key(word) == key(words[at])))
        {
            let problem = format!("says \"{}\" of {name} twice", key(words[again]));
            return Err((problem, "leave one of the two out".to_owned()));
        }
        // Whatever the order: a rate without a burst has its own.
        words.sort_by_key(|word| key(word) == BURST);
        for word in words {
            change(&mut all[place], word)
                .map_err(|remedy| (format!("says \"{word}\" of {name}, which means nothing"), remedy))?;
        }
    }
    if all.len() > NAMESPACES_MAX {
        let problem = format!("makes {} namespaces with the built-in ones", all.len());
        return Err((problem, format!("describe fewer: {NAMESPACES_MAX} are the most")));
    }
    Ok(all)
}

/// Changes one thing of a namespace.
fn change(namespace: &mut Namespace, word: &str) -> Result<(), String> {
    let (key, value) = word.split_once('=').ok_or("write it as key=value")?;
    let number = |min: u64, max: u64| {
        let number = value.parse().ok().filter(|number| (min..=max).contains(number));
        number.ok_or_else(|| format!("{key} takes a whole number from {min} to {max}"))
    };
    match key {
        "history_messages_max" => namespace.history_messages_max = number(0, 100_000)? as usize,
        "history_bytes_max" => namespace.history_bytes_max = number(0, 1 << 30)? as usize,
        "ttl_s" => namespace.ttl = Micros::from_s(number(1, 30 * 86_400)?),
        "dedupe_s" => namespace.dedupe = Micros::from_s(number(0, 86_400)?),
        "messages_per_s" => {
            let per_s = number(0, 1_000_000)?;
            namespace.rate = (per_s > 0).then_some(Rate { per_s, burst: 2 * per_s });
        }
        BURST => {
            let burst = number(1, 10_000_000)?;
            let rate = namespace.rate.as_mut().ok_or("leave it out where messages_per_s=0 is no limit")?;
            rate.burst = burst;
        }
        "class" => {
            namespace.importance = match value {
                "droppable" => Importance::Droppable,
                "control" => Importance::Control,
                "highest" => Importance::Highest,
                _ => return Err("class is droppable, control or highest".to_owned()),
            }
        }
        "subscribe" => {
            namespace.subscribers = match value {
                "anyone" => Subscribers::Anyone,
                "own" => Subscribers::Own,
                "claimed" => Subscribers::Claimed,
                _ => return Err("subscribe is anyone, own or claimed".to_owned()),
            }
        }
        "publish" => namespace.publishers = publishers(value)?,
        _ => {
            return Err(
                "known are history_messages_max, history_bytes_max, ttl_s, dedupe_s, messages_per_s, \
                        messages_burst, class, subscribe and publish"
                    .to_owned(),
            );
        }
    }
    Ok(())
}

fn publishers(words: &str) -> Result<Publishers, String> {
    let mut publishers = Publishers::default();
    for word in words.split('+') {
        match word {
            "admin" => publishers.admin = true,
            "server" => publishers.server = true,
            "user" => publishers.user = true,
            "none" => {}
            _ => return Err("publish is admin, server and user, joined by +, or none".to_owned()),
        }
    }
    Ok(publishers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(described: &[&str]) -> Result<Vec<Namespace>, (String, String)> {
        namespaces(&described.iter().map(|&text| text.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_namespace_is_as_it_is_described_and_otherwise_as_usual() {
        let all = read(&[
            "news ttl_s=600 class=droppable publish=admin+user messages_per_s=5 subscribe=anyone",
            "user ttl_s=60 messages_per_s=0",
            "before messages_burst=5 messages_per_s=10",
            "behind messages_per_s=10 messages_burst=5",
        ])
        .expect("right");
        let find = |name: &str| all.iter().find(|namespace| *namespace.name == *name).expect(name);
        let news = Namespace {
            ttl: Micros::from_s(600),
            importance: Importance::Droppable,
            publishers: Publishers { admin: true, server: false, user: true },
            rate: Some(Rate { per_s: 5, burst: 10 }),
            ..Namespace::named("news")
        };
        assert_eq!(*find("news"), news);
        let [user, collection, ..] = Namespace::built_in();
        assert_eq!(*find("user"), Namespace { ttl: Micros::from_s(60), rate: None, ..user });
        assert_eq!((find("collection"), all.len()), (&collection, 7));
        for name in ["before", "behind"] {
            assert_eq!(find(name).rate, Some(Rate { per_s: 10, burst: 5 }), "{name}");
        }
    }

    #[test]
    fn what_means_nothing_is_told_with_what_would() {
        for (described, problem, remedy) in [
            (&["news tll_s=5"][..], "\"tll_s=5\" of news", "known are"),
            (&["news ttl_s=0"], "\"ttl_s=0\" of news", "from 1 to"),
            (&["news class=big"], "\"class=big\"", "droppable, control or highest"),
            (&["news publish=all"], "\"publish=all\"", "admin, server and user"),
            (&["news big"], "\"big\"", "key=value"),
            (&["a:b ttl_s=1"], "does not begin with", "first segment"),
            (&["ttl_s=1"], "does not begin with", "first segment"),
            (&["news", "news"], "describes news twice", "leave one"),
            (&["news messages_per_s=0 messages_burst=5"], "\"messages_burst=5\"", "no limit"),
            (&["news messages_burst=5 messages_per_s=0"], "\"messages_burst=5\"", "no limit"),
            (&["news ttl_s=1 class=control ttl_s=1"], "says \"ttl_s\" of news twice", "leave one"),
        ] {
            let (told, mends) = read(described).expect_err("wrong");
            assert!(told.contains(problem) && mends.contains(remedy), "{described:?}: {told}; {mends}");
        }
    }
}
