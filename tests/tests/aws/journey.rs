//! Servers move into four accounts of two partitions, on AWS-shaped endpoints, from their first copy to the last
//! snapshot that is deleted.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use domain::ids::SourceServerId;
use futures_util::future::join_all;
use lab::{
    programs::Programs,
    source::compare::first_difference,
    wait::{Look, eventually},
    world::{
        hub::HubSettings,
        on_aws::{Member, WorldOnAws},
        server::{Server, ServerPlan},
    },
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::python;

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_mins(2);
/// Every session token of moto's.
const TOKEN_BEGINS: &str = "FQoGZXIvYXdzEBYaD";

#[derive(Debug, Deserialize)]
pub(super) struct Launched {
    state: String,
    #[serde(rename = "type")]
    instance_type: String,
    subnet: String,
    security_groups: Vec<String>,
    tenancy: String,
    tags: BTreeMap<String, String>,
    volumes: Vec<LaunchedVolume>,
}

#[derive(Debug, Deserialize)]
struct LaunchedVolume {
    device: String,
    /// Type, IOPS, throughput, encrypted.
    settings: Value,
    file: String,
}

/// What a public client sees in an account.
pub(super) async fn ask(world: &WorldOnAws, member: &Member, more: &[&str]) -> Value {
    let output = Command::new(python().unwrap())
        .arg("account.py")
        .args([member.id.as_str(), member.region])
        .args(more)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("aws"))
        .env("ORGLIFT_AWS", world.aws.endpoint())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

pub(super) async fn until_state(world: &WorldOnAws, member: &Member, id: &SourceServerId, state: &str) {
    let what = format!("{} is {state}", member.name);
    eventually(&what, SOON, || async {
        let seen = world.hub.api.server(&member.id, id).await?;
        Ok(Look::when(seen.life_cycle.state == state, seen))
    })
    .await
    .unwrap();
}

pub(super) async fn launches(
    world: &WorldOnAws,
    member: &Member,
    id: &SourceServerId,
    operation: &str,
) -> String {
    let api = &world.hub.api;
    let job = api.launch(operation, &member.id, id).await.unwrap();
    api.launched(&member.id, &job.id, id, SOON).await.unwrap()
}

/// Each volume shows its disk, and zeros behind it.
pub(super) fn equal(server: &Server, launched: &Launched) {
    let disks = server.disks();
    assert_eq!(launched.volumes.len(), disks.len());
    let named = &launched.tags["orglift:disks"];
    for (disk, volume) in disks.iter().zip(&launched.volumes) {
        assert!(
            named.contains(&format!("{}={}", volume.device, disk.display())),
            "{named}"
        );
        let bytes = disk.metadata().unwrap().len();
        let mut file = File::options().read(true).write(true).open(&volume.file).unwrap();
        file.seek(SeekFrom::Start(bytes)).unwrap();
        let mut behind = Vec::new();
        (&mut file).take(64 * MIB).read_to_end(&mut behind).unwrap();
        assert!(
            behind.iter().all(|byte| *byte == 0),
            "something is behind the disk"
        );
        file.set_len(bytes).unwrap();
        assert_eq!(first_difference(disk, Path::new(&volume.file)).unwrap(), None);
    }
}

/// Settings that are wrong are named before anything is launched; with the right ones nothing is in the way.
async fn set_up_launch(world: &WorldOnAws, member: &Member, server: &Server, id: &SourceServerId) {
    let api = &world.hub.api;
    let second = server.disks()[1].display().to_string();
    let mut settings = json!({
        "testSubnet": member.test_subnet,
        "targetSubnet": member.target_subnet,
        "targetInstanceTypeRightSizingMethod": "NONE",
        "instanceType": "q9.large",
        "securityGroups": ["sg-00000000"],
        "tenancy": "dedicated",
        "volumes": {
            "usual": { "kind": "gp3", "iops": 4000, "throughput": 250 },
            "byDisk": { second: { "kind": "io2", "iops": 500 } },
            "encryption": "default-key",
        },
    });
    api.update_launch_settings(&member.id, id, settings.clone())
        .await
        .unwrap();
    let check = api.launch_check(id, "test").await.unwrap();
    let obstacles: Vec<_> = check["obstacles"]
        .as_array()
        .unwrap()
        .iter()
        .map(Value::to_string)
        .collect();
    assert_eq!(obstacles.len(), 2, "{check}");
    assert!(obstacles[0].contains("has no instance type q9.large"), "{check}");
    assert!(
        obstacles[1].contains("there is no security group sg-00000000"),
        "{check}"
    );
    let job = api.launch("StartTest", &member.id, id).await.unwrap();
    let refused = api.launched(&member.id, &job.id, id, SOON).await.unwrap_err();
    assert!(refused.to_string().contains("FAILED"), "{refused:#}");
    let made = ask(world, member, &[]).await;
    assert_eq!(
        (&made["images"], &made["templates"]),
        (&json!([]), &json!([])),
        "{made}"
    );

    settings["targetInstanceTypeRightSizingMethod"] = json!("BASIC");
    settings["families"] = json!(["r5"]);
    settings["securityGroups"] = json!([member.security_group]);
    api.update_launch_settings(&member.id, id, settings)
        .await
        .unwrap();
    let check = api.launch_check(id, "cutover").await.unwrap();
    assert_eq!(check["possible"], true, "{check}");
}

fn as_set_up(member: &Member, seen: &Launched) {
    assert!(seen.instance_type.starts_with("r5."), "{}", seen.instance_type);
    assert_eq!(seen.security_groups, [member.security_group.as_str()]);
    assert_eq!(seen.tenancy, "dedicated");
    let settings: Vec<_> = seen.volumes.iter().map(|volume| &volume.settings).collect();
    assert_eq!(
        settings,
        [&json!(["gp3", 4000, 250, true]), &json!(["io2", 500, null, true])]
    );
}

async fn moves(world: &WorldOnAws, member: &Member, folder: &Path) {
    let api = &world.hub.api;
    let plan = ServerPlan {
        name: format!("server-of-{}", member.name),
        account: member.id.clone(),
        disks: vec![16 * MIB, 24 * MIB],
        seed: 7,
    };
    let mut server = world.server(plan).unwrap();
    let token = api.token(&member.id, "agent").await.unwrap();
    let runner = world.runner(&member.id).unwrap();
    let id = server.install(runner, &token).await.unwrap();
    api.launch_disks_as_they_are(&id).await.unwrap();
    server.start_workload().unwrap();
    server.start_agent().unwrap();

    until_state(world, member, &id, "READY_FOR_TEST").await;
    set_up_launch(world, member, &server, &id).await;
    let test = launches(world, member, &id, "StartTest").await;
    let folder = folder.join(member.id.as_str());
    std::fs::create_dir_all(&folder).unwrap();
    let folder = folder.to_str().unwrap();
    let seen: Launched = serde_json::from_value(ask(world, member, &[&test, folder]).await).unwrap();
    assert_eq!(
        (seen.state.as_str(), &seen.subnet),
        ("running", &member.test_subnet)
    );
    as_set_up(member, &seen);
    for what in ["console.txt", "screenshot"] {
        assert!(!api.shown(&id, "test", what).await.unwrap().is_empty(), "{what}");
    }

    api.mark_ready_for_cutover(&member.id, &id).await.unwrap();
    server.hold().unwrap();
    let cutover = launches(world, member, &id, "StartCutover").await;
    let seen: Launched = serde_json::from_value(ask(world, member, &[&cutover, folder]).await).unwrap();
    assert_eq!(
        (seen.state.as_str(), &seen.subnet),
        ("running", &member.target_subnet)
    );
    as_set_up(member, &seen);
    equal(&server, &seen);
    let kept = ask(world, member, &[]).await;
    assert_eq!(kept["templates"], json!([format!("orglift-{id}")]));

    let strange = ask(world, member, &["strangers"]).await;
    let before = ask(world, member, &[]).await;
    foresees_the_end(world, &id, &cutover, &before).await;
    api.server_operation("FinalizeCutover", &member.id, &id)
        .await
        .unwrap();
    until_state(world, member, &id, "CUTOVER").await;
    let left = ask(world, member, &[]).await;
    assert_eq!(left["instances"][&test], "terminated");
    assert_eq!(left["instances"][&cutover], "running");
    assert_eq!(
        (&left["images"], &left["templates"], &left["snapshots"]),
        (&json!([]), &json!([]), &json!([strange["snapshot"]])),
        "what is not ours stays: {left}"
    );
    let stranger = strange["instance"].as_str().unwrap();
    assert_eq!(left["instances"][stranger], "running", "{left}");
    assert_eq!(left["volumes"], before["volumes"], "{left}");
    proves_that_nothing_is_left(world, member, &id, &cutover, &strange).await;
    let ledger: Value = api
        .call(
            reqwest::Method::GET,
            &format!("/api/v1/accounts/{}/ledger", member.id),
            None,
        )
        .await
        .unwrap();
    assert_eq!(ledger["items"], json!([]), "{ledger}");
}

/// Before the end: what of it will be removed, by the account's own word.
async fn foresees_the_end(world: &WorldOnAws, id: &SourceServerId, cutover: &str, before: &Value) {
    let path = format!("/api/v1/servers/{id}/removal-check?removal=finalize-cutover");
    let foreseen: Value = world
        .hub
        .api
        .call(reqwest::Method::POST, &path, None)
        .await
        .unwrap();
    let kept: Vec<_> = foreseen["kept"].as_array().unwrap().iter().collect();
    let volumes = kept.iter().filter(|item| item["kind"] == "volume").count();
    assert_eq!((kept.len(), volumes), (3, 2), "{foreseen}");
    assert!(kept.iter().any(|item| item["id"] == cutover), "{foreseen}");
    assert_eq!(foreseen["leftAlone"], json!([]), "{foreseen}");
    let removed = foreseen["removed"].as_array().unwrap();
    let of = |kind: &str| removed.iter().filter(|item| item["kind"] == kind).count();
    assert_eq!(
        (of("launch-template"), removed.len()),
        (1, 1 + of("snapshot")),
        "{foreseen}"
    );
    assert!(
        of("snapshot") >= 2,
        "a checkpoint of two disks at least: {foreseen}"
    );
    let listed = before["snapshots"].as_array().unwrap();
    assert!(
        removed
            .iter()
            .all(|item| item["kind"] != "snapshot" || listed.contains(&item["id"])),
        "{foreseen}, {before}"
    );
}

/// The account is asked, and its answer is told: of the server there is what became production, and beside it a stray.
async fn proves_that_nothing_is_left(
    world: &WorldOnAws,
    member: &Member,
    id: &SourceServerId,
    cutover: &str,
    strange: &Value,
) {
    let api = &world.hub.api;
    let path = format!("/api/v1/accounts/{}/resources", member.id);
    let get = |path: String| async move { api.call::<Value>(reqwest::Method::GET, &path, None).await };
    let since = get(path.clone()).await.unwrap()["regions"][0]["askedAt"].clone();
    api.call::<Value>(reqwest::Method::POST, &path, None)
        .await
        .unwrap();
    let of_server = format!("{path}?server={id}");
    let proof = eventually("the account has been asked", SOON, || async {
        let seen = get(of_server.clone()).await?["regions"][0].clone();
        Ok(if seen["askedAt"].is_null() || seen["askedAt"] == since {
            Look::NotYet(seen.to_string())
        } else {
            Look::Seen(seen)
        })
    })
    .await
    .unwrap();
    assert_eq!(proof["nothingLeft"], true, "{proof}");
    let items = proof["items"].as_array().unwrap();
    let of = |kind: &'static str| items.iter().filter(move |item| item["kind"] == kind);
    assert_eq!((items.len(), of("volume").count()), (3, 2), "{proof}");
    assert!(of("instance").all(|item| item["id"] == cutover), "{proof}");
    assert!(
        items.iter().all(|item| item["standing"] == "handed-over"),
        "{proof}"
    );
    // An r5, two GiB of gp3 and io2, and what of their IOPS and throughput is not free.
    let month = proof["monthlyCost"].as_f64().unwrap();
    assert!(month > 40.0 && proof["withoutPrice"] == 0, "{proof}");

    let all = get(path).await.unwrap()["regions"][0].clone();
    assert_eq!(all["nothingLeft"], false, "{all}");
    let mut strays = all["items"].as_array().unwrap().clone();
    strays.retain(|item| item["standing"] == "server-unknown");
    assert_eq!(strays.len(), 1, "{all}");
    assert_eq!(strays[0]["id"], strange["snapshot"]);
}

#[tokio::test]
async fn servers_move_into_four_accounts_of_two_partitions() {
    if python().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let programs = Programs::beside_this_test().unwrap();
    let members = ["production", "analytics", "shared-services"];
    let world = WorldOnAws::start(folder.path(), &programs, &HubSettings::default(), &members)
        .await
        .unwrap();
    assert_eq!(world.members.len(), 4);
    let journeys = world
        .members
        .iter()
        .map(|member| moves(&world, member, folder.path()));
    join_all(journeys).await;
    assert_eq!(with_session_tokens(folder.path()), Vec::<PathBuf>::new());
    let leak = folder.path().join("hub/leak");
    std::fs::write(&leak, format!("credentials: {TOKEN_BEGINS}abc")).unwrap();
    assert_eq!(with_session_tokens(folder.path()), [leak]);
}

/// Logs, databases and other files of the hub and the runners that hold the token of a session.
fn with_session_tokens(world: &Path) -> Vec<PathBuf> {
    let mut folders = vec![world.join("hub"), world.join("runners")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let content = std::fs::read(&path).unwrap_or_default();
            let mut windows = content.windows(TOKEN_BEGINS.len());
            if windows.any(|window| window == TOKEN_BEGINS.as_bytes()) {
                found.push(path);
            }
        }
    }
    found
}
