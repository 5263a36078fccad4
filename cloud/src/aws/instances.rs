//! Instances: made, looked at, ended.

use std::net::IpAddr;

use aws_sdk_ec2::{
    Client,
    types::{
        self, InstanceStateName, InstanceStatus, LaunchTemplateSpecification, Reservation, ResourceType,
        SummaryStatus,
    },
};

use super::{
    calls::Asked,
    failure::Failure,
    images::{device_names, hashed},
    tags::{read, specification},
};
use crate::control::{Checks, CloudError, Instance, InstanceSpec, InstanceState, Screenshot, Volume};

/// What the source called the disks, in the order of EC2's names for them, so that volumes can be told apart.
const DISKS_TAG: &str = "orglift:disks";
/// Of a tag's value, in characters.
const TAG_LEN: usize = 256;
const GIB: u64 = 1 << 30;
/// EC2 attaches a tenth of it.
const VOLUMES_MAX: usize = 1_000;

pub(super) async fn launch(
    asked: Asked<'_>,
    ec2: &Client,
    spec: &InstanceSpec,
) -> Result<String, CloudError> {
    let mut instance_tags = spec.tags.clone();
    instance_tags.insert(DISKS_TAG.to_owned(), disks_tag(spec));
    let template = LaunchTemplateSpecification::builder()
        .launch_template_id(&spec.template.template)
        .version(spec.template.version.to_string())
        .build();
    let launched = ec2
        .run_instances()
        .client_token(hashed(&spec.token))
        .image_id(&spec.image)
        .launch_template(template)
        .min_count(1)
        .max_count(1)
        .tag_specifications(specification(ResourceType::Instance, &instance_tags))
        .tag_specifications(specification(ResourceType::Volume, &spec.tags))
        .tag_specifications(specification(ResourceType::NetworkInterface, &spec.tags))
        .send()
        .await
        .map_err(|error| asked.refused(&Failure::of(&error)))?;
    let instance = launched
        .instances()
        .first()
        .and_then(|instance| instance.instance_id());
    asked.found(instance.map(str::to_owned))
}

pub(super) async fn describe(asked: Asked<'_>, ec2: &Client, id: &str) -> Result<Instance, CloudError> {
    let described = ec2.describe_instances().instance_ids(id).send().await;
    let described = described.map_err(|error| asked.refused(&Failure::of(&error)))?;
    let seen = described
        .reservations()
        .iter()
        .flat_map(Reservation::instances)
        .next();
    let seen = seen.ok_or_else(|| asked.not_found(id))?;
    let state = match seen.state().and_then(|state| state.name()) {
        Some(InstanceStateName::Running) => InstanceState::Running,
        Some(InstanceStateName::Stopped) => InstanceState::Stopped,
        Some(InstanceStateName::ShuttingDown) => InstanceState::ShuttingDown,
        Some(InstanceStateName::Terminated) => InstanceState::Terminated,
        // Whatever is on its way to another state.
        _ => InstanceState::Pending,
    };
    let sizes = sizes(asked, ec2, id).await?;
    let disks = read(seen.tags()).remove(DISKS_TAG).unwrap_or_default();
    let sources: Vec<_> = disks.split(' ').filter_map(|pair| pair.split_once('=')).collect();
    let volumes = seen.block_device_mappings().iter().filter_map(|mapping| {
        let id = mapping.ebs()?.volume_id()?;
        let device = mapping.device_name().unwrap_or_default();
        let source = sources.iter().find(|(name, _)| *name == device);
        Some(Volume {
            id: id.to_owned(),
            source_device: source.map_or(device, |(_, source)| source).to_owned(),
            bytes: sizes.iter().find(|(volume, _)| volume == id)?.1,
        })
    });
    Ok(Instance {
        id: id.to_owned(),
        checks: match state {
            InstanceState::Running => checks(asked, ec2, id).await?,
            _ => Checks::Pending,
        },
        state,
        private_ip: seen.private_ip_address().and_then(|ip| ip.parse::<IpAddr>().ok()),
        subnet: seen.subnet_id().unwrap_or_default().to_owned(),
        volumes: volumes.collect(),
    })
}

/// The newest output, which not every type gives, or else what there was at the last change of state.
pub(super) async fn console_text(asked: Asked<'_>, ec2: &Client, id: &str) -> Result<String, CloudError> {
    let newest = ec2.get_console_output().instance_id(id).latest(true).send().await;
    let output = match newest.map_err(|error| Failure::of(&error)) {
        Ok(output) => output,
        Err(Failure::Rejected { .. }) => {
            let last = ec2.get_console_output().instance_id(id).send().await;
            last.map_err(|error| asked.refused(&Failure::of(&error)))?
        }
        Err(failure) => return Err(asked.refused(&failure)),
    };
    Ok(String::from_utf8_lossy(&decoded(output.output())).into_owned())
}

/// A stopped instance has no screen, and neither has one without a graphics adapter.
pub(super) async fn screenshot(
    asked: Asked<'_>,
    ec2: &Client,
    id: &str,
) -> Result<Option<Screenshot>, CloudError> {
    let screen = ec2
        .get_console_screenshot()
        .instance_id(id)
        .wake_up(true)
        .send()
        .await;
    let bytes = match screen.map_err(|error| Failure::of(&error)) {
        Ok(screen) => decoded(screen.image_data()),
        Err(Failure::Rejected { .. }) => return Ok(None),
        Err(failure) => return Err(asked.refused(&failure)),
    };
    Ok((!bytes.is_empty()).then_some(Screenshot {
        media_type: "image/jpeg",
        bytes,
    }))
}

fn decoded(base64: Option<&str>) -> Vec<u8> {
    base64
        .and_then(|text| aws_smithy_types::base64::decode(text.trim()).ok())
        .unwrap_or_default()
}

/// How large each volume of an instance is.
async fn sizes(asked: Asked<'_>, ec2: &Client, instance: &str) -> Result<Vec<(String, u64)>, CloudError> {
    let attached = super::tags::filter("attachment.instance-id", instance);
    let volumes = ec2.describe_volumes().filters(attached);
    let volumes = asked
        .listed(volumes.into_paginator().items().send(), VOLUMES_MAX)
        .await?;
    let size = |volume: types::Volume| {
        let gib = u64::try_from(volume.size().unwrap_or_default()).unwrap_or_default();
        (volume.volume_id.unwrap_or_default(), gib * GIB)
    };
    Ok(volumes.into_iter().map(size).collect())
}

/// A check that is impaired may still come to pass: a large file system is examined for long at its first boot.
async fn checks(asked: Asked<'_>, ec2: &Client, id: &str) -> Result<Checks, CloudError> {
    let status = ec2.describe_instance_status().instance_ids(id).send().await;
    let status = status.map_err(|error| asked.refused(&Failure::of(&error)))?;
    let passed = |status: &InstanceStatus| {
        let ok = Some(&SummaryStatus::Ok);
        status.instance_status().and_then(|summary| summary.status()) == ok
            && status.system_status().and_then(|summary| summary.status()) == ok
    };
    Ok(match status.instance_statuses().first() {
        Some(status) if passed(status) => Checks::Passed,
        _ => Checks::Pending,
    })
}

/// `/dev/sda1=/dev/vda /dev/sdf=/dev/vdb`; what does not fit is not told apart.
fn disks_tag(spec: &InstanceSpec) -> String {
    let mut tag = String::new();
    for (disk, device) in spec
        .launch
        .disks
        .iter()
        .zip(device_names(&spec.launch.disks).unwrap_or_default())
    {
        let pair = format!("{device}={}", disk.source_device);
        if tag.len() + 1 + pair.len() > TAG_LEN || disk.source_device.contains([' ', '=']) {
            continue;
        }
        if !tag.is_empty() {
            tag.push(' ');
        }
        tag.push_str(&pair);
    }
    tag
}
