//! A launch of a server that has to be converted: its instance gets other files than its source, and nobody else does.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use cloud::layers::LayerStore;
use lab::{
    source::guest,
    wait::{Look, eventually},
    world::{hub::HubSettings, runner::RunnerSettings, server::Server},
};

use crate::{
    launch::said,
    scene::{MIB, SOON, Scene, account},
};

/// Whether conversions can run here.
fn cannot_run() -> bool {
    let reason = if !rustix::process::geteuid().is_root() {
        Some("not root")
    } else if !Path::new("/dev/fuse").exists() {
        Some("no /dev/fuse")
    } else {
        guest::can_make().err()
    };
    let Some(reason) = reason else { return false };
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{reason}");
    eprintln!("cannot run here: conversions: {reason}");
    true
}

impl Scene {
    /// A world whose runner looks at checkpoints, and in it a small server with a system on its disk.
    async fn with_guest() -> (Self, Server) {
        let scene = Self::with_plan(
            HubSettings {
                checkpoint_interval_s: 3600,
                ..HubSettings::default()
            },
            RunnerSettings {
                inspects: true,
                ..RunnerSettings::default()
            },
            vec![account("210000000001", "production")],
        )
        .await;
        let dir = scene.world.plan.dir.join("servers/db-1");
        std::fs::create_dir_all(&dir).unwrap();
        guest::make(&dir.join("disk-1.raw"), "db-1").unwrap();
        let mut server = scene.bare_server("db-1", &[guest::BYTES]);
        let token = scene.agent_token().await;
        server.install(scene.runner(), &token).await.unwrap();
        // Nothing runs on it that would write.
        server.hold().unwrap();
        server.start_agent().unwrap();
        scene.until_state(&server, "READY_FOR_TEST").await;
        (scene, server)
    }

    fn store(&self) -> LayerStore {
        let folder = self.world.cloud.place(&self.account.place());
        LayerStore::open(folder.snapshots()).unwrap()
    }

    /// Waits until nothing of a conversion is left with the runner.
    async fn until_conversions_are_gone(&self, server: &Server) {
        let folder = self
            .world
            .plan
            .dir
            .join("runners")
            .join(self.account.id.as_str())
            .join("servers")
            .join(server.id().unwrap().as_str())
            .join("conversions");
        let look = || async {
            let left = std::fs::read_dir(&folder)?.count();
            let children = self.store().list_now()?;
            let made = children.iter().filter(|info| {
                info.tags
                    .get("orglift:purpose")
                    .is_some_and(|purpose| purpose == "conversion")
            });
            let left = left + made.count();
            Ok(if left == 0 {
                Look::Seen(())
            } else {
                Look::NotYet(format!("{left} are left"))
            })
        };
        eventually("the conversions are gone", SOON, look).await.unwrap();
    }
}

/// A file on the first partition of a disk, read without mounting it.
fn file_on(disk: &Path, path: &str) -> String {
    let partition = format!("{}?offset=1048576", disk.display());
    let output = Command::new("/sbin/debugfs")
        .args(["-R", &format!("cat {path}"), &partition])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn is_sound(disk: &Path) {
    let output = Command::new("/sbin/e2fsck")
        .args(["-f", "-n", &format!("{}?offset=1048576", disk.display())])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

fn is_converted(volumes: &[PathBuf], source: &Path) {
    let [volume] = volumes else { panic!("{volumes:?}") };
    is_sound(volume);
    let fstab = file_on(volume, "/etc/fstab");
    assert!(fstab.starts_with("UUID="), "{fstab}");
    assert!(file_on(volume, "/etc/network/interfaces").contains("inet dhcp"));
    for kernel in guest::KERNELS {
        let listed = file_on(volume, &format!("/boot/initrd.img-{kernel}"));
        assert!(listed.contains("/nvme.ko"), "{listed}");
    }
    assert!(file_on(volume, "/boot/grub/grub.cfg").contains("console=ttyS0"));
    assert!(file_on(source, "/etc/fstab").starts_with("/dev/sda1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_converts_a_clone_and_leaves_the_checkpoint_as_it_was() {
    if cannot_run() {
        return;
    }
    let (scene, server) = Scene::with_guest().await;
    let id = server.id().unwrap();
    for _ in 0..2 {
        let (job, log) = scene.launch_ends("StartTest", scene.launch_of(&id)).await;
        let instance = job.launched(&id).unwrap_or_else(|| panic!("{log:?}"));
        said(&log, "CONVERSION_START");
        said(&log, "CONVERSION_END");
        is_converted(&scene.volumes(instance).await, &server.disks()[0]);
        scene.until_conversions_are_gone(&server).await;
    }
    // What is kept of the replication is what the source has.
    scene.checkpoint_equals(&server, "latest", &server.disks()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_is_killed_while_it_converts_begins_anew() {
    if cannot_run() {
        return;
    }
    let (mut scene, server) = Scene::with_guest().await;
    let id = server.id().unwrap();
    for delay in [20, 200, 600] {
        let api = scene.world.hub.api.clone();
        let job = api.launch("StartTest", &scene.account.id, &id).await.unwrap();
        let begun = || async {
            let log = scene.log_of(&job.id).await?;
            let has = log.iter().any(|(event, _)| event == "CONVERSION_START");
            Ok(if has {
                Look::Seen(())
            } else {
                Look::NotYet(format!("{log:?}"))
            })
        };
        eventually("the conversion begins", SOON, begun).await.unwrap();
        tokio::time::sleep(Duration::from_millis(delay)).await;
        scene.runner_mut().kill().unwrap();
        scene.runner_mut().restart().await.unwrap();
        let account = scene.account.id.clone();
        let instance = api.launched(&account, &job.id, &id, SOON).await.unwrap();
        is_converted(&scene.volumes(&instance).await, &server.disks()[0]);
        scene.until_conversions_are_gone(&server).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_without_a_system_are_not_launched_unless_conversion_is_switched_off() {
    if cannot_run() {
        return;
    }
    let scene = Scene::without_schedule().await;
    let mut server = scene.bare_server("noise-1", &[4 * MIB]);
    let token = scene.agent_token().await;
    let id = server.install(scene.runner(), &token).await.unwrap();
    server.start_agent().unwrap();
    scene.until_state(&server, "READY_FOR_TEST").await;
    let (job, log) = scene.launch_ends("StartTest", scene.launch_of(&id)).await;
    assert_eq!(job.participant(&id).unwrap().launch_status, "FAILED");
    let why = said(&log, "CONVERSION_FAIL");
    assert!(
        why.contains("no volume of these disks has a root file system"),
        "{why}"
    );
    scene.until_state(&server, "READY_FOR_TEST").await;
    scene.has_launched_nothing().await;

    scene.world.hub.api.launch_disks_as_they_are(&id).await.unwrap();
    scene.launches("StartTest", &id).await.unwrap();
}
