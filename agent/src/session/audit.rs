//! Trust, and look: while nothing else is to be done, a few blocks that should be the same at both ends are compared.
//!
//! A block counts only if nothing says that it was written since the checkpoint that it is compared with, before it was
//! read and after. One that differs all the same means that the tracker missed a write, and the disk is compared as a
//! whole. The runner is asked over a connection of its own, so that the session need not wait for it.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use domain::{
    checkpoint::CheckpointNumber,
    digest::Digest,
    disk::{BLOCK_LEN, block_count},
};
use rand::RngExt;
use tracing::{debug, warn};

use super::{
    SessionError,
    drive::{Drive, Interrupt},
    inspect::{Inspection, digests_of},
};
use crate::{
    changes::scan::ScanError,
    config::Config,
    disks::{LocalDisk, reader::DiskReader},
};

/// Of each disk: 8 MiB are read each time, which no disk notices.
const BLOCKS: u32 = 16;

/// Blocks as they are, which have not changed since `since`.
struct Sample {
    local: LocalDisk,
    since: CheckpointNumber,
    blocks: BTreeMap<u64, Digest>,
}

impl Drive<'_> {
    pub(super) async fn audit_if_due(&mut self, config: &Config) -> Result<(), Interrupt> {
        if self.audited.elapsed() < self.agent.pace.audit_every {
            return Ok(());
        }
        self.audited = Instant::now();
        let mut samples = Vec::new();
        for local in self.present()? {
            samples.extend(self.sample(local).await?);
        }
        let Some(since) = samples.first().map(|sample| sample.since) else {
            return Ok(());
        };
        if let Err(error) = self.compare_samples(config, since, samples).await {
            // It costs this audit and no more: the session finds out by itself if the runner is gone.
            warn!("an audit was broken off: {}", crate::cli::chain(&error));
        }
        Ok(())
    }

    async fn sample(&mut self, local: LocalDisk) -> Result<Option<Sample>, Interrupt> {
        let Some(since) = self.since(&local) else {
            return Ok(None);
        };
        let count = block_count(local.disk.bytes);
        let reader = DiskReader::open(&local.path, local.disk.bytes)
            .map_err(|error| self.reading_failed(&ScanError::Read(error)))?;
        let reader = Arc::new(reader);
        let mut blocks = BTreeMap::new();
        for _ in 0..BLOCKS {
            let block = rand::rng().random_range(0..count);
            if !self.is_clean(&local, block) {
                continue;
            }
            let reader = reader.clone();
            let read = tokio::task::spawn_blocking(move || digests_of(&reader, block..block + 1));
            let digests = read
                .await
                .map_err(|_panic| SessionError::Panic)?
                .map_err(|error| self.reading_failed(&ScanError::Read(error)))?;
            if self.is_clean(&local, block) {
                blocks.extend(digests.first().map(|digest| (block, *digest)));
            }
        }
        Ok(Some(Sample { local, since, blocks }))
    }

    async fn compare_samples(
        &mut self,
        config: &Config,
        since: CheckpointNumber,
        samples: Vec<Sample>,
    ) -> Result<(), SessionError> {
        let (credentials, server) = (&self.agent.credentials, &self.agent.server);
        let inspection = Inspection::open(credentials, config, server, Some(since)).await?;
        // Without one, the checkpoint is being put together still, or has left.
        let Some(mut inspection) = inspection else {
            return Ok(());
        };
        for Sample { local, since, blocks } in samples {
            let disks = &inspection.checkpoint.disks;
            let number = disks.iter().position(|disk| disk.id == local.disk.id);
            let Some(number) = number.and_then(|number| u16::try_from(number).ok()) else {
                continue;
            };
            if inspection.checkpoint.number != since {
                continue;
            }
            let compared = blocks.len();
            for (block, ours) in blocks {
                let theirs = inspection.digests(number, &(block..block + 1)).await?;
                if theirs != [ours] {
                    let name = &local.disk.device_name;
                    let doubt = format!("block {block} of {name} differs though nothing wrote to it");
                    if let Some(source) = self.sources.get(&local.disk.id) {
                        source.suspect(doubt);
                    }
                    break;
                }
            }
            debug!(disk = %local.disk.id, compared, "audited");
        }
        Ok(())
    }

    fn since(&mut self, local: &LocalDisk) -> Option<CheckpointNumber> {
        self.sources.get(&local.disk.id)?.since()
    }

    fn is_clean(&mut self, local: &LocalDisk, block: u64) -> bool {
        let start = block * BLOCK_LEN as u64;
        let unclean = self
            .sources
            .get(&local.disk.id)
            .and_then(|source| source.unclean());
        unclean.is_some_and(|unclean| !unclean.intersects(start..start + BLOCK_LEN as u64))
    }
}
