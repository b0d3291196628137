//! The short run: every committed input of every target, then a number of mutated ones that is always the same. The long
//! run, guided by coverage, is `make fuzz`: docs/fuzzing.md. With `VOXHALL_FUZZ_INPUT` a test runs that file only.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use fuzz::mutate::Mutator;
use fuzz::{CANARY, TARGETS, Target};

/// All inputs together, so that the corpus stays small enough to be read.
const CORPUS_FILES_MAX: usize = 250;
const CORPUS_BYTES_MAX: usize = 300 << 10;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The committed inputs of a target, by name.
fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder().join(target.name));
    let entries = entries.unwrap_or_else(|error| panic!("{} has no corpus: {error}", target.name));
    let mut inputs: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("a readable folder").path();
            let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
            (name, fs::read(path).expect("a readable file"))
        })
        .collect();
    inputs.sort();
    inputs
}

fn fails(target: &Target, input: &[u8]) -> bool {
    let (run, input) = (target.run, input.to_vec());
    catch_unwind(move || run(&input)).is_err()
}

/// The first mutated input that the target fails for.
fn first_failure(target: &Target) -> Option<Vec<u8>> {
    let inputs: Vec<_> = corpus(target).into_iter().map(|(_, input)| input).collect();
    let mut mutator = Mutator::new(u64::from(target.short_runs));
    let mut mutated = (0..target.short_runs).map(|_| mutator.input(&inputs, target.bytes_max));
    mutated.find(|input| fails(target, input))
}

/// Keeps an input that fails where it can be replayed from.
#[track_caller]
fn found(target: &Target, input: &[u8]) -> ! {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-finding", target.name));
    fs::write(&path, input).expect("a writable folder");
    panic!(
        "{name}: a finding, see above. Replay it with: VOXHALL_FUZZ_INPUT={} cargo test -p voxhall-fuzz --test short {name}",
        path.display(),
        name = target.name,
    );
}

/// The short run of one target.
fn short(name: &str) {
    let target = fuzz::find(name).expect("a target of the table");
    if let Some(path) = std::env::var_os("VOXHALL_FUZZ_INPUT") {
        return (target.run)(&fs::read(path).expect("VOXHALL_FUZZ_INPUT names a readable file"));
    }
    for (file, input) in corpus(&target) {
        assert!(input.len() <= target.bytes_max, "{name}/{file} is longer than the target takes");
        if fails(&target, &input) {
            found(&target, &input);
        }
    }
    if let Some(input) = first_failure(&target) {
        found(&target, &input);
    }
}

macro_rules! short_runs {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                short(stringify!($name));
            }
        )*

        #[test]
        fn every_target_has_its_test() {
            let tested = [$(stringify!($name)),*];
            assert!(TARGETS.iter().map(|target| target.name).eq(tested));
        }
    };
}

short_runs!(head frames deflate events tokens proxy upstream world);

#[test]
fn the_canary_is_found() {
    assert!(corpus(&CANARY).iter().all(|(_, input)| !fails(&CANARY, input)), "its corpus gives it away");
    assert!(first_failure(&CANARY).is_some(), "{} runs did not find the planted bug", CANARY.short_runs);
}

#[test]
fn every_target_has_a_corpus_and_all_of_it_is_small() {
    let (mut files, mut bytes) = (0, 0);
    for target in TARGETS.iter().chain([&CANARY]) {
        let corpus = corpus(target);
        assert!(!corpus.is_empty(), "{} has no corpus", target.name);
        files += corpus.len();
        bytes += corpus.iter().map(|(_, input)| input.len()).sum::<usize>();
    }
    assert!(files <= CORPUS_FILES_MAX && bytes <= CORPUS_BYTES_MAX, "{files} files of {bytes} bytes in all");
    let folders = fs::read_dir(folder()).expect("a readable folder").count();
    assert_eq!(folders, TARGETS.len() + 1, "a corpus without a target is never run");
}

#[test]
fn the_page_has_the_table_of_the_code() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/fuzzing.md");
    let page = fs::read_to_string(page).expect("docs/fuzzing.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let expected =
        TARGETS.iter().chain([&CANARY]).map(|target| format!("| `{}` | {} |", target.name, target.guards));
    let (rows, expected): (Vec<_>, Vec<_>) = (rows.collect(), expected.collect());
    assert!(rows == expected, "docs/fuzzing.md should have these rows:\n{}", expected.join("\n"));
}
