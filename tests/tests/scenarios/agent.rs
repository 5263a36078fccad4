//! The agent dies or loses its runner in the middle: it goes on where it was, and sends no byte that is
//! there already.

use lab::{
    network::Wire,
    wait::{Look, eventually},
};

use crate::{
    replica::write_noise,
    scene::{MIB, SOON, Scene},
};

#[tokio::test]
async fn an_agent_killed_while_it_sends_changes_sends_changes_again_and_not_the_disk() {
    let scene = Scene::with_a_checkpoint_each_second().await;
    let mut server = scene.quiet_server("db-1", &[32 * MIB]).await;
    scene.next_checkpoint(&server).await;
    scene.network().set(Wire::Throttled(3_000_000));
    write_noise(&server.disks()[0], 4 * MIB, 6 * MIB);
    scene.carries(MIB).await;
    server.kill_agent().unwrap();
    scene.network().restore();
    let before = scene.network().carried();
    server.start_agent().unwrap();
    scene.replica_equals_source(&server).await;
    let sent = scene.network().carried() - before;
    // The rest of what the dead agent had sent was still under way, in the buffers of its sockets.
    assert!(
        sent < 16 * MIB,
        "{sent} bytes were sent for 6 MiB of changes on 32 MiB"
    );
}

#[tokio::test]
async fn an_agent_killed_in_a_first_copy_does_not_send_again_what_was_saved() {
    let scene = Scene::with_a_checkpoint_each_second().await;
    let mut server = scene.installed_server("db-1", &[40 * MIB]).await;
    scene.network().set(Wire::Throttled(8_000_000));
    server.start_agent_with(&["--save-every", "1"]).unwrap();
    let enough = || async {
        let saved = scene.committed_bytes()?;
        Ok(Look::when(saved >= 16 * MIB, format!("{saved} bytes are saved")))
    };
    eventually("a good part is saved", SOON, enough).await.unwrap();
    server.kill_agent().unwrap();
    let checkpoints = scene.checkpoints(&server).await.unwrap();
    assert!(
        checkpoints.iter().all(|one| !one.is_launchable()),
        "{checkpoints:?}"
    );
    scene.network().restore();
    let before = scene.network().carried();
    server.start_agent_with(&["--save-every", "1"]).unwrap();
    scene.replica_equals_source(&server).await;
    let sent = scene.network().carried() - before;
    // 24 MiB were missing at most; the rest of what the dead agent had sent was still under way.
    assert!(sent < 34 * MIB, "{sent} bytes were sent for the rest of 40 MiB");
}

#[tokio::test]
async fn a_wire_cut_again_and_again_within_frames_leaves_no_gap() {
    let scene = Scene::with_a_checkpoint_each_second().await;
    scene.network().set(Wire::Throttled(8_000_000));
    let server = scene.quiet_server("web-1", &[16 * MIB, 8 * MIB]).await;
    for _ in 0..3 {
        scene.carries(300_000).await;
        let cuts = scene.network().cuts();
        scene
            .network()
            .set(Wire::CutAfter(rand::random_range(1..1_000_000)));
        let cut = || async { Ok(Look::when(scene.network().cuts() > cuts, cuts)) };
        eventually("the wire is cut", SOON, cut).await.unwrap();
        scene.network().set(Wire::Throttled(8_000_000));
    }
    scene.network().restore();
    scene.replica_equals_source(&server).await;
}

#[tokio::test]
async fn verify_finds_what_was_written_since_the_checkpoint_and_nothing_else() {
    let scene = Scene::without_schedule().await;
    let server = scene.quiet_server("db-1", &[8 * MIB, 2 * MIB]).await;
    scene.until_replication(&server, "CONTINUOUS").await;
    let equal = scene.verify(&server).await.unwrap();
    assert_eq!(equal.matches(": equal").count(), 2, "{equal}");
    write_noise(&server.disks()[1], MIB, 1);
    let differs = format!("{:#}", scene.verify(&server).await.unwrap_err());
    assert!(
        differs.contains("the disks differ from the checkpoint"),
        "{differs}"
    );
}
