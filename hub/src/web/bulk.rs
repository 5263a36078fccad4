//! One action on many servers: what it will do to each and why it leaves others out, and then doing it.

use std::{collections::HashMap, time::Duration};

use askama::Template;
use axum::{
    Form,
    extract::{Query, State},
    response::Response,
};
use domain::{
    ids::{ApplicationId, SourceServerId, WaveId},
    launch::Purpose,
};

use super::{
    Web,
    action::Action,
    actions::accepted_ages,
    badge::{self, Badge},
    launch_configuration, orders, replication_configuration,
    servers::Choice,
    text,
    visit::{Flash, PageError, Section, Shell, Visit},
};
use crate::{
    actions::ActionError,
    clock::now_ms,
    entities::{account, source_server::Model},
    language::filters,
    n,
    store::{servers::ServerFilter, templates::Inherited},
    t,
};

/// As many as fit into a form. Whoever moves more at once splits them into waves.
const SERVERS_MAX: usize = 1000;

#[derive(Debug, Template)]
#[template(path = "bulk/page.html")]
struct BulkPage {
    shell: Shell,
    title: &'static str,
    slug: &'static str,
    back: String,
    will: Vec<Row>,
    will_title: String,
    will_not: Vec<Row>,
    will_not_title: String,
    keeps: Vec<String>,
    caution: Option<String>,
    accept_older: Option<Vec<Choice>>,
    tone: &'static str,
}

#[derive(Debug)]
struct Row {
    id: String,
    name: String,
    account: String,
    lifecycle: Badge,
    /// What is launched where, or why nothing is done.
    detail: String,
    lag: String,
}

/// Every action, for the form beside a list of servers.
pub fn actions() -> Vec<(&'static str, &'static str)> {
    Action::ALL
        .into_iter()
        .map(|action| (action.slug(), action.label()))
        .collect()
}

/// What a form names: an action, and servers one by one or by what they belong to.
#[derive(Debug, Default)]
struct Asked {
    action: String,
    servers: Vec<SourceServerId>,
    application: Option<ApplicationId>,
    wave: Option<WaveId>,
    back: String,
    accept_older_than: u64,
}

impl Asked {
    fn read(fields: Vec<(String, String)>) -> Result<Self, PageError> {
        let mut asked = Self::default();
        for (name, value) in fields {
            let invalid = |error: domain::ids::InvalidId| PageError::Invalid(error.to_string());
            match name.as_str() {
                "action" => asked.action = value,
                "server" => asked.servers.push(value.parse().map_err(invalid)?),
                "application" => asked.application = Some(value.parse().map_err(invalid)?),
                "wave" => asked.wave = Some(value.parse().map_err(invalid)?),
                "back" => asked.back = value,
                "accept_older_than" => asked.accept_older_than = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        Ok(asked)
    }

    fn action(&self) -> Result<Action, PageError> {
        Action::by_slug(&self.action)
            .ok_or_else(|| PageError::NotFound(t!("The action “{slug}”", slug = self.action)))
    }

    /// Where the reader came from. Never another site.
    fn back(&self) -> String {
        if self.back.starts_with('/') && !self.back.starts_with("//") && !self.back.contains('\\') {
            return self.back.clone();
        }
        match (&self.wave, &self.application) {
            (Some(wave), _) => format!("/waves/{wave}"),
            (None, Some(application)) => format!("/applications/{application}"),
            (None, None) => "/servers".into(),
        }
    }

    async fn servers(&self, visit: &Visit) -> Result<Vec<Model>, PageError> {
        let of_none = self.servers.is_empty() && self.application.is_none() && self.wave.is_none();
        if of_none {
            return Err(PageError::Invalid(
                t!("Tick the servers that it is for, then choose the action.").into(),
            ));
        }
        if self.servers.len() > SERVERS_MAX {
            return Err(too_many());
        }
        let filter = ServerFilter {
            ids: self.servers.clone(),
            applications: self.application.iter().cloned().collect(),
            wave: self.wave.clone(),
            archived: Some(false),
            ..ServerFilter::default()
        };
        let servers = visit.session.store.server_list(&filter).await?;
        if servers.is_empty() {
            return Err(PageError::NotFound(
                t!("A source server among those chosen").into(),
            ));
        }
        if servers.len() > SERVERS_MAX {
            return Err(too_many());
        }
        Ok(servers)
    }
}

fn too_many() -> PageError {
    PageError::Invalid(t!(
        "At most {max} servers can be handled at once. Choose fewer, or split them into waves.",
        max = SERVERS_MAX
    ))
}

pub async fn ask(visit: Visit, Query(fields): Query<Vec<(String, String)>>) -> Result<Response, PageError> {
    let asked = Asked::read(fields)?;
    let action = asked.action()?;
    let servers = asked.servers(&visit).await?;
    let accounts = visit.session.store.account_list().await?;
    let accounts: HashMap<_, _> = accounts.into_iter().map(|row| (row.id.0.clone(), row)).collect();
    let templates = visit.session.store.templates().await?;
    let words = action.words(&servers[0]);
    let (mut will, mut will_not) = (Vec::new(), Vec::new());
    for server in &servers {
        let Some(account) = accounts.get(&server.account.0) else {
            continue;
        };
        let held = visit.session.actor.role_in(account);
        let why_not = if held >= Some(action.needs()) {
            action.hindrance(server)
        } else {
            Some(t!(
                "it needs the role “{role}” in account {account}",
                role = badge::role(action.needs()),
                account = account.id
            ))
        };
        match why_not {
            None if action == Action::ApplyTemplates => {
                match template_changes(&templates.of(account), server) {
                    Some(changes) => will.push(row(server, account, changes)),
                    None => will_not.push(row(
                        server,
                        account,
                        t!("it is as its templates say already").into(),
                    )),
                }
            }
            None => will.push(row(server, account, what(action, server))),
            Some(why) => will_not.push(row(server, account, why)),
        }
    }
    let page = BulkPage {
        shell: visit.shell(action.label(), Section::Servers, "/events"),
        title: action.label(),
        slug: action.slug(),
        back: asked.back(),
        will_title: n!(
            will.len() as u64,
            "It will be done to {n} server",
            "It will be done to {n} servers"
        ),
        will_not_title: n!(
            will_not.len() as u64,
            "{n} server is left as it is",
            "{n} servers are left as they are"
        ),
        will,
        will_not,
        keeps: words.keeps,
        caution: words.caution,
        accept_older: (action == Action::StartCutover).then(accepted_ages),
        tone: if action.is_destructive() {
            "danger"
        } else {
            "primary"
        },
    };
    visit.answer(page.render())
}

fn row(server: &Model, account: &account::Model, detail: String) -> Row {
    Row {
        id: server.id.to_string(),
        name: server.known_as().to_owned(),
        account: format!("{} ({})", account.name, account.id),
        lifecycle: badge::lifecycle(&server.lifecycle_name),
        detail,
        lag: server.lag_ms(now_ms()).map_or_else(|| "–".into(), text::span),
    }
}

/// What a server would take over, if anything.
fn template_changes(inherited: &Inherited, server: &Model) -> Option<String> {
    let mut changes = Vec::new();
    if let Some((_, template)) = &inherited.launch {
        changes.extend(launch_configuration::differences(
            &server.launch_configuration,
            template,
        ));
    }
    if let Some((_, template)) = &inherited.replication {
        let kept = server.replication_configuration();
        changes.extend(replication_configuration::differences(&kept, template));
    }
    (!changes.is_empty()).then(|| changes.join("; "))
}

/// What is particular for this server.
fn what(action: Action, server: &Model) -> String {
    match action {
        Action::StartTest => launched_as(Purpose::Test, server),
        Action::StartCutover => launched_as(Purpose::Cutover, server),
        _ => String::new(),
    }
}

pub fn launched_as(purpose: Purpose, server: &Model) -> String {
    let launch = &server.launch_configuration;
    let type_ = &launch.instance_type;
    match launch.subnet(purpose) {
        "" => t!("{type_} in the account’s default subnet", type_),
        subnet => t!("{type_} in {subnet}", type_, subnet),
    }
}

pub async fn carry_out(
    State(web): State<Web>,
    visit: Visit,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Response, PageError> {
    let asked = Asked::read(fields)?;
    let action = asked.action()?;
    let servers = asked.servers(&visit).await?;
    let ids: Vec<_> = servers.iter().map(|server| server.id.0.clone()).collect();
    let older = Some(Duration::from_secs(asked.accept_older_than)).filter(|age| !age.is_zero());
    let flash = match orders::give_all(&web, &visit.session, &ids, action, older).await {
        Ok(refused) if refused.is_empty() => Flash::good(n!(
            ids.len() as u64,
            "{action}: ordered for {n} server.",
            "{action}: ordered for {n} servers.",
            action = action.label()
        )),
        Ok(refused) => Flash::bad(t!(
            "{action}: ordered for {done} of {all} servers. Left out: {why}.",
            action = action.label(),
            done = ids.len() - refused.len(),
            all = ids.len(),
            why = ActionError::Refused(refused)
        )),
        Err(error @ (ActionError::Store(_) | ActionError::Identity(_) | ActionError::Forbidden { .. })) => {
            return Err(error.into());
        }
        Err(why) => Flash::bad(t!(
            "{action}: nothing was done: {why}.",
            action = action.label(),
            why
        )),
    };
    Ok(flash.show_at(&asked.back()))
}
