//! A source server whose clock jumps. Only the agent sees it jump: setting the machine's own would harm whoever
//! shares it, and a time namespace has no clock on the wall. The agent that is built for tests is linked dynamically, so
//! that libfaketime can stand between.

use std::{ffi::OsStr, fs, path::Path, time::Duration};

use crate::{
    place::Place,
    room::write_noise,
    scene::{MIB, Scene},
};

const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
const HOUR_MS: i64 = 3_600_000;

#[tokio::test]
async fn a_clock_that_jumps_holds_up_nothing() {
    let Some(place) = Place::new(&["losetup"]) else {
        return;
    };
    if !Path::new(LIBRARY).exists() {
        eprintln!("cannot run here: a clock that jumps: {LIBRARY} is missing");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"));
        return;
    }
    let disk = place.disk("disk", 24 * MIB);
    let mut scene = Scene::of(&[&disk]).await;
    let clock = place.path("clock");
    let jump = |hours: i64| {
        let draft = place.path("clock.draft");
        fs::write(&draft, format!("{hours:+}h\n")).unwrap();
        fs::rename(draft, &clock).unwrap();
    };
    jump(0);
    let env = [
        ("LD_PRELOAD", OsStr::new(LIBRARY)),
        ("FAKETIME_TIMESTAMP_FILE", clock.as_os_str()),
        ("FAKETIME_NO_CACHE", OsStr::new("1")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", OsStr::new("1")),
    ];
    scene.start_agent_with(&[], &env);
    let mut last = scene.next_checkpoint().await.number.0;
    for (round, hours) in (0..).zip([7, -5, 0]) {
        jump(hours);
        write_noise(&disk.path, round * 5 * MIB, 3 * MIB);
        let mut shown_ms = 0;
        let began = std::time::Instant::now();
        for _ in 0..3 {
            let checkpoint = scene.checkpoint_after(last).await;
            last = checkpoint.number.0;
            shown_ms = checkpoint.taken_at_ms;
        }
        // One is due each second, by whichever clock.
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        let ahead_ms = shown_ms - chrono::Utc::now().timestamp_millis();
        assert!(
            (ahead_ms - hours * HOUR_MS).abs() < 60_000,
            "{ahead_ms} ms ahead at {hours} h"
        );
    }
    scene.ends_equal(&place.path("exported")).await;
}
