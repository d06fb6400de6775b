//! The way to the first peers.
//!
//! chitchat asks for the addresses of names once a minute, and waits for that before it starts. So it is given addresses
//! only, and names are looked up here.

use std::{collections::HashSet, net::SocketAddr, sync::Arc, time::Duration};

use chitchat::ChitchatHandle;
use tokio::{net::lookup_host, time::timeout};

use super::thread::Core;

/// Pause between two lookups as long as nobody else is alive.
const ALONE: Duration = Duration::from_secs(2);

/// Pause between two lookups once somebody is: names lead back together what was parted for long.
const IN_COMPANY: Duration = Duration::from_secs(30);

/// Time that a lookup may take.
const LOOKUP: Duration = Duration::from_secs(2);

/// Most addresses of one name that are used.
const ADDRESSES: usize = 256;

/// The seeds that are addresses.
pub(super) fn literal(seeds: &[String]) -> Vec<String> {
    seeds.iter().filter(|seed| is_literal(seed)).cloned().collect()
}

fn is_literal(seed: &str) -> bool {
    seed.parse::<SocketAddr>().is_ok()
}

/// Looks names up and speaks to whoever is not known to be alive, for ever.
pub(super) async fn seek(core: Arc<Core>, chitchat: Arc<ChitchatHandle>) {
    let names: Vec<_> = core.seeds.iter().filter(|seed| !is_literal(seed)).collect();
    if names.is_empty() {
        return;
    }
    loop {
        for name in &names {
            let found = lookup(name).await;
            let known = alive(&chitchat).await;
            for address in found.into_iter().filter(|address| !known.contains(address)) {
                let _ = chitchat.gossip(address);
            }
        }
        let alone = alive(&chitchat).await.len() < 2;
        tokio::time::sleep(if alone { ALONE } else { IN_COMPANY }).await;
    }
}

async fn lookup(name: &str) -> Vec<SocketAddr> {
    match timeout(LOOKUP, lookup_host(name)).await {
        Ok(Ok(found)) => found.take(ADDRESSES).collect(),
        Ok(Err(error)) => {
            tracing::debug!(name, %error, "a seed has no address");
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}

/// The addresses of everybody alive, this node included.
async fn alive(chitchat: &ChitchatHandle) -> HashSet<SocketAddr> {
    let chitchat = chitchat.chitchat();
    let chitchat = chitchat.lock().await;
    chitchat.live_nodes().map(|node| node.gossip_advertise_addr).collect()
}
