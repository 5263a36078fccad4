//! The calls to EBS direct APIs, each repeated until it succeeds or waiting cannot help.

use std::{future::Future, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use aws_sdk_ebs::{
    Client,
    primitives::ByteStream,
    types::{ChangedBlock, ChecksumAggregationMethod, ChecksumAlgorithm, Tag},
};
use aws_smithy_types::base64;
use domain::disk::BLOCK_LEN;
use tokio::time::{Instant, sleep};

use super::{LIMITS, records::Wish};
use crate::{
    aws::{
        failure::{Failure, chain},
        pace::Pace,
    },
    snapshots::{SnapshotId, StoreError},
};

/// A new snapshot may be unknown to the servers that take its blocks for so long; so EBS's people said of coldsnap's case.
const KNOWN_WITHIN: Duration = Duration::from_mins(2);
/// Whoever asked says what is wrong then, and asks again.
const GIVE_UP_AFTER: Duration = Duration::from_mins(2);
const COMPLETE_WITHIN: Duration = Duration::from_mins(30);
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// EBS cancels a pending snapshot that nothing was put into for so many minutes: the longest there is.
const PENDING_MINUTES: i32 = 60;
/// Blocks per list: between 100 and 10,000. A token has some 100 bytes.
const LIST_MAX: i32 = 1000;
const LIST_LEAST: i32 = 100;

#[derive(Debug)]
pub(super) struct Calls {
    client: Client,
    /// Quotas of put and get are counted apart.
    put: Pace,
    get: Pace,
}

/// The blocks that a snapshot holds in a range; all others in it are zeros.
#[derive(Debug)]
pub(super) struct Listed {
    pub first: u64,
    /// One behind the last; `None` if it is the end of the snapshot.
    pub end: Option<u64>,
    /// Blocks with the tokens by which they can be read, in their order.
    pub tokens: Vec<(u64, String)>,
}

pub(super) fn sha256(data: &[u8]) -> [u8; 32] {
    digest(&SHA256, data)
        .as_ref()
        .try_into()
        .expect("SHA-256 has 32 bytes")
}

impl Calls {
    pub fn new(client: Client) -> Self {
        Self {
            client,
            put: Pace::new(&LIMITS),
            get: Pace::new(&LIMITS),
        }
    }

    /// Asking again with the same token gives the same snapshot; and the key that it is under, if it is encrypted.
    pub async fn start(&self, wish: &Wish) -> Result<(SnapshotId, Option<String>), StoreError> {
        let tags = wish
            .tags
            .iter()
            .map(|(key, value)| Tag::builder().key(key).value(value).build());
        // A child has its parent's, and EBS refuses to be told so.
        let key = wish.key.as_ref().filter(|_| wish.parent.is_none());
        let ask = self
            .client
            .start_snapshot()
            .volume_size(wish.gib)
            .set_parent_snapshot_id(wish.parent.as_ref().map(|parent| parent.0.clone()))
            .client_token(&wish.token)
            .timeout(PENDING_MINUTES)
            .set_tags(Some(tags.collect()))
            .set_encrypted(key.map(|_| true))
            .set_kms_key_arn(key.cloned());
        let started = self.persist(
            &self.put,
            |_| false,
            || {
                let ask = ask.clone();
                async move { ask.send().await.map_err(|error| Failure::of(&error)) }
            },
        );
        let started = started
            .await
            .map_err(|failure| refused("start", &wish.token, &failure))?;
        let id = started.snapshot_id().ok_or_else(|| StoreError::Remote {
            operation: "start",
            id: wish.token.clone(),
            detail: "the answer does not name it".into(),
        })?;
        Ok((
            SnapshotId(id.to_owned()),
            started.kms_key_arn().map(str::to_owned),
        ))
    }

    /// Puts a whole block, whose SHA-256 this is.
    pub async fn put(
        &self,
        id: &SnapshotId,
        block: u64,
        data: bytes::Bytes,
        sha256: &[u8; 32],
    ) -> Result<(), StoreError> {
        let checksum = base64::encode(sha256);
        let index = index(id, block)?;
        let length = i32::try_from(data.len()).unwrap_or(i32::MAX);
        let put = self.persist(
            &self.put,
            |waited| waited < KNOWN_WITHIN,
            || {
                let ask = self
                    .client
                    .put_snapshot_block()
                    .snapshot_id(&id.0)
                    .block_index(index)
                    .data_length(length)
                    .checksum(&checksum)
                    .checksum_algorithm(ChecksumAlgorithm::ChecksumAlgorithmSha256)
                    .block_data(ByteStream::from(data.clone()));
                async move { ask.send().await.map_err(|error| Failure::of(&error)) }
            },
        );
        put.await
            .map(drop)
            .map_err(|failure| refused("write to", &id.0, &failure))
    }

    /// `digests` are those of all blocks that were put, in their order.
    pub async fn complete(
        &self,
        id: &SnapshotId,
        digests: impl ExactSizeIterator<Item = [u8; 32]>,
    ) -> Result<(), StoreError> {
        let count = i32::try_from(digests.len()).unwrap_or(i32::MAX);
        let all: Vec<u8> = digests.flatten().collect();
        let mut ask = self
            .client
            .complete_snapshot()
            .snapshot_id(&id.0)
            .changed_blocks_count(count);
        if count > 0 {
            ask = ask
                .checksum(base64::encode(sha256(&all)))
                .checksum_algorithm(ChecksumAlgorithm::ChecksumAlgorithmSha256)
                .checksum_aggregation_method(ChecksumAggregationMethod::ChecksumAggregationLinear);
        }
        let complete = self.persist(
            &self.put,
            |waited| waited < KNOWN_WITHIN,
            || {
                let ask = ask.clone();
                async move { ask.send().await.map_err(|error| Failure::of(&error)) }
            },
        );
        match complete.await {
            Ok(_) => Ok(()),
            // One whose answer was lost is refused when it is asked for again.
            Err(_) if self.list(id, 0).await.is_ok() => Ok(()),
            Err(failure) => Err(refused("commit", &id.0, &failure)),
        }
    }

    /// Waits until the snapshot can be read and be a parent. EC2 calls it completed before that.
    pub async fn until_readable(&self, id: &SnapshotId) -> Result<(), StoreError> {
        let (began, mut pause) = (Instant::now(), PAUSE_FIRST);
        loop {
            match self.list(id, 0).await {
                Ok(_) => return Ok(()),
                Err(failure @ (Failure::NotFound(_) | Failure::Rejected { .. })) => {
                    if began.elapsed() > COMPLETE_WITHIN {
                        return Err(refused("commit", &id.0, &failure));
                    }
                }
                Err(failure) => return Err(refused("commit", &id.0, &failure)),
            }
            rest(&mut pause).await;
        }
    }

    pub async fn list(&self, id: &SnapshotId, first: u64) -> Result<Listed, Failure> {
        let start = i32::try_from(first).map_err(|_| Failure::NotFound(format!("block {first}")))?;
        let (mut tokens, mut more) = (Vec::new(), None);
        loop {
            let page = self.persist(
                &self.get,
                |_| false,
                || {
                    let ask = self.client.list_snapshot_blocks().snapshot_id(&id.0);
                    let ask = match &more {
                        None => ask.starting_block_index(start).max_results(LIST_MAX),
                        Some(token) => ask.next_token(token).max_results(LIST_MAX),
                    };
                    async move { ask.send().await.map_err(|error| Failure::of(&error)) }
                },
            );
            let page = page.await?;
            for block in page.blocks() {
                if let (Some(index), Some(token)) = (block.block_index(), block.block_token()) {
                    tokens.push((u64::try_from(index).unwrap_or_default(), token.to_owned()));
                }
            }
            more = page.next_token().map(str::to_owned);
            // A page may be empty and have a successor: nothing is known of what is behind it.
            let end = more.as_ref().and(tokens.last()).map(|(last, _)| last + 1);
            if more.is_none() || end.is_some() {
                return Ok(Listed { first, end, tokens });
            }
        }
    }

    /// The blocks that are others in one snapshot than in another of its line, or are there in one only.
    pub async fn changed(&self, from: &SnapshotId, to: &SnapshotId) -> Result<Vec<u64>, Failure> {
        let (mut blocks, mut more) = (Vec::new(), None);
        loop {
            let page = self.persist(
                &self.get,
                |_| false,
                || {
                    let ask = self.client.list_changed_blocks();
                    let ask = ask.first_snapshot_id(&from.0).second_snapshot_id(&to.0);
                    let ask = ask.max_results(LIST_MAX).set_next_token(more.clone());
                    async move { ask.send().await.map_err(|error| Failure::of(&error)) }
                },
            );
            let page = page.await?;
            let indexes = page.changed_blocks().iter().filter_map(ChangedBlock::block_index);
            blocks.extend(indexes.filter_map(|index| u64::try_from(index).ok()));
            more = page.next_token().map(str::to_owned);
            if more.is_none() {
                return Ok(blocks);
            }
        }
    }

    /// The size of the volume that a completed snapshot is of, in GiB.
    pub async fn volume_gib(&self, id: &SnapshotId) -> Result<i64, Failure> {
        let page = self.persist(
            &self.get,
            |_| false,
            || {
                let ask = self.client.list_snapshot_blocks().snapshot_id(&id.0);
                let ask = ask.max_results(LIST_LEAST);
                async move { ask.send().await.map_err(|error| Failure::of(&error)) }
            },
        );
        Ok(page.await?.volume_size().unwrap_or(1))
    }

    /// A whole block, which is what EBS says it is.
    pub async fn get(&self, id: &SnapshotId, block: u64, token: &str) -> Result<Vec<u8>, Failure> {
        let index = i32::try_from(block).map_err(|_| Failure::NotFound(format!("block {block}")))?;
        let get = self.persist(
            &self.get,
            |_| false,
            || {
                let ask = self
                    .client
                    .get_snapshot_block()
                    .snapshot_id(&id.0)
                    .block_index(index)
                    .block_token(token);
                async move {
                    let answer = ask.send().await.map_err(|error| Failure::of(&error))?;
                    let checksum = answer.checksum().unwrap_or_default().to_owned();
                    let data = answer.block_data.collect().await;
                    let data = data.map_err(|error| Failure::Unknown(chain(&error)))?.to_vec();
                    if data.len() != BLOCK_LEN || base64::encode(sha256(&data)) != checksum {
                        return Err(Failure::Unknown("what came is not what was sent".into()));
                    }
                    Ok(data)
                }
            },
        );
        get.await
    }

    /// `is_new` says for how long something may not be there yet.
    async fn persist<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        pace: &Pace,
        is_new: impl Fn(Duration) -> bool,
        mut call: impl FnMut() -> F,
    ) -> Result<T, Failure> {
        let (began, mut pause) = (Instant::now(), PAUSE_FIRST);
        loop {
            let turn = pace.turn().await;
            let failure = match call().await {
                Ok(answer) => {
                    turn.answered();
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            let waited = began.elapsed();
            match &failure {
                Failure::Throttled => turn.refused(),
                Failure::Unknown(_) | Failure::Quota(_) => drop(turn),
                Failure::NotFound(_) if is_new(waited) => drop(turn),
                _ => return Err(failure),
            }
            if waited > GIVE_UP_AFTER {
                return Err(failure);
            }
            rest(&mut pause).await;
        }
    }
}

/// Longer each time, and not as long as others who were refused together.
async fn rest(pause: &mut Duration) {
    sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
    *pause = (*pause * 2).min(PAUSE_MAX);
}

fn index(id: &SnapshotId, block: u64) -> Result<i32, StoreError> {
    i32::try_from(block).map_err(|_| StoreError::OutOfRange {
        id: id.clone(),
        block,
    })
}

pub(super) fn refused(operation: &'static str, id: &str, failure: &Failure) -> StoreError {
    StoreError::Remote {
        operation,
        id: id.to_owned(),
        detail: failure.to_string(),
    }
}
