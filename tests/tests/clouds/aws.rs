//! AWS: roles on the way, what is refused and why, and answers that get lost.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use cloud::{
    Cloud, CloudError,
    aws::{Access, AwsCloud, ebs::EbsStore},
    control::{CopySpec, Outlook, Place, SERVER_TAG, Use},
    route::{Errand, Profile, Route},
    snapshots::{CopyWish, DiskHead, SnapshotId, SnapshotSpec, SnapshotStore},
};
use domain::{
    account::{ListedAccount, Reach},
    digest::Digest,
    disk::{BLOCK_LEN, DiskId},
};
use futures_util::future::join_all;
use lab::{
    aws::{
        Aws,
        caller::key_of,
        faults::{Effect, Fault},
        moto,
    },
    wait::{Look, eventually},
    world::on_aws::{Accounts, Member},
};
use tempfile::TempDir;

use crate::contract::{self, Ground};

struct Scene {
    aws: Aws,
    accounts: Accounts,
    folder: TempDir,
    cloud: AwsCloud,
}

impl Scene {
    /// `None`, and why, where the endpoints cannot be had.
    async fn new() -> Option<Self> {
        if let Err(why) = moto::python() {
            eprintln!("cannot run here: the control plane of AWS: {why:#}");
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{why:#}");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let aws = Aws::start(&folder.path().join("aws"), 0).await.unwrap();
        let members = ["production", "analytics"];
        let accounts = Accounts::make(&aws, folder.path(), &members).await.unwrap();
        // Whoever made them called, too.
        aws.calls().forget();
        Some(Self {
            aws,
            accounts,
            folder,
            cloud: AwsCloud::default(),
        })
    }

    fn member(&self, at: usize) -> &Member {
        &self.accounts.members[at]
    }

    fn tenant(&self) -> &Member {
        self.accounts.members.last().unwrap()
    }

    fn place(&self, member: &Member) -> Place {
        let route = if member.id == self.tenant().id {
            &self.accounts.to_tenant
        } else {
            &self.accounts.to_organization
        };
        place(member, route)
    }

    async fn store(&self, member: &Member) -> EbsStore {
        self.store_under(member, None).await
    }

    async fn store_under(&self, member: &Member, key: Option<&str>) -> EbsStore {
        let file = self.folder.path().join("member");
        let id = key_of(member.id.as_str()).unwrap();
        let text = format!("[member]\naws_access_key_id = {id}\naws_secret_access_key = any\n");
        fs::write(&file, text).unwrap();
        let access = Access {
            region: member.region.into(),
            profile: Some(Profile {
                name: "member".into(),
                file: Some(file),
            }),
            endpoints: self.accounts.to_organization.endpoints.clone(),
        };
        let records = self.folder.path().join(member.id.as_str());
        let key = key.map(str::to_owned);
        EbsStore::open(Path::new(&records), &access, key).await.unwrap()
    }

    async fn holds(&self, member: &Member) {
        let store = self.store(member).await;
        contract::holds(&self.ground(member, &store)).await;
    }

    fn ground<'a>(&'a self, member: &Member, store: &'a EbsStore) -> Ground<'a> {
        Ground {
            cloud: &self.cloud,
            place: self.place(member),
            store,
            subnet: member.target_subnet.clone(),
            address: [10, 0, 2, 77].into(),
        }
    }

    /// As the service has it.
    fn key_of_snapshot(&self, id: &SnapshotId) -> Option<String> {
        let record = self
            .folder
            .path()
            .join("aws/snapshots")
            .join(&id.0)
            .join("record.json");
        let record: serde_json::Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
        record["kms_key_arn"].as_str().map(str::to_owned)
    }

    /// What stands in the way into an account.
    async fn remedy(&self, place: &Place) -> String {
        match self.cloud.check_access(place).await {
            Err(CloudError::Denied { remedy, account, .. }) => {
                assert_eq!(account, place.account.as_str());
                remedy
            }
            other => panic!("it was not denied: {other:?}"),
        }
    }

    /// Why the hub did not even try.
    async fn left_alone(&self, place: &Place) -> String {
        match self.cloud.check_access(place).await {
            Err(CloudError::LeftAlone { why, account }) => {
                assert_eq!(account, place.account.as_str());
                why
            }
            other => panic!("it was not left alone: {other:?}"),
        }
    }

    async fn listed(&self, route: &Route) -> Result<Vec<ListedAccount>, CloudError> {
        let reach = Reach::DelegatedAdministrator;
        self.cloud
            .organization_accounts(route, "eu-central-1", reach)
            .await
    }
}

fn place(member: &Member, route: &Route) -> Place {
    Place {
        account: member.id.clone(),
        region: member.region.into(),
        route: Arc::new(route.clone()),
        errand: Errand {
            who: "ana@example.com".into(),
            why: "mgnjob-1".into(),
        },
    }
}

#[tokio::test]
async fn it_holds_the_contract() {
    let Some(scene) = Scene::new().await else { return };
    scene.holds(scene.member(0)).await;
}

#[tokio::test]
async fn it_holds_the_contract_behind_a_delegate_in_another_partition() {
    let Some(scene) = Scene::new().await else { return };
    scene.holds(scene.tenant()).await;
    assert_eq!(
        scene.aws.calls().count("sts", "AssumeRole"),
        2,
        "each session is kept"
    );
}

#[tokio::test]
async fn lost_answers_make_nothing_twice() {
    let Some(scene) = Scene::new().await else { return };
    let member = scene.member(0);
    let place = scene.place(member);
    let store = scene.store(member).await;
    let ground = scene.ground(member, &store);
    let forget = |action| Fault::new(Effect::Forget).on("ec2", action).times(1);
    scene
        .aws
        .faults()
        .set(vec![forget("RegisterImage"), forget("RunInstances")]);
    let spec = ground.image_spec("image").await;
    let lost = scene.cloud.register_image(&place, &spec).await.unwrap_err();
    assert!(lost.is_transient(), "{lost}");
    let image = scene.cloud.register_image(&place, &spec).await.unwrap();
    let wish = ground.instance_spec("instance", &image, &spec.disks).await;
    let lost = scene.cloud.launch_instance(&place, &wish).await.unwrap_err();
    assert!(lost.is_transient(), "{lost}");
    scene.cloud.launch_instance(&place, &wish).await.unwrap();
    let inventory = scene.cloud.inventory(&place).await.unwrap();
    let count = |kind: &str| {
        inventory
            .iter()
            .filter(|resource| resource.kind.name() == kind)
            .count()
    };
    assert_eq!((count("image"), count("instance"), count("volume")), (1, 1, 2));
}

#[tokio::test]
async fn all_that_is_in_the_way_of_a_launch_is_named_at_once() {
    let Some(scene) = Scene::new().await else { return };
    let member = scene.member(0);
    let place = scene.place(member);
    let store = scene.store(member).await;
    let ground = scene.ground(member, &store);
    let image = ground.image_spec("image").await;
    let mut spec = ground.template_spec(&image.disks);
    spec.launch.security_groups = vec![
        member.security_group.clone(),
        "sg-00000000".into(),
        scene.member(1).security_group.clone(),
    ];
    let actions = [
        "CreateLaunchTemplate",
        "DescribeNetworkInterfaces",
        "RegisterImage",
    ];
    let deny = |action| Fault::new(Effect::Deny).on("ec2", action);
    scene.aws.faults().set(actions.map(deny).into());
    let outlook = scene
        .cloud
        .launch_outlook(&place, &spec, &contract::NEEDS, &[])
        .await
        .unwrap();
    let obstacles = outlook.obstacles;
    assert_eq!(obstacles.len(), 4, "{obstacles:?}");
    for action in actions {
        let named = obstacles
            .iter()
            .filter(|one| one.contains(&format!("ec2:{action} ")));
        assert_eq!(named.count(), 1, "{action}: {obstacles:?}");
    }
    let groups = obstacles
        .iter()
        .find(|one| one.contains("security group"))
        .unwrap();
    assert!(groups.contains("sg-00000000"), "{groups}");
    assert!(groups.contains(&scene.member(1).security_group), "{groups}");

    let throttle = Fault::new(Effect::Throttle).on("ec2", "DescribeSecurityGroups");
    scene.aws.faults().set(vec![throttle]);
    let unknown = scene
        .cloud
        .launch_outlook(&place, &spec, &contract::NEEDS, &[])
        .await
        .unwrap_err();
    assert!(unknown.is_transient(), "{unknown}");
}

/// On what, and with what conditions, decides; the role has the policy of the onboarding template.
#[tokio::test]
async fn permissions_that_the_role_lacks_are_named_before_there_is_an_image() {
    let Some(scene) = Scene::new().await else { return };
    let member = scene.member(0);
    let place = scene.place(member);
    let store = scene.store(member).await;
    let ground = scene.ground(member, &store);
    let image = ground.image_spec("image").await;
    let spec = ground.template_spec(&image.disks);
    let launch = |kind: &str, owner: &str, tag: Option<&str>| Use {
        actions: &["ec2:RunInstances"],
        resources: vec![format!("arn:aws:ec2:{}:{owner}:{kind}", member.region)],
        context: [("aws:RequestedRegion", member.region)]
            .into_iter()
            .chain(tag.map(|tag| (tag, "s-3333333333333333a")))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
    };
    let (account, ours) = (member.id.as_str(), "aws:ResourceTag/orglift:source-server");
    let look = async |uses: &[Use]| {
        let outlook = scene.cloud.launch_outlook(&place, &spec, &contract::NEEDS, uses);
        outlook.await.unwrap()
    };
    let allowed = [
        launch("subnet/subnet-1", account, None),
        launch("image/ami-1", "", Some(ours)),
        launch(
            "volume/vol-1",
            account,
            Some("aws:RequestTag/orglift:source-server"),
        ),
    ];
    assert_eq!(look(&allowed).await, Outlook::default());

    let mut elsewhere = launch("subnet/subnet-1", account, None);
    elsewhere.context[0].1 = "ap-south-1".into();
    let refused = [
        launch("image/ami-2", "", None),
        launch("volume/vol-2", account, Some(ours)),
        elsewhere,
        Use {
            actions: &["ec2:CreateVolume"],
            ..launch("volume/vol-3", account, Some(ours))
        },
    ];
    let outlook = look(&refused).await;
    let words = ["image/ami-2", "volume/vol-2", "subnet/subnet-1", "volume/vol-3"];
    assert_eq!(outlook.obstacles.len(), words.len(), "{outlook:?}");
    for (told, word) in outlook.obstacles.iter().zip(words) {
        assert!(
            told.contains(&format!(" on {word}: no policy of it allows")),
            "{told}"
        );
        assert!(told.contains("role OrgliftMember may not call ec2:"), "{told}");
        assert!(
            told.contains(&format!("orglift-hub onboarding --account {account}")),
            "{told}"
        );
    }

    let deny = Fault::new(Effect::Deny).on("iam", "SimulatePrincipalPolicy");
    scene.aws.faults().set(vec![deny]);
    let outlook = look(&refused).await;
    assert_eq!(outlook.obstacles, [""; 0], "what is not known is not in the way");
    let [told] = &outlook.not_checked[..] else {
        panic!("it is said once: {outlook:?}");
    };
    assert!(told.contains("--feature dry-run"), "{told}");
    let throttle = Fault::new(Effect::Throttle).on("iam", "SimulatePrincipalPolicy");
    scene.aws.faults().set(vec![throttle]);
    let unknown = scene
        .cloud
        .launch_outlook(&place, &spec, &contract::NEEDS, &refused)
        .await
        .unwrap_err();
    assert!(unknown.is_transient(), "{unknown}");
}

/// What runs counts, whoever launched it, but for what the same server gives back first.
#[tokio::test]
async fn a_quota_that_has_no_room_is_named() {
    let Some(scene) = Scene::new().await else { return };
    let member = scene.member(0);
    let place = scene.place(member);
    let store = scene.store(member).await;
    let ground = scene.ground(member, &store);
    let disks = ground.image_spec("image").await;
    let image = scene.cloud.register_image(&place, &disks).await.unwrap();
    let look = async |instance_type: &str, server: &str| {
        let mut spec = ground.template_spec(&disks.disks);
        spec.launch.private_ip = None;
        spec.launch.instance_type = instance_type.into();
        spec.tags.insert(SERVER_TAG.into(), server.into());
        let outlook = scene.cloud.launch_outlook(&place, &spec, &contract::NEEDS, &[]);
        outlook.await.unwrap()
    };
    let (own, other) = ("s-3333333333333333a", "s-4444444444444444a");
    assert_eq!(look("m5.8xlarge", own).await, Outlook::default(), "32 of 32");
    let outlook = look("m5.12xlarge", own).await;
    let [told] = &outlook.obstacles[..] else {
        panic!("one quota is too small: {outlook:?}");
    };
    assert!(
        told.contains("L-1216C47A") && told.contains("which is 32, 0 are in use; ask for 48"),
        "{told}"
    );
    let outlook = look("g4dn.xlarge", own).await;
    assert!(
        outlook.obstacles.iter().any(|told| told.contains("L-DB2E81BA")),
        "{outlook:?}"
    );

    let mut wish = ground.instance_spec("instance", &image, &disks.disks).await;
    wish.launch.instance_type = "m5.large".into();
    scene.cloud.launch_instance(&place, &wish).await.unwrap();
    assert_eq!(
        look("m5.8xlarge", own).await,
        Outlook::default(),
        "its own goes first"
    );
    let outlook = look("m5.8xlarge", other).await;
    assert!(
        outlook.obstacles[0].contains("2 are in use; ask for 34"),
        "{outlook:?}"
    );

    let deny = Fault::new(Effect::Deny).on("servicequotas", "GetServiceQuota");
    scene.aws.faults().set(vec![deny]);
    let outlook = look("m5.12xlarge", own).await;
    assert_eq!(outlook.obstacles, [""; 0], "what is not known is not in the way");
    assert!(outlook.not_checked[0].contains("--feature quotas"), "{outlook:?}");
}

#[tokio::test]
async fn the_tree_of_an_organization_is_walked_once() {
    let Some(scene) = Scene::new().await else { return };
    let listed = scene.listed(&scene.accounts.to_organization).await.unwrap();
    let mut seen: Vec<_> = listed
        .iter()
        .map(|account| (account.unit.as_str(), account.name.as_str()))
        .collect();
    seen.sort_unstable();
    assert_eq!(
        seen,
        [
            ("Root", "master"),
            ("Root", "migration"),
            ("Root/Analytics", "analytics"),
            ("Root/Production", "production"),
        ]
    );
    assert!(listed.iter().all(|account| !account.suspended));
    let calls = scene.aws.calls();
    assert_eq!(
        calls.count("organizations", "ListAccountsForParent"),
        3,
        "one for each unit"
    );
    assert_eq!(calls.count("organizations", "ListParents"), 0);

    let refused = scene.listed(&scene.accounts.to_tenant).await.unwrap_err();
    assert!(
        matches!(refused, CloudError::Denied { .. } | CloudError::Rejected { .. }),
        "{refused}"
    );
}

#[tokio::test]
async fn each_refusal_says_what_to_do() {
    let Some(scene) = Scene::new().await else { return };
    let member = scene.member(0);
    let route = &scene.accounts.to_organization;
    scene.cloud.check_access(&place(member, route)).await.unwrap();

    let wrong_id = Route {
        external_id: Some("another".into()),
        ..route.clone()
    };
    let said = scene.remedy(&place(member, &wrong_id)).await;
    assert!(
        said.contains(":role/OrgliftMember refused") && said.contains("expects another ExternalId"),
        "{said}"
    );
    assert!(
        said.contains(&format!("orglift-hub onboarding --account {}", member.id)),
        "{said}"
    );

    let no_role = Route {
        member_role: "Elsewhere".into(),
        ..route.clone()
    };
    let said = scene.remedy(&place(member, &no_role)).await;
    assert!(said.contains(":role/Elsewhere refused"), "{said}");

    let delegate = scene.place(scene.tenant());
    let mut unknown = scene.accounts.to_tenant.clone();
    unknown.through[0].external_id = None;
    let said = scene
        .remedy(&Place {
            route: Arc::new(unknown),
            ..delegate
        })
        .await;
    assert!(
        said.contains(":role/OrgliftDelegate refused"),
        "it names the role on the way: {said}"
    );
}

#[tokio::test]
async fn nothing_is_called_where_the_hub_may_not_act() {
    let Some(scene) = Scene::new().await else { return };
    let member = scene.member(0);
    let route = &scene.accounts.to_organization;
    let before = scene.aws.calls().list().len();
    let elsewhere = Place {
        region: "eu-west-1".into(),
        ..place(member, route)
    };
    let said = scene.left_alone(&elsewhere).await;
    assert!(said.contains("region eu-west-1 is not among"), "{said}");
    let denied = Route {
        denied: [member.id.clone()].into(),
        ..route.clone()
    };
    let said = scene.left_alone(&place(member, &denied)).await;
    assert!(said.contains("deny-list"), "{said}");
    assert_eq!(scene.aws.calls().list().len(), before);

    let own = Member {
        id: scene.accounts.hub.clone(),
        ..member.clone()
    };
    let said = scene.left_alone(&place(&own, route)).await;
    assert!(said.contains("the hub's own account"), "{said}");
    assert_eq!(scene.aws.calls().count("sts", "AssumeRole"), 0);
    let allowed = Route {
        own_account: true,
        ..route.clone()
    };
    let said = scene.remedy(&place(&own, &allowed)).await;
    assert!(
        said.contains(":role/OrgliftMember refused"),
        "there is no such role: {said}"
    );
}

#[tokio::test]
async fn throttled_and_broken_calls_may_be_made_again() {
    let Some(scene) = Scene::new().await else { return };
    let place = scene.place(scene.member(0));
    let strike = |effect| vec![Fault::new(effect).on("sts", "AssumeRole").times(1)];
    scene.aws.faults().set(strike(Effect::Throttle));
    let throttled = scene.cloud.check_access(&place).await.unwrap_err();
    assert!(matches!(throttled, CloudError::Throttled { .. }), "{throttled}");
    for effect in [Effect::Fail, Effect::Reset, Effect::Forget] {
        scene.aws.faults().set(strike(effect));
        let unknown = scene.cloud.check_access(&place).await.unwrap_err();
        assert!(matches!(unknown, CloudError::Unknown { .. }), "{unknown}");
    }
    scene.cloud.check_access(&place).await.unwrap();
}

/// Each refusal halves how many calls of this action go out in a second: of a hundred, twelve are left.
#[tokio::test]
async fn calls_that_are_throttled_become_fewer() {
    let Some(scene) = Scene::new().await else { return };
    let place = scene.place(scene.member(0));
    let throttle = Fault::new(Effect::Throttle).on("ec2", "DescribeInstances");
    scene.aws.faults().set(vec![throttle.times(3)]);
    for _ in 0..3 {
        let throttled = scene
            .cloud
            .instance(&place, "i-0123456789abcdef0")
            .await
            .unwrap_err();
        assert!(matches!(throttled, CloudError::Throttled { .. }), "{throttled}");
    }
    let began = Instant::now();
    let calls = (0..26).map(|_| scene.cloud.instance(&place, "i-0123456789abcdef0"));
    for answer in join_all(calls).await {
        assert!(matches!(answer, Err(CloudError::NotFound { .. })), "{answer:?}");
    }
    assert!(
        began.elapsed() > Duration::from_millis(1500),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn another_servers_snapshot_is_not_deleted() {
    let Some(scene) = Scene::new().await else { return };
    let member = scene.member(0);
    let place = scene.place(member);
    let store = scene.store(member).await;
    let ground = scene.ground(member, &store);
    let disks = ground.image_spec("image").await.disks;
    let delete = |server| scene.cloud.delete_snapshot(&place, &disks[0].snapshot, server);
    let refused = delete("s-4444444444444444b").await.unwrap_err();
    assert!(matches!(refused, CloudError::Rejected { .. }), "{refused}");
    assert_eq!(scene.cloud.inventory(&place).await.unwrap().len(), 2);
    delete("s-3333333333333333a").await.unwrap();
    delete("s-3333333333333333a").await.unwrap();
    assert_eq!(scene.cloud.inventory(&place).await.unwrap().len(), 1);
}

#[tokio::test]
async fn snapshots_go_on_under_another_key_without_a_new_copy_of_the_source() {
    let Some(scene) = Scene::new().await else { return };
    let member = scene.member(0);
    let place = scene.place(member);
    let disk: DiskId = "disk-1".parse().unwrap();
    let store = scene.store(member).await;
    let first = committed(&store, None, &[(0, 1), (1, 1), (2, 1)]).await;
    let head = |snapshot: &SnapshotId| DiskHead {
        server: SERVER.parse().unwrap(),
        disk: disk.clone(),
        snapshot: snapshot.clone(),
    };
    assert_eq!(store.to_copy(&[head(&first)]).await.unwrap(), []);
    drop(store);

    let key = format!(
        "arn:aws:kms:{}:{}:key/0c1d2e3f-0000-4000-8000-000000000000",
        member.region, member.id
    );
    let store = scene.store_under(member, Some(&key)).await;
    let follow = async |wish: &CopyWish| {
        let spec = CopySpec {
            snapshot: wish.original.0.clone(),
            server: wish.server.to_string(),
            key: wish.key.clone(),
            copy: wish.copy.as_ref().map(|copy| copy.0.clone()),
        };
        let (copy, complete) = scene.cloud.copy_snapshot(&place, &spec).await.unwrap();
        let copy = SnapshotId(copy);
        store.copied(&wish.original, &copy, complete).await.unwrap();
        (copy, complete)
    };
    let [wish] = &store.to_copy(&[head(&first)]).await.unwrap()[..] else {
        panic!("one snapshot is to be copied");
    };
    assert_eq!((&wish.original, &wish.key, &wish.copy), (&first, &key, &None));
    let (copy, _) = follow(wish).await;
    // Its answer is lost: asking again makes no other.
    assert_eq!(follow(wish).await.0, copy);

    // Replication goes on under the old key, and its checkpoints come and go.
    let second = committed(&store, Some(&first), &[(1, 2), (3, 2)]).await;
    assert_eq!(scene.key_of_snapshot(&second), None);
    store.merge_into_child(&first, &second).await.unwrap();
    assert_eq!(store.released().await.unwrap(), []);
    eventually("the copy is complete", Duration::from_secs(30), || async {
        let wishes = store.to_copy(&[head(&second)]).await.unwrap();
        for wish in &wishes {
            assert_eq!((&wish.original, &wish.copy), (&first, &Some(copy.clone())));
            follow(wish).await;
        }
        Ok(Look::when(wishes.is_empty(), wishes))
    })
    .await
    .unwrap();

    assert!(store.changes_key(&disk, &second).await.unwrap());
    scene.aws.calls().forget();
    let third = committed(&store, Some(&second), &[(0, 3)]).await;
    // Its own block, and two that the copy does not have.
    assert_eq!(scene.aws.calls().count("ebs", "PutSnapshotBlock"), 3);
    assert_eq!(scene.key_of_snapshot(&third).as_deref(), Some(key.as_str()));
    assert_eq!(shown(&store, &third).await, [3, 2, 1, 2]);
    assert!(!store.changes_key(&disk, &third).await.unwrap());
    assert_eq!(store.to_copy(&[head(&third)]).await.unwrap(), []);
    let gone: BTreeSet<_> = store
        .released()
        .await
        .unwrap()
        .into_iter()
        .map(|info| info.id)
        .collect();
    assert_eq!(gone, [first, copy].into());
    for id in gone {
        scene.cloud.delete_snapshot(&place, &id.0, SERVER).await.unwrap();
        store.forget(&id).await.unwrap();
    }
    let fourth = committed(&store, Some(&third), &[]).await;
    assert_eq!(scene.key_of_snapshot(&fourth).as_deref(), Some(key.as_str()));
    assert_eq!(shown(&store, &fourth).await, [3, 2, 1, 2]);
}

#[tokio::test]
async fn a_copy_goes_with_the_last_snapshot_of_its_server() {
    let Some(scene) = Scene::new().await else { return };
    let member = scene.member(0);
    let place = scene.place(member);
    let first = committed(&scene.store(member).await, None, &[(0, 1)]).await;
    let key = format!(
        "arn:aws:kms:{}:{}:key/0c1d2e3f-0000-4000-8000-000000000000",
        member.region, member.id
    );
    let store = scene.store_under(member, Some(&key)).await;
    let head = DiskHead {
        server: SERVER.parse().unwrap(),
        disk: "disk-1".parse().unwrap(),
        snapshot: first.clone(),
    };
    store.to_copy(std::slice::from_ref(&head)).await.unwrap();
    let spec = |server: &str| CopySpec {
        snapshot: first.0.clone(),
        server: server.into(),
        key: key.clone(),
        copy: None,
    };
    let refused = scene
        .cloud
        .copy_snapshot(&place, &spec("s-4444444444444444b"))
        .await;
    assert!(matches!(refused, Err(CloudError::Rejected { .. })), "{refused:?}");
    let (copy, _) = scene.cloud.copy_snapshot(&place, &spec(SERVER)).await.unwrap();
    store
        .copied(&first, &SnapshotId(copy.clone()), false)
        .await
        .unwrap();
    store.delete(&first).await.unwrap();
    let gone: BTreeSet<_> = store
        .released()
        .await
        .unwrap()
        .into_iter()
        .map(|info| info.id.0)
        .collect();
    assert_eq!(gone, [first.0, copy].into());
}

const SERVER: &str = "s-3333333333333333a";
const BYTES: u64 = 4 * BLOCK_LEN as u64;

async fn committed(store: &EbsStore, parent: Option<&SnapshotId>, blocks: &[(u64, u8)]) -> SnapshotId {
    let spec = SnapshotSpec {
        parent: parent.cloned(),
        bytes: BYTES,
        disk: "disk-1".parse().unwrap(),
        tags: [(SERVER_TAG.to_owned(), SERVER.to_owned())].into(),
    };
    let id = store.start(&spec).await.unwrap();
    for (block, byte) in blocks {
        let data = vec![*byte; BLOCK_LEN];
        let digest = Digest::of(&data);
        store.put(&id, *block, data, digest).await.unwrap();
    }
    store.commit(&id).await.unwrap();
    id
}

/// The first byte of each block.
async fn shown(store: &EbsStore, id: &SnapshotId) -> Vec<u8> {
    let mut shown = Vec::new();
    for block in 0..4 {
        shown.push(store.read(id, block).await.unwrap()[0]);
    }
    shown
}
