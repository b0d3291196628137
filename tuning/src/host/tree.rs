//! Reading small files under a root, so that a test can offer a host of its own.
//!
//! A file that is absent, unreadable or nonsense is `None`: kernels differ in what they show, and a fact nobody knows
//! is reported as unknown instead of as a fault.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub(super) struct Tree {
    root: PathBuf,
}

impl Tree {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// The file's text without its trailing newline.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.path(path)).ok()?;
        Some(text.trim().to_owned())
    }

    pub(super) fn number<T: FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    /// A list of cores such as `0-3,8`; `None` if the file is absent, empty if it is empty.
    pub(super) fn list(&self, path: &str) -> Option<Vec<usize>> {
        self.text(path).map(|text| parse_list(&text))
    }

    /// A bit mask of cores such as `ff,00000001`, highest word first.
    pub(super) fn mask(&self, path: &str) -> Option<Vec<usize>> {
        self.text(path).map(|text| parse_mask(&text))
    }

    /// The names in a folder, sorted; none if it is absent.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(path)) else {
            return Vec::new();
        };
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// The numbers behind `prefix` among the names in a folder, sorted: `cpu0`, `cpu1`, but not `cpufreq`.
    pub(super) fn numbered(&self, path: &str, prefix: &str) -> Vec<usize> {
        let mut numbers: Vec<usize> =
            self.names(path).iter().filter_map(|name| name.strip_prefix(prefix)?.parse().ok()).collect();
        numbers.sort_unstable();
        numbers
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

/// Reads `0-3,8`. Parts that are no numbers are passed over: a kernel without a list says `(null)`.
pub(super) fn parse_list(text: &str) -> Vec<usize> {
    let mut cores = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
            cores.extend(first..=last.min(first.saturating_add(CORES_MAX)));
        }
    }
    cores.sort_unstable();
    cores.dedup();
    cores
}

/// No kernel is built for more; keeps a nonsensical range from filling memory.
const CORES_MAX: usize = 8192;

fn parse_mask(text: &str) -> Vec<usize> {
    let mut cores = Vec::new();
    for (at, word) in text.rsplit(',').enumerate() {
        let word = u32::from_str_radix(word.trim(), 16).unwrap_or(0);
        cores.extend((0..32).filter(|bit| word & (1 << bit) != 0).map(|bit| at * 32 + bit));
    }
    cores
}

/// Writes `0-3,8`.
pub(crate) fn format_list(cores: &[usize]) -> String {
    let mut text = String::new();
    let mut at = 0;
    while at < cores.len() {
        let first = cores[at];
        let mut last = first;
        while cores.get(at + 1) == Some(&(last + 1)) {
            at += 1;
            last += 1;
        }
        at += 1;
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&first.to_string());
        if last > first {
            text.push('-');
            text.push_str(&last.to_string());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_read_back_as_written() {
        for text in ["0", "0-3", "0-3,8", "1,3,5-7"] {
            assert_eq!(format_list(&parse_list(text)), text);
        }
        assert!(parse_list("(null)").is_empty());
        assert!(parse_list("").is_empty());
    }

    #[test]
    fn masks_count_words_from_the_right() {
        assert_eq!(parse_mask("5"), [0, 2]);
        assert_eq!(parse_mask("00000001,80000000"), [31, 32]);
        assert!(parse_mask("00000000,00000000").is_empty());
    }
}
