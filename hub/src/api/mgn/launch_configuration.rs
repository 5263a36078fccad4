//! Launch settings of one server.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State};
use domain::launch::{BootMode, LaunchDisposition};
use serde::Deserialize;
use serde_json::Value;

use super::{servers::OneServer, shapes};
use crate::{
    Hub,
    actions::lifecycle::{LaunchConfigurationChange, update_launch_configuration},
    api::{ApiError, Ask, caller::Caller},
};

pub async fn get(
    Caller(_): Caller,
    State(hub): State<Arc<Hub>>,
    Ask(request): Ask<OneServer>,
) -> Result<Json<Value>, ApiError> {
    let server = request.find(&hub).await?;
    let shape = shapes::launch_configuration(&server.id, &server.hostname, &server.launch_configuration);
    Ok(Json(shape))
}

/// The last four members are ours; MGN keeps such in an EC2 launch template.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    #[serde(flatten)]
    server: OneServer,
    launch_disposition: Option<LaunchDisposition>,
    copy_private_ip: Option<bool>,
    copy_tags: Option<bool>,
    boot_mode: Option<BootMode>,
    instance_type: Option<String>,
    test_subnet: Option<String>,
    target_subnet: Option<String>,
    tags: Option<BTreeMap<String, String>>,
}

pub async fn update(
    Caller(actor): Caller,
    State(hub): State<Arc<Hub>>,
    Ask(request): Ask<Update>,
) -> Result<Json<Value>, ApiError> {
    let server = request.server.find(&hub).await?;
    let change = LaunchConfigurationChange {
        instance_type: request.instance_type,
        test_subnet: request.test_subnet,
        target_subnet: request.target_subnet,
        disposition: request.launch_disposition,
        boot_mode: request.boot_mode,
        copy_private_ip: request.copy_private_ip,
        copy_tags: request.copy_tags,
        tags: request.tags,
        ..LaunchConfigurationChange::default()
    };
    let settings = update_launch_configuration(&hub, &actor, &server.id, change).await?;
    Ok(Json(shapes::launch_configuration(
        &server.id,
        &server.hostname,
        &settings,
    )))
}
