//! The arrows between the rooms of `src/`: which room may use which. `ARCHITECTURE.md` draws them; this test holds them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what failed by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room and the rooms it may use. The leaves in [`OPEN`] are open to all, and use no room.
const ARROWS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("provider", &["model"]),
    ("transform", &["model"]),
    ("log", &["model"]),
    ("store", &["model", "log"]),
    ("sink", &["model", "log", "store"]),
    ("config", &["model", "provider", "transform", "sink"]),
    ("pipeline", &["model", "config", "provider", "transform", "sink", "log"]),
    ("manage", &["model", "config", "provider"]),
    ("analytics", &["model", "store"]),
    ("serve", &["model", "provider", "transform", "log", "store", "sink", "config", "pipeline", "analytics"]),
    (
        "cli",
        &[
            "model",
            "provider",
            "transform",
            "log",
            "store",
            "sink",
            "config",
            "pipeline",
            "analytics",
            "manage",
            "serve",
        ],
    ),
];

const OPEN: &[&str] = &["allocator", "error", "yaml", "telemetry", "sql", "suggest"];

fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_under(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The modules named after every `crate::` of a file, also inside `crate::{a, b::c}`; comments left out.
fn uses(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{}\n", line.split(" // ").next().unwrap_or(line)))
        .collect();
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        // `$crate::`, `pub(crate)::` and the like never occur; `mycrate::` would.
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => drop(names.insert(identifier(rest))),
            Some(group) => {
                let mut depth = 0;
                let mut item = true;
                for (i, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => item = true,
                        c if item && depth == 0 && (c.is_alphanumeric() || c == '_') => {
                            names.insert(identifier(&group[i..]));
                            item = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    names
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn rooms_use_only_what_the_architecture_allows() {
    let rooms: BTreeSet<&str> = ARROWS.iter().map(|(room, _)| *room).collect();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for file in files_under(&source()) {
        let inside = file.strip_prefix(source()).unwrap();
        let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
        let room = first.trim_end_matches(".rs");
        let allowed: &[&str] = match ARROWS.iter().find(|(name, _)| *name == room) {
            Some((_, allowed)) => allowed,
            None if OPEN.contains(&room) => &[],
            None if ["lib", "main"].contains(&room) => continue,
            None => panic!("{room} is no room of the architecture: add it to ARROWS or to OPEN"),
        };
        seen.insert(room.to_owned());
        for used in uses(&fs::read_to_string(&file).unwrap()) {
            if rooms.contains(used.as_str()) && used != room && !allowed.contains(&used.as_str()) {
                wrong.push(format!("src/{} uses {used}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that the architecture does not have:\n{}", wrong.join("\n"));
    assert!(rooms.iter().all(|room| seen.contains(*room)), "a room of the architecture has no file");
}

#[test]
fn the_arrows_are_read_from_every_form_of_use() {
    let text = "use crate::model::{A, B};\nuse crate::{Error, store::X, log::{self, Y}};\nfn f() { crate::sink::g() }\n// crate::cli";
    let names: Vec<_> = uses(text).into_iter().collect();
    assert_eq!(names, ["Error", "log", "model", "sink", "store"]);
}

#[test]
fn features_are_named_in_one_place() {
    for file in files_under(&source()) {
        let text = fs::read_to_string(&file).unwrap();
        let allowed = file.ends_with("provider/mod.rs");
        assert!(
            allowed || !text.contains("feature ="),
            "{}: cfg(feature) belongs to provider/mod.rs",
            file.display()
        );
    }
}

#[test]
fn files_can_be_read_in_one_sitting() {
    let mut lengths: Vec<_> = files_under(&source())
        .into_iter()
        .map(|file| (fs::read_to_string(&file).unwrap().lines().count(), file))
        .collect();
    lengths.sort();
    let (longest, file) = lengths.last().unwrap();
    assert!(*longest <= 800, "{} has {longest} lines; no file has more than 800", file.display());
    let (median, _) = lengths[lengths.len() / 2];
    assert!(median <= 200, "the median file has {median} lines; 200 are enough");
}
