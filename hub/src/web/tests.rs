//! The console over a real store: every page, for everybody who may see it and for nobody else.

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Method, Request, Response, StatusCode, header},
};
use domain::replication::{Replication, ReplicationError, Stall};
use sea_orm::ActiveValue::Set;
use tower::ServiceExt;

use self::world::{ACCOUNTS, PASSWORD, failed_job, server_id};
use crate::{
    entities::{Doc, source_server},
    fixtures::{self, TestHub},
};

mod accounts;
mod finding;
mod jobs;
mod languages;
mod scopes;
mod templates;
mod world;

struct Console {
    hub: TestHub,
    router: Router,
}

async fn console() -> Console {
    let hub = fixtures::hub().await;
    world::fill(&hub).await;
    let router = super::router(hub.hub.clone());
    Console { hub, router }
}

struct Answer {
    status: StatusCode,
    response: Response<()>,
    body: String,
}

impl Answer {
    fn header(&self, name: header::HeaderName) -> &str {
        self.response
            .headers()
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

impl Console {
    async fn ask(&self, request: Request<Body>) -> Answer {
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = to_bytes(body, 1 << 24).await.unwrap();
        Answer {
            status: parts.status,
            response: Response::from_parts(parts, ()),
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    async fn get(&self, cookie: &str, path: &str) -> Answer {
        self.ask(request(Method::GET, cookie, path, "")).await
    }

    async fn post(&self, cookie: &str, path: &str, form: &str) -> Answer {
        self.ask(request(Method::POST, cookie, path, form)).await
    }

    /// Signs in and gives the cookie.
    async fn sign_in(&self, name: &str) -> String {
        let form = format!("name={name}&password={}", PASSWORD.replace(' ', "+"));
        let answer = self.post("", "/sign-in", &form).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        let cookie = answer.header(header::SET_COOKIE);
        for part in ["sid=", "HttpOnly", "SameSite=Lax", "Path=/"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        cookie.split(';').next().unwrap().to_owned()
    }
}

fn request(method: Method, cookie: &str, path: &str, form: &str) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "hub.example")
        .header("sec-fetch-site", "same-origin")
        .header(header::COOKIE, cookie)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from(form.to_owned()))
        .unwrap()
}

fn conversion() -> String {
    format!("/servers/{}/conversions/{}", server_id(1), failed_job())
}

/// Every page, and something that must be on it.
fn pages() -> Vec<(String, &'static str)> {
    let account = ACCOUNTS[0].0;
    let (web_1, web_2, failed) = (server_id(1), server_id(2), failed_job());
    vec![
        ("/".into(), "prod-web"),
        ("/".into(), "Cutovers today and this week"),
        ("/servers".into(), "app-with-a-very-long-host-name-01"),
        ("/servers?q=web-2&state=TESTING&sort=-lag".into(), "web-2"),
        (format!("/servers?account={account}&replication=BACKLOG"), "web-2"),
        (format!("/servers/{web_1}"), "Launch configuration"),
        (
            format!("/servers/{web_1}?trend=month"),
            "2.0 MiB/s sent and 512 KiB/s written",
        ),
        (format!("/servers/{web_2}"), "i-0"),
        (format!("/servers/{web_2}"), "Will not converge below 34 Mbit/s."),
        (format!("/servers/{web_2}"), "Mon–Fri 08:00–18:00, 10 Mbit/s"),
        (format!("/servers/{web_2}"), "Tracked in 4 KiB chunks"),
        (format!("/servers/{web_2}"), "Boot it with lockdown=integrity"),
        (format!("/servers/{web_2}"), "does not match its digest"),
        (format!("/servers/{}", server_id(3)), "Done in about"),
        (format!("/servers/{}", server_id(3)), "Not looked at yet"),
        (format!("/servers/{web_1}"), "data-state=\"READY_WITH_WARNINGS\""),
        (format!("/servers/{web_1}"), "cloud-init is not installed."),
        (format!("/servers/{web_1}"), "3 changes in 21 s."),
        (format!("/servers/{web_2}"), "encrypted: &#60;dm-0&#62;"),
        (
            format!("/servers/{}", server_id(6)),
            "The runner is at “initramfs”.",
        ),
        ("/servers?readiness=BLOCKED".into(), "db-2"),
        ("/servers".into(), "Would not boot"),
        (conversion(), "port 80 answered / with 200"),
        (conversion(), "-/dev/sda1 / ext4"),
        (conversion(), "not shown: too long"),
        (conversion(), "Booting &#60;Debian&#62;"),
        (conversion(), "/etc/&#60;script&#62;alert(1)"),
        (format!("/servers/{}", server_id(5)), "Suspect: compared once"),
        (format!("/accounts/{account}"), "10.1.0.10"),
        (format!("/accounts/{account}"), "data-state=\"WILL_NOT_CONVERGE\""),
        (format!("/accounts/{account}"), "data-state=\"NOT_TRACKED\""),
        ("/".into(), "1 will not converge"),
        ("/".into(), "2 not tracked"),
        ("/".into(), "Raise the limit under Bandwidth."),
        (format!("/accounts/{}", ACCOUNTS[2].0), "trust policy"),
        (
            format!("/accounts/{account}"),
            "Add an inbound rule: TCP 1500 from 192.168.0.0/16.",
        ),
        (format!("/accounts/{account}"), "data-state=\"NOT_READY\""),
        (
            format!("/accounts/{}", ACCOUNTS[1].0),
            "within a minute after it can enter",
        ),
        (
            format!("/accounts/{}", ACCOUNTS[3].0),
            "Staging VPC to hub, 10.4.0.10/32 → 198.51.100.4/32, TCP 8443.",
        ),
        ("/".into(), "1 in the network"),
        ("/".into(), "1 thing in its network to change"),
        ("/jobs".into(), "Launch test instances"),
        (format!("/jobs/{failed}"), "LAUNCH_FAILED"),
        (format!("/jobs/{failed}"), "/conversions/"),
    ]
}

#[tokio::test]
async fn every_page_is_there_for_a_viewer_and_carries_the_policy() {
    let console = console().await;
    let viewer = console.sign_in("viewer").await;
    for (path, content) in pages() {
        let answer = console.get(&viewer, &path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
        assert!(
            answer.body.contains(content),
            "{path} has no {content}: {}",
            answer.body
        );
        let policy = answer.header(header::CONTENT_SECURITY_POLICY);
        assert!(
            policy.contains("default-src 'self'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(answer.header(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
        assert_eq!(answer.header(header::CACHE_CONTROL), "no-store");
        assert!(
            !answer.body.contains(" style=") && !answer.body.contains("<style"),
            "{path}"
        );
        assert!(!answer.body.contains(" onclick="), "{path}");
    }
}

#[tokio::test]
async fn a_live_part_is_asked_for_without_its_frame() {
    let console = console().await;
    let viewer = console.sign_in("viewer").await;
    for (path, content) in pages() {
        let mut request = request(Method::GET, &viewer, &path, "");
        request.headers_mut().insert("hx-target", "live".parse().unwrap());
        let answer = console.ask(request).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert!(answer.body.contains(content), "{path}");
        assert!(
            !answer.body.contains("<html") && !answer.body.contains("id=\"live\""),
            "{path}"
        );
    }
}

#[tokio::test]
async fn nobody_sees_a_page_without_signing_in() {
    let console = console().await;
    for (path, _) in pages() {
        let answer = console.get("sid=guessed", &path).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{path}");
        assert!(
            answer.header(header::LOCATION).starts_with("/sign-in?next="),
            "{path}"
        );
    }
    let events = console.get("", "/events").await;
    assert_eq!(events.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_viewer_sees_no_button_and_may_order_nothing() {
    let console = console().await;
    let viewer = console.sign_in("viewer").await;
    for (path, _) in pages() {
        let answer = console.get(&viewer, &path).await;
        for action in [
            "/actions/",
            "/enrol/",
            "/revoke/",
            "/clean-up/",
            "launch-configuration\"",
            "/bandwidth\"",
            "/network/check",
            "/resources/check",
        ] {
            assert!(!answer.body.contains(action), "{path} offers {action}");
        }
    }
    let (server, account) = (server_id(1), ACCOUNTS[0].0);
    for path in [
        format!("/servers/{server}/actions/start-test"),
        format!("/servers/{server}/launch-configuration"),
        format!("/servers/{server}/replication-configuration"),
        format!("/accounts/{account}/enrol/agent"),
        format!("/accounts/{account}/revoke/{server}"),
        format!("/jobs/{}/clean-up/{server}", failed_job()),
    ] {
        let form = "instance_type=m5.large&test_subnet=a&target_subnet=b";
        let posted = console.post(&viewer, &path, form).await;
        assert_eq!(posted.status, StatusCode::FORBIDDEN, "{path}");
        let asked = console.get(&viewer, &path).await;
        assert_eq!(asked.status, StatusCode::FORBIDDEN, "{path}");
    }
}

#[tokio::test]
async fn an_operator_has_the_network_of_an_account_looked_at() {
    let console = console().await;
    let page = format!("/accounts/{}", ACCOUNTS[1].0);
    let check = format!("{page}/network/check");
    let viewer = console.sign_in("viewer").await;
    assert_eq!(
        console.post(&viewer, &check, "").await.status,
        StatusCode::FORBIDDEN
    );
    let operator = console.sign_in("operator").await;
    assert!(console.get(&operator, &page).await.body.contains(&check));
    assert_eq!(
        console.post(&operator, &check, "").await.status,
        StatusCode::SEE_OTHER
    );
    let shown = console.get(&operator, &page).await.body;
    assert!(
        shown.contains("not looked at yet, being looked at now"),
        "{shown}"
    );
}

#[tokio::test]
async fn each_role_is_offered_what_it_may_do() {
    let console = console().await;
    let db_1 = format!("/servers/{}", server_id(5));
    let operator = console.sign_in("operator").await;
    let shown = console.get(&operator, &db_1).await.body;
    assert!(
        !shown.contains("finalize-cutover"),
        "an operator may not finalize"
    );
    assert!(
        shown.contains("needs the role “approver”") || shown.contains("approver"),
        "{shown}"
    );
    let approver = console.sign_in("approver").await;
    let shown = console.get(&approver, &db_1).await.body;
    assert!(shown.contains("finalize-cutover"));
    let asked = console
        .get(&approver, &format!("{db_1}/actions/finalize-cutover"))
        .await;
    assert!(asked.body.contains("Finalize cutover: db-1") && asked.body.contains("cannot be taken back"));
    // The account of this hub of tests trusts nobody; it is said, and hinders nothing.
    assert!(asked.body.contains("id=\"removal\""), "{}", asked.body);
    let impossible = console
        .get(&approver, &format!("{db_1}/actions/start-test"))
        .await;
    assert_eq!(impossible.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_token_is_shown_once_with_the_command_that_takes_it() {
    let console = console().await;
    let administrator = console.sign_in("administrator").await;
    let account = ACCOUNTS[0].0;
    let path = format!("/accounts/{account}/enrol/agent");
    assert!(
        console
            .get(&administrator, &path)
            .await
            .body
            .contains("Create token")
    );
    let shown = console.post(&administrator, &path, "").await;
    assert_eq!(shown.status, StatusCode::OK);
    assert!(
        shown
            .body
            .contains("orglift-agent install --runner 10.1.0.10 --token olt1.")
    );
    let again = console.get(&administrator, &format!("/accounts/{account}")).await;
    assert!(!again.body.contains("olt1."));
    let no_runner = console
        .get(
            &administrator,
            &format!("/accounts/{}/enrol/agent", ACCOUNTS[2].0),
        )
        .await;
    assert!(no_runner.body.contains("Add a runner first"));
}

#[tokio::test]
async fn a_revoked_certificate_is_said_and_shown() {
    let console = console().await;
    let administrator = console.sign_in("administrator").await;
    let (account, server) = (ACCOUNTS[0].0, server_id(1));
    let path = format!("/accounts/{account}/revoke/{server}");
    assert!(
        console
            .get(&administrator, &path)
            .await
            .body
            .contains("the agent on web-1")
    );
    let done = console.post(&administrator, &path, "").await;
    assert_eq!(done.status, StatusCode::SEE_OTHER);
    let flash = done
        .header(header::SET_COOKIE)
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let shown = console
        .get(
            &format!("{administrator}; {flash}"),
            &format!("/accounts/{account}"),
        )
        .await;
    assert!(
        shown
            .body
            .contains("The certificate of the agent on web-1 is revoked.")
    );
    assert!(shown.body.contains("data-state=\"REVOKED\""));
    let elsewhere = format!("/accounts/{}/revoke/{server}", ACCOUNTS[1].0);
    assert_eq!(
        console.post(&administrator, &elsewhere, "").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn wrong_passwords_are_refused_alike_and_then_slowed_down() {
    let console = console().await;
    for name in ["viewer", "nobody"] {
        for _ in 0..5 {
            let answer = console
                .post("", "/sign-in", &format!("name={name}&password=wrong"))
                .await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
            assert!(
                answer
                    .body
                    .contains("The name or the password is wrong, or too many")
            );
        }
        let answer = console
            .post("", "/sign-in", &format!("name={name}&password=wrong"))
            .await;
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(answer.body.contains("Too many attempts"));
    }
}

#[tokio::test]
async fn a_form_of_another_site_is_refused() {
    let console = console().await;
    let administrator = console.sign_in("administrator").await;
    let path = format!("/accounts/{}/enrol/agent", ACCOUNTS[0].0);
    let mut foreign = request(Method::POST, &administrator, &path, "");
    foreign
        .headers_mut()
        .insert("sec-fetch-site", "cross-site".parse().unwrap());
    assert_eq!(console.ask(foreign).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn signing_out_ends_the_session() {
    let console = console().await;
    let viewer = console.sign_in("viewer").await;
    assert_eq!(console.get(&viewer, "/").await.status, StatusCode::OK);
    let out = console.post(&viewer, "/sign-out", "").await;
    assert_eq!(out.header(header::LOCATION), "/sign-in?left=true");
    assert_eq!(console.get(&viewer, "/").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn behind_tls_the_cookie_is_bound_to_the_host() {
    let console = console().await;
    let form = format!("name=viewer&password={}", PASSWORD.replace(' ', "+"));
    let mut over_tls = request(Method::POST, "", "/sign-in", &form);
    over_tls
        .headers_mut()
        .insert("x-forwarded-proto", "https".parse().unwrap());
    let answer = console.ask(over_tls).await;
    let cookie = answer.header(header::SET_COOKIE);
    assert!(
        cookie.starts_with("__Host-sid=") && cookie.contains("Secure"),
        "{cookie}"
    );
    assert!(
        answer
            .header(header::STRICT_TRANSPORT_SECURITY)
            .starts_with("max-age=")
    );
}

#[tokio::test]
async fn a_change_reaches_the_event_stream() {
    use futures_util::StreamExt;
    let console = console().await;
    let viewer = console.sign_in("viewer").await;
    let path = format!("/events?server={}", server_id(1));
    let request = request(Method::GET, &viewer, &path, "");
    let response = console.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut events = response.into_body().into_data_stream();
    // Published again and again, since the stream subscribes when it likes.
    let change = crate::changes::Change::Server {
        server: server_id(1),
        account: ACCOUNTS[0].0.parse().unwrap(),
    };
    console.hub.changes.publish(change);
    let first = tokio::time::timeout(std::time::Duration::from_secs(8), events.next()).await;
    let text = String::from_utf8(first.unwrap().unwrap().unwrap().to_vec()).unwrap();
    assert!(
        text.contains("event: changed\n") && text.contains("data: 1\n"),
        "{text}"
    );
}

#[tokio::test]
async fn orders_are_carried_out_and_said() {
    let console = console().await;
    let operator = console.sign_in("operator").await;
    let (server, paused) = (server_id(1), server_id(7));
    let done = console
        .post(
            &operator,
            &format!("/servers/{paused}/actions/resume-replication"),
            "",
        )
        .await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    let row = console.hub.store.server(&paused).await.unwrap();
    assert_eq!(row.intent.0, domain::source_server::ReplicationIntent::Run);

    let path = format!("/servers/{server}/actions/mark-ready-for-cutover");
    console.post(&operator, &path, "").await;
    let row = console.hub.store.server(&server).await.unwrap();
    assert_eq!(row.lifecycle_name, "READY_FOR_CUTOVER");
    let refused = console.post(&operator, &path, "").await;
    let flash = refused
        .header(header::SET_COOKIE)
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let shown = console
        .get(&format!("{operator}; {flash}"), &format!("/servers/{server}"))
        .await;
    assert!(
        shown.body.contains("Nothing was changed for web-1"),
        "{}",
        shown.body
    );

    let form = "instance_type=r6i.large&test_subnet=subnet-1&target_subnet=subnet-2&disposition=STOPPED\
                &boot_mode=UEFI&copy_tags=yes&tags=team%3Dweb";
    let path = format!("/servers/{server}/launch-configuration");
    assert_eq!(
        console.post(&operator, &path, form).await.status,
        StatusCode::SEE_OTHER
    );
    let kept = console
        .hub
        .store
        .server(&server)
        .await
        .unwrap()
        .launch_configuration
        .0;
    assert_eq!(
        (kept.instance_type.as_str(), kept.tags["team"].as_str()),
        ("r6i.large", "web")
    );
    let wrong = console
        .post(
            &operator,
            &path,
            "instance_type=large&test_subnet=&target_subnet=x",
        )
        .await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(wrong.body.contains("Nothing was saved") && wrong.body.contains("family and a size"));
}

#[tokio::test]
async fn a_stall_says_what_happened_and_what_helps() {
    let console = console().await;
    let viewer = console.sign_in("viewer").await;
    let server = server_id(1);
    for (error, title, remedy) in [
        (
            ReplicationError::SnapshotsFailure,
            "Checkpoints cannot be made",
            "kernel log",
        ),
        (
            ReplicationError::NotConverging,
            "Replication does not converge",
            "/etc/orglift/freeze.d",
        ),
        (
            ReplicationError::UnsupportedVmConfiguration,
            "cannot be replicated as they are",
            "Attach the disk again",
        ),
    ] {
        let stall = Stall {
            error,
            detail: "disk /dev/sdb is at fault".into(),
            step: None,
        };
        let mut tx = console.hub.store.begin().await.unwrap();
        let row = tx.server(&server).await.unwrap();
        let change =
            |row: &mut source_server::ActiveModel| row.replication = Set(Doc(Replication::Stalled(stall)));
        tx.server_update(&row, change).await.unwrap();
        tx.commit().await.unwrap();
        let shown = console.get(&viewer, &format!("/servers/{server}")).await.body;
        for said in [title, error.name(), "disk /dev/sdb is at fault", remedy] {
            assert!(shown.contains(said), "{said}: {shown}");
        }
    }
}

#[tokio::test]
async fn bandwidth_is_limited_by_the_time_of_the_week() {
    let console = console().await;
    let operator = console.sign_in("operator").await;
    let server = server_id(1);
    let path = format!("/servers/{server}/replication-configuration");
    let wrong = console
        .post(
            &operator,
            &path,
            "checkpoint_interval=600&checkpoints_kept=6&mbit_s=20000&w0_from=08%3A00",
        )
        .await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    for said in [
        "Nothing was saved",
        "from 1 to 10000",
        "at least one day",
        "value=\"20000\"",
    ] {
        assert!(wrong.body.contains(said), "{said}: {}", wrong.body);
    }
    let form = "checkpoint_interval=600&checkpoints_kept=6&mbit_s=100&utc_offset=%2B09%3A00&w1_day0=yes&w1_day4=yes&w1_from=08%3A00&w1_until=18%3A00\
                &w1_mbit_s=20";
    assert_eq!(
        console.post(&operator, &path, form).await.status,
        StatusCode::SEE_OTHER
    );
    let row = console.hub.store.server(&server).await.unwrap();
    let kept = &row.bandwidth.0;
    assert_eq!(
        (kept.mbit_s, kept.windows.len(), kept.utc_offset_min),
        (Some(100), 2, 540)
    );
    let shown = console.get(&operator, &format!("/servers/{server}")).await.body;
    for said in ["Mon, Fri 08:00–18:00, 20 Mbit/s", "UTC+09:00", &path] {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    let log = console.hub.store.audit_of(server.as_str(), 5).await.unwrap();
    assert_eq!(
        (log[0].action.as_str(), log[0].actor.as_str()),
        ("update the replication configuration", "operator")
    );

    let over = format!("/servers/{}/replication-configuration", server_id(12));
    let refused = console.post(&operator, &over, form).await;
    assert!(
        refused.header(header::SET_COOKIE).starts_with("flash="),
        "{}",
        refused.body
    );
    let kept = console
        .hub
        .store
        .server(&server_id(12))
        .await
        .unwrap()
        .bandwidth
        .0;
    assert_eq!(kept, domain::bandwidth::Bandwidth::default());
}

#[tokio::test]
async fn a_launch_makes_a_job_that_can_be_watched() {
    let console = console().await;
    let operator = console.sign_in("operator").await;
    let server = server_id(1);
    console
        .post(&operator, &format!("/servers/{server}/actions/start-test"), "")
        .await;
    let row = console.hub.store.server(&server).await.unwrap();
    let job = row.running_job.expect("a job works on it");
    let page = console.get(&operator, &format!("/servers/{server}")).await.body;
    assert!(page.contains(&format!("/jobs/{job}")) && page.contains("A job is running."));
    let page = console.get(&operator, &format!("/jobs/{job}")).await.body;
    assert!(
        page.contains("Register image") && page.contains("web-1"),
        "{page}"
    );
}

#[tokio::test]
async fn the_documents_of_a_conversion_are_saved_and_never_taken_for_pages() {
    let console = console().await;
    let viewer = console.sign_in("viewer").await;
    for (name, kind, content) in [
        ("changes.json", "application/json", "\"path\": \"/etc/fstab\""),
        ("changes.json.sig", "application/octet-stream", "signature"),
        ("certificate.pem", "application/x-pem-file", "BEGIN CERTIFICATE"),
        ("changes.txt", "text/plain; charset=utf-8", "changed /etc/fstab"),
        ("console.txt", "text/plain; charset=utf-8", "Booting <Debian>"),
    ] {
        let answer = console.get(&viewer, &format!("{}/{name}", conversion())).await;
        assert_eq!(answer.status, StatusCode::OK, "{name}");
        assert!(answer.body.contains(content), "{name}: {}", answer.body);
        assert_eq!(answer.header(header::CONTENT_TYPE), kind);
        assert_eq!(answer.header(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
        let saved = format!("attachment; filename=\"{name}\"");
        assert_eq!(answer.header(header::CONTENT_DISPOSITION), saved);
        assert!(
            answer
                .header(header::CONTENT_SECURITY_POLICY)
                .contains("default-src 'self'")
        );
    }
    for lacking in ["hub.db", "..%2fhub.db", ""] {
        let answer = console.get(&viewer, &format!("{}/{lacking}", conversion())).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{lacking}");
    }
    let elsewhere = format!(
        "/servers/{}/conversions/{}/console.txt",
        server_id(2),
        failed_job()
    );
    assert_eq!(
        console.get(&viewer, &elsewhere).await.status,
        StatusCode::NOT_FOUND
    );
    let path = format!("{}/console.txt", conversion());
    assert_eq!(console.get("", &path).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_screenshot_is_an_image() {
    let console = console().await;
    let viewer = console.sign_in("viewer").await;
    let path = format!("{}/screenshot.png", conversion());
    let request = request(Method::GET, &viewer, &path, "");
    let answer = console.router.clone().oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "image/png");
    assert_eq!(answer.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    let body = to_bytes(answer.into_body(), 1 << 10).await.unwrap();
    assert!(body.starts_with(b"\x89PNG"));
}

#[tokio::test]
async fn whoever_launches_sees_what_would_keep_it_from_booting() {
    let console = console().await;
    let approver = console.sign_in("approver").await;
    // One of them works on db-2.
    let mut tx = console.hub.store.begin().await.unwrap();
    let row = console.hub.store.server(&server_id(6)).await.unwrap();
    tx.server_release(&row).await.unwrap();
    tx.commit().await.unwrap();
    let ask = async |number, action: &str| {
        let path = format!("/servers/{}/actions/{action}", server_id(number));
        let answer = console.get(&approver, &path).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.body
    };
    let blocked = ask(6, "start-cutover").await;
    assert!(
        blocked.contains("would not boot") && blocked.contains("encrypted"),
        "{blocked}"
    );
    let warned = ask(1, "start-test").await;
    assert!(!warned.contains("would not boot"), "{warned}");
}
