//! What the role in an account may not do, known without doing it: IAM simulates the role's policies. It is asked about
//! calls that cannot be tried as dry runs before there is something to try them on.
//!
//! IAM knows the policies of the role, its boundary and those of the organization. What a policy makes of the request
//! itself, such as where it comes from, nobody knows before it is made.

use aws_sdk_iam::{
    Client,
    types::{
        ContextEntry, ContextKeyTypeEnum, EvaluationResult, PolicyEvaluationDecisionType,
        ResourceSpecificResult,
    },
};

use super::{calls::Asked, failure::Failure};
use crate::control::{CloudError, Outlook, Use};

const CALL: &str = "iam:SimulatePrincipalPolicy";

pub(super) async fn look(
    asked: Asked<'_>,
    iam: &Client,
    uses: &[Use],
    outlook: &mut Outlook,
) -> Result<(), CloudError> {
    let asked = asked.to(CALL);
    for wanted in uses {
        let results = match simulate(asked, iam, wanted).await {
            Ok(results) => results,
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => {
                outlook.not_checked.push(cannot_ask(asked, &error));
                return Ok(());
            }
        };
        for result in &results {
            match judge(result) {
                Verdict::Allowed => {}
                Verdict::Denied(why) => tell(&mut outlook.obstacles, denied(asked, result, &why)),
                Verdict::Depends(keys) => tell(&mut outlook.not_checked, depends(asked, result, &keys)),
            }
        }
    }
    Ok(())
}

/// Several rights to one action may be missing for one reason.
fn tell(told: &mut Vec<String>, line: String) {
    if !told.contains(&line) {
        told.push(line);
    }
}

async fn simulate(asked: Asked<'_>, iam: &Client, wanted: &Use) -> Result<Vec<EvaluationResult>, CloudError> {
    let entry = |(key, value): &(String, String)| {
        ContextEntry::builder()
            .context_key_name(key)
            .context_key_values(value)
            .context_key_type(ContextKeyTypeEnum::String)
            .build()
    };
    let answer = iam
        .simulate_principal_policy()
        .policy_source_arn(role(asked))
        .set_action_names(Some(wanted.actions.iter().map(ToString::to_string).collect()))
        .set_resource_arns(Some(wanted.resources.clone()))
        .set_context_entries(Some(wanted.context.iter().map(entry).collect()))
        .send()
        .await;
    let answer = answer.map_err(|error| asked.refused(&Failure::of(&error)))?;
    if answer.is_truncated() {
        return Err(asked.rejected("there are more answers than questions"));
    }
    Ok(answer.evaluation_results.unwrap_or_default())
}

/// The one that we come by.
fn role(asked: Asked<'_>) -> String {
    let place = asked.place;
    let partition = match &place.region {
        region if region.starts_with("cn-") => "aws-cn",
        region if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    };
    let (account, role) = (&place.account, &place.route.member_role);
    format!("arn:{partition}:iam::{account}:role/{role}")
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Allowed,
    /// Why, and what to do about it.
    Denied(String),
    /// On keys whose values IAM was not given.
    Depends(Vec<String>),
}

fn judge(result: &EvaluationResult) -> Verdict {
    let of_resources = result.resource_specific_results();
    let worst = of_resources
        .iter()
        .map(ResourceSpecificResult::eval_resource_decision)
        .find(|decision| **decision != PolicyEvaluationDecisionType::Allowed)
        .unwrap_or(result.eval_decision());
    if *worst == PolicyEvaluationDecisionType::Allowed {
        return Verdict::Allowed;
    }
    if result
        .organizations_decision_detail()
        .is_some_and(|detail| !detail.allowed_by_organizations())
    {
        let why =
            "a policy of the organization forbids it; only the organization's administrators can change that";
        return Verdict::Denied(why.into());
    }
    let missing = of_resources
        .iter()
        .flat_map(ResourceSpecificResult::missing_context_values);
    let mut missing: Vec<_> = missing.chain(result.missing_context_values()).cloned().collect();
    missing.sort();
    missing.dedup();
    if !missing.is_empty() {
        return Verdict::Depends(missing);
    }
    let boundaries = of_resources
        .iter()
        .map(|one| one.permissions_boundary_decision_detail())
        .chain([result.permissions_boundary_decision_detail()]);
    let outside = boundaries
        .flatten()
        .any(|detail| !detail.allowed_by_permissions_boundary());
    if outside {
        return Verdict::Denied("the permissions boundary of the role does not allow it; widen that".into());
    }
    if *worst == PolicyEvaluationDecisionType::ExplicitDeny {
        let mut statements = of_resources
            .iter()
            .flat_map(ResourceSpecificResult::matched_statements)
            .chain(result.matched_statements());
        let name = statements.find_map(|one| one.source_policy_id());
        let name = name.map_or_else(|| "a policy of the role".into(), |name| format!("policy {name}"));
        return Verdict::Denied(format!("{name} denies it; take that statement out"));
    }
    Verdict::Denied(String::new())
}

fn denied(asked: Asked<'_>, result: &EvaluationResult, why: &str) -> String {
    let (role, action) = (&asked.place.route.member_role, result.eval_action_name());
    let on = on(result);
    if why.is_empty() {
        return format!(
            "role {role} may not call {action}{on}: no policy of it allows that; deploy what `orglift-hub onboarding \
             --account {}` writes",
            asked.place.account
        );
    }
    format!("role {role} may not call {action}{on}: {why}")
}

fn depends(asked: Asked<'_>, result: &EvaluationResult, keys: &[String]) -> String {
    format!(
        "Whether role {} may call {}{} depends on {}, which is known only when it calls.",
        asked.place.route.member_role,
        result.eval_action_name(),
        on(result),
        keys.join(", ")
    )
}

/// The kinds of resources that it may not be called on, where IAM says it of each.
fn on(result: &EvaluationResult) -> String {
    let refused = result
        .resource_specific_results()
        .iter()
        .filter(|one| *one.eval_resource_decision() != PolicyEvaluationDecisionType::Allowed)
        .map(ResourceSpecificResult::eval_resource_name);
    let mut names: Vec<_> = refused.chain(result.eval_resource_name()).map(kind).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| *name != "*");
    if names.is_empty() {
        String::new()
    } else {
        format!(" on {}", names.join(", "))
    }
}

/// `subnet/subnet-1` of an ARN.
fn kind(arn: &str) -> &str {
    arn.splitn(6, ':').nth(5).unwrap_or(arn)
}

fn cannot_ask(asked: Asked<'_>, error: &CloudError) -> String {
    let (role, account) = (&asked.place.route.member_role, &asked.place.account);
    match error {
        CloudError::Denied { .. } => format!(
            "Whether role {role} has every permission that a launch takes is not checked: it may not call {CALL}. Deploy \
             what `orglift-hub onboarding --account {account} --feature dry-run` writes."
        ),
        other => {
            format!("Whether role {role} has every permission that a launch takes is not checked: {other}.")
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_iam::types::{
        OrganizationsDecisionDetail, PermissionsBoundaryDecisionDetail, Statement,
        builders::EvaluationResultBuilder,
    };

    use super::*;

    fn result(decision: PolicyEvaluationDecisionType) -> EvaluationResultBuilder {
        EvaluationResult::builder()
            .eval_action_name("ec2:RunInstances")
            .eval_decision(decision)
    }

    fn of(builder: EvaluationResultBuilder) -> Verdict {
        judge(&builder.build().unwrap())
    }

    #[test]
    fn a_denial_says_whose_it_is() {
        use PolicyEvaluationDecisionType::{Allowed, ExplicitDeny, ImplicitDeny};
        assert_eq!(of(result(Allowed)), Verdict::Allowed);
        assert_eq!(of(result(ImplicitDeny)), Verdict::Denied(String::new()));
        let statement = Statement::builder().source_policy_id("Freeze").build();
        let Verdict::Denied(why) = of(result(ExplicitDeny).matched_statements(statement)) else {
            panic!("it is denied");
        };
        assert!(why.contains("policy Freeze denies it"), "{why}");
        let organization = OrganizationsDecisionDetail::builder()
            .allowed_by_organizations(false)
            .build();
        let Verdict::Denied(why) = of(result(ExplicitDeny).organizations_decision_detail(organization))
        else {
            panic!("it is denied");
        };
        assert!(why.contains("policy of the organization"), "{why}");
        let boundary = PermissionsBoundaryDecisionDetail::builder()
            .allowed_by_permissions_boundary(false)
            .build();
        let Verdict::Denied(why) = of(result(ImplicitDeny).permissions_boundary_decision_detail(boundary))
        else {
            panic!("it is denied");
        };
        assert!(why.contains("boundary"), "{why}");
    }

    #[test]
    fn what_depends_on_the_call_itself_is_not_denied_yet() {
        use PolicyEvaluationDecisionType::{Allowed, ImplicitDeny};
        let missing = |builder: EvaluationResultBuilder| builder.missing_context_values("aws:SourceVpc");
        assert_eq!(of(missing(result(Allowed))), Verdict::Allowed);
        assert_eq!(
            of(missing(result(ImplicitDeny))),
            Verdict::Depends(vec!["aws:SourceVpc".into()])
        );
    }

    /// IAM once answered for each resource, and now for each action with the resources below it.
    #[test]
    fn the_resources_that_are_refused_are_named() {
        use PolicyEvaluationDecisionType::{Allowed, ImplicitDeny};
        let one = |name: &str, decision| {
            let one = ResourceSpecificResult::builder().eval_resource_name(name);
            one.eval_resource_decision(decision).build().unwrap()
        };
        let together = result(ImplicitDeny)
            .eval_resource_name("*")
            .resource_specific_results(one("arn:aws:ec2:eu-central-1::image/ami-1", Allowed))
            .resource_specific_results(one("arn:aws:ec2:eu-central-1:1:subnet/subnet-1", ImplicitDeny))
            .build()
            .unwrap();
        assert_eq!(on(&together), " on subnet/subnet-1");
        let apart = result(ImplicitDeny)
            .eval_resource_name("arn:aws:ec2:eu-central-1:1:subnet/subnet-1")
            .build()
            .unwrap();
        assert_eq!(on(&apart), " on subnet/subnet-1");
    }
}
