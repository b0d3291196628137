//! The repository checks itself: which way its imports point, how long its files and functions are, where `unsafe`
//! stands, and that its pages have one title each.

use std::fs;
use std::path::{Path, PathBuf};

/// Files near 400 lines, functions near 70: past these a concept is missing.
const FILE_LINES_MAX: usize = 480;
const FUNCTION_LINES_MAX: usize = 85;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a folder of the repository with this ending.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("a readable folder").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.starts_with('.') && !name.starts_with("target") && name != "node_modules" {
                    folders.push(path);
                }
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn rust_files() -> Vec<PathBuf> {
    ["src", "shards", "tokens", "tuning", "loadtest", "benches", "fuzz", "tests"]
        .iter()
        .flat_map(|dir| files(dir, ".rs"))
        .collect()
}

fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn the_core_knows_no_socket_clock_thread_random_source_or_runtime() {
    let forbidden = [
        "glommio",
        "io_uring",
        "libc::",
        "socket2",
        "crossbeam",
        "tokio",
        "std::net",
        "std::time",
        "std::thread",
        "std::io",
        "std::fs",
        "std::os",
        "std::env",
        "crate::rt",
        "crate::sim",
        "rand::",
        "getrandom",
        "unsafe",
        "Mutex",
        "RwLock",
        "async fn",
        ".await",
    ];
    let mut found = Vec::new();
    for path in files("shards/src/core", ".rs") {
        let text = read(&path);
        for (line, code) in code_lines(&text) {
            for word in forbidden.iter().filter(|word| code.contains(**word)) {
                found.push(format!("{}:{line}: {word}", path.display()));
            }
        }
    }
    // The formatting of HTTP answers writes into memory through this trait; it opens nothing.
    found.retain(|place| !place.contains("http/answer.rs") || !place.ends_with("std::io"));
    assert!(found.is_empty(), "the core must stay sans-IO:\n{}", found.join("\n"));
}

#[test]
fn dependencies_point_from_the_program_to_the_runtime_to_the_core() {
    for (folder, forbidden) in
        [("shards/src/rt", "crate::sim"), ("shards/src/sim", "crate::rt"), ("shards", "voxhall::")]
    {
        for path in files(folder, ".rs") {
            let text = read(&path);
            let found = code_lines(&text).find(|(_, code)| code.contains(forbidden));
            assert!(
                found.is_none(),
                "{} must not know {forbidden}: line {}",
                path.display(),
                found.map_or(0, |f| f.0)
            );
        }
    }
}

#[test]
fn unsafe_code_stands_only_in_the_runtime_with_its_reason() {
    for path in rust_files() {
        let text = read(&path);
        let lines: Vec<&str> = text.lines().collect();
        for (line, code) in code_lines(&text) {
            let block =
                code.contains("unsafe {") || code.contains("unsafe impl") || code.contains("unsafe fn");
            if !block || path.ends_with("tests/tidy.rs") || path.ends_with("tests/unsafe_code.rs") {
                continue;
            }
            let at_home = path.starts_with(root().join("shards/src/rt/wire"));
            let counting = path.starts_with(root().join("shards/tests")) && text.contains("GlobalAlloc");
            assert!(at_home || counting, "{}:{line}: unsafe belongs into shards/src/rt/wire", path.display());
            let reason = lines[line.saturating_sub(8)..line].iter().any(|near| near.contains("SAFETY:"));
            assert!(reason, "{}:{line}: unsafe without its SAFETY reason", path.display());
        }
    }
}

#[test]
fn files_and_functions_stay_readable() {
    let mut long = Vec::new();
    for path in rust_files() {
        let text = read(&path);
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            long.push(format!("{}: {lines} lines", path.display()));
        }
        let mut start = None;
        for (at, line) in text.lines().enumerate() {
            let head = line.trim_start();
            let indent = line.len() - head.len();
            let is_head = [
                "fn ",
                "pub fn ",
                "pub(super) fn ",
                "pub(crate) fn ",
                "async fn ",
                "pub async fn ",
                "const fn ",
            ]
            .iter()
            .any(|prefix| head.starts_with(prefix));
            if is_head && !line.ends_with('}') && !line.ends_with(';') {
                start = Some((at, indent));
            } else if let Some((from, column)) = start
                && line.len() == column + 1
                && line.ends_with('}')
            {
                if at - from >= FUNCTION_LINES_MAX {
                    long.push(format!(
                        "{}:{}: a function of {} lines",
                        path.display(),
                        from + 1,
                        at - from + 1
                    ));
                }
                start = None;
            }
        }
    }
    assert!(long.is_empty(), "find the missing concept:\n{}", long.join("\n"));
}

#[test]
fn nothing_is_left_open() {
    let marks = [
        "TO".to_owned() + "DO",
        "FIX".to_owned() + "ME",
        "XX".to_owned() + "X",
        "unimplemented!".to_owned() + "(",
        "todo!".to_owned() + "(",
    ];
    for path in
        rust_files().into_iter().chain(files(".", ".js")).chain(files(".", ".py")).chain(files(".", ".md"))
    {
        let text = read(&path);
        for (at, line) in text.lines().enumerate() {
            let found = marks.iter().find(|mark| {
                line.split(|c: char| !c.is_alphanumeric() && c != '!' && c != '(').any(|w| w == mark.as_str())
            });
            assert!(found.is_none(), "{}:{}: {}", path.display(), at + 1, line.trim());
        }
    }
}

#[test]
fn every_page_has_one_title() {
    for path in files(".", ".md") {
        let text = read(&path);
        let mut fenced = false;
        let titles = text
            .lines()
            .filter(|line| {
                fenced ^= line.trim_start().starts_with("```");
                !fenced && line.starts_with("# ")
            })
            .count();
        assert_eq!(titles, 1, "{}: {titles} titles", path.display());
    }
}

#[test]
fn no_page_names_a_machine_path() {
    for path in files(".", ".md").into_iter().chain(files("docs", "")) {
        let text = read(&path);
        for place in ["/root/", "/home/", "/work/"] {
            assert!(!text.contains(place), "{} names {place}", path.display());
        }
    }
}
