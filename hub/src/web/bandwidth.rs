//! The bandwidth of a source server: a limit, and windows of the week in which another one holds.

use crate::{language::filters, t};
use askama::Template;
use axum::{
    Form,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use domain::{bandwidth::Bandwidth, ids::SourceServerId};

use super::{
    Web, orders,
    server::Pair,
    visit::{Flash, PageError, Section, Shell, Visit},
};
use crate::entities::{source_server::Model, user::UserRole};

mod plan;

use plan::{DAYS, Errors, Given};

#[derive(Debug, Template)]
#[template(path = "bandwidth/page.html")]
struct BandwidthPage {
    shell: Shell,
    id: String,
    name: String,
    has_errors: bool,
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

pub async fn page(visit: Visit, Path(id): Path<SourceServerId>) -> Result<Response, PageError> {
    let server = visit.session.server(&id, UserRole::Operator).await?;
    let given = Given::of(&server.bandwidth);
    visit.answer(form(&visit, &server, given, Errors::default()).render())
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
        Ok(bandwidth) => {
            let saved = orders::limit_bandwidth(&web, &visit.session, &server, bandwidth).await;
            let flash = match saved {
                Ok(()) => Flash::good(t!(
                    "The bandwidth of {server} is saved.",
                    server = server.known_as()
                )),
                Err(refusal) => Flash::bad(refusal),
            };
            Ok(flash.show_at(&format!("/servers/{id}")))
        }
        Err(errors) => {
            let page = visit.answer(form(&visit, &server, given, errors).render())?;
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
    }
}

fn form(visit: &Visit, server: &Model, given: Given, mut errors: Errors) -> BandwidthPage {
    let has_errors = errors != Errors::default();
    let given = given.with_spare_rows();
    let window = |(number, row): (usize, plan::Row)| {
        let name = format!("w{number}");
        let day = |(day, label): (usize, &'static str)| DayBox {
            name: format!("{name}_day{day}"),
            label,
            checked: row.days[day],
        };
        WindowFields {
            title: t!("Window {row}", row = number + 1),
            days: DAYS.into_iter().enumerate().map(day).collect(),
            error: errors.rows.remove(&number),
            name,
            from: row.from,
            until: row.until,
            mbit_s: row.mbit_s,
        }
    };
    BandwidthPage {
        shell: visit.shell(
            t!("Bandwidth of {server}", server = server.known_as()),
            Section::Servers,
            format!("/events?server={}", server.id),
        ),
        id: server.id.to_string(),
        name: server.known_as().to_owned(),
        has_errors,
        windows: given.rows.into_iter().enumerate().map(window).collect(),
        mbit_s: given.mbit_s,
        mbit_s_error: errors.mbit_s,
        utc_offset: given.utc_offset,
        utc_offset_error: errors.utc_offset,
        windows_error: errors.windows,
    }
}

/// For the page of the server: what holds now, and what holds when.
pub fn in_words(bandwidth: &Bandwidth, now: i64) -> Vec<Pair> {
    let limit =
        |mbit_s: Option<u32>| mbit_s.map_or_else(|| t!("no limit").into(), |limit| format!("{limit} Mbit/s"));
    let pair = |label, value| Pair { label, value };
    let mut pairs = vec![pair(t!("Now"), limit(bandwidth.at(now)))];
    if bandwidth.windows.is_empty() {
        return pairs;
    }
    for row in Given::of(bandwidth).rows {
        let mbit_s = row.mbit_s.parse().ok();
        pairs.push(pair(t!("Window"), format!("{}, {}", row.when(), limit(mbit_s))));
    }
    pairs.push(pair(t!("Else"), limit(bandwidth.mbit_s)));
    pairs.push(pair(
        t!("Times are"),
        format!("UTC{}", plan::offset_text(bandwidth.utc_offset_min)),
    ));
    pairs
}
