//! Clean-up: makes the account and the ledger agree again.
//!
//! What was wanted and is unknown is looked up by its token; what no launch of the server stands on any
//! more is removed. Then the account itself is asked what is left.

use std::time::Duration;

use async_trait::async_trait;
use domain::{
    ids::JobId,
    job::{JobLogEvent, LaunchEvent},
    lifecycle,
};
use serde::{Deserialize, Serialize};

use super::{Context, Progress, Saga, StepError, proof::prove_nothing_left, resources};
use crate::{Settings, resources::removal::Removal, store::jobs::LogLine};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CleanUp {}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    ReconcileLedger,
    ProveNothingLeft,
}

#[async_trait]
impl Saga for CleanUp {
    type Step = Step;

    const STEPS: &'static [Step] = &[Step::ReconcileLedger, Step::ProveNothingLeft];

    async fn run(&mut self, step: Step, cx: &Context) -> Result<Progress, StepError> {
        match step {
            Step::ReconcileLedger => remove_leftovers(cx, Removal::CleanUp).await,
            Step::ProveNothingLeft => prove_nothing_left(cx).await,
        }
    }

    fn deadline(&self, step: Step, settings: &Settings) -> Duration {
        match step {
            Step::ReconcileLedger => settings.step_deadline,
            // It ends by itself.
            Step::ProveNothingLeft => Duration::MAX,
        }
    }

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

/// Removes everything that the ledger has open for the server, except what stays.
pub async fn remove_leftovers(cx: &Context, removal: Removal) -> Result<Progress, StepError> {
    let line = |event| LogLine::of_server(event, &cx.server);
    let server = cx.server().await?;
    let entries = cx.hub.store.ledger_of_server(&cx.server).await?;
    let leftovers: Vec<_> = entries
        .iter()
        .filter(|entry| !removal.keeps(entry, &server))
        .collect();
    if leftovers.is_empty() {
        return Ok(Progress::Done);
    }
    cx.log(line(JobLogEvent::CleanupStart)).await?;
    for entry in leftovers {
        match resources::remove(cx, entry).await {
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
