//! A tracker that is deceived: the map in which the kernel's programs mark writes is exchanged behind its back. The disk
//! is not believed any more, and ends equal.

use std::{
    fs,
    io::Error,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use lab::wait::{Look, eventually};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::{
    place::Place,
    room::write_noise,
    scene::{MIB, SOON, Scene},
};

/// Commands and types of bpf(2), linux/bpf.h.
const MAP_CREATE: u32 = 0;
const MAP_LOOKUP: u32 = 1;
const MAP_UPDATE: u32 = 2;
const MAP_BY_ID: u32 = 14;
const ARRAY_OF_MAPS: u32 = 12;

#[repr(C)]
struct NewMap {
    kind: u32,
    key_len: u32,
    value_len: u32,
    entries: u32,
    flags: u32,
}

#[repr(C)]
struct Element {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

fn bpf<T>(command: u32, attributes: &mut T) -> Result<i64, Error> {
    // SAFETY: the structure begins as the kernel's for this command does, is of the size that is given, and so is
    // all that it points to.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if result < 0 {
        Err(Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn handle(number: i64) -> OwnedFd {
    // SAFETY: the kernel has just made it for us.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(number).unwrap()) }
}

fn element(map: &OwnedFd, key: &u32, value: &mut u32) -> Element {
    Element {
        map: u32::try_from(map.as_raw_fd()).unwrap(),
        padding: 0,
        key: std::ptr::from_ref(key) as u64,
        value: std::ptr::from_mut(value) as u64,
        flags: 0,
    }
}

/// What the kernel tells of a map that somebody has open.
fn told(fdinfo: &str, of: &str) -> Option<u32> {
    let line = fdinfo
        .lines()
        .find_map(|line| line.strip_prefix(of)?.strip_prefix(':'))?;
    let text = line.trim();
    text.strip_prefix("0x")
        .map_or_else(|| text.parse().ok(), |hex| u32::from_str_radix(hex, 16).ok())
}

/// Puts empty maps in place of all that the agent keeps in maps of maps, and says how many.
fn exchange_maps(agent: u32) -> u32 {
    let process = pidfd_open(
        Pid::from_raw(i32::try_from(agent).unwrap()).unwrap(),
        PidfdFlags::empty(),
    )
    .unwrap();
    let mut exchanged = 0;
    for entry in fs::read_dir(format!("/proc/{agent}/fdinfo")).unwrap().flatten() {
        let fdinfo = fs::read_to_string(entry.path()).unwrap_or_default();
        if told(&fdinfo, "map_type") != Some(ARRAY_OF_MAPS) {
            continue;
        }
        let number = entry.file_name().to_string_lossy().parse().unwrap();
        let outer = pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).unwrap();
        for key in 0..told(&fdinfo, "max_entries").unwrap() {
            let mut inner_id = 0_u32;
            if bpf(MAP_LOOKUP, &mut element(&outer, &key, &mut inner_id)).is_err() {
                continue;
            }
            let inner = handle(bpf(MAP_BY_ID, &mut [inner_id, 0, 0]).unwrap());
            let like = fs::read_to_string(format!("/proc/self/fdinfo/{}", inner.as_raw_fd())).unwrap();
            let mut plan = NewMap {
                kind: told(&like, "map_type").unwrap(),
                key_len: told(&like, "key_size").unwrap(),
                value_len: told(&like, "value_size").unwrap(),
                entries: told(&like, "max_entries").unwrap(),
                flags: told(&like, "map_flags").unwrap(),
            };
            let empty = handle(bpf(MAP_CREATE, &mut plan).unwrap());
            let mut value = u32::try_from(empty.as_raw_fd()).unwrap();
            bpf(MAP_UPDATE, &mut element(&outer, &key, &mut value)).unwrap();
            exchanged += 1;
        }
    }
    exchanged
}

#[tokio::test]
async fn a_tracker_whose_marks_go_elsewhere_is_not_believed_and_the_disks_end_equal() {
    let Some(place) = Place::new(&["losetup"]) else {
        return;
    };
    let (one, two) = (place.disk("one", 32 * MIB), place.disk("two", 32 * MIB));
    let mut scene = Scene::of(&[&one, &two]).await;
    scene.start_agent();
    if !scene.tracks().await {
        return;
    }
    scene.checkpoint_after(1).await;
    for round in 0..2 {
        let agent = scene.agent().id();
        let doubts = || scene.agent_said().matches("compared as a whole").count();
        let before = doubts();
        let exchanged = exchange_maps(agent);
        assert!(exchanged >= 2, "the agent has {exchanged} maps of marks");
        write_noise(&one.path, (3 + 9 * round) * MIB, 5 * MIB);
        write_noise(&two.path, 9 * MIB, 2 * MIB);
        let look = || async { Ok(Look::when(doubts() > before, doubts())) };
        eventually("the agent doubts its tracker", SOON, look)
            .await
            .unwrap();
        scene.ends_equal(&place.path("exported")).await;
    }
    // It is believed again, and sees what is written.
    let before = scene.agent_said().matches("compared as a whole").count();
    write_noise(&one.path, 20 * MIB, MIB);
    scene.ends_equal(&place.path("exported")).await;
    assert_eq!(scene.agent_said().matches("compared as a whole").count(), before);
}
