//! The tracker against the kernel of this machine, on loop devices. `tests/kernels/run` runs the same tests under
//! other kernels.

#![expect(clippy::single_range_in_vec_init, reason = "often there is one write")]

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    ops::Range,
    os::unix::fs::FileExt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{
    Activity, Canary, Doubt, Lies, Marks, Tracker, Unavailable, Watch, devices::Devices, layout::SECTOR_LEN,
    requests,
};
use crate::disks::Roots;
use disk::{TestDisk, read_stamps, write_page};

mod disk;

const MIB: u64 = 1 << 20;

/// Says that this machine cannot run a test, which in CI it must.
fn cannot_run(why: &dyn std::fmt::Display) {
    eprintln!("cannot run here: the tracker on a loop device: {why}");
    assert_ne!(
        std::env::var("CI").as_deref(),
        Ok("true"),
        "in CI, every test runs"
    );
}

/// Runs `test` with a tracker of each kind that this kernel can load, and a fresh disk of `len` bytes.
fn with_each_kind(len: u64, test: impl Fn(&Tracker, &TestDisk)) {
    let disk = match TestDisk::new(len) {
        Ok(disk) => disk,
        Err(error) => return cannot_run(&error),
    };
    let mut ran = 0;
    let mut refused = None;
    for marks in [Marks::Bits, Marks::Bytes] {
        match Tracker::start_with(&Roots::default(), marks, Lies::None) {
            Ok(tracker) => {
                test(&tracker, &disk);
                ran += 1;
            }
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(Unavailable::ProgramRefused(error))
            if ran == 0 || super::kernel::kernel_is_at_least((5, 18)) =>
        {
            panic!("{error}\n{}", error.log)
        }
        Some(error) if ran == 0 => cannot_run(&error),
        _ => {}
    }
}

fn taken(watch: &mut Watch) -> Vec<Range<u64>> {
    let taken = watch.take();
    assert_eq!(taken.doubt, None);
    taken.chunks.ranges().collect()
}

/// The ranges that a watch of this chunk length gives for these writes.
fn chunks(watch: &Watch, writes: &[Range<u64>], disk_len: u64) -> Vec<Range<u64>> {
    let mut chunks = crate::changes::chunks::Chunks::none(disk_len, watch.chunk_len());
    writes.iter().cloned().for_each(|write| chunks.insert(write));
    chunks.ranges().collect()
}

#[test]
fn a_kernel_with_atomic_operations_marks_bits() {
    match Tracker::start(&Roots::default()) {
        Ok(tracker) => {
            // On arm64 since 5.18.
            let newer = super::kernel::kernel_is_at_least((5, 18));
            let older = !super::kernel::kernel_is_at_least((5, 12));
            assert!(!newer || tracker.0.marks == Marks::Bits);
            assert!(!older || tracker.0.marks == Marks::Bytes);
        }
        Err(error) => cannot_run(&error),
    }
}

#[test]
fn what_is_written_is_marked_and_what_is_read_is_not() {
    with_each_kind(64 * MIB, |tracker, disk| {
        let mut watch = tracker.watch(&disk.local()).unwrap();
        let file = disk.direct();
        write_page(&file, 5 * MIB, [1; 8]);
        write_page(&file, 64 * MIB - 4096, [1; 8]);
        let written = [5 * MIB..5 * MIB + 4096, 64 * MIB - 4096..64 * MIB];
        let expected = chunks(&watch, &written, 64 * MIB);
        assert_eq!(watch.peek().ranges().collect::<Vec<_>>(), expected);
        assert_eq!(watch.marked_bytes(), watch.peek().bytes());
        assert_eq!(taken(&mut watch), expected);

        read_stamps(&file, 5 * MIB..6 * MIB);
        assert_eq!(taken(&mut watch), []);

        // Through the page cache, and as one long write that the kernel cuts.
        let buffered = disk.open(0);
        buffered.write_all_at(&vec![3; 9_000_000], 12_345).unwrap();
        buffered.sync_all().unwrap();
        let pages = 12_288..(12_345 + 9_000_000_u64).next_multiple_of(4096);
        assert_eq!(taken(&mut watch), chunks(&watch, &[pages], 64 * MIB));
        // A flush without data.
        buffered.sync_all().unwrap();
        assert_eq!(taken(&mut watch), []);
    });
}

#[test]
fn discards_of_gigabytes_and_zeroed_ranges_are_marked_to_the_chunk() {
    const LEN: u64 = 16 << 30;
    with_each_kind(LEN, |tracker, disk| {
        let mut watch = tracker.watch(&disk.local()).unwrap();
        let discarded = 3 * MIB + 4096..LEN - 5 * MIB;
        disk.discard(discarded.start, discarded.end - discarded.start);
        assert_eq!(taken(&mut watch), chunks(&watch, &[discarded], LEN));
        let zeroed = 1 << 20..(1 << 20) + 40 * MIB;
        disk.zero_out(zeroed.start, zeroed.end - zeroed.start);
        assert_eq!(
            taken(&mut watch),
            chunks(&watch, std::slice::from_ref(&zeroed), LEN)
        );
        assert!(
            watch.take().proven,
            "the kernel counts discards and zeroes as we do"
        );
    });
}

#[test]
fn two_disks_are_kept_apart_and_one_can_come_and_go() {
    with_each_kind(8 * MIB, |tracker, one| {
        let other = TestDisk::new(256 * MIB).unwrap();
        let mut first = tracker.watch(&one.local()).unwrap();
        write_page(&other.direct(), 0, [1; 8]);
        let mut second = tracker.watch(&other.local()).unwrap();
        write_page(&one.direct(), MIB, [1; 8]);
        write_page(&other.direct(), 200 * MIB, [1; 8]);
        assert_eq!(taken(&mut first), chunks(&first, &[MIB..MIB + 4096], 8 * MIB));
        let written = 200 * MIB..200 * MIB + 4096;
        assert_eq!(
            taken(&mut second),
            chunks(&second, std::slice::from_ref(&written), 256 * MIB)
        );
        drop(first);
        write_page(&one.direct(), MIB, [2; 8]);
        let mut again = tracker.watch(&one.local()).unwrap();
        assert_eq!(taken(&mut again), []);
        assert_eq!(taken(&mut second), []);
        drop(other);
        let doubt = second.take().doubt;
        assert!(matches!(doubt, Some(Doubt::Replaced { .. })), "{doubt:?}");
    });
}

#[test]
fn a_disk_of_16_tib_is_tracked_within_the_budget() {
    // As long as a file of ext4 can be.
    const LEN: u64 = (16 << 40) - MIB;
    with_each_kind(LEN, |tracker, disk| {
        let mut watch = match (tracker.0.marks, tracker.watch(&disk.local())) {
            (Marks::Bits, watch) => watch.unwrap(),
            // 4 TiB are all that bytes can do.
            (Marks::Bytes, Err(Unavailable::NoMemory { .. })) => return,
            (Marks::Bytes, watch) => panic!("{watch:?}"),
        };
        assert!(
            (128 << 10..=256 << 10).contains(&watch.chunk_len()),
            "{}",
            watch.chunk_len()
        );
        let file = disk.direct();
        write_page(&file, LEN - 4096, [1; 8]);
        write_page(&file, 9 << 40, [1; 8]);
        let written = [LEN - 4096..LEN, 9 << 40..(9 << 40) + 4096];
        assert_eq!(taken(&mut watch), chunks(&watch, &written, LEN));
    });
}

/// Writes random pages from several threads, and keeps a replica by reading what is taken. At the end it must hold
/// what the disk holds in every page that was written.
fn replicate_under_writers(watch: &mut Watch, disk: &TestDisk, len: u64) {
    const WRITERS: u64 = 3;
    const ROUNDS: u64 = 8;
    // A take and its reading last about as long as these, so that most takes meet writers.
    const WRITES_PER_ROUND: u64 = 250;
    let file = disk.direct();
    let allowed = AtomicU64::new(0);
    let mut replica = HashMap::new();
    let written: BTreeSet<u64> = std::thread::scope(|scope| {
        let let_all_end = LetAllEnd(&allowed);
        let writers: Vec<_> = (0..WRITERS)
            .map(|seed| {
                let (file, allowed) = (disk.direct(), &allowed);
                scope.spawn(move || write_at_random(&file, len, seed, allowed, ROUNDS * WRITES_PER_ROUND))
            })
            .collect();
        for _ in 0..ROUNDS {
            allowed.fetch_add(WRITES_PER_ROUND, Relaxed);
            let taken = watch.take();
            assert_eq!(taken.doubt, None);
            replica.extend(taken.chunks.ranges().flat_map(|range| read_stamps(&file, range)));
        }
        drop(let_all_end);
        writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap())
            .collect()
    });
    let last = watch.take();
    assert_eq!(last.doubt, None);
    assert!(last.proven, "{watch:?}");
    replica.extend(last.chunks.ranges().flat_map(|range| read_stamps(&file, range)));
    for (at, stamp) in read_stamps(&file, 0..len) {
        let copied = replica.get(&at);
        assert!(
            !written.contains(&at) || copied == Some(&stamp),
            "page at {at}: {copied:?}, {stamp:?}"
        );
    }
}

/// Writes `most` pages, as soon as they are `allowed`, and returns where.
fn write_at_random(file: &File, len: u64, seed: u64, allowed: &AtomicU64, most: u64) -> BTreeSet<u64> {
    let mut written = BTreeSet::new();
    let mut random = seed + 1;
    for number in 0..most {
        while number >= allowed.load(Relaxed) {
            std::thread::yield_now();
        }
        random = random.wrapping_mul(requests::GOLDEN).rotate_left(29);
        let at = random % (len / 4096) * 4096;
        write_page(file, at, random.to_le_bytes());
        written.insert(at);
    }
    written
}

/// Lets the writers come to their end, however the test ends.
struct LetAllEnd<'a>(&'a AtomicU64);

impl Drop for LetAllEnd<'_> {
    fn drop(&mut self) {
        self.0.store(u64::MAX, Relaxed);
    }
}

#[test]
fn takes_under_a_random_writer_lose_nothing() {
    const LEN: u64 = 128 * MIB;
    with_each_kind(LEN, |tracker, disk| {
        let mut watch = tracker.watch(&disk.local()).unwrap();
        replicate_under_writers(&mut watch, disk, LEN);
        assert!(watch.take().chunks.is_empty());
        // A machine made for the purpose has a disk that interrupts when it is done, which no loop device does.
        if let Some(path) = std::env::var_os("ORGLIFT_TEST_DISK") {
            let disk = TestDisk::at(path.into()).unwrap();
            let mut watch = tracker.watch(&disk.local()).unwrap();
            replicate_under_writers(&mut watch, &disk, LEN);
            disk.discard(0, LEN);
            assert_eq!(taken(&mut watch), [0..LEN]);
        }
    });
}

#[test]
fn silence_is_proven_and_a_write_breaks_it() {
    with_each_kind(8 * MIB, |tracker, disk| {
        let watch = tracker.watch(&disk.local()).unwrap();
        let before = watch.counters();
        assert!(before.proves_silence(&watch.counters()), "{before:?}");
        write_page(&disk.direct(), 0, [1; 8]);
        let after = watch.counters();
        assert!(!before.proves_silence(&after));
        let expected = Activity {
            issued: 1,
            completed: 1,
            in_flight: 0,
            sectors: before.sectors.map(|sectors| sectors + 4096 / SECTOR_LEN),
        };
        assert_eq!(after, expected);
    });
}

#[test]
fn missed_completions_cost_reading_but_no_doubt() {
    with_lies(Lies::Completions, |mut watch, disk| {
        replicate_under_writers(&mut watch, disk, 128 * MIB);
        assert_eq!(watch.counters().in_flight, 0, "stale entries are purged");
    });
}

#[test]
fn a_write_that_is_not_seen_at_all_is_a_doubt_until_the_restart() {
    with_lies(Lies::Everything, |mut watch, disk| {
        let file = disk.direct();
        write_page(&file, 4 * 4096, [1; 8]);
        assert!(watch.take().proven);
        write_page(&file, 5 * 4096, [1; 8]);
        let taken = watch.take();
        assert_eq!(
            (taken.doubt, taken.proven),
            (Some(Doubt::Missed { sectors: 8 }), false)
        );
        assert!(watch.take().doubt.is_some(), "a doubt lasts");
        watch.restart();
        let taken = watch.take();
        assert_eq!((taken.doubt, taken.proven), (None, true));
    });
}

fn with_lies(lies: Lies, test: impl Fn(Watch, &TestDisk)) {
    let disk = match TestDisk::new(128 * MIB) {
        Ok(disk) => disk,
        Err(error) => return cannot_run(&error),
    };
    let tracker = Tracker::start_with(&Roots::default(), Marks::Bits, lies)
        .or_else(|_| Tracker::start_with(&Roots::default(), Marks::Bytes, lies));
    match tracker {
        Ok(tracker) => test(tracker.watch(&disk.local()).unwrap(), &disk),
        Err(error) => cannot_run(&error),
    }
}

#[test]
fn a_program_that_is_detached_is_noticed_and_attached_again() {
    with_each_kind(8 * MIB, |tracker, disk| {
        let mut watch = tracker.watch(&disk.local()).unwrap();
        let other = TestDisk::new(8 * MIB).unwrap();
        let mut bystander = tracker.watch(&other.local()).unwrap();
        let stolen = std::fs::File::open("/dev/null").unwrap();
        let event = tracker.0.attachments().list[1].event();
        // SAFETY: closes the descriptor of the attachment, and puts another file in its place.
        assert_eq!(
            unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&stolen), event) },
            event
        );
        assert_eq!(watch.take().doubt, Some(Doubt::Detached));
        watch.restart();
        write_page(&disk.direct(), 0, [1; 8]);
        assert_eq!(taken(&mut watch), chunks(&watch, &[0..4096], 8 * MIB));
        assert_eq!(
            bystander.take().doubt,
            Some(Doubt::Detached),
            "it was not there meanwhile"
        );
    });
}

#[test]
fn a_map_that_is_replaced_is_noticed() {
    with_each_kind(8 * MIB, |tracker, disk| {
        let mut watch = tracker.watch(&disk.local()).unwrap();
        let foreign = super::kernel::Map::inner_array(64).unwrap();
        // The first disk of a tracker has slot 0.
        tracker.0.marks_in_use.set_inner(0, &foreign).unwrap();
        assert_eq!(watch.take().doubt, Some(Doubt::MapReplaced));
        watch.restart();
        assert_eq!(taken(&mut watch), []);
        let devices = Devices::of(&Roots::default(), &disk.local()).unwrap();
        tracker.0.disks.remove(devices.numbers().unwrap()[0]).unwrap();
        assert_eq!(watch.take().doubt, Some(Doubt::MapReplaced));
        watch.restart();
        write_page(&disk.direct(), 4096, [1; 8]);
        assert_eq!(taken(&mut watch), chunks(&watch, &[4096..8192], 8 * MIB));
    });
}

#[test]
fn a_disk_that_grows_is_in_doubt_until_it_is_watched_in_its_new_size() {
    with_each_kind(8 * MIB, |tracker, disk| {
        let mut watch = tracker.watch(&disk.local()).unwrap();
        let len = 2 * disk.local().disk.bytes;
        disk.grow(len);
        write_page(&disk.direct(), len - 4096, [1; 8]);
        let doubt = watch.take().doubt;
        assert!(matches!(doubt, Some(Doubt::Replaced { .. })), "{doubt:?}");
        watch.restart();
        write_page(&disk.direct(), len - 4096, [1; 8]);
        assert_eq!(taken(&mut watch), chunks(&watch, &[len - 4096..len], len));
    });
}

#[test]
fn a_canary_is_seen_only_on_the_disk_that_it_sits_on() {
    with_each_kind(8 * MIB, |tracker, disk| {
        let mut watch = tracker.watch(&disk.local()).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        assert_eq!(watch.canary(elsewhere.path()).unwrap(), Canary::Elsewhere);
        assert_eq!(elsewhere.path().read_dir().unwrap().count(), 0);
    });
}

#[test]
fn what_cannot_be_tracked_says_so_in_one_line() {
    with_each_kind(8 * MIB, |tracker, _disk| {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("disk.raw");
        std::fs::write(&image, [1; 4096]).unwrap();
        let named = crate::disks::discover::named(&Roots::default(), &[image]).unwrap();
        let error = tracker.watch(&named[0]).unwrap_err();
        assert_eq!(error.to_string(), "it is an image file, not a block device");
    });
    let tree = crate::disks::fake_tree::FakeTree::new();
    tree.disk("sda", 2048, "8:0");
    let disks = crate::disks::discover::physical(&tree.roots()).unwrap();
    let error = Devices::of(&tree.roots(), &disks[0]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "sda has no request queue of its own (a bio-based device)"
    );
}
