//! A world on AWS-shaped endpoints: an organization that the hub administrates by delegation, and a tenant in another
//! partition, whom it reaches through a delegate's role.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, ensure};
use cloud::route::{Endpoints, Hop, Profile, Route};
use domain::ids::AccountId;
use hub::onboarding;
use serde::Deserialize;
use serde_json::json;
use tokio::{io::AsyncWriteExt, process::Command};

use super::{
    AccountPlan, REGION, Told,
    hub::{Hub, HubSettings},
    runner::{Runner, RunnerSettings},
    server::{Server, ServerPlan},
};
use crate::{
    aws::{Aws, caller::key_of, moto},
    programs::Programs,
};

pub const TENANT_REGION: &str = "us-gov-west-1";
pub const EXTERNAL_ID: &str = "orglift-of-this-world";

const MANAGEMENT: &str = "100000000001";
const TENANT_HUB: &str = "640000000001";
const TENANT_DELEGATE: &str = "640000000002";
const TENANT: &str = "640000000003";
/// Stands for each account in its role's policy.
const NO_ACCOUNT: &str = "000000000000";

const MAKE_ACCOUNTS: &str = include_str!("../aws/accounts.py");

/// What the script made.
#[derive(Debug, Deserialize)]
struct Made {
    /// The account that the hub sets out from.
    hub: AccountId,
    members: Vec<Member>,
    /// The delegate's role.
    way: String,
    tenant: Member,
    /// Of a role with a runner's name in an account that the hub does not manage.
    stranger: RoleSession,
}

/// An account that servers are moved into.
#[derive(Debug, Clone, Deserialize)]
pub struct Member {
    pub id: AccountId,
    pub name: String,
    pub test_subnet: String,
    pub target_subnet: String,
    pub security_group: String,
    /// Of the runner's role.
    pub runner: RoleSession,
    /// Of a role that no runner has.
    pub other: RoleSession,
    pub bucket: String,
    #[serde(skip)]
    pub region: &'static str,
}

/// Credentials of a role, as an instance gets them.
#[derive(Debug, Clone, Deserialize)]
pub struct RoleSession {
    pub key: String,
    pub secret: String,
    pub token: String,
}

/// Accounts on AWS-shaped endpoints, and how a hub reaches them.
#[derive(Debug)]
pub struct Accounts {
    /// The account that the hub sets out from, which is of the organization as well.
    pub hub: AccountId,
    /// Those of the organization, and last the tenant.
    pub members: Vec<Member>,
    pub to_organization: Route,
    pub to_tenant: Route,
    pub stranger: RoleSession,
}

#[derive(Debug)]
pub struct WorldOnAws {
    pub aws: Aws,
    pub hub: Hub,
    pub members: Vec<Member>,
    pub runners: BTreeMap<AccountId, Runner>,
    pub stranger: RoleSession,
    programs: Programs,
    dir: PathBuf,
}

impl Accounts {
    /// Makes the accounts. `dir` gets the file of credentials with which the hub sets out.
    pub async fn make(aws: &Aws, dir: &Path, members: &[&str]) -> anyhow::Result<Self> {
        let made = run_script(&aws.endpoint(), members).await?;
        let profile = |name: &str, account: &str| {
            let key = key_of(account).context("an account without a key")?;
            anyhow::Ok(format!(
                "[{name}]\naws_access_key_id = {key}\naws_secret_access_key = any\n"
            ))
        };
        let file = dir.join("credentials");
        let profiles = profile("own", made.hub.as_str())? + &profile("tenant", TENANT_HUB)?;
        fs::write(&file, profiles).with_context(|| format!("cannot write {}", file.display()))?;
        let route = |profile: &str, region: &str, through| Route {
            profile: Some(Profile {
                name: profile.to_owned(),
                file: Some(file.clone()),
            }),
            through,
            external_id: Some(EXTERNAL_ID.to_owned()),
            regions: [region.to_owned()].into(),
            endpoints: Endpoints {
                url: Some(aws.endpoint()),
                ..Endpoints::default()
            },
            ..Route::default()
        };
        let way = Hop {
            role_arn: made.way,
            external_id: Some(EXTERNAL_ID.to_owned()),
        };
        let in_region =
            |members: Vec<Member>, region| members.into_iter().map(move |member| Member { region, ..member });
        Ok(Self {
            hub: made.hub,
            members: in_region(made.members, REGION)
                .chain(in_region(vec![made.tenant], TENANT_REGION))
                .collect(),
            to_organization: route("own", REGION, Vec::new()),
            to_tenant: route("tenant", TENANT_REGION, vec![way]),
            stranger: made.stranger,
        })
    }
}

impl WorldOnAws {
    /// Makes a new world in an empty folder. Must be called on a thread that lives as long as the world should.
    pub async fn start(
        dir: &Path,
        programs: &Programs,
        hub: &HubSettings,
        members: &[&str],
    ) -> anyhow::Result<Self> {
        let aws = Aws::start(&dir.join("aws"), 0).await?;
        let accounts = Accounts::make(&aws, dir, members).await?;
        let cloud = Told {
            name: "aws".into(),
            env: Vec::new(),
        };
        let hub = Hub::start(programs, &dir.join("hub"), cloud, ([127, 0, 0, 1], 0).into(), hub).await?;
        hub.api.know_accounts_on_aws(&accounts).await?;
        let ca = hub.ca().await?;
        let mut runners = BTreeMap::new();
        for member in &accounts.members {
            let store = Told {
                name: format!("ebs:{}", member.region).into(),
                env: member.runner.env(&aws.endpoint()),
            };
            let folder = dir.join("runners").join(member.id.as_str());
            let settings = RunnerSettings {
                args: member.runner_args(&ca),
                ..RunnerSettings::default()
            };
            let runner = Runner::start(programs, &folder, store, &member.plan(), &hub, &settings).await?;
            runners.insert(member.id.clone(), runner);
        }
        Ok(Self {
            aws,
            hub,
            members: accounts.members,
            runners,
            stranger: accounts.stranger,
            programs: programs.clone(),
            dir: dir.to_owned(),
        })
    }

    pub fn server(&self, plan: ServerPlan) -> anyhow::Result<Server> {
        Server::prepare(&self.programs, &self.dir.join("servers"), plan)
    }

    pub fn runner_mut(&mut self, account: &AccountId) -> anyhow::Result<&mut Runner> {
        let runner = self.runners.get_mut(account);
        runner.with_context(|| format!("there is no runner in account {account}"))
    }

    pub fn runner(&self, account: &AccountId) -> anyhow::Result<&Runner> {
        let runner = self.runners.get(account);
        runner.with_context(|| format!("there is no runner in account {account}"))
    }
}

impl RoleSession {
    pub fn env(&self, endpoint: &str) -> Vec<(&'static str, OsString)> {
        vec![
            ("AWS_ACCESS_KEY_ID", self.key.clone().into()),
            ("AWS_SECRET_ACCESS_KEY", self.secret.clone().into()),
            ("AWS_SESSION_TOKEN", self.token.clone().into()),
            ("AWS_ENDPOINT_URL", endpoint.into()),
        ]
    }
}

impl Member {
    /// Of a runner that enrols by its role, and keeps an index; `ca` is the hub's fingerprint.
    pub fn runner_args(&self, ca: &str) -> Vec<OsString> {
        let index = format!("s3:{}:{}/index", self.region, self.bucket);
        let args = ["--index", &index, "--aws-identity", self.region, "--hub-ca", ca];
        args.map(OsString::from).to_vec()
    }

    pub fn plan(&self) -> AccountPlan {
        AccountPlan {
            id: self.id.clone(),
            name: self.name.clone(),
            in_organization: self.region == REGION,
        }
    }
}

fn policy(region: &str) -> anyhow::Result<String> {
    Ok(onboarding::policy::of_hub(&NO_ACCOUNT.parse()?, region, "OrgliftMember").to_string())
}

async fn run_script(endpoint: &str, members: &[&str]) -> anyhow::Result<Made> {
    let wish = json!({
        "endpoint": endpoint,
        "region": REGION,
        "management": MANAGEMENT,
        "external_id": EXTERNAL_ID,
        "members": members,
        // What the template grants; of an account without a number yet.
        "policy": policy(REGION)?,
        "tenant": {
            "policy": policy(TENANT_REGION)?,
            "region": TENANT_REGION,
            "hub": TENANT_HUB,
            "delegate": TENANT_DELEGATE,
            "member": TENANT,
        },
    });
    let mut python = Command::new(moto::python()?)
        .args(["-c", MAKE_ACCOUNTS])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start Python")?;
    let mut input = python.stdin.take().context("Python takes no input")?;
    input.write_all(wish.to_string().as_bytes()).await?;
    drop(input);
    let done = python.wait_with_output().await?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "the accounts could not be made:\n{said}");
    serde_json::from_slice(&done.stdout).context("the accounts that were made cannot be read")
}
