//! What the repository says of its unsafe code and of its dependencies is so.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::repository;

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Each place with `unsafe`, by its file below `shards/`: the functions it is in, in order.
type Places = BTreeMap<String, Vec<String>>;

fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            into.push(path);
        }
    }
}

/// The name behind `fn `, if the line begins a function.
fn function(line: &str) -> Option<&str> {
    let at = line.find("fn ").filter(|&at| at == 0 || line[..at].ends_with(' '))?;
    let name = &line[at + 3..];
    name.find(|c: char| !c.is_alphanumeric() && c != '_')
        .map(|end| &name[..end])
        .filter(|name| !name.is_empty())
}

fn in_code() -> Places {
    let mut places = Places::new();
    for (folder, short) in [("shards/src/rt/", ""), ("shards/tests/", "tests/")] {
        let folder = repository(folder);
        let mut files = Vec::new();
        rust_files(&folder, &mut files);
        for path in files {
            let name = format!("{short}{}", path.strip_prefix(&folder).expect("below it").display());
            let text = fs::read_to_string(&path).expect("text");
            let mut last = String::new();
            for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
                if let Some(name) = function(line) {
                    last = name.to_owned();
                }
                let found = if line.contains("unsafe impl") {
                    let what = line.split_whitespace().nth(2).unwrap_or_default();
                    Some(format!("impl {what}"))
                } else {
                    (line.contains("unsafe {") || line.contains("unsafe fn")).then(|| last.clone())
                };
                places.entry(name.clone()).or_default().extend(found);
            }
        }
    }
    places.retain(|_, functions| !functions.is_empty());
    places
}

fn on_page() -> (Places, Vec<String>) {
    let page = fs::read_to_string(repository("docs/unsafe.md")).expect("the page");
    let mut places = Places::new();
    let mut tests = Vec::new();
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [place, .., shown] = &cells[..] else { panic!("{row}") };
        let names: Vec<&str> = place.split('`').skip(1).step_by(2).collect();
        let [file, function] = names[..] else { panic!("a file and a function: {row}") };
        assert_eq!(cells.len(), 4, "{row}");
        assert!(!shown.is_empty(), "{row}");
        places.entry(file.to_owned()).or_default().push(function.to_owned());
        tests.extend(shown.split('`').skip(1).step_by(2).map(str::to_owned));
    }
    (places, tests)
}

#[test]
fn every_unsafe_block_is_in_the_table_and_the_tests_that_it_names_exist() {
    let (page, tests) = on_page();
    assert_eq!(in_code(), page, "left the code, right docs/unsafe.md");
    let mut files = Vec::new();
    rust_files(&repository("shards"), &mut files);
    let code: String = files.iter().map(|path| fs::read_to_string(path).expect("text")).collect();
    for test in tests {
        let exists = repository(&test).exists() || code.contains(&format!("fn {test}("));
        assert!(exists, "docs/unsafe.md names {test}");
    }
}

/// Whether an SPDX expression can be met with these licences: any of `OR`, all of `AND`. Old crates write `/` for `OR`.
fn is_met(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let spaced = spaced.replace("Apache-2.0 WITH LLVM-exception", "Apache-2.0-WITH-LLVM-exception");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (met, read) = any_of(&words, allowed);
    assert_eq!(read, words.len(), "{expression}");
    met
}

fn any_of(words: &[&str], allowed: &[&str]) -> (bool, usize) {
    let (mut met, mut at) = all_of(words, allowed);
    while words.get(at) == Some(&"OR") {
        let (also, read) = all_of(&words[at + 1..], allowed);
        (met, at) = (met | also, at + 1 + read);
    }
    (met, at)
}

fn all_of(words: &[&str], allowed: &[&str]) -> (bool, usize) {
    let (mut met, mut at) = one(words, allowed);
    while words.get(at) == Some(&"AND") {
        let (also, read) = one(&words[at + 1..], allowed);
        (met, at) = (met & also, at + 1 + read);
    }
    (met, at)
}

fn one(words: &[&str], allowed: &[&str]) -> (bool, usize) {
    match words.first().copied().unwrap_or_default() {
        "(" => {
            let (met, read) = any_of(&words[1..], allowed);
            (met, read + 2)
        }
        licence => {
            let name = licence.replace("-WITH-", " WITH ");
            (allowed.contains(&name.trim_end_matches('+')), 1)
        }
    }
}

#[test]
fn licences_are_read_as_they_are_meant() {
    let allowed = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"];
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("MIT OR GPL-3.0", true),
        ("GPL-3.0/MIT", true),
        ("MIT AND GPL-3.0", false),
        ("MIT AND (GPL-3.0 OR ISC)", true),
        ("GPL-3.0 OR MIT AND GPL-2.0", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0", false),
    ] {
        assert_eq!(is_met(expression, &allowed), met, "{expression}");
    }
}

#[test]
fn every_dependency_has_an_allowed_licence_and_comes_from_the_public_registry() {
    let deny: toml::Table =
        fs::read_to_string(repository("deny.toml")).expect("the file").parse().expect("TOML");
    let list = |value: &toml::Value| -> Vec<String> {
        let items = value.as_array().into_iter().flatten();
        items.filter_map(|item| Some(item.as_str()?.to_owned())).collect()
    };
    let licenses = &deny["licenses"];
    let allowed = list(&licenses["allow"]);
    let exceptions: BTreeMap<&str, Vec<String>> = licenses["exceptions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|exception| Some((exception["crate"].as_str()?, list(&exception["allow"]))))
        .collect();

    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--format-version", "1", "--locked", "--filter-platform"]);
    command.arg("x86_64-unknown-linux-gnu").current_dir(repository("."));
    let output = command.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let nodes = metadata["resolve"]["nodes"].as_array().expect("nodes");
    let used: Vec<&str> = nodes.iter().filter_map(|node| node["id"].as_str()).collect();
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let (name, id) = (package["name"].as_str().expect("a name"), package["id"].as_str().expect("an id"));
        if package["source"].is_null() || !used.contains(&id) {
            continue;
        }
        if package["source"] != REGISTRY {
            wrong.push(format!("{name} comes from {}", package["source"]));
        }
        let also = exceptions.get(name).into_iter().flatten();
        let allowed: Vec<&str> = allowed.iter().chain(also).map(String::as_str).collect();
        let licence = package["license"].as_str().unwrap_or_default();
        if licence.is_empty() || !is_met(licence, &allowed) {
            wrong.push(format!("{name} is under {licence:?}"));
        }
    }
    assert!(wrong.is_empty(), "deny.toml does not allow it:\n{}", wrong.join("\n"));
}
