//! A connection that is cut every second.

use std::time::Duration;

use lab::network::Wire;

use crate::{
    place::Place,
    room::write_noise,
    scene::{MIB, Scene},
};

/// Slow enough that a second is not enough for what is to be sent.
const SLOW: Wire = Wire::Throttled(4_000_000);
/// Of what is sent, what is on its way in buffers when the wire is cut, of sockets and of programs.
const UNDER_WAY: u64 = 3 * MIB;

impl Scene {
    /// Lets the wire carry for a second at a time, and then cuts everything that goes over it.
    async fn cut_each_second(&self, seconds: u32) {
        for _ in 0..seconds {
            self.network().set(SLOW);
            tokio::time::sleep(Duration::from_secs(1)).await;
            let cuts = self.network().cuts();
            self.network().set(Wire::CutAfter(1));
            // What says nothing is cut with the next heartbeat, or not: it has nothing to lose.
            let deadline = tokio::time::Instant::now() + Duration::from_millis(300);
            while self.network().cuts() == cuts && tokio::time::Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        self.network().restore();
    }
}

#[tokio::test]
async fn a_wire_cut_each_second_costs_no_more_than_what_was_under_way() {
    let Some(place) = Place::new(&["losetup"]) else {
        return;
    };
    let (one, two) = (place.disk("one", 24 * MIB), place.disk("two", 24 * MIB));
    for disk in [&one, &two] {
        write_noise(&disk.path, 0, 12 * MIB);
    }
    let mut scene = Scene::of(&[&one, &two]).await;
    scene.network().set(SLOW);
    scene.start_agent_with(&["--save-every", "1"], &[]);
    scene.cut_each_second(8).await;
    scene.next_checkpoint().await;
    let sent = scene.network().carried();
    println!("{sent} bytes were sent for a first copy of {}", 24 * MIB);
    scene.ends_equal(&place.path("exported")).await;

    scene.network().set(SLOW);
    let before = scene.network().carried();
    write_noise(&one.path, 4 * MIB, 8 * MIB);
    write_noise(&two.path, 14 * MIB, 4 * MIB);
    scene.cut_each_second(5).await;
    scene.next_checkpoint().await;
    let sent_again = scene.network().carried() - before;
    println!("{sent_again} bytes were sent for {} that changed", 12 * MIB);
    scene.ends_equal(&place.path("exported")).await;
    assert!(sent <= 24 * MIB + 8 * UNDER_WAY, "{sent}");
    assert!(sent_again <= 12 * MIB + 5 * UNDER_WAY, "{sent_again}");
}
