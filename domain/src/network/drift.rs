//! What was changed by hand in the stack that an account was onboarded with.

use super::{Finding, Rule};

/// A longer value, such as a policy, is cut.
const VALUE_SHOWN: usize = 120;
/// Of more differences the same would be said: it is not as it was deployed.
const DIFFERENCES_SHOWN: usize = 5;

/// A resource that is not as the template has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drifted {
    /// Its name in the template.
    pub name: String,
    /// `AWS::EC2::SecurityGroup`.
    pub kind: String,
    pub id: String,
    pub how: How,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    Deleted,
    Changed(Vec<Difference>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// `/SecurityGroupIngress/0/CidrIp`.
    pub property: String,
    /// `None` where there was to be nothing.
    pub expected: Option<String>,
    /// `None` where there is nothing.
    pub actual: Option<String>,
}

pub fn findings(drifted: &[Drifted]) -> Vec<Finding> {
    drifted.iter().map(finding).collect()
}

fn finding(one: &Drifted) -> Finding {
    let Drifted { name, kind, id, how } = one;
    let (text, change) = match how {
        How::Deleted => (
            format!("{name} ({kind}) of the onboarding stack was deleted"),
            "Have CloudFormation make it again: deploy what `orglift-hub onboarding` writes for the account.",
        ),
        How::Changed(differences) => (
            format!(
                "{name} ({kind}) is not as it was deployed: {}",
                in_words(differences)
            ),
            "Set it back, or, if it is to stay so, deploy what `orglift-hub onboarding` writes with other answers.",
        ),
    };
    Finding {
        rule: Rule::StackAsDeployed,
        resource: if id.is_empty() { name.clone() } else { id.clone() },
        text,
        change: change.into(),
    }
}

fn in_words(differences: &[Difference]) -> String {
    let mut words: Vec<_> = differences
        .iter()
        .take(DIFFERENCES_SHOWN)
        .map(|one| match (&one.expected, &one.actual) {
            (Some(expected), Some(actual)) => {
                format!(
                    "{} is {}, and was to be {}",
                    one.property,
                    cut(actual),
                    cut(expected)
                )
            }
            (None, Some(actual)) => format!("{} was added: {}", one.property, cut(actual)),
            (Some(expected), None) => format!("{} was taken away: {}", one.property, cut(expected)),
            (None, None) => format!("{} differs", one.property),
        })
        .collect();
    if differences.len() > DIFFERENCES_SHOWN {
        words.push(format!("{} more", differences.len() - DIFFERENCES_SHOWN));
    }
    if words.is_empty() {
        "CloudFormation does not say how".into()
    } else {
        words.join("; ")
    }
}

fn cut(value: &str) -> String {
    if value.chars().count() <= VALUE_SHOWN {
        return value.to_owned();
    }
    let shown: String = value.chars().take(VALUE_SHOWN).collect();
    format!("{shown}…")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn group(differences: Vec<Difference>) -> Drifted {
        Drifted {
            name: "RunnerSecurityGroup".into(),
            kind: "AWS::EC2::SecurityGroup".into(),
            id: "sg-1".into(),
            how: How::Changed(differences),
        }
    }

    fn difference(expected: Option<&str>, actual: Option<&str>) -> Difference {
        Difference {
            property: "/SecurityGroupIngress/0/CidrIp".into(),
            expected: expected.map(str::to_owned),
            actual: actual.map(str::to_owned),
        }
    }

    #[test]
    fn a_change_is_told_with_what_was_to_be() {
        let told = finding(&group(vec![
            difference(Some("10.20.0.0/16"), Some("0.0.0.0/0")),
            difference(None, Some("10.9.0.0/16")),
            difference(Some("10.8.0.0/16"), None),
        ]));
        assert_eq!(
            (told.rule, told.resource.as_str()),
            (Rule::StackAsDeployed, "sg-1")
        );
        assert!(
            told.text
                .contains("/SecurityGroupIngress/0/CidrIp is 0.0.0.0/0, and was to be 10.20.0.0/16; "),
            "{}",
            told.text
        );
        assert!(
            told.text.contains("CidrIp was added: 10.9.0.0/16; "),
            "{}",
            told.text
        );
        assert!(
            told.text.ends_with("CidrIp was taken away: 10.8.0.0/16"),
            "{}",
            told.text
        );
    }

    #[test]
    fn a_deletion_is_told() {
        let told = finding(&Drifted {
            id: String::new(),
            how: How::Deleted,
            ..group(Vec::new())
        });
        assert_eq!(told.resource, "RunnerSecurityGroup");
        assert!(told.text.ends_with("was deleted"), "{}", told.text);
    }

    proptest! {
        #[test]
        fn whatever_an_account_says_the_words_stay_short(values in proptest::collection::vec("\\PC{0,500}", 0..40)) {
            let differences = values.iter().map(|value| difference(Some(value), Some(value))).collect();
            let told = finding(&group(differences));
            prop_assert!(told.text.chars().count() < 2_000);
        }
    }
}
