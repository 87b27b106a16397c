//! The stored records, formats 1, 2 (calls) and 3 (pressed: the same bytes, fewer of them). Fields are only ever added; a number
//! is never used again.

use std::collections::BTreeMap;

use bytes::Bytes;

/// One entry's body.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::store) struct Record {
    #[prost(oneof = "Body", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11")]
    pub(in crate::store) body: Option<Body>,
}

/// The kinds of entry.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(in crate::store) enum Body {
    #[prost(message, tag = "1")]
    Submitted(Submitted),
    #[prost(message, tag = "2")]
    Ends(Ends),
    #[prost(message, tag = "3")]
    Attempt(Attempt),
    #[prost(message, tag = "4")]
    Job(Job),
    #[prost(message, tag = "5")]
    JobEnded(JobEnded),
    #[prost(uint64, tag = "6")]
    JobGone(u64),
    #[prost(message, tag = "7")]
    Output(Output),
    #[prost(message, tag = "8")]
    Queue(Queue),
    #[prost(message, tag = "9")]
    WorkerSeen(WorkerSeen),
    #[prost(fixed64, tag = "10")]
    WorkerGone(u64),
    #[prost(uint64, tag = "11")]
    Epoch(u64),
}

impl Body {
    /// The job that it speaks of; `None` if it is no job's.
    pub(in crate::store) fn job(&self) -> Option<u64> {
        match self {
            Body::Submitted(submitted) => Some(submitted.id),
            Body::Ends(ends) => Some(ends.job),
            Body::Attempt(attempt) => Some(attempt.job),
            Body::Job(switches) => Some(switches.job),
            Body::JobEnded(ended) => Some(ended.job),
            Body::JobGone(job) => Some(*job),
            Body::Output(output) => Some(output.job),
            Body::Queue(_) | Body::WorkerSeen(_) | Body::WorkerGone(_) | Body::Epoch(_) => None,
        }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::store) struct Submitted {
    #[prost(uint64, tag = "1")]
    pub(in crate::store) id: u64,
    /// An encoded [`Policy`]: as bytes, because most jobs share one and it is decoded once.
    #[prost(bytes = "bytes", tag = "2")]
    pub(in crate::store) policy: Bytes,
    #[prost(uint32, tag = "3")]
    pub(in crate::store) total: u32,
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(in crate::store) only: Option<Bytes>,
    #[prost(string, optional, tag = "5")]
    pub(in crate::store) key: Option<String>,
    #[prost(bytes = "bytes", tag = "6")]
    pub(in crate::store) digest: Bytes,
    /// 16 bytes, or empty.
    #[prost(bytes = "bytes", tag = "7")]
    pub(in crate::store) repeat: Bytes,
    #[prost(uint32, tag = "8")]
    pub(in crate::store) place: u32,
    #[prost(uint32, tag = "9")]
    pub(in crate::store) places: u32,
    #[prost(uint64, optional, tag = "10")]
    pub(in crate::store) rerun_of: Option<u64>,
    #[prost(uint64, tag = "11")]
    pub(in crate::store) wall: u64,
    #[prost(bytes = "bytes", tag = "12")]
    pub(in crate::store) spec: Bytes,
    /// The policy's `keep`, here so that the index need not decode the policy.
    #[prost(uint64, optional, tag = "13")]
    pub(in crate::store) keep: Option<u64>,
    /// It calls a function: such a record has format 2, so that a version that knows only commands refuses it.
    #[prost(bool, tag = "14")]
    pub(in crate::store) call: bool,
    /// It has limits: such a record has format 4, so that a version that would not keep them refuses it.
    #[prost(bool, tag = "15")]
    pub(in crate::store) limited: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::store) struct Policy {
    #[prost(string, tag = "1")]
    pub(in crate::store) queue: String,
    #[prost(sint32, tag = "2")]
    pub(in crate::store) priority: i32,
    #[prost(uint32, tag = "3")]
    pub(in crate::store) slots: u32,
    #[prost(btree_map = "string, uint64", tag = "4")]
    pub(in crate::store) named: BTreeMap<String, u64>,
    #[prost(btree_map = "string, string", tag = "5")]
    pub(in crate::store) labels: BTreeMap<String, String>,
    #[prost(uint32, tag = "6")]
    pub(in crate::store) max_attempts: u32,
    #[prost(uint64, tag = "7")]
    pub(in crate::store) initial: u64,
    #[prost(uint32, tag = "8")]
    pub(in crate::store) multiplier_milli: u32,
    #[prost(uint64, tag = "9")]
    pub(in crate::store) max: u64,
    #[prost(sint32, repeated, tag = "10")]
    pub(in crate::store) exit_codes: Vec<i32>,
    #[prost(uint64, optional, tag = "11")]
    pub(in crate::store) timeout: Option<u64>,
    #[prost(uint64, tag = "12")]
    pub(in crate::store) kill_grace: u64,
    #[prost(uint32, tag = "13")]
    pub(in crate::store) crash_limit: u32,
    #[prost(uint32, optional, tag = "14")]
    pub(in crate::store) max_parallel: Option<u32>,
    #[prost(uint32, optional, tag = "15")]
    pub(in crate::store) max_fails: Option<u32>,
    #[prost(uint64, optional, tag = "16")]
    pub(in crate::store) keep: Option<u64>,
    #[prost(string, optional, tag = "17")]
    pub(in crate::store) function: Option<String>,
    #[prost(bool, tag = "18")]
    pub(in crate::store) limits_memory: bool,
    #[prost(bool, tag = "19")]
    pub(in crate::store) limits_cpu: bool,
    #[prost(bool, tag = "20")]
    pub(in crate::store) limits_processes: bool,
}

/// Ends of tasks of one job with ranks that follow each other.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::store) struct Ends {
    #[prost(uint64, tag = "1")]
    pub(in crate::store) job: u64,
    /// The rank of the first.
    #[prost(uint64, tag = "2")]
    pub(in crate::store) rank: u64,
    /// The time from which the items' differences start.
    #[prost(uint64, tag = "3")]
    pub(in crate::store) wall: u64,
    /// Names that the items refer to; empty = nobody.
    #[prost(string, repeated, tag = "4")]
    pub(in crate::store) workers: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    pub(in crate::store) items: Vec<EndItem>,
}

/// One `Ended` fact. The usual value of each field is its default, which takes no bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::store) struct EndItem {
    /// Index minus (the previous item's last index + 1).
    #[prost(sint64, tag = "1")]
    pub(in crate::store) skip: i64,
    /// More than one index: a serialised bitmap; `skip` is 0 then.
    #[prost(bytes = "bytes", tag = "2")]
    pub(in crate::store) set: Bytes,
    #[prost(uint32, tag = "3")]
    pub(in crate::store) end: u32,
    /// Attempt minus 1.
    #[prost(sint64, tag = "4")]
    pub(in crate::store) attempt: i64,
    #[prost(bytes = "bytes", tag = "5")]
    pub(in crate::store) detail: Bytes,
    /// Place in `workers`.
    #[prost(uint32, tag = "6")]
    pub(in crate::store) worker: u32,
    /// Time minus the previous item's.
    #[prost(sint64, tag = "7")]
    pub(in crate::store) wall: i64,
    /// The blob that the detail refers to: 32 bytes, or empty.
    #[prost(bytes = "bytes", tag = "8")]
    pub(in crate::store) blob: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::store) struct Attempt {
    #[prost(uint64, tag = "1")]
    pub(in crate::store) job: u64,
    #[prost(uint32, tag = "2")]
    pub(in crate::store) index: u32,
    #[prost(uint32, tag = "3")]
    pub(in crate::store) attempt: u32,
    #[prost(uint32, tag = "4")]
    pub(in crate::store) failures: u32,
    #[prost(uint32, tag = "5")]
    pub(in crate::store) losses: u32,
    #[prost(uint64, tag = "6")]
    pub(in crate::store) delay: u64,
    #[prost(bytes = "bytes", tag = "7")]
    pub(in crate::store) detail: Bytes,
    #[prost(string, tag = "8")]
    pub(in crate::store) worker: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::store) struct Job {
    #[prost(uint64, tag = "1")]
    pub(in crate::store) job: u64,
    #[prost(uint64, tag = "2")]
    pub(in crate::store) revision: u64,
    #[prost(bool, tag = "3")]
    pub(in crate::store) paused: bool,
    /// A serialised bitmap; empty = none.
    #[prost(bytes = "bytes", tag = "4")]
    pub(in crate::store) cancelling: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::store) struct JobEnded {
    #[prost(uint64, tag = "1")]
    pub(in crate::store) job: u64,
    #[prost(uint32, tag = "2")]
    pub(in crate::store) succeeded: u32,
    #[prost(uint32, tag = "3")]
    pub(in crate::store) failed: u32,
    #[prost(uint32, tag = "4")]
    pub(in crate::store) cancelled: u32,
    #[prost(uint32, tag = "5")]
    pub(in crate::store) skipped: u32,
    #[prost(uint64, optional, tag = "6")]
    pub(in crate::store) started: Option<u64>,
    #[prost(uint64, tag = "7")]
    pub(in crate::store) wall: u64,
    #[prost(uint32, tag = "8")]
    pub(in crate::store) queued: u32,
    #[prost(uint32, tag = "9")]
    pub(in crate::store) running: u32,
    #[prost(uint32, tag = "10")]
    pub(in crate::store) backoff: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::store) struct Output {
    #[prost(uint64, tag = "1")]
    pub(in crate::store) job: u64,
    #[prost(uint32, tag = "2")]
    pub(in crate::store) index: u32,
    #[prost(uint32, tag = "3")]
    pub(in crate::store) attempt: u32,
    #[prost(bool, tag = "4")]
    pub(in crate::store) stderr: bool,
    #[prost(uint64, tag = "5")]
    pub(in crate::store) offset: u64,
    #[prost(bytes = "bytes", tag = "6")]
    pub(in crate::store) data: Bytes,
    #[prost(string, tag = "7")]
    pub(in crate::store) worker: String,
    /// The piece's number in its job, from 0; cursors are made of it.
    #[prost(uint64, tag = "8")]
    pub(in crate::store) number: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::store) struct Queue {
    #[prost(string, tag = "1")]
    pub(in crate::store) name: String,
    #[prost(uint64, tag = "2")]
    pub(in crate::store) revision: u64,
    #[prost(bool, tag = "3")]
    pub(in crate::store) paused: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::store) struct WorkerSeen {
    #[prost(fixed64, tag = "1")]
    pub(in crate::store) worker: u64,
    #[prost(string, tag = "2")]
    pub(in crate::store) name: String,
}
