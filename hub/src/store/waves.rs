//! Applications and waves, and how their servers stand.

use std::collections::{BTreeMap, HashMap};

use domain::{
    ids::{AccountId, ApplicationId, SourceServerId, WaveId},
    wave::{RunState, Standing},
};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, FromQueryResult, IntoActiveModel, QueryFilter,
    QueryOrder, QuerySelect,
    sea_query::{Expr, Func, Query, SelectStatement, SimpleExpr},
};

use super::{Reader, StoreError, Write, not_found};
use crate::{
    changes::Change,
    clock::now_ms,
    entities::{Word, application, source_server, wave},
};

/// Which applications to list; what is empty does not restrict.
#[derive(Debug, Clone, Default)]
pub struct ApplicationFilter {
    pub ids: Vec<ApplicationId>,
    pub accounts: Vec<AccountId>,
    pub waves: Vec<WaveId>,
    pub archived: Option<bool>,
}

/// Which waves to list; what is empty does not restrict.
#[derive(Debug, Clone, Default)]
pub struct WaveFilter {
    pub ids: Vec<WaveId>,
    /// Those that are of this account alone, or have an application there.
    pub account: Option<AccountId>,
    pub archived: Option<bool>,
}

#[derive(Debug, FromQueryResult)]
struct Count {
    application: Word<ApplicationId>,
    lifecycle_name: String,
    servers: i64,
    stalled: i64,
    lagging: i64,
    in_jobs: i64,
    lag_basis: Option<i64>,
    first_byte_at: Option<i64>,
}

/// The ids of a wave's applications.
pub(super) fn applications_of(wave: &WaveId) -> SelectStatement {
    Query::select()
        .column(application::Column::Id)
        .from(application::Entity)
        .and_where(Expr::col(application::Column::Wave).eq(wave.as_str()))
        .take()
}

/// A checkpoint is late after three intervals.
const LATE_AFTER_INTERVALS_MS: i64 = 3 * 1000;

impl<C: ConnectionTrait> Reader<C> {
    pub async fn application(&self, id: &ApplicationId) -> Result<application::Model, StoreError> {
        self.find_by_id::<application::Entity>(Word(id.clone()))
            .one(&self.0)
            .await?
            .ok_or_else(|| not_found(format_args!("application {id}")))
    }

    /// By name.
    pub async fn application_list(
        &self,
        filter: &ApplicationFilter,
    ) -> Result<Vec<application::Model>, StoreError> {
        use application::Column as C;
        let mut query = self.find::<application::Entity>();
        if !filter.ids.is_empty() {
            query = query.filter(C::Id.is_in(filter.ids.iter().map(ApplicationId::as_str)));
        }
        if !filter.accounts.is_empty() {
            query = query.filter(C::Account.is_in(filter.accounts.iter().map(AccountId::as_str)));
        }
        if !filter.waves.is_empty() {
            query = query.filter(C::Wave.is_in(filter.waves.iter().map(WaveId::as_str)));
        }
        if let Some(archived) = filter.archived {
            query = query.filter(C::Archived.eq(archived));
        }
        Ok(query
            .order_by_asc(C::Name)
            .order_by_asc(C::Id)
            .all(&self.0)
            .await?)
    }

    /// What people call these applications, by their ids.
    pub async fn application_names(
        &self,
        ids: Vec<ApplicationId>,
    ) -> Result<HashMap<String, String>, StoreError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let filter = ApplicationFilter {
            ids,
            ..ApplicationFilter::default()
        };
        let found = self.application_list(&filter).await?.into_iter();
        Ok(found.map(|row| (row.id.to_string(), row.name)).collect())
    }

    pub async fn wave(&self, id: &WaveId) -> Result<wave::Model, StoreError> {
        self.find_by_id::<wave::Entity>(Word(id.clone()))
            .one(&self.0)
            .await?
            .ok_or_else(|| not_found(format_args!("wave {id}")))
    }

    /// By name.
    pub async fn wave_list(&self, filter: &WaveFilter) -> Result<Vec<wave::Model>, StoreError> {
        use wave::Column as C;
        let mut query = self.find::<wave::Entity>();
        if !filter.ids.is_empty() {
            query = query.filter(C::Id.is_in(filter.ids.iter().map(WaveId::as_str)));
        }
        if let Some(account) = &filter.account {
            let has_applications = Query::select()
                .column(application::Column::Wave)
                .from(application::Entity)
                .and_where(Expr::col(application::Column::Account).eq(account.as_str()))
                .and_where(Expr::col(application::Column::Wave).is_not_null())
                .take();
            let of_account = Expr::col(C::Account).eq(account.as_str());
            query = query.filter(of_account.or(Expr::col(C::Id).in_subquery(has_applications)));
        }
        if let Some(archived) = filter.archived {
            query = query.filter(C::Archived.eq(archived));
        }
        Ok(query
            .order_by_asc(C::Name)
            .order_by_asc(C::Id)
            .all(&self.0)
            .await?)
    }

    pub async fn server_ids_of_wave(&self, id: &WaveId) -> Result<Vec<SourceServerId>, StoreError> {
        let ids: Vec<Word<SourceServerId>> = self
            .find::<source_server::Entity>()
            .select_only()
            .column(source_server::Column::Id)
            .filter(source_server::Column::Application.in_subquery(applications_of(id)))
            .into_tuple()
            .all(&self.0)
            .await?;
        Ok(ids.into_iter().map(|id| id.0).collect())
    }

    /// Waves whose servers are being launched, batch by batch.
    pub async fn waves_running(&self) -> Result<Vec<wave::Model>, StoreError> {
        let running = RunState::Running.name();
        Ok(self
            .find::<wave::Entity>()
            .filter(wave::Column::RunState.eq(running))
            .order_by_asc(wave::Column::Id)
            .all(&self.0)
            .await?)
    }

    /// How the servers of each application stand, by one query whatever their number. An application without
    /// servers is not there.
    pub async fn standings(
        &self,
        filter: &ApplicationFilter,
    ) -> Result<HashMap<ApplicationId, Standing>, StoreError> {
        use source_server::Column as C;
        let final_states = ["CUTOVER", "DISCONNECTED"];
        let going_on = || Expr::col(C::LifecycleName).is_not_in(final_states);
        let late_since = Expr::value(now_ms()).sub(
            Expr::col(C::CheckpointIntervalS)
                .cast_as("bigint")
                .mul(LATE_AFTER_INTERVALS_MS),
        );
        let late = Expr::col(C::LagBasis).lt(late_since).or(Expr::col(C::Diverges));
        let mut query = self
            .find::<source_server::Entity>()
            .select_only()
            .columns([C::Application, C::LifecycleName])
            .column_as(C::Id.count(), "servers")
            .column_as(C::RunningJob.count(), "in_jobs")
            .column_as(
                counted(going_on().and(Expr::col(C::ReplicationName).eq("STALLED"))),
                "stalled",
            )
            .column_as(counted(going_on().and(late)), "lagging")
            .column_as(
                SimpleExpr::from(Func::min(Expr::case(going_on(), Expr::col(C::LagBasis)))),
                "lag_basis",
            )
            .column_as(C::FirstByteAt.min(), "first_byte_at")
            .filter(C::Application.is_not_null())
            .filter(C::Archived.eq(false));
        if !filter.ids.is_empty() {
            query = query.filter(C::Application.is_in(filter.ids.iter().map(ApplicationId::as_str)));
        }
        if !filter.accounts.is_empty() {
            query = query.filter(C::Account.is_in(filter.accounts.iter().map(AccountId::as_str)));
        }
        if !filter.waves.is_empty() {
            let of_waves = Query::select()
                .column(application::Column::Id)
                .from(application::Entity)
                .and_where(
                    Expr::col(application::Column::Wave).is_in(filter.waves.iter().map(WaveId::as_str)),
                )
                .take();
            query = query.filter(C::Application.in_subquery(of_waves));
        }
        let counts: Vec<Count> = query
            .group_by(C::Application)
            .group_by(C::LifecycleName)
            .into_model()
            .all(&self.0)
            .await?;
        let mut standings: HashMap<ApplicationId, Standing> = HashMap::new();
        for count in counts {
            let some = Standing {
                servers: BTreeMap::from([(count.lifecycle_name, count.servers.cast_unsigned())]),
                stalled: count.stalled.cast_unsigned(),
                lagging: count.lagging.cast_unsigned(),
                in_jobs: count.in_jobs.cast_unsigned(),
                oldest_lag_basis: count.lag_basis,
                first_byte_at: count.first_byte_at,
            };
            standings.entry(count.application.0).or_default().add(&some);
        }
        Ok(standings)
    }

    /// Servers of each account that jobs work on.
    pub async fn servers_in_jobs(&self) -> Result<BTreeMap<AccountId, u64>, StoreError> {
        use source_server::Column as C;
        let counts: Vec<(Word<AccountId>, i64)> = self
            .find::<source_server::Entity>()
            .select_only()
            .column(C::Account)
            .column_as(C::Id.count(), "servers")
            .filter(C::RunningJob.is_not_null())
            .group_by(C::Account)
            .into_tuple()
            .all(&self.0)
            .await?;
        Ok(counts
            .into_iter()
            .map(|(account, servers)| (account.0, servers.cast_unsigned()))
            .collect())
    }
}

/// In how many rows `condition` is true.
fn counted(condition: SimpleExpr) -> SimpleExpr {
    Func::count(Expr::case(condition, 1)).into()
}

impl Write {
    pub async fn application_insert(&mut self, row: application::Model) -> Result<(), StoreError> {
        self.changed(Change::Wave(row.wave.clone().map(|wave| wave.0)));
        application::Entity::insert(row.into_active_model())
            .exec_without_returning(&self.tx.0)
            .await?;
        Ok(())
    }

    /// Writes the columns that `change` sets.
    pub async fn application_update(
        &mut self,
        id: &ApplicationId,
        change: impl FnOnce(&mut application::ActiveModel),
    ) -> Result<(), StoreError> {
        let mut row = application::ActiveModel {
            id: Set(Word(id.clone())),
            modified_at: Set(now_ms()),
            ..Default::default()
        };
        change(&mut row);
        row.update_without_returning(&self.tx.0).await?;
        self.changed(Change::Wave(None));
        Ok(())
    }

    pub async fn application_delete(&mut self, id: &ApplicationId) -> Result<(), StoreError> {
        application::Entity::delete_by_id(Word(id.clone()))
            .exec(&self.tx.0)
            .await?;
        self.changed(Change::Wave(None));
        Ok(())
    }

    pub async fn wave_insert(&mut self, row: wave::Model) -> Result<(), StoreError> {
        self.changed(Change::Wave(Some(row.id.0.clone())));
        wave::Entity::insert(row.into_active_model())
            .exec_without_returning(&self.tx.0)
            .await?;
        Ok(())
    }

    /// Writes the columns that `change` sets.
    pub async fn wave_update(
        &mut self,
        id: &WaveId,
        change: impl FnOnce(&mut wave::ActiveModel),
    ) -> Result<(), StoreError> {
        let mut row = wave::ActiveModel {
            id: Set(Word(id.clone())),
            modified_at: Set(now_ms()),
            ..Default::default()
        };
        change(&mut row);
        row.update_without_returning(&self.tx.0).await?;
        self.changed(Change::Wave(Some(id.clone())));
        Ok(())
    }

    pub async fn wave_delete(&mut self, id: &WaveId) -> Result<(), StoreError> {
        wave::Entity::delete_by_id(Word(id.clone()))
            .exec(&self.tx.0)
            .await?;
        self.changed(Change::Wave(Some(id.clone())));
        Ok(())
    }
}
