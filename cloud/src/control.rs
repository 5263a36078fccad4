//! The control plane: accounts and what is launched in them.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use async_trait::async_trait;
use domain::{
    account::{ListedAccount, Reach},
    ids::{AccountId, SourceServerId},
    launch::{
        BootMode, LaunchDisposition, Tenancy,
        instance_type::{Architecture, InstanceType, Needs},
        volume::{Encryption, VolumeSettings},
    },
    network::{Network, drift::Drifted},
};
use serde::{Deserialize, Serialize};

use crate::{
    caller::{Caller, SignedCall},
    route::{Errand, Route},
};

/// What a caller can do about a refusal decides which one it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloudError {
    /// Try again later; nothing is wrong with the request.
    #[error("{call} in account {account} was throttled")]
    Throttled { call: &'static str, account: String },
    /// It is not there, or not yet.
    #[error("{call} in account {account}: {what} does not exist")]
    NotFound {
        call: &'static str,
        account: String,
        what: String,
    },
    /// Somebody must change a permission; `remedy` says who and which.
    #[error("{call} in account {account} was denied: {remedy}")]
    Denied {
        call: &'static str,
        account: String,
        remedy: String,
    },
    /// The hub was told not to act there, and did not.
    #[error("account {account} was left alone: {why}")]
    LeftAlone { account: String, why: String },
    /// The request itself is wrong, and repeating it cannot help.
    #[error("{call} in account {account} was rejected: {reason}")]
    Rejected {
        call: &'static str,
        account: String,
        reason: String,
    },
    /// A fault on the way: it may or may not have happened. Repeat with the same token.
    #[error("{call} in account {account}: the outcome is unknown: {detail}")]
    Unknown {
        call: &'static str,
        account: String,
        detail: String,
    },
}

impl CloudError {
    /// Whether the same call may succeed later without anybody's doing.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Throttled { .. } | Self::Unknown { .. })
    }
}

/// Where a call goes, on which way, and what for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    pub account: AccountId,
    pub region: String,
    pub route: Arc<Route>,
    pub errand: Errand,
}

impl Place {
    /// A place that is reached by nobody's role, as in a folder.
    pub fn direct(account: AccountId, region: impl Into<String>) -> Self {
        Self {
            account,
            region: region.into(),
            route: Arc::default(),
            errand: Errand::own("direct"),
        }
    }
}

/// Names one wish, made of (job, server, step): asking twice with the same token makes one thing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClientToken(pub String);

pub type Tags = BTreeMap<String, String>;

/// The tag that every resource of ours carries, with the token that asked for it.
pub const TOKEN_TAG: &str = "orglift:token";
/// The tag that says for which source server a resource was made.
pub const SERVER_TAG: &str = "orglift:source-server";

/// The tag of what an account's administrator deployed to be onboarded, with the version of the template.
pub const TEMPLATE_TAG: &str = "orglift:template";
/// The tag of a runner's network interface with the name of the runner's bucket.
pub const BUCKET_TAG: &str = "orglift:bucket";
/// The tag of a runner's network interface whose log goes to the cloud's own service, with the name of its group.
pub const LOGS_TAG: &str = "orglift:logs";

/// Something that is to be stopped or removed, with what the ledger says of it. Nothing happens to it unless its own
/// tags say the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    pub id: String,
    pub server: SourceServerId,
    pub token: ClientToken,
}

impl Owned {
    /// Why it is left alone, if its tags do not say what the ledger says.
    pub fn disowned_by(&self, tags: &Tags) -> Option<String> {
        let said = |tag: &str| tags.get(tag).map(String::as_str);
        let expected = [
            (SERVER_TAG, self.server.as_str()),
            (TOKEN_TAG, self.token.0.as_str()),
        ];
        let (tag, value) = expected
            .into_iter()
            .find(|(tag, value)| said(tag) != Some(value))?;
        let seen = said(tag).map_or("has no such tag".to_owned(), |seen| format!("says {seen:?}"));
        Some(format!(
            "{} is left alone: by the ledger its tag {tag} is {value:?}, and in the account it {seen}; if nobody \
             else uses it, remove it there",
            self.id
        ))
    }
}

/// A machine image made of snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSpec {
    pub token: ClientToken,
    pub name: String,
    #[serde(default)]
    pub architecture: Architecture,
    pub boot_mode: BootMode,
    pub disks: Vec<ImageDisk>,
    pub tags: Tags,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageDisk {
    /// The source's name of the disk, which the target keeps as a tag.
    pub source_device: String,
    pub snapshot: String,
    pub bytes: u64,
    pub is_boot: bool,
    /// What its volume becomes.
    #[serde(default)]
    pub volume: VolumeSettings,
}

/// What an instance is, whatever it is launched from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchSpec {
    pub instance_type: String,
    pub subnet: String,
    /// Asked for, not guessed: `None` lets the subnet choose.
    pub private_ip: Option<IpAddr>,
    /// None stands for the default one of the subnet's VPC.
    #[serde(default)]
    pub security_groups: Vec<String>,
    /// By its name or ARN.
    #[serde(default)]
    pub instance_profile: Option<String>,
    #[serde(default)]
    pub tenancy: Tenancy,
    #[serde(default)]
    pub encryption: Encryption,
    /// Those of its image.
    #[serde(default)]
    pub disks: Vec<ImageDisk>,
}

impl LaunchSpec {
    /// What a template keeps of it: the snapshots are those of one launch.
    #[must_use]
    pub fn lasting(&self) -> Self {
        let mut lasting = self.clone();
        for disk in &mut lasting.disks {
            disk.snapshot.clear();
        }
        lasting
    }

    /// As EC2 launches it where nothing more is said.
    pub fn new(instance_type: impl Into<String>, subnet: impl Into<String>) -> Self {
        Self {
            instance_type: instance_type.into(),
            subnet: subnet.into(),
            private_ip: None,
            security_groups: Vec::new(),
            instance_profile: None,
            tenancy: Tenancy::Default,
            encryption: Encryption::AsSnapshots,
            disks: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSpec {
    pub token: ClientToken,
    pub image: String,
    /// Which keeps the same settings in the account.
    #[serde(default)]
    pub template: TemplateVersion,
    #[serde(flatten)]
    pub launch: LaunchSpec,
    pub disposition: LaunchDisposition,
    pub tags: Tags,
}

/// A launch template of a source server, by a name that it has for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateSpec {
    pub name: String,
    pub launch: LaunchSpec,
    pub tags: Tags,
}

/// Some version of a launch template. Versions never change: an instance is launched from one of them by its
/// number, whichever is the template's default by then.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TemplateVersion {
    pub template: String,
    pub version: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    pub id: String,
    pub state: InstanceState,
    pub checks: Checks,
    pub private_ip: Option<IpAddr>,
    pub subnet: String,
    pub volumes: Vec<Volume>,
}

/// A picture of an instance's screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Screenshot {
    pub media_type: &'static str,
    pub bytes: Vec<u8>,
}

/// The cloud's own checks of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checks {
    Pending,
    Passed,
    /// And waiting does not help.
    Failed {
        reason: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub id: String,
    pub source_device: String,
    pub bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceState {
    Pending,
    Running,
    Stopped,
    ShuttingDown,
    Terminated,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResourceKind {
    Snapshot,
    Image,
    Instance,
    Volume,
    LaunchTemplate,
}

impl ResourceKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Image => "image",
            Self::Instance => "instance",
            Self::Volume => "volume",
            Self::LaunchTemplate => "launch template",
        }
    }
}

/// A snapshot of ours that is to be copied under another key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopySpec {
    pub snapshot: String,
    /// The source server that it is of.
    pub server: String,
    /// The ARN of a KMS key.
    pub key: String,
    /// Once it is known which it is.
    pub copy: Option<String>,
}

/// Something of ours that exists in an account, and costs money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    pub kind: ResourceKind,
    pub id: String,
    pub tags: Tags,
    #[serde(default)]
    pub measure: Measure,
}

/// What the price of a resource depends on, as far as its account says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Measure {
    /// The size of a volume, or of the one that a snapshot is of.
    pub gib: Option<u32>,
    /// `m5.large`, `gp3`.
    pub form: Option<String>,
    pub iops: Option<u32>,
    /// MiB per second.
    pub throughput: Option<u32>,
    /// An instance that is kept stopped, and costs no more than its volumes.
    pub stopped: bool,
}

impl Measure {
    /// A volume or snapshot of so many bytes, or the next larger GiB.
    pub fn of_bytes(bytes: u64) -> Self {
        Self {
            gib: u32::try_from(bytes.div_ceil(1 << 30)).ok(),
            ..Self::default()
        }
    }
}

/// Calls that are to come: on what, and what the requests will say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// `ec2:RunInstances`.
    pub actions: &'static [&'static str],
    /// ARNs.
    pub resources: Vec<String>,
    /// Values of the keys that conditions of policies look at.
    pub context: Vec<(String, String)>,
}

/// How a launch would go. Each line is a sentence that says what to change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outlook {
    pub obstacles: Vec<String>,
    /// What the account does not let us look at. It may be in the way or not.
    pub not_checked: Vec<String>,
}

/// What a runner has around it.
#[derive(Debug, Clone)]
pub enum Surroundings {
    /// The accounts of this cloud have no networks of their own: there is nothing to check.
    NoNetworks,
    /// No network interface has the tag of the onboarding template.
    NotDeployed,
    Network(Box<Network>),
}

/// A comparison of a stack with its template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    UnderWay,
    /// With what is not as the template has it.
    Done(Vec<Drifted>),
    /// And why.
    Failed(String),
}

/// What the hub does in accounts. Every method may be repeated.
#[async_trait]
pub trait Cloud: Send + Sync + std::fmt::Debug {
    /// The accounts of an organization, as `reach` lets the hub see them. Not for rosters.
    async fn organization_accounts(
        &self,
        route: &Route,
        region: &str,
        reach: Reach,
    ) -> Result<Vec<ListedAccount>, CloudError>;

    /// Assumes the member role and asks who it is: the cheapest proof that the account can be reached.
    async fn check_access(&self, place: &Place) -> Result<(), CloudError>;

    async fn register_image(&self, place: &Place, spec: &ImageSpec) -> Result<String, CloudError>;

    /// One that is gone already is no error.
    async fn deregister_image(&self, place: &Place, image: &Owned) -> Result<(), CloudError>;

    /// The types of these families that can be launched where the subnet is.
    async fn instance_types(
        &self,
        place: &Place,
        subnet: &str,
        families: &[String],
    ) -> Result<Vec<InstanceType>, CloudError>;

    /// All that would keep such an instance from being launched, as far as it can be known without making
    /// anything; and of `uses`, which of them the role that we come by is not allowed.
    async fn launch_outlook(
        &self,
        place: &Place,
        spec: &TemplateSpec,
        needs: &Needs,
        uses: &[Use],
    ) -> Result<Outlook, CloudError>;

    /// Has the account keep these settings as a launch template. The same settings make no new version.
    async fn keep_template(&self, place: &Place, spec: &TemplateSpec) -> Result<TemplateVersion, CloudError>;

    /// One that is gone already is no error.
    async fn delete_template(&self, place: &Place, template: &Owned) -> Result<(), CloudError>;

    async fn launch_instance(&self, place: &Place, spec: &InstanceSpec) -> Result<String, CloudError>;

    /// What an instance has said on its serial console, as far as it is kept.
    async fn console_text(&self, place: &Place, instance: &str) -> Result<String, CloudError>;

    /// What its screen shows now; `None` for one that has none.
    async fn screenshot(&self, place: &Place, instance: &str) -> Result<Option<Screenshot>, CloudError>;

    async fn instance(&self, place: &Place, instance: &str) -> Result<Instance, CloudError>;

    /// Stops an instance that is to be kept stopped. One that is stopped already is no error.
    async fn stop_instance(&self, place: &Place, instance: &Owned) -> Result<(), CloudError>;

    /// Ends the instance and deletes its volumes. One that is gone already is no error.
    async fn terminate_instance(&self, place: &Place, instance: &Owned) -> Result<(), CloudError>;

    /// Deletes a snapshot that a runner let go, if its tags say that it is of this source server. One that is gone
    /// already is no error.
    async fn delete_snapshot(&self, place: &Place, snapshot: &str, server: &str) -> Result<(), CloudError>;

    /// Has a snapshot copied, if its tags say that it is of this source server, and says which snapshot the copy is and
    /// whether it is complete.
    async fn copy_snapshot(&self, place: &Place, _spec: &CopySpec) -> Result<(String, bool), CloudError> {
        Err(CloudError::Rejected {
            call: "ec2:CopySnapshot",
            account: place.account.to_string(),
            reason: "this cloud has no keys".into(),
        })
    }

    /// What a token made, if it made anything: how a crashed caller finds its resource again.
    async fn find_by_token(&self, place: &Place, token: &ClientToken)
    -> Result<Option<Resource>, CloudError>;

    /// The network around the runner of a place, found by the tag of the onboarding template; and how much room there is
    /// in the subnets that instances are launched into.
    async fn surroundings(
        &self,
        place: &Place,
        launch_subnets: &[String],
    ) -> Result<Surroundings, CloudError>;

    /// Has a stack compared with its template, which takes the cloud a while; what it answers is what [`Cloud::drift`] asks
    /// with. A cloud without stacks has nothing to compare.
    async fn detect_drift(&self, place: &Place, _stack: &str) -> Result<String, CloudError> {
        Err(without_stacks("cloudformation:DetectStackDrift", place))
    }

    async fn drift(&self, place: &Place, _stack: &str, _detection: &str) -> Result<Comparison, CloudError> {
        Err(without_stacks(
            "cloudformation:DescribeStackDriftDetectionStatus",
            place,
        ))
    }

    /// Who signed a call to STS, which is sent to `url`. A cloud without identities knows nobody.
    async fn caller(&self, _url: &str, _call: &SignedCall) -> Result<Caller, CloudError> {
        Err(CloudError::Rejected {
            call: "sts:GetCallerIdentity",
            account: "that is not known".into(),
            reason: "this cloud has no identities; enrol with a token".into(),
        })
    }

    /// Everything of ours that exists in the account. Terminated instances do not count.
    async fn inventory(&self, place: &Place) -> Result<Vec<Resource>, CloudError>;
}

fn without_stacks(call: &'static str, place: &Place) -> CloudError {
    CloudError::Rejected {
        call,
        account: place.account.to_string(),
        reason: "this cloud has no stacks".into(),
    }
}
