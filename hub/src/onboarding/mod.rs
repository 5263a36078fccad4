//! What an account's own administrator deploys so that servers can be moved into it: a CloudFormation template with the
//! role that the hub assumes, and with the runner, its address, its network and its bucket.
//!
//! - [`permissions`]: all that hub and runner may do, and why; [`policy`]: policies made of it.
//! - [`template`]: the template, of [`runner`] and [`network`]; its parameters are in [`parameters`].
//! - [`uses`]: what a launch will use of it, for IAM to simulate.
//! - [`values`]: what it is made for, checked; [`cli`]: `orglift-hub onboarding`.
//!
//! A template is data from beginning to end: no text is pasted into text. It is the same for all accounts that have the
//! same features; what differs is the value of a parameter. Nothing here calls AWS.

pub mod cli;
mod network;
#[cfg(test)]
mod page;
mod parameters;
mod permissions;
pub mod policy;
mod runner;
mod template;
#[cfg(test)]
mod tests;
pub mod uses;
mod values;

use clap::ValueEnum;
use cloud::control::TEMPLATE_TAG;
use domain::ids::AccountId;
use serde_json::{Value, json};

use self::values::{
    ExternalId, HubAddress, InstanceRole, Key, Principal, Region, RoleName, RunnerVersion, Sha256,
    SourceRange,
};

/// Rises with every change that an account must deploy; a resource's tag tells which one made it.
pub const TEMPLATE_VERSION: u32 = 1;

/// The name of the runner's role, before its region.
const RUNNER_ROLE: &str = "OrgliftRunner-";

/// As our instructions have it called.
const STACK_NAME: &str = "orglift-member";

/// CloudFormation takes no longer one, in bytes, that is not in a bucket.
const TEMPLATE_MAX: usize = 51_200;

/// What an account may be onboarded with besides what every migration needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Feature {
    /// The runner's log in Amazon's log service.
    Logs,
    /// Snapshots and volumes under a KMS key of the account's choice.
    Kms,
    /// Snapshots that are under another key yet, and are copied under that one.
    FormerKms,
    /// Launched instances with instance profiles.
    InstanceRoles,
    /// Quotas are looked at before a launch begins.
    Quotas,
    /// What was changed by hand in the stack is shown.
    Drift,
    /// Permissions are tried without using them.
    DryRun,
}

/// One account, or with a StackSet many, as the central team wants it.
#[derive(Debug, Clone)]
pub struct Onboarding {
    pub account: Option<AccountId>,
    pub features: Vec<Feature>,
    pub principals: Vec<Principal>,
    pub external_id: ExternalId,
    pub role: RoleName,
    /// The first one is where the member role is made; IAM knows no regions.
    pub regions: Vec<Region>,
    pub source_ranges: Vec<SourceRange>,
    pub hub: HubAddress,
    /// Addresses of the hub, as a range.
    pub hub_range: SourceRange,
    /// Fingerprint of its authority, by which a runner that has no certificate yet knows it.
    pub hub_ca: Sha256,
    pub runner_version: RunnerVersion,
    pub runner_sha256: Sha256,
    pub key: Option<Key>,
    pub former_key: Option<Key>,
    pub instance_roles: Vec<InstanceRole>,
}

impl Onboarding {
    fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }
}

/// The partition that a region is of, and the ARN of the role that the template gives the runner there.
pub fn runner_role(account: &AccountId, region: &str) -> (&'static str, String) {
    let (partition, _) = values::partition(region);
    let arn = format!("arn:{partition}:iam::{account}:role/{RUNNER_ROLE}{region}");
    (partition, arn)
}

fn reference(name: &str) -> Value {
    json!({"Ref": name})
}

fn attribute(resource: &str, name: &str) -> Value {
    json!({"Fn::GetAtt": [resource, name]})
}

fn sub(text: &str) -> Value {
    json!({"Fn::Sub": text})
}

/// Tags of a resource, with the name that people see.
fn tags(name: &str) -> Value {
    json!([
        {"Key": "Name", "Value": name},
        {"Key": TEMPLATE_TAG, "Value": TEMPLATE_VERSION.to_string()},
    ])
}
