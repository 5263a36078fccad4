//! `StartSnapshot`: what may be asked for, and what comes of it.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Place,
    error::{invalid, not_found, other_parameters, too_many_pending},
    record::{Record, State, now_ms},
    settings::Settings,
    snapshot::{BLOCK, Snapshot},
    store::Store,
};
use crate::aws::{moto::Moto, refusal::Refusal};

const GIB_MAX: u64 = 65_536;
const TIMEOUT_MINUTES: std::ops::RangeInclusive<u64> = 10..=4320;
const DEFAULT_TIMEOUT_MINUTES: u64 = 60;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StartSnapshot {
    volume_size: u64,
    parent_snapshot_id: Option<String>,
    tags: Option<Vec<Tag>>,
    description: Option<String>,
    pub(super) client_token: Option<String>,
    encrypted: Option<bool>,
    kms_key_arn: Option<String>,
    timeout: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    key: String,
    value: String,
}

/// Whether a snapshot is encrypted, and with which key.
#[derive(Debug, Default)]
pub(super) struct Encryption {
    encrypted: bool,
    key: Option<String>,
}

impl StartSnapshot {
    pub(super) fn check(&self) -> Result<(), Refusal> {
        if !(1..=GIB_MAX).contains(&self.volume_size) {
            return Err(invalid(
                "INVALID_VOLUME_SIZE",
                format!("A volume has 1 to {GIB_MAX} GiB."),
            ));
        }
        if !self
            .timeout
            .is_none_or(|minutes| TIMEOUT_MINUTES.contains(&minutes))
        {
            return Err(invalid(
                "INVALID_PARAMETER_VALUE",
                "Timeout is 10 to 4320 minutes.",
            ));
        }
        if self.parent_snapshot_id.is_some() && (self.encrypted.is_some() || self.kms_key_arn.is_some()) {
            let message = "Encrypted and KmsKeyArn cannot be specified together with ParentSnapshotId.";
            return Err(invalid("INVALID_PARAMETER_VALUE", message));
        }
        let too_long = self
            .description
            .as_ref()
            .is_some_and(|text| text.is_empty() || text.chars().count() > 255);
        if too_long {
            return Err(invalid(
                "INVALID_PARAMETER_VALUE",
                "A description has 1 to 255 characters.",
            ));
        }
        let is_wrong = |tag: &Tag| {
            tag.key.is_empty() || tag.key.chars().count() > 127 || tag.value.chars().count() > 255
        };
        if self.tags.iter().flatten().any(is_wrong) {
            return Err(invalid("INVALID_TAG", "A tag is too long, or has no key."));
        }
        Ok(())
    }

    /// Answers a request whose token was met before with these parameters, or not.
    pub(super) fn repeats(&self, before: &Self) -> Result<(), Refusal> {
        if self == before {
            Ok(())
        } else {
            Err(other_parameters())
        }
    }

    /// As it is asked for, where no parent decides it.
    pub(super) async fn encryption(&self, moto: &Moto, place: &Place<'_>) -> Result<Encryption, Refusal> {
        if self.parent_snapshot_id.is_some() {
            return Ok(Encryption::default());
        }
        let ask = async |action, element| moto.ec2_says(place.account, place.region, action, element).await;
        let by_default = ask("GetEbsEncryptionByDefault", "ebsEncryptionByDefault").await? == "true";
        let encrypted = self.encrypted == Some(true) || by_default;
        let key = match &self.kms_key_arn {
            Some(_) if !encrypted => {
                let message = "KmsKeyArn cannot be specified without Encrypted.";
                return Err(invalid("INVALID_PARAMETER_VALUE", message));
            }
            Some(key) => Some(key.clone()),
            None if encrypted => Some(ask("GetEbsDefaultKmsKeyId", "kmsKeyId").await?),
            None => None,
        };
        Ok(Encryption { encrypted, key })
    }

    pub(super) fn start(
        &self,
        store: &Store,
        place: &Place<'_>,
        settings: &Settings,
        asked: Encryption,
    ) -> Result<Arc<Snapshot>, Refusal> {
        let encryption = match &self.parent_snapshot_id {
            Some(parent) => self.as_parent(store, place, parent)?,
            None => asked,
        };
        if store.pending(place.account, place.region) >= settings.pending_snapshots {
            return Err(too_many_pending());
        }
        let tags: BTreeMap<_, _> = self
            .tags
            .iter()
            .flatten()
            .map(|tag| (tag.key.clone(), tag.value.clone()))
            .collect();
        let record = Record {
            id: format!("snap-0{:016x}", rand::random::<u64>()),
            account: place.account.to_owned(),
            region: place.region.to_owned(),
            volume_size: self.volume_size,
            parent: self.parent_snapshot_id.clone(),
            encrypted: encryption.encrypted,
            kms_key_arn: encryption.key,
            description: self.description.clone(),
            tags,
            started_at_ms: now_ms(),
            timeout_ms: Some(self.timeout.unwrap_or(DEFAULT_TIMEOUT_MINUTES) * settings.minute_ms),
            completes_at_ms: None,
        };
        Ok(store.start(record)?)
    }

    fn as_parent(&self, store: &Store, place: &Place<'_>, id: &str) -> Result<Encryption, Refusal> {
        let parent = place.snapshot(store, id).ok_or_else(|| not_found(id))?;
        if parent.state()? != State::Completed {
            return Err(invalid(
                "INVALID_SNAPSHOT_ID",
                format!("The parent {id} is not completed."),
            ));
        }
        let parent = parent.record();
        if parent.volume_size > self.volume_size {
            let message = format!(
                "The volume is smaller than the parent's {} GiB.",
                parent.volume_size
            );
            return Err(invalid("INVALID_VOLUME_SIZE", message));
        }
        Ok(Encryption {
            encrypted: parent.encrypted,
            key: parent.kms_key_arn,
        })
    }
}

/// What is told of a snapshot that was started.
pub(super) fn answer(snapshot: &Snapshot) -> Result<Value, Refusal> {
    let record = snapshot.record();
    let state = snapshot.state()?;
    let tags = record.tags.iter();
    let tags: Vec<_> = tags
        .map(|(key, value)| json!({ "Key": key, "Value": value }))
        .collect();
    let mut answer = json!({
        "SnapshotId": record.id,
        "OwnerId": record.account,
        "Status": state.status(),
        "StartTime": seconds(record.started_at_ms),
        "VolumeSize": record.volume_size,
        "BlockSize": BLOCK,
        "SseType": if record.encrypted { "sse-kms" } else { "none" },
    });
    let given = [
        ("Description", record.description.map(Value::from)),
        ("ParentSnapshotId", record.parent.map(Value::from)),
        ("KmsKeyArn", record.kms_key_arn.map(Value::from)),
        ("Tags", (!tags.is_empty()).then(|| Value::from(tags))),
    ];
    for (name, value) in given {
        if let Some(value) = value {
            answer[name] = value;
        }
    }
    Ok(answer)
}

/// Times are seconds since 1970, with a fraction.
#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 have 41 bits")]
pub(super) fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
