//! Workers that die, that hang and that say nonsense; and what is left of a conversion whose processes are killed.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    process::{Child, Stdio},
    thread,
};

use rustix::process::{Pid, Signal, kill_process, pidfd_send_signal};

use super::{inside::Inside, *};
use crate::convert::{
    attach,
    scene::{Checkpoint, Scene, next, this_program},
};

/// Nothing of a killed conversion is there for longer.
const GONE_WITHIN: Duration = Duration::from_secs(20);

fn a_disk(scene: &Scene) -> Checkpoint {
    scene.disk(
        "/dev/sda",
        64,
        r"echo '1M,62M,L' | sfdisk --quiet --label dos $disk
        root=$(part 1 62)
        mkfs.ext4 -q $root
        mount $root $at
        mkdir -p $at/etc $at/usr
        echo ID=debian > $at/etc/os-release
        umount $at",
    )
}

fn started(scene: &Scene, act: &str, disk: &Checkpoint) -> Worker {
    scene.worker(act, &[(disk, scene.overlay(disk))])
}

/// What workers of tests do.
pub fn act(name: &str, inside: Inside) {
    match name {
        "hang" => thread::park(),
        "nonsense" => inside.socket.lock().unwrap().write_all(b"x1234").unwrap(),
        "panic" => {
            inside.step("one\ntwo").unwrap();
            panic!("nobody knows why");
        }
        other => attach::tests::act(other, inside),
    }
}

/// A program that does what lines of the shell say.
fn script(scene: &Scene, lines: &str) -> PathBuf {
    let path = scene.path().join("program");
    fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path
}

#[test]
fn a_worker_that_does_not_begin_is_quoted() {
    let Some(scene) = Scene::new() else { return };
    let program = script(&scene, "echo there is trouble >&2; exit 3");
    let refused = Worker::start(&program, &scene.work(), Vec::new(), &()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the worker of a conversion does not begin; it said:\nthere is trouble"
    );
    let missing = Worker::start(Path::new("/nowhere"), &scene.work(), Vec::new(), &()).unwrap_err();
    assert_eq!(missing.to_string(), "cannot start /nowhere");
}

#[test]
fn a_worker_that_fails_is_quoted() {
    let Some(scene) = Scene::new() else { return };
    let mut worker = started(&scene, "panic", &a_disk(&scene));
    assert_eq!(next(&mut worker), Message::Step("one\u{fffd}two".to_owned()));
    let ended = worker.next(Instant::now() + GONE_WITHIN).unwrap_err().to_string();
    assert!(
        ended.starts_with("the worker of a conversion ended without a report, by exit status: 101"),
        "{ended}"
    );
    assert!(ended.contains("nobody knows why"), "{ended}");
    worker.end().unwrap();
}

#[test]
fn a_worker_that_hangs_is_ended() {
    let Some(scene) = Scene::new() else { return };
    let mut worker = started(&scene, "hang", &a_disk(&scene));
    assert_eq!(
        worker.next(Instant::now() + Duration::from_millis(200)).unwrap(),
        None
    );
    let began = Instant::now();
    worker.end().unwrap();
    assert!(began.elapsed() < GONE_WITHIN);
    wait_until_nothing_is_left(scene.path());
}

#[test]
fn nonsense_is_an_error() {
    let Some(scene) = Scene::new() else { return };
    let mut worker = started(&scene, "nonsense", &a_disk(&scene));
    let error = worker.next(Instant::now() + GONE_WITHIN).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the worker of a conversion says what nobody understands: there is no message of kind 120"
    );
    worker.end().unwrap();
}

/// Moments at which processes are killed, counted from their start: at some of them nothing is mounted yet.
const EARLY: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
];
/// The same, counted from the time when the worker writes.
const LATE: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(30),
    Duration::from_millis(150),
];

#[test]
fn a_killed_worker_leaves_nothing() {
    let Some(scene) = Scene::new() else { return };
    let disk = a_disk(&scene);
    for (delay, is_late) in moments() {
        let mut worker = started(&scene, "write-until-killed", &disk);
        if is_late {
            next(&mut worker);
            // Its process knows of the scene, and one loop device is attached.
            let is_there = left(&scene.path().display().to_string());
            assert!(is_there.len() >= 2, "{is_there:?}");
        }
        thread::park_timeout(delay);
        pidfd_send_signal(&worker.process.handle, Signal::KILL).unwrap();
        let ended = loop {
            match worker.next(Instant::now() + GONE_WITHIN) {
                Ok(Some(Message::Step(_))) => {}
                Ok(other) => panic!("{other:?}"),
                Err(error) => break error.to_string(),
            }
        };
        assert!(ended.contains("signal: 9"), "{ended}");
        worker.end().unwrap();
        wait_until_nothing_is_left(scene.path());
    }
}

#[test]
fn a_killed_serving_process_leaves_nothing() {
    let Some(scene) = Scene::new() else { return };
    let disk = a_disk(&scene);
    for (delay, is_late) in moments() {
        let (mut server, _) = server(&scene, &disk, is_late);
        thread::park_timeout(delay);
        server.kill().unwrap();
        server.wait().unwrap();
        wait_until_nothing_is_left(scene.path());
    }
}

#[test]
fn when_both_are_killed_nothing_is_left() {
    let Some(scene) = Scene::new() else { return };
    let disk = a_disk(&scene);
    for delay in LATE {
        for worker_first in [true, false] {
            let (mut server, worker) = server(&scene, &disk, true);
            thread::park_timeout(delay);
            // The second may be dead of the first.
            let kill_worker = || kill_process(worker.unwrap(), Signal::KILL);
            if worker_first {
                kill_worker().unwrap();
                server.kill().unwrap();
            } else {
                server.kill().unwrap();
                let _ = kill_worker();
            }
            server.wait().unwrap();
            wait_until_nothing_is_left(scene.path());
        }
    }
}

fn moments() -> impl Iterator<Item = (Duration, bool)> {
    let early = EARLY.into_iter().map(|delay| (delay, false));
    early.chain(LATE.into_iter().map(|delay| (delay, true)))
}

/// Where the serving process of a test finds its disk.
const SERVED: &str = "ORGLIFT_TEST_SERVED";

/// Starts a serving process whose worker writes. Where it is ready, so is the worker, and gives its number.
fn server(scene: &Scene, disk: &Checkpoint, ready: bool) -> (Child, Option<Pid>) {
    let says = scene.path().join("ready");
    drop(fs::remove_file(&says));
    let order = serde_json::to_string(&(scene.path(), disk)).unwrap();
    let mut server = this_program("convert::worker::tests::the_server")
        .env(SERVED, order)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    if !ready {
        return (server, None);
    }
    let deadline = Instant::now() + Duration::from_mins(1);
    while !says.exists() {
        assert!(server.try_wait().unwrap().is_none(), "it ended too early");
        assert!(Instant::now() < deadline, "it does not begin");
        thread::park_timeout(Duration::from_millis(10));
    }
    let said = fs::read_to_string(says).unwrap();
    let worker = Pid::from_raw(said.parse().unwrap());
    (server, worker)
}

/// What the serving process of another test runs. For the test runner itself it is nothing.
#[test]
fn the_server() {
    let Ok(served) = std::env::var(SERVED) else { return };
    let (dir, disk): (PathBuf, Checkpoint) = serde_json::from_str(&served).unwrap();
    let scene = Scene::opened(&dir);
    let mut worker = started(&scene, "write-until-killed", &disk);
    let Message::Step(id) = next(&mut worker) else {
        panic!("it writes until it is killed")
    };
    fs::write(dir.join("draft"), id).unwrap();
    fs::rename(dir.join("draft"), dir.join("ready")).unwrap();
    worker.next(Instant::now() + Duration::from_mins(5)).unwrap();
}

#[track_caller]
fn wait_until_nothing_is_left(scene: &Path) {
    let deadline = Instant::now() + GONE_WITHIN;
    loop {
        let left = left(&scene.display().to_string());
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{left:?} is left");
        thread::park_timeout(Duration::from_millis(20));
    }
}

/// Processes that know of a scene, mounts below its folder in any namespace, and loop devices over files that are in
/// it or in no namespace any more.
fn left(scene: &str) -> Vec<String> {
    let mut left = Vec::new();
    let own_id = std::process::id().to_string();
    for process in fs::read_dir("/proc").unwrap() {
        let process = process.unwrap();
        let id = process.file_name().into_string().unwrap();
        let knows = |file: &str| {
            let text = fs::read(process.path().join(file)).unwrap_or_default();
            String::from_utf8_lossy(&text).contains(scene)
        };
        if id != own_id && id.parse::<u32>().is_ok() && (knows("environ") || knows("mountinfo")) {
            left.push(format!("process {id}"));
        }
    }
    for device in fs::read_dir("/sys/block").unwrap() {
        let device = device.unwrap();
        let file = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
        if file.contains(scene) || file.trim_end() == "/0" {
            left.push(format!(
                "{} over {}",
                device.file_name().display(),
                file.trim_end()
            ));
        }
    }
    left
}
