//! Values as the layers bring them: read from text or TOML according to the key's kind.

use std::fmt;
use std::net::SocketAddr;

use shards::rt::{SOCKET_PATH_BYTES_MAX, UNIX_PREFIX};

use super::keys::{Key, Kind};

/// A value of the right kind and within its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// Of [`Kind::Number`].
    Number(u64),
    /// Of [`Kind::Switch`].
    Switch(bool),
    /// Of [`Kind::Choice`], [`Kind::Address`], [`Kind::Text`] or [`Kind::File`].
    Text(String),
    /// Of [`Kind::Cores`].
    Cores(Vec<usize>),
    /// Of [`Kind::List`].
    List(Vec<String>),
    /// Of [`Kind::Secret`].
    Secret(Secret),
}

/// A text that no message, log or page may show.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// The secret, for who uses it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "Secret(none)" } else { "Secret(set)" })
    }
}

/// As TOML.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Switch(on) => on.fmt(f),
            Self::Text(text) => write!(f, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
            Self::Cores(cores) => write!(f, "{cores:?}"),
            Self::List(list) => write!(f, "{list:?}"),
            Self::Secret(secret) if secret.is_empty() => f.write_str("\"\""),
            Self::Secret(_) => f.write_str("(set)"),
        }
    }
}

/// What is wrong with a value, and what mends it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unfit {
    /// A sentence.
    pub(crate) problem: String,
    /// A sentence.
    pub(crate) remedy: String,
}

impl Value {
    /// Reads what a flag or an environment variable says.
    pub(crate) fn from_text(key: &Key, text: &str) -> Result<Self, Unfit> {
        let text = text.trim();
        let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        match &key.kind {
            Kind::Number { .. } => match bare.replace('_', "").parse::<i128>() {
                Ok(number) => within(key, number),
                Err(_) => Err(mistyped(key, &key.kind)),
            },
            Kind::Switch => match bare {
                "true" => Ok(Self::Switch(true)),
                "false" => Ok(Self::Switch(false)),
                _ => Err(mistyped(key, &key.kind)),
            },
            Kind::Choice(of) => chosen(of, bare),
            Kind::Address => addressed(key, bare),
            Kind::File => named(key, bare),
            Kind::Cores => cores(bare.trim_start_matches('[').trim_end_matches(']')),
            Kind::Text => Ok(Self::Text(bare.to_owned())),
            Kind::List => Ok(listed(bare.trim_start_matches('[').trim_end_matches(']'))),
            Kind::Secret => Ok(Self::Secret(Secret(bare.to_owned()))),
        }
    }

    /// Reads what a file says.
    pub(crate) fn from_toml(key: &Key, value: &toml::de::DeValue<'_>) -> Result<Self, Unfit> {
        use toml::de::DeValue;
        match (&key.kind, value) {
            (Kind::Number { .. }, DeValue::Integer(integer)) => {
                match i128::from_str_radix(&integer.as_str().replace('_', ""), integer.radix()) {
                    Ok(number) => within(key, number),
                    Err(_) => Err(mistyped(key, &key.kind)),
                }
            }
            (Kind::Switch, DeValue::Boolean(on)) => Ok(Self::Switch(*on)),
            (Kind::Choice(of), DeValue::String(word)) => chosen(of, word),
            (Kind::Address, DeValue::String(text)) => addressed(key, text),
            (Kind::File, DeValue::String(text)) => named(key, text),
            (Kind::Cores, DeValue::String(text)) => cores(text),
            (Kind::Cores, DeValue::Array(list)) => {
                let number = |item: &toml::Spanned<DeValue<'_>>| {
                    item.get_ref().as_integer().and_then(|number| number.as_str().parse().ok())
                };
                let list: Option<Vec<usize>> = list.iter().map(number).collect();
                list.map(Self::Cores).ok_or_else(|| mistyped(key, &key.kind))
            }
            (Kind::Text, DeValue::String(text)) => Ok(Self::Text(text.clone().into_owned())),
            (Kind::Secret, DeValue::String(text)) => Ok(Self::Secret(Secret(text.clone().into_owned()))),
            (Kind::List, DeValue::String(text)) => Ok(listed(text)),
            (Kind::List, DeValue::Array(list)) => {
                let texts = list.iter().map(|item| item.get_ref().as_str().map(str::to_owned));
                texts.collect::<Option<_>>().map(Self::List).ok_or_else(|| mistyped(key, &key.kind))
            }
            _ => Err(mistyped(key, &key.kind)),
        }
    }
}

fn listed(text: &str) -> Value {
    let items = text.split(',').map(|item| item.trim().trim_matches('"')).filter(|item| !item.is_empty());
    Value::List(items.map(str::to_owned).collect())
}

fn within(key: &Key, number: i128) -> Result<Value, Unfit> {
    let Kind::Number { unit, min, max } = key.kind else {
        unreachable!("only numbers have bounds");
    };
    if number < i128::from(min) || number > i128::from(max) {
        let nearest = if number < i128::from(min) { min } else { max };
        return Err(Unfit {
            problem: format!("must be {min} to {max} ({unit})"),
            remedy: format!("the nearest allowed value is {nearest}"),
        });
    }
    // In bounds, so it fits.
    Ok(Value::Number(number as u64))
}

fn chosen(of: &[&str], word: &str) -> Result<Value, Unfit> {
    if of.contains(&word) {
        return Ok(Value::Text(word.to_owned()));
    }
    let list = of.join(", ");
    let later = of == super::keys::ENGINES && ["realtime", "worker"].contains(&word);
    let problem = if later { "is not available in this release" } else { "is not known" };
    Err(Unfit { problem: problem.to_owned(), remedy: format!("choose one of {list}") })
}

fn addressed(key: &Key, text: &str) -> Result<Value, Unfit> {
    // Names are not resolved: which address is listened on must not depend on somebody's DNS.
    let text =
        text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    if let Some(path) = text.strip_prefix(UNIX_PREFIX) {
        return socket_at(path).map(|()| Value::Text(text));
    }
    match text.parse::<SocketAddr>() {
        Ok(address) => Ok(Value::Text(address.to_string())),
        Err(_) => Err(mistyped(key, &key.kind)),
    }
}

/// Whether a socket can have this path. One that does not begin at the root would depend on where the server is started.
fn socket_at(path: &str) -> Result<(), Unfit> {
    let (problem, remedy) = if !path.starts_with('/') || path.ends_with('/') {
        ("is not the whole path of a socket", "write it like unix:/run/voxhall/public.sock".to_owned())
    } else if path.len() > SOCKET_PATH_BYTES_MAX {
        ("is too long for the path of a socket", format!("use one of {SOCKET_PATH_BYTES_MAX} bytes or less"))
    } else {
        return Ok(());
    };
    Err(Unfit { problem: problem.to_owned(), remedy })
}

fn named(key: &Key, path: &str) -> Result<Value, Unfit> {
    if path.is_empty() { Err(mistyped(key, &key.kind)) } else { Ok(Value::Text(path.to_owned())) }
}

fn cores(text: &str) -> Result<Value, Unfit> {
    let unfit = || Unfit {
        problem: "is not a list of cores".to_owned(),
        remedy: "write core numbers with commas between, ranges with a dash: 0,2-5".to_owned(),
    };
    let mut list = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let from: usize = from.trim().parse().map_err(|_| unfit())?;
        let to: usize = to.trim().parse().map_err(|_| unfit())?;
        // More cores than any kernel is built for is a slip, not a list to allocate.
        if from > to || to - from > 8_192 {
            return Err(unfit());
        }
        list.extend(from..=to);
    }
    Ok(Value::Cores(list))
}

fn mistyped(key: &Key, kind: &Kind) -> Unfit {
    let (problem, remedy) = match kind {
        Kind::Number { unit, min, max } => (
            "is not a whole number".to_owned(),
            format!("write a number from {min} to {max} ({unit}), without quotes or unit"),
        ),
        Kind::Switch => {
            ("is neither true nor false".to_owned(), "write true or false, without quotes".to_owned())
        }
        Kind::Choice(of) => ("is not a word".to_owned(), format!("write one of {} in quotes", of.join(", "))),
        Kind::Address => (
            "is not an IP address with a port, nor the path of a socket".to_owned(),
            format!(
                "write it like {} or \"unix:/run/voxhall/public.sock\"",
                key.default.value().map_or_else(String::new, |value| value.to_string())
            ),
        ),
        Kind::Text | Kind::Secret => ("is not a text".to_owned(), "write it in quotes".to_owned()),
        Kind::List => ("is not a list of texts".to_owned(), "write it like [\"a\", \"b\"]".to_owned()),
        Kind::Cores => ("is not a list of cores".to_owned(), "write it like [0, 1] or \"0,2-5\"".to_owned()),
        Kind::File => {
            ("names no file".to_owned(), "write its path in quotes, or leave the key out".to_owned())
        }
    };
    Unfit { problem, remedy }
}

#[cfg(test)]
mod tests {
    use super::super::keys::find;
    use super::*;

    fn read(key: &str, text: &str) -> Result<Value, Unfit> {
        Value::from_text(find(key).expect("a key"), text)
    }

    #[test]
    fn text_is_read_by_the_kind_of_its_key() {
        assert_eq!(read("outbox.messages_max", "1_024"), Ok(Value::Number(1_024)));
        assert_eq!(read("server.echo_endpoint", "true"), Ok(Value::Switch(true)));
        assert_eq!(read("room.engine", "\"relay\""), Ok(Value::Text("relay".to_owned())));
        assert_eq!(read("server.cores", "[0, 2-4]"), Ok(Value::Cores(vec![0, 2, 3, 4])));
        assert_eq!(read("server.listen", "localhost:80"), Ok(Value::Text("127.0.0.1:80".to_owned())));
        let list = Value::List(vec!["https://a".to_owned(), "https://*.b".to_owned()]);
        assert_eq!(read("server.allowed_origins", "https://a, \"https://*.b\""), Ok(list.clone()));
        assert_eq!(read("server.allowed_origins", &list.to_string()), Ok(list));
        let secret = read("auth.hs256_secret", "never seen").expect("a secret");
        assert!(!format!("{secret} {secret:?}").contains("seen"));
        let socket = "unix:/run/voxhall/public.sock";
        assert_eq!(read("server.listen", socket), Ok(Value::Text(socket.to_owned())));
        assert_eq!(read("server.listen", "[::1]:80"), Ok(Value::Text("[::1]:80".to_owned())));
    }

    #[test]
    fn what_is_unfit_says_what_would_fit() {
        for (key, text, hint) in [
            ("outbox.messages_max", "7", "nearest allowed value is 8"),
            ("outbox.messages_max", "99999999999999999999999", "nearest allowed value is 65536"),
            ("outbox.messages_max", "", "without quotes or unit"),
            ("outbox.coalesce_ms", "25ms", "without quotes or unit"),
            ("server.insecure", "yes", "true or false"),
            ("room.engine", "cello", "echo, relay, parrot, realtime, worker"),
            ("server.listen", "8080", "127.0.0.1:8080"),
            ("server.listen", "unix:public.sock", "unix:/run/voxhall/public.sock"),
            ("server.listen", "unix:/run/voxhall/", "unix:/run/voxhall/public.sock"),
            ("server.listen", &format!("unix:/{}", "x".repeat(107)), "107 bytes or less"),
            ("server.cores", "3-1", "0,2-5"),
            ("server.cores", "", "0,2-5"),
        ] {
            let unfit = read(key, text).expect_err(text);
            assert!(unfit.remedy.contains(hint), "{key}={text}: {unfit:?}");
        }
    }
}
