//! What of ours there is in an account, by its tags.

use aws_sdk_ec2::{
    Client,
    types::{Filter, InstanceStateName},
};

use super::{
    calls::Asked,
    failure::Failure,
    tags::{asked_by, ours, read},
};
use crate::control::{CloudError, Resource, ResourceKind, SERVER_TAG};

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
    let known = ec2.describe_snapshots().snapshot_ids(id).send().await;
    let known = match known.map_err(|error| Failure::of(&error)) {
        Ok(known) => known,
        Err(Failure::NotFound(_)) => return Ok(()),
        Err(failure) => return Err(asked.refused(&failure)),
    };
    let Some(snapshot) = known.snapshots().first() else {
        return Ok(());
    };
    if read(snapshot.tags()).get(SERVER_TAG).map(String::as_str) != Some(server) {
        return Err(asked.rejected(&format!(
            "{id} is not deleted: its tags do not say that it is of source server {server}"
        )));
    }
    let deleted = ec2.delete_snapshot().snapshot_id(id).send().await;
    match deleted.map_err(|error| Failure::of(&error)) {
        Ok(_) | Err(Failure::NotFound(_)) => Ok(()),
        Err(failure) => Err(asked.refused(&failure)),
    }
}

async fn snapshots(asked: Asked<'_>, ec2: &Client) -> Result<Vec<Resource>, CloudError> {
    let found = ec2.describe_snapshots().owner_ids("self").filters(ours());
    let mut found = found.into_paginator().items().send();
    let mut all = Vec::new();
    while let Some(snapshot) = found.next().await {
        let snapshot = snapshot.map_err(|error| asked.refused(&Failure::of(&error)))?;
        all.push(Resource {
            kind: ResourceKind::Snapshot,
            tags: read(snapshot.tags()),
            id: snapshot.snapshot_id.unwrap_or_default(),
        });
    }
    Ok(all)
}

async fn images(asked: Asked<'_>, ec2: &Client, filter: Filter) -> Result<Vec<Resource>, CloudError> {
    let found = ec2.describe_images().owners("self").filters(filter);
    let mut found = found.into_paginator().items().send();
    let mut all = Vec::new();
    while let Some(image) = found.next().await {
        let image = image.map_err(|error| asked.refused(&Failure::of(&error)))?;
        all.push(Resource {
            kind: ResourceKind::Image,
            tags: read(image.tags()),
            id: image.image_id.unwrap_or_default(),
        });
    }
    Ok(all)
}

async fn templates(asked: Asked<'_>, ec2: &Client, filter: Filter) -> Result<Vec<Resource>, CloudError> {
    let found = ec2.describe_launch_templates().filters(filter);
    let mut found = found.into_paginator().items().send();
    let mut all = Vec::new();
    while let Some(template) = found.next().await {
        let template = template.map_err(|error| asked.refused(&Failure::of(&error)))?;
        all.push(Resource {
            kind: ResourceKind::LaunchTemplate,
            tags: read(template.tags()),
            id: template.launch_template_id.unwrap_or_default(),
        });
    }
    Ok(all)
}

async fn instances(asked: Asked<'_>, ec2: &Client, filter: Filter) -> Result<Vec<Resource>, CloudError> {
    let found = ec2.describe_instances().filters(filter);
    let mut found = found.into_paginator().items().send();
    let mut all = Vec::new();
    while let Some(reservation) = found.next().await {
        let reservation = reservation.map_err(|error| asked.refused(&Failure::of(&error)))?;
        for instance in reservation.instances.unwrap_or_default() {
            // Shown for an hour after their end.
            if instance.state().and_then(|state| state.name()) == Some(&InstanceStateName::Terminated) {
                continue;
            }
            all.push(Resource {
                kind: ResourceKind::Instance,
                tags: read(instance.tags()),
                id: instance.instance_id.unwrap_or_default(),
            });
        }
    }
    Ok(all)
}

async fn volumes(asked: Asked<'_>, ec2: &Client) -> Result<Vec<Resource>, CloudError> {
    let found = ec2.describe_volumes().filters(ours());
    let mut found = found.into_paginator().items().send();
    let mut all = Vec::new();
    while let Some(volume) = found.next().await {
        let volume = volume.map_err(|error| asked.refused(&Failure::of(&error)))?;
        all.push(Resource {
            kind: ResourceKind::Volume,
            tags: read(volume.tags()),
            id: volume.volume_id.unwrap_or_default(),
        });
    }
    Ok(all)
}
