//! Sagas: work of several steps in an account that survives a crash of the hub at any point.
//!
//! ```text
//! forward:  run(0) ─▶ run(1) ─▶ … ─▶ run(n) ─▶ succeeded
//!                       │ failed for good
//! back:     failed ◀─ undo(0) ◀─ undo(1)          what cannot be undone is named, and left to a person
//! ```
//!
//! One saga per server that takes part in a job; each row of `sagas` says where one stands, and
//! [`engine`] moves it. A step may run again although it ran before: the hub may have died before it
//! could write down that it had. So every step looks before it acts, and whatever it makes carries a
//! client token made of job, server and step.

use std::{fmt::Debug, sync::Arc, time::Duration};

use async_trait::async_trait;
use cloud::{
    CloudError,
    control::{ClientToken, Place},
    route::Errand,
};
use domain::{
    ids::{JobId, SourceServerId},
    job::LaunchEvent,
    lifecycle,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Hub, Settings,
    entities::source_server,
    store::{StoreError, jobs::LogLine},
};

pub mod cleanup;
pub mod engine;
pub mod launch;
mod proof;
pub mod resources;
pub mod retire;
pub mod terminate;
#[cfg(test)]
mod tests;

/// A kind of saga. The value is what its steps found out so far, stored after each of them.
#[async_trait]
pub trait Saga: Serialize + DeserializeOwned + Send + Sync {
    type Step: Copy + Debug + Send + Sync + 'static;

    /// In the order in which they run; the job page shows this very list. Released lists only grow at
    /// the end, since stored sagas count their steps.
    const STEPS: &'static [Self::Step];

    async fn run(&mut self, step: Self::Step, cx: &Context) -> Result<Progress, StepError>;

    /// Takes back what `run` did, or may have done, if anything.
    async fn undo(&mut self, step: Self::Step, cx: &Context) -> Result<Progress, StepError>;

    /// How long `step` is retried, or waits, before it fails for good.
    fn deadline(&self, _step: Self::Step, settings: &Settings) -> Duration {
        settings.step_deadline
    }

    /// Whether the saga may be cancelled before `step`: everything up to it can be undone as after a failure.
    fn is_cancellable(&self, _step: Self::Step) -> bool {
        false
    }

    /// What the participant has become when all steps are done.
    fn succeeded(&self) -> LaunchEvent;

    /// How the life cycle moves when everything was undone.
    fn failed(&self, job: &JobId) -> Option<lifecycle::Event>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    Done,
    /// Something outside has to happen first; this says what.
    Wait(String),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// Worth trying again by itself.
    #[error("{0}")]
    Transient(String),
    /// Trying again cannot help.
    #[error("{0}")]
    Permanent(String),
}

impl From<CloudError> for StepError {
    fn from(error: CloudError) -> Self {
        if error.is_transient() {
            Self::Transient(error.to_string())
        } else {
            Self::Permanent(error.to_string())
        }
    }
}

impl From<StoreError> for StepError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Database(source) => Self::Transient(format!("the hub's database failed: {source}")),
            StoreError::NotFound { .. } | StoreError::Illegal(_) => Self::Permanent(error.to_string()),
        }
    }
}

/// What a step works with.
#[derive(Debug)]
pub struct Context {
    pub hub: Arc<Hub>,
    pub job: JobId,
    pub server: SourceServerId,
    /// How long this step has been tried or waited for.
    pub waited: Duration,
}

impl Context {
    pub async fn server(&self) -> Result<source_server::Model, StepError> {
        Ok(self.hub.store.server(&self.server).await?)
    }

    /// The account and region that the server is moved into.
    pub async fn place(&self) -> Result<Place, StepError> {
        let server = self.server().await?;
        Ok(self
            .hub
            .store
            .place(&server.account, self.errand().await?)
            .await?)
    }

    /// Whose job it is.
    pub async fn errand(&self) -> Result<Errand, StepError> {
        let job = self.hub.store.job(&self.job).await?;
        Ok(Errand {
            who: job.created_by,
            why: self.job.to_string(),
        })
    }

    /// Names what `step` asks for, once and for all.
    pub fn token(&self, step: &str) -> ClientToken {
        ClientToken(format!("{}/{}/{step}", self.job, self.server))
    }

    pub async fn log(&self, line: LogLine) -> Result<(), StepError> {
        let mut tx = self.hub.store.begin().await?;
        tx.job_log(&self.job, line).await?;
        Ok(tx.commit().await?)
    }
}
