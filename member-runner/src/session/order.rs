//! The order of what comes over the lanes of a session. Decides only.
//!
//! Data are taken up as they come. A message about data is kept back until all that was sent before it,
//! on whatever lane, was taken up; messages keep their own order. Nothing that comes over a lane ever
//! waits for another lane, so that the lanes cannot hold each other up.

use std::collections::VecDeque;

use domain::checkpoint::CheckpointKind;
use protocol::session::{AgentMessage, LANE_SPAN, LANES_MAX, SentBefore, lane_of};

/// Messages that may wait for data. Agents ask for a few ranges of digests at a time.
const WAITING_MAX: usize = 256;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OutOfOrder {
    #[error("data at {at} came by lane {lane} of {lanes}")]
    WrongLane { at: u64, lane: u16, lanes: u16 },
    #[error("lane {0} joined after the first data, or out of turn")]
    LateLane(u16),
    #[error("{name} names {lanes} lanes")]
    TooManyLanes { name: &'static str, lanes: usize },
    #[error("more than {WAITING_MAX} messages wait for data")]
    TooManyWaiting,
    #[error("data came after a checkpoint was offered and before it was answered")]
    Overtaken,
}

#[derive(Debug)]
pub struct Order {
    lanes: u16,
    /// Frames of data that were taken up, by lane.
    taken: [u64; LANES_MAX as usize],
    waiting: VecDeque<AgentMessage>,
}

impl Order {
    pub fn new() -> Self {
        Self {
            lanes: 1,
            taken: [0; LANES_MAX as usize],
            waiting: VecDeque::new(),
        }
    }

    pub fn lanes(&self) -> u16 {
        self.lanes
    }

    /// A further lane. What travels by which follows from their number, which the first data settle.
    pub fn join(&mut self, lane: u16) -> Result<(), OutOfOrder> {
        if lane >= LANES_MAX || self.taken.iter().any(|taken| *taken > 0) {
            return Err(OutOfOrder::LateLane(lane));
        }
        self.lanes = self.lanes.max(lane + 1);
        Ok(())
    }

    /// A frame of data for `len` bytes at `at` is taken up.
    pub fn data(&mut self, lane: u16, at: u64, len: u64) -> Result<(), OutOfOrder> {
        let last = at.saturating_add(len.max(1) - 1);
        let strays = lane_of(at, self.lanes) != lane || at / LANE_SPAN != last / LANE_SPAN;
        if self.lanes > 1 && strays || lane >= self.lanes {
            let lanes = self.lanes;
            return Err(OutOfOrder::WrongLane { at, lane, lanes });
        }
        self.taken[usize::from(lane)] += 1;
        Ok(())
    }

    /// Puts a message into its place; [`Order::next`] gives it back when it is due.
    pub fn message(&mut self, message: AgentMessage) -> Result<(), OutOfOrder> {
        if let Some(SentBefore(after)) = sent_before(&message)
            && after.len() > usize::from(LANES_MAX)
        {
            let (name, lanes) = (message.name(), after.len());
            return Err(OutOfOrder::TooManyLanes { name, lanes });
        }
        if self.waiting.len() == WAITING_MAX {
            return Err(OutOfOrder::TooManyWaiting);
        }
        self.waiting.push_back(message);
        Ok(())
    }

    /// The oldest message, once all that was sent before it was taken up.
    pub fn next(&mut self) -> Result<Option<AgentMessage>, OutOfOrder> {
        let Some(oldest) = self.waiting.front() else {
            return Ok(None);
        };
        let after = sent_before(oldest).map_or(&[][..], |after| &after.0);
        let mut lanes = after.iter().zip(&self.taken);
        if lanes.clone().any(|(sent, taken)| taken < sent) {
            return Ok(None);
        }
        // What was sent after the offer is not of its instant. A partial checkpoint has none.
        let launchable =
            matches!(oldest, AgentMessage::Checkpoint(offer) if offer.kind == CheckpointKind::Launchable);
        if launchable && lanes.any(|(sent, taken)| taken > sent) {
            return Err(OutOfOrder::Overtaken);
        }
        Ok(self.waiting.pop_front())
    }
}

fn sent_before(message: &AgentMessage) -> Option<&SentBefore> {
    match message {
        AgentMessage::DigestsWanted { after, .. } => Some(after),
        AgentMessage::Checkpoint(offer) => Some(&offer.after),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use domain::checkpoint::Consistency;
    use proptest::prelude::*;
    use protocol::session::CheckpointOffer;

    use super::*;

    fn with_lanes(lanes: u16) -> Order {
        let mut order = Order::new();
        (1..lanes).for_each(|lane| order.join(lane).unwrap());
        order
    }

    fn digests(first_block: u64, after: &[u64]) -> AgentMessage {
        AgentMessage::DigestsWanted {
            disk: 0,
            first_block,
            count: 1,
            after: SentBefore(after.to_vec()),
        }
    }

    fn offer(kind: CheckpointKind, after: &[u64]) -> AgentMessage {
        AgentMessage::Checkpoint(CheckpointOffer {
            kind,
            consistency: Consistency::Crash,
            taken_at_ms: 0,
            request: 0,
            frozen_ms: 0,
            after: SentBefore(after.to_vec()),
        })
    }

    #[derive(Debug, Clone)]
    enum Sent {
        /// In this span of the disk.
        Data(u64),
        Message,
    }

    proptest! {
        /// Whatever the network makes of the lanes, a message is due exactly when all that was sent
        /// before it is there, and messages stay in order.
        #[test]
        fn messages_wait_for_what_was_sent_before_them(
            lanes in 1..=LANES_MAX,
            sent in prop::collection::vec(
                prop_oneof![3 => (0..40_u64).prop_map(Sent::Data), 1 => Just(Sent::Message)], 0..80),
            choices in prop::collection::vec(any::<prop::sample::Index>(), 200),
        ) {
            // Each lane is a queue of what was sent on it; lane 0 has the messages, too.
            let mut queues = vec![VecDeque::new(); usize::from(lanes)];
            let mut counts = vec![0; usize::from(lanes)];
            let mut befores = Vec::new();
            for one in &sent {
                match one {
                    Sent::Data(span) => {
                        let lane = usize::from(lane_of(span * LANE_SPAN, lanes));
                        counts[lane] += 1;
                        queues[lane].push_back(Ok(span * LANE_SPAN));
                    }
                    Sent::Message => {
                        queues[0].push_back(Err(digests(befores.len() as u64, &counts)));
                        befores.push(counts.clone());
                    }
                }
            }
            let mut order = with_lanes(lanes);
            let mut taken = vec![0_u64; usize::from(lanes)];
            let (mut answered, mut choices) = (0, choices.iter().cycle());
            let mut heard = 0;
            while queues.iter().any(|queue| !queue.is_empty()) {
                let full: Vec<_> = (0..queues.len()).filter(|lane| !queues[*lane].is_empty()).collect();
                let lane = *choices.next().unwrap().get(&full);
                match queues[lane].pop_front().unwrap() {
                    Ok(at) => {
                        order.data(u16::try_from(lane).unwrap(), at, 4096).unwrap();
                        taken[lane] += 1;
                    }
                    Err(message) => {
                        order.message(message).unwrap();
                        heard += 1;
                    }
                }
                while let Some(due) = order.next().unwrap() {
                    prop_assert_eq!(due, digests(answered as u64, &befores[answered]));
                    answered += 1;
                }
                let due = |before: &Vec<u64>| before.iter().zip(&taken).all(|(sent, taken)| sent <= taken);
                prop_assert!(answered == heard || !due(&befores[answered]));
            }
            prop_assert_eq!(answered, befores.len());
        }
    }

    #[test]
    fn what_concerns_a_place_comes_by_its_lane() {
        let mut order = with_lanes(4);
        assert_eq!(order.data(1, LANE_SPAN, LANE_SPAN), Ok(()));
        let strays = [
            (0, LANE_SPAN, 1),
            (1, LANE_SPAN, LANE_SPAN + 1),
            (1, u64::MAX, u64::MAX),
        ];
        for (lane, at, len) in strays {
            let lanes = 4;
            assert_eq!(
                order.data(lane, at, len),
                Err(OutOfOrder::WrongLane { at, lane, lanes })
            );
        }
        // Alone, a lane takes everything.
        assert_eq!(with_lanes(1).data(0, 0, u64::MAX), Ok(()));
        assert_eq!(order.join(5), Err(OutOfOrder::LateLane(5)));
    }

    #[test]
    fn what_was_sent_after_a_launchable_offer_is_not_of_its_instant() {
        let mut order = with_lanes(2);
        order.data(1, LANE_SPAN, 1).unwrap();
        order.message(offer(CheckpointKind::Launchable, &[0, 0])).unwrap();
        assert_eq!(order.next(), Err(OutOfOrder::Overtaken));
        let mut order = with_lanes(2);
        order.data(1, LANE_SPAN, 1).unwrap();
        order.message(offer(CheckpointKind::Partial, &[0, 0])).unwrap();
        assert!(order.next().unwrap().is_some());
        // Older agents have one lane, and do not count.
        order.message(offer(CheckpointKind::Launchable, &[])).unwrap();
        assert!(order.next().unwrap().is_some());
    }

    #[test]
    fn a_list_without_end_is_refused() {
        let mut order = Order::new();
        assert!(order.message(digests(0, &[0; 9])).is_err());
        for n in 0..WAITING_MAX {
            order.message(digests(n as u64, &[1])).unwrap();
        }
        assert_eq!(order.message(digests(0, &[1])), Err(OutOfOrder::TooManyWaiting));
    }
}
