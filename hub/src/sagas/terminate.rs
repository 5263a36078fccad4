//! Terminating the instances that were launched for a server.

use std::time::Duration;

use async_trait::async_trait;
use domain::{
    ids::JobId,
    job::{JobLogEvent, LaunchEvent},
    lifecycle,
};
use sea_orm::ActiveValue::Set;
use serde::{Deserialize, Serialize};

use super::{Context, Progress, Saga, StepError, proof::prove_nothing_left, resources};
use crate::{
    Settings,
    entities::{Doc, source_server},
    store::jobs::LogLine,
};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Terminate {
    pub instances: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    TerminateInstances,
    RecordTermination,
    ProveNothingLeft,
}

impl Terminate {
    pub fn new(server: &source_server::Model) -> Self {
        let launches = [server.test_launch.as_ref(), server.cutover_launch.as_ref()];
        Self {
            instances: launches
                .into_iter()
                .flatten()
                .map(|launch| launch.instance.clone())
                .collect(),
        }
    }

    async fn terminate_instances(&self, cx: &Context) -> Result<Progress, StepError> {
        let line = |event| LogLine::of_server(event, &cx.server);
        cx.log(line(JobLogEvent::CleanupStart)).await?;
        for instance in &self.instances {
            match resources::terminate(cx, instance).await {
                Ok(Progress::Done) => {}
                Ok(wait) => return Ok(wait),
                Err(StepError::Permanent(why)) => {
                    cx.log(line(JobLogEvent::CleanupFail).with_detail(&why)).await?;
                    return Err(StepError::Permanent(why));
                }
                Err(transient) => return Err(transient),
            }
        }
        cx.log(line(JobLogEvent::CleanupEnd)).await?;
        Ok(Progress::Done)
    }

    async fn record_termination(&self, cx: &Context) -> Result<Progress, StepError> {
        let server = cx.server().await?;
        let gone = |launch: &Option<source_server::Launch>| {
            launch
                .as_ref()
                .is_some_and(|launch| self.instances.contains(&launch.instance))
        };
        let mut tx = cx.hub.store.begin().await?;
        tx.server_update(&server, |row| {
            if gone(&server.test_launch) {
                row.test_launch = Set(Doc(None));
            }
            if gone(&server.cutover_launch) {
                row.cutover_launch = Set(Doc(None));
            }
        })
        .await?;
        tx.commit().await?;
        Ok(Progress::Done)
    }
}

#[async_trait]
impl Saga for Terminate {
    type Step = Step;

    const STEPS: &'static [Step] = &[
        Step::TerminateInstances,
        Step::RecordTermination,
        Step::ProveNothingLeft,
    ];

    async fn run(&mut self, step: Step, cx: &Context) -> Result<Progress, StepError> {
        match step {
            Step::TerminateInstances => self.terminate_instances(cx).await,
            Step::RecordTermination => self.record_termination(cx).await,
            Step::ProveNothingLeft => prove_nothing_left(cx).await,
        }
    }

    fn deadline(&self, step: Step, settings: &Settings) -> Duration {
        match step {
            // It ends by itself.
            Step::ProveNothingLeft => Duration::MAX,
            _ => settings.step_deadline,
        }
    }

    /// What is terminated stays so; what is not is still recorded and can be terminated again.
    async fn undo(&mut self, _: Step, _: &Context) -> Result<Progress, StepError> {
        Ok(Progress::Done)
    }

    fn succeeded(&self) -> LaunchEvent {
        LaunchEvent::Terminated
    }

    fn failed(&self, _: &JobId) -> Option<lifecycle::Event> {
        None
    }
}
