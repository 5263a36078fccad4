//! The machine API over real TLS, asked by machines that make their own keys.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

use domain::{
    changes::ChangeList,
    checkpoint::{CheckpointKind, CheckpointNumber, Consistency},
    conversion::{Conversion, ConversionState, Inspection},
    digest::Digest,
    disk::{DiskProgress, Tracking},
    flow::{Flow, Forecast, Hop},
    ids::{AccountId, JobId, SourceServerId},
    readiness::{Finding, Readiness},
    replication::Replication,
    replication_configuration::ReplicationConfiguration,
    scope::Scope,
};
use identity::{Credentials, NewKey, Role, tls};
use protocol::{
    artifacts::{Artifact, SignedChangeList},
    enrol::{AgentEnrolment, EnrolledAgent, EnrolledRunner, Problem, RunnerEnrolment, Token},
    exchange::{
        Desired, Kept, KeptServer, Observed, ObservedAgent, ObservedCheckpoint, ObservedServer,
        ObservedSnapshot,
    },
};
use reqwest::{Client, StatusCode};
use rustls::ClientConfig;
use serde::{Serialize, de::DeserializeOwned};

use super::listener::MachineAcceptor;
use crate::{
    Hub,
    actions::{
        inventory,
        templates::{Half, keep},
    },
    entities::{source_server, token::TokenPurpose, user::UserRole},
    fixtures::{self, MEMBER, TestHub},
    store::servers::ServerFilter,
    tokens,
};

struct Api {
    hub: TestHub,
    address: SocketAddr,
}

async fn api() -> Api {
    let hub = fixtures::hub().await;
    fixtures::with_runner(&hub).await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = MachineAcceptor::new(&hub.pki).unwrap();
    let service = super::router(hub.hub.clone()).into_make_service();
    // Ends with the test's runtime.
    tokio::spawn(
        axum_server::from_tcp(listener)
            .unwrap()
            .acceptor(acceptor)
            .serve(service),
    );
    Api { hub, address }
}

impl Api {
    fn client(&self, config: ClientConfig) -> Client {
        Client::builder()
            .tls_backend_preconfigured(config)
            .resolve(Role::HUB_NAME, self.address)
            .build()
            .unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}:{}{path}", Role::HUB_NAME, self.address.port())
    }

    async fn post<B: Serialize, A: DeserializeOwned>(
        &self,
        client: &Client,
        path: &str,
        body: &B,
    ) -> Result<A, (StatusCode, String)> {
        let answer = client.post(self.url(path)).json(body).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        if status.is_success() {
            let text = if text.is_empty() { "null" } else { &text };
            return Ok(serde_json::from_str(text).unwrap());
        }
        let problem: Problem = serde_json::from_str(&text).unwrap();
        assert!(problem.message.len() > 20, "{problem:?} says what to do");
        Err((status, problem.code))
    }

    async fn token(&self, purpose: TokenPurpose, ttl: Duration) -> Token {
        let account: AccountId = MEMBER.parse().unwrap();
        let mut tx = self.hub.store.begin().await.unwrap();
        let token = tokens::create(&mut tx, &self.hub.pki, &account, purpose, ttl, "ada".into())
            .await
            .unwrap();
        tx.commit().await.unwrap();
        token
    }

    async fn runner(&self) -> (EnrolledRunner, Client) {
        let (enrolled, _, client) = self.runner_with_key().await;
        (enrolled, client)
    }

    async fn runner_with_key(&self) -> (EnrolledRunner, Credentials, Client) {
        let token = self.token(TokenPurpose::Runner, MINUTE).await;
        let key = NewKey::generate().unwrap();
        let client = self.client(tls::enrolling_client(token.ca_sha256).unwrap());
        let request = runner_request(&token, &key);
        let enrolled: EnrolledRunner = self.post(&client, "/v1/runners", &request).await.unwrap();
        let credentials = key.certified(enrolled.certificate_pem.clone(), enrolled.ca_pem.clone());
        let client = self.client(tls::client(&credentials).unwrap());
        (enrolled, credentials, client)
    }

    async fn put(&self, client: &Client, path: &str, body: Vec<u8>) -> (StatusCode, String) {
        let answer = client.put(self.url(path)).body(body).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        let problem: Option<Problem> = (!text.is_empty()).then(|| serde_json::from_str(&text).unwrap());
        (status, problem.map(|problem| problem.code).unwrap_or_default())
    }

    async fn agent(&self, runner: &Client) -> (EnrolledAgent, Credentials) {
        let token = self.token(TokenPurpose::Agent, MINUTE).await;
        let key = NewKey::generate().unwrap();
        let request = agent_request(&token, &key);
        let enrolled: EnrolledAgent = self.post(runner, "/v1/enrol", &request).await.unwrap();
        let credentials = key.certified(enrolled.certificate_pem.clone(), enrolled.ca_pem.clone());
        (enrolled, credentials)
    }
}

const MINUTE: Duration = Duration::from_mins(1);

fn runner_request(token: &Token, key: &NewKey) -> RunnerEnrolment {
    RunnerEnrolment {
        token_secret: token.secret.clone(),
        csr_pem: key.csr_pem().unwrap(),
        runner_version: "0.1.0".into(),
        address: "192.0.2.7".into(),
        data_port: 1500,
        enrol_port: 443,
    }
}

fn agent_request(token: &Token, key: &NewKey) -> AgentEnrolment {
    AgentEnrolment {
        token_secret: token.secret.clone(),
        csr_pem: key.csr_pem().unwrap(),
        properties: fixtures::properties("web-1"),
        user_provided_id: None,
        tags: BTreeMap::new(),
        replicate: true,
    }
}

fn report(generation: u64, servers: Vec<ObservedServer>) -> Observed {
    Observed {
        generation,
        runner_version: "0.1.0".into(),
        staging_free_bytes: Some(1 << 30),
        index_behind: None,
        servers,
        turned_away: vec![],
    }
}

fn observed(id: &SourceServerId, checkpoints: Vec<ObservedCheckpoint>) -> ObservedServer {
    ObservedServer {
        flow: Flow::default(),
        id: id.clone(),
        replication: Replication::Continuous,
        agent: None,
        disks: vec![],
        checkpoints,
        durable_request: 0,
        inspection: None,
        conversion: None,
        forgotten: false,
    }
}

async fn desired(api: &Api, runner: &Client, after: u64) -> Desired {
    let url = api.url(&format!("/v1/desired?after={after}"));
    let answer = runner.get(url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.json().await.unwrap()
}

#[tokio::test]
async fn a_runner_and_an_agent_enrol_and_are_told_what_to_do() {
    let api = api().await;
    let (runner, client) = api.runner().await;
    assert_eq!(runner.account.as_str(), MEMBER);
    let before = desired(&api, &client, 0).await;
    assert!(before.servers.is_empty());
    let (agent, _) = api.agent(&client).await;
    assert_eq!(agent.active_servers, 1);
    let after = desired(&api, &client, before.generation).await;
    assert!(after.generation > before.generation);
    assert_eq!(after.servers[0].id, agent.server);
    assert_eq!(after.servers[0].checkpoint_interval_s, 600);

    let template = ReplicationConfiguration {
        checkpoints_kept: 12,
        ..api.hub.usual_replication()
    };
    let ada = fixtures::add_user(&api.hub, "ada", UserRole::Administrator, "correct horse").await;
    let half = Half::Replication(Some(template));
    keep(&api.hub, &ada, &Scope::Everything, half).await.unwrap();
    let (second, _) = api.agent(&client).await;
    let servers = desired(&api, &client, after.generation).await.servers;
    let kept = |id| servers.iter().find(|one| one.id == id).unwrap().checkpoints_kept;
    assert_eq!((kept(agent.server), kept(second.server)), (6, 12));
}

#[tokio::test]
async fn a_wrong_used_or_expired_token_is_refused_by_name() {
    let api = api().await;
    let (_, client) = api.runner().await;
    let key = NewKey::generate().unwrap();
    let refused = async |token: &Token, key: &NewKey| {
        let request = agent_request(token, key);
        let answer: Result<EnrolledAgent, _> = api.post(&client, "/v1/enrol", &request).await;
        answer.unwrap_err()
    };

    let mut wrong = api.token(TokenPurpose::Agent, MINUTE).await;
    wrong.secret = "A".repeat(43);
    let unauthorized = |code: &str| (StatusCode::UNAUTHORIZED, code.to_owned());
    assert_eq!(refused(&wrong, &key).await, unauthorized("token_unknown"));

    let expired = api.token(TokenPurpose::Agent, Duration::from_millis(1)).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(refused(&expired, &key).await, unauthorized("token_expired"));

    let of_a_runner = api.token(TokenPurpose::Runner, MINUTE).await;
    assert_eq!(refused(&of_a_runner, &key).await, unauthorized("token_purpose"));

    let used = api.token(TokenPurpose::Agent, MINUTE).await;
    let first: EnrolledAgent = api
        .post(&client, "/v1/enrol", &agent_request(&used, &key))
        .await
        .unwrap();
    let other = NewKey::generate().unwrap();
    assert_eq!(refused(&used, &other).await, unauthorized("token_used"));
    // The very same machine did not get its answer, and asks again.
    let second: EnrolledAgent = api
        .post(&client, "/v1/enrol", &agent_request(&used, &key))
        .await
        .unwrap();
    assert_eq!(first.server, second.server);
    assert_eq!(second.active_servers, 1);
}

#[tokio::test]
async fn only_a_runner_whose_certificate_stands_is_heard() {
    let api = api().await;
    let (runner, client) = api.runner().await;
    let nothing = report(0, vec![]);
    let answer = |client: Client| {
        let (api, nothing) = (&api, &nothing);
        async move { api.post::<_, ()>(&client, "/v1/observed", nothing).await }
    };
    answer(client.clone()).await.unwrap();

    let stranger = api.client(tls::enrolling_client(api.hub.pki.ca_sha256().unwrap()).unwrap());
    let refused = answer(stranger).await.unwrap_err();
    assert_eq!(refused, (StatusCode::UNAUTHORIZED, "certificate_missing".into()));

    let (_, agent) = api.agent(&client).await;
    let refused = answer(api.client(tls::client(&agent).unwrap()))
        .await
        .unwrap_err();
    assert_eq!(refused, (StatusCode::FORBIDDEN, "not_a_runner".into()));

    let mut tx = api.hub.store.begin().await.unwrap();
    let subject = Role::Runner(runner.runner).uri();
    assert_eq!(tx.certificates_revoke(&subject, "ada").await.unwrap(), 1);
    tx.commit().await.unwrap();
    let refused = answer(client).await.unwrap_err();
    assert_eq!(refused, (StatusCode::UNAUTHORIZED, "certificate_revoked".into()));
}

/// A runner that comes in place of another is told what that one had reported, and gets it word for word.
#[tokio::test]
async fn what_was_reported_is_told_again() {
    let api = api().await;
    let (_, client) = api.runner().await;
    let (agent, _) = api.agent(&client).await;
    let reported = ObservedCheckpoint {
        number: CheckpointNumber(7),
        kind: CheckpointKind::Launchable,
        consistency: Consistency::Filesystem,
        taken_at_ms: 1_767_323_045_000,
        request: 3,
        frozen_ms: 120,
        received_bytes: 1 << 33,
        damage: None,
        disks: vec![ObservedSnapshot {
            disk: "serial-1".parse().unwrap(),
            device_name: "/dev/sda".into(),
            is_boot: true,
            bytes: 64 << 40,
            snapshot: "snap-1".into(),
            root: Digest::of(b"root"),
        }],
    };
    let body = report(1, vec![observed(&agent.server, vec![reported.clone()])]);
    api.post::<_, ()>(&client, "/v1/observed", &body).await.unwrap();
    let answer = client.get(api.url("/v1/kept")).send().await.unwrap();
    let kept: Kept = answer.json().await.unwrap();
    let expected = KeptServer {
        id: agent.server,
        checkpoints: vec![reported],
        snapshots: Some(vec![]),
    };
    assert_eq!(kept.servers, [expected]);
}

/// Its first answer was lost, or another machine came in its place: the newest certificate alone is taken.
#[tokio::test]
async fn a_runner_that_enrols_again_has_one_certificate() {
    let api = api().await;
    let token = api.token(TokenPurpose::Runner, MINUTE).await;
    let key = NewKey::generate().unwrap();
    let enrolling = api.client(tls::enrolling_client(token.ca_sha256).unwrap());
    let request = runner_request(&token, &key);
    let first: EnrolledRunner = api.post(&enrolling, "/v1/runners", &request).await.unwrap();
    let second: EnrolledRunner = api.post(&enrolling, "/v1/runners", &request).await.unwrap();
    assert_eq!(first.runner, second.runner);
    let newest = key.certified(second.certificate_pem, second.ca_pem);
    let newest = api.client(tls::client(&newest).unwrap());
    let answer = newest.get(api.url("/v1/kept")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let revoked = api.hub.store.revoked_serials().await.unwrap();
    assert_eq!(revoked.len(), 1);
}

#[tokio::test]
async fn a_report_moves_a_server_to_ready_for_test() {
    let api = api().await;
    let (_, client) = api.runner().await;
    let (agent, _) = api.agent(&client).await;
    let checkpoint = |number, kind| ObservedCheckpoint {
        frozen_ms: 0,
        received_bytes: 0,
        damage: None,
        number: CheckpointNumber(number),
        kind,
        consistency: Consistency::Crash,
        taken_at_ms: 1000 * number.cast_signed(),
        request: 0,
        disks: vec![],
    };
    let partial = vec![checkpoint(1, CheckpointKind::Partial)];
    let body = report(1, vec![observed(&agent.server, partial.clone())]);
    api.post::<_, ()>(&client, "/v1/observed", &body).await.unwrap();
    let server = api.hub.store.server(&agent.server).await.unwrap();
    assert_eq!(
        (server.lifecycle_name.as_str(), server.lag_basis),
        ("NOT_READY", None)
    );

    let both = vec![
        checkpoint(2, CheckpointKind::Launchable),
        checkpoint(3, CheckpointKind::Launchable),
    ];
    let body = report(1, vec![observed(&agent.server, both)]);
    api.post::<_, ()>(&client, "/v1/observed", &body).await.unwrap();
    let server = api.hub.store.server(&agent.server).await.unwrap();
    assert_eq!(server.lifecycle_name, "READY_FOR_TEST");
    assert_eq!(
        (server.replication_name.as_str(), server.lag_basis),
        ("CONTINUOUS", Some(3000))
    );
    let kept = api.hub.store.checkpoint_list(&agent.server).await.unwrap();
    assert_eq!(kept.iter().map(|row| row.number).collect::<Vec<_>>(), [2, 3]);
}

#[tokio::test]
async fn a_report_tells_how_data_flows_and_what_is_damaged() {
    let api = api().await;
    let (_, client) = api.runner().await;
    let (agent, _) = api.agent(&client).await;
    let checkpoint = ObservedCheckpoint {
        frozen_ms: 210,
        received_bytes: 64 << 20,
        damage: None,
        number: CheckpointNumber(1),
        kind: CheckpointKind::Launchable,
        consistency: Consistency::Filesystem,
        taken_at_ms: 1000,
        request: 0,
        disks: vec![],
    };
    let flow = Flow {
        written_bytes_s: 4_250_000,
        copied_bytes_s: 4_000_000,
        backlog_bytes: 1 << 30,
        bottleneck: Some(Hop::Link),
        forecast: Forecast::of(1 << 30, 4_250_000, 4_000_000),
        ..Flow::default()
    };
    let disk = |tracking| DiskProgress {
        id: "serial-1".parse().unwrap(),
        device_name: "/dev/sda".into(),
        total_bytes: 64 << 20,
        replicated_bytes: 64 << 20,
        rescanned_bytes: 0,
        backlogged_bytes: 0,
        tracking: Some(tracking),
    };
    let compared = |remedy: Option<&str>| Tracking::Rescan {
        reason: "the kernel is locked down".into(),
        remedy: remedy.map(str::to_owned),
    };
    let tell = async |checkpoint: &ObservedCheckpoint, flow: &Flow, tracking| {
        let server = ObservedServer {
            flow: flow.clone(),
            disks: vec![disk(tracking)],
            agent: Some(ObservedAgent {
                address: "192.0.2.1".into(),
                agent_version: "0.1.0".into(),
                properties: fixtures::properties("web-1"),
            }),
            ..observed(&agent.server, vec![checkpoint.clone()])
        };
        let body = report(1, vec![server]);
        api.post::<_, ()>(&client, "/v1/observed", &body).await.unwrap();
        api.hub.store.server(&agent.server).await.unwrap()
    };

    let server = tell(&checkpoint, &flow, compared(Some("boot it without lockdown"))).await;
    assert_eq!(server.flow.0, flow);
    assert!(server.diverges && server.untracked);
    assert_eq!(server.lag_basis, Some(1000));
    let overview = &api.hub.store.account_overview().await.unwrap()[0];
    assert_eq!((overview.diverging, overview.untracked), (1, 1));
    let kept = &api.hub.store.checkpoint_list(&agent.server).await.unwrap()[0];
    assert_eq!((kept.frozen_ms, kept.received_bytes), (210, 64 << 20));
    let trend = || api.hub.store.trend(&agent.server);
    let measured = trend().await.unwrap();
    let sent = measured.points().iter().map(|point| point.sent_kib_s);
    assert_eq!(sent.collect::<Vec<_>>(), [3906]);

    // Nobody can change it: nobody is called.
    let damaged = ObservedCheckpoint {
        damage: Some("block 7 of /dev/sda".into()),
        ..checkpoint.clone()
    };
    let server = tell(&damaged, &Flow::default(), compared(None)).await;
    assert!(!server.diverges && !server.untracked);
    assert_eq!(server.lag_basis, None, "what is damaged cannot be launched");
    let kept = &api.hub.store.checkpoint_list(&agent.server).await.unwrap()[0];
    assert_eq!(kept.damage, damaged.damage);

    let server = tell(&checkpoint, &Flow::default(), compared(None)).await;
    assert_eq!(server.lag_basis, Some(1000), "it was repaired");
    let kept = &api.hub.store.checkpoint_list(&agent.server).await.unwrap()[0];
    assert_eq!(kept.damage, None);
    // The next point is a minute away.
    assert_eq!(trend().await.unwrap(), measured);
}

#[tokio::test]
async fn a_long_poll_wakes_when_something_else_is_wanted() {
    let api = api().await;
    let (runner, client) = api.runner().await;
    let first = desired(&api, &client, 0).await;
    let hub: Arc<Hub> = api.hub.hub.clone();
    let began = Instant::now();
    let (second, ()) = tokio::join!(desired(&api, &client, first.generation), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut tx = hub.store.begin().await.unwrap();
        tx.runner_touch(&runner.runner).await.unwrap();
        tx.commit().await.unwrap();
    });
    assert_eq!(second.generation, first.generation + 1);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_runner_hears_what_to_convert_and_says_where_it_stands() {
    let api = api().await;
    let (_, client) = api.runner().await;
    let (agent, _) = api.agent(&client).await;
    let before = desired(&api, &client, 0).await;
    assert_eq!(before.servers[0].conversion, None);
    let job = fixtures::order_conversion(&api.hub, &agent.server).await.job.0;
    let after = desired(&api, &client, before.generation).await;
    let order = after.servers[0].conversion.as_ref().unwrap();
    assert_eq!((&order.job, order.checkpoint), (&job, CheckpointNumber(7)));

    let stands = async || {
        let row = api
            .hub
            .store
            .conversion(&job, &agent.server)
            .await
            .unwrap()
            .unwrap();
        (row.state.0, row.ended_at.is_some())
    };
    let tell = async |job: &JobId, state: ConversionState| {
        let conversion = Some(Conversion {
            job: job.clone(),
            state,
        });
        let server = ObservedServer {
            conversion,
            ..observed(&agent.server, vec![])
        };
        let body = report(1, vec![server]);
        api.post::<_, ()>(&client, "/v1/observed", &body).await.unwrap();
    };
    assert_eq!(stands().await, (None, false));
    tell(&JobId::from_entropy(8), ConversionState::Waiting).await;
    assert_eq!(stands().await, (None, false), "it is of another job");
    let running = ConversionState::Running { step: "fstab".into() };
    tell(&job, running.clone()).await;
    assert_eq!(stands().await, (Some(running), false));
    let failed = ConversionState::Failed {
        step: "fstab".into(),
        detail: "it cannot be read".into(),
        rehearsal: None,
    };
    tell(&job, failed.clone()).await;
    assert_eq!(stands().await, (Some(failed.clone()), true));

    let mut tx = api.hub.store.begin().await.unwrap();
    let row = api.hub.store.server(&agent.server).await.unwrap();
    assert!(tx.conversion_end(&job, &row).await.unwrap());
    assert!(!tx.conversion_end(&job, &row).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(desired(&api, &client, 0).await.servers[0].conversion, None);
    tell(&job, ConversionState::Waiting).await;
    assert_eq!(stands().await, (Some(failed), true), "nobody needs it any more");
}

#[tokio::test]
async fn a_look_at_a_checkpoint_stays_until_the_next() {
    let api = api().await;
    let (_, client) = api.runner().await;
    let (agent, _) = api.agent(&client).await;
    let looked = |findings: Vec<Finding>| {
        Some(Inspection {
            checkpoint: CheckpointNumber(3),
            at_ms: 1000,
            findings,
        })
    };
    let tell = async |inspection: Option<Inspection>| {
        let server = ObservedServer {
            inspection,
            ..observed(&agent.server, vec![])
        };
        let body = report(1, vec![server]);
        api.post::<_, ()>(&client, "/v1/observed", &body).await.unwrap();
        let row = api.hub.store.server(&agent.server).await.unwrap();
        (row.readiness.0, row.inspection.0)
    };
    assert_eq!(tell(None).await, (Readiness::NotInspected, None));
    let blocked = looked(vec![Finding::blocks("lvm", "The root is on LVM.", "Move it.")]);
    assert_eq!(tell(blocked.clone()).await, (Readiness::Blocked, blocked.clone()));
    assert_eq!(tell(None).await, (Readiness::Blocked, blocked));
    assert_eq!(tell(looked(vec![])).await, (Readiness::Ready, looked(vec![])));
}

/// A list of the server's checkpoint, signed by whose key it is.
fn signed(server: &SourceServerId, checkpoint: u64, by: &Credentials) -> SignedChangeList {
    let list = ChangeList::new(server.clone(), CheckpointNumber(checkpoint));
    let json = serde_json::to_string(&list).unwrap();
    SignedChangeList {
        signature: by.sign(json.as_bytes()).unwrap(),
        certificate_pem: by.certificate_pem().to_owned(),
        json,
    }
}

#[tokio::test]
async fn what_a_runner_hands_over_is_checked_and_kept() {
    let api = api().await;
    let (_, credentials, client) = api.runner_with_key().await;
    let (agent, agents_key) = api.agent(&client).await;
    let job = fixtures::order_conversion(&api.hub, &agent.server).await.job.0;
    let path = |artifact: Artifact| artifact.path(&job, &agent.server);
    let kept = async |artifact| {
        api.hub
            .store
            .artifact(&job, &agent.server, artifact)
            .await
            .unwrap()
    };
    let refused = (StatusCode::UNPROCESSABLE_ENTITY, "artifact_refused".to_owned());
    let taken = (StatusCode::NO_CONTENT, String::new());

    let list = signed(&agent.server, 7, &credentials);
    let bytes = |list: &SignedChangeList| serde_json::to_vec(list).unwrap();
    let altered = SignedChangeList {
        json: list.json.replace("[]", "[ ]"),
        ..list.clone()
    };
    for wrong in [
        altered,
        signed(&agent.server, 6, &credentials),
        signed(&SourceServerId::from_entropy(9), 7, &credentials),
        signed(&agent.server, 7, &agents_key),
    ] {
        let answer = api.put(&client, &path(Artifact::ChangeList), bytes(&wrong)).await;
        assert_eq!(answer, refused);
    }
    let (_, stranger, _) = api.runner_with_key().await;
    let elsewhere = signed(&agent.server, 7, &stranger);
    let answer = api
        .put(&client, &path(Artifact::ChangeList), bytes(&elsewhere))
        .await;
    assert_eq!(answer, refused, "another runner signed it");
    assert_eq!(kept(Artifact::ChangeList).await, None);
    let answer = api.put(&client, &path(Artifact::ChangeList), bytes(&list)).await;
    assert_eq!(answer, taken);
    assert_eq!(kept(Artifact::ChangeList).await, Some(bytes(&list)));

    let answer = api
        .put(&client, &path(Artifact::Screenshot), b"GIF89a".to_vec())
        .await;
    assert_eq!(answer, refused);
    for text in ["one", "two"] {
        let answer = api.put(&client, &path(Artifact::Console), text.into()).await;
        assert_eq!(answer, taken);
        assert_eq!(kept(Artifact::Console).await, Some(text.into()));
    }
    let long = vec![b'a'; Artifact::Console.len_max() + 1];
    let answer = api.put(&client, &path(Artifact::Console), long).await;
    assert_eq!(
        answer,
        (StatusCode::PAYLOAD_TOO_LARGE, "artifact_too_long".into())
    );
}

#[tokio::test]
async fn only_the_servers_runner_hands_over_and_only_while_the_job_waits() {
    let api = api().await;
    let (_, client) = api.runner().await;
    let (agent, _) = api.agent(&client).await;
    let job = fixtures::order_conversion(&api.hub, &agent.server).await.job.0;
    let (_, other) = api.runner().await;
    let console = Artifact::Console.path(&job, &agent.server);
    let answer = api.put(&other, &console, b"x".to_vec()).await;
    assert_eq!(answer, (StatusCode::FORBIDDEN, "not_its_runner".into()));

    let unwanted = (StatusCode::NOT_FOUND, "artifact_unwanted".to_owned());
    for path in [
        Artifact::Console.path(&JobId::from_entropy(8), &agent.server),
        Artifact::Console.path(&job, &SourceServerId::from_entropy(9)),
        format!("/v1/conversions/{job}/{}/passwd", agent.server),
        format!("/v1/conversions/x/{}/console", agent.server),
    ] {
        assert_eq!(api.put(&client, &path, b"x".to_vec()).await, unwanted, "{path}");
    }
    let mut tx = api.hub.store.begin().await.unwrap();
    let row = api.hub.store.server(&agent.server).await.unwrap();
    tx.conversion_end(&job, &row).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(api.put(&client, &console, b"x".to_vec()).await, unwanted);
    let listed = api.hub.store.artifact_list(&job, &agent.server).await.unwrap();
    assert!(listed.is_empty());
}

#[tokio::test]
async fn an_agent_takes_the_place_that_an_import_kept_for_it() {
    let api = api().await;
    let (_, runner) = api.runner().await;
    let ada = fixtures::add_user(&api.hub, "ada", UserRole::Operator, "correct horse").await;
    let text = format!(
        "mgn:account-id,mgn:app:name,mgn:server:user-provided-id,mgn:server:fqdn-for-action-framework,mgn:server:tag:Name,mgn:launch:instance-type\n\
         {MEMBER},shop,asset-1,web-1.example.com,planned,r5.large\n{MEMBER},shop,asset-2,elsewhere.example.com,,\n"
    );
    inventory::import(&api.hub, &ada, &text, None, false)
        .await
        .unwrap();
    let planned = |server: &source_server::Model| server.user_provided_id.as_deref() == Some("asset-1");
    let servers = api.hub.store.server_list(&ServerFilter::default()).await.unwrap();
    let before = servers.into_iter().find(planned).unwrap();
    let (enrolled, _) = api.agent(&runner).await;
    assert_eq!(enrolled.server, before.id.0, "known by its name");
    let after = api.hub.store.server(&enrolled.server).await.unwrap();
    assert_eq!(after.lifecycle_name, "NOT_READY");
    assert!(after.runner.is_some() && !after.forgotten);
    assert_eq!(after.launch_configuration.instance_type, "r5.large");
    assert_eq!(after.known_as(), "planned");
    assert_eq!(after.application, before.application);
    // The second one of that name is another server.
    let (second, _) = api.agent(&runner).await;
    assert_ne!(second.server, enrolled.server);
}
