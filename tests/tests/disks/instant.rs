//! A checkpoint that may be launched is one instant of all disks: proved with stamped blocks.

use std::{path::PathBuf, time::Duration};

use domain::checkpoint::Consistency;
use protocol::exchange::ObservedCheckpoint;

use crate::{
    examine::Kind,
    place::{Mounted, Place},
    scene::{MIB, Scene, factor},
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
    filesystem: u32,
    crash: u32,
    none: u32,
}

impl Tally {
    /// Looks at an exported checkpoint: what claims to be an instant must be one, and the one that it says.
    fn take(&mut self, checkpoint: &ObservedCheckpoint, stamper: &Stamper, found: &[Area]) {
        let number = checkpoint.number;
        let proof = stamper.prove(found);
        let moments = match (checkpoint.consistency, proof) {
            (Consistency::None, _) => {
                self.none += 1;
                return;
            }
            (_, Ok(moments)) => moments,
            (claimed, Err(violation)) => {
                panic!(
                    "checkpoint {number} claims {} and is no instant: {violation}",
                    claimed.name()
                )
            }
        };
        match checkpoint.consistency {
            Consistency::Filesystem => self.filesystem += 1,
            Consistency::Crash | Consistency::None => self.crash += 1,
        }
        let (earliest, latest) = (stamper.at_ms(*moments.start()), stamper.at_ms(*moments.end()));
        let taken = checkpoint.taken_at_ms;
        println!(
            "checkpoint {number}: {}, of {:+} to {:+} ms from when it says, frozen {} ms",
            checkpoint.consistency.name(),
            earliest - taken,
            latest - taken,
            checkpoint.frozen_ms
        );
        // Milliseconds are rounded down.
        assert!(
            (earliest - 1..=latest + 1).contains(&taken),
            "checkpoint {number} says another time"
        );
    }
}

#[tokio::test]
async fn two_file_systems_are_frozen_at_one_instant_under_writers_that_never_rest() {
    let Some(place) = Place::new(&["losetup", "mkfs.ext4"]) else {
        return;
    };
    let make = Kind::Ext4.make();
    let ((one, on_one), (two, on_two)) = (
        place.mounted("one", 64 * MIB, make),
        place.mounted("two", 64 * MIB, make),
    );
    let area = |mounted: &Mounted| Area::file(&mounted.path("stamped"), STAMPED / BLOCK as u64);
    let mut stamper = Stamper::prepare(vec![area(&on_one), area(&on_two)]);
    let mut scene = Scene::of(&[&one, &two]).await;
    stamper.start(3, Rhythm::Steady { per_second: 5000 });
    scene.start_agent();
    if !scene.tracks().await {
        return;
    }
    let (mut tally, mut last) = (Tally::default(), 0);
    while tally.filesystem < 3 * factor() {
        let checkpoint = scene.checkpoint_after(last).await;
        last = checkpoint.number.0;
        assert_eq!(checkpoint.consistency, Consistency::Filesystem, "{checkpoint:?}");
        assert!(checkpoint.frozen_ms <= 1000, "{checkpoint:?}");
        let Some(images) = scene.export(&checkpoint, &place.path("exported")).await else {
            continue;
        };
        let look = |index: usize| {
            let dir = place.path(&format!("examined-{index}"));
            Kind::Ext4
                .examine(&images[index], checkpoint.consistency, &dir)
                .unwrap()
        };
        let looks = [look(0), look(1)];
        tally.take(&checkpoint, &stamper, &[area(&looks[0]), area(&looks[1])]);
    }
    stamper.stop();
    println!("{tally:?} of {} writes", stamper.written());
    drop((on_one, on_two));
    scene.ends_equal(&place.path("exported")).await;
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
    while tally.crash < 3 * factor() {
        let checkpoint = scene.checkpoint_after(last).await;
        last = checkpoint.number.0;
        assert!(last < 40 * u64::from(factor()), "{tally:?}");
        if let Some(images) = scene.export(&checkpoint, &place.path("exported")).await {
            tally.take(&checkpoint, &stamper, &raw(images));
        }
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
    for _ in 0..4 * factor() {
        let checkpoint = scene.checkpoint_after(last).await;
        last = checkpoint.number.0;
        if let Some(images) = scene.export(&checkpoint, &place.path("exported")).await {
            tally.take(&checkpoint, &stamper, &raw(images));
        }
    }
    stamper.stop();
    println!("{tally:?} of {} writes", stamper.written());
    scene.ends_equal(&place.path("exported")).await;
}
