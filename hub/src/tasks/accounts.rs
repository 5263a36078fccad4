//! Keeps the list of accounts, and whether they can be reached, up to date.
//!
//! Whatever a call answers is written down: a refusal with its remedy, never an empty list in its place.
//! An account that its organization does not list any more stays, since servers may be in it.

use std::{sync::Arc, time::Duration};

use cloud::CloudError;
use domain::account::{Access, Reach};
use futures_util::{StreamExt, stream};
use tokio::time::timeout;

use crate::{
    Hub,
    entities::{account, organization},
    store::StoreError,
};

/// Accounts change seldom; people who add one ask for a refresh at once.
const EVERY: Duration = Duration::from_mins(1);

/// Calls into different accounts at one time.
const FAN_OUT: usize = 16;

/// One call's time; an account that is silent must not hold up the others for long.
const CALL_TIME: Duration = Duration::from_secs(20);

/// Runs until the hub stops.
pub async fn run(hub: Arc<Hub>) {
    loop {
        if let Err(error) = refresh(&hub).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot refresh the accounts"
            );
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = hub.accounts_changed.notified() => {}
            () = hub.stopping.cancelled() => return,
        }
    }
}

/// Lists the accounts of every organization, and then tries to reach each one.
pub async fn refresh(hub: &Hub) -> Result<(), StoreError> {
    for organization in hub.store.organization_list().await? {
        if organization.reach.0 != Reach::Roster {
            list(hub, &organization).await?;
        }
    }
    let accounts = hub.store.account_list().await?;
    let mut checks = stream::iter(accounts)
        .map(|account| async move {
            let access = check(hub, &account).await;
            (account, access)
        })
        .buffer_unordered(FAN_OUT);
    while let Some((account, access)) = checks.next().await {
        let mut tx = hub.store.begin().await?;
        tx.account_checked(&account.id, access).await?;
        tx.commit().await?;
    }
    Ok(())
}

async fn list(hub: &Hub, organization: &organization::Model) -> Result<(), StoreError> {
    let answer = timeout(CALL_TIME, hub.cloud.organization_accounts(organization.reach.0)).await;
    let mut tx = hub.store.begin().await?;
    match answer {
        Ok(Ok(accounts)) => {
            for listed in accounts {
                tx.account_listed(organization, listed, &organization.region)
                    .await?;
            }
            tx.organization_listed(&organization.id, Access::Ok).await?;
        }
        Ok(Err(error)) => {
            let listing = refused("organizations:ListAccounts", &error);
            tx.organization_listed(&organization.id, listing).await?;
        }
        Err(_) => tx.organization_listed(&organization.id, silent()).await?,
    }
    tx.commit().await
}

async fn check(hub: &Hub, account: &account::Model) -> Access {
    if account.suspended {
        return Access::Suspended;
    }
    match timeout(CALL_TIME, hub.cloud.check_access(&account.place())).await {
        Ok(Ok(())) => Access::Ok,
        Ok(Err(error)) => refused("sts:AssumeRole", &error),
        Err(_) => silent(),
    }
}

fn refused(otherwise: &str, error: &CloudError) -> Access {
    match error {
        CloudError::Denied { call, remedy, .. } => Access::Denied {
            call: (*call).to_owned(),
            remedy: remedy.clone(),
        },
        CloudError::Rejected { reason, .. } => Access::Denied {
            call: otherwise.to_owned(),
            remedy: reason.clone(),
        },
        CloudError::Throttled { .. } => Access::Throttled,
        CloudError::NotFound { .. } | CloudError::Unknown { .. } => Access::Unknown {
            detail: error.to_string(),
        },
    }
}

fn silent() -> Access {
    Access::Unknown {
        detail: format!("no answer within {} s", CALL_TIME.as_secs()),
    }
}
