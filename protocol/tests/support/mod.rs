//! What the tests of the wire share: the fixture files.

#![allow(dead_code, reason = "each test uses its part")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// Who sends the frame of a fixture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Client,
    Server,
}

impl Direction {
    pub(crate) const ALL: [Self; 2] = [Self::Client, Self::Server];

    /// The folder of its fixtures.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// One file: `protocol/fixtures/<direction>/<kind>[.<variant>].json`.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) direction: Direction,
    /// The file's name without `.json`.
    pub(crate) name: String,
    pub(crate) text: String,
}

impl Fixture {
    /// The frame kind that the file's name promises.
    pub(crate) fn kind(&self) -> &str {
        self.name.split('.').next().expect("a split has a first part")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// A file of the repository's documentation.
pub(crate) fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names in a folder, sorted.
pub(crate) fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|item| item.expect("a readable folder").file_name().into_string().expect("an ASCII name"))
        .collect();
    names.sort();
    names
}

pub(crate) fn fixtures(direction: Direction) -> Vec<Fixture> {
    let folder = root().join(direction.name());
    names_in(&folder)
        .into_iter()
        .map(|file| Fixture {
            direction,
            text: fs::read_to_string(folder.join(&file)).expect("a readable file"),
            name: file
                .strip_suffix(".json")
                .unwrap_or_else(|| panic!("{file} is no JSON fixture"))
                .to_owned(),
        })
        .collect()
}

pub(crate) fn all_fixtures() -> Vec<Fixture> {
    Direction::ALL.into_iter().flat_map(fixtures).collect()
}

/// Every value inside `value`, itself included, with its JSON pointer.
pub(crate) fn values(value: &Value) -> Vec<(String, &Value)> {
    let below = |step: String, inner| {
        values(inner).into_iter().map(move |(path, value)| (format!("/{step}{path}"), value))
    };
    let mut list = vec![(String::new(), value)];
    match value {
        Value::Array(items) => {
            list.extend(items.iter().enumerate().flat_map(|(index, item)| below(index.to_string(), item)));
        }
        Value::Object(fields) => {
            list.extend(fields.iter().flat_map(|(name, field)| below(name.clone(), field)));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    list
}
