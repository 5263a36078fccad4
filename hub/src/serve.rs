//! A running hub: its listeners, its reconcilers, and how it stops.
//!
//! On SIGTERM or Ctrl-C listeners stop accepting, requests in flight get [`DRAIN`], sagas stop between two
//! steps. Whatever is cut off in spite of that is taken up at the next start: nothing relies on a clean end.

use std::{
    fs,
    io::Write as _,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};
use axum::{
    Extension, Json, Router,
    body::Body,
    http::{HeaderName, HeaderValue, Request, StatusCode},
    middleware::{from_fn_with_state, map_request},
    routing::get,
};
use axum_server::{Handle, tls_rustls::RustlsConfig};
use cloud::{Cloud, folder::FolderCloud};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;
use tower_http::{
    catch_panic::CatchPanicLayer,
    request_id::{MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer},
    trace::TraceLayer,
};

mod options;

pub use options::{MACHINES_PORT, ServeOptions};

use crate::{
    Hub, Settings, api,
    hub::create_folder,
    lead,
    machines::{self, listener::MachineAcceptor},
    metrics,
    store::Database,
    web,
};

const DRAIN: Duration = Duration::from_secs(10);

/// How often it is looked whether the console's certificate was renewed.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

const READY_WITHIN: Duration = Duration::from_secs(2);

/// A restart may come before the kernel has taken the last process away.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Config {
    pub dir: PathBuf,
    pub database: Database,
    pub ui: SocketAddr,
    pub machines: SocketAddr,
    pub cloud: CloudChoice,
    /// Certificate and key of the UI, PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
    pub settings: Settings,
}

/// Which cloud the hub acts in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloudChoice {
    #[cfg(feature = "aws")]
    Aws,
    Folder(PathBuf),
}

impl std::str::FromStr for CloudChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("folder", path)) if !path.is_empty() => Ok(Self::Folder(path.into())),
            #[cfg(feature = "aws")]
            None if text == "aws" => Ok(Self::Aws),
            #[cfg(not(feature = "aws"))]
            None if text == "aws" => {
                Err("this program was built without AWS: build it with the feature `aws`".into())
            }
            _ => Err("a cloud is given as aws, or as folder:PATH".into()),
        }
    }
}

impl CloudChoice {
    pub(crate) fn open(&self) -> Arc<dyn Cloud> {
        match self {
            #[cfg(feature = "aws")]
            Self::Aws => Arc::new(cloud::aws::AwsCloud::default()),
            Self::Folder(root) => Arc::new(FolderCloud::open(root)),
        }
    }
}

/// Runs the hub until it is told to stop.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    if !config.ui.ip().is_loopback() && config.tls.is_none() {
        bail!(
            "--ui {} can be reached from other machines, and sign-ins would cross the network in the clear: give \
             --tls-certificate and --tls-key, or listen on 127.0.0.1",
            config.ui
        );
    }
    create_folder(&config.dir)?;
    let _only = lock(&config.dir).await?;
    let cloud = config.cloud.open();
    let hub = Hub::open(&config.dir, &config.database, cloud, config.settings.clone()).await?;
    let hub = Arc::new(hub);

    let ui = listen(config.ui)?;
    let machines = listen(config.machines)?;
    announce(&config.dir, ui.local_addr()?, machines.local_addr()?)?;
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    tracing::info!("the console is at {scheme}://{}", ui.local_addr()?);
    tracing::info!("runners reach the hub at {}", machines.local_addr()?);

    let (ui_handle, machines_handle) = (Handle::new(), Handle::new());
    let mut running = JoinSet::new();
    running.spawn(serve_ui(hub.clone(), ui, config.tls, ui_handle.clone()));
    running.spawn(serve_machines(hub.clone(), machines, machines_handle.clone()));
    match config.database {
        Database::File(_) => {
            running.spawn(lead::alone(hub.clone()));
        }
        Database::Server(server) => {
            running.spawn(lead::hear_others(hub.clone(), server.clone()));
            running.spawn(lead::in_turn(hub.clone(), server));
        }
    }

    let mut terminate = signal(SignalKind::terminate())?;
    // It is for the certificate. One who has none is not to end by it.
    let _hangup = signal(SignalKind::hangup())?;
    let ended_early = tokio::select! {
        _ = terminate.recv() => None,
        _ = tokio::signal::ctrl_c() => None,
        ended = running.join_next() => ended,
    };
    tracing::info!("stopping");
    hub.stopping.cancel();
    ui_handle.graceful_shutdown(Some(DRAIN));
    machines_handle.graceful_shutdown(Some(DRAIN));
    let rest = async { while running.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN + Duration::from_secs(2), rest)
        .await
        .is_err()
    {
        tracing::warn!("some work did not end in time and is cut off; it goes on at the next start");
        running.shutdown().await;
    }
    match ended_early {
        Some(result) => result
            .context("a part of the hub panicked")?
            .context("a part of the hub failed"),
        None => Ok(()),
    }
}

/// The router of the UI listener: pages, API and health.
pub fn ui_router(hub: Arc<Hub>) -> Router {
    let healthz = get(async || Json(serde_json::json!({ "status": "ok" })));
    let ready = {
        let hub = hub.clone();
        get(move || readyz(hub.clone()))
    };
    let router = Router::new()
        .route("/healthz", healthz)
        .route("/readyz", ready)
        .merge(api::router(hub.clone()))
        .merge(web::router(hub.clone()))
        .layer(from_fn_with_state(hub, metrics::count));
    traced(router)
}

/// Whether this hub should get requests: it is not about to stop, and its database answers.
async fn readyz(hub: Arc<Hub>) -> (StatusCode, Json<serde_json::Value>) {
    let status = if hub.stopping.is_cancelled() {
        "stopping"
    } else {
        let ping = tokio::time::timeout(READY_WITHIN, hub.store.ping()).await;
        if matches!(ping, Ok(Ok(()))) {
            "ok"
        } else {
            "the database does not answer"
        }
    };
    let code = if status == "ok" {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let leads = hub.leads.load(Ordering::Relaxed);
    (
        code,
        Json(serde_json::json!({ "status": status, "leads": leads })),
    )
}

/// Gives each request a name, which is in its answer and in every line of the log that is about it.
fn traced(router: Router) -> Router {
    const NAME: HeaderName = HeaderName::from_static("x-request-id");
    let span = TraceLayer::new_for_http().make_span_with(|request: &Request<Body>| {
        let id = request.extensions().get::<RequestId>();
        let id = id
            .and_then(|id| id.header_value().to_str().ok())
            .unwrap_or_default();
        // Without the query, which may hold what somebody searched for.
        tracing::info_span!("request", id, method = %request.method(), path = request.uri().path())
    });
    router
        .layer(CatchPanicLayer::new())
        .layer(span)
        .layer(PropagateRequestIdLayer::new(NAME))
        .layer(SetRequestIdLayer::new(NAME, NewName))
        .layer(map_request(async |mut request: Request<Body>| {
            // A balancer may have given it one; anybody else may have written anything there.
            let plain = |name: &HeaderValue| {
                let name = name.as_bytes();
                name.len() <= 64
                    && name
                        .iter()
                        .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
            };
            if !request.headers().get(&NAME).is_some_and(plain) {
                request.headers_mut().remove(&NAME);
            }
            request
        }))
}

#[derive(Debug, Clone, Copy)]
struct NewName;

impl MakeRequestId for NewName {
    fn make_request_id<B>(&mut self, _: &Request<B>) -> Option<RequestId> {
        let name = format!("{:016x}", rand::random::<u64>());
        Some(RequestId::new(HeaderValue::try_from(name).ok()?))
    }
}

async fn serve_ui(
    hub: Arc<Hub>,
    listener: TcpListener,
    tls: Option<(PathBuf, PathBuf)>,
    handle: Handle<SocketAddr>,
) -> anyhow::Result<()> {
    let mut router = ui_router(hub);
    if tls.is_some() {
        router = router.layer(Extension(web::OverTls));
    }
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    match tls {
        None => {
            axum_server::from_tcp(listener)?
                .handle(handle)
                .serve(service)
                .await?;
        }
        Some((certificate, key)) => {
            let config = RustlsConfig::from_pem_file(&certificate, &key)
                .await
                .with_context(|| format!("cannot use {} and {}", certificate.display(), key.display()))?;
            let watching = tokio::spawn(renew(config.clone(), certificate, key));
            let _end = AbortOnDropHandle::new(watching);
            axum_server::from_tcp_rustls(listener, config)?
                .handle(handle)
                .serve(service)
                .await?;
        }
    }
    Ok(())
}

/// Takes a new certificate into use when its files change, or when SIGHUP says so. Connections stay as they are.
async fn renew(config: RustlsConfig, certificate: PathBuf, key: PathBuf) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut seen = stamps(&certificate, &key);
    loop {
        let asked = tokio::select! {
            _ = hangup.recv() => true,
            () = tokio::time::sleep(LOOK_AGAIN) => false,
        };
        let found = stamps(&certificate, &key);
        if found == seen && !asked {
            continue;
        }
        match config.reload_from_pem_file(&certificate, &key).await {
            Ok(()) => {
                tracing::info!("the console has a new certificate, of {}", certificate.display());
                seen = found;
            }
            // One of the two files may not be written yet: it is tried again.
            Err(error) => tracing::warn!(
                %error,
                "cannot use {} and {}; the console keeps the certificate of before",
                certificate.display(),
                key.display()
            ),
        }
    }
}

fn stamps(certificate: &Path, key: &Path) -> [Option<SystemTime>; 2] {
    [certificate, key].map(|file| fs::metadata(file).and_then(|found| found.modified()).ok())
}

async fn serve_machines(
    hub: Arc<Hub>,
    listener: TcpListener,
    handle: Handle<SocketAddr>,
) -> anyhow::Result<()> {
    let acceptor = MachineAcceptor::new(&hub.pki)?;
    let service = traced(machines::router(hub)).into_make_service();
    axum_server::from_tcp(listener)?
        .acceptor(acceptor)
        .handle(handle)
        .serve(service)
        .await?;
    Ok(())
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Two hubs on one folder would run every saga twice. One that was just killed may take a moment to end.
async fn lock(dir: &Path) -> anyhow::Result<fs::File> {
    let path = dir.join("lock");
    let file = fs::File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let end = tokio::time::Instant::now() + LOCK_PATIENCE;
    while file.try_lock().is_err() {
        if tokio::time::Instant::now() > end {
            bail!("another hub runs on {}", dir.display());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(file)
}

/// Writes down where the hub listens, for those who gave it port 0.
fn announce(dir: &Path, ui: SocketAddr, machines: SocketAddr) -> anyhow::Result<()> {
    let (path, draft) = (dir.join("listen.json"), dir.join(".listen.json.new"));
    let text = serde_json::json!({ "ui": ui, "machines": machines }).to_string();
    fs::File::create(&draft)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&draft, &path))
        .with_context(|| format!("cannot write {}", path.display()))
}
