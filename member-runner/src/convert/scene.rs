//! Servers with real partitions and file systems, kept in a real store and converted by a real worker. Needs root, loop
//! devices and FUSE.
//!
//! The worker, and where it is to be killed the serving process, are this very test program, started again for one test
//! and told by its environment what to do.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use cloud::{
    control::Tags,
    layers::LayerStore,
    snapshots::{SnapshotId, SnapshotSpec, SnapshotStore},
};
use domain::{
    digest::Digest,
    disk::{BLOCK_LEN, block_count},
};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use super::{
    attach::DiskFile,
    overlay::{Base, Overlay},
    worker::{Message, Worker},
};

const KEEP: usize = 64 << 20;
/// What a worker of a test does.
const ACT: &str = "ORGLIFT_TEST_ACT";

/// A folder with a store.
pub struct Scene {
    dir: tempfile::TempDir,
    runtime: Runtime,
    pub store: Arc<LayerStore>,
}

/// A disk of the source, as its checkpoint has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Checkpoint {
    pub device_name: String,
    pub snapshot: SnapshotId,
    pub bytes: u64,
}

impl Scene {
    /// `None`, and why on one line, where the machine does not let a test do this. Where `CI=true`, that is a failure.
    pub fn new() -> Option<Self> {
        Self::with(&[])
    }

    /// The same for a test that needs these programs, too.
    pub fn with(more: &[&str]) -> Option<Self> {
        let programs = [
            "unshare",
            "losetup",
            "sfdisk",
            "mkfs.ext4",
            "mkfs.xfs",
            "mkfs.btrfs",
            "mkfs.vfat",
            "fstrim",
        ];
        let folders = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(Path::new);
        let is_missing = |program: &&&str| !folders.iter().any(|folder| folder.join(program).exists());
        let why = match programs.iter().chain(more).find(is_missing) {
            Some(program) => format!("{program} is not installed"),
            None if !rustix::process::geteuid().is_root() => "only root attaches disks".into(),
            None if !Path::new("/dev/loop-control").exists() => "there are no loop devices".into(),
            None if rustix::fs::access("/dev/fuse", rustix::fs::Access::WRITE_OK).is_err() => {
                "/dev/fuse cannot be opened".into()
            }
            None => return Some(Self::at(tempfile::tempdir().unwrap())),
        };
        eprintln!("cannot run here: file systems of clones: {why}");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{why}");
        None
    }

    fn at(dir: tempfile::TempDir) -> Self {
        let store = Arc::new(LayerStore::open(dir.path().join("store")).unwrap());
        let runtime = Runtime::new().unwrap();
        Self { dir, runtime, store }
    }

    /// The one that another process made.
    pub fn opened(dir: &Path) -> Self {
        let own = tempfile::tempdir_in(dir).unwrap();
        let store = Arc::new(LayerStore::open(dir.join("store")).unwrap());
        let runtime = Runtime::new().unwrap();
        Self {
            dir: own,
            runtime,
            store,
        }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn work(&self) -> PathBuf {
        let work = self.dir.path().join("work");
        fs::create_dir_all(&work).unwrap();
        work
    }

    /// A disk of `mib` MiB that `make`, lines of the shell, fills: `$disk` is its image, `part START SIZE` attaches
    /// a part of it, in MiB, and prints the device, and `$at` is a folder to mount at.
    pub fn disk(&self, device_name: &str, mib: u64, make: &str) -> Checkpoint {
        self.disks(&[(device_name, mib)], make).remove(0)
    }

    /// One or two disks that are filled together: the second is `$disk2`.
    pub fn disks(&self, disks: &[(&str, u64)], make: &str) -> Vec<Checkpoint> {
        let images: Vec<PathBuf> = (0..disks.len()).map(|at| self.image(at)).collect();
        for (image, (_, mib)) in images.iter().zip(disks) {
            fs::File::create(image).unwrap().set_len(mib << 20).unwrap();
        }
        self.shell(make);
        let stored = images.iter().zip(disks).map(|(image, (device_name, mib))| {
            let snapshot = self.store_image(image, device_name.trim_start_matches("/dev/"));
            fs::remove_file(image).unwrap();
            Checkpoint {
                device_name: (*device_name).to_owned(),
                snapshot,
                bytes: mib << 20,
            }
        });
        stored.collect()
    }

    /// Lets lines of the shell, as for [`Scene::disks`], look at disks.
    pub fn look(&self, disks: &[Checkpoint], lines: &str) {
        for (at, disk) in disks.iter().enumerate() {
            let image = fs::File::create(self.image(at)).unwrap();
            for block in 0..block_count(disk.bytes) {
                let data = self
                    .runtime
                    .block_on(self.store.read(&disk.snapshot, block))
                    .unwrap();
                image.write_all_at(&data, block * BLOCK_LEN as u64).unwrap();
            }
        }
        self.shell(lines);
    }

    fn image(&self, disk: usize) -> PathBuf {
        self.dir.path().join(format!("image{}", disk + 1))
    }

    fn shell(&self, lines: &str) {
        let at = self.dir.path().join("making");
        fs::create_dir_all(&at).unwrap();
        sh(&format!(
            "set -eu
            disk={first} disk2={second} at={}
            part() {{ losetup --find --show --offset $(($1 << 20)) --sizelimit $(($2 << 20)) $disk; }}
            detach() {{
                for image in $disk $disk2; do
                    losetup --associated $image --noheadings --output NAME | xargs --no-run-if-empty losetup --detach
                done
            }}
            trap detach EXIT
            {lines}",
            at.display(),
            first = self.image(0).display(),
            second = self.image(1).display(),
        ));
    }

    fn store_image(&self, image: &Path, id: &str) -> SnapshotId {
        let file = fs::File::open(image).unwrap();
        let bytes = file.metadata().unwrap().len();
        let spec = SnapshotSpec {
            parent: None,
            bytes,
            disk: id.parse().unwrap(),
            tags: Tags::new(),
        };
        let snapshot = self.runtime.block_on(self.store.start(&spec)).unwrap();
        let mut data = vec![0; BLOCK_LEN];
        for block in 0..block_count(bytes) {
            file.read_exact_at(&mut data, block * BLOCK_LEN as u64).unwrap();
            if data.iter().any(|byte| *byte != 0) {
                let digest = Digest::of(&data);
                let put = self.store.put(&snapshot, block, data.clone(), digest);
                self.runtime.block_on(put).unwrap();
            }
        }
        self.runtime.block_on(self.store.commit(&snapshot)).unwrap();
        snapshot
    }

    pub fn overlay(&self, disk: &Checkpoint) -> Arc<Overlay> {
        let base = Base {
            snapshot: disk.snapshot.clone(),
            disk: disk.device_name.trim_start_matches("/dev/").parse().unwrap(),
            bytes: disk.bytes,
            digests: None,
        };
        let store = Arc::clone(&self.store);
        let runtime = self.runtime.handle().clone();
        Arc::new(Overlay::over(base, store, runtime, self.dir.path(), KEEP).unwrap())
    }

    /// Starts a worker that does what `act` says.
    pub fn worker(&self, act: &str, disks: &[(&Checkpoint, Arc<Overlay>)]) -> Worker {
        let mut program = this_program(THE_WORKER);
        // By its folder, whatever it starts is found again.
        program.env(ACT, act).env("ORGLIFT_TEST_SCENE", self.path());
        let disks = disks.iter().enumerate();
        let disks = disks.map(|(at, (disk, overlay))| {
            let file = DiskFile {
                device_name: disk.device_name.clone(),
                is_boot: at == 0,
                bytes: disk.bytes,
            };
            (file, Arc::clone(overlay))
        });
        Worker::spawn(program, &self.work(), disks.collect(), &()).unwrap()
    }

    /// Lets a worker do what `act` says, commits what it wrote, and gives its report and the checkpoints of the
    /// children.
    pub fn convert(&self, act: &str, disks: &[Checkpoint]) -> (String, Vec<Checkpoint>) {
        let digests = || -> Vec<Digest> { disks.iter().map(|disk| self.digest(&disk.snapshot)).collect() };
        let before = digests();
        let overlays = disks.iter().map(|disk| (disk, self.overlay(disk)));
        let overlays: Vec<_> = overlays.collect();
        let mut worker = self.worker(act, &overlays);
        let report = report(&mut worker);
        worker.end().unwrap();
        fs::remove_dir_all(self.work()).unwrap();
        assert_eq!(before, digests());
        let children = overlays.into_iter().map(|(disk, overlay)| {
            let committed = overlay.commit(Tags::new()).unwrap();
            let info = self.store.info(&committed.snapshot).unwrap();
            assert_eq!(info.parent.as_ref(), Some(&disk.snapshot));
            Checkpoint {
                snapshot: committed.snapshot,
                ..disk.clone()
            }
        });
        (report, children.collect())
    }

    /// Of everything that a snapshot shows.
    fn digest(&self, snapshot: &SnapshotId) -> Digest {
        let bytes = self.store.info(snapshot).unwrap().bytes;
        let mut all = blake3::Hasher::new();
        for block in 0..block_count(bytes) {
            all.update(&self.runtime.block_on(self.store.read(snapshot, block)).unwrap());
        }
        Digest(*all.finalize().as_bytes())
    }
}

/// What a worker says in the end.
pub fn report(worker: &mut Worker) -> String {
    loop {
        if let Message::Report(report) = next(worker) {
            return report;
        }
    }
}

pub fn next(worker: &mut Worker) -> Message {
    let deadline = Instant::now() + Duration::from_mins(2);
    match worker.next(deadline) {
        Ok(Some(message)) => message,
        Ok(None) => panic!("the worker says nothing"),
        Err(error) => panic!("{error}"),
    }
}

const THE_WORKER: &str = "convert::scene::the_worker";

/// This program, for one of its tests.
pub fn this_program(test: &str) -> Command {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    program
}

/// What a worker of another test runs. For the test runner itself it is nothing.
#[test]
fn the_worker() {
    if let Ok(act) = std::env::var(ACT) {
        super::worker::tests::act(&act, super::worker::inside::Inside::start().unwrap());
    }
}

/// What a command of the shell prints, in mounts of its own; the test fails if it does.
#[track_caller]
pub fn sh(lines: &str) -> String {
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", lines])
        .stdin(Stdio::null())
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{lines}\n{said}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
