//! What worker and spawner say to each other: prost messages behind a 4-byte length, with descriptors beside them.
//!
//! Descriptors travel in the order of the frames that own them: a `Spawn` with `has_stdin` owns one (standard input),
//! a `Started` owns two (the reading ends of standard output and error). Both sides trust each other: they are the
//! same executable.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use prost::Message;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use crate::cgroup;

/// Descriptors per system call; the kernel takes 253.
const FDS: usize = 128;
/// Bytes per read; a frame may be longer.
const READ: usize = 64 * 1024;

/// Worker to spawner.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Request {
    #[prost(oneof = "Order", tags = "1, 2, 3, 4, 5")]
    pub order: Option<Order>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Order {
    /// Comes first.
    #[prost(message, tag = "1")]
    Setup(Setup),
    #[prost(message, tag = "2")]
    Spawn(Spawn),
    #[prost(message, tag = "3")]
    Kill(Kill),
    /// The worker ends as it should: no burial.
    #[prost(message, tag = "4")]
    Farewell(Farewell),
    #[prost(message, tag = "5")]
    Lease(Lease),
}

/// Whom to tell when the worker dies.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Setup {
    #[prost(uint64, tag = "1")]
    pub incarnation: u64,
    #[prost(string, tag = "2")]
    pub addr: String,
    #[prost(string, tag = "3")]
    pub token: String,
    #[prost(string, tag = "4")]
    pub worker: String,
    /// The soft limit of open files that tasks get; 0 leaves it.
    #[prost(uint64, tag = "5")]
    pub open_files: u64,
    /// The coordinator dies with the worker: no burial.
    #[prost(bool, tag = "6")]
    pub nobody_to_tell: bool,
    /// From which address to tell it; empty: whichever leads there.
    #[prost(string, tag = "7")]
    pub source_address: String,
    /// Where attempts with limits have their groups.
    #[prost(message, optional, tag = "8")]
    pub places: Option<Places>,
}

/// [`crate::cgroup::Places`], for the wire.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Places {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub memory: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub cpu: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub processes: Option<Vec<u8>>,
    #[prost(bool, tag = "4")]
    pub unified: bool,
}

impl From<&cgroup::Places> for Places {
    fn from(places: &cgroup::Places) -> Places {
        let bytes = |place: &Option<PathBuf>| Some(place.as_ref()?.as_os_str().as_bytes().to_vec());
        let cgroup::Places { memory, cpu, processes, unified } = places;
        Places { memory: bytes(memory), cpu: bytes(cpu), processes: bytes(processes), unified: *unified }
    }
}

impl From<Places> for cgroup::Places {
    fn from(places: Places) -> cgroup::Places {
        let path = |place: Option<Vec<u8>>| Some(PathBuf::from(OsString::from_vec(place?)));
        let Places { memory, cpu, processes, unified } = places;
        cgroup::Places { memory: path(memory), cpu: path(cpu), processes: path(processes), unified }
    }
}

/// [`crate::cgroup::Limits`], for the wire.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Limits {
    #[prost(uint64, optional, tag = "1")]
    pub memory_bytes: Option<u64>,
    #[prost(uint32, optional, tag = "2")]
    pub cpu_milli: Option<u32>,
    #[prost(uint32, optional, tag = "3")]
    pub processes: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Spawn {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub argv: Vec<Vec<u8>>,
    /// `NAME=value`
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub env: Vec<Vec<u8>>,
    /// Empty: the worker's own.
    #[prost(bytes = "vec", tag = "4")]
    pub cwd: Vec<u8>,
    #[prost(sint32, tag = "5")]
    pub nice: i32,
    #[prost(bool, tag = "6")]
    pub has_stdin: bool,
    /// None: it has no groups.
    #[prost(message, optional, tag = "7")]
    pub limits: Option<Limits>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Kill {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(sint32, tag = "2")]
    pub signal: i32,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Farewell {}

/// Nothing may run any more from this moment on, unless another `Lease` comes before. Without any, there is no end.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Lease {
    /// By [`crate::clock::since_boot`], in milliseconds.
    #[prost(uint64, tag = "1")]
    pub until_ms: u64,
}

/// Spawner to worker.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Reply {
    #[prost(oneof = "News", tags = "1, 2, 3")]
    pub news: Option<News>,
}

#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub(crate) enum News {
    #[prost(message, tag = "1")]
    Started(Started),
    #[prost(message, tag = "2")]
    Failed(Failed),
    #[prost(message, tag = "3")]
    Exited(Exited),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Started {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(uint64, tag = "2")]
    pub unix_ms: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Failed {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(enumeration = "Stage", tag = "2")]
    pub stage: i32,
    #[prost(sint32, tag = "3")]
    pub errno: i32,
}

/// [`crate::sys::Stage`], for the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
pub(crate) enum Stage {
    Fork = 0,
    Setup = 1,
    Cwd = 2,
    Exec = 3,
    Group = 4,
}

/// The program and all that it left behind are gone.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Exited {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// As of `wait(2)`.
    #[prost(sint32, tag = "2")]
    pub status: i32,
    /// Since just before the process was made.
    #[prost(uint64, tag = "3")]
    pub wall_us: u64,
    #[prost(uint64, tag = "4")]
    pub user_us: u64,
    #[prost(uint64, tag = "5")]
    pub system_us: u64,
    #[prost(uint64, tag = "6")]
    pub peak_rss_bytes: u64,
    /// A `Kill` reached the program before it ended.
    #[prost(bool, tag = "7")]
    pub was_killed: bool,
    /// It was killed because the lease was over.
    #[prost(bool, tag = "8")]
    pub fenced: bool,
    /// See [`crate::cgroup::Verdict`].
    #[prost(bool, tag = "9")]
    pub out_of_memory: bool,
    #[prost(bool, tag = "10")]
    pub out_of_processes: bool,
}

/// Frames and descriptors on their way out.
#[derive(Default)]
pub(crate) struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    /// Each descriptor with the offset in `bytes` of the frame that owns it.
    fds: VecDeque<OwnedFd>,
}

impl Outgoing {
    pub(crate) fn push(&mut self, message: &impl Message, fds: impl IntoIterator<Item = OwnedFd>) {
        let length = u32::try_from(message.encoded_len()).expect("a frame is far below 4 GiB");
        self.bytes.extend_from_slice(&length.to_le_bytes());
        message.encode(&mut self.bytes).expect("a vector grows");
        self.fds.extend(fds);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    /// Sends what the socket takes. `WouldBlock` when it is full.
    ///
    /// Descriptors go with the earliest bytes possible, hence never after the frame that owns them.
    pub(crate) fn send(&mut self, socket: impl AsFd) -> io::Result<()> {
        while !self.is_empty() {
            let (now, _) = self.fds.as_slices();
            let now: Vec<BorrowedFd<'_>> = now.iter().take(FDS).map(AsFd::as_fd).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            // Bytes that fall behind descriptors yet unsent go one at a time, until all descriptors are out.
            let more = self.fds.len() > now.len();
            let end = if more { self.sent + 1 } else { self.bytes.len() };
            if !now.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(&now));
            }
            let bytes = IoSlice::new(&self.bytes[self.sent..end]);
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            self.sent += sendmsg(socket.as_fd(), &[bytes], &mut control, flags)?;
            let count = now.len();
            self.fds.drain(..count);
        }
        self.bytes.clear();
        self.sent = 0;
        Ok(())
    }
}

/// Frames and descriptors that came in.
#[derive(Default)]
pub(crate) struct Incoming {
    bytes: Vec<u8>,
    taken: usize,
    fds: VecDeque<OwnedFd>,
}

impl Incoming {
    /// Reads what the socket has, once. 0: the other side is gone. `WouldBlock` when there is nothing.
    pub(crate) fn receive(&mut self, socket: impl AsFd) -> io::Result<usize> {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        let end = self.bytes.len();
        self.bytes.resize(end + READ, 0);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut self.bytes[end..])];
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(socket.as_fd(), &mut into, &mut control, flags);
        let count = received.as_ref().map_or(0, |r| r.bytes);
        self.bytes.truncate(end + count);
        received?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        Ok(count)
    }

    /// The next whole frame. An error means that the other side speaks something else.
    pub(crate) fn frame<M: Message + Default>(&mut self) -> io::Result<Option<M>> {
        let rest = &self.bytes[self.taken..];
        let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message = M::decode(body).map_err(io::Error::other)?;
        self.taken += 4 + length;
        Ok(Some(message))
    }

    /// The next descriptor.
    pub(crate) fn fd(&mut self) -> io::Result<OwnedFd> {
        self.fds.pop_front().ok_or_else(|| io::Error::other("a descriptor is missing"))
    }
}
