//! Making and removing cloud resources so that none is ever lost: the ledger knows of each before the
//! cloud does, and until the cloud knows no more of it.

use std::fmt::Debug;

use cloud::{
    CloudError,
    control::{ClientToken, InstanceState, Owned, Place, ResourceKind},
};

use super::{Context, Progress, StepError};
use crate::{
    clock::now_ms,
    entities::{
        Word,
        ledger::{self, LedgerState},
    },
};

/// What is about to be asked for.
#[derive(Debug)]
pub struct Wish {
    pub token: ClientToken,
    pub step: String,
    pub kind: ResourceKind,
}

impl Wish {
    /// A step's own, under a token of this job.
    pub fn of(cx: &Context, step: impl Debug, kind: ResourceKind) -> Self {
        let step = format!("{step:?}");
        Self {
            token: cx.token(&step),
            step,
            kind,
        }
    }
}

/// Asks for a resource, between two entries in the ledger.
pub async fn make(
    cx: &Context,
    place: &Place,
    wish: Wish,
    ask: impl Future<Output = Result<String, CloudError>> + Send,
) -> Result<String, StepError> {
    let Wish { token, step, kind } = wish;
    let mut tx = cx.hub.store.begin().await?;
    tx.ledger_want(ledger::Model {
        token: Word(token.clone()),
        account: Word(place.account.clone()),
        region: place.region.clone(),
        kind: Word(kind),
        resource: None,
        state: Word(LedgerState::Wanted),
        server: Word(cx.server.clone()),
        job: Word(cx.job.clone()),
        step,
        wanted_at: now_ms(),
        present_at: None,
        ended_at: None,
    })
    .await?;
    tx.commit().await?;
    let resource = ask.await?;
    let mut tx = cx.hub.store.begin().await?;
    tx.ledger_present(&token, &resource).await?;
    tx.commit().await?;
    Ok(resource)
}

/// Removes what `step` of this job made, or may have made.
pub async fn unmake(cx: &Context, step: impl Debug + Send) -> Result<Progress, StepError> {
    unmake_wish(cx, &cx.token(&format!("{step:?}"))).await
}

/// Removes what this job made, or may have made, under a token.
pub async fn unmake_wish(cx: &Context, token: &ClientToken) -> Result<Progress, StepError> {
    match cx.hub.store.ledger(token).await? {
        Some(entry) if entry.job.0 == cx.job => remove(cx, &entry).await,
        Some(_) | None => Ok(Progress::Done),
    }
}

/// Removes what an entry of the ledger stands for, and closes the entry.
pub async fn remove(cx: &Context, entry: &ledger::Model) -> Result<Progress, StepError> {
    if !matches!(entry.state.0, LedgerState::Wanted | LedgerState::Present) {
        return Ok(Progress::Done);
    }
    let place = Place {
        region: entry.region.clone(),
        ..cx.hub.store.place(&entry.account, cx.errand().await?).await?
    };
    let resource = match &entry.resource {
        Some(resource) => Some(resource.clone()),
        None => cx
            .hub
            .cloud
            .find_by_token(&place, &entry.token)
            .await?
            .map(|found| found.id),
    };
    let Some(resource) = resource else {
        // The answer to the request may have been lost, and what it made may show only later.
        let settle = i64::try_from(cx.hub.settings.settle.as_millis()).unwrap_or(i64::MAX);
        if now_ms() - entry.wanted_at < settle {
            return Ok(Progress::Wait(format!(
                "waiting whether the {} that was asked for appears",
                entry.kind.name()
            )));
        }
        return close(cx, entry).await;
    };
    let owned = Owned {
        id: resource,
        server: entry.server.0.clone(),
        token: entry.token.0.clone(),
    };
    let remains = |error: CloudError| match StepError::from(error) {
        StepError::Permanent(why) => StepError::Permanent(format!(
            "{} {} in account {}: {why}",
            entry.kind.name(),
            owned.id,
            place.account
        )),
        transient @ StepError::Transient(_) => transient,
    };
    match entry.kind.0 {
        ResourceKind::Image => match cx.hub.cloud.deregister_image(&place, &owned).await {
            Ok(()) => close(cx, entry).await,
            Err(error) => Err(remains(error)),
        },
        ResourceKind::Instance => match end_instance(cx, &place, &owned).await.map_err(remains)? {
            Progress::Done => close(cx, entry).await,
            wait @ Progress::Wait(_) => Ok(wait),
        },
        ResourceKind::LaunchTemplate => match cx.hub.cloud.delete_template(&place, &owned).await {
            Ok(()) => close(cx, entry).await,
            Err(error) => Err(remains(error)),
        },
        // Snapshots belong to the runner, and volumes go with their instance.
        ResourceKind::Snapshot | ResourceKind::Volume => Ok(Progress::Done),
    }
}

async fn close(cx: &Context, entry: &ledger::Model) -> Result<Progress, StepError> {
    let mut tx = cx.hub.store.begin().await?;
    tx.ledger_end(&entry.token, LedgerState::Gone).await?;
    tx.commit().await?;
    Ok(Progress::Done)
}

/// Terminates an instance that the ledger has under whatever token, and no other.
pub async fn terminate(cx: &Context, instance: &str) -> Result<Progress, StepError> {
    let entries = cx.hub.store.ledger_of_server(&cx.server).await?;
    let entry = entries
        .iter()
        .find(|entry| entry.resource.as_deref() == Some(instance));
    match entry {
        Some(entry) => remove(cx, entry).await,
        None => Err(StepError::Permanent(format!(
            "instance {instance} is left alone: it is not in the ledger; look whose it is, and terminate it in the \
             account if nobody needs it"
        ))),
    }
}

/// Done once the instance is gone, not only on its way.
async fn end_instance(cx: &Context, place: &Place, instance: &Owned) -> Result<Progress, CloudError> {
    cx.hub.cloud.terminate_instance(place, instance).await?;
    let id = &instance.id;
    match cx.hub.cloud.instance(place, id).await {
        Ok(seen) if seen.state != InstanceState::Terminated => Ok(Progress::Wait(format!(
            "waiting until instance {id} is terminated"
        ))),
        Ok(_) | Err(CloudError::NotFound { .. }) => Ok(Progress::Done),
        Err(error) => Err(error),
    }
}
