//! What the runner holds of a server, looked at from outside: in the API, and as exported images.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use lab::{
    process::run,
    programs::Program,
    source::compare::first_difference_of_all,
    wait::{Look, eventually},
    world::{hub::HubSettings, server::Server},
};
use reqwest::Method;
use serde_json::Value;

use crate::scene::{SOON, Scene};

/// A committed checkpoint, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    pub number: u64,
    pub kind: String,
    pub taken_at_ms: i64,
}

impl Checkpoint {
    pub fn is_launchable(&self) -> bool {
        self.kind == "launchable"
    }
}

impl Scene {
    /// A world in which checkpoints are taken all the time.
    pub async fn with_a_checkpoint_each_second() -> Self {
        Self::with(HubSettings {
            checkpoint_interval_s: 1,
            ..HubSettings::default()
        })
        .await
    }

    /// A server that is enrolled and replicates, and to whose disks nobody writes but the scenario.
    pub async fn quiet_server(&self, name: &str, disks: &[u64]) -> Server {
        let mut server = self.installed_server(name, disks).await;
        server.start_agent().unwrap();
        server
    }

    /// A server that is enrolled, and whose agent does not run yet. Its disks are full of noise.
    pub async fn installed_server(&self, name: &str, disks: &[u64]) -> Server {
        let server = self.bare_server(name, disks);
        for (disk, bytes) in server.disks().iter().zip(disks) {
            write_noise(disk, 0, *bytes);
        }
        let token = self.agent_token().await;
        let id = server.install(self.runner(), &token).await.unwrap();
        self.world.hub.api.launch_disks_as_they_are(&id).await.unwrap();
        // A hook would freeze a workload that does not run.
        fs::remove_dir_all(server.agent_dir().join("freeze.d")).unwrap();
        server
    }

    pub async fn shown(&self, server: &Server) -> anyhow::Result<Value> {
        let id = server.id().context("the server was never enrolled")?;
        let api = &self.world.hub.api;
        api.call(Method::GET, &format!("/api/v1/servers/{id}"), None)
            .await
    }

    /// Oldest first.
    pub async fn checkpoints(&self, server: &Server) -> anyhow::Result<Vec<Checkpoint>> {
        let shown = self.shown(server).await?;
        let listed = shown["checkpoints"].as_array().context("no list")?;
        let mut checkpoints = listed
            .iter()
            .map(|one| {
                let taken_at = one["takenAt"].as_str().context("no time")?;
                Ok(Checkpoint {
                    number: one["number"].as_u64().context("no number")?,
                    kind: one["kind"].as_str().context("no kind")?.to_owned(),
                    taken_at_ms: chrono::DateTime::parse_from_rfc3339(taken_at)?.timestamp_millis(),
                })
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        checkpoints.sort_by_key(|one| one.number);
        Ok(checkpoints)
    }

    /// Waits for a checkpoint that was taken from now on.
    pub async fn next_checkpoint(&self, server: &Server) -> u64 {
        let now = chrono::Utc::now().timestamp_millis();
        let look = || async {
            let seen = self.checkpoints(server).await?;
            let fresh = seen
                .iter()
                .find(|one| one.is_launchable() && one.taken_at_ms >= now);
            Ok(match fresh {
                Some(fresh) => Look::Seen(fresh.number),
                None => Look::NotYet(format!(
                    "{seen:?}; {:?}",
                    self.seen(server).await?.data_replication_info
                )),
            })
        };
        eventually("a checkpoint is taken", SOON, look).await.unwrap()
    }

    /// Writes a checkpoint's disks as images; `checkpoint` is a number or `latest`. Does not need the
    /// runner to run.
    pub async fn export(&self, server: &Server, checkpoint: &str) -> anyhow::Result<Vec<PathBuf>> {
        let id = server.id().context("the server was never enrolled")?;
        let folder = self.world.plan.dir.join("exports").join(id.as_str());
        fs::create_dir_all(&folder)?;
        let mut images = Vec::new();
        for (number, disk) in server.disks().into_iter().enumerate() {
            let image = folder.join(format!("disk-{}.raw", number + 1));
            let mut args: Vec<OsString> = vec!["export".into(), "--server".into(), id.as_str().into()];
            args.extend(["--checkpoint".into(), checkpoint.into()]);
            args.extend(["--disk".into(), disk.into(), "--to".into(), image.clone().into()]);
            args.extend(["--dir".into(), self.runner_dir().into()]);
            run(&self.world.plan.programs, Program::Runner, args, &[]).await?;
            images.push(image);
        }
        Ok(images)
    }

    /// What the agent finds when it compares its disks with the newest checkpoint; an error if they differ.
    pub async fn verify(&self, server: &Server) -> anyhow::Result<String> {
        let args: [OsString; 3] = ["verify".into(), "--dir".into(), server.agent_dir().into()];
        run(&self.world.plan.programs, Program::Agent, args, &[]).await
    }

    pub fn runner_dir(&self) -> PathBuf {
        self.world.plan.dir.join("runners").join(self.account.id.as_str())
    }

    /// What a checkpoint holds is what these images hold.
    pub async fn checkpoint_equals(&self, server: &Server, checkpoint: &str, images: &[PathBuf]) {
        let exported = self.export(server, checkpoint).await.unwrap();
        let difference = first_difference_of_all(images, &exported).unwrap();
        assert_eq!(difference, None, "checkpoint {checkpoint}");
    }

    /// A checkpoint that is taken from now on equals the source, to which nobody must write.
    pub async fn replica_equals_source(&self, server: &Server) {
        self.next_checkpoint(server).await;
        self.checkpoint_equals(server, "latest", &server.disks()).await;
    }

    /// What the blocks of committed snapshots take up in the account.
    pub fn committed_bytes(&self) -> anyhow::Result<u64> {
        let mut sum = 0;
        for entry in fs::read_dir(self.world.cloud.place(&self.account.place()).snapshots())? {
            let data = entry?.path();
            // After a merge, a data file bears the name of a snapshot that is gone.
            let is_data = data.extension().is_some_and(|is| is == "data");
            let is_committed = is_data && !data.with_extension("open").exists();
            // A layer may be merged into another one meanwhile.
            if is_committed && let Ok(metadata) = fs::metadata(&data) {
                sum += metadata.blocks() * 512;
            }
        }
        Ok(sum)
    }

    /// Copies the disks as they are now.
    pub fn copy_of(&self, server: &Server, name: &str) -> Vec<PathBuf> {
        let folder = self.world.plan.dir.join("copies").join(name);
        fs::create_dir_all(&folder).unwrap();
        let copy = |disk: PathBuf| {
            let copy = folder.join(disk.file_name().unwrap());
            fs::copy(disk, &copy).unwrap();
            copy
        };
        server.disks().into_iter().map(copy).collect()
    }
}

/// Writes what no compression makes smaller.
pub fn write_noise(disk: &Path, at: u64, len: u64) {
    let mut noise = vec![0; usize::try_from(len).unwrap()];
    rand::fill(&mut noise[..]);
    let file = fs::OpenOptions::new().write(true).open(disk).unwrap();
    file.write_all_at(&noise, at).unwrap();
}
