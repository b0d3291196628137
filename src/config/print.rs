//! Configuration as TOML: the defaults with their reasons, and the values in force with their places.

use std::fmt::Write as _;

use super::keys::{Default, KEYS, Key, Kind, SHORT_VARIABLES};
use super::{Config, Effective, Value};

/// What `voxhall default-config` prints. Read as a file it changes nothing.
pub(crate) fn default_config() -> String {
    let mut out = String::from(
        "# Voxhall: every key with its default. Precedence: flag (--set table.key=value), environment\n\
         # (VOXHALL_TABLE__KEY), this file, default. Keys that are commented out come from the host or the profile, or are not set.\n",
    );
    let mut table = "";
    for key in KEYS {
        if key.table() != table {
            table = key.table();
            line(&mut out, format_args!("\n[{table}]"));
        }
        for words in wrapped(key.reason) {
            line(&mut out, format_args!("# {words}"));
        }
        line(&mut out, format_args!("# {}", bounds(key)));
        match (&key.default, key.default.value()) {
            (Default::Derived(how), _) => line(&mut out, format_args!("# {} = # {how}\n", key.leaf())),
            (_, Some(value)) => line(&mut out, format_args!("{} = {value}\n", key.leaf())),
            (_, None) => line(&mut out, format_args!("# {} = # not set\n", key.leaf())),
        }
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// What `voxhall check-config` prints: every value with the place it comes from.
pub(crate) fn effective_config(config: &Config) -> String {
    let mut out = String::new();
    let mut table = "";
    for Effective { name, value, place, .. } in &config.effective {
        let (of, leaf) = name.split_once('.').unwrap_or(("", name));
        if of != table {
            table = of;
            let gap = if out.is_empty() { "" } else { "\n" };
            line(&mut out, format_args!("{gap}[{table}]"));
        }
        if let Value::Secret(secret) = value
            && !secret.is_empty()
        {
            line(&mut out, format_args!("{:<40} # {place}", format!("# {leaf} is set and not shown")));
            continue;
        }
        line(&mut out, format_args!("{:<40} # {place}", format!("{leaf} = {value}")));
    }
    out
}

fn line(out: &mut String, words: std::fmt::Arguments<'_>) {
    writeln!(out, "{words}").expect("writing to a string");
}

fn bounds(key: &Key) -> String {
    let mut text = match &key.kind {
        Kind::Number { unit, min, max } => format!("{unit}, {min} to {max}"),
        Kind::Switch => "true or false".to_owned(),
        Kind::Choice(of) => of.join(", "),
        Kind::Address => "IP address and port, or unix: and a path".to_owned(),
        Kind::Cores => "core numbers".to_owned(),
        Kind::Text | Kind::Secret => "text".to_owned(),
        Kind::List => "list of texts".to_owned(),
        Kind::File => "path of a file".to_owned(),
    };
    write!(text, "; {}", key.variable()).expect("writing to a string");
    if let Some((short, _)) = SHORT_VARIABLES.iter().find(|(_, name)| *name == key.name) {
        write!(text, " or {short}").expect("writing to a string");
    }
    text
}

/// Lines of at most 100 characters.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("never empty");
        if last.is_empty() {
            last.push_str(word);
        } else if last.len() + word.len() < 100 {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::layers::RawConfig;
    use super::*;

    #[test]
    fn the_defaults_as_printed_are_the_defaults() {
        let mut raw = RawConfig::default();
        raw.read_toml("default", &default_config());
        assert_eq!(raw.take_errors(), []);
        for key in KEYS {
            assert_eq!(
                raw.get(key.name).map(|setting| setting.value.clone()),
                key.default.value(),
                "{}",
                key.name
            );
        }
    }

    #[test]
    fn what_check_config_prints_is_a_configuration_with_the_same_values() {
        let host = tuning::Host::read();
        let config = super::super::resolve(RawConfig::default(), &host).expect("the defaults are valid");
        let mut raw = RawConfig::default();
        raw.read_toml("effective", &effective_config(&config));
        assert_eq!(raw.take_errors(), []);
        for effective in &config.effective {
            assert_eq!(raw.get(effective.name).map(|setting| &setting.value), Some(&effective.value));
        }
    }
}
