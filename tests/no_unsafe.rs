//! Law 14: no unsafe code, now and later.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let (directories, files): (Vec<_>, Vec<_>) = paths.partition(|path| path.is_dir());
    let below = directories.iter().flat_map(|directory| rust_files(directory));
    let of_rust = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    files.into_iter().filter(of_rust).chain(below).collect()
}

/// The compiler refuses unsafe code, and `forbid`, unlike `deny`, cannot be lifted further in.
#[test]
fn law_14_the_compiler_forbids_unsafe_code() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    assert_eq!(manifest["lints"]["rust"]["unsafe_code"].as_str(), Some("forbid"));
}

/// And nobody has taken the lint out together with the code it was in the way of.
#[test]
fn law_14_no_source_file_says_unsafe() {
    let files = rust_files(&root().join("src"));
    assert!(files.len() > 50, "where are the sources? {files:?}");
    for file in files {
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
            assert!(!words.any(|word| word == "unsafe"), "{}:{}", file.display(), number + 1);
        }
    }
}
