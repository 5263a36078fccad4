//! File systems in use: whatever checkpoint is offered, what was exported of it is whole.

use std::time::Duration;

use domain::checkpoint::Consistency;

use crate::{
    examine::Kind,
    load::Load,
    place::{Disk, Mounted, Place, run},
    room::write_noise,
    scene::{MIB, Scene, factor},
};

const EXAMINED: u32 = 3;

#[tokio::test]
async fn file_systems_under_load_are_whole_in_every_checkpoint() {
    const KINDS: [Kind; 3] = [Kind::Ext4, Kind::Xfs, Kind::Btrfs];
    let Some(place) = Place::new(&["losetup", "fio", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs"]) else {
        return;
    };
    let in_use: Vec<(Disk, Mounted)> = KINDS
        .iter()
        .map(|kind| place.mounted(&format!("{kind:?}"), kind.bytes(), kind.make()))
        .collect();
    let disks: Vec<_> = in_use.iter().map(|(disk, _)| disk).collect();
    let mut scene = Scene::of(&disks).await;
    let loads: Vec<_> = in_use.iter().map(|(_, mounted)| Load::on(mounted)).collect();
    scene.start_agent();
    if !scene.tracks().await {
        return;
    }
    let (mut examined, mut last) = (0, 0);
    while examined < EXAMINED * factor() {
        let checkpoint = scene.checkpoint_after(last).await;
        last = checkpoint.number.0;
        assert_eq!(checkpoint.consistency, Consistency::Filesystem, "{checkpoint:?}");
        assert!(checkpoint.frozen_ms <= 1000, "{checkpoint:?}");
        // Deleted space is given back meanwhile.
        for (_, mounted) in &in_use {
            run(&format!("fstrim {}", mounted.dir.display()));
        }
        let Some(images) = scene.export(&checkpoint, &place.path("exported")).await else {
            continue;
        };
        for (kind, image) in KINDS.iter().zip(&images) {
            let examine = kind.examine(image, checkpoint.consistency, &place.path("examined"));
            let mounted = examine.unwrap_or_else(|wrong| panic!("checkpoint {last}, {kind:?}: {wrong}"));
            Load::verify(&mounted).unwrap_or_else(|wrong| panic!("checkpoint {last}, {kind:?}: {wrong}"));
        }
        println!("checkpoint {last}: frozen {} ms", checkpoint.frozen_ms);
        examined += 1;
    }
    drop(loads);
    drop(
        in_use
            .into_iter()
            .map(|(disk, mounted)| (disk, drop(mounted)))
            .collect::<Vec<_>>(),
    );
}

#[tokio::test]
async fn file_systems_made_trimmed_and_swapped_on_while_replicated_end_equal() {
    let Some(place) = Place::new(&["losetup", "fio", "mkfs.ext4", "mkswap", "swapon"]) else {
        return;
    };
    let (stable, ext4) = place.mounted("stable", 64 * MIB, Kind::Ext4.make());
    let (remade, swap) = (place.disk("remade", 48 * MIB), place.disk("swap", 32 * MIB));
    run(&format!("mkswap {}", swap.path.display()));
    let used = Swap::on(&swap);
    let mut scene = Scene::of(&[&stable, &remade, &swap]).await;
    scene.start_agent();
    if !scene.tracks().await {
        return;
    }
    scene.next_checkpoint().await;
    let load = Load::on(&ext4);
    let mut seen = Vec::new();
    for round in (0..3).cycle().take(3 * factor() as usize) {
        write_noise(&remade.path, round * 8 * MIB, 8 * MIB);
        run(&format!("mkfs.ext4 -q -F {}", remade.path.display()));
        let dir = place.path("remade.mounted");
        let mounted = Mounted::try_at(&dir, &remade.path, "defaults").unwrap();
        std::fs::write(mounted.path("file"), vec![7; 5 << 20]).unwrap();
        run(&format!(
            "sync -f {0} && rm {0}/file && fstrim {0}",
            dir.display()
        ));
        let checkpoint = scene.next_checkpoint().await;
        drop(mounted);
        seen.push((checkpoint.consistency, checkpoint.frozen_ms));
        if checkpoint.consistency == Consistency::None {
            continue;
        }
        let Some(images) = scene.export(&checkpoint, &place.path("exported")).await else {
            continue;
        };
        for image in &images[..2] {
            let examined = Kind::Ext4.examine(image, checkpoint.consistency, &place.path("examined"));
            drop(examined.unwrap_or_else(|wrong| panic!("checkpoint {}: {wrong}", checkpoint.number)));
        }
    }
    println!("{seen:?}");
    assert!(
        seen.iter()
            .any(|(consistency, _)| *consistency == Consistency::Filesystem),
        "{seen:?}"
    );
    drop((load, used, ext4));
    scene.ends_equal(&place.path("exported")).await;
}

/// One that was mounted after the agent looked for what it has to freeze is not frozen with the rest.
#[tokio::test]
async fn no_checkpoint_calls_a_file_system_frozen_that_was_mounted_meanwhile() {
    let Some(place) = Place::new(&["losetup", "fio", "mkfs.ext4"]) else {
        return;
    };
    let (stable, ext4) = place.mounted("stable", 64 * MIB, Kind::Ext4.make());
    let coming = place.disk("coming", 16 * MIB);
    run(&format!("{} {}", Kind::Ext4.make(), coming.path.display()));
    let mut scene = Scene::of(&[&stable, &coming]).await;
    let load = Load::on(&ext4);
    scene.start_agent();
    if !scene.tracks().await {
        return;
    }
    let dir = place.path("coming.mounted");
    let (mut last, mut claims) = (0, 0);
    while claims < 10 * factor() {
        // The agent looks once a second or so, and freezes for the tenth of one.
        let comings = async {
            for rest in (0..).map(|round| Duration::from_millis(round * 37 % 150)) {
                let mounted = Mounted::try_at(&dir, &coming.path, "defaults").unwrap();
                std::fs::write(mounted.path("file"), rest.as_millis().to_string()).unwrap();
                tokio::time::sleep(rest).await;
                run(&format!("sync -f {}", dir.display()));
                tokio::time::sleep(rest).await;
                drop(mounted);
            }
        };
        let checkpoint = tokio::select! {
            checkpoint = scene.checkpoint_after(last) => checkpoint,
            () = comings => unreachable!("they come for ever"),
        };
        last = checkpoint.number.0;
        let Some(images) = scene.export(&checkpoint, &place.path("exported")).await else {
            continue;
        };
        for image in images
            .iter()
            .filter(|_| checkpoint.consistency != Consistency::None)
        {
            let examined = Kind::Ext4.examine(image, checkpoint.consistency, &place.path("examined"));
            drop(examined.unwrap_or_else(|wrong| panic!("{checkpoint:?}: {wrong}")));
        }
        claims += u32::from(checkpoint.consistency == Consistency::Filesystem);
    }
    drop((load, ext4));
}

/// The machine swaps to a disk.
struct Swap(String);

impl Swap {
    fn on(disk: &Disk) -> Self {
        // Nothing is moved there that there is memory for; that it is in use is what counts.
        run(&format!("swapon --priority=0 {}", disk.path.display()));
        Self(disk.path.display().to_string())
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        let _off = crate::place::sh(&format!("swapoff {}", self.0));
    }
}
