//! The lab's cloud.

use cloud::{
    control::Place,
    folder::{FolderCloud, organization::Trust},
    layers::LayerStore,
};

use crate::contract::{self, Ground};

#[tokio::test]
async fn it_holds_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = FolderCloud::open(folder.path());
    let place = Place::direct("111111111111".parse().unwrap(), "eu-central-1");
    let trust = Trust {
        accounts: vec![place.account.clone()],
    };
    trust.save(folder.path()).unwrap();
    let store = LayerStore::open(cloud.place(&place).snapshots()).unwrap();
    let ground = Ground {
        cloud: &cloud,
        place,
        store: &store,
        subnet: "target".into(),
        address: [10, 0, 2, 77].into(),
    };
    contract::holds(&ground).await;
}
