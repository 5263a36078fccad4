//! What a runner hands over of a conversion while the job that ordered it waits.
//!
//! Nothing is taken once the job needs it no more: what an auditor has read does not change.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{Path, State, rejection::PathRejection},
    http::StatusCode,
};
use domain::ids::{JobId, RunnerId, SourceServerId};
use identity::signature;
use protocol::artifacts::{Artifact, SignedChangeList};
use tokio::{sync::Semaphore, time::timeout};

use super::{Refusal, Runner};
use crate::{Hub, entities::conversion};

/// Artifacts that are in memory at one time: four times the longest.
static AT_ONCE: Semaphore = Semaphore::const_new(4);

/// The longest one takes this long at 2 Mbit/s.
const SENT_WITHIN: Duration = Duration::from_mins(5);

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

type Named = Path<(JobId, SourceServerId, Artifact)>;

pub async fn put(
    Runner(runner): Runner,
    State(hub): State<Arc<Hub>>,
    named: Result<Named, PathRejection>,
    body: Body,
) -> Result<StatusCode, Refusal> {
    let unknown = || {
        let message = "no job of this hub waits for such an artifact any more; forget it";
        Refusal::new(StatusCode::NOT_FOUND, "artifact_unwanted", message)
    };
    let Path((job, server, artifact)) = named.map_err(|_| unknown())?;
    let conversion = hub.store.conversion(&job, &server).await?;
    let conversion = conversion.filter(|row| row.wanted).ok_or_else(unknown)?;
    if hub
        .store
        .server(&server)
        .await?
        .runner
        .is_none_or(|own| own.0 != runner)
    {
        let message = "another runner has this source server; only that one may speak of it";
        return Err(Refusal::new(StatusCode::FORBIDDEN, "not_its_runner", message));
    }
    let _turn = AT_ONCE.acquire().await.expect("it is never closed");
    let contents = read(body, artifact).await?;
    let contents = check(&hub, &runner, &conversion, artifact, contents).await?;
    let mut tx = hub.store.begin().await?;
    // The job may have ended meanwhile.
    let conversion = tx.conversion(&job, &server).await?;
    let conversion = conversion.filter(|row| row.wanted).ok_or_else(unknown)?;
    tx.artifact_put(&conversion, artifact, contents.into()).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn read(body: Body, artifact: Artifact) -> Result<Bytes, Refusal> {
    let most = artifact.len_max();
    match timeout(SENT_WITHIN, to_bytes(body, most)).await {
        Ok(Ok(contents)) => Ok(contents),
        Ok(Err(_)) => {
            let message = format!(
                "a {} has at most {most} bytes, and all of them must arrive",
                artifact.name()
            );
            Err(Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "artifact_too_long",
                message,
            ))
        }
        Err(_) => {
            let message = "the artifact did not arrive in time; it is safe to send it again";
            Err(Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                "artifact_too_slow",
                message,
            ))
        }
    }
}

/// Gives back what is what it says it is.
async fn check(
    hub: &Arc<Hub>,
    runner: &RunnerId,
    conversion: &conversion::Model,
    artifact: Artifact,
    contents: Bytes,
) -> Result<Bytes, Refusal> {
    let refused = |why: String| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "artifact_refused", why);
    match artifact {
        Artifact::Screenshot if !contents.starts_with(PNG) => Err(refused(
            "the screenshot is not a PNG image; send it as one".into(),
        )),
        Artifact::Screenshot | Artifact::Console => Ok(contents),
        Artifact::ChangeList => {
            let (hub, runner, conversion) = (hub.clone(), runner.clone(), conversion.clone());
            // Some are mebibytes long.
            let checked = tokio::task::spawn_blocking(move || {
                check_change_list(&hub, &runner, &conversion, &contents).map(|()| contents)
            });
            match checked.await {
                Ok(checked) => checked.map_err(|why| refused(format!("the change list is refused: {why}"))),
                Err(_) => Err(refused("the change list could not be checked".into())),
            }
        }
    }
}

fn check_change_list(
    hub: &Hub,
    runner: &RunnerId,
    conversion: &conversion::Model,
    contents: &[u8],
) -> Result<(), String> {
    let told: SignedChangeList = serde_json::from_slice(contents).map_err(|error| error.to_string())?;
    let signer = signature::signing_runner(
        told.json.as_bytes(),
        &told.signature,
        &told.certificate_pem,
        hub.pki.authority.certificate_pem(),
    )
    .map_err(|error| error.to_string())?;
    if signer != *runner {
        return Err(format!("runner {signer} signed it, and runner {runner} sends it"));
    }
    let list = told.list().map_err(|error| error.to_string())?;
    if list.server != conversion.server.0 || list.checkpoint != conversion.order.checkpoint {
        return Err(format!(
            "it is of checkpoint {} of source server {}",
            list.checkpoint, list.server
        ));
    }
    Ok(())
}
