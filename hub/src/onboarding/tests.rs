use std::collections::BTreeSet;

use clap::ValueEnum as _;
use serde_json::{Value, json};

use super::{
    Feature, Onboarding, TEMPLATE_MAX, TEMPLATE_VERSION, cli::RANGES_MAX, parameters, policy, template,
    values::Region,
};

/// Of all policies within a role, in characters that are not blank.
const ROLE_POLICIES_MAX: usize = 10_240;
/// Of a trust policy, unless the account asks for more.
const TRUST_MAX: usize = 2_048;

fn onboarding(features: &[Feature]) -> Onboarding {
    let key = "arn:aws:kms:eu-central-1:111122223333:key/0c1d2e3f-0000-4000-8000-000000000000";
    Onboarding {
        account: Some("111122223333".parse().unwrap()),
        features: features.to_vec(),
        principals: vec!["arn:aws:iam::444455556666:role/OrgliftHub".parse().unwrap()],
        external_id: "orglift-7f3c9a".parse().unwrap(),
        role: "OrgliftMember".parse().unwrap(),
        regions: vec!["eu-central-1".parse().unwrap(), "eu-west-1".parse().unwrap()],
        source_ranges: vec!["10.20.0.0/16".parse().unwrap(), "192.168.7.9/32".parse().unwrap()],
        hub: "hub.example.com:8443".parse().unwrap(),
        hub_range: "10.1.2.3/32".parse().unwrap(),
        hub_ca: "0c".repeat(32).parse().unwrap(),
        runner_version: "0.1.0".parse().unwrap(),
        runner_sha256: "0a".repeat(32).parse().unwrap(),
        key: features.contains(&Feature::Kms).then(|| key.parse().unwrap()),
        former_key: features
            .contains(&Feature::FormerKms)
            .then(|| key.parse().unwrap()),
        instance_roles: if features.contains(&Feature::InstanceRoles) {
            vec!["arn:aws:iam::111122223333:role/Web".parse().unwrap()]
        } else {
            Vec::new()
        },
    }
}

#[test]
fn a_template_with_everything_is_this() {
    let whole = template::for_account(&onboarding(Feature::value_variants()));
    insta::assert_json_snapshot!(whole);
}

#[test]
fn the_longest_template_is_short_enough() {
    let mut of = onboarding(Feature::value_variants());
    of.source_ranges = vec!["192.168.100.200/32".parse().unwrap(); RANGES_MAX];
    assert!(template::for_account(&of).to_string().len() <= TEMPLATE_MAX);
}

/// Whatever the features, a template names only what is in it, and all parameters are used.
#[test]
fn references_are_of_what_is_there() {
    let variants = Feature::value_variants();
    for chosen in 0..1 << variants.len() {
        let features: Vec<_> = (0..variants.len())
            .filter(|bit| chosen >> bit & 1 == 1)
            .map(|bit| variants[bit])
            .collect();
        let template = template::for_stack_set(&onboarding(&features));
        let mut named = BTreeSet::new();
        names_within(&template, &mut named);
        let keys = |section: &str| template[section].as_object().unwrap().keys().cloned();
        let there: BTreeSet<_> = keys("Parameters").chain(keys("Resources")).collect();
        let missing: Vec<_> = named
            .iter()
            .filter(|name| !name.starts_with("AWS::") && !there.contains(*name))
            .collect();
        assert!(missing.is_empty(), "{features:?}: {missing:?}");
        let unused: Vec<_> = keys("Parameters").filter(|name| !named.contains(name)).collect();
        assert!(unused.is_empty(), "{features:?}: {unused:?}");
    }
}

fn names_within(value: &Value, named: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match (key.as_str(), value) {
                    ("Ref", Value::String(name)) => drop(named.insert(name.clone())),
                    ("Fn::GetAtt", value) => drop(named.insert(value[0].as_str().unwrap().to_owned())),
                    ("Fn::Sub", Value::String(text)) => named.extend(text.split("${").skip(1).map(|part| {
                        let (name, _) = part.split_once('}').unwrap();
                        name.split('.').next().unwrap().to_owned()
                    })),
                    _ => names_within(value, named),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| names_within(value, named)),
        _ => {}
    }
}

#[test]
fn a_stack_set_holds_no_value_of_anybody() {
    let of = onboarding(Feature::value_variants());
    let text = template::for_stack_set(&of).to_string();
    let values = parameters::of_central_team(&of);
    assert!(values.len() > 10);
    for parameter in values {
        // A port may be the number of something else.
        if parameter.value.len() > 5 {
            let (name, value) = (parameter.name, parameter.value);
            assert!(!text.contains(&value), "{name}: {value}");
        }
    }
    assert!(!text.contains("111122223333"));
}

#[test]
fn the_file_of_parameters_has_what_has_no_default() {
    let of = onboarding(&[]);
    let for_set = parameters::file(&template::for_stack_set(&of), &of);
    let external_id = json!({"ParameterKey": "ExternalId", "ParameterValue": "orglift-7f3c9a"});
    assert!(for_set.as_array().unwrap().contains(&external_id));
    let for_one = parameters::file(&template::for_account(&of), &of);
    let values = for_one
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["ParameterValue"]);
    assert!(values.clone().count() > 3);
    assert!(values.clone().all(|value| value == ""), "{for_one}");
}

#[test]
fn policies_stand_by_themselves_and_are_short_enough() {
    let mut of = onboarding(Feature::value_variants());
    let policies = template::member_policies(&of).unwrap();
    let text = policies.to_string();
    assert!(
        !text.contains("${") && !text.contains("Fn::") && !text.contains("\"Ref\""),
        "{text}"
    );
    assert_eq!(policies["Version"], TEMPLATE_VERSION);
    assert!(policies["PolicyDocument"].to_string().len() <= ROLE_POLICIES_MAX);
    assert!(policies["AssumeRolePolicyDocument"].to_string().len() <= TRUST_MAX);
    assert!(text.contains("arn:aws:ec2:*:111122223333:instance/*"));

    of.regions = vec!["cn-north-1".parse::<Region>().unwrap()];
    let text = template::member_policies(&of).unwrap().to_string();
    assert!(
        text.contains("arn:aws-cn:ec2:") && text.contains("ec2.amazonaws.com.cn"),
        "{text}"
    );
    assert!(!text.contains("arn:aws:ec2:"));

    of.key = None;
    assert!(template::member_policies(&of).is_err());
}

/// The trust policy asks for the external id wherever STS knows it.
#[test]
fn nobody_assumes_the_role_without_the_external_id() {
    let trust = policy::member_trust();
    for statement in trust["Statement"].as_array().unwrap() {
        if statement["Action"] == "sts:AssumeRole" {
            let external_id = &statement["Condition"]["StringEquals"]["sts:ExternalId"];
            assert_eq!(*external_id, json!({"Ref": "ExternalId"}));
        } else {
            assert_eq!(statement["Action"], "sts:TagSession");
        }
    }
}
