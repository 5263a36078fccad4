//! What is going to be launched, and what is in the way of it: known before anything is made or removed.

use std::net::IpAddr;

use cloud::control::{
    ClientToken, ImageDisk, LaunchSpec, Outlook, Place, SERVER_TAG, TOKEN_TAG, Tags, TemplateSpec,
};
use domain::{
    ids::SourceServerId,
    launch::{
        BootMode, LaunchConfiguration, Purpose, RightSizing,
        instance_type::{Needs, allowed_families, right_sized},
    },
};
use protocol::exchange::ObservedSnapshot;

use crate::{Hub, entities::source_server, onboarding::uses, sagas::StepError};

/// A launch as it would be now.
#[derive(Debug, Clone)]
pub struct Plan {
    pub instance_type: String,
    /// What the source needs of it.
    pub needs: Needs,
    pub outlook: Outlook,
}

/// Asks the account, and changes nothing there.
pub async fn plan(
    hub: &Hub,
    place: &Place,
    server: &source_server::Model,
    settings: &LaunchConfiguration,
    purpose: Purpose,
) -> Result<Plan, StepError> {
    let needs = needs(server, settings)?;
    let instance_type = match settings.right_sizing {
        RightSizing::None => settings.instance_type.clone(),
        RightSizing::Basic => right_size(hub, place, &needs, settings, purpose).await?,
    };
    let launch = LaunchSpec {
        disks: known_disks(hub, server, settings).await?,
        ..launch_spec(server, settings, purpose, &instance_type)?
    };
    let spec = template_spec(server, launch);
    let uses = uses::of_launch(place, &spec);
    let outlook = hub.cloud.launch_outlook(place, &spec, &needs, &uses).await?;
    Ok(Plan {
        instance_type,
        needs,
        outlook,
    })
}

async fn right_size(
    hub: &Hub,
    place: &Place,
    needs: &Needs,
    settings: &LaunchConfiguration,
    purpose: Purpose,
) -> Result<String, StepError> {
    let families = allowed_families(&settings.families);
    let offered = hub
        .cloud
        .instance_types(place, settings.subnet(purpose), &families)
        .await?;
    match right_sized(&offered, needs, &families) {
        Some(fits) => Ok(fits.name.clone()),
        None => Err(StepError::Permanent(format!(
            "no instance type of {} has room for the source ({needs}); allow other families in the launch settings, or \
             name a type there",
            families.join(", ")
        ))),
    }
}

fn needs(server: &source_server::Model, settings: &LaunchConfiguration) -> Result<Needs, StepError> {
    Ok(Needs {
        cpus: server.properties.cpus,
        memory_bytes: server.properties.ram_bytes,
        architecture: server.properties.architecture,
        boot_mode: boot_mode(server, settings)?,
    })
}

/// How the instance boots.
pub(super) fn boot_mode(
    server: &source_server::Model,
    settings: &LaunchConfiguration,
) -> Result<BootMode, StepError> {
    match (settings.boot_mode, server.properties.boot_mode) {
        (BootMode::UseSource, BootMode::UseSource) => Err(StepError::Permanent(
            "the source does not say how it boots; choose the boot mode in the launch settings".into(),
        )),
        (BootMode::UseSource, source) => Ok(source),
        (chosen, _) => Ok(chosen),
    }
}

/// The instance, but for its disks.
pub(super) fn launch_spec(
    server: &source_server::Model,
    settings: &LaunchConfiguration,
    purpose: Purpose,
    instance_type: &str,
) -> Result<LaunchSpec, StepError> {
    Ok(LaunchSpec {
        private_ip: private_ip(server, settings)?,
        security_groups: settings.security_groups.clone(),
        instance_profile: settings.instance_profile.clone(),
        tenancy: settings.tenancy,
        encryption: settings.volumes.encryption.clone(),
        ..LaunchSpec::new(instance_type, settings.subnet(purpose))
    })
}

fn private_ip(
    server: &source_server::Model,
    settings: &LaunchConfiguration,
) -> Result<Option<IpAddr>, StepError> {
    if !settings.copy_private_ip {
        return Ok(None);
    }
    let interfaces = &server.properties.network_interfaces;
    let primary = interfaces.iter().find(|interface| interface.is_primary);
    let ip = primary
        .and_then(|interface| interface.ips.first())
        .and_then(|ip| ip.parse().ok());
    match ip {
        Some(ip) => Ok(Some(ip)),
        None => Err(StepError::Permanent(
            "the launch settings keep the private address, and the source reports none; switch the setting off"
                .into(),
        )),
    }
}

pub(super) fn image_disk(disk: &ObservedSnapshot, settings: &LaunchConfiguration) -> ImageDisk {
    ImageDisk {
        source_device: disk.device_name.clone(),
        snapshot: disk.snapshot.clone(),
        bytes: disk.bytes,
        is_boot: disk.is_boot,
        volume: settings.volumes.of(&disk.device_name),
    }
}

/// Of the newest checkpoint that could be launched; before the first one, those that the agent reports.
async fn known_disks(
    hub: &Hub,
    server: &source_server::Model,
    settings: &LaunchConfiguration,
) -> Result<Vec<ImageDisk>, StepError> {
    let checkpoints = hub.store.checkpoint_list(&server.id).await?;
    if let Some(newest) = checkpoints.iter().rev().find(|row| row.is_launchable()) {
        return Ok(newest
            .disks
            .iter()
            .map(|disk| image_disk(disk, settings))
            .collect());
    }
    let disk = |disk: &domain::disk::Disk| ImageDisk {
        source_device: disk.device_name.clone(),
        snapshot: String::new(),
        bytes: disk.bytes,
        is_boot: disk.is_boot,
        volume: settings.volumes.of(&disk.device_name),
    };
    Ok(server.properties.disks.iter().map(disk).collect())
}

/// The one template of a server, under a name and a token that it has for good.
pub(super) fn template_spec(server: &source_server::Model, launch: LaunchSpec) -> TemplateSpec {
    TemplateSpec {
        name: format!("orglift-{}", server.id.0),
        launch,
        tags: Tags::from([
            (SERVER_TAG.to_owned(), server.id.to_string()),
            (TOKEN_TAG.to_owned(), template_token(&server.id).0),
        ]),
    }
}

pub(super) fn template_token(server: &SourceServerId) -> ClientToken {
    ClientToken(format!("{server}/LaunchTemplate"))
}
