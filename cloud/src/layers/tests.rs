//! The store against a model in memory, through every order of operations, restarts and crashes.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileExt, MetadataExt},
};

use domain::{
    digest::Digest,
    disk::{BLOCK_LEN, block_count, block_len},
};
use proptest::prelude::*;

use super::{LIMIT_FILE, LayerStore, merge, view::View};
use crate::snapshots::{SnapshotId, SnapshotSpec, SnapshotStore, StoreError};

mod damage;

const BLOCK: u64 = BLOCK_LEN as u64;

fn spec(parent: Option<&SnapshotId>, bytes: u64) -> SnapshotSpec {
    SnapshotSpec {
        parent: parent.cloned(),
        bytes,
        disk: "serial-1".parse().unwrap(),
        tags: crate::control::Tags::new(),
    }
}

async fn put(store: &LayerStore, id: &SnapshotId, block: u64, data: Vec<u8>) -> Result<(), StoreError> {
    let digest = Digest::of(&data);
    store.put(id, block, data, digest).await
}

async fn filled(
    store: &LayerStore,
    parent: Option<&SnapshotId>,
    bytes: u64,
    puts: &[(u64, u8)],
) -> SnapshotId {
    let id = store.start(&spec(parent, bytes)).await.unwrap();
    for (block, fill) in puts {
        let data = vec![*fill; block_len(*block, bytes)];
        put(store, &id, *block, data).await.unwrap();
    }
    store.commit(&id).await.unwrap();
    id
}

async fn contents(store: &LayerStore, id: &SnapshotId) -> Vec<u8> {
    let bytes = store.info(id).unwrap().bytes;
    let mut disk = Vec::new();
    for block in 0..block_count(bytes) {
        disk.extend(store.read(id, block).await.unwrap());
    }
    disk
}

#[derive(Debug, Clone)]
struct Model {
    parent: Option<SnapshotId>,
    committed: bool,
    disk: Vec<u8>,
}

#[derive(Debug, Clone)]
enum Step {
    /// `sizes` are in quarters of a block, so that disks end within blocks.
    Start {
        parent: Option<usize>,
        quarters: u64,
    },
    Put {
        snapshot: usize,
        block: u64,
        fill: u8,
        /// One bit for each 64 KiB, which are zeros or filled.
        filled: u8,
    },
    Commit(usize),
    Merge(usize),
    /// A merge that is killed after the given step.
    CrashedMerge {
        snapshot: usize,
        after: u8,
    },
    Delete(usize),
    Reopen,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (prop::option::weighted(0.8, 0..8_usize), 1..20_u64)
            .prop_map(|(parent, quarters)| Step::Start { parent, quarters }),
        8 => (0..8_usize, 0..5_u64, 0..4_u8, any::<u8>()).prop_map(|(snapshot, block, fill, filled)| Step::Put {
            snapshot,
            block,
            fill,
            filled,
        }),
        3 => (0..8_usize).prop_map(Step::Commit),
        2 => (0..8_usize).prop_map(Step::Merge),
        1 => (0..8_usize, 1..4_u8).prop_map(|(snapshot, after)| Step::CrashedMerge { snapshot, after }),
        1 => (0..8_usize).prop_map(Step::Delete),
        1 => Just(Step::Reopen),
    ]
}

struct World {
    dir: tempfile::TempDir,
    store: LayerStore,
    model: BTreeMap<String, Model>,
}

impl World {
    fn nth(&self, n: usize, wanted: impl Fn(&Model) -> bool) -> Option<SnapshotId> {
        let ids: Vec<_> = self
            .model
            .iter()
            .filter(|(_, snapshot)| wanted(snapshot))
            .collect();
        (!ids.is_empty()).then(|| SnapshotId(ids[n % ids.len()].0.clone()))
    }

    fn children(&self, id: &SnapshotId) -> Vec<SnapshotId> {
        let children = self
            .model
            .iter()
            .filter(|(_, child)| child.parent.as_ref() == Some(id));
        children.map(|(child, _)| SnapshotId(child.clone())).collect()
    }

    fn reopen(&mut self) {
        let fresh = LayerStore::open(self.dir.path()).unwrap();
        drop(std::mem::replace(&mut self.store, fresh));
    }

    async fn run(&mut self, step: Step) {
        match step {
            Step::Start { parent, quarters } => {
                let parent = parent.and_then(|n| self.nth(n, |snapshot| snapshot.committed));
                let bytes = quarters * BLOCK / 4;
                let id = self.store.start(&spec(parent.as_ref(), bytes)).await.unwrap();
                let mut disk = parent
                    .as_ref()
                    .map_or(Vec::new(), |id| self.model[&id.0].disk.clone());
                disk.resize(usize::try_from(bytes).unwrap(), 0);
                self.model.insert(
                    id.0,
                    Model {
                        parent,
                        committed: false,
                        disk,
                    },
                );
            }
            Step::Put {
                snapshot,
                block,
                fill,
                filled,
            } => {
                let Some(id) = self.nth(snapshot, |snapshot| !snapshot.committed) else {
                    return;
                };
                let disk = &mut self.model.get_mut(&id.0).unwrap().disk;
                let len = block_len(block, disk.len() as u64);
                let mut data = vec![0; len];
                for (index, piece) in data.chunks_mut(64 << 10).enumerate() {
                    piece.fill(if filled >> index & 1 == 1 { fill } else { 0 });
                }
                let outcome = put(&self.store, &id, block, data.clone()).await;
                if len == 0 {
                    assert!(matches!(outcome, Err(StoreError::OutOfRange { .. })));
                    return;
                }
                outcome.unwrap();
                let at = usize::try_from(block * BLOCK).unwrap();
                disk[at..at + len].copy_from_slice(&data);
            }
            Step::Commit(n) => {
                let Some(id) = self.nth(n, |_| true) else { return };
                self.store.commit(&id).await.unwrap();
                self.model.get_mut(&id.0).unwrap().committed = true;
            }
            Step::Merge(n) | Step::CrashedMerge { snapshot: n, .. } => {
                let Some(id) = self.nth(n, |_| true) else { return };
                let children = self.children(&id);
                let Some(child) = children.first() else { return };
                let may =
                    self.model[&id.0].committed && self.model[&child.0].committed && children.len() == 1;
                match step {
                    Step::CrashedMerge { after, .. } if may => {
                        self.crash_while_merging(&id, child, after).await;
                    }
                    _ => {
                        let outcome = self.store.merge_into_child(&id, child).await;
                        assert_eq!(outcome.is_ok(), may, "{outcome:?}");
                    }
                }
                if may {
                    let merged = self.model.remove(&id.0).unwrap();
                    self.model.get_mut(&child.0).unwrap().parent = merged.parent;
                    // Repeating it is no error.
                    self.store.merge_into_child(&id, child).await.unwrap();
                }
            }
            Step::Delete(n) => {
                let Some(id) = self.nth(n, |_| true) else { return };
                let may = self.children(&id).is_empty();
                assert_eq!(self.store.delete(&id).await.is_ok(), may);
                if may {
                    self.model.remove(&id.0);
                }
            }
            Step::Reopen => {
                self.reopen();
                let open: Vec<_> = self
                    .model
                    .iter()
                    .filter(|(_, snapshot)| !snapshot.committed)
                    .collect();
                for id in open.iter().map(|(id, _)| SnapshotId((*id).clone())) {
                    assert!(matches!(
                        self.store.commit(&id).await,
                        Err(StoreError::State { .. })
                    ));
                    assert!(matches!(
                        put(&self.store, &id, 0, vec![1]).await,
                        Err(StoreError::State { .. })
                    ));
                    self.store.delete(&id).await.unwrap();
                }
                self.model.retain(|_, snapshot| snapshot.committed);
            }
        }
    }

    async fn crash_while_merging(&mut self, id: &SnapshotId, child: &SnapshotId, after: u8) {
        self.model.retain(|_, snapshot| snapshot.committed);
        let (dir, shared) = (self.dir.path(), &self.store.shared);
        assert!(shared.try_claim().unwrap());
        let begun = shared
            .with_writer(|writer| merge::begin(writer, dir, id, child))
            .unwrap()
            .unwrap();
        if after > 1 {
            let held = begun.copy(dir).unwrap();
            if after > 2 {
                shared
                    .with_writer(|writer| begun.switch(writer, dir, held))
                    .unwrap();
            }
        }
        // A reader of another process sees all that was committed, the parent excepted.
        let reader = LayerStore::open(dir).unwrap();
        for (other, snapshot) in self.model.iter().filter(|(other, _)| **other != id.0) {
            assert!(contents(&reader, &SnapshotId(other.clone())).await == snapshot.disk);
        }
        assert!(matches!(reader.read(id, 0).await, Err(StoreError::NotFound(_))));
        self.reopen();
        for leftover in self
            .store
            .list_now()
            .unwrap()
            .iter()
            .filter(|info| !info.committed)
        {
            self.store.delete(&leftover.id).await.unwrap();
        }
    }

    async fn check(&self) {
        let listed = self.store.list().await.unwrap();
        let seen: Vec<_> = listed
            .iter()
            .map(|info| (&info.id.0, &info.parent, info.committed))
            .collect();
        let wanted: Vec<_> = self
            .model
            .iter()
            .map(|(id, m)| (id, &m.parent, m.committed))
            .collect();
        assert_eq!(seen, wanted);
        for (id, snapshot) in &self.model {
            let id = SnapshotId(id.clone());
            assert!(contents(&self.store, &id).await == snapshot.disk, "{id}");
            if snapshot.committed {
                let mut copy = tempfile::tempfile().unwrap();
                copy.write_all_at(&[9; 100], 50).unwrap();
                self.store.copy_to(&id, &mut copy).unwrap();
                let mut read = vec![0; snapshot.disk.len()];
                copy.read_exact_at(&mut read, 0).unwrap();
                assert!(copy.metadata().unwrap().len() == read.len() as u64 && read == snapshot.disk);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn it_shows_what_a_model_shows(steps in prop::collection::vec(any_step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let store = LayerStore::open(dir.path()).unwrap();
            let mut world = World { dir, store, model: BTreeMap::new() };
            for step in steps {
                world.run(step).await;
            }
            world.check().await;
            world.run(Step::Reopen).await;
            world.check().await;
            // Whatever happened, no file is left that belongs to nothing.
            let files = fs::read_dir(world.dir.path()).unwrap().count();
            assert_eq!(files, 2 * world.model.len() + usize::from(files % 2 == 1));
        });
    }
}

#[tokio::test]
async fn readers_are_right_while_layers_are_merged_below_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = LayerStore::open(dir.path()).unwrap();
    let bytes = 6 * BLOCK;
    let mut ids = vec![filled(&store, None, bytes, &[(0, 1), (1, 1), (2, 1), (3, 1)]).await];
    for n in 2..40_u8 {
        let id = filled(
            &store,
            ids.last(),
            bytes,
            &[(u64::from(n % 6), n), (u64::from(n / 2 % 6), n)],
        )
        .await;
        ids.push(id);
    }
    let last = ids.last().unwrap().clone();
    let wanted = contents(&store, &last).await;
    let early = View::load(dir.path(), &last).unwrap();
    let reading = {
        let (dir, last, wanted) = (dir.path().to_owned(), last.clone(), wanted.clone());
        tokio::task::spawn_blocking(move || {
            for _ in 0..60 {
                let mut copy = tempfile::tempfile().unwrap();
                LayerStore::open(&dir).unwrap().copy_to(&last, &mut copy).unwrap();
                let mut read = vec![0; wanted.len()];
                copy.read_exact_at(&mut read, 0).unwrap();
                assert!(read == wanted);
            }
        })
    };
    for pair in ids.windows(2) {
        store.merge_into_child(&pair[0], &pair[1]).await.unwrap();
        assert!(contents(&store, &last).await == wanted);
    }
    reading.await.unwrap();
    // One that was opened before the first merge shows the same still.
    let seen: Vec<u8> = (0..6).flat_map(|block| early.read(block).unwrap()).collect();
    assert!(seen == wanted);
    assert_eq!(store.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_full_store_refuses_and_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = LayerStore::open(dir.path()).unwrap();
    let base = filled(&store, None, 8 * BLOCK, &[(0, 1), (1, 2)]).await;
    fs::write(dir.path().join(LIMIT_FILE), (3 * BLOCK + BLOCK / 2).to_string()).unwrap();
    let next = store.start(&spec(Some(&base), 8 * BLOCK)).await.unwrap();
    put(&store, &next, 1, vec![3; BLOCK_LEN]).await.unwrap();
    let full = put(&store, &next, 2, vec![3; BLOCK_LEN]).await;
    assert!(matches!(full, Err(StoreError::Full)), "{full:?}");
    assert!(store.free_bytes().await.unwrap().unwrap() < BLOCK);
    store.delete(&next).await.unwrap();
    assert_eq!(
        contents(&store, &base).await[BLOCK_LEN..][..BLOCK_LEN],
        vec![2; BLOCK_LEN]
    );
    assert!(store.free_bytes().await.unwrap().unwrap() > BLOCK);
    fs::remove_file(dir.path().join(LIMIT_FILE)).unwrap();
    filled(&store, Some(&base), 8 * BLOCK, &[(2, 1), (3, 1), (4, 1), (5, 1)]).await;
}

#[tokio::test]
async fn zeros_of_a_new_block_take_up_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = LayerStore::open(dir.path()).unwrap();
    let id = store.start(&spec(None, BLOCK)).await.unwrap();
    let mut half = vec![7; BLOCK_LEN];
    half[..BLOCK_LEN / 2].fill(0);
    put(&store, &id, 0, half.clone()).await.unwrap();
    let path = dir.path().join(format!("{id}.data"));
    assert_eq!(fs::metadata(&path).unwrap().blocks() * 512, BLOCK / 2);
    // Over something, zeros have to be written.
    half.reverse();
    put(&store, &id, 0, half.clone()).await.unwrap();
    assert!(store.read(&id, 0).await.unwrap() == half);
}

#[tokio::test]
async fn one_process_writes_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let first = LayerStore::open(dir.path()).unwrap();
    let id = filled(&first, None, BLOCK, &[(0, 1)]).await;
    let second = LayerStore::open(dir.path()).unwrap();
    assert!(!second.blocking(super::Shared::try_claim).await.unwrap());
    assert_eq!(second.read(&id, 0).await.unwrap(), vec![1; BLOCK_LEN]);
    drop(first);
    second.delete(&id).await.unwrap();
}

#[test]
fn a_store_is_named_by_its_path_and_limit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display();
    assert!(
        LayerStore::open_named(&format!("layers:{path}?limit=1048576"))
            .unwrap()
            .is_ok()
    );
    for wrong in ["layers:", "ebs:x", "layers:/x?limit=many"] {
        assert!(LayerStore::open_named(wrong).is_err(), "{wrong}");
    }
}
