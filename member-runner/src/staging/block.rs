//! The work on one block: put together what it is to show, and write it if it shows something else.

use std::sync::Arc;

use cloud::snapshots::{SnapshotId, SnapshotStore, StoreError};
use domain::digest::Digest;
use protocol::{frame::Frame, session::Fault};
use tokio::sync::OwnedSemaphorePermit;

use super::store_fault;
use crate::{
    journal::{Key, Pieces, Span, verified},
    server::blocking,
};

/// A whole block as it came.
#[derive(Debug)]
pub(super) enum Whole {
    /// With its share of the bytes that may be in flight.
    Extent(Frame, OwnedSemaphorePermit),
    Zeros,
}

/// Writes a block that came whole.
#[derive(Debug)]
pub(super) struct Put {
    pub store: Arc<dyn SnapshotStore>,
    pub key: Key,
    pub open: SnapshotId,
    pub len: usize,
    /// The digest of what the block shows before.
    pub shown: Option<Digest>,
    pub whole: Whole,
}

/// Writes a block with pieces of a journal in it.
#[derive(Debug)]
pub(super) struct Merge {
    pub store: Arc<dyn SnapshotStore>,
    pub key: Key,
    pub open: SnapshotId,
    pub len: usize,
    pub shown: Option<Digest>,
    pub pieces: Pieces,
    /// Oldest first.
    pub spans: Vec<Span>,
}

#[derive(Debug)]
pub(super) struct Written {
    pub key: Key,
    /// `None`: the block already showed the same.
    pub digest: Option<Digest>,
}

/// What became of a block that pieces belong into.
#[derive(Debug)]
pub(super) enum Merged {
    Written(Written),
    /// What they belong into is damaged, and so they are of no use: the agent has to send the whole block.
    Damaged(Key),
}

impl Put {
    pub async fn run(self) -> Result<Written, Fault> {
        let Self {
            store,
            key,
            open,
            len,
            shown,
            whole,
        } = self;
        let (data, digest, _in_flight) = match whole {
            Whole::Zeros => (vec![0; len], Digest::of_zeros(len), None),
            Whole::Extent(frame, permit) => {
                let extent = blocking(move || verified(frame)).await?;
                (extent.data, extent.digest, Some(permit))
            }
        };
        write(&*store, key, &open, shown, (data, digest)).await
    }
}

impl Merge {
    pub async fn run(self) -> Result<Merged, Fault> {
        let Self {
            store,
            key,
            open,
            len,
            shown,
            pieces,
            spans,
        } = self;
        let base = if spans.first().is_some_and(|span| span.range() == (0..len)) {
            vec![0; len]
        } else {
            match store.read(&open, key.block).await {
                Ok(data) => data,
                Err(StoreError::Damaged { .. } | StoreError::DamagedIndex { .. }) => {
                    return Ok(Merged::Damaged(key));
                }
                Err(error) => return Err(store_fault(&error)),
            }
        };
        let merged = blocking(move || {
            let mut data = base;
            for span in spans {
                pieces.apply(span, &mut data)?;
            }
            let digest = Digest::of(&data);
            Ok::<_, std::io::Error>((data, digest))
        });
        let merged = merged.await.map_err(|error| Fault::Store {
            detail: format!("the journal cannot be read: {error}"),
        })?;
        let written = write(&*store, key, &open, shown, merged).await;
        written.map(Merged::Written)
    }
}

async fn write(
    store: &dyn SnapshotStore,
    key: Key,
    open: &SnapshotId,
    shown: Option<Digest>,
    (data, digest): (Vec<u8>, Digest),
) -> Result<Written, Fault> {
    if shown == Some(digest) {
        return Ok(Written { key, digest: None });
    }
    let put = store.put(open, key.block, data, digest).await;
    put.map_err(|error| store_fault(&error))?;
    Ok(Written {
        key,
        digest: Some(digest),
    })
}
