//! Orders that move the life cycle without a job, and settings of one server.

use domain::{ids::SourceServerId, launch::LaunchConfiguration, lifecycle::Event};
use sea_orm::ActiveValue::Set;

use super::{ActionError, Order};
use crate::{
    Hub,
    auth::Actor,
    entities::{Doc, user::UserRole},
    store::StoreError,
};

pub async fn mark_ready_for_cutover(
    hub: &Hub,
    actor: &Actor,
    server: &SourceServerId,
) -> Result<(), ActionError> {
    transition(
        hub,
        actor,
        server,
        "mark as ready for cutover",
        UserRole::Operator,
        Event::MarkedReadyForCutover,
    )
    .await
}

pub async fn revert_to_ready_for_test(
    hub: &Hub,
    actor: &Actor,
    server: &SourceServerId,
) -> Result<(), ActionError> {
    transition(
        hub,
        actor,
        server,
        "revert to ready for testing",
        UserRole::Operator,
        Event::RevertedToReadyForTest,
    )
    .await
}

pub async fn revert_to_ready_for_cutover(
    hub: &Hub,
    actor: &Actor,
    server: &SourceServerId,
) -> Result<(), ActionError> {
    transition(
        hub,
        actor,
        server,
        "revert to ready for cutover",
        UserRole::Approver,
        Event::RevertedToReadyForCutover,
    )
    .await
}

pub async fn archive(hub: &Hub, actor: &Actor, server: &SourceServerId) -> Result<(), ActionError> {
    transition(
        hub,
        actor,
        server,
        "mark as archived",
        UserRole::Operator,
        Event::Archived,
    )
    .await
}

async fn transition(
    hub: &Hub,
    actor: &Actor,
    server: &SourceServerId,
    action: &'static str,
    needed: UserRole,
    event: Event,
) -> Result<(), ActionError> {
    let order = Order::new(actor, action, server);
    let (mut tx, row) = order.begin_for(hub, server, needed).await?;
    if let Some(job) = row.running_job {
        drop(tx);
        let reason = format!("job {job} works on it; wait until it ends");
        return order.refuse(hub, ActionError::refused(server, reason)).await;
    }
    match tx.server_on(server, event).await {
        Ok(_) => order.done(tx).await,
        Err(StoreError::Illegal(illegal)) => {
            drop(tx);
            order
                .refuse(hub, ActionError::refused(server, illegal.to_string()))
                .await
        }
        Err(error) => Err(error.into()),
    }
}

/// Changes the launch settings; a job that runs already keeps those that it began with.
pub async fn update_launch_configuration(
    hub: &Hub,
    actor: &Actor,
    server: &SourceServerId,
    change: impl FnOnce(&mut LaunchConfiguration) + Send,
) -> Result<LaunchConfiguration, ActionError> {
    let order = Order::new(actor, "update the launch configuration", server);
    let (mut tx, row) = order.begin_for(hub, server, UserRole::Operator).await?;
    let mut configuration = row.launch_configuration.0.clone();
    change(&mut configuration);
    configuration.check().map_err(ActionError::Invalid)?;
    tx.server_update(&row, |row| {
        row.launch_configuration = Set(Doc(configuration.clone()));
    })
    .await?;
    order.done(tx).await?;
    Ok(configuration)
}
