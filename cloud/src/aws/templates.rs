//! Launch templates: how an instance is launched, kept in the account it is launched in.

use aws_sdk_ec2::{
    Client,
    types::{
        LaunchTemplate, LaunchTemplateBlockDeviceMappingRequest, LaunchTemplateEbsBlockDeviceRequest,
        LaunchTemplateIamInstanceProfileSpecificationRequest,
        LaunchTemplateInstanceNetworkInterfaceSpecificationRequest, LaunchTemplatePlacementRequest,
        LaunchTemplateVersion, RequestLaunchTemplateData, ResourceType, VolumeType,
    },
};
use domain::launch::{
    Tenancy,
    volume::{Encryption, VolumeSettings},
};

use super::{
    calls::Asked,
    failure::Failure,
    images::devices,
    tags::{read, specification},
};
use crate::control::{CloudError, ImageDisk, LaunchSpec, SERVER_TAG, TemplateSpec, TemplateVersion};

/// Makes the template, or a version of it where its newest is another. A version's description says what it was
/// made of, by which a repeated call finds it.
pub(super) async fn keep(
    asked: Asked<'_>,
    ec2: &Client,
    spec: &TemplateSpec,
) -> Result<TemplateVersion, CloudError> {
    let data = data(asked, &spec.launch)?;
    let description = description(&spec.launch);
    let created = ec2
        .create_launch_template()
        .launch_template_name(&spec.name)
        .version_description(&description)
        .launch_template_data(data.clone())
        .tag_specifications(specification(ResourceType::LaunchTemplate, &spec.tags))
        .send()
        .await
        .map_err(|error| Failure::of(&error));
    match created {
        Ok(made) => {
            let id = made
                .launch_template
                .and_then(|template| template.launch_template_id);
            return Ok(TemplateVersion {
                template: asked.found(id)?,
                version: 1,
            });
        }
        Err(failure) if failure.is_rejected_as("InvalidLaunchTemplateName.AlreadyExistsException") => {}
        Err(failure) => return Err(asked.refused(&failure)),
    }
    let template = own(asked, ec2, spec).await?;
    if let Some(version) = newest(asked, ec2, &template, &description).await? {
        return Ok(TemplateVersion { template, version });
    }
    let version = ec2
        .create_launch_template_version()
        .launch_template_id(&template)
        .version_description(&description)
        .launch_template_data(data)
        .send()
        .await
        .map_err(|error| asked.refused(&Failure::of(&error)))?;
    let version = version
        .launch_template_version
        .and_then(|version| version.version_number);
    let version = asked.found(version)?;
    // For people who look at the template in the account; a launch names its version.
    let default = ec2
        .modify_launch_template()
        .launch_template_id(&template)
        .default_version(version.to_string());
    default
        .send()
        .await
        .map_err(|error| asked.refused(&Failure::of(&error)))?;
    Ok(TemplateVersion { template, version })
}

/// What an instance of the template is. Its image and its tags come with each launch.
pub(super) fn data(asked: Asked<'_>, launch: &LaunchSpec) -> Result<RequestLaunchTemplateData, CloudError> {
    let groups = (!launch.security_groups.is_empty()).then(|| launch.security_groups.clone());
    let interface = LaunchTemplateInstanceNetworkInterfaceSpecificationRequest::builder()
        .device_index(0)
        .subnet_id(&launch.subnet)
        .set_private_ip_address(launch.private_ip.map(|ip| ip.to_string()))
        .set_groups(groups)
        .delete_on_termination(true)
        .build();
    let profile = launch.instance_profile.as_ref().map(|profile| {
        let named = LaunchTemplateIamInstanceProfileSpecificationRequest::builder();
        if profile.starts_with("arn:") {
            named.arn(profile).build()
        } else {
            named.name(profile).build()
        }
    });
    let tenancy = match launch.tenancy {
        Tenancy::Default => None,
        Tenancy::Dedicated => Some(aws_sdk_ec2::types::Tenancy::Dedicated),
        Tenancy::Host => Some(aws_sdk_ec2::types::Tenancy::Host),
    };
    let placement = tenancy.map(|tenancy| LaunchTemplatePlacementRequest::builder().tenancy(tenancy).build());
    let devices = devices(asked, &launch.disks)?;
    let mapping = |(disk, device): (&ImageDisk, String)| {
        LaunchTemplateBlockDeviceMappingRequest::builder()
            .device_name(device)
            .ebs(volume(disk.volume, &launch.encryption))
            .build()
    };
    Ok(RequestLaunchTemplateData::builder()
        .instance_type(launch.instance_type.as_str().into())
        .network_interfaces(interface)
        .set_iam_instance_profile(profile)
        .set_placement(placement)
        .set_block_device_mappings(Some(launch.disks.iter().zip(devices).map(mapping).collect()))
        .build())
}

fn volume(settings: VolumeSettings, encryption: &Encryption) -> LaunchTemplateEbsBlockDeviceRequest {
    let number = |number: Option<u32>| number.and_then(|number| i32::try_from(number).ok());
    let (encrypted, key) = match encryption {
        Encryption::AsSnapshots => (None, None),
        Encryption::DefaultKey => (Some(true), None),
        Encryption::Key(key) => (Some(true), Some(key.clone())),
    };
    LaunchTemplateEbsBlockDeviceRequest::builder()
        .volume_type(VolumeType::from(settings.kind.name()))
        .set_iops(number(settings.iops))
        .set_throughput(number(settings.throughput))
        .set_encrypted(encrypted)
        .set_kms_key_id(key)
        .delete_on_termination(true)
        .build()
}

/// The template of that name, if its tags say that it is ours.
async fn own(asked: Asked<'_>, ec2: &Client, spec: &TemplateSpec) -> Result<String, CloudError> {
    let known = ec2.describe_launch_templates().launch_template_names(&spec.name);
    let known = known
        .send()
        .await
        .map_err(|error| asked.refused(&Failure::of(&error)))?;
    let known = known.launch_templates().first();
    let tags = read(known.map(LaunchTemplate::tags).unwrap_or_default());
    if known.is_some() && tags.get(SERVER_TAG) != spec.tags.get(SERVER_TAG) {
        return Err(asked.rejected(&format!(
            "there is a launch template {} that is not of this source server; rename or delete it",
            spec.name
        )));
    }
    asked.found(
        known
            .and_then(|template| template.launch_template_id())
            .map(str::to_owned),
    )
}

/// The number of the newest version, if it is what is wished for.
async fn newest(
    asked: Asked<'_>,
    ec2: &Client,
    template: &str,
    description: &str,
) -> Result<Option<i64>, CloudError> {
    let newest = ec2
        .describe_launch_template_versions()
        .launch_template_id(template)
        .versions("$Latest");
    let newest = newest
        .send()
        .await
        .map_err(|error| asked.refused(&Failure::of(&error)))?;
    Ok(newest
        .launch_template_versions()
        .first()
        .filter(|version| version.version_description() == Some(description))
        .and_then(LaunchTemplateVersion::version_number))
}

fn description(launch: &LaunchSpec) -> String {
    let text = serde_json::to_vec(&launch.lasting()).unwrap_or_default();
    format!("orglift {}", &blake3::hash(&text).to_hex()[..32])
}
