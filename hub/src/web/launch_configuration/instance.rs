//! The part of the form that says what an instance is besides its type and its subnet.

use crate::{language::translated_static, mark, t};
use std::collections::BTreeMap;

use domain::launch::{
    LaunchConfiguration, RightSizing, Tenancy,
    volume::{Encryption, VolumeSettings, Volumes},
};
use serde::Deserialize;

use super::Errors;
use crate::web::{
    form::{Control, Value},
    servers::Choice,
};

/// What the form sends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Given {
    right_sizing: String,
    families: String,
    security_groups: String,
    instance_profile: String,
    tenancy: String,
    volume: String,
    volumes: String,
    encryption: String,
    key: String,
}

const SIZINGS: [(&str, &str); 2] = [
    ("none", mark!("The type above")),
    ("basic", mark!("The smallest that the source fits in")),
];
const TENANCIES: [(&str, &str); 3] = [
    ("default", mark!("Shared")),
    ("dedicated", mark!("Dedicated instance")),
    ("host", mark!("Dedicated host")),
];
const ENCRYPTIONS: [(&str, &str); 3] = [
    ("as-snapshots", mark!("As the replicated snapshots are")),
    ("default-key", mark!("With the account's default key")),
    ("key", mark!("With the key below")),
];

impl Given {
    pub fn of(kept: &LaunchConfiguration) -> Self {
        let by_disk = kept.volumes.by_disk.iter();
        let by_disk = by_disk.map(|(disk, settings)| format!("{disk} = {}", settings.text()));
        let (encryption, key) = match &kept.volumes.encryption {
            Encryption::AsSnapshots => (ENCRYPTIONS[0].0, ""),
            Encryption::DefaultKey => (ENCRYPTIONS[1].0, ""),
            Encryption::Key(key) => (ENCRYPTIONS[2].0, key.as_str()),
        };
        let sizing = match kept.right_sizing {
            RightSizing::None => SIZINGS[0].0,
            RightSizing::Basic => SIZINGS[1].0,
        };
        let tenancy = match kept.tenancy {
            Tenancy::Default => TENANCIES[0].0,
            Tenancy::Dedicated => TENANCIES[1].0,
            Tenancy::Host => TENANCIES[2].0,
        };
        Self {
            right_sizing: sizing.into(),
            families: kept.families.join(" "),
            security_groups: kept.security_groups.join(" "),
            instance_profile: kept.instance_profile.clone().unwrap_or_default(),
            tenancy: tenancy.into(),
            volume: kept.volumes.usual.text(),
            volumes: by_disk.collect::<Vec<_>>().join("\n"),
            encryption: encryption.into(),
            key: key.into(),
        }
    }

    /// Puts what was given into `to`, and what is wrong with it into `errors`.
    pub fn apply(&self, to: &mut LaunchConfiguration, errors: &mut Errors) {
        to.right_sizing = if self.right_sizing == SIZINGS[1].0 {
            RightSizing::Basic
        } else {
            RightSizing::None
        };
        to.families = words(&self.families);
        to.security_groups = words(&self.security_groups);
        if let Some(wrong) = to.security_groups.iter().find(|id| !id.starts_with("sg-")) {
            let error = t!(
                "“{wrong}” is no security group: give their ids, like sg-0a1b2c3d.",
                wrong
            );
            errors.insert("security_groups", error);
        }
        let profile = self.instance_profile.trim();
        to.instance_profile = (!profile.is_empty()).then(|| profile.to_owned());
        to.tenancy = match self.tenancy.as_str() {
            name if name == TENANCIES[1].0 => Tenancy::Dedicated,
            name if name == TENANCIES[2].0 => Tenancy::Host,
            _ => Tenancy::Default,
        };
        to.volumes = self.volumes(errors);
    }

    fn volumes(&self, errors: &mut Errors) -> Volumes {
        let usual = if self.volume.trim().is_empty() {
            Ok(VolumeSettings::default())
        } else {
            VolumeSettings::parse(&self.volume)
        };
        let usual = usual.unwrap_or_else(|wrong| {
            errors.insert("volume", t!("It cannot be made: {wrong}.", wrong));
            VolumeSettings::default()
        });
        let by_disk = by_disk(&self.volumes).unwrap_or_else(|wrong| {
            errors.insert("volumes", wrong);
            BTreeMap::new()
        });
        let encryption = match self.encryption.as_str() {
            name if name == ENCRYPTIONS[1].0 => Encryption::DefaultKey,
            name if name == ENCRYPTIONS[2].0 => Encryption::Key(self.key.trim().into()),
            _ => Encryption::AsSnapshots,
        };
        let volumes = Volumes {
            usual,
            by_disk,
            encryption,
        };
        if let Err(wrong) = volumes.check() {
            errors.insert("key", t!("It cannot be used: {wrong}.", wrong));
        }
        volumes
    }

    pub fn controls(&self) -> Vec<Control> {
        let text =
            |name, label, hint, value: &str| Control::new(name, label, hint, Value::Text(value.into()));
        vec![
            select(
                "right_sizing",
                t!("Choose the type"),
                t!("The source's processors and memory, its architecture and its boot mode count."),
                &SIZINGS,
                &self.right_sizing,
            ),
            text(
                "families",
                t!("Families to choose from"),
                t!(
                    "Such as m6i c6i r6i, in the order of your preference. Empty: m5, c5, r5, their successors m6i, c6i, r6i, and m6g, c6g, r6g for arm64."
                ),
                &self.families,
            ),
            text(
                "security_groups",
                t!("Security groups"),
                t!("Their ids, with spaces between. Empty: the default one of the subnet's VPC."),
                &self.security_groups,
            ),
            text(
                "instance_profile",
                t!("Instance profile"),
                t!("Its name or ARN. Empty: none."),
                &self.instance_profile,
            ),
            text(
                "volume",
                t!("Volumes"),
                t!("Type, IOPS, MiB per second: gp3, or gp3 6000 250."),
                &self.volume,
            ),
            Control::new(
                "volumes",
                t!("Volumes of single disks"),
                t!("One per line, by the source's name of the disk: /dev/sdb = io2 20000."),
                Value::Lines(self.volumes.clone()),
            ),
            select(
                "encryption",
                t!("Encryption of the volumes"),
                t!("The account must let its instances use the key."),
                &ENCRYPTIONS,
                &self.encryption,
            ),
            text(
                "key",
                t!("KMS key"),
                t!("Where the volumes are encrypted with a key of its own: id, alias/name or ARN."),
                &self.key,
            ),
            select(
                "tenancy",
                t!("Tenancy"),
                t!("On whose hardware the instance runs."),
                &TENANCIES,
                &self.tenancy,
            ),
        ]
    }
}

fn select(
    name: &'static str,
    label: &'static str,
    hint: &'static str,
    choices: &[(&str, &'static str)],
    chosen: &str,
) -> Control {
    let choice = |(value, label): &(&str, &'static str)| Choice {
        value: (*value).into(),
        label: translated_static(label).into(),
        selected: *value == chosen,
    };
    Control::new(
        name,
        label,
        hint,
        Value::Choice(choices.iter().map(choice).collect()),
    )
}

/// People separate with commas as well as with spaces.
fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| c.is_whitespace() || c == ',' || c == ';');
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn by_disk(text: &str) -> Result<BTreeMap<String, VolumeSettings>, String> {
    let mut volumes = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let Some((disk, settings)) = line.split_once('=') else {
            return Err(t!(
                "“{line}” has no equals sign: write /dev/sdb = io2 20000.",
                line
            ));
        };
        let settings = VolumeSettings::parse(settings).map_err(|wrong| format!("“{line}”: {wrong}."))?;
        if volumes.insert(disk.trim().to_owned(), settings).is_some() {
            return Err(t!("“{disk}” is there twice.", disk = disk.trim()));
        }
    }
    Ok(volumes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(given: &Given) -> Result<LaunchConfiguration, Errors> {
        let (mut to, mut errors) = (LaunchConfiguration::default(), Errors::new());
        given.apply(&mut to, &mut errors);
        if errors.is_empty() { Ok(to) } else { Err(errors) }
    }

    #[test]
    fn what_is_shown_can_be_saved_unchanged() {
        let fast = VolumeSettings::parse("io2 20000").unwrap();
        let kept = LaunchConfiguration {
            right_sizing: RightSizing::Basic,
            families: vec!["m6i".into(), "r6i".into()],
            security_groups: vec!["sg-1".into()],
            instance_profile: Some("hospital".into()),
            tenancy: Tenancy::Host,
            volumes: Volumes {
                usual: VolumeSettings::parse("gp3 4000 250").unwrap(),
                by_disk: [("/dev/sdb".to_owned(), fast)].into(),
                encryption: Encryption::Key("alias/hospital".into()),
            },
            ..LaunchConfiguration::default()
        };
        assert_eq!(applied(&Given::of(&kept)), Ok(kept));
        let usual = LaunchConfiguration::default();
        assert_eq!(applied(&Given::of(&usual)), Ok(usual.clone()));
        assert_eq!(applied(&Given::default()), Ok(usual));
    }

    #[test]
    fn every_wrong_field_is_named() {
        let wrong = Given {
            security_groups: "default".into(),
            volume: "gp4".into(),
            volumes: "/dev/sdb".into(),
            encryption: "key".into(),
            key: "my key".into(),
            ..Given::default()
        };
        let errors = applied(&wrong).unwrap_err();
        let named: Vec<_> = errors.keys().copied().collect();
        assert_eq!(named, ["key", "security_groups", "volume", "volumes"]);
        assert_eq!(words("a, b;c  d"), ["a", "b", "c", "d"]);
        assert!(by_disk("a=gp3\na=gp3").unwrap_err().contains("twice"));
    }
}
