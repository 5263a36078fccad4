//! Images of snapshots.

use aws_sdk_ec2::{
    Client,
    types::{
        ArchitectureValues, BlockDeviceMapping, BootModeValues, EbsBlockDevice, ResourceType, VolumeType,
    },
};
use domain::launch::{BootMode, instance_type::Architecture};

use super::{
    calls::Asked,
    failure::Failure,
    tags::{filter, specification},
};
use crate::control::{ClientToken, CloudError, ImageDisk, ImageSpec};

/// What EC2 calls the boot disk. Inside, NVMe has its own names.
pub(super) const BOOT_DEVICE: &str = "/dev/sda1";

pub(super) async fn register(asked: Asked<'_>, ec2: &Client, spec: &ImageSpec) -> Result<String, CloudError> {
    let boot_mode = match spec.boot_mode {
        BootMode::LegacyBios => BootModeValues::LegacyBios,
        BootMode::Uefi => BootModeValues::Uefi,
        BootMode::UseSource => return Err(asked.rejected("the boot mode is not known")),
    };
    // There is no client token for images; there is one image of a name.
    let name = format!("orglift {}", hashed(&spec.token));
    let registered = ec2
        .register_image()
        .name(&name)
        .description(cut(&spec.name, 255))
        .architecture(match spec.architecture {
            Architecture::X86_64 => ArchitectureValues::X8664,
            Architecture::Arm64 => ArchitectureValues::Arm64,
        })
        .boot_mode(boot_mode)
        .virtualization_type("hvm")
        .ena_support(true)
        .root_device_name(BOOT_DEVICE)
        .set_block_device_mappings(Some(mappings(asked, &spec.disks)?))
        .tag_specifications(specification(ResourceType::Image, &spec.tags))
        .send()
        .await;
    let failure = match registered {
        Ok(image) => return asked.found(image.image_id),
        Err(error) => Failure::of(&error),
    };
    if !failure.is_rejected_as("InvalidAMIName.Duplicate") {
        return Err(asked.refused(&failure));
    }
    let known = ec2
        .describe_images()
        .owners("self")
        .filters(filter("name", &name));
    let known = known
        .send()
        .await
        .map_err(|error| asked.refused(&Failure::of(&error)))?;
    let image = known.images().first().and_then(|image| image.image_id());
    asked.found(image.map(str::to_owned))
}

pub(super) fn mappings(asked: Asked<'_>, disks: &[ImageDisk]) -> Result<Vec<BlockDeviceMapping>, CloudError> {
    let devices = devices(asked, disks)?;
    let mapping = |(disk, device): (&ImageDisk, String)| {
        let ebs = EbsBlockDevice::builder()
            .snapshot_id(&disk.snapshot)
            .volume_type(VolumeType::Gp3)
            .delete_on_termination(true);
        BlockDeviceMapping::builder()
            .device_name(device)
            .ebs(ebs.build())
            .build()
    };
    Ok(disks.iter().zip(devices).map(mapping).collect())
}

/// As [`device_names`], or why there are none.
pub(super) fn devices(asked: Asked<'_>, disks: &[ImageDisk]) -> Result<Vec<String>, CloudError> {
    device_names(disks).ok_or_else(|| asked.rejected("an instance has one boot disk and at most 36 others"))
}

/// What EC2 calls each disk: the names that it recommends, and then those that it allows. `None` if they do not
/// suffice, or if it is not clear what to boot from.
pub(super) fn device_names(disks: &[ImageDisk]) -> Option<Vec<String>> {
    if disks.iter().filter(|disk| disk.is_boot).count() != 1 {
        return None;
    }
    let recommended = ('f'..='p').map(|letter| format!("/dev/sd{letter}"));
    let allowed = ('b'..='z').map(|letter| format!("/dev/xvdb{letter}"));
    let mut data = recommended.chain(allowed);
    disks
        .iter()
        .map(|disk| {
            if disk.is_boot {
                Some(BOOT_DEVICE.to_owned())
            } else {
                data.next()
            }
        })
        .collect()
}

/// A token in the letters and the length that EC2 takes.
pub(super) fn hashed(token: &ClientToken) -> String {
    blake3::hash(token.0.as_bytes()).to_hex().to_string()
}

fn cut(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

#[cfg(test)]
mod tests {
    use domain::launch::volume::VolumeSettings;

    use super::*;

    fn disks(data: usize) -> Vec<ImageDisk> {
        let disk = |at| ImageDisk {
            source_device: format!("/dev/{at}"),
            snapshot: String::new(),
            bytes: 1,
            is_boot: at == 1,
            volume: VolumeSettings::default(),
        };
        (0..=data).map(disk).collect()
    }

    #[test]
    fn each_disk_has_a_name_of_its_own() {
        let names = device_names(&disks(3)).unwrap();
        assert_eq!(names, ["/dev/sdf", "/dev/sda1", "/dev/sdg", "/dev/sdh"]);
        let mut many = device_names(&disks(36)).unwrap();
        many.sort_unstable();
        many.dedup();
        assert_eq!(many.len(), 37);
        assert_eq!(device_names(&disks(37)), None);
        assert_eq!(device_names(&disks(0)), None, "nothing to boot from");
    }

    #[test]
    fn a_token_becomes_one_that_ec2_takes() {
        let token = ClientToken("mgnjob-1/s-1/RegisterImage".into());
        assert_eq!(hashed(&token).len(), 64);
        assert_ne!(hashed(&token), hashed(&ClientToken("other".into())));
    }
}
