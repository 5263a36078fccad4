//! Source servers. A life cycle moves by [`Write::server_transition`] and by nothing else.

use domain::{
    ids::{AccountId, ApplicationId, JobId, RunnerId, SourceServerId, WaveId},
    lifecycle::{Event, Lifecycle},
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait,
    IntoActiveModel, QueryFilter, QueryOrder, sea_query::Expr,
};

use super::{Reader, StoreError, Write, not_found, waves::applications_of};
use crate::{
    changes::Change,
    clock::now_ms,
    entities::{
        Doc, Word,
        notice::NoticeKind,
        source_server::{ActiveModel, Column, Entity, Milestones, Model},
    },
};

const STALLED: &str = "STALLED";

/// What came of a transition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transition {
    Moved(Lifecycle),
    /// Somebody else moved it since the caller looked.
    Stale,
}

/// Which servers to list; an empty list does not restrict.
#[derive(Debug, Clone, Default)]
pub struct ServerFilter {
    pub ids: Vec<SourceServerId>,
    pub accounts: Vec<AccountId>,
    pub applications: Vec<ApplicationId>,
    pub wave: Option<WaveId>,
    pub lifecycles: Vec<String>,
    pub archived: Option<bool>,
}

impl<C: ConnectionTrait> Reader<C> {
    pub async fn server(&self, id: &SourceServerId) -> Result<Model, StoreError> {
        self.find_by_id::<Entity>(Word(id.clone()))
            .one(&self.0)
            .await?
            .ok_or_else(|| not_found(format_args!("source server {id}")))
    }

    /// The servers that `filter` lets through, by host name.
    pub async fn server_list(&self, filter: &ServerFilter) -> Result<Vec<Model>, StoreError> {
        let mut query = self.find::<Entity>();
        if !filter.ids.is_empty() {
            query = query.filter(Column::Id.is_in(filter.ids.iter().map(SourceServerId::as_str)));
        }
        if !filter.accounts.is_empty() {
            query = query.filter(Column::Account.is_in(filter.accounts.iter().map(AccountId::as_str)));
        }
        if !filter.applications.is_empty() {
            let of_these = filter.applications.iter().map(ApplicationId::as_str);
            query = query.filter(Column::Application.is_in(of_these));
        }
        if let Some(wave) = &filter.wave {
            query = query.filter(Column::Application.in_subquery(applications_of(wave)));
        }
        if !filter.lifecycles.is_empty() {
            query = query.filter(Column::LifecycleName.is_in(filter.lifecycles.iter().map(String::as_str)));
        }
        let mut servers = query
            .order_by_asc(Column::Hostname)
            .order_by_asc(Column::Id)
            .all(&self.0)
            .await?;
        if let Some(archived) = filter.archived {
            servers.retain(|server| server.is_archived() == archived);
        }
        Ok(servers)
    }

    pub async fn servers_of_runner(&self, runner: &RunnerId) -> Result<Vec<Model>, StoreError> {
        Ok(self
            .find::<Entity>()
            .filter(Column::Runner.eq(runner.as_str()))
            .order_by_asc(Column::Id)
            .all(&self.0)
            .await?)
    }
}

impl Write {
    pub async fn server_insert(&mut self, row: Model) -> Result<(), StoreError> {
        let row = row.with_what_follows();
        self.server_changed(&row);
        Entity::insert(row.into_active_model())
            .exec_without_returning(&self.tx.0)
            .await?;
        Ok(())
    }

    /// Moves the life cycle of a server, unless it is not of `expected_generation` any more.
    pub async fn server_transition(
        &mut self,
        id: &SourceServerId,
        expected_generation: i64,
        event: Event,
    ) -> Result<Transition, StoreError> {
        let server = self.server(id).await?;
        if server.generation != expected_generation {
            return Ok(Transition::Stale);
        }
        let mut milestones = server.milestones.0.clone();
        milestones.note(&event, now_ms());
        let next = server.lifecycle.0.clone().on(event)?;
        let moved = Entity::update_many()
            .set(ActiveModel {
                generation: Set(expected_generation + 1),
                lifecycle: Set(Doc(next.clone())),
                lifecycle_name: Set(next.name().to_owned()),
                archived: Set(next.is_archived()),
                milestones: Set(Doc(milestones)),
                ..Default::default()
            })
            .filter(Column::Id.eq(id.as_str()))
            .filter(Column::Generation.eq(expected_generation))
            .exec(&self.tx.0)
            .await?;
        if moved.rows_affected == 0 {
            return Ok(Transition::Stale);
        }
        self.server_changed(&server);
        if next.name() != server.lifecycle_name {
            self.notice(&server, NoticeKind::LifeCycle, next.name(), None)
                .await?;
        }
        Ok(Transition::Moved(next))
    }

    /// Moves the life cycle of a server from wherever it stands within this transaction.
    pub async fn server_on(&mut self, id: &SourceServerId, event: Event) -> Result<Lifecycle, StoreError> {
        let generation = self.server(id).await?.generation;
        match self.server_transition(id, generation, event).await? {
            Transition::Moved(next) => Ok(next),
            Transition::Stale => unreachable!("nobody else writes during an IMMEDIATE transaction"),
        }
    }

    /// Writes the columns that `change` sets. The life cycle is not among them.
    pub async fn server_update(
        &mut self,
        server: &Model,
        change: impl FnOnce(&mut ActiveModel),
    ) -> Result<(), StoreError> {
        let mut row = ActiveModel {
            id: Set(server.id.clone()),
            ..Default::default()
        };
        change(&mut row);
        debug_assert!(row.lifecycle.is_not_set() && row.generation.is_not_set());
        set_what_follows(server, &mut row);
        if let Set(name) = &row.replication_name {
            let stalled = [name.as_str(), &server.replication_name].map(|name| name == STALLED);
            let state = if stalled[0] { STALLED } else { "NOT_STALLED" };
            if stalled[0] != stalled[1] {
                self.notice(server, NoticeKind::Stalled, state, None).await?;
            }
        }
        row.update_without_returning(&self.tx.0).await?;
        self.server_changed(server);
        Ok(())
    }

    /// Takes a server into `job`. `false` if another job has it.
    pub async fn server_take(&mut self, server: &Model, job: &JobId) -> Result<bool, StoreError> {
        let taken = Entity::update_many()
            .set(ActiveModel {
                running_job: Set(Some(Word(job.clone()))),
                ..Default::default()
            })
            .filter(Column::Id.eq(server.id.as_str()))
            .filter(
                Column::RunningJob
                    .is_null()
                    .or(Expr::col(Column::RunningJob).eq(job.as_str())),
            )
            .exec(&self.tx.0)
            .await?;
        self.server_changed(server);
        Ok(taken.rows_affected == 1)
    }

    /// Lets a server go that a job has ended with.
    pub async fn server_release(&mut self, server: &Model) -> Result<(), StoreError> {
        self.server_update(server, |row| row.running_job = Set(None))
            .await
    }

    /// The agents of these servers were connected just now.
    pub async fn servers_seen(&mut self, ids: &[SourceServerId], at: i64) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        Entity::update_many()
            .col_expr(Column::LastSeen, Expr::value(at))
            .filter(Column::Id.is_in(ids.iter().map(SourceServerId::as_str)))
            .exec(&self.tx.0)
            .await?;
        Ok(())
    }

    pub(super) fn server_changed(&mut self, server: &Model) {
        self.changed(Change::Server {
            server: server.id.0.clone(),
            account: server.account.0.clone(),
        });
    }
}

/// Names and sizes for lists go with what they are made of.
fn set_what_follows(before: &Model, row: &mut ActiveModel) {
    let mut after = before.clone();
    let mut is_touched = false;
    macro_rules! take {
        ($($column:ident)*) => {$(
            if let Set(value) = &row.$column {
                after.$column = value.clone();
                is_touched = true;
            }
        )*};
    }
    take!(hostname tags properties user_provided_id agent_address disks);
    if is_touched {
        let after = after.with_what_follows();
        row.name = Set(after.name);
        row.sought = Set(after.sought);
        row.replicated_bytes = Set(after.replicated_bytes);
    }
}

impl Milestones {
    fn note(&mut self, event: &Event, now: i64) {
        match event {
            Event::TestStarted(job) => {
                self.test.initiated_at = Some(now);
                self.test.job = Some(job.clone());
            }
            Event::MarkedReadyForCutover => self.test.finalized_at = Some(now),
            Event::RevertedToReadyForTest => self.test.reverted_at = Some(now),
            Event::CutoverStarted(job) => {
                self.cutover.initiated_at = Some(now);
                self.cutover.job = Some(job.clone());
            }
            Event::RevertedToReadyForCutover => self.cutover.reverted_at = Some(now),
            Event::Finalized => self.cutover.finalized_at = Some(now),
            _ => {}
        }
    }
}
