//! Finding things again: search over everything, columns, saved filters.

use domain::scope::Scope;

use super::{
    world::{application_id, wave_id},
    *,
};
use crate::{
    auth::{Actor, Grant},
    entities::user::UserRole,
};

#[tokio::test]
async fn one_search_finds_whatever_has_a_name() {
    let console = console().await;
    let ada = console.sign_in("administrator").await;
    let account = ACCOUNTS[0];
    for (sought, found) in [
        ("web-2", format!("/servers/{}", server_id(2))),
        (account.1, format!("/accounts/{}", account.0)),
        (account.0, format!("/accounts/{}", account.0)),
        (failed_job().as_str(), format!("/jobs/{}", failed_job())),
        (
            application_id(0).as_str(),
            format!("/applications/{}", application_id(0)),
        ),
        (wave_id(0).as_str(), format!("/waves/{}", wave_id(0))),
        ("audit", "/audit".into()),
    ] {
        let answer = console
            .get(&ada, &format!("/search?q={}", sought.replace(' ', "+")))
            .await;
        assert!(
            answer.body.contains(&format!("href=\"{found}\"")),
            "{sought}: {}",
            answer.body
        );
    }
    let mut request = request(Method::GET, &ada, "/search?q=nothing-at-all", "");
    request
        .headers_mut()
        .insert("hx-target", "found".parse().unwrap());
    let palette = console.ask(request).await.body;
    assert!(
        palette.contains("Nothing found") && !palette.contains("<html"),
        "{palette}"
    );
}

#[tokio::test]
async fn a_resource_leads_to_its_server_and_is_hidden_from_others() {
    let console = console().await;
    let row = console
        .hub
        .store
        .ledger_in(&ACCOUNTS[0].0.parse().unwrap(), 100)
        .await
        .unwrap();
    let row = row.iter().find(|row| row.resource.is_some()).unwrap();
    let path = format!("/search?q={}", row.resource.as_ref().unwrap());
    let href = format!("href=\"/servers/{}\"", row.server);
    let ada = console.sign_in("administrator").await;
    assert!(console.get(&ada, &path).await.body.contains(&href));
    let elsewhere = Grant {
        role: UserRole::Administrator,
        scope: Scope::Account(ACCOUNTS[1].0.parse().unwrap()),
    };
    let other = Actor::new("other", [elsewhere]);
    let store = console.hub.store.seen_by(&other);
    let found = store
        .find_everywhere(row.resource.as_ref().unwrap(), 10)
        .await
        .unwrap();
    let foreign = |row: &crate::entities::ledger::Model| row.account.as_str() != ACCOUNTS[1].0;
    assert!(!found.resources.iter().any(foreign), "{:?}", found.resources);
}

#[tokio::test]
async fn a_list_is_as_somebody_wants_it() {
    let console = console().await;
    let ada = console.sign_in("viewer").await;
    let usual = console.get(&ada, "/servers").await.body;
    assert!(usual.contains("app-with-a-very-long-host-name-01") && !usual.contains("m5.large"));
    let answer = console
        .post(
            &ada,
            "/servers/columns",
            "column=instance&column=application&query=sort%3D-name",
        )
        .await;
    assert_eq!(answer.header(header::LOCATION), "/servers?sort=-name");
    let chosen = console.get(&ada, "/servers").await.body;
    assert!(chosen.contains("<td>m5.large</td>"), "{chosen}");
    assert_eq!(
        chosen.matches("<th scope=\"col\"").count(),
        4,
        "the tick and the name stay"
    );
    // Nobody else's list changes.
    let other = console.sign_in("operator").await;
    assert!(
        !console
            .get(&other, "/servers")
            .await
            .body
            .contains("<td>m5.large</td>")
    );
    let wrong = console.post(&ada, "/servers/columns", "column=price").await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    console
        .post(&ada, "/servers/columns", "usual=usual&column=lag")
        .await;
    assert_eq!(
        console
            .get(&ada, "/servers")
            .await
            .body
            .matches("<th scope=\"col\"")
            .count(),
        usual.matches("<th scope=\"col\"").count()
    );
}

#[tokio::test]
async fn a_filter_is_kept_found_and_removed() {
    let console = console().await;
    let ada = console.sign_in("viewer").await;
    let save = "name=%3CStalled%3E&query=replication%3DSTALLED%26sort%3D-lag";
    let answer = console.post(&ada, "/servers/filters", save).await;
    assert_eq!(
        answer.header(header::LOCATION),
        "/servers?replication=STALLED&sort=-lag"
    );
    let link = "href=\"/servers?replication=STALLED&#38;sort=-lag\"";
    for page in ["/servers", "/search?q=stalled"] {
        let body = console.get(&ada, page).await.body;
        assert!(
            body.contains(link) && body.contains("&#60;Stalled&#62;"),
            "{page}: {body}"
        );
    }
    let other = console.sign_in("operator").await;
    assert!(!console.get(&other, "/servers").await.body.contains(link));
    for bad in [
        "name=&query=a",
        "name=a&query=%0d%0aSet-Cookie:+a",
        "name=a&query=a%23b",
    ] {
        let answer = console.post(&ada, "/servers/filters", bad).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{bad}");
    }
    console
        .post(&ada, "/servers/filters/remove", "name=%3CStalled%3E")
        .await;
    assert!(!console.get(&ada, "/servers").await.body.contains(link));
}

#[tokio::test]
async fn the_overview_goes_down_by_wave_and_application() {
    let console = console().await;
    let ada = console.sign_in("viewer").await;
    let down = |wave: &str| format!("href=\"/?by=application&#38;wave={wave}\"");
    let waves = console.get(&ada, "/?by=wave").await.body;
    for said in [
        down(wave_id(0).as_str()),
        down(wave_id(1).as_str()),
        "In no application".into(),
    ] {
        assert!(waves.contains(&said), "{said}: {waves}");
    }
    let sums = |body: &str| body[body.find("<tfoot>").unwrap()..].to_owned();
    let all = console.get(&ada, "/").await.body;
    assert_eq!(sums(&waves).lines().next(), sums(&all).lines().next());

    let one = console
        .get(&ada, &format!("/?by=application&wave={}", wave_id(0)))
        .await
        .body;
    let application = |index| format!("href=\"/applications/{}\"", application_id(index));
    assert!(
        one.contains(&application(0)) && !one.contains(&application(1)),
        "{one}"
    );
    assert!(one.contains(&format!("href=\"/waves/{}\"", wave_id(0))));
    let sought = console.get(&ada, "/?by=application&q=prod-data").await.body;
    assert!(sought.contains(&application(1)) && !sought.contains(&application(0)));
    let none = console.get(&ada, "/?by=application&wave=none").await.body;
    assert!(none.contains("No applications here"), "{none}");
    let organization = console.hub.store.organization_list().await.unwrap();
    let elsewhere = organization.last().unwrap();
    let within = console
        .get(&ada, &format!("/?by=wave&organization={}", elsewhere.id))
        .await
        .body;
    assert!(!within.contains(&down(wave_id(0).as_str())), "{within}");
    let unknown = console.get(&ada, "/?by=colour").await;
    assert_eq!(unknown.status, StatusCode::BAD_REQUEST);
}
