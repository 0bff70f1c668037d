//! Suite `fuzz_corpus`: the fuzzers' seeds and findings, run on the stable toolchain.

use std::fs;
use std::path::Path;

use sensor_tests::fuzz::TARGETS;

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus");
/// Limits for all targets together.
const FILES_MAX: usize = 300;
const BYTES_MAX: u64 = 500_000;

#[test]
fn no_corpus_file_crashes_its_target() {
    let (mut count, mut size) = (0, 0);
    for (name, target) in TARGETS {
        let mut files: Vec<_> = fs::read_dir(Path::new(CORPUS).join(name))
            .unwrap()
            .map(|it| it.unwrap().path())
            .collect();
        files.sort();
        assert!(!files.is_empty(), "{name}");
        count += files.len();
        size += files.iter().map(|path| path.metadata().unwrap().len()).sum::<u64>();
        for path in files {
            // The captured output names the file if the target panics.
            println!("{}", path.display());
            target(&fs::read(&path).unwrap());
        }
    }
    assert!(count <= FILES_MAX && size <= BYTES_MAX, "{count} files, {size} bytes");
}

#[test]
fn every_target_has_a_corpus_directory_and_a_target_file() {
    let names_in = |folder: &str| {
        let entries = fs::read_dir(Path::new(CORPUS).join(folder)).unwrap();
        let mut names: Vec<String> = entries
            .map(|it| it.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    let mut targets: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    targets.sort_unstable();
    assert_eq!(names_in("."), targets);
    assert_eq!(names_in("../targets"), targets);
}
