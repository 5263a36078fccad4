//! Keeps the reports on the networks of accounts up to date: each of them within the hour, and those that somebody
//! wants to know at once.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cloud::{control::Place, route::Errand};
use domain::account::Access;
use futures_util::TryStreamExt;

use crate::{
    Hub,
    clock::now_ms,
    entities::readiness,
    readiness::{check_all, drift::When, prepare},
    store::StoreError,
};

/// A new account is looked at within this time.
const EVERY: Duration = Duration::from_mins(1);

/// Networks change seldom, and a look at one takes a dozen calls.
const OLD_MS: i64 = 3_600_000;

/// Runs until the hub stops.
pub async fn run(hub: Arc<Hub>) {
    loop {
        if let Err(error) = refresh(&hub).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot refresh the readiness of networks"
            );
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = hub.readiness_wanted.notified() => {}
            () = hub.stopping.cancelled() => return,
        }
    }
}

/// Checks what is wanted, or old.
pub async fn refresh(hub: &Hub) -> Result<(), StoreError> {
    let checks = prepare(&hub.store, due(hub).await?, None, When::InTime).await?;
    check_all(&hub.store, &*hub.cloud, checks)
        .try_for_each(async |_| Ok(()))
        .await
}

async fn due(hub: &Hub) -> Result<Vec<Place>, StoreError> {
    let mut known: HashMap<_, Vec<readiness::Model>> = HashMap::new();
    for row in hub.store.readiness_list().await? {
        known.entry(row.account.0.clone()).or_default().push(row);
    }
    let organizations = hub.store.organization_list().await?;
    let routes: HashMap<_, _> = organizations
        .into_iter()
        .map(|organization| (organization.id.0, Arc::new(organization.route.0)))
        .collect();
    let old = now_ms() - OLD_MS;
    let mut places = Vec::new();
    for account in hub.store.account_list().await? {
        let Some(route) = routes.get(&account.organization.0) else {
            continue;
        };
        let place = account.place(Arc::clone(route), Errand::own("check readiness"));
        let rows = known.remove(&account.id.0).unwrap_or_default();
        // Whoever cannot enter an account is told so already, and what was seen in it before is kept.
        let may_enter = account.access.0 == Access::Ok && !account.suspended;
        if may_enter && !rows.iter().any(|row| row.region == account.region) {
            places.push(place.clone());
        }
        let is_due = |row: &&readiness::Model| {
            let is_old = row.checked_at.is_none_or(|checked| checked < old);
            let report = row.report.0.as_ref();
            let compares = report.is_some_and(|report| report.drift.is_under_way());
            row.wanted || may_enter && (is_old || compares)
        };
        places.extend(rows.iter().filter(is_due).map(|row| Place {
            region: row.region.clone(),
            ..place.clone()
        }));
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use domain::ids::AccountId;

    use super::*;
    use crate::{
        actions::accounts::check_network,
        auth::{Actor, Grant},
        entities::user::UserRole,
        fixtures::{self, MEMBER, TestHub},
        readiness::{Named, Outcome},
    };

    async fn checked(hub: &TestHub) -> Option<i64> {
        let rows = hub.store.readiness_of(&MEMBER.parse().unwrap()).await.unwrap();
        let [row] = &rows[..] else {
            assert!(rows.is_empty());
            return None;
        };
        let outcome = row.report.0.as_ref().map(|report| &report.outcome);
        assert_eq!(
            outcome,
            Some(&Outcome::NothingToCheck),
            "a folder has no networks"
        );
        row.checked_at
    }

    #[tokio::test]
    async fn an_account_is_looked_at_once_it_can_be_entered_and_when_somebody_asks() {
        let hub = fixtures::hub().await;
        fixtures::with_runner(&hub).await;
        let account: AccountId = MEMBER.parse().unwrap();
        refresh(&hub).await.unwrap();
        assert_eq!(
            checked(&hub).await,
            None,
            "nobody knows whether it can be entered"
        );

        let mut tx = hub.store.begin().await.unwrap();
        tx.account_checked(&account, Access::Ok).await.unwrap();
        tx.commit().await.unwrap();
        refresh(&hub).await.unwrap();
        let first = checked(&hub).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        refresh(&hub).await.unwrap();
        assert_eq!(checked(&hub).await, Some(first), "it is not old yet");

        let operator = Actor::new("operator", [Grant::everywhere(UserRole::Operator)]);
        check_network(&hub, &operator, &account).await.unwrap();
        refresh(&hub).await.unwrap();
        let second = checked(&hub).await.unwrap();
        assert!(second > first);
        refresh(&hub).await.unwrap();
        assert_eq!(checked(&hub).await, Some(second), "the wish is fulfilled");
    }

    #[tokio::test]
    async fn what_was_named_is_asked_again() {
        let hub = fixtures::hub().await;
        fixtures::with_runner(&hub).await;
        let place = hub
            .store
            .place(&MEMBER.parse().unwrap(), Errand::own("test"))
            .await
            .unwrap();
        let named = Named {
            sources: vec!["192.168.0.0/16".parse().unwrap()],
            hub: None,
        };
        let checks = prepare(&hub.store, vec![place.clone()], Some(&named), When::InTime)
            .await
            .unwrap();
        check_all(&hub.store, &hub.cloud, checks)
            .try_for_each(async |_| Ok(()))
            .await
            .unwrap();
        let checks = prepare(&hub.store, vec![place], None, When::InTime)
            .await
            .unwrap();
        assert_eq!(checks[0].named, named);
        let [(_, report)] = &check_all(&hub.store, &hub.cloud, checks)
            .try_collect::<Vec<_>>()
            .await
            .unwrap()[..]
        else {
            panic!("one place has one report");
        };
        assert_eq!(report.sources, named.sources);
        assert_eq!(
            report.hub,
            Some("198.51.100.4:8443".parse().unwrap()),
            "where the runner called"
        );
    }
}
