//! Stopping and removing what is ours: nothing is touched before its own tags were read.

use aws_sdk_ec2::{
    Client,
    types::{InstanceStateName, Reservation},
};

use super::{calls::Asked, failure::Failure, tags::read};
use crate::control::{CloudError, Owned, Tags};

pub(super) async fn deregister_image(
    asked: Asked<'_>,
    ec2: &Client,
    image: &Owned,
) -> Result<(), CloudError> {
    let seen = ec2.describe_images().image_ids(&image.id).send().await;
    let seen = seen.map(|seen| seen.images().first().map(|one| read(one.tags())));
    if !is_there(asked, image, seen.map_err(|error| Failure::of(&error)))? {
        return Ok(());
    }
    let removed = ec2.deregister_image().image_id(&image.id).send().await;
    removed_or_gone(asked, removed.map_err(|error| Failure::of(&error)))
}

pub(super) async fn delete_template(
    asked: Asked<'_>,
    ec2: &Client,
    template: &Owned,
) -> Result<(), CloudError> {
    let seen = ec2.describe_launch_templates().launch_template_ids(&template.id);
    let seen = seen.send().await;
    let seen = seen.map(|seen| seen.launch_templates().first().map(|one| read(one.tags())));
    if !is_there(asked, template, seen.map_err(|error| Failure::of(&error)))? {
        return Ok(());
    }
    let removed = ec2.delete_launch_template().launch_template_id(&template.id);
    removed_or_gone(asked, removed.send().await.map_err(|error| Failure::of(&error)))
}

pub(super) async fn stop_instance(
    asked: Asked<'_>,
    ec2: &Client,
    instance: &Owned,
) -> Result<(), CloudError> {
    if !is_there(asked, instance, standing_instance(ec2, &instance.id).await)? {
        return Err(asked.not_found(&instance.id));
    }
    let stopped = ec2.stop_instances().instance_ids(&instance.id).send().await;
    stopped
        .map(drop)
        .map_err(|error| asked.refused(&Failure::of(&error)))
}

pub(super) async fn terminate_instance(
    asked: Asked<'_>,
    ec2: &Client,
    instance: &Owned,
) -> Result<(), CloudError> {
    if !is_there(asked, instance, standing_instance(ec2, &instance.id).await)? {
        return Ok(());
    }
    let ended = ec2.terminate_instances().instance_ids(&instance.id).send().await;
    removed_or_gone(asked, ended.map_err(|error| Failure::of(&error)))
}

/// The tags of an instance that does not end already: one that has ended loses them.
async fn standing_instance(ec2: &Client, id: &str) -> Result<Option<Tags>, Failure> {
    let seen = ec2.describe_instances().instance_ids(id).send().await;
    let seen = seen.map_err(|error| Failure::of(&error))?;
    let instance = seen.reservations().iter().flat_map(Reservation::instances).next();
    let ends = |state: &InstanceStateName| {
        matches!(
            state,
            InstanceStateName::ShuttingDown | InstanceStateName::Terminated
        )
    };
    Ok(instance
        .filter(|one| !one.state().and_then(|state| state.name()).is_some_and(ends))
        .map(|one| read(one.tags())))
}

/// Whether there is something to act on. It is refused if it is not what the ledger takes it for.
fn is_there(
    asked: Asked<'_>,
    owned: &Owned,
    seen: Result<Option<Tags>, Failure>,
) -> Result<bool, CloudError> {
    match tags(asked, seen)? {
        None => Ok(false),
        Some(tags) => match owned.disowned_by(&tags) {
            None => Ok(true),
            Some(why) => Err(asked.rejected(&why)),
        },
    }
}

fn tags(asked: Asked<'_>, seen: Result<Option<Tags>, Failure>) -> Result<Option<Tags>, CloudError> {
    match seen {
        Ok(tags) => Ok(tags),
        Err(Failure::NotFound(_)) => Ok(None),
        Err(failure) => Err(asked.refused(&failure)),
    }
}

fn removed_or_gone<T>(asked: Asked<'_>, removed: Result<T, Failure>) -> Result<(), CloudError> {
    match removed {
        Ok(_) | Err(Failure::NotFound(_)) => Ok(()),
        Err(failure) => Err(asked.refused(&failure)),
    }
}
