use std::path::PathBuf;

use cloud::layers::LayerStore;
use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::*;

/// Three whole blocks and a part of one, which ends within a sector.
const BYTES: u64 = 3 * BLOCK_LEN as u64 + 5000;
const KEEP: usize = 2 * BLOCK_LEN;

/// A store with one snapshot in it: a block of data, one of zeros, two more of data.
struct Scene {
    dir: tempfile::TempDir,
    runtime: Runtime,
    store: Arc<LayerStore>,
    base: Base,
    disk: Vec<u8>,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = Runtime::new().unwrap();
        let store = Arc::new(LayerStore::open(dir.path().join("store")).unwrap());
        let mut disk: Vec<u8> = (0..BYTES).map(|at| (at / 512 % 251) as u8 + 1).collect();
        disk[BLOCK_LEN..2 * BLOCK_LEN].fill(0);
        let spec = SnapshotSpec {
            parent: None,
            bytes: BYTES,
            disk: "serial-1".parse().unwrap(),
            tags: Tags::new(),
        };
        let snapshot = runtime.block_on(store.start(&spec)).unwrap();
        let mut digests = DiskDigests::of_zeros(BYTES);
        for (block, data) in disk.chunks(BLOCK_LEN).enumerate() {
            let digest = Digest::of(data);
            digests.set(block as u64, digest);
            runtime
                .block_on(store.put(&snapshot, block as u64, data.to_vec(), digest))
                .unwrap();
        }
        runtime.block_on(store.commit(&snapshot)).unwrap();
        let base = Base {
            snapshot,
            disk: spec.disk,
            bytes: BYTES,
            digests: Some(Arc::new(digests)),
        };
        Self {
            dir,
            runtime,
            store,
            base,
            disk,
        }
    }

    fn overlay(&self, base: Base) -> Overlay {
        let store = Arc::clone(&self.store);
        let runtime = self.runtime.handle().clone();
        Overlay::over(base, store, runtime, self.dir.path(), KEEP).unwrap()
    }

    fn snapshot(&self, id: &SnapshotId) -> Vec<u8> {
        (0..block_count(BYTES))
            .flat_map(|block| self.runtime.block_on(self.store.read(id, block)).unwrap())
            .collect()
    }

    fn snapshots(&self) -> usize {
        self.store.list_now().unwrap().len()
    }

    /// Changes a byte of a block in the file that holds it.
    fn damage(&self, block: u64) -> PathBuf {
        let mut files = fs::read_dir(self.store.path()).unwrap();
        let data = files.find_map(|entry| {
            let path = entry.unwrap().path();
            (fs::metadata(&path).unwrap().len() >= BYTES).then_some(path)
        });
        let path = data.expect("the store keeps blocks at their natural offset");
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[0], block * BLOCK_LEN as u64 + 7).unwrap();
        path
    }
}

fn whole(overlay: &Overlay) -> Vec<u8> {
    let mut disk = vec![0; usize::try_from(BYTES).unwrap()];
    overlay.read(0, &mut disk).unwrap();
    disk
}

#[derive(Debug, Clone)]
enum Action {
    Read(u64, u64),
    Write(u64, u64, u8),
    Discard(u64, u64),
    /// Commits, and clones the child.
    Reopen {
        with_digests: bool,
    },
}

fn action() -> impl Strategy<Value = Action> {
    // Ends of blocks and sectors are where mistakes are made.
    let edge = prop_oneof![
        Just(0),
        Just(512),
        Just(BLOCK_LEN as u64),
        Just(2 * BLOCK_LEN as u64),
        Just(3 * BLOCK_LEN as u64),
        Just(BYTES),
    ];
    let at = prop_oneof![
        0..=BYTES,
        (0..=BYTES / 512).prop_map(|sector| sector * 512),
        (edge, -3..3_i64).prop_map(|(edge, beside)| edge.saturating_add_signed(beside).min(BYTES)),
    ];
    let range = (at.clone(), at).prop_map(|(a, b)| (a.min(b), a.max(b) - a.min(b)));
    prop_oneof![
        3 => range.clone().prop_map(|(at, len)| Action::Read(at, len)),
        4 => (range.clone(), any::<u8>()).prop_map(|((at, len), byte)| Action::Write(at, len, byte)),
        2 => range.prop_map(|(at, len)| Action::Discard(at, len)),
        1 => any::<bool>().prop_map(|with_digests| Action::Reopen { with_digests }),
    ]
}

fn range(at: u64, len: u64) -> Range<usize> {
    usize::try_from(at).unwrap()..usize::try_from(at + len).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_clone_behaves_like_a_disk_and_its_snapshot_stays(actions in prop::collection::vec(action(), 1..24)) {
        let scene = Scene::new();
        let mut model = scene.disk.clone();
        let mut overlay = scene.overlay(scene.base.clone());
        for action in actions {
            match action {
                Action::Read(at, len) => {
                    let mut data = vec![0xee; range(0, len).len()];
                    overlay.read(at, &mut data).unwrap();
                    prop_assert!(data == model[range(at, len)]);
                }
                Action::Write(at, len, byte) => {
                    let data = vec![byte; range(at, len).len()];
                    overlay.write(at, &data).unwrap();
                    model[range(at, len)].copy_from_slice(&data);
                }
                Action::Discard(at, len) => {
                    overlay.discard(at, len).unwrap();
                    model[range(at, len)].fill(0);
                }
                Action::Reopen { with_digests } => {
                    let committed = overlay.commit(Tags::new()).unwrap();
                    prop_assert!(scene.snapshot(&committed.snapshot) == model);
                    let mut digests = DiskDigests::of_zeros(BYTES);
                    for (block, data) in model.chunks(BLOCK_LEN).enumerate() {
                        digests.set(block as u64, Digest::of(data));
                    }
                    overlay = scene.overlay(Base {
                        snapshot: committed.snapshot,
                        digests: with_digests.then(|| Arc::new(digests)),
                        ..scene.base.clone()
                    });
                }
            }
        }
        prop_assert!(whole(&overlay) == model);
        prop_assert!(scene.snapshot(&scene.base.snapshot) == scene.disk);
    }
}

#[test]
fn only_blocks_that_differ_are_in_the_child() {
    let scene = Scene::new();
    let overlay = scene.overlay(scene.base.clone());
    // The same again, zeros over zeros, and one change.
    overlay.write(0, &scene.disk[..4096]).unwrap();
    overlay.discard(BLOCK_LEN as u64, BLOCK_LEN as u64).unwrap();
    overlay.write(2 * BLOCK_LEN as u64, b"changed").unwrap();
    let committed = overlay.commit(Tags::new()).unwrap();
    assert_eq!(committed.blocks, 1);
    let info = scene.store.info(&committed.snapshot).unwrap();
    assert_eq!(info.parent, Some(scene.base.snapshot.clone()));
    assert!(info.committed);
}

#[test]
fn whole_sectors_are_written_and_zeros_are_read_without_the_store() {
    let scene = Scene::new();
    let overlay = scene.overlay(scene.base.clone());
    overlay.write(512, &[1; 1024]).unwrap();
    overlay.write(BLOCK_LEN as u64 + 3, &[2; 10]).unwrap();
    overlay.read(512, &mut [0; 1024]).unwrap();
    overlay.read(BLOCK_LEN as u64, &mut vec![0; BLOCK_LEN]).unwrap();
    let written = 1034;
    assert_eq!(overlay.cost(), Cost { fetched: 0, written });
    // One byte, and its neighbour, which is in memory then.
    overlay.read(0, &mut [0]).unwrap();
    overlay.read(1, &mut [0]).unwrap();
    let fetched = BLOCK_LEN as u64;
    assert_eq!(overlay.cost(), Cost { fetched, written });
}

#[test]
fn several_threads_fetch_a_block_once() {
    let scene = Scene::new();
    let overlay = scene.overlay(scene.base.clone());
    std::thread::scope(|scope| {
        for part in 0..8 {
            let overlay = &overlay;
            scope.spawn(move || overlay.read(part * 65536, &mut vec![0; 65536]).unwrap());
        }
    });
    assert_eq!(overlay.cost().fetched, BLOCK_LEN as u64);
}

#[test]
fn a_damaged_block_is_an_error_that_the_commit_repeats() {
    let scene = Scene::new();
    let file = scene.damage(2);
    let overlay = scene.overlay(scene.base.clone());
    overlay.write(0, &[1; 512]).unwrap();
    overlay.read(0, &mut [0; 512]).unwrap();
    assert!(overlay.failure().is_none());
    // Beside it, it can be written; what is read of it fails.
    overlay.write(2 * BLOCK_LEN as u64, &[2; 512]).unwrap();
    overlay.read(2 * BLOCK_LEN as u64, &mut [0; 512]).unwrap();
    overlay
        .read(2 * BLOCK_LEN as u64 + 512, &mut [0; 512])
        .unwrap_err();
    let before = scene.snapshots();
    let refused = overlay.commit(Tags::new()).unwrap_err().to_string();
    let wanted = format!(
        "block 2 of snapshot {} is damaged in {}",
        scene.base.snapshot,
        file.display()
    );
    assert!(refused.contains(&wanted), "{refused}");
    assert_eq!(scene.snapshots(), before);
}

#[test]
fn a_commit_that_fails_half_way_leaves_no_snapshot() {
    let scene = Scene::new();
    scene.damage(2);
    let overlay = scene.overlay(scene.base.clone());
    overlay.write(0, &[1; 512]).unwrap();
    // The rest of the block is missed at the commit only.
    overlay.write(2 * BLOCK_LEN as u64, &[2; 512]).unwrap();
    let before = scene.snapshots();
    let refused = overlay.commit(Tags::new()).unwrap_err();
    assert!(matches!(refused, OverlayError::Base(_)), "{refused}");
    assert_eq!(scene.snapshots(), before);
}

#[test]
fn nothing_is_read_or_written_beyond_the_end() {
    let scene = Scene::new();
    let overlay = scene.overlay(scene.base.clone());
    for (at, len) in [(BYTES, 1), (BYTES - 1, 2), (u64::MAX, 1)] {
        let beyond = |error| matches!(error, OverlayError::OutOfRange { .. });
        assert!(beyond(overlay.write(at, &vec![1; len]).unwrap_err()));
        assert!(beyond(overlay.read(at, &mut vec![1; len]).unwrap_err()));
        assert!(beyond(overlay.discard(at, len as u64).unwrap_err()));
    }
    assert!(overlay.failure().is_none());
}
