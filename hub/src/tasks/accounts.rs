//! Keeps the list of accounts, and whether they can be reached, up to date.
//!
//! Whatever a call answers is written down: a refusal with its remedy, never an empty list in its place.
//! An account that its organization does not list any more stays, since servers may be in it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cloud::{
    CloudError,
    route::{Errand, Route},
};
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

/// A tree of a thousand accounts is read page by page, and slowly where it is throttled.
const LISTING_TIME: Duration = Duration::from_mins(2);

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
    let organizations = hub.store.organization_list().await?;
    let routes: HashMap<_, _> = organizations
        .into_iter()
        .map(|organization| (organization.id.0, Arc::new(organization.route.0)))
        .collect();
    let accounts = hub.store.account_list().await?;
    let mut checks = stream::iter(accounts)
        .map(|account| {
            let route = routes.get(&account.organization.0).cloned().unwrap_or_default();
            async move {
                let access = check(hub, &account, route).await;
                (account, access)
            }
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
    let listing =
        hub.cloud
            .organization_accounts(&organization.route, &organization.region, organization.reach.0);
    let answer = timeout(LISTING_TIME, listing).await;
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
        Err(_) => {
            let listing = silent(LISTING_TIME);
            tx.organization_listed(&organization.id, listing).await?;
        }
    }
    tx.commit().await
}

async fn check(hub: &Hub, account: &account::Model, route: Arc<Route>) -> Access {
    if account.suspended {
        return Access::Suspended;
    }
    let place = account.place(route, Errand::own("check access"));
    match timeout(CALL_TIME, hub.cloud.check_access(&place)).await {
        Ok(Ok(())) => Access::Ok,
        Ok(Err(error)) => refused("sts:AssumeRole", &error),
        Err(_) => silent(CALL_TIME),
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

fn silent(within: Duration) -> Access {
    Access::Unknown {
        detail: format!("no answer within {} s", within.as_secs()),
    }
}
