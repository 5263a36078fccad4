//! Whether the disks of a server are converted for a launch, and rehearsed: all of it at once.
//!
//! `{"convert": true, "rehearsal": {"timeLimitS": 300, "probe": {"port": 80, "expects": {"http": {"path": "/",
//! "status": 200}}}}}` boots the converted disks, and launches them if the web server answers; `"expects": "tcp"`
//! asks for a connection only. Without a probe the machine's own words decide, without a rehearsal nothing is booted.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use domain::{
    ids::SourceServerId,
    launch::{LaunchConfiguration, Probe, RehearsalSettings},
};
use serde::{Deserialize, Serialize};

use crate::{
    Hub,
    actions::lifecycle::update_launch_configuration,
    api::{ApiError, Ask, caller::Caller},
};

/// A member that is not known is refused: a rehearsal that was misspelt would be none.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    convert: bool,
    #[serde(default)]
    rehearsal: Option<Rehearsal>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rehearsal {
    #[serde(default = "usual_time_limit_s")]
    time_limit_s: u32,
    #[serde(default)]
    probe: Option<Probe>,
}

fn usual_time_limit_s() -> u32 {
    RehearsalSettings::default().time_limit_s
}

pub async fn get(caller: Caller, Path(id): Path<SourceServerId>) -> Result<Json<Settings>, ApiError> {
    Ok(Json(
        caller.store.server(&id).await?.launch_configuration.0.into(),
    ))
}

pub async fn put(
    caller: Caller,
    State(hub): State<Arc<Hub>>,
    Path(id): Path<SourceServerId>,
    Ask(settings): Ask<Settings>,
) -> Result<Json<Settings>, ApiError> {
    let rehearsal = settings
        .rehearsal
        .map(|Rehearsal { time_limit_s, probe }| RehearsalSettings { time_limit_s, probe });
    let kept = update_launch_configuration(&hub, &caller.actor, &id, |kept| {
        kept.convert = settings.convert;
        kept.rehearsal = rehearsal;
    })
    .await?;
    Ok(Json(kept.into()))
}

impl From<LaunchConfiguration> for Settings {
    fn from(kept: LaunchConfiguration) -> Self {
        Self {
            convert: kept.convert,
            rehearsal: kept
                .rehearsal
                .map(|RehearsalSettings { time_limit_s, probe }| Rehearsal { time_limit_s, probe }),
        }
    }
}
