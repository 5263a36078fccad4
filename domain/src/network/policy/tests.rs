use proptest::prelude::*;

use super::*;

const ACCOUNT: &str = "111122223333";
const ROLE: &str = "arn:aws:iam::111122223333:role/OrgliftRunner-eu-central-1";
const INDEX: &str = "arn:aws:s3:::ours/index/*";

const CALLER: Caller<'_> = Caller {
    account: ACCOUNT,
    role: ROLE,
    region: "eu-central-1",
    vpc: "vpc-1",
    endpoint: "vpce-1",
    by_gateway: false,
    resource_account: Some(ACCOUNT),
};

fn only(values: &[&str]) -> Element {
    Element::OneOf(values.iter().map(|&value| value.to_owned()).collect())
}

fn none_of(values: &[&str]) -> Element {
    Element::NoneOf(values.iter().map(|&value| value.to_owned()).collect())
}

fn everything(effect: Effect) -> Statement {
    Statement {
        effect,
        ..Statement::of(only(&["*"]))
    }
}

fn condition(operator: &str, key: &str, values: &[&str]) -> Condition {
    Condition {
        operator: operator.into(),
        key: key.into(),
        values: values.iter().map(|&value| value.to_owned()).collect(),
    }
}

fn put(policy: &[Statement]) -> Verdict {
    Policy(policy.to_vec()).judge(Request {
        action: "s3:PutObject",
        resource: INDEX,
        caller: &CALLER,
    })
}

fn is_undecided(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Undecided { .. })
}

/// What a policy says that allows everything and denies by this statement: `Some(true)` is that it denies.
fn denies(statement: Statement) -> Option<bool> {
    let deny = Statement {
        effect: Effect::Deny,
        ..statement
    };
    match put(&[everything(Effect::Allow), deny]) {
        Verdict::Denied(1) => Some(true),
        Verdict::Allowed => Some(false),
        Verdict::Undecided { statement: 1, .. } => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_no_statement_allows_is_not_allowed_and_what_one_denies_is_denied() {
    let (allow, deny) = (everything(Effect::Allow), everything(Effect::Deny));
    assert_eq!(put(&[]), Verdict::NotAllowed);
    assert_eq!(put(std::slice::from_ref(&allow)), Verdict::Allowed);
    assert_eq!(put(&[allow, deny.clone()]), Verdict::Denied(1));
    assert_eq!(put(&[deny]), Verdict::Denied(0));
    assert_eq!(put(&Policy::everything().0), Verdict::Allowed);
    assert!(is_undecided(&put(&Policy::unreadable().0)));
}

#[test]
fn actions_are_named_or_left_out() {
    let of = |action| {
        denies(Statement {
            action,
            ..everything(Effect::Deny)
        })
    };
    assert_eq!(of(only(&["ebs:*", "S3:put?bject"])), Some(true));
    assert_eq!(of(only(&["s3:Get*"])), Some(false));
    assert_eq!(of(none_of(&["s3:Get*"])), Some(true));
    assert_eq!(of(none_of(&["s3:Get*", "s3:*"])), Some(false));
    assert_eq!(of(Element::Unreadable), None);
}

#[test]
fn resources_are_all_some_or_none_of_what_is_needed() {
    let of = |resource| {
        denies(Statement {
            resource,
            ..everything(Effect::Deny)
        })
    };
    for all in [
        "*",
        "arn:aws:s3:::*",
        "arn:*:s3:::ours/*",
        INDEX,
        "arn:aws:s3:::our?/index*",
    ] {
        assert_eq!(of(only(&["arn:aws:s3:::other/*", all])), Some(true), "{all}");
        assert_eq!(of(none_of(&["arn:aws:s3:::other/*", all])), Some(false), "{all}");
    }
    for none in [
        "arn:aws:s3:::other/*",
        "arn:aws:s3:::ours",
        "arn:aws:s3:::ours/runner/*",
        "arn:aws:s3:::OURS/*",
    ] {
        assert_eq!(of(only(&[none])), Some(false), "{none}");
        assert_eq!(of(none_of(&[none])), Some(true), "{none}");
    }
    for some in [
        "arn:aws:s3:::ours/index/a*",
        "arn:aws:s3:::*/a",
        "arn:aws:s3:::ours/index/?",
        "arn:aws:s3:::${aws:PrincipalTag/bucket}/*",
    ] {
        assert_eq!(of(only(&[some])), None, "{some}");
        assert_eq!(of(none_of(&[some])), None, "{some}");
    }
}

#[test]
fn the_runner_is_its_role_and_of_its_account() {
    let of = |principal, by_gateway| {
        let statement = Statement {
            principal,
            ..everything(Effect::Allow)
        };
        let caller = Caller { by_gateway, ..CALLER };
        match statement.names_caller(&caller) {
            Holds::Yes => Some(true),
            Holds::No => Some(false),
            Holds::Unknown(_) => None,
        }
    };
    for ours in [ACCOUNT, "arn:aws:iam::111122223333:root", ROLE] {
        assert_eq!(of(only(&[ours]), false), Some(true), "{ours}");
        assert_eq!(of(only(&[ours]), true), None, "{ours}");
        assert_eq!(of(none_of(&[ours]), false), None, "{ours}");
    }
    for other in [
        "444455556666",
        "arn:aws:iam::444455556666:root",
        "arn:aws:iam::111122223333:role/Other",
        "arn:aws:iam::111122223333:user/root",
        "AROAEXAMPLE",
    ] {
        for by_gateway in [true, false] {
            assert_eq!(of(only(&[other]), by_gateway), Some(false), "{other}");
            assert_eq!(of(none_of(&[other]), by_gateway), Some(true), "{other}");
        }
    }
    let session = "arn:aws:sts::111122223333:assumed-role/OrgliftRunner-eu-central-1/i-1";
    assert_eq!(of(only(&[session]), false), None);
    assert_eq!(of(only(&["*"]), true), Some(true));
    assert_eq!(of(none_of(&["*"]), true), Some(false));
    assert_eq!(of(none_of(&[]), true), Some(true));
}

#[test]
fn conditions_hold_or_not_or_cannot_be_judged() {
    let of = |conditions: &[Condition]| {
        denies(Statement {
            conditions: conditions.to_vec(),
            ..everything(Effect::Deny)
        })
    };
    let rows: &[(&str, &str, &[&str], Option<bool>)] = &[
        (
            "StringEquals",
            "aws:PrincipalAccount",
            &["444455556666", ACCOUNT],
            Some(true),
        ),
        (
            "StringEquals",
            "AWS:principalaccount",
            &["444455556666"],
            Some(false),
        ),
        ("StringEqualsIfExists", "aws:SourceVpc", &["vpc-1"], Some(true)),
        (
            "StringNotEquals",
            "aws:SourceVpce",
            &["vpce-2", "vpce-3"],
            Some(true),
        ),
        (
            "StringNotEquals",
            "aws:SourceVpce",
            &["vpce-2", "vpce-1"],
            Some(false),
        ),
        (
            "StringNotEqualsIfExists",
            "s3:ResourceAccount",
            &[ACCOUNT],
            Some(false),
        ),
        (
            "StringLike",
            "aws:PrincipalArn",
            &["arn:aws:iam::*:role/Orglift*"],
            Some(true),
        ),
        ("StringLike", "aws:PrincipalArn", &["*orglift*"], Some(false)),
        ("StringNotLike", "aws:RequestedRegion", &["eu-*"], Some(false)),
        (
            "ArnLike",
            "aws:PrincipalArn",
            &["arn:*:iam::*:role/*"],
            Some(true),
        ),
        ("ArnEquals", "aws:PrincipalArn", &["arn:aws:*"], None),
        ("ArnLike", "aws:PrincipalArn", &["arn:aws:iam:*:*:*"], Some(true)),
        (
            "ArnLike",
            "aws:PrincipalArn",
            &["arn:aws:sts::*:role/*"],
            Some(false),
        ),
        ("ArnNotEquals", "aws:PrincipalArn", &[ROLE], Some(false)),
        (
            "ArnNotLike",
            "aws:PrincipalArn",
            &["arn:aws:iam::444455556666:*"],
            Some(true),
        ),
        ("Bool", "aws:SecureTransport", &["false"], Some(false)),
        (
            "BoolIfExists",
            "aws:PrincipalIsAWSService",
            &["False"],
            Some(true),
        ),
        // Keys, operators and values of which nothing is known here.
        ("StringNotEquals", "aws:PrincipalOrgID", &["o-1"], None),
        ("StringEqualsIfExists", "aws:PrincipalTag/team", &["a"], None),
        (
            "ForAnyValue:StringEquals",
            "aws:PrincipalAccount",
            &[ACCOUNT],
            None,
        ),
        ("Null", "aws:PrincipalAccount", &["true"], None),
        ("IpAddress", "aws:VpcSourceIp", &["10.0.0.0/8"], None),
        (
            "StringEquals",
            "aws:ResourceAccount",
            &["${aws:PrincipalAccount}"],
            None,
        ),
        ("StringEquals", "aws:PrincipalAccount", &[], None),
    ];
    for (operator, key, values, expected) in rows {
        let one = condition(operator, key, values);
        assert_eq!(of(std::slice::from_ref(&one)), *expected, "{one:?}");
    }
    let [yes, no, unknown] = [
        condition("StringEquals", "aws:SourceVpc", &["vpc-1"]),
        condition("StringEquals", "aws:SourceVpc", &["vpc-2"]),
        condition("StringEquals", "aws:userid", &["a"]),
    ];
    assert_eq!(of(&[yes.clone(), no.clone()]), Some(false), "all must hold");
    assert_eq!(of(&[yes, unknown.clone()]), None);
    assert_eq!(of(&[unknown, no]), Some(false), "whatever the first says");
}

#[test]
fn who_the_resource_is_of_is_known_where_the_service_says_it() {
    let caller = Caller {
        resource_account: None,
        ..CALLER
    };
    let one = condition("StringEquals", "aws:ResourceAccount", &[ACCOUNT]);
    assert_eq!(one.holds(&CALLER), Holds::Yes);
    assert!(matches!(one.holds(&caller), Holds::Unknown(_)));
}

#[test]
fn what_cannot_be_judged_is_named_and_never_allows() {
    let allow = everything(Effect::Allow);
    let of_organization = |effect| Statement {
        conditions: vec![condition("StringEquals", "aws:PrincipalOrgID", &["o-1"])],
        ..everything(effect)
    };
    let perhaps = put(&[of_organization(Effect::Allow)]);
    let Verdict::Undecided { statement: 0, why } = &perhaps else {
        panic!("{perhaps:?}");
    };
    assert!(why.contains("StringEquals on aws:PrincipalOrgID"), "{why}");
    // Another statement makes it certain.
    assert_eq!(
        put(&[of_organization(Effect::Allow), allow.clone()]),
        Verdict::Allowed
    );
    assert!(is_undecided(&put(&[
        allow.clone(),
        of_organization(Effect::Deny)
    ])));
    assert_eq!(
        put(&[allow, of_organization(Effect::Deny), everything(Effect::Deny)]),
        Verdict::Denied(2)
    );
    assert_eq!(put(&[of_organization(Effect::Deny)]), Verdict::NotAllowed);
}

#[test]
fn patterns_mean_what_they_do_at_aws() {
    let put = "ebs:PutSnapshotBlock";
    for pattern in [
        "*",
        "ebs:*",
        "ebs:Put*Block",
        "ebs:P?tSnapshotBlock",
        "*Put*Snapshot**Block*",
        put,
    ] {
        assert!(is_like(put, pattern), "{pattern}");
        assert!(overlap(put, pattern), "{pattern}");
    }
    for pattern in [
        "",
        "ebs:",
        "ebs:Get*",
        "ebs:PutSnapshotBlock?",
        "*Block*s",
        &"*a".repeat(10_000),
    ] {
        assert!(!is_like(put, pattern), "{pattern}");
        assert!(!overlap(put, pattern), "{pattern}");
    }
}

fn statements() -> impl Strategy<Value = Vec<Statement>> {
    let element = |values: &'static [&'static str]| {
        let values = prop::collection::vec(prop::sample::select(values), 0..3);
        (0..5, values).prop_map(|(kind, values)| match kind {
            0 => Element::Unreadable,
            1 => none_of(&values),
            _ => only(&values),
        })
    };
    let key = prop::sample::select(&["aws:SourceVpc", "aws:PrincipalTag/a"][..]);
    let operator = prop::sample::select(&["StringEquals", "StringNotLike", "Null"][..]);
    let value = prop::sample::select(&["vpc-1", "vpc-2", "vpc-*"][..]);
    let condition =
        (operator, key, value).prop_map(|(operator, key, value)| condition(operator, key, &[value]));
    let statement = (
        prop::sample::select(&[Effect::Allow, Effect::Deny][..]),
        element(&["*", ACCOUNT, ROLE, "444455556666"]),
        element(&["*", "s3:PutObject", "s3:Get*"]),
        element(&["*", INDEX, "arn:aws:s3:::ours/index/a", "arn:aws:s3:::other/*"]),
        prop::collection::vec(condition, 0..2),
    );
    let statement = statement.prop_map(|(effect, principal, action, resource, conditions)| Statement {
        effect,
        sid: None,
        principal,
        action,
        resource,
        conditions,
    });
    prop::collection::vec(statement, 0..6)
}

/// What comes of a policy, from the worst to the best.
fn rank(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Denied(_) | Verdict::NotAllowed => 0,
        Verdict::Undecided { .. } => 1,
        Verdict::Allowed => 2,
    }
}

proptest! {
    #[test]
    fn one_that_allows_takes_nothing_and_one_that_denies_gives_nothing(
        policy in statements(),
        mut added in statements(),
        at in any::<prop::sample::Index>(),
        effect in prop::sample::select(&[Effect::Allow, Effect::Deny][..]),
    ) {
        let before = rank(&put(&policy));
        for statement in &mut added {
            statement.effect = effect;
        }
        let mut more = policy.clone();
        let at = at.index(policy.len() + 1);
        more.splice(at..at, added);
        let after = rank(&put(&more));
        match effect {
            Effect::Allow => prop_assert!(after >= before, "{more:?}"),
            Effect::Deny => prop_assert!(after <= before, "{more:?}"),
        }
    }

    #[test]
    fn a_pattern_that_means_all_of_another_overlaps_it(one in "[ab*?]{0,6}", other in "[ab*?]{0,6}", text in "[ab]{0,5}") {
        // A question mark is never in what is asked.
        let asked = one.replace('?', "a");
        let both = is_like(&text, &asked) && is_like(&text, &other);
        prop_assert!(!both || overlap(&asked, &other));
        prop_assert!(!is_like(&asked, &other) || overlap(&asked, &other));
        prop_assert!(!(is_like(&asked, &other) && is_like(&text, &asked)) || is_like(&text, &other));
    }
}
