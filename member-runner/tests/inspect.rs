//! Asking for the digests of a checkpoint while replication goes on.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod world;

use domain::{
    checkpoint::{
        CheckpointKind::{Launchable, Partial},
        CheckpointNumber,
    },
    disk::{BLOCK_LEN, Disk},
};
use protocol::{
    exchange::ObservedServer,
    session::{AgentMessage, Inspected, Refusal, RunnerMessage},
};
use world::{Agent, BLOCK, Connection, World, digests_of, disk, server_id};

fn disks() -> [Disk; 2] {
    [disk(0, 6 * BLOCK), disk(1, BLOCK + 512)]
}

async fn inspect(
    agent: &Agent,
    world: &World,
    checkpoint: Option<u64>,
) -> (Connection, Option<RunnerMessage>) {
    let inspect = AgentMessage::Inspect {
        server: agent.id.clone(),
        checkpoint: checkpoint.map(CheckpointNumber),
    };
    agent.ask(world, &inspect).await
}

async fn inspected(agent: &Agent, world: &World, checkpoint: Option<u64>) -> (Connection, Inspected) {
    match inspect(agent, world, checkpoint).await {
        (connection, Some(RunnerMessage::Inspected(inspected))) => (connection, inspected),
        (_, other) => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_checkpoint_shows_its_digests_while_the_session_goes_on() {
    let mut world = World::with_servers(1).await;
    let mut agent = world.agent(1);
    let (mut link, _) = agent.enter(&world, &disks()).await;
    let mut content = vec![0; 6 * BLOCK_LEN];
    let mut history = Vec::new();
    for n in 0..9_u8 {
        let at = usize::from(n % 6) * BLOCK_LEN + 100;
        content[at..at + 4096].fill(n + 1);
        link.write(0, at as u64, &content[at..at + 4096]).await;
        // One that was meant to save work only is not the newest launchable.
        let kind = if n == 8 { Partial } else { Launchable };
        assert_eq!(link.commit(kind).await, CheckpointNumber(u64::from(n) + 1));
        history.push(digests_of(&content));
        if n == 4 {
            world.crash_and_restart().await;
            (link, _) = agent.enter(&world, &disks()).await;
        }
    }
    let (_, newest) = inspected(&agent, &world, None).await;
    assert_eq!(newest.number, CheckpointNumber(8));
    assert_eq!(newest.disks, disks());
    let oldest_is_three = |server: &ObservedServer| server.checkpoints[0].number == CheckpointNumber(3);
    world.eventually_server(1, oldest_is_three).await;

    // What is inspected stays, and what came before it may be folded into it.
    let (mut third, _) = inspected(&agent, &world, Some(3)).await;
    for n in 10..14 {
        link.write(0, 0, &[n; 512]).await;
        assert_eq!(link.commit(Launchable).await, CheckpointNumber(n.into()));
    }
    let four_and_five_left = |server: &ObservedServer| {
        let numbers = server.checkpoints.iter().map(|checkpoint| checkpoint.number.0);
        numbers.eq([3, 7, 8, 10, 11, 12, 13])
    };
    world.eventually_server(1, four_and_five_left).await;
    assert_eq!(third.digests(0, disks()[0].bytes).await, history[2]);
    assert_eq!(
        third.digests(1, disks()[1].bytes).await,
        digests_of(&vec![0; BLOCK_LEN + 512])
    );
    let (mut seventh, _) = inspected(&agent, &world, Some(7)).await;
    assert_eq!(seventh.digests(0, disks()[0].bytes).await, history[6]);
    drop(third);
    link.write(0, 0, &[1; 512]).await;
    link.commit(Launchable).await;
    let third_left = |server: &ObservedServer| server.checkpoints[0].number > CheckpointNumber(3);
    world.eventually_server(1, third_left).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_server_itself_asks_and_only_for_what_there_is() {
    let world = World::with_servers(2).await;
    let mut agent = world.agent(1);
    let none = |answer: Option<RunnerMessage>| {
        assert!(
            matches!(answer, Some(RunnerMessage::Refused(Refusal::NoCheckpoint { .. }))),
            "{answer:?}"
        );
    };
    none(inspect(&agent, &world, None).await.1);
    let (mut link, _) = agent.enter(&world, &disks()).await;
    link.commit(Partial).await;
    none(inspect(&agent, &world, None).await.1);
    none(inspect(&agent, &world, Some(2)).await.1);
    inspected(&agent, &world, Some(1)).await;

    let mut foreign = world.agent(2);
    none(inspect(&foreign, &world, Some(1)).await.1);
    foreign.id = server_id(1);
    let (_, answer) = inspect(&foreign, &world, Some(1)).await;
    assert!(
        matches!(
            answer,
            Some(RunnerMessage::Refused(Refusal::NotYourIdentity { .. }))
        ),
        "{answer:?}"
    );
    // It asks, and does nothing else.
    let (mut asking, _) = inspected(&agent, &world, Some(1)).await;
    asking.write(0, 0, &[1; 512]).await;
    assert_eq!(asking.hear().await, None);
    let (mut asking, _) = inspected(&agent, &world, Some(1)).await;
    let wanted = AgentMessage::DigestsWanted {
        disk: 2,
        first_block: 0,
        count: 1,
        after: protocol::session::SentBefore::default(),
    };
    asking.say(&wanted).await;
    assert!(matches!(asking.hear().await, Some(RunnerMessage::Fault { .. })));
    assert_eq!(link.commit(Launchable).await, CheckpointNumber(2));
}
