//! Which key a misspelt one was meant to be.

use super::keys::KEYS;

/// The known key nearest to a misspelt one, if any is near enough to be meant.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    let leaf = name.rsplit('.').next().unwrap_or(name);
    if let Some(key) = KEYS.iter().find(|key| key.leaf() == leaf) {
        return Some(key.name);
    }
    let scored = KEYS.iter().map(|key| {
        let whole = distance(name, key.name);
        // Somebody who forgot the table still spelt the rest.
        let part = if name.contains('.') { usize::MAX } else { distance(name, key.leaf()) };
        (whole.min(part), key.name)
    });
    let (score, nearest) = scored.min()?;
    (score <= 2 + leaf.len() / 4).then_some(nearest)
}

/// Edits (one character put in, left out or changed) that lead from one text to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (at, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, &other) in to.iter().enumerate() {
            let change = diagonal + usize::from(letter != other);
            diagonal = row[column + 1];
            row[column + 1] = change.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_the_key_that_was_meant() {
        for (typed, meant) in [
            ("outbox.mesages_max", Some("outbox.messages_max")),
            ("limits.ping_s", Some("heartbeat.ping_s")),
            ("linger_s", Some("room.linger_s")),
            ("heartbeat.idle", Some("heartbeat.idle_s")),
            ("server.colour", None),
        ] {
            assert_eq!(nearest(typed), meant, "{typed}");
        }
    }
}
