//! What every cloud must do for its callers, shown on this one; and the faults that only this one has.

use std::{os::unix::fs::FileExt, time::Duration};

use domain::{
    digest::Digest,
    disk::BLOCK_LEN,
    launch::{BootMode, LaunchDisposition, instance_type::Architecture, volume::VolumeSettings},
};

use super::{
    faults::{Effect, Fault},
    machines::{Instances, MachineRecord, MachineState},
    organization::{Organization, Trust},
    *,
};
use crate::{
    control::{Checks, ImageDisk, InstanceState, LaunchSpec, ResourceKind, SERVER_TAG, TOKEN_TAG, Tags},
    layers::LayerStore,
    snapshots::{SnapshotSpec, SnapshotStore},
};

struct Account {
    _folder: tempfile::TempDir,
    cloud: FolderCloud,
    place: Place,
    snapshot: String,
}

const BYTES: u64 = 3 * BLOCK_LEN as u64 + 4096;
const SERVER: &str = "s-3333333333333333a";
const MEMBER: &str = "111111111111";
const ROSTER: &str = "444444444444";

fn place(account: &str) -> Place {
    Place::direct(account.parse().unwrap(), "eu-central-1")
}

fn tags() -> Tags {
    [(SERVER_TAG.to_owned(), SERVER.to_owned())].into()
}

/// An account with one committed snapshot: block 1 is full of sevens, the rest is zeros.
async fn account() -> Account {
    let folder = tempfile::tempdir().unwrap();
    let cloud = FolderCloud::open(folder.path());
    let listed = |id: &str, suspended| ListedAccount {
        id: id.parse().unwrap(),
        name: format!("account {id}"),
        unit: String::new(),
        suspended,
    };
    Organization {
        accounts: vec![listed(MEMBER, false), listed("222222222222", true)],
    }
    .save(folder.path())
    .unwrap();
    Trust {
        accounts: vec![ROSTER.parse().unwrap()],
    }
    .save(folder.path())
    .unwrap();
    let place = place(MEMBER);
    let store = LayerStore::open(cloud.place(&place).snapshots()).unwrap();
    let spec = SnapshotSpec {
        parent: None,
        bytes: BYTES,
        disk: "disk-1".parse().unwrap(),
        tags: tags(),
    };
    let snapshot = store.start(&spec).await.unwrap();
    let block = vec![7; BLOCK_LEN];
    let digest = Digest::of(&block);
    store.put(&snapshot, 1, block, digest).await.unwrap();
    store.commit(&snapshot).await.unwrap();
    Account {
        _folder: folder,
        cloud,
        place,
        snapshot: snapshot.0,
    }
}

impl Account {
    fn image_spec(&self, token: &str) -> ImageSpec {
        ImageSpec {
            token: ClientToken(token.into()),
            name: "web-1".into(),
            architecture: Architecture::X86_64,
            boot_mode: BootMode::Uefi,
            disks: vec![ImageDisk {
                source_device: "/dev/sda".into(),
                snapshot: self.snapshot.clone(),
                bytes: BYTES,
                is_boot: true,
                volume: VolumeSettings::default(),
            }],
            tags: tags(),
        }
    }

    async fn instance_spec(&self, token: &str, image: &str) -> InstanceSpec {
        let launch = LaunchSpec::new("m5.large", "target");
        let template = TemplateSpec {
            name: "orglift-web-1".into(),
            launch: launch.clone(),
            tags: [tags(), [(TOKEN_TAG.to_owned(), "template".to_owned())].into()]
                .into_iter()
                .flatten()
                .collect(),
        };
        InstanceSpec {
            token: ClientToken(token.into()),
            image: image.into(),
            template: self.cloud.keep_template(&self.place, &template).await.unwrap(),
            launch,
            disposition: LaunchDisposition::Started,
            tags: tags(),
        }
    }

    async fn image(&self) -> String {
        let spec = self.image_spec("image");
        self.cloud.register_image(&self.place, &spec).await.unwrap()
    }

    async fn found(&self, token: &str) -> Option<Resource> {
        let token = ClientToken(token.into());
        self.cloud.find_by_token(&self.place, &token).await.unwrap()
    }

    async fn launch(&self, token: &str) -> String {
        let spec = self.instance_spec(token, &self.image().await).await;
        self.cloud.launch_instance(&self.place, &spec).await.unwrap()
    }

    async fn kinds(&self) -> Vec<ResourceKind> {
        let inventory = self.cloud.inventory(&self.place).await.unwrap();
        assert!(
            inventory
                .iter()
                .all(|resource| resource.tags[SERVER_TAG] == SERVER)
        );
        let mut kinds: Vec<_> = inventory.iter().map(|resource| resource.kind).collect();
        kinds.sort();
        kinds
    }
}

#[tokio::test]
async fn an_instance_that_boots_passes_its_checks_when_its_machine_came_up() {
    let account = account().await;
    account.cloud.set_instances(Instances::Booted).unwrap();
    let id = account.launch("launch").await;
    tokio::time::sleep(Duration::from_millis(350)).await;
    let place = account.cloud.place(&account.place);
    let mut seen = Vec::new();
    for state in [
        None,
        Some(MachineState::Starting),
        Some(MachineState::Failed),
        Some(MachineState::CameUp),
    ] {
        if let Some(state) = state {
            let (detail, forwards) = (format!("{state:?}"), Vec::new());
            place
                .set_machine(
                    &id,
                    &MachineRecord {
                        state,
                        detail,
                        forwards,
                    },
                )
                .unwrap();
        }
        let instance = account.cloud.instance(&account.place, &id).await.unwrap();
        assert_eq!(instance.state, InstanceState::Running);
        seen.push(instance.checks);
    }
    let failed = Checks::Failed {
        reason: "Failed".into(),
    };
    assert_eq!(seen, [Checks::Pending, Checks::Pending, failed, Checks::Passed]);
}

#[tokio::test]
async fn an_instance_starts_passes_its_checks_and_owns_a_copy_of_each_disk() {
    let account = account().await;
    let id = account.launch("launch").await;
    let instance = account.cloud.instance(&account.place, &id).await.unwrap();
    assert_eq!(instance.state, InstanceState::Pending);
    tokio::time::sleep(Duration::from_millis(350)).await;
    let instance = account.cloud.instance(&account.place, &id).await.unwrap();
    assert_eq!(instance.state, InstanceState::Running);
    assert_eq!(instance.checks, Checks::Passed);
    assert_eq!(instance.private_ip, Some("10.0.2.4".parse().unwrap()));

    let [volume] = instance.volumes.as_slice() else {
        panic!("{:?}", instance.volumes)
    };
    let raw = std::fs::File::open(account.cloud.place(&account.place).volume(&id, &volume.id)).unwrap();
    assert_eq!(raw.metadata().unwrap().len(), BYTES);
    let mut bytes = vec![0; usize::try_from(BYTES).unwrap()];
    raw.read_exact_at(&mut bytes, 0).unwrap();
    let mut expected = vec![0; bytes.len()];
    expected[BLOCK_LEN..2 * BLOCK_LEN].fill(7);
    assert!(bytes == expected);
}

#[tokio::test]
async fn a_wish_repeated_with_its_token_makes_one_thing() {
    let account = account().await;
    let first = account.launch("launch").await;
    assert_eq!(account.launch("launch").await, first);
    assert_ne!(account.launch("another").await, first);
    let found = account.found("launch").await.unwrap();
    assert_eq!((found.kind, &found.id), (ResourceKind::Instance, &first));
    assert_eq!(found.tags[TOKEN_TAG], "launch");
    assert_eq!(account.found("never").await, None);
}

#[tokio::test]
async fn wishes_made_at_once_share_neither_instances_nor_addresses() {
    let account = std::sync::Arc::new(account().await);
    let mut launches = tokio::task::JoinSet::new();
    for n in 0..12 {
        let account = account.clone();
        launches.spawn(async move { account.launch(&format!("launch {}", n % 4)).await });
    }
    let ids: std::collections::BTreeSet<_> = launches.join_all().await.into_iter().collect();
    assert_eq!(ids.len(), 4);
    let records = account.cloud.place(&account.place).instance_records().unwrap();
    let addresses: std::collections::BTreeSet<_> = records.iter().map(|record| record.private_ip).collect();
    assert_eq!(addresses.len(), 4);
}

#[tokio::test]
async fn terminating_and_deregistering_leave_nothing_and_may_be_repeated() {
    let account = account().await;
    let instance = account.launch("launch").await;
    assert_eq!(
        account.kinds().await,
        [
            ResourceKind::Snapshot,
            ResourceKind::Image,
            ResourceKind::Instance,
            ResourceKind::Volume,
            ResourceKind::LaunchTemplate
        ]
    );
    let image = account.found("image").await.unwrap().id;
    let template = account.instance_spec("launch", &image).await.template.template;
    let owned = |id: &str, token: &str| Owned {
        id: id.into(),
        server: SERVER.parse().unwrap(),
        token: ClientToken(token.into()),
    };
    for _ in 0..2 {
        account
            .cloud
            .delete_template(&account.place, &owned(&template, "template"))
            .await
            .unwrap();
        account
            .cloud
            .terminate_instance(&account.place, &owned(&instance, "launch"))
            .await
            .unwrap();
        account
            .cloud
            .deregister_image(&account.place, &owned(&image, "image"))
            .await
            .unwrap();
        assert_eq!(account.kinds().await, [ResourceKind::Snapshot]);
    }
    assert_eq!(account.found("launch").await, None);
    let gone = account.cloud.instance(&account.place, &instance).await.unwrap();
    assert_eq!(gone.state, InstanceState::Terminated);
}

#[tokio::test]
async fn what_a_killed_process_was_making_is_seen_by_nobody_and_cleared_by_the_next_attempt() {
    let account = account().await;
    let instances = account
        .cloud
        .root()
        .join("accounts/111111111111/eu-central-1/instances");
    let name = blake3::hash(b"launch").to_hex();
    let debris = instances.join(format!(".draft-{}", &name[..32])).join("vol-0123");
    std::fs::create_dir_all(&debris).unwrap();
    std::fs::write(debris.join("disk.raw"), "half of a disk").unwrap();
    assert_eq!(account.kinds().await, [ResourceKind::Snapshot]);
    let id = account.launch("launch").await;
    let left: Vec<_> = std::fs::read_dir(&instances)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(left, [id]);
}

#[tokio::test]
async fn an_image_needs_snapshots_that_are_there_and_complete() {
    let account = account().await;
    let mut spec = account.image_spec("missing");
    spec.disks[0].snapshot = "snap-0123456789abcdef0".into();
    let refused = account
        .cloud
        .register_image(&account.place, &spec)
        .await
        .unwrap_err();
    assert!(matches!(refused, CloudError::NotFound { .. }), "{refused}");

    let store = LayerStore::open(account.cloud.place(&account.place).snapshots()).unwrap();
    let open = SnapshotSpec {
        parent: None,
        bytes: BYTES,
        disk: "disk-1".parse().unwrap(),
        tags: tags(),
    };
    spec.disks[0].snapshot = store.start(&open).await.unwrap().0;
    let refused = account
        .cloud
        .register_image(&account.place, &spec)
        .await
        .unwrap_err();
    assert!(matches!(refused, CloudError::Rejected { .. }), "{refused}");
}

#[tokio::test]
async fn instances_of_an_older_version_are_still_known() {
    let account = account().await;
    let instance = account.launch("launch").await;
    let file = account
        .cloud
        .place(&account.place)
        .instance_folder(&instance)
        .join("instance.json");
    let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let spec = record["spec"].as_object_mut().unwrap();
    for newer in [
        "template",
        "security_groups",
        "instance_profile",
        "tenancy",
        "encryption",
    ] {
        spec.remove(newer).unwrap();
    }
    std::fs::write(&file, record.to_string()).unwrap();
    assert!(account.kinds().await.contains(&ResourceKind::Instance));
}

#[tokio::test]
async fn a_damaged_snapshot_is_not_launched() {
    let account = account().await;
    let image = account.image().await;
    let snapshots = account.cloud.place(&account.place).snapshots();
    let file = snapshots.join(format!("{}.data", account.snapshot));
    let data = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
    data.write_all_at(b"?", BLOCK_LEN as u64 + 9).unwrap();
    let spec = account.instance_spec("damaged", &image).await;
    let refused = account.cloud.launch_instance(&account.place, &spec).await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused, CloudError::Rejected { .. }), "{refused}");
    assert!(
        refused.to_string().contains(&file.display().to_string()),
        "{refused}"
    );
    assert_eq!(account.found("damaged").await, None);
}

#[tokio::test]
async fn an_address_that_was_asked_for_is_given_once() {
    let account = account().await;
    let mut spec = account.instance_spec("first", &account.image().await).await;
    spec.launch.private_ip = Some("10.0.2.77".parse().unwrap());
    account
        .cloud
        .launch_instance(&account.place, &spec)
        .await
        .unwrap();
    for (token, ip) in [("same", "10.0.2.77"), ("elsewhere", "10.9.0.1")] {
        spec.token = ClientToken(token.into());
        spec.launch.private_ip = Some(ip.parse().unwrap());
        let refused = account
            .cloud
            .launch_instance(&account.place, &spec)
            .await
            .unwrap_err();
        assert!(matches!(refused, CloudError::Rejected { .. }), "{refused}");
    }
}

#[tokio::test]
async fn only_accounts_that_let_us_in_are_reached() {
    let account = account().await;
    let cloud = &account.cloud;
    cloud.check_access(&place(MEMBER)).await.unwrap();
    cloud.check_access(&place(ROSTER)).await.unwrap();
    for closed in ["222222222222", "999999999999"] {
        let refused = cloud.check_access(&place(closed)).await.unwrap_err();
        assert!(matches!(refused, CloudError::Denied { .. }), "{refused}");
    }
    let listed = cloud
        .organization_accounts(&Route::default(), "eu-central-1", Reach::ManagementAccount)
        .await
        .unwrap();
    let ids: Vec<_> = listed.iter().map(|account| account.id.as_str()).collect();
    assert_eq!(ids, [MEMBER, "222222222222"]);
    let route = Route::default();
    let of_a_roster = cloud.organization_accounts(&route, "eu-central-1", Reach::Roster);
    assert!(of_a_roster.await.is_err());
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_the_repetition_finds_what_was_made() {
    let account = account().await;
    let fault = Fault::new(Effect::Forget).on(Call::RegisterImage).times(1);
    account.cloud.faults().set(&[fault]).unwrap();
    let spec = account.image_spec("image");
    let lost = account
        .cloud
        .register_image(&account.place, &spec)
        .await
        .unwrap_err();
    assert!(matches!(lost, CloudError::Unknown { .. }) && lost.is_transient());
    let id = account.cloud.register_image(&account.place, &spec).await.unwrap();
    let found = account
        .cloud
        .find_by_token(&account.place, &spec.token)
        .await
        .unwrap();
    assert_eq!(found.unwrap().id, id);
}

#[tokio::test]
async fn a_refusal_strikes_its_account_and_call_as_often_as_asked() {
    let account = account().await;
    let faults = [
        Fault::new(Effect::Throttle)
            .on(Call::GetCallerIdentity)
            .in_account(MEMBER)
            .times(2),
        Fault::new(Effect::Reject {
            reason: "no capacity".into(),
        })
        .on(Call::RunInstances),
    ];
    account.cloud.faults().set(&faults).unwrap();
    account.cloud.check_access(&place(ROSTER)).await.unwrap();
    for _ in 0..2 {
        let refused = account.cloud.check_access(&account.place).await.unwrap_err();
        assert!(matches!(refused, CloudError::Throttled { .. }), "{refused}");
    }
    account.cloud.check_access(&account.place).await.unwrap();
}

#[tokio::test]
async fn a_held_call_waits_until_it_is_released() {
    let account = account().await;
    for (effect, made) in [(Effect::HoldBefore, false), (Effect::HoldAfter, true)] {
        let spec = account.image_spec(if made { "after" } else { "before" });
        account
            .cloud
            .faults()
            .set(&[Fault::new(effect).on(Call::RegisterImage)])
            .unwrap();
        let (cloud, place, token) = (account.cloud.clone(), account.place.clone(), spec.token.clone());
        let call = tokio::spawn(async move { cloud.register_image(&place, &spec).await });
        while account.cloud.faults().list().unwrap()[0].hits == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(!call.is_finished());
        let found = account.cloud.find_by_token(&account.place, &token).await.unwrap();
        assert_eq!(found.is_some(), made);
        account.cloud.faults().set(&[]).unwrap();
        call.await.unwrap().unwrap();
    }
}
