//! The end of a server's replication: by finalizing its cutover, or by disconnecting it.
//!
//! What cannot be taken back, the runner's forgetting, comes after everything that a cloud may refuse; only
//! a write to our own store is left after it, and the proof, which cannot fail.

use std::time::Duration;

use async_trait::async_trait;
use domain::{ids::JobId, job::LaunchEvent, lifecycle, source_server::ReplicationIntent};
use sea_orm::ActiveValue::Set;
use serde::{Deserialize, Serialize};

use super::{
    Context, Progress, Saga, StepError, cleanup::remove_leftovers, proof::prove_nothing_left, resources,
};
use crate::{
    Settings,
    entities::{Doc, Word, ledger::LedgerState, source_server},
    resources::removal::Removal,
    store::StoreError,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    Finalize,
    Disconnect,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Retire {
    pub ending: Ending,
    /// What was wanted of the replication before.
    pub intent: ReplicationIntent,
    /// The instance that becomes production.
    pub instance: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    CleanUpStaging,
    DisconnectReplication,
    RecordEnd,
    ProveNothingLeft,
}

impl Retire {
    pub fn new(ending: Ending, server: &source_server::Model) -> Self {
        Self {
            ending,
            intent: server.intent.0,
            instance: server
                .cutover_launch
                .as_ref()
                .map(|launch| launch.instance.clone()),
        }
    }

    /// Removes what was only needed on the way. Finalizing leaves the cutover instance alone standing;
    /// disconnecting leaves every launched instance to the operator, as MGN does.
    async fn clean_up_staging(&self, cx: &Context) -> Result<Progress, StepError> {
        let removal = match self.ending {
            Ending::Disconnect => Removal::Disconnect,
            Ending::Finalize => Removal::FinalizeCutover,
        };
        let server = cx.server().await?;
        if let (Ending::Finalize, Some(test)) = (self.ending, server.test_launch.as_ref()) {
            let ended = resources::terminate(cx, &test.instance).await?;
            if ended != Progress::Done {
                return Ok(ended);
            }
            let mut tx = cx.hub.store.begin().await?;
            tx.server_update(&server, |row| row.test_launch = Set(Doc(None)))
                .await?;
            tx.commit().await?;
        }
        remove_leftovers(cx, removal).await
    }

    async fn disconnect_replication(&self, cx: &Context) -> Result<Progress, StepError> {
        let server = cx.server().await?;
        if server.forgotten {
            return Ok(Progress::Done);
        }
        if server.intent.0 != ReplicationIntent::Disconnected {
            set_intent(cx, &server, ReplicationIntent::Disconnected).await?;
        }
        Ok(Progress::Wait(format!(
            "waiting until runner {} has deleted what it holds of the server",
            server.runner_name()
        )))
    }

    async fn reconnect_replication(&self, cx: &Context) -> Result<Progress, StepError> {
        let server = cx.server().await?;
        if server.forgotten {
            return Err(StepError::Permanent(
                "replication has ended already; the agent must be installed anew to take it up again".into(),
            ));
        }
        if server.intent.0 == ReplicationIntent::Disconnected {
            set_intent(cx, &server, self.intent).await?;
        }
        Ok(Progress::Done)
    }

    async fn record_end(&self, cx: &Context) -> Result<Progress, StepError> {
        let entries = cx.hub.store.ledger_of_server(&cx.server).await?;
        let mut tx = cx.hub.store.begin().await?;
        let server = tx.server(&cx.server).await?;
        if !server.lifecycle.is_final() {
            let event = match self.ending {
                Ending::Finalize => lifecycle::Event::Finalized,
                Ending::Disconnect => lifecycle::Event::Disconnected,
            };
            tx.server_on(&cx.server, event).await?;
        }
        if self.ending == Ending::Finalize {
            let production = entries
                .iter()
                .filter(|entry| entry.state.0 == LedgerState::Present && entry.resource == self.instance);
            for entry in production {
                tx.ledger_end(&entry.token, LedgerState::HandedOver).await?;
            }
        }
        tx.commit().await?;
        Ok(Progress::Done)
    }
}

async fn set_intent(
    cx: &Context,
    server: &source_server::Model,
    intent: ReplicationIntent,
) -> Result<(), StoreError> {
    let mut tx = cx.hub.store.begin().await?;
    tx.server_update(server, |row| row.intent = Set(Word(intent)))
        .await?;
    tx.runner_of_touch(server).await?;
    tx.commit().await
}

#[async_trait]
impl Saga for Retire {
    type Step = Step;

    const STEPS: &'static [Step] = &[
        Step::CleanUpStaging,
        Step::DisconnectReplication,
        Step::RecordEnd,
        Step::ProveNothingLeft,
    ];

    async fn run(&mut self, step: Step, cx: &Context) -> Result<Progress, StepError> {
        match step {
            Step::CleanUpStaging => self.clean_up_staging(cx).await,
            Step::DisconnectReplication => self.disconnect_replication(cx).await,
            Step::RecordEnd => self.record_end(cx).await,
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

    async fn undo(&mut self, step: Step, cx: &Context) -> Result<Progress, StepError> {
        match step {
            Step::DisconnectReplication => self.reconnect_replication(cx).await,
            // What was cleaned up was of no further use; the record is one transaction of our own.
            Step::CleanUpStaging | Step::RecordEnd | Step::ProveNothingLeft => Ok(Progress::Done),
        }
    }

    fn succeeded(&self) -> LaunchEvent {
        match (&self.instance, self.ending) {
            (Some(instance), Ending::Finalize) => LaunchEvent::Launched {
                instance: instance.clone(),
            },
            _ => LaunchEvent::Terminated,
        }
    }

    fn failed(&self, _: &JobId) -> Option<lifecycle::Event> {
        None
    }
}
