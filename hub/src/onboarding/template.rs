//! The template, put together.

use std::collections::BTreeMap;

use anyhow::bail;
use cloud::control::TEMPLATE_TAG;
use serde_json::{Map, Value, json};

use super::{
    Feature, Onboarding, STACK_NAME, TEMPLATE_VERSION, attribute, network,
    parameters::{self, of_central_team},
    permissions::{Holder, Permission},
    policy::{granted, member_trust, resolved},
    reference, runner, tags,
};

/// Of a session of the member role. Who assumes it from another role gets no longer one anyway.
const SESSION_SECONDS: u32 = 3600;

/// For one account: values of the central team are defaults.
pub fn for_account(of: &Onboarding) -> Value {
    template(of, true)
}

/// For a StackSet: what differs between accounts, organizations or hubs is not in it.
pub fn for_stack_set(of: &Onboarding) -> Value {
    template(of, false)
}

fn template(of: &Onboarding, with_values: bool) -> Value {
    let account = of.account.as_ref().filter(|_| with_values);
    let whose = account.map(|account| format!(" of account {account}"));
    let mut resources = Map::new();
    resources.insert("MemberRole".into(), member_role(&of.features));
    for (name, resource) in runner::resources(of).into_iter().chain(network::resources(of)) {
        resources.insert(name.to_owned(), resource);
    }
    json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": format!("Orglift: onboarding{}, version {TEMPLATE_VERSION}", whose.unwrap_or_default()),
        "Metadata": {TEMPLATE_TAG: {"Version": TEMPLATE_VERSION}},
        "Parameters": parameters::section(of, with_values),
        "Mappings": {"EndpointPrefix": network::endpoint_prefixes()},
        "Conditions": conditions(&of.features),
        "Resources": resources,
        "Outputs": outputs(),
    })
}

fn conditions(features: &[Feature]) -> Value {
    let mut conditions = json!({
        "MakeMemberRole": {"Fn::Equals": [reference("AWS::Region"), reference("HomeRegion")]},
        "ChooseAddress": {"Fn::Not": [{"Fn::Equals": [reference("RunnerAddress"), ""]}]},
    });
    let mut endpoints = vec!["EbsEndpoint", "S3Endpoint", "StsEndpoint"];
    endpoints.extend(features.contains(&Feature::Logs).then_some("LogsEndpoint"));
    for endpoint in endpoints {
        conditions[format!("Create{endpoint}")] = json!({"Fn::Equals": [reference(endpoint), "create"]});
    }
    conditions
}

fn member_role(features: &[Feature]) -> Value {
    json!({
        "Type": "AWS::IAM::Role",
        // A role is there in all regions, and cannot be made twice.
        "Condition": "MakeMemberRole",
        "Properties": {
            "RoleName": reference("MemberRoleName"),
            "Description": "Assumed by the Orglift hub",
            "MaxSessionDuration": SESSION_SECONDS,
            "AssumeRolePolicyDocument": member_trust(),
            "Policies": [{"PolicyName": "Orglift", "PolicyDocument": granted(Holder::Hub, features)}],
            "Tags": tags("Orglift hub"),
        },
    })
}

fn outputs() -> Value {
    json!({
        "TemplateVersion": {"Description": "Version of this template", "Value": TEMPLATE_VERSION.to_string()},
        "RunnerAddress": {
            "Description": "The address that source servers must reach, ports 443 and 1500",
            "Value": attribute("RunnerInterface", "PrimaryPrivateIpAddress"),
        },
        "MemberRoleArn": {
            "Condition": "MakeMemberRole",
            "Description": "The role that the hub assumes",
            "Value": attribute("MemberRole", "Arn"),
        },
        "RunnerRoleArn": {"Description": "The runner's role", "Value": attribute("RunnerRole", "Arn")},
        "BucketName": {
            "Description": "Where the runner's program is put, and where the runner keeps what outlives it",
            "Value": reference("Bucket"),
        },
    })
}

/// Trust and permissions of the member role, for those who make it themselves, and why each statement is there.
pub fn member_policies(of: &Onboarding) -> anyhow::Result<Value> {
    let (partition, suffix) = of.regions[0].partition();
    let account = of.account.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut names = BTreeMap::from([
        ("AWS::Partition", json!(partition)),
        ("AWS::URLSuffix", json!(suffix)),
        ("AWS::AccountId", json!(account)),
        ("AWS::StackName", json!(STACK_NAME)),
    ]);
    let known = of_central_team(of);
    for parameter in &known {
        if parameter.value.is_empty() {
            bail!("a policy cannot do without a value of {}", parameter.name);
        }
        names.insert(&parameter.name, parameter.json());
    }
    let reasons: Map<_, _> = Permission::granted(Holder::Hub, &of.features)
        .map(|permission| (permission.sid.to_owned(), json!(permission.why)))
        .collect();
    let policies = json!({
        "Version": TEMPLATE_VERSION,
        "RoleName": of.role,
        "MaxSessionDuration": SESSION_SECONDS,
        "AssumeRolePolicyDocument": member_trust(),
        "PolicyDocument": granted(Holder::Hub, &of.features),
        "Reasons": reasons,
    });
    Ok(resolved(policies, &names))
}
