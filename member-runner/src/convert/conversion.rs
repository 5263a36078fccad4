//! What the worker does with the clones of a server's disks.

use std::process::ExitCode;

use serde::Serialize;

use super::{
    attach::{
        AttachError, Attached,
        mounts::{Guest, MountError, Programs},
    },
    inspect::disks::DiskFacts,
    worker::inside::{Inside, InsideError},
};

#[derive(Debug, thiserror::Error)]
pub enum ConversionError {
    #[error(transparent)]
    Inside(#[from] InsideError),
    #[error(transparent)]
    Attach(#[from] AttachError),
    #[error(transparent)]
    Mount(#[from] MountError),
}

#[derive(Debug, Serialize)]
struct Report {
    disks: DiskFacts,
}

/// The worker's whole life. Why it fails, it says on its standard error.
pub fn main_inside() -> ExitCode {
    let done = Inside::start().map_err(ConversionError::from).and_then(work);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{:#}", anyhow::Error::from(error));
            ExitCode::FAILURE
        }
    }
}

/// Looks at the disks and reports what they show.
pub fn work(inside: Inside) -> Result<(), ConversionError> {
    inside.step("attach")?;
    let mut attached = Attached::open(&inside.files(), &inside.disks)?;
    let guest = Guest::mount(&mut attached, &inside.work.join("root"), Programs::MayNotRun)?;
    let disks = attached.facts(Some(&guest), None);
    guest.unmount()?;
    inside.step("check")?;
    attached.check()?;
    attached.close()?;
    Ok(inside.report(&Report { disks })?)
}
