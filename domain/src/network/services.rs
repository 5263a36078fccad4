//! What the runner calls in its own account, and whether the policies of endpoints let it.

use super::{
    Endpoint, EndpointKind, Finding, Interface, Logs, Needs, Network, Rule,
    policy::{Caller, Effect, Policy, Request, Verdict},
    rules::finding,
};

pub(super) struct Service {
    name: &'static str,
    is_gateway: bool,
    pub purpose: &'static str,
    calls: &'static [(Target, &'static [&'static str])],
}

/// What is called upon. The names are those of the onboarding template's permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// The action knows no resources.
    Nothing,
    Snapshots,
    Bucket,
    Programs,
    Index,
    LogStreams,
}

const SERVICES: [&Service; 4] = [
    &Service {
        name: "ebs",
        is_gateway: false,
        purpose: "the runner keeps blocks in snapshots through it",
        calls: &[(
            Target::Snapshots,
            &[
                "ebs:StartSnapshot",
                "ebs:PutSnapshotBlock",
                "ebs:CompleteSnapshot",
                "ebs:GetSnapshotBlock",
                "ebs:ListSnapshotBlocks",
                "ebs:ListChangedBlocks",
            ],
        )],
    },
    &Service {
        name: "s3",
        is_gateway: true,
        purpose: "the runner gets its program through it, and keeps its index",
        calls: &[
            (Target::Programs, &["s3:GetObject"]),
            (
                Target::Index,
                &["s3:PutObject", "s3:GetObject", "s3:DeleteObject"],
            ),
            (Target::Bucket, &["s3:ListBucket"]),
        ],
    },
    &Service {
        name: "sts",
        is_gateway: false,
        purpose: "the runner proves by it which account it is in",
        calls: &[(Target::Nothing, &["sts:GetCallerIdentity"])],
    },
    &Service {
        name: "logs",
        is_gateway: false,
        purpose: "the runner's log goes there",
        calls: &[(Target::LogStreams, &["logs:CreateLogStream", "logs:PutLogEvents"])],
    },
];

pub(super) fn called_by(runner: &Interface) -> impl Iterator<Item = &'static Service> {
    let keeps_log = runner.logs != Logs::Off;
    let services = SERVICES.into_iter();
    services.filter(move |service| service.name != "logs" || keeps_log)
}

/// An action on a resource.
type Call<'a> = (&'static str, &'a str);

impl Service {
    pub(super) fn full_name(&self, needs: &Needs) -> String {
        format!("com.amazonaws.{}.{}", needs.region, self.name)
    }

    /// The type of its endpoint.
    pub(super) fn kind(&self) -> &'static str {
        if self.is_gateway { "Gateway" } else { "Interface" }
    }

    pub(super) fn endpoints<'a>(&self, network: &'a Network, needs: &Needs) -> Vec<&'a Endpoint> {
        let name = self.full_name(needs);
        let is_its = |endpoint: &&Endpoint| {
            // In China some begin with the country.
            endpoint.service.strip_prefix("cn.").unwrap_or(&endpoint.service) == name
                && matches!(endpoint.kind, EndpointKind::Gateway { .. }) == self.is_gateway
        };
        network.endpoints.iter().filter(is_its).collect()
    }

    /// One for each reason.
    pub(super) fn policy_findings(
        &self,
        endpoint: &Endpoint,
        network: &Network,
        needs: &Needs,
    ) -> Vec<Finding> {
        let caller = Caller {
            account: &needs.account,
            role: &needs.role,
            region: &needs.region,
            vpc: &network.vpc,
            endpoint: &endpoint.id,
            by_gateway: matches!(endpoint.kind, EndpointKind::Gateway { .. }),
            // EBS and GetCallerIdentity say nothing of it.
            resource_account: ["s3", "logs"].contains(&self.name).then_some(&needs.account),
        };
        let targets: Vec<_> = self
            .calls
            .iter()
            .map(|(target, actions)| (target.arn(network, needs), *actions))
            .collect();
        let mut judged: Vec<(Verdict, Vec<Call<'_>>)> = Vec::new();
        for (resource, actions) in &targets {
            for action in *actions {
                let caller = &caller;
                let verdict = endpoint.policy.judge(Request {
                    action,
                    resource,
                    caller,
                });
                match judged.iter_mut().find(|(same, _)| *same == verdict) {
                    Some((_, calls)) => calls.push((action, resource)),
                    None => judged.push((verdict, vec![(action, resource)])),
                }
            }
        }
        let findings = judged.iter().filter_map(|(verdict, calls)| {
            let (text, change) = told(verdict, calls, &endpoint.policy, &needs.role)?;
            Some(finding(Rule::EndpointPolicyAllows, &endpoint.id, text, change))
        });
        findings.collect()
    }
}

/// What is the matter, and what to change.
fn told(verdict: &Verdict, calls: &[Call<'_>], policy: &Policy, role: &str) -> Option<(String, String)> {
    let what = shown(calls);
    let add = || format!("Add to the endpoint's policy: {}", statement(calls, role));
    let except = |index| {
        format!(
            "Leave the runner's role out of {}: add {{\"ArnNotEquals\": {{\"aws:PrincipalArn\": {role:?}}}}} to its \
             Condition, or change what of it is meant for others.",
            name(policy, index)
        )
    };
    Some(match verdict {
        Verdict::Allowed => return None,
        Verdict::NotAllowed => (
            format!("no statement of the endpoint's policy allows the runner's role {what}"),
            add(),
        ),
        Verdict::Denied(index) => (
            format!(
                "{} of the endpoint's policy denies the runner's role {what}",
                name(policy, *index)
            ),
            except(*index),
        ),
        Verdict::Undecided { .. } if *policy == Policy::unreadable() => (
            "the endpoint's policy cannot be read".into(),
            format!(
                "Write the endpoint's policy anew, with {}",
                statement(calls, role)
            ),
        ),
        Verdict::Undecided { statement, why } => {
            let does = policy.0.get(*statement).map(|one| one.effect);
            let (verb, change) = match does {
                Some(Effect::Deny) => ("denies", except(*statement)),
                _ => ("allows", add()),
            };
            let text = format!(
                "it is not known whether {} of the endpoint's policy {verb} the runner's role {what}: {why}",
                name(policy, *statement)
            );
            (text, change)
        }
    })
}

/// `statement 2 (OnlyOurs)`.
fn name(policy: &Policy, index: usize) -> String {
    let number = index + 1;
    match policy.0.get(index).and_then(|statement| statement.sid.as_deref()) {
        Some(sid) => format!("statement {number} ({sid})"),
        None => format!("statement {number}"),
    }
}

/// `ebs:PutSnapshotBlock, ebs:CompleteSnapshot on ARN; …`
fn shown(calls: &[Call<'_>]) -> String {
    let one = |resource: &str| {
        let on_it = calls.iter().filter(|call| call.1 == resource);
        let actions: Vec<_> = on_it.map(|call| call.0).collect();
        format!("{} on {resource}", actions.join(", "))
    };
    let resources: Vec<_> = once_each(calls.iter().map(|call| call.1));
    let all: Vec<_> = resources.into_iter().map(one).collect();
    all.join("; ")
}

/// JSON, since neither actions nor ARNs have anything to escape.
fn statement(calls: &[Call<'_>], role: &str) -> String {
    let actions = once_each(calls.iter().map(|call| call.0));
    let resources = once_each(calls.iter().map(|call| call.1));
    format!(
        r#"{{"Effect": "Allow", "Principal": "*", "Action": {actions:?}, "Resource": {resources:?}, "Condition": {{"ArnEquals": {{"aws:PrincipalArn": {role:?}}}}}}}"#
    )
}

fn once_each<'a>(all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut told = Vec::new();
    for one in all {
        if !told.contains(&one) {
            told.push(one);
        }
    }
    told
}

impl Target {
    /// With `*` for every name that there may be, or that is not known.
    fn arn(self, network: &Network, needs: &Needs) -> String {
        let Needs {
            region,
            partition,
            account,
            ..
        } = needs;
        let bucket = network.runner.bucket.as_deref().unwrap_or("*");
        let below = |folder: &str| format!("arn:{partition}:s3:::{bucket}/{folder}/*");
        match self {
            Self::Nothing => "*".into(),
            Self::Snapshots => format!("arn:{partition}:ec2:{region}::snapshot/*"),
            Self::Bucket => format!("arn:{partition}:s3:::{bucket}"),
            Self::Programs => below("runner"),
            Self::Index => below("index"),
            Self::LogStreams => {
                let group = match &network.runner.logs {
                    Logs::On(Some(group)) => group,
                    Logs::On(None) | Logs::Off => "*",
                };
                format!("arn:{partition}:logs:{region}:{account}:log-group:{group}:log-stream:*")
            }
        }
    }
}
