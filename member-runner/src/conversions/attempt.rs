//! One try to convert a checkpoint, on a thread of its own.

use std::{sync::atomic::AtomicBool, time::Instant};

use cloud::control::{SERVER_TAG, Tags};
use domain::conversion::{ConversionOrder, ConversionState, Converted, Rehearsal, RehearsalOrder};
use tokio::runtime::Handle;

use super::{Fault, JOB_TAG, PURPOSE, clones, folder::Folder, keep_inspection, show, workshop};
use crate::{
    convert::{
        clones::{CloneError, Clones, Workshop},
        orders::{Convert, Edited, Order, Rehearse, Report},
        signed,
    },
    runner::core::Core,
    server::{PURPOSE_TAG, Server},
    staging::chain,
};

pub(super) struct Attempt<'a> {
    core: &'a Core,
    server: &'a Server,
    order: &'a ConversionOrder,
    folder: Folder,
    workshop: Workshop,
    called_off: &'a AtomicBool,
}

/// How an attempt ends, where it is no success.
enum Unfinished {
    /// For good: another attempt would fail as well.
    Failed(ConversionState),
    Fault(Fault),
}

impl<'a> Attempt<'a> {
    pub fn new(
        core: &'a Core,
        server: &'a Server,
        order: &'a ConversionOrder,
        runtime: Handle,
        called_off: &'a AtomicBool,
    ) -> Self {
        let folder = Folder::of(server, &order.job);
        Self {
            core,
            server,
            order,
            workshop: workshop(core, server, folder.work(), runtime),
            folder,
            called_off,
        }
    }

    /// To the end, whatever it is; an error is worth another attempt.
    pub fn convert(&self) -> Result<ConversionState, Fault> {
        let result = self.try_to_convert();
        self.folder.clear_work();
        match result {
            Ok(converted) => Ok(ConversionState::Done(converted)),
            Err(Unfinished::Failed(state)) => Ok(state),
            Err(Unfinished::Fault(fault)) => Err(fault),
        }
    }

    fn try_to_convert(&self) -> Result<Converted, Unfinished> {
        let began = Instant::now();
        let number = self.order.checkpoint;
        let held = self.server.ledger().hold(Some(number));
        let Some((checkpoint, _held)) = held.map_err(|error| failed("checkpoint", chain(&error)))? else {
            let why = format!("checkpoint {number} is not there any more");
            return Err(failed("checkpoint", why));
        };
        let clones = clones(self.server, &checkpoint, &self.workshop);
        let clones = clones.map_err(|error| failed("clone", chain(&error)))?;
        let edited = self.edit(&clones)?;
        let machine = self.order.rehearsal.as_ref();
        let rehearsal = machine.map(|machine| self.rehearse(&clones, &edited, machine));
        let rehearsal = rehearsal.transpose()?;
        self.begin("commit");
        let tags = Tags::from([
            (SERVER_TAG.to_owned(), self.server.id.to_string()),
            (PURPOSE_TAG.to_owned(), PURPOSE.to_owned()),
            (JOB_TAG.to_owned(), self.order.job.to_string()),
        ]);
        let disks = clones.commit(&tags);
        let cost = clones.cost();
        Ok(Converted {
            disks: disks.map_err(|error| failed("commit", chain(&error)))?,
            changes: u32::try_from(edited.changes.changes.len()).unwrap_or(u32::MAX),
            bytes_read: cost.fetched,
            bytes_written: cost.written,
            milliseconds: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            rehearsal,
        })
    }

    fn edit(&self, clones: &Clones) -> Result<Edited, Unfinished> {
        let order = Order::Convert(Convert {
            server: self.server.id.clone(),
            checkpoint: self.order.checkpoint,
            boot_mode: Some(self.order.boot_mode),
            hypervisor: self.order.hypervisor,
            network: self.order.network,
        });
        let Report::Converted(edited) = self.work(clones, &order)? else {
            return Err(misunderstood("convert"));
        };
        let signed = signed::sign(&edited.changes, &self.core.credentials);
        let signed = signed.map_err(|error| failed("sign", chain(&error)))?;
        self.folder.keep_changes(&signed).map_err(fault)?;
        // A conversion looks as well as a look does.
        let findings = edited.findings.clone();
        keep_inspection(self.core, self.server, self.order.checkpoint, findings);
        Ok(edited)
    }

    fn rehearse(
        &self,
        clones: &Clones,
        edited: &Edited,
        machine: &RehearsalOrder,
    ) -> Result<Rehearsal, Unfinished> {
        let order = Order::Rehearse(Rehearse {
            boot_mode: edited.boot_mode,
            machine: machine.clone(),
        });
        let report = self.work(clones, &order);
        self.folder.keep_pictures().map_err(fault)?;
        match report? {
            Report::Rehearsed(rehearsal) if rehearsal.came_up => Ok(rehearsal),
            Report::Rehearsed(rehearsal) => Err(Unfinished::Failed(ConversionState::Failed {
                step: "rehearse".into(),
                detail: format!("the converted disks do not come up: {}", rehearsal.verdict),
                rehearsal: Some(rehearsal),
            })),
            _ => Err(misunderstood("rehearse")),
        }
    }

    fn work(&self, clones: &Clones, order: &Order) -> Result<Report, Unfinished> {
        let begin = |step: &str| self.begin(step);
        match clones.work(order, &self.workshop, self.called_off, begin) {
            Ok(Report::Failed { step, detail }) => Err(failed(&step, detail)),
            Ok(report) => Ok(report),
            Err(CloneError::CalledOff) => Err(Unfinished::Fault(Fault::CalledOff)),
            Err(error) => Err(failed("worker", chain(&error))),
        }
    }

    fn begin(&self, step: &str) {
        let state = ConversionState::Running {
            step: step.to_owned(),
        };
        show(self.core, self.server, &self.order.job, state);
    }
}

fn failed(step: &str, detail: String) -> Unfinished {
    Unfinished::Failed(ConversionState::Failed {
        step: step.to_owned(),
        detail,
        rehearsal: None,
    })
}

fn misunderstood(step: &str) -> Unfinished {
    failed(
        step,
        "the worker answered something else than it was asked".into(),
    )
}

fn fault(error: crate::files::FileError) -> Unfinished {
    Unfinished::Fault(Fault::File(error))
}
