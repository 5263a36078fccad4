//! How somebody is told of what happened: as an event of EventBridge's shape, or as a sentence.

use std::time::Duration;

use aws_lc_rs::hmac;
use openidconnect::url::{Host, Url};
use serde_json::{Value, json};

use crate::{
    Hub,
    entities::{
        notice::{self, NoticeKind},
        notice_target::{Model as Target, NoticeForm},
        source_server,
    },
};

/// A receiver that takes longer is asked again later.
const PATIENCE: Duration = Duration::from_secs(10);

/// Carries `sha256=` and the HMAC-SHA-256 of the body, in hexadecimal.
const SIGNATURE: &str = "x-orglift-signature";

#[derive(Debug, thiserror::Error)]
pub enum Untold {
    #[error(
        "its address cannot be read with the key of this hub's authority; remove the target and add it again"
    )]
    Sealed(#[from] crate::seal::Unreadable),
    #[error("it answered {0}")]
    Status(reqwest::StatusCode),
    /// Without the address.
    #[error("{0}")]
    Http(String),
}

impl NoticeKind {
    /// MGN's detail type.
    pub fn detail_type(self) -> &'static str {
        match self {
            Self::LaunchResult => "MGN Source Server Launch Result",
            Self::LifeCycle => "MGN Source Server Lifecycle State Change",
            Self::Stalled => "MGN Source Server Data Replication Stalled Change",
        }
    }
}

/// An address that something can be sent to: `https`, or `http` on this very machine.
pub fn address(text: &str) -> Result<Url, String> {
    let url: Url = text
        .trim()
        .parse()
        .map_err(|_| "an address is written https://HOST/…".to_owned())?;
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err("the address names no host".into()),
    };
    if url.scheme() == "https" || url.scheme() == "http" && is_loopback {
        return Ok(url);
    }
    Err("what happens to servers is told over https only".into())
}

/// What seals a target's secrets in their place.
pub fn place(target: &str, what: &str) -> String {
    format!("notification target {target}: {what}")
}

/// An event as EventBridge has it, with MGN's detail.
pub fn event(notice: &notice::Model, region: &str) -> Value {
    let at = chrono::DateTime::from_timestamp_millis(notice.at).unwrap_or_default();
    let mut detail = json!({ "state": notice.state });
    if let Some(job) = &notice.job {
        detail["job-id"] = json!(job);
    }
    json!({
        "version": "0",
        "id": format!("{}-{}", notice.server, notice.sequence),
        "detail-type": notice.kind.detail_type(),
        // AWS lets nobody else say aws.mgn.
        "source": "orglift",
        "account": notice.account,
        "time": at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        "region": region,
        "resources": [format!("arn:aws:mgn:{region}:{}:source-server/{}", notice.account, notice.server)],
        "detail": detail,
    })
}

/// As Slack and what is compatible with it take it. Its `&`, `<` and `>` would be commands.
pub fn sentence(notice: &notice::Model, server: Option<&source_server::Model>) -> Value {
    let name = server.map_or_else(
        || notice.server.to_string(),
        |server| server.known_as().to_owned(),
    );
    let name = name
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let state = &notice.state;
    let what = match (*notice.kind, state.as_str()) {
        (NoticeKind::LaunchResult, state) => {
            let words = state.to_lowercase().replace('_', " ");
            let job = notice
                .job
                .as_ref()
                .map_or_else(String::new, |job| format!(" (job {job})"));
            format!("{words}{job}")
        }
        (NoticeKind::LifeCycle, state) => format!("is {state} now"),
        (NoticeKind::Stalled, "STALLED") => "does not replicate any more".into(),
        (NoticeKind::Stalled, _) => "replicates again".into(),
    };
    json!({ "text": format!("{name} in account {}: {what}", notice.account) })
}

impl Hub {
    /// Sends it, and waits for the receiver's word that it has it.
    pub async fn send_notice(&self, target: &Target, body: &Value) -> Result<(), Untold> {
        let open = |what: &str, sealed: &str| self.pki.seal.open(&place(&target.id, what), sealed);
        let address = String::from_utf8_lossy(&open("address", &target.address)?).into_owned();
        let secret = open("secret", &target.secret)?;
        let body = body.to_string();
        let mut request = self
            .notifier
            .post(address)
            .timeout(PATIENCE)
            .header("content-type", "application/json");
        if target.form.0 == NoticeForm::Event {
            request = request.header(SIGNATURE, signature(&secret, body.as_bytes()));
        }
        let answer = request
            .body(body)
            .send()
            .await
            .map_err(|error| Untold::Http(in_words(error)))?;
        if answer.status().is_success() {
            return Ok(());
        }
        Err(Untold::Status(answer.status()))
    }
}

fn signature(secret: &[u8], body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let digest = hmac::sign(&key, body);
    let hex: String = data_encoding::HEXLOWER.encode(digest.as_ref());
    format!("sha256={hex}")
}

/// All that the error says but the address.
fn in_words(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut words = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(inner) = source {
        words = format!("{words}: {inner}");
        source = inner.source();
    }
    words
}

/// Redirects would lead to where nobody agreed to.
pub fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client without settings of its own can be made")
}
