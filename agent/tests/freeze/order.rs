//! File systems on top of each other, and several ways to one.

use std::{
    fs,
    os::unix::fs::FileExt,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use crate::{
    World,
    volume::{Volume, can, on, ran},
};

const LONG: Duration = Duration::from_secs(10);

#[test]
fn an_image_and_the_file_system_it_lies_on_do_not_wait_for_each_other() {
    if !can("ext4") {
        return;
    }
    let world = World::new();
    let outer = Volume::new("ext4");
    let inner = Volume::within(&outer, "ext4");
    let residents = on(&[&inner, &outer]);
    let devices: Vec<_> = residents
        .file_systems
        .iter()
        .map(|fs| fs.device.as_str())
        .collect();
    assert_eq!(
        devices,
        [&outer, &inner].map(|volume| volume.device.to_str().unwrap())
    );
    let stop = AtomicBool::new(false);
    thread::scope(|threads| {
        threads.spawn(|| {
            let (file, load) = (
                fs::File::create(inner.mount_point.join("load")).unwrap(),
                vec![7; 64 << 10],
            );
            for at in (0..64 << 20).step_by(64 << 10).cycle() {
                if stop.load(Relaxed) {
                    break;
                }
                file.write_all_at(&load, at).unwrap();
            }
        });
        for _ in 0..5 {
            let frozen = world.freezer.freeze(&residents, LONG).unwrap();
            let took = frozen.since().elapsed();
            let thawed = frozen.thaw();
            println!("two under load: frozen in {took:?}, held for {:?}", thawed.held);
            assert!(thawed.unbroken, "{thawed:?}");
        }
        stop.store(true, Relaxed);
    });
}

#[test]
fn a_file_system_that_is_mounted_often_is_frozen_once() {
    if !can("ext4") {
        return;
    }
    let world = World::new();
    let volume = Volume::new("ext4");
    fs::create_dir(volume.mount_point.join("part")).unwrap();
    let places = tempfile::tempdir().unwrap();
    let (again, part) = (places.path().join("again"), places.path().join("part"));
    fs::create_dir(&again).unwrap();
    fs::create_dir(&part).unwrap();
    ran(
        "mount",
        &[volume.device.to_str().unwrap(), again.to_str().unwrap()],
    );
    let from = volume.mount_point.join("part");
    ran(
        "mount",
        &["--bind", from.to_str().unwrap(), part.to_str().unwrap()],
    );
    // Whoever opens the first place finds another file system there.
    ran("mount", &["-t", "tmpfs", "cover", volume.path()]);

    let residents = on(&[&volume]);
    assert_eq!(residents.file_systems.len(), 1, "{residents:?}");
    assert_eq!(residents.file_systems[0].places.len(), 3, "{residents:?}");
    let frozen = world.freezer.freeze(&residents, LONG).unwrap();
    fs::write(volume.mount_point.join("in the cover"), "content").unwrap();
    let (done, end) = std::sync::mpsc::sync_channel(1);
    let file = part.join("file");
    let writer = thread::spawn(move || {
        fs::write(file, "content").unwrap();
        done.send(()).unwrap();
    });
    assert!(end.recv_timeout(Duration::from_millis(300)).is_err());
    assert!(frozen.thaw().unbroken);
    end.recv_timeout(Duration::from_secs(10)).unwrap();
    writer.join().unwrap();
    ran("umount", &[volume.path()]);
}
