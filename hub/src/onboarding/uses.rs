//! What a launch will use of an account's permissions: rows of the table, on what it is launched with and from.
//!
//! Two kinds of rows are left out. Those that only look need no simulation, since looking tells. Of roles of instances
//! and of keys the answer would be wrong: which role a profile has nobody told the hub, and a key has a policy of its
//! own.

use std::collections::BTreeMap;

use cloud::control::{Place, SERVER_TAG, TemplateSpec, Use};
use serde_json::json;

use super::{
    permissions::{Condition, Holder, Permission, Resources},
    policy::substituted,
    values::partition,
};

/// Rows of the table, by their names.
const OF_A_LAUNCH: [&str; 11] = [
    "RegisterImages",
    "RegisterOwnSnapshots",
    "LaunchOwnImages",
    "LaunchTaggedInstances",
    "LaunchIntoNetwork",
    "EndOwnInstances",
    "DeleteOwnImages",
    "DeleteOwnSnapshots",
    "MakeLaunchTemplates",
    "ChangeOwnLaunchTemplates",
    "TagWhatIsMade",
];

pub fn of_launch(place: &Place, spec: &TemplateSpec) -> Vec<Use> {
    let server = spec.tags.get(SERVER_TAG).map(String::as_str).unwrap_or_default();
    Permission::granted(Holder::Hub, &[])
        .filter(|row| OF_A_LAUNCH.contains(&row.sid))
        .map(|row| Use {
            actions: row.actions,
            resources: resources(row, place, spec),
            context: context(row.conditions, server, &place.region),
        })
        .collect()
}

fn context(conditions: &[Condition], server: &str, region: &str) -> Vec<(String, String)> {
    let entry = |condition: &Condition| (condition.parts().1, condition.met(server, region));
    conditions.iter().map(entry).collect()
}

/// Of each kind one that the launch names, or one as it could be called.
fn resources(row: &Permission, place: &Place, spec: &TemplateSpec) -> Vec<String> {
    let Resources::These(patterns) = row.resources else {
        return Vec::new();
    };
    let (name, _) = partition(&place.region);
    let names = BTreeMap::from([
        ("AWS::Partition", json!(name)),
        ("AWS::AccountId", json!(place.account)),
    ]);
    let mut all = Vec::new();
    for pattern in patterns {
        // arn:aws:ec2:*:111122223333:volume/*, or *:* where it may be another account's.
        let pattern = substituted(pattern, &names)
            .replacen(":*:", &format!(":{}:", place.region), 1)
            .replacen(":*:", &format!(":{}:", place.account), 1);
        let kind = pattern.rsplit([':', '/']).nth(1).unwrap_or_default();
        for id in ids(kind, spec) {
            all.push(pattern.replace("/*", &format!("/{id}")));
        }
    }
    all
}

fn ids(kind: &str, spec: &TemplateSpec) -> Vec<String> {
    let launch = &spec.launch;
    let prefix = match kind {
        "subnet" => return vec![launch.subnet.clone()],
        "security-group" if !launch.security_groups.is_empty() => return launch.security_groups.clone(),
        "security-group" => "sg",
        "image" => "ami",
        "snapshot" => "snap",
        "instance" => "i",
        "volume" => "vol",
        "network-interface" => "eni",
        "launch-template" => "lt",
        other => other,
    };
    vec![format!("{prefix}-0123456789abcdef0")]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use cloud::control::{LaunchSpec, Tags};

    use super::{super::permissions::PERMISSIONS, *};

    fn place(region: &str) -> Place {
        Place::direct("111122223333".parse().unwrap(), region)
    }

    fn uses(region: &str) -> Vec<Use> {
        let spec = TemplateSpec {
            name: "orglift-s-1".into(),
            launch: LaunchSpec {
                security_groups: vec!["sg-1".into(), "sg-2".into()],
                ..LaunchSpec::new("m5.large", "subnet-1")
            },
            tags: Tags::from([(SERVER_TAG.to_owned(), "s-1".to_owned())]),
        };
        of_launch(&place(region), &spec)
    }

    #[test]
    fn rows_are_those_of_the_table() {
        let known: BTreeSet<_> = PERMISSIONS.iter().map(|row| row.sid).collect();
        assert!(OF_A_LAUNCH.iter().all(|sid| known.contains(sid)));
        assert_eq!(uses("eu-central-1").len(), OF_A_LAUNCH.len());
    }

    #[test]
    fn a_launch_names_its_subnet_its_groups_and_its_tags() {
        let uses = uses("us-gov-west-1");
        let of = |resource: &str| {
            let has = |one: &&Use| one.resources.iter().any(|arn| arn.ends_with(resource));
            uses.iter().find(has).unwrap()
        };
        let network = of(":subnet/subnet-1");
        let group = "arn:aws-us-gov:ec2:us-gov-west-1:111122223333:security-group/sg-2";
        assert!(network.resources.contains(&group.to_owned()), "{network:?}");
        let region = ("aws:RequestedRegion".to_owned(), "us-gov-west-1".to_owned());
        assert_eq!(network.context, [region]);
        let launched = of(":volume/vol-0123456789abcdef0");
        let tag = (format!("aws:RequestTag/{SERVER_TAG}"), "s-1".to_owned());
        assert!(launched.context.contains(&tag), "{launched:?}");
        assert_eq!(
            of(":image/ami-0123456789abcdef0").resources[0],
            "arn:aws-us-gov:ec2:us-gov-west-1::image/ami-0123456789abcdef0"
        );
        for one in uses {
            assert!(
                one.resources.iter().all(|arn| !arn.contains(['*', '$'])),
                "{one:?}"
            );
        }
    }
}
