//! Organizations, their accounts and the runners there.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use cloud::{control::Place, route::Errand};
use domain::{
    account::{Access, ListedAccount},
    ids::{AccountId, OrganizationId, RunnerId},
};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect,
    sea_query::{Expr, ExprTrait, Func, SimpleExpr},
};

use super::{Reader, StoreError, Write, not_found};
use crate::{
    changes::Change,
    clock::now_ms,
    entities::{Doc, Word, account, organization, runner, source_server},
};

/// One row of the global view.
#[derive(Debug, Clone)]
pub struct AccountOverview {
    pub account: account::Model,
    /// Servers by the name of their life cycle's state; archived ones are not counted.
    pub servers: BTreeMap<String, u64>,
    /// Servers by the name of their replication state, those that are over left out.
    pub replication: BTreeMap<String, u64>,
    /// Servers that write more than gets through.
    pub diverging: u64,
    /// Servers with disks that are compared in full although a person could change that.
    pub untracked: u64,
    /// When the newest launchable checkpoint of the server that lags most was taken.
    pub oldest_lag_basis: Option<i64>,
    /// Servers that a job works on.
    pub in_jobs: u64,
    pub runners: Vec<runner::Model>,
    /// What its network lacks.
    pub network_findings: u64,
    /// Of all its servers, as their runners hold them.
    pub replicated_bytes: u64,
}

#[derive(Debug, FromQueryResult)]
struct ServerCount {
    account: Word<AccountId>,
    lifecycle_name: String,
    replication_name: String,
    servers: i64,
    in_jobs: i64,
    diverging: i64,
    untracked: i64,
    lag_basis: Option<i64>,
    replicated_bytes: i64,
}

impl<C: ConnectionTrait> Reader<C> {
    pub async fn organization_list(&self) -> Result<Vec<organization::Model>, StoreError> {
        Ok(self
            .find::<organization::Entity>()
            .order_by_asc(organization::Column::Name)
            .all(&self.0)
            .await?)
    }

    pub async fn organization(&self, id: &OrganizationId) -> Result<organization::Model, StoreError> {
        self.find_by_id::<organization::Entity>(Word(id.clone()))
            .one(&self.0)
            .await?
            .ok_or_else(|| not_found(format_args!("organization {id}")))
    }

    pub async fn account_list(&self) -> Result<Vec<account::Model>, StoreError> {
        Ok(self
            .find::<account::Entity>()
            .order_by_asc(account::Column::Name)
            .order_by_asc(account::Column::Id)
            .all(&self.0)
            .await?)
    }

    /// What people call these accounts, by their ids.
    pub async fn account_names(
        &self,
        ids: impl Iterator<Item = &AccountId>,
    ) -> Result<HashMap<String, String>, StoreError> {
        let found = self
            .find::<account::Entity>()
            .filter(account::Column::Id.is_in(ids.map(AccountId::as_str)));
        let columns = found
            .select_only()
            .columns([account::Column::Id, account::Column::Name]);
        let names: Vec<(String, String)> = columns.into_tuple().all(&self.0).await?;
        Ok(names.into_iter().collect())
    }

    pub async fn account(&self, id: &AccountId) -> Result<account::Model, StoreError> {
        self.find_by_id::<account::Entity>(Word(id.clone()))
            .one(&self.0)
            .await?
            .ok_or_else(|| not_found(format_args!("account {id}")))
    }

    /// The way into an account, for an errand.
    pub async fn place(&self, account: &AccountId, errand: Errand) -> Result<Place, StoreError> {
        let account = self.account(account).await?;
        let organization = self.organization(&account.organization).await?;
        Ok(account.place(Arc::new(organization.route.0), errand))
    }

    pub async fn runner_list(&self) -> Result<Vec<runner::Model>, StoreError> {
        Ok(self
            .find::<runner::Entity>()
            .order_by_asc(runner::Column::CreatedAt)
            .all(&self.0)
            .await?)
    }

    pub async fn runner(&self, id: &RunnerId) -> Result<runner::Model, StoreError> {
        self.find_by_id::<runner::Entity>(Word(id.clone()))
            .one(&self.0)
            .await?
            .ok_or_else(|| not_found(format_args!("runner {id}")))
    }

    /// The global view: every account with what goes on in it, by four queries whatever their number.
    pub async fn account_overview(&self) -> Result<Vec<AccountOverview>, StoreError> {
        use source_server::Column as C;
        let counts: Vec<ServerCount> = self
            .find::<source_server::Entity>()
            .select_only()
            .columns([C::Account, C::LifecycleName, C::ReplicationName])
            // All that it asks for is in one index.
            .column_as(Expr::cust("COUNT(*)"), "servers")
            .column_as(C::RunningJob.count(), "in_jobs")
            .column_as(counted(C::Diverges), "diverging")
            .column_as(counted(C::Untracked), "untracked")
            .column_as(C::LagBasis.min(), "lag_basis")
            .column_as(
                SimpleExpr::from(Func::sum(Expr::col(C::ReplicatedBytes))).cast_as("bigint"),
                "replicated_bytes",
            )
            .filter(C::Archived.eq(false))
            .group_by(C::Account)
            .group_by(C::LifecycleName)
            .group_by(C::ReplicationName)
            .into_model()
            .all(&self.0)
            .await?;
        let mut overviews: BTreeMap<AccountId, AccountOverview> = BTreeMap::new();
        for account in self.account_list().await? {
            let overview = AccountOverview {
                account: account.clone(),
                servers: BTreeMap::new(),
                replication: BTreeMap::new(),
                diverging: 0,
                untracked: 0,
                oldest_lag_basis: None,
                in_jobs: 0,
                runners: Vec::new(),
                network_findings: 0,
                replicated_bytes: 0,
            };
            overviews.insert(account.id.0, overview);
        }
        for count in counts {
            let Some(overview) = overviews.get_mut(&count.account.0) else {
                continue;
            };
            *overview.servers.entry(count.lifecycle_name.clone()).or_default() +=
                count.servers.cast_unsigned();
            overview.in_jobs += count.in_jobs.cast_unsigned();
            overview.replicated_bytes += count.replicated_bytes.cast_unsigned();
            if matches!(count.lifecycle_name.as_str(), "CUTOVER" | "DISCONNECTED") {
                continue;
            }
            *overview.replication.entry(count.replication_name).or_default() += count.servers.cast_unsigned();
            overview.diverging += count.diverging.cast_unsigned();
            overview.untracked += count.untracked.cast_unsigned();
            overview.oldest_lag_basis = [overview.oldest_lag_basis, count.lag_basis]
                .into_iter()
                .flatten()
                .min();
        }
        for runner in self.runner_list().await? {
            if let Some(overview) = overviews.get_mut(&runner.account.0) {
                overview.runners.push(runner);
            }
        }
        for (account, findings) in self.readiness_findings().await? {
            if let Some(overview) = overviews.get_mut(&account) {
                overview.network_findings = findings;
            }
        }
        Ok(overviews.into_values().collect())
    }
}

fn is_same(known: &account::Model, listed: &ListedAccount) -> bool {
    (&known.name, &known.unit, known.suspended) == (&listed.name, &listed.unit, listed.suspended)
}

/// In how many rows a truth value is true.
fn counted(column: source_server::Column) -> SimpleExpr {
    Func::count(Expr::case(Expr::col(column), 1)).into()
}

impl Write {
    pub async fn organization_insert(&mut self, row: organization::Model) -> Result<(), StoreError> {
        let id = row.id.0.clone();
        organization::Entity::insert(row.into_active_model())
            .exec_without_returning(&self.tx.0)
            .await?;
        self.changed(Change::Organization(id));
        Ok(())
    }

    /// Notes what came of listing the organization's accounts.
    pub async fn organization_listed(
        &mut self,
        id: &OrganizationId,
        listing: Access,
    ) -> Result<(), StoreError> {
        let row = organization::ActiveModel {
            id: Set(Word(id.clone())),
            listing: Set(Doc(listing)),
            listed_at: Set(Some(now_ms())),
            ..Default::default()
        };
        row.update_without_returning(&self.tx.0).await?;
        self.changed(Change::Organization(id.clone()));
        Ok(())
    }

    /// Adds the account, or brings what its organization says of it up to date.
    pub async fn account_listed(
        &mut self,
        organization: &organization::Model,
        listed: ListedAccount,
        region: &str,
    ) -> Result<(), StoreError> {
        let known = account::Entity::find_by_id(Word(listed.id.clone()))
            .one(&self.tx.0)
            .await?;
        match known {
            Some(known) if is_same(&known, &listed) => return Ok(()),
            Some(known) => {
                let mut row = known.into_active_model();
                row.name = Set(listed.name);
                row.unit = Set(listed.unit);
                row.suspended = Set(listed.suspended);
                row.update_without_returning(&self.tx.0).await?;
            }
            None => {
                let row = account::Model {
                    id: Word(listed.id.clone()),
                    organization: organization.id.clone(),
                    name: listed.name,
                    unit: listed.unit,
                    region: region.to_owned(),
                    access: Doc(Access::NotAttempted),
                    checked_at: None,
                    suspended: listed.suspended,
                    created_at: now_ms(),
                };
                account::Entity::insert(row.into_active_model())
                    .exec_without_returning(&self.tx.0)
                    .await?;
            }
        }
        self.changed(Change::Account(listed.id));
        Ok(())
    }

    pub async fn account_checked(&mut self, id: &AccountId, access: Access) -> Result<(), StoreError> {
        let before = self.account(id).await?.access.0;
        if before != access {
            self.changed(Change::Account(id.clone()));
        }
        let row = account::ActiveModel {
            id: Set(Word(id.clone())),
            access: Set(Doc(access)),
            checked_at: Set(Some(now_ms())),
            ..Default::default()
        };
        row.update_without_returning(&self.tx.0).await?;
        Ok(())
    }

    pub async fn runner_insert(&mut self, row: runner::Model) -> Result<(), StoreError> {
        let change = Change::Runner {
            runner: row.id.0.clone(),
            account: row.account.0.clone(),
        };
        runner::Entity::insert(row.into_active_model())
            .exec_without_returning(&self.tx.0)
            .await?;
        self.changed(change);
        Ok(())
    }

    pub async fn runner_update(
        &mut self,
        row: runner::ActiveModel,
        change: Change,
    ) -> Result<(), StoreError> {
        row.update_without_returning(&self.tx.0).await?;
        self.changed(change);
        Ok(())
    }
}
