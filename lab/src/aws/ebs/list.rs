//! `ListSnapshotBlocks` and `ListChangedBlocks`: pages of blocks, each with the token by which it can be read.

use aws_lc_rs::hmac;
use data_encoding::BASE64;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    error::invalid,
    record::now_ms,
    snapshot::{BLOCK, Snapshot},
    start::seconds,
    store::Block,
};
use crate::aws::refusal::Refusal;

const RESULTS: std::ops::RangeInclusive<usize> = 100..=10_000;
/// Tokens of AWS are good for a week.
const WEEK_MS: u64 = 7 * 24 * 60 * 60 * 1000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Query {
    pub(super) first_snapshot_id: Option<String>,
    page_token: Option<String>,
    max_results: Option<usize>,
    starting_block_index: Option<u64>,
}

/// Signs what clients must bring back unchanged.
#[derive(Debug)]
pub(super) struct Tokens(hmac::Key);

impl Default for Tokens {
    fn default() -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>()))
    }
}

impl Tokens {
    /// Of a block as `snapshot` shows it.
    pub(super) fn of_block(&self, snapshot: &str, index: u64, block: &Block) -> String {
        let text = format!("{snapshot} {index} {}", block.holder);
        BASE64.encode(hmac::sign(&self.0, text.as_bytes()).as_ref())
    }

    /// Of the page of a list that begins with block `next`.
    fn of_page(&self, list: &str, next: u64) -> String {
        let tag = hmac::sign(&self.0, format!("{list} {next}").as_bytes());
        BASE64.encode(&[&next.to_be_bytes(), tag.as_ref()].concat())
    }

    fn page(&self, list: &str, token: &str) -> Option<u64> {
        let bytes = BASE64.decode(token.as_bytes()).ok()?;
        let next = u64::from_be_bytes(*bytes.first_chunk()?);
        (self.of_page(list, next) == token).then_some(next)
    }
}

impl Query {
    /// One page of `entries`, which are sorted by index. `list` names them all.
    pub(super) fn page(
        &self,
        tokens: &Tokens,
        list: &str,
        snapshot: &Snapshot,
        entries: impl Iterator<Item = (u64, Value)>,
    ) -> Result<(Vec<Value>, Value), Refusal> {
        let most = self.max_results.unwrap_or(*RESULTS.end());
        if !RESULTS.contains(&most) {
            return Err(invalid("INVALID_PARAMETER_VALUE", "MaxResults is 100 to 10000."));
        }
        let begin = match &self.page_token {
            Some(token) => tokens
                .page(list, token)
                .ok_or_else(|| invalid("INVALID_PAGE_TOKEN", "The page token is not valid."))?,
            None => self.starting_block_index.unwrap_or(0),
        };
        let mut rest = entries.skip_while(|(index, _)| *index < begin);
        let page = rest.by_ref().take(most).map(|(_, entry)| entry).collect();
        let mut answer = json!({
            "ExpiryTime": seconds(now_ms() + WEEK_MS),
            "VolumeSize": snapshot.record().volume_size,
            "BlockSize": BLOCK,
        });
        if let Some((next, _)) = rest.next() {
            answer["NextToken"] = tokens.of_page(list, next).into();
        }
        Ok((page, answer))
    }
}
