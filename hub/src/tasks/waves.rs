//! Launches waves: orders the next batch as soon as there is room for it.

use std::{sync::Arc, time::Duration};

use domain::{
    job::LaunchStatus,
    launch::Purpose,
    wave::{Run, RunState},
};

use crate::{
    Hub,
    actions::{ActionError, waves::run},
    auth,
    changes::Change,
    clock::now_ms,
    entities::wave,
    store::StoreError,
};

/// A change may have been missed.
const EVERY: Duration = Duration::from_secs(10);

/// Jobs end in bursts.
const GATHER: Duration = Duration::from_millis(200);

/// Runs until the hub stops.
pub async fn run(hub: Arc<Hub>) {
    let mut changes = hub.changes.subscribe();
    loop {
        if let Err(error) = advance_all(&hub).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot launch waves");
        }
        let job_changed = async {
            // Who lagged behind may have missed one.
            while let Ok(change) = changes.recv().await {
                if matches!(change, Change::Job(_) | Change::Anything) {
                    break;
                }
            }
        };
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = hub.waves_changed.notified() => {}
            () = job_changed => tokio::time::sleep(GATHER).await,
            () = hub.stopping.cancelled() => return,
        }
    }
}

/// Takes each wave that is being launched as far as it gets now.
pub async fn advance_all(hub: &Hub) -> Result<(), StoreError> {
    for wave in hub.store.waves_running().await? {
        match advance(hub, &wave).await {
            // Somebody changed it meanwhile, and had us look at it again.
            Ok(()) | Err(ActionError::Conflict(_)) => {}
            Err(ActionError::Store(error)) => return Err(error),
            Err(error) => {
                let id = &wave.id;
                tracing::warn!(wave = %id, error = &error as &dyn std::error::Error, "wave {id} is held");
                let why = error.to_string();
                set(hub, &wave, |run| run.state = RunState::Held { why }).await?;
            }
        }
    }
    Ok(())
}

async fn advance(hub: &Hub, wave: &wave::Model) -> Result<(), ActionError> {
    let Some(current) = &wave.run.0 else {
        return Ok(());
    };
    let (working, failed) = outcomes(hub, current).await?;
    let mut current = current.clone();
    if current.failed != failed {
        current = set(hub, wave, |run| run.failed = failed)
            .await?
            .unwrap_or(current);
    }
    if current.waiting.is_empty() {
        if working == 0 {
            set(hub, wave, |run| run.state = RunState::Ended { at: now_ms() }).await?;
        }
        return Ok(());
    }
    if let Some(why) = in_the_way(wave, &current) {
        set(hub, wave, |run| run.state = RunState::Held { why }).await?;
        return Ok(());
    }
    let Some(actor) = auth::actor_named(&hub.store, &current.by).await? else {
        let why = format!("{}, who began it, may not sign in any more", current.by);
        set(hub, wave, |run| run.state = RunState::Held { why }).await?;
        return Ok(());
    };
    let busy = hub.store.servers_in_jobs().await?;
    run::launch_batch(hub, &actor, wave, &current, &busy).await?;
    Ok(())
}

/// Why nothing new is to be begun.
fn in_the_way(wave: &wave::Model, run: &Run) -> Option<String> {
    if run.fails_too_often() {
        let failed = run.failed - run.failed_known;
        return Some(format!(
            "{failed} of its launches failed; look into them, then go on or end it"
        ));
    }
    let window = wave.plan.window.filter(|_| run.purpose == Purpose::Cutover)?;
    let over = now_ms() >= window.to;
    over.then(|| "its cutover window is over; plan another one, and have it approved".into())
}

/// On how many servers the run's jobs work, and for how many they failed.
async fn outcomes(hub: &Hub, run: &Run) -> Result<(u64, u64), StoreError> {
    let (mut working, mut failed) = (0, 0);
    for part in hub.store.participants(&run.jobs).await? {
        match part.status.0 {
            LaunchStatus::Pending | LaunchStatus::InProgress => working += 1,
            LaunchStatus::Failed { .. } => failed += 1,
            LaunchStatus::Launched { .. } | LaunchStatus::Terminated => {}
        }
    }
    Ok((working, failed))
}

/// Changes the run as it is by now, unless somebody else took it out of our hands.
async fn set(
    hub: &Hub,
    wave: &wave::Model,
    change: impl FnOnce(&mut Run),
) -> Result<Option<Run>, StoreError> {
    let mut tx = hub.store.begin().await?;
    let Some(mut run) = tx.wave(&wave.id).await?.run.0 else {
        return Ok(None);
    };
    if run.state == RunState::Running {
        change(&mut run);
        run::write(&mut tx, &wave.id, run.clone()).await?;
        tx.commit().await?;
    }
    Ok(Some(run))
}
