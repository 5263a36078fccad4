//! The policy of an endpoint, as its document is written: a field may be one value or a list, a key may be there or not.
//!
//! What cannot be read stays in the policy as something that nobody can judge; it is not left out, since what is left
//! over might mean more.

use domain::network::policy::{Condition, Effect, Element, Policy, Statement};
use serde_json::Value;

/// EC2 takes no longer one, in bytes.
const DOCUMENT_MAX: usize = 20_480;
/// Names that are shown to people; AWS's own are shorter.
const NAME_MAX: usize = 100;

pub(super) fn read(document: Option<&str>) -> Policy {
    let Some(document) = document.filter(|text| !text.is_empty()) else {
        // Services without such policies let everything through.
        return Policy::everything();
    };
    if document.len() > DOCUMENT_MAX {
        return Policy::unreadable();
    }
    let document: Value = serde_json::from_str(document).unwrap_or_default();
    let statements: Option<Vec<_>> = match &document["Statement"] {
        Value::Null => None,
        statements => list(statements).iter().map(statement).collect(),
    };
    statements.map_or_else(Policy::unreadable, Policy)
}

/// Nothing, where not even the effect can be told.
fn statement(found: &Value) -> Option<Statement> {
    let effect = match found["Effect"].as_str()? {
        "Allow" => Effect::Allow,
        "Deny" => Effect::Deny,
        _ => return None,
    };
    Some(Statement {
        effect,
        sid: found["Sid"].as_str().and_then(name),
        principal: element(found, "Principal", principals),
        action: element(found, "Action", texts),
        resource: element(found, "Resource", texts),
        conditions: conditions(&found["Condition"]),
    })
}

fn element(statement: &Value, key: &str, values: fn(&Value) -> Option<Vec<String>>) -> Element {
    let element = match (&statement[key], &statement[format!("Not{key}")]) {
        (Value::Null, Value::Null) => None,
        (only, Value::Null) => values(only).map(Element::OneOf),
        (Value::Null, but) => values(but).map(Element::NoneOf),
        _ => None,
    };
    element.unwrap_or(Element::Unreadable)
}

/// `"*"`, or those of AWS's kind: a runner is no user of a federation and no service.
fn principals(found: &Value) -> Option<Vec<String>> {
    match found {
        Value::String(all) if all == "*" => Some(vec![all.clone()]),
        Value::Object(kinds) => match kinds.get("AWS") {
            Some(names) => texts(names),
            None => Some(Vec::new()),
        },
        _ => None,
    }
}

fn conditions(found: &Value) -> Vec<Condition> {
    let unreadable = || {
        vec![Condition {
            operator: "of no kind".into(),
            key: "nothing".into(),
            values: Vec::new(),
        }]
    };
    match found {
        Value::Null => Vec::new(),
        Value::Object(operators) => {
            let of_operator = |(operator, keys): (&String, &Value)| {
                let keys = keys.as_object()?.iter();
                let all: Option<Vec<_>> = keys
                    .map(|(key, values)| {
                        Some(Condition {
                            operator: name(operator)?,
                            key: name(key)?,
                            values: texts(values).unwrap_or_default(),
                        })
                    })
                    .collect();
                all
            };
            let all: Option<Vec<_>> = operators.iter().map(of_operator).collect();
            all.map_or_else(unreadable, |all| all.concat())
        }
        _ => unreadable(),
    }
}

/// Of one value or several, none of which is anything but text, a number or true or false.
fn texts(found: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    };
    list(found).iter().map(text).collect()
}

/// One that may be shown.
fn name(text: &str) -> Option<String> {
    let is_shown = text.len() <= NAME_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_shown.then(|| text.to_owned())
}

/// One or several, as policies write both.
fn list(value: &Value) -> &[Value] {
    match value {
        Value::Array(all) => all,
        one => std::slice::from_ref(one),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_of(values: &[&str]) -> Element {
        Element::OneOf(values.iter().map(|&value| value.to_owned()).collect())
    }

    #[test]
    fn a_policy_is_its_statements() {
        let everything =
            r#"{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}}"#;
        assert_eq!(read(Some(everything)), Policy::everything());
        assert_eq!(read(None), Policy::everything());
        assert_eq!(read(Some("")), Policy::everything());
        let several = r#"{"Version": "2012-10-17", "Statement": [
            {"Sid": "Ours", "Effect": "Allow", "Principal": {"AWS": "111122223333", "Service": "a"}, "Resource": ["a", "b"],
             "NotAction": "s3:Delete*",
             "Condition": {"Bool": {"aws:SecureTransport": true}, "StringEquals": {"aws:SourceVpc": ["vpc-1", "vpc-2"]}}},
            {"Sid": "not shown", "Effect": "Deny", "NotPrincipal": {"Federated": "a"}, "Action": "*", "NotResource": "c"}
        ]}"#;
        let condition = |operator: &str, key: &str, values: &[&str]| Condition {
            operator: operator.into(),
            key: key.into(),
            values: values.iter().map(|&value| value.to_owned()).collect(),
        };
        let expected = [
            Statement {
                effect: Effect::Allow,
                sid: Some("Ours".into()),
                principal: one_of(&["111122223333"]),
                action: Element::NoneOf(vec!["s3:Delete*".into()]),
                resource: one_of(&["a", "b"]),
                conditions: vec![
                    condition("Bool", "aws:SecureTransport", &["true"]),
                    condition("StringEquals", "aws:SourceVpc", &["vpc-1", "vpc-2"]),
                ],
            },
            Statement {
                effect: Effect::Deny,
                sid: None,
                principal: Element::NoneOf(Vec::new()),
                action: one_of(&["*"]),
                resource: Element::NoneOf(vec!["c".into()]),
                conditions: Vec::new(),
            },
        ];
        assert_eq!(read(Some(several)).0, expected);
    }

    #[test]
    fn what_cannot_be_read_is_not_left_out() {
        for unreadable in [
            "no JSON",
            "[]",
            "7",
            r#"{"Statement": 7}"#,
            r#"{"Statement": [{"Effect": "Maybe"}]}"#,
            &format!("{{{}}}", " ".repeat(DOCUMENT_MAX)),
            &"[".repeat(DOCUMENT_MAX),
        ] {
            assert_eq!(read(Some(unreadable)), Policy::unreadable(), "{unreadable:.20}");
        }
        let of = |fields: &str| {
            let policy = read(Some(&format!(
                r#"{{"Statement": {{"Effect": "Deny", {fields}}}}}"#
            )));
            policy.0.into_iter().next().unwrap()
        };
        let both = of(r#""Action": "*", "NotAction": "*""#);
        assert_eq!(
            (both.action, both.resource),
            (Element::Unreadable, Element::Unreadable)
        );
        assert_eq!(
            of(r#""Principal": "111122223333""#).principal,
            Element::Unreadable
        );
        assert_eq!(of(r#""Action": ["a", {}]"#).action, Element::Unreadable);
        for condition in [
            "7",
            r#"{"StringEquals": 7}"#,
            r#"{"StringEquals": {"a\u001b": "b"}}"#,
            r#"{"StringEquals": {"a": [["b"]]}}"#,
        ] {
            let [condition] = &of(&format!(r#""Condition": {condition}"#)).conditions[..] else {
                panic!("it was left out: {condition}");
            };
            assert!(condition.values.is_empty(), "{condition:?}");
        }
    }
}
