//! What a launch relies on, in any cloud.

use std::{net::IpAddr, time::Duration};

use cloud::{
    Cloud, CloudError,
    control::{
        Checks, ClientToken, ImageDisk, ImageSpec, Instance, InstanceSpec, InstanceState, LaunchSpec, Owned,
        Place, ResourceKind, SERVER_TAG, TOKEN_TAG, Tags, TemplateSpec, TemplateVersion,
    },
    snapshots::{SnapshotSpec, SnapshotStore},
};
use domain::{
    digest::Digest,
    disk::BLOCK_LEN,
    ids::SourceServerId,
    launch::{
        BootMode, LaunchDisposition,
        instance_type::{Architecture, Needs},
        volume::VolumeSettings,
    },
};
use lab::wait::{Look, eventually};

const SERVER: &str = "s-3333333333333333a";
const SOON: Duration = Duration::from_secs(30);
const GIB: u64 = 1 << 30;
pub const NEEDS: Needs = Needs {
    cpus: 2,
    memory_bytes: 8 * GIB,
    architecture: Architecture::X86_64,
    boot_mode: BootMode::Uefi,
};

/// A cloud with an account where something can be launched.
pub struct Ground<'a> {
    pub cloud: &'a dyn Cloud,
    pub place: Place,
    pub store: &'a dyn SnapshotStore,
    pub subnet: String,
    /// An address of the subnet.
    pub address: IpAddr,
}

fn tags(token: &str) -> Tags {
    Tags::from([
        (SERVER_TAG.to_owned(), SERVER.to_owned()),
        (TOKEN_TAG.to_owned(), token.to_owned()),
    ])
}

fn owned(id: &str, token: &str) -> Owned {
    Owned {
        id: id.into(),
        server: SERVER.parse().unwrap(),
        token: ClientToken(token.into()),
    }
}

impl Ground<'_> {
    async fn disk(&self, device: &str, is_boot: bool) -> ImageDisk {
        let spec = SnapshotSpec {
            parent: None,
            bytes: GIB,
            disk: "disk-1".parse().unwrap(),
            tags: [(SERVER_TAG.to_owned(), SERVER.to_owned())].into(),
        };
        let snapshot = self.store.start(&spec).await.unwrap();
        let block = vec![7; BLOCK_LEN];
        let digest = Digest::of(&block);
        self.store.put(&snapshot, 1, block, digest).await.unwrap();
        self.store.commit(&snapshot).await.unwrap();
        ImageDisk {
            source_device: device.into(),
            snapshot: snapshot.0,
            bytes: GIB,
            is_boot,
            volume: VolumeSettings::default(),
        }
    }

    pub async fn image_spec(&self, token: &str) -> ImageSpec {
        // The boot disk is not always the first.
        let disks = vec![
            self.disk("/dev/vdb", false).await,
            self.disk("/dev/vda", true).await,
        ];
        ImageSpec {
            token: ClientToken(token.into()),
            name: "web-1 test mgnjob-1".into(),
            architecture: Architecture::X86_64,
            boot_mode: BootMode::Uefi,
            disks,
            tags: tags(token),
        }
    }

    pub fn template_spec(&self, disks: &[ImageDisk]) -> TemplateSpec {
        TemplateSpec {
            name: format!("orglift-{SERVER}"),
            launch: LaunchSpec {
                private_ip: Some(self.address),
                disks: disks.to_vec(),
                ..LaunchSpec::new("m5.large", self.subnet.clone())
            },
            tags: tags("template"),
        }
    }

    pub async fn instance_spec(&self, token: &str, image: &str, disks: &[ImageDisk]) -> InstanceSpec {
        let template = self.template_spec(disks);
        InstanceSpec {
            token: ClientToken(token.into()),
            image: image.into(),
            template: self.cloud.keep_template(&self.place, &template).await.unwrap(),
            launch: template.launch,
            disposition: LaunchDisposition::Started,
            tags: tags(token),
        }
    }

    async fn found(&self, token: &str) -> Option<(ResourceKind, String)> {
        let token = ClientToken(token.into());
        let found = self.cloud.find_by_token(&self.place, &token).await.unwrap();
        found.map(|found| (found.kind, found.id))
    }

    async fn until(&self, what: &str, instance: &str, is: impl Fn(&Instance) -> bool) -> Instance {
        eventually(what, SOON, || async {
            Ok(match self.cloud.instance(&self.place, instance).await {
                Ok(seen) if is(&seen) => Look::Seen(seen),
                other => Look::NotYet(format!("{other:?}")),
            })
        })
        .await
        .unwrap()
    }

    async fn kinds(&self) -> Vec<ResourceKind> {
        let all = self.cloud.inventory(&self.place).await.unwrap();
        assert!(all.iter().all(|resource| resource.tags[SERVER_TAG] == SERVER));
        let mut kinds: Vec<_> = all.iter().map(|resource| resource.kind).collect();
        kinds.sort_unstable();
        kinds
    }
}

pub async fn holds(ground: &Ground<'_>) {
    use ResourceKind::{Image, Instance, LaunchTemplate, Snapshot, Volume};
    let Ground { cloud, place, .. } = ground;
    cloud.check_access(place).await.unwrap();
    assert_eq!(ground.found("image").await, None);

    let spec = ground.image_spec("image").await;
    nothing_is_made_by_looking(ground, &spec).await;
    let image = cloud.register_image(place, &spec).await.unwrap();
    assert_eq!(
        cloud.register_image(place, &spec).await.unwrap(),
        image,
        "one token, one image"
    );
    assert_eq!(ground.found("image").await, Some((Image, image.clone())));

    let template = keeps_templates(ground, &spec.disks).await;
    assert_eq!(
        ground.found("template").await,
        Some((LaunchTemplate, template.clone()))
    );

    let wish = ground.instance_spec("instance", &image, &spec.disks).await;
    let id = cloud.launch_instance(place, &wish).await.unwrap();
    assert_eq!(
        cloud.launch_instance(place, &wish).await.unwrap(),
        id,
        "one token, one instance"
    );
    let running = ground
        .until("it runs and passes its checks", &id, |seen| {
            seen.state == InstanceState::Running && seen.checks == Checks::Passed
        })
        .await;
    assert_eq!(
        (&running.subnet, running.private_ip),
        (&ground.subnet, Some(ground.address))
    );
    let mut volumes: Vec<_> = running
        .volumes
        .iter()
        .map(|volume| (volume.source_device.as_str(), volume.bytes))
        .collect();
    volumes.sort_unstable();
    assert_eq!(volumes, [("/dev/vda", GIB), ("/dev/vdb", GIB)]);
    assert_eq!(ground.found("instance").await, Some((Instance, id.clone())));
    assert_eq!(
        ground.kinds().await,
        [
            Snapshot,
            Snapshot,
            Image,
            Instance,
            Volume,
            Volume,
            LaunchTemplate
        ]
    );

    let taken = InstanceSpec {
        token: ClientToken("another".into()),
        tags: tags("another"),
        ..wish
    };
    let refused = cloud.launch_instance(place, &taken).await.unwrap_err();
    assert!(
        matches!(refused, CloudError::Rejected { .. }),
        "an address that is taken: {refused}"
    );

    addresses_are_given_back(ground, &spec.disks).await;
    cloud.console_text(place, &id).await.unwrap();
    cloud.screenshot(place, &id).await.unwrap();

    what_the_ledger_takes_for_ours_is_left_alone(ground, [&image, &template, &id]).await;
    let (image, template) = (owned(&image, "image"), owned(&template, "template"));
    for _ in 0..2 {
        cloud.deregister_image(place, &image).await.unwrap();
        cloud.delete_template(place, &template).await.unwrap();
    }
    assert_eq!(ground.found("image").await, None);
    assert_eq!(ground.found("template").await, None);
    let instance = owned(&id, "instance");
    cloud.terminate_instance(place, &instance).await.unwrap();
    ground
        .until("it is terminated", &id, |seen| {
            seen.state == InstanceState::Terminated
        })
        .await;
    cloud.terminate_instance(place, &instance).await.unwrap();
    assert_eq!(ground.found("instance").await, None);
    assert_eq!(ground.kinds().await, [Snapshot, Snapshot]);

    let unknown = cloud.instance(place, "i-00000000000000000").await.unwrap_err();
    assert!(matches!(unknown, CloudError::NotFound { .. }), "{unknown}");
    cloud
        .terminate_instance(place, &owned("i-00000000000000000", "instance"))
        .await
        .unwrap();
}

/// The ledger may be wrong about an id: then the resource's own tags say whose it is.
async fn what_the_ledger_takes_for_ours_is_left_alone(ground: &Ground<'_>, ids: [&String; 3]) {
    let Ground { cloud, place, .. } = ground;
    let before = ground.kinds().await;
    let another: SourceServerId = "s-4444444444444444a".parse().unwrap();
    for is_of_another_server in [true, false] {
        let wrong = |id: &str, token: &str| {
            let mut wrong = owned(id, token);
            if is_of_another_server {
                wrong.server = another.clone();
            } else {
                wrong.token.0.push_str(" of another job");
            }
            wrong
        };
        let [image, template, instance] = ids;
        let instance = wrong(instance, "instance");
        let refusals = [
            cloud.deregister_image(place, &wrong(image, "image")).await,
            cloud.delete_template(place, &wrong(template, "template")).await,
            cloud.stop_instance(place, &instance).await,
            cloud.terminate_instance(place, &instance).await,
        ];
        for refusal in refusals {
            let refusal = refusal.unwrap_err();
            assert!(matches!(refusal, CloudError::Rejected { .. }), "{refusal}");
            assert!(refusal.to_string().contains("is left alone"), "{refusal}");
        }
    }
    assert_eq!(ground.kinds().await, before);
    let instance = cloud.instance(place, ids[2]).await.unwrap();
    assert_eq!(instance.state, InstanceState::Running);
}

/// Types and obstacles are found out without making anything.
async fn nothing_is_made_by_looking(ground: &Ground<'_>, image: &ImageSpec) {
    let Ground { cloud, place, .. } = ground;
    let families = ["m5".to_owned()];
    let offered = cloud
        .instance_types(place, &ground.subnet, &families)
        .await
        .unwrap();
    let large = offered.iter().find(|one| one.name == "m5.large").unwrap();
    assert_eq!((large.vcpus, large.memory_bytes), (2, 8 * GIB));
    assert!(offered.iter().all(|one| one.family() == "m5"));

    let sound = ground.template_spec(&image.disks);
    let before = ground.kinds().await;
    let obstacles = |launch: LaunchSpec, needs: Needs| {
        let spec = TemplateSpec {
            launch,
            ..sound.clone()
        };
        async move {
            let outlook = cloud.launch_outlook(place, &spec, &needs, &[]).await;
            outlook.unwrap().obstacles
        }
    };
    let change = |change: &dyn Fn(&mut LaunchSpec)| {
        let mut launch = sound.launch.clone();
        change(&mut launch);
        launch
    };
    assert_eq!(obstacles(sound.launch.clone(), NEEDS).await, [""; 0]);
    let arm = Needs {
        architecture: Architecture::Arm64,
        ..NEEDS
    };
    for (launch, needs, words) in [
        (
            change(&|launch| launch.subnet = "subnet-00000000000000000".into()),
            NEEDS,
            "subnet subnet-00000000000000000",
        ),
        (
            change(&|launch| launch.private_ip = Some([192, 0, 2, 9].into())),
            NEEDS,
            "192.0.2.9 is not within subnet",
        ),
        (
            change(&|launch| launch.instance_type = "q9.large".into()),
            NEEDS,
            "instance type q9.large",
        ),
        (sound.launch.clone(), arm, "m5.large does not run arm64"),
    ] {
        let found = obstacles(launch, needs).await;
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(words), "{found:?}");
    }
    assert_eq!(ground.kinds().await, before);
}

/// To the same server, and to no other.
async fn addresses_are_given_back(ground: &Ground<'_>, disks: &[ImageDisk]) {
    let Ground { cloud, place, .. } = ground;
    let own = ground.template_spec(disks);
    let outlook = cloud.launch_outlook(place, &own, &NEEDS, &[]).await.unwrap();
    let obstacles = outlook.obstacles;
    assert_eq!(
        obstacles, [""; 0],
        "a server's own instance gives its address back"
    );
    let strange = TemplateSpec {
        tags: [(SERVER_TAG.to_owned(), "s-4444444444444444a".to_owned())].into(),
        ..own
    };
    let outlook = cloud.launch_outlook(place, &strange, &NEEDS, &[]).await.unwrap();
    let obstacles = outlook.obstacles;
    assert_eq!(obstacles.len(), 1, "{obstacles:?}");
    assert!(obstacles[0].contains(&format!("{} is in use", ground.address)));
}

/// A template has a version for each change, and is one for good.
async fn keeps_templates(ground: &Ground<'_>, disks: &[ImageDisk]) -> String {
    let Ground { cloud, place, .. } = ground;
    let mut spec = ground.template_spec(disks);
    let mut keep = async |change: &dyn Fn(&mut LaunchSpec)| {
        change(&mut spec.launch);
        cloud.keep_template(place, &spec).await.unwrap()
    };
    let first = keep(&|_| ()).await;
    let version = |version| TemplateVersion {
        version,
        ..first.clone()
    };
    assert_eq!(keep(&|_| ()).await, version(1), "the same settings");
    let snapshots = |launch: &mut LaunchSpec| launch.disks[0].snapshot.push('0');
    assert_eq!(
        keep(&snapshots).await,
        version(1),
        "other snapshots of the same disks"
    );
    let larger = |launch: &mut LaunchSpec| launch.instance_type = "m5.xlarge".into();
    let changed = keep(&larger).await;
    assert_eq!(changed, version(2));
    assert_eq!(keep(&|_| ()).await, changed);
    first.template
}
