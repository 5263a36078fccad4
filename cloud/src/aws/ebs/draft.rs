//! A pending snapshot of this process.
//!
//! What is put is on its way to EBS once it is in a local file. EBS does not show what is in a pending snapshot; the
//! file does, to those who merge more into the same block.

use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use domain::{digest::Digest, disk::BLOCK_LEN};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit},
    task::JoinSet,
};

use super::{
    calls::{Calls, sha256},
    rekey::Switch,
};
use crate::snapshots::{SnapshotId, StoreError};

#[derive(Debug)]
pub(super) struct Draft {
    id: SnapshotId,
    pub switch: Option<Switch>,
    path: PathBuf,
    file: fs::File,
    blocks: Mutex<BTreeMap<u64, Put>>,
    uploads: Mutex<Uploads>,
    /// An upload ended.
    ended: Notify,
}

/// What was put last.
#[derive(Debug, Clone, Copy)]
struct Put {
    digest: Digest,
    len: usize,
    sha256: [u8; 32],
}

#[derive(Debug, Default)]
struct Uploads {
    running: JoinSet<()>,
    blocks: HashSet<u64>,
    failed: Option<String>,
}

impl Draft {
    pub fn create(dir: &Path, id: SnapshotId, switch: Option<Switch>) -> io::Result<Self> {
        let path = dir.join(format!("{id}.data"));
        let file = fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        Ok(Self {
            id,
            switch,
            path,
            file,
            blocks: Mutex::default(),
            uploads: Mutex::default(),
            ended: Notify::new(),
        })
    }

    /// Returns once the block can be read here; `room` is given back when it is with EBS.
    pub async fn put(
        self: &Arc<Self>,
        calls: &Arc<Calls>,
        block: u64,
        data: Vec<u8>,
        digest: Digest,
        room: OwnedSemaphorePermit,
    ) -> Result<(), StoreError> {
        // Two of one block could overtake each other.
        self.until(|uploads| !uploads.blocks.contains(&block)).await?;
        let draft = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || draft.write(block, data, digest)).await;
        let (data, sha256) = written
            .unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
            .map_err(|source| self.io("write to", source))?;
        let (draft, calls) = (Arc::clone(self), Arc::clone(calls));
        let mut uploads = self.uploads();
        // Those that are done would pile up.
        while uploads.running.try_join_next().is_some() {}
        uploads.blocks.insert(block);
        uploads.running.spawn(async move {
            let put = calls.put(&draft.id, block, data, &sha256).await;
            let mut uploads = draft.uploads();
            uploads.blocks.remove(&block);
            if let Err(error) = put {
                uploads.failed.get_or_insert_with(|| error.to_string());
            }
            drop(room);
            draft.ended.notify_waiters();
        });
        Ok(())
    }

    fn write(&self, block: u64, mut data: Vec<u8>, digest: Digest) -> io::Result<(Bytes, [u8; 32])> {
        self.file.write_all_at(&data, block * BLOCK_LEN as u64)?;
        let len = data.len();
        // EBS takes whole blocks only, even where the disk ends within one.
        data.resize(BLOCK_LEN, 0);
        let sha256 = sha256(&data);
        self.blocks().insert(block, Put { digest, len, sha256 });
        Ok((data.into(), sha256))
    }

    /// What was put here; `None` if nothing was.
    pub async fn read(self: &Arc<Self>, block: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(put) = self.blocks().get(&block).copied() else {
            return Ok(None);
        };
        let draft = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || {
            let mut data = vec![0; put.len];
            draft.file.read_exact_at(&mut data, block * BLOCK_LEN as u64)?;
            Ok(data)
        });
        let read = read
            .await
            .unwrap_or_else(|stopped| Err(io::Error::other(stopped)));
        let data = read.map_err(|source| self.io("read", source))?;
        if Digest::of(&data) == put.digest {
            Ok(Some(data))
        } else {
            Err(StoreError::Damaged {
                id: self.id.clone(),
                block,
                file: self.path.clone(),
                detail: "it is not what was put".into(),
            })
        }
    }

    pub fn has(&self, block: u64) -> bool {
        self.blocks().contains_key(&block)
    }

    /// Everything that was put is with EBS: its SHA-256s, in the order of blocks.
    pub async fn all_put(&self) -> Result<Vec<[u8; 32]>, StoreError> {
        self.until(|uploads| uploads.blocks.is_empty()).await?;
        Ok(self.blocks().values().map(|put| put.sha256).collect())
    }

    /// Nothing more is uploaded.
    pub fn abandon(&self) {
        let mut uploads = self.uploads();
        uploads.running.abort_all();
        uploads.failed = Some("it was abandoned".into());
        self.ended.notify_waiters();
    }

    /// Waits for what uploads come to. One that failed fails all that follows: the snapshot lacks a block.
    async fn until(&self, is_so: impl Fn(&Uploads) -> bool) -> Result<(), StoreError> {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            {
                let uploads = self.uploads();
                if let Some(detail) = &uploads.failed {
                    return Err(StoreError::Remote {
                        operation: "write to",
                        id: self.id.0.clone(),
                        detail: detail.clone(),
                    });
                }
                if is_so(&uploads) {
                    return Ok(());
                }
            }
            ended.await;
        }
    }

    fn io(&self, operation: &'static str, source: io::Error) -> StoreError {
        StoreError::Io {
            operation,
            id: self.id.clone(),
            source,
        }
    }

    fn blocks(&self) -> MutexGuard<'_, BTreeMap<u64, Put>> {
        self.blocks.lock().expect("no panic while it was held")
    }

    fn uploads(&self) -> MutexGuard<'_, Uploads> {
        self.uploads.lock().expect("no panic while it was held")
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // What stays is removed when the store is opened again.
        let _ = fs::remove_file(&self.path);
    }
}
