//! What `orglift-agent doctor` says of the way to a real runner.

use std::{fs, path::Path};

use lab::programs::folder_under_test;
use serde_json::Value;
use tokio::process::Command;

use crate::scene::{MIB, Scene};

/// The exit code and what was said, as JSON if there is any.
async fn doctor(dir: &Path, args: &[&str]) -> (i32, Value) {
    let output = Command::new(folder_under_test().unwrap().join("orglift-agent"))
        .args(["doctor", "--json", "--dir"])
        .arg(dir)
        .args(args)
        .output()
        .await
        .unwrap();
    let said = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().unwrap(), said)
}

/// `check port verdict` of each line, without the port where there is none.
fn verdicts(said: &Value) -> Vec<String> {
    let lines = said["checks"].as_array().unwrap().iter().map(|check| {
        let port = check["to"].as_str().and_then(|to| to.rsplit(':').next());
        let words = [check["check"].as_str(), port, check["verdict"].as_str()];
        words.into_iter().flatten().collect::<Vec<_>>().join(" ")
    });
    lines.collect()
}

#[tokio::test]
async fn all_is_well_before_and_after_the_installation() {
    let scene = Scene::without_schedule().await;
    let server = scene.bare_server("web-1", &[4 * MIB]);
    let token = scene.agent_token().await;
    let file = server.dir().join("token");
    fs::write(&file, &token).unwrap();
    let listening = scene.runner().listening();
    let (runner, enrol) = (listening.enrol.to_string(), listening.enrol.port());
    let data = scene.runner().data_port();
    let before = [
        "--runner",
        &runner,
        "--data-port",
        &data.to_string(),
        "--token-file",
        file.to_str().unwrap(),
    ];

    let (code, said) = doctor(&server.agent_dir(), &before).await;
    assert_eq!(
        verdicts(&said),
        [
            "address ok".to_owned(),
            format!("tcp {enrol} ok"),
            format!("certificate {enrol} ok"),
            format!("path-mtu {enrol} ok"),
            format!("clock {enrol} ok"),
            format!("throughput {enrol} ok"),
            format!("tcp {data} ok"),
            format!("certificate {data} ok"),
        ]
    );
    assert_eq!(code, 0, "{said}");
    let rate = said["checks"][5]["measured"]["value"].as_f64().unwrap();
    assert!(rate > 1e6, "{rate} bytes a second over the loopback");

    // The token is as good as before.
    server.install(scene.runner(), &token).await.unwrap();
    // Port 443 is not the enrolment port of this runner, and nobody needs it any more.
    let (code, said) = doctor(&server.agent_dir(), &[]).await;
    assert_eq!(
        verdicts(&said)[1..],
        [
            "tcp 443 not_tested".to_owned(),
            format!("tcp {data} ok"),
            format!("certificate {data} ok"),
            format!("identity {data} ok"),
        ],
        "{said}"
    );
    assert_eq!(code, 0, "{said}");
}

#[tokio::test]
async fn what_needs_a_hand_is_named() {
    let scene = Scene::without_schedule().await;
    let nobody = scene.bare_server("web-1", &[4 * MIB]).agent_dir();
    let listening = scene.runner().listening();
    let (runner, data) = (listening.enrol.to_string(), listening.data.port().to_string());

    // The fingerprint is the last part.
    let token = scene.agent_token().await;
    let (start, _) = token.rsplit_once('.').unwrap();
    let file = nobody.join("token");
    fs::write(&file, format!("{start}.{}", "0".repeat(64))).unwrap();
    let file = file.to_str().unwrap();
    let (code, said) = doctor(
        &nobody,
        &["--runner", &runner, "--data-port", &data, "--token-file", file],
    )
    .await;
    assert_eq!(code, 1, "{said}");
    let detail = said["checks"][2]["detail"].as_str().unwrap();
    assert!(
        detail.contains("not issued by the console's authority, but by CN="),
        "{detail}"
    );
    // Nothing is sent to whom nobody vouches for.
    assert!(!verdicts(&said).iter().any(|line| line.starts_with("throughput")));

    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = held.local_addr().unwrap().port();
    drop(held);
    let (code, said) = doctor(
        &nobody,
        &["--runner", &runner, "--data-port", &closed.to_string()],
    )
    .await;
    assert_eq!(code, 1, "{said}");
    let last = said["checks"].as_array().unwrap().last().unwrap();
    let remedy = last["remedy"].as_str().unwrap();
    let allow = format!("allow TCP from 127.0.0.1 to 127.0.0.1, port {closed}");
    assert!(remedy.contains(&allow), "{remedy}");

    assert_eq!(doctor(&nobody, &[]).await, (2, Value::Null));
    assert_eq!(doctor(&nobody, &["--runner", "runner:x"]).await, (2, Value::Null));
}
