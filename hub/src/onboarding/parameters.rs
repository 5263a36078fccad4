//! Parameters of the template: those whose values the central team knows, and those that only the account's
//! administrator knows.

use serde_json::{Map, Value, json};

use super::{Feature, Onboarding, values::Key};

/// A parameter that the central team has a value for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub name: String,
    pub value: String,
    declaration: Value,
}

impl Known {
    /// As a reference to it is resolved.
    pub fn json(&self) -> Value {
        match self.declaration["Type"].as_str() {
            Some("CommaDelimitedList") => self.value.split(',').collect(),
            _ => json!(self.value),
        }
    }
}

fn known(name: impl Into<String>, value: &impl ToString, declaration: Value) -> Known {
    Known {
        name: name.into(),
        value: value.to_string(),
        declaration,
    }
}

fn listed<T: ToString>(values: &[T]) -> String {
    let values: Vec<_> = values.iter().map(ToString::to_string).collect();
    values.join(",")
}

fn text(description: &str, pattern: &str) -> Value {
    json!({"Type": "String", "Description": description, "AllowedPattern": pattern})
}

fn list(description: &str) -> Value {
    json!({"Type": "CommaDelimitedList", "Description": description})
}

/// An IPv4 range; which numbers it may have, EC2 says.
const RANGE: &str = r"^[0-9]{1,3}(\.[0-9]{1,3}){3}/[0-9]{1,2}$";
const KEY: &str = "^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[0-9A-Za-z-]+$";

/// What the central team gives, in the order in which it is asked for.
pub fn of_central_team(of: &Onboarding) -> Vec<Known> {
    let mut parameters = vec![
        known(
            "HubPrincipals",
            &listed(&of.principals),
            list("ARNs of the roles by which the Orglift hub comes."),
        ),
        known(
            "ExternalId",
            &of.external_id,
            text(
                "What the hub must show to assume the role.",
                "^[A-Za-z0-9+=,.@:/_-]{8,128}$",
            ),
        ),
        known(
            "MemberRoleName",
            &of.role,
            text(
                "Name of the role that the hub assumes.",
                "^[A-Za-z0-9+=,.@_-]{1,64}$",
            ),
        ),
        known(
            "AllowedRegions",
            &listed(&of.regions),
            list("Regions that the hub may work in."),
        ),
        known(
            "HomeRegion",
            &of.regions[0],
            text("Region whose stack makes the member role.", "^[a-z0-9-]+$"),
        ),
        known(
            "HubHost",
            &of.hub.host,
            text("Name or address of the hub.", "^[A-Za-z0-9][A-Za-z0-9.-]*$"),
        ),
        known(
            "HubPort",
            &of.hub.port,
            json!({"Type": "Number", "Description": "The hub's port for runners.", "MinValue": 1, "MaxValue": 65535}),
        ),
        known(
            "HubRange",
            &of.hub_range,
            text("Addresses of the hub, as a range.", RANGE),
        ),
    ];
    parameters.push(known(
        "HubCa",
        &of.hub_ca,
        text(
            "SHA-256 of the certificate of the hub's authority.",
            "^[0-9a-f]{64}$",
        ),
    ));
    for (number, range) in (1..).zip(&of.source_ranges) {
        let description = format!("Addresses of source servers, range {number}.");
        parameters.push(known(source_range(number), range, text(&description, RANGE)));
    }
    parameters.extend([
        known(
            "RunnerVersion",
            &of.runner_version,
            text(
                "Version of the runner's program.",
                "^[A-Za-z0-9+-]+(\\.[A-Za-z0-9+-]+)*$",
            ),
        ),
        known(
            "RunnerSha256",
            &of.runner_sha256,
            text("SHA-256 of the runner's program.", "^[0-9a-f]{64}$"),
        ),
    ]);
    parameters.extend(keys(of));
    if of.has(Feature::InstanceRoles) {
        let declaration = list("Roles that launched instances may have.");
        parameters.push(known(
            "InstanceRoleArns",
            &listed(&of.instance_roles),
            declaration,
        ));
    }
    parameters
}

fn keys(of: &Onboarding) -> Vec<Known> {
    let keys = [
        (
            Feature::Kms,
            "KmsKeyArn",
            &of.key,
            "Key for snapshots and volumes of migrated servers.",
        ),
        (
            Feature::FormerKms,
            "FormerKmsKeyArn",
            &of.former_key,
            "Key that snapshots are under yet.",
        ),
    ];
    let chosen = keys.into_iter().filter(|(feature, ..)| of.has(*feature));
    let parameter = |(_, name, key, description): (_, _, &Option<Key>, _)| {
        let key = key.as_ref().map(ToString::to_string);
        known(name, &key.unwrap_or_default(), text(description, KEY))
    };
    chosen.map(parameter).collect()
}

pub fn source_range(number: usize) -> String {
    format!("SourceRange{number}")
}

/// Whether the template makes an endpoint, or finds one in the VPC.
fn endpoint(service: &str) -> Value {
    json!({
        "Type": "String",
        "Description": format!(
            "Whether an endpoint for {service} is created, or the VPC has one already. In a VPC that another account \
             shares, only that account creates endpoints."
        ),
        "AllowedValues": ["create", "existing"],
        "Default": "create",
    })
}

/// What only the account's administrator knows.
fn of_account(features: &[Feature]) -> Vec<(&'static str, Value)> {
    let mut parameters = vec![
        (
            "VpcId",
            json!({"Type": "AWS::EC2::VPC::Id", "Description": "VPC of the runner."}),
        ),
        (
            "SubnetId",
            json!({"Type": "AWS::EC2::Subnet::Id", "Description": "Private subnet of the runner, which source servers reach."}),
        ),
        (
            "AvailabilityZone",
            json!({"Type": "AWS::EC2::AvailabilityZone::Name", "Description": "Availability Zone of that subnet."}),
        ),
        (
            "RouteTableIds",
            list("Route tables of that subnet, for the endpoint of S3."),
        ),
        (
            "EndpointRange",
            text(
                "Range in which the VPC's endpoints are, such as that of the VPC.",
                RANGE,
            ),
        ),
        (
            "S3PrefixListId",
            text(
                "Prefix list of S3 in this region, com.amazonaws.REGION.s3.",
                "^pl-[0-9a-f]+$",
            ),
        ),
        (
            "RunnerImage",
            json!({"Type": "AWS::EC2::Image::Id", "Description": "Image of the runner's instance: Linux with systemd, cloud-init and the AWS CLI."}),
        ),
        (
            "RunnerRootDevice",
            json!({"Type": "String", "Description": "Root device of that image.", "AllowedPattern": "^/dev/[a-z0-9]+$", "Default": "/dev/xvda"}),
        ),
        (
            "RunnerInstanceType",
            json!({"Type": "String", "Description": "Type of the runner's instance.", "AllowedPattern": "^[a-z0-9-]+\\.[a-z0-9-]+$", "Default": "m6i.large"}),
        ),
        (
            "RunnerVolumeGiB",
            json!({"Type": "Number", "Description": "Size of the runner's volume.", "MinValue": 20, "MaxValue": 16384, "Default": 200}),
        ),
        (
            "RunnerAddress",
            json!({"Type": "String", "Description": "Private address of the runner; empty for any of the subnet.", "AllowedPattern": "^([0-9]{1,3}(\\.[0-9]{1,3}){3})?$", "Default": ""}),
        ),
        ("EbsEndpoint", endpoint("EBS direct APIs")),
        ("S3Endpoint", endpoint("S3")),
        ("StsEndpoint", endpoint("STS")),
    ];
    if features.contains(&Feature::Logs) {
        parameters.push(("LogsEndpoint", endpoint("CloudWatch Logs")));
    }
    parameters
}

/// The section of the template. The values of the central team are defaults of a template for one account; that of a
/// StackSet has none.
pub fn section(of: &Onboarding, with_values: bool) -> Value {
    let mut section = Map::new();
    for Known {
        name,
        value,
        mut declaration,
    } in of_central_team(of)
    {
        if with_values && !value.is_empty() {
            declaration["Default"] = value.into();
        }
        section.insert(name, declaration);
    }
    for (name, declaration) in of_account(&of.features) {
        section.insert(name.to_owned(), declaration);
    }
    Value::Object(section)
}

/// Values of a template's parameters that have no default, as the AWS CLI reads them; those that only the account's
/// administrator knows are empty.
pub fn file(template: &Value, of: &Onboarding) -> Value {
    let known = of_central_team(of);
    let value_of = |name: &str| {
        let parameter = known.iter().find(|parameter| parameter.name == name);
        parameter.map_or("", |parameter| parameter.value.as_str())
    };
    let declared = template["Parameters"].as_object().into_iter().flatten();
    let without_default = declared.filter(|(_, declaration)| declaration.get("Default").is_none());
    without_default
        .map(|(name, _)| json!({"ParameterKey": name, "ParameterValue": value_of(name)}))
        .collect()
}
