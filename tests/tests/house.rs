//! Rules of the house that a test can hold: layering, where unsafe code may stand, generated documents.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_path_buf()
}

/// Crates of ours that each crate names in its manifest, per section.
fn uses(directory: &str) -> BTreeMap<String, Vec<String>> {
    let text = fs::read_to_string(root().join(directory).join("Cargo.toml")).expect("Cargo.toml");
    let mut section = String::new();
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_string();
        } else if section.ends_with("dependencies") {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if name.starts_with("volplane") {
                found.entry(section.clone()).or_default().push(name.to_string());
            }
        }
    }
    found
}

#[test]
fn arrows_point_down() {
    let allowed: [(&str, &[&str], &[&str]); 6] = [
        ("abi", &[], &[]),
        ("hw", &["volplane-abi"], &[]),
        ("driver", &["volplane-abi"], &[]),
        ("sim", &["volplane-abi", "volplane-driver"], &["volplane-hw"]),
        ("host-lib", &["volplane-abi", "volplane-driver"], &[]),
        ("cli", &["volplane-abi", "volplane-driver", "volplane", "volplane-sim"], &[]),
    ];
    for (directory, run, build) in allowed {
        for (section, names) in uses(directory) {
            let may: Vec<&str> = match section.as_str() {
                "build-dependencies" => build.to_vec(),
                _ => run.to_vec(),
            };
            for name in names {
                assert!(may.contains(&name.as_str()), "{directory} [{section}] must not use {name}");
            }
        }
    }
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("directory") {
        let path = entry.expect("entry").path();
        if path.is_dir() && path.file_name().is_some_and(|n| n != "target" && n != ".git" && n != ".venv") {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Modules that may use `unsafe`; each block there carries its SAFETY reason (clippy checks that).
const UNSAFE_MODULES: [&str; 5] = [
    "driver/src/memory.rs",
    "driver/src/vfio/kernel.rs",
    "hw/src/bench.rs",
    "sim/src/card/model.rs",
    "sim/src/mapped_bytes.rs",
];

#[test]
fn unsafe_stands_only_in_the_named_modules() {
    let mut files = vec![];
    sources(&root(), &mut files);
    assert!(files.len() > 50, "found only {} files", files.len());
    let mut met = vec![];
    for path in files {
        let name = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("source");
        let lifted = concat!("allow(", "unsafe_code)");
        if text.contains(lifted) {
            assert!(UNSAFE_MODULES.contains(&name.as_str()), "{name} lifts the ban on unsafe code");
            met.push(name);
        }
    }
    assert_eq!(met.len(), UNSAFE_MODULES.len(), "named but not met: {UNSAFE_MODULES:?} {met:?}");
}

#[test]
fn the_generated_documents_are_as_generated() {
    let pages = [
        ("docs/registers.md", volplane_tests::register_map::page()),
        ("docs/plan-outcomes.md", volplane_tests::plan_outcomes::page()),
    ];
    for (name, page) in pages {
        let committed = fs::read_to_string(root().join(name)).expect(name);
        assert!(committed == page, "{name} is stale: make docs");
    }
}
