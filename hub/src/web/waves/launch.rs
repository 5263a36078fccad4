//! Asking for the launch of a wave: who takes part, who does not and why, and how fast.

use askama::Template;
use axum::{
    extract::{Path, State},
    response::Response,
};
use domain::{ids::WaveId, launch::Purpose};

use crate::{
    actions::{
        jobs::{self, Kind},
        waves::run,
    },
    entities::user::UserRole,
    language::filters,
    n,
    store::servers::ServerFilter,
    t,
    web::{
        Web, bulk,
        visit::{PageError, Section, Shell, Visit},
    },
};

#[derive(Debug, Template)]
#[template(path = "wave/launch.html")]
struct LaunchPage {
    shell: Shell,
    id: String,
    name: String,
    title: String,
    purpose: &'static str,
    will: Vec<(String, String, String)>,
    will_title: String,
    will_not: Vec<(String, String, String)>,
    will_not_title: String,
    in_the_way: Option<String>,
    at_once: u32,
    failures_allowed: u32,
}

pub async fn page(
    State(web): State<Web>,
    visit: Visit,
    Path((id, purpose)): Path<(WaveId, String)>,
) -> Result<Response, PageError> {
    let (purpose, need) = match purpose.as_str() {
        "test" => (Purpose::Test, UserRole::Operator),
        "cutover" => (Purpose::Cutover, UserRole::Approver),
        _ => return Err(PageError::NotFound(t!("This address").into())),
    };
    let wave = super::found(&visit, &id, need).await?;
    let filter = ServerFilter {
        wave: Some(id.clone()),
        archived: Some(false),
        ..ServerFilter::default()
    };
    let (mut will, mut will_not) = (Vec::new(), Vec::new());
    for server in visit.session.store.server_list(&filter).await? {
        let row = |detail| (server.id.to_string(), server.known_as().to_owned(), detail);
        match jobs::hindrance(&server, None, Kind::Launch(purpose, None)) {
            None => will.push(row(bulk::launched_as(purpose, &server))),
            Some(why) => will_not.push(row(why)),
        }
    }
    let pace = run::Pace::default();
    let asked = LaunchPage {
        shell: visit.shell(wave.name.clone(), Section::Waves, "/events"),
        title: match purpose {
            Purpose::Test => t!("Launch the tests of {name}", name = wave.name),
            Purpose::Cutover => t!("Launch the cutovers of {name}", name = wave.name),
        },
        purpose: purpose.name(),
        will_title: n!(
            will.len() as u64,
            "{n} server is launched",
            "{n} servers are launched"
        ),
        will_not_title: n!(
            will_not.len() as u64,
            "{n} server is left as it is",
            "{n} servers are left as they are"
        ),
        will,
        will_not,
        in_the_way: run::in_the_way(&web.hub, &wave, purpose).await?,
        at_once: pace.at_once,
        failures_allowed: pace.failures_allowed,
        id: id.to_string(),
        name: wave.name,
    };
    visit.answer(asked.render())
}
