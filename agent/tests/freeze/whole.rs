//! A freeze that nobody disturbs.

use std::{
    fs,
    time::{Duration, Instant},
};

use agent::{
    checkpoint::{
        freeze::{FreezeError, Freezer},
        guard::GuardProgram,
        mounts::{FileSystem, Place},
    },
    disks::mountinfo,
};

use crate::{
    PROGRAM, World,
    volume::{Volume, can, on, ran, run, unmount},
};

const LONG: Duration = Duration::from_secs(20);

fn freeze_and_thaw(kind: &str) {
    if !can(kind) {
        return;
    }
    let world = World::new();
    let volume = Volume::new(kind);
    fs::write(volume.mount_point.join("before"), "content").unwrap();
    let residents = on(&[&volume]);
    assert_eq!(residents.file_systems.len(), 1, "{residents:?}");
    assert_eq!(residents.file_systems[0].kind, kind);
    // The second needs what the first has put away.
    for _ in 0..2 {
        let frozen = world.freezer.freeze(&residents, LONG).unwrap();
        assert!(frozen.not_frozen().is_empty());
        assert!(world.mark().exists());
        let already = world.freezer.freeze(&residents, LONG);
        assert!(matches!(already, Err(FreezeError::Already)), "{already:?}");
        let write = volume.write();
        assert!(write.is_blocked(), "a frozen {kind} takes a write");
        assert_eq!(
            fs::read_to_string(volume.mount_point.join("before")).unwrap(),
            "content"
        );
        let (thaw, thawed) = (Instant::now(), frozen.thaw());
        println!("{kind}: thawed in {:?}", thaw.elapsed());
        assert!(thawed.unbroken && thawed.held < LONG, "{thawed:?}");
        write.took();
        assert!(!world.mark().exists());
    }
}

#[test]
fn ext4_holds_writers_until_it_is_thawed() {
    freeze_and_thaw("ext4");
}

#[test]
fn xfs_holds_writers_until_it_is_thawed() {
    freeze_and_thaw("xfs");
}

#[test]
fn btrfs_holds_writers_until_it_is_thawed() {
    freeze_and_thaw("btrfs");
}

#[test]
fn a_kind_that_cannot_be_frozen_is_named_and_the_others_are_frozen() {
    if !can("ext4") {
        return;
    }
    let world = World::new();
    let volume = Volume::new("ext4");
    // It is on no disk, and refuses in the same words as vfat does.
    let memory = tempfile::tempdir().unwrap();
    let point = memory.path().to_str().unwrap();
    ran("mount", &["-t", "tmpfs", "memory", point]);
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mountinfo::parse(&table)
        .into_iter()
        .rfind(|mount| mount.point == memory.path());
    let place = Place {
        mount_id: mount.unwrap().id,
        path: memory.path().into(),
    };
    let mut residents = on(&[&volume]);
    residents.file_systems.push(FileSystem {
        mount_point: memory.path().into(),
        device: "memory".into(),
        kind: "tmpfs".into(),
        writable: true,
        places: vec![place],
    });
    let frozen = world.freezer.freeze(&residents, LONG).unwrap();
    assert_eq!(frozen.not_frozen(), [format!("{point} (tmpfs)")]);
    assert!(volume.write().is_blocked());
    fs::write(memory.path().join("file"), "content").unwrap();
    assert!(frozen.thaw().unbroken);
    unmount(point);
}

#[test]
fn a_file_system_that_somebody_else_has_frozen_stays_so() {
    if !can("ext4") {
        return;
    }
    let world = World::new();
    let (ours, theirs) = (Volume::new("ext4"), Volume::new("ext4"));
    ran("fsfreeze", &["--freeze", theirs.path()]);
    for volumes in [[&ours, &theirs], [&theirs, &ours]] {
        let refused = world.freezer.freeze(&on(&volumes), LONG);
        assert!(matches!(refused, Err(FreezeError::Busy { .. })), "{refused:?}");
        ours.write().took();
    }
    let write = theirs.write();
    assert!(write.is_blocked());
    ran("fsfreeze", &["--unfreeze", theirs.path()]);
    write.took();
}

#[test]
fn without_a_guard_nothing_is_frozen() {
    let folder = tempfile::tempdir().unwrap();
    for program in ["/bin/false", "/nowhere", "/bin/cat"] {
        let refused = Freezer::start(GuardProgram::at(program), folder.path().join("mark"));
        assert!(matches!(refused, Err(FreezeError::NoGuard(_))), "{refused:?}");
    }
}

/// The log lies on the very file system that is frozen.
#[test]
fn log_lines_of_a_freeze_come_out_after_it() {
    if !can("ext4") {
        return;
    }
    let volume = Volume::new("ext4");
    let folder = tempfile::tempdir().unwrap();
    let log = volume.mount_point.join("log");
    let began = Instant::now();
    let status = std::process::Command::new(PROGRAM)
        .args(["try-freeze", "--hold", "0.5", "--longest", "15", "--devices"])
        .arg(&volume.device)
        .arg("--dir")
        .arg(folder.path())
        .stderr(fs::File::create(&log).unwrap())
        .status()
        .unwrap();
    assert!(status.success());
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "it waited for the guard"
    );
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("frozen"), "{log:?}");
}

#[test]
fn an_area_of_swap_is_found() {
    if !can("ext4") {
        return;
    }
    let volume = Volume::new("ext4");
    let device = volume.device.to_str().unwrap();
    unmount(device);
    ran("mkswap", &[device]);
    ran("swapon", &[device]);
    let residents = on(&[&volume]);
    run("swapoff", &[device]);
    assert_eq!(residents.swap, [(0, 64 << 10..400 << 20)]);
    assert!(on(&[&volume]).swap.is_empty());
}
