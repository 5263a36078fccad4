//! Templates: what servers take over when they are added, and whenever somebody wants them to.
//!
//! A change of a template changes no server. Who wants that applies it, server by server, after having seen what
//! would change: on the night of a cutover nothing may move by itself.

use domain::{
    ids::SourceServerId, launch::LaunchConfiguration, replication_configuration::ReplicationConfiguration,
    scope::Scope,
};
use sea_orm::ActiveValue::Set;

use super::{ActionError, Order, replication};
use crate::{
    Hub,
    auth::Actor,
    clock::now_ms,
    entities::{Doc, Word, template::Model, user::UserRole},
};

/// One half of a template; `None` takes it away, and what a wider scope says counts again.
#[derive(Debug)]
pub enum Half {
    Launch(Option<Box<LaunchConfiguration>>),
    Replication(Option<ReplicationConfiguration>),
}

pub async fn keep(hub: &Hub, actor: &Actor, scope: &Scope, half: Half) -> Result<(), ActionError> {
    let action = match &half {
        Half::Launch(Some(_)) => "keep a launch template",
        Half::Launch(None) => "remove a launch template",
        Half::Replication(Some(_)) => "keep a replication template",
        Half::Replication(None) => "remove a replication template",
    };
    let order = Order::new(actor, action, scope);
    let mut tx = order.begin_over(hub, scope, UserRole::Administrator).await?;
    match &half {
        Half::Launch(Some(launch)) => launch.check(),
        Half::Replication(Some(replication)) => replication.check(),
        Half::Launch(None) | Half::Replication(None) => Ok(()),
    }
    .map_err(ActionError::Invalid)?;
    let mut row = tx.templates().await?.at(scope).cloned().unwrap_or(Model {
        scope: Word(scope.clone()),
        launch: Doc(None),
        replication: Doc(None),
        changed_by: String::new(),
        changed_at: 0,
    });
    actor.name.clone_into(&mut row.changed_by);
    row.changed_at = now_ms();
    match half {
        Half::Launch(launch) => row.launch = Doc(launch.map(|launch| *launch)),
        Half::Replication(replication) => row.replication = Doc(replication),
    }
    tx.template_keep(row).await?;
    order.done(tx).await
}

/// Gives a server what the templates of its account say now.
pub async fn apply(hub: &Hub, actor: &Actor, server: &SourceServerId) -> Result<(), ActionError> {
    let order = Order::new(actor, "apply the templates", server);
    let (mut tx, row) = replication::open(hub, &order, server).await?;
    let inherited = tx.inherited_by(&row.account).await?;
    let configured = inherited.configure(row.clone());
    if configured == row {
        drop(tx);
        let why = "it is as its templates say already";
        return order.refuse(hub, ActionError::refused(server, why)).await;
    }
    tx.server_update(&row, |update| {
        update.launch_configuration = Set(configured.launch_configuration);
        update.bandwidth = Set(configured.bandwidth);
        update.checkpoint_interval_s = Set(configured.checkpoint_interval_s);
        update.checkpoints_kept = Set(configured.checkpoints_kept);
    })
    .await?;
    tx.runner_of_touch(&row).await?;
    order.done(tx).await
}
