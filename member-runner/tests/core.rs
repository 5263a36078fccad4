//! The core of the runner, driven over TLS by an agent that does as it is told, on real files.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod world;

use domain::{
    checkpoint::{
        CheckpointKind::{Launchable, Partial},
        CheckpointNumber,
    },
    disk::BLOCK_LEN,
    ids::RunnerId,
    replication::{Replication, ReplicationError},
    source_server::ReplicationIntent,
};
use identity::{Authority, Role};
use member_runner::export::{self, ExportError, Which};
use protocol::{
    exchange::DesiredServer,
    frame::{Codec, Header, Kind},
    session::{AgentMessage, DiskStart, Fault, Goodbye, Phase, Refusal, RunnerMessage},
};
use tokio::io::AsyncWriteExt;
use world::{Answer, BLOCK, World, certified, digests_of, disk, send_difference, server_id};

fn number(n: u64) -> Which {
    Which::Number(CheckpointNumber(n))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_disks_arrive_and_outlive_crashes() {
    let mut world = World::with_servers(1).await;
    let mut agent = world.agent(1);
    let disks = [disk(0, 6 * BLOCK + 512), disk(1, 2 * BLOCK)];
    let mut boot = vec![0; 6 * BLOCK_LEN + 512];
    let mut data = vec![0; 2 * BLOCK_LEN];

    let (mut link, welcome) = agent.enter(&world, &disks).await;
    assert!(welcome.disks.iter().all(|plan| plan.start == DiskStart::Full));
    link.status(Phase::FirstCopy).await;
    world
        .eventually_server(1, |server| server.replication == Replication::InitialSync)
        .await;
    boot[BLOCK_LEN..2 * BLOCK_LEN].fill(7);
    boot[6 * BLOCK_LEN..].fill(8);
    send_difference(&mut link, 0, &vec![0; boot.len()], &boot).await;
    assert_eq!(link.commit(Partial).await, CheckpointNumber(1));
    assert!(matches!(
        export::hold(&world.dir(), &server_id(1), number(1)),
        Err(ExportError::Partial(_))
    ));

    // What is sent after the last commit is lost with the runner, and nothing else.
    link.write(0, 0, &vec![9; BLOCK_LEN]).await;
    assert_ne!(link.digests(0, disks[0].bytes).await, digests_of(&boot));
    world.crash_and_restart().await;
    let (mut link, welcome) = agent.enter(&world, &disks).await;
    assert!(welcome.disks.iter().all(|plan| plan.start == DiskStart::Rescan));
    assert_eq!(link.digests(0, disks[0].bytes).await, digests_of(&boot));
    assert_eq!(link.digests(1, disks[1].bytes).await, digests_of(&data));

    // Parts of blocks, several in one, zeros over what was there, and a run over many blocks.
    boot[100..5000].fill(1);
    boot[2000..2100].fill(2);
    boot[BLOCK_LEN + 4096..2 * BLOCK_LEN].fill(0);
    data[BLOCK_LEN - 512..].fill(3);
    link.write(0, 100, &boot[100..5000]).await;
    link.write(0, 2000, &boot[2000..2100]).await;
    link.zeros(0, BLOCK + 4096, 5 * BLOCK - 4096).await;
    link.write(1, BLOCK - 512, &[3; 512]).await;
    link.write(1, BLOCK, &vec![3; BLOCK_LEN]).await;
    assert_eq!(link.commit(Launchable).await, CheckpointNumber(2));
    assert_eq!(world.exported(1, Which::Latest, "/dev/sd0").await, boot);
    assert_eq!(world.exported(1, number(2), "serial-1").await, data);

    world.crash_and_restart().await;
    assert_eq!(world.exported(1, number(2), "serial-0").await, boot);
    let (mut link, welcome) = agent.enter(&world, &disks).await;
    let since = CheckpointNumber(2);
    assert!(
        welcome
            .disks
            .iter()
            .all(|plan| plan.start == DiskStart::Delta { since })
    );

    // A disk that did not change keeps its snapshot.
    boot[5] = 5;
    link.write(0, 5, &[5]).await;
    link.commit(Launchable).await;
    let server = world
        .eventually_server(1, |server| server.checkpoints.len() == 2)
        .await;
    let [second, third] = &server.checkpoints[..] else {
        panic!()
    };
    assert_ne!(second.disks[0].snapshot, third.disks[0].snapshot);
    assert_eq!(second.disks[1].snapshot, third.disks[1].snapshot);
    assert_eq!(world.exported(1, Which::Latest, "serial-0").await, boot);
    assert_eq!(world.exported(1, Which::Latest, "serial-1").await, data);
}

#[tokio::test(flavor = "multi_thread")]
async fn six_launchable_checkpoints_stay_and_each_is_right() {
    let mut world = World::with_servers(1).await;
    let mut agent = world.agent(1);
    let disks = [disk(0, 8 * BLOCK), disk(1, BLOCK)];
    let mut content = vec![vec![0; 8 * BLOCK_LEN]];
    for n in 1..=12_u8 {
        // Pinned by a job for a while.
        if n == 4 {
            world.want(|desired| desired.servers[0].pinned = vec![CheckpointNumber(2)]);
        }
        let (mut link, _) = agent.enter(&world, &disks).await;
        let mut next = content.last().unwrap().clone();
        let at = usize::from(n % 8) * BLOCK_LEN;
        next[at..at + BLOCK_LEN].fill(n);
        send_difference(&mut link, 0, content.last().unwrap(), &next).await;
        assert_eq!(link.commit(Launchable).await, CheckpointNumber(n.into()));
        content.push(next);
        if n % 3 == 0 {
            world.crash_and_restart().await;
        }
    }
    let numbers = |wanted: &[u64]| {
        let wanted: Vec<_> = wanted.iter().map(|n| CheckpointNumber(*n)).collect();
        move |server: &protocol::exchange::ObservedServer| {
            let seen = server.checkpoints.iter().map(|checkpoint| checkpoint.number);
            seen.eq(wanted.iter().copied())
        }
    };
    world
        .eventually_server(1, numbers(&[2, 7, 8, 9, 10, 11, 12]))
        .await;
    for n in [2, 7, 8, 9, 10, 11, 12] {
        let wanted = &content[usize::try_from(n).unwrap()];
        assert!(
            world.exported(1, number(n), "serial-0").await == *wanted,
            "checkpoint {n}"
        );
    }
    // What is being read stays; the rest of the plan goes on.
    let held = export::hold(&world.dir(), &server_id(1), number(2)).unwrap();
    world.want(|desired| desired.servers[0].pinned.clear());
    let (mut link, _) = agent.enter(&world, &disks).await;
    link.write(0, 0, &[77; 512]).await;
    link.commit(Launchable).await;
    world
        .eventually_server(1, numbers(&[2, 8, 9, 10, 11, 12, 13]))
        .await;
    drop(held);
    link.write(0, 0, &[78; 512]).await;
    link.commit(Launchable).await;
    world
        .eventually_server(1, numbers(&[9, 10, 11, 12, 13, 14]))
        .await;
    world.crash_and_restart().await;
    for n in 9..=12 {
        let wanted = &content[usize::try_from(n).unwrap()];
        assert!(
            world.exported(1, number(n), "serial-0").await == *wanted,
            "checkpoint {n}"
        );
    }
    // One snapshot per checkpoint of the first disk; the other never changed and has one.
    let store = cloud::layers::LayerStore::open(world.store_path()).unwrap();
    assert_eq!(store.list_now().unwrap().len(), 6 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_is_refused_and_named_and_the_known_machine_replaces_its_old_session() {
    let world = World::with_servers(1).await;
    let mut agent = world.agent(1);
    let mut clone = agent.clone();
    clone.hostname = "web-1-copy".into();
    let disks = [disk(0, BLOCK)];
    let (mut first, _) = agent.enter(&world, &disks).await;
    first.status(Phase::FirstCopy).await;
    world
        .eventually_server(1, |server| server.replication == Replication::InitialSync)
        .await;

    let (_, answer) = clone.knock(&world, &disks).await;
    let Answer::Refused(Refusal::ClonedIdentity { other, .. }) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(other, "web-1 (127.0.0.1)");
    let observed = world
        .eventually(|observed| !observed.turned_away.is_empty())
        .await;
    assert!(observed.turned_away[0].reason.contains("clone"), "{observed:?}");
    world.runner().reported(&observed);
    world.eventually(|observed| observed.turned_away.is_empty()).await;

    let (mut second, _) = agent.enter(&world, &disks).await;
    assert!(first.hear().await.is_none(), "the half-dead session is closed");
    second.write(0, 0, &[1; 512]).await;
    second.commit(Launchable).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_turned_away_and_named() {
    let world = World::with_servers(2).await;
    let disks = [disk(0, BLOCK)];
    let unknown = world.agent(9);
    assert!(matches!(
        unknown.knock(&world, &disks).await.1,
        Answer::Refused(Refusal::UnknownServer { .. })
    ));
    // The certificate of another server.
    let mut posing = world.agent(2);
    posing.id = server_id(1);
    assert!(matches!(
        posing.knock(&world, &disks).await.1,
        Answer::Refused(Refusal::NotYourIdentity { .. })
    ));
    // A certificate that is no agent's, and one of another authority.
    let mut runner = world.agent(1);
    runner.credentials = certified(&world.authority, &Role::Runner(RunnerId::from_entropy(5)));
    assert!(matches!(runner.knock(&world, &disks).await.1, Answer::Nothing));
    let other = Authority::generate("other").unwrap();
    let stranger = certified(&other, &Role::Agent(server_id(1)));
    let tcp = tokio::net::TcpStream::connect(world.runner().data_address())
        .await
        .unwrap();
    let tls = identity::tls::client(&stranger).unwrap();
    let name = Role::RUNNER_NAME.try_into().unwrap();
    let met = tokio_rustls::TlsConnector::from(std::sync::Arc::new(tls))
        .connect(name, tcp)
        .await;
    assert!(met.is_err());
    let observed = world.eventually(|observed| observed.turned_away.len() == 4).await;
    // Each is noted after its answer, and so in any order.
    let mut named = observed.turned_away.iter().map(|one| &one.server);
    assert!(named.any(|server| *server == Some(server_id(9))), "{observed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_ends_its_session_at_once() {
    let world = World::with_servers(1).await;
    let mut agent = world.agent(1);
    let disks = [disk(0, BLOCK)];
    let (mut link, _) = agent.enter(&world, &disks).await;
    let serial = agent.credentials.own().unwrap().serial;
    world.want(|desired| desired.revoked_serials.push(serial));
    assert!(link.hear().await.is_none());
    assert!(matches!(agent.knock(&world, &disks).await.1, Answer::Refused(_)));
    let observed = world
        .eventually(|observed| !observed.turned_away.is_empty())
        .await;
    assert!(observed.turned_away[0].reason.contains("revoked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_breaks_the_protocol_is_told_and_loses_the_open_checkpoint_only() {
    let world = World::with_servers(1).await;
    let mut agent = world.agent(1);
    let disks = [disk(0, 2 * BLOCK)];
    let (mut link, _) = agent.enter(&world, &disks).await;
    link.write(0, 0, &vec![1; BLOCK_LEN]).await;
    link.commit(Launchable).await;
    let mut wanted = vec![0; 2 * BLOCK_LEN];
    wanted[..BLOCK_LEN].fill(1);

    for breach in 0..6 {
        link.write(0, 0, &vec![9; BLOCK_LEN]).await;
        match breach {
            // A frame longer than allowed.
            0 => {
                let mut header = Header {
                    kind: Kind::Extent,
                    codec: Codec::Raw,
                    disk: 0,
                    at: 0,
                    payload_len: 0,
                }
                .encode();
                header[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
                link.stream.write_all(&header).await.unwrap();
            }
            1 => link.write(7, 0, &[1; 512]).await,
            2 => link.write(0, 2 * BLOCK, &[1; 512]).await,
            3 => link.zeros(0, BLOCK, u64::MAX).await,
            4 => {
                let mut frame =
                    protocol::extent::encode(0, 0, domain::digest::Digest([0; 32]), &[1; 512], false);
                frame.payload[40] ^= 1;
                link.send(&frame).await;
            }
            _ => link.say(&AgentMessage::SessionKept).await,
        }
        let heard = link.hear().await;
        assert!(
            matches!(
                heard,
                Some(RunnerMessage::Fault {
                    fault: Fault::Protocol { .. }
                })
            ),
            "breach {breach}: {heard:?}"
        );
        (link, _) = agent.enter(&world, &disks).await;
        assert_eq!(link.digests(0, disks[0].bytes).await, digests_of(&wanted));
    }
    // A cut in the middle of a frame.
    let frame = protocol::frame::zeros(0, 0, BLOCK);
    link.stream.write_all(&frame.header().encode()).await.unwrap();
    drop(link);
    let (mut link, _) = agent.enter(&world, &disks).await;
    assert_eq!(link.digests(0, disks[0].bytes).await, digests_of(&wanted));
    assert!(world.exported(1, Which::Latest, "serial-0").await == wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_staging_area_stalls_and_recovers_by_itself() {
    let world = World::with_servers(1).await;
    let mut agent = world.agent(1);
    let disks = [disk(0, 16 * BLOCK)];
    let (mut link, _) = agent.enter(&world, &disks).await;
    link.write(0, 0, &vec![1; BLOCK_LEN]).await;
    link.commit(Launchable).await;
    let committed = world.exported(1, Which::Latest, "serial-0").await;
    let limit = world.store_path().join(cloud::layers::LIMIT_FILE);
    std::fs::write(&limit, (3 * BLOCK).to_string()).unwrap();
    for block in 1..8_u8 {
        link.write(0, u64::from(block) * BLOCK, &vec![block; BLOCK_LEN])
            .await;
    }
    link.offer(Launchable).await;
    let heard = link.hear().await;
    assert!(
        matches!(
            heard,
            Some(RunnerMessage::Fault {
                fault: Fault::StagingFull
            })
        ),
        "{heard:?}"
    );
    drop(link);
    let server = world
        .eventually_server(1, |server| matches!(server.replication, Replication::Stalled(_)))
        .await;
    let Replication::Stalled(stall) = server.replication else {
        panic!()
    };
    assert_eq!(stall.error, ReplicationError::SnapshotsFailure);
    assert!(stall.detail.contains("bytes are free"), "{}", stall.detail);
    let (_, answer) = agent.knock(&world, &disks).await;
    assert!(
        matches!(answer, Answer::Refused(Refusal::StagingFull { .. })),
        "{answer:?}"
    );
    assert!(world.exported(1, Which::Latest, "serial-0").await == committed);

    std::fs::remove_file(&limit).unwrap();
    let (mut link, _) = agent.enter(&world, &disks).await;
    link.status(Phase::Rescan).await;
    world
        .eventually_server(1, |server| server.replication == Replication::Rescan)
        .await;
    for block in 1..8_u8 {
        link.write(0, u64::from(block) * BLOCK, &vec![block; BLOCK_LEN])
            .await;
    }
    link.commit(Launchable).await;
    world
        .eventually_server(1, |server| server.replication == Replication::Continuous)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_grow_shrink_vanish_and_come_back() {
    let mut world = World::with_servers(1).await;
    let mut agent = world.agent(1);
    let mut before: Vec<u8> = Vec::new();
    for (n, bytes) in (1_u8..).zip([
        3 * BLOCK + 512,
        5 * BLOCK + 1024,
        2 * BLOCK + 4096,
        6 * BLOCK,
        BLOCK / 2,
    ]) {
        let disks = [disk(0, bytes), disk(1, BLOCK)];
        let (mut link, welcome) = agent.enter(&world, &disks).await;
        let start = if n == 1 {
            DiskStart::Full
        } else {
            DiskStart::Rescan
        };
        assert_eq!(welcome.disks[0].start, start);
        let mut content = before.clone();
        content.resize(usize::try_from(bytes).unwrap(), 0);
        assert_eq!(link.digests(0, bytes).await, digests_of(&content), "{bytes}");
        let at = content.len() - 512;
        content[at..].fill(n);
        link.write(0, at as u64, &[n; 512]).await;
        link.commit(Launchable).await;
        assert!(
            world.exported(1, Which::Latest, "serial-0").await == content,
            "{bytes}"
        );
        world.crash_and_restart().await;
        before = content;
    }
    let (mut link, _) = agent.enter(&world, &[disk(1, BLOCK)]).await;
    link.commit(Launchable).await;
    let (mut link, welcome) = agent.enter(&world, &[disk(1, BLOCK), disk(0, BLOCK)]).await;
    assert_eq!(welcome.disks[1].start, DiskStart::Full);
    link.commit(Launchable).await;
    assert!(world.exported(1, Which::Latest, "serial-0").await == vec![0; BLOCK_LEN]);
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_reach_the_agent_and_a_disconnected_server_leaves_nothing() {
    let mut world = World::with_servers(2).await;
    let mut agent = world.agent(1);
    let disks = [disk(0, BLOCK)];
    let (mut link, _) = agent.enter(&world, &disks).await;
    link.write(0, 0, &[1; 512]).await;
    link.commit(Launchable).await;
    world.want(|desired| desired.servers[0].replication = ReplicationIntent::Paused);
    assert_eq!(link.orders().await.replication, ReplicationIntent::Paused);
    world
        .eventually_server(1, |server| server.replication == Replication::Paused)
        .await;
    world.want(|desired| {
        let server: &mut DesiredServer = &mut desired.servers[0];
        server.replication = ReplicationIntent::Run;
        server.checkpoint_request = 3;
    });
    assert_eq!(link.orders().await.checkpoint_request, 3);
    world.want(|desired| desired.servers[0].replication = ReplicationIntent::Disconnected);
    assert_eq!(link.orders().await.replication, ReplicationIntent::Disconnected);
    link.say(&AgentMessage::Goodbye {
        reason: Goodbye::Uninstalled,
    })
    .await;
    let gone =
        |server: &protocol::exchange::ObservedServer| server.forgotten && server.checkpoints.is_empty();
    world.eventually_server(1, gone).await;
    let store = cloud::layers::LayerStore::open(world.store_path()).unwrap();
    assert!(store.list_now().unwrap().is_empty());
    assert!(!world.dir().join("servers").join(server_id(1).as_str()).exists());
    assert!(matches!(
        agent.knock(&world, &disks).await.1,
        Answer::Refused(Refusal::UnknownServer { .. })
    ));
    world.crash_and_restart().await;
    world.eventually_server(1, gone).await;
    world.want(|desired| drop(desired.servers.remove(0)));
    world.eventually(|observed| observed.servers.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_are_told_when_the_runner_stops() {
    let mut world = World::with_servers(1).await;
    let mut agent = world.agent(1);
    let (mut link, _) = agent.enter(&world, &[disk(0, BLOCK)]).await;
    let told = tokio::spawn(async move { link.hear().await });
    world.stop().await;
    assert!(matches!(
        told.await.unwrap(),
        Some(RunnerMessage::Fault {
            fault: Fault::Stopping
        })
    ));
}
