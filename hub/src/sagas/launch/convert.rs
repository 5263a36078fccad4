//! The step that has the runner make the checkpoint's disks fit to boot.
//!
//! The hub says what it wants until the launch has ended, one way or the other; the runner says where it stands.
//! Whoever asks again asks for the same.

use std::time::Duration;

use domain::{
    conversion::{ConversionOrder, ConversionState, Converted, Network, Rehearsal, RehearsalOrder},
    job::JobLogEvent,
    launch::{Hypervisor, RehearsalSettings},
};

use super::{Launch, plan};
use crate::{
    Settings,
    entities::source_server,
    sagas::{Context, Progress, StepError},
    store::jobs::LogLine,
};

/// What a rehearsal's machine has, whatever the instance type: it is to boot, not to serve.
const REHEARSAL_CPUS: u32 = 2;
const REHEARSAL_MEMORY_MIB: u64 = 2048;

impl Launch {
    pub(super) async fn convert(&mut self, cx: &Context) -> Result<Progress, StepError> {
        if !self.configuration.convert {
            return Ok(Progress::Done);
        }
        let number = self.chosen()?.number;
        let server = cx.server().await?;
        let Some(conversion) = cx.hub.store.conversion(&cx.job, &cx.server).await? else {
            self.order_conversion(cx, &server).await?;
            return Ok(Progress::Wait(format!("checkpoint {number} is to be converted")));
        };
        let late = cx.waited >= self.conversion_deadline(&cx.hub.settings);
        let waiting = match conversion.state.0 {
            Some(ConversionState::Done(converted)) => return self.converted(cx, converted).await,
            Some(ConversionState::Failed { step, detail, .. }) => {
                return fails(cx, format!("{step}: {detail}")).await;
            }
            None => format!(
                "runner {} has not taken up checkpoint {number} yet",
                server.runner_name()
            ),
            Some(ConversionState::Waiting) => {
                format!(
                    "runner {} converts others before checkpoint {number}",
                    server.runner_name()
                )
            }
            Some(ConversionState::Running { step }) => {
                format!(
                    "runner {} converts checkpoint {number}: {step}",
                    server.runner_name()
                )
            }
        };
        if late {
            return fails(cx, format!("{waiting}; given up after {} s", cx.waited.as_secs())).await;
        }
        Ok(Progress::Wait(waiting))
    }

    /// How long the runner has, with a rehearsal if there is one.
    pub(super) fn conversion_deadline(&self, settings: &Settings) -> Duration {
        let limit_s = |rehearsal: &RehearsalSettings| u64::from(rehearsal.time_limit_s);
        let rehearsal_s = self.configuration.rehearsal.as_ref().map_or(0, limit_s);
        settings.conversion_deadline + Duration::from_secs(rehearsal_s)
    }

    async fn order_conversion(&self, cx: &Context, server: &source_server::Model) -> Result<(), StepError> {
        let checkpoint = self.chosen()?.number;
        let rehearsal = self.configuration.rehearsal.clone();
        let order = ConversionOrder {
            job: cx.job.clone(),
            checkpoint,
            network: if self.configuration.copy_private_ip {
                Network::Keep
            } else {
                Network::Dhcp
            },
            hypervisor: Hypervisor::of(self.instance_type()),
            boot_mode: plan::boot_mode(server, &self.configuration)?,
            rehearsal: rehearsal.map(|settings| RehearsalOrder {
                cpus: REHEARSAL_CPUS,
                memory_mib: REHEARSAL_MEMORY_MIB,
                time_limit_s: settings.time_limit_s,
                probe: settings.probe,
            }),
        };
        let detail = format!("checkpoint {checkpoint}, for {}", self.instance_type());
        let line = LogLine::of_server(JobLogEvent::ConversionStart, &cx.server).with_detail(detail);
        let mut tx = cx.hub.store.begin().await?;
        tx.conversion_order(server, order).await?;
        tx.job_log(&cx.job, line).await?;
        Ok(tx.commit().await?)
    }

    /// The launch goes on with what the runner made of each disk.
    async fn converted(&mut self, cx: &Context, converted: Converted) -> Result<Progress, StepError> {
        let mut chosen = self.chosen()?.clone();
        for disk in &mut chosen.disks {
            let Some(made) = converted.disks.iter().find(|made| made.disk == disk.disk) else {
                return fails(
                    cx,
                    format!("the runner names no converted disk for {}", disk.device_name),
                )
                .await;
            };
            disk.snapshot.clone_from(&made.snapshot);
        }
        let rehearsed = converted
            .rehearsal
            .as_ref()
            .map_or_else(String::new, |rehearsal| format!("; {}", in_words(rehearsal)));
        let detail = format!(
            "{} changes; {} MiB read and {} MiB written in {}{rehearsed}",
            converted.changes,
            converted.bytes_read.div_ceil(1 << 20),
            converted.bytes_written.div_ceil(1 << 20),
            seconds(converted.milliseconds),
        );
        cx.log(LogLine::of_server(JobLogEvent::ConversionEnd, &cx.server).with_detail(detail))
            .await?;
        self.chosen = Some(chosen);
        Ok(Progress::Done)
    }
}

async fn fails(cx: &Context, why: String) -> Result<Progress, StepError> {
    let line = LogLine::of_server(JobLogEvent::ConversionFail, &cx.server).with_detail(&why);
    cx.log(line).await?;
    Err(StepError::Permanent(format!("the conversion failed: {why}")))
}

fn in_words(rehearsal: &Rehearsal) -> String {
    format!(
        "rehearsal: {} ({}, {})",
        rehearsal.verdict,
        seconds(rehearsal.milliseconds),
        rehearsal.accelerator
    )
}

/// `8.4 s`
fn seconds(milliseconds: u64) -> String {
    format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100)
}
