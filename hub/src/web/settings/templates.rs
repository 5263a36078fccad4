//! Templates: what servers take over when they are added, for all accounts or a part of them.

use askama::Template;
use axum::{
    Form,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use domain::{
    launch::LaunchConfiguration, replication_configuration::ReplicationConfiguration, scope::Scope,
};
use serde::Deserialize;

use crate::{
    actions::{
        ActionError,
        templates::{self, Half},
    },
    entities::{account, template::Model, user::UserRole},
    store::{Seen, StoreError, templates::Inherited},
    t,
    web::{
        Web,
        form::Subject,
        launch_configuration, replication_configuration, scopes,
        servers::Choice,
        text::{self, Moment},
        visit::{Flash, PageError, Visit, encode},
    },
};

const PATH: &str = "/settings";

/// As many accounts as a list to choose from may have; of more, each has the way to its template on its own page.
const ACCOUNTS_MAX: usize = 200;

/// A template on the page of settings.
#[derive(Debug)]
pub struct Row {
    pub place: String,
    pub scope: String,
    pub launch: Option<Kept>,
    pub replication: Option<Kept>,
    pub changed: Moment,
    pub changed_by: String,
}

#[derive(Debug)]
pub struct Kept {
    pub says: String,
    pub href: Option<String>,
}

/// What a page says of the half of a template that an account has, and where it is changed.
#[derive(Debug)]
pub struct Source {
    pub label: &'static str,
    pub place: String,
    pub edit: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct At {
    scope: String,
    /// Of a template; for its removal.
    #[serde(default)]
    half: String,
}

impl At {
    fn scope(&self) -> Result<Scope, PageError> {
        let unknown = |_| PageError::Invalid(t!("There is no such scope.").into());
        self.scope.parse().map_err(unknown)
    }
}

fn href(half: &str, scope: &Scope) -> String {
    format!("{PATH}/templates/{half}?scope={}", encode(&scope.to_string()))
}

/// Whether this one decides what servers of a scope take over.
async fn administers(visit: &Visit, scope: &Scope) -> Result<bool, StoreError> {
    let actor = &visit.session.actor;
    let held = match scope {
        Scope::Account(id) => actor.role_in(&visit.session.store.account(id).await?),
        Scope::Organization(id) | Scope::Unit(id, _) => {
            visit.session.store.organization(id).await?;
            actor.role_over(scope)
        }
        Scope::Everything => actor.role_over(scope),
    };
    Ok(held >= Some(UserRole::Administrator))
}

pub async fn rows(visit: &Visit) -> Result<Vec<Row>, PageError> {
    let store = &visit.session.store;
    let mut rows = Vec::new();
    for Model {
        scope,
        launch,
        replication,
        changed_by,
        changed_at,
    } in store.templates().await?.0
    {
        let may = match administers(visit, &scope).await {
            Ok(may) => may,
            // Of an organization that its reader does not see.
            Err(StoreError::NotFound { .. }) => false,
            Err(error) => return Err(error.into()),
        };
        let kept = |half, says| Kept {
            says,
            href: may.then(|| href(half, &scope)),
        };
        rows.push(Row {
            place: scopes::place(store, &scope).await?,
            launch: launch.0.map(|launch| kept("launch", launches(&launch))),
            replication: replication.0.map(|own| kept("replication", replicates(&own))),
            scope: scope.to_string(),
            changed: text::moment(changed_at),
            changed_by,
        });
    }
    Ok(rows)
}

fn launches(launch: &LaunchConfiguration) -> String {
    t!(
        "{type_}, tests in {test}, cutovers in {target}",
        type_ = launch.instance_type,
        test = launch.test_subnet,
        target = launch.target_subnet
    )
}

fn replicates(replication: &ReplicationConfiguration) -> String {
    t!(
        "every {seconds} s, {kept} kept",
        seconds = replication.checkpoint_interval_s,
        kept = replication.checkpoints_kept
    )
}

/// What the reader may make templates for.
pub async fn choices(visit: &Visit) -> Result<Vec<Choice>, PageError> {
    let actor = &visit.session.actor;
    let all = scopes::all(&visit.session.store).await?;
    let is_account = |scope: &Scope| matches!(scope, Scope::Account(_));
    let few = all.iter().filter(|(scope, _)| is_account(scope)).count() <= ACCOUNTS_MAX;
    let mut choices = Vec::new();
    for (scope, label) in all {
        let may = if is_account(&scope) {
            few && administers(visit, &scope).await?
        } else {
            actor.role_over(&scope) >= Some(UserRole::Administrator)
        };
        if may {
            choices.push(Choice {
                value: scope.to_string(),
                label,
                selected: false,
            });
        }
    }
    Ok(choices)
}

/// What servers that are added to an account take over from where.
pub async fn of_account(visit: &Visit, account: &account::Model) -> Result<[Source; 2], PageError> {
    let store = &visit.session.store;
    let own = Scope::Account(account.id.0.clone());
    let may = visit.session.actor.role_in(account) >= Some(UserRole::Administrator);
    let inherited = store.templates().await?.of(account);
    let launch = inherited.launch.map(|(scope, _)| scope);
    let replication = inherited.replication.map(|(scope, _)| scope);
    Ok([
        Source {
            label: t!("Launch template"),
            place: from(store, launch.as_ref()).await?,
            edit: may.then(|| href("launch", &own)),
        },
        Source {
            label: t!("Replication template"),
            place: from(store, replication.as_ref()).await?,
            edit: may.then(|| href("replication", &own)),
        },
    ])
}

async fn from(store: &Seen, scope: Option<&Scope>) -> Result<String, StoreError> {
    Ok(match scope {
        None => t!("none: as the product has it").into(),
        Some(Scope::Account(_)) => t!("its own").into(),
        Some(scope) => t!("of {place}", place = scopes::place(store, scope).await?),
    })
}

async fn subject(visit: &Visit, scope: &Scope, half: &str) -> Result<Subject, PageError> {
    if !administers(visit, scope).await? {
        return Err(PageError::Forbidden {
            need: UserRole::Administrator,
        });
    }
    let place = scopes::place(&visit.session.store, scope).await?;
    Ok(Subject::template(scope, place, half))
}

/// What a new template begins with: what holds there so far.
async fn so_far(visit: &Visit, scope: &Scope) -> Result<Inherited, StoreError> {
    let store = &visit.session.store;
    match scope {
        Scope::Account(account) => store.inherited_by(account).await,
        _ => Ok(store.templates().await?.over(scope)),
    }
}

pub async fn launch(visit: Visit, Query(at): Query<At>) -> Result<Response, PageError> {
    let scope = at.scope()?;
    let subject = subject(&visit, &scope, "launch").await?;
    let kept = so_far(&visit, &scope).await?.launch;
    let kept = kept.map(|(_, launch)| launch).unwrap_or_default();
    let given = launch_configuration::Given::of(&kept);
    let errors = launch_configuration::Errors::new();
    visit.answer(launch_configuration::of_template(&visit, subject, &given, &errors).render())
}

pub async fn save_launch(
    State(web): State<Web>,
    visit: Visit,
    Query(at): Query<At>,
    Form(given): Form<launch_configuration::Given>,
) -> Result<Response, PageError> {
    let scope = at.scope()?;
    let subject = subject(&visit, &scope, "launch").await?;
    match given.parse() {
        Ok(launch) => {
            keep(
                &web,
                &visit,
                &scope,
                subject.name,
                Half::Launch(Some(Box::new(launch))),
            )
            .await
        }
        Err(errors) => {
            let page = launch_configuration::of_template(&visit, subject, &given, &errors);
            let page = visit.answer(page.render())?;
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
    }
}

pub async fn replication(
    State(web): State<Web>,
    visit: Visit,
    Query(at): Query<At>,
) -> Result<Response, PageError> {
    let scope = at.scope()?;
    let subject = subject(&visit, &scope, "replication").await?;
    let kept = so_far(&visit, &scope).await?.replication;
    let kept = kept.map_or_else(|| web.hub.usual_replication(), |(_, replication)| replication);
    let given = replication_configuration::Given::of(&kept);
    let errors = replication_configuration::Errors::default();
    visit.answer(replication_configuration::of_template(&visit, subject, given, errors).render())
}

pub async fn save_replication(
    State(web): State<Web>,
    visit: Visit,
    Query(at): Query<At>,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Response, PageError> {
    let scope = at.scope()?;
    let subject = subject(&visit, &scope, "replication").await?;
    let given = replication_configuration::Given::of_form(fields);
    match given.parse() {
        Ok(kept) => keep(&web, &visit, &scope, subject.name, Half::Replication(Some(kept))).await,
        Err(errors) => {
            let page = replication_configuration::of_template(&visit, subject, given, errors);
            let page = visit.answer(page.render())?;
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
    }
}

pub async fn remove(
    State(web): State<Web>,
    visit: Visit,
    Query(at): Query<At>,
) -> Result<Response, PageError> {
    let scope = at.scope()?;
    let subject = subject(&visit, &scope, &at.half).await?;
    let half = match at.half.as_str() {
        "launch" => Half::Launch(None),
        "replication" => Half::Replication(None),
        _ => return Err(PageError::NotFound(t!("This template").into())),
    };
    keep(&web, &visit, &scope, subject.name, half).await
}

async fn keep(
    web: &Web,
    visit: &Visit,
    scope: &Scope,
    place: String,
    half: Half,
) -> Result<Response, PageError> {
    let removed = matches!(half, Half::Launch(None) | Half::Replication(None));
    let flash = match templates::keep(&web.hub, &visit.session.actor, scope, half).await {
        Ok(()) if removed => Flash::good(t!("The template of {place} is removed.", place)),
        Ok(()) => Flash::good(t!(
            "The template of {place} is saved. Servers that are there take it over by the action “Apply the templates”.",
            place
        )),
        Err(ActionError::Invalid(why) | ActionError::Conflict(why)) => Flash::bad(why),
        Err(error) => return Err(error.into()),
    };
    Ok(flash.show_at(PATH))
}
