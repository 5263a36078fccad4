//! Sessions of several connections, over TLS, in the orders that networks make.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod world;

use domain::{
    checkpoint::{
        CheckpointKind::{Launchable, Partial},
        CheckpointNumber, Consistency,
    },
    disk::{BLOCK_LEN, Disk},
};
use identity::Role;
use member_runner::export::Which;
use protocol::session::{
    AgentMessage, CheckpointOffer, Fault, LANE_SPAN, Refusal, RunnerMessage, SentBefore, SessionId,
};
use world::{Agent, BLOCK, Connection, World, certified, disk, server_id};

/// Two spans for each of four lanes.
fn wide_disk() -> Disk {
    disk(0, 8 * LANE_SPAN)
}

async fn enter_wide(world: &World, agent: &mut Agent) -> (Vec<Connection>, SessionId) {
    let (first, welcome) = agent.enter(world, &[wide_disk()]).await;
    assert_eq!(welcome.lanes, 4);
    let mut lanes = vec![first];
    for lane in 1..welcome.lanes {
        let (connection, answer) = agent.join(world, &welcome.session, lane).await;
        assert_eq!(answer, Some(RunnerMessage::Joined));
        lanes.push(connection);
    }
    (lanes, welcome.session)
}

fn offer(kind: domain::checkpoint::CheckpointKind, after: &[u64]) -> AgentMessage {
    AgentMessage::Checkpoint(CheckpointOffer {
        kind,
        consistency: Consistency::Crash,
        taken_at_ms: 1_700_000_000_000,
        request: 0,
        frozen_ms: 0,
        after: SentBefore(after.to_vec()),
    })
}

async fn expect_protocol_fault(link: &mut Connection) {
    let heard = link.hear().await;
    assert!(
        matches!(
            heard,
            Some(RunnerMessage::Fault {
                fault: Fault::Protocol { .. }
            })
        ),
        "{heard:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_waits_for_all_lanes_and_holds_what_they_carried() {
    let world = World::with_servers(1).await;
    let mut agent = world.agent(1);
    let (mut lanes, _) = enter_wide(&world, &mut agent).await;
    let mut content = vec![0; usize::try_from(8 * LANE_SPAN).unwrap()];
    // Both messages overtake the data that were sent before them.
    let after = [2, 2, 2, 2];
    lanes[0]
        .say(&AgentMessage::DigestsWanted {
            disk: 0,
            first_block: 0,
            count: 64,
            after: SentBefore(after.to_vec()),
        })
        .await;
    lanes[0].say(&offer(Launchable, &after)).await;
    for span in [4_u8, 5, 6, 7, 3, 2, 1, 0] {
        let at = u64::from(span) * LANE_SPAN;
        let from = usize::try_from(at).unwrap();
        content[from..from + BLOCK_LEN].fill(span + 1);
        let lane = usize::from(span % 4);
        lanes[lane].write(0, at, &vec![span + 1; BLOCK_LEN]).await;
    }
    assert_eq!(lanes[0].answered_digests().await, world::digests_of(&content));
    assert_eq!(lanes[0].committed().await, CheckpointNumber(1));
    assert!(world.exported(1, Which::Latest, "serial-0").await == content);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_memory_holds_goes_through_in_any_order_of_lanes() {
    let world = World::with_servers(1).await;
    let mut agent = world.agent(1);
    let (lanes, _) = enter_wide(&world, &mut agent).await;
    // 32 MiB against 16 that may be in flight: all lanes at once, the first one last.
    let mut lanes = lanes.into_iter();
    let mut first = lanes.next().unwrap();
    first.say(&offer(Partial, &[16, 16, 16, 16])).await;
    let noise = |block: u64| {
        let mut data = vec![0; BLOCK_LEN];
        blake3::Hasher::new()
            .update(&block.to_le_bytes())
            .finalize_xof()
            .fill(&mut data);
        data
    };
    let mut sending = tokio::task::JoinSet::new();
    for (lane, mut connection) in (1_u64..).zip(lanes) {
        sending.spawn(async move {
            for block in (0..64).filter(|block| block / 8 % 4 == lane) {
                connection.write(0, block * BLOCK, &noise(block)).await;
            }
            connection
        });
    }
    let kept = sending.join_all().await;
    for block in (0..64).filter(|block| block / 8 % 4 == 0) {
        first.write(0, block * BLOCK, &noise(block)).await;
    }
    assert_eq!(first.committed().await, CheckpointNumber(1));
    let content: Vec<u8> = (0..64).flat_map(noise).collect();
    let digests = first.digests(0, wide_disk().bytes).await;
    assert_eq!(digests, world::digests_of(&content));
    drop(kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn data_on_the_wrong_lane_and_messages_beside_the_first_end_the_session() {
    let world = World::with_servers(1).await;
    let mut agent = world.agent(1);
    for breach in 0..4 {
        let (mut lanes, _) = enter_wide(&world, &mut agent).await;
        match breach {
            0 => lanes[1].write(0, 0, &[1; 512]).await,
            1 => lanes[1].zeros(0, LANE_SPAN, LANE_SPAN + 1).await,
            2 => lanes[2].say(&offer(Partial, &[])).await,
            // Sent after the offer, and there before it.
            _ => {
                lanes[1].write(0, LANE_SPAN, &[1; 512]).await;
                let wanted = AgentMessage::DigestsWanted {
                    disk: 0,
                    first_block: 0,
                    count: 1,
                    after: SentBefore(vec![0, 1]),
                };
                lanes[0].say(&wanted).await;
                lanes[0].answered_digests().await;
                lanes[0].say(&offer(Launchable, &[0, 0])).await;
            }
        }
        expect_protocol_fault(&mut lanes[0]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_any_of_its_lanes() {
    let world = World::with_servers(1).await;
    let mut agent = world.agent(1);
    let (mut lanes, session) = enter_wide(&world, &mut agent).await;
    drop(lanes.pop());
    assert_eq!(lanes[0].hear().await, None);
    assert_eq!(lanes[1].hear().await, None);
    // Nobody joins what is over.
    let (_, answer) = agent.join(&world, &session, 3).await;
    assert!(matches!(
        answer,
        Some(RunnerMessage::Refused(Refusal::NoSession { .. }))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_a_lane_that_is_not_his() {
    let world = World::with_servers(2).await;
    let mut agent = world.agent(1);
    let (mut lanes, session) = enter_wide(&world, &mut agent).await;
    // With another certificate of the same server, a lane that is taken, one that does not exist, another session.
    let mut renewed = agent.clone();
    renewed.credentials = certified(&world.authority, &Role::Agent(server_id(1)));
    let mut foreign = world.agent(2);
    let (_other, _) = foreign.enter(&world, &[disk(0, BLOCK)]).await;
    let elsewhere = SessionId("0".repeat(1 << 16));
    for (who, session, lane) in [
        (&renewed, &session, 1),
        (&agent, &session, 1),
        (&agent, &session, 0),
        (&agent, &session, 4),
        (&agent, &elsewhere, 1),
        (&foreign, &session, 1),
    ] {
        let (_, answer) = who.join(&world, session, lane).await;
        assert!(
            matches!(answer, Some(RunnerMessage::Refused(Refusal::NoSession { .. }))),
            "{answer:?}"
        );
    }
    foreign.id = server_id(1);
    let (_, answer) = foreign.join(&world, &session, 1).await;
    assert!(matches!(
        answer,
        Some(RunnerMessage::Refused(Refusal::NotYourIdentity { .. }))
    ));
    // The session was not disturbed.
    lanes[0].write(0, 0, &[1; 512]).await;
    assert_eq!(lanes[0].commit(Launchable).await, CheckpointNumber(1));
}
