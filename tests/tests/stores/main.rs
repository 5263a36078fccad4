//! One contract for all snapshot stores: that of the lab, and EBS as the lab's AWS-shaped endpoints have it.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod contract;
mod ebs;

use cloud::layers::LayerStore;

#[tokio::test]
async fn layers_hold_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    contract::holds(&LayerStore::open(folder.path()).unwrap()).await;
}
