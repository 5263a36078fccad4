//! Jobs, who takes part in them, and their logs.

use domain::{
    ids::{JobId, SourceServerId},
    job::{InitiatedBy, JobEvent, JobLogEvent, JobStatus, LaunchEvent},
};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    TryInsertResult,
    sea_query::{Expr, ExprTrait, Query},
};

use super::{Reader, StoreError, Write, not_found};
use crate::{
    changes::Change,
    clock::now_ms,
    entities::{Doc, Word, job, job_event, job_server, notice::NoticeKind},
};

/// Which jobs to list; what is empty does not restrict.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    pub ids: Vec<JobId>,
    pub from: Option<i64>,
    pub to: Option<i64>,
    pub limit: Option<u64>,
    /// Jobs that have not completed only.
    pub running: bool,
}

/// A line for a job's log.
#[derive(Debug, Clone)]
pub struct LogLine {
    pub event: JobLogEvent,
    pub server: Option<SourceServerId>,
    pub instance: Option<String>,
    pub detail: Option<String>,
    /// Sets it apart from a line of the same event, which another step of the job writes.
    pub apart: Option<&'static str>,
}

impl LogLine {
    pub fn of_job(event: JobLogEvent) -> Self {
        Self {
            event,
            server: None,
            instance: None,
            detail: None,
            apart: None,
        }
    }

    pub fn of_server(event: JobLogEvent, server: &SourceServerId) -> Self {
        Self {
            server: Some(server.clone()),
            ..Self::of_job(event)
        }
    }

    #[must_use]
    pub fn with_detail(self, detail: impl Into<String>) -> Self {
        Self {
            detail: Some(detail.into()),
            ..self
        }
    }

    #[must_use]
    pub fn set_apart(self, apart: &'static str) -> Self {
        Self {
            apart: Some(apart),
            ..self
        }
    }

    #[must_use]
    pub fn with_instance(self, instance: &str) -> Self {
        Self {
            instance: Some(instance.to_owned()),
            ..self
        }
    }
}

impl<C: ConnectionTrait> Reader<C> {
    pub async fn job(&self, id: &JobId) -> Result<job::Model, StoreError> {
        self.find_by_id::<job::Entity>(Word(id.clone()))
            .one(&self.0)
            .await?
            .ok_or_else(|| not_found(format_args!("job {id}")))
    }

    /// Newest first.
    pub async fn job_list(&self, filter: &JobFilter) -> Result<Vec<job::Model>, StoreError> {
        let mut query = self.find::<job::Entity>();
        if !filter.ids.is_empty() {
            query = query.filter(job::Column::Id.is_in(filter.ids.iter().map(JobId::as_str)));
        }
        if let Some(from) = filter.from {
            query = query.filter(job::Column::CreatedAt.gte(from));
        }
        if let Some(to) = filter.to {
            query = query.filter(job::Column::CreatedAt.lte(to));
        }
        if filter.running {
            query = query.filter(job::Column::Status.ne(Word(JobStatus::Completed)));
        }
        Ok(query
            .order_by_desc(job::Column::CreatedAt)
            .order_by_desc(job::Column::Id)
            .limit(filter.limit)
            .all(&self.0)
            .await?)
    }

    pub async fn job_servers(&self, jobs: &[JobId]) -> Result<Vec<job_server::Model>, StoreError> {
        Ok(self
            .find::<job_server::Entity>()
            .filter(job_server::Column::Job.is_in(jobs.iter().map(JobId::as_str)))
            .order_by_asc(job_server::Column::Job)
            .order_by_asc(job_server::Column::Server)
            .all(&self.0)
            .await?)
    }

    /// The jobs that a server took part in, newest first.
    pub async fn jobs_of_server(&self, server: &SourceServerId) -> Result<Vec<job::Model>, StoreError> {
        let parts = self
            .find::<job_server::Entity>()
            .filter(job_server::Column::Server.eq(server.as_str()))
            .all(&self.0)
            .await?;
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        let ids = parts.into_iter().map(|part| part.job.0).collect();
        self.job_list(&JobFilter {
            ids,
            ..JobFilter::default()
        })
        .await
    }

    /// How long the last of such jobs took in which nobody failed, in milliseconds.
    pub async fn durations_of_jobs(&self, kind: InitiatedBy, limit: u64) -> Result<Vec<i64>, StoreError> {
        let failed = Query::select()
            .column(job_server::Column::Job)
            .from(job_server::Entity)
            .and_where(Expr::col(job_server::Column::Status).like("%\"status\":\"FAILED\"%"))
            .and_where(
                Expr::col((job_server::Entity, job_server::Column::Job))
                    .equals((job::Entity, job::Column::Id)),
            )
            .take();
        let jobs = self
            .find::<job::Entity>()
            .filter(job::Column::InitiatedBy.eq(Word(kind)))
            .filter(job::Column::EndedAt.is_not_null())
            .filter(Expr::not_exists(failed))
            .order_by_desc(job::Column::EndedAt)
            .limit(limit)
            .all(&self.0)
            .await?;
        let took = jobs
            .iter()
            .map(|job| job.ended_at.unwrap_or(job.created_at) - job.created_at);
        Ok(took.collect())
    }

    /// The log of a job from after `sequence` on, oldest first.
    pub async fn job_events(&self, id: &JobId, sequence: i32) -> Result<Vec<job_event::Model>, StoreError> {
        Ok(self
            .find::<job_event::Entity>()
            .filter(job_event::Column::Job.eq(id.as_str()))
            .filter(job_event::Column::Sequence.gt(sequence))
            .order_by_asc(job_event::Column::Sequence)
            .all(&self.0)
            .await?)
    }
}

impl Write {
    pub async fn job_insert(
        &mut self,
        row: job::Model,
        participants: Vec<job_server::Model>,
    ) -> Result<(), StoreError> {
        self.changed(Change::Job(row.id.0.clone()));
        job::Entity::insert(row.into_active_model())
            .exec_without_returning(&self.tx.0)
            .await?;
        let participants = participants.into_iter().map(IntoActiveModel::into_active_model);
        job_server::Entity::insert_many(participants)
            .exec_without_returning(&self.tx.0)
            .await?;
        Ok(())
    }

    /// Adds a line to a job's log, unless the same event of the same server is there already: a step
    /// that is repeated after a crash does not tell its story twice.
    pub async fn job_log(&mut self, id: &JobId, line: LogLine) -> Result<(), StoreError> {
        let mut once = match &line.server {
            Some(server) => format!("{server}/{}", line.event.name()),
            None => line.event.name().to_owned(),
        };
        if let Some(apart) = line.apart {
            once = format!("{once}/{apart}");
        }
        let row = job_event::ActiveModel {
            job: Set(Word(id.clone())),
            once: Set(once),
            at: Set(now_ms()),
            event: Set(Word(line.event)),
            server: Set(line.server.map(Word)),
            instance: Set(line.instance),
            detail: Set(line.detail),
            ..Default::default()
        };
        let added = job_event::Entity::insert(row)
            .on_conflict_do_nothing_on([job_event::Column::Job, job_event::Column::Once])
            .exec_without_returning(&self.tx.0)
            .await?;
        if matches!(added, TryInsertResult::Inserted(_)) {
            self.changed(Change::Job(id.clone()));
        }
        Ok(())
    }

    /// Moves the status of a job.
    pub async fn job_on(&mut self, id: &JobId, event: JobEvent) -> Result<(), StoreError> {
        let status = self.job(id).await?.status.0.on(event)?;
        let mut row = job::ActiveModel {
            id: Set(Word(id.clone())),
            status: Set(Word(status)),
            ..Default::default()
        };
        if status == JobStatus::Completed {
            row.ended_at = Set(Some(now_ms()));
        }
        row.update_without_returning(&self.tx.0).await?;
        self.changed(Change::Job(id.clone()));
        Ok(())
    }

    /// Of what came of a launch, and of nothing else.
    async fn tell_of_launch(
        &mut self,
        id: &JobId,
        server: &SourceServerId,
        event: &LaunchEvent,
    ) -> Result<(), StoreError> {
        let result = match event {
            LaunchEvent::Launched { .. } => "SUCCEEDED",
            LaunchEvent::Failed { .. } => "FAILED",
            LaunchEvent::Started | LaunchEvent::Terminated => return Ok(()),
        };
        let purpose = match self.job(id).await?.initiated_by.0 {
            InitiatedBy::StartTest => "TEST",
            InitiatedBy::StartCutover => "CUTOVER",
            _ => return Ok(()),
        };
        let server = self.server(server).await?;
        let state = format!("{purpose}_LAUNCH_{result}");
        self.notice(&server, NoticeKind::LaunchResult, &state, Some(id))
            .await
    }

    /// Moves the status of a participant.
    pub async fn participant_on(
        &mut self,
        id: &JobId,
        server: &SourceServerId,
        event: LaunchEvent,
    ) -> Result<(), StoreError> {
        let part = job_server::Entity::find_by_id((Word(id.clone()), Word(server.clone())))
            .one(&self.tx.0)
            .await?
            .ok_or_else(|| not_found(format_args!("source server {server} in job {id}")))?;
        self.tell_of_launch(id, server, &event).await?;
        let status = part.status.0.clone().on(event)?;
        let mut row = part.into_active_model();
        row.status = Set(Doc(status));
        row.update_without_returning(&self.tx.0).await?;
        self.changed(Change::Job(id.clone()));
        Ok(())
    }
}
