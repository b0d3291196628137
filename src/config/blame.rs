//! Mistakes of the operator, noted with their place.

use super::error::{ConfigError, Place};
use super::keys;
use super::resolve::Resolver;

impl Resolver<'_> {
    pub(super) fn blame(&mut self, name: &'static str, problem: String, remedy: String) {
        let setting = self.settings.get(name);
        self.errors.push(ConfigError {
            key: name.to_owned(),
            value: setting.map(|setting| setting.value.to_string()),
            place: self.place(name),
            problem,
            remedy,
        });
    }

    /// Blames the one of the two that was set, since a default can't be wrong.
    pub(super) fn blame_pair(&mut self, small: &'static str, large: &'static str, reason: &str) {
        let set = |name| !matches!(self.place(name), Place::Default | Place::Derived(_));
        let (culprit, relation, other) =
            if set(small) || !set(large) { (small, "below", large) } else { (large, "above", small) };
        let value = self.number(other);
        debug_assert!(keys::find(culprit).is_some());
        self.blame(
            culprit,
            format!("does not go with {other} = {value}: {reason}"),
            format!("set it {relation} {value}, or change {other}"),
        );
    }
}
