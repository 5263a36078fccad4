//! The columns of MGN's import and export, and what may stand in each.
//!
//! Source: MGN User Guide, "Import parameters" and "Export parameters".

use std::{fmt, net::Ipv4Addr, str::FromStr};

use domain::{
    ids::{AccountId, ApplicationId, SourceServerId, WaveId},
    launch::volume::VolumeKind,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Column {
    Account,
    Region,
    WaveId,
    WaveName,
    WaveDescription,
    WaveTag(String),
    ApplicationId,
    ApplicationName,
    ApplicationDescription,
    ApplicationTag(String),
    ServerId,
    UserProvidedId,
    Platform,
    ServerTag(String),
    Fqdn,
    /// The next three an export says, and an import does not read.
    LifecycleState,
    ReplicationType,
    ReplicationState,
    Interface(u8),
    Subnet(u8),
    SecurityGroup(u8, u8),
    PrivateIp(u8, u8),
    InstanceType,
    Tenancy,
    InstanceProfile,
    Host,
    Licensing,
    InstanceTag(String),
    Volume(String),
    TransferTags,
    /// Ours: MGN tests and cuts over into the same subnet.
    TestSubnet,
}

/// What a row speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    Place,
    Wave,
    Application,
    Server,
    /// Of an export, and left alone.
    Nothing,
}

/// MGN's template has these, in this order; tags and volumes are examples.
pub const TEMPLATE: [&str; 21] = [
    "mgn:account-id",
    "mgn:region",
    "mgn:wave:name",
    "mgn:wave:tag:Wave",
    "mgn:wave:description",
    "mgn:app:name",
    "mgn:app:tag:App",
    "mgn:app:description",
    "mgn:server:user-provided-id",
    "mgn:server:platform",
    "mgn:server:tag:Name",
    "mgn:server:fqdn-for-action-framework",
    "mgn:launch:nic:0:network-interface-id",
    "mgn:launch:nic:0:subnet-id",
    "mgn:launch:nic:0:security-group-id:0",
    "mgn:launch:nic:0:private-ip:0",
    "mgn:launch:instance-type",
    "mgn:launch:placement:tenancy",
    "mgn:launch:iam-instance-profile:name",
    "mgn:launch:placement:host-id",
    "mgn:launch:volume:foo:type",
];

const INTERFACES_MAX: u8 = 15;
const GROUPS_MAX: u8 = 16;

impl Column {
    pub fn of(&self) -> Of {
        match self {
            Self::Account | Self::Region => Of::Place,
            Self::WaveId | Self::WaveName | Self::WaveDescription | Self::WaveTag(_) => Of::Wave,
            Self::ApplicationId
            | Self::ApplicationName
            | Self::ApplicationDescription
            | Self::ApplicationTag(_) => Of::Application,
            Self::LifecycleState | Self::ReplicationType | Self::ReplicationState => Of::Nothing,
            _ => Of::Server,
        }
    }

    /// Whether it names a resource, rather than saying something of it.
    pub fn is_key(&self) -> bool {
        matches!(
            self,
            Self::WaveId
                | Self::WaveName
                | Self::ApplicationId
                | Self::ApplicationName
                | Self::ServerId
                | Self::UserProvidedId
        )
    }

    pub fn is_tag(&self) -> bool {
        matches!(
            self,
            Self::WaveTag(_) | Self::ApplicationTag(_) | Self::ServerTag(_) | Self::InstanceTag(_)
        )
    }

    /// Whether `[RESET_VALUE]` may stand in it.
    pub fn is_resettable(&self) -> bool {
        self.is_tag()
            || matches!(
                self,
                Self::InstanceProfile
                    | Self::Interface(_)
                    | Self::PrivateIp(..)
                    | Self::SecurityGroup(..)
                    | Self::Subnet(_)
                    | Self::Volume(_)
                    | Self::TestSubnet
            )
    }

    /// What is wrong with a value, and what may stand there.
    // A table: one entry for each column.
    #[allow(clippy::too_many_lines)]
    pub fn check(&self, value: &str) -> Result<(), String> {
        let length = value.chars().count();
        let text = |max: usize, what: &str| {
            if length > max {
                return Err(format!("{what} has at most {max} characters"));
            }
            Ok(())
        };
        let one_of = |words: &[&str]| {
            if words.contains(&value) {
                return Ok(());
            }
            Err(format!("it is one of {}", words.join(", ")))
        };
        let id = |prefix: &str| {
            let digits = value.strip_prefix(prefix).unwrap_or_default();
            let is_id = (8..=17).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
            // The lab's cloud names its places by words.
            let is_word = prefix == "subnet-" && value.bytes().all(|b| b.is_ascii_lowercase());
            if is_id || is_word {
                return Ok(());
            }
            Err(format!(
                "it begins with {prefix}, with 8 to 17 hexadecimal digits after it"
            ))
        };
        let may_have_lines =
            self.is_tag() || matches!(self, Self::WaveDescription | Self::ApplicationDescription);
        let is_bad = |c: char| c.is_control() && !(may_have_lines && matches!(c, '\n' | '\r' | '\t'));
        if value.chars().any(is_bad) {
            return Err("it holds a line break or a control character".into());
        }
        match self {
            Self::Account => parse::<AccountId>(value),
            Self::WaveId => parse::<WaveId>(value),
            Self::ApplicationId => parse::<ApplicationId>(value),
            Self::ServerId => parse::<SourceServerId>(value),
            Self::Region => {
                let parts: Vec<_> = value.split('-').collect();
                let is_region = parts.len() >= 3
                    && parts.iter().all(|part| {
                        !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
                    });
                if is_region {
                    return Ok(());
                }
                Err("it is a region such as eu-central-1".into())
            }
            Self::WaveName | Self::ApplicationName => {
                if value.trim() != value {
                    return Err("a name has no blank at either end".into());
                }
                text(256, "a name")
            }
            Self::UserProvidedId => text(256, "an ID of your own"),
            Self::WaveDescription | Self::ApplicationDescription => text(600, "a description"),
            Self::WaveTag(_) | Self::ApplicationTag(_) | Self::ServerTag(_) | Self::InstanceTag(_) => {
                text(256, "a tag's value")
            }
            Self::Fqdn => {
                let is_name = value
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
                if is_name && length <= 256 {
                    return Ok(());
                }
                Err("it is a host name such as web-1.example.com".into())
            }
            Self::Platform => {
                if value.eq_ignore_ascii_case("linux") {
                    return Ok(());
                }
                Err("only LINUX is supported".into())
            }
            Self::Interface(_) => Err(
                "an interface that exists already cannot be used; leave it empty, and name subnet and security groups"
                    .into(),
            ),
            Self::Host => Err("a host cannot be chosen; leave it empty".into()),
            Self::PrivateIp(..) => match value.parse::<Ipv4Addr>() {
                Ok(_) => Err(
                    "an address cannot be chosen; leave it empty, or have the source's address kept in its launch configuration"
                        .into(),
                ),
                Err(_) => Err("it is an IPv4 address; IPv6 is not supported by this format".into()),
            },
            Self::Subnet(0) | Self::TestSubnet => id("subnet-"),
            Self::SecurityGroup(0, _) => id("sg-"),
            Self::Subnet(_) | Self::SecurityGroup(..) => {
                Err("an instance is launched with one network interface; leave it empty".into())
            }
            Self::InstanceType => match value.split_once('.') {
                Some((family, size))
                    if [family, size].iter().all(|part| {
                        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                    }) =>
                {
                    text(64, "an instance type")
                }
                _ => Err("it is an instance type such as m5.large".into()),
            },
            Self::Tenancy => one_of(&["default", "dedicated", "host"]),
            Self::InstanceProfile => text(128, "an instance profile's name"),
            Self::Licensing => one_of(&["BYOL"]),
            Self::Volume(_) => one_of(&VolumeKind::ALL.map(VolumeKind::name)),
            Self::TransferTags => one_of(&["true", "false", "TRUE", "FALSE"]),
            Self::LifecycleState | Self::ReplicationType | Self::ReplicationState => Ok(()),
        }
    }
}

fn parse<T: FromStr<Err: fmt::Display>>(value: &str) -> Result<(), String> {
    value.parse::<T>().map(drop).map_err(|error| error.to_string())
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account => f.write_str("mgn:account-id"),
            Self::Region => f.write_str("mgn:region"),
            Self::WaveId => f.write_str("mgn:wave:id"),
            Self::WaveName => f.write_str("mgn:wave:name"),
            Self::WaveDescription => f.write_str("mgn:wave:description"),
            Self::WaveTag(key) => write!(f, "mgn:wave:tag:{key}"),
            Self::ApplicationId => f.write_str("mgn:app:id"),
            Self::ApplicationName => f.write_str("mgn:app:name"),
            Self::ApplicationDescription => f.write_str("mgn:app:description"),
            Self::ApplicationTag(key) => write!(f, "mgn:app:tag:{key}"),
            Self::ServerId => f.write_str("mgn:server:id"),
            Self::UserProvidedId => f.write_str("mgn:server:user-provided-id"),
            Self::Platform => f.write_str("mgn:server:platform"),
            Self::ServerTag(key) => write!(f, "mgn:server:tag:{key}"),
            Self::Fqdn => f.write_str("mgn:server:fqdn-for-action-framework"),
            Self::LifecycleState => f.write_str("mgn:server:lifecycle-state"),
            Self::ReplicationType => f.write_str("mgn:server:replication-type"),
            Self::ReplicationState => f.write_str("mgn:server:replication-state"),
            Self::Interface(nic) => write!(f, "mgn:launch:nic:{nic}:network-interface-id"),
            Self::Subnet(nic) => write!(f, "mgn:launch:nic:{nic}:subnet-id"),
            Self::SecurityGroup(nic, at) => write!(f, "mgn:launch:nic:{nic}:security-group-id:{at}"),
            Self::PrivateIp(nic, at) => write!(f, "mgn:launch:nic:{nic}:private-ip:{at}"),
            Self::InstanceType => f.write_str("mgn:launch:instance-type"),
            Self::Tenancy => f.write_str("mgn:launch:placement:tenancy"),
            Self::InstanceProfile => f.write_str("mgn:launch:iam-instance-profile:name"),
            Self::Host => f.write_str("mgn:launch:placement:host-id"),
            Self::Licensing => f.write_str("mgn:launch:placement:operating-system-licensing"),
            Self::InstanceTag(key) => write!(f, "mgn:launch:tag:instance:{key}"),
            Self::Volume(name) => write!(f, "mgn:launch:volume:{name}:type"),
            Self::TransferTags => f.write_str("mgn:launch:transfer-server-tags"),
            Self::TestSubnet => f.write_str("orglift:launch:test-subnet-id"),
        }
    }
}

impl FromStr for Column {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if name.contains(char::is_control) {
            return Err(format!(
                "{name:?}: a column's name has no line break or control character"
            ));
        }
        let fixed = [
            Self::Account,
            Self::Region,
            Self::WaveId,
            Self::WaveName,
            Self::WaveDescription,
            Self::ApplicationId,
            Self::ApplicationName,
            Self::ApplicationDescription,
            Self::ServerId,
            Self::UserProvidedId,
            Self::Platform,
            Self::Fqdn,
            Self::LifecycleState,
            Self::ReplicationType,
            Self::ReplicationState,
            Self::InstanceType,
            Self::Tenancy,
            Self::InstanceProfile,
            Self::Host,
            Self::Licensing,
            Self::TransferTags,
            Self::TestSubnet,
        ];
        if let Some(known) = fixed.into_iter().find(|column| column.to_string() == name) {
            return Ok(known);
        }
        let tag = |key: &str| -> Result<String, String> {
            let length = key.chars().count();
            if !(1..=128).contains(&length)
                || key.trim() != key
                || key.to_ascii_lowercase().starts_with("aws:")
            {
                return Err(format!(
                    "“{name}”: a tag's key has 1 to 128 characters, no blank at either end, and does not begin with aws:"
                ));
            }
            Ok(key.to_owned())
        };
        for (prefix, make) in [
            ("mgn:wave:tag:", Self::WaveTag as fn(String) -> Self),
            ("mgn:app:tag:", Self::ApplicationTag),
            ("mgn:server:tag:", Self::ServerTag),
            ("mgn:launch:tag:instance:", Self::InstanceTag),
        ] {
            if let Some(key) = name.strip_prefix(prefix) {
                return tag(key).map(make);
            }
        }
        if let Some(disk) = name
            .strip_prefix("mgn:launch:volume:")
            .and_then(|rest| rest.strip_suffix(":type"))
            && !disk.is_empty()
            && disk.len() <= 255
        {
            return Ok(Self::Volume(disk.to_owned()));
        }
        interface(name).ok_or_else(|| {
            format!(
                "“{}” is no column of this format",
                name.chars().take(100).collect::<String>()
            )
        })
    }
}

fn interface(name: &str) -> Option<Column> {
    let rest = name.strip_prefix("mgn:launch:nic:")?;
    let (nic, what) = rest.split_once(':')?;
    let number = |text: &str, max: u8| {
        let number: u8 = text.parse().ok()?;
        (number < max && number.to_string() == text).then_some(number)
    };
    let nic = number(nic, INTERFACES_MAX)?;
    Some(match what.rsplit_once(':') {
        None if what == "network-interface-id" => Column::Interface(nic),
        None if what == "subnet-id" => Column::Subnet(nic),
        Some(("security-group-id", at)) => Column::SecurityGroup(nic, number(at, GROUPS_MAX)?),
        Some(("private-ip", at)) => Column::PrivateIp(nic, number(at, GROUPS_MAX)?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_template_is_known_and_written_as_it_is_read() {
        for name in TEMPLATE {
            assert_eq!(name.parse::<Column>().unwrap().to_string(), name);
        }
        for name in [
            "mgn:server:tag:",
            "mgn:server:tag:aws:x",
            "mgn:launch:nic:15:subnet-id",
            "mgn:launch:nic:00:subnet-id",
            "name",
            "",
        ] {
            assert!(name.parse::<Column>().is_err(), "{name}");
        }
    }

    #[test]
    fn what_may_not_stand_in_a_column_is_said() {
        for (column, value, says) in [
            ("mgn:account-id", "12", "12 digits"),
            ("mgn:region", "Frankfurt", "such as eu-central-1"),
            ("mgn:app:name", " a", "no blank"),
            ("mgn:app:name", "a\nb", "line break"),
            ("mgn:server:platform", "WINDOWS", "only LINUX"),
            ("mgn:launch:nic:0:subnet-id", "subnet-1", "8 to 17"),
            (
                "mgn:launch:nic:1:subnet-id",
                "subnet-0123456789",
                "one network interface",
            ),
            (
                "mgn:launch:nic:0:private-ip:0",
                "fd00::1",
                "IPv6 is not supported",
            ),
            ("mgn:launch:nic:0:private-ip:0", "10.0.0.1", "cannot be chosen"),
            ("mgn:launch:instance-type", "large", "such as m5.large"),
            (
                "mgn:launch:placement:tenancy",
                "shared",
                "default, dedicated, host",
            ),
            ("mgn:launch:volume:/dev/sda:type", "gp4", "gp3"),
            ("mgn:server:tag:Name", "a\u{0}", "control character"),
        ] {
            let wrong = column.parse::<Column>().unwrap().check(value).unwrap_err();
            assert!(wrong.contains(says), "{column} {value}: {wrong}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_the_same(name in "(mgn:(wave|app|server|launch|nic):)?[ -~]{0,30}") {
            if let Ok(column) = name.parse::<Column>() {
                prop_assert_eq!(column.to_string(), name);
            }
        }
    }
}
