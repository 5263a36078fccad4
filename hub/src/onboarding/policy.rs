//! Policies, made of the table of permissions: for the template, with references into it, and resolved for those who
//! make the roles themselves.

use std::collections::BTreeMap;

use domain::ids::AccountId;
use serde_json::{Map, Value, json};

use super::{
    Feature, STACK_NAME,
    permissions::{Holder, Permission, Resources},
    values::partition,
};

const VERSION: &str = "2012-10-17";

/// What `holder` may do in an account with `features`.
pub fn granted(holder: Holder, features: &[Feature]) -> Value {
    let statements: Vec<_> = Permission::granted(holder, features).map(statement).collect();
    document(&statements)
}

/// What the template lets the hub do by the member role in an account that is worked in in one region, with the features
/// that need no parameter.
pub fn of_hub(account: &AccountId, region: &str, role: &str) -> Value {
    let (partition, suffix) = partition(region);
    let names = BTreeMap::from([
        ("AWS::Partition", json!(partition)),
        ("AWS::URLSuffix", json!(suffix)),
        ("AWS::AccountId", json!(account)),
        ("AWS::StackName", json!(STACK_NAME)),
        ("AllowedRegions", json!([region])),
        ("MemberRoleName", json!(role)),
    ]);
    let features = [Feature::Quotas, Feature::Drift, Feature::DryRun];
    resolved(granted(Holder::Hub, &features), &names)
}

/// Who may assume the member role.
pub fn member_trust() -> Value {
    let principals = json!({"AWS": {"Ref": "HubPrincipals"}});
    document(&[
        json!({
            "Sid": "HubWithExternalId",
            "Effect": "Allow",
            "Principal": principals,
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"sts:ExternalId": {"Ref": "ExternalId"}}},
        }),
        // STS does not know the external id here, and tagging alone gives nobody a session. Other tags may carry rights
        // in the account, so the hub cannot set them.
        json!({
            "Sid": "HubTagsSessions",
            "Effect": "Allow",
            "Principal": principals,
            "Action": "sts:TagSession",
            "Condition": {"ForAllValues:StringLike": {"aws:TagKeys": "orglift:*"}},
        }),
    ])
}

pub fn instance_trust() -> Value {
    document(&[json!({
        "Effect": "Allow",
        "Principal": {"Service": {"Fn::Sub": "ec2.${AWS::URLSuffix}"}},
        "Action": "sts:AssumeRole",
    })])
}

pub fn document(statements: &[Value]) -> Value {
    json!({"Version": VERSION, "Statement": statements})
}

fn statement(permission: &Permission) -> Value {
    let resources = match permission.resources {
        Resources::All => json!("*"),
        Resources::These(arns) => arns.iter().map(|arn| json!({"Fn::Sub": arn})).collect(),
        Resources::Listed(parameter) => json!({"Ref": parameter}),
    };
    let mut statement = json!({
        "Sid": permission.sid,
        "Effect": "Allow",
        "Action": permission.actions,
        "Resource": resources,
    });
    let mut conditions = Map::new();
    for condition in permission.conditions {
        let (operator, key, value) = condition.parts();
        let of_operator = conditions.entry(operator).or_insert_with(|| json!({}));
        of_operator[key] = value;
    }
    if !conditions.is_empty() {
        statement["Condition"] = Value::Object(conditions);
    }
    statement
}

/// `value` without references, which `names` resolves. What it does not name is left as it is.
pub fn resolved(value: Value, names: &BTreeMap<&str, Value>) -> Value {
    match value {
        Value::Object(object) => match single(&object) {
            Some(("Ref", name)) if names.contains_key(name) => names[name].clone(),
            Some(("Fn::Sub", text)) => substituted(text, names).into(),
            _ => object
                .into_iter()
                .map(|(key, value)| (key, resolved(value, names)))
                .collect(),
        },
        Value::Array(values) => values.into_iter().map(|value| resolved(value, names)).collect(),
        plain => plain,
    }
}

fn single(object: &Map<String, Value>) -> Option<(&str, &str)> {
    let (key, value) = object.iter().next().filter(|_| object.len() == 1)?;
    Some((key, value.as_str()?))
}

/// In one pass, so that nothing within a value is taken for a reference.
pub(super) fn substituted(text: &str, names: &BTreeMap<&str, Value>) -> String {
    let mut parts = text.split("${");
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let known = part
            .split_once('}')
            .and_then(|(name, rest)| Some((names.get(name)?.as_str()?, rest)));
        match known {
            Some((value, rest)) => result.extend([value, rest]),
            None => result.extend(["${", part]),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved_once() {
        let names = BTreeMap::from([("A", json!("${B}")), ("B", json!("b")), ("C", json!(["c"]))]);
        let resolved = |value| resolved(value, &names);
        assert_eq!(
            resolved(json!({"Fn::Sub": "x-${A}-${B}-${D}"})),
            json!("x-${B}-b-${D}")
        );
        assert_eq!(
            resolved(json!([{"Ref": "C"}, {"Ref": "D"}])),
            json!([["c"], {"Ref": "D"}])
        );
    }
}
