//! The hub's API, as the lab calls it: MGN's operations, and our own under `/api/v1`.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use anyhow::{Context, bail};
use domain::{
    conversion::ConversionState,
    ids::{AccountId, SourceServerId},
    readiness::Finding,
};
use reqwest::Method;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    AccountPlan, REGION,
    on_aws::{Accounts, Member, TENANT_REGION},
};
use crate::wait::{Look, eventually};

const ANSWER_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub struct Api {
    base: String,
    key: String,
    client: reqwest::Client,
}

/// What the lab reads of MGN's `SourceServer`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceServer {
    #[serde(rename = "sourceServerID")]
    pub id: SourceServerId,
    pub life_cycle: LifeCycle,
    pub data_replication_info: DataReplicationInfo,
    #[serde(default)]
    pub launched_instance: Option<LaunchedInstance>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct LifeCycle {
    pub state: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataReplicationInfo {
    pub data_replication_state: String,
    #[serde(default)]
    pub data_replication_error: Option<Value>,
    #[serde(default)]
    pub replicated_disks: Vec<ReplicatedDisk>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicatedDisk {
    #[serde(default)]
    pub total_storage_bytes: u64,
    #[serde(default)]
    pub replicated_storage_bytes: u64,
    #[serde(default)]
    pub rescanned_storage_bytes: u64,
    #[serde(default)]
    pub backlogged_storage_bytes: u64,
}

impl DataReplicationInfo {
    /// How many bytes of all disks were copied, and how many there are.
    pub fn copied(&self) -> (u64, u64) {
        let add = |(done, total), disk: &ReplicatedDisk| {
            (
                done + disk.replicated_storage_bytes,
                total + disk.total_storage_bytes,
            )
        };
        self.replicated_disks.iter().fold((0, 0), add)
    }
}

#[derive(Debug, Clone, Deserialize)]
pub struct LaunchedInstance {
    #[serde(rename = "ec2InstanceID")]
    pub instance: String,
}

/// What of a server MGN has no words for.
#[derive(Debug, Clone, Deserialize)]
pub struct Details {
    pub launches: Launches,
    pub readiness: Readiness,
}

/// Whether the server would boot as an instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Readiness {
    pub state: String,
    pub findings: Option<Vec<Finding>>,
}

/// What a job's conversion of a server's disks came to, and which documents there are of it.
#[derive(Debug, Clone, Deserialize)]
pub struct Conversion {
    pub progress: ConversionState,
    pub documents: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Launches {
    pub test: Option<Launch>,
    pub cutover: Option<Launch>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Launch {
    pub checkpoint: u64,
    at: chrono::DateTime<chrono::Utc>,
    taken_at: chrono::DateTime<chrono::Utc>,
}

impl Launch {
    /// How old the checkpoint was when the instance was launched from it.
    pub fn checkpoint_age_s(&self) -> f64 {
        (self.at - self.taken_at).as_seconds_f64().max(0.0)
    }
}

/// What the lab reads of MGN's `Job`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    #[serde(rename = "jobID")]
    pub id: String,
    pub status: String,
    pub initiated_by: String,
    #[serde(rename = "creationDateTime")]
    pub created_at: String,
    #[serde(default)]
    pub participating_servers: Vec<ParticipatingServer>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParticipatingServer {
    #[serde(rename = "sourceServerID")]
    pub server: SourceServerId,
    pub launch_status: String,
    #[serde(default, rename = "launchedEc2InstanceID")]
    pub instance: Option<String>,
}

impl Job {
    pub fn participant(&self, server: &SourceServerId) -> Option<&ParticipatingServer> {
        self.participating_servers
            .iter()
            .find(|one| one.server == *server)
    }

    /// The instance that the job launched for the server.
    pub fn launched(&self, server: &SourceServerId) -> Option<&str> {
        let participant = self.participant(server)?;
        let launched = participant.launch_status == "LAUNCHED";
        participant.instance.as_deref().filter(|_| launched)
    }
}

#[derive(Debug, Deserialize)]
struct Items<T> {
    items: Vec<T>,
}

#[derive(Debug, Deserialize)]
struct Started {
    job: Job,
}

#[derive(Debug, Deserialize)]
struct NewToken {
    token: String,
}

impl Api {
    pub(super) fn new(hub: SocketAddr, key: &str) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
            .timeout(ANSWER_WITHIN)
            .no_proxy()
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Self {
            base: format!("http://{hub}"),
            key: key.to_owned(),
            client,
        })
    }

    /// Any operation; the answer as JSON, or an error with what the hub said.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<T> {
        let answer = self.ask(&method, path, body).await?;
        let text = if answer.is_empty() { b"null" } else { &answer[..] };
        let shown = || String::from_utf8_lossy(text).into_owned();
        serde_json::from_slice(text).with_context(|| format!("{method} {path} was answered with {}", shown()))
    }

    /// The answer as it came, or an error with what the hub said.
    async fn ask(&self, method: &Method, path: &str, body: Option<Value>) -> anyhow::Result<Vec<u8>> {
        let url = format!("{}{path}", self.base);
        let mut request = self.client.request(method.clone(), url).bearer_auth(&self.key);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let what = || format!("{method} {path}");
        let answer = request.send().await.with_context(what)?;
        let (status, answer) = (answer.status(), answer.bytes().await.with_context(what)?);
        if !status.is_success() {
            let said = String::from_utf8_lossy(&answer);
            bail!("{method} {path} was answered with {status}: {said}");
        }
        Ok(answer.to_vec())
    }

    /// One of MGN's operations.
    pub async fn mgn<T: DeserializeOwned>(&self, operation: &str, body: Value) -> anyhow::Result<T> {
        self.call(Method::POST, &format!("/{operation}"), Some(body))
            .await
    }

    pub async fn health(&self) -> anyhow::Result<()> {
        self.call::<Value>(Method::GET, "/healthz", None)
            .await
            .map(|_| ())
    }

    /// Adds the organization and the roster that are not known yet, and waits until every account is.
    pub(super) async fn know_accounts(&self, accounts: &[AccountPlan]) -> anyhow::Result<()> {
        let known = self.accounts().await?;
        let missing = |inside: bool| {
            accounts
                .iter()
                .filter(move |account| account.in_organization == inside)
                .any(|account| !known.contains(account.id.as_str()))
        };
        if missing(true) {
            let body = json!({ "name": "Example Corp", "reach": "MANAGEMENT_ACCOUNT", "region": REGION });
            self.call::<Value>(Method::POST, "/api/v1/organizations", Some(body))
                .await?;
        }
        if missing(false) {
            let roster: Vec<_> = accounts
                .iter()
                .filter(|account| !account.in_organization)
                .map(|account| json!({ "id": account.id, "name": account.name, "region": REGION }))
                .collect();
            let body = json!({ "name": "Tenant Ltd", "reach": "ROSTER", "accounts": roster });
            self.call::<Value>(Method::POST, "/api/v1/organizations", Some(body))
                .await?;
        }
        self.until_accounts_are_known(accounts).await
    }

    /// The organization, and the tenant behind a delegate's role, of a world on AWS-shaped endpoints.
    pub(super) async fn know_accounts_on_aws(&self, accounts: &Accounts) -> anyhow::Result<()> {
        let plans: Vec<_> = accounts.members.iter().map(Member::plan).collect();
        let tenant = plans
            .last()
            .map(|plan| json!({ "id": plan.id, "name": plan.name }));
        let own = json!({
            "name": "Example Corp",
            "reach": "DELEGATED_ADMINISTRATOR",
            "region": REGION,
            "route": accounts.to_organization,
        });
        let tenant = json!({
            "name": "Tenant Ltd",
            "reach": "ROSTER",
            "region": TENANT_REGION,
            "accounts": [tenant],
            "route": accounts.to_tenant,
        });
        for organization in [own, tenant] {
            self.call::<Value>(Method::POST, "/api/v1/organizations", Some(organization))
                .await?;
        }
        self.until_accounts_are_known(&plans).await
    }

    async fn until_accounts_are_known(&self, accounts: &[AccountPlan]) -> anyhow::Result<()> {
        eventually("the hub knows every account", Duration::from_secs(20), || async {
            let known = self.accounts().await?;
            let all = accounts.iter().all(|account| known.contains(account.id.as_str()));
            Ok(Look::when(all, known))
        })
        .await
    }

    async fn accounts(&self) -> anyhow::Result<BTreeSet<String>> {
        let answer: Value = self.call(Method::GET, "/api/v1/accounts", None).await?;
        let listed = answer.get("items").unwrap_or(&answer).as_array().cloned();
        let ids = listed.unwrap_or_default().into_iter();
        Ok(ids
            .filter_map(|account| Some(account["id"].as_str()?.to_owned()))
            .collect())
    }

    /// A one-time token for an `agent` or a `runner` of the account.
    pub async fn token(&self, account: &AccountId, purpose: &str) -> anyhow::Result<String> {
        let body = json!({ "account": account, "purpose": purpose });
        let answer: NewToken = self.call(Method::POST, "/api/v1/tokens", Some(body)).await?;
        Ok(answer.token)
    }

    pub async fn servers(&self, account: &AccountId) -> anyhow::Result<Vec<SourceServer>> {
        let body = json!({ "accountID": account, "filters": {} });
        let answer: Items<_> = self.mgn("DescribeSourceServers", body).await?;
        Ok(answer.items)
    }

    pub async fn server(&self, account: &AccountId, id: &SourceServerId) -> anyhow::Result<SourceServer> {
        let filters = json!({ "sourceServerIDs": [id] });
        let body = json!({ "accountID": account, "filters": filters });
        let answer: Items<SourceServer> = self.mgn("DescribeSourceServers", body).await?;
        let found = answer.items.into_iter().find(|server| server.id == *id);
        found.with_context(|| format!("the hub does not know source server {id}"))
    }

    pub async fn details(&self, id: &SourceServerId) -> anyhow::Result<Details> {
        self.call(Method::GET, &format!("/api/v1/servers/{id}"), None)
            .await
    }

    pub async fn conversion(&self, id: &SourceServerId, job: &str) -> anyhow::Result<Conversion> {
        let path = format!("/api/v1/servers/{id}/conversions/{job}");
        self.call(Method::GET, &path, None).await
    }

    /// One of a conversion's documents.
    pub async fn document(&self, id: &SourceServerId, job: &str, name: &str) -> anyhow::Result<Vec<u8>> {
        let path = format!("/api/v1/servers/{id}/conversions/{job}/{name}");
        self.ask(&Method::GET, &path, None).await
    }

    /// What a launched instance shows: `console.txt` or `screenshot`, of its `test` or `cutover`.
    pub async fn shown(&self, id: &SourceServerId, purpose: &str, what: &str) -> anyhow::Result<Vec<u8>> {
        let path = format!("/api/v1/servers/{id}/instances/{purpose}/{what}");
        self.ask(&Method::GET, &path, None).await
    }

    /// Whether a launch for `purpose` would go well now.
    pub async fn launch_check(&self, id: &SourceServerId, purpose: &str) -> anyhow::Result<Value> {
        let path = format!("/api/v1/servers/{id}/launch-check?purpose={purpose}");
        self.call(Method::POST, &path, None).await
    }

    /// Changes those launch settings that are given.
    pub async fn update_launch_settings(
        &self,
        account: &AccountId,
        id: &SourceServerId,
        mut settings: Value,
    ) -> anyhow::Result<()> {
        settings["accountID"] = json!(account);
        settings["sourceServerID"] = json!(id);
        self.mgn::<Value>("UpdateLaunchConfiguration", settings)
            .await
            .map(|_| ())
    }

    /// `StartTest`, `StartCutover` or `TerminateTargetInstances` for one server.
    pub async fn launch(
        &self,
        operation: &str,
        account: &AccountId,
        id: &SourceServerId,
    ) -> anyhow::Result<Job> {
        let body = json!({ "accountID": account, "sourceServerIDs": [id] });
        let answer: Started = self.mgn(operation, body).await?;
        Ok(answer.job)
    }

    /// For a server without an operating system on its disks: there is nothing to convert.
    pub async fn launch_disks_as_they_are(&self, id: &SourceServerId) -> anyhow::Result<()> {
        self.set_conversion(id, json!({ "convert": false })).await
    }

    /// Whether its disks are converted for a launch, and rehearsed.
    pub async fn set_conversion(&self, id: &SourceServerId, settings: Value) -> anyhow::Result<()> {
        let path = format!("/api/v1/servers/{id}/conversion-settings");
        self.call::<Value>(Method::PUT, &path, Some(settings))
            .await
            .map(|_| ())
    }

    pub async fn mark_ready_for_cutover(
        &self,
        account: &AccountId,
        id: &SourceServerId,
    ) -> anyhow::Result<()> {
        let state = json!({ "state": "READY_FOR_CUTOVER" });
        let body = json!({ "accountID": account, "sourceServerID": id, "lifeCycle": state });
        self.mgn::<Value>("ChangeServerLifeCycleState", body)
            .await
            .map(|_| ())
    }

    /// Any operation on one server that takes nothing else.
    pub async fn server_operation(
        &self,
        operation: &str,
        account: &AccountId,
        id: &SourceServerId,
    ) -> anyhow::Result<()> {
        let body = json!({ "accountID": account, "sourceServerID": id });
        self.mgn::<Value>(operation, body).await.map(|_| ())
    }

    /// The newest jobs of an account first.
    pub async fn jobs(&self, account: &AccountId) -> anyhow::Result<Vec<Job>> {
        let body = json!({ "accountID": account, "filters": {} });
        let answer: Items<_> = self.mgn("DescribeJobs", body).await?;
        Ok(answer.items)
    }

    pub async fn job(&self, account: &AccountId, id: &str) -> anyhow::Result<Job> {
        let body = json!({ "accountID": account, "filters": { "jobIDs": [id] } });
        let answer: Items<Job> = self.mgn("DescribeJobs", body).await?;
        let found = answer.items.into_iter().find(|job| job.id == id);
        found.with_context(|| format!("the hub does not know job {id}"))
    }

    /// Waits until a job has ended, and returns the instance that it launched for the server.
    pub async fn launched(
        &self,
        account: &AccountId,
        job: &str,
        server: &SourceServerId,
        within: Duration,
    ) -> anyhow::Result<String> {
        let what = format!("job {job} is completed");
        let job = eventually(&what, within, || async {
            let job = self.job(account, job).await?;
            Ok(if job.status == "COMPLETED" {
                Look::Seen(job)
            } else {
                Look::NotYet(format!("{job:?}"))
            })
        })
        .await?;
        match job.launched(server) {
            Some(instance) => Ok(instance.to_owned()),
            None => bail!(
                "job {} launched nothing for {server}: {:?}",
                job.id,
                job.participant(server)
            ),
        }
    }
}
