//! A wall clock that is set a year forward and two years back: nothing expires, nothing starts early, nothing is
//! forgotten. The daemons see a false clock (libfaketime) that the test sets; their monotonic clock stays true.

use std::fs;
use std::path::{Path, PathBuf};
use taskq_proto::v1::{self as pb, State, outcome::Kind};
use taskq_tests::{Cluster, Setup, need, spec, wait};
use tonic::Code;

const YEAR: i64 = 365 * 24 * 3600;

/// What the daemons take for the time of day.
struct FalseClock(PathBuf);

impl FalseClock {
    fn new(folder: &Path) -> FalseClock {
        let clock = FalseClock(folder.join("clock"));
        clock.set(0);
        clock
    }

    /// Seconds that it is fast.
    fn set(&self, ahead: i64) {
        let next = self.0.with_extension("next");
        fs::write(&next, format!("{ahead:+}\n")).expect("write the clock");
        fs::rename(next, &self.0).expect("set the clock");
    }

    fn start(&self) -> Cluster {
        let library = fs::read_dir("/usr/lib")
            .expect("list /usr/lib")
            .filter_map(|entry| Some(entry.ok()?.path().join("faketime/libfaketime.so.1")))
            .find(|path| path.exists())
            .expect("the package faketime has its library in /usr/lib");
        Setup::new()
            .env("LD_PRELOAD", library.to_str().expect("a path"))
            .env("FAKETIME_TIMESTAMP_FILE", self.0.to_str().expect("a path"))
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .start()
    }
}

#[test]
fn nothing_expires_or_starts_when_the_clock_is_set() {
    if !need::tools_present(&["faketime"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let clock = FalseClock::new(folder.path());
    let mut cluster = clock.start();
    cluster.worker(2);
    let api = cluster.api();

    let kept = api.submit_one(spec::command(&["echo", "kept"]));
    let before = api.ended(kept).ended_unix_ms;
    // It waits for the test, and has an hour.
    let gate = folder.path().join("gate");
    let mut slow = spec::shell(&format!("until [ -e {} ]; do sleep 0.02; done; echo done", gate.display()));
    slow.timeout_ms = 3_600_000;
    let slow = api.submit_one(slow);
    api.running(slow);
    // It has failed once, and starts again in an hour.
    let hour = 3_600_000;
    let retry = pb::Retry { max_attempts: 2, backoff_ms: hour, max_backoff_ms: hour, ..Default::default() };
    let mut again = spec::command(&["false"]);
    again.retry = Some(retry);
    let again = api.submit_one(again);
    wait::holds("the first attempt has failed", || api.task(again, 0).earlier.len() == 1);

    // Housekeeping has run under the false clock once this one is gone, and only the other is old enough for nothing.
    let mut brief = spec::command(&["true"]);
    brief.keep_ms = 1_500;
    let brief = api.submit_one(brief);
    api.ended(brief);
    clock.set(YEAR);
    wait::holds("a job that is kept for 1.5 s is gone", || {
        api.get(brief).is_err_and(|status| status.code() == Code::NotFound)
    });
    assert_eq!(cluster.taskq(&["result", &kept.to_string()]).ok().out(), "kept", "a year is not over");

    for (jump, ahead) in [("a year forward", YEAR), ("two years back", -YEAR), ("to the truth", 0)] {
        clock.set(ahead);
        let passing = api.submit_one(spec::command(&["true"]));
        let passed = api.ended(passing);
        assert_eq!(passed.state, State::Succeeded as i32, "{jump}");
        let shift = i64::try_from(passed.ended_unix_ms).unwrap() - i64::try_from(before).unwrap();
        assert!((shift - ahead * 1_000).abs() < 3_600_000, "{jump}: the daemons saw it, by {shift} ms");

        assert_eq!(api.workers().unwrap()[0].status, 1, "{jump}: the worker is online");
        let task = api.task(slow, 0);
        assert_eq!((task.state, task.attempt), (State::Running as i32, 1), "{jump}");
        assert_eq!(api.task(again, 0).earlier.len(), 1, "{jump}: its hour is not over");
        assert_eq!(cluster.taskq(&["result", &kept.to_string()]).ok().out(), "kept", "{jump}");
    }

    // A timeout that is set back two years still comes.
    clock.set(YEAR);
    let mut short = spec::command(&["sleep", "600"]);
    short.timeout_ms = 1_500;
    let short = api.submit_one(short);
    api.running(short);
    clock.set(-YEAR);
    api.ended(short);
    assert_eq!(api.task(short, 0).outcome.unwrap().kind(), Kind::TimedOut);

    fs::write(&gate, "").unwrap();
    assert_eq!(api.ended(slow).state, State::Succeeded as i32);
    assert_eq!(api.task(slow, 0).attempt, 1);
    cluster.taskq(&["cancel", &again.to_string()]).ok();
    api.ended(again);
}
