//! What a cell does to tags and launch settings.

use std::collections::BTreeMap;

use domain::launch::{
    LaunchConfiguration, RightSizing, Tenancy,
    volume::{VolumeKind, VolumeSettings},
};

use super::{column::Column, sheet::Cell};

pub fn change_tag(tags: &mut BTreeMap<String, String>, key: &str, cell: &Cell) {
    match cell {
        Cell::Set(value) => {
            tags.insert(key.to_owned(), value.clone());
        }
        Cell::Reset => {
            tags.insert(key.to_owned(), String::new());
        }
        Cell::DeleteTag => {
            tags.remove(key);
        }
    }
}

/// By their places; one that is reset goes, and what comes after it moves up.
pub fn change_groups(groups: &mut Vec<String>, cells: &BTreeMap<u8, &Cell>) {
    let mut places: BTreeMap<usize, String> = std::mem::take(groups).into_iter().enumerate().collect();
    for (at, cell) in cells {
        match cell {
            Cell::Set(group) => {
                places.insert(usize::from(*at), group.clone());
            }
            _ => {
                places.remove(&usize::from(*at));
            }
        }
    }
    *groups = places.into_values().collect();
}

pub fn change_launch(
    launch: &mut LaunchConfiguration,
    usual: &LaunchConfiguration,
    column: &Column,
    cell: &Cell,
) {
    let set = match cell {
        Cell::Set(value) => Some(value.as_str()),
        Cell::Reset | Cell::DeleteTag => None,
    };
    match (column, set) {
        (Column::Subnet(0), subnet) => {
            // A test that nobody chose a subnet for is in that of the cutover, as with MGN.
            if launch.test_subnet == usual.test_subnet || launch.test_subnet == launch.target_subnet {
                subnet
                    .unwrap_or(&usual.test_subnet)
                    .clone_into(&mut launch.test_subnet);
            }
            subnet
                .unwrap_or(&usual.target_subnet)
                .clone_into(&mut launch.target_subnet);
        }
        (Column::TestSubnet, subnet) => {
            subnet
                .unwrap_or(&usual.test_subnet)
                .clone_into(&mut launch.test_subnet);
        }
        (Column::InstanceType, Some(name)) if launch.instance_type != name => {
            name.clone_into(&mut launch.instance_type);
            launch.right_sizing = RightSizing::None;
        }
        (Column::InstanceProfile, profile) => launch.instance_profile = profile.map(str::to_owned),
        (Column::Tenancy, Some(tenancy)) => {
            launch.tenancy = match tenancy {
                "dedicated" => Tenancy::Dedicated,
                "host" => Tenancy::Host,
                _ => Tenancy::Default,
            };
        }
        (Column::TransferTags, Some(value)) => launch.copy_tags = value.eq_ignore_ascii_case("true"),
        (Column::Volume(disk), None) => {
            launch.volumes.by_disk.remove(disk);
        }
        (Column::Volume(disk), Some(kind)) => {
            let Some(kind) = VolumeKind::named(kind) else {
                return;
            };
            let before = launch.volumes.of(disk);
            if before.kind != kind {
                let settings = VolumeSettings {
                    kind,
                    // These have no IOPS of their own; the smallest that gp3 has are no step back.
                    iops: matches!(kind, VolumeKind::Io1 | VolumeKind::Io2).then_some(3000),
                    throughput: None,
                };
                launch.volumes.by_disk.insert(disk.clone(), settings);
            }
        }
        _ => {}
    }
}
