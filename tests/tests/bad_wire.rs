//! Garbage on the wire: malformed gRPC, malformed protobuf, other protocols. Each call is refused or answered with an
//! error, changes nothing, and the coordinator serves the next client as if nothing had been.

use prost::Message;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use taskq_proto::v1 as pb;
use taskq_tests::h2raw::{Answer, Connection, frame, frame_with, name, text};
use taskq_tests::{Cluster, Seed, procs, spec};

const SUBMIT: &str = "/taskq.v1.Jobs/Submit";
const OK: i32 = 0;
const INVALID_ARGUMENT: i32 = 3;
const INTERNAL: i32 = 13;
const UNIMPLEMENTED: i32 = 12;
const UNAUTHENTICATED: i32 = 16;

/// A coordinator that is asked again after each piece of garbage.
struct Target {
    cluster: Cluster,
    known: u64,
}

impl Target {
    fn start() -> Self {
        let cluster = Cluster::start();
        let known = cluster.api().submit_one(spec::command(&["true"]));
        Self { cluster, known }
    }

    /// Sends raw calls over one connection.
    fn with<T>(&self, calls: impl AsyncFnOnce(&Connection) -> T) -> T {
        let api = self.cluster.api();
        api.block_on(async {
            let connection = Connection::open(&self.cluster.access()).await;
            calls(&connection).await
        })
    }

    /// The coordinator answers, and knows exactly the job that it knew.
    #[track_caller]
    fn unharmed(&mut self) {
        assert_eq!(self.cluster.server().ended(), None);
        let jobs = self.cluster.api().list(pb::Filter::default()).expect("the next client is served");
        let ids: Vec<u64> = jobs.iter().map(|job| job.id).collect();
        assert_eq!(ids, [self.known], "garbage changed something");
    }
}

/// A valid submit of one job.
fn submit() -> Vec<u8> {
    spec::request(vec![spec::command(&["true"])]).encode_to_vec()
}

#[test]
fn the_raw_connection_itself_works() {
    let target = Target::start();
    let answer = target.with(async |c| c.call(SUBMIT, c.headers(), frame(&submit())).await);
    assert_eq!(answer.code(), Some(OK), "{answer:?}");
    assert_eq!(target.cluster.api().list(pb::Filter::default()).expect("list").len(), 2);
}

#[test]
fn unknown_services_and_methods_are_unimplemented() {
    let mut target = Target::start();
    target.with(async |c| {
        for path in
            ["/taskq.v1.Nothing/Submit", "/taskq.v1.Jobs/Nothing", "/", "/taskq.v1.Jobs/../Admin/Stats"]
        {
            let answer = c.call(path, c.headers(), frame(&submit())).await;
            assert!(answer.refused(), "{path}: {answer:?}");
            if let Some(code) = answer.code() {
                assert_eq!(code, UNIMPLEMENTED, "{path}: {answer:?}");
            }
        }
    });
    target.unharmed();
}

#[test]
fn calls_without_the_right_token_are_refused_before_their_body_is_read() {
    let mut target = Target::start();
    target.with(async |c| {
        let token = target.cluster.access().token;
        let almost = format!("Bearer {}", "x".repeat(token.len()));
        let wrong = [
            None,
            Some(""),
            Some("Bearer "),
            Some("Bearer tq_wrong"),
            Some(almost.as_str()),
            Some("Basic dXNlcjpwYXNz"),
            Some("Bearer\ttq_wrong"),
        ];
        for value in wrong {
            let mut headers = c.headers();
            headers.remove("authorization");
            if let Some(value) = value {
                headers.insert("authorization", text(value));
            }
            // The body is not even a message: it must not be looked at.
            let answer = c.call(SUBMIT, headers, frame(&[0xff; 10])).await;
            assert_eq!(answer.code(), Some(UNAUTHENTICATED), "{value:?}: {answer:?}");
        }
        let mut twice = c.headers();
        twice.append("authorization", text("Bearer tq_wrong"));
        let answer = c.call(SUBMIT, twice, frame(&[0xff; 10])).await;
        assert!(answer.refused(), "two tokens: {answer:?}");
    });
    target.unharmed();
}

#[test]
fn wrong_headers_are_refused() {
    let mut target = Target::start();
    target.with(async |c| {
        for kind in ["text/plain", "application/json", "application/grpc-web", ""] {
            let mut headers = c.headers();
            headers.insert("content-type", text(kind));
            let answer = c.call(SUBMIT, headers, frame(&[0xff; 10])).await;
            assert!(answer.refused(), "content-type {kind:?}: {answer:?}");
        }
        for encoding in ["lz4", "gzip", "unknown"] {
            let mut headers = c.headers();
            headers.insert("grpc-encoding", text(encoding));
            let answer = c.call(SUBMIT, headers, frame_with(1, 4, b"junk")).await;
            assert!(answer.refused(), "grpc-encoding {encoding}: {answer:?}");
        }
        for timeout in ["-1S", "99999999999H", "1x", "", "S"] {
            let mut headers = c.headers();
            headers.insert("grpc-timeout", text(timeout));
            let answer = c.call("/taskq.v1.Admin/Stats", headers, frame(&[])).await;
            // Ignored or refused, but answered.
            assert!(!matches!(answer, Answer::Silence), "grpc-timeout {timeout:?}: {answer:?}");
        }
        let mut headers = c.headers();
        headers.insert(name("trace-bin"), text("*not base64*"));
        let answer = c.call("/taskq.v1.Admin/Stats", headers, frame(&[])).await;
        assert!(!matches!(answer, Answer::Silence), "invalid base64: {answer:?}");
    });
    target.unharmed();
}

#[test]
fn a_flood_of_headers_is_refused() {
    let mut target = Target::start();
    target.with(async |c| {
        let mut headers = c.headers();
        for number in 0..8_000 {
            headers.append(name("x-flood"), text(&format!("value {number}")));
        }
        let answer = c.call("/taskq.v1.Admin/Stats", headers, frame(&[])).await;
        assert!(answer.refused(), "8,000 headers: {answer:?}");
    });
    target.with(async |c| {
        let mut headers = c.headers();
        headers.insert("authorization", text(&format!("Bearer {}", "t".repeat(1 << 20))));
        let answer = c.call("/taskq.v1.Admin/Stats", headers, frame(&[])).await;
        assert!(answer.refused(), "a token of 1 MiB: {answer:?}");
    });
    target.unharmed();
}

#[test]
fn malformed_frames_are_refused() {
    let mut target = Target::start();
    let valid = submit();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("flag 2", frame_with(2, valid.len() as u32, &valid)),
        ("flag 255", frame_with(255, valid.len() as u32, &valid)),
        ("compressed without an encoding", frame_with(1, valid.len() as u32, &valid)),
        ("length of 4 GiB, body of 5 bytes", frame_with(0, u32::MAX, b"12345")),
        ("length beyond the limit", frame_with(0, 512 << 20, b"12345")),
        ("length shorter than the body", frame_with(0, valid.len() as u32 - 3, &valid)),
        ("length longer than the body", frame_with(0, valid.len() as u32 + 3, &valid)),
        ("no message", Vec::new()),
        ("half a frame's head", vec![0, 0]),
        ("zeros", vec![0; 3]),
    ];
    target.with(async |c| {
        for (what, body) in cases {
            let answer = c.call(SUBMIT, c.headers(), body).await;
            assert!(answer.refused(), "{what}: {answer:?}");
        }
    });
    target.unharmed();
}

#[test]
fn a_second_message_on_a_unary_call_is_refused_or_passed_over() {
    let mut target = Target::start();
    let two = [frame(&submit()), frame(&submit())].concat();
    let answer = target.with(async |c| c.call(SUBMIT, c.headers(), two).await);
    let jobs = target.cluster.api().list(pb::Filter::default()).expect("list").len();
    let expected = if answer.refused() { 1 } else { 2 };
    assert_eq!(jobs, expected, "never both: {answer:?}");
    assert_eq!(target.cluster.server().ended(), None);
}

#[test]
fn truncated_messages_are_refused_or_say_what_is_missing() {
    let mut target = Target::start();
    let mut job = spec::array(spec::command(&["echo", "hello", "{}"]), 3);
    job.name = "truncated".to_owned();
    job.labels.insert("key".to_owned(), "value".to_owned());
    // Checked only, so that a cut that leaves a valid message changes nothing either.
    let mut request = spec::request(vec![job]);
    request.dry_run = true;
    let dry = pb::SubmitRequest { dry_run: true, ..Default::default() }.encode_to_vec();
    request.dry_run = false;
    let whole = [dry, request.encode_to_vec()].concat();
    target.with(async |c| {
        for length in 2..whole.len() {
            let answer = c.call(SUBMIT, c.headers(), frame(&whole[..length])).await;
            let code = answer.code().unwrap_or_else(|| panic!("{length} bytes: {answer:?}"));
            assert!([OK, INVALID_ARGUMENT, INTERNAL].contains(&code), "{length} bytes: {answer:?}");
        }
    });
    target.unharmed();
}

#[test]
fn malformed_messages_are_refused() {
    let mut target = Target::start();
    let mut deep = Vec::new();
    for _ in 0..2_000 {
        // Field 1, length-delimited, around what is there: nested jobs without end.
        let mut outer = vec![0x0a];
        prost::encoding::encode_varint(deep.len() as u64, &mut outer);
        outer.extend(&deep);
        deep = outer;
    }
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("wire type 7", vec![0x0f]),
        ("wire type of another kind", vec![0x08, 0x01]),
        ("field 0", vec![0x00, 0x01]),
        (
            "a varint of 11 bytes",
            vec![0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        ),
        ("invalid UTF-8", vec![0x0a, 0x04, 0x0a, 0x02, 0xff, 0xfe]),
        ("a length beyond the end", vec![0x0a, 0xff, 0xff, 0xff, 0x7f]),
        ("a group that never ends", vec![0x1b; 500]),
        ("deep nesting", deep),
    ];
    target.with(async |c| {
        for (what, body) in cases {
            let answer = c.call(SUBMIT, c.headers(), frame(&body)).await;
            assert!(answer.code().is_some_and(|code| code != OK), "{what}: {answer:?}");
        }
        // An unknown field is tolerated: a newer client may send it. The request itself is empty, hence wrong.
        let unknown = vec![0xf8, 0xff, 0xff, 0xff, 0x0f, 0x01];
        let answer = c.call(SUBMIT, c.headers(), frame(&unknown)).await;
        assert_eq!(answer.code(), Some(INVALID_ARGUMENT), "{answer:?}");
    });
    target.unharmed();
}

#[test]
fn an_empty_message_is_answered_by_every_method() {
    let mut target = Target::start();
    let jobs = [
        "Submit",
        "Get",
        "List",
        "ListTasks",
        "Wait",
        "Results",
        "Logs",
        "Watch",
        "Explain",
        "Cancel",
        "Retry",
        "Pause",
        "Resume",
        "Remove",
        "Upload",
        "SubmitStream",
    ];
    let admin =
        ["Stats", "ListWorkers", "DrainWorker", "ListQueues", "PauseQueue", "ResumeQueue", "PurgeQueue"];
    let workers = ["Session", "Bury"];
    let paths = jobs.iter().map(|method| format!("/taskq.v1.Jobs/{method}"));
    let paths = paths.chain(admin.iter().map(|method| format!("/taskq.v1.Admin/{method}")));
    let paths: Vec<String> = paths.chain(workers.iter().map(|m| format!("/taskq.v1.Workers/{m}"))).collect();
    target.with(async |c| {
        for path in paths {
            let answer = c.call(&path, c.headers(), frame(&[])).await;
            assert!(matches!(answer, Answer::Reply { http: 200, code: Some(_), .. }), "{path}: {answer:?}");
            assert_ne!(answer.code(), Some(UNIMPLEMENTED), "{path}: {answer:?}");
        }
    });
    target.unharmed();
}

#[test]
fn extreme_numbers_are_refused_or_kept() {
    let mut target = Target::start();
    let api = target.cluster.api();
    let check = |what: &str, change: &dyn Fn(&mut pb::JobSpec)| {
        let mut job = spec::command(&["true"]);
        change(&mut job);
        let mut request = spec::request(vec![job]);
        request.dry_run = true;
        match api.submit(&request) {
            Ok(_) => {}
            Err(status) => {
                assert_eq!(status.code(), tonic::Code::InvalidArgument, "{what}: {status}");
                assert!(!status.message().is_empty(), "{what} says why");
            }
        }
    };
    for priority in [i32::MIN, -1_001, 1_001, i32::MAX] {
        let mut job = spec::command(&["true"]);
        job.priority = priority;
        let refused = api.submit(&spec::request(vec![job])).expect_err("out of range");
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "priority {priority}: {refused}");
    }
    for number in [0, 1, u64::MAX / 2, u64::MAX] {
        check("timeout", &|job| job.timeout_ms = number);
        check("grace", &|job| job.kill_grace_ms = number);
        check("keep", &|job| job.keep_ms = number);
        check("output limit", &|job| job.output_limit_bytes = Some(number));
        check("backoff", &|job| {
            job.retry = Some(pb::Retry { max_attempts: 2, backoff_ms: number, ..Default::default() });
        });
        check("resource", &|job| {
            let named = [("gpu".to_owned(), number)].into();
            job.resources = Some(pb::Resources { named, ..Default::default() });
        });
    }
    for number in [0, 1, u32::MAX] {
        check("attempts", &|job| job.retry = Some(pb::Retry { max_attempts: number, ..Default::default() }));
        check("slots", &|job| job.resources = Some(pb::Resources { slots: number, ..Default::default() }));
        check("crash limit", &|job| job.crash_limit = number);
        check("max parallel", &|job| job.max_parallel = number);
    }
    for multiplier in [0.0, -1.0, f64::MIN, f64::MAX, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        check("multiplier", &|job| {
            job.retry = Some(pb::Retry { max_attempts: 3, multiplier, ..Default::default() });
        });
    }
    drop(api);
    target.unharmed();
}

#[test]
fn other_protocols_and_noise_are_turned_away() {
    let mut seed = Seed::new("noise");
    let mut target = Target::start();
    let address = target.cluster.access().address;
    let preface: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let noise = seed.bytes(1 << 20);
    let after_preface = [preface, &noise[..10_000]].concat();
    let oversized = [preface, &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat();
    let cases: [(&str, &[u8]); 6] = [
        ("HTTP/1.1", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("a TLS hello", &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03]),
        ("random bytes", &noise),
        ("the preface and random bytes", &after_preface),
        ("a frame above the limit", &oversized),
        ("nothing", b""),
    ];
    for (what, bytes) in cases {
        let mut stream = TcpStream::connect(&address).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a read timeout");
        // The coordinator may close while it is still being talked to.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(cause) => assert_eq!(cause.kind(), std::io::ErrorKind::ConnectionReset, "{what}: {cause}"),
        }
    }
    target.unharmed();
}

#[test]
fn garbage_leaves_no_memory_behind() {
    let mut seed = Seed::new("garbage and memory");
    let mut target = Target::start();
    let round = |target: &Target, seed: &mut Seed| {
        target.with(async |c| {
            for _ in 0..300 {
                let length = seed.number(0, 60_000) as usize;
                let answer = c.call(SUBMIT, c.headers(), frame(&seed.bytes(length))).await;
                assert!(answer.refused(), "{answer:?}");
            }
        });
    };
    round(&target, &mut seed);
    let pid = target.cluster.server_pid();
    let before = procs::resident_bytes(pid).expect("the coordinator lives");
    for _ in 0..3 {
        round(&target, &mut seed);
    }
    let after = procs::resident_bytes(pid).expect("the coordinator lives");
    assert!(after < before + before / 10 + (4 << 20), "{before} bytes before, {after} after");
    target.unharmed();
}
