//! Who is told of what happens.

use askama::Template;
use axum::{
    Form,
    extract::{Path, State},
    response::Response,
};

use crate::{
    actions::{
        ActionError,
        notices::{self, NewTarget},
    },
    clock::now_ms,
    entities::{
        notice::NoticeKind,
        notice_target::{Model as Target, NoticeForm},
        user::UserRole,
    },
    language::filters,
    t,
    web::{
        Web,
        badge::{self, Badge},
        text,
        visit::{Flash, PageError, Part, Section, Shell, Visit},
    },
};

const PATH: &str = "/settings/targets";

#[derive(Debug, Template)]
#[template(path = "settings/targets.html", blocks = ["live"])]
struct TargetsPage {
    shell: Shell,
    targets: Vec<TargetRow>,
    kinds: Vec<(&'static str, &'static str)>,
}

#[derive(Debug)]
struct TargetRow {
    id: String,
    name: String,
    host: String,
    form: &'static str,
    kinds: String,
    state: Badge,
    told: String,
    error: Option<String>,
}

#[derive(Debug, Template)]
#[template(path = "settings/added.html")]
struct AddedPage {
    shell: Shell,
    name: String,
    secret: String,
}

pub async fn page(visit: Visit) -> Result<Response, PageError> {
    if visit.session.actor.role_everywhere() < Some(UserRole::Administrator) {
        return Err(PageError::Forbidden {
            need: UserRole::Administrator,
        });
    }
    let targets = visit.session.store.notice_targets().await?;
    let now = now_ms();
    let page = TargetsPage {
        shell: visit.shell(t!("Notification targets"), Section::Settings, "/events"),
        targets: targets.iter().map(|target| row(target, now)).collect(),
        kinds: NoticeKind::ALL.map(|kind| (kind.slug(), label(kind))).into(),
    };
    visit.answer(match visit.part {
        Part::Live => page.as_live().render(),
        _ => page.render(),
    })
}

fn row(target: &Target, now: i64) -> TargetRow {
    let kinds: Vec<_> = target.kinds.iter().map(|kind| label(*kind)).collect();
    TargetRow {
        id: target.id.clone(),
        name: target.name.clone(),
        host: target.host.clone(),
        form: match target.form.0 {
            NoticeForm::Event => t!("Signed events"),
            NoticeForm::Slack => t!("Messages for Slack"),
            NoticeForm::Mail => t!("Mail"),
        },
        kinds: kinds.join(", "),
        state: badge::notice_target(target.failures > 0),
        told: target
            .told_at
            .map_or_else(|| t!("never").into(), |at| text::ago(at, now)),
        error: target.last_error.clone(),
    }
}

fn label(kind: NoticeKind) -> &'static str {
    match kind {
        NoticeKind::LaunchResult => t!("Launches that succeed or fail"),
        NoticeKind::LifeCycle => t!("Changes of the life cycle"),
        NoticeKind::Stalled => t!("Replication that stalls or goes on"),
    }
}

pub async fn add(
    State(web): State<Web>,
    visit: Visit,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Response, PageError> {
    let field = |name: &str| {
        let found = fields.iter().find(|(field, _)| field == name);
        found.map_or("", |(_, value)| value.as_str()).to_owned()
    };
    let kinds = NoticeKind::ALL.into_iter().filter(|kind| {
        fields
            .iter()
            .any(|(name, value)| name == "kind" && value == kind.slug())
    });
    let new = NewTarget {
        name: field("name"),
        form: match field("form").as_str() {
            "slack" => NoticeForm::Slack,
            "mail" => NoticeForm::Mail,
            _ => NoticeForm::Event,
        },
        address: field("address"),
        kinds: kinds.collect(),
    };
    let (name, form) = (new.name.clone(), new.form);
    let secret = match notices::add_target(&web.hub, &visit.session.actor, new).await {
        Ok(secret) => secret,
        Err(ActionError::Invalid(why) | ActionError::Conflict(why)) => {
            return Ok(Flash::bad(why).show_at(PATH));
        }
        Err(error) => return Err(error.into()),
    };
    if form != NoticeForm::Event {
        return Ok(Flash::good(t!("“{name}” is told from now on.", name)).show_at(PATH));
    }
    let page = AddedPage {
        shell: visit.shell(t!("Notification target"), Section::Settings, "/events"),
        name,
        secret,
    };
    visit.answer(page.render())
}

pub async fn try_out(
    State(web): State<Web>,
    visit: Visit,
    Path(target): Path<String>,
) -> Result<Response, PageError> {
    let flash = match notices::try_target(&web.hub, &visit.session.actor, &target).await {
        Ok(()) => Flash::good(t!("It arrived.")),
        Err(ActionError::Invalid(why) | ActionError::Conflict(why)) => Flash::bad(why),
        Err(error) => return Err(error.into()),
    };
    Ok(flash.show_at(PATH))
}

pub async fn remove(
    State(web): State<Web>,
    visit: Visit,
    Path(target): Path<String>,
) -> Result<Response, PageError> {
    notices::remove_target(&web.hub, &visit.session.actor, &target).await?;
    Ok(Flash::good(t!("The target is removed: it hears of nothing more.")).show_at(PATH))
}
