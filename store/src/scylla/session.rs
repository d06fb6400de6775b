//! A session of the driver, set up for what we ask of it: four kinds of requests, each with its own time, consistency
//! and rule for trying again.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use scylla::{
    client::{
        PoolSize,
        execution_profile::{ExecutionProfile, ExecutionProfileHandle},
        session::Session,
        session_builder::SessionBuilder,
    },
    policies::{
        load_balancing::{DefaultPolicy, LoadBalancingPolicy},
        retry::{DefaultRetryPolicy, FallthroughRetryPolicy},
        speculative_execution::SimpleSpeculativeExecutionPolicy,
    },
    statement::{Consistency, SerialConsistency},
};

use super::{dialect::Dialect, errors, options::ScyllaOptions, tls};
use crate::StoreError;

/// How often an idle connection is probed, and how long it may take to answer: without it a paused node is noticed after
/// a minute only.
const KEEPALIVE: Duration = Duration::from_secs(2);

/// When a read is asked of a second replica too: the slowest hundredth on a good day.
const SPECULATE_AFTER: Duration = Duration::from_millis(30);

/// How the kinds of requests are made.
pub(super) struct Profiles {
    /// Conditional writes: never repeated by the driver, since the answer to a repetition has to be understood.
    pub(super) conditional: ExecutionProfileHandle,
    /// Linearizable reads of what conditional writes wrote.
    pub(super) serial: ExecutionProfileHandle,
    /// Reads.
    pub(super) read: ExecutionProfileHandle,
    /// Idempotent upserts.
    pub(super) upsert: ExecutionProfileHandle,
}

impl Profiles {
    fn new(options: &ScyllaOptions) -> Self {
        let base = ExecutionProfile::builder()
            .consistency(Consistency::LocalQuorum)
            .serial_consistency(Some(SerialConsistency::LocalSerial))
            .request_timeout(Some(options.request_timeout))
            .speculative_execution_policy(None);
        let fallthrough = base.clone().retry_policy(Arc::new(FallthroughRetryPolicy::new()));
        // Replicas in one order for all, so that rivals for a room meet at one coordinator.
        let conditional = fallthrough
            .clone()
            .request_timeout(Some(options.conditional_timeout))
            .load_balancing_policy(policy(options, false));
        let serial =
            fallthrough.consistency(Consistency::LocalSerial).load_balancing_policy(policy(options, false));
        let upsert = base
            .retry_policy(Arc::new(DefaultRetryPolicy::new()))
            .load_balancing_policy(policy(options, true));
        let twice = SimpleSpeculativeExecutionPolicy { max_retry_count: 1, retry_interval: SPECULATE_AFTER };
        let read = upsert.clone().speculative_execution_policy(Some(Arc::new(twice)));
        Self {
            conditional: conditional.build().into_handle(),
            serial: serial.build().into_handle(),
            read: read.build().into_handle(),
            upsert: upsert.build().into_handle(),
        }
    }
}

fn policy(options: &ScyllaOptions, shuffled: bool) -> Arc<dyn LoadBalancingPolicy> {
    let policy = DefaultPolicy::builder()
        .token_aware(true)
        .permit_dc_failover(false)
        .enable_shuffling_replicas(shuffled);
    match &options.local_data_centre {
        Some(name) => policy.prefer_datacenter(name.clone()).build(),
        None => policy.build(),
    }
}

/// Connects.
///
/// # Errors
/// [`StoreError::Unavailable`] when no contact point answers or lets us in; [`StoreError::Invalid`] for files that can't
/// be used.
pub(super) async fn connect(options: &ScyllaOptions) -> Result<(Session, Profiles), StoreError> {
    let profiles = Profiles::new(options);
    let connections = NonZeroUsize::new(options.connections).unwrap_or(NonZeroUsize::MIN);
    let mut builder = SessionBuilder::new()
        .known_nodes(&options.contact_points)
        .default_execution_profile_handle(profiles.read.clone())
        .pool_size(PoolSize::PerShard(connections))
        .connection_timeout(options.connect_timeout)
        .keepalive_interval(KEEPALIVE)
        .keepalive_timeout(KEEPALIVE)
        .tcp_keepalive_interval(Duration::from_secs(10));
    if let Some(tls) = &options.tls {
        builder = builder.tls_context(Some(tls::config(tls)?));
    }
    if let Some(credentials) = &options.credentials {
        builder = builder.user(&credentials.user, &credentials.password);
    }
    let session = builder.build().await;
    let session = session.map_err(|error| {
        StoreError::Unavailable(format!("{}: {error}", options.contact_points.join(", ")))
    })?;
    Ok((session, profiles))
}

/// What is at the other end.
pub(super) async fn dialect(session: &Session) -> Result<Dialect, StoreError> {
    // A table that only ScyllaDB has.
    let scylla = "SELECT version FROM system.versions WHERE key = 'local'";
    if let Ok(found) = session.query_unpaged(scylla, ()).await
        && let Some(version) = first_text(found)?
    {
        return Ok(Dialect::Scylla(version));
    }
    let cassandra = "SELECT release_version FROM system.local WHERE key = 'local'";
    let found = session.query_unpaged(cassandra, ()).await.map_err(|error| errors::of_read(&error))?;
    Ok(Dialect::Cassandra(first_text(found)?.unwrap_or_default()))
}

/// Whether a keyspace uses tablets.
pub(super) async fn uses_tablets(session: &Session, keyspace: &str) -> Result<bool, StoreError> {
    let query = "SELECT initial_tablets FROM system_schema.scylla_keyspaces WHERE keyspace_name = ?";
    match session.query_unpaged(query, (keyspace,)).await {
        Ok(found) => {
            let found = found.into_rows_result().map_err(errors::corrupt)?;
            let row = found.maybe_first_row::<(Option<i32>,)>().map_err(errors::corrupt)?;
            Ok(row.is_some_and(|(tablets,)| tablets.is_some()))
        }
        // Only ScyllaDB knows this table.
        Err(_) => Ok(false),
    }
}

fn first_text(found: scylla::response::query_result::QueryResult) -> Result<Option<String>, StoreError> {
    let found = found.into_rows_result().map_err(errors::corrupt)?;
    let row = found.maybe_first_row::<(Option<String>,)>().map_err(errors::corrupt)?;
    Ok(row.and_then(|(text,)| text))
}
