//! Keeps what accounts have of ours up to date: each is asked within the hour, and at once when somebody wants to know.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cloud::{control::Place, route::Errand};
use domain::account::Access;
use futures_util::TryStreamExt;

use crate::{Hub, clock::now_ms, entities::inventory, resources::ask_all, store::StoreError};

/// A new account is asked within this time.
const EVERY: Duration = Duration::from_mins(1);

/// One inventory takes a handful of calls, and more where there is much.
const OLD_MS: i64 = 3_600_000;

/// Runs until the hub stops.
pub async fn run(hub: Arc<Hub>) {
    loop {
        if let Err(error) = refresh(&hub).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot ask accounts for their resources"
            );
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = hub.inventory_wanted.notified() => {}
            () = hub.stopping.cancelled() => return,
        }
    }
}

/// Asks where somebody wants to know, or what is known is old.
pub async fn refresh(hub: &Hub) -> Result<(), StoreError> {
    let places = due(hub).await?;
    ask_all(&hub.store, &*hub.cloud, places)
        .try_for_each(async |_| Ok(()))
        .await
}

async fn due(hub: &Hub) -> Result<Vec<Place>, StoreError> {
    let known: HashMap<_, inventory::Model> = hub
        .store
        .inventory_list()
        .await?
        .into_iter()
        .map(|row| ((row.account.0.clone(), row.region.clone()), row))
        .collect();
    let old = now_ms() - OLD_MS;
    let mut places = Vec::new();
    for account in hub.store.account_list().await? {
        let row = known.get(&(account.id.0.clone(), account.region.clone()));
        let may_enter = account.access.0 == Access::Ok && !account.suspended;
        let is_old = row.and_then(|row| row.tried_at).is_none_or(|tried| tried < old);
        if row.is_some_and(|row| row.wanted) || may_enter && is_old {
            places.push(
                hub.store
                    .place(&account.id, Errand::own("list resources"))
                    .await?,
            );
        }
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use cloud::{
        control::{Place, ResourceKind, SERVER_TAG},
        folder::faults::{Call, Effect, Fault},
        layers::LayerStore,
        snapshots::{SnapshotSpec, SnapshotStore},
    };
    use domain::{disk::BLOCK_LEN, ids::AccountId};

    use super::*;
    use crate::{
        actions::accounts::check_resources,
        auth::{Actor, Grant},
        entities::user::UserRole,
        fixtures::{self, MEMBER, REGION},
        resources::{Standing, of_place},
    };

    #[tokio::test]
    async fn an_account_that_does_not_answer_keeps_what_it_said() {
        let hub = fixtures::hub().await;
        fixtures::with_runner(&hub).await;
        let account: AccountId = MEMBER.parse().unwrap();
        let mut tx = hub.store.begin().await.unwrap();
        tx.account_checked(&account, Access::Ok).await.unwrap();
        tx.commit().await.unwrap();
        let place = Place::direct(account.clone(), REGION);
        let store = LayerStore::open(hub.cloud.place(&place).snapshots()).unwrap();
        let spec = SnapshotSpec {
            parent: None,
            bytes: BLOCK_LEN as u64,
            disk: "disk-1".parse().unwrap(),
            tags: [(SERVER_TAG.to_owned(), "s-9999999999999999a".to_owned())].into(),
        };
        let snapshot = store.start(&spec).await.unwrap();
        store.commit(&snapshot).await.unwrap();
        refresh(&hub).await.unwrap();
        let row = hub.store.inventory_of(&account).await.unwrap().remove(0);
        assert!(row.is_known());
        let asked_at = row.asked_at.unwrap();
        let found = of_place(
            &hub.store,
            &hub.prices,
            &account,
            REGION,
            &row.resources,
            asked_at,
        )
        .await;
        let items = found.unwrap().items;
        assert_eq!((items.len(), items[0].kind), (1, ResourceKind::Snapshot));
        assert_eq!(items[0].standing, Standing::ServerUnknown, "it is a stray");

        let remedy = "allow it".into();
        let deny = Fault::new(Effect::Deny { remedy }).on(Call::GetResources);
        hub.cloud.faults().set(&[deny]).unwrap();
        let operator = Actor::new("operator", [Grant::everywhere(UserRole::Operator)]);
        check_resources(&hub, &operator, &account).await.unwrap();
        refresh(&hub).await.unwrap();
        let refused = hub.store.inventory_of(&account).await.unwrap().remove(0);
        assert!(
            !refused.is_known(),
            "nothing is known of now: {:?}",
            refused.access
        );
        assert!(!refused.wanted);
        assert_eq!(
            (refused.asked_at, &refused.resources),
            (Some(asked_at), &row.resources)
        );
    }
}
