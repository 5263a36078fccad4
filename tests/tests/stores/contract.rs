//! What a runner may rely on, whatever the store.

use cloud::snapshots::{SnapshotId, SnapshotSpec, SnapshotStore, StoreError};
use domain::{
    digest::Digest,
    disk::{BLOCK_LEN, block_len},
};

/// Four blocks, of which the last is short.
pub const BYTES: u64 = 3 * BLOCK_LEN as u64 + 4096;

pub fn spec(parent: Option<&SnapshotId>, bytes: u64) -> SnapshotSpec {
    SnapshotSpec {
        parent: parent.cloned(),
        bytes,
        disk: "disk-1".parse().unwrap(),
        tags: [("orglift:source-server".to_owned(), "s-1".to_owned())].into(),
    }
}

pub fn filled(byte: u8, block: u64, bytes: u64) -> Vec<u8> {
    vec![byte; block_len(block, bytes)]
}

pub async fn put(
    store: &dyn SnapshotStore,
    id: &SnapshotId,
    block: u64,
    data: Vec<u8>,
) -> Result<(), StoreError> {
    let digest = Digest::of(&data);
    store.put(id, block, data, digest).await
}

/// A committed snapshot with blocks that are full of these bytes.
pub async fn committed(
    store: &dyn SnapshotStore,
    parent: Option<&SnapshotId>,
    bytes: u64,
    blocks: &[(u64, u8)],
) -> SnapshotId {
    let id = store.start(&spec(parent, bytes)).await.unwrap();
    for (block, byte) in blocks {
        put(store, &id, *block, filled(*byte, *block, bytes))
            .await
            .unwrap();
    }
    store.commit(&id).await.unwrap();
    id
}

/// The byte that each block is full of.
pub async fn shown(store: &dyn SnapshotStore, id: &SnapshotId, bytes: u64) -> Vec<u8> {
    let mut shown = Vec::new();
    for block in 0..bytes.div_ceil(BLOCK_LEN as u64) {
        let data = store.read(id, block).await.unwrap();
        assert_eq!(data, filled(data[0], block, bytes), "block {block} of {id}");
        shown.push(data[0]);
    }
    shown
}

pub async fn holds(store: &dyn SnapshotStore) {
    a_child_shows_what_it_was_given_and_its_parent_behind_it(store).await;
    what_is_put_can_be_read_at_once(store).await;
    a_committed_snapshot_stays_as_it_is(store).await;
    a_longer_child_has_zeros_at_its_end(store).await;
    a_merge_changes_nothing_that_is_shown(store).await;
    what_was_deleted_is_gone(store).await;
    all_that_there_is_is_listed(store).await;
}

async fn a_child_shows_what_it_was_given_and_its_parent_behind_it(store: &dyn SnapshotStore) {
    let parent = committed(store, None, BYTES, &[(0, 1), (1, 2), (3, 3)]).await;
    assert_eq!(shown(store, &parent, BYTES).await, [1, 2, 0, 3]);
    // Zeros hide the parent's block like anything else.
    let child = committed(store, Some(&parent), BYTES, &[(1, 0), (2, 4)]).await;
    let grandchild = committed(store, Some(&child), BYTES, &[]).await;
    assert_eq!(shown(store, &child, BYTES).await, [1, 0, 4, 3]);
    assert_eq!(shown(store, &grandchild, BYTES).await, [1, 0, 4, 3]);
    assert_eq!(shown(store, &parent, BYTES).await, [1, 2, 0, 3]);
}

async fn what_is_put_can_be_read_at_once(store: &dyn SnapshotStore) {
    let parent = committed(store, None, BYTES, &[(0, 1), (1, 2)]).await;
    let open = store.start(&spec(Some(&parent), BYTES)).await.unwrap();
    for byte in 5..9 {
        put(store, &open, 1, filled(byte, 1, BYTES)).await.unwrap();
        assert_eq!(shown(store, &open, BYTES).await, [1, byte, 0, 0]);
    }
    store.commit(&open).await.unwrap();
    assert_eq!(shown(store, &open, BYTES).await, [1, 8, 0, 0]);
}

async fn a_committed_snapshot_stays_as_it_is(store: &dyn SnapshotStore) {
    let id = committed(store, None, BYTES, &[(0, 1)]).await;
    store.commit(&id).await.unwrap();
    let refused = put(store, &id, 0, filled(2, 0, BYTES)).await.unwrap_err();
    assert!(matches!(refused, StoreError::State { .. }), "{refused}");
    let open = store.start(&spec(None, BYTES)).await.unwrap();
    for (block, len) in [(4, BLOCK_LEN), (3, BLOCK_LEN), (0, 4096)] {
        let refused = put(store, &open, block, vec![1; len]).await.unwrap_err();
        assert!(matches!(refused, StoreError::OutOfRange { .. }), "{refused}");
    }
    let refused = store.read(&id, 4).await.unwrap_err();
    assert!(matches!(refused, StoreError::OutOfRange { .. }), "{refused}");
    let refused = store.start(&spec(Some(&open), BYTES)).await.unwrap_err();
    assert!(matches!(refused, StoreError::State { .. }), "{refused}");
    assert_eq!(shown(store, &id, BYTES).await, [1, 0, 0, 0]);
}

async fn a_longer_child_has_zeros_at_its_end(store: &dyn SnapshotStore) {
    let parent = committed(store, None, BYTES, &[(2, 1)]).await;
    let longer = 6 * BLOCK_LEN as u64;
    let child = committed(store, Some(&parent), longer, &[(5, 2)]).await;
    assert_eq!(shown(store, &child, longer).await, [0, 0, 1, 0, 0, 2]);
    let shorter = 3 * BLOCK_LEN as u64;
    let child = committed(store, Some(&child), shorter, &[]).await;
    assert_eq!(shown(store, &child, shorter).await, [0, 0, 1]);
}

async fn a_merge_changes_nothing_that_is_shown(store: &dyn SnapshotStore) {
    let first = committed(store, None, BYTES, &[(0, 1), (1, 1)]).await;
    let second = committed(store, Some(&first), BYTES, &[(1, 2), (2, 2)]).await;
    let third = committed(store, Some(&second), BYTES, &[(2, 3)]).await;
    store.merge_into_child(&second, &third).await.unwrap();
    store.merge_into_child(&second, &third).await.unwrap();
    assert_eq!(shown(store, &third, BYTES).await, [1, 2, 3, 0]);
    store.merge_into_child(&first, &third).await.unwrap();
    assert_eq!(shown(store, &third, BYTES).await, [1, 2, 3, 0]);
    for gone in [&first, &second] {
        let refused = store.read(gone, 0).await.unwrap_err();
        assert!(matches!(refused, StoreError::NotFound(_)), "{refused}");
    }
    let listed = store.list().await.unwrap();
    let third = listed.iter().find(|info| info.id == third).unwrap();
    assert_eq!(third.parent, None);
}

async fn what_was_deleted_is_gone(store: &dyn SnapshotStore) {
    let parent = committed(store, None, BYTES, &[(0, 1)]).await;
    let open = store.start(&spec(Some(&parent), BYTES)).await.unwrap();
    put(store, &open, 1, filled(2, 1, BYTES)).await.unwrap();
    for id in [&open, &parent] {
        store.delete(id).await.unwrap();
        store.delete(id).await.unwrap();
        let refused = store.read(id, 0).await.unwrap_err();
        assert!(matches!(refused, StoreError::NotFound(_)), "{refused}");
        let refused = put(store, id, 0, filled(1, 0, BYTES)).await.unwrap_err();
        assert!(matches!(refused, StoreError::NotFound(_)), "{refused}");
    }
    let unknown = SnapshotId("snap-00000000000000000".into());
    store.delete(&unknown).await.unwrap();
}

async fn all_that_there_is_is_listed(store: &dyn SnapshotStore) {
    let parent = committed(store, None, BYTES, &[]).await;
    let open = store.start(&spec(Some(&parent), BYTES)).await.unwrap();
    let listed = store.list().await.unwrap();
    let find = |id| listed.iter().find(|info| info.id == id).unwrap();
    let (committed, open) = (find(parent.clone()), find(open));
    assert!(committed.committed && !open.committed);
    assert_eq!(open.parent, Some(parent));
    assert_eq!((open.bytes, committed.bytes), (BYTES, BYTES));
    assert_eq!(open.tags, spec(None, BYTES).tags);
}
