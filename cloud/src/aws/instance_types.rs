//! The types of instances that can be launched in a zone.

use std::collections::BTreeSet;

use aws_sdk_ec2::{
    Client,
    types::{ArchitectureType, BootModeType, InstanceTypeInfo, LocationType},
};
use domain::launch::{
    BootMode,
    instance_type::{Architecture, InstanceType},
};

use super::{calls::Asked, failure::Failure, tags::filter};
use crate::control::CloudError;

const MIB: u64 = 1 << 20;

/// Those that fit one of `patterns`, such as `m5.large` and `m5.*`, in the zone of a subnet.
pub(super) async fn offered(
    asked: Asked<'_>,
    ec2: &Client,
    zone: &str,
    patterns: &[String],
) -> Result<Vec<InstanceType>, CloudError> {
    let here = offered_in(asked, ec2, zone).await?;
    let described = ec2.describe_instance_types().filters(
        aws_sdk_ec2::types::Filter::builder()
            .name("instance-type")
            .set_values(Some(patterns.to_vec()))
            .build(),
    );
    let mut described = described.into_paginator().items().send();
    let mut types = Vec::new();
    while let Some(one) = described.next().await {
        let one = one.map_err(|error| asked.refused(&Failure::of(&error)))?;
        types.extend(read(&one).filter(|one| here.contains(&one.name)));
    }
    Ok(types)
}

/// Not every zone of a region has every type.
async fn offered_in(asked: Asked<'_>, ec2: &Client, zone: &str) -> Result<BTreeSet<String>, CloudError> {
    let offerings = ec2
        .describe_instance_type_offerings()
        .location_type(LocationType::AvailabilityZone)
        .filters(filter("location", zone));
    let mut offerings = offerings.into_paginator().items().send();
    let mut names = BTreeSet::new();
    while let Some(offering) = offerings.next().await {
        let offering = offering.map_err(|error| asked.refused(&Failure::of(&error)))?;
        names.extend(offering.instance_type().map(|name| name.as_str().to_owned()));
    }
    Ok(names)
}

fn read(info: &InstanceTypeInfo) -> Option<InstanceType> {
    let vcpus = info.v_cpu_info()?.default_v_cpus()?;
    let memory_mib = info.memory_info()?.size_in_mib()?;
    let architecture = |one: &ArchitectureType| match one {
        ArchitectureType::X8664 => Some(Architecture::X86_64),
        ArchitectureType::Arm64 => Some(Architecture::Arm64),
        _ => None,
    };
    let boot_mode = |one: &BootModeType| match one {
        BootModeType::LegacyBios => Some(BootMode::LegacyBios),
        BootModeType::Uefi => Some(BootMode::Uefi),
        _ => None,
    };
    let architectures = info.processor_info()?.supported_architectures();
    Some(InstanceType {
        name: info.instance_type()?.as_str().to_owned(),
        vcpus: u32::try_from(vcpus).ok()?,
        memory_bytes: u64::try_from(memory_mib).ok()?.checked_mul(MIB)?,
        architectures: architectures.iter().filter_map(architecture).collect(),
        boot_modes: info.supported_boot_modes().iter().filter_map(boot_mode).collect(),
    })
}
