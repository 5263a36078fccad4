//! The program as people start it, against a hub that answers as the real one does.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod world;

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::StatusCode,
    routing::{get, post},
};
use axum_server::tls_rustls::RustlsConfig;
use domain::{checkpoint::CheckpointKind, disk::BLOCK_LEN, ids::RunnerId};
use identity::{Authority, NewKey, Role, credentials::fingerprint, tls};
use protocol::{
    enrol::{EnrolledRunner, Problem, RunnerEnrolment, Token},
    exchange::{Desired, Observed},
    session::{DiskStart, Phase},
};
use world::{Agent, BLOCK, certified, desired_servers, disk, server_id};

/// A hub that wants one server replicated.
struct Hub {
    authority: Authority,
    token: Token,
    observed: Mutex<Option<Observed>>,
}

type Answer<T> = Result<Json<T>, (StatusCode, Json<Problem>)>;

fn problem(status: StatusCode, code: &str) -> (StatusCode, Json<Problem>) {
    let problem = Problem {
        code: code.into(),
        message: format!("a sentence about {code}"),
    };
    (status, Json(problem))
}

async fn enrol_runner(
    State(hub): State<Arc<Hub>>,
    Json(request): Json<RunnerEnrolment>,
) -> Answer<EnrolledRunner> {
    if request.token_secret != hub.token.secret {
        return Err(problem(StatusCode::FORBIDDEN, "token_unknown"));
    }
    assert_ne!(request.data_port, 0);
    let runner = RunnerId::from_entropy(1);
    let signed = hub
        .authority
        .sign(&request.csr_pem, &Role::Runner(runner.clone()))
        .unwrap();
    Ok(Json(EnrolledRunner {
        runner,
        account: "111111111111".parse().unwrap(),
        region: "eu-central-1".into(),
        certificate_pem: signed.certificate_pem,
        ca_pem: hub.authority.certificate_pem().to_owned(),
    }))
}

async fn observed(State(hub): State<Arc<Hub>>, Json(observed): Json<Observed>) -> StatusCode {
    *hub.observed.lock().unwrap() = Some(observed);
    StatusCode::NO_CONTENT
}

async fn desired(Query(query): Query<std::collections::BTreeMap<String, u64>>) -> Json<Desired> {
    if query["after"] == 5 {
        tokio::time::sleep(protocol::exchange::LONG_POLL).await;
    }
    Json(Desired {
        generation: 5,
        servers: desired_servers(1),
        revoked_serials: Vec::new(),
    })
}

impl Hub {
    fn serve() -> (Arc<Self>, SocketAddr, axum_server::Handle<SocketAddr>) {
        let authority = Authority::generate("test").unwrap();
        let ca_sha256 = fingerprint(authority.certificate_pem()).unwrap();
        let hub = Arc::new(Self {
            token: Token {
                secret: "s".repeat(43),
                ca_sha256,
            },
            observed: Mutex::new(None),
            authority,
        });
        let config = tls::server_for_enrolment(&certified(&hub.authority, &Role::Hub)).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new()
            .route("/v1/runners", post(enrol_runner))
            .route("/v1/observed", post(observed))
            .route("/v1/desired", get(desired))
            .route(
                "/v1/enrol",
                post(async || problem(StatusCode::GONE, "token_expired")),
            )
            .with_state(Arc::clone(&hub));
        let handle = axum_server::Handle::new();
        let server = axum_server::from_tcp_rustls(listener, RustlsConfig::from_config(Arc::new(config)));
        tokio::spawn(
            server
                .unwrap()
                .handle(handle.clone())
                .serve(routes.into_make_service()),
        );
        (hub, address, handle)
    }

    async fn eventually(&self, wanted: impl Fn(&Observed) -> bool) {
        for _ in 0..600 {
            if self.observed.lock().unwrap().as_ref().is_some_and(&wanted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it never came so far: {:#?}", self.observed.lock().unwrap());
    }
}

/// A runner's process, killed with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orglift-runner"));
    command.env_remove("ORGLIFT_TOKEN").current_dir(folder);
    command
}

fn run(folder: &Path, hub: SocketAddr) -> Command {
    let mut command = program(folder);
    command.args(["run", "--dir", "state", "--store", "layers:snapshots"]);
    command.args(["--data-listen", "127.0.0.1:0", "--enrol-listen", "127.0.0.1:0"]);
    command.args(["--hub", &hub.to_string()]);
    command
}

async fn listening(folder: &Path) -> serde_json::Map<String, serde_json::Value> {
    for _ in 0..600 {
        if let Ok(text) = std::fs::read(folder.join("state/listen.json")) {
            return serde_json::from_slice(&text).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the runner does not listen");
}

fn address(listening: &serde_json::Map<String, serde_json::Value>, which: &str) -> SocketAddr {
    listening[which].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_enrols_replicates_outlives_a_kill_without_its_hub_and_exports() {
    identity::install_crypto_provider();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (hub, hub_address, hub_handle) = Hub::serve();

    // A token that the hub does not know is the end of it, and said.
    let wrong = Token {
        secret: "x".repeat(43),
        ca_sha256: hub.token.ca_sha256,
    };
    let refused = run(folder, hub_address)
        .env("ORGLIFT_TOKEN", wrong.reveal())
        .output()
        .unwrap();
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("a sentence about token_unknown") && !said.contains("xxx"),
        "{said}"
    );

    std::fs::write(folder.join("token"), format!("{}\n", hub.token.reveal())).unwrap();
    let process = run(folder, hub_address)
        .args(["--token-file", "token"])
        .spawn()
        .unwrap();
    let process = Process(process);
    let ports = listening(folder).await;
    hub.eventually(|observed| observed.generation == 5).await;

    // What an agent that enrols is answered comes from the hub, unchanged.
    let client = tls::enrolling_client(hub.token.ca_sha256).unwrap();
    let enrol = address(&ports, "enrol");
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(client)
        .resolve(Role::RUNNER_NAME, enrol)
        .build()
        .unwrap();
    let url = format!("https://{}:{}/v1/enrol", Role::RUNNER_NAME, enrol.port());
    let answer = client.post(url).body("{}").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::GONE);
    assert_eq!(answer.json::<Problem>().await.unwrap().code, "token_expired");

    let key = NewKey::generate().unwrap();
    let role = Role::Agent(server_id(1));
    let signed = hub.authority.sign(&key.csr_pem().unwrap(), &role).unwrap();
    let ca = hub.authority.certificate_pem().to_owned();
    let mut agent = Agent {
        id: server_id(1),
        credentials: key.certified(signed.certificate_pem, ca),
        hostname: "web-1".into(),
        kept: None,
    };
    let disks = [disk(0, 4 * BLOCK)];
    let data = address(&ports, "data");
    let (mut link, _) = agent.enter_at(data, &disks).await;
    link.status(Phase::FirstCopy).await;
    let mut content = vec![0; 4 * BLOCK_LEN];
    content[1000..BLOCK_LEN + 10].fill(4);
    link.write(0, 1000, &content[1000..BLOCK_LEN]).await;
    link.write(0, BLOCK, &content[BLOCK_LEN..BLOCK_LEN + 10]).await;
    link.commit(CheckpointKind::Launchable).await;
    hub.eventually(|observed| observed.servers[0].checkpoints.len() == 1)
        .await;
    link.write(0, 0, &[9; 512]).await;

    // The hub goes, the runner is killed and comes back to the same port, with what it was told last.
    hub_handle.shutdown();
    drop(process);
    let quiet = run(folder, hub_address).stderr(Stdio::null()).spawn().unwrap();
    let process = Process(quiet);
    let mut welcome = None;
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if tokio::net::TcpStream::connect(data).await.is_ok() {
            welcome = Some(agent.enter_at(data, &disks).await.1);
            break;
        }
    }
    let start = welcome.expect("the runner is back").disks[0].start;
    assert!(matches!(start, DiskStart::Delta { .. }), "{start:?}");

    let export = |checkpoint: &str, disk: &str| {
        let mut command = program(folder);
        command.args(["export", "--dir", "state", "--to", "image", "--disk", disk]);
        command.args(["--server", server_id(1).as_str(), "--checkpoint", checkpoint]);
        command.output().unwrap()
    };
    assert!(export("latest", "/dev/sd0").status.success());
    assert!(std::fs::read(folder.join("image")).unwrap() == content);
    for (checkpoint, disk, wanted) in [
        ("7", "/dev/sd0", "has no checkpoint 7; it has 1"),
        ("1", "/dev/sdz", "it has serial-0 (/dev/sd0)"),
    ] {
        let refused = export(checkpoint, disk);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(wanted), "{said}");
    }
    let pid = rustix::process::Pid::from_child(&process.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let mut process = process;
    assert!(
        process.0.wait().unwrap().success(),
        "it ends well when it is told to"
    );
}
