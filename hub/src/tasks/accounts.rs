//! Keeps the list of accounts, and whether they can be reached, up to date.
//!
//! Whatever a call answers is written down: a refusal with its remedy, never an empty list in its place.
//! An account that its organization does not list any more stays, since servers may be in it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cloud::{Cloud, route::Errand};
use domain::{
    account::{Access, Reach},
    ids::AccountId,
};
use futures_util::StreamExt;
use tokio::time::timeout;

use crate::{
    Hub,
    entities::organization,
    fan_out::{access, fan_out},
    store::{Store, StoreError},
};

/// Accounts change seldom; people who add one ask for a refresh at once.
const EVERY: Duration = Duration::from_mins(1);

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
    let organizations = hub.store.organization_list().await?;
    for organization in &organizations {
        if organization.reach.0 != Reach::Roster {
            list(&hub.store, &*hub.cloud, organization).await?;
        }
    }
    let routes: HashMap<_, _> = organizations
        .into_iter()
        .map(|organization| (organization.id.0, Arc::new(organization.route.0)))
        .collect();
    let mut places = Vec::new();
    for account in hub.store.account_list().await? {
        if account.suspended {
            note(hub, &account.id, Access::Suspended).await?;
            continue;
        }
        let route = routes.get(&account.organization.0).cloned().unwrap_or_default();
        places.push(account.place(route, Errand::own("check access")));
    }
    let outcomes = fan_out(
        places,
        |place| async move { hub.cloud.check_access(&place).await },
    );
    let mut outcomes = std::pin::pin!(outcomes);
    while let Some(done) = outcomes.next().await {
        let access = done.outcome.err().unwrap_or(Access::Ok);
        note(hub, &done.place.account, access).await?;
    }
    Ok(())
}

/// Lists the accounts of an organization. What came of it is written down with them.
pub async fn list(
    store: &Store,
    cloud: &dyn Cloud,
    organization: &organization::Model,
) -> Result<(), StoreError> {
    let listing =
        cloud.organization_accounts(&organization.route, &organization.region, organization.reach.0);
    let answer = timeout(LISTING_TIME, listing).await;
    let mut tx = store.begin().await?;
    let listing = match answer {
        Ok(Ok(accounts)) => {
            for listed in accounts {
                tx.account_listed(organization, listed, &organization.region)
                    .await?;
            }
            Access::Ok
        }
        Ok(Err(error)) => access(&error),
        Err(_) => Access::Unknown {
            detail: format!("no answer within {} s", LISTING_TIME.as_secs()),
        },
    };
    tx.organization_listed(&organization.id, listing).await?;
    tx.commit().await
}

async fn note(hub: &Hub, account: &AccountId, access: Access) -> Result<(), StoreError> {
    let mut tx = hub.store.begin().await?;
    tx.account_checked(account, access).await?;
    tx.commit().await
}
