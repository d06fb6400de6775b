//! What differs between ScyllaDB and Cassandra, beside the shape of a conditional write's answer: versions, tablets,
//! compaction.

use crate::StoreError;

/// The first ScyllaDB with conditional writes on tablets.
const TABLETS_SINCE: (u32, u32) = (2025, 4);

/// The database at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Apache Cassandra, with its version.
    Cassandra(String),
    /// ScyllaDB, with its version.
    Scylla(String),
}

impl Dialect {
    /// Whether a keyspace of ours is to use tablets; `None` where there is no such choice.
    pub(super) fn wants_tablets(&self) -> Option<bool> {
        match self {
            Self::Cassandra(_) => None,
            Self::Scylla(version) => Some(has_conditional_tablets(version)),
        }
    }

    /// Whether conditional writes are safe in a keyspace that uses tablets, or not, as `tablets` says.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] that names the way out.
    pub(super) fn check(&self, keyspace: &str, tablets: bool) -> Result<(), StoreError> {
        match self {
            Self::Scylla(version) if tablets && !has_conditional_tablets(version) => {
                Err(StoreError::Invalid(format!(
                    "keyspace {keyspace} uses tablets, on which ScyllaDB {version} has no conditional writes: use \
                     2025.4 or later, or make the keyspace WITH tablets = {{'enabled': false}}"
                )))
            }
            Self::Cassandra(version) if major(version) < 5 => {
                Err(StoreError::Invalid(format!("Cassandra {version} is too old: 5.0 or later is supported")))
            }
            Self::Scylla(_) | Self::Cassandra(_) => Ok(()),
        }
    }

    /// The schema's placeholders, filled in.
    pub(super) fn fill(&self, schema: &str) -> String {
        let (log, overwritten, small) = match self {
            // Unified in its tiered form for what is written once, in its levelled form for what is overwritten.
            Self::Cassandra(_) => (
                "{'class': 'UnifiedCompactionStrategy', 'scaling_parameters': 'T4'}",
                "{'class': 'UnifiedCompactionStrategy', 'scaling_parameters': 'L10'}",
                "{'class': 'UnifiedCompactionStrategy', 'scaling_parameters': 'T4'}",
            ),
            Self::Scylla(_) => (
                "{'class': 'IncrementalCompactionStrategy'}",
                "{'class': 'LeveledCompactionStrategy'}",
                "{'class': 'IncrementalCompactionStrategy'}",
            ),
        };
        let option = |strategy: &str| format!("compaction = {strategy}");
        schema
            .replace("{log}", &option(log))
            .replace("{overwritten}", &option(overwritten))
            .replace("{small}", &option(small))
    }
}

fn has_conditional_tablets(version: &str) -> bool {
    numbers(version) >= TABLETS_SINCE
}

fn major(version: &str) -> u32 {
    numbers(version).0
}

/// The first two numbers of a version; 0 for what is none.
fn numbers(version: &str) -> (u32, u32) {
    let mut parts = version.split(|sign: char| !sign.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tablets_need_a_version_with_conditional_writes_on_them() {
        for version in ["2025.3.9", "6.2.1", "2024.1.0"] {
            let old = Dialect::Scylla(version.to_owned());
            assert_eq!(old.wants_tablets(), Some(false));
            let told = old.check("rookery", true).unwrap_err().to_string();
            assert!(told.contains("tablets = {'enabled': false}"), "{told}");
            assert!(old.check("rookery", false).is_ok());
        }
        for version in ["2025.4.0", "2025.4.0-rc1", "2026.1.2"] {
            let new = Dialect::Scylla(version.to_owned());
            assert_eq!(new.wants_tablets(), Some(true));
            assert!(new.check("rookery", true).is_ok());
        }
    }

    #[test]
    fn cassandra_has_no_tablets_and_a_least_version() {
        assert_eq!(Dialect::Cassandra("5.0.5".to_owned()).wants_tablets(), None);
        assert!(Dialect::Cassandra("5.0.5".to_owned()).check("rookery", false).is_ok());
        assert!(Dialect::Cassandra("4.1.3".to_owned()).check("rookery", false).is_err());
    }

    #[test]
    fn the_schema_has_no_placeholder_left() {
        let schema = include_str!("schema/1.cql");
        for dialect in [Dialect::Cassandra("5.0".to_owned()), Dialect::Scylla("2025.4".to_owned())] {
            let filled = dialect.fill(schema);
            assert!(!filled.contains("{log}") && !filled.contains("{small}") && !filled.contains("{over"));
        }
    }
}
