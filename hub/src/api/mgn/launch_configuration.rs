//! Launch settings of one server.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State};
use domain::launch::{
    BootMode, LaunchConfiguration, LaunchDisposition, RightSizing, Tenancy, volume::Volumes,
};
use serde::Deserialize;
use serde_json::Value;

use super::{servers::OneServer, shapes};
use crate::{
    Hub,
    actions::lifecycle::update_launch_configuration,
    api::{ApiError, Ask, caller::Caller},
};

pub async fn get(caller: Caller, Ask(request): Ask<OneServer>) -> Result<Json<Value>, ApiError> {
    let server = request.find(&caller).await?;
    let shape = shapes::launch_configuration(&server.id, &server.hostname, &server.launch_configuration);
    Ok(Json(shape))
}

#[derive(Debug, Deserialize)]
pub struct Update {
    #[serde(flatten)]
    server: OneServer,
    #[serde(flatten)]
    settings: Settings,
}

/// What is absent stays. From `instanceType` on the members are ours; MGN keeps such in an EC2 launch template.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Settings {
    target_instance_type_right_sizing_method: Option<RightSizing>,
    launch_disposition: Option<LaunchDisposition>,
    copy_private_ip: Option<bool>,
    copy_tags: Option<bool>,
    boot_mode: Option<BootMode>,
    instance_type: Option<String>,
    test_subnet: Option<String>,
    target_subnet: Option<String>,
    families: Option<Vec<String>>,
    security_groups: Option<Vec<String>>,
    /// An empty text takes it away.
    instance_profile: Option<String>,
    tenancy: Option<Tenancy>,
    volumes: Option<Volumes>,
    tags: Option<BTreeMap<String, String>>,
}

impl Settings {
    fn apply(self, to: &mut LaunchConfiguration) {
        fn set<T>(slot: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *slot = value;
            }
        }
        set(
            &mut to.right_sizing,
            self.target_instance_type_right_sizing_method,
        );
        set(&mut to.disposition, self.launch_disposition);
        set(&mut to.copy_private_ip, self.copy_private_ip);
        set(&mut to.copy_tags, self.copy_tags);
        set(&mut to.boot_mode, self.boot_mode);
        set(&mut to.instance_type, self.instance_type);
        set(&mut to.test_subnet, self.test_subnet);
        set(&mut to.target_subnet, self.target_subnet);
        set(&mut to.families, self.families);
        set(&mut to.security_groups, self.security_groups);
        let profile = self.instance_profile;
        set(
            &mut to.instance_profile,
            profile.map(|profile| Some(profile).filter(|profile| !profile.is_empty())),
        );
        set(&mut to.tenancy, self.tenancy);
        set(&mut to.volumes, self.volumes);
        set(&mut to.tags, self.tags);
    }
}

pub async fn update(
    caller: Caller,
    State(hub): State<Arc<Hub>>,
    Ask(request): Ask<Update>,
) -> Result<Json<Value>, ApiError> {
    let server = request.server.find(&caller).await?;
    let settings = update_launch_configuration(&hub, &caller.actor, &server.id, |kept| {
        request.settings.apply(kept);
    })
    .await?;
    Ok(Json(shapes::launch_configuration(
        &server.id,
        &server.hostname,
        &settings,
    )))
}
