//! The program itself as the worker of a conversion.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::Path,
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
    launch::Hypervisor,
    readiness::Class,
};
use member_runner::convert::{
    attach::DiskFile,
    orders::{Inspect, Order, Report},
    overlay::{Base, Overlay},
    worker::{Message, Worker},
};
use tokio::runtime::Runtime;

const RUNNER: &str = env!("CARGO_BIN_EXE_orglift-runner");
const BYTES: u64 = 64 << 20;

macro_rules! needs_root_and_fuse {
    () => {
        if !rustix::process::geteuid().is_root() || !Path::new("/dev/fuse").exists() {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "tests of conversions need root and FUSE"
            );
            eprintln!("cannot run here: the worker of a conversion: not root, or no /dev/fuse");
            return;
        }
    };
}

/// A disk with a file system and no table, with a guest's root on it.
fn snapshot(store: &LayerStore, runtime: &Runtime, dir: &Path) -> SnapshotId {
    let (root, image) = (dir.join("guest"), dir.join("image"));
    fs::create_dir_all(root.join("etc")).expect("a folder is made");
    fs::create_dir_all(root.join("usr")).expect("a folder is made");
    fs::write(root.join("etc/os-release"), "ID=debian\n").expect("a file is written");
    let image_file = fs::File::create(&image).expect("a file is made");
    image_file.set_len(BYTES).expect("it has a length");
    let made = Command::new("/usr/sbin/mkfs.ext4")
        .arg("-q")
        .arg("-d")
        .args([&root, &image])
        .status()
        .expect("mkfs.ext4 is there");
    assert!(made.success());
    let spec = SnapshotSpec {
        parent: None,
        bytes: BYTES,
        disk: "sda".parse().expect("it is a name"),
        tags: Tags::new(),
    };
    let image = fs::File::open(image).expect("it was made");
    runtime.block_on(async {
        let snapshot = store.start(&spec).await.expect("it starts");
        for block in 0..block_count(BYTES) {
            let mut data = vec![0; BLOCK_LEN];
            let at = block * BLOCK_LEN as u64;
            image.read_exact_at(&mut data, at).expect("it is read");
            let digest = Digest::of(&data);
            store
                .put(&snapshot, block, data, digest)
                .await
                .expect("it is put");
        }
        store.commit(&snapshot).await.expect("it is committed");
        snapshot
    })
}

#[test]
fn the_program_works_on_clones_and_reports() {
    needs_root_and_fuse!();
    let dir = tempfile::tempdir().expect("a folder is made");
    let work = dir.path().join("work");
    fs::create_dir(&work).expect("a folder is made");
    let store = Arc::new(LayerStore::open(dir.path().join("store")).expect("a store is made"));
    let runtime = Runtime::new().expect("it starts");
    let base = Base {
        snapshot: snapshot(&store, &runtime, dir.path()),
        disk: "sda".parse().expect("it is a name"),
        bytes: BYTES,
        digests: None,
    };
    let overlay = Overlay::over(base, store, runtime.handle().clone(), dir.path(), 1 << 20);
    let disk = DiskFile {
        device_name: "/dev/sda".to_owned(),
        is_boot: true,
        bytes: BYTES,
    };
    let overlay = Arc::new(overlay.expect("a clone is made"));
    let disks = vec![(disk, Arc::clone(&overlay))];
    let order = Order::Inspect(Inspect {
        boot_mode: None,
        hypervisor: Hypervisor::Nitro,
    });
    let mut worker = Worker::start(Path::new(RUNNER), &work, disks, &order).expect("it starts");
    let mut steps = Vec::new();
    let deadline = Instant::now() + Duration::from_mins(1);
    let report = loop {
        match worker.next(deadline).expect("it works") {
            Some(Message::Step(step)) => steps.push(step),
            Some(Message::Report(report)) => break report,
            None => panic!("nothing after {steps:?}"),
        }
    };
    worker.end().expect("it ends");
    assert!(!steps.is_empty());
    let report: Report = serde_json::from_str(&report).expect("it is a report");
    let Report::Inspected(findings) = report else {
        panic!("{report:?}");
    };
    assert!(
        findings.iter().any(|finding| finding.class == Class::Blocks),
        "{findings:?}"
    );
    // It was mounted, which writes, and all of that is here.
    assert!(overlay.cost().written > 0);
    overlay.commit(Tags::new()).expect("nothing failed");
}

#[test]
fn started_by_hand_it_says_that_it_is_for_the_runner() {
    let output = Command::new(RUNNER)
        .arg("in-conversion")
        .stdin(Stdio::null())
        .output()
        .expect("it starts");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.starts_with("this command is for the runner itself"),
        "{said}"
    );
}
