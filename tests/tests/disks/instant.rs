//! A checkpoint that may be launched is one instant of all disks: proved with stamped blocks.

use std::{path::PathBuf, time::Duration};

use domain::checkpoint::Consistency;
use protocol::exchange::ObservedCheckpoint;

use crate::{
    place::Place,
    scene::{MIB, Scene},
    stamps::{Area, BLOCK, Rhythm, Stamper},
};

/// Of each disk, and all of it is written again and again.
const STAMPED: u64 = 8 * MIB;

/// A part of each disk, without a file system.
fn raw(disks: impl IntoIterator<Item = impl Into<PathBuf>>) -> Vec<Area> {
    let areas = disks.into_iter().map(|disk| Area {
        path: disk.into(),
        offset: MIB,
        blocks: STAMPED / BLOCK as u64,
    });
    areas.collect()
}

/// What a scenario saw of checkpoints.
#[derive(Debug, Default)]
struct Tally {
    proved: u32,
    torn: u32,
    honest: u32,
}

impl Tally {
    /// Looks at a checkpoint as it is exported: what may be launched for good must be an instant.
    async fn take(
        &mut self,
        scene: &Scene,
        place: &Place,
        stamper: &Stamper,
        checkpoint: &ObservedCheckpoint,
    ) {
        let Some(images) = scene.export(checkpoint, &place.path("exported")).await else {
            return;
        };
        let proof = stamper.prove(&raw(images));
        let number = checkpoint.number;
        match (checkpoint.consistency, proof) {
            (Consistency::None, Ok(_)) => self.honest += 1,
            (Consistency::None, Err(_)) => self.torn += 1,
            (_, Ok(moments)) => {
                self.proved += 1;
                let (earliest, latest) = (stamper.at_ms(*moments.start()), stamper.at_ms(*moments.end()));
                let taken = checkpoint.taken_at_ms;
                println!(
                    "checkpoint {number}: what it shows is of {:+} to {:+} ms from when it says, frozen {} ms",
                    earliest - taken,
                    latest - taken,
                    checkpoint.frozen_ms
                );
            }
            (claimed, Err(violation)) => {
                panic!(
                    "checkpoint {number} claims {} and is no instant: {violation}",
                    claimed.name()
                );
            }
        }
    }
}

#[tokio::test]
async fn two_disks_with_a_writer_that_pauses_are_seen_at_one_instant() {
    let Some(place) = Place::new(&["losetup"]) else {
        return;
    };
    let (one, two) = (place.disk("one", 16 * MIB), place.disk("two", 16 * MIB));
    let mut stamper = Stamper::prepare(raw([&one.path, &two.path]));
    let mut scene = Scene::of(&[&one, &two]).await;
    stamper.start(
        3,
        Rhythm::Bursts {
            busy: Duration::from_millis(700),
            quiet: Duration::from_millis(1500),
        },
    );
    scene.start_agent();
    let (mut tally, mut last) = (Tally::default(), 0);
    while tally.proved < 3 {
        let checkpoint = scene.checkpoint_after(last).await;
        last = checkpoint.number.0;
        assert!(last < 40, "{tally:?}");
        tally.take(&scene, &place, &stamper, &checkpoint).await;
    }
    stamper.stop();
    println!("{tally:?} of {} writes", stamper.written());
    scene.ends_equal(&place.path("exported")).await;
}

#[tokio::test]
async fn a_writer_that_never_rests_is_not_called_an_instant_unless_it_is_one() {
    let Some(place) = Place::new(&["losetup"]) else {
        return;
    };
    let (one, two) = (place.disk("one", 16 * MIB), place.disk("two", 16 * MIB));
    let mut stamper = Stamper::prepare(raw([&one.path, &two.path]));
    let mut scene = Scene::of(&[&one, &two]).await;
    stamper.start(3, Rhythm::Steady { per_second: 5000 });
    scene.start_agent();
    let (mut tally, mut last) = (Tally::default(), 0);
    for _ in 0..4 {
        let checkpoint = scene.checkpoint_after(last).await;
        last = checkpoint.number.0;
        tally.take(&scene, &place, &stamper, &checkpoint).await;
    }
    stamper.stop();
    println!("{tally:?} of {} writes", stamper.written());
    scene.ends_equal(&place.path("exported")).await;
}
