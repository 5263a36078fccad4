//! Looks at checkpoints, days before anybody cuts over.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use domain::{checkpoint::CheckpointNumber, launch::Hypervisor, readiness::Finding};
use tokio::runtime::Handle;

use super::{Fault, Shown, clones, folder, keep_inspection, workshop};
use crate::{
    convert::{
        clones::CloneError,
        orders::{Inspect, Order, Report},
    },
    runner::core::Core,
    server::{Server, blocking},
    staging::chain,
};

/// The checkpoint that should be looked at now: the newest, if the last look is too long ago.
pub(super) fn to_inspect(core: &Core, server: &Server, shown: &Shown) -> Option<CheckpointNumber> {
    let every = core.converting.inspect_every?;
    let newest = server.newest_launchable()?;
    let due = match &shown.inspection {
        None => true,
        Some(last) => {
            let age = chrono::Utc::now().timestamp_millis() - last.at_ms;
            last.checkpoint != newest && u128::try_from(age).is_ok_and(|age| age >= every.as_millis())
        }
    };
    due.then_some(newest)
}

/// Looks at the newest checkpoint that can be launched, if it is time.
pub(super) async fn inspect(core: &Arc<Core>, server: &Arc<Server>) -> Result<(), Fault> {
    let shown = server.shown().clone();
    let Some(number) = to_inspect(core, server, &shown) else {
        return Ok(());
    };
    let Ok(_turn) = core.conversions.acquire().await else {
        return Err(Fault::CalledOff);
    };
    let called_off = Arc::new(AtomicBool::new(false));
    let look = blocking({
        let (core, server, called_off) = (Arc::clone(core), Arc::clone(server), Arc::clone(&called_off));
        let runtime = Handle::current();
        move || look(&core, &server, number, runtime, &called_off)
    });
    tokio::pin!(look);
    tokio::select! {
        () = &mut look => {}
        () = core.stop.cancelled() => {
            called_off.store(true, Relaxed);
            look.await;
        }
    }
    core.changed.notify_one();
    Ok(())
}

fn look(core: &Core, server: &Server, number: CheckpointNumber, runtime: Handle, called_off: &AtomicBool) {
    let Ok(Some((checkpoint, _held))) = server.ledger().hold(Some(number)) else {
        return; // A newer one is there, and will be looked at.
    };
    let workshop = workshop(core, server, server.dir().join(folder::LOOK_FOLDER), runtime);
    let agent = server.standing().agent.clone();
    let order = Order::Inspect(Inspect {
        boot_mode: agent.map(|agent| agent.properties.boot_mode),
        hypervisor: Hypervisor::Nitro,
    });
    let report = clones(server, &checkpoint, &workshop)
        .and_then(|clones| clones.work(&order, &workshop, called_off, |_| {}));
    folder::remove_work(&workshop.folder);
    let findings = match report {
        Ok(Report::Inspected(findings)) => findings,
        Err(CloneError::CalledOff) => return,
        Ok(Report::Failed { detail, .. }) => vec![not_looked(&detail)],
        Ok(_) => vec![not_looked("the worker answered something else")],
        Err(error) => vec![not_looked(&chain(&error))],
    };
    keep_inspection(core, server, number, findings);
}

fn not_looked(why: &str) -> Finding {
    Finding::warns(
        "not-inspected",
        format!("The runner could not look into the disks: {why}"),
        "See to it that the runner runs as root, with /dev/fuse and loop devices.",
    )
}
