//! `orglift-hub onboarding`: writes a template or policies, and says how they are deployed.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use cloud::control::TEMPLATE_TAG;
use domain::ids::AccountId;
use serde_json::Value;

use super::{
    Feature, Onboarding, TEMPLATE_MAX, TEMPLATE_VERSION, parameters, template,
    values::{
        ExternalId, HubAddress, InstanceRole, Key, Principal, Region, RoleName, RunnerVersion, Sha256,
        SourceRange,
    },
};

/// A security group has sixty rules unless its account asks for more, and a range takes two.
pub(super) const RANGES_MAX: usize = 25;
/// Those of AWS, some of which an account must turn on, are fewer.
const REGIONS_MAX: usize = 50;
const PRINCIPALS_MAX: usize = 10;
const INSTANCE_ROLES_MAX: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A CloudFormation template for one account.
    Cloudformation,
    /// The same for many accounts, without a value of any; a file beside it has the parameters.
    Stackset,
    /// Trust and permissions of the member role, for accounts that make it themselves.
    Policy,
}

#[derive(Debug, Args)]
pub struct OnboardingArgs {
    #[arg(long, value_enum, default_value = "cloudformation")]
    format: Format,
    /// Write here, and the commands that deploy it to standard output. By default the document goes there.
    #[arg(long, value_name = "FILE", required_if_eq("format", "stackset"))]
    out: Option<PathBuf>,
    /// The account that is onboarded.
    #[arg(long, required_if_eq_any([("format", "cloudformation"), ("format", "policy")]))]
    account: Option<AccountId>,
    /// ARN of the role or user by which the hub comes; give it once for each.
    #[arg(long = "hub-principal", value_name = "ARN", required = true)]
    principals: Vec<Principal>,
    /// What the hub shows to assume the role, another for each tenant.
    #[arg(long)]
    external_id: ExternalId,
    /// Name of the role that the hub assumes.
    #[arg(long, default_value = "OrgliftMember")]
    role_name: RoleName,
    /// Where servers may be moved to; give it once for each. The role is made in the first one.
    #[arg(long = "region", value_name = "REGION", required = true)]
    regions: Vec<Region>,
    /// Addresses of source servers; give it once for each range.
    #[arg(long = "source-range", value_name = "CIDR", required = true)]
    source_ranges: Vec<SourceRange>,
    /// The hub's machine API, as runners reach it.
    #[arg(long, value_name = "HOST:PORT")]
    hub: HubAddress,
    /// Addresses behind that name; needed unless it is an address.
    #[arg(long, value_name = "CIDR")]
    hub_range: Option<SourceRange>,
    /// Fingerprint of the hub's authority, as `orglift-hub ca` prints it.
    #[arg(long, value_name = "HEX")]
    hub_ca: Sha256,
    /// Version of the runner's program that the instance takes from the bucket.
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    runner_version: RunnerVersion,
    /// SHA-256 of that program.
    #[arg(long, value_name = "HEX")]
    runner_sha256: Sha256,
    /// What else the account is onboarded with; give it once for each.
    #[arg(long = "feature", value_enum, value_name = "FEATURE")]
    features: Vec<Feature>,
    /// Key for snapshots and volumes. It chooses the feature `kms`.
    #[arg(long, value_name = "ARN")]
    kms_key: Option<Key>,
    /// Key that snapshots are under yet: they are copied under the other one, and not from the source again. Leave it out
    /// once none is under it. It chooses the feature `former-kms`.
    #[arg(long, value_name = "ARN", requires = "kms_key")]
    former_kms_key: Option<Key>,
    /// A role that launched instances may have. It chooses the feature `instance-roles`.
    #[arg(long = "instance-role", value_name = "ARN")]
    instance_roles: Vec<InstanceRole>,
}

pub fn run(args: OnboardingArgs) -> anyhow::Result<()> {
    let (format, out) = (args.format, args.out.clone());
    let of = args.onboarding()?;
    let document = match format {
        Format::Cloudformation => template::for_account(&of),
        Format::Stackset => template::for_stack_set(&of),
        Format::Policy => template::member_policies(&of)?,
    };
    let Some(out) = out else {
        print!("{}", text(&document));
        return Ok(());
    };
    write(&out, &document)?;
    if format == Format::Policy {
        return Ok(());
    }
    let values = with_extension(&out, "parameters.json");
    write(&values, &parameters::file(&document, &of))?;
    print!("{}", commands(format, &of.regions, &out, &values));
    Ok(())
}

impl OnboardingArgs {
    fn onboarding(self) -> anyhow::Result<Onboarding> {
        let limits = [
            ("--region", self.regions.len(), REGIONS_MAX),
            ("--source-range", self.source_ranges.len(), RANGES_MAX),
            ("--hub-principal", self.principals.len(), PRINCIPALS_MAX),
            ("--instance-role", self.instance_roles.len(), INSTANCE_ROLES_MAX),
        ];
        for (option, given, most) in limits {
            if given > most {
                bail!("{option} may be given {most} times, and not {given}");
            }
        }
        let hub_range = match self.hub_range {
            Some(range) => range,
            None => host_range(&self.hub).context("say by --hub-range what addresses the hub has")?,
        };
        let mut features = self.features;
        features.extend(self.kms_key.is_some().then_some(Feature::Kms));
        features.extend(self.former_kms_key.is_some().then_some(Feature::FormerKms));
        features.extend((!self.instance_roles.is_empty()).then_some(Feature::InstanceRoles));
        Ok(Onboarding {
            account: self.account,
            features,
            principals: self.principals,
            external_id: self.external_id,
            role: self.role_name,
            regions: self.regions,
            source_ranges: self.source_ranges,
            hub: self.hub,
            hub_range,
            hub_ca: self.hub_ca,
            runner_version: self.runner_version,
            runner_sha256: self.runner_sha256,
            key: self.kms_key,
            former_key: self.former_kms_key,
            instance_roles: self.instance_roles,
        })
    }
}

fn host_range(hub: &HubAddress) -> Option<SourceRange> {
    let address: Ipv4Addr = hub.host.to_string().parse().ok()?;
    format!("{address}/32").parse().ok()
}

fn write(path: &Path, document: &Value) -> anyhow::Result<()> {
    fs::write(path, text(document)).with_context(|| format!("cannot write {}", path.display()))
}

/// For people to read, unless CloudFormation would not take it for its length.
fn text(document: &Value) -> String {
    let pretty = format!("{document:#}\n");
    if pretty.len() <= TEMPLATE_MAX {
        return pretty;
    }
    format!("{document}\n")
}

fn with_extension(path: &Path, extension: &str) -> PathBuf {
    let mut path = path.to_owned();
    path.set_extension(extension);
    path
}

/// What to type. Values that only the account knows are empty in the file of parameters, and are filled in first.
fn commands(format: Format, regions: &[Region], template: &Path, values: &Path) -> String {
    let (template, values) = (file_argument(template), file_argument(values));
    let tags = format!("--tags Key={TEMPLATE_TAG},Value={TEMPLATE_VERSION}");
    let region = &regions[0];
    let all: Vec<_> = regions.iter().map(ToString::to_string).collect();
    let all = all.join(" ");
    let prefix_list = format!(
        "# S3PrefixListId:
aws ec2 describe-managed-prefix-lists --region {region} --query 'PrefixLists[].PrefixListId' \\
  --filters Name=prefix-list-name,Values=com.amazonaws.{region}.s3
"
    );
    let deploy = match format {
        Format::Stackset => format!(
            "aws cloudformation create-stack-set --stack-set-name orglift-member --permission-model SERVICE_MANAGED \\
  --auto-deployment Enabled=false --capabilities CAPABILITY_NAMED_IAM {tags} \\
  --template-body {template} --parameters {values}
# For each account, with the values that only it knows:
aws cloudformation create-stack-instances --stack-set-name orglift-member --regions {all} \\
  --deployment-targets OrganizationalUnitIds=OU,Accounts=ACCOUNT,AccountFilterType=INTERSECTION \\
  --parameter-overrides ParameterKey=VpcId,ParameterValue=VPC ParameterKey=SubnetId,ParameterValue=SUBNET
"
        ),
        Format::Cloudformation | Format::Policy => format!(
            "aws cloudformation create-stack --stack-name orglift-member --region {region} \\
  --capabilities CAPABILITY_NAMED_IAM {tags} --template-body {template} --parameters {values}
"
        ),
    };
    prefix_list + &deploy
}

/// As a shell reads it, whatever the file is called.
fn file_argument(path: &Path) -> String {
    let name = path.to_string_lossy().replace('\'', r"'\''");
    format!("'file://{name}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_the_name_of_a_file_as_it_is() {
        assert_eq!(file_argument(Path::new("a b.json")), "'file://a b.json'");
        assert_eq!(file_argument(Path::new("a'$(id)")), r"'file://a'\''$(id)'");
    }
}
