//! Templates of launch and replication configurations. The narrowest that covers an account counts, as a whole.

use domain::{
    ids::AccountId, launch::LaunchConfiguration, replication_configuration::ReplicationConfiguration,
    scope::Scope,
};
use sea_orm::{ConnectionTrait, EntityTrait, IntoActiveModel, sea_query::OnConflict};

use super::{Reader, StoreError, Write, sight::Sight};
use crate::entities::{
    Doc, account, source_server,
    template::{Column, Entity, Model},
};

/// Those that a reader may see.
#[derive(Debug, Clone, Default)]
pub struct Templates(pub Vec<Model>);

/// What the templates say for an account, and the scope of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inherited {
    pub launch: Option<(Scope, LaunchConfiguration)>,
    pub replication: Option<(Scope, ReplicationConfiguration)>,
}

impl<C: ConnectionTrait> Reader<C> {
    /// All in sight, and all that cover an account in sight: whoever sees an account sees what its servers take over.
    /// From wide to narrow.
    pub async fn templates(&self) -> Result<Templates, StoreError> {
        let mut rows = Entity::find().all(&self.0).await?;
        if let Sight::Of(own) = &self.1
            && !rows.is_empty()
        {
            let accounts = self.account_list().await?;
            rows.retain(|row| {
                own.iter().any(|scope| scope.contains(&row.scope))
                    || accounts.iter().any(|account| covers(&row.scope, account))
            });
        }
        rows.sort_by(|a, b| {
            let narrowness = a.scope.narrowness().cmp(&b.scope.narrowness());
            narrowness.then_with(|| a.scope.0.cmp(&b.scope.0))
        });
        Ok(Templates(rows))
    }

    pub async fn inherited_by(&self, account: &AccountId) -> Result<Inherited, StoreError> {
        Ok(self.templates().await?.of(&self.account(account).await?))
    }
}

impl Write {
    /// Keeps a template; one that says nothing any more goes.
    pub async fn template_keep(&mut self, row: Model) -> Result<(), StoreError> {
        if row.launch.is_none() && row.replication.is_none() {
            Entity::delete_by_id(row.scope).exec(&self.tx.0).await?;
            return Ok(());
        }
        let rest = [
            Column::Launch,
            Column::Replication,
            Column::ChangedBy,
            Column::ChangedAt,
        ];
        Entity::insert(row.into_active_model())
            .on_conflict(OnConflict::column(Column::Scope).update_columns(rest).to_owned())
            .exec_without_returning(&self.tx.0)
            .await?;
        Ok(())
    }
}

fn covers(scope: &Scope, account: &account::Model) -> bool {
    scope.covers(&account.id, &account.organization, &account.unit)
}

impl Templates {
    pub fn at(&self, scope: &Scope) -> Option<&Model> {
        self.0.iter().find(|row| row.scope.0 == *scope)
    }

    /// What holds in an account.
    pub fn of(&self, account: &account::Model) -> Inherited {
        self.inherited(|scope| covers(scope, account))
    }

    /// What holds in all of a scope.
    pub fn over(&self, whole: &Scope) -> Inherited {
        self.inherited(|scope| scope.contains(whole))
    }

    fn inherited(&self, holds: impl Fn(&Scope) -> bool) -> Inherited {
        let mut inherited = Inherited::default();
        // From wide to narrow.
        for row in self.0.iter().filter(|row| holds(&row.scope)) {
            if let Some(launch) = &row.launch.0 {
                inherited.launch = Some((row.scope.0.clone(), launch.clone()));
            }
            if let Some(replication) = &row.replication.0 {
                inherited.replication = Some((row.scope.0.clone(), replication.clone()));
            }
        }
        inherited
    }
}

impl Inherited {
    /// The server as the templates say; what they say nothing of stays.
    #[must_use]
    pub fn configure(&self, mut server: source_server::Model) -> source_server::Model {
        if let Some((_, launch)) = &self.launch {
            server.launch_configuration = Doc(launch.clone());
        }
        match &self.replication {
            Some((_, replication)) => server.replicated_by(replication),
            None => server,
        }
    }
}
