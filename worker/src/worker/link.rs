//! The session as the worker's loop sees it: who was told what, and when.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Interval;

use crate::clock;
use crate::outbox::Seq;
use crate::session::Outgoing;

/// A session with the coordinator that is open.
pub(super) struct Link {
    pub(super) outgoing: Outgoing,
    /// None before Welcome.
    pub(super) heartbeat: Option<Interval>,
    /// When each message went that has not been answered, by the clock since boot: the lease begins anew when one
    /// arrives, hence not before it went.
    unanswered: VecDeque<(Seq, Duration)>,
}

impl Link {
    pub(super) fn new(outgoing: Outgoing) -> Link {
        Link { outgoing, heartbeat: None, unanswered: VecDeque::new() }
    }

    /// Call it before each message.
    pub(super) fn sending(&mut self) {
        self.unanswered.push_back((self.outgoing.next_seq(), clock::since_boot()));
    }

    /// When the last message went that has arrived for sure.
    pub(super) fn answered(&mut self, seq: Seq) -> Option<Duration> {
        let mut last = None;
        while self.unanswered.front().is_some_and(|(sent, _)| *sent <= seq) {
            last = self.unanswered.pop_front().map(|(_, at)| at);
        }
        last
    }
}
