//! What a launch relies on, in any cloud.

use std::{net::IpAddr, time::Duration};

use cloud::{
    Cloud, CloudError,
    control::{
        Checks, ClientToken, ImageDisk, ImageSpec, Instance, InstanceSpec, InstanceState, Place,
        ResourceKind, SERVER_TAG, TOKEN_TAG, Tags,
    },
    snapshots::{SnapshotSpec, SnapshotStore},
};
use domain::{
    digest::Digest,
    disk::BLOCK_LEN,
    launch::{BootMode, LaunchDisposition},
};
use lab::wait::{Look, eventually};

const SERVER: &str = "s-3333333333333333a";
const SOON: Duration = Duration::from_secs(30);
const GIB: u64 = 1 << 30;

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
            boot_mode: BootMode::Uefi,
            disks,
            tags: tags(token),
        }
    }

    pub fn instance_spec(&self, token: &str, image: &str, disks: &[ImageDisk]) -> InstanceSpec {
        InstanceSpec {
            token: ClientToken(token.into()),
            image: image.into(),
            instance_type: "m5.large".into(),
            subnet: self.subnet.clone(),
            private_ip: Some(self.address),
            disposition: LaunchDisposition::Started,
            disks: disks.to_vec(),
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
    use ResourceKind::{Image, Instance, Snapshot, Volume};
    let Ground { cloud, place, .. } = ground;
    cloud.check_access(place).await.unwrap();
    assert_eq!(ground.found("image").await, None);

    let spec = ground.image_spec("image").await;
    let image = cloud.register_image(place, &spec).await.unwrap();
    assert_eq!(
        cloud.register_image(place, &spec).await.unwrap(),
        image,
        "one token, one image"
    );
    assert_eq!(ground.found("image").await, Some((Image, image.clone())));

    let wish = ground.instance_spec("instance", &image, &spec.disks);
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
        [Snapshot, Snapshot, Image, Instance, Volume, Volume]
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

    cloud.deregister_image(place, &image).await.unwrap();
    assert_eq!(ground.found("image").await, None);
    cloud.terminate_instance(place, &id).await.unwrap();
    ground
        .until("it is terminated", &id, |seen| {
            seen.state == InstanceState::Terminated
        })
        .await;
    cloud.terminate_instance(place, &id).await.unwrap();
    assert_eq!(ground.found("instance").await, None);
    assert_eq!(ground.kinds().await, [Snapshot, Snapshot]);

    let unknown = cloud.instance(place, "i-00000000000000000").await.unwrap_err();
    assert!(matches!(unknown, CloudError::NotFound { .. }), "{unknown}");
    cloud
        .terminate_instance(place, "i-00000000000000000")
        .await
        .unwrap();
}
