//! Who may depend on whom. The table is the architecture; a crate that is not in it, or breaks it, fails the build.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::{collections::BTreeMap, path::Path, process::Command};

use serde_json::Value;

/// Which of our crates a crate may use. The binary puts all of them together.
const MAY_USE: &[(&str, &[&str])] = &[
    ("rookery-protocol", &[]),
    ("rookery-telemetry", &[]),
    ("rookery-store", &["rookery-protocol", "rookery-telemetry"]),
    ("rookery-actors", &["rookery-protocol", "rookery-store", "rookery-telemetry"]),
    ("rookery-cluster", &["rookery-protocol", "rookery-actors", "rookery-telemetry"]),
    ("rookery-gateway", &["rookery-protocol", "rookery-store", "rookery-actors", "rookery-telemetry"]),
    ("rookery-client", &["rookery-protocol"]),
    ("rookery-load", &["rookery-protocol", "rookery-client"]),
    ("rookery-bench", &["rookery-protocol", "rookery-client"]),
    ("rookery-test-cassandra", &[]),
    (
        "rookery",
        &[
            "rookery-protocol",
            "rookery-telemetry",
            "rookery-store",
            "rookery-actors",
            "rookery-cluster",
            "rookery-gateway",
        ],
    ),
];

/// Who alone may use a library; a name that ends in `*` stands for all that begin so.
const SOLE_OWNERS: &[(&str, &[&str])] = &[
    ("rusqlite", &["rookery-store"]),
    ("scylla", &["rookery-store"]),
    ("ractor", &["rookery-actors", "rookery-cluster"]),
    ("ractor_cluster", &["rookery-cluster"]),
    ("chitchat", &["rookery-cluster"]),
    ("axum*", &["rookery-gateway"]),
    ("argon2", &["rookery-gateway"]),
    ("tokio-tungstenite", &["rookery-gateway", "rookery-client", "rookery-bench"]),
    ("tungstenite", &[]),
    ("opentelemetry*", &["rookery-telemetry"]),
    ("tracing-opentelemetry", &["rookery-telemetry"]),
    ("tracing-subscriber", &["rookery-telemetry"]),
    ("getrandom", &["rookery"]),
    ("config", &["rookery"]),
];

/// What a crate never uses, besides what others own alone.
const NEVER: &[(&str, &[&str])] = &[
    ("rookery-protocol", &["tokio*", "hyper*", "http", "rand", "chrono", "time"]),
    ("rookery-store", &["hyper*", "http"]),
    ("rookery-actors", &["hyper*", "http", "rustls", "tokio-rustls"]),
];

/// The direct normal dependencies of every crate of the workspace.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let normal = |package: &Value| {
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        dependencies.filter(|one| one["kind"].is_null()).map(|one| text(&one["name"])).collect()
    };
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages.map(|package| (text(&package["name"]), normal(package))).collect()
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |prefix| name.starts_with(prefix))
}

/// What is wrong with these crates.
fn trespasses(crates: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, dependencies) in crates {
        let Some((_, may_use)) = MAY_USE.iter().find(|(known, _)| known == name) else {
            found.push(format!("{name} is not in the table"));
            continue;
        };
        for dependency in dependencies {
            let is_ours = crates.contains_key(dependency);
            let is_owned_by_others = SOLE_OWNERS
                .iter()
                .any(|(library, owners)| matches(library, dependency) && !owners.contains(&name.as_str()));
            let is_never = NEVER.iter().any(|(who, libraries)| {
                who == name && libraries.iter().any(|library| matches(library, dependency))
            });
            if is_never || is_owned_by_others || is_ours && !may_use.contains(&dependency.as_str()) {
                found.push(format!("{name} uses {dependency}"));
            }
        }
    }
    found
}

#[test]
fn every_crate_keeps_to_its_boundaries() {
    let crates = dependencies();
    assert!(crates.len() >= 7, "{crates:?}");
    assert_eq!(trespasses(&crates), [] as [String; 0]);
}

#[test]
fn a_trespass_is_named() {
    for (who, what) in [
        ("rookery-protocol", "tokio"),
        ("rookery-store", "rookery-actors"),
        ("rookery-actors", "hyper"),
        ("rookery-gateway", "rusqlite"),
        ("rookery-client", "rookery-store"),
        ("rookery", "axum-extra"),
        ("rookery-telemetry", "rookery-protocol"),
    ] {
        let mut crates = dependencies();
        crates.get_mut(who).unwrap().push(what.to_owned());
        assert_eq!(trespasses(&crates), [format!("{who} uses {what}")]);
    }
    let crates = BTreeMap::from([("rookery-utils".to_owned(), Vec::new())]);
    assert_eq!(trespasses(&crates), ["rookery-utils is not in the table"]);
}
