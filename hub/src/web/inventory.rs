//! Import and export: a file is handed in, looked at, and then carried out.

use askama::Template;
use axum::{
    extract::{Multipart, Path, Query, State},
    http::header,
    response::{IntoResponse, Redirect, Response},
};
use domain::ids::{AccountId, ImportId};
use serde::Deserialize;

use super::{
    Web,
    applications::accounts_to_choose,
    servers::Choice,
    text::{self, Moment},
    visit::{Flash, PageError, Section, Shell, Visit},
};
use crate::{
    actions::{ActionError, inventory},
    entities::{import, user::UserRole},
    import::{
        Fault,
        apply::{Count, Outcome},
        column::TEMPLATE,
        export,
    },
    language::filters,
    n, t,
};

/// Beside the file itself.
pub const BODY_MAX: usize = crate::import::encoding::BYTES_MAX + (64 << 10);

/// As many as somebody corrects in one go.
const FAULTS_SHOWN: usize = 200;

#[derive(Debug, Template)]
#[template(path = "inventory/page.html")]
struct InventoryPage {
    shell: Shell,
    may: bool,
    accounts: Vec<Choice>,
    error: Option<String>,
    imports: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    id: String,
    name: String,
    at: Moment,
    said: String,
}

pub async fn page(visit: Visit) -> Result<Response, PageError> {
    show(&visit, None).await
}

async fn show(visit: &Visit, error: Option<String>) -> Result<Response, PageError> {
    let imports = visit.session.store.imports_of(&visit.session.actor.name).await?;
    let page = InventoryPage {
        shell: visit.shell(t!("Import and export"), Section::Inventory, "/events"),
        may: visit.session.actor.role_somewhere() >= Some(UserRole::Operator),
        accounts: accounts_to_choose(visit, UserRole::Operator, "").await?,
        error,
        imports: imports
            .iter()
            .map(|import| Row {
                id: import.id.to_string(),
                name: import.name.clone(),
                at: text::moment(import.at),
                said: match &import.outcome.0 {
                    Some(outcome) => n!(
                        (outcome.rows - outcome.left_out) as u64,
                        "{n} row imported",
                        "{n} rows imported"
                    ),
                    None => t!("only looked at").into(),
                },
            })
            .collect(),
    };
    visit.answer(page.render())
}

pub async fn hand_in(
    State(web): State<Web>,
    visit: Visit,
    mut form: Multipart,
) -> Result<Response, PageError> {
    let (mut file, mut account) = (None, None);
    let unreadable = |_| PageError::Invalid(t!("The file did not arrive whole, or is too large.").into());
    while let Some(field) = form.next_field().await.map_err(unreadable)? {
        match field.name() {
            Some("file") => {
                let name = field.file_name().unwrap_or_default().to_owned();
                file = Some((name, field.bytes().await.map_err(unreadable)?));
            }
            Some("account") => account = field.text().await.map_err(unreadable)?.parse::<AccountId>().ok(),
            _ => {}
        }
    }
    let Some((name, bytes)) = file.filter(|(_, bytes)| !bytes.is_empty()) else {
        return show(&visit, Some(t!("Choose a file.").into())).await;
    };
    match inventory::hand_in(&web.hub, &visit.session.actor, &name, &bytes, account).await {
        Ok(id) => Ok(Redirect::to(&format!("/inventory/imports/{id}")).into_response()),
        Err(ActionError::Invalid(why)) => show(&visit, Some(why)).await,
        Err(error) => Err(error.into()),
    }
}

#[derive(Debug, Template)]
#[template(path = "inventory/import.html")]
struct ImportPage {
    shell: Shell,
    id: String,
    name: String,
    at: Moment,
    done: bool,
    summary: Vec<(&'static str, String, String)>,
    rows: String,
    left_out: Option<String>,
    faults: Vec<Fault>,
    more_faults: usize,
    can_import: bool,
}

pub async fn one(
    State(web): State<Web>,
    visit: Visit,
    Path(id): Path<ImportId>,
) -> Result<Response, PageError> {
    let handed_in = visit.session.store.import(&id, &visit.session.actor.name).await?;
    let (outcome, done) = match &handed_in.outcome.0 {
        Some(outcome) => (outcome.clone(), true),
        None => (look(&web, &visit, &handed_in).await?, false),
    };
    let page = import_page(&visit, &handed_in, outcome, done);
    visit.answer(page.render())
}

async fn look(web: &Web, visit: &Visit, handed_in: &import::Model) -> Result<Outcome, PageError> {
    let usual = handed_in.account.as_ref().map(|account| &account.0);
    Ok(inventory::import(&web.hub, &visit.session.actor, &handed_in.contents, usual, true).await?)
}

fn import_page(visit: &Visit, handed_in: &import::Model, outcome: Outcome, done: bool) -> ImportPage {
    let summary = &outcome.summary;
    let line = |what, count: Count| {
        (
            what,
            text::grouped(count.created_count),
            text::grouped(count.modified_count),
        )
    };
    let changes = [summary.waves, summary.applications, summary.servers];
    ImportPage {
        shell: visit.shell(t!("Import"), Section::Inventory, "/events"),
        id: handed_in.id.to_string(),
        name: handed_in.name.clone(),
        at: text::moment(handed_in.at),
        done,
        summary: vec![
            line(t!("Waves"), summary.waves),
            line(t!("Applications"), summary.applications),
            line(t!("Source servers"), summary.servers),
        ],
        rows: n!(outcome.rows as u64, "{n} row", "{n} rows"),
        left_out: (outcome.left_out > 0).then(|| {
            n!(
                outcome.left_out as u64,
                "{n} row is left out, as it or a row that belongs to it has a fault.",
                "{n} rows are left out, as they or rows that belong to them have faults."
            )
        }),
        more_faults: outcome.faults.len().saturating_sub(FAULTS_SHOWN),
        faults: outcome.faults.into_iter().take(FAULTS_SHOWN).collect(),
        can_import: !done
            && changes
                .iter()
                .any(|count| count.created_count + count.modified_count > 0),
    }
}

pub async fn carry_out(
    State(web): State<Web>,
    visit: Visit,
    Path(id): Path<ImportId>,
) -> Result<Response, PageError> {
    let at = format!("/inventory/imports/{id}");
    let flash = match inventory::carry_out(&web.hub, &visit.session.actor, &id).await {
        Ok(outcome) => Flash::good(n!(
            (outcome.rows - outcome.left_out) as u64,
            "{n} row imported",
            "{n} rows imported"
        )),
        Err(ActionError::Conflict(why)) => Flash::bad(t!("Nothing was changed: {why}.", why)),
        Err(error) => return Err(error.into()),
    };
    Ok(flash.show_at(&at))
}

/// MGN's template, with its header and nothing else.
pub async fn template(_: Visit) -> Response {
    csv("import-template.csv", TEMPLATE.join(",") + "\r\n")
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Exported {
    account: String,
}

pub async fn give_out(visit: Visit, Query(exported): Query<Exported>) -> Result<Response, PageError> {
    let account = match exported.account.as_str() {
        "" => None,
        account => Some(
            account
                .parse::<AccountId>()
                .map_err(|error| PageError::Invalid(error.to_string()))?,
        ),
    };
    if let Some(account) = &account {
        visit.session.store.account(account).await?;
    }
    let text = export::export(&visit.session.store, account.as_ref()).await?;
    Ok(csv("orglift-export.csv", text))
}

fn csv(name: &str, text: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}\""),
        ),
    ];
    (headers, text).into_response()
}
