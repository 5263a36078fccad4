//! Orders about waves: what is in them, and what people agree on. [`run`] launches them.

use domain::{
    digest::Digest,
    ids::{AccountId, ApplicationId, WaveId},
    wave::{NotAgreed, Plan, Signature, Stage, Window},
};
use sea_orm::{ActiveValue::Set, ConnectionTrait};

use super::{
    ActionError, Order,
    naming::{Naming, Renaming},
};
use crate::{
    Hub,
    auth::Actor,
    clock::now_ms,
    entities::{Doc, Word, user::UserRole, wave},
    store::{
        Reader, StoreError, Write,
        waves::{ApplicationFilter, WaveFilter},
    },
};

pub mod run;

/// MGN's quota L-CBE9E36A.
const APPLICATIONS_MAX: usize = 1000;
const TICKET_MAX: usize = 200;

/// Makes a wave of one account's applications, or of those of every account.
pub async fn create(
    hub: &Hub,
    actor: &Actor,
    account: Option<&AccountId>,
    naming: Naming,
) -> Result<WaveId, ActionError> {
    let id = WaveId::from_entropy(rand::random());
    let order = Order::new(actor, "create a wave", &id);
    naming.check()?;
    let (mut tx, account) = match account {
        Some(account) => {
            let (tx, account) = order.begin_in(hub, account, UserRole::Operator).await?;
            (tx, Some(account.id))
        }
        None => (order.begin_everywhere(hub, UserRole::Operator).await?, None),
    };
    unused_name(
        &tx,
        account.as_ref().map(|account| &account.0),
        &naming.name,
        None,
    )
    .await?;
    let now = now_ms();
    let detail = format!("“{}”", naming.name);
    tx.wave_insert(wave::Model {
        id: Word(id.clone()),
        account,
        name: naming.name,
        description: naming.description,
        tags: Doc(naming.tags),
        archived: false,
        plan: Doc(Plan::default()),
        run: Doc(None),
        run_state: String::new(),
        created_by: actor.name.clone(),
        created_at: now,
        modified_at: now,
    })
    .await?;
    order.done_so(tx, &detail).await?;
    Ok(id)
}

pub async fn update(hub: &Hub, actor: &Actor, id: &WaveId, to: Renaming) -> Result<(), ActionError> {
    let order = Order::new(actor, "update a wave", id);
    to.check()?;
    let (mut tx, row) = begin(hub, &order, id, UserRole::Operator).await?;
    if let Some(name) = &to.name {
        unused_name(
            &tx,
            row.account.as_ref().map(|account| &account.0),
            name,
            Some(id),
        )
        .await?;
    }
    tx.wave_update(id, |row| {
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

/// Hides it, or shows it again.
pub async fn archive(hub: &Hub, actor: &Actor, id: &WaveId, archived: bool) -> Result<(), ActionError> {
    let action = if archived {
        "archive a wave"
    } else {
        "unarchive a wave"
    };
    let order = Order::new(actor, action, id);
    let (mut tx, row) = begin(hub, &order, id, UserRole::Operator).await?;
    if archived && run::is_under_way(&row) {
        drop(tx);
        return order.refuse(hub, run::under_way(&row)).await;
    }
    tx.wave_update(id, |row| row.archived = Set(archived)).await?;
    order.done(tx).await
}

pub async fn delete(hub: &Hub, actor: &Actor, id: &WaveId) -> Result<(), ActionError> {
    let order = Order::new(actor, "delete a wave", id);
    let (mut tx, row) = begin(hub, &order, id, UserRole::Operator).await?;
    let applications = applications_of(&tx, id).await?;
    if applications > 0 {
        drop(tx);
        let why = format!(
            "wave “{}” has {applications} applications; take them out first",
            row.name
        );
        return order.refuse(hub, ActionError::Conflict(why)).await;
    }
    tx.wave_delete(id).await?;
    order.done_so(tx, &format!("“{}”", row.name)).await
}

/// Puts applications into a wave. One that is in another has to leave it first.
pub async fn associate(
    hub: &Hub,
    actor: &Actor,
    id: &WaveId,
    applications: &[ApplicationId],
) -> Result<(), ActionError> {
    let order = Order::new(actor, "add applications to a wave", id);
    let (mut tx, row) = begin(hub, &order, id, UserRole::Operator).await?;
    if let Err(why) = admit(&mut tx, &row, applications).await {
        drop(tx);
        return match why {
            failure @ (ActionError::Store(_) | ActionError::Identity(_)) => Err(failure),
            refusal => order.refuse(hub, refusal).await,
        };
    }
    tx.wave_update(id, |_| {}).await?;
    order.done_so(tx, &names(applications)).await
}

async fn admit(
    tx: &mut Write,
    wave: &wave::Model,
    applications: &[ApplicationId],
) -> Result<(), ActionError> {
    let conflict = |why: String| Err(ActionError::Conflict(why));
    if wave.archived {
        return conflict(format!("wave “{}” is archived; unarchive it first", wave.name));
    }
    if run::is_under_way(wave) {
        return Err(run::under_way(wave));
    }
    if applications_of(tx, &wave.id).await? + applications.len() > APPLICATIONS_MAX {
        return conflict(format!(
            "a wave has at most {APPLICATIONS_MAX} applications; make another one"
        ));
    }
    for application in applications {
        let application = tx.application(application).await?;
        if let Some(own) = wave.account.as_ref().filter(|own| **own != application.account) {
            return conflict(format!(
                "application “{}” is of account {}, and wave “{}” of account {own} alone",
                application.name, application.account, wave.name
            ));
        }
        match &application.wave {
            Some(other) if *other != wave.id => {
                return conflict(format!(
                    "application “{}” is in wave {other}; take it out there first",
                    application.name
                ));
            }
            _ => {
                tx.application_update(&application.id, |row| row.wave = Set(Some(wave.id.clone())))
                    .await?;
            }
        }
    }
    Ok(())
}

pub async fn disassociate(
    hub: &Hub,
    actor: &Actor,
    id: &WaveId,
    applications: &[ApplicationId],
) -> Result<(), ActionError> {
    let order = Order::new(actor, "take applications out of a wave", id);
    let (mut tx, row) = begin(hub, &order, id, UserRole::Operator).await?;
    if run::is_under_way(&row) {
        drop(tx);
        return order.refuse(hub, run::under_way(&row)).await;
    }
    for application in applications {
        let application = tx.application(application).await?;
        if application.wave.as_ref() != Some(&row.id) {
            drop(tx);
            let why = format!("application “{}” is not in wave “{}”", application.name, row.name);
            return order.refuse(hub, ActionError::Conflict(why)).await;
        }
        tx.application_update(&application.id, |row| row.wave = Set(None))
            .await?;
    }
    tx.wave_update(id, |_| {}).await?;
    order.done_so(tx, &names(applications)).await
}

/// Says when the cutover may begin, and by which ticket it is tracked. An approval of something else ends by it.
pub async fn plan(
    hub: &Hub,
    actor: &Actor,
    id: &WaveId,
    window: Option<Window>,
    ticket: &str,
) -> Result<(), ActionError> {
    let order = Order::new(actor, "plan a wave", id);
    if window.is_some_and(|window| window.from >= window.to) {
        return Err(ActionError::Invalid("a window ends after it begins".into()));
    }
    let ticket = ticket.trim();
    if ticket.chars().count() > TICKET_MAX || ticket.chars().any(char::is_control) {
        return Err(ActionError::Invalid(format!(
            "a change ticket has at most {TICKET_MAX} characters"
        )));
    }
    let (mut tx, row) = begin(hub, &order, id, UserRole::Operator).await?;
    let mut plan = row.plan.0;
    plan.window = window;
    ticket.clone_into(&mut plan.ticket);
    tx.wave_update(id, |row| row.plan = Set(Doc(plan))).await?;
    order
        .done_so(tx, &format!("window {window:?}, ticket {ticket:?}"))
        .await
}

/// Asks somebody else to approve the plan as it is now.
pub async fn submit(hub: &Hub, actor: &Actor, id: &WaveId) -> Result<(), ActionError> {
    let order = Order::new(actor, "ask for approval of a wave", id);
    sign(hub, order, id, UserRole::Operator, Plan::submit).await
}

/// Agrees to the plan that was submitted.
pub async fn approve(hub: &Hub, actor: &Actor, id: &WaveId) -> Result<(), ActionError> {
    let order = Order::new(actor, "approve a wave", id);
    let agree = |plan: &mut Plan, signature, _| plan.approve(signature);
    sign(hub, order, id, UserRole::Approver, agree).await
}

async fn sign(
    hub: &Hub,
    order: Order<'_>,
    id: &WaveId,
    needed: UserRole,
    agree: impl FnOnce(&mut Plan, Signature, usize) -> Result<(), NotAgreed>,
) -> Result<(), ActionError> {
    let (mut tx, row) = begin(hub, &order, id, needed).await?;
    let mut plan = row.plan.0;
    let (content, servers) = content(&tx, id, &plan).await?;
    let signature = Signature {
        by: order.actor.name.clone(),
        at: now_ms(),
        content,
    };
    if let Err(why) = agree(&mut plan, signature, servers) {
        drop(tx);
        return order.refuse(hub, ActionError::Conflict(why.to_string())).await;
    }
    let detail = format!("ticket {:?}, {servers} servers, content {content}", plan.ticket);
    tx.wave_update(id, |row| row.plan = Set(Doc(plan))).await?;
    order.done_so(tx, &detail).await
}

/// Takes back what was submitted or approved.
pub async fn withdraw(hub: &Hub, actor: &Actor, id: &WaveId) -> Result<(), ActionError> {
    let order = Order::new(actor, "withdraw the plan of a wave", id);
    let (mut tx, row) = begin(hub, &order, id, UserRole::Operator).await?;
    let mut plan = row.plan.0;
    plan.withdraw();
    tx.wave_update(id, |row| row.plan = Set(Doc(plan))).await?;
    order.done(tx).await
}

/// What is to be agreed on, and of how many servers.
async fn content<C: ConnectionTrait>(
    store: &Reader<C>,
    id: &WaveId,
    plan: &Plan,
) -> Result<(Digest, usize), StoreError> {
    let servers = store.server_ids_of_wave(id).await?;
    Ok((plan.content(&servers), servers.len()))
}

/// How far people have come with agreeing: on the whole wave, whatever of it the reader sees.
pub async fn stage(hub: &Hub, wave: &wave::Model) -> Result<Stage, StoreError> {
    stage_in(&hub.store, wave).await
}

async fn stage_in<C: ConnectionTrait>(store: &Reader<C>, wave: &wave::Model) -> Result<Stage, StoreError> {
    if wave.plan.submitted.is_none() {
        return Ok(Stage::Draft);
    }
    let (content, _) = content(store, &wave.id, &wave.plan).await?;
    Ok(wave.plan.stage(&content))
}

/// What somebody may do with a wave: what they may in its account, or everywhere.
pub async fn role_for<C: ConnectionTrait>(
    store: &Reader<C>,
    actor: &Actor,
    wave: &wave::Model,
) -> Result<Option<UserRole>, StoreError> {
    Ok(match &wave.account {
        Some(account) => actor.role_in(&store.account(account).await?),
        None => actor.role_everywhere(),
    })
}

async fn begin(
    hub: &Hub,
    order: &Order<'_>,
    id: &WaveId,
    needed: UserRole,
) -> Result<(Write, wave::Model), ActionError> {
    let tx = hub.store.begin_as(order.actor).await?;
    let row = match tx.wave(id).await {
        Ok(row) => row,
        Err(error) => return order.not_found(hub, tx, error).await,
    };
    // Somebody with a part of a wave sees that it is there, and perhaps not the account that it is of.
    let held = match role_for(&tx, order.actor, &row).await {
        Err(StoreError::NotFound { .. }) => None,
        held => held?,
    };
    let place = match &row.account {
        Some(account) => format!("in account {account}"),
        None => "everywhere".to_owned(),
    };
    Ok((order.require(hub, tx, held, &place, needed).await?, row))
}

async fn applications_of(tx: &Write, id: &WaveId) -> Result<usize, StoreError> {
    let filter = ApplicationFilter {
        waves: vec![id.clone()],
        ..ApplicationFilter::default()
    };
    Ok(tx.application_list(&filter).await?.len())
}

fn names(applications: &[ApplicationId]) -> String {
    let names: Vec<_> = applications.iter().map(ApplicationId::as_str).collect();
    names.join(" ")
}

async fn unused_name(
    tx: &Write,
    account: Option<&AccountId>,
    name: &str,
    but: Option<&WaveId>,
) -> Result<(), ActionError> {
    let waves = tx.wave_list(&WaveFilter::default()).await?;
    let same = |row: &wave::Model| {
        row.name == name && row.account.as_ref().map(|own| &own.0) == account && but != Some(&row.id.0)
    };
    if waves.iter().any(same) {
        return Err(ActionError::Conflict(format!("there is a wave “{name}” already")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
