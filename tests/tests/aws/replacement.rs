//! A runner is destroyed with its disk and replaced at its address. The new one has nothing but its role: it enrols, takes
//! up what is in S3 and EBS, and replication goes on without a second first copy.

use std::{collections::BTreeSet, fs, os::unix::fs::FileExt, path::Path, time::Duration};

use cloud::{
    ObjectStore,
    aws::{Access, s3::Bucket},
    route::{Endpoints, Profile},
};
use domain::ids::SourceServerId;
use lab::{
    aws::{
        caller::key_of,
        faults::{Effect, Fault},
    },
    process::Process,
    programs::{Program, Programs},
    wait::{Look, eventually},
    world::{
        hub::HubSettings,
        on_aws::{Member, RoleSession, WorldOnAws},
        server::{Server, ServerPlan},
    },
};
use serde_json::{Value, json};

use super::{
    journey::{Launched, ask, equal, launches, until_state},
    python,
};

const MIB: u64 = 1 << 20;
const BLOCKS: usize = 128;
const SOON: Duration = Duration::from_mins(2);

struct Scene {
    world: WorldOnAws,
    member: Member,
    server: Server,
    id: SourceServerId,
    /// Blocks that the first copy put.
    first_copy: usize,
    folder: tempfile::TempDir,
}

/// A checkpoint, as the runner's folder has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Checkpoint {
    number: u64,
    snapshot: String,
}

impl Scene {
    /// A server that has been copied, and is being written to.
    async fn begin() -> Option<Self> {
        python()?;
        let folder = tempfile::tempdir().unwrap();
        let programs = Programs::beside_this_test().unwrap();
        let settings = HubSettings {
            checkpoint_interval_s: 3,
            ..HubSettings::default()
        };
        let world = WorldOnAws::start(folder.path(), &programs, &settings, &["production"])
            .await
            .unwrap();
        let member = world.members[0].clone();
        let plan = ServerPlan {
            name: "web-1".into(),
            account: member.id.clone(),
            disks: vec![BLOCKS as u64 * MIB / 2],
            seed: 11,
        };
        let mut server = world.server(plan).unwrap();
        let token = world.hub.api.token(&member.id, "agent").await.unwrap();
        let id = server
            .install(world.runner(&member.id).unwrap(), &token)
            .await
            .unwrap();
        world.hub.api.launch_disks_as_they_are(&id).await.unwrap();
        let subnets = json!({ "testSubnet": member.test_subnet, "targetSubnet": member.target_subnet });
        world
            .hub
            .api
            .update_launch_settings(&member.id, &id, subnets)
            .await
            .unwrap();
        server.start_agent().unwrap();
        until_state(&world, &member, &id, "READY_FOR_TEST").await;
        let first_copy = puts(&world);
        assert!(first_copy > BLOCKS / 3, "{first_copy}");
        server.start_workload().unwrap();
        let scene = Self {
            world,
            member,
            server,
            id,
            first_copy,
            folder,
        };
        scene.until_newer_than(scene.newest().number).await;
        Some(scene)
    }

    fn runner_dir(&self) -> &Path {
        self.world.runner(&self.member.id).unwrap().dir()
    }

    fn checkpoints(&self) -> Vec<Checkpoint> {
        let dir = self
            .runner_dir()
            .join("servers")
            .join(self.id.as_str())
            .join("checkpoints");
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let mut all: Vec<_> = entries
            .filter_map(|entry| {
                let manifest: Value = serde_json::from_slice(&fs::read(entry.path()).ok()?).ok()?;
                Some(Checkpoint {
                    number: manifest["number"].as_u64()?,
                    snapshot: manifest["disks"][0]["snapshot"].as_str()?.to_owned(),
                })
            })
            .collect();
        all.sort_by_key(|one| one.number);
        all
    }

    fn newest(&self) -> Checkpoint {
        self.checkpoints().pop().unwrap()
    }

    fn index_behind(&self) -> Option<u64> {
        let observed = fs::read(self.runner_dir().join("observed.json")).ok()?;
        serde_json::from_slice::<Value>(&observed).ok()?["index_behind"].as_u64()
    }

    async fn until_newer_than(&self, number: u64) {
        eventually("another checkpoint is committed", SOON, || async {
            let newest = self.checkpoints().pop().map(|one| one.number);
            Ok(Look::when(newest > Some(number), newest))
        })
        .await
        .unwrap();
    }

    /// Nothing is written to the source any more, and what was is in a checkpoint, in the index and with the hub.
    async fn comes_to_rest(&mut self) -> Checkpoint {
        self.server.hold().unwrap();
        let number = self.newest().number;
        self.until_newer_than(number + 1).await;
        self.server.agent().unwrap().pause().unwrap();
        let bucket = self.bucket().await;
        loop {
            let newest = self.newest();
            let key = self.key(&newest);
            eventually("the index is up to date", SOON, || async {
                let listed = bucket.list("servers/").await?;
                Ok(Look::when(listed.contains(&key), listed))
            })
            .await
            .unwrap();
            self.until_the_hub_knows(newest.number).await;
            // What was promised before the agent stood still may have come meanwhile.
            if self.newest() == newest {
                return newest;
            }
        }
    }

    async fn until_the_hub_knows(&self, number: u64) {
        let path = format!("/api/v1/servers/{}", self.id);
        eventually("the hub knows the newest checkpoint", SOON, || async {
            let known: Value = self.world.hub.api.call(reqwest::Method::GET, &path, None).await?;
            let all = known["checkpoints"].as_array().cloned().unwrap_or_default();
            let is_known = all.iter().any(|one| one["number"].as_u64() == Some(number));
            Ok(Look::when(is_known, known))
        })
        .await
        .unwrap();
    }

    async fn is_replaced(&mut self) {
        self.world.aws.calls().forget();
        let account = self.member.id.clone();
        self.world.runner_mut(&account).unwrap().replace().await.unwrap();
        self.write(3 * MIB);
        self.server.agent().unwrap().resume().unwrap();
    }

    /// Something that no checkpoint has.
    fn write(&self, at: u64) {
        let disk = fs::File::options()
            .write(true)
            .open(&self.server.disks()[0])
            .unwrap();
        disk.write_all_at(&rand::random::<[u8; 4096]>(), at).unwrap();
        disk.sync_all().unwrap();
    }

    /// The next checkpoint is one upon `before`, and what is launched equals the source.
    async fn goes_on_from(&mut self, before: &Checkpoint) {
        self.until_newer_than(before.number).await;
        let put = puts(&self.world);
        assert!(put < self.first_copy / 4, "{put} blocks of {}", self.first_copy);
        assert_eq!(self.parent_of(&self.newest()).as_ref(), Some(&before.snapshot));
        self.launches_what_the_source_has().await;
        let put = puts(&self.world);
        assert!(put < self.first_copy / 4, "{put} blocks of {}", self.first_copy);
    }

    async fn launches_what_the_source_has(&mut self) {
        let launched = launches(&self.world, &self.member, &self.id, "StartTest").await;
        let folder = self.folder.path().join("launched");
        fs::create_dir_all(&folder).unwrap();
        let seen = ask(&self.world, &self.member, &[&launched, folder.to_str().unwrap()]).await;
        let seen: Launched = serde_json::from_value(seen).unwrap();
        equal(&self.server, &seen);
    }

    /// The snapshot that this one was started upon, however many lie between by now.
    fn parent_of(&self, checkpoint: &Checkpoint) -> Option<String> {
        Some(self.record_of(checkpoint)["wish"]["parent"].as_str()?.to_owned())
    }

    /// What the runner knows of its snapshot.
    fn record_of(&self, checkpoint: &Checkpoint) -> Value {
        let record = self
            .runner_dir()
            .join(format!("ebs/{}.json", checkpoint.snapshot));
        let text = fs::read(record).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    async fn bucket(&self) -> Bucket {
        let file = self.folder.path().join("member-credentials");
        let key = key_of(self.member.id.as_str()).unwrap();
        fs::write(
            &file,
            format!("[member]\naws_access_key_id = {key}\naws_secret_access_key = any\n"),
        )
        .unwrap();
        let access = Access {
            region: self.member.region.into(),
            profile: Some(Profile {
                name: "member".into(),
                file: Some(file),
            }),
            endpoints: Endpoints {
                url: Some(self.world.aws.endpoint()),
                ..Endpoints::default()
            },
        };
        Bucket::open(&format!("{}/index", self.member.bucket), &access)
            .await
            .unwrap()
    }

    fn key(&self, checkpoint: &Checkpoint) -> String {
        format!("servers/{}/{}", self.id, checkpoint.number)
    }
}

fn puts(world: &WorldOnAws) -> usize {
    world.aws.calls().count("ebs", "PutSnapshotBlock")
}

#[tokio::test]
async fn a_runner_replaced_at_its_address_goes_on_without_a_first_copy() {
    let Some(mut scene) = Scene::begin().await else {
        return;
    };
    let before = scene.comes_to_rest().await;
    scene.is_replaced().await;
    scene.goes_on_from(&before).await;
    assert!(
        scene.newest().number > before.number + 1,
        "a number was used again"
    );
}

/// The last checkpoint is not in the index: its snapshot is deleted, and what it held is sent once more.
#[tokio::test]
async fn a_replaced_runner_goes_on_from_the_checkpoint_before_where_the_index_is_behind() {
    let Some(mut scene) = Scene::begin().await else {
        return;
    };
    let in_index = scene.comes_to_rest().await;
    let denied = Fault::new(Effect::Deny).on("s3", "PUT");
    scene.world.aws.faults().set(vec![denied]);
    scene.write(5 * MIB);
    scene.server.agent().unwrap().resume().unwrap();
    eventually("what was written is in a checkpoint", SOON, || async {
        let newest = scene.newest();
        Ok(Look::when(newest.snapshot != in_index.snapshot, newest))
    })
    .await
    .unwrap();
    scene.server.agent().unwrap().pause().unwrap();
    eventually("the runner says that the index is behind", SOON, || async {
        let behind = scene.index_behind();
        Ok(Look::when(behind >= Some(1), behind))
    })
    .await
    .unwrap();
    let lost = scene.newest();
    scene.until_the_hub_knows(lost.number).await;
    scene.world.aws.faults().set(Vec::new());
    scene.is_replaced().await;
    scene.goes_on_from(&in_index).await;
    eventually("the snapshot that nobody needs is deleted", SOON, || async {
        let snapshots = ask(&scene.world, &scene.member, &[]).await["snapshots"].clone();
        let is_gone = !snapshots
            .as_array()
            .is_some_and(|all| all.contains(&Value::from(lost.snapshot.as_str())));
        Ok(Look::when(is_gone, snapshots))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_damaged_object_of_the_index_costs_a_checkpoint_and_never_the_truth() {
    let Some(mut scene) = Scene::begin().await else {
        return;
    };
    let newest = scene.comes_to_rest().await;
    let checkpoints = scene.checkpoints();
    let before = checkpoints[checkpoints.len() - 2].clone();
    let bucket = scene.bucket().await;
    let key = scene.key(&newest);
    let mut contents = bucket.get(&key, 1 << 20).await.unwrap().unwrap();
    let middle = contents.len() / 2;
    contents[middle] ^= 1;
    bucket.put(&key, contents).await.unwrap();
    scene.is_replaced().await;
    scene.goes_on_from(&before).await;
}

/// As when an account's administrator deploys the template with another key: that replaces the instance, too.
#[tokio::test]
async fn a_replaced_runner_goes_on_under_another_key_without_a_first_copy() {
    let Some(mut scene) = Scene::begin().await else {
        return;
    };
    let before = scene.comes_to_rest().await;
    let Member { id, region, .. } = scene.member.clone();
    let key = format!("arn:aws:kms:{region}:{id}:key/0c1d2e3f-0000-4000-8000-000000000000");
    let runner = scene.world.runner_mut(&id).unwrap();
    runner.use_store(format!("ebs:{region}:{key}"));
    scene.is_replaced().await;
    scene.goes_on_from(&before).await;
    // Nothing is written any more: an idle disk comes under the new key, too.
    eventually("the newest snapshot is under the new key", SOON, || async {
        let record = scene.record_of(&scene.newest());
        Ok(Look::when(record["wish"]["key"] == key.as_str(), record))
    })
    .await
    .unwrap();
    let put = puts(&scene.world);
    assert!(put < scene.first_copy / 4, "{put} blocks of {}", scene.first_copy);
    scene.launches_what_the_source_has().await;
}

/// Objects go when their checkpoints do.
#[tokio::test]
async fn the_index_follows_retention() {
    let Some(scene) = Scene::begin().await else { return };
    let bucket = scene.bucket().await;
    let first = scene.checkpoints().remove(0);
    scene.until_newer_than(first.number + 8).await;
    eventually("the index has what the runner has", SOON, || async {
        let listed = bucket.list("servers/").await?;
        let listed: BTreeSet<_> = listed.into_iter().collect();
        let kept: BTreeSet<_> = scene.checkpoints().iter().map(|one| scene.key(one)).collect();
        let is_right = listed == kept && !listed.contains(&scene.key(&first));
        Ok(Look::when(is_right, (listed, kept)))
    })
    .await
    .unwrap();
}

/// What the hub says to a runner that shows these credentials.
async fn answer_to(scene: &Scene, name: &str, session: &RoleSession, endpoint: &str) -> String {
    let programs = Programs::beside_this_test().unwrap();
    let dir = scene.folder.path().join(name);
    fs::create_dir_all(&dir).unwrap();
    let ca = scene.world.hub.ca().await.unwrap();
    let mut args: Vec<std::ffi::OsString> = vec!["run".into(), "--dir".into(), dir.clone().into()];
    let hub = scene.world.hub.machines().to_string();
    for arg in [
        "--hub",
        &hub,
        "--store",
        "ebs:eu-central-1",
        "--address",
        "127.0.0.1",
    ] {
        args.push(arg.into());
    }
    for arg in ["--data-listen", "127.0.0.1:0", "--enrol-listen", "127.0.0.1:0"] {
        args.push(arg.into());
    }
    args.extend(scene.member.runner_args(&ca));
    let mut env = session.env(endpoint);
    env.retain(|(_, value)| !value.is_empty());
    let env: Vec<_> = env
        .iter()
        .map(|(name, value)| (*name, value.as_os_str()))
        .collect();
    let log = dir.join("log.txt");
    let _process = Process::start(&programs, Program::Runner, name, &log, args, &env).unwrap();
    eventually("the hub answers", SOON, || async {
        let said = fs::read_to_string(&log).unwrap_or_default();
        let is_answered = said.contains("the hub refused") || said.contains("enrolled");
        Ok(if is_answered {
            Look::Seen(said)
        } else {
            Look::NotYet(said)
        })
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn only_the_runners_role_of_a_managed_account_enrols() {
    let Some(scene) = Scene::begin().await else { return };
    let endpoint = scene.world.aws.endpoint();
    let said = answer_to(&scene, "stranger", &scene.world.stranger, &endpoint).await;
    assert!(
        said.contains("is not one of those that this hub manages"),
        "{said}"
    );
    let said = answer_to(&scene, "other-role", &scene.member.other, &endpoint).await;
    assert!(said.contains("has the role OrgliftRunner-eu-central-1"), "{said}");
    let root = RoleSession {
        key: key_of(scene.member.id.as_str()).unwrap(),
        secret: "any".into(),
        token: String::new(),
    };
    let said = answer_to(&scene, "no-role", &root, &endpoint).await;
    assert!(said.contains("is not a role that was assumed"), "{said}");
    // What another organization calls STS says nothing of this one's accounts.
    let elsewhere = endpoint.replace("127.0.0.1", "localhost");
    let roster = json!({
        "name": "elsewhere",
        "reach": "ROSTER",
        "region": "eu-central-1",
        "accounts": [{ "id": "650000000001", "name": "elsewhere" }],
        "route": { "endpoints": { "url": elsewhere, "fips": false, "dual_stack": false } },
    });
    let api = &scene.world.hub.api;
    let added = api.call::<Value>(reqwest::Method::POST, "/api/v1/organizations", Some(roster));
    added.await.unwrap();
    let said = answer_to(&scene, "elsewhere", &scene.member.runner, &elsewhere).await;
    assert!(said.contains("no endpoint of STS"), "{said}");
    // The runner that there is goes on: nobody took its place.
    scene.until_newer_than(scene.newest().number).await;
    // One with the right role does take it, and the hub then refuses the old one.
    let said = answer_to(&scene, "successor", &scene.member.runner, &endpoint).await;
    assert!(said.contains("enrolled"), "{said}");
    let old = scene.runner_dir().join("log.txt");
    eventually("the old runner is told that its place is taken", SOON, || async {
        let said = fs::read_to_string(&old)?;
        Ok(Look::when(said.contains("certificate was revoked"), said))
    })
    .await
    .unwrap();
}
