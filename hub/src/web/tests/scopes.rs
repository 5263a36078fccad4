//! Every route of the console and of the API, walked by people of every role and scope.
//!
//! What lies in foreign accounts is not there for them: no answer has its names, and no order reaches it.

use std::collections::BTreeSet;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Method, Request, StatusCode, header},
};
use domain::{
    ids::{ApplicationId, OrganizationId, WaveId},
    scope::Scope,
};
use tower::ServiceExt;

use super::world::{self, ACCOUNTS, PASSWORD, failed_job, running_job, server_id};
use crate::{
    actions::jobs,
    audit::COMMAND_LINE,
    auth::{
        Actor, Grant, people,
        sessions::{Browser, SignIn},
    },
    entities::user::UserRole,
    fixtures::{self, TestHub},
    serve::ui_router,
};

const ROLES: [UserRole; 4] = [
    UserRole::Viewer,
    UserRole::Operator,
    UserRole::Approver,
    UserRole::Administrator,
];

/// Who may have an answer of a route.
#[derive(Clone, Copy, PartialEq)]
enum For {
    /// Whoever may see the account.
    Role(UserRole),
    /// Who has the role for everything.
    Everywhere(UserRole),
    /// Who has the role anywhere at all.
    Somewhere(UserRole),
    Everybody,
}

use For::{Everybody, Everywhere, Role, Somewhere};
use UserRole::{Administrator, Approver, Operator, Viewer};

/// Method, route as the router has it, what stands for `{action}` and the like or in the body, and who may.
type Route = (&'static str, &'static str, &'static str, For);

#[rustfmt::skip]
const PAGES: &[Route] = &[
    ("GET", "/", "", Everybody),
    ("GET", "/search", "?q=web", Everybody),
    ("GET", "/servers", "", Everybody),
    ("POST", "/servers/columns", "column=lag", Everybody),
    ("POST", "/servers/filters", "name=mine&query=state%3DSTALLED", Everybody),
    ("POST", "/servers/filters/remove", "name=mine", Everybody),
    ("GET", "/servers/{server}", "", Role(Viewer)),
    ("GET", "/servers/{server}/actions/{action}", "start-test", Role(Operator)),
    ("POST", "/servers/{server}/actions/{action}", "start-test", Role(Operator)),
    ("GET", "/servers/{server}/actions/{action}", "finalize-cutover", Role(Approver)),
    ("POST", "/servers/{server}/actions/{action}", "finalize-cutover", Role(Approver)),
    ("POST", "/servers/{server}/actions/{action}", "pause-replication", Role(Operator)),
    ("POST", "/servers/{server}/actions/{action}", "archive", Role(Operator)),
    ("GET", "/servers/{server}/launch-configuration", "", Role(Operator)),
    ("POST", "/servers/{server}/launch-configuration", "", Role(Operator)),
    ("GET", "/servers/{server}/replication-configuration", "", Role(Operator)),
    ("POST", "/servers/{server}/replication-configuration", "", Role(Operator)),
    ("GET", "/servers/{server}/conversions/{job}", "", Role(Viewer)),
    ("GET", "/servers/{server}/conversions/{job}/{document}", "changes.json", Role(Viewer)),
    ("GET", "/servers/{server}/instances/{purpose}", "test", Role(Viewer)),
    ("GET", "/servers/{server}/instances/{purpose}/{what}", "test", Role(Viewer)),
    ("POST", "/servers/{id}/resources/check", "", Role(Operator)),
    ("GET", "/accounts/{account}", "", Role(Viewer)),
    ("GET", "/accounts/{account}/enrol/{purpose}", "runner", Role(Administrator)),
    ("POST", "/accounts/{account}/enrol/{purpose}", "runner", Role(Administrator)),
    ("GET", "/accounts/{account}/revoke/{machine}", "", Role(Administrator)),
    ("POST", "/accounts/{account}/revoke/{machine}", "", Role(Administrator)),
    ("POST", "/accounts/{account}/network/check", "", Role(Operator)),
    ("POST", "/accounts/{account}/resources/check", "", Role(Operator)),
    ("GET", "/bulk", "?action=start-test&server={server}", Role(Viewer)),
    ("GET", "/bulk", "?action=apply-templates&server={server}", Role(Viewer)),
    ("GET", "/bulk", "?action=start-test&wave={wave}", Role(Viewer)),
    ("POST", "/bulk", "action=start-cutover&server={server}", Role(Approver)),
    ("POST", "/bulk", "action=pause-replication&server={server}", Role(Operator)),
    ("GET", "/applications", "", Everybody),
    ("GET", "/applications/add", "", Somewhere(Operator)),
    ("POST", "/applications/add", "name=new&account={account}", Role(Operator)),
    ("GET", "/applications/{application}", "", Role(Viewer)),
    ("GET", "/applications/{application}/edit", "", Role(Operator)),
    ("POST", "/applications/{application}/edit", "name=other", Role(Operator)),
    ("GET", "/applications/{application}/servers", "", Role(Operator)),
    ("POST", "/applications/{application}/servers", "server={server}", Role(Operator)),
    ("POST", "/applications/{application}/servers/remove", "server={server}", Role(Operator)),
    ("POST", "/applications/{application}/actions/{action}", "leave", Role(Operator)),
    ("GET", "/inventory", "", Everybody),
    ("POST", "/inventory/imports", "multipart", Somewhere(Operator)),
    ("GET", "/inventory/imports/{import}", "", Role(Viewer)),
    ("POST", "/inventory/imports/{import}", "", Role(Viewer)),
    ("GET", "/inventory/template.csv", "", Everybody),
    ("GET", "/inventory/export.csv", "", Everybody),
    ("GET", "/inventory/export.csv", "?account={account}", Role(Viewer)),
    ("GET", "/waves", "", Everybody),
    ("GET", "/waves/add", "", Somewhere(Operator)),
    ("POST", "/waves/add", "name=new&account=everywhere", Everywhere(Operator)),
    ("POST", "/waves/add", "name=new&account={account}", Role(Operator)),
    ("GET", "/waves/{wave}", "", Role(Viewer)),
    ("GET", "/waves/{wave}/edit", "", Role(Operator)),
    ("POST", "/waves/{wave}/edit", "name=other", Role(Operator)),
    ("GET", "/waves/{wave}/plan", "", Role(Operator)),
    ("POST", "/waves/{wave}/plan", "from=2030-01-01T00:00&to=2030-01-01T02:00&ticket=CHG-1", Role(Operator)),
    ("GET", "/waves/{wave}/launch/{purpose}", "test", Role(Operator)),
    ("GET", "/waves/{wave}/launch/{purpose}", "cutover", Role(Approver)),
    ("POST", "/waves/{wave}/actions/{action}", "withdraw", Role(Operator)),
    ("POST", "/waves/{wave}/actions/{action}", "approve", Role(Approver)),
    ("POST", "/waves/{wave}/actions/{action}", "start-cutover", Role(Approver)),
    ("GET", "/waves/{wave}/report", "", Role(Viewer)),
    ("GET", "/waves/{wave}/report.csv", "", Role(Viewer)),
    ("GET", "/jobs", "", Everybody),
    ("GET", "/jobs/{job}", "", Role(Viewer)),
    ("GET", "/jobs/{job}/cancel", "", Role(Viewer)),
    ("POST", "/jobs/{job}/cancel", "", Role(Operator)),
    ("POST", "/jobs/{job}/hasten", "", Role(Operator)),
    ("GET", "/jobs/{job}/clean-up/{server}", "", Role(Operator)),
    ("POST", "/jobs/{job}/clean-up/{server}", "", Role(Operator)),
    ("GET", "/audit", "", Everybody),
    ("GET", "/audit/export", "?format=jsonl", Everybody),
    // Says that something changed, and never what.
    ("GET", "/events", "stream", Everybody),
    ("GET", "/sign-in", "", Everybody),
    ("POST", "/sign-in", "", Everybody),
    ("GET", "/sign-in/further", "", Everybody),
    ("POST", "/sign-in/further", "", Everybody),
    ("GET", "/sign-in/oidc", "", Everybody),
    ("GET", "/sign-in/oidc/begin", "", Everybody),
    ("GET", "/sign-in/oidc/leave", "", Everybody),
    ("POST", "/sign-out", "none", Everybody),
    ("GET", "/profile", "", Everybody),
    ("POST", "/profile", "language=", Everybody),
    ("GET", "/profile/password", "", Everybody),
    ("POST", "/profile/password", "now=a&new=b&again=c", Everybody),
    ("GET", "/profile/second-factor", "", Everybody),
    ("POST", "/profile/second-factor", "sealed=&code=", Everybody),
    ("POST", "/profile/second-factor/remove", "code=1", Everybody),
    ("POST", "/profile/recovery-codes", "code=1", Everybody),
    ("POST", "/profile/sessions/{session}/end", "", Role(Viewer)),
    ("POST", "/profile/keys", "name=a&days=", Everybody),
    ("POST", "/profile/keys/{key}/remove", "", Everybody),
    ("GET", "/settings", "", Somewhere(Administrator)),
    ("GET", "/settings/templates/launch", "?scope=everything", Everywhere(Administrator)),
    ("GET", "/settings/templates/launch", "?scope=account:{account}", Role(Administrator)),
    ("POST", "/settings/templates/launch", "?scope=account:{account}", Role(Administrator)),
    ("GET", "/settings/templates/replication", "?scope=account:{account}", Role(Administrator)),
    ("POST", "/settings/templates/replication", "?scope=account:{account}", Role(Administrator)),
    ("POST", "/settings/templates/remove", "?half=launch&scope=account:{account}", Role(Administrator)),
    ("GET", "/settings/targets", "", Everywhere(Administrator)),
    ("POST", "/settings/targets", "name=a&form=event&address=https://example.com&kind=stalled", Everywhere(Administrator)),
    ("POST", "/settings/targets/{target}/try", "", Everywhere(Administrator)),
    ("POST", "/settings/targets/{target}/remove", "", Everywhere(Administrator)),
    ("GET", "/people", "", Everywhere(Administrator)),
    ("GET", "/people/add", "", Everywhere(Administrator)),
    ("POST", "/people/add", "name=eve&role=viewer&scope=everything", Everywhere(Administrator)),
    ("GET", "/people/{name}", "", Everywhere(Administrator)),
    ("POST", "/people/{name}/grant", "role=viewer&scope=everything", Everywhere(Administrator)),
    ("POST", "/people/{name}/revoke", "scope=everything", Everywhere(Administrator)),
    ("GET", "/people/{name}/password", "", Everywhere(Administrator)),
    ("POST", "/people/{name}/password", "", Everywhere(Administrator)),
    ("POST", "/people/{name}/keys/{key}/remove", "", Everywhere(Administrator)),
    ("GET", "/people/{name}/measures/{measure}", "disable", Everywhere(Administrator)),
    ("POST", "/people/{name}/measures/{measure}", "disable", Everywhere(Administrator)),
    ("GET", "/static/{*path}", "", Everybody),
];

#[rustfmt::skip]
const OPERATIONS: &[Route] = &[
    ("POST", "/DescribeSourceServers", "{}", Everybody),
    ("POST", "/ChangeServerLifeCycleState", r#"{"sourceServerID":"{server}","lifeCycle":{"state":"READY_FOR_TEST"}}"#, Role(Operator)),
    ("POST", "/ChangeServerLifeCycleState", r#"{"sourceServerID":"{server}","lifeCycle":{"state":"CUTOVER"}}"#, Role(Approver)),
    ("POST", "/MarkAsArchived", r#"{"sourceServerID":"{server}"}"#, Role(Operator)),
    ("POST", "/FinalizeCutover", r#"{"sourceServerID":"{server}"}"#, Role(Approver)),
    ("POST", "/DisconnectFromService", r#"{"sourceServerID":"{server}"}"#, Role(Approver)),
    ("POST", "/PauseReplication", r#"{"sourceServerID":"{server}"}"#, Role(Operator)),
    ("POST", "/ResumeReplication", r#"{"sourceServerID":"{server}"}"#, Role(Operator)),
    ("POST", "/StopReplication", r#"{"sourceServerID":"{server}"}"#, Role(Operator)),
    ("POST", "/StartReplication", r#"{"sourceServerID":"{server}"}"#, Role(Operator)),
    ("POST", "/RetryDataReplication", r#"{"sourceServerID":"{server}"}"#, Role(Operator)),
    ("POST", "/GetLaunchConfiguration", r#"{"sourceServerID":"{server}"}"#, Role(Viewer)),
    ("POST", "/UpdateLaunchConfiguration", r#"{"sourceServerID":"{server}","copyTags":true}"#, Role(Operator)),
    ("POST", "/GetReplicationConfiguration", r#"{"sourceServerID":"{server}"}"#, Role(Viewer)),
    ("POST", "/UpdateReplicationConfiguration", r#"{"sourceServerID":"{server}","bandwidthThrottling":5}"#, Role(Operator)),
    ("POST", "/StartTest", r#"{"sourceServerIDs":["{server}"]}"#, Role(Operator)),
    ("POST", "/StartCutover", r#"{"sourceServerIDs":["{server}"]}"#, Role(Approver)),
    ("POST", "/TerminateTargetInstances", r#"{"sourceServerIDs":["{server}"]}"#, Role(Operator)),
    ("POST", "/DescribeJobs", "{}", Everybody),
    ("POST", "/DescribeJobLogItems", r#"{"jobID":"{job}"}"#, Role(Viewer)),
    ("POST", "/CreateApplication", r#"{"name":"another","accountID":"{account}"}"#, Role(Operator)),
    ("POST", "/ListApplications", "{}", Everybody),
    ("POST", "/UpdateApplication", r#"{"applicationID":"{application}","name":"shop"}"#, Role(Operator)),
    ("POST", "/ArchiveApplication", r#"{"applicationID":"{application}"}"#, Role(Operator)),
    ("POST", "/UnarchiveApplication", r#"{"applicationID":"{application}"}"#, Role(Operator)),
    ("POST", "/AssociateSourceServers", r#"{"applicationID":"{application}","sourceServerIDs":["{server}"]}"#, Role(Operator)),
    ("POST", "/DisassociateSourceServers", r#"{"applicationID":"{application}","sourceServerIDs":["{server}"]}"#, Role(Operator)),
    ("POST", "/DeleteApplication", r#"{"applicationID":"{application}"}"#, Role(Operator)),
    ("POST", "/CreateWave", r#"{"name":"another"}"#, Everywhere(Operator)),
    ("POST", "/CreateWave", r#"{"name":"another","accountID":"{account}"}"#, Role(Operator)),
    ("POST", "/ListWaves", "{}", Everybody),
    ("POST", "/UpdateWave", r#"{"waveID":"{wave}","name":"first"}"#, Role(Operator)),
    ("POST", "/ArchiveWave", r#"{"waveID":"{wave}"}"#, Role(Operator)),
    ("POST", "/UnarchiveWave", r#"{"waveID":"{wave}"}"#, Role(Operator)),
    ("POST", "/AssociateApplications", r#"{"waveID":"{wave}","applicationIDs":["{application}"]}"#, Role(Operator)),
    ("POST", "/DisassociateApplications", r#"{"waveID":"{wave}","applicationIDs":["{application}"]}"#, Role(Operator)),
    ("POST", "/DeleteWave", r#"{"waveID":"{wave}"}"#, Role(Operator)),
    ("POST", "/ListManagedAccounts", "{}", Everybody),
];

#[rustfmt::skip]
const V1: &[Route] = &[
    ("GET", "/organizations", "", Everybody),
    ("POST", "/organizations", r#"{"name":"new","reach":"ROSTER","region":"eu-central-1","accounts":[{"id":"123456789012","name":"x"}]}"#, Everywhere(Administrator)),
    ("GET", "/accounts", "", Everybody),
    ("POST", "/accounts/refresh", "", Somewhere(Operator)),
    ("GET", "/accounts/{id}/ledger", "", Role(Viewer)),
    ("GET", "/accounts/{id}/readiness", "", Role(Viewer)),
    ("POST", "/accounts/{id}/readiness", "", Role(Operator)),
    ("GET", "/accounts/{id}/resources", "", Role(Viewer)),
    ("POST", "/accounts/{id}/resources", "", Role(Operator)),
    ("POST", "/tokens", r#"{"account":"{account}","purpose":"agent"}"#, Role(Administrator)),
    ("GET", "/runners", "", Everybody),
    ("POST", "/runners/{id}/revoke", "", Role(Administrator)),
    ("GET", "/servers/{id}", "", Role(Viewer)),
    ("GET", "/servers/{id}/bandwidth", "", Role(Viewer)),
    ("PUT", "/servers/{id}/bandwidth", r#"{"mbitS":5}"#, Role(Operator)),
    ("GET", "/servers/{id}/conversion-settings", "", Role(Viewer)),
    ("PUT", "/servers/{id}/conversion-settings", r#"{"convert":true}"#, Role(Operator)),
    ("GET", "/servers/{id}/conversions/{job}", "", Role(Viewer)),
    ("GET", "/servers/{id}/conversions/{job}/{document}", "changes.json", Role(Viewer)),
    ("POST", "/servers/{id}/launch-check", "?purpose=test", Role(Viewer)),
    ("POST", "/servers/{id}/removal-check", "?removal=finalize-cutover", Role(Viewer)),
    ("GET", "/servers/{id}/instances/{purpose}/{what}", "test", Role(Viewer)),
    ("POST", "/servers/{id}/clean-up", "", Role(Operator)),
    ("POST", "/jobs/{job}/cancel", "", Role(Operator)),
    ("POST", "/servers/{id}/revoke", "", Role(Administrator)),
    ("GET", "/inventory", "?account={account}", Role(Viewer)),
    ("GET", "/inventory", "", Everybody),
    ("POST", "/inventory", "mgn:account-id,mgn:app:name\n{account},new=\n", Somewhere(Operator)),
    ("GET", "/turned-away", "", Everybody),
];

/// The paths that a router's source names.
fn routed(source: &str) -> BTreeSet<&str> {
    let routes = source.split(".route(").skip(1);
    routes
        .map(|rest| rest.split('"').nth(1).expect("a route begins with its path"))
        .collect()
}

#[test]
fn no_route_is_left_out_of_the_walk() {
    for (source, walked) in [
        (include_str!("../mod.rs"), PAGES),
        (include_str!("../../api/mgn/mod.rs"), OPERATIONS),
        (include_str!("../../api/v1.rs"), V1),
    ] {
        let walked: BTreeSet<_> = walked.iter().map(|route| route.1).collect();
        assert_eq!(routed(source), walked);
    }
}

/// Something of an account to point at.
struct Place {
    account: &'static str,
    server: String,
    runner: String,
    job: String,
    application: ApplicationId,
    wave: WaveId,
}

/// Of an account, by its place in [`ACCOUNTS`], and one of its servers.
fn place(index: usize, server: u128, job: String) -> Place {
    Place {
        account: ACCOUNTS[index].0,
        server: server_id(server).to_string(),
        runner: domain::ids::RunnerId::from_entropy(index as u128 + 1).to_string(),
        job,
        application: world::application_id(index),
        wave: world::wave_id(index),
    }
}

/// A file in a form.
const UPLOAD: &str = "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.csv\"\r\n\r\nmgn:app:name\r\n--b--\r\n";

struct Walker {
    hub: TestHub,
    router: Router,
    cookie: String,
    key: String,
}

impl Walker {
    /// Somebody with one role in one scope, in a world of their own: what they do stays theirs.
    async fn new(role: UserRole, scope: Scope) -> Self {
        let hub = fixtures::hub().await;
        world::fill(&hub).await;
        let grants = vec![Grant { role, scope }];
        fixtures::add_person(&hub, "somebody", grants, PASSWORD).await;
        let signed_in = hub.sign_in("somebody", PASSWORD, &Browser::default()).await;
        let SignIn::Open(cookie) = signed_in.unwrap() else {
            panic!("there is no second factor");
        };
        Self {
            router: ui_router(hub.hub.clone()),
            cookie: format!("sid={cookie}"),
            key: fixtures::add_key(&hub, "somebody").await,
            hub,
        }
    }

    async fn ask(&self, method: &str, path: &str, body: String) -> (StatusCode, String) {
        let is_page = !path.starts_with("/api/") && !body.starts_with('{');
        let request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .uri(path)
            .header(header::HOST, "hub.example")
            .header("sec-fetch-site", "same-origin");
        let request = if is_page {
            request.header(header::COOKIE, &self.cookie).header(
                header::CONTENT_TYPE,
                if body == UPLOAD {
                    "multipart/form-data; boundary=b"
                } else {
                    "application/x-www-form-urlencoded"
                },
            )
        } else {
            request.header(header::AUTHORIZATION, format!("Bearer {}", self.key))
        };
        let request = request.body(Body::from(body)).unwrap();
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = to_bytes(body, 1 << 24).await.unwrap();
        (parts.status, String::from_utf8_lossy(&body).into_owned())
    }

    /// Asks for a route with the names of a place in it.
    async fn walk(&self, route: &Route, prefix: &str, place: &Place) -> (StatusCode, String) {
        let (method, template, given, _) = *route;
        let mut path = format!("{prefix}{template}");
        let id = if template.starts_with("/accounts") {
            place.account
        } else if template.starts_with("/runners") {
            &place.runner
        } else {
            &place.server
        };
        let (application, wave) = (place.application.as_str(), place.wave.as_str());
        let fill = |mut text: String| {
            for (name, value) in [
                ("{server}", place.server.as_str()),
                ("{account}", place.account),
                ("{machine}", &place.runner),
                ("{job}", &place.job),
                ("{application}", application),
                ("{wave}", wave),
                ("{id}", id),
                ("{what}", "console.txt"),
                ("{*path}", "style.css"),
                ("{action}", given),
                ("{purpose}", given),
                ("{document}", given),
                ("{measure}", given),
                ("{name}", "viewer"),
                ("{session}", "000000000000"),
                ("{key}", "000000000000"),
                ("{target}", "0000000000000000"),
                ("{import}", "import-00000000000000000"),
            ] {
                text = text.replace(name, value);
            }
            text
        };
        path = fill(path);
        if given.starts_with('?') {
            path.push_str(&fill(given.to_owned()));
        }
        let has_body = given.starts_with('{') || (given.contains('=') && !given.starts_with('?'));
        let body = match given {
            "multipart" => UPLOAD.to_owned(),
            given if has_body => fill(given.to_owned()),
            _ => String::new(),
        };
        self.ask(method, &path, body).await
    }

    /// All that an order could have changed in an account.
    async fn state_of(&self, place: &Place) -> String {
        let store = &self.hub.store;
        let account = place.account.parse().unwrap();
        let server = store.server(&place.server.parse().unwrap()).await.unwrap();
        let tokens = store.token_list().await.unwrap();
        format!(
            "{server:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            store.sagas_of_job(&place.job.parse().unwrap()).await.unwrap(),
            store.application(&place.application).await.unwrap(),
            store.wave(&place.wave).await.unwrap(),
            store.jobs_of_server(&server.id).await.unwrap(),
            store.certificates_in(&account).await.unwrap(),
            store.readiness_of(&account).await.unwrap(),
            store.inventory_of(&account).await.unwrap(),
            store
                .templates()
                .await
                .unwrap()
                .of(&store.account(&account).await.unwrap()),
            tokens.iter().filter(|token| token.account.0 == account).count(),
        )
    }
}

/// Whether somebody with this role in a part of everything has to be let through.
fn is_for(whom: For, role: UserRole) -> bool {
    match whom {
        Role(needed) | Somewhere(needed) => role >= needed,
        Everywhere(_) => false,
        Everybody => true,
    }
}

/// Names that nobody may read who may not see the accounts.
fn names_of(indices: &[usize]) -> Vec<String> {
    let servers: [&[u128]; 4] = [&[1, 2, 3, 4], &[5, 6, 7, 8, 9], &[], &[10, 11, 12]];
    let mut names = Vec::new();
    for index in indices {
        names.extend([ACCOUNTS[*index].0.to_owned(), ACCOUNTS[*index].1.to_owned()]);
        names.push(format!("10.{}.0.10", index + 1));
        names.extend(
            servers[*index]
                .iter()
                .map(|number| server_id(*number).to_string()),
        );
    }
    if indices.contains(&3) {
        names.push("Government tenant".into());
    }
    names
}

/// Walks all routes, on what is one's own and on what is not, and finds the names of foreign accounts nowhere.
async fn walk(role: UserRole, scope: Scope, own: &Place, foreign: &Place, hidden: &[usize]) {
    let walker = Walker::new(role, scope.clone()).await;
    let before = walker.state_of(foreign).await;
    let hidden = names_of(hidden);
    let mut wrong = Vec::new();
    let routes = [("", PAGES), ("", OPERATIONS), ("/api/v1", V1)];
    let routes = routes
        .into_iter()
        .flat_map(|(prefix, routes)| routes.iter().map(move |route| (prefix, route)));
    for (prefix, route) in routes {
        if ["stream", "none"].contains(&route.2) {
            continue;
        }
        let what = format!("{} {prefix}{} {}", route.0, route.1, route.2);
        if matches!(route.3, Role(_)) {
            let (status, body) = walker.walk(route, prefix, foreign).await;
            if status != StatusCode::NOT_FOUND {
                wrong.push(format!("{what}, of a foreign account: {status} {body}"));
            }
        }
        let (status, body) = walker.walk(route, prefix, own).await;
        if (status == StatusCode::FORBIDDEN) == is_for(route.3, role) || status.is_server_error() {
            wrong.push(format!("{what}: {status} {body}"));
        }
        let said = hidden.iter().filter(|name| body.contains(name.as_str()));
        wrong.extend(said.map(|name| format!("{what} says {name}: {body}")));
    }
    if walker.state_of(foreign).await != before {
        wrong.push("a foreign account was changed".into());
    }
    assert!(
        wrong.is_empty(),
        "{} for {scope}:\n{}",
        role.name(),
        wrong.join("\n")
    );
}

#[tokio::test]
async fn an_account_is_all_that_its_people_see_and_move() {
    let own = place(0, 1, failed_job().to_string());
    let foreign = place(1, 5, running_job().to_string());
    for role in ROLES {
        let scope = Scope::Account(ACCOUNTS[0].0.parse().unwrap());
        walk(role, scope, &own, &foreign, &[1, 2, 3]).await;
    }
}

#[tokio::test]
async fn a_unit_is_with_all_below_it_and_an_organization_with_all_its_accounts() {
    let organization = OrganizationId::from_entropy(1);
    let unit = |path: &str| Scope::Unit(organization.clone(), path.parse().unwrap());
    let web = place(0, 1, failed_job().to_string());
    let data = place(1, 5, running_job().to_string());
    let tenant = place(3, 10, "mgnjob-99999999999999999".into());
    walk(Operator, unit("Root/Production/Data"), &data, &web, &[0, 2, 3]).await;
    walk(Approver, unit("Root/Production"), &web, &tenant, &[2, 3]).await;
    walk(
        Administrator,
        Scope::Organization(organization),
        &web,
        &tenant,
        &[3],
    )
    .await;
}

#[tokio::test]
async fn roles_add_up_by_account() {
    let walker = Walker::new(Viewer, Scope::Everything).await;
    let account = Scope::Account(ACCOUNTS[1].0.parse().unwrap());
    let grant = Grant {
        role: Operator,
        scope: account.clone(),
    };
    let mut tx = walker.hub.store.begin().await.unwrap();
    people::grant(&mut tx, COMMAND_LINE, "somebody", grant)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let pause = |number| format!("/servers/{}/actions/pause-replication", server_id(number));
    let (there, _) = walker.ask("GET", &pause(5), String::new()).await;
    let (elsewhere, _) = walker.ask("GET", &pause(1), String::new()).await;
    assert_eq!((there, elsewhere), (StatusCode::OK, StatusCode::FORBIDDEN));
    // What is taken back counts from the next request on.
    let mut tx = walker.hub.store.begin().await.unwrap();
    people::revoke(&mut tx, COMMAND_LINE, "somebody", &account)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let (there, _) = walker.ask("GET", &pause(5), String::new()).await;
    assert_eq!(there, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn of_a_job_over_several_accounts_each_sees_ones_own_part() {
    let walker = Walker::new(Approver, Scope::Account(ACCOUNTS[0].0.parse().unwrap())).await;
    let central = Actor::new("central", [Grant::everywhere(Operator)]);
    let (own, foreign) = (server_id(1), server_id(7));
    let servers = [own.clone(), foreign.clone()];
    let ordered = jobs::start_test(&walker.hub, &central, &servers).await.unwrap();
    assert_eq!(ordered.skipped, []);
    let of_job = format!(r#"{{"jobID":"{}"}}"#, ordered.job);
    for (operation, body) in [("/DescribeJobs", "{}"), ("/DescribeJobLogItems", of_job.as_str())] {
        let (status, said) = walker.ask("POST", operation, body.to_owned()).await;
        assert_eq!(status, StatusCode::OK, "{said}");
        assert!(!said.contains(foreign.as_str()), "{operation}: {said}");
    }
    let (_, page) = walker
        .ask("GET", &format!("/jobs/{}", ordered.job), String::new())
        .await;
    assert!(
        page.contains(own.as_str()) && !page.contains(foreign.as_str()),
        "{page}"
    );

    // Somebody of one account names a server of another: it does not exist.
    let (own, foreign) = (server_id(3), server_id(5));
    let both = format!(r#"{{"sourceServerIDs":["{own}","{foreign}"]}}"#);
    let (status, body) = walker.ask("POST", "/StartTest", both).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{body}");
    let foreign = walker.hub.store.server(&foreign).await.unwrap();
    assert_eq!(foreign.running_job, None);
}
