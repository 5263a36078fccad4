//! Instances of the lab that boot. Their disk holds one sector, which says that it asks for a login.

use std::{path::Path, time::Duration};

use cloud::{
    Cloud, SnapshotStore,
    control::{
        Checks, ClientToken, ImageDisk, ImageSpec, InstanceSpec, LaunchSpec, Owned, Place, SERVER_TAG, Tags,
        TemplateSpec,
    },
    folder::{
        FolderCloud,
        machines::{MachineRecord, MachineState},
        organization::Trust,
    },
    layers::LayerStore,
    snapshots::SnapshotSpec,
};
use domain::{
    digest::Digest,
    disk::BLOCK_LEN,
    launch::{BootMode, LaunchDisposition, instance_type::Architecture, volume::VolumeSettings},
};
use lab::{
    wait::{Look, eventually},
    world::machines::Machines,
};

use crate::can_boot;

const SERVER: &str = "s-3333333333333333a";

const SOON: Duration = Duration::from_mins(1);
const SECTOR: usize = 512;

/// A boot sector that writes to the serial port and stands still.
fn says_login() -> Vec<u8> {
    const CODE: [u8; 22] = [
        0xfc, // cld
        0x31, 0xc0, // xor ax, ax
        0x8e, 0xd8, // mov ds, ax
        0xbe, 0x16, 0x7c, // mov si, the text behind this code
        0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0xac, // lodsb
        0x84, 0xc0, // test al, al
        0x74, 0x03, // jz to the hlt
        0xee, // out dx, al
        0xeb, 0xf8, // jmp to the lodsb
        0xf4, // hlt
        0xeb, 0xfd, // jmp to the hlt
    ];
    let mut sector = [&CODE[..], b"\r\nweb-1 login: \0"].concat();
    sector.resize(SECTOR - 2, 0);
    sector.extend([0x55, 0xaa]);
    sector
}

struct Account {
    cloud: FolderCloud,
    place: Place,
}

impl Account {
    fn new(root: &Path) -> Self {
        let place = Place::direct("111111111111".parse().unwrap(), "eu-central-1");
        let trust = Trust {
            accounts: vec![place.account.clone()],
        };
        trust.save(root).unwrap();
        let cloud = FolderCloud::open(root);
        Self { cloud, place }
    }

    /// An instance with a disk of one block.
    async fn launch(&self, name: &str, block: Vec<u8>) -> String {
        let store = LayerStore::open(self.cloud.place(&self.place).snapshots()).unwrap();
        let bytes = u64::try_from(block.len()).unwrap();
        let spec = SnapshotSpec {
            parent: None,
            bytes,
            disk: "d-1".parse().unwrap(),
            tags: Tags::new(),
        };
        let snapshot = store.start(&spec).await.unwrap();
        let digest = Digest::of(&block);
        store.put(&snapshot, 0, block, digest).await.unwrap();
        store.commit(&snapshot).await.unwrap();
        let image = ImageSpec {
            token: ClientToken(format!("image of {name}")),
            name: name.into(),
            architecture: Architecture::X86_64,
            boot_mode: BootMode::LegacyBios,
            disks: vec![ImageDisk {
                source_device: "/dev/sda".into(),
                snapshot: snapshot.0,
                bytes,
                is_boot: true,
                volume: VolumeSettings::default(),
            }],
            tags: Tags::new(),
        };
        let image = self.cloud.register_image(&self.place, &image).await.unwrap();
        let launch = LaunchSpec::new("t3.micro", "test");
        let template = TemplateSpec {
            name: format!("orglift-{name}"),
            launch: launch.clone(),
            tags: Tags::new(),
        };
        let template = self.cloud.keep_template(&self.place, &template).await.unwrap();
        let instance = InstanceSpec {
            token: ClientToken(format!("instance of {name}")),
            image,
            template,
            launch,
            disposition: LaunchDisposition::Started,
            tags: [(SERVER_TAG.to_owned(), SERVER.to_owned())].into(),
        };
        self.cloud.launch_instance(&self.place, &instance).await.unwrap()
    }

    async fn terminate(&self, name: &str, instance: &str) {
        let instance = Owned {
            id: instance.into(),
            server: SERVER.parse().unwrap(),
            token: ClientToken(format!("instance of {name}")),
        };
        let cloud = &self.cloud;
        cloud.terminate_instance(&self.place, &instance).await.unwrap();
    }

    async fn until(&self, instance: &str, state: MachineState) -> MachineRecord {
        let look = || async {
            let machine = self.cloud.place(&self.place).machine(instance)?;
            Ok(match machine {
                Some(machine) if machine.state == state => Look::Seen(machine),
                other => Look::NotYet(format!("{other:?}")),
            })
        };
        let what = format!("the machine of {instance} is {state:?}");
        eventually(&what, SOON, look).await.unwrap()
    }

    async fn checks(&self, instance: &str) -> Checks {
        let instance = self.cloud.instance(&self.place, instance).await.unwrap();
        instance.checks
    }

    fn console(&self, instance: &str) -> String {
        let folder = self.cloud.place(&self.place).instance_folder(instance);
        assert!(folder.join("screenshot.png").exists());
        std::fs::read_to_string(folder.join("console.txt")).unwrap()
    }
}

/// Processes of QEMU that run an instance.
fn machines_of(instance: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok());
    let name = format!("guest={instance}\0");
    lines.filter(|line| line.contains(&name)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_pass_their_checks_if_they_boot_and_end_when_they_are_terminated() {
    if !can_boot().await {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let account = Account::new(root.path());
    let machines = Machines::start(&account.cloud, vec![account.place.clone()])
        .await
        .unwrap();
    let mut boots = says_login();
    boots.resize(BLOCK_LEN, 0);
    let good = account.launch("good", boots).await;
    let empty = account.launch("empty", vec![0; BLOCK_LEN]).await;

    let up = account.until(&good, MachineState::CameUp).await;
    assert_eq!(up.forwards.len(), 2);
    assert_eq!(account.checks(&good).await, Checks::Passed);
    assert!(account.console(&good).contains("web-1 login: "));
    let failed = account.until(&empty, MachineState::Failed).await;
    assert_eq!(failed.detail, "the firmware found nothing to boot");
    let reason = failed.detail;
    assert_eq!(account.checks(&empty).await, Checks::Failed { reason });

    assert_eq!(machines_of(&good), 1);
    account.terminate("good", &good).await;
    let gone = || async { Ok(Look::when(machines_of(&good) == 0, "it runs")) };
    eventually("the machine of a terminated instance is gone", SOON, gone)
        .await
        .unwrap();

    account.terminate("empty", &empty).await;
    let gone = || async { Ok(Look::when(machines_of(&empty) == 0, "it runs")) };
    eventually("so is the other", SOON, gone).await.unwrap();
    machines.stop().await.unwrap();
}
