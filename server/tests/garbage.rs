//! Whatever arrives is either understood or refused: parsing what clients and workers send never panics, and what it
//! lets through keeps the limits that the `.proto` files name.

use bytes::Bytes;
use prost::Message;
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};
use taskq_core::event::ReportKind;
use taskq_proto::v1 as pb;
use taskq_server::api::convert::{
    call,
    report::{self, Greeter},
    submit,
};

/// Messages tried a test.
const TRIES: usize = 60_000;

fn seed() -> u64 {
    let seed =
        std::env::var("TASKQ_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random);
    println!("TASKQ_SEED={seed}");
    seed
}

fn spec() -> pb::JobSpec {
    let table = pb::Table { fields: vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")] };
    pb::JobSpec {
        name: "n".into(),
        queue: "q".into(),
        labels: [("k".to_owned(), "v".to_owned())].into(),
        command: Some(pb::Command {
            argv: vec!["echo".into(), "{}".into(), "{x}".into()],
            env: [("A".to_owned(), "1".to_owned())].into(),
            cwd: "/".into(),
            stdin: Bytes::from_static(b"in"),
            ..pb::Command::default()
        }),
        elements: Some(pb::Elements {
            sources: vec![
                pb::Source { columns: vec!["x".into()], values: Some(pb::source::Values::Table(table)) },
                pb::Source {
                    columns: vec![],
                    values: Some(pb::source::Values::Range(pb::Range { start: 1, step: 2, count: 3 })),
                },
            ],
            zip: false,
            only: vec![pb::Span { first: 1, count: 2 }],
        }),
        resources: Some(pb::Resources {
            slots: 2,
            named: [("gpu".to_owned(), 1)].into(),
            ..pb::Resources::default()
        }),
        retry: Some(pb::Retry { max_attempts: 3, exit_codes: vec![1], ..pb::Retry::default() }),
        timeout_ms: 1_000,
        ..pb::JobSpec::default()
    }
}

fn hello() -> pb::Hello {
    pb::Hello {
        incarnation: 7,
        name: "w1".into(),
        protocol: 1,
        slots: 2,
        window: 64,
        named: [("gpu".to_owned(), 1)].into(),
        async_slots: 100,
        functions: vec![pb::Function { name: "resize".to_owned(), runtime: 1 }],
        held: vec![pb::AttemptKey { job_id: 1, index: 0, attempt: 1, epoch: 1 }],
        ..pb::Hello::default()
    }
}

fn reports() -> pb::Reports {
    use pb::{outcome::Kind, report::Event};
    let key = Some(pb::AttemptKey { job_id: 1, index: 2, attempt: 3, epoch: 4 });
    let outcome = pb::Outcome { kind: Kind::Exited.into(), exit_code: 1, ..pb::Outcome::default() };
    let output = pb::Output { stream: 1, offset: 5, data: Bytes::from_static(b"text") };
    let blob = pb::Blob { sha256: Bytes::from_static(&[7; 32]), size_bytes: 99 };
    let called =
        pb::Outcome { kind: Kind::Completed.into(), value_blob: Some(blob), ..pb::Outcome::default() };
    let failure = pb::Failure { cause: 1, message: "no".to_owned(), fatal: true, ..pb::Failure::default() };
    let failed = pb::Outcome { kind: Kind::Failed.into(), failure: Some(failure), ..pb::Outcome::default() };
    let progress = pb::Progress { index: 0, fraction: 0.5, note: "half".to_owned() };
    let events = [Event::Started(pb::Started { unix_ms: 1 }), Event::Output(output), Event::Outcome(outcome)];
    let calls = [Event::Outcome(called), Event::Outcome(failed), Event::Progress(progress)];
    let events = events.into_iter().chain(calls);
    pb::Reports { reports: events.map(|event| pb::Report { key, event: Some(event) }).collect() }
}

/// Flips, cuts, repeats or inserts, a few times.
fn spoil(random: &mut StdRng, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..random.random_range(1..4) {
        if bytes.is_empty() {
            break;
        }
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..4) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes.truncate(at),
            2 => bytes.insert(at, random.next_u32().to_le_bytes()[0]),
            _ => bytes.extend_from_within(at..),
        }
    }
    bytes
}

/// Spoils a message many times; returns how often the result was a message again, and `check`ed.
fn storm<M: Message + Default>(good: &M, mut check: impl FnMut(M)) -> usize {
    let mut random = StdRng::seed_from_u64(seed());
    let bytes = good.encode_to_vec();
    let decoded = (0..TRIES).filter_map(|_| M::decode(spoil(&mut random, bytes.clone()).as_slice()).ok());
    decoded.map(&mut check).count()
}

#[test]
fn a_spoiled_job_is_refused_or_keeps_the_limits() {
    submit::job(spec(), &|_| None).expect("the good one");
    let (mut accepted, mut refused) = (0, 0);
    let decoded = storm(&spec(), |spec| match submit::job(spec, &|_| None) {
        Ok(job) => {
            accepted += 1;
            assert!(job.total >= 1 && job.only.is_none_or(|only| only.max() < Some(job.total)));
            assert!((1..=4_096).contains(&job.policy.shape.slots));
            assert!((1..=1_000).contains(&job.policy.retry.max_attempts));
            assert!(job.policy.retry.initial <= job.policy.retry.max);
        }
        Err(error) => {
            refused += 1;
            assert!(error.to_string().contains(": "), "{error} names no field");
        }
    });
    assert!(accepted > 100 && refused > 100, "{decoded} decoded, {accepted} accepted, {refused} refused");
}

fn calling() -> pb::JobSpec {
    let call = pb::Call {
        function: "resize".to_owned(),
        codec: "msgpack".to_owned(),
        argument: Bytes::from_static(b"argument"),
        ..pb::Call::default()
    };
    pb::JobSpec { call: Some(call), ..pb::JobSpec::default() }
}

#[test]
fn a_spoiled_call_is_refused_or_keeps_the_limits() {
    submit::job(calling(), &|_| None).expect("the good one");
    let (mut accepted, mut refused) = (0, 0);
    let decoded = storm(&calling(), |spec| match submit::job(spec.clone(), &|_| None) {
        Ok(job) => {
            accepted += 1;
            assert!(spec.call.is_some() != spec.command.is_some(), "one of the two");
            assert_eq!(job.policy.shape.function.as_deref(), spec.call.as_ref().map(|call| &*call.function));
            assert!(job.policy.shape.function.is_none_or(|name| call::function(&name).is_ok()));
        }
        Err(error) => {
            refused += 1;
            assert!(error.to_string().contains(": "), "{error} names no field");
        }
    });
    assert!(accepted > 100 && refused > 100, "{decoded} decoded, {accepted} accepted, {refused} refused");
}

#[test]
fn calls_have_rules_of_their_own() {
    let refused = |change: &dyn Fn(&mut pb::JobSpec, &mut pb::Call)| {
        let mut spec = calling();
        let mut called = spec.call.take().expect("it is a call");
        change(&mut spec, &mut called);
        spec.call = Some(called);
        submit::job(spec, &|_| None).expect_err("against the rules").to_string()
    };
    let source = |columns: &[&str]| {
        let values = Some(pb::source::Values::Table(pb::Table { fields: vec!["1".into(), "2".into()] }));
        pb::Source { columns: columns.iter().map(ToString::to_string).collect(), values }
    };
    let range = pb::Range { start: 0, step: 1, count: 3 };
    let range = pb::Source { columns: vec![], values: Some(pb::source::Values::Range(range)) };
    let with = |spec: &mut pb::JobSpec, sources: Vec<pb::Source>| {
        spec.elements = Some(pb::Elements { sources, ..pb::Elements::default() });
    };
    assert!(refused(&|_, call| call.function = "no spaces".into()).starts_with("call.function: must be"));
    assert!(refused(&|_, call| call.codec = "JSON".into()).starts_with("call.codec: must be"));
    assert!(refused(&|_, call| call.argument = vec![0; (64 << 10) + 1].into()).contains("argument_blob"));
    assert!(refused(&|_, call| call.argument_blob = Some(pb::Blob::default())).contains("given as well"));
    assert!(refused(&|spec, _| spec.command = Some(pb::Command::default())).starts_with("call: a command"));
    assert!(refused(&|spec, _| with(spec, vec![source(&[])])).contains("each is an argument"));
    let bare = |change: &dyn Fn(&mut pb::JobSpec)| {
        refused(&|spec, call| {
            call.argument.clear();
            change(spec);
        })
    };
    assert!(bare(&|spec| with(spec, vec![source(&["a", "b"])])).contains("one column"));
    assert!(bare(&|spec| with(spec, vec![source(&[]), source(&[])])).contains("takes one source"));
    assert!(bare(&|spec| with(spec, vec![range.clone()])).contains("which msgpack does not read"));
}

#[test]
fn a_spoiled_hello_is_refused_or_keeps_the_limits() {
    report::hello(hello(), Greeter::default()).expect("the good one");
    let decoded = storm(&hello(), |hello| {
        if let Ok(worker) = report::hello(hello, Greeter::default()) {
            assert!(worker.functions.keys().all(|name| call::function(name).is_ok()));
            assert!(worker.id.0 != 0 && worker.slots >= 1 && worker.window >= worker.slots);
        }
    });
    assert!(decoded > 100);
}

#[test]
fn spoiled_reports_are_refused_or_keep_the_limits() {
    assert_eq!(report::reports(reports()).expect("the good ones").len(), 6);
    let decoded = storm(&reports(), |reports| {
        for report in report::reports(reports).unwrap_or_default() {
            assert!(report.lease.attempt.0 >= 1 && report.lease.epoch.0 >= 1);
            if let ReportKind::Progress(progress) = report.what {
                assert!((0.0..=1.0).contains(&progress.fraction) && progress.note.len() <= 1 << 10);
            }
        }
    });
    assert!(decoded > 100);
}
