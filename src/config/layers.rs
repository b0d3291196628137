//! The layers: defaults, file, environment, flags. Each sets keys of the table; the later one wins, and every value
//! remembers where it was set.

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Place};
use super::keys::{self, Key, Kind};
use super::spelling;
use super::value::Value;

/// What the layers said, with everything that was wrong with it. Becomes a `Config` by [`super::resolve`].
#[derive(Debug, Default)]
pub(crate) struct RawConfig {
    settings: BTreeMap<&'static str, Setting>,
    errors: Vec<ConfigError>,
}

/// A value and where it was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// The value.
    pub(crate) value: Value,
    /// Its place.
    pub(crate) place: Place,
}

/// A key and a value as text, from a flag.
#[derive(Clone, Debug)]
pub(crate) struct FlagSetting {
    /// The flag as typed, for errors.
    pub(crate) flag: String,
    /// The key.
    pub(crate) key: String,
    /// The value.
    pub(crate) value: String,
}

impl RawConfig {
    /// Puts the layers on top of each other: file, then environment, then flags.
    pub(crate) fn gather(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &[FlagSetting],
    ) -> Self {
        let mut raw = Self::default();
        if let Some(path) = file {
            raw.read_file(path);
        }
        raw.read_environment(environment);
        for FlagSetting { flag, key, value } in flags {
            raw.set_text(key, value, Place::Flag(flag.clone()));
        }
        raw
    }

    /// What was set for the key, if anybody did.
    pub(crate) fn get(&self, key: &str) -> Option<&Setting> {
        self.settings.get(key)
    }

    /// The mistakes so far.
    pub(crate) fn take_errors(&mut self) -> Vec<ConfigError> {
        std::mem::take(&mut self.errors)
    }

    fn read_file(&mut self, path: &Path) {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => self.read_toml(&name, &text),
            Err(error) => self.errors.push(ConfigError {
                key: String::new(),
                value: None,
                place: Place::Flag(format!("--config {name}")),
                problem: format!("the file can't be read: {error}"),
                remedy: format!("name a readable file; `voxhall default-config > {name}` writes one"),
            }),
        }
    }

    /// Reads a file's text; `name` is what errors call it.
    pub(crate) fn read_toml(&mut self, name: &str, text: &str) {
        let place = |at: usize| Place::File { path: name.to_owned(), line: line_at(text, at) };
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            self.errors.push(ConfigError {
                key: String::new(),
                value: None,
                place: place(error.span().map_or(0, |span| span.start)),
                problem: format!("not TOML: {}", error.message().replace('\n', " ")),
                remedy: "write `key = value` lines under `[table]` headers, as `voxhall default-config` does"
                    .to_owned(),
            });
        }
        for (table, content) in root.get_ref() {
            let table_name = table.get_ref().as_ref();
            let Some(keys) = content.get_ref().as_table() else {
                self.misplaced(table_name, place(table.span().start));
                continue;
            };
            for (leaf, value) in keys {
                let key = format!("{table_name}.{}", leaf.get_ref());
                self.set_toml(&key, value.get_ref(), place(leaf.span().start));
            }
        }
        // Tables come in the order of their names; people read a file from the top.
        self.errors.sort_by_key(|error| match error.place {
            Place::File { line, .. } => line,
            _ => 0,
        });
    }

    fn read_environment(&mut self, environment: impl IntoIterator<Item = (String, String)>) {
        let environment: BTreeMap<String, String> = environment.into_iter().collect();
        // The short names first: whoever writes the long one as well means it.
        for (name, key) in keys::SHORT_VARIABLES {
            if let Some(value) = environment.get(*name) {
                self.set_text(key, value, Place::Variable((*name).to_owned()));
            }
        }
        for (name, value) in &environment {
            // Names without a double underscore are somebody else's: an orchestrator makes VOXHALL_PORT and the
            // like for a service called voxhall.
            let path = name.strip_prefix(keys::VARIABLE_PREFIX).and_then(|rest| rest.split_once("__"));
            if let Some((table, leaf)) = path {
                let key = format!("{}.{}", table.to_ascii_lowercase(), leaf.to_ascii_lowercase());
                self.set_text(&key, value, Place::Variable(name.clone()));
            }
        }
    }

    fn set_text(&mut self, name: &str, text: &str, place: Place) {
        if let Some(key) = self.known(name, text.trim().trim_matches('"'), &place) {
            self.put(key, text, Value::from_text(key, text), place);
        }
    }

    fn set_toml(&mut self, name: &str, value: &DeValue<'_>, place: Place) {
        let shown = shown(value);
        let bare = shown.trim_matches('"').to_owned();
        if let Some(key) = self.known(name, &bare, &place) {
            self.put(key, &shown, Value::from_toml(key, value), place);
        }
    }

    fn put(
        &mut self,
        key: &'static Key,
        shown: &str,
        value: Result<Value, super::value::Unfit>,
        place: Place,
    ) {
        match value {
            Ok(value) => {
                self.settings.insert(key.name, Setting { value, place });
            }
            Err(unfit) => self.errors.push(ConfigError {
                key: key.name.to_owned(),
                value: (!matches!(key.kind, Kind::Secret)).then(|| shown.to_owned()),
                place,
                problem: unfit.problem,
                remedy: unfit.remedy,
            }),
        }
    }

    /// The key of that name; otherwise notes what is wrong with the name.
    fn known(&mut self, name: &str, bare: &str, place: &Place) -> Option<&'static Key> {
        if let Some(key) = keys::find(name) {
            return Some(key);
        }
        let (problem, remedy) = match keys::find_later(name) {
            Some(later) if later.neutral == Some(bare) => return None,
            Some(later) => {
                let neutral = later.neutral.map(|value| format!(" or set it to {value}"));
                (
                    "is not available in this release".to_owned(),
                    format!("leave it out{}", neutral.unwrap_or_default()),
                )
            }
            None => {
                let remedy = match spelling::nearest(name) {
                    Some(nearest) => format!("did you mean {nearest}?"),
                    None => "`voxhall default-config` prints every key".to_owned(),
                };
                ("is not a known key".to_owned(), remedy)
            }
        };
        self.errors.push(ConfigError {
            key: name.to_owned(),
            value: None,
            place: place.clone(),
            problem,
            remedy,
        });
        None
    }

    fn misplaced(&mut self, name: &str, place: Place) {
        let is_table = keys::KEYS.iter().any(|key| key.table() == name);
        let remedy = match spelling::nearest(name) {
            _ if is_table => format!("{name} is a table: write [{name}] and its keys below"),
            Some(nearest) => {
                let (table, leaf) = nearest.split_once('.').unwrap_or(("", nearest));
                format!("did you mean {leaf} under [{table}]?")
            }
            None => "every key belongs under a [table]; `voxhall default-config` shows them".to_owned(),
        };
        let problem = "is not in a table".to_owned();
        self.errors.push(ConfigError { key: name.to_owned(), value: None, place, problem, remedy });
    }
}

/// A value as an error shows it: strings quoted, and nothing longer than a line.
fn shown(value: &DeValue<'_>) -> String {
    let text = match value {
        DeValue::String(text) => format!("\"{text}\""),
        DeValue::Integer(integer) => integer.as_str().to_owned(),
        DeValue::Float(float) => float.as_str().to_owned(),
        DeValue::Boolean(on) => on.to_string(),
        DeValue::Datetime(datetime) => datetime.to_string(),
        DeValue::Array(list) => {
            let items: Vec<String> = list.iter().map(|item| shown(item.get_ref())).collect();
            format!("[{}]", items.join(", "))
        }
        DeValue::Table(_) => "{…}".to_owned(),
    };
    if text.chars().count() > 80 { text.chars().take(79).chain(['…']).collect() } else { text }
}

fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag(key: &str, value: &str) -> FlagSetting {
        FlagSetting { flag: format!("--set {key}={value}"), key: key.to_owned(), value: value.to_owned() }
    }

    fn errors_of_file(text: &str) -> Vec<String> {
        let mut raw = RawConfig::default();
        raw.read_toml("v.toml", text);
        raw.take_errors().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_later_layer_wins_and_the_place_is_remembered() {
        let mut raw = RawConfig::default();
        raw.read_toml("v.toml", "[outbox]\nmessages_max = 100\ncoalesce_ms = 10\nbytes_max = 8192\n");
        let environment =
            [("WS_OUTGOING_MAX", "200"), ("VOXHALL_OUTBOX__COALESCE_MS", "20"), ("WS_COALESCE_MS", "30")];
        raw.read_environment(environment.map(|(name, value)| (name.to_owned(), value.to_owned())));
        raw.set_text("outbox.messages_max", "300", Place::Flag("--set".to_owned()));
        let found = |key: &str| raw.get(key).map(|s| (s.value.to_string(), s.place.to_string()));
        assert_eq!(found("outbox.messages_max"), Some(("300".to_owned(), "flag --set".to_owned())));
        assert_eq!(
            found("outbox.coalesce_ms"),
            Some(("20".to_owned(), "environment VOXHALL_OUTBOX__COALESCE_MS".to_owned()))
        );
        assert_eq!(found("outbox.bytes_max"), Some(("8192".to_owned(), "v.toml:4".to_owned())));
        assert_eq!(found("room.engine"), None);
    }

    #[test]
    fn every_mistake_of_a_file_is_told_with_its_line() {
        let errors =
            errors_of_file("[outbox]\nmesages_max = 1\nbytes_max = \"big\"\n\n[room]\nlinger_s = 1.5\n");
        assert_eq!(errors.len(), 3, "{errors:#?}");
        assert!(errors[0].starts_with(
            "v.toml:2: outbox.mesages_max is not a known key; did you mean outbox.messages_max?"
        ));
        assert!(errors[1].starts_with("v.toml:3: outbox.bytes_max = \"big\" is not a whole number"));
        assert!(errors[2].starts_with("v.toml:6: room.linger_s = 1.5 is not a whole number"));
    }

    #[test]
    fn a_key_outside_its_table_is_led_home() {
        let errors = errors_of_file("linger_s = 5\nroom = 3\n");
        assert!(errors[0].contains("did you mean linger_s under [room]?"), "{errors:#?}");
        assert!(errors[1].contains("write [room] and its keys below"), "{errors:#?}");
    }

    #[test]
    fn text_that_is_not_toml_is_told_with_its_line() {
        let errors = errors_of_file("[room]\nlinger_s = \n");
        assert!(errors[0].starts_with("v.toml:2: not TOML: "), "{errors:#?}");
    }

    #[test]
    fn keys_of_later_releases_are_refused() {
        let mut raw = RawConfig::gather(None, [], &[flag("cluster.redis_url", "redis://a")]);
        let errors = raw.take_errors();
        assert!(errors[0].problem.contains("not available in this release"), "{errors:?}");
    }

    #[test]
    fn variables_of_an_orchestrator_are_not_ours_but_a_misspelt_key_is() {
        let of = |name: &str| RawConfig::gather(None, [(name.to_owned(), "x".to_owned())], &[]).take_errors();
        assert_eq!(of("VOXHALL_PORT"), []);
        assert_eq!(of("VOXHALL_SERVICE_HOST"), []);
        assert!(of("VOXHALL_ROOM__LINGERS").len() == 1);
    }
}
