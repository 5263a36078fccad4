//! The audit log: what was done in accounts in sight, and all of it for who sees everything.

use crate::{language::filters, t};
use askama::Template;
use axum::{
    body::Body,
    extract::{Query, State},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use chrono::{Days, NaiveDate};
use futures_util::stream;
use serde::Deserialize;

use super::{
    Web,
    text::{self, Moment},
    visit::{PageError, Part, Section, Shell, Visit, encode},
};
use crate::{
    actions::audit::export_audit,
    audit::{self, export::Format},
    entities::audit::{Model, Outcome},
    store::{Seen, StoreError, audit::AuditSearch},
};

const PAGE_LEN: u64 = 100;

#[derive(Debug, Template)]
#[template(path = "audit/page.html", blocks = ["live"])]
struct AuditPage {
    shell: Shell,
    asked: Asked,
    rows: Vec<Row>,
    /// Older entries.
    older: Option<String>,
    /// Whether these are not the newest.
    is_later_page: bool,
    exports: [(&'static str, String); 2],
}

#[derive(Debug)]
struct Row {
    sequence: i64,
    at: Moment,
    actor: String,
    address: String,
    action: String,
    subject: String,
    href: Option<String>,
    refused: bool,
    detail: String,
    hash: String,
}

/// What a visitor searches for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Asked {
    q: String,
    actor: String,
    outcome: String,
    /// Days, `2026-11-23`, both included.
    from: String,
    until: String,
    before: Option<i64>,
}

impl Asked {
    fn search(&self) -> Result<AuditSearch, PageError> {
        Ok(AuditSearch {
            text: self.q.chars().take(200).collect(),
            actor: self.actor.clone(),
            refused: self.outcome == Outcome::Refused.name(),
            from: day(&self.from)?.map(midnight),
            until: day(&self.until)?
                .and_then(|day| day.checked_add_days(Days::new(1)))
                .map(midnight),
        })
    }

    fn address(&self, path: &str, more: &str) -> String {
        let named = [
            ("q", &self.q),
            ("actor", &self.actor),
            ("outcome", &self.outcome),
            ("from", &self.from),
            ("until", &self.until),
        ];
        let given = named.iter().filter(|(_, value)| !value.is_empty());
        let mut pairs: Vec<_> = given
            .map(|(name, value)| format!("{name}={}", encode(value)))
            .collect();
        pairs.push(more.to_owned());
        format!("{path}?{}", pairs.join("&"))
    }
}

fn day(text: &str) -> Result<Option<NaiveDate>, PageError> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse() {
        Ok(day) => Ok(Some(day)),
        Err(_) => Err(PageError::Invalid(t!(
            "“{text}” is not a day: write it as 2026-11-23.",
            text = text.chars().take(40).collect::<String>()
        ))),
    }
}

fn midnight(day: NaiveDate) -> i64 {
    day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis()
}

pub async fn page(visit: Visit, Query(asked): Query<Asked>) -> Result<Response, PageError> {
    let store = &visit.session.store;
    let mut found = store
        .audit_search(&asked.search()?, asked.before, PAGE_LEN + 1)
        .await?;
    let has_more = found.len() as u64 > PAGE_LEN;
    found.truncate(usize::try_from(PAGE_LEN).unwrap_or(usize::MAX));
    let older = found
        .last()
        .filter(|_| has_more)
        .map(|last| asked.address("/audit", &format!("before={}", last.sequence)));
    let export = |format: &str| asked.address("/audit/export", &format!("format={format}"));
    let page = AuditPage {
        shell: visit.shell(t!("Audit log"), Section::Audit, "/events"),
        rows: found.into_iter().map(Row::from).collect(),
        older,
        is_later_page: asked.before.is_some(),
        exports: [("CSV", export("csv")), ("JSON", export("jsonl"))],
        asked,
    };
    visit.answer(match visit.part {
        Part::Live => page.as_live().render(),
        _ => page.render(),
    })
}

impl From<Model> for Row {
    fn from(entry: Model) -> Self {
        let href = match entry.subject.split_once('-') {
            Some(("s", _)) => Some(format!("/servers/{}", entry.subject)),
            Some(("mgnjob", _)) => Some(format!("/jobs/{}", entry.subject)),
            None if entry.subject.len() == 12 && entry.subject.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(format!("/accounts/{}", entry.subject))
            }
            _ => None,
        };
        Self {
            sequence: entry.sequence,
            at: text::moment(entry.at),
            actor: entry.actor,
            address: entry.address,
            action: entry.action,
            href,
            subject: entry.subject,
            refused: *entry.outcome == Outcome::Refused,
            detail: entry.detail,
            hash: entry.hash,
        }
    }
}

#[derive(Debug, Deserialize)]
pub struct ExportAsked {
    format: Format,
    #[serde(flatten)]
    asked: Asked,
}

/// All that was found, oldest first, as it is read: however long, it never lies in memory as a whole.
pub async fn export(
    State(web): State<Web>,
    visit: Visit,
    Query(query): Query<ExportAsked>,
) -> Result<Response, PageError> {
    let ExportAsked { format, asked } = query;
    let search = asked.search()?;
    export_audit(&web.hub, &visit.session.actor, format).await?;
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static(format.media_type()),
        ),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::try_from(format!(
                "attachment; filename=\"orglift-audit.{}\"",
                format.extension()
            ))
            .expect("names of files are plain"),
        ),
    ];
    let pages = stream::try_unfold((visit.session.store, Some(0)), move |(store, after)| {
        let search = search.clone();
        async move {
            let Some(after) = after else { return Ok(None) };
            let (text, next) = lines(&store, &search, after, format).await?;
            Ok::<_, StoreError>(Some((text, (store, next))))
        }
    });
    let head = stream::once(async move { Ok(format.head()) });
    let body = Body::from_stream(futures_util::StreamExt::chain(head, pages));
    Ok((headers, body).into_response())
}

/// The next entries, and after which to go on, if at all.
async fn lines(
    store: &Seen,
    search: &AuditSearch,
    after: i64,
    format: Format,
) -> Result<(String, Option<i64>), StoreError> {
    let entries = store.audit_after(search, after, audit::PAGE).await?;
    let text = entries.iter().map(|entry| format.line(entry)).collect();
    Ok((text, entries.last().map(|last| last.sequence)))
}
