//! The hub's own work, which one of several hubs does: jobs, waves, and what must be looked at again and again.

use std::sync::{Arc, atomic::Ordering};

use anyhow::Context;
use tokio::task::JoinSet;

use crate::{
    Hub,
    changes::{Change, Work},
    sagas::engine,
    store::{Lead, Server, listen},
    tasks,
};

/// Does the work until the hub stops; nobody else can.
pub async fn alone(hub: Arc<Hub>) -> anyhow::Result<()> {
    hub.leads.store(true, Ordering::Relaxed);
    ended(&mut work(&hub)).await
}

/// Does the work whenever this hub leads.
pub async fn in_turn(hub: Arc<Hub>, server: Server) -> anyhow::Result<()> {
    loop {
        let mut lead = tokio::select! {
            lead = Lead::take(&server) => lead,
            () = hub.stopping.cancelled() => return Ok(()),
        };
        tracing::info!("this hub leads: it runs jobs, waves and checks");
        hub.leads.store(true, Ordering::Relaxed);
        let mut work = work(&hub);
        let over = tokio::select! {
            ended = ended(&mut work) => Some(ended),
            () = lead.keep() => None,
        };
        // Whatever is cut off is taken up by the hub that leads next.
        work.shutdown().await;
        hub.leads.store(false, Ordering::Relaxed);
        lead.release().await;
        if let Some(ended) = over {
            return ended;
        }
        tracing::warn!("this hub leads no more; it goes on to answer people and machines");
    }
}

fn work(hub: &Arc<Hub>) -> JoinSet<()> {
    let mut work = JoinSet::new();
    work.spawn(tasks::accounts::run(hub.clone()));
    work.spawn(tasks::readiness::run(hub.clone()));
    work.spawn(tasks::inventories::run(hub.clone()));
    work.spawn(tasks::waves::run(hub.clone()));
    work.spawn(tasks::notices::run(hub.clone()));
    work.spawn(engine::run(hub.clone()));
    work
}

/// Each part ends when the hub stops. One that panics is an error.
async fn ended(work: &mut JoinSet<()>) -> anyhow::Result<()> {
    while let Some(part) = work.join_next().await {
        part.context("a part of the hub panicked")?;
    }
    Ok(())
}

/// Takes what other hubs change for changed here, and looks at once for what they want done.
pub async fn hear_others(hub: Arc<Hub>, server: Server) -> anyhow::Result<()> {
    let take = |change| {
        match &change {
            Change::Wanted(work) => hub.look_for(*work),
            Change::Anything => Work::ALL.into_iter().for_each(|work| hub.look_for(work)),
            _ => {}
        }
        hub.changes.publish(change);
    };
    listen(&server, hub.changes.origin(), hub.stopping.cancelled(), take).await;
    Ok(())
}

impl Hub {
    /// There is work for the hub that leads, whichever it is.
    pub async fn want(&self, work: Work) {
        self.look_for(work);
        self.store.tell(Change::Wanted(work)).await;
    }

    fn look_for(&self, work: Work) {
        match work {
            Work::Sagas => &self.sagas_added,
            Work::Accounts => &self.accounts_changed,
            Work::Readiness => &self.readiness_wanted,
            Work::Inventories => &self.inventory_wanted,
            Work::Waves => &self.waves_changed,
        }
        .notify_one();
    }
}
