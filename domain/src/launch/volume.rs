//! What the volumes of a launched instance are.

use std::{collections::BTreeMap, ops::RangeInclusive};

use serde::{Deserialize, Serialize};

/// EC2's `VolumeType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeKind {
    #[default]
    Gp3,
    Gp2,
    Io2,
    Io1,
    St1,
    Sc1,
}

/// Of one volume. What is `None` EC2 decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VolumeSettings {
    pub kind: VolumeKind,
    pub iops: Option<u32>,
    /// MiB per second.
    pub throughput: Option<u32>,
}

/// With what the volumes are encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encryption {
    /// As the snapshots of the server, and as the account's default asks for.
    #[default]
    AsSnapshots,
    /// With the account's default key for EBS.
    DefaultKey,
    /// With a key of the account, by its id, alias or ARN.
    Key(String),
}

/// Of all volumes of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Volumes {
    pub usual: VolumeSettings,
    /// By the source's name of the disk, where it differs.
    pub by_disk: BTreeMap<String, VolumeSettings>,
    pub encryption: Encryption,
}

impl VolumeKind {
    pub const ALL: [Self; 6] = [Self::Gp3, Self::Gp2, Self::Io2, Self::Io1, Self::St1, Self::Sc1];

    pub fn name(self) -> &'static str {
        match self {
            Self::Gp3 => "gp3",
            Self::Gp2 => "gp2",
            Self::Io2 => "io2",
            Self::Io1 => "io1",
            Self::St1 => "st1",
            Self::Sc1 => "sc1",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Those of the general limits that hold whatever the size; EC2 has more, and knows them best.
    /// <https://docs.aws.amazon.com/ebs/latest/userguide/ebs-volume-types.html>
    fn iops(self) -> Option<RangeInclusive<u32>> {
        match self {
            Self::Gp3 => Some(3000..=80_000),
            Self::Io2 => Some(100..=256_000),
            Self::Io1 => Some(100..=64_000),
            Self::Gp2 | Self::St1 | Self::Sc1 => None,
        }
    }
}

impl VolumeSettings {
    /// `gp3`, `gp3 6000`, `gp3 6000 500`: kind, IOPS, MiB per second.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let kind = words.next().unwrap_or_default();
        let kind = VolumeKind::named(kind).ok_or_else(|| {
            let names = VolumeKind::ALL.map(VolumeKind::name).join(", ");
            format!("“{kind}” is no volume type; there are {names}")
        })?;
        let mut number = || {
            words
                .next()
                .map(|word| word.parse().map_err(|_| format!("“{word}” is no number")))
        };
        let settings = Self {
            kind,
            iops: number().transpose()?,
            throughput: number().transpose()?,
        };
        if let Some(word) = words.next() {
            return Err(format!(
                "“{word}” is too much: write type, IOPS and MiB per second"
            ));
        }
        settings.check()?;
        Ok(settings)
    }

    /// As [`Self::parse`] reads it.
    pub fn text(&self) -> String {
        // Throughput has no place of its own.
        let iops = self
            .iops
            .or(self.throughput.and(self.kind.iops().map(|range| *range.start())));
        let mut text = self.kind.name().to_owned();
        for number in [iops, self.throughput].into_iter().flatten() {
            text.push(' ');
            text.push_str(&number.to_string());
        }
        text
    }

    fn check(&self) -> Result<(), String> {
        let name = self.kind.name();
        match (self.iops, self.kind.iops()) {
            (Some(_), None) => return Err(format!("the IOPS of {name} cannot be chosen")),
            (Some(iops), Some(range)) if !range.contains(&iops) => {
                return Err(format!("{name} has {} to {} IOPS", range.start(), range.end()));
            }
            (None, _) if matches!(self.kind, VolumeKind::Io1 | VolumeKind::Io2) => {
                return Err(format!("{name} needs its IOPS: write “{name} 3000”"));
            }
            _ => {}
        }
        match self.throughput {
            Some(_) if self.kind != VolumeKind::Gp3 => {
                Err(format!("the throughput of {name} cannot be chosen"))
            }
            Some(rate) if !(125..=2000).contains(&rate) => Err("gp3 has 125 to 2000 MiB per second".into()),
            _ => Ok(()),
        }
    }
}

impl Volumes {
    pub fn of(&self, source_device: &str) -> VolumeSettings {
        self.by_disk.get(source_device).copied().unwrap_or(self.usual)
    }

    /// What is wrong with them, in words.
    pub fn check(&self) -> Result<(), String> {
        self.usual.check()?;
        for (disk, settings) in &self.by_disk {
            settings.check().map_err(|wrong| format!("{disk}: {wrong}"))?;
        }
        match &self.encryption {
            Encryption::Key(key) if !is_key(key) => {
                Err("a key is named by its id, its alias, as alias/name, or its ARN".into())
            }
            _ => Ok(()),
        }
    }
}

/// <https://docs.aws.amazon.com/kms/latest/developerguide/concepts-key-id.html>
fn is_key(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_/:".contains(&b);
    !text.is_empty() && text.len() <= 2048 && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_written_as_it_is_read() {
        for text in ["gp3", "gp3 6000", "gp3 6000 500", "io2 100", "st1", "gp2"] {
            assert_eq!(VolumeSettings::parse(text).unwrap().text(), text);
        }
        assert_eq!(VolumeSettings::parse(" gp3  3000 ").unwrap().iops, Some(3000));
        let throughput_alone = VolumeSettings {
            throughput: Some(250),
            ..VolumeSettings::default()
        };
        assert_eq!(throughput_alone.text(), "gp3 3000 250");
    }

    #[test]
    fn what_ec2_cannot_make_is_refused_in_words() {
        for (text, wrong) in [
            ("", "is no volume type"),
            ("gp4", "is no volume type"),
            ("gp3 x", "is no number"),
            ("gp3 2999", "3000 to 80000 IOPS"),
            ("gp3 3000 124", "125 to 2000 MiB"),
            ("gp3 3000 500 1", "is too much"),
            ("gp2 3000", "cannot be chosen"),
            ("io2", "needs its IOPS"),
            ("io1 64001", "100 to 64000 IOPS"),
            ("io2 5000 500", "throughput of io2"),
        ] {
            let error = VolumeSettings::parse(text).unwrap_err();
            assert!(error.contains(wrong), "{text}: {error}");
        }
        let key = |key: &str| Volumes {
            encryption: Encryption::Key(key.into()),
            ..Volumes::default()
        };
        assert!(key("").check().is_err());
        assert!(key("a b").check().is_err());
        assert_eq!(key("alias/hospital").check(), Ok(()));
    }

    #[test]
    fn a_disk_has_settings_of_its_own() {
        let fast = VolumeSettings::parse("io2 20000").unwrap();
        let volumes = Volumes {
            by_disk: [("/dev/sdb".to_owned(), fast)].into(),
            ..Volumes::default()
        };
        assert_eq!(volumes.of("/dev/sdb"), fast);
        assert_eq!(volumes.of("/dev/sda"), VolumeSettings::default());
    }
}
