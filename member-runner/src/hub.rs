//! The link to the hub: the runner calls, the hub answers.
//!
//! Whatever fails is tried again for ever. While the hub is away, the runner works on with what it was
//! told last, which is on its disk.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use domain::{
    conversion::ConversionState,
    ids::{JobId, SourceServerId},
};
use identity::Role;
use protocol::{
    artifacts::Artifact,
    enrol::{EnrolledRunner, IdentityEnrolment, Problem, RunnerEnrolment},
    exchange::{
        CopyAnswer, CopyAsked, Deleted, Desired, Kept, LONG_POLL, OBSERVED_EVERY, Observed, Released,
    },
};
use reqwest::{StatusCode, dns};
use rustls::ClientConfig;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::{conversions, files, runner::Runner, server::blocking, staging::chain};

/// Where the hub's machine API is.
#[derive(Debug, Clone)]
pub(crate) struct HubAddress {
    host: String,
    port: u16,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum HubError {
    #[error("{0:?} is not the address of a hub: HOST:PORT is expected")]
    Address(String),
    #[error("cannot {operation} the hub {hub}")]
    Http {
        operation: &'static str,
        hub: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("the hub refused to {operation}: {problem}")]
    Refused {
        operation: &'static str,
        problem: String,
    },
}

impl std::str::FromStr for HubAddress {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let wrong = || HubError::Address(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_owned(),
            port: port.parse().map_err(|_| wrong())?,
        })
    }
}

impl std::fmt::Display for HubAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl HubAddress {
    /// The hub's address, if it was given as one.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        let ip: IpAddr = self.host.parse().ok()?;
        Some(SocketAddr::new(ip, self.port))
    }
}

#[derive(Debug, Clone)]
pub(crate) struct HubClient {
    address: HubAddress,
    http: reqwest::Client,
}

/// The longest answer that is read: what is wanted of some thousand servers.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Some tens of snapshots are deleted one after the other.
const DELETE_MAX: Duration = Duration::from_mins(1);
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// A change list of many MiB over a slow link.
const BRING_MAX: Duration = Duration::from_mins(2);

impl HubClient {
    /// TLS asks for the hub by its role, at whatever address it is.
    pub fn new(address: HubAddress, tls: ClientConfig) -> Result<Self, HubError> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .no_proxy()
            .connect_timeout(CONNECT_MAX);
        builder = match address.socket_address() {
            Some(socket) => builder.resolve(Role::HUB_NAME, socket),
            None => builder.dns_resolver(HubName {
                host: address.host.clone(),
            }),
        };
        let http = builder.build().map_err(|source| HubError::Http {
            operation: "prepare to call",
            hub: address.to_string(),
            source,
        })?;
        Ok(Self { address, http })
    }

    pub async fn enrol_runner(&self, request: &RunnerEnrolment) -> Result<EnrolledRunner, HubError> {
        let sent = self.http.post(self.url("/v1/runners")).json(request);
        let answer = self.send("enrol with", sent.timeout(ANSWER_MAX)).await?;
        self.success("enrol this runner", answer)
            .await?
            .json()
            .await
            .map_err(self.wrap("understand"))
    }

    pub async fn enrol_by_identity(&self, request: &IdentityEnrolment) -> Result<EnrolledRunner, HubError> {
        let sent = self.http.post(self.url("/v1/runners/identity")).json(request);
        let answer = self.send("enrol with", sent.timeout(DELETE_MAX)).await?;
        self.success("enrol this runner", answer)
            .await?
            .json()
            .await
            .map_err(self.wrap("understand"))
    }

    /// Passes an agent's request on, and gives the hub's answer as it is.
    pub async fn pass_on_enrolment(&self, body: Vec<u8>) -> Result<(StatusCode, Vec<u8>), HubError> {
        let sent = self
            .http
            .post(self.url("/v1/enrol"))
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(body);
        let answer = self.send("reach", sent.timeout(ANSWER_MAX)).await?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(self.wrap("read from"))?;
        Ok((status, body.to_vec()))
    }

    async fn report(&self, observed: &Observed) -> Result<(), HubError> {
        let sent = self.http.post(self.url("/v1/observed")).json(observed);
        let answer = self.send("report to", sent.timeout(ANSWER_MAX)).await?;
        self.success("take a report", answer).await.map(|_| ())
    }

    /// What is known of what a runner kept before it lost its folder.
    pub async fn kept(&self) -> Result<Kept, HubError> {
        let sent = self.http.get(self.url("/v1/kept")).timeout(DELETE_MAX);
        let answer = self.send("ask", sent).await?;
        let answer = self.success("say what was kept", answer).await?;
        answer.json().await.map_err(self.wrap("understand"))
    }

    /// Has snapshots deleted; the answer says which are gone.
    pub async fn delete_released(&self, released: &Released) -> Result<Deleted, HubError> {
        let sent = self.http.post(self.url("/v1/released")).json(released);
        let answer = self
            .send("have snapshots deleted by", sent.timeout(DELETE_MAX))
            .await?;
        let answer = self.success("delete snapshots", answer).await?;
        answer.json().await.map_err(self.wrap("understand"))
    }

    /// Has a snapshot copied under another key; the answer says which it is.
    pub async fn copy(&self, asked: &CopyAsked) -> Result<CopyAnswer, HubError> {
        let sent = self.http.post(self.url("/v1/copies")).json(asked);
        let answer = self
            .send("have a snapshot copied by", sent.timeout(DELETE_MAX))
            .await?;
        let answer = self.success("copy a snapshot", answer).await?;
        answer.json().await.map_err(self.wrap("understand"))
    }

    /// Brings what a conversion has left. May be repeated.
    async fn bring(
        &self,
        server: &SourceServerId,
        job: &JobId,
        artifact: Artifact,
        contents: Vec<u8>,
    ) -> Result<(), HubError> {
        let url = self.url(&artifact.path(job, server));
        let sent = self.http.put(url).body(contents).timeout(BRING_MAX);
        let answer = self.send("bring what a conversion left to", sent).await?;
        self.success("take what a conversion left", answer)
            .await
            .map(|_| ())
    }

    /// Waits for something newer than `after`; `None` if nothing came.
    async fn desired(&self, after: u64) -> Result<Option<Desired>, HubError> {
        let url = self.url(&format!("/v1/desired?after={after}"));
        let sent = self.http.get(url).timeout(LONG_POLL + ANSWER_MAX);
        let answer = self.send("ask", sent).await?;
        let answer = self.success("say what is wanted", answer).await?;
        if matches!(answer.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return Ok(None);
        }
        answer.json().await.map(Some).map_err(self.wrap("understand"))
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}:{}{path}", Role::HUB_NAME, self.address.port)
    }

    async fn send(
        &self,
        operation: &'static str,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, HubError> {
        request.send().await.map_err(self.wrap(operation))
    }

    async fn success(
        &self,
        operation: &'static str,
        answer: reqwest::Response,
    ) -> Result<reqwest::Response, HubError> {
        let status = answer.status();
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(answer);
        }
        let problem = match answer.json::<Problem>().await {
            Ok(problem) => problem.message,
            Err(_) => format!("it answered {status}"),
        };
        Err(HubError::Refused { operation, problem })
    }

    fn wrap(&self, operation: &'static str) -> impl FnOnce(reqwest::Error) -> HubError {
        let hub = self.address.to_string();
        move |source| HubError::Http {
            operation,
            hub,
            // The address is said already, and the name in the URL is not one that people know.
            source: source.without_url(),
        }
    }
}

/// Resolves whatever is asked to the hub's host, without the resolver of the C library.
#[derive(Debug)]
struct HubName {
    host: String,
}

impl dns::Resolve for HubName {
    fn resolve(&self, _: dns::Name) -> dns::Resolving {
        let host = self.host.clone();
        Box::pin(async move {
            let resolver = hickory_resolver::TokioResolver::builder_tokio()?.build()?;
            let found = resolver.lookup_ip(host).await?;
            let addresses: Vec<_> = found.iter().map(|ip| SocketAddr::new(ip, 0)).collect();
            let addresses: dns::Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

/// Grows from 0.3 s to a minute, with jitter, so that runners do not come all at once.
#[derive(Debug, Default)]
pub(crate) struct Backoff(u32);

impl Backoff {
    pub fn next(&mut self) -> Duration {
        const FIRST: f64 = 0.3;
        const LONGEST: f64 = 60.0;
        let longest = (FIRST * 2_f64.powi(self.0.min(16).cast_signed())).min(LONGEST);
        self.0 += 1;
        Duration::from_secs_f64(longest * (0.5 + rand::random::<f64>() / 2.0))
    }

    pub fn reset(&mut self) {
        self.0 = 0;
    }
}

/// What could not be brought is brought again after so long.
const BRING_AGAIN: Duration = Duration::from_secs(10);

/// Changes are gathered for so long before they are reported.
const REPORT_DEBOUNCE: Duration = Duration::from_millis(200);

/// Reports what is, whenever it changes and at least every two seconds. `dir` is the runner's folder.
pub(crate) async fn report_for_ever(hub: HubClient, runner: Arc<Runner>, dir: PathBuf) {
    let mut observed = runner.observed();
    let mut backoff = Backoff::default();
    let mut artifacts = Artifacts::new(hub.clone(), dir);
    loop {
        let mut report = observed.borrow_and_update().clone();
        artifacts.bring(&mut report).await;
        let began = Instant::now();
        match hub.report(&report).await {
            Ok(()) => {
                backoff.reset();
                runner.reported(&report);
                // It may never change; then the time is what ends the wait.
                let changed = timeout(OBSERVED_EVERY, observed.changed()).await;
                if changed.is_ok() {
                    sleep(REPORT_DEBOUNCE.saturating_sub(began.elapsed())).await;
                }
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "cannot report; trying again");
                sleep(backoff.next()).await;
            }
        }
    }
}

/// What conversions leave. The hub has it before it hears that one has ended.
struct Artifacts {
    hub: HubClient,
    dir: PathBuf,
    taken: BTreeSet<(SourceServerId, JobId)>,
    /// After a failure, a report must not wait for the next one.
    not_before: Instant,
}

impl Artifacts {
    fn new(hub: HubClient, dir: PathBuf) -> Self {
        Self {
            hub,
            dir,
            taken: BTreeSet::new(),
            not_before: Instant::now(),
        }
    }

    async fn bring(&mut self, report: &mut Observed) {
        let mut known = BTreeSet::new();
        for server in &mut report.servers {
            let Some(conversion) = &mut server.conversion else {
                continue;
            };
            if !conversion.state.is_final() {
                continue;
            }
            let name = (server.id.clone(), conversion.job.clone());
            if !self.taken.contains(&name)
                && let Err(error) = self.bring_all(&name.0, &name.1).await
            {
                tracing::warn!(error = %chain(&error), "cannot bring the hub what a conversion left; trying again");
                conversion.state = ConversionState::Running {
                    step: "report".into(),
                };
                continue;
            }
            known.insert(name);
        }
        self.taken = known;
    }

    async fn bring_all(&mut self, server: &SourceServerId, job: &JobId) -> Result<(), BringError> {
        if Instant::now() < self.not_before {
            return Err(BringError::Later);
        }
        self.not_before = Instant::now() + BRING_AGAIN;
        for artifact in Artifact::ALL {
            let (dir, of) = (self.dir.clone(), (server.clone(), job.clone()));
            let contents = blocking(move || conversions::artifact(&dir, &of.0, &of.1, artifact)).await?;
            if let Some(contents) = contents {
                self.hub.bring(server, job, artifact, contents).await?;
            }
        }
        self.not_before = Instant::now();
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum BringError {
    #[error(transparent)]
    File(#[from] files::FileError),
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error("it failed a moment ago")]
    Later,
}

/// Follows what is wanted, and keeps it in `path` for a start without the hub.
pub(crate) async fn follow_for_ever(hub: HubClient, path: PathBuf, desired: watch::Sender<Desired>) {
    let mut backoff = Backoff::default();
    // The first answer always counts: a hub that was restored from a backup may have gone back.
    let mut after = 0;
    loop {
        match hub.desired(after).await {
            Ok(answer) => {
                backoff.reset();
                let Some(wanted) = answer else { continue };
                if wanted.generation == after {
                    // Nothing new, or nothing since the first answer: not again and again at once.
                    sleep(REPORT_DEBOUNCE).await;
                }
                after = wanted.generation;
                if let Err(error) = keep(&path, &wanted) {
                    tracing::error!(error = %chain(&error), "cannot keep what is wanted for the next start");
                }
                desired.send_if_modified(|current| {
                    let differs = *current != wanted;
                    *current = wanted;
                    differs
                });
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "cannot learn what is wanted; trying again");
                sleep(backoff.next()).await;
            }
        }
    }
}

fn keep(path: &Path, desired: &Desired) -> Result<(), files::FileError> {
    let text = serde_json::to_vec_pretty(desired).expect("its keys are text");
    files::replace(path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_grows_to_a_minute_and_no_further() {
        let mut backoff = Backoff::default();
        assert!(backoff.next() <= Duration::from_millis(300));
        for _ in 0..40 {
            assert!(backoff.next() <= Duration::from_mins(1));
        }
        assert!(backoff.next() >= Duration::from_secs(30));
    }

    #[test]
    fn the_address_of_a_hub_has_a_port() {
        assert_eq!("[fd00::1]:8443".parse::<HubAddress>().unwrap().host, "fd00::1");
        assert_eq!("hub.example.com:8443".parse::<HubAddress>().unwrap().port, 8443);
        for wrong in ["hub", ":1", "hub:x"] {
            assert!(wrong.parse::<HubAddress>().is_err(), "{wrong}");
        }
    }
}
