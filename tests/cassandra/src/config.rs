//! What a node is configured with: `cassandra.yaml`, `logback.xml` and the command line.

use std::{net::Ipv4Addr, path::Path};

use crate::block::{CQL_PORT, STORAGE_PORT};

/// Where the data of a node lies on the ring, by the number of nodes: evenly.
const TOKENS: [&[&str]; 3] = [
    &["0"],
    &["-4611686018427387904", "4611686018427387904"],
    &["0", "-6148914691236517205", "6148914691236517204"],
];

/// Log to the standard output, which goes to the node's one log.
pub(crate) const LOGBACK: &str = r#"<configuration>
  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%-5level %date{HH:mm:ss.SSS} %logger{0} %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="OUT"/></root>
</configuration>
"#;

/// Packages of the Java runtime that Cassandra uses although they are not for use. Its start script says the same.
const EXPORTS: &[&str] = &[
    "java.base/java.lang.ref",
    "java.base/jdk.internal.misc",
    "java.base/jdk.internal.ref",
    "java.base/sun.nio.ch",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "jdk.attach/sun.tools.attach",
    "jdk.compiler/com.sun.tools.javac.file",
    "jdk.unsupported/sun.misc",
];

/// The same for what it uses by reflection.
const OPENS: &[&str] = &[
    "java.base/java.io",
    "java.base/java.lang",
    "java.base/java.lang.module",
    "java.base/java.lang.reflect",
    "java.base/java.nio",
    "java.base/java.util",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.util.jar",
    "java.base/sun.nio.ch",
    "jdk.compiler/com.sun.tools.javac",
    "jdk.management/com.sun.management.internal",
];

/// Small, quick to start rather than quick, and nothing may outlive a lack of memory.
const RUNTIME: &[&str] = &[
    "-Xms512m",
    "-Xmx512m",
    "-XX:MaxDirectMemorySize=256m",
    "-Xss256k",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",
    "-Djava.net.preferIPv4Stack=true",
    "-Djdk.attach.allowAttachSelf=true",
    "-Dio.netty.tryReflectionSetAccessible=true",
    // Nobody else is on the ring, so nobody is waited for.
    "-Dcassandra.skip_wait_for_gossip_to_settle=0",
    "-Dcassandra.ring_delay_ms=0",
    "-Dcassandra.superuser_setup_delay_ms=0",
    "-Dcassandra.available_processors=2",
    "-Dcassandra-foreground=yes",
];

/// Who a node is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// Its place in the cluster, from 0.
    pub(crate) index: usize,
    /// Of how many.
    pub(crate) nodes: usize,
    /// Its address.
    pub(crate) address: Ipv4Addr,
    /// The address that drivers are told.
    pub(crate) told_address: Ipv4Addr,
    /// The first node, where all others ask for the rest.
    pub(crate) seed: Ipv4Addr,
}

/// `cassandra.yaml`. A key that `extra` sets is not set here.
pub(crate) fn yaml(node: &Identity, folder: &Path, extra: &str) -> String {
    let Identity { address, told_address, seed, .. } = node;
    let own = format!(
        r#"cluster_name: tests at {seed}
num_tokens: 1
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
seed_provider: [{{class_name: org.apache.cassandra.locator.SimpleSeedProvider, parameters: [{{seeds: "{seed}:{STORAGE_PORT}"}}]}}]
listen_address: {address}
rpc_address: {address}
broadcast_rpc_address: {told_address}
storage_port: {STORAGE_PORT}
native_transport_port: {CQL_PORT}
start_native_transport: true
data_file_directories: ["{folder}/data"]
commitlog_directory: {folder}/commitlog
hints_directory: {folder}/hints
saved_caches_directory: {folder}/saved_caches
cdc_raw_directory: {folder}/cdc_raw
commitlog_sync: batch
paxos_variant: v2
auto_bootstrap: false
auto_snapshot: false
disk_access_mode: standard
memtable_heap_space: 64MiB
memtable_offheap_space: 64MiB
file_cache_size: 32MiB
key_cache_size: 8MiB
commitlog_segment_size: 8MiB
commitlog_total_space: 128MiB
concurrent_reads: 8
concurrent_writes: 8
concurrent_compactors: 1
native_transport_max_threads: 16
"#,
        folder = folder.display(),
    );
    let is_set = |line: &&str| extra.lines().any(|other| key(other).is_some() && key(other) == key(line));
    let mut lines: Vec<&str> = own.lines().filter(|line| !is_set(line)).collect();
    lines.extend(extra.lines());
    lines.join("\n") + "\n"
}

/// The key that a line sets at the top level.
fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once(':')?;
    (!key.starts_with([' ', '#', '-', '\t'])).then_some(key)
}

/// Java's arguments.
pub(crate) fn arguments(node: &Identity, folder: &Path, jars: &Path, agent: &Path) -> Vec<String> {
    let (folder, jars) = (folder.display(), jars.display());
    let mut all: Vec<String> = RUNTIME.iter().map(|&one| one.to_owned()).collect();
    all.extend(EXPORTS.iter().map(|package| format!("--add-exports={package}=ALL-UNNAMED")));
    all.extend(OPENS.iter().map(|package| format!("--add-opens={package}=ALL-UNNAMED")));
    all.push(format!("-javaagent:{}", agent.display()));
    all.push(format!("-Djava.io.tmpdir={folder}/tmp"));
    all.push(format!("-Dlogback.configurationFile={folder}/conf/logback.xml"));
    all.push(format!("-Dcassandra.config=file:{folder}/conf/cassandra.yaml"));
    all.push(format!("-Dcassandra.storagedir={folder}"));
    all.push(format!("-Dcassandra.logdir={folder}"));
    all.push(format!("-Dcassandra.initial_token={}", TOKENS[node.nodes - 1][node.index]));
    all.extend(["-cp".to_owned(), format!("{folder}/conf:{jars}/*")]);
    all.push("org.apache.cassandra.service.CassandraDaemon".to_owned());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_a_test_sets_is_set_once() {
        let address = Ipv4Addr::new(127, 77, 0, 1);
        let node = Identity { index: 0, nodes: 1, address, told_address: address, seed: address };
        let extra = "client_encryption_options:\n  enabled: true\nconcurrent_reads: 2";
        let yaml = yaml(&node, Path::new("/nowhere"), extra);
        assert!(yaml.contains("\nconcurrent_writes: 8\n"), "{yaml}");
        assert_eq!(yaml.matches("concurrent_reads").count(), 1, "{yaml}");
        assert!(yaml.ends_with("  enabled: true\nconcurrent_reads: 2\n"), "{yaml}");
    }
}
