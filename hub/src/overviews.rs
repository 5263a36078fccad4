//! The global view, kept for a moment: whoever looks at it shares what was counted.
//!
//! Counting two hundred thousand servers takes a while, and something changes all the time. What was counted quickly is
//! counted again after each change, so that a small installation shows what is; what takes longer may be two seconds old.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Mutex;

use crate::{
    Hub,
    auth::Actor,
    store::{StoreError, accounts::AccountOverview},
};

/// Silent runners are told from others by the clock alone.
const FRESH_FOR: Duration = Duration::from_secs(2);
const QUICK: Duration = Duration::from_millis(40);

#[derive(Debug, Default)]
pub struct Overviews(Mutex<Option<Kept>>);

#[derive(Debug)]
struct Kept {
    counted_at: Instant,
    took: Duration,
    /// See `Changes::count`.
    changes: u64,
    all: Arc<Vec<AccountOverview>>,
}

impl Kept {
    fn still_holds(&self, changes: u64) -> bool {
        self.counted_at.elapsed() < FRESH_FOR && (self.changes == changes || self.took > QUICK)
    }
}

impl Hub {
    /// Of the accounts that somebody may see.
    pub async fn account_overview(&self, actor: &Actor) -> Result<Arc<Vec<AccountOverview>>, StoreError> {
        let all = self.all_overviews().await?;
        if actor.role_everywhere().is_some() {
            return Ok(all);
        }
        let seen = all.iter().filter(|row| actor.role_in(&row.account).is_some());
        Ok(Arc::new(seen.cloned().collect()))
    }

    async fn all_overviews(&self) -> Result<Arc<Vec<AccountOverview>>, StoreError> {
        // Who comes while somebody counts waits, and takes the same.
        let mut kept = self.overviews.0.lock().await;
        let changes = self.changes.count();
        if let Some(kept) = kept.as_ref().filter(|kept| kept.still_holds(changes)) {
            return Ok(kept.all.clone());
        }
        let counted_at = Instant::now();
        let all = Arc::new(self.store.account_overview().await?);
        *kept = Some(Kept {
            counted_at,
            took: counted_at.elapsed(),
            changes,
            all: all.clone(),
        });
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use domain::{ids::SourceServerId, scope::Scope};

    use super::*;
    use crate::{auth::Grant, entities::user::UserRole, fixtures};

    #[tokio::test]
    async fn what_changed_is_seen_at_once_and_nothing_is_counted_twice() {
        let hub = fixtures::hub().await;
        let runner = fixtures::with_runner(&hub).await;
        let ada = fixtures::add_user(&hub, "ada", UserRole::Viewer, "correct horse").await;
        let before = hub.account_overview(&ada).await.unwrap();
        assert!(before[0].servers.is_empty());
        assert!(Arc::ptr_eq(&before, &hub.account_overview(&ada).await.unwrap()));
        let mut tx = hub.store.begin().await.unwrap();
        tx.server_insert(fixtures::server(SourceServerId::from_entropy(1), &runner))
            .await
            .unwrap();
        tx.commit().await.unwrap();
        // On a busy machine, what was counted before may have taken long enough to be kept.
        hub.overviews.0.lock().await.as_mut().unwrap().took = Duration::ZERO;
        let after = hub.account_overview(&ada).await.unwrap();
        assert_eq!(after[0].servers.values().sum::<u64>(), 1);
        let elsewhere = Grant {
            role: UserRole::Administrator,
            scope: Scope::Account("999999999999".parse().unwrap()),
        };
        let stranger = Actor::new("stranger", [elsewhere]);
        assert!(hub.account_overview(&stranger).await.unwrap().is_empty());
    }
}
