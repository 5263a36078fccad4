//! Orders that move the life cycle without a job, and settings of one server.

use domain::{
    ids::SourceServerId,
    launch::{LaunchConfiguration, LaunchDisposition, RehearsalSettings},
    lifecycle::Event,
};
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
    let mut tx = order.begin(hub, needed).await?;
    if let Some(job) = tx.server(server).await?.running_job {
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

/// What to change of a server's launch settings; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct LaunchConfigurationChange {
    pub instance_type: Option<String>,
    pub test_subnet: Option<String>,
    pub target_subnet: Option<String>,
    pub disposition: Option<LaunchDisposition>,
    pub boot_mode: Option<domain::launch::BootMode>,
    pub copy_private_ip: Option<bool>,
    pub copy_tags: Option<bool>,
    pub tags: Option<std::collections::BTreeMap<String, String>>,
    pub convert: Option<bool>,
    pub rehearsal: Option<Option<RehearsalSettings>>,
}

impl LaunchConfigurationChange {
    fn apply(self, to: &mut LaunchConfiguration) {
        fn set<T>(slot: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *slot = value;
            }
        }
        set(&mut to.instance_type, self.instance_type);
        set(&mut to.test_subnet, self.test_subnet);
        set(&mut to.target_subnet, self.target_subnet);
        set(&mut to.disposition, self.disposition);
        set(&mut to.boot_mode, self.boot_mode);
        set(&mut to.copy_private_ip, self.copy_private_ip);
        set(&mut to.copy_tags, self.copy_tags);
        set(&mut to.tags, self.tags);
        set(&mut to.convert, self.convert);
        set(&mut to.rehearsal, self.rehearsal);
    }
}

/// Changes the launch settings; a job that runs already keeps those that it began with.
pub async fn update_launch_configuration(
    hub: &Hub,
    actor: &Actor,
    server: &SourceServerId,
    change: LaunchConfigurationChange,
) -> Result<LaunchConfiguration, ActionError> {
    let order = Order::new(actor, "update the launch configuration", server);
    let mut tx = order.begin(hub, UserRole::Operator).await?;
    let row = tx.server(server).await?;
    let mut configuration = row.launch_configuration.0.clone();
    change.apply(&mut configuration);
    let texts = [
        &configuration.instance_type,
        &configuration.test_subnet,
        &configuration.target_subnet,
    ];
    if texts.iter().any(|text| text.is_empty() || text.len() > 255) {
        let invalid = "an instance type and a subnet have 1 to 255 characters";
        return Err(ActionError::Invalid(invalid.into()));
    }
    if configuration.tags.len() > 50 {
        return Err(ActionError::Invalid("an instance has at most 50 tags".into()));
    }
    if let Some(rehearsal) = &configuration.rehearsal {
        rehearsal
            .check()
            .map_err(|wrong| ActionError::Invalid(wrong.into()))?;
    }
    tx.server_update(&row, |row| {
        row.launch_configuration = Set(Doc(configuration.clone()));
    })
    .await?;
    order.done(tx).await?;
    Ok(configuration)
}
