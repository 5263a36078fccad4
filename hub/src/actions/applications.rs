//! Orders about applications: which servers of an account move together.

use domain::ids::{AccountId, ApplicationId, SourceServerId};
use sea_orm::ActiveValue::Set;

use super::{
    ActionError, Order, Refused,
    naming::{Naming, Renaming},
};
use crate::{
    Hub,
    auth::Actor,
    clock::now_ms,
    entities::{Doc, Word, application, user::UserRole},
    store::{StoreError, Write, servers::ServerFilter, waves::ApplicationFilter},
};

/// MGN's quota L-90A3F9F5.
const SERVERS_MAX: usize = 200;

pub async fn create(
    hub: &Hub,
    actor: &Actor,
    account: &AccountId,
    naming: Naming,
) -> Result<ApplicationId, ActionError> {
    let id = ApplicationId::from_entropy(rand::random());
    let order = Order::new(actor, "create an application", &id);
    naming.check()?;
    let (mut tx, account) = order.begin_in(hub, account, UserRole::Operator).await?;
    unused_name(&tx, &account.id, &naming.name, None).await?;
    let now = now_ms();
    let detail = format!("“{}” in account {}", naming.name, account.id);
    tx.application_insert(application::Model {
        id: Word(id.clone()),
        account: account.id,
        name: naming.name,
        description: naming.description,
        tags: Doc(naming.tags),
        archived: false,
        wave: None,
        created_at: now,
        modified_at: now,
    })
    .await?;
    order.done_so(tx, &detail).await?;
    Ok(id)
}

pub async fn update(hub: &Hub, actor: &Actor, id: &ApplicationId, to: Renaming) -> Result<(), ActionError> {
    let order = Order::new(actor, "update an application", id);
    to.check()?;
    let (mut tx, row) = begin(hub, &order, id).await?;
    if let Some(name) = &to.name {
        unused_name(&tx, &row.account, name, Some(id)).await?;
    }
    tx.application_update(id, |row| {
        if let Some(name) = to.name {
            row.name = Set(name);
        }
        if let Some(description) = to.description {
            row.description = Set(description);
        }
    })
    .await?;
    order.done(tx).await
}

/// Hides it, or shows it again. Its servers stay what they are.
pub async fn archive(
    hub: &Hub,
    actor: &Actor,
    id: &ApplicationId,
    archived: bool,
) -> Result<(), ActionError> {
    let action = if archived {
        "archive an application"
    } else {
        "unarchive an application"
    };
    let order = Order::new(actor, action, id);
    let (mut tx, row) = begin(hub, &order, id).await?;
    if archived {
        let filter = ApplicationFilter {
            ids: vec![id.clone()],
            ..ApplicationFilter::default()
        };
        let busy = tx
            .standings(&filter)
            .await?
            .remove(id)
            .map_or(0, |one| one.in_jobs);
        if busy > 0 {
            drop(tx);
            let why = format!("jobs work on {busy} of its servers; wait until they end");
            return order.refuse(hub, ActionError::Conflict(why)).await;
        }
    }
    if row.archived != archived {
        tx.application_update(id, |row| row.archived = Set(archived))
            .await?;
    }
    order.done(tx).await
}

pub async fn delete(hub: &Hub, actor: &Actor, id: &ApplicationId) -> Result<(), ActionError> {
    let order = Order::new(actor, "delete an application", id);
    let (mut tx, row) = begin(hub, &order, id).await?;
    let servers = servers_of(&tx, id).await?;
    if servers > 0 {
        drop(tx);
        let why = format!(
            "application “{}” has {servers} servers; take them out first",
            row.name
        );
        return order.refuse(hub, ActionError::Conflict(why)).await;
    }
    tx.application_delete(id).await?;
    order.done_so(tx, &format!("“{}”", row.name)).await
}

/// Puts servers of its account into an application. One that is in another has to leave it first.
pub async fn associate(
    hub: &Hub,
    actor: &Actor,
    id: &ApplicationId,
    servers: &[SourceServerId],
) -> Result<(), ActionError> {
    let order = Order::new(actor, "add servers to an application", id);
    let (mut tx, row) = begin(hub, &order, id).await?;
    let mut refused = Vec::new();
    if row.archived {
        drop(tx);
        let why = format!("application “{}” is archived; unarchive it first", row.name);
        return order.refuse(hub, ActionError::Conflict(why)).await;
    }
    if servers_of(&tx, id).await? + servers.len() > SERVERS_MAX {
        drop(tx);
        let why = format!("an application has at most {SERVERS_MAX} servers; make another one");
        return order.refuse(hub, ActionError::Conflict(why)).await;
    }
    for server in servers {
        match unassociated(&tx, &row, server).await? {
            Ok(true) => {
                let server = tx.server(server).await?;
                tx.server_update(&server, |server| server.application = Set(Some(row.id.clone())))
                    .await?;
            }
            Ok(false) => {}
            Err(reason) => refused.push(Refused {
                server: server.clone(),
                reason,
            }),
        }
    }
    finish(hub, order, tx, id, servers, refused).await
}

pub async fn disassociate(
    hub: &Hub,
    actor: &Actor,
    id: &ApplicationId,
    servers: &[SourceServerId],
) -> Result<(), ActionError> {
    let order = Order::new(actor, "take servers out of an application", id);
    let (mut tx, row) = begin(hub, &order, id).await?;
    let mut refused = Vec::new();
    for server in servers {
        match tx.server(server).await {
            Ok(found) if found.application.as_ref() == Some(&row.id) => {
                tx.server_update(&found, |server| server.application = Set(None))
                    .await?;
            }
            Ok(_) => refused.push(Refused {
                server: server.clone(),
                reason: format!("it is not in application “{}”", row.name),
            }),
            Err(StoreError::NotFound { what }) => refused.push(Refused {
                server: server.clone(),
                reason: format!("{what} does not exist"),
            }),
            Err(error) => return Err(error.into()),
        }
    }
    finish(hub, order, tx, id, servers, refused).await
}

/// All of it or nothing.
async fn finish(
    hub: &Hub,
    order: Order<'_>,
    mut tx: Write,
    id: &ApplicationId,
    servers: &[SourceServerId],
    refused: Vec<Refused>,
) -> Result<(), ActionError> {
    if !refused.is_empty() {
        drop(tx);
        return order.refuse(hub, ActionError::Refused(refused)).await;
    }
    tx.application_update(id, |_| {}).await?;
    let names: Vec<_> = servers.iter().map(SourceServerId::as_str).collect();
    order.done_so(tx, &names.join(" ")).await
}

/// Whether the server is still to be put into the application; or why it cannot be.
async fn unassociated(
    tx: &Write,
    application: &application::Model,
    server: &SourceServerId,
) -> Result<Result<bool, String>, StoreError> {
    let server = match tx.server(server).await {
        Ok(server) => server,
        Err(StoreError::NotFound { what }) => return Ok(Err(format!("{what} does not exist"))),
        Err(error) => return Err(error),
    };
    if server.account != application.account {
        return Ok(Err(format!(
            "it is of account {}, and the application of account {}",
            server.account, application.account
        )));
    }
    Ok(match &server.application {
        None => Ok(true),
        Some(own) if *own == application.id => Ok(false),
        Some(other) => Err(format!("it is in application {other}; take it out there first")),
    })
}

async fn begin(
    hub: &Hub,
    order: &Order<'_>,
    id: &ApplicationId,
) -> Result<(Write, application::Model), ActionError> {
    let tx = hub.store.begin_as(order.actor).await?;
    let row = match tx.application(id).await {
        Ok(row) => row,
        Err(error) => return order.not_found(hub, tx, error).await,
    };
    let held = order.actor.role_in(&tx.account(&row.account).await?);
    let place = format!("in account {}", row.account);
    Ok((
        order.require(hub, tx, held, &place, UserRole::Operator).await?,
        row,
    ))
}

async fn servers_of(tx: &Write, id: &ApplicationId) -> Result<usize, StoreError> {
    let filter = ServerFilter {
        applications: vec![id.clone()],
        ..ServerFilter::default()
    };
    Ok(tx.server_list(&filter).await?.len())
}

async fn unused_name(
    tx: &Write,
    account: &AccountId,
    name: &str,
    but: Option<&ApplicationId>,
) -> Result<(), ActionError> {
    let filter = ApplicationFilter {
        accounts: vec![account.clone()],
        ..ApplicationFilter::default()
    };
    let same = |row: &application::Model| row.name == name && but != Some(&row.id.0);
    if tx.application_list(&filter).await?.iter().any(same) {
        return Err(ActionError::Conflict(format!(
            "account {account} has an application “{name}” already"
        )));
    }
    Ok(())
}
