//! The event stream of a page. It says that something on the page changed, never what: the page then
//! asks for its live part again, with the permissions of that moment.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::{Query, State},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use domain::ids::{AccountId, JobId, SourceServerId};
use futures_util::{Stream, stream};
use serde::Deserialize;
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, sleep, sleep_until, timeout_at},
};

use super::{Web, session::Session};
use crate::changes::Change;

/// What follows a change within this time is told together with it.
const GATHER: Duration = Duration::from_millis(400);

/// Ages on the page grow even when nothing else happens.
const REFRESH: Duration = Duration::from_secs(10);

const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What the page shows. Nothing set: everything.
#[derive(Debug, Default, Deserialize)]
pub struct Watched {
    server: Option<SourceServerId>,
    account: Option<AccountId>,
    job: Option<JobId>,
}

impl Watched {
    fn concerns(&self, change: &Change) -> bool {
        match change {
            Change::Anything => return true,
            // What comes of it is a change of its own.
            Change::Wanted(_) | Change::Desired(_) => return false,
            _ => {}
        }
        if let Some(job) = &self.job {
            return matches!(change, Change::Job(changed) if changed == job);
        }
        if let Some(watched) = &self.server {
            return match change {
                Change::Server { server, .. } => server == watched,
                // Which servers a job works on is not in the change; jobs are few.
                Change::Job(_) => true,
                _ => false,
            };
        }
        let Some(watched) = &self.account else {
            return true;
        };
        match change {
            Change::Account(account) | Change::Server { account, .. } | Change::Runner { account, .. } => {
                account == watched
            }
            Change::Job(_) => true,
            _ => false,
        }
    }
}

struct Watch {
    web: Web,
    session: Session,
    watched: Watched,
    changes: Receiver<Change>,
    told: u64,
}

pub async fn stream(State(web): State<Web>, session: Session, Query(watched): Query<Watched>) -> Response {
    let watch = Watch {
        changes: web.hub.changes.subscribe(),
        web,
        session,
        watched,
        told: 0,
    };
    Sse::new(events(watch))
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response()
}

fn events(watch: Watch) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(watch, |mut watch| async move {
        let stopping = watch.web.hub.stopping.clone();
        tokio::select! {
            () = stopping.cancelled() => return None,
            () = watch.next_change() => {}
        }
        // A session that ended, or a store that cannot tell, ends the stream; the page asks again.
        if !watch.session.stands(&watch.web).await.unwrap_or(false) {
            return None;
        }
        watch.told += 1;
        let event = Event::default()
            .event("changed")
            .id(watch.told.to_string())
            .retry(Duration::from_secs(2))
            // Browsers drop an event without data.
            .data(watch.told.to_string());
        Some((Ok(event), watch))
    })
}

impl Watch {
    /// Waits until something on the page may look different, and gathers what comes with it.
    async fn next_change(&mut self) {
        let refresh = Instant::now() + REFRESH;
        loop {
            match timeout_at(refresh, self.changes.recv()).await {
                Err(_) => return,
                Ok(Ok(change)) if !self.watched.concerns(&change) => {}
                // Lagged: something was missed, and may concern us.
                Ok(Ok(_) | Err(RecvError::Lagged(_))) => break,
                Ok(Err(RecvError::Closed)) => {
                    sleep_until(refresh).await;
                    return;
                }
            }
        }
        sleep(GATHER).await;
        while self.changes.try_recv().is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_hears_of_what_it_shows() {
        let server = SourceServerId::from_entropy(1);
        let account: AccountId = "111111111111".parse().unwrap();
        let change = Change::Server {
            server: server.clone(),
            account: account.clone(),
        };
        let of_server = |id| Watched {
            server: Some(SourceServerId::from_entropy(id)),
            ..Watched::default()
        };
        assert!(Watched::default().concerns(&change));
        assert!(of_server(1).concerns(&change));
        assert!(!of_server(2).concerns(&change));
        let elsewhere = Watched {
            account: Some("222222222222".parse().unwrap()),
            ..Watched::default()
        };
        assert!(!elsewhere.concerns(&change));
        assert!(elsewhere.concerns(&Change::Job(JobId::from_entropy(1))));
    }
}
