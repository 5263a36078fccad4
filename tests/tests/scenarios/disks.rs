//! Disks that change under the agent's feet.

use std::{fs, os::unix::fs::FileExt};

use crate::scene::{MIB, Scene};

#[tokio::test]
async fn a_disk_that_grows_is_copied_to_its_new_end() {
    let scene = Scene::new().await;
    let mut server = scene.server("db-1", &[8 * MIB]).await;
    scene.until_state(&server, "READY_FOR_TEST").await;
    let disk = fs::OpenOptions::new()
        .write(true)
        .open(&server.disks()[0])
        .unwrap();
    disk.set_len(12 * MIB).unwrap();
    disk.write_all_at(b"the new end", 12 * MIB - 11).unwrap();
    let grown = |seen: &lab::world::api::SourceServer| {
        let disks = &seen.data_replication_info.replicated_disks;
        disks.iter().any(|disk| disk.total_storage_bytes == 12 * MIB)
    };
    scene
        .eventually("the hub shows the new size", &server, grown)
        .await;
    scene.cuts_over_equal(&mut server).await;
}

#[tokio::test]
async fn a_disk_that_shrinks_arrives_at_its_new_size() {
    let scene = Scene::new().await;
    let mut server = scene.server("db-1", &[8 * MIB]).await;
    scene.until_state(&server, "READY_FOR_TEST").await;
    // The application would make it grow again.
    server.hold().unwrap();
    let disk = fs::OpenOptions::new()
        .write(true)
        .open(&server.disks()[0])
        .unwrap();
    disk.set_len(6 * MIB).unwrap();
    let shrunk = |seen: &lab::world::api::SourceServer| {
        let disks = &seen.data_replication_info.replicated_disks;
        disks.iter().any(|disk| disk.total_storage_bytes == 6 * MIB)
    };
    scene
        .eventually("the hub shows the new size", &server, shrunk)
        .await;
    scene.cuts_over_equal(&mut server).await;
}

#[tokio::test]
async fn a_disk_that_vanishes_is_missed_by_name_and_replication_goes_on_when_it_is_back() {
    let scene = Scene::new().await;
    let mut server = scene.server("db-1", &[8 * MIB, 4 * MIB]).await;
    scene.until_state(&server, "READY_FOR_TEST").await;
    let disk = server.disks()[1].clone();
    let away = disk.with_extension("away");
    fs::rename(&disk, &away).unwrap();
    let missed = |seen: &lab::world::api::SourceServer| {
        let error = seen.data_replication_info.data_replication_error.as_ref();
        error.is_some_and(|error| error.to_string().contains("disk-2.raw"))
    };
    scene
        .eventually("the hub names the missing disk", &server, missed)
        .await;
    fs::rename(&away, &disk).unwrap();
    scene.until_replication(&server, "CONTINUOUS").await;
    scene.cuts_over_equal(&mut server).await;
}
