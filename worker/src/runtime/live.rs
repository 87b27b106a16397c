//! What a call says while it runs in this process: that it has started, what it prints, how far it is. The newest
//! progress and pieces of output are passed on every now and then (`flusher.rs`); the rest of the output rides with the
//! end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::flusher::Flush;
use super::pipe::room_for;
use super::{News, Shared};
use crate::attempt::{ByteCount, Key, Rest, Stream};
use crate::clock;
use crate::outbox::{Event, Progress, Report};
use crate::output::{CHUNK, Capture};

/// Output of one stream that waits for room. Who prints more waits too.
const PENDING: usize = 1024 * 1024;
/// Between two looks whether there is room.
const LOOK: Duration = Duration::from_millis(20);

/// The mouth of one call.
pub(crate) struct Live {
    key: Key,
    pub(super) started_unix_ms: u64,
    shared: Arc<Shared>,
    said: Mutex<Said>,
}

struct Said {
    stdout: Capture,
    stderr: Capture,
    progress: Option<Progress>,
    /// Whether the start was told.
    start_is_told: bool,
    /// Whether a flush is on its way.
    dirty: bool,
    /// The end is told: nobody listens any more.
    over: bool,
}

impl Live {
    /// Of a call that begins. Nothing is told of it yet.
    pub(super) fn new(shared: &Arc<Shared>, key: Key, limit: ByteCount) -> Arc<Live> {
        let said = Said {
            stdout: Capture::new(limit),
            stderr: Capture::new(limit),
            progress: None,
            start_is_told: false,
            dirty: false,
            over: false,
        };
        Arc::new(Live {
            key,
            started_unix_ms: clock::unix_ms(),
            shared: Arc::clone(shared),
            said: Mutex::new(said),
        })
    }

    /// If it is not over soon, that it has started is told then.
    pub(super) fn begun(self: &Arc<Live>) {
        self.soon(self.said());
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while there is no room for more, unless the call is `stopped`.
    pub(crate) fn write(self: &Arc<Live>, stream: Stream, data: &[u8], stopped: impl Fn() -> bool) {
        let mut said = self.said();
        while !said.over && said.capture(stream).pending() > PENDING {
            self.pass_on(&mut said, CHUNK);
            if said.capture(stream).pending() <= PENDING {
                break;
            }
            if stopped() {
                return;
            }
            drop(said);
            std::thread::sleep(LOOK);
            said = self.said();
        }
        if said.over {
            return;
        }
        said.capture(stream).push(data);
        if said.capture(stream).pending() >= CHUNK {
            self.pass_on(&mut said, CHUNK);
        }
        self.soon(said);
    }

    pub(crate) fn progress(self: &Arc<Live>, progress: Progress) {
        let mut said = self.said();
        if !said.over {
            said.progress = Some(progress);
            self.soon(said);
        }
    }

    fn soon(self: &Arc<Live>, mut said: MutexGuard<'_, Said>) {
        if !std::mem::replace(&mut said.dirty, true) {
            drop(said);
            self.shared.flusher.soon(Arc::clone(self) as _);
        }
    }

    /// Passes on what there is, as far as there is room.
    fn pass_on_all(self: &Arc<Live>) {
        let mut said = self.said();
        said.dirty = false;
        if said.over {
            return;
        }
        if let Some(progress) = said.progress.take() {
            self.report(&mut said, Event::Progress(progress));
        } else if !said.start_is_told {
            self.tell_start(&mut said);
        }
        self.pass_on(&mut said, 1);
        if said.stdout.pending() + said.stderr.pending() > 0 {
            self.soon(said);
        }
    }

    fn pass_on(&self, said: &mut Said, least: usize) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            while said.capture(stream).pending() >= least {
                let size =
                    u32::try_from(said.capture(stream).pending().min(CHUNK)).expect("a chunk is small");
                let Ok(room) = Arc::clone(&self.shared.room).try_acquire_many_owned(size) else { return };
                let chunk = said.capture(stream).chunk().expect("something is pending");
                self.report(said, Event::Output { stream, chunk, _room: Some(room) });
            }
        }
    }

    /// The start comes before everything else.
    fn tell_start(&self, said: &mut Said) {
        if !std::mem::replace(&mut said.start_is_told, true) {
            self.shared.report(self.key, Event::Started { unix_ms: self.started_unix_ms });
        }
    }

    fn report(&self, said: &mut Said, event: Event) {
        self.tell_start(said);
        self.shared.tell(News::Report(Report { key: self.key, event }));
    }

    /// Reports all that is left but for the last pieces, which ride with the end. Nothing is heard from now on.
    pub(super) fn finish(&self) -> (Rest, Rest) {
        let mut said = self.said();
        said.over = true;
        let [stdout, stderr] = [Stream::Stdout, Stream::Stderr].map(|stream| {
            let capture = std::mem::replace(said.capture(stream), Capture::new(ByteCount(0)));
            let (chunks, rest) = capture.finish();
            for chunk in chunks {
                let _room = room_for(&self.shared, &chunk);
                self.report(&mut said, Event::Output { stream, chunk, _room });
            }
            rest
        });
        (stdout, stderr)
    }
}

impl Flush for Live {
    fn flush(self: Arc<Self>) {
        self.pass_on_all();
    }
}

impl Said {
    fn capture(&mut self, stream: Stream) -> &mut Capture {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}
