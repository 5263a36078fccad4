//! A runner whose disk is really full.

use std::{fs, io::Write, os::unix::fs::FileExt, path::Path};

use crate::{
    place::{Place, run},
    scene::{MIB, Scene},
};

/// Writes what no compression makes smaller.
pub fn write_noise(device: &Path, at: u64, len: u64) {
    let mut noise = vec![0; usize::try_from(len).unwrap()];
    rand::fill(&mut noise[..]);
    let file = fs::OpenOptions::new().write(true).open(device).unwrap();
    file.write_all_at(&noise, at).unwrap();
    file.sync_all().unwrap();
}

#[tokio::test]
async fn a_runner_whose_disk_is_full_keeps_what_it_has_and_goes_on_when_there_is_room() {
    let Some(place) = Place::new(&["losetup", "mkfs.ext4"]) else {
        return;
    };
    let source = place.disk("source", 48 * MIB);
    let (_small, room) = place.mounted("small", 256 * MIB, "mkfs.ext4 -q -m 0");
    write_noise(&source.path, 0, 16 * MIB);
    let mut scene = Scene::with_room(&[&source], Some(&room.dir)).await;
    scene.start_agent();
    let committed = scene.next_checkpoint().await;

    // Somebody else takes the room that is left.
    let ballast = room.path("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    while file.write(&[1; 4096]).is_ok_and(|written| written > 0) {}
    drop(file);
    write_noise(&source.path, 0, 40 * MIB);
    let stalled = scene
        .eventually("replication stalls", |seen| {
            seen.data_replication_info.data_replication_state == "STALLED"
        })
        .await;
    let error = stalled.data_replication_info.data_replication_error.unwrap();
    assert_eq!(error["error"], "SNAPSHOTS_FAILURE", "{error}");

    // What was committed can be read while there is no room, and after the runner was killed there.
    let elsewhere = place.path("exported");
    assert!(scene.export(&committed, &elsewhere).await.is_some());
    scene.runner_mut().kill().unwrap();
    scene.runner_mut().restart().await.unwrap();
    assert!(scene.export(&committed, &elsewhere).await.is_some());

    fs::remove_file(&ballast).unwrap();
    run(&format!("sync -f {}", room.dir.display()));
    scene.ends_equal(&elsewhere).await;
}
