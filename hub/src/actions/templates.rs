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
    store::Write,
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
    let mut tx = begin(hub, &order, scope).await?;
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

/// Whoever administers all of a scope decides what its servers take over.
async fn begin(hub: &Hub, order: &Order<'_>, scope: &Scope) -> Result<Write, ActionError> {
    if let Scope::Account(account) = scope {
        return Ok(order.begin_in(hub, account, UserRole::Administrator).await?.0);
    }
    let tx = hub.store.begin_as(order.actor).await?;
    if let Scope::Organization(id) | Scope::Unit(id, _) = scope
        && let Err(error) = tx.organization(id).await
    {
        return order.not_found(hub, tx, error).await;
    }
    let held = order.actor.role_over(scope);
    order
        .require(hub, tx, held, &format!("for {scope}"), UserRole::Administrator)
        .await
}

/// Gives a server what the templates of its account say now.
pub async fn apply(hub: &Hub, actor: &Actor, server: &SourceServerId) -> Result<(), ActionError> {
    let order = Order::new(actor, "apply the templates", server);
    let (mut tx, row) = replication::open(hub, &order, server).await?;
    let inherited = tx.templates().await?.of(&tx.account(&row.account).await?);
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
