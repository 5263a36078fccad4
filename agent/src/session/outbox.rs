//! What waits for the network: data on its lane, control messages before all data of theirs.
//!
//! Memory is bounded by a budget in bytes that all lanes share. Data of one place of a disk always go by one
//! lane, in order; a control message overtakes data, and says with [`Outbox::sent_before`] what it is about.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use protocol::{
    frame::Frame,
    session::{AgentMessage, LANE_SPAN, SentBefore, control, lane_of},
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};

use crate::changes::progress::Progress;

/// Payload that may wait: what a link of 1 Gbit/s takes in 60 ms. More would only be memory of a server that has
/// other work to do.
pub const BUDGET_BYTES: u32 = 8 << 20;

/// Above, whatever data wait for is busy with more than carrying them. LZ4 takes 1.5 ns per byte here and 2.3 ns at
/// the runner (one processor, data that shrink to a half): over loopback it made a first copy a third slower.
const COMPRESSION_PAYS_BELOW: f64 = 200e6;

/// For how long data are counted before they are called a pace.
const PACE_TIME: Duration = Duration::from_millis(100);

/// What a frame counts at least, so that runs of zeros are bounded, too.
const FRAME_COST_MIN: u32 = 4 << 10;

/// As many frames as the budget allows: a send that has its share of the budget never waits for its lane.
const FRAMES_WAITING: usize = (BUDGET_BYTES / FRAME_COST_MIN) as usize;

const CONTROLS_WAITING: usize = 64;

/// Data on its way, its share of the budget, and whose progress it is.
#[derive(Debug)]
pub struct Data {
    pub frame: Frame,
    progress: Arc<Progress>,
    bytes: u64,
    _share: OwnedSemaphorePermit,
}

impl Data {
    /// Of disk, whatever they make on the wire.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// It was handed to the network.
    pub fn sent(&self) {
        self.progress.sent(self.bytes);
    }
}

/// The other ends: one per lane, and the control messages.
#[derive(Debug)]
pub struct Queues {
    pub lanes: Vec<mpsc::Receiver<Data>>,
    pub control: mpsc::Receiver<Frame>,
}

#[derive(Debug)]
pub struct Outbox {
    lanes: Vec<Lane>,
    control: mpsc::Sender<Frame>,
    budget: Arc<Semaphore>,
    pace: Mutex<Pace>,
}

/// How fast data go through.
#[derive(Debug)]
struct Pace {
    since: Instant,
    bytes: u64,
    bytes_per_s: f64,
}

#[derive(Debug)]
struct Lane {
    data: mpsc::Sender<Data>,
    sent: AtomicU64,
}

/// The session is over.
#[derive(Debug)]
pub struct Closed;

impl Outbox {
    pub fn new(lanes: u16) -> (Self, Queues) {
        let (senders, receivers) = (0..lanes.max(1))
            .map(|_| {
                let (data, queue) = mpsc::channel(FRAMES_WAITING);
                let sent = AtomicU64::new(0);
                (Lane { data, sent }, queue)
            })
            .unzip();
        let (control, controls) = mpsc::channel(CONTROLS_WAITING);
        let outbox = Self {
            lanes: senders,
            control,
            budget: Arc::new(Semaphore::new(BUDGET_BYTES as usize)),
            pace: Mutex::new(Pace {
                since: Instant::now(),
                bytes: 0,
                bytes_per_s: 0.0,
            }),
        };
        let queues = Queues {
            lanes: receivers,
            control: controls,
        };
        (outbox, queues)
    }

    /// Puts an extent or a run of zeros of `bytes` bytes of disk into its lane, when there is room. Waits on the
    /// present thread, which must not be one of the runtime's own.
    pub fn send(&self, frame: Frame, progress: &Arc<Progress>, bytes: u64) -> Result<(), Closed> {
        let cost = u32::try_from(frame.payload.len()).unwrap_or(BUDGET_BYTES);
        let cost = cost.clamp(FRAME_COST_MIN, BUDGET_BYTES);
        let share = match Arc::clone(&self.budget).try_acquire_many_owned(cost) {
            Ok(share) => share,
            Err(_) => Handle::current()
                .block_on(Arc::clone(&self.budget).acquire_many_owned(cost))
                .map_err(|_closed| Closed)?,
        };
        self.pace().note(u64::from(cost), Instant::now());
        let lane = &self.lanes[usize::from(lane_of(frame.at, self.lane_count()))];
        let data = Data {
            frame,
            progress: Arc::clone(progress),
            bytes,
            _share: share,
        };
        lane.data.try_send(data).map_err(|_closed| Closed)?;
        lane.sent.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Puts a control message before all data that wait. For ever, if the session is over: whoever ends it says so
    /// elsewhere.
    pub async fn post(&self, message: &AgentMessage) {
        if self.control.send(control(message)).await.is_err() {
            super::link::until_the_session_ends::<()>().await;
        }
    }

    /// What was sent on each lane up to now.
    pub fn sent_before(&self) -> SentBefore {
        SentBefore(self.lanes.iter().map(|lane| lane.sent.load(Relaxed)).collect())
    }

    /// Whether data queue, and go through slowly enough for compression to pay.
    pub fn is_slow(&self) -> bool {
        let queue_is_long = self.budget.available_permits() < BUDGET_BYTES as usize / 2;
        queue_is_long && self.pace().bytes_per_s < COMPRESSION_PAYS_BELOW
    }

    fn pace(&self) -> std::sync::MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is sent any more; threads that wait are let go.
    pub fn close(&self) {
        self.budget.close();
    }

    fn lane_count(&self) -> u16 {
        u16::try_from(self.lanes.len()).unwrap_or(u16::MAX)
    }
}

impl Pace {
    fn note(&mut self, bytes: u64, now: Instant) {
        self.bytes += bytes;
        let passed = now.saturating_duration_since(self.since);
        if passed >= PACE_TIME {
            // Far from the precision of a float.
            #[allow(clippy::cast_precision_loss)]
            let bytes = std::mem::take(&mut self.bytes) as f64;
            self.bytes_per_s = bytes / passed.as_secs_f64();
            self.since = now;
        }
    }
}

/// Cuts a run of zeros where one lane's part of the disk ends and the next one's begins.
pub fn by_lane(zeros: std::ops::Range<u64>) -> impl Iterator<Item = std::ops::Range<u64>> {
    let end = zeros.end;
    let next_span = move |at: u64| (at / LANE_SPAN + 1) * LANE_SPAN;
    std::iter::successors((!zeros.is_empty()).then_some(zeros.start), move |at| {
        Some(next_span(*at)).filter(|next| *next < end)
    })
    .map(move |at| at..end.min(next_span(at)))
}

#[cfg(test)]
mod tests {
    use domain::disk::Disk;
    use protocol::frame;

    use super::*;

    fn progress() -> Arc<Progress> {
        Arc::new(Progress::new(
            Disk {
                id: "serial-1".parse().unwrap(),
                device_name: "/dev/sda".into(),
                bytes: 1 << 30,
                is_boot: true,
            },
            false,
        ))
    }

    #[test]
    fn what_concerns_one_place_goes_by_one_lane_and_is_counted() {
        let (outbox, mut queues) = Outbox::new(2);
        let progress = progress();
        for at in [0, LANE_SPAN - 1, LANE_SPAN, 2 * LANE_SPAN, LANE_SPAN] {
            outbox.send(frame::zeros(0, at, 1), &progress, 1).unwrap();
        }
        assert_eq!(outbox.sent_before(), SentBefore(vec![3, 2]));
        let arrived: Vec<_> = queues
            .lanes
            .iter_mut()
            .map(|lane| std::iter::from_fn(|| Some(lane.try_recv().ok()?.frame.at)).collect::<Vec<_>>())
            .collect();
        assert_eq!(
            arrived,
            [vec![0, LANE_SPAN - 1, 2 * LANE_SPAN], vec![LANE_SPAN, LANE_SPAN]]
        );
    }

    #[test]
    fn a_pace_is_that_of_the_last_moments() {
        let began = Instant::now();
        let mut pace = Pace {
            since: began,
            bytes: 0,
            bytes_per_s: 0.0,
        };
        for (ms, bytes, bytes_per_s) in [(50, 10, 0.0), (100, 10, 200.0), (150, 7, 200.0), (300, 13, 100.0)] {
            pace.note(bytes, began + Duration::from_millis(ms));
            assert!((pace.bytes_per_s - bytes_per_s).abs() < 1e-9, "{ms}: {pace:?}");
        }
    }

    #[test]
    fn a_long_run_of_zeros_is_cut_for_its_lanes() {
        let cut: Vec<_> = by_lane(LANE_SPAN - 5..2 * LANE_SPAN + 7).collect();
        assert_eq!(
            cut,
            [
                LANE_SPAN - 5..LANE_SPAN,
                LANE_SPAN..2 * LANE_SPAN,
                2 * LANE_SPAN..2 * LANE_SPAN + 7
            ]
        );
        assert_eq!(by_lane(5..5).count(), 0);
        assert_eq!(by_lane(0..LANE_SPAN).count(), 1);
    }

    #[tokio::test]
    async fn memory_is_bounded_and_an_end_lets_go_of_who_waits() {
        let (outbox, queues) = Outbox::new(1);
        let outbox = Arc::new(outbox);
        let sending = outbox.clone();
        let sender = tokio::task::spawn_blocking(move || {
            let progress = progress();
            (0..=FRAMES_WAITING).find(|_| sending.send(frame::zeros(0, 0, 1), &progress, 1).is_err())
        });
        while outbox.sent_before().0[0] < FRAMES_WAITING as u64 {
            tokio::task::yield_now().await;
        }
        assert!(outbox.is_slow());
        outbox.close();
        assert_eq!(sender.await.unwrap(), Some(FRAMES_WAITING));
        drop(queues);
    }
}
