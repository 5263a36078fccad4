//! Launching a test or cutover instance from a checkpoint.
//!
//! A fresh checkpoint was asked for when the job was made. If it does not come in time, the launch refuses,
//! unless the operator accepted an older one: never silently stale.
//!
//! - [`plan`]: what is going to be launched, and what is in the way.
//! - [`convert`]: the runner makes the checkpoint's disks fit to boot.

use std::time::Duration;

use async_trait::async_trait;
use cloud::{
    CloudError,
    control::{
        Checks, ImageDisk, ImageSpec, InstanceSpec, InstanceState, LaunchSpec, Owned, ResourceKind,
        SERVER_TAG, TOKEN_TAG, Tags, TemplateVersion,
    },
};
use domain::{
    checkpoint::{CheckpointNumber, Consistency},
    ids::JobId,
    job::{JobLogEvent, LaunchEvent},
    launch::{LaunchConfiguration, LaunchDisposition, Purpose},
    lifecycle,
};
use protocol::exchange::ObservedSnapshot;
use sea_orm::ActiveValue::Set;
use serde::{Deserialize, Serialize};

use super::{Context, Progress, Saga, StepError, resources};
use crate::{
    Settings,
    clock::now_ms,
    entities::{Doc, checkpoint, source_server},
    store::jobs::LogLine,
};

mod convert;
pub mod plan;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Launch {
    pub purpose: Purpose,
    /// As it was when the job was made: a change in between must not make one token ask for two things.
    pub configuration: LaunchConfiguration,
    /// A checkpoint that answers this request, or a later one, is fresh.
    pub request: u64,
    /// The oldest checkpoint that the operator accepts if none is fresh, in milliseconds.
    pub accept_older_than_ms: Option<i64>,
    /// As it was found when the launch began, where the source's size decides.
    pub instance_type: Option<String>,
    pub chosen: Option<Chosen>,
    /// What is wanted of the runner with the pin in it has this generation.
    pub pin_generation: Option<u64>,
    pub image: Option<String>,
    pub template: Option<TemplateVersion>,
    pub instance: Option<String>,
}

/// The checkpoint that is launched.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Chosen {
    pub number: CheckpointNumber,
    pub taken_at: i64,
    pub consistency: Consistency,
    /// With the snapshots of the checkpoint, and once it is converted with those.
    pub disks: Vec<ObservedSnapshot>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    CheckLaunch,
    RemovePreviousInstance,
    TakeCheckpoint,
    PinCheckpoint,
    Convert,
    RegisterImage,
    KeepTemplate,
    LaunchInstance,
    AwaitStatusChecks,
    DeregisterImage,
    RecordLaunch,
    UnpinCheckpoint,
}

impl Launch {
    pub fn new(
        purpose: Purpose,
        server: &source_server::Model,
        request: u64,
        accept_older_than: Option<Duration>,
    ) -> Self {
        Self {
            purpose,
            configuration: server.launch_configuration.0.clone(),
            request,
            accept_older_than_ms: accept_older_than
                .map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX)),
            instance_type: None,
            chosen: None,
            pin_generation: None,
            image: None,
            template: None,
            instance: None,
        }
    }

    fn chosen(&self) -> Result<&Chosen, StepError> {
        found(self.chosen.as_ref(), "checkpoint")
    }

    fn instance_type(&self) -> &str {
        self.instance_type
            .as_deref()
            .unwrap_or(&self.configuration.instance_type)
    }

    fn disks(&self) -> Result<Vec<ImageDisk>, StepError> {
        let disk = |disk| plan::image_disk(disk, &self.configuration);
        Ok(self.chosen()?.disks.iter().map(disk).collect())
    }

    /// The same for the template and for the instance.
    fn launch_spec(&self, server: &source_server::Model) -> Result<LaunchSpec, StepError> {
        Ok(LaunchSpec {
            disks: self.disks()?,
            ..plan::launch_spec(server, &self.configuration, self.purpose, self.instance_type())?
        })
    }

    /// Everything that is wrong is said at once, while what an earlier launch left still runs.
    async fn check_launch(&mut self, cx: &Context) -> Result<Progress, StepError> {
        let (server, place) = (cx.server().await?, cx.place().await?);
        let plan = plan::plan(&cx.hub, &place, &server, &self.configuration, self.purpose).await?;
        if !plan.outlook.obstacles.is_empty() {
            return Err(StepError::Permanent(format!(
                "it cannot be launched: {}",
                plan.outlook.obstacles.join("; ")
            )));
        }
        self.instance_type = Some(plan.instance_type);
        Ok(Progress::Done)
    }

    async fn remove_previous_instance(&mut self, cx: &Context) -> Result<Progress, StepError> {
        let server = cx.server().await?;
        let mut previous = vec![&server.test_launch];
        if self.purpose == Purpose::Cutover {
            previous.push(&server.cutover_launch);
        }
        let previous: Vec<_> = previous
            .into_iter()
            .filter_map(|launch| launch.as_ref())
            // Its own, after a crash: the steps that follow find it again.
            .filter(|launch| launch.job != cx.job)
            .collect();
        if previous.is_empty() {
            return Ok(Progress::Done);
        }
        let line = |event| LogLine::of_server(event, &cx.server);
        cx.log(line(JobLogEvent::CleanupStart)).await?;
        for launch in &previous {
            match resources::terminate(cx, &launch.instance).await {
                Ok(Progress::Done) => {}
                Ok(wait) => return Ok(wait),
                Err(StepError::Permanent(why)) => {
                    cx.log(line(JobLogEvent::CleanupFail).with_detail(&why)).await?;
                    return Err(StepError::Permanent(why));
                }
                Err(transient) => return Err(transient),
            }
        }
        let mut tx = cx.hub.store.begin().await?;
        tx.server_update(&server, |row| {
            row.test_launch = Set(Doc(None));
            if self.purpose == Purpose::Cutover {
                row.cutover_launch = Set(Doc(None));
            }
        })
        .await?;
        tx.job_log(&cx.job, line(JobLogEvent::CleanupEnd)).await?;
        tx.commit().await?;
        Ok(Progress::Done)
    }

    async fn take_checkpoint(&mut self, cx: &Context) -> Result<Progress, StepError> {
        let line = |event| LogLine::of_server(event, &cx.server);
        cx.log(line(JobLogEvent::SnapshotStart)).await?;
        let mut usable = cx.hub.store.checkpoint_list(&cx.server).await?;
        let damaged = usable.iter().rev().find(|row| row.damage.is_some()).cloned();
        usable.retain(|row| self.is_usable(row));
        let deadline = cx.hub.settings.checkpoint_deadline;
        let newest = usable.pop();
        let fresh = newest
            .as_ref()
            .is_some_and(|row| row.request.cast_unsigned() >= self.request);
        match newest {
            Some(row) if fresh => {
                self.chosen = Some(choose(&row));
                cx.log(line(JobLogEvent::SnapshotEnd)).await?;
                Ok(Progress::Done)
            }
            _ if cx.waited < deadline => Ok(Progress::Wait("waiting for a fresh checkpoint".into())),
            Some(row) if self.accepts(&row) => {
                self.chosen = Some(choose(&row));
                let detail = format!(
                    "no fresh checkpoint came within {} s; checkpoint {}, taken {} s ago, is used as the operator \
                     allowed",
                    deadline.as_secs(),
                    row.number,
                    age_s(&row)
                );
                cx.log(line(JobLogEvent::UsingPreviousSnapshot).with_detail(detail))
                    .await?;
                Ok(Progress::Done)
            }
            older => {
                let why = self
                    .refusal(cx, deadline, older.as_ref(), damaged.as_ref())
                    .await?;
                cx.log(line(JobLogEvent::SnapshotFail).with_detail(&why)).await?;
                Err(StepError::Permanent(why))
            }
        }
    }

    fn is_usable(&self, row: &checkpoint::Model) -> bool {
        let consistent = self.purpose == Purpose::Test || row.consistency.allows_cutover();
        row.is_launchable() && consistent && !row.disks.is_empty()
    }

    fn accepts(&self, row: &checkpoint::Model) -> bool {
        self.accept_older_than_ms
            .is_some_and(|oldest| now_ms() - row.taken_at <= oldest)
    }

    async fn refusal(
        &self,
        cx: &Context,
        deadline: Duration,
        older: Option<&checkpoint::Model>,
        damaged: Option<&checkpoint::Model>,
    ) -> Result<String, StepError> {
        let server = cx.server().await?;
        let there_is = match (older, self.accept_older_than_ms) {
            (None, _) => "there is no older one either".to_owned(),
            (Some(row), None) => format!(
                "the newest, number {}, is {} s old and was not accepted",
                row.number,
                age_s(row)
            ),
            (Some(row), Some(oldest)) => format!(
                "the newest, number {}, is {} s old and older than the {} s that were accepted",
                row.number,
                age_s(row),
                oldest / 1000
            ),
        };
        let newer = damaged.filter(|row| older.is_none_or(|older| older.number < row.number));
        let damage = newer
            .and_then(|row| {
                Some(format!(
                    "; number {} is damaged: {}",
                    row.number,
                    row.damage.as_ref()?
                ))
            })
            .unwrap_or_default();
        Ok(format!(
            "no fresh checkpoint that allows a {} came within {} s, and {there_is}{damage}; replication is {}",
            self.purpose.name(),
            deadline.as_secs(),
            server.replication_name
        ))
    }

    /// Done once the runner has heard that this checkpoint must stay, and still has it.
    async fn pin_checkpoint(&mut self, cx: &Context) -> Result<Progress, StepError> {
        let number = self.chosen()?.number;
        let Some(runner) = cx.server().await?.runner else {
            return Err(StepError::Permanent("the server has no runner yet".into()));
        };
        let heard = cx
            .hub
            .store
            .runner(&runner)
            .await?
            .observed_generation
            .cast_unsigned();
        let Some(row) = checkpoint(cx, number).await? else {
            let why = format!("checkpoint {number} was merged into a later one before it could be kept");
            return Err(StepError::Permanent(why));
        };
        if let Some(damage) = &row.damage {
            let why = format!("checkpoint {number} is damaged: {damage}");
            return Err(StepError::Permanent(why));
        }
        let generation = if let Some(generation) = self.pin_generation {
            generation
        } else {
            let mut tx = cx.hub.store.begin().await?;
            tx.checkpoint_pin(&row, Some(&cx.job)).await?;
            let generation = tx.runner_touch(&runner).await?;
            tx.commit().await?;
            *self.pin_generation.insert(generation)
        };
        if heard >= generation {
            return Ok(Progress::Done);
        }
        Ok(Progress::Wait(format!(
            "waiting until runner {runner} has heard that checkpoint {number} must stay"
        )))
    }

    /// Needs neither the checkpoint nor what was converted of it any more.
    async fn unpin_checkpoint(&mut self, cx: &Context) -> Result<Progress, StepError> {
        let Some(chosen) = &self.chosen else {
            return Ok(Progress::Done);
        };
        let server = cx.server().await?;
        let pinned = checkpoint(cx, chosen.number)
            .await?
            .filter(|row| row.pinned_by.as_ref().is_some_and(|job| job.0 == cx.job));
        let mut tx = cx.hub.store.begin().await?;
        let was_ordered = tx.conversion_end(&cx.job, &server).await?;
        if let Some(row) = &pinned {
            tx.checkpoint_pin(row, None).await?;
        }
        if was_ordered || pinned.is_some() {
            tx.runner_of_touch(&server).await?;
        }
        tx.commit().await?;
        Ok(Progress::Done)
    }

    async fn register_image(&mut self, cx: &Context) -> Result<Progress, StepError> {
        let (server, place) = (cx.server().await?, cx.place().await?);
        let token = cx.token(&format!("{:?}", Step::RegisterImage));
        let spec = ImageSpec {
            name: format!("{} {} {}", server.hostname, self.purpose.name(), cx.job),
            architecture: server.properties.architecture,
            boot_mode: plan::boot_mode(&server, &self.configuration)?,
            disks: self.disks()?,
            tags: own_tags(cx, &token.0),
            token,
        };
        let ask = cx.hub.cloud.register_image(&place, &spec);
        let wish = resources::Wish::of(cx, Step::RegisterImage, ResourceKind::Image);
        let image = resources::make(cx, &place, wish, ask).await?;
        self.image = Some(image);
        Ok(Progress::Done)
    }

    async fn keep_template(&mut self, cx: &Context) -> Result<Progress, StepError> {
        let (server, place) = (cx.server().await?, cx.place().await?);
        let spec = plan::template_spec(&server, self.launch_spec(&server)?);
        let wish = resources::Wish {
            token: plan::template_token(&cx.server),
            step: format!("{:?}", Step::KeepTemplate),
            kind: ResourceKind::LaunchTemplate,
        };
        let mut kept = None;
        let ask = async {
            let version = cx.hub.cloud.keep_template(&place, &spec).await?;
            Ok(kept.insert(version).template.clone())
        };
        resources::make(cx, &place, wish, ask).await?;
        self.template = kept;
        Ok(Progress::Done)
    }

    async fn launch_instance(&mut self, cx: &Context) -> Result<Progress, StepError> {
        let (server, place) = (cx.server().await?, cx.place().await?);
        let mut detail = self.instance_type().to_owned();
        if !self.configuration.convert {
            detail += "; the disks are launched as they are: the launch settings do not convert them";
        }
        let line = LogLine::of_server(JobLogEvent::LaunchStart, &cx.server);
        cx.log(line.with_detail(detail)).await?;
        let token = cx.token(&format!("{:?}", Step::LaunchInstance));
        let mut tags = Tags::from([("Name".to_owned(), server.hostname.clone())]);
        if self.configuration.copy_tags {
            tags.extend(server.tags.0.clone());
        }
        tags.extend(self.configuration.tags.clone());
        tags.extend(own_tags(cx, &token.0));
        let spec = InstanceSpec {
            image: found(self.image.as_ref(), "image")?.clone(),
            template: found(self.template.as_ref(), "launch template")?.clone(),
            launch: self.launch_spec(&server)?,
            disposition: self.configuration.disposition,
            tags,
            token,
        };
        let ask = cx.hub.cloud.launch_instance(&place, &spec);
        let wish = resources::Wish::of(cx, Step::LaunchInstance, ResourceKind::Instance);
        let instance = resources::make(cx, &place, wish, ask).await?;
        self.instance = Some(instance);
        Ok(Progress::Done)
    }

    async fn await_status_checks(&mut self, cx: &Context) -> Result<Progress, StepError> {
        let place = cx.place().await?;
        let id = found(self.instance.as_ref(), "instance")?;
        let instance = match cx.hub.cloud.instance(&place, id).await {
            Ok(instance) => instance,
            // A new instance is not visible everywhere at once.
            Err(CloudError::NotFound { .. }) => {
                return Ok(Progress::Wait(format!("waiting until instance {id} appears")));
            }
            Err(error) => return Err(error.into()),
        };
        match (instance.state, self.configuration.disposition) {
            (InstanceState::Running, LaunchDisposition::Stopped) if instance.checks == Checks::Passed => {
                let owned = Owned {
                    id: id.to_owned(),
                    server: cx.server.clone(),
                    token: cx.token(&format!("{:?}", Step::LaunchInstance)),
                };
                cx.hub.cloud.stop_instance(&place, &owned).await?;
                Ok(Progress::Wait(format!("waiting until instance {id} is stopped")))
            }
            (InstanceState::Running, _) if instance.checks == Checks::Passed => Ok(Progress::Done),
            (InstanceState::Stopped, LaunchDisposition::Stopped) => Ok(Progress::Done),
            (InstanceState::ShuttingDown | InstanceState::Terminated, _) => {
                Err(StepError::Permanent(format!("instance {id} ended by itself")))
            }
            _ => match instance.checks {
                Checks::Failed { reason } => Err(StepError::Permanent(format!(
                    "instance {id} failed its status checks: {reason}"
                ))),
                Checks::Pending | Checks::Passed => Ok(Progress::Wait(format!(
                    "waiting for the status checks of instance {id}"
                ))),
            },
        }
    }

    async fn record_launch(&mut self, cx: &Context) -> Result<Progress, StepError> {
        let server = cx.server().await?;
        let chosen = self.chosen()?;
        let launch = source_server::Launch {
            job: cx.job.clone(),
            instance: found(self.instance.as_ref(), "instance")?.clone(),
            at: now_ms(),
            checkpoint: chosen.number,
            taken_at: chosen.taken_at,
            consistency: chosen.consistency,
            roots: chosen
                .disks
                .iter()
                .map(|disk| (disk.disk.clone(), disk.root))
                .collect(),
        };
        self.set_launch(cx, &server, Some(launch)).await
    }

    async fn unrecord_launch(&mut self, cx: &Context) -> Result<Progress, StepError> {
        let server = cx.server().await?;
        let is_own = server
            .launch(self.purpose)
            .is_some_and(|launch| launch.job == cx.job);
        if is_own {
            self.set_launch(cx, &server, None).await?;
        }
        Ok(Progress::Done)
    }

    async fn set_launch(
        &self,
        cx: &Context,
        server: &source_server::Model,
        launch: Option<source_server::Launch>,
    ) -> Result<Progress, StepError> {
        let mut tx = cx.hub.store.begin().await?;
        tx.server_update(server, |row| match self.purpose {
            Purpose::Test => row.test_launch = Set(Doc(launch)),
            Purpose::Cutover => row.cutover_launch = Set(Doc(launch)),
        })
        .await?;
        tx.commit().await?;
        Ok(Progress::Done)
    }
}

#[async_trait]
impl Saga for Launch {
    type Step = Step;

    const STEPS: &'static [Step] = &[
        Step::CheckLaunch,
        Step::RemovePreviousInstance,
        Step::TakeCheckpoint,
        Step::PinCheckpoint,
        Step::Convert,
        Step::RegisterImage,
        Step::KeepTemplate,
        Step::LaunchInstance,
        Step::AwaitStatusChecks,
        Step::DeregisterImage,
        Step::RecordLaunch,
        Step::UnpinCheckpoint,
    ];

    async fn run(&mut self, step: Step, cx: &Context) -> Result<Progress, StepError> {
        match step {
            Step::CheckLaunch => self.check_launch(cx).await,
            Step::RemovePreviousInstance => self.remove_previous_instance(cx).await,
            Step::TakeCheckpoint => self.take_checkpoint(cx).await,
            Step::PinCheckpoint => self.pin_checkpoint(cx).await,
            Step::Convert => self.convert(cx).await,
            Step::RegisterImage => self.register_image(cx).await,
            Step::KeepTemplate => self.keep_template(cx).await,
            Step::LaunchInstance => self.launch_instance(cx).await,
            Step::AwaitStatusChecks => self.await_status_checks(cx).await,
            // The instance has volumes of its own by now.
            Step::DeregisterImage => resources::unmake(cx, Step::RegisterImage).await,
            Step::RecordLaunch => self.record_launch(cx).await,
            Step::UnpinCheckpoint => self.unpin_checkpoint(cx).await,
        }
    }

    async fn undo(&mut self, step: Step, cx: &Context) -> Result<Progress, StepError> {
        match step {
            // A previous instance is not brought back; its test was over when this launch was ordered.
            Step::CheckLaunch | Step::RemovePreviousInstance | Step::TakeCheckpoint => Ok(Progress::Done),
            // Takes the order back too: as long as there is an image, what it was made of stays.
            Step::PinCheckpoint => self.unpin_checkpoint(cx).await,
            Step::RegisterImage | Step::LaunchInstance => resources::unmake(cx, step).await,
            Step::KeepTemplate => resources::unmake_wish(cx, &plan::template_token(&cx.server)).await,
            Step::RecordLaunch => self.unrecord_launch(cx).await,
            Step::Convert | Step::AwaitStatusChecks | Step::DeregisterImage | Step::UnpinCheckpoint => {
                Ok(Progress::Done)
            }
        }
    }

    fn deadline(&self, step: Step, settings: &Settings) -> Duration {
        match step {
            Step::Convert => self.conversion_deadline(settings),
            _ => settings.step_deadline,
        }
    }

    /// Once it is recorded, the instance stands for the server, and a job of its own terminates it.
    fn is_cancellable(&self, step: Step) -> bool {
        !matches!(step, Step::UnpinCheckpoint)
    }

    fn succeeded(&self) -> LaunchEvent {
        LaunchEvent::Launched {
            instance: self.instance.clone().unwrap_or_default(),
        }
    }

    fn failed(&self, job: &JobId) -> Option<lifecycle::Event> {
        Some(match self.purpose {
            Purpose::Test => lifecycle::Event::TestFailed(job.clone()),
            Purpose::Cutover => lifecycle::Event::CutoverFailed(job.clone()),
        })
    }
}

/// What an earlier step left in the state; its absence means that the stored state was tampered with.
fn found<'a, T>(value: Option<&'a T>, what: &str) -> Result<&'a T, StepError> {
    value.ok_or_else(|| StepError::Permanent(format!("the stored state of this job lacks its {what}")))
}

fn choose(row: &checkpoint::Model) -> Chosen {
    Chosen {
        number: row.checkpoint_number(),
        taken_at: row.taken_at,
        consistency: row.consistency.0,
        disks: row.disks.0.clone(),
    }
}

fn age_s(row: &checkpoint::Model) -> i64 {
    (now_ms() - row.taken_at).max(0) / 1000
}

async fn checkpoint(cx: &Context, number: CheckpointNumber) -> Result<Option<checkpoint::Model>, StepError> {
    let mut rows = cx.hub.store.checkpoint_list(&cx.server).await?;
    rows.retain(|row| row.checkpoint_number() == number);
    Ok(rows.pop())
}

fn own_tags(cx: &Context, token: &str) -> Tags {
    Tags::from([
        (SERVER_TAG.to_owned(), cx.server.to_string()),
        (TOKEN_TAG.to_owned(), token.to_owned()),
    ])
}
