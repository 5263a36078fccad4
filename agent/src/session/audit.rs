//! Trust, and look: while nothing else is to be done, a few blocks that should be the same at both ends are compared.
//!
//! A block counts only if nothing says that it changed, before it was read and after. One that differs all the same
//! means that the tracker missed a write, and the disk is compared as a whole.

use std::time::Instant;

use domain::disk::{BLOCK_LEN, block_count};
use rand::RngExt;
use tracing::{debug, warn};

use super::{
    SessionError,
    drive::{Drive, Interrupt},
};
use crate::{
    changes::scan::{ScanError, digest_of},
    disks::{
        LocalDisk,
        reader::{BlockBuffer, DiskReader},
    },
};

/// Of each disk: 8 MiB are read each time, which no disk notices.
const BLOCKS: u32 = 16;

impl Drive<'_> {
    pub(super) async fn audit_if_due(&mut self) -> Result<(), Interrupt> {
        if self.audited.elapsed() < self.agent.pace.audit_every {
            return Ok(());
        }
        self.audited = Instant::now();
        for (number, local) in (0_u16..).zip(self.present()?) {
            self.audit(number, &local).await?;
        }
        Ok(())
    }

    async fn audit(&mut self, number: u16, local: &LocalDisk) -> Result<(), Interrupt> {
        let blocks = block_count(local.disk.bytes);
        let mut compared = 0;
        for _ in 0..BLOCKS {
            let block = rand::rng().random_range(0..blocks);
            let start = block * BLOCK_LEN as u64;
            let place = start..local.disk.bytes.min(start + BLOCK_LEN as u64);
            if !self.is_clean(local, &place) {
                continue;
            }
            let (path, bytes, piece) = (local.path.clone(), local.disk.bytes, place.clone());
            let read = tokio::task::spawn_blocking(move || {
                let reader = DiskReader::open(&path, bytes)?;
                let mut buffer = BlockBuffer::new();
                reader.read(piece, &mut buffer).map(digest_of)
            });
            let ours = read
                .await
                .map_err(|_panic| SessionError::Panic)?
                .map_err(|error| self.reading_failed(&ScanError::Read(error)))?;
            let digests = &mut self.incoming.digests;
            digests.ask(&self.outbox, number, block..block + 1).await;
            let theirs = digests.next().await?;
            if !self.is_clean(local, &place) {
                continue;
            }
            compared += 1;
            if theirs.first() != Some(&ours) {
                let doubt = format!(
                    "block {block} of {} differs though nothing wrote to it",
                    local.disk.device_name
                );
                warn!("{doubt}");
                if let Some(source) = self.sources.get(&local.disk.id) {
                    source.suspect(doubt);
                }
                return Ok(());
            }
        }
        debug!(disk = %local.disk.id, compared, "audited");
        Ok(())
    }

    fn is_clean(&mut self, local: &LocalDisk, place: &std::ops::Range<u64>) -> bool {
        let source = self.sources.get(&local.disk.id);
        let unclean = source.and_then(|source| source.unclean());
        unclean.is_some_and(|unclean| !unclean.intersects(place.clone()))
    }
}
