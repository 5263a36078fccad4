//! What people may do to a job that is under way: cancel it, or have its next attempt made at once.

use domain::{
    ids::JobId,
    job::{InitiatedBy, JobLogEvent},
};

use super::{ActionError, Order};
use crate::{
    Hub,
    auth::Actor,
    entities::{
        saga::{self, Direction, SagaStatus},
        user::UserRole,
    },
    store::{StoreError, Write, jobs::LogLine},
};

/// What is terminated or removed does not come back.
pub fn is_cancellable(kind: InitiatedBy) -> bool {
    kind.job_type() == "LAUNCH"
}

/// Has what was begun for each server undone, in accounts where the actor may. Returns for how many. Whoever operates
/// may stop a cutover, too, although it takes an approver to start one.
pub async fn cancel(hub: &Hub, actor: &Actor, job: &JobId) -> Result<u64, ActionError> {
    let order = Order::new(actor, "cancel a job", job);
    let mut tx = hub.store.begin_as(actor).await?;
    let kind = match tx.job(job).await {
        Ok(row) => row.initiated_by.0,
        Err(error) => return order.not_found(hub, tx, error).await,
    };
    let cancels = |saga: &saga::Model| {
        is_cancellable(kind) && saga.direction.0 == Direction::Forward && saga.cancelled_by.is_none()
    };
    let none = if is_cancellable(kind) {
        "nothing of the job can be cancelled any more"
    } else {
        "only launches can be cancelled: what is terminated or removed does not come back"
    };
    let sagas = match within_reach(&tx, &order, job, cancels, none).await? {
        Ok(sagas) => sagas,
        Err(refusal) => {
            drop(tx);
            return order.refuse(hub, refusal).await;
        }
    };
    for saga in &sagas {
        tx.saga_cancel(saga, &actor.name).await?;
        let line = LogLine::of_server(JobLogEvent::JobCancel, &saga.server)
            .with_detail(format!("by {}", actor.name));
        tx.job_log(job, line).await?;
    }
    order.done(tx).await?;
    Ok(sagas.len() as u64)
}

/// Makes the next attempt of every step that waits for its turn after a failure. Returns how many there were.
pub async fn hasten(hub: &Hub, actor: &Actor, job: &JobId) -> Result<u64, ActionError> {
    let order = Order::new(actor, "repeat a step at once", job);
    let mut tx = hub.store.begin_as(actor).await?;
    if let Err(error) = tx.job(job).await {
        return order.not_found(hub, tx, error).await;
    }
    let waits = |saga: &saga::Model| saga.attempts > 0;
    let none = "no step of the job waits for another attempt";
    let sagas = match within_reach(&tx, &order, job, waits, none).await? {
        Ok(sagas) => sagas,
        Err(refusal) => {
            drop(tx);
            return order.refuse(hub, refusal).await;
        }
    };
    for saga in &sagas {
        tx.saga_hasten(saga).await?;
    }
    order.done(tx).await?;
    Ok(sagas.len() as u64)
}

/// The job's running sagas that are meant, in accounts where the actor is an operator; `none` says why there are none.
async fn within_reach(
    tx: &Write,
    order: &Order<'_>,
    job: &JobId,
    is_meant: impl Fn(&saga::Model) -> bool,
    none: &str,
) -> Result<Result<Vec<saga::Model>, ActionError>, StoreError> {
    let (mut within, mut forbidden, mut may) = (Vec::new(), None, false);
    for saga in tx.sagas_of_job(job).await? {
        let server = tx.server(&saga.server).await?;
        let held = order.actor.role_in(&tx.account(&server.account).await?);
        if held < Some(UserRole::Operator) {
            let place = format!("in account {}", server.account);
            forbidden = Some(order.forbidden(held, &place, UserRole::Operator));
            continue;
        }
        may = true;
        if saga.status.0 == SagaStatus::Running && is_meant(&saga) {
            within.push(saga);
        }
    }
    Ok(match forbidden {
        Some(refusal) if !may => Err(refusal),
        _ if within.is_empty() => Err(ActionError::Conflict(none.into())),
        _ => Ok(within),
    })
}
