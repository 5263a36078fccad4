//! File systems on loop devices, and programs that write to them.
//!
//! A file system that stays frozen holds whoever touches it for ever, these tests included. So each has a second
//! way out: a thread that thaws it after a minute, and `Drop`, both with a program that is not under test.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use agent::{
    checkpoint::mounts::{Residents, residents},
    disks::{Roots, discover},
};

/// No test is at work for so long.
const LIFE: Duration = Duration::from_mins(1);
/// Blocked for so long is frozen: an idle loop device in memory writes in milliseconds.
const BLOCKED: Duration = Duration::from_millis(300);

pub fn run(program: &str, args: &[&str]) -> Output {
    let output = Command::new(program).args(args).output();
    output.unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// Runs a program that must succeed, and returns what it says.
pub fn ran(program: &str, args: &[&str]) -> String {
    let output = run(program, args);
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Unmounts what a guard that is just ending may have a file open on.
pub fn unmount(place: &str) {
    let patience = Instant::now() + Duration::from_secs(5);
    loop {
        let output = run("umount", &[place]);
        if output.status.success() {
            return;
        }
        assert!(Instant::now() < patience, "umount {place}: {output:?}");
        thread::park_timeout(Duration::from_millis(10));
    }
}

/// Says why a test cannot run, which is a failure where everything must be there.
pub fn cannot(why: &str) {
    eprintln!("cannot run here: {why}");
    assert_ne!(
        std::env::var("CI").as_deref(),
        Ok("true"),
        "in CI, every test runs"
    );
}

/// Whether file systems of a kind can be made, mounted and frozen.
pub fn can(kind: &str) -> bool {
    let lacks = if !rustix::process::geteuid().is_root() {
        Some("only root freezes file systems".to_owned())
    } else if !fs::read_to_string("/proc/filesystems").unwrap().contains(kind) {
        Some(format!("the kernel has no {kind}"))
    } else if Command::new(format!("mkfs.{kind}")).arg("-V").output().is_err() {
        Some(format!("no mkfs.{kind}"))
    } else if !run("losetup", &["--find"]).status.success() {
        Some("no loop devices".to_owned())
    } else {
        None
    };
    if let Some(lacks) = &lacks {
        cannot(lacks);
    }
    lacks.is_none()
}

/// A mounted file system. Dropping it thaws, unmounts and removes it.
pub struct Volume {
    pub device: PathBuf,
    pub mount_point: PathBuf,
    _folder: tempfile::TempDir,
    _life: SyncSender<()>,
}

impl Volume {
    pub fn new(kind: &str) -> Self {
        // In memory where that is possible, so that a busy disk does not look like a frozen one.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        let folder = folder.unwrap();
        let image = folder.path().join("image");
        Self::at(kind, &image, folder)
    }

    /// A file system whose image is on another.
    pub fn within(outer: &Self, kind: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::at(kind, &outer.mount_point.join("image"), folder)
    }

    fn at(kind: &str, image: &Path, folder: tempfile::TempDir) -> Self {
        let mount_point = folder.path().join("mount");
        fs::create_dir(&mount_point).unwrap();
        // The smallest that every kind takes.
        fs::File::create(image).unwrap().set_len(400 << 20).unwrap();
        ran(&format!("mkfs.{kind}"), &["-q", image.to_str().unwrap()]);
        let device = PathBuf::from(ran("losetup", &["--find", "--show", image.to_str().unwrap()]));
        ran(
            "mount",
            &[device.to_str().unwrap(), mount_point.to_str().unwrap()],
        );
        let (life, ended) = sync_channel(0);
        let place = mount_point.clone();
        thread::spawn(move || {
            if ended.recv_timeout(LIFE) == Err(RecvTimeoutError::Timeout) {
                run("fsfreeze", &["--unfreeze", place.to_str().unwrap()]);
            }
        });
        Self {
            device,
            mount_point,
            _folder: folder,
            _life: life,
        }
    }

    pub fn path(&self) -> &str {
        self.mount_point.to_str().unwrap()
    }

    /// Creates and syncs a file from a thread of its own.
    pub fn write(&self) -> Pending {
        let path = self.mount_point.join(format!("file-{}", rand::random::<u64>()));
        let began = Instant::now();
        let (done, end) = sync_channel(1);
        thread::spawn(move || {
            let mut file = fs::File::create(path).unwrap();
            file.write_all(b"content").unwrap();
            file.sync_all().unwrap();
            // Nobody listens any more in a test that has failed.
            let _heard = done.send(Instant::now());
        });
        Pending { began, end }
    }

    /// A write that waits for the thaw.
    pub fn blocked_write(&self) -> Pending {
        let patience = Instant::now() + Duration::from_secs(20);
        while Instant::now() < patience {
            let write = self.write();
            if write.is_blocked() {
                return write;
            }
        }
        panic!("{} is never frozen", self.path());
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        run("fsfreeze", &["--unfreeze", self.path()]);
        for _ in 0..50 {
            // Mounted several times, or busy with a thread that is just ending.
            let unmounted = run("umount", &[self.device.to_str().unwrap()]);
            let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
            let device = format!("{} ", self.device.display());
            if !mounts.lines().any(|line| line.starts_with(&device)) {
                break;
            }
            if !unmounted.status.success() {
                thread::park_timeout(Duration::from_millis(50));
            }
        }
        run("losetup", &["--detach", self.device.to_str().unwrap()]);
    }
}

/// A write in a thread.
pub struct Pending {
    began: Instant,
    end: Receiver<Instant>,
}

impl Pending {
    pub fn is_blocked(&self) -> bool {
        self.end.recv_timeout(BLOCKED) == Err(RecvTimeoutError::Timeout)
    }

    /// How long it took from `since` on. It must end.
    pub fn ended_after(self, since: Instant) -> Duration {
        let end = self.end.recv_timeout(Duration::from_secs(20));
        end.expect("the file system thaws")
            .saturating_duration_since(since)
    }

    /// How long it took.
    pub fn took(self) -> Duration {
        let began = self.began;
        self.ended_after(began)
    }
}

/// What is on the disks of some volumes.
pub fn on(volumes: &[&Volume]) -> Residents {
    let devices: Vec<_> = volumes.iter().map(|volume| volume.device.clone()).collect();
    let roots = Roots::default();
    residents(&roots, &discover::named(&roots, &devices).unwrap())
}
