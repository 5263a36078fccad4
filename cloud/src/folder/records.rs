//! What is written of images, instances and accounts, and what follows from it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use domain::launch::{BootMode, LaunchDisposition};
use serde::{Deserialize, Serialize};

use crate::control::{
    Checks, ClientToken, ImageSpec, Instance, InstanceSpec, InstanceState, Measure, Resource, ResourceKind,
    TOKEN_TAG, Tags, TemplateSpec, Volume,
};

/// An instance is pending, then runs, then passes its checks: soon enough to wait for, late enough
/// that a caller which does not wait is caught.
const PENDING_MS: u64 = 150;
const CHECKS_MS: u64 = 300;

/// `account.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Subnets by id.
    pub subnets: BTreeMap<String, Subnet>,
}

/// An IPv4 range, `10.0.1.0` and 24.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    pub network: Ipv4Addr,
    pub prefix: u8,
}

impl Default for Account {
    fn default() -> Self {
        let subnet = |third| Subnet {
            network: Ipv4Addr::new(10, 0, third, 0),
            prefix: 24,
        };
        Self {
            subnets: [("test".to_owned(), subnet(1)), ("target".to_owned(), subnet(2))].into(),
        }
    }
}

impl Subnet {
    pub(super) fn contains(self, ip: IpAddr) -> bool {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
        matches!(ip, IpAddr::V4(ip) if (u32::from(ip) ^ u32::from(self.network)) & mask == 0)
    }

    /// The first free address. As in a VPC, the first four and the last of a subnet are not for instances.
    pub(super) fn free_address(self, taken: &[IpAddr]) -> Option<IpAddr> {
        let len = 1u32.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
        (4..len.saturating_sub(1))
            .map(|host| IpAddr::V4(Ipv4Addr::from(u32::from(self.network) + host)))
            .find(|ip| !taken.contains(ip))
    }
}

/// `image.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    pub id: String,
    pub spec: ImageSpec,
}

/// `instance.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRecord {
    pub id: String,
    pub spec: InstanceSpec,
    /// The image's, which may be gone.
    pub boot_mode: BootMode,
    pub private_ip: IpAddr,
    pub volumes: Vec<Volume>,
    pub launched_at_ms: u64,
    pub terminated: bool,
}

/// `template.json`. One there is of a name, which stands in place of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateRecord {
    pub id: String,
    pub name: ClientToken,
    /// The newest last.
    pub versions: Vec<TemplateSpec>,
}

/// Something that a client token made.
pub(super) trait Record: Serialize + for<'de> Deserialize<'de> {
    const FILE: &'static str;
    fn id(&self) -> &str;
    fn token(&self) -> &ClientToken;
}

impl Record for ImageRecord {
    const FILE: &'static str = "image.json";
    fn id(&self) -> &str {
        &self.id
    }
    fn token(&self) -> &ClientToken {
        &self.spec.token
    }
}

impl Record for InstanceRecord {
    const FILE: &'static str = "instance.json";
    fn id(&self) -> &str {
        &self.id
    }
    fn token(&self) -> &ClientToken {
        &self.spec.token
    }
}

impl Record for TemplateRecord {
    const FILE: &'static str = "template.json";
    fn id(&self) -> &str {
        &self.id
    }
    fn token(&self) -> &ClientToken {
        &self.name
    }
}

impl TemplateRecord {
    pub(super) fn resource(&self) -> Resource {
        Resource {
            kind: ResourceKind::LaunchTemplate,
            id: self.id.clone(),
            tags: self
                .versions
                .last()
                .map(|spec| spec.tags.clone())
                .unwrap_or_default(),
            measure: Measure::default(),
        }
    }
}

impl ImageRecord {
    pub(super) fn resource(&self) -> Resource {
        Resource {
            kind: ResourceKind::Image,
            id: self.id.clone(),
            tags: with_token(&self.spec.tags, &self.spec.token),
            measure: Measure::default(),
        }
    }
}

impl InstanceRecord {
    pub(super) fn at(&self, now_ms: u64) -> Instance {
        let age = now_ms.saturating_sub(self.launched_at_ms);
        let state = match self.spec.disposition {
            _ if self.terminated => InstanceState::Terminated,
            _ if age < PENDING_MS => InstanceState::Pending,
            LaunchDisposition::Started => InstanceState::Running,
            LaunchDisposition::Stopped => InstanceState::Stopped,
        };
        Instance {
            id: self.id.clone(),
            state,
            checks: if state == InstanceState::Running && age >= CHECKS_MS {
                Checks::Passed
            } else {
                Checks::Pending
            },
            private_ip: (!self.terminated).then_some(self.private_ip),
            subnet: self.spec.launch.subnet.clone(),
            volumes: self.volumes.clone(),
        }
    }

    pub(super) fn resource(&self) -> Resource {
        Resource {
            kind: ResourceKind::Instance,
            id: self.id.clone(),
            tags: with_token(&self.spec.tags, &self.spec.token),
            measure: Measure {
                form: Some(self.spec.launch.instance_type.clone()),
                stopped: self.spec.disposition == LaunchDisposition::Stopped,
                ..Measure::default()
            },
        }
    }

    pub(super) fn volume_resources(&self) -> impl Iterator<Item = Resource> {
        self.volumes.iter().map(|volume| Resource {
            kind: ResourceKind::Volume,
            id: volume.id.clone(),
            tags: with_token(&self.spec.tags, &self.spec.token),
            measure: Measure {
                // What EC2 makes where nothing else is asked for.
                form: Some("gp3".into()),
                ..Measure::of_bytes(volume.bytes)
            },
        })
    }
}

fn with_token(tags: &Tags, token: &ClientToken) -> Tags {
    let mut tags = tags.clone();
    tags.insert(TOKEN_TAG.into(), token.0.clone());
    tags
}
