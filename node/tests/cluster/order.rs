//! Nobody fails: all see one order.

use crate::support::{Crowd, Nodes};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_all_nodes_see_one_order() {
    let nodes = Nodes::three().await;
    let mut crowd = Crowd::gather(&nodes).await;
    crowd.talk();
    for _ in 0..10 {
        crowd.say_around().await;
    }
    crowd.settle(&nodes).await;
    assert_eq!(crowd.errors(), []);
    nodes.assert_quiet(&crowd);
}
