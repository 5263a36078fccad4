//! The control plane: [moto](https://docs.getmoto.org), a public stand-in for AWS in Python, with what we correct in it
//! (`moto_server.py` and what it imports).
//!
//! `tests/run` installs it, in the versions of `requirements.txt`, into a folder of the cache.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail};
use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderName, HeaderValue, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use super::{caller::key_of, refusal::Refusal};
use crate::{
    process::Process,
    wait::{Look, eventually},
};

/// The first is the program, which finds the others beside itself.
const FILES: [(&str, &str); 2] = [
    ("moto_server.py", include_str!("moto_server.py")),
    ("moto_drift.py", include_str!("moto_drift.py")),
];
const REQUIREMENTS: &str = include_str!("requirements.txt");
/// Python loads for two seconds on an idle machine, and for twenty on one where everything runs at once.
const START_WAIT: Duration = Duration::from_secs(90);
/// moto takes the account from it.
const ACCOUNT: HeaderName = HeaderName::from_static("x-moto-account-id");
/// An answer of ours is a few hundred bytes.
const ANSWER_MAX: usize = 1 << 16;

#[derive(Debug)]
pub struct Moto {
    address: SocketAddr,
    client: Client<HttpConnector, Body>,
    _process: Process,
}

impl Moto {
    pub(super) async fn start(dir: &Path) -> anyhow::Result<Self> {
        let python = python()?;
        let dir = dir
            .canonicalize()
            .with_context(|| format!("cannot find {}", dir.display()))?;
        let port = dir.join("port");
        for (name, text) in FILES {
            let file = dir.join(name);
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        if port.exists() {
            fs::remove_file(&port).with_context(|| format!("cannot remove {}", port.display()))?;
        }
        let mut command = Command::new(python);
        command
            .arg(dir.join(FILES[0].0))
            .arg(&dir)
            .current_dir(&dir)
            .envs([
                // Thousands of images of Amazon's, each with a snapshot, in every account and region that is asked.
                ("MOTO_EC2_LOAD_DEFAULT_AMIS", "false"),
                ("PYTHONDONTWRITEBYTECODE", "1"),
            ]);
        let mut process = Process::of(command, "moto", &dir.join("moto.log"))?;
        let number = eventually("moto listens", START_WAIT, || {
            let ended = process.ended();
            let said = fs::read_to_string(&port);
            async move {
                Ok(match (ended?, said) {
                    (Some(status), _) => Look::Seen(Err(status)),
                    (None, Ok(number)) => Look::Seen(Ok(number)),
                    (None, Err(_)) => Look::NotYet("it runs, and does not yet say where it listens".into()),
                })
            }
        })
        .await?;
        let number = match number {
            Ok(number) => number,
            Err(status) => bail!("moto ended, {status}: {}", process.last_words()),
        };
        let number: u16 = number.parse().context("moto says no number of a port")?;
        // moto ends each connection after an answer.
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build_http();
        Ok(Self {
            address: ([127, 0, 0, 1], number).into(),
            client,
            _process: process,
        })
    }

    pub(super) async fn answer(&self, account: &str, mut request: Request) -> Result<Response, Refusal> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let uri = format!("http://{}{path}", self.address);
        *request.uri_mut() = uri.parse::<Uri>().map_err(|_| Refusal::internal())?;
        let account = HeaderValue::from_str(account).map_err(|_| Refusal::internal())?;
        request.headers_mut().insert(ACCOUNT, account);
        match self.client.request(request).await {
            Ok(answer) => Ok(answer.into_response()),
            Err(error) => {
                let message = format!("moto does not answer: {error}");
                Err(Refusal::new(StatusCode::BAD_GATEWAY, "BadGateway", message))
            }
        }
    }

    /// One value of the account's EC2 in a region: what `element` holds in the answer to `action`.
    pub(super) async fn ec2_says(
        &self,
        account: &str,
        region: &str,
        action: &str,
        element: &str,
    ) -> Result<String, Refusal> {
        let key = key_of(account).ok_or_else(Refusal::internal)?;
        let signature = "0".repeat(64);
        let request = Request::post("/")
            .header(
                "authorization",
                format!("AWS4-HMAC-SHA256 Credential={key}/20260101/{region}/ec2/aws4_request, SignedHeaders=host, Signature={signature}"),
            )
            .header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
            .body(Body::from(format!("Action={action}&Version=2016-11-15")))
            .map_err(|_| Refusal::internal())?;
        let answer = self.answer(account, request).await?.into_body();
        let text = to_bytes(answer, ANSWER_MAX)
            .await
            .map_err(|_| Refusal::internal())?;
        let text = String::from_utf8_lossy(&text);
        let value = text
            .split_once(&format!("<{element}>"))
            .and_then(|(_, rest)| rest.split_once(&format!("</{element}>")));
        value
            .map(|(value, _)| value.to_owned())
            .ok_or_else(Refusal::internal)
    }
}

/// The interpreter that has moto, boto3 and the AWS CLI, and the latter beside it; or a line that says what to do.
pub fn python() -> anyhow::Result<PathBuf> {
    let version = REQUIREMENTS
        .lines()
        .find_map(|line| line.strip_prefix("moto[server]=="))
        .context("requirements.txt does not name moto")?;
    installed(&format!("moto-{version}"))
}

/// The interpreter in one of the folders of the cache that `tests/run` fills.
pub fn installed(folder: &str) -> anyhow::Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(base) => PathBuf::from(base),
        None => Path::new(&std::env::var_os("HOME").context("no HOME is set")?).join(".cache"),
    };
    let path = base.join("orglift/tools").join(folder);
    // Written last, once everything is there.
    if !path.join("complete").exists() {
        bail!("{folder} is not installed; tests/run installs it");
    }
    Ok(path.join("bin/python"))
}
