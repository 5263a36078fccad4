//! One server, its runner, and an account to launch it in.

use std::{sync::Arc, time::Duration};

use cloud::{
    control::{Cloud, Place, ResourceKind},
    layers::LayerStore,
    snapshots::{SnapshotId, SnapshotSpec, SnapshotStore},
};
use domain::{
    checkpoint::{CheckpointKind, CheckpointNumber, Consistency},
    conversion::{Conversion, ConversionOrder, ConversionState, Converted, ConvertedDisk},
    digest::Digest,
    disk::BLOCK_LEN,
    ids::{JobId, RunnerId, SourceServerId},
    job::{InitiatedBy, JobStatus, LaunchStatus},
    replication::Replication,
    source_server::ReplicationIntent,
};
use protocol::exchange::{Observed, ObservedCheckpoint, ObservedServer, ObservedSnapshot};
use sea_orm::ActiveValue::Set;
use tokio::task::JoinHandle;

use crate::{
    Hub,
    actions::{ActionError, Ordered, jobs, lifecycle},
    auth::{Actor, Grant},
    clock::now_ms,
    entities::{
        Doc, Word,
        ledger::{self, LedgerState},
        source_server,
        user::UserRole,
    },
    fixtures::{self, TestHub},
    machines::{desired, observed},
    sagas::engine,
    store::StoreError,
};

pub const ALL_KINDS: [InitiatedBy; 6] = [
    InitiatedBy::StartTest,
    InitiatedBy::StartCutover,
    InitiatedBy::Terminate,
    InitiatedBy::FinalizeCutover,
    InitiatedBy::Disconnect,
    InitiatedBy::CleanUp,
];

pub struct World {
    pub hub: TestHub,
    pub server: SourceServerId,
    runner: JoinHandle<()>,
}

/// What must be as it was when a job has failed, or right when it has succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub lifecycle: String,
    pub images: usize,
    pub instances: usize,
    pub templates: usize,
    /// Entries of the ledger that are wanted or present.
    pub open: usize,
    pub pinned: usize,
    /// Conversions that a job needs.
    pub ordered: usize,
}

impl Standing {
    /// As it is once what is of no further use to an ending server was cleaned up, which nothing brings back.
    pub fn cleaned_up(self) -> Self {
        Self {
            templates: 0,
            open: self.open - self.templates,
            ..self
        }
    }
}

pub fn ada() -> Actor {
    Actor::new("ada", [Grant::everywhere(UserRole::Administrator)])
}

impl World {
    /// A server that is ready for a test.
    pub async fn new() -> Self {
        let hub = fixtures::hub().await;
        let runner = fixtures::with_runner(&hub).await;
        let server = fixtures::server(SourceServerId::from_entropy(1), &runner);
        let id = server.id.0.clone();
        let mut tx = hub.store.begin().await.unwrap();
        tx.server_insert(server).await.unwrap();
        tx.commit().await.unwrap();
        let world = Self {
            runner: tokio::spawn(FakeRunner::new(&hub, runner.id.0).run(hub.hub.clone())),
            hub,
            server: id,
        };
        world
            .eventually("ready for test", async |world| {
                world.server().await.lifecycle_name == "READY_FOR_TEST"
            })
            .await;
        world
    }

    /// A server in the state from which a job of this kind starts.
    pub async fn before(kind: InitiatedBy) -> Self {
        let world = Self::new().await;
        match kind {
            InitiatedBy::StartTest | InitiatedBy::Disconnect => {}
            InitiatedBy::StartCutover => world.tested().await,
            InitiatedBy::Terminate => {
                world.tested().await;
                lifecycle::revert_to_ready_for_test(&world.hub, &ada(), &world.server)
                    .await
                    .unwrap();
            }
            InitiatedBy::FinalizeCutover => {
                world.tested().await;
                world.run(InitiatedBy::StartCutover).await;
            }
            InitiatedBy::CleanUp => world.leave_something().await,
        }
        world
    }

    async fn tested(&self) {
        self.run(InitiatedBy::StartTest).await;
        lifecycle::mark_ready_for_cutover(&self.hub, &ada(), &self.server)
            .await
            .unwrap();
    }

    /// A launch that could not be undone: the account refuses to let go of what was made.
    async fn leave_something(&self) {
        use cloud::folder::faults::{Call, Effect, Fault};
        let deny = |call| {
            let remedy = "allow it".into();
            Fault::new(Effect::Deny { remedy }).on(call)
        };
        let faults = self.hub.cloud.faults();
        let denied = [
            Call::DescribeInstances,
            Call::DeregisterImage,
            Call::TerminateInstances,
        ];
        faults.set(&denied.map(deny)).unwrap();
        let job = self.order(InitiatedBy::StartTest).await.unwrap().job;
        self.drive(&job).await;
        let LaunchStatus::Failed { left, .. } = self.status(&job).await else {
            panic!("it was refused")
        };
        assert_eq!(left.len(), 2, "{left:?}");
        faults.set(&[]).unwrap();
    }

    pub async fn order(&self, kind: InitiatedBy) -> Result<Ordered, ActionError> {
        let (hub, servers) = (&self.hub, std::slice::from_ref(&self.server));
        match kind {
            InitiatedBy::StartTest => jobs::start_test(hub, &ada(), servers).await,
            InitiatedBy::StartCutover => jobs::start_cutover(hub, &ada(), servers, None).await,
            InitiatedBy::Terminate => jobs::terminate(hub, &ada(), servers).await,
            InitiatedBy::FinalizeCutover => jobs::finalize(hub, &ada(), servers).await,
            InitiatedBy::Disconnect => jobs::disconnect(hub, &ada(), servers).await,
            InitiatedBy::CleanUp => jobs::clean_up(hub, &ada(), servers).await,
        }
    }

    /// Orders a job and sees it through.
    pub async fn run(&self, kind: InitiatedBy) {
        let job = self.order(kind).await.unwrap().job;
        self.drive(&job).await;
        let status = self.status(&job).await;
        assert!(
            !matches!(status, LaunchStatus::Failed { .. }),
            "{kind:?}: {status:?}"
        );
    }

    /// Attempts and records without an engine, until the job has ended.
    pub async fn drive(&self, job: &JobId) {
        while let Some(saga) = self.running(job).await.unwrap() {
            let attempt = engine::attempt(&self.hub, &saga, 0).await;
            let waits = matches!(attempt.outcome, engine::Outcome::Wait(_));
            engine::record(&self.hub, saga, attempt).await.unwrap();
            if waits {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    /// The job's saga, begun, while it runs.
    pub async fn running(&self, job: &JobId) -> Result<Option<crate::entities::saga::Model>, StoreError> {
        let saga = self.hub.store.sagas_of_job(job).await?.remove(0);
        if saga.status.0 != crate::entities::saga::SagaStatus::Running {
            return Ok(None);
        }
        engine::begin(&self.hub, &saga).await?;
        Ok(Some(saga))
    }

    /// The hub dies and comes back, with its engine.
    pub async fn restart(mut self) -> (Self, JoinHandle<()>) {
        self.runner.abort();
        let (place, cloud) = (self.hub.place.clone(), self.hub.cloud.clone());
        let runner = self.server().await.runner.unwrap().0;
        self.hub = fixtures::reopen(place, cloud).await;
        self.runner = tokio::spawn(FakeRunner::new(&self.hub, runner).run(self.hub.hub.clone()));
        let engine = tokio::spawn(engine::run(self.hub.hub.clone()));
        (self, engine)
    }

    /// Drives the job until the runner is to convert, and the runner does not answer. What it then says of it
    /// is `state`.
    pub async fn runner_says(&self, job: &JobId, state: ConversionState) {
        while !self.events(job).await.contains(&"CONVERSION_START") {
            self.try_once(job).await;
            if self.saga_is_at(job, "Convert").await {
                self.silence_runner();
            }
        }
        let mut tx = self.hub.store.begin().await.unwrap();
        let conversion = tx.conversion(job, &self.server).await.unwrap().unwrap();
        tx.conversion_stands(&self.server().await, &conversion, state)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }

    async fn try_once(&self, job: &JobId) {
        let saga = self.running(job).await.unwrap().expect("it runs");
        let attempt = engine::attempt(&self.hub, &saga, 0).await;
        engine::record(&self.hub, saga, attempt).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    async fn saga_is_at(&self, job: &JobId, step: &str) -> bool {
        let saga = self.running(job).await.unwrap().expect("it runs");
        let names = engine::step_names(saga.kind.0);
        names[usize::try_from(saga.position).unwrap()] == step
    }

    /// The runner reports no more.
    pub fn silence_runner(&self) {
        self.runner.abort();
    }

    pub async fn server(&self) -> source_server::Model {
        self.hub.store.server(&self.server).await.unwrap()
    }

    pub async fn status(&self, job: &JobId) -> LaunchStatus {
        let parts = self
            .hub
            .store
            .job_servers(std::slice::from_ref(job))
            .await
            .unwrap();
        parts[0].status.0.clone()
    }

    pub async fn events(&self, job: &JobId) -> Vec<&'static str> {
        let events = self.hub.store.job_events(job, 0).await.unwrap();
        events.iter().map(|row| row.event.name()).collect()
    }

    pub async fn standing(&self) -> Standing {
        let server = self.server().await;
        let place = Place::direct(server.account.0.clone(), fixtures::REGION);
        let inventory = self.hub.cloud.inventory(&place).await.unwrap();
        let count = |kind| inventory.iter().filter(|resource| resource.kind == kind).count();
        let ledger = self.hub.store.ledger_of_server(&self.server).await.unwrap();
        let is_open = |state| matches!(state, LedgerState::Wanted | LedgerState::Present);
        let checkpoints = self.hub.store.checkpoint_list(&self.server).await.unwrap();
        let servers = std::slice::from_ref(&self.server);
        let ordered = self.hub.store.conversions_wanted(servers).await.unwrap();
        Standing {
            lifecycle: server.lifecycle_name,
            images: count(ResourceKind::Image),
            instances: count(ResourceKind::Instance),
            templates: count(ResourceKind::LaunchTemplate),
            open: ledger.iter().filter(|entry| is_open(entry.state.0)).count(),
            pinned: checkpoints.iter().filter(|row| row.pinned_by.is_some()).count(),
            ordered: ordered.len(),
        }
    }

    /// The job is over, and has let go of its server.
    pub async fn assert_over(&self, job: &JobId) {
        let row = self.hub.store.job(job).await.unwrap();
        assert_eq!(row.status.0, JobStatus::Completed);
        assert!(row.ended_at.is_some());
        assert_eq!(self.server().await.running_job, None);
        let events = self.events(job).await;
        assert_eq!(
            (events.first(), events.last()),
            (Some(&"JOB_START"), Some(&"JOB_END"))
        );
    }

    /// An instance of another job, which our own is taken to be. In the ledger it stands as ours, or not at all.
    pub async fn strange_instance(&self, is_in_the_ledger: bool) -> String {
        let server = self.server().await;
        let ours = server.test_launch.0.clone().unwrap();
        let strange = self.unknown_instance().await;
        let ledger = self.hub.store.ledger_of_server(&self.server).await.unwrap();
        let is_it = |entry: &&ledger::Model| entry.resource.as_ref() == Some(&ours.instance);
        let entry = ledger.iter().find(is_it).unwrap().clone();
        let mut tx = self.hub.store.begin().await.unwrap();
        if is_in_the_ledger {
            tx.ledger_end(&entry.token, LedgerState::Gone).await.unwrap();
            let state = Word(LedgerState::Wanted);
            tx.ledger_want(ledger::Model {
                state,
                ..entry.clone()
            })
            .await
            .unwrap();
            tx.ledger_present(&entry.token, &strange).await.unwrap();
        }
        let mut launch = ours;
        launch.instance.clone_from(&strange);
        tx.server_update(&server, |row| row.test_launch = Set(Doc(Some(launch))))
            .await
            .unwrap();
        tx.commit().await.unwrap();
        strange
    }

    /// An instance with the tag of our server, which nobody here asked for.
    pub async fn unknown_instance(&self) -> String {
        let place = Place::direct(self.server().await.account.0, fixtures::REGION);
        let folder = self.hub.cloud.place(&place);
        let mut record = folder.instance_records().unwrap().remove(0);
        record.id = "i-0000000000000abcd".into();
        record.spec.token.0 = "another".into();
        record.terminated = false;
        record.volumes.clear();
        let at = folder.instance_folder(&record.id);
        std::fs::create_dir_all(&at).unwrap();
        let text = serde_json::to_vec(&record).unwrap();
        std::fs::write(at.join("instance.json"), text).unwrap();
        record.id
    }

    pub async fn stands(&self, instance: &str) -> bool {
        let place = Place::direct(self.server().await.account.0, fixtures::REGION);
        let inventory = self.hub.cloud.inventory(&place).await.unwrap();
        inventory.iter().any(|resource| resource.id == instance)
    }

    pub async fn has_snapshot(&self, id: &str) -> bool {
        let place = Place::direct(self.server().await.account.0, fixtures::REGION);
        let store = LayerStore::open(self.hub.cloud.place(&place).snapshots()).unwrap();
        let all = store.list().await.unwrap();
        all.iter().any(|snapshot| snapshot.id.0 == id)
    }

    pub async fn eventually(&self, what: &str, is_so: impl AsyncFn(&Self) -> bool) {
        for _ in 0..1000 {
            if is_so(self).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let standing = self.standing().await;
        panic!("not {what} after 10 s: {standing:?}, {:?}", self.server().await);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.runner.abort();
    }
}

/// Answers every request for a checkpoint, converts what is ordered, a little at each look, and forgets what is
/// to be disconnected.
struct FakeRunner {
    id: RunnerId,
    store: LayerStore,
    conversion: Option<Conversion>,
}

impl FakeRunner {
    fn new(hub: &TestHub, id: RunnerId) -> Self {
        let place = Place::direct(fixtures::MEMBER.parse().unwrap(), fixtures::REGION);
        Self {
            id,
            store: LayerStore::open(hub.cloud.place(&place).snapshots()).unwrap(),
            conversion: None,
        }
    }

    async fn run(mut self, hub: Arc<Hub>) {
        let mut checkpoints: Vec<ObservedCheckpoint> = Vec::new();
        // What an earlier life of this runner has committed.
        for row in hub.store.sagas_running().await.unwrap_or_default().iter().take(1) {
            for known in hub.store.checkpoint_list(&row.server).await.unwrap() {
                checkpoints.push(ObservedCheckpoint {
                    frozen_ms: 0,
                    received_bytes: 0,
                    damage: None,
                    number: known.checkpoint_number(),
                    kind: known.kind.0,
                    consistency: known.consistency.0,
                    taken_at_ms: known.taken_at,
                    request: known.request.cast_unsigned(),
                    disks: known.disks.0,
                });
            }
        }
        loop {
            // A generation of its own, so that the poll is answered at once.
            let desired = desired::wait(&hub, &self.id, u64::MAX).await.unwrap();
            let mut servers = Vec::new();
            for wanted in desired.servers {
                let over = wanted.replication == ReplicationIntent::Disconnected;
                let answered = checkpoints.last().map_or(0, |last| last.request);
                let due = checkpoints.is_empty() || wanted.checkpoint_request > answered;
                if !over && due {
                    checkpoints.push(
                        self.commit(checkpoints.len() as u64 + 1, wanted.checkpoint_request)
                            .await,
                    );
                }
                self.convert(wanted.conversion, &checkpoints).await;
                servers.push(ObservedServer {
                    flow: domain::flow::Flow::default(),
                    durable_request: 0,
                    id: wanted.id,
                    replication: Replication::Continuous,
                    agent: None,
                    disks: vec![],
                    checkpoints: if over { vec![] } else { checkpoints.clone() },
                    inspection: None,
                    conversion: self.conversion.clone(),
                    forgotten: over,
                });
            }
            let report = Observed {
                generation: desired.generation,
                runner_version: "0.1.0".into(),
                staging_free_bytes: None,
                index_behind: None,
                servers,
                turned_away: vec![],
            };
            observed::take(&hub, &self.id, None, report).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What was made for an order that is gone is deleted.
    async fn convert(&mut self, order: Option<ConversionOrder>, checkpoints: &[ObservedCheckpoint]) {
        let wanted = order.as_ref().map(|order| &order.job);
        if let Some(old) = self.conversion.take_if(|old| Some(&old.job) != wanted)
            && let ConversionState::Done(converted) = old.state
        {
            for disk in converted.disks {
                self.store.delete(&SnapshotId(disk.snapshot)).await.unwrap();
            }
        }
        let Some(order) = order else { return };
        let state = match self.conversion.take().map(|conversion| conversion.state) {
            None => ConversionState::Waiting,
            Some(ConversionState::Waiting) => ConversionState::Running { step: "fstab".into() },
            Some(ConversionState::Running { .. }) => {
                let mut of = checkpoints.iter();
                let checkpoint = of.find(|one| one.number == order.checkpoint).unwrap();
                ConversionState::Done(self.converted(checkpoint).await)
            }
            Some(ended) => ended,
        };
        self.conversion = Some(Conversion {
            job: order.job,
            state,
        });
    }

    async fn converted(&self, checkpoint: &ObservedCheckpoint) -> Converted {
        let mut disks = Vec::new();
        for disk in &checkpoint.disks {
            let spec = SnapshotSpec {
                parent: Some(SnapshotId(disk.snapshot.clone())),
                bytes: disk.bytes,
                disk: disk.disk.clone(),
                tags: [].into(),
            };
            let child = self.store.start(&spec).await.unwrap();
            self.store.commit(&child).await.unwrap();
            disks.push(ConvertedDisk {
                disk: disk.disk.clone(),
                snapshot: child.0,
            });
        }
        Converted {
            disks,
            changes: 12,
            bytes_read: 40 << 20,
            bytes_written: 3 << 20,
            milliseconds: 8_430,
            rehearsal: None,
        }
    }

    async fn commit(&self, number: u64, request: u64) -> ObservedCheckpoint {
        let bytes = BLOCK_LEN as u64;
        let spec = SnapshotSpec {
            parent: None,
            bytes,
            disk: "serial-1".parse().unwrap(),
            tags: [].into(),
        };
        let snapshot = self.store.start(&spec).await.unwrap();
        self.store.commit(&snapshot).await.unwrap();
        ObservedCheckpoint {
            frozen_ms: 0,
            received_bytes: 0,
            damage: None,
            number: CheckpointNumber(number),
            kind: CheckpointKind::Launchable,
            consistency: Consistency::Crash,
            taken_at_ms: now_ms(),
            request,
            disks: vec![ObservedSnapshot {
                disk: spec.disk,
                device_name: "/dev/sda".into(),
                is_boot: true,
                bytes,
                snapshot: snapshot.0,
                root: Digest([7; 32]),
            }],
        }
    }
}
