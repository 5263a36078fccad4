//! How somebody is told of what happened: as an event of EventBridge's shape, or as a sentence, to a chat or by mail.

mod mail;

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
    store::StoreError,
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
    #[error("mail needs a relay: name it under [smtp] in hub.toml, and start the hub again")]
    NoRelay,
    #[error(transparent)]
    Mail(#[from] mail::MailError),
    #[error(transparent)]
    Store(#[from] StoreError),
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

/// Where a target is, and what of it people may see.
pub(crate) struct Address {
    pub(crate) whole: String,
    pub(crate) shown: String,
}

impl Address {
    pub(crate) fn parse(form: NoticeForm, text: &str) -> Result<Self, String> {
        if form == NoticeForm::Mail {
            let address: lettre::Address = text
                .trim()
                .parse()
                .map_err(|_| "an address of mail is written NAME@HOST".to_owned())?;
            let whole = address.to_string();
            return Ok(Self {
                shown: whole.clone(),
                whole,
            });
        }
        let url = webhook(text)?;
        Ok(Self {
            shown: url.host_str().unwrap_or_default().to_owned(),
            whole: url.into(),
        })
    }
}

/// An address that something can be sent to: `https`, or `http` on this very machine.
fn webhook(text: &str) -> Result<Url, String> {
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
fn event(notice: &notice::Model, region: &str) -> Value {
    let mut detail = json!({ "state": notice.state });
    if let Some(job) = &notice.job {
        detail["job-id"] = json!(job);
    }
    json!({
        "version": "0",
        "id": event_id(notice),
        "detail-type": notice.kind.detail_type(),
        // AWS lets nobody else say aws.mgn.
        "source": "orglift",
        "account": notice.account,
        "time": time(notice),
        "region": region,
        "resources": [format!("arn:aws:mgn:{region}:{}:source-server/{}", notice.account, notice.server)],
        "detail": detail,
    })
}

/// The same each time it is told.
fn event_id(notice: &notice::Model) -> String {
    format!("{}-{}", notice.server, notice.sequence)
}

fn time(notice: &notice::Model) -> String {
    let at = chrono::DateTime::from_timestamp_millis(notice.at).unwrap_or_default();
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

/// For people. What servers are called is their own word: it gets no line to itself.
fn sentence(notice: &notice::Model, server: Option<&source_server::Model>) -> String {
    let name = server.map_or_else(
        || notice.server.to_string(),
        |server| server.known_as().replace(char::is_control, " "),
    );
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
    format!("{name} in account {}: {what}", notice.account)
}

/// As Slack and what is compatible with it take it. Its `&`, `<` and `>` would be commands.
fn slack(sentence: &str) -> Value {
    let text = sentence
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    json!({ "text": text })
}

impl Hub {
    /// Tells the target of it, and waits for its word that it has heard.
    pub async fn tell(&self, target: &Target, notice: &notice::Model) -> Result<(), Untold> {
        let open = |what: &str, sealed: &str| self.pki.seal.open(&place(&target.id, what), sealed);
        let address = String::from_utf8_lossy(&open("address", &target.address)?).into_owned();
        if target.form.0 == NoticeForm::Event {
            let account = self.store.account(&notice.account).await?;
            let secret = open("secret", &target.secret)?;
            return self
                .post(address, &event(notice, &account.region), Some(&secret))
                .await;
        }
        let server = self.store.server(&notice.server).await;
        let sentence = sentence(notice, server.ok().as_ref());
        if target.form.0 == NoticeForm::Slack {
            return self.post(address, &slack(&sentence), None).await;
        }
        let relay = self.settings.smtp.as_ref().ok_or(Untold::NoRelay)?;
        let text = format!(
            "{sentence}.\n\nServer: {}\nAccount: {}\nTime: {}\n",
            notice.server,
            notice.account,
            time(notice)
        );
        let id = event_id(notice);
        Ok(mail::send(relay, &address, &id, &sentence, text).await?)
    }

    async fn post(&self, address: String, body: &Value, secret: Option<&[u8]>) -> Result<(), Untold> {
        let body = body.to_string();
        let mut request = self
            .notifier
            .post(address)
            .timeout(PATIENCE)
            .header("content-type", "application/json");
        if let Some(secret) = secret {
            request = request.header(SIGNATURE, signature(secret, body.as_bytes()));
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
