//! What a runner does all the time, each a task of its own.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{ids::SourceServerId, replication::ReplicationError, source_server::ReplicationIntent};
use protocol::exchange::Observed;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinSet,
    time::sleep,
};

use super::core::Core;
use crate::{
    housekeeping,
    server::Server,
    session,
    staging::{chain, seal},
};

/// Connections at a time of whom nothing is known yet: an agent has ten seconds to say what it wants.
const STRANGERS_MAX: usize = 128;

/// How long an agent has to uninstall itself before its server is erased.
const UNINSTALL_MAX: Duration = Duration::from_secs(10);

/// Changes are gathered for so long before they are published.
const PUBLISH_EVERY: Duration = Duration::from_millis(50);

/// Servers without an agent are looked at for unfinished checkpoints so often.
const FINISH_EVERY: Duration = Duration::from_secs(30);

/// What failed is tried again after so long.
const RETRY_EVERY: Duration = Duration::from_secs(5);

pub(super) async fn accept(core: Arc<Core>, listener: TcpListener) {
    let room = Arc::new(Semaphore::new(STRANGERS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = core.stop.cancelled() => break,
            Some(ended) = connections.join_next() => {
                log_panic(ended);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let (tcp, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely; they come back.
                tracing::warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            core.turn_away(
                address,
                None,
                format!("the runner is greeting {STRANGERS_MAX} connections already"),
            );
            continue;
        };
        let core = Arc::clone(&core);
        connections.spawn(session::serve(core, tcp, address, place));
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        log_panic(ended);
    }
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a session failed");
    }
}

/// Takes up what is wanted, and erases servers that are to be forgotten.
pub(super) async fn follow_desired(core: Arc<Core>) {
    let mut desired = core.desired.clone();
    let mut erasing = BTreeSet::new();
    let mut erasures = JoinSet::new();
    loop {
        core.take_up_desired().await;
        for id in to_erase(&core) {
            if let Some(server) = core.server(&id)
                && erasing.insert(id.clone())
            {
                erasures.spawn(erase(Arc::clone(&core), server, id));
            }
        }
        let retry = core.has_broken();
        tokio::select! {
            () = core.stop.cancelled() => return,
            changed = desired.changed() => if changed.is_err() {
                core.stop.cancelled().await;
                return;
            },
            Some(erased) = erasures.join_next() => if let Ok(id) = erased {
                erasing.remove(&id);
            },
            () = sleep(RETRY_EVERY), if retry => {}
        }
    }
}

fn to_erase(core: &Core) -> Vec<SourceServerId> {
    let desired = core.desired.borrow();
    let leaving = desired
        .servers
        .iter()
        .filter(|wanted| wanted.replication == ReplicationIntent::Disconnected)
        .map(|wanted| wanted.id.clone());
    leaving
        .filter(|id| core.server(id).is_some_and(|server| !server.standing().forgotten))
        .collect()
}

/// Gives the agent time to uninstall itself, and deletes all that is kept of the server.
async fn erase(core: Arc<Core>, server: Arc<Server>, id: SourceServerId) -> SourceServerId {
    let deadline = Instant::now() + UNINSTALL_MAX;
    while server.standing().is_connected() && Instant::now() < deadline {
        sleep(Duration::from_millis(100)).await;
    }
    match server.erase().await {
        Ok(()) => tracing::info!(server.id = %id, "a server is forgotten"),
        Err(error) => {
            tracing::warn!(server.id = %id, error = %chain(&error), "cannot erase a server; trying again");
            sleep(RETRY_EVERY).await;
        }
    }
    core.changed.notify_one();
    id
}

/// Makes the checkpoints that were promised before the runner ended, and that no agent has come for since.
pub(super) async fn keep_promises(core: Arc<Core>) {
    loop {
        for server in core.servers() {
            // Whoever has the slot has done it.
            let Some(_slot) = server.try_slot() else { continue };
            if server.standing().forgotten {
                continue;
            }
            // Cut off, it begins anew at the next start.
            let Some(finished) = core.stop.run_until_cancelled(seal::finish(&server)).await else {
                return;
            };
            match finished {
                Ok(()) => core.changed.notify_one(),
                Err(fault) => {
                    let detail = format!("the last checkpoint cannot be finished: {fault}");
                    tracing::error!(server.id = %server.id, "{detail}");
                    server
                        .standing()
                        .stall(ReplicationError::SnapshotsFailure, detail);
                }
            }
        }
        tokio::select! {
            () = core.stop.cancelled() => return,
            () = sleep(FINISH_EVERY) => {}
        }
    }
}

pub(super) async fn publish(core: Arc<Core>, report: watch::Sender<Observed>) {
    loop {
        tokio::select! {
            () = core.stop.cancelled() => return,
            () = core.changed.notified() => {}
        }
        sleep(PUBLISH_EVERY).await;
        let observed = core.observed();
        report.send_if_modified(|last| {
            let differs = *last != observed;
            *last = observed;
            differs
        });
    }
}

/// Notices silence, and how much room is left.
pub(super) async fn watch_time(core: Arc<Core>) {
    loop {
        let free = core.store.free_bytes().await;
        match free {
            Ok(free) => *core.free_bytes.lock().expect("no panic while it was held") = free,
            Err(error) => tracing::warn!(error = %chain(&error), "cannot tell how much room is left"),
        }
        for server in core.servers() {
            server.standing().tick(Instant::now());
        }
        core.changed.notify_one();
        tokio::select! {
            () = core.stop.cancelled() => return,
            () = sleep(Duration::from_secs(1)) => {}
        }
    }
}

/// Lets old checkpoints go, one server after the other.
pub(super) async fn keep_house(core: Arc<Core>) {
    loop {
        for server in core.servers() {
            let wanted = {
                let desired = core.desired.borrow();
                desired
                    .servers
                    .iter()
                    .find(|wanted| wanted.id == server.id)
                    .cloned()
            };
            // What nobody wants any more is not for this duty to shorten.
            let Some(wanted) = wanted else { continue };
            let pinned: BTreeSet<_> = wanted.pinned.into_iter().collect();
            match housekeeping::retain(&server, &pinned, wanted.checkpoints_kept).await {
                Ok(true) => core.changed.notify_one(),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(server.id = %server.id, error = %chain(&error), "old checkpoints stay for now");
                }
            }
        }
        tokio::select! {
            () = core.stop.cancelled() => return,
            () = core.tidy.notified() => {}
            // A reader that kept a checkpoint may be done.
            () = sleep(Duration::from_secs(30)) => {}
        }
    }
}
