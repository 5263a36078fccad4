//! The console's pages.
//!
//! ```text
//! request ─▶ session ─▶ handler ─▶ store (one query per list) ─▶ template with strings ready to print
//!                          └─ POST: action ─▶ redirect, with a sentence that the next page shows
//! ```
//!
//! Every page works without JavaScript. With it, the part of the page that is marked `live` is asked for
//! again whenever its event stream says that something changed, and is morphed in place; confirmations
//! open as dialogs. No page carries a script or a style of its own: the content security policy forbids it.

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRef, Request},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tower_http::csrf::CsrfLayer;

use crate::{Hub, language::Language};

pub mod assets;

mod account;
mod action;
mod actions;
mod applications;
mod audit;
mod badge;
pub(crate) mod bulk;
mod conversion;
mod enrolment;
mod events;
mod form;
mod holdings;
mod instance;
mod inventory;
mod job;
mod jobs;
mod launch_configuration;
mod orders;
mod overview;
mod people;
mod profile;
mod readiness;
mod remedies;
mod replication_configuration;
mod scopes;
mod search;
mod server;
mod servers;
mod session;
mod settings;
mod sign_in;
mod silence;
mod text;
pub mod throttle;
mod visit;
mod waves;

pub use overview::is_silent;
pub use session::OverTls;
pub use text::grouped;

#[cfg(test)]
mod tests;

/// What the handlers share.
#[derive(Debug, Clone)]
pub struct Web {
    hub: Arc<Hub>,
    throttle: Arc<throttle::Throttle>,
}

impl FromRef<Web> for Arc<Hub> {
    fn from_ref(web: &Web) -> Self {
        web.hub.clone()
    }
}

/// Forms are small.
const BODY_MAX: usize = 64 << 10;

pub fn router(hub: Arc<Hub>) -> Router {
    let web = Web {
        hub,
        throttle: Arc::default(),
    };
    Router::new()
        .route("/", get(overview::page))
        .route("/search", get(search::page))
        .route("/servers", get(servers::page))
        .route("/servers/columns", post(servers::list::choose_columns))
        .route("/servers/filters", post(servers::list::save_filter))
        .route("/servers/filters/remove", post(servers::list::remove_filter))
        .route("/servers/{server}", get(server::page))
        .route(
            "/servers/{server}/actions/{action}",
            get(actions::ask).post(actions::carry_out),
        )
        .route(
            "/servers/{server}/launch-configuration",
            get(launch_configuration::page).post(launch_configuration::save),
        )
        .route(
            "/servers/{server}/replication-configuration",
            get(replication_configuration::page).post(replication_configuration::save),
        )
        .route("/servers/{server}/conversions/{job}", get(conversion::page))
        .route(
            "/servers/{server}/conversions/{job}/{document}",
            get(conversion::document),
        )
        .route("/servers/{server}/instances/{purpose}", get(instance::page))
        .route(
            "/servers/{server}/instances/{purpose}/{what}",
            get(instance::shown),
        )
        .route("/accounts/{account}", get(account::page))
        .route(
            "/accounts/{account}/enrol/{purpose}",
            get(enrolment::ask).post(enrolment::create),
        )
        .route(
            "/accounts/{account}/revoke/{machine}",
            get(account::ask_revoke).post(account::revoke),
        )
        .route("/accounts/{account}/network/check", post(readiness::check))
        .route("/accounts/{account}/resources/check", post(holdings::check))
        .route("/servers/{id}/resources/check", post(holdings::check_for_server))
        .merge(planning())
        .merge(people_and_profile())
        .route("/jobs", get(jobs::page))
        .route("/jobs/{job}", get(job::page))
        .route(
            "/jobs/{job}/cancel",
            get(job::control::ask_cancel).post(job::control::cancel),
        )
        .route("/jobs/{job}/hasten", post(job::control::hasten))
        .route(
            "/jobs/{job}/clean-up/{server}",
            get(job::ask_clean_up).post(job::clean_up),
        )
        .route("/audit", get(audit::page))
        .route("/audit/export", get(audit::export))
        .route("/events", get(events::stream))
        .route("/sign-in", get(sign_in::page).post(sign_in::sign_in))
        .route(
            "/sign-in/further",
            get(sign_in::ask_further).post(sign_in::further),
        )
        .route("/sign-in/oidc", get(sign_in::from_provider))
        .route("/sign-in/oidc/begin", get(sign_in::to_provider))
        .route("/sign-in/oidc/leave", get(sign_in::leave_provider))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/static/{*path}", get(assets::serve))
        .fallback(async || visit::PageError::NotFound(crate::t!("This address").into()).into_response())
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(CsrfLayer::new())
        .layer(middleware::from_fn(protect))
        .layer(middleware::from_fn(speak))
        .with_state(web)
}

fn people_and_profile() -> Router<Web> {
    Router::new()
        .route("/profile", get(profile::page).post(profile::save))
        .route(
            "/profile/password",
            get(profile::ask_password).post(profile::set_password),
        )
        .route(
            "/profile/second-factor",
            get(profile::ask_second_factor).post(profile::set_second_factor),
        )
        .route(
            "/profile/second-factor/remove",
            post(profile::remove_second_factor),
        )
        .route("/profile/recovery-codes", post(profile::renew_recovery_codes))
        .route("/profile/sessions/{session}/end", post(profile::end_session))
        .route("/profile/keys", post(profile::add_key))
        .route("/profile/keys/{key}/remove", post(profile::remove_key))
        .route("/settings", get(settings::page))
        .route(
            "/settings/templates/launch",
            get(settings::templates::launch).post(settings::templates::save_launch),
        )
        .route(
            "/settings/templates/replication",
            get(settings::templates::replication).post(settings::templates::save_replication),
        )
        .route("/settings/templates/remove", post(settings::templates::remove))
        .route(
            "/settings/targets",
            get(settings::targets::page).post(settings::targets::add),
        )
        .route("/settings/targets/{target}/try", post(settings::targets::try_out))
        .route(
            "/settings/targets/{target}/remove",
            post(settings::targets::remove),
        )
        .route("/people", get(people::page))
        .route("/people/add", get(people::ask_add).post(people::add))
        .route("/people/{name}", get(people::person))
        .route("/people/{name}/grant", post(people::grant))
        .route("/people/{name}/revoke", post(people::revoke))
        .route(
            "/people/{name}/password",
            get(people::ask_password).post(people::reset_password),
        )
        .route("/people/{name}/keys/{key}/remove", post(people::remove_key))
        .route(
            "/people/{name}/measures/{measure}",
            get(people::ask_measure).post(people::carry_out),
        )
}

/// What is done to many servers.
fn planning() -> Router<Web> {
    Router::new()
        .route("/bulk", get(bulk::ask).post(bulk::carry_out))
        .route("/applications", get(applications::page))
        .route(
            "/applications/add",
            get(applications::ask_add).post(applications::add),
        )
        .route("/applications/{application}", get(applications::one))
        .route(
            "/applications/{application}/edit",
            get(applications::ask_edit).post(applications::edit),
        )
        .route(
            "/applications/{application}/servers",
            get(applications::ask_servers).post(applications::add_servers),
        )
        .route(
            "/applications/{application}/servers/remove",
            post(applications::remove_servers),
        )
        .route(
            "/applications/{application}/actions/{action}",
            post(applications::carry_out),
        )
        .route("/inventory", get(inventory::page))
        .route(
            "/inventory/imports",
            post(inventory::hand_in).layer(DefaultBodyLimit::max(inventory::BODY_MAX)),
        )
        .route(
            "/inventory/imports/{import}",
            get(inventory::one).post(inventory::carry_out),
        )
        .route("/inventory/template.csv", get(inventory::template))
        .route("/inventory/export.csv", get(inventory::give_out))
        .route("/waves", get(waves::page))
        .route("/waves/add", get(waves::ask_add).post(waves::add))
        .route("/waves/{wave}", get(waves::one::page))
        .route("/waves/{wave}/edit", get(waves::ask_edit).post(waves::edit))
        .route("/waves/{wave}/plan", get(waves::ask_plan).post(waves::plan))
        .route("/waves/{wave}/launch/{purpose}", get(waves::launch::page))
        .route("/waves/{wave}/actions/{action}", post(waves::carry_out))
        .route("/waves/{wave}/report", get(waves::report::page))
        .route("/waves/{wave}/report.csv", get(waves::report::table))
}

/// Answers in the language that the browser asks for; whoever is signed in may have chosen another.
async fn speak(request: Request, next: Next) -> Response {
    let language = language_of(request.headers());
    let answering = async {
        let mut response = next.run(request).await;
        let tag = HeaderValue::from_static(Language::current().tag());
        response.headers_mut().insert(header::CONTENT_LANGUAGE, tag);
        response
            .headers_mut()
            .append(header::VARY, HeaderValue::from_name(header::ACCEPT_LANGUAGE));
        response
    };
    language.answer(answering).await
}

fn language_of(browser: &HeaderMap) -> Language {
    let asked = browser.get(header::ACCEPT_LANGUAGE);
    let asked = asked.and_then(|asked| asked.to_str().ok());
    asked.map_or(Language::English, Language::accepted)
}

const PROTECTION: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
];

/// Sets the headers that keep a browser from doing for others what it would do for us.
async fn protect(request: Request, next: Next) -> Response {
    let secure = session::is_secure(request.extensions(), request.headers());
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in PROTECTION {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if secure {
        headers.insert(
            header::STRICT_TRANSPORT_SECURITY,
            HeaderValue::from_static("max-age=31536000"),
        );
    }
    // Pages hold what only their reader may see.
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    headers.append(header::VARY, HeaderValue::from_static("HX-Request, HX-Target"));
    response
}
