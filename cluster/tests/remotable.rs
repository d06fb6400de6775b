//! Other nodes can send to one actor of this process, and to nothing else: each more would be mirrored on every node.
//! Alone in its process, since it looks at all actors there are.

use std::{net::SocketAddr, sync::Arc};

use actors::{Chance, PeerId};
use bytes::Bytes;
use rookery_cluster::{
    NodeName,
    link::{LinkHandler, LinkSettings, Links, Tls, remotable},
};
use telemetry::TraceContext;

struct Nobody;

impl LinkHandler for Nobody {
    fn up(&self, _: PeerId) {}
    fn down(&self, _: PeerId) {}
    fn received(&self, _: PeerId, _: Bytes, _: TraceContext) {}
}

struct Seven;

impl Chance for Seven {
    fn bits(&self) -> u128 {
        7
    }
}

#[tokio::test]
async fn exactly_the_link_actor_is_remotable() {
    let folder = tempfile::tempdir().unwrap();
    let name = NodeName::new("alone", 1).unwrap();
    let tls = Tls::development(folder.path(), name.id()).unwrap();
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let settings = LinkSettings::new(name, listen, "test", tls, Arc::new(Seven));
    let links = Links::start(settings, Arc::new(Nobody)).await.unwrap();
    assert_eq!(remotable(), ["link alone.1"]);
    links.stop(std::time::Duration::ZERO).await;
    assert!(remotable().is_empty());
}
