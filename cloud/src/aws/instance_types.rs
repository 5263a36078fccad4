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

use super::{
    calls::Asked,
    tags::{filter, one_of},
};
use crate::control::CloudError;

const MIB: u64 = 1 << 20;
/// EC2 has a tenth of it.
pub(super) const TYPES_MAX: usize = 10_000;

/// Those that fit one of `patterns`, such as `m5.large` and `m5.*`, in the zone of a subnet.
pub(super) async fn offered(
    asked: Asked<'_>,
    ec2: &Client,
    zone: &str,
    patterns: &[String],
) -> Result<Vec<InstanceType>, CloudError> {
    let here = offered_in(asked, ec2, zone).await?;
    let described = ec2
        .describe_instance_types()
        .filters(one_of("instance-type", patterns));
    let described = asked
        .listed(described.into_paginator().items().send(), TYPES_MAX)
        .await?;
    let types = described.iter().filter_map(read);
    Ok(types.filter(|one| here.contains(&one.name)).collect())
}

/// Not every zone of a region has every type.
async fn offered_in(asked: Asked<'_>, ec2: &Client, zone: &str) -> Result<BTreeSet<String>, CloudError> {
    let offerings = ec2
        .describe_instance_type_offerings()
        .location_type(LocationType::AvailabilityZone)
        .filters(filter("location", zone));
    let offerings = asked
        .listed(offerings.into_paginator().items().send(), TYPES_MAX)
        .await?;
    let names = offerings.iter().filter_map(|offering| offering.instance_type());
    Ok(names.map(|name| name.as_str().to_owned()).collect())
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
