//! What the hub and the runner may do in a member account, in one table. The policies of the template are made of it,
//! and the page that a member account's security team reads.
//!
//! Resources are written as `Fn::Sub` reads them.

use cloud::control::SERVER_TAG;
use serde_json::{Value, json};

use super::Feature;

/// Who has the permission: the hub by the member role, or the runner by its instance's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    Hub,
    Runner,
}

#[derive(Debug)]
pub struct Permission {
    pub sid: &'static str,
    pub holder: Holder,
    /// Only where it was chosen.
    pub feature: Option<Feature>,
    pub actions: &'static [&'static str],
    pub resources: Resources,
    pub conditions: &'static [Condition],
    pub why: &'static str,
}

#[derive(Debug)]
pub enum Resources {
    /// Those for which AWS knows no narrower scope.
    All,
    These(&'static [&'static str]),
    /// A parameter of the template that lists them.
    Listed(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The resource is ours.
    Tagged,
    /// The request makes it ours.
    TaggedNow,
    /// Tags are set while one of these calls makes the resource.
    MadeBy(&'static [&'static str]),
    /// A role is handed to instances and to nothing else.
    PassedToEc2,
    /// The grant is for EBS, which encrypts, and not for a person.
    ForAws,
    /// What is listed begins so.
    Below(&'static str),
    /// The region is one of those that the account was onboarded for.
    InRegions,
}

impl Condition {
    /// Operator, key and value.
    pub fn parts(self) -> (&'static str, String, Value) {
        match self {
            Self::Tagged => ("Null", format!("aws:ResourceTag/{SERVER_TAG}"), json!("false")),
            Self::TaggedNow => ("Null", format!("aws:RequestTag/{SERVER_TAG}"), json!("false")),
            Self::MadeBy(calls) => ("StringEquals", "ec2:CreateAction".into(), json!(calls)),
            Self::PassedToEc2 => {
                // amazonaws.com.cn in China.
                let service = json!({"Fn::Sub": "ec2.${AWS::URLSuffix}"});
                ("StringEquals", "iam:PassedToService".into(), service)
            }
            Self::ForAws => ("Bool", "kms:GrantIsForAWSResource".into(), json!("true")),
            Self::Below(prefix) => ("StringLike", "s3:prefix".into(), json!(format!("{prefix}*"))),
            Self::InRegions => (
                "StringEquals",
                "aws:RequestedRegion".into(),
                json!({"Ref": "AllowedRegions"}),
            ),
        }
    }

    /// The value that the key has in a request of ours for a source server.
    pub fn met(self, server: &str, region: &str) -> String {
        match self {
            Self::Tagged | Self::TaggedNow => server.into(),
            Self::MadeBy(calls) => calls.last().copied().unwrap_or_default().into(),
            Self::PassedToEc2 => "ec2.amazonaws.com".into(),
            Self::ForAws => "true".into(),
            Self::Below(prefix) => prefix.into(),
            Self::InRegions => region.into(),
        }
    }
}

impl Permission {
    /// Those that an account with `features` grants to `holder`.
    pub fn granted(holder: Holder, features: &[Feature]) -> impl Iterator<Item = &'static Self> {
        PERMISSIONS.iter().filter(move |permission| {
            permission.holder == holder
                && permission
                    .feature
                    .is_none_or(|feature| features.contains(&feature))
        })
    }
}

const IMAGE: &str = "arn:${AWS::Partition}:ec2:*::image/*";
const SNAPSHOT: &str = "arn:${AWS::Partition}:ec2:*::snapshot/*";
const INSTANCE: &str = "arn:${AWS::Partition}:ec2:*:${AWS::AccountId}:instance/*";
const VOLUME: &str = "arn:${AWS::Partition}:ec2:*:${AWS::AccountId}:volume/*";
const INTERFACE: &str = "arn:${AWS::Partition}:ec2:*:${AWS::AccountId}:network-interface/*";
const SECURITY_GROUP: &str = "arn:${AWS::Partition}:ec2:*:${AWS::AccountId}:security-group/*";
/// These may be shared by the account that owns them.
const SUBNET: &str = "arn:${AWS::Partition}:ec2:*:*:subnet/*";
const VPC: &str = "arn:${AWS::Partition}:ec2:*:*:vpc/*";
/// Those of services are AWS's own.
const PREFIX_LIST: &str = "arn:${AWS::Partition}:ec2:*:*:prefix-list/*";
const LAUNCH_TEMPLATE: &str = "arn:${AWS::Partition}:ec2:*:${AWS::AccountId}:launch-template/*";
const KEY: &str = "${KmsKeyArn}";
const FORMER_KEY: &str = "${FormerKmsKeyArn}";
const USE_KEY: &[&str] = &[
    "kms:DescribeKey",
    "kms:Decrypt",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
];
const STACK: &str = "arn:${AWS::Partition}:cloudformation:*:${AWS::AccountId}:stack/${AWS::StackName}/*";
/// CloudFormation names the stacks of a StackSet so, each with an end of its own.
const STACK_OF_SET: &str =
    "arn:${AWS::Partition}:cloudformation:*:${AWS::AccountId}:stack/StackSet-orglift-member-*/*";
const MEMBER_ROLE: &str = "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/${MemberRoleName}";
const RUNNER_ROLE: &str = "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/OrgliftRunner-*";

const IN_REGIONS: &[Condition] = &[Condition::InRegions];
const OWN: &[Condition] = &[Condition::InRegions, Condition::Tagged];
const NEW: &[Condition] = &[Condition::InRegions, Condition::TaggedNow];

pub const PERMISSIONS: &[Permission] = &[
    Permission {
        sid: "LookAround",
        holder: Holder::Hub,
        feature: None,
        actions: &[
            "ec2:DescribeAccountAttributes",
            "ec2:DescribeAvailabilityZones",
            "ec2:DescribeImages",
            "ec2:DescribeInstances",
            "ec2:DescribeInstanceStatus",
            "ec2:DescribeInstanceTypeOfferings",
            "ec2:DescribeInstanceTypes",
            "ec2:DescribeLaunchTemplates",
            "ec2:DescribeLaunchTemplateVersions",
            "ec2:DescribeNetworkAcls",
            "ec2:DescribeRouteTables",
            "ec2:DescribeSecurityGroups",
            "ec2:DescribeSnapshots",
            "ec2:DescribeSubnets",
            "ec2:DescribeVolumes",
            "ec2:DescribeVpcEndpoints",
            "ec2:DescribeVpcs",
        ],
        // EC2 knows no narrower scope for any of them.
        resources: Resources::All,
        conditions: IN_REGIONS,
        why: "Settings are checked before a launch, its state is followed, and in the end it is shown that nothing is left.",
    },
    Permission {
        sid: "SeeRunnersNetwork",
        holder: Holder::Hub,
        feature: None,
        actions: &["ec2:DescribeManagedPrefixLists", "ec2:DescribeNetworkInterfaces"],
        // EC2 knows no narrower scope for either.
        resources: Resources::All,
        conditions: IN_REGIONS,
        why: "Readiness names the rule or the route that keeps servers from being replicated; a launch, who has the address that it is to keep.",
    },
    Permission {
        sid: "SeeRunnersNames",
        holder: Holder::Hub,
        feature: None,
        actions: &["ec2:DescribeVpcAttribute", "ec2:GetManagedPrefixListEntries"],
        resources: Resources::These(&[VPC, PREFIX_LIST]),
        conditions: IN_REGIONS,
        why: "Names of endpoints lead nowhere unless the VPC resolves them; rules and routes name lists of ranges.",
    },
    Permission {
        sid: "SeeConsoles",
        holder: Holder::Hub,
        feature: None,
        actions: &["ec2:GetConsoleOutput", "ec2:GetConsoleScreenshot"],
        resources: Resources::These(&[INSTANCE]),
        conditions: OWN,
        why: "What a launched instance says while it boots is shown beside its job.",
    },
    Permission {
        sid: "CopySnapshots",
        holder: Holder::Hub,
        feature: None,
        actions: &["ec2:CopySnapshot"],
        resources: Resources::These(&[SNAPSHOT]),
        conditions: NEW,
        why: "Replication goes on under another encryption key with copies of the newest snapshots.",
    },
    Permission {
        sid: "RegisterImages",
        holder: Holder::Hub,
        feature: None,
        actions: &["ec2:RegisterImage"],
        resources: Resources::These(&[IMAGE]),
        conditions: NEW,
        why: "An instance is launched from an image of the converted disks.",
    },
    Permission {
        sid: "RegisterOwnSnapshots",
        holder: Holder::Hub,
        feature: None,
        actions: &["ec2:RegisterImage"],
        resources: Resources::These(&[SNAPSHOT]),
        conditions: OWN,
        why: "Such an image is made of snapshots of the source server, and of no others.",
    },
    Permission {
        sid: "LaunchOwnImages",
        holder: Holder::Hub,
        feature: None,
        actions: &["ec2:RunInstances"],
        resources: Resources::These(&[IMAGE, SNAPSHOT, LAUNCH_TEMPLATE]),
        conditions: OWN,
        why: "Test and cutover launch what was made of a source server, and nothing else.",
    },
    Permission {
        sid: "LaunchTaggedInstances",
        holder: Holder::Hub,
        feature: None,
        actions: &["ec2:RunInstances"],
        resources: Resources::These(&[INSTANCE, VOLUME]),
        conditions: NEW,
        why: "Whatever a launch makes says which source server it is of.",
    },
    Permission {
        sid: "LaunchIntoNetwork",
        holder: Holder::Hub,
        feature: None,
        actions: &["ec2:RunInstances"],
        resources: Resources::These(&[SUBNET, SECURITY_GROUP, INTERFACE]),
        // Subnets and security groups are the account's own. Interfaces are of the instance, which is tagged.
        conditions: IN_REGIONS,
        why: "A launch goes into the subnet and the security groups that its settings name.",
    },
    Permission {
        sid: "EndOwnInstances",
        holder: Holder::Hub,
        feature: None,
        actions: &["ec2:StopInstances", "ec2:TerminateInstances"],
        resources: Resources::These(&[INSTANCE]),
        conditions: OWN,
        why: "Instances of a test are terminated after it, and one that is to be kept stopped is stopped.",
    },
    Permission {
        sid: "DeleteOwnImages",
        holder: Holder::Hub,
        feature: None,
        actions: &["ec2:DeregisterImage"],
        resources: Resources::These(&[IMAGE]),
        conditions: OWN,
        why: "The image of a launch goes with its instance.",
    },
    Permission {
        sid: "DeleteOwnSnapshots",
        holder: Holder::Hub,
        feature: None,
        actions: &["ec2:DeleteSnapshot"],
        resources: Resources::These(&[SNAPSHOT]),
        conditions: OWN,
        why: "Snapshots that nothing needs any more cost money until they are deleted.",
    },
    Permission {
        sid: "MakeLaunchTemplates",
        holder: Holder::Hub,
        feature: None,
        actions: &["ec2:CreateLaunchTemplate"],
        resources: Resources::These(&[LAUNCH_TEMPLATE]),
        conditions: NEW,
        why: "Launch settings of a source server are kept as an EC2 launch template.",
    },
    Permission {
        sid: "ChangeOwnLaunchTemplates",
        holder: Holder::Hub,
        feature: None,
        actions: &[
            "ec2:CreateLaunchTemplateVersion",
            "ec2:ModifyLaunchTemplate",
            "ec2:DeleteLaunchTemplate",
        ],
        resources: Resources::These(&[LAUNCH_TEMPLATE]),
        conditions: OWN,
        why: "Changed settings are a new version of it, and it goes when the source server does.",
    },
    Permission {
        sid: "TagWhatIsMade",
        holder: Holder::Hub,
        feature: None,
        actions: &["ec2:CreateTags"],
        resources: Resources::These(&[IMAGE, SNAPSHOT, INSTANCE, VOLUME, INTERFACE, LAUNCH_TEMPLATE]),
        conditions: &[
            Condition::InRegions,
            Condition::MadeBy(&[
                "CopySnapshot",
                "CreateLaunchTemplate",
                "RegisterImage",
                "RunInstances",
            ]),
        ],
        why: "Resources carry their tags from the moment they exist.",
    },
    Permission {
        sid: "TagOwn",
        holder: Holder::Hub,
        feature: None,
        actions: &["ec2:CreateTags"],
        resources: Resources::These(&[IMAGE, SNAPSHOT, INSTANCE, VOLUME, LAUNCH_TEMPLATE]),
        conditions: OWN,
        why: "Tags that a user changes later are changed on what was launched, too.",
    },
    Permission {
        sid: "PassInstanceRoles",
        holder: Holder::Hub,
        feature: Some(Feature::InstanceRoles),
        actions: &["iam:PassRole"],
        resources: Resources::Listed("InstanceRoleArns"),
        conditions: &[Condition::PassedToEc2],
        why: "Launched instances may have an instance profile with one of these roles, and no other.",
    },
    Permission {
        sid: "UseKey",
        holder: Holder::Hub,
        feature: Some(Feature::Kms),
        actions: USE_KEY,
        resources: Resources::These(&[KEY]),
        conditions: IN_REGIONS,
        why: "Volumes and copies of snapshots are encrypted with the account's own key.",
    },
    Permission {
        sid: "LendKeyToEbs",
        holder: Holder::Hub,
        feature: Some(Feature::Kms),
        actions: &["kms:CreateGrant"],
        resources: Resources::These(&[KEY]),
        conditions: &[Condition::InRegions, Condition::ForAws],
        why: "EBS decrypts a volume while an instance uses it.",
    },
    Permission {
        sid: "UseFormerKey",
        holder: Holder::Hub,
        feature: Some(Feature::FormerKms),
        actions: USE_KEY,
        resources: Resources::These(&[FORMER_KEY]),
        conditions: IN_REGIONS,
        why: "Snapshots that are under this key yet are copied, or launched, as they are.",
    },
    Permission {
        sid: "LendFormerKeyToEbs",
        holder: Holder::Hub,
        feature: Some(Feature::FormerKms),
        actions: &["kms:CreateGrant"],
        resources: Resources::These(&[FORMER_KEY]),
        conditions: &[Condition::InRegions, Condition::ForAws],
        why: "EBS decrypts a snapshot that it copies.",
    },
    Permission {
        sid: "SeeQuotas",
        holder: Holder::Hub,
        feature: Some(Feature::Quotas),
        actions: &["servicequotas:GetServiceQuota"],
        resources: Resources::All,
        conditions: IN_REGIONS,
        why: "A launch that the account's quotas have no room for is refused before it starts.",
    },
    Permission {
        sid: "SeeDrift",
        holder: Holder::Hub,
        feature: Some(Feature::Drift),
        actions: &[
            "cloudformation:DescribeStacks",
            "cloudformation:DetectStackDrift",
            "cloudformation:DescribeStackResourceDrifts",
        ],
        resources: Resources::These(&[STACK, STACK_OF_SET]),
        conditions: IN_REGIONS,
        why: "What was changed by hand in this stack is shown in the console.",
    },
    Permission {
        sid: "SeeDriftDetection",
        holder: Holder::Hub,
        feature: Some(Feature::Drift),
        actions: &["cloudformation:DescribeStackDriftDetectionStatus"],
        resources: Resources::All,
        conditions: IN_REGIONS,
        why: "A detection takes minutes; this says when it is done.",
    },
    Permission {
        sid: "ReadRolesForDrift",
        holder: Holder::Hub,
        feature: Some(Feature::Drift),
        actions: &[
            "iam:GetRole",
            "iam:GetRolePolicy",
            "iam:ListAttachedRolePolicies",
            "iam:ListRolePolicies",
        ],
        resources: Resources::These(&[MEMBER_ROLE, RUNNER_ROLE]),
        conditions: &[],
        why: "CloudFormation compares the two roles with the template by the rights of whoever asks.",
    },
    Permission {
        sid: "AskWhatIsAllowed",
        holder: Holder::Hub,
        feature: Some(Feature::DryRun),
        actions: &["iam:SimulatePrincipalPolicy"],
        resources: Resources::These(&[MEMBER_ROLE]),
        conditions: &[],
        why: "Readiness tells which permission is missing before a launch does.",
    },
    Permission {
        sid: "StartSnapshots",
        holder: Holder::Runner,
        feature: None,
        actions: &["ebs:StartSnapshot"],
        resources: Resources::These(&[SNAPSHOT]),
        conditions: &[Condition::TaggedNow],
        why: "A checkpoint of a disk is an EBS snapshot.",
    },
    Permission {
        sid: "WriteAndReadOwnSnapshots",
        holder: Holder::Runner,
        feature: None,
        actions: &[
            "ebs:PutSnapshotBlock",
            "ebs:CompleteSnapshot",
            "ebs:GetSnapshotBlock",
            "ebs:ListSnapshotBlocks",
            "ebs:ListChangedBlocks",
        ],
        resources: Resources::These(&[SNAPSHOT]),
        conditions: &[Condition::Tagged],
        why: "Blocks that change are put into snapshots, and read again for conversion and for the proof at cutover.",
    },
    Permission {
        sid: "UseKeyForSnapshots",
        holder: Holder::Runner,
        feature: Some(Feature::Kms),
        actions: USE_KEY,
        resources: Resources::These(&[KEY]),
        conditions: &[],
        why: "Snapshots are encrypted with the account's own key.",
    },
    Permission {
        sid: "LendKeyForSnapshots",
        holder: Holder::Runner,
        feature: Some(Feature::Kms),
        actions: &["kms:CreateGrant"],
        resources: Resources::These(&[KEY]),
        conditions: &[Condition::ForAws],
        why: "EBS encrypts the blocks that are put.",
    },
    Permission {
        sid: "UseFormerKeyForSnapshots",
        holder: Holder::Runner,
        feature: Some(Feature::FormerKms),
        actions: USE_KEY,
        resources: Resources::These(&[FORMER_KEY]),
        conditions: &[],
        why: "Replication goes on under this key until a copy under the other one is there.",
    },
    Permission {
        sid: "LendFormerKeyForSnapshots",
        holder: Holder::Runner,
        feature: Some(Feature::FormerKms),
        actions: &["kms:CreateGrant"],
        resources: Resources::These(&[FORMER_KEY]),
        conditions: &[Condition::ForAws],
        why: "EBS encrypts the blocks that are put until then.",
    },
    Permission {
        sid: "FetchProgram",
        holder: Holder::Runner,
        feature: None,
        actions: &["s3:GetObject"],
        resources: Resources::These(&["${Bucket.Arn}/runner/*"]),
        conditions: &[],
        why: "A new instance takes the runner's program, in the version of the template, from the bucket.",
    },
    Permission {
        sid: "KeepIndex",
        holder: Holder::Runner,
        feature: None,
        actions: &["s3:PutObject", "s3:GetObject", "s3:DeleteObject"],
        resources: Resources::These(&["${Bucket.Arn}/index/*"]),
        conditions: &[],
        why: "Manifests and digests of checkpoints outlive the instance, so that a new one copies nothing again.",
    },
    Permission {
        sid: "ListIndex",
        holder: Holder::Runner,
        feature: None,
        actions: &["s3:ListBucket"],
        resources: Resources::These(&["${Bucket.Arn}"]),
        conditions: &[Condition::Below("index/")],
        why: "A new instance finds what is kept, and an object that is not there is not taken for a forbidden one.",
    },
    Permission {
        sid: "WriteLogs",
        holder: Holder::Runner,
        feature: Some(Feature::Logs),
        actions: &["logs:CreateLogStream", "logs:PutLogEvents"],
        resources: Resources::These(&["${LogGroup.Arn}"]),
        conditions: &[],
        why: "The runner's log outlives its instance.",
    },
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn what_changes_something_is_limited_to_what_is_ours() {
        // Networks are the account's, roles and keys are named one by one.
        let by_name = [
            "LaunchIntoNetwork",
            "PassInstanceRoles",
            "FetchProgram",
            "KeepIndex",
            "WriteLogs",
        ];
        let reads = ["Describe", "Get", "List", "Detect", "Simulate"];
        for permission in PERMISSIONS {
            let only_reads = permission.actions.iter().all(|action| {
                let (_, call) = action.split_once(':').unwrap();
                reads.iter().any(|verb| call.starts_with(verb))
            });
            let is_key = matches!(permission.resources, Resources::These([KEY | FORMER_KEY]));
            let limited = permission.conditions.iter().any(|condition| {
                matches!(
                    condition,
                    Condition::Tagged | Condition::TaggedNow | Condition::MadeBy(_)
                )
            });
            let sid = permission.sid;
            assert!(limited || only_reads || is_key || by_name.contains(&sid), "{sid}");
            assert!(
                only_reads || !matches!(permission.resources, Resources::All),
                "{sid}"
            );
            assert!(
                permission.actions.iter().all(|action| !action.contains('*')),
                "{sid}"
            );
        }
    }

    #[test]
    fn names_of_statements_are_unique() {
        let mut seen = HashSet::new();
        assert!(PERMISSIONS.iter().all(|permission| seen.insert(permission.sid)));
    }
}
