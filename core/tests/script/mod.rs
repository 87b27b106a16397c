//! The language of the scenarios: a command becomes an event, an outcome becomes lines.

mod figures;

use std::{collections::BTreeMap, str::FromStr, sync::Arc};

use bytes::Bytes;
use roaring::RoaringBitmap;
use taskq_core::{
    Config, Restore, State,
    effect::{Effect, Outcome, Reply, WorkerView, Write},
    event::{
        Act, Event, LastOutput, Progress, Question, QueueAct, Report, ReportKind, Stream, Verdict,
        WorkerHello,
    },
    id::{
        Attempt, Epoch, JobId, Lease, Millis, Now, RequestId, SessionId, TaskId, Timestamp, WallTime,
        WorkerId,
    },
    job::{CRASH_LIMIT, Key, Limits, NewJob, Policy, Retry, Runtime, Shape},
};

pub(crate) struct Script {
    state: State,
    now: u64,
    epoch: u64,
    log: Vec<Write>,
    request: u64,
    seq: u64,
    sessions: u64,
    /// Session and process of each worker by name.
    workers: BTreeMap<String, (SessionId, WorkerId)>,
}

/// The `name=value` words of a command.
struct Words(BTreeMap<String, String>);

impl Words {
    fn get<T: FromStr>(&self, name: &str) -> Option<T> {
        self.0.get(name).map(|value| value.parse().ok().unwrap_or_else(|| panic!("bad {name}={value}")))
    }

    fn or<T: FromStr>(&self, name: &str, default: T) -> T {
        self.get(name).unwrap_or(default)
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

impl Script {
    pub(crate) fn new() -> Script {
        let mut script = Script {
            state: State::new(config(1)),
            now: 0,
            epoch: 1,
            log: Vec::new(),
            request: 0,
            seq: 0,
            sessions: 0,
            workers: BTreeMap::new(),
        };
        script.log.push(Write::Epoch(Epoch(1)));
        script
    }

    pub(crate) fn run(&mut self, line: &str) -> Vec<String> {
        let mut parts = line.split_whitespace();
        let verb = parts.next().unwrap_or("");
        let words = Words(
            parts
                .map(|word| word.split_once('=').unwrap_or((word, "")))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        );
        match verb {
            "pass" => return self.pass(words.or("ms", 0)),
            "restart" => return self.restart(),
            "freeze" => {
                self.now += words.or("ms", 0);
                return self.pass(0);
            }
            _ => {}
        }
        let event = self.event(verb, &words);
        self.step(event)
    }

    fn event(&mut self, verb: &str, words: &Words) -> Event {
        self.request += 1;
        let request = RequestId(self.request);
        let job = JobId(words.or("job", 1));
        let worker: String = words.or("worker", "w".to_owned());
        let act = |act| Event::Act { request, job, act, dry_run: words.has("dry") };
        let ask = |question| Event::Ask { request, question };
        match verb {
            "submit" => Event::Submit {
                request,
                repeat: words.get::<u8>("repeat").map(|byte| [byte; 16]),
                jobs: (0..words.or("jobs", 1)).map(|_| new_job(words)).collect(),
            },
            "cancel" => act(Act::Cancel(words.0.get("tasks").map(|text| bitmap(text)))),
            "pause" => act(Act::Pause),
            "resume" => act(Act::Resume),
            "remove" => act(Act::Remove),
            "queue" => Event::Queue {
                request,
                name: Arc::from(words.or("name", "q".to_owned())),
                act: match words.or("act", String::new()).as_str() {
                    "pause" => QueueAct::Pause,
                    "resume" => QueueAct::Resume,
                    _ => QueueAct::Purge { dry_run: words.has("dry") },
                },
            },
            "wait" => Event::Wait { request, job, timeout: Millis(words.or("ms", 1_000)) },
            "job" => ask(Question::Job(job)),
            "explain" => ask(Question::Explain(job, words.get("task"))),
            "stats" => ask(Question::Stats),
            "overview" => {
                ask(Question::Overview { queues: words.or("queues", 9), workers: words.or("workers", 9) })
            }
            "workers" => ask(Question::Workers(None)),
            "hello" => self.hello(&worker, words),
            "cut" => Event::Disconnected { session: self.workers[&worker].0 },
            "bury" => Event::Bury { request, worker: self.workers[&worker].1 },
            "drain" => Event::Drain { request, name: Arc::from(worker.as_str()) },
            "busy" => Event::Busy {
                session: self.workers[&worker].0,
                plain: words.or("plain", 0),
                r#async: words.or("async", 0),
            },
            "goodbye" => Event::Goodbye { session: self.workers[&worker].0, seq: self.next_seq() },
            "beat" => Event::Heartbeat {
                session: self.workers[&worker].0,
                seq: self.next_seq(),
                draining: words.has("draining"),
            },
            report => self.report(report, &worker, words),
        }
    }

    fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    fn hello(&mut self, name: &str, words: &Words) -> Event {
        self.sessions += 1;
        let session = SessionId(self.sessions);
        let known = self.workers.get(name).map(|(_, id)| *id);
        let id = known.filter(|_| !words.has("new")).unwrap_or(WorkerId(100 + self.sessions));
        let refused = words.has("twin");
        if !refused {
            self.workers.insert(name.to_owned(), (session, id));
        }
        let slots = words.or("slots", 1);
        let id = if refused { WorkerId(900) } else { id };
        Event::Hello {
            session,
            worker: WorkerHello {
                id,
                name: Arc::from(name),
                host: Arc::from("host"),
                version: Arc::from("1"),
                slots,
                named: words.get("gpu").map(|gpus| (Arc::from("gpu"), gpus)).into_iter().collect(),
                labels: words
                    .0
                    .get("zone")
                    .map(|zone| (Arc::from("zone"), Arc::from(zone.as_str())))
                    .into_iter()
                    .collect(),
                async_slots: words.or("async", 0),
                busy: words.or("busy", 0),
                async_busy: 0,
                functions: words.0.get("functions").map(|text| functions(text)).unwrap_or_default(),
                commands: !words.has("nocommands"),
                limits: words.0.get("limits").map(|text| limits(text)).unwrap_or_default(),
                address: Arc::from("127.0.0.1"),
                window: words.or("window", slots + words.or("async", 0)),
                held: words
                    .0
                    .get("held")
                    .map(|text| text.split(',').map(lease).collect())
                    .unwrap_or_default(),
                draining: words.has("draining"),
            },
        }
    }

    fn report(&mut self, verb: &str, worker: &str, words: &Words) -> Event {
        let mut lease = lease(&words.or("task", "1.0".to_owned()));
        lease.attempt = Attempt(words.or("attempt", lease.attempt.0));
        lease.epoch = Epoch(words.or("epoch", self.epoch));
        let ended = |verdict| ReportKind::Ended {
            verdict,
            wall_us: words.or("us", 2_000_000),
            detail: Bytes::from_static(b"outcome"),
            blob: None,
            last_output: match words.get("said") {
                Some(text) => vec![last_words(text)],
                None => Vec::new(),
            },
        };
        let what = match verb {
            "start" => ReportKind::Started,
            "ok" => ended(Verdict::Succeeded),
            "fail" => ended(Verdict::Failed { exit_code: words.or("code", 1), fatal: words.has("fatal") }),
            "killed" => ended(Verdict::Cancelled),
            "reject" => ended(Verdict::Rejected),
            "crash" => ended(Verdict::Lost),
            "return" => ReportKind::Returned,
            "progress" => ReportKind::Progress(Progress {
                fraction: words.or("fraction", 0.5),
                note: Arc::from(words.or("note", String::new())),
            }),
            other => panic!("no such command: {other}"),
        };
        let seq = self.next_seq();
        Event::Reports { session: self.workers[worker].0, seq, reports: vec![Report { lease, what }] }
    }

    fn step(&mut self, event: Event) -> Vec<String> {
        let mut out = Outcome::default();
        self.state.step(self.at(), event, &mut out);
        self.state.check().expect("the invariants hold");
        self.tell(out)
    }

    fn at(&self) -> Now {
        Now { mono: Timestamp(self.now), wall: WallTime(self.now) }
    }

    fn tell(&mut self, out: Outcome) -> Vec<String> {
        let writes = out.writes.iter().filter_map(write);
        let effects = out.effects.iter().filter_map(|effect| self.effect(effect));
        let lines = writes.chain(effects).collect();
        self.log.extend(out.writes);
        lines
    }

    /// Time passes, deadline by deadline.
    fn pass(&mut self, ms: u64) -> Vec<String> {
        let end = self.now + ms;
        let mut lines = Vec::new();
        while let Some(at) = self.state.next_deadline().filter(|at| at.0 <= end) {
            self.now = self.now.max(at.0);
            let told = self.step(Event::Tick);
            lines.extend(told.into_iter().map(|line| format!("{:>5} ms {line}", self.now)));
        }
        self.now = end;
        lines
    }

    fn restart(&mut self) -> Vec<String> {
        let mut restore = Restore::new();
        let mut highest = JobId(0);
        for write in &self.log {
            if let Write::Submitted(job) = write {
                highest = highest.max(job.id);
            }
            restore.apply(write.clone());
        }
        self.epoch += 1;
        let mut out = Outcome::default();
        self.state = restore.finish(config(self.epoch), highest, self.at(), &mut out);
        self.state.check().expect("the invariants hold after a restart");
        self.tell(out)
    }

    fn name(&self, session: SessionId) -> String {
        let known = self.workers.iter().find(|(_, (other, _))| *other == session);
        known.map_or_else(|| format!("session {session}"), |(name, _)| name.clone())
    }

    fn effect(&self, effect: &Effect) -> Option<String> {
        Some(match effect {
            Effect::Reply(_, reply) => reply_line(reply),
            Effect::Welcome { session, abandon } if abandon.is_empty() => {
                format!("{} <- welcome", self.name(*session))
            }
            Effect::Welcome { session, abandon } => {
                let leases: Vec<String> = abandon.iter().map(lease_text).collect();
                format!("{} <- welcome, kill {}", self.name(*session), leases.join(" "))
            }
            Effect::Refuse(session, refusal) => format!("{} <- refused: {refusal:?}", self.name(*session)),
            Effect::Assign { session, unit } => {
                let spans: Vec<String> = unit.spans.iter().map(|span| span_text(*span)).collect();
                let (job, attempt) = (unit.job, unit.attempt);
                format!("{} <- run {job}.{} attempt {attempt}", self.name(*session), spans.join(","))
            }
            Effect::Cancel(session, lease) => {
                format!("{} <- cancel {}", self.name(*session), lease_text(lease))
            }
            Effect::Abandon(session, lease) => {
                format!("{} <- kill {}", self.name(*session), lease_text(lease))
            }
            Effect::Committed { .. } => return None,
            Effect::Drain(session) => format!("{} <- drain", self.name(*session)),
            Effect::Close(session) => format!("{} <- close", self.name(*session)),
        })
    }
}

fn config(epoch: u64) -> Config {
    Config { epoch: Epoch(epoch), ..Config::default() }
}

/// `memory,cpu,processes`, or some of them.
fn limits(text: &str) -> Limits {
    let has = |name| text.split(',').any(|word| word == name);
    Limits { memory: has("memory"), cpu: has("cpu"), processes: has("processes") }
}

fn new_job(words: &Words) -> NewJob {
    let policy = Policy {
        queue: Arc::from(words.or("queue", "q".to_owned())),
        priority: words.or("priority", 0),
        shape: Shape {
            function: words.0.get("call").map(|name| Arc::from(name.as_str())),
            slots: words.or("slots", 1),
            named: words.get("gpu").map(|gpus| (Arc::from("gpu"), gpus)).into_iter().collect(),
            labels: words
                .0
                .get("zone")
                .map(|zone| (Arc::from("zone"), Arc::from(zone.as_str())))
                .into_iter()
                .collect(),
            limits: words.0.get("limits").map(|text| limits(text)).unwrap_or_default(),
        },
        retry: Retry {
            max_attempts: words.or("attempts", 1),
            initial: Millis(words.or("backoff", 1_000)),
            multiplier_milli: words.or("multiplier", 2_000),
            max: Millis(60_000),
            exit_codes: words.get("codes").into_iter().collect(),
        },
        timeout: words.get("timeout").map(Millis),
        kill_grace: Millis(10_000),
        crash_limit: words.or("crashes", CRASH_LIMIT),
        max_parallel: words.get("parallel"),
        max_fails: words.get("fails"),
        keep: None,
    };
    let digest = [words.or("digest", 0); 32];
    NewJob {
        policy,
        total: words.or("tasks", 1),
        only: words.0.get("only").map(|text| bitmap(text)),
        key: words.0.get("key").map(|text| Key { text: Arc::from(text.as_str()), digest }),
        rerun_of: words.get("rerun").map(JobId),
        spec: Bytes::new(),
    }
}

/// `fib,wait/async`
fn functions(text: &str) -> BTreeMap<Arc<str>, Runtime> {
    let one = |text: &str| match text.split_once('/') {
        Some((name, "async")) => (Arc::from(name), Runtime::Async),
        Some((name, "process")) => (Arc::from(name), Runtime::Process),
        Some((name, other)) => panic!("{name} on {other}?"),
        None => (Arc::from(text), Runtime::Threads),
    };
    text.split(',').map(one).collect()
}

/// `1-3,5`
fn bitmap(text: &str) -> RoaringBitmap {
    let mut set = RoaringBitmap::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        set.insert_range(first.parse::<u32>().expect("an index")..=last.parse().expect("an index"));
    }
    set
}

fn last_words(text: String) -> LastOutput {
    LastOutput { stream: Stream::Stdout, offset: 0, data: text.into() }
}

/// `job.index`, or `job.index#attempt@epoch`; both are 1 unless told.
fn lease(text: &str) -> Lease {
    let (text, epoch) = text.split_once('@').unwrap_or((text, "1"));
    let (text, attempt) = text.split_once('#').unwrap_or((text, "1"));
    let (job, index) = text.split_once('.').expect("job.index");
    Lease {
        task: TaskId { job: JobId(job.parse().expect("a job")), index: index.parse().expect("an index") },
        attempt: Attempt(attempt.parse().expect("an attempt")),
        epoch: Epoch(epoch.parse().expect("an epoch")),
    }
}

fn lease_text(lease: &Lease) -> String {
    format!("{}.{}#{}", lease.task.job, lease.task.index, lease.attempt)
}

fn span_text((first, many): (u32, u32)) -> String {
    if many == 1 { first.to_string() } else { format!("{first}-{}", first + many - 1) }
}

fn set_text(set: &RoaringBitmap) -> String {
    let mut iter = set.iter();
    let mut spans = Vec::new();
    while let Some(run) = iter.next_range() {
        spans.push(span_text((*run.start(), run.end() - run.start() + 1)));
    }
    spans.join(",")
}

fn write(write: &Write) -> Option<String> {
    Some(match write {
        Write::Epoch(epoch) => format!("disk: epoch {epoch}"),
        Write::Submitted(job) => format!("disk: job {}", job.id),
        Write::Attempt { task, attempt, failures, losses, delay, .. } => {
            let (job, index) = (task.job, task.index);
            format!(
                "disk: {job}.{index}#{attempt} over, failures {failures}, losses {losses}, next in {delay} ms"
            )
        }
        Write::Ended { job, indices, rank, end, attempt, .. } => {
            format!("disk: {job}.{}#{attempt} {end:?}, rank {rank}", set_text(indices))
        }
        Write::Job { job, paused, cancelling, .. } => {
            format!("disk: job {job} paused={paused} cancelling={}", set_text(cancelling))
        }
        Write::JobEnded { job, counts, .. } => format!("disk: job {job} ended {:?}", counts.end()?),
        Write::JobGone(job) => format!("disk: job {job} gone"),
        Write::Output { task, attempt, data, .. } => {
            format!("disk: {}.{}#{attempt} said {}", task.job, task.index, String::from_utf8_lossy(data))
        }
        Write::Queue { name, paused, .. } => format!("disk: queue {name} paused={paused}"),
        Write::WorkerSeen { name, .. } => format!("disk: worker {name} seen"),
        Write::WorkerGone(_) => "disk: a worker gone".to_owned(),
    })
}

fn reply_line(reply: &Reply) -> String {
    match reply {
        Reply::Submitted { ids, repeated } => {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            format!("reply: jobs {}{}", ids.join(" "), if *repeated { " (again)" } else { "" })
        }
        Reply::Acted { tasks, stopping: 0, note } => {
            format!("reply: {tasks} tasks {note}").trim_end().to_owned()
        }
        Reply::Acted { tasks, stopping, note } => {
            format!("reply: {tasks} tasks, {stopping} being stopped {note}").trim_end().to_owned()
        }
        Reply::Queue { queue, purged_tasks, .. } => {
            format!(
                "reply: queue {} paused={} queued={} purged={purged_tasks}",
                queue.name, queue.paused, queue.queued
            )
        }
        Reply::Job(job) => {
            let counts = job.counts;
            let reason = job.reason.as_ref().map(|reason| format!(" because {reason:?}")).unwrap_or_default();
            let progress = job.progress.as_ref();
            let progress = progress
                .map(|(task, at)| format!(", task {task} is at {} {}", at.fraction, at.note))
                .unwrap_or_default();
            format!(
                "reply: job {} {:?}, {} of {} ended{progress}{reason}",
                job.id,
                job.phase,
                counts.ended(),
                counts.total()
            )
        }
        Reply::Explanation { phase, reasons } => format!("reply: {phase:?} {reasons:?}"),
        Reply::Stats(stats) => format!(
            "reply: queued {} running {} backoff {} ended {} stale {}",
            stats.queued, stats.running, stats.backoff, stats.ended, stats.stale
        ),
        Reply::Overview(overview) => figures::figures(overview),
        Reply::Workers(workers) => {
            let busy = |many: u32| if many > 0 { format!(" busy {many}") } else { String::new() };
            let worker = |w: &WorkerView| format!("{} {:?}{}", w.name, w.status, busy(w.busy));
            let workers: Vec<String> = workers.iter().map(worker).collect();
            format!("reply: {}", workers.join(", "))
        }
        Reply::Buried(tasks) => format!("reply: buried with {tasks} tasks"),
        Reply::NotLive(job) => format!("reply: job {job} is not live"),
        Reply::Rejected(rejection) => format!("reply: no: {rejection}"),
        other => format!("reply: {other:?}"),
    }
}
