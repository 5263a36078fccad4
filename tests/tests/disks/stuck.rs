//! An agent that stands still in the middle of a freeze: its guard thaws, and it claims nothing.

use std::{
    fs::File,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use domain::checkpoint::Consistency;

use crate::{
    examine::Kind,
    load::pause,
    place::Place,
    scene::{MIB, Scene},
    stamps::{Area, BLOCK, Rhythm, Stamper},
};

/// From the moment that the agent stands still; with what a busy machine adds.
const THAWED_WITHIN: Duration = Duration::from_millis(1300);
/// A write that waits for so long waits for a thaw.
const FROZEN: Duration = Duration::from_millis(250);

#[tokio::test]
async fn an_agent_stopped_in_a_freeze_is_thawed_within_a_second_and_claims_nothing() {
    let Some(place) = Place::new(&["losetup", "mkfs.ext4"]) else {
        return;
    };
    let (disk, ext4) = place.mounted("disk", 96 * MIB, Kind::Ext4.make());
    let area =
        |mounted: &crate::place::Mounted| Area::file(&mounted.path("stamped"), 16 * MIB / BLOCK as u64);
    let mut stamper = Stamper::prepare(vec![area(&ext4)]);
    let mut scene = Scene::of(&[&disk]).await;
    scene.start_agent();
    if !scene.tracks().await {
        return;
    }
    let mut last = scene.checkpoint_after(1).await.number.0;
    stamper.start(2, Rhythm::Steady { per_second: 4000 });
    let (mut struck, mut longest) = (0, Duration::ZERO);
    for attempt in 0.. {
        assert!(attempt < 40, "no freeze was met in {attempt} attempts");
        let began_ms = until_a_freeze(&scene).await;
        pause(Duration::from_micros(rand::random_range(500..8000)));
        scene.agent().pause().unwrap();
        let waited = waits_to_write(&ext4.path("probe"));
        assert!(waited <= THAWED_WITHIN, "frozen for {waited:?}");
        let ended_ms = chrono::Utc::now().timestamp_millis();
        scene.agent().resume().unwrap();
        if waited < FROZEN {
            continue;
        }
        (struck, longest) = (struck + 1, longest.max(waited));
        // Those that come of it, or after it.
        for _ in 0..2 {
            let checkpoint = scene.checkpoint_after(last).await;
            last = checkpoint.number.0;
            let is_of_then = (began_ms..=ended_ms).contains(&checkpoint.taken_at_ms);
            assert!(
                !is_of_then || checkpoint.consistency != Consistency::Filesystem,
                "{checkpoint:?}"
            );
            prove(&scene, &place, &stamper, &checkpoint).await;
        }
        if struck == 2 {
            break;
        }
    }
    let next = scene.next_checkpoint().await;
    assert_eq!(next.consistency, Consistency::Filesystem);
    prove(&scene, &place, &stamper, &next).await;
    println!("thawed by its guard twice, after {longest:?} at most");
    stamper.stop();
}

async fn prove(
    scene: &Scene,
    place: &Place,
    stamper: &Stamper,
    checkpoint: &protocol::exchange::ObservedCheckpoint,
) {
    if checkpoint.consistency == Consistency::None {
        return;
    }
    let Some(images) = scene.export(checkpoint, &place.path("exported")).await else {
        return;
    };
    let mounted = Kind::Ext4
        .examine(&images[0], checkpoint.consistency, &place.path("examined"))
        .unwrap();
    let proof = stamper.prove(&[Area::file(&mounted.path("stamped"), 16 * MIB / BLOCK as u64)]);
    assert!(proof.is_ok(), "{checkpoint:?}: {proof:?}");
}

/// Waits until the agent notes that it is about to freeze, and says when. Meanwhile this test's network goes on: an
/// agent whose last checkpoint was not answered does not freeze again.
async fn until_a_freeze(scene: &Scene) -> i64 {
    let mark = scene.agent_dir().join("frozen-file-systems");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !mark.exists() {
        assert!(Instant::now() < deadline, "no freeze within 30 s");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    chrono::Utc::now().timestamp_millis()
}

fn waits_to_write(file: &Path) -> Duration {
    let began = Instant::now();
    let mut file = File::create(file).unwrap();
    file.write_all(b"not frozen").unwrap();
    file.sync_all().unwrap();
    began.elapsed()
}
