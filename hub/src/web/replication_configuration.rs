//! The replication configuration of a source server: how often it gets a checkpoint, how many of them stay, and how
//! much of the network it may use.

use std::collections::BTreeMap;

use askama::Template;
use axum::{
    Form,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use domain::{
    bandwidth::Bandwidth,
    ids::SourceServerId,
    replication_configuration::{CHECKPOINT_INTERVAL_S, CHECKPOINTS_KEPT, ReplicationConfiguration},
};

use super::{
    Web,
    form::{self, Control, Subject, Value},
    orders, scopes,
    server::Pair,
    visit::{Flash, PageError, Shell, Visit},
};
use crate::{
    clock::now_ms,
    entities::{source_server::Model, user::UserRole},
    language::filters,
    t,
};

mod bandwidth;

use bandwidth::DAYS;

#[derive(Debug, Template)]
#[template(path = "replication_configuration/page.html")]
pub struct ReplicationPage {
    shell: Shell,
    subject: Subject,
    title: &'static str,
    sentence: String,
    /// Where the template is from.
    place: String,
    template_bandwidth: Option<String>,
    has_errors: bool,
    controls: Vec<Control>,
    mbit_s: String,
    mbit_s_error: Option<String>,
    utc_offset: String,
    utc_offset_error: Option<String>,
    windows: Vec<WindowFields>,
    windows_error: Option<String>,
}

#[derive(Debug)]
struct WindowFields {
    /// `w0`, which the names of its fields begin with.
    name: String,
    title: String,
    days: Vec<DayBox>,
    from: String,
    until: String,
    mbit_s: String,
    error: Option<String>,
}

#[derive(Debug)]
struct DayBox {
    name: String,
    label: &'static str,
    checked: bool,
}

/// What the form sends, as it was typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    checkpoint_interval: String,
    checkpoints_kept: String,
    bandwidth: bandwidth::Given,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Errors {
    /// By the name of the field.
    fields: BTreeMap<&'static str, String>,
    bandwidth: Box<bandwidth::Errors>,
}

pub async fn page(visit: Visit, Path(id): Path<SourceServerId>) -> Result<Response, PageError> {
    let server = visit.session.server(&id, UserRole::Operator).await?;
    let given = Given::of(&server.replication_configuration());
    let page = of_server(&visit, &server, given, Errors::default()).await?;
    visit.answer(page.render())
}

pub async fn save(
    State(web): State<Web>,
    visit: Visit,
    Path(id): Path<SourceServerId>,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Response, PageError> {
    let server = visit.session.server(&id, UserRole::Operator).await?;
    let given = Given::of_form(fields);
    match given.parse() {
        Ok(configuration) => {
            let saved = orders::configure_replication(&web, &visit.session, &server, configuration).await;
            let flash = match saved {
                Ok(()) => Flash::good(t!(
                    "The replication configuration of {server} is saved.",
                    server = server.known_as()
                )),
                Err(refusal) => Flash::bad(refusal),
            };
            Ok(flash.show_at(&format!("/servers/{id}")))
        }
        Err(errors) => {
            let page = of_server(&visit, &server, given, errors).await?;
            let page = visit.answer(page.render())?;
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
    }
}

impl Given {
    pub fn of_form(fields: Vec<(String, String)>) -> Self {
        let mut given = Self::default();
        let mut rest = Vec::with_capacity(fields.len());
        for (name, value) in fields {
            match name.as_str() {
                "checkpoint_interval" => given.checkpoint_interval = value,
                "checkpoints_kept" => given.checkpoints_kept = value,
                _ => rest.push((name, value)),
            }
        }
        given.bandwidth = bandwidth::Given::of_form(rest);
        given
    }

    pub fn of(kept: &ReplicationConfiguration) -> Self {
        Self {
            checkpoint_interval: kept.checkpoint_interval_s.to_string(),
            checkpoints_kept: kept.checkpoints_kept.to_string(),
            bandwidth: bandwidth::Given::of(&kept.bandwidth),
        }
    }

    pub fn parse(&self) -> Result<ReplicationConfiguration, Errors> {
        let interval = self.checkpoint_interval.trim().parse().ok();
        let interval = interval.filter(|seconds| CHECKPOINT_INTERVAL_S.contains(seconds));
        let kept = self.checkpoints_kept.trim().parse().ok();
        let kept = kept.filter(|kept| CHECKPOINTS_KEPT.contains(kept));
        match (interval, kept, self.bandwidth.parse()) {
            (Some(checkpoint_interval_s), Some(checkpoints_kept), Ok(bandwidth)) => {
                Ok(ReplicationConfiguration {
                    bandwidth,
                    checkpoint_interval_s,
                    checkpoints_kept,
                })
            }
            (interval, kept, bandwidth) => {
                let mut fields = BTreeMap::new();
                if interval.is_none() {
                    fields.insert("checkpoint_interval", t!("Give 1 to 86400 seconds.").to_owned());
                }
                if kept.is_none() {
                    fields.insert("checkpoints_kept", t!("Give a number from 1 to 100.").to_owned());
                }
                let bandwidth = Box::new(bandwidth.err().unwrap_or_default());
                Err(Errors { fields, bandwidth })
            }
        }
    }
}

fn controls(given: &Given, errors: &Errors) -> Vec<Control> {
    let control = |name, label, hint, value: &str| Control {
        required: true,
        error: errors.fields.get(name).cloned(),
        ..Control::new(name, label, hint, Value::Text(value.into()))
    };
    vec![
        control(
            "checkpoint_interval",
            t!("Seconds between checkpoints"),
            t!("How old what is launched can be, without asking for a fresh checkpoint."),
            &given.checkpoint_interval,
        ),
        control(
            "checkpoints_kept",
            t!("Checkpoints kept"),
            t!("1 to 100. Each costs what was written since the one before; jobs keep those that they use."),
            &given.checkpoints_kept,
        ),
    ]
}

async fn of_server(
    visit: &Visit,
    server: &Model,
    given: Given,
    errors: Errors,
) -> Result<ReplicationPage, PageError> {
    let store = &visit.session.store;
    let template = store.inherited_by(&server.account).await?;
    let mut place = None;
    if let Some((scope, _)) = &template.replication {
        place = Some(scopes::place(store, scope).await?);
    }
    let subject = Subject::server(server, "replication-configuration", place);
    let mut page = ReplicationPage::new(visit, subject, given, errors);
    if let Some((_, template)) = &template.replication {
        form::compare(
            &mut page.controls,
            &controls(&Given::of(template), &Errors::default()),
        );
        page.template_bandwidth =
            (template.bandwidth != server.bandwidth.0).then(|| plan(&template.bandwidth));
    }
    Ok(page)
}

/// The form of a template.
pub fn of_template(visit: &Visit, subject: Subject, given: Given, errors: Errors) -> ReplicationPage {
    ReplicationPage::new(visit, subject, given, errors)
}

impl ReplicationPage {
    fn new(visit: &Visit, subject: Subject, given: Given, mut errors: Errors) -> Self {
        let name = &subject.name;
        let (title, sentence) = if subject.is_template {
            let sentence = t!(
                "How servers of {name} are replicated, if they are added from now on. Those that are there stay as they are until the template is applied to them.",
                name
            );
            (t!("Replication template"), sentence)
        } else {
            let sentence = t!(
                "How {name} is replicated. A change holds within seconds, without interrupting anything.",
                name
            );
            (t!("Replication configuration"), sentence)
        };
        let has_errors = errors != Errors::default();
        let controls = controls(&given, &errors);
        let given = given.bandwidth.with_spare_rows();
        let window = |(number, row): (usize, bandwidth::Row)| {
            let name = format!("w{number}");
            let day = |(day, label): (usize, &'static str)| DayBox {
                name: format!("{name}_day{day}"),
                label,
                checked: row.days[day],
            };
            WindowFields {
                title: t!("Window {row}", row = number + 1),
                days: DAYS.into_iter().enumerate().map(day).collect(),
                error: errors.bandwidth.rows.remove(&number),
                name,
                from: row.from,
                until: row.until,
                mbit_s: row.mbit_s,
            }
        };
        Self {
            shell: subject.shell(visit, format!("{title}: {}", subject.name)),
            place: subject.template.clone().unwrap_or_default(),
            title,
            sentence,
            subject,
            template_bandwidth: None,
            has_errors,
            controls,
            windows: given.rows.into_iter().enumerate().map(window).collect(),
            mbit_s: given.mbit_s,
            mbit_s_error: errors.bandwidth.mbit_s,
            utc_offset: given.utc_offset,
            utc_offset_error: errors.bandwidth.utc_offset,
            windows_error: errors.bandwidth.windows,
        }
    }
}

/// What would change if a server of `from` took over `to`.
pub fn differences(from: &ReplicationConfiguration, to: &ReplicationConfiguration) -> Vec<String> {
    let controls = |kept| controls(&Given::of(kept), &Errors::default());
    let mut differing = form::differences(&controls(from), &controls(to));
    if from.bandwidth != to.bandwidth {
        let (from, to) = (plan(&from.bandwidth), plan(&to.bandwidth));
        differing.push(t!("Bandwidth: {from} → {to}", from, to));
    }
    differing
}

/// In one line.
fn plan(bandwidth: &Bandwidth) -> String {
    let pairs = bandwidth_in_words(bandwidth, now_ms()).into_iter().skip(1);
    let rest: Vec<_> = pairs
        .map(|pair| format!("{}: {}", pair.label, pair.value))
        .collect();
    if rest.is_empty() {
        return limit(bandwidth.mbit_s);
    }
    rest.join("; ")
}

fn limit(mbit_s: Option<u32>) -> String {
    mbit_s.map_or_else(|| t!("no limit").into(), |limit| format!("{limit} Mbit/s"))
}

/// What holds now, and what holds when.
pub fn bandwidth_in_words(bandwidth: &Bandwidth, now: i64) -> Vec<Pair> {
    let pair = |label, value| Pair { label, value };
    let mut pairs = vec![pair(t!("Bandwidth now"), limit(bandwidth.at(now)))];
    if bandwidth.windows.is_empty() {
        return pairs;
    }
    for row in bandwidth::Given::of(bandwidth).rows {
        let mbit_s = row.mbit_s.parse().ok();
        pairs.push(pair(t!("Window"), format!("{}, {}", row.when(), limit(mbit_s))));
    }
    pairs.push(pair(t!("Else"), limit(bandwidth.mbit_s)));
    pairs.push(pair(
        t!("Times are"),
        format!("UTC{}", bandwidth::offset_text(bandwidth.utc_offset_min)),
    ));
    pairs
}
