//! A hundred times, at any moment, under load: agent, runner or both are killed. Nothing stays frozen, nothing is
//! offered that is not whole, and in the end the replica is equal.

use std::{
    fs::File,
    io::Write,
    sync::mpsc,
    time::{Duration, Instant},
};

use domain::checkpoint::Consistency;

use crate::{
    examine::Kind,
    place::{Mounted, Place},
    scene::{MIB, Scene, factor},
    stamps::{Area, BLOCK, Rhythm, Stamper},
};

const KILLS: u32 = 100;
/// Also what a test of a few minutes can afford.
const BETWEEN_KILLS: Duration = Duration::from_millis(1500);
/// One that is not frozen takes a few milliseconds.
const THAWED_WITHIN: Duration = Duration::from_secs(1);
/// After so many kills, the newest checkpoint is examined.
const EXAMINED_EVERY: u32 = 10;

#[derive(Debug, Clone, Copy)]
enum Victim {
    Agent,
    Runner,
    Both,
}

/// A write to each file system gets through.
fn nothing_is_frozen(file_systems: &[&Mounted]) {
    let began = Instant::now();
    for mounted in file_systems {
        let (done, wait) = mpsc::sync_channel(1);
        let path = mounted.path("probe");
        std::thread::spawn(move || {
            let mut file = File::create(path).unwrap();
            file.write_all(b"not frozen").unwrap();
            file.sync_all().unwrap();
            // Nobody listens if it came too late.
            let _heard = done.send(());
        });
        let left = THAWED_WITHIN.saturating_sub(began.elapsed());
        wait.recv_timeout(left).unwrap_or_else(|_| {
            panic!(
                "{} takes no writes a second after the kill",
                mounted.dir.display()
            )
        });
    }
}

#[tokio::test]
async fn whoever_is_killed_nothing_stays_frozen_and_nothing_is_offered_that_is_not_whole() {
    let Some(place) = Place::new(&["losetup", "mkfs.ext4"]) else {
        return;
    };
    let (one, ext4) = place.mounted("one", 64 * MIB, Kind::Ext4.make());
    let (two, other) = place.mounted("two", 64 * MIB, Kind::Ext4.make());
    let area = |dir: &Mounted| Area::file(&dir.path("stamped"), 4 * MIB / BLOCK as u64);
    let mut stamper = Stamper::prepare(vec![area(&ext4), area(&other)]);
    let mut scene = Scene::of(&[&one, &two]).await;
    scene.start_agent();
    let mut last = scene.next_checkpoint().await.number;
    stamper.start(2, Rhythm::Steady { per_second: 1000 });
    let mut examined = [0; 3];
    for kill in 1..=KILLS * factor() {
        tokio::time::sleep(BETWEEN_KILLS.mul_f64(rand::random())).await;
        let victim = [Victim::Agent, Victim::Runner, Victim::Both][rand::random_range(0..3)];
        if matches!(victim, Victim::Agent | Victim::Both) {
            scene.kill_agent();
        }
        if matches!(victim, Victim::Runner | Victim::Both) {
            scene.runner_mut().kill().unwrap();
        }
        nothing_is_frozen(&[&ext4, &other]);
        if kill % EXAMINED_EVERY == 0 {
            let newest = scene.checkpoints().pop().unwrap();
            assert!(newest.number >= last, "checkpoint {last} is gone");
            last = newest.number;
            let images = scene.export(&newest, &place.path("exported")).await.unwrap();
            examined[newest.consistency as usize] += 1;
            if newest.consistency != Consistency::None {
                let look = |index: usize| {
                    let dir = place.path(&format!("exported-{index}"));
                    Kind::Ext4
                        .examine(&images[index], newest.consistency, &dir)
                        .unwrap()
                };
                let looks = [look(0), look(1)];
                let proof = stamper.prove(&[area(&looks[0]), area(&looks[1])]);
                assert!(proof.is_ok(), "checkpoint {last} after {kill} kills: {proof:?}");
            }
        }
        if matches!(victim, Victim::Runner | Victim::Both) {
            scene.runner_mut().restart().await.unwrap();
        }
        if matches!(victim, Victim::Agent | Victim::Both) {
            scene.start_agent();
        }
    }
    stamper.stop();
    let [whole, crash, none] = examined;
    println!(
        "{} writes, {last} checkpoints, of which were examined: filesystem {whole}, crash {crash}, none {none}",
        stamper.written()
    );
    drop((ext4, other));
    scene.ends_equal(&place.path("exported")).await;
}
