//! Whoever dies or hangs in the middle of a freeze: the server goes on.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use agent::checkpoint::freeze::thaw_on_panic;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    PROGRAM, World,
    volume::{Pending, Volume, can, on, ran},
};

const LONG: Duration = Duration::from_secs(20);
const SECOND: Duration = Duration::from_secs(1);

/// `orglift-agent try-freeze` as a process.
struct Holder {
    child: Child,
}

impl Holder {
    fn start(volume: &Volume, dir: &Path, hold: &str, longest: &str) -> Self {
        // As an agent does that starts.
        ran(PROGRAM, &["thaw", "--dir", dir.to_str().unwrap()]);
        let child = Command::new(PROGRAM)
            .args(["try-freeze", "--hold", hold, "--longest", longest, "--devices"])
            .arg(&volume.device)
            .arg("--dir")
            .arg(dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child }
    }

    fn kill(&self, signal: Signal) {
        kill(self.child.id(), signal);
    }

    /// Stops all its threads, or one of them would still see the guard's end.
    fn stop(&self) {
        self.kill(Signal::STOP);
        let threads = format!("/proc/{}/task", self.child.id());
        let is_stopped = |thread: fs::DirEntry| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
        };
        while !fs::read_dir(&threads)
            .unwrap()
            .all(|thread| is_stopped(thread.unwrap()))
        {
            std::thread::yield_now();
        }
    }

    /// Its guard, by its name in the list of processes.
    fn guard(&self) -> u32 {
        let children = format!("/proc/{0}/task", self.child.id());
        let all = fs::read_dir(children).unwrap().flat_map(|task| {
            let children = fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
            children
                .split(' ')
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<u32>>()
        });
        let guards: Vec<_> = all.filter(|pid| comm(*pid) == "orglift-guard").collect();
        assert_eq!(guards.len(), 1);
        guards[0]
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.kill(Signal::CONT);
        // It may have ended.
        let _killed = self.child.kill();
        self.child.wait().unwrap();
    }
}

fn kill(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    // One that has ended, and was not waited for, takes signals.
    kill_process(pid, signal).unwrap();
}

fn comm(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

fn measured(what: &str, write: Pending, since: Instant) {
    let after = write.ended_after(since);
    println!("{what}: thawed after {after:?}");
    assert!(after < SECOND, "{what}: {after:?}");
}

#[test]
fn a_holder_that_is_killed_thaws_within_a_second() {
    for kind in ["ext4", "xfs", "btrfs"] {
        if !can(kind) {
            continue;
        }
        let volume = Volume::new(kind);
        let dir = tempfile::tempdir().unwrap();
        for signal in [Signal::KILL, Signal::ABORT, Signal::TERM] {
            let holder = Holder::start(&volume, dir.path(), "30", "30");
            let write = volume.blocked_write();
            let since = Instant::now();
            holder.kill(signal);
            measured(&format!("{kind}, {signal:?}"), write, since);
        }
    }
}

#[test]
fn a_holder_that_is_stopped_thaws_when_its_time_is_over() {
    if !can("ext4") {
        return;
    }
    let volume = Volume::new("ext4");
    let dir = tempfile::tempdir().unwrap();
    let holder = Holder::start(&volume, dir.path(), "30", "1");
    let write = volume.blocked_write();
    holder.kill(Signal::STOP);
    let took = write.took();
    println!("SIGSTOP, with a limit of 1 s: a write waited for {took:?}");
    assert!(took < SECOND + SECOND / 2, "{took:?}");
}

#[test]
fn signals_that_end_other_programs_do_not_end_the_guard() {
    if !can("ext4") {
        return;
    }
    let volume = Volume::new("ext4");
    let dir = tempfile::tempdir().unwrap();
    let holder = Holder::start(&volume, dir.path(), "30", "30");
    let write = volume.blocked_write();
    let guard = holder.guard();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        kill(guard, signal);
    }
    assert!(write.is_blocked(), "the guard ended");
    assert_eq!(comm(guard), "orglift-guard");
    let since = Instant::now();
    holder.kill(Signal::KILL);
    measured("the guard took signals, then the agent was killed", write, since);
}

#[test]
fn a_panic_thaws() {
    if !can("ext4") {
        return;
    }
    thaw_on_panic();
    let world = World::new();
    let volume = Volume::new("ext4");
    let residents = on(&[&volume]);
    let write = thread::scope(|threads| {
        let holder = threads.spawn(|| {
            let _frozen = world.freezer.freeze(&residents, LONG).unwrap();
            let write = volume.write();
            assert!(write.is_blocked());
            std::panic::panic_any((write, Instant::now()));
        });
        holder
            .join()
            .unwrap_err()
            .downcast::<(Pending, Instant)>()
            .unwrap()
    });
    measured("panic", write.0, write.1);
    assert!(!world.mark().exists());
    assert!(world.freezer.freeze(&residents, LONG).unwrap().thaw().unbroken);
}

#[test]
fn a_guard_that_is_killed_breaks_the_freeze_and_is_replaced() {
    if !can("ext4") {
        return;
    }
    let world = World::new();
    let volume = Volume::new("ext4");
    let residents = on(&[&volume]);
    let frozen = world.freezer.freeze(&residents, LONG).unwrap();
    let write = volume.write();
    assert!(write.is_blocked());
    let first = world.freezer.guard_pid().unwrap();
    let since = Instant::now();
    kill(first, Signal::KILL);
    measured("the guard was killed", write, since);
    assert!(!frozen.thaw().unbroken);
    let patience = Instant::now() + Duration::from_secs(10);
    while world.freezer.guard_pid().is_none_or(|pid| pid == first) {
        assert!(Instant::now() < patience, "there is no other guard");
        thread::park_timeout(Duration::from_millis(10));
    }
    assert!(world.freezer.freeze(&residents, LONG).unwrap().thaw().unbroken);
}

#[test]
fn a_guard_that_hangs_is_found_out_before_anything_is_frozen() {
    if !can("ext4") {
        return;
    }
    let world = World::new();
    let volume = Volume::new("ext4");
    let residents = on(&[&volume]);
    kill(world.freezer.guard_pid().unwrap(), Signal::STOP);
    let refused = world.freezer.freeze(&residents, LONG);
    assert!(refused.is_err());
    volume.write().took();
    let patience = Instant::now() + Duration::from_secs(10);
    while world.freezer.freeze(&residents, LONG).is_err() {
        assert!(Instant::now() < patience, "there is no other guard");
        thread::park_timeout(Duration::from_millis(10));
    }
}

#[test]
fn a_freeze_that_lasts_too_long_is_broken_and_says_so() {
    if !can("ext4") {
        return;
    }
    let world = World::new();
    let volume = Volume::new("ext4");
    let residents = on(&[&volume]);
    let frozen = world.freezer.freeze(&residents, SECOND / 2).unwrap();
    let took = volume.write().took();
    println!("with a limit of 0.5 s, a write waited for {took:?}");
    assert!(took < SECOND, "{took:?}");
    let thawed = frozen.thaw();
    assert!(!thawed.unbroken, "{thawed:?}");
    assert!(world.freezer.freeze(&residents, LONG).unwrap().thaw().unbroken);
}

#[test]
fn a_thaw_by_somebody_else_is_noticed() {
    if !can("ext4") {
        return;
    }
    let world = World::new();
    let volume = Volume::new("ext4");
    let frozen = world.freezer.freeze(&on(&[&volume]), LONG).unwrap();
    ran("fsfreeze", &["--unfreeze", volume.path()]);
    assert!(!frozen.thaw().unbroken);
}

/// Nobody is left who knows, but for the mark.
#[test]
fn after_agent_and_guard_were_killed_the_program_thaws() {
    if !can("ext4") {
        return;
    }
    let volume = Volume::new("ext4");
    let dir = tempfile::tempdir().unwrap();
    let thaw = || ran(PROGRAM, &["thaw", "--dir", dir.path().to_str().unwrap()]);
    assert_eq!(thaw(), "Nothing was left frozen.");
    let holder = Holder::start(&volume, dir.path(), "30", "30");
    let write = volume.blocked_write();
    let other = Command::new(PROGRAM)
        .args(["try-freeze", "--dir", dir.path().to_str().unwrap(), "--devices"])
        .arg(&volume.device)
        .output()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&other.stderr).contains("orglift-agent thaw"),
        "{other:?}"
    );
    let guard = holder.guard();
    holder.stop();
    kill(guard, Signal::KILL);
    holder.kill(Signal::KILL);
    drop(holder);
    assert!(write.is_blocked(), "somebody else thawed");
    let since = Instant::now();
    assert_eq!(thaw(), format!("Thawed {}.", volume.path()));
    measured("`orglift-agent thaw`", write, since);
    assert_eq!(thaw(), "Nothing was left frozen.");
}

#[test]
fn no_moment_is_a_bad_one_to_be_killed_in() {
    if !can("ext4") {
        return;
    }
    let volume = Volume::new("ext4");
    let dir = tempfile::tempdir().unwrap();
    let mut slowest = Duration::ZERO;
    for round in 0..40 {
        let holder = Holder::start(&volume, dir.path(), "0.02", "5");
        thread::park_timeout(Duration::from_millis(2 * round));
        holder.kill(Signal::KILL);
        slowest = slowest.max(volume.write().took());
    }
    println!("after 40 kills, the slowest write took {slowest:?}");
    assert!(slowest < SECOND, "{slowest:?}");
}
