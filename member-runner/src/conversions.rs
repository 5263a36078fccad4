//! Conversions that jobs wait for, and looks at checkpoints days before anybody cuts over.
//!
//! ```text
//! wanted ─▶ waiting ─▶ running ─▶ result.json ─▶ reported, again and again ─▶ not wanted any more: removed
//!                         └ runner ends, or not wanted any more: nothing is kept, and it begins anew if it is
//! ```
//!
//! One at a time, as an initramfs wants a processor and a machine its memory. What a conversion leaves is in a folder of
//! its job, below the server's, until the hub no longer wants it: its result, the signed change list, console text and
//! screenshot of the rehearsal. Its snapshots carry the job as a tag, so that what a crash leaves is found.

mod attempt;
mod folder;
mod look;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use cloud::{
    control::SERVER_TAG,
    snapshots::{SnapshotInfo, StoreError},
};
use domain::{
    checkpoint::CheckpointNumber,
    conversion::{Conversion, ConversionOrder, ConversionState, Inspection},
    ids::{JobId, SourceServerId},
    readiness::Finding,
};
use protocol::exchange::ObservedCheckpoint;
use tokio::{runtime::Handle, task::JoinSet, time::sleep};

pub use self::folder::{artifact, load};
use self::{attempt::Attempt, folder::Folder};
use crate::{
    convert::clones::{CloneError, Clones, Workshop},
    files::FileError,
    runner::core::Core,
    server::{PURPOSE_TAG, Server, blocking},
    staging::chain,
};

/// Beside [`SERVER_TAG`], what tells snapshots of conversions from those of the replication.
const PURPOSE: &str = "conversion";
const JOB_TAG: &str = "orglift:job";

/// What failed for a reason that may pass is tried again after so long.
const RETRY_EVERY: Duration = Duration::from_secs(30);

/// What the hub hears of conversions and looks.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    pub inspection: Option<Inspection>,
    pub conversion: Option<Conversion>,
}

/// Does what is wanted of every server, each by a task of its own that waits for its turn.
pub(crate) async fn tend_for_ever(core: Arc<Core>) {
    let mut desired = core.desired.clone();
    let mut tended = BTreeSet::new();
    let mut tasks = JoinSet::new();
    loop {
        for server in core.servers() {
            let order = wanted(&core, &server.id);
            if !tended.contains(&server.id) && has_work(&core, &server, order.as_ref()) {
                tended.insert(server.id.clone());
                tasks.spawn(tend(Arc::clone(&core), server, order));
            }
        }
        tokio::select! {
            () = core.stop.cancelled() => break,
            changed = desired.changed() => if changed.is_err() {
                core.stop.cancelled().await;
                break;
            },
            Some(ended) = tasks.join_next() => match ended {
                Ok(id) => { tended.remove(&id); }
                Err(error) => tracing::error!(%error, "a conversion failed"),
            },
            () = sleep(RETRY_EVERY) => {}
        }
    }
    while tasks.join_next().await.is_some() {}
}

fn wanted(core: &Core, id: &SourceServerId) -> Option<ConversionOrder> {
    let desired = core.desired.borrow();
    let wanted = desired.servers.iter().find(|wanted| wanted.id == *id)?;
    wanted.conversion.clone()
}

fn has_work(core: &Core, server: &Server, order: Option<&ConversionOrder>) -> bool {
    if server.standing().forgotten {
        return false;
    }
    let shown = server.shown();
    match (order, &shown.conversion) {
        (Some(order), Some(known)) if known.job == order.job => !known.state.is_final(),
        (Some(_), _) | (None, Some(_)) => true,
        (None, None) => look::to_inspect(core, server, &shown).is_some(),
    }
}

async fn tend(core: Arc<Core>, server: Arc<Server>, order: Option<ConversionOrder>) -> SourceServerId {
    let id = server.id.clone();
    match tend_to(&core, &server, order).await {
        Ok(()) => {}
        Err(Fault::CalledOff) => tracing::info!(server.id = %id, "a conversion was called off"),
        Err(fault) => {
            tracing::warn!(server.id = %id, error = %chain(&fault), "cannot tend to conversions; trying again");
            // A server that cannot be tended to must not keep the others from it.
            tokio::select! {
                () = core.stop.cancelled() => {}
                () = sleep(RETRY_EVERY) => {}
            }
        }
    }
    core.changed.notify_one();
    id
}

/// What may pass by itself. What does not is the result of the conversion.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("it was called off")]
    CalledOff,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    File(#[from] FileError),
}

async fn tend_to(
    core: &Arc<Core>,
    server: &Arc<Server>,
    order: Option<ConversionOrder>,
) -> Result<(), Fault> {
    let job = order.as_ref().map(|order| &order.job);
    remove_all_but(server, job).await?;
    let Some(order) = order else {
        return look::inspect(core, server).await;
    };
    show(core, server, &order.job, ConversionState::Waiting);
    let Ok(_turn) = core.conversions.acquire().await else {
        return Err(Fault::CalledOff);
    };
    if wanted(core, &server.id).as_ref() != Some(&order) {
        return Err(Fault::CalledOff);
    }
    // What an attempt before a crash has left.
    remove_all_but(server, None).await?;
    let called_off = Arc::new(AtomicBool::new(false));
    let work = blocking({
        let (core, server, order) = (Arc::clone(core), Arc::clone(server), order.clone());
        let (called_off, runtime) = (Arc::clone(&called_off), Handle::current());
        move || Attempt::new(&core, &server, &order, runtime, &called_off).convert()
    });
    let state = until_unwanted(core, &server.id, &order, &called_off, work).await?;
    blocking({
        let (folder, state) = (Folder::of(server, &order.job), state.clone());
        move || folder.keep(&state)
    })
    .await?;
    if let ConversionState::Failed { step, detail, .. } = &state {
        tracing::warn!(server.id = %server.id, job = %order.job, %step, "a conversion failed: {detail}");
        // Of some disks there may be one. The folder stays, and says why.
        remove_snapshots(server, None).await?;
    } else {
        tracing::info!(server.id = %server.id, job = %order.job, "a checkpoint is converted");
    }
    show(core, server, &order.job, state);
    Ok(())
}

/// Calls the work off as soon as nobody wants it any more, and waits for its end in any case.
async fn until_unwanted<T>(
    core: &Core,
    id: &SourceServerId,
    order: &ConversionOrder,
    called_off: &AtomicBool,
    work: impl Future<Output = T>,
) -> T {
    let mut desired = core.desired.clone();
    let unwanted = async {
        while wanted(core, id).as_ref() == Some(order) {
            if desired.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = unwanted => {}
        () = core.stop.cancelled() => {}
    }
    called_off.store(true, Relaxed);
    work.await
}

fn show(core: &Core, server: &Server, job: &JobId, state: ConversionState) {
    server.shown().conversion = Some(Conversion {
        job: job.clone(),
        state,
    });
    core.changed.notify_one();
}

async fn remove_all_but(server: &Arc<Server>, job: Option<&JobId>) -> Result<(), Fault> {
    remove_snapshots(server, job).await?;
    blocking({
        let (server, job) = (Arc::clone(server), job.cloned());
        move || folder::remove_all_but(&server, job.as_ref())
    })
    .await?;
    let mut shown = server.shown();
    if shown
        .conversion
        .as_ref()
        .is_some_and(|known| Some(&known.job) != job)
    {
        shown.conversion = None;
    }
    Ok(())
}

/// Deletes what conversions made of the server's checkpoints, except for one job.
pub async fn remove_snapshots(server: &Server, except: Option<&JobId>) -> Result<(), StoreError> {
    let is_ours = |info: &SnapshotInfo| {
        let tag = |name: &str| info.tags.get(name).map(String::as_str);
        tag(SERVER_TAG) == Some(server.id.as_str())
            && tag(PURPOSE_TAG) == Some(PURPOSE)
            && (except.is_none() || tag(JOB_TAG) != except.map(JobId::as_str))
    };
    for info in server.store.list().await?.iter().filter(|info| is_ours(info)) {
        server.store.delete(&info.id).await?;
    }
    Ok(())
}

fn workshop(core: &Core, server: &Server, folder: PathBuf, runtime: Handle) -> Workshop {
    Workshop {
        program: core.converting.program.clone(),
        folder,
        store: Arc::clone(&server.store),
        runtime,
    }
}

fn clones(
    server: &Server,
    checkpoint: &ObservedCheckpoint,
    workshop: &Workshop,
) -> Result<Clones, CloneError> {
    let ledger = server.ledger();
    let disks = checkpoint.disks.iter();
    // Without them, more is read.
    let digests = disks.map(|disk| ledger.digests_at(checkpoint.number, disk).ok());
    let digests = digests.collect();
    drop(ledger);
    Clones::of(checkpoint, digests, workshop)
}

fn keep_inspection(core: &Core, server: &Server, checkpoint: CheckpointNumber, findings: Vec<Finding>) {
    let inspection = Inspection {
        checkpoint,
        at_ms: chrono::Utc::now().timestamp_millis(),
        findings,
    };
    if let Err(error) = folder::keep_inspection(server, &inspection) {
        // It is looked at again after the next start.
        tracing::warn!(server.id = %server.id, error = %chain(&error), "cannot keep what a look has shown");
    }
    server.shown().inspection = Some(inspection);
    core.changed.notify_one();
}
