//! Databases that sync with every transaction: each checkpoint is one from which they start, with every row that had
//! been committed before its instant.

use domain::checkpoint::Consistency;
use tests::postgresql::Cluster;

use crate::{
    examine::Kind,
    load::Transactions,
    place::{Mounted, Place, run},
    scene::{MIB, Scene, factor},
};

const EXAMINED: u32 = 2;

/// Little memory and little room, and everything that a database does from time to time all the time.
const SMALL: &str = "-c max_wal_size=8MB -c min_wal_size=2MB -c shared_buffers=8MB -c fsync=on -c autovacuum_naptime=1s \
                     -c checkpoint_timeout=30s";

#[tokio::test]
async fn databases_start_from_every_checkpoint_and_hold_what_was_committed() {
    let Some(place) = Place::new(&["losetup", "mkfs.ext4", "mkfs.xfs", "sqlite3", "psql", "setpriv"]) else {
        return;
    };
    let Some(programs) = Cluster::programs() else {
        eprintln!("cannot run here: databases in use: PostgreSQL is not installed");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"));
        return;
    };
    let (one, ext4) = place.mounted("one", 192 * MIB, Kind::Ext4.make());
    let (two, xfs) = place.mounted("two", Kind::Xfs.bytes(), Kind::Xfs.make());

    let file = xfs.path("rows.db").display().to_string();
    run(&format!(
        "sqlite3 {file} 'PRAGMA journal_mode=WAL; CREATE TABLE rows(id INTEGER PRIMARY KEY, noise BLOB)'"
    ));
    let mut sqlite = Transactions::through(&format!("exec stdbuf -oL sqlite3 {file}"), |row| {
        let first = if row == 1 { "PRAGMA synchronous=FULL; " } else { "" };
        format!("{first}INSERT INTO rows VALUES({row}, randomblob(900)); SELECT {row};")
    });

    let cluster = Cluster::make(&programs, &ext4.dir, 54321, SMALL).unwrap();
    cluster.start().unwrap();
    run(&cluster.line(
        "psql",
        "--quiet -c 'CREATE TABLE rows(id bigint PRIMARY KEY, noise text)' postgres",
    ));
    let shell = format!(
        "exec stdbuf -oL {}",
        cluster.line("psql", "--quiet --no-align --tuples-only --no-psqlrc postgres")
    );
    let mut postgres = Transactions::through(&shell, |row| {
        format!("INSERT INTO rows VALUES({row}, repeat(md5({row}::text), 30)); SELECT {row};")
    });

    let mut scene = Scene::of(&[&one, &two]).await;
    scene.start_agent();
    if !scene.tracks().await {
        return;
    }
    let (mut examined, mut last) = (0, 0);
    while examined < EXAMINED * factor() {
        let checkpoint = scene.checkpoint_after(last).await;
        last = checkpoint.number.0;
        assert_eq!(checkpoint.consistency, Consistency::Filesystem, "{checkpoint:?}");
        let (committed, committed_lite) = (
            postgres.before(checkpoint.taken_at_ms),
            sqlite.before(checkpoint.taken_at_ms),
        );
        let Some(images) = scene.export(&checkpoint, &place.path("exported")).await else {
            continue;
        };
        let whole = |kind: Kind, index: usize| {
            let dir = place.path(&format!("examined-{index}"));
            drop(
                kind.examine(&images[index], checkpoint.consistency, &dir)
                    .unwrap(),
            );
            let same_identity = if kind == Kind::Xfs { ",nouuid" } else { "" };
            Mounted::try_at(&dir, &images[index], &format!("loop{same_identity}")).unwrap()
        };
        let (ext4, xfs) = (whole(Kind::Ext4, 0), whole(Kind::Xfs, 1));

        let copy = Cluster::found(&programs, &ext4.dir, 54322, SMALL).unwrap();
        copy.start()
            .unwrap_or_else(|wrong| panic!("checkpoint {last}: {wrong}"));
        let rows = run(&copy.line(
            "psql",
            "--tuples-only --no-align -c 'SELECT count(*), max(id) FROM rows' postgres",
        ));
        let (count, newest) = rows.split_once('|').unwrap();
        // None is missing in between.
        assert_eq!(count, newest, "checkpoint {last}");
        assert!(
            newest.parse::<u64>().unwrap() >= committed,
            "checkpoint {last}: {newest} of {committed}"
        );
        run(&copy.line(
            "pg_amcheck",
            "--install-missing --heapallindexed --parent-check postgres",
        ));
        drop(copy);

        let file = xfs.path("rows.db").display().to_string();
        assert_eq!(run(&format!("sqlite3 {file} 'PRAGMA integrity_check'")), "ok");
        let rows = run(&format!("sqlite3 {file} 'SELECT count(*), max(id) FROM rows'"));
        let (count_lite, newest_lite) = rows.split_once('|').unwrap();
        assert_eq!(count_lite, newest_lite, "checkpoint {last}");
        assert!(
            newest_lite.parse::<u64>().unwrap() >= committed_lite,
            "checkpoint {last}: {newest_lite} of {committed_lite}"
        );
        println!(
            "checkpoint {last}: PostgreSQL {newest} rows of at least {committed}, SQLite {newest_lite} of {committed_lite}, \
             frozen {} ms",
            checkpoint.frozen_ms
        );
        examined += 1;
    }
    postgres.stop();
    sqlite.stop();
    println!("{} and {} transactions", postgres.count(), sqlite.count());
}
