//! The API as automation meets it: requests over the whole router, a server and a runner behind it.

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode, header::AUTHORIZATION},
};
use domain::{
    changes::ChangeList,
    conversion::ConversionState,
    ids::{JobId, RunnerId, SourceServerId},
};
use protocol::artifacts::{Artifact, SignedChangeList};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{
    Hub,
    entities::{audit::Outcome, user::UserRole},
    fixtures::{self, MEMBER, TestHub},
    serve::ui_router,
};

struct Client {
    hub: TestHub,
    router: Router,
    key: String,
    server: SourceServerId,
}

async fn client(role: UserRole) -> Client {
    let hub = fixtures::hub().await;
    let runner = fixtures::with_runner(&hub).await;
    let server = fixtures::server(SourceServerId::from_entropy(1), &runner);
    let id = server.id.0.clone();
    let mut tx = hub.store.begin().await.unwrap();
    tx.server_insert(server).await.unwrap();
    tx.server_on(&id, domain::lifecycle::Event::FirstLaunchableCheckpoint)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    fixtures::add_user(&hub, "ada", role, "correct horse").await;
    Client {
        router: ui_router(hub.hub.clone()),
        key: fixtures::add_key(&hub, "ada").await,
        server: id,
        hub,
    }
}

impl Client {
    async fn call(&self, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(AUTHORIZATION, format!("Bearer {}", self.key))
            .body(Body::from(body.to_string()))
            .unwrap();
        answer(&self.router, request).await
    }

    async fn mgn(&self, operation: &str, body: Value) -> (StatusCode, Value) {
        self.call("POST", &format!("/{operation}"), body).await
    }
}

async fn answer(router: &Router, request: Request<Body>) -> (StatusCode, Value) {
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn a_request_without_a_key_is_turned_away() {
    let client = client(UserRole::Viewer).await;
    let bare = Request::post("/DescribeSourceServers")
        .body(Body::empty())
        .unwrap();
    let (status, body) = answer(&client.router, bare).await;
    assert_eq!(
        (status, body["code"].as_str()),
        (StatusCode::FORBIDDEN, Some("MissingAuthenticationTokenException"))
    );
    let wrong = Request::post("/DescribeSourceServers")
        .header(AUTHORIZATION, "Bearer olk1.nonsense")
        .body(Body::empty())
        .unwrap();
    assert_eq!(
        answer(&client.router, wrong).await.1["code"],
        "UnrecognizedClientException"
    );
}

#[tokio::test]
async fn servers_are_described_in_mgns_shape() {
    let client = client(UserRole::Viewer).await;
    let (status, body) = client
        .mgn(
            "DescribeSourceServers",
            json!({ "filters": {}, "aMemberOfTomorrow": 1 }),
        )
        .await;
    assert_eq!(status, StatusCode::OK);
    let mut server = body["items"][0].clone();
    // Times differ from run to run.
    server["lifeCycle"]["addedToServiceDateTime"] = "T".into();
    server["sourceProperties"]["lastUpdatedDateTime"] = "T".into();
    server["dataReplicationInfo"]["dataReplicationInitiation"]["startDateTime"] = "T".into();
    insta::assert_json_snapshot!(server);

    let other = json!({ "accountID": "999999999999" });
    assert_eq!(
        client.mgn("DescribeSourceServers", other).await.1["items"],
        json!([])
    );
    let testing = json!({ "filters": { "lifeCycleStates": ["TESTING"] } });
    assert_eq!(
        client.mgn("DescribeSourceServers", testing).await.1["items"],
        json!([])
    );
}

#[tokio::test]
async fn a_test_is_accepted_and_can_be_followed() {
    let client = client(UserRole::Operator).await;
    let body = json!({ "sourceServerIDs": [client.server], "accountID": MEMBER, "tags": { "wave": "1" } });
    let (status, body) = client.mgn("StartTest", body).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let job = &body["job"];
    assert_eq!(
        (
            job["type"].as_str(),
            job["initiatedBy"].as_str(),
            job["status"].as_str()
        ),
        (Some("LAUNCH"), Some("START_TEST"), Some("PENDING"))
    );
    assert_eq!(job["tags"]["wave"], "1");
    assert_eq!(job["participatingServers"][0]["launchStatus"], "PENDING");

    let (_, jobs) = client
        .mgn("DescribeJobs", json!({ "filters": { "jobIDs": [job["jobID"]] } }))
        .await;
    assert_eq!(jobs["items"][0]["jobID"], job["jobID"]);
    let (status, _) = client
        .mgn("DescribeJobLogItems", json!({ "jobID": job["jobID"] }))
        .await;
    assert_eq!(status, StatusCode::OK);
    let elsewhere = json!({ "jobID": job["jobID"], "accountID": "999999999999" });
    assert_eq!(
        client.mgn("DescribeJobLogItems", elsewhere).await.0,
        StatusCode::NOT_FOUND
    );

    let again = json!({ "sourceServerIDs": [client.server] });
    let (status, body) = client.mgn("StartTest", again).await;
    assert_eq!(
        (status, body["code"].as_str()),
        (StatusCode::CONFLICT, Some("ConflictException"))
    );
    assert_eq!(body["errors"][0]["resourceId"], json!(client.server));
}

#[tokio::test]
async fn roles_are_kept_apart_and_every_refusal_is_in_the_log() {
    let client = client(UserRole::Operator).await;
    let server = json!({ "sourceServerID": client.server });
    let ready = json!({ "sourceServerID": client.server, "lifeCycle": { "state": "READY_FOR_CUTOVER" } });
    let (status, body) = client.mgn("ChangeServerLifeCycleState", ready).await;
    assert_eq!(
        (status, body["lifeCycle"]["state"].as_str()),
        (StatusCode::OK, Some("READY_FOR_CUTOVER"))
    );
    let (status, body) = client
        .mgn("StartCutover", json!({ "sourceServerIDs": [client.server] }))
        .await;
    assert_eq!(
        (status, body["code"].as_str()),
        (StatusCode::FORBIDDEN, Some("AccessDeniedException"))
    );
    assert!(
        body["message"].as_str().unwrap().contains("an approver"),
        "{body}"
    );
    assert_eq!(
        client.mgn("DisconnectFromService", server).await.0,
        StatusCode::FORBIDDEN
    );
    let log = client
        .hub
        .store
        .audit_of(client.server.as_str(), 10)
        .await
        .unwrap();
    assert_eq!(
        log.iter()
            .filter(|entry| entry.detail.contains("approver"))
            .count(),
        2
    );
}

#[tokio::test]
async fn replication_is_paused_resumed_stopped_and_started() {
    let client = client(UserRole::Operator).await;
    let server = json!({ "sourceServerID": client.server });
    let intent = async || {
        client
            .hub
            .store
            .server(&client.server)
            .await
            .unwrap()
            .intent
            .name()
    };
    for (operation, wanted) in [
        ("PauseReplication", "PAUSED"),
        ("ResumeReplication", "RUN"),
        ("RetryDataReplication", "RUN"),
        ("StopReplication", "STOPPED"),
        ("StartReplication", "RUN"),
    ] {
        let (status, body) = client.mgn(operation, server.clone()).await;
        assert_eq!(status, StatusCode::OK, "{operation}: {body}");
        assert_eq!(intent().await, wanted, "{operation}");
    }
    let (status, body) = client.mgn("ResumeReplication", server).await;
    assert_eq!(status, StatusCode::CONFLICT, "{body}");
    assert_eq!(
        client
            .hub
            .store
            .server(&client.server)
            .await
            .unwrap()
            .lifecycle_name,
        "NOT_READY"
    );
}

#[tokio::test]
async fn launch_settings_are_changed_member_by_member() {
    let client = client(UserRole::Operator).await;
    let update =
        json!({ "sourceServerID": client.server, "copyPrivateIp": true, "instanceType": "c5.large" });
    let (status, after) = client.mgn("UpdateLaunchConfiguration", update).await;
    assert_eq!(status, StatusCode::OK, "{after}");
    let (_, read) = client
        .mgn(
            "GetLaunchConfiguration",
            json!({ "sourceServerID": client.server }),
        )
        .await;
    assert_eq!(read, after);
    assert_eq!(
        (read["copyPrivateIp"].as_bool(), read["copyTags"].as_bool()),
        (Some(true), Some(true))
    );
    assert_eq!(read["instanceType"], "c5.large");
}

#[tokio::test]
async fn conversion_settings_are_ours_and_not_mgns() {
    let client = client(UserRole::Operator).await;
    let path = format!("/api/v1/servers/{}/conversion-settings", client.server);
    let (_, body) = client.call("GET", &path, Value::Null).await;
    assert_eq!(body, json!({ "convert": true, "rehearsal": null }));

    let probe = json!({ "port": 80, "expects": { "http": { "path": "/", "status": 200 } } });
    let settings = json!({ "convert": true, "rehearsal": { "timeLimitS": 120, "probe": probe } });
    let (status, body) = client.call("PUT", &path, settings.clone()).await;
    assert_eq!((status, &body), (StatusCode::OK, &settings));
    assert_eq!(client.call("GET", &path, Value::Null).await.1, settings);
    let one = json!({ "sourceServerID": client.server });
    let (_, mgn) = client.mgn("GetLaunchConfiguration", one).await;
    assert!(
        mgn.get("convert").is_none() && mgn.get("rehearsal").is_none(),
        "{mgn}"
    );

    for wrong in [
        json!({ "rehearsal": null }),
        json!({ "convert": true, "rehearse": true }),
        json!({ "convert": true, "rehearsal": { "timeLimitS": 1 } }),
        json!({ "convert": true, "rehearsal": { "probe": { "port": 0, "expects": "tcp" } } }),
    ] {
        let (status, body) = client.call("PUT", &path, wrong).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    }
    assert_eq!(client.call("GET", &path, Value::Null).await.1, settings);
}

#[tokio::test]
async fn mgns_throttle_is_the_limit_outside_of_the_windows() {
    let client = client(UserRole::Operator).await;
    let path = format!("/api/v1/servers/{}/bandwidth", client.server);
    let plan = json!({
        "mbitS": 100,
        "windows": [{ "from": 480, "until": 1080, "mbitS": null }],
        "utcOffsetMin": -300,
    });
    let (status, body) = client.call("PUT", &path, plan.clone()).await;
    assert_eq!((status, &body), (StatusCode::OK, &plan));

    let throttle = async |mbit_s: i64| {
        let update = json!({ "sourceServerID": client.server, "bandwidthThrottling": mbit_s });
        client.mgn("UpdateReplicationConfiguration", update).await
    };
    let (status, after) = throttle(34).await;
    assert_eq!(status, StatusCode::OK, "{after}");
    let one = json!({ "sourceServerID": client.server });
    let (_, read) = client.mgn("GetReplicationConfiguration", one.clone()).await;
    assert_eq!(read, after);
    assert_eq!(read["bandwidthThrottling"], 34);
    assert_eq!(
        read["replicatedDisks"],
        json!([{ "deviceName": "/dev/sda", "isBootDisk": true, "stagingDiskType": "AUTO" }])
    );
    let (_, body) = client.call("GET", &path, Value::Null).await;
    assert_eq!((&body["mbitS"], &body["windows"]), (&json!(34), &plan["windows"]));

    // The runner hears of it.
    let runner = RunnerId::from_entropy(1);
    let before = client.hub.store.runner(&runner).await.unwrap().desired_generation;
    assert_eq!(throttle(0).await.1["bandwidthThrottling"], 0);
    assert_eq!(
        client.call("GET", &path, Value::Null).await.1["mbitS"],
        Value::Null
    );
    let after = client.hub.store.runner(&runner).await.unwrap().desired_generation;
    assert_eq!(after, before + 1);
    let log = client
        .hub
        .store
        .audit_of(client.server.as_str(), 10)
        .await
        .unwrap();
    let done = log.iter().filter(|entry| {
        entry.action == "update the replication configuration" && *entry.outcome == Outcome::Done
    });
    assert_eq!(done.count(), 3);

    // What is not stored is answered as MGN sets it by default.
    let encrypt = json!({ "sourceServerID": client.server, "ebsEncryption": "CUSTOM" });
    let (status, body) = client.mgn("UpdateReplicationConfiguration", encrypt).await;
    assert_eq!(
        (status, body["ebsEncryption"].as_str()),
        (StatusCode::OK, Some("DEFAULT"))
    );
}

#[tokio::test]
async fn a_viewer_may_read_the_bandwidth_and_not_change_it() {
    let client = client(UserRole::Viewer).await;
    let path = format!("/api/v1/servers/{}/bandwidth", client.server);
    assert_eq!(client.call("GET", &path, Value::Null).await.0, StatusCode::OK);
    let (status, _) = client.call("PUT", &path, json!({ "mbitS": 5 })).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_bandwidth_that_cannot_be_kept_is_refused_with_a_reason() {
    let client = client(UserRole::Operator).await;
    let path = format!("/api/v1/servers/{}/bandwidth", client.server);
    for (plan, reason) in [
        (json!({ "mbitS": 10_001 }), "10001 Mbit/s is not a limit"),
        (json!({ "mbitS": 0 }), "leave it out for no limit"),
        (json!({ "mbit_s": 5 }), "unknown field `mbit_s`"),
        (
            json!({ "mbitS": 5, "windows": [{ "from": 7, "until": 7, "mbitS": 1 }] }),
            "not a part of the week",
        ),
        (json!({ "mbitS": 5, "utcOffsetMin": 900 }), "offset from UTC"),
    ] {
        let (status, body) = client.call("PUT", &path, plan).await;
        assert_eq!(
            (status, body["code"].as_str()),
            (StatusCode::BAD_REQUEST, Some("ValidationException"))
        );
        assert!(body["message"].as_str().unwrap().contains(reason), "{body}");
    }
    for wrong in [-1, 10_001, i64::MAX] {
        let update = json!({ "sourceServerID": client.server, "bandwidthThrottling": wrong });
        let (status, body) = client.mgn("UpdateReplicationConfiguration", update).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    }
    let kept = client.hub.store.server(&client.server).await.unwrap().bandwidth.0;
    assert_eq!(kept, domain::bandwidth::Bandwidth::default());
}

#[tokio::test]
async fn a_roster_is_added_and_reached_or_said_why_not() {
    let client = client(UserRole::Administrator).await;
    let roster = json!({
        "name": "Tenant", "reach": "ROSTER",
        "accounts": [{ "id": "444455556666", "name": "tenant", "region": "eu-west-1" }],
    });
    let (status, body) = client.call("POST", "/api/v1/organizations", roster.clone()).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    crate::tasks::accounts::refresh(&client.hub).await.unwrap();
    let (_, body) = client.call("GET", "/api/v1/accounts", Value::Null).await;
    let access: Vec<_> = body["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["access"]["access"])
        .collect();
    assert_eq!(access, ["OK", "DENIED"]);
    let remedy = body["items"][1]["access"]["remedy"].as_str().unwrap();
    assert!(remedy.contains("444455556666"), "{remedy}");
    // The same account cannot belong to two.
    assert_eq!(
        client.call("POST", "/api/v1/organizations", roster).await.0,
        StatusCode::BAD_REQUEST
    );

    let token = json!({ "account": "444455556666", "purpose": "runner" });
    let (status, body) = client.call("POST", "/api/v1/tokens", token).await;
    assert_eq!(status, StatusCode::CREATED);
    body["token"]
        .as_str()
        .unwrap()
        .parse::<protocol::enrol::Token>()
        .unwrap();
}

#[tokio::test]
async fn a_server_is_shown_with_its_checkpoints_and_ledger() {
    let client = client(UserRole::Viewer).await;
    let path = format!("/api/v1/servers/{}", client.server);
    let (status, body) = client.call("GET", &path, Value::Null).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!((&body["checkpoints"], &body["ledger"]), (&json!([]), &json!([])));
    assert_eq!(body["sourceServer"]["sourceServerID"], json!(client.server));
    let missing = format!("/api/v1/servers/{}", SourceServerId::from_entropy(9));
    assert_eq!(
        client.call("GET", &missing, Value::Null).await.0,
        StatusCode::NOT_FOUND
    );
    let runner = format!("/api/v1/runners/{}/revoke", RunnerId::from_entropy(1));
    assert_eq!(
        client.call("POST", &runner, Value::Null).await.0,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn what_became_of_a_conversion_can_be_read_and_checked() {
    let client = client(UserRole::Viewer).await;
    let id = &client.server;
    let (_, body) = client
        .call("GET", &format!("/api/v1/servers/{id}"), Value::Null)
        .await;
    assert_eq!(body["readiness"]["state"], "NOT_INSPECTED");
    assert_eq!(body["conversion"], Value::Null);
    let job = JobId::from_entropy(7);
    let path = format!("/api/v1/servers/{id}/conversions/{job}");
    for path in [
        path.clone(),
        format!("{path}/changes.json"),
        format!("{path}/hub.db"),
    ] {
        let (status, body) = client.call("GET", &path, Value::Null).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{body}");
    }

    assert_eq!(begun(&client.hub, id).await, job);
    let (_, body) = client
        .call("GET", &format!("/api/v1/servers/{id}"), Value::Null)
        .await;
    assert_eq!(body["conversion"]["order"]["checkpoint"], 7);
    let (status, body) = client.call("GET", &path, Value::Null).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body["progress"], json!({ "state": "running", "step": "fstab" }));
    let documents = [
        "changes.json",
        "changes.json.sig",
        "certificate.pem",
        "changes.txt",
    ];
    assert_eq!(body["documents"], json!(documents));
    let (status, body) = client
        .call("GET", &format!("{path}/changes.json"), Value::Null)
        .await;
    assert_eq!((status, &body["checkpoint"]), (StatusCode::OK, &json!(7)));
}

/// The runner is at it, and the list is there.
async fn begun(hub: &Hub, server: &SourceServerId) -> JobId {
    let conversion = fixtures::order_conversion(hub, server).await;
    let mut tx = hub.store.begin().await.unwrap();
    let row = tx.server(server).await.unwrap();
    let running = ConversionState::Running { step: "fstab".into() };
    tx.conversion_stands(&row, &conversion, running).await.unwrap();
    let list = ChangeList::new(server.clone(), conversion.order.checkpoint);
    let signed = SignedChangeList {
        json: serde_json::to_string(&list).unwrap(),
        signature: vec![1],
        certificate_pem: "certificate".into(),
    };
    let contents = serde_json::to_vec(&signed).unwrap();
    tx.artifact_put(&conversion, Artifact::ChangeList, contents)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    conversion.job.0
}

#[tokio::test]
async fn the_network_of_an_account_is_looked_at_when_somebody_asks() {
    let path = format!("/api/v1/accounts/{MEMBER}/readiness");
    let viewer = client(UserRole::Viewer).await;
    let (status, refused) = viewer.call("POST", &path, Value::Null).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{refused}");
    let (status, answer) = viewer.call("GET", &path, Value::Null).await;
    assert_eq!((status, answer), (StatusCode::OK, json!({ "items": [] })));

    let operator = client(UserRole::Operator).await;
    let (status, _) = operator.call("POST", &path, Value::Null).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let (_, answer) = operator.call("GET", &path, Value::Null).await;
    let [row] = &answer["items"].as_array().unwrap()[..] else {
        panic!("an account is worked in in one region: {answer}");
    };
    assert_eq!(
        (&row["beingChecked"], &row["checkedAt"]),
        (&json!(true), &Value::Null)
    );

    crate::tasks::readiness::refresh(&operator.hub).await.unwrap();
    let (_, answer) = operator.call("GET", &path, Value::Null).await;
    let row = &answer["items"][0];
    assert_eq!(row["beingChecked"], false, "{answer}");
    assert_eq!(
        row["outcome"], "nothing-to-check",
        "a folder has no networks: {answer}"
    );
    assert!(row["checkedAt"].is_string(), "{answer}");

    let unknown = "/api/v1/accounts/999999999999/readiness";
    for method in ["GET", "POST"] {
        let (status, _) = operator.call(method, unknown, Value::Null).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{method}");
    }
}
