//! EBS direct: snapshots made and read block by block, as the API reference of 2019-11-02 says, and where that is
//! silent the way that is harder for clients.
//!
//! ```text
//! StartSnapshot ─▶ pending ── PutSnapshotBlock … ──▶ CompleteSnapshot ─▶ pending ─ a moment ─▶ completed
//!                    └──── no block and no completion within Timeout ─▶ error
//! ```
//!
//! Only what is completed can be read. A block that a snapshot does not hold is its parent's, also once that is deleted.
//! Blocks of zeros are not listed. A completed snapshot is not completed again.

mod error;
mod list;
mod quota;
mod record;
pub mod settings;
mod snapshot;
mod start;
mod store;

use std::{
    collections::{BTreeSet, HashMap},
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Json,
    body::{Body, to_bytes},
    extract::{Query as QueryOf, Request},
    http::{HeaderMap, Method, StatusCode, Uri, request::Parts},
    response::{IntoResponse, Response},
};
use data_encoding::BASE64;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use self::{
    error::{account_throttled, invalid, not_found, snapshot_throttled},
    list::{Query, Tokens},
    quota::Quotas,
    record::State,
    settings::Settings,
    snapshot::{BLOCK, Snapshot, sha256},
    start::StartSnapshot,
    store::Store,
};
use super::{calls::Call, moto::Moto, refusal::Refusal};

/// The longest request but for blocks starts a snapshot: 50 tags of 382 characters.
const REQUEST_MAX: usize = 1 << 17;

#[derive(Debug)]
pub struct Ebs {
    store: Store,
    settings: Mutex<Settings>,
    quotas: Quotas,
    tokens: Tokens,
    /// By account, region and client token. Held while one is started, so that of two requests at once one repeats the
    /// other.
    started: Mutex<HashMap<String, Started>>,
}

#[derive(Debug)]
struct Started {
    asked: StartSnapshot,
    snapshot: Arc<Snapshot>,
}

/// Where a call acts. Snapshots of other accounts and regions do not exist there.
struct Place<'a> {
    account: &'a str,
    region: &'a str,
}

impl Place<'_> {
    fn snapshot(&self, store: &Store, id: &str) -> Option<Arc<Snapshot>> {
        store.get(id).filter(|snapshot| {
            let record = snapshot.record();
            record.account == self.account && record.region == self.region && snapshot.is_seen()
        })
    }
}

/// What a request asks for, if it is one of EBS direct.
pub(super) fn action(method: &Method, path: &str) -> Option<&'static str> {
    let path: Vec<_> = path.trim_matches('/').split('/').collect();
    Some(match (method.as_str(), &path[..]) {
        ("POST", ["snapshots"]) => "StartSnapshot",
        ("POST", ["snapshots", "completion", _]) => "CompleteSnapshot",
        ("PUT", ["snapshots", _, "blocks", _]) => "PutSnapshotBlock",
        ("GET", ["snapshots", _, "blocks", _]) => "GetSnapshotBlock",
        ("GET", ["snapshots", _, "blocks"]) => "ListSnapshotBlocks",
        ("GET", ["snapshots", _, "changedblocks"]) => "ListChangedBlocks",
        _ => return None,
    })
}

/// The snapshot and the block that a path names.
fn named_in(uri: &Uri) -> Result<(String, u64), Refusal> {
    let path: Vec<_> = uri.path().trim_matches('/').split('/').collect();
    let (id, index) = match path[..] {
        [_, "completion", id] | [_, id, _] => (id, "0"),
        [_, id, _, index] => (id, index),
        _ => ("", ""),
    };
    let index = index
        .parse()
        .map_err(|_| invalid("INVALID_BLOCK", "The block index is no number."))?;
    Ok((id.to_owned(), index))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GetQuery {
    block_token: String,
}

impl Ebs {
    pub(super) fn in_folder(snapshots: PathBuf) -> Self {
        Self {
            store: Store::in_folder(snapshots),
            settings: Mutex::default(),
            quotas: Quotas::default(),
            tokens: Tokens::default(),
            started: Mutex::default(),
        }
    }

    pub fn settings(&self) -> Settings {
        let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        settings.clone()
    }

    pub fn set(&self, settings: Settings) {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    pub(super) async fn answer(
        &self,
        moto: &Moto,
        call: &Call,
        request: Request,
        unseen: Duration,
    ) -> Result<Response, Refusal> {
        let place = Place {
            account: &call.account,
            region: &call.region,
        };
        let settings = self.settings();
        let (head, body) = request.into_parts();
        let per_account = match call.action.as_str() {
            "StartSnapshot" => settings.start,
            "CompleteSnapshot" => settings.complete,
            "PutSnapshotBlock" => settings.put,
            "GetSnapshotBlock" => settings.get,
            _ => settings.list,
        };
        self.admit(&place, &call.action, per_account)?;
        match call.action.as_str() {
            "StartSnapshot" => self.start(moto, &place, &settings, body, unseen).await,
            "CompleteSnapshot" => self.complete(&place, &settings, &head, unseen),
            "PutSnapshotBlock" => self.put(&place, &settings, &head, body).await,
            "GetSnapshotBlock" => self.get(&place, &settings, &head).await,
            "ListSnapshotBlocks" => self.list(&place, &head),
            _ => self.list_changed(&place, &head),
        }
    }

    fn admit(&self, place: &Place<'_>, action: &str, per_second: u32) -> Result<(), Refusal> {
        // Both lists share one quota.
        let action = if action.starts_with("List") {
            "List"
        } else {
            action
        };
        let whom = format!("{} {} {action}", place.account, place.region);
        if self.quotas.admit(whom, per_second) {
            Ok(())
        } else {
            Err(account_throttled())
        }
    }

    fn admit_to(&self, snapshot: &str, action: &str, per_second: u32) -> Result<(), Refusal> {
        if self.quotas.admit(format!("{snapshot} {action}"), per_second) {
            Ok(())
        } else {
            Err(snapshot_throttled())
        }
    }

    fn snapshot(&self, place: &Place<'_>, id: &str) -> Result<Arc<Snapshot>, Refusal> {
        place.snapshot(&self.store, id).ok_or_else(|| not_found(id))
    }

    fn snapshot_in(&self, place: &Place<'_>, id: &str, wanted: State) -> Result<Arc<Snapshot>, Refusal> {
        let snapshot = self.snapshot(place, id)?;
        let state = snapshot.state()?;
        if state == wanted {
            Ok(snapshot)
        } else {
            let message = format!("The snapshot {id} is {}.", state.status());
            Err(invalid("INVALID_SNAPSHOT_ID", message))
        }
    }

    async fn start(
        &self,
        moto: &Moto,
        place: &Place<'_>,
        settings: &Settings,
        body: Body,
        unseen: Duration,
    ) -> Result<Response, Refusal> {
        let body = to_bytes(body, REQUEST_MAX).await;
        let asked: StartSnapshot = body
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .ok_or_else(|| invalid("INVALID_PARAMETER_VALUE", "The request cannot be read."))?;
        asked.check()?;
        let encryption = asked.encryption(moto, place).await?;
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        let token = asked.client_token.as_ref();
        let key = token.map(|token| format!("{} {} {token}", place.account, place.region));
        let answer = if let Some(before) = key.as_ref().and_then(|key| started.get(key)) {
            asked.repeats(&before.asked)?;
            start::answer(&before.snapshot)?
        } else {
            let snapshot = asked.start(&self.store, place, settings, encryption)?;
            hide(&snapshot, unseen);
            let answer = start::answer(&snapshot)?;
            if let Some(key) = key {
                started.insert(key, Started { asked, snapshot });
            }
            answer
        };
        Ok((StatusCode::CREATED, Json(answer)).into_response())
    }

    fn complete(
        &self,
        place: &Place<'_>,
        settings: &Settings,
        head: &Parts,
        unseen: Duration,
    ) -> Result<Response, Refusal> {
        let (id, _) = named_in(&head.uri)?;
        let snapshot = self.snapshot_in(place, &id, State::Pending)?;
        let said = number(&head.headers, "x-amz-changedblockscount")?;
        let sum = text(&head.headers, "x-amz-checksum");
        let how = ["x-amz-checksum-algorithm", "x-amz-checksum-aggregation-method"];
        if sum.is_some() && how.map(|name| text(&head.headers, name)) != [Some("SHA256"), Some("LINEAR")] {
            let message = "A checksum is SHA256, aggregated LINEAR.";
            return Err(invalid("INVALID_PARAMETER_VALUE", message));
        }
        snapshot.complete(settings.completion_ms, |count, aggregate| {
            if said != count as u64 {
                let message = "ChangedBlocksCount is not the number of blocks that were written.";
                return Err(invalid("INVALID_PARAMETER_VALUE", message));
            }
            if sum.is_some_and(|sum| sum != BASE64.encode(&aggregate)) {
                let message = "The checksum is not that of the blocks that were written.";
                return Err(invalid("INVALID_PARAMETER_VALUE", message));
            }
            Ok(())
        })?;
        hide(&snapshot, unseen);
        Ok((StatusCode::ACCEPTED, Json(json!({ "Status": "pending" }))).into_response())
    }

    async fn put(
        &self,
        place: &Place<'_>,
        settings: &Settings,
        head: &Parts,
        body: Body,
    ) -> Result<Response, Refusal> {
        let (id, index) = named_in(&head.uri)?;
        let snapshot = self.snapshot_in(place, &id, State::Pending)?;
        self.admit_to(&id, "put", settings.put_per_snapshot)?;
        if index >= snapshot.len() {
            return Err(invalid("INVALID_BLOCK", "The block is not within the volume."));
        }
        let wrong_length = || invalid("INVALID_BLOCK", format!("A block has {BLOCK} bytes."));
        if number(&head.headers, "x-amz-data-length")? != BLOCK as u64 {
            return Err(wrong_length());
        }
        let data = to_bytes(body, BLOCK).await.map_err(|_| wrong_length())?;
        if data.len() != BLOCK {
            return Err(wrong_length());
        }
        if text(&head.headers, "x-amz-checksum-algorithm") != Some("SHA256") {
            return Err(invalid(
                "INVALID_PARAMETER_VALUE",
                "The checksum algorithm is SHA256.",
            ));
        }
        let said = text(&head.headers, "x-amz-checksum")
            .unwrap_or_default()
            .to_owned();
        let put = tokio::task::spawn_blocking(move || {
            let sum = sha256(&data);
            if said != BASE64.encode(&sum) {
                return Err(invalid("INVALID_BLOCK", "The checksum is not that of the data."));
            }
            if !snapshot.put(index, &data, sum)? {
                return Err(invalid("INVALID_SNAPSHOT_ID", "The snapshot is being completed."));
            }
            Ok(said)
        });
        let sum = put
            .await
            .unwrap_or_else(|panic| Err(io::Error::from(panic).into()))?;
        let headers = [
            ("x-amz-checksum", sum.as_str()),
            ("x-amz-checksum-algorithm", "SHA256"),
        ];
        Ok((StatusCode::CREATED, headers, Json(json!({}))).into_response())
    }

    async fn get(&self, place: &Place<'_>, settings: &Settings, head: &Parts) -> Result<Response, Refusal> {
        let (id, index) = named_in(&head.uri)?;
        self.snapshot_in(place, &id, State::Completed)?;
        self.admit_to(&id, "get", settings.get_per_snapshot)?;
        let token = query::<GetQuery>(&head.uri)?.block_token;
        let block = self
            .store
            .block(&id, index)
            .filter(|block| self.tokens.of_block(&id, index, block) == token)
            .ok_or_else(|| invalid("INVALID_BLOCK_TOKEN", "The block token is not valid."))?;
        let holder = self
            .store
            .holder(&block)
            .ok_or_else(|| not_found(&block.holder))?;
        let read = tokio::task::spawn_blocking(move || holder.read(index));
        let data = read.await.unwrap_or_else(|panic| Err(panic.into()));
        let data = data?;
        let headers = [
            ("x-amz-data-length", BLOCK.to_string()),
            ("x-amz-checksum", BASE64.encode(&block.sum)),
            ("x-amz-checksum-algorithm", "SHA256".to_owned()),
            ("content-type", "application/octet-stream".to_owned()),
        ];
        Ok((headers, data).into_response())
    }

    fn list(&self, place: &Place<'_>, head: &Parts) -> Result<Response, Refusal> {
        let (id, _) = named_in(&head.uri)?;
        let snapshot = self.snapshot_in(place, &id, State::Completed)?;
        let blocks = self.store.blocks(&id);
        let entries = blocks.iter().map(|(index, block)| {
            let token = self.tokens.of_block(&id, *index, block);
            (*index, json!({ "BlockIndex": index, "BlockToken": token }))
        });
        let query: Query = query(&head.uri)?;
        let (page, mut answer) = query.page(&self.tokens, &id, &snapshot, entries)?;
        answer["Blocks"] = page.into();
        Ok(Json(answer).into_response())
    }

    /// A block has changed if another snapshot holds it, even if that has the same content.
    fn list_changed(&self, place: &Place<'_>, head: &Parts) -> Result<Response, Refusal> {
        let (second, _) = named_in(&head.uri)?;
        let snapshot = self.snapshot_in(place, &second, State::Completed)?;
        let query: Query = query(&head.uri)?;
        let first = query.first_snapshot_id.clone().unwrap_or_default();
        let blocks_of_first = if first.is_empty() {
            std::collections::BTreeMap::new()
        } else {
            self.snapshot_in(place, &first, State::Completed)?;
            if !self.store.are_related(&first, &second) {
                return Err(invalid(
                    "UNRELATED_SNAPSHOTS",
                    "The snapshots have no common ancestor.",
                ));
            }
            self.store.blocks(&first)
        };
        let blocks_of_second = self.store.blocks(&second);
        let indexes: BTreeSet<u64> = blocks_of_first
            .keys()
            .chain(blocks_of_second.keys())
            .copied()
            .collect();
        let changed = indexes.into_iter().filter_map(|index| {
            let (before, after) = (blocks_of_first.get(&index), blocks_of_second.get(&index));
            (before != after).then(|| {
                let mut entry = json!({ "BlockIndex": index });
                for (name, id, block) in [
                    ("FirstBlockToken", &first, before),
                    ("SecondBlockToken", &second, after),
                ] {
                    if let Some(block) = block {
                        entry[name] = Value::from(self.tokens.of_block(id, index, block));
                    }
                }
                (index, entry)
            })
        });
        let name = format!("{first} {second}");
        let (page, mut answer) = query.page(&self.tokens, &name, &snapshot, changed)?;
        answer["ChangedBlocks"] = page.into();
        Ok(Json(answer).into_response())
    }
}

fn hide(snapshot: &Snapshot, unseen: Duration) {
    if !unseen.is_zero() {
        snapshot.hide(u64::try_from(unseen.as_millis()).unwrap_or(u64::MAX));
    }
}

fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Refusal> {
    QueryOf::try_from_uri(uri)
        .map(|QueryOf(query)| query)
        .map_err(|error| invalid("INVALID_PARAMETER_VALUE", error.to_string()))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn number(headers: &HeaderMap, name: &str) -> Result<u64, Refusal> {
    text(headers, name)
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| {
            invalid(
                "INVALID_PARAMETER_VALUE",
                format!("{name} is missing, or no number."),
            )
        })
}
