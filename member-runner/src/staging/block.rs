//! The work on one block: verify what came, put it together, write it.

use std::{ops::Range, sync::Arc};

use cloud::snapshots::{SnapshotId, SnapshotStore};
use domain::{digest::Digest, disk::BLOCK_LEN};
use protocol::{extent::Extent, frame::Frame, session::Fault};
use tokio::{sync::OwnedSemaphorePermit, task::JoinError};

use super::{Key, store_fault};
use crate::{
    digests::{digest, zeros},
    server::blocking,
};

/// Something to be written into a block.
#[derive(Debug)]
pub(crate) enum Piece {
    /// An extent as it came, with its share of the bytes that may be in flight.
    Extent(Frame, OwnedSemaphorePermit),
    Zeros(Range<usize>),
}

#[derive(Debug)]
pub(crate) struct Job {
    pub store: Arc<dyn SnapshotStore>,
    pub key: Key,
    pub open: SnapshotId,
    pub block: u64,
    pub len: usize,
    /// The digest of what the block shows before.
    pub shown: Option<Digest>,
    pub pieces: Vec<Piece>,
}

#[derive(Debug)]
pub(crate) struct Written {
    pub key: Key,
    /// `None`: the block already showed the same.
    pub digest: Option<Digest>,
}

/// The end of the work on one block.
#[derive(Debug)]
pub(crate) struct Finished(pub(super) Result<Result<Written, Fault>, JoinError>);

/// A verified piece.
enum Patch {
    Data(usize, Vec<u8>, Digest),
    Zeros(Range<usize>),
}

impl Patch {
    fn covers(&self, len: usize) -> bool {
        match self {
            Self::Data(at, data, _) => *at == 0 && data.len() == len,
            Self::Zeros(range) => *range == (0..len),
        }
    }
}

impl Job {
    pub async fn run(self) -> Result<Written, Fault> {
        let Self {
            store,
            key,
            open,
            block,
            len,
            shown,
            pieces,
        } = self;
        let (patches, _in_flight) = blocking(move || verify(pieces, block, len)).await?;
        let whole = patches.iter().rposition(|patch| patch.covers(len));
        let base = if whole.is_some() {
            Vec::new()
        } else {
            let read = store.read(&open, block).await;
            read.map_err(|error| store_fault(&error))?
        };
        let (data, digest) = blocking(move || assemble(base, patches, whole, len)).await;
        if shown == Some(digest) {
            return Ok(Written { key, digest: None });
        }
        let put = store.put(&open, block, data).await;
        put.map_err(|error| store_fault(&error))?;
        Ok(Written {
            key,
            digest: Some(digest),
        })
    }
}

type InFlight = Vec<OwnedSemaphorePermit>;

fn verify(pieces: Vec<Piece>, block: u64, len: usize) -> Result<(Vec<Patch>, InFlight), Fault> {
    let mut patches = Vec::with_capacity(pieces.len());
    let mut in_flight = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match piece {
            Piece::Zeros(range) => patches.push(Patch::Zeros(range)),
            Piece::Extent(frame, permit) => {
                in_flight.push(permit);
                let extent = Extent::from_frame(frame).map_err(|error| Fault::Protocol {
                    detail: error.to_string(),
                })?;
                let at = usize::try_from(extent.at - block * BLOCK_LEN as u64).unwrap_or(usize::MAX);
                if at.saturating_add(extent.data.len()) > len {
                    return Err(Fault::Protocol {
                        detail: format!("the extent at {} ends beyond the disk", extent.at),
                    });
                }
                patches.push(Patch::Data(at, extent.data, extent.digest));
            }
        }
    }
    Ok((patches, in_flight))
}

/// The block with all patches applied, from the last one that covers it whole.
fn assemble(base: Vec<u8>, patches: Vec<Patch>, whole: Option<usize>, len: usize) -> (Vec<u8>, Digest) {
    let mut data = base;
    let mut known = None;
    for patch in patches.into_iter().skip(whole.unwrap_or(0)) {
        if patch.covers(len) {
            (data, known) = match patch {
                Patch::Data(_, whole, digest) => (whole, Some(digest)),
                Patch::Zeros(_) => (vec![0; len], Some(zeros(len))),
            };
            continue;
        }
        known = None;
        match patch {
            Patch::Data(at, piece, _) => data[at..at + piece.len()].copy_from_slice(&piece),
            Patch::Zeros(range) => data[range].fill(0),
        }
    }
    let digest = known.unwrap_or_else(|| digest(&data));
    (data, digest)
}
