//! Copies of snapshots under another key.

use aws_sdk_ec2::{
    Client,
    types::{Filter, ResourceType, Snapshot, SnapshotState},
};

use super::{
    calls::Asked,
    failure::Failure,
    inventory::owned_snapshot,
    tags::{asked_by, ours, read, specification},
};
use crate::control::{CloudError, CopySpec, TOKEN_TAG};

/// What AWS calls its own tags; nobody else may set them.
const RESERVED: &str = "aws:";

/// Asks for the copy, unless it was asked for, and says how far it is.
pub(super) async fn follow(
    asked: Asked<'_>,
    ec2: &Client,
    spec: &CopySpec,
) -> Result<(String, bool), CloudError> {
    let CopySpec {
        snapshot,
        server,
        key,
        copy,
    } = spec;
    // There is no client token for copies: the tag tells which there are.
    let token = format!("copy {snapshot} {}", key.rsplit('/').next().unwrap_or_default());
    let known = match copy {
        Some(copy) => owned_snapshot(asked, ec2, copy, server).await?,
        None => found(asked, ec2, asked_by(&token)).await?,
    };
    if let Some(known) = known {
        let id = known.snapshot_id().unwrap_or_default().to_owned();
        match known.state() {
            Some(SnapshotState::Completed) => return Ok((id, true)),
            Some(SnapshotState::Error) => {
                let why = known.state_message().unwrap_or("no reason is given");
                super::inventory::delete_snapshot(asked.to("ec2:DeleteSnapshot"), ec2, &id, server).await?;
                return Err(asked.rejected(&format!(
                    "copy {id} of {snapshot} failed, and is made anew: {why}"
                )));
            }
            _ => return Ok((id, false)),
        }
    }
    let Some(original) = owned_snapshot(asked, ec2, snapshot, server).await? else {
        return Err(asked.not_found(snapshot));
    };
    let mut tags = read(original.tags());
    tags.retain(|name, _| !name.starts_with(RESERVED));
    tags.insert(TOKEN_TAG.to_owned(), token);
    let copied = ec2
        .copy_snapshot()
        .source_region(&asked.place.region)
        .source_snapshot_id(snapshot)
        .encrypted(true)
        .kms_key_id(key)
        .description(format!("{snapshot} under another key"))
        .tag_specifications(specification(ResourceType::Snapshot, &tags))
        .send()
        .await;
    let copied = copied.map_err(|error| asked.refused(&Failure::of(&error)))?;
    Ok((asked.found(copied.snapshot_id)?, false))
}

async fn found(asked: Asked<'_>, ec2: &Client, by: Filter) -> Result<Option<Snapshot>, CloudError> {
    let found = ec2
        .describe_snapshots()
        .owner_ids("self")
        .filters(ours())
        .filters(by);
    let found = found.send().await;
    let found = found.map_err(|error| asked.to("ec2:DescribeSnapshots").refused(&Failure::of(&error)))?;
    Ok(found.snapshots.unwrap_or_default().into_iter().next())
}
