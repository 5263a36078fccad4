//! All that is kept of one checkpoint, as one object of the index.
//!
//! ```text
//! offset  size  field
//!      0     8  "ORGINDX1"
//!      8     4  length of the head, little-endian
//!     12     h  head: JSON
//!   12+h     n  files of digests, one after the other, in the order and of the lengths that the head names
//!    end    32  BLAKE3 of everything before
//! ```
//!
//! The checksum tells of damage. It does not tell who wrote the object: whoever reads one believes of it only what the
//! hub knows as well.

use std::collections::BTreeMap;

use cloud::snapshots::SnapshotInfo;
use domain::{
    digest::{DIGEST_LEN, Digest},
    disk::DiskId,
    ids::SourceServerId,
};
use protocol::exchange::ObservedCheckpoint;
use serde::{Deserialize, Serialize};

use crate::digests::DigestChange;

const MAGIC: &[u8; 8] = b"ORGINDX1";
/// Sixty disks with the longest names there are.
const HEAD_MAX: usize = 1 << 20;
/// Digests of all blocks of 12 TiB, which is read as a whole.
pub(super) const BUNDLE_MAX: usize = 1 << 30;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bundle {
    pub server: SourceServerId,
    pub checkpoint: ObservedCheckpoint,
    /// What the snapshot store knew of the checkpoint's snapshots.
    pub snapshots: Vec<SnapshotInfo>,
    /// What it changed of each disk; nothing of a disk that is not named.
    pub changes: BTreeMap<DiskId, DigestChange>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    server: SourceServerId,
    checkpoint: ObservedCheckpoint,
    snapshots: Vec<SnapshotInfo>,
    digests: Vec<(DiskId, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Damaged(&'static str);

impl Bundle {
    /// `None` if there is more of it than would be read again.
    pub fn encode(
        server: &SourceServerId,
        checkpoint: &ObservedCheckpoint,
        snapshots: Vec<SnapshotInfo>,
        digests: &[(DiskId, Vec<u8>)],
    ) -> Option<Vec<u8>> {
        let head = Head {
            server: server.clone(),
            checkpoint: checkpoint.clone(),
            snapshots,
            digests: digests
                .iter()
                .map(|(disk, file)| (disk.clone(), file.len() as u64))
                .collect(),
        };
        let head = serde_json::to_vec(&head).expect("its keys are text");
        let files: usize = digests.iter().map(|(_, file)| file.len()).sum();
        let len = MAGIC.len() + 4 + head.len() + files + DIGEST_LEN;
        if head.len() > HEAD_MAX || len > BUNDLE_MAX {
            return None;
        }
        let mut out = Vec::with_capacity(len);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&u32::try_from(head.len()).ok()?.to_le_bytes());
        out.extend_from_slice(&head);
        for (_, file) in digests {
            out.extend_from_slice(file);
        }
        let checksum = Digest::of(&out);
        out.extend_from_slice(&checksum.0);
        Some(out)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let short = Damaged("it is too short");
        let (body, checksum) = bytes.split_last_chunk::<DIGEST_LEN>().ok_or(short)?;
        if Digest::of(body).0 != *checksum {
            return Err(Damaged("its checksum is wrong"));
        }
        let body = body
            .strip_prefix(MAGIC)
            .ok_or(Damaged("it is of an unknown kind"))?;
        let (len, body) = body.split_first_chunk().ok_or(short)?;
        let len = u32::from_le_bytes(*len) as usize;
        let (head, mut files) = body
            .split_at_checked(len)
            .filter(|_| len <= HEAD_MAX)
            .ok_or(short)?;
        let head: Head = serde_json::from_slice(head).map_err(|_| Damaged("its head cannot be read"))?;
        let mut changes = BTreeMap::new();
        for (disk, len) in head.digests {
            let len = usize::try_from(len).map_err(|_| short)?;
            let (file, rest) = files.split_at_checked(len).ok_or(short)?;
            let of = head.checkpoint.disks.iter().find(|one| one.disk == disk);
            let change = DigestChange::decode(file)
                // How much memory its digests take follows from its size.
                .filter(|change| of.is_some_and(|of| of.bytes == change.bytes))
                .ok_or(Damaged("its digests are of no disk of the checkpoint"))?;
            changes.insert(disk, change);
            files = rest;
        }
        if !files.is_empty() {
            return Err(Damaged("there is more than it names"));
        }
        Ok(Self {
            server: head.server,
            checkpoint: head.checkpoint,
            snapshots: head.snapshots,
            changes,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::index::restore::tests::{bundle, encoded};

    #[test]
    fn a_bundle_reads_back() {
        let bundle = bundle(3, &[(0, 1), (2, 7)]);
        assert_eq!(Bundle::decode(&encoded(&bundle)).unwrap(), bundle);
    }

    #[test]
    fn digests_of_another_size_are_refused() {
        let mut bundle = bundle(3, &[(0, 1)]);
        bundle.checkpoint.disks[0].bytes += 1;
        assert!(Bundle::decode(&encoded(&bundle)).is_err());
    }

    proptest! {
        #[test]
        fn no_damage_goes_unseen(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let mut bytes = encoded(&bundle(3, &[(0, 1), (2, 7)]));
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            prop_assert!(Bundle::decode(&bytes).is_err());
            bytes.truncate(at);
            prop_assert!(Bundle::decode(&bytes).is_err());
        }

        /// Whoever writes the bucket can make the checksum right.
        #[test]
        fn hostile_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut body = MAGIC.to_vec();
            body.append(&mut bytes);
            let checksum = Digest::of(&body);
            body.extend_from_slice(&checksum.0);
            prop_assert!(Bundle::decode(&body).is_err());
        }
    }
}
