//! Snapshots that a runner wants under another key, and that the hub has copied.
//!
//! As with [`released`](super::released), the server must be one of the runner's account, and the snapshot's tags must
//! name it. Which keys may be used, the account's own policy says.

use axum::http::StatusCode;
use cloud::{
    control::{CopySpec, Place},
    route::Errand,
};
use domain::ids::RunnerId;
use protocol::exchange::{CopyAnswer, CopyAsked};

use super::{Refusal, released::is_in};
use crate::Hub;

pub async fn follow(hub: &Hub, runner: &RunnerId, asked: CopyAsked) -> Result<CopyAnswer, Refusal> {
    let runner = hub.store.runner(runner).await?;
    let account = &runner.account.0;
    if !is_in(hub, &asked.server, account).await? {
        let message = format!("source server {} is not one of account {account}", asked.server);
        return Err(Refusal::new(StatusCode::FORBIDDEN, "server_elsewhere", message));
    }
    let errand = Errand::own("copy snapshots under another key");
    let place = Place {
        region: runner.region.clone(),
        ..hub.store.place(account, errand).await?
    };
    let spec = CopySpec {
        snapshot: asked.snapshot,
        server: asked.server.to_string(),
        key: asked.key,
        copy: asked.copy,
    };
    match hub.cloud.copy_snapshot(&place, &spec).await {
        Ok((copy, complete)) => Ok(CopyAnswer { copy, complete }),
        Err(error) => Err(Refusal::new(
            StatusCode::BAD_GATEWAY,
            "not_copied",
            error.to_string(),
        )),
    }
}
