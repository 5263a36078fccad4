//! What of ours there is in an account, by its tags.

use aws_sdk_ec2::{
    Client,
    types::{Filter, Image, Instance, InstanceStateName, LaunchTemplate, Snapshot, Volume},
};

use super::{
    calls::Asked,
    failure::Failure,
    tags::{asked_by, ours, read},
};
use crate::control::{CloudError, Measure, Resource, ResourceKind, SERVER_TAG, Tags};

/// More than any account has of ours.
const OURS_MAX: usize = 1_000_000;

pub(super) async fn everything(asked: Asked<'_>, ec2: &Client) -> Result<Vec<Resource>, CloudError> {
    let mut all = snapshots(asked, ec2).await?;
    all.extend(images(asked, ec2, ours()).await?);
    all.extend(templates(asked, ec2, ours()).await?);
    all.extend(instances(asked, ec2, ours()).await?);
    all.extend(volumes(asked, ec2).await?);
    Ok(all)
}

/// What a token asked for. Volumes carry the token of their instance, and do not count.
pub(super) async fn made_by(
    asked: Asked<'_>,
    ec2: &Client,
    token: &str,
) -> Result<Option<Resource>, CloudError> {
    let mut made = images(asked, ec2, asked_by(token)).await?;
    if made.is_empty() {
        made = instances(asked, ec2, asked_by(token)).await?;
    }
    if made.is_empty() {
        made = templates(asked, ec2, asked_by(token)).await?;
    }
    Ok(made.into_iter().next())
}

pub(super) async fn delete_snapshot(
    asked: Asked<'_>,
    ec2: &Client,
    id: &str,
    server: &str,
) -> Result<(), CloudError> {
    if owned_snapshot(asked, ec2, id, server).await?.is_none() {
        return Ok(());
    }
    let deleted = ec2.delete_snapshot().snapshot_id(id).send().await;
    match deleted.map_err(|error| Failure::of(&error)) {
        Ok(_) | Err(Failure::NotFound(_)) => Ok(()),
        Err(failure) => Err(asked.refused(&failure)),
    }
}

/// A snapshot whose tags say that it is of this source server. `None` if there is none of this id; others are refused.
pub(super) async fn owned_snapshot(
    asked: Asked<'_>,
    ec2: &Client,
    id: &str,
    server: &str,
) -> Result<Option<Snapshot>, CloudError> {
    let known = ec2.describe_snapshots().snapshot_ids(id).send().await;
    let known = match known.map_err(|error| Failure::of(&error)) {
        Ok(known) => known.snapshots.unwrap_or_default().into_iter().next(),
        Err(Failure::NotFound(_)) => None,
        Err(failure) => return Err(asked.refused(&failure)),
    };
    let is_of =
        |snapshot: &Snapshot| read(snapshot.tags()).get(SERVER_TAG).map(String::as_str) == Some(server);
    match known {
        Some(snapshot) if !is_of(&snapshot) => Err(asked.rejected(&format!(
            "{id} is left alone: its tags do not say that it is of source server {server}"
        ))),
        known => Ok(known),
    }
}

async fn snapshots(asked: Asked<'_>, ec2: &Client) -> Result<Vec<Resource>, CloudError> {
    let found = ec2.describe_snapshots().owner_ids("self").filters(ours());
    let found = asked
        .listed(found.into_paginator().items().send(), OURS_MAX)
        .await?;
    let resource = |one: Snapshot| Resource {
        measure: Measure {
            gib: count(one.volume_size),
            ..Measure::default()
        },
        ..resource(ResourceKind::Snapshot, read(one.tags()), one.snapshot_id)
    };
    Ok(found.into_iter().map(resource).collect())
}

async fn images(asked: Asked<'_>, ec2: &Client, filter: Filter) -> Result<Vec<Resource>, CloudError> {
    let found = ec2.describe_images().owners("self").filters(filter);
    let found = asked
        .listed(found.into_paginator().items().send(), OURS_MAX)
        .await?;
    let resource = |one: Image| resource(ResourceKind::Image, read(one.tags()), one.image_id);
    Ok(found.into_iter().map(resource).collect())
}

async fn templates(asked: Asked<'_>, ec2: &Client, filter: Filter) -> Result<Vec<Resource>, CloudError> {
    let found = ec2.describe_launch_templates().filters(filter);
    let found = asked
        .listed(found.into_paginator().items().send(), OURS_MAX)
        .await?;
    let resource = |one: LaunchTemplate| {
        let tags = read(one.tags());
        resource(ResourceKind::LaunchTemplate, tags, one.launch_template_id)
    };
    Ok(found.into_iter().map(resource).collect())
}

async fn instances(asked: Asked<'_>, ec2: &Client, filter: Filter) -> Result<Vec<Resource>, CloudError> {
    let found = ec2.describe_instances().filters(filter);
    let found = asked
        .listed(found.into_paginator().items().send(), OURS_MAX)
        .await?;
    // Shown for an hour after their end.
    let is_there = |one: &Instance| state(one) != Some(&InstanceStateName::Terminated);
    let resource = |one: Instance| Resource {
        measure: Measure {
            form: one.instance_type().map(|form| form.as_str().to_owned()),
            stopped: state(&one) == Some(&InstanceStateName::Stopped),
            ..Measure::default()
        },
        ..resource(ResourceKind::Instance, read(one.tags()), one.instance_id)
    };
    let found = found
        .into_iter()
        .flat_map(|reservation| reservation.instances.unwrap_or_default());
    Ok(found.filter(is_there).map(resource).collect())
}

async fn volumes(asked: Asked<'_>, ec2: &Client) -> Result<Vec<Resource>, CloudError> {
    let found = ec2.describe_volumes().filters(ours());
    let found = asked
        .listed(found.into_paginator().items().send(), OURS_MAX)
        .await?;
    let resource = |one: Volume| Resource {
        measure: Measure {
            gib: count(one.size),
            form: one.volume_type().map(|form| form.as_str().to_owned()),
            iops: count(one.iops),
            throughput: count(one.throughput),
            stopped: false,
        },
        ..resource(ResourceKind::Volume, read(one.tags()), one.volume_id)
    };
    Ok(found.into_iter().map(resource).collect())
}

fn resource(kind: ResourceKind, tags: Tags, id: Option<String>) -> Resource {
    Resource {
        kind,
        id: id.unwrap_or_default(),
        tags,
        measure: Measure::default(),
    }
}

fn state(instance: &Instance) -> Option<&InstanceStateName> {
    instance.state().and_then(|state| state.name())
}

fn count(number: Option<i32>) -> Option<u32> {
    number.and_then(|number| u32::try_from(number).ok())
}
