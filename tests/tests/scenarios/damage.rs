//! A file of the snapshot store is not what was written: the damage is named, what shows it is not
//! launched, and the source sends it again.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use lab::{
    process::run,
    programs::Program,
    source::compare::first_difference_of_all,
    wait::{Look, eventually},
    world::server::Server,
};

use crate::{
    launch::said,
    scene::{MIB, SOON, Scene},
};

impl Scene {
    /// Changes bytes in the blocks of every committed snapshot; gives the files.
    fn damage_snapshots(&self, at: u64) -> Vec<PathBuf> {
        let folder = self.world.cloud.place(&self.account.place()).snapshots();
        let mut damaged = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|is| is == "index") {
                let data = path.with_extension("data");
                flip(&data, at);
                damaged.push(data);
            }
        }
        damaged
    }

    async fn scrub(&self, server: &Server) -> anyhow::Result<String> {
        let id = server.id().unwrap();
        let mut args: Vec<OsString> = vec!["scrub".into(), id.as_str().into()];
        args.extend(["--dir".into(), self.runner_dir().into()]);
        run(&self.world.plan.programs, Program::Runner, args, &[]).await
    }

    /// What the API says is damaged of each checkpoint, oldest first.
    async fn damage(&self, server: &Server) -> anyhow::Result<Vec<Option<String>>> {
        let shown = self.shown(server).await?;
        let listed = shown["checkpoints"].as_array().cloned().unwrap_or_default();
        let damage = listed.iter().map(|one| one["damage"].as_str().map(str::to_owned));
        Ok(damage.collect())
    }
}

fn flip(file: &Path, at: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut bytes = [0; 16];
    file.read_exact_at(&mut bytes, at).unwrap();
    file.write_all_at(&bytes.map(|byte| byte ^ 0x11), at).unwrap();
}

#[tokio::test]
async fn a_damaged_snapshot_is_named_not_launched_and_repaired_by_its_source() {
    let (scene, mut server) = Scene::with_one_checkpoint().await;
    let id = server.id().unwrap();
    scene.scrub(&server).await.unwrap();
    // The source must not repair it before it was seen.
    server.agent().unwrap().pause().unwrap();
    let files = scene.damage_snapshots(MIB + 77);
    assert!(!files.is_empty());
    scene.scrub(&server).await.unwrap_err();

    let is_named = |damage: &Option<String>| {
        let damage = damage.as_deref().unwrap_or_default();
        let mut files = files.iter().map(|file| file.display().to_string());
        files.any(|file| damage.contains(&file)) && damage.contains("block 2 of ")
    };
    let look = || async {
        let damage = scene.damage(&server).await?;
        let all = !damage.is_empty() && damage.iter().all(is_named);
        Ok(Look::when(all, format!("{damage:?}; {files:?}")))
    };
    eventually("every checkpoint is damaged", SOON, look)
        .await
        .unwrap();
    let latest = scene.export(&server, "latest").await.unwrap_err();
    assert!(latest.to_string().contains("no checkpoint"), "{latest:#}");

    let mut accepting = scene.launch_of(&id);
    accepting["acceptOlderThanSeconds"] = 3600.into();
    let (job, log) = scene.launch_ends("StartTest", accepting.clone()).await;
    assert_eq!(job.participant(&id).unwrap().launch_status, "FAILED");
    let refused = said(&log, "SNAPSHOT_FAIL");
    assert!(refused.contains("is damaged: block 2 of "), "{refused}");
    scene.has_launched_nothing().await;

    server.agent().unwrap().resume().unwrap();
    scene.replica_equals_source(&server).await;
    let damage = scene.damage(&server).await.unwrap();
    assert_eq!(damage.last(), Some(&None), "{damage:?}");
    let (job, _) = scene.launch_ends("StartTest", accepting).await;
    let volumes = scene.volumes(job.launched(&id).unwrap()).await;
    assert_eq!(first_difference_of_all(&server.disks(), &volumes).unwrap(), None);
}
