//! Files that are not what was written: the damage is named, by block and file, and the rest is shown.

use std::path::{Path, PathBuf};

use super::*;
use crate::layers::index::index_path;

const BYTES: u64 = 6 * BLOCK;

/// Two snapshots: the lower holds blocks 0, 1, 2 and 4 (zeros), the upper holds 1 and 3.
struct Pair {
    dir: tempfile::TempDir,
    store: LayerStore,
    lower: SnapshotId,
    upper: SnapshotId,
}

async fn pair() -> Pair {
    let dir = tempfile::tempdir().unwrap();
    let store = LayerStore::open(dir.path()).unwrap();
    let lower = filled(&store, None, BYTES, &[(0, 1), (1, 2), (2, 3), (4, 0)]).await;
    let upper = filled(&store, Some(&lower), BYTES, &[(1, 4), (3, 5)]).await;
    Pair {
        dir,
        store,
        lower,
        upper,
    }
}

/// What the upper snapshot of a sound pair shows.
const SHOWN: [u8; 6] = [1, 4, 3, 5, 0, 0];

impl Pair {
    fn data(&self, id: &SnapshotId) -> PathBuf {
        self.dir.path().join(format!("{id}.data"))
    }

    fn index(&self, id: &SnapshotId) -> PathBuf {
        index_path(self.dir.path(), id)
    }

    /// What the upper snapshot shows: a fill per block, or the file that is named as damaged.
    async fn seen(&self) -> Vec<Result<u8, PathBuf>> {
        let mut seen = Vec::new();
        for wanted in 0..6 {
            seen.push(match self.store.read(&self.upper, wanted).await {
                Ok(data) => {
                    assert_eq!(data, vec![data[0]; BLOCK_LEN]);
                    Ok(data[0])
                }
                Err(StoreError::Damaged { id, block, file, .. }) => {
                    assert_eq!((&id, block), (&self.upper, wanted));
                    Err(file)
                }
                Err(other) => panic!("{other}"),
            });
        }
        seen
    }

    /// Expects exactly these blocks to be damaged, in `file`.
    async fn expect(&self, damaged: &[usize], file: &Path) {
        let mut wanted: Vec<_> = SHOWN.into_iter().map(Ok).collect();
        for block in damaged {
            wanted[*block] = Err(file.to_owned());
        }
        assert_eq!(self.seen().await, wanted);
        // A copy is whole, or it is none.
        let mut copy = tempfile::tempfile().unwrap();
        let copied = self.store.copy_to(&self.upper, &mut copy);
        match damaged.first() {
            None => copied.unwrap(),
            Some(first) => assert!(
                matches!(&copied, Err(StoreError::Damaged { block, .. }) if *block == *first as u64),
                "{copied:?}"
            ),
        }
    }

    /// A third snapshot, with good blocks in place of the damaged ones.
    async fn repair(&mut self, damaged: &[usize]) -> SnapshotId {
        let puts: Vec<_> = damaged
            .iter()
            .map(|block| (*block as u64, SHOWN[*block]))
            .collect();
        let repaired = filled(&self.store, Some(&self.upper), BYTES, &puts).await;
        std::mem::replace(&mut self.upper, repaired)
    }
}

/// Changes a file behind the back of the store.
fn spoil(file: &Path, at: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
}

#[tokio::test]
async fn a_byte_that_flipped_damages_its_block() {
    let pair = pair().await;
    spoil(&pair.data(&pair.lower), 2 * BLOCK + 77);
    pair.expect(&[2], &pair.data(&pair.lower)).await;
    spoil(&pair.data(&pair.upper), 4 * BLOCK - 1);
    let seen = pair.seen().await;
    assert_eq!(seen[3], Err(pair.data(&pair.upper)));
    // Zeros that are a hole are verified like any others.
    spoil(&pair.data(&pair.lower), 4 * BLOCK);
    assert_eq!(pair.seen().await[4], Err(pair.data(&pair.lower)));
}

#[tokio::test]
async fn a_block_that_is_hidden_may_be_damaged() {
    let pair = pair().await;
    spoil(&pair.data(&pair.lower), BLOCK);
    pair.expect(&[], Path::new("")).await;
    pair.store
        .merge_into_child(&pair.lower, &pair.upper)
        .await
        .unwrap();
    pair.expect(&[], Path::new("")).await;
}

#[tokio::test]
async fn a_data_file_that_ends_early_damages_what_is_cut_off() {
    let pair = pair().await;
    let file = fs::OpenOptions::new().write(true).open(pair.data(&pair.lower));
    file.unwrap().set_len(2 * BLOCK + 5).unwrap();
    pair.expect(&[2, 4], &pair.data(&pair.lower)).await;
}

#[tokio::test]
async fn a_hole_damages_what_was_there() {
    let pair = pair().await;
    let file = fs::OpenOptions::new()
        .write(true)
        .open(pair.data(&pair.lower))
        .unwrap();
    crate::layers::writer::punch(&file, 0, &vec![0; BLOCK_LEN]).unwrap();
    pair.expect(&[0], &pair.data(&pair.lower)).await;
}

#[tokio::test]
async fn a_data_file_that_is_missing_damages_what_it_held() {
    let pair = pair().await;
    fs::remove_file(pair.data(&pair.lower)).unwrap();
    pair.expect(&[0, 2, 4], &pair.data(&pair.lower)).await;
    // Also after another program opened the store.
    let reader = LayerStore::open(pair.dir.path()).unwrap();
    assert_eq!(reader.read(&pair.upper, 3).await.unwrap(), vec![5; BLOCK_LEN]);
}

#[tokio::test]
async fn a_damaged_index_hides_what_only_it_tells_of() {
    for spoiled in ["header", "digests", "end", "missing"] {
        let mut pair = pair().await;
        let index = pair.index(&pair.lower);
        let len = fs::metadata(&index).unwrap().len();
        match spoiled {
            "header" => spoil(&index, 30),
            "digests" => spoil(&index, len - 40),
            "end" => fs::write(&index, &fs::read(&index).unwrap()[..20]).unwrap(),
            _ => fs::remove_file(&index).unwrap(),
        }
        pair.expect(&[0, 2, 4, 5], &index).await;
        let lower = pair.store.read(&pair.lower, 0).await;
        match (spoiled, lower) {
            ("missing", Err(StoreError::NotFound(id))) => assert_eq!(id, pair.lower),
            (_, Err(StoreError::DamagedIndex { id, file, .. })) => {
                assert_eq!((&id, &file), (&pair.lower, &index));
                let known = pair.store.info(&id);
                let header_too = matches!(known, Err(StoreError::DamagedIndex { .. }));
                assert_eq!(header_too, spoiled != "digests", "{known:?}");
            }
            (_, other) => panic!("{other:?}"),
        }
        // The sound snapshot is still listed, and what hides the damage repairs it, for the next one, too.
        let listed = pair.store.list_now().unwrap();
        assert!(listed.iter().any(|info| info.id == pair.upper));
        pair.repair(&[0, 2, 4, 5]).await;
        pair.expect(&[], &index).await;
        let reopened = LayerStore::open(pair.dir.path()).unwrap();
        pair.store = reopened;
        pair.expect(&[], &index).await;
    }
}

#[tokio::test]
async fn the_uppermost_index_damaged_can_be_built_upon() {
    let mut pair = pair().await;
    let index = pair.index(&pair.upper);
    spoil(&index, 60);
    let read = pair.store.read(&pair.upper, 0).await;
    assert!(
        matches!(read, Err(StoreError::DamagedIndex { ref file, .. }) if *file == index),
        "{read:?}"
    );
    assert_eq!(pair.store.read(&pair.lower, 2).await.unwrap(), vec![3; BLOCK_LEN]);
    pair.repair(&[1, 3]).await;
    pair.expect(&[0, 2, 4, 5], &index).await;
    pair.repair(&[0, 2, 4, 5]).await;
    pair.expect(&[], &index).await;
}

#[tokio::test]
async fn a_merge_neither_spreads_damage_nor_covers_it_up() {
    let mut pair = pair().await;
    let file = pair.data(&pair.lower);
    spoil(&file, 0);
    spoil(&pair.data(&pair.upper), BLOCK);
    pair.store
        .merge_into_child(&pair.lower, &pair.upper)
        .await
        .unwrap();
    // Both are in the one file that is left.
    pair.expect(&[0, 1], &file).await;
    let former = pair.repair(&[0, 1]).await;
    pair.expect(&[], &file).await;
    let upper = pair.upper.clone();
    pair.store.merge_into_child(&former, &upper).await.unwrap();
    pair.expect(&[], &file).await;
}

#[tokio::test]
async fn a_merge_goes_on_without_files_that_are_missing() {
    for lower_is_missing in [true, false] {
        let mut pair = pair().await;
        let file = pair.data(&pair.lower);
        let (missing, damaged): (_, &[usize]) = if lower_is_missing {
            (file.clone(), &[0, 2])
        } else {
            (pair.data(&pair.upper), &[1, 3])
        };
        fs::remove_file(missing).unwrap();
        pair.store
            .merge_into_child(&pair.lower, &pair.upper)
            .await
            .unwrap();
        pair.expect(damaged, &file).await;
        pair.repair(damaged).await;
        pair.expect(&[], &file).await;
    }
}

#[tokio::test]
async fn a_parent_without_a_readable_index_is_merged_once_nothing_of_it_shows() {
    let mut pair = pair().await;
    let index = pair.index(&pair.lower);
    spoil(&index, fs::metadata(&index).unwrap().len() - 40);
    let refused = pair.store.merge_into_child(&pair.lower, &pair.upper).await;
    assert!(
        matches!(refused, Err(StoreError::DamagedIndex { .. })),
        "{refused:?}"
    );
    let middle = pair.repair(&[0, 1, 2, 3, 4, 5]).await;
    let upper = pair.upper.clone();
    pair.store.merge_into_child(&middle, &upper).await.unwrap();
    pair.store.merge_into_child(&pair.lower, &upper).await.unwrap();
    assert_eq!(pair.store.list_now().unwrap().len(), 1);
    pair.expect(&[], &index).await;
}

/// The last block of the smaller disk changes its length, and cannot be verified in the new one.
#[tokio::test]
async fn a_damaged_block_stays_damaged_when_its_length_changes() {
    for (before, after) in [(BLOCK + 512, 2 * BLOCK), (2 * BLOCK, BLOCK + 512)] {
        let dir = tempfile::tempdir().unwrap();
        let store = LayerStore::open(dir.path()).unwrap();
        let lower = filled(&store, None, before, &[(0, 1), (1, 2)]).await;
        let upper = filled(&store, Some(&lower), after, &[(0, 3)]).await;
        let file = dir.path().join(format!("{lower}.data"));
        spoil(&file, BLOCK + 3);
        store.merge_into_child(&lower, &upper).await.unwrap();
        assert_eq!(store.read(&upper, 0).await.unwrap(), vec![3; BLOCK_LEN]);
        let read = store.read(&upper, 1).await;
        assert!(
            matches!(&read, Err(StoreError::Damaged { file: named, .. }) if *named == file),
            "{read:?}"
        );
    }
}

#[tokio::test]
async fn what_was_not_what_its_digest_says_is_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let store = LayerStore::open(dir.path()).unwrap();
    let open = store.start(&spec(None, BYTES)).await.unwrap();
    store
        .put(&open, 0, vec![1; BLOCK_LEN], Digest::of(b"another block"))
        .await
        .unwrap();
    let read = store.read(&open, 0).await;
    assert!(matches!(read, Err(StoreError::Damaged { .. })), "{read:?}");
}
