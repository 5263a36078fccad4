//! One account in one region: its images, instances and volumes.
//!
//! Making something, in a way that survives kills and serves several processes:
//!
//! ```text
//! lock the draft of this token ─▶ made already? return it ─▶ empty the draft, fill it ─▶ rename it to its id
//! ```
//!
//! The draft's name follows from the token, so that whoever repeats the call also clears what a crash left.

use std::{
    fs,
    io::ErrorKind,
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::fs::{FlockOperation, flock};

use super::{
    faults::Call,
    machines::{BOOTS_FILE, Instances, MachineState},
    records::{Account, ImageRecord, InstanceRecord, Record, TemplateRecord},
};
use crate::{
    control::{
        Checks, ClientToken, CloudError, ImageSpec, Instance, InstanceSpec, LaunchSpec, Measure, Owned,
        Place, Resource, ResourceKind, SERVER_TAG, TOKEN_TAG, Volume,
    },
    files::write_json,
    layers::LayerStore,
    snapshots::{SnapshotId, StoreError},
};

/// Names of drafts begin with it; names of what exists do not.
const DRAFT: &str = ".draft-";

#[derive(Debug, Clone)]
pub struct PlaceFolder {
    account: String,
    folder: PathBuf,
    boots_file: PathBuf,
}

impl PlaceFolder {
    pub(super) fn new(root: &Path, place: &Place) -> Self {
        Self {
            account: place.account.to_string(),
            folder: root
                .join("accounts")
                .join(place.account.as_str())
                .join(&place.region),
            boots_file: root.join(BOOTS_FILE),
        }
    }

    /// Where the account's runner keeps its snapshots.
    pub fn snapshots(&self) -> PathBuf {
        self.folder.join("snapshots")
    }

    /// The raw image of an instance's volume.
    pub fn volume(&self, instance: &str, volume: &str) -> PathBuf {
        self.instance_folder(instance).join(volume).join("disk.raw")
    }

    /// Where an instance's record is, and what its machine says.
    pub fn instance_folder(&self, instance: &str) -> PathBuf {
        self.instances_folder().join(instance)
    }

    /// Every instance, terminated ones included.
    pub fn instance_records(&self) -> Result<Vec<InstanceRecord>, CloudError> {
        self.at(Call::DescribeInstances).records(&self.instances_folder())
    }

    pub(super) fn templates(&self) -> PathBuf {
        self.folder.join("templates")
    }

    fn images(&self) -> PathBuf {
        self.folder.join("images")
    }

    pub(super) fn boots_file(&self) -> &Path {
        &self.boots_file
    }

    pub(super) fn instances_folder(&self) -> PathBuf {
        self.folder.join("instances")
    }

    pub(super) fn at(&self, call: Call) -> InCall<'_> {
        InCall { call, place: self }
    }

    pub(super) fn register_image(&self, spec: ImageSpec) -> Result<String, CloudError> {
        let cx = self.at(Call::RegisterImage);
        cx.make(&self.images(), &spec.token.clone(), |_draft| {
            let store = cx.snapshot_store()?;
            for disk in &spec.disks {
                let info = store
                    .info(&SnapshotId(disk.snapshot.clone()))
                    .map_err(|error| cx.store_fault(error))?;
                if !info.committed {
                    return Err(cx.rejected(format!("snapshot {} is not complete", disk.snapshot)));
                }
                if info.bytes != disk.bytes {
                    return Err(cx.rejected(format!(
                        "snapshot {} has {} bytes; the image asks for {}",
                        disk.snapshot, info.bytes, disk.bytes
                    )));
                }
            }
            let id = new_id("ami");
            Ok(ImageRecord { id, spec })
        })
        .map(|image| image.id)
    }

    pub(super) fn deregister_image(&self, image: &Owned) -> Result<(), CloudError> {
        let cx = self.at(Call::DeregisterImage);
        let folder = self.images().join(cx.plain(&image.id)?);
        match cx.owned(&folder, image, ImageRecord::resource)? {
            Some(_) => cx.remove(&folder),
            None => Ok(()),
        }
    }

    pub(super) fn launch_instance(&self, spec: InstanceSpec) -> Result<String, CloudError> {
        let cx = self.at(Call::RunInstances);
        // Held until the instance is there, so that no two choose the same address.
        let mut addresses_locked = None;
        cx.make(&self.instances_folder(), &spec.token.clone(), |draft| {
            let image: ImageRecord = cx.record(&self.images().join(cx.plain(&spec.image)?))?;
            let _: TemplateRecord = cx.record(&self.templates().join(cx.plain(&spec.template.template)?))?;
            let store = cx.snapshot_store()?;
            let mut volumes = Vec::new();
            // The boot disk first: that is where a machine looks.
            let (boot, data): (Vec<_>, Vec<_>) = image.spec.disks.iter().partition(|disk| disk.is_boot);
            for disk in boot.into_iter().chain(data) {
                let id = new_id("vol");
                let folder = draft.join(&id);
                cx.io(&folder, fs::create_dir(&folder))?;
                let file = folder.join("disk.raw");
                let mut raw = cx.io(&file, fs::File::create_new(&file))?;
                store
                    .copy_to(&SnapshotId(disk.snapshot.clone()), &mut raw)
                    .map_err(|error| cx.store_fault(error))?;
                volumes.push(Volume {
                    id,
                    source_device: disk.source_device.clone(),
                    bytes: disk.bytes,
                });
            }
            addresses_locked = Some(cx.lock_addresses()?);
            let private_ip = cx.address(&spec.launch, None)?;
            Ok(InstanceRecord {
                id: new_id("i"),
                spec,
                boot_mode: image.spec.boot_mode,
                private_ip,
                volumes,
                launched_at_ms: now_ms(),
                terminated: false,
            })
        })
        .map(|instance| instance.id)
    }

    pub(super) fn instance(&self, instance: &str) -> Result<Instance, CloudError> {
        let cx = self.at(Call::DescribeInstances);
        let record: InstanceRecord = cx.record(&self.instances_folder().join(cx.plain(instance)?))?;
        let mut instance = record.at(now_ms());
        if self.instances() == Instances::Booted {
            let machine = cx.io(&self.instance_folder(&record.id), self.machine(&record.id))?;
            instance.checks = match machine {
                Some(machine) if machine.state == MachineState::Failed => Checks::Failed {
                    reason: machine.detail,
                },
                Some(machine) if machine.state == MachineState::CameUp => instance.checks,
                _ => Checks::Pending,
            };
        }
        Ok(instance)
    }

    /// What is to be kept stopped never runs here.
    pub(super) fn stop_instance(&self, instance: &Owned) -> Result<(), CloudError> {
        let cx = self.at(Call::StopInstances);
        let folder = self.instances_folder().join(cx.plain(&instance.id)?);
        let record: InstanceRecord = cx.record(&folder)?;
        match instance.disowned_by(&record.resource().tags) {
            None => Ok(()),
            Some(why) => Err(cx.rejected(why)),
        }
    }

    pub(super) fn terminate_instance(&self, instance: &Owned) -> Result<(), CloudError> {
        let cx = self.at(Call::TerminateInstances);
        let folder = self.instances_folder().join(cx.plain(&instance.id)?);
        let Some(mut record) = cx.owned(&folder, instance, InstanceRecord::resource)? else {
            return Ok(());
        };
        // Volumes first: whoever is killed in between terminates again, and nothing is left behind.
        for volume in &record.volumes {
            cx.remove(&folder.join(&volume.id))?;
        }
        record.terminated = true;
        record.volumes.clear();
        let file = folder.join(InstanceRecord::FILE);
        cx.io(&file, write_json(&file, &record))
    }

    pub(super) fn find_by_token(&self, token: &ClientToken) -> Result<Option<Resource>, CloudError> {
        let cx = self.at(Call::DescribeTags);
        let image = cx.made_by::<ImageRecord>(&self.images(), token)?;
        if let Some(image) = image {
            return Ok(Some(image.resource()));
        }
        let templates: Vec<TemplateRecord> = cx.records(&self.templates())?;
        let mut templates = templates.iter().map(TemplateRecord::resource);
        let template = templates.find(|template| template.tags.get(TOKEN_TAG) == Some(&token.0));
        if template.is_some() {
            return Ok(template);
        }
        let instance = cx.made_by::<InstanceRecord>(&self.instances_folder(), token)?;
        Ok(instance
            .filter(|instance| !instance.terminated)
            .map(|instance| instance.resource()))
    }

    pub(super) fn inventory(&self) -> Result<Vec<Resource>, CloudError> {
        let cx = self.at(Call::GetResources);
        let mut all = Vec::new();
        if self.snapshots().exists() {
            let snapshots = cx
                .snapshot_store()?
                .list_now()
                .map_err(|error| cx.store_fault(error))?;
            all.extend(snapshots.into_iter().map(|snapshot| Resource {
                kind: ResourceKind::Snapshot,
                id: snapshot.id.0,
                tags: snapshot.tags,
                measure: Measure::of_bytes(snapshot.bytes),
            }));
        }
        let images: Vec<ImageRecord> = cx.records(&self.images())?;
        all.extend(images.iter().map(ImageRecord::resource));
        let templates: Vec<TemplateRecord> = cx.records(&self.templates())?;
        all.extend(templates.iter().map(TemplateRecord::resource));
        let instances: Vec<InstanceRecord> = cx.records(&self.instances_folder())?;
        for instance in instances.iter().filter(|instance| !instance.terminated) {
            all.push(instance.resource());
            all.extend(instance.volume_resources());
        }
        Ok(all)
    }
}

/// A call at work: it knows how to say what went wrong.
#[derive(Clone, Copy)]
pub(super) struct InCall<'a> {
    call: Call,
    pub(super) place: &'a PlaceFolder,
}

impl InCall<'_> {
    /// Makes one thing for `token` in `home`, or finds what the token made before. `fill` puts everything
    /// but the record into the draft.
    pub(super) fn make<R: Record>(
        self,
        home: &Path,
        token: &ClientToken,
        fill: impl FnOnce(&Path) -> Result<R, CloudError>,
    ) -> Result<R, CloudError> {
        self.io(home, fs::create_dir_all(home))?;
        let (draft, _locked) = self.locked_draft(home, token)?;
        let made = match self.made_by::<R>(home, token)? {
            Some(record) => Ok(record),
            None => self.fill_draft(home, &draft, fill),
        };
        // Gone if it was renamed; if it was not, what it holds is of no use.
        self.remove(&draft)?;
        made
    }

    fn fill_draft<R: Record>(
        self,
        home: &Path,
        draft: &Path,
        make: impl FnOnce(&Path) -> Result<R, CloudError>,
    ) -> Result<R, CloudError> {
        for debris in self.io(draft, fs::read_dir(draft))? {
            self.remove(&self.io(draft, debris)?.path())?;
        }
        let record = make(draft)?;
        let file = draft.join(R::FILE);
        self.io(&file, write_json(&file, &record))?;
        self.io(draft, fs::rename(draft, home.join(record.id())))?;
        self.io(home, fs::File::open(home).and_then(|folder| folder.sync_all()))?;
        Ok(record)
    }

    /// The draft folder of a token, locked against everybody else who was given the same token.
    fn locked_draft(self, home: &Path, token: &ClientToken) -> Result<(PathBuf, fs::File), CloudError> {
        let name = blake3::hash(token.0.as_bytes()).to_hex();
        let draft = home.join(format!("{DRAFT}{}", &name[..32]));
        loop {
            match fs::create_dir(&draft) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return self.io(&draft, Err(error)),
                _ => {}
            }
            let folder = match fs::File::open(&draft) {
                Err(gone) if gone.kind() == ErrorKind::NotFound => continue,
                other => self.io(&draft, other)?,
            };
            self.io(
                &draft,
                flock(&folder, FlockOperation::LockExclusive).map_err(Into::into),
            )?;
            // While we waited, the holder may have renamed it: then ours is another folder's lock.
            let own = self.io(&draft, folder.metadata())?.ino();
            if fs::metadata(&draft).is_ok_and(|now| now.ino() == own) {
                return Ok((draft, folder));
            }
        }
    }

    fn made_by<R: Record>(self, home: &Path, token: &ClientToken) -> Result<Option<R>, CloudError> {
        let mut records: Vec<R> = self.records(home)?;
        let at = records.iter().position(|record| record.token() == token);
        Ok(at.map(|at| records.swap_remove(at)))
    }

    fn records<R: Record>(self, home: &Path) -> Result<Vec<R>, CloudError> {
        let entries = match fs::read_dir(home) {
            Err(absent) if absent.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => self.io(home, other)?,
        };
        let mut records = Vec::new();
        for entry in entries {
            let entry = self.io(home, entry)?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            match self.record(&entry.path()) {
                Ok(record) => records.push(record),
                // Removed since the folder was listed.
                Err(CloudError::NotFound { .. }) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(records)
    }

    pub(super) fn record<R: Record>(self, folder: &Path) -> Result<R, CloudError> {
        let file = folder.join(R::FILE);
        match fs::read(&file) {
            Ok(text) => self.io(&file, serde_json::from_slice(&text).map_err(Into::into)),
            Err(absent) if absent.kind() == ErrorKind::NotFound => Err(CloudError::NotFound {
                call: self.call.name(),
                account: self.place.account.clone(),
                what: folder
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
            }),
            Err(other) => self.io(&file, Err(other)),
        }
    }

    /// The record of what is to be removed, if it is there. It is refused if it is not what the ledger takes it for.
    pub(super) fn owned<R: Record>(
        self,
        folder: &Path,
        owned: &Owned,
        resource: impl FnOnce(&R) -> Resource,
    ) -> Result<Option<R>, CloudError> {
        let record = match self.record(folder) {
            Err(CloudError::NotFound { .. }) => return Ok(None),
            other => other?,
        };
        match owned.disowned_by(&resource(&record).tags) {
            None => Ok(Some(record)),
            Some(why) => Err(self.rejected(why)),
        }
    }

    /// Takes a folder away at once, and then its contents at leisure.
    pub(super) fn remove(self, folder: &Path) -> Result<(), CloudError> {
        let metadata = match fs::symlink_metadata(folder) {
            Err(gone) if gone.kind() == ErrorKind::NotFound => return Ok(()),
            other => self.io(folder, other)?,
        };
        if !metadata.is_dir() {
            return self.io(folder, fs::remove_file(folder));
        }
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let leaving = folder.with_file_name(format!("{DRAFT}leaving-{name}"));
        match fs::rename(folder, &leaving) {
            Err(gone) if gone.kind() == ErrorKind::NotFound => Ok(()),
            other => self.io(folder, other.and_then(|()| fs::remove_dir_all(&leaving))),
        }
    }

    fn lock_addresses(self) -> Result<fs::File, CloudError> {
        let file = self.place.folder.join("addresses.lock");
        let lock = self.io(&file, fs::File::create(&file))?;
        self.io(
            &file,
            flock(&lock, FlockOperation::LockExclusive).map_err(Into::into),
        )?;
        Ok(lock)
    }

    /// The address that the instance gets: the one asked for, or the subnet's first free one.
    pub(super) fn address(
        self,
        launch: &LaunchSpec,
        given_back_by: Option<&String>,
    ) -> Result<IpAddr, CloudError> {
        let file = self.place.folder.join("account.json");
        if !file.exists() {
            self.io(&file, write_json(&file, &Account::default()))?;
        }
        let text = self.io(&file, fs::read(&file))?;
        let account: Account = self.io(&file, serde_json::from_slice(&text).map_err(Into::into))?;
        let subnet = account
            .subnets
            .get(&launch.subnet)
            .ok_or_else(|| self.rejected(format!("subnet {} does not exist", launch.subnet)))?;
        let instances: Vec<InstanceRecord> = self.records(&self.place.instances_folder())?;
        let taken: Vec<_> = instances
            .iter()
            .filter(|other| !other.terminated && other.spec.launch.subnet == launch.subnet)
            .filter(|other| given_back_by.is_none() || other.spec.tags.get(SERVER_TAG) != given_back_by)
            .map(|other| other.private_ip)
            .collect();
        match launch.private_ip {
            Some(ip) if !subnet.contains(ip) => {
                Err(self.rejected(format!("{ip} is not within subnet {}", launch.subnet)))
            }
            Some(ip) if taken.contains(&ip) => Err(self.rejected(format!("{ip} is in use"))),
            Some(ip) => Ok(ip),
            None => subnet
                .free_address(&taken)
                .ok_or_else(|| self.rejected(format!("subnet {} has no free address", launch.subnet))),
        }
    }

    fn snapshot_store(self) -> Result<LayerStore, CloudError> {
        LayerStore::open(self.place.snapshots()).map_err(|error| self.store_fault(error))
    }

    /// An id given by a caller becomes part of a path.
    pub(super) fn plain(self, id: &str) -> Result<&str, CloudError> {
        if id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && !id.is_empty() {
            Ok(id)
        } else {
            Err(self.rejected(format!("{id:?} is not an id")))
        }
    }

    fn rejected(self, reason: String) -> CloudError {
        CloudError::Rejected {
            call: self.call.name(),
            account: self.place.account.clone(),
            reason,
        }
    }

    fn store_fault(self, error: StoreError) -> CloudError {
        match error {
            StoreError::NotFound(id) => CloudError::NotFound {
                call: self.call.name(),
                account: self.place.account.clone(),
                what: id.to_string(),
            },
            // It will be as damaged the next time.
            damaged @ (StoreError::Damaged { .. } | StoreError::DamagedIndex { .. }) => {
                self.rejected(damaged.to_string())
            }
            other => CloudError::Unknown {
                call: self.call.name(),
                account: self.place.account.clone(),
                detail: readable(&other),
            },
        }
    }

    pub(super) fn io<T>(self, path: &Path, result: std::io::Result<T>) -> Result<T, CloudError> {
        result.map_err(|error| CloudError::Unknown {
            call: self.call.name(),
            account: self.place.account.clone(),
            detail: format!("{}: {error}", path.display()),
        })
    }
}

fn readable(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", readable(source)),
        None => error.to_string(),
    }
}

/// An id as EC2 gives it: a prefix and seventeen hexadecimal digits.
pub(super) fn new_id(prefix: &str) -> String {
    format!("{prefix}-{:017x}", rand::random::<u128>() & ((1 << 68) - 1))
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
