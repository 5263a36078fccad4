//! Enrolment by identity: a runner proves the AWS role of its instance in place of a token.
//!
//! ```text
//! signed for this hub, this key, just now? ─▶ an endpoint of STS? ─▶ STS: who signed? ─▶ account and role ours? ─▶ sign
//! ```
//!
//! The runner never shows its credentials: it shows a request that they signed (decision 0012). Nothing of it decides
//! whom the hub calls, or what it asks there.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use axum::http::StatusCode;
use chrono::NaiveDateTime;
use cloud::{
    CloudError,
    caller::{Bound, CONTENT_TYPE, Caller, HUB_HEADER, KEY_HEADER, SignedCall, endpoint},
};
use domain::{digest::Digest, ids::RunnerId};
use protocol::enrol::{Applicant, EnrolledRunner, IdentityEnrolment};
use tokio::sync::Semaphore;

use super::{
    ArrivedAt, Refusal,
    enrol::{certify, unreadable},
};
use crate::{
    Hub,
    clock::now_ms,
    entities::{account, runner},
    secrets::sha256_hex,
    web::throttle::Throttle,
};

/// A clock may be wrong by as much. STS itself takes a signature for a quarter of an hour.
const WINDOW_MS: i64 = 5 * 60_000;
/// A session token has up to 4 KiB; AWS promises no bound.
const HEADER_MAX: usize = 8 << 10;
/// Asked of STS at a time: whoever floods us must not make us flood others.
const AT_ONCE: usize = 4;
/// Proofs within the window that are remembered.
const REMEMBERED: usize = 10_000;

const DATE: &str = "x-amz-date";
const AUTHORIZATION: &str = "authorization";
const ALLOWED: [&str; 6] = [
    AUTHORIZATION,
    "content-type",
    DATE,
    "x-amz-security-token",
    HUB_HEADER,
    KEY_HEADER,
];
const SIGNED: [&str; 5] = ["content-type", "host", DATE, HUB_HEADER, KEY_HEADER];

/// What has to be remembered of proofs.
#[derive(Debug)]
pub struct Proofs {
    turns: Semaphore,
    throttle: Throttle,
    /// SHA-256 of each signature, and when it was made.
    shown: Mutex<HashMap<String, i64>>,
}

impl Default for Proofs {
    fn default() -> Self {
        Self {
            turns: Semaphore::new(AT_ONCE),
            throttle: Throttle::default(),
            shown: Mutex::default(),
        }
    }
}

impl Proofs {
    /// Whether a proof is shown for the first time.
    fn is_new(&self, signature: &str, signed_at: i64, now: i64) -> bool {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.retain(|_, at| *at + 2 * WINDOW_MS > now);
        shown.len() < REMEMBERED
            && shown
                .insert(sha256_hex(signature.as_bytes()), signed_at)
                .is_none()
    }
}

pub async fn runner(
    hub: &Hub,
    at: Option<ArrivedAt>,
    request: IdentityEnrolment,
) -> Result<EnrolledRunner, Refusal> {
    let applicant = request.applicant;
    let call = SignedCall {
        host: request.host,
        headers: request.headers,
    };
    let key = identity::authority::requested_key(&applicant.csr_pem).map_err(|error| unreadable(&error))?;
    let ca = hub.pki.ca_sha256().map_err(|error| unreadable(&error))?;
    let bound = Bound {
        hub: Digest(ca).to_string(),
        key: Digest(key).to_string(),
    };
    let now = now_ms();
    let signed = check(&call, &bound, now)
        .map_err(|why| Refusal::new(StatusCode::UNAUTHORIZED, "identity_invalid", why))?;
    let organizations = hub.store.organization_list().await?;
    let urls: Vec<_> = organizations
        .iter()
        .filter_map(|one| one.route.endpoints.url.clone())
        .collect();
    let url = endpoint(&call.host, &urls).ok_or_else(foreign_host)?;
    let proofs = &hub.proofs;
    let busy = || {
        let message = "too many runners prove their identity just now; ask again in a minute";
        Refusal::new(StatusCode::TOO_MANY_REQUESTS, "busy", message)
    };
    if proofs
        .throttle
        .closed_for(&signed.key_id, None, Instant::now())
        .is_some()
    {
        return Err(busy());
    }
    let _turn = proofs.turns.try_acquire().map_err(|_| busy())?;
    if !proofs.is_new(&signed.signature, signed.at, now) {
        let message = "the proof was shown before; sign a new one";
        return Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "identity_replayed",
            message,
        ));
    }
    let enrolled = match hub.cloud.caller(&url, &call).await {
        Ok(caller) => enrol(hub, &caller, &call.host, &applicant, at).await,
        Err(error) => Err(unproved(&error)),
    };
    if enrolled.is_err() {
        proofs.throttle.failed(&signed.key_id, None, Instant::now());
    }
    enrolled
}

fn foreign_host() -> Refusal {
    let message = "the proof is for a host that is no endpoint of STS: use the public one of the region, or set the endpoint \
                   URL of the organization";
    Refusal::new(StatusCode::UNAUTHORIZED, "identity_host", message)
}

async fn enrol(
    hub: &Hub,
    caller: &Caller,
    host: &str,
    applicant: &Applicant,
    at: Option<ArrivedAt>,
) -> Result<EnrolledRunner, Refusal> {
    let refuse = |code, message| Err(Refusal::new(StatusCode::FORBIDDEN, code, message));
    let accounts = hub.store.account_list().await?;
    let Some(account) = accounts.into_iter().find(|one| one.id.0 == caller.account) else {
        tracing::warn!(account = %caller.account, role = %caller.role, session = %caller.session, "a runner of a foreign account is refused");
        let message = format!(
            "account {} is not one of those that this hub manages: add it to its organization or roster first",
            caller.account
        );
        return refuse("identity_account", message);
    };
    let route = hub.store.organization(&account.organization).await?.route.0;
    // What another organization has in the place of STS says nothing of this one's accounts.
    if endpoint(host, route.endpoints.url.as_slice()).is_none() {
        return Err(foreign_host());
    }
    if account.suspended || route.denied.contains(&account.id.0) {
        let message = format!(
            "account {} is suspended, or on the deny-list of its organization",
            account.id
        );
        return refuse("identity_account", message);
    }
    let role = route.runner_role(&account.region);
    if caller.role != role {
        tracing::warn!(account = %account.id, role = %caller.role, session = %caller.session, "a runner of a foreign role is refused");
        let message = format!(
            "the runner of account {} has the role {role}, and this is {}: launch it by the onboarding template, or set \
             the runner's role of the organization",
            account.id, caller.role
        );
        return refuse("identity_role", message);
    }
    let runners = hub.store.runner_list().await?;
    let again = predecessor(&account, &runners, &applicant.address);
    let mut tx = hub.store.begin().await?;
    let who = format!("{}/{}", caller.role, caller.session);
    let enrolled = certify(hub, &mut tx, &account, again, applicant, at).await?;
    tx.audit_done(who.as_str(), "enrol runner", enrolled.runner.as_str(), "")
        .await?;
    tx.commit().await?;
    tracing::info!(runner.id = %enrolled.runner, account = %account.id, by = %who, "runner {} enrolled by its identity", enrolled.runner);
    Ok(enrolled)
}

/// The runner that this one comes in place of: the only one of its account and region, or the one at its address.
fn predecessor(account: &account::Model, runners: &[runner::Model], address: &str) -> Option<RunnerId> {
    let mut here = runners
        .iter()
        .filter(|one| one.account == account.id && one.region == account.region);
    let found = match (here.clone().next(), here.clone().nth(1)) {
        (only, None) => only,
        _ => here.find(|one| one.address == address),
    };
    found.map(|one| one.id.0.clone())
}

fn unproved(error: &CloudError) -> Refusal {
    tracing::warn!(%error, "a proof of identity is refused");
    if error.is_transient() {
        let message = "STS does not answer the hub just now; ask again in a minute";
        return Refusal::new(StatusCode::BAD_GATEWAY, "identity_unknown", message);
    }
    let message = format!("STS does not confirm the identity: {error}");
    Refusal::new(StatusCode::UNAUTHORIZED, "identity_refused", message)
}

/// What a proof that passed says of itself.
#[derive(Debug, PartialEq, Eq)]
struct Signed {
    key_id: String,
    signature: String,
    at: i64,
}

/// Whether the call was signed for this hub and this key, just now, and says nothing else.
fn check(call: &SignedCall, bound: &Bound, now: i64) -> Result<Signed, &'static str> {
    for (name, value) in &call.headers {
        if !ALLOWED.contains(&name.as_str()) {
            return Err("the proof has headers that do not belong to it");
        }
        if value.len() > HEADER_MAX || !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err("a header of the proof is too long, or not text");
        }
    }
    let header = |name: &str| call.headers.get(name).map(String::as_str);
    if header("content-type") != Some(CONTENT_TYPE) {
        return Err("the proof is not for the request that the hub sends");
    }
    if header(HUB_HEADER) != Some(&bound.hub) {
        return Err("the proof is for another hub: give the runner the fingerprint of this hub's authority");
    }
    if header(KEY_HEADER) != Some(&bound.key) {
        return Err("the proof is for another key than the one to be certified");
    }
    let date = header(DATE).unwrap_or_default();
    let at = NaiveDateTime::parse_from_str(date, "%Y%m%dT%H%M%SZ")
        .map_err(|_| "the proof does not say when it was signed")?
        .and_utc()
        .timestamp_millis();
    if (now - at).abs() > WINDOW_MS {
        return Err("the proof is too old, or the clocks of runner and hub differ by more than five minutes");
    }
    let signature = header(AUTHORIZATION).and_then(|text| Authorization::read(text, date));
    let signature = signature.ok_or("the proof is not signed as STS wants it")?;
    if !SIGNED
        .iter()
        .all(|name| signature.headers.iter().any(|signed| signed == name))
    {
        return Err("the signature of the proof leaves out what binds it");
    }
    Ok(Signed {
        key_id: signature.key_id.to_owned(),
        signature: signature.signature.to_owned(),
        at,
    })
}

struct Authorization<'a> {
    key_id: &'a str,
    headers: Vec<&'a str>,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    /// `AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/sts/aws4_request, SignedHeaders=a;b, Signature=HEX`
    fn read(text: &'a str, date: &str) -> Option<Self> {
        let fields: Vec<_> = text
            .strip_prefix("AWS4-HMAC-SHA256 ")?
            .split(',')
            .map(str::trim)
            .collect();
        let [credential, headers, signature] = fields[..] else {
            return None;
        };
        let scope: Vec<_> = credential.strip_prefix("Credential=")?.split('/').collect();
        let [key_id, day, _, "sts", "aws4_request"] = scope[..] else {
            return None;
        };
        let signature = signature.strip_prefix("Signature=")?;
        let is_hex = signature.len() == 64 && signature.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_hex && date.starts_with(day) && day.len() == 8).then_some(())?;
        Some(Self {
            key_id,
            headers: headers.strip_prefix("SignedHeaders=")?.split(';').collect(),
            signature,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// 2026-01-02T03:04:05Z.
    const AT: i64 = 1_767_323_045_000;

    fn bound() -> Bound {
        Bound {
            hub: "aa".repeat(32),
            key: "bb".repeat(32),
        }
    }

    fn signed() -> SignedCall {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=ASIAEXAMPLE/20260102/eu-central-1/sts/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-orglift-hub;x-orglift-key, Signature={}",
            "0f".repeat(32)
        );
        let headers = [
            (AUTHORIZATION, authorization),
            ("content-type", CONTENT_TYPE.to_owned()),
            (DATE, "20260102T030405Z".to_owned()),
            ("x-amz-security-token", "token".to_owned()),
            (HUB_HEADER, bound().hub),
            (KEY_HEADER, bound().key),
        ];
        SignedCall {
            host: "sts.eu-central-1.amazonaws.com".into(),
            headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
        }
    }

    fn with(change: impl FnOnce(&mut BTreeMap<String, String>)) -> Result<Signed, &'static str> {
        let mut call = signed();
        change(&mut call.headers);
        check(&call, &bound(), AT)
    }

    #[test]
    fn a_proof_for_this_hub_and_this_key_passes_for_five_minutes() {
        let passed = check(&signed(), &bound(), AT).unwrap();
        assert_eq!((passed.key_id.as_str(), passed.at), ("ASIAEXAMPLE", AT));
        for now in [AT - WINDOW_MS, AT + WINDOW_MS] {
            assert!(check(&signed(), &bound(), now).is_ok());
        }
        for now in [AT - WINDOW_MS - 1, AT + WINDOW_MS + 1] {
            assert!(check(&signed(), &bound(), now).unwrap_err().contains("too old"));
        }
    }

    #[test]
    fn altered_headers_are_refused() {
        let set = |name: &str, value: String| with(|headers| drop(headers.insert(name.into(), value)));
        let without = |name: &str| with(|headers| drop(headers.remove(name)));
        let reauthorized = |from: &str, to: &str| {
            with(|headers| {
                let text = headers.get_mut(AUTHORIZATION).unwrap();
                assert!(text.contains(from), "{text}");
                *text = text.replace(from, to);
            })
        };
        assert!(
            set(HUB_HEADER, "cc".repeat(32))
                .unwrap_err()
                .contains("another hub")
        );
        assert!(
            set(KEY_HEADER, "cc".repeat(32))
                .unwrap_err()
                .contains("another key")
        );
        for name in [HUB_HEADER, KEY_HEADER, DATE, AUTHORIZATION, "content-type"] {
            assert!(without(name).is_err(), "{name}");
        }
        for name in SIGNED {
            let listed = format!("{name};");
            let refused = match name {
                KEY_HEADER => reauthorized(";x-orglift-key", ""),
                _ => reauthorized(&listed, ""),
            };
            assert!(refused.unwrap_err().contains("leaves out"), "{name}");
        }
        for (from, to) in [
            ("/sts/", "/ec2/"),
            ("20260102/", "20260101/"),
            ("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
            ("Signature=0f", "Signature=0g"),
            ("Signature=0f", "Signature="),
        ] {
            assert!(
                reauthorized(from, to).unwrap_err().contains("not signed"),
                "{from}"
            );
        }
        for name in ["host", "x-amz-target", "transfer-encoding", "cookie"] {
            assert!(
                set(name, "x".into()).unwrap_err().contains("do not belong"),
                "{name}"
            );
        }
        for value in ["a".repeat(HEADER_MAX + 1), "a\r\nhost: evil".into(), "ä".into()] {
            assert!(
                set("x-amz-security-token", value)
                    .unwrap_err()
                    .contains("too long")
            );
        }
    }

    #[test]
    fn a_proof_is_shown_once() {
        let proofs = Proofs::default();
        assert!(proofs.is_new("one", AT, AT));
        assert!(!proofs.is_new("one", AT, AT + 1));
        assert!(proofs.is_new("two", AT, AT + 1));
        for n in 0..REMEMBERED {
            proofs.is_new(&n.to_string(), AT, AT + 1);
        }
        assert!(!proofs.is_new("one too many", AT, AT + 1));
        assert!(proofs.is_new("later", AT + 2 * WINDOW_MS, AT + 2 * WINDOW_MS));
    }
}
