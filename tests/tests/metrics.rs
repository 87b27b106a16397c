//! `/metrics`: figures that are right, for whoever may read them, whatever is sent to that port.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};
use taskq_proto::v1 as pb;
use taskq_tests::http::{self, Exposition, get, send};
use taskq_tests::{Cluster, Hosts, Setup, hosts, need, procs, spec, wait};

fn address(cluster: &Cluster) -> String {
    cluster.access().address
}

#[test]
fn figures_are_what_was_run() {
    let mut cluster = Cluster::start();
    let address = address(&cluster);
    let api = cluster.api();
    // Nothing can run yet: this one waits, and is cancelled.
    let cancelled = api.submit_one(spec::command(&["true"]));
    let queued = Exposition::of(&address);
    assert_eq!(queued.value("taskq_tasks{state=\"queued\"}"), 1.0);
    assert_eq!(queued.value("taskq_workers{status=\"online\"}"), 0.0);
    assert_eq!(queued.value("taskq_queue_tasks{queue=\"default\",state=\"queued\"}"), 1.0);
    api.cancel(&[cancelled]).expect("cancel");
    cluster.worker(2);
    let mut good = spec::array(spec::command(&["true"]), 7);
    good.queue = "good".to_owned();
    let mut bad = spec::shell("exit 3");
    bad.queue = "bad".to_owned();
    bad.retry = Some(pb::Retry { max_attempts: 3, backoff_ms: 1, ..Default::default() });
    let slow = spec::shell("sleep 0.3");
    for job in [good, bad, slow] {
        api.ended(api.submit_one(job));
    }
    let seen = wait::until("the worker says what it has done", || {
        let seen = Exposition::of(&address);
        let told = "taskq_worker_attempts_ended_total{worker=\"w0\"}";
        (seen.values.get(told) == Some(&11.0)).then_some(seen)
    });
    for (series, expected) in [
        ("taskq_jobs_submitted_total", 4.0),
        ("taskq_jobs_ended_total{outcome=\"succeeded\"}", 2.0),
        ("taskq_jobs_ended_total{outcome=\"failed\"}", 1.0),
        ("taskq_jobs_ended_total{outcome=\"cancelled\"}", 1.0),
        ("taskq_jobs_live", 0.0),
        ("taskq_jobs_kept", 4.0),
        ("taskq_tasks{state=\"queued\"}", 0.0),
        ("taskq_tasks{state=\"running\"}", 0.0),
        ("taskq_tasks_submitted_total", 10.0),
        ("taskq_tasks_ended_total{outcome=\"succeeded\"}", 8.0),
        ("taskq_tasks_ended_total{outcome=\"failed\"}", 1.0),
        ("taskq_tasks_ended_total{outcome=\"cancelled\"}", 1.0),
        ("taskq_attempts_started_total", 11.0),
        ("taskq_attempts_ended_total{verdict=\"succeeded\"}", 8.0),
        ("taskq_attempts_ended_total{verdict=\"failed\"}", 3.0),
        ("taskq_attempts_ended_total{verdict=\"lost\"}", 0.0),
        ("taskq_attempts_retried_total", 2.0),
        ("taskq_queue_tasks_submitted_total{queue=\"good\"}", 7.0),
        ("taskq_queue_tasks_ended_total{queue=\"good\",outcome=\"succeeded\"}", 7.0),
        ("taskq_queue_attempts_started_total{queue=\"bad\"}", 3.0),
        ("taskq_queue_tasks_ended_total{queue=\"bad\",outcome=\"failed\"}", 1.0),
        ("taskq_task_wait_seconds_count", 9.0),
        ("taskq_task_run_seconds_count", 11.0),
        ("taskq_submit_seconds_count", 4.0),
        ("taskq_workers{status=\"online\"}", 1.0),
        ("taskq_slots{kind=\"plain\"}", 2.0),
        ("taskq_slots_busy{kind=\"plain\"}", 0.0),
        ("taskq_worker_up{worker=\"w0\"}", 1.0),
        ("taskq_worker_slots{worker=\"w0\",kind=\"plain\"}", 2.0),
        ("taskq_epoch", 1.0),
        ("taskq_read_only", 0.0),
        ("taskq_recovering", 0.0),
    ] {
        assert_eq!(seen.value(series), expected, "{series}\n{}", seen.text);
    }
    let stats = api.stats().expect("stats");
    assert_eq!(seen.value("taskq_commit_seconds_count"), stats.commits as f64, "nothing was written since");
    assert!(seen.value("taskq_task_run_seconds_sum") >= 0.3, "one of them slept");
    assert!(seen.value("taskq_worker_cpu_seconds_total{worker=\"w0\"}") > 0.0);
    let worker = cluster.worker_at(0).pid();
    let resident = procs::resident_bytes(worker).expect("the worker lives") as f64;
    let told = seen.value("taskq_worker_resident_memory_bytes{worker=\"w0\"}");
    assert!(told > resident / 2.0 && told < resident * 2.0, "{told} of {resident}");
    let server = procs::resident_bytes(cluster.server_pid()).expect("the coordinator lives") as f64;
    let own = seen.value("process_resident_memory_bytes");
    assert!(own > server / 2.0 && own < server * 2.0, "{own} of {server}");
    assert!(seen.value("taskq_disk_free_bytes") > 0.0 && seen.value("taskq_store_bytes") > 0.0);
    drop(api);
}

#[test]
fn a_worker_that_never_stops_reporting_says_how_it_is() {
    let mut cluster = Cluster::start();
    let address = address(&cluster);
    cluster.worker(1);
    let api = cluster.api();
    api.ended(api.submit_one(spec::command(&["true"])));
    // It has no occasion for a heartbeat from now on.
    let loud = api.submit_one(spec::shell("while true; do echo line; sleep 0.1; done"));
    api.running(loud);
    wait::holds("it says what it has done", || {
        let seen = Exposition::of(&address);
        seen.values.get("taskq_worker_attempts_ended_total{worker=\"w0\"}") == Some(&1.0)
    });
    api.cancel(&[loud]).expect("cancel");
}

#[test]
fn a_restart_counts_anew_and_a_lost_worker_is_counted() {
    let mut cluster = Setup::new().flags(&["--lease", "1s"]).start();
    let address = address(&cluster);
    cluster.worker(1);
    let api = cluster.api();
    let running = api.submit_one(spec::shell("sleep 600"));
    wait::holds("it runs", || Exposition::of(&address).value("taskq_tasks{state=\"running\"}") == 1.0);
    cluster.worker_at(0).kill();
    let lost = wait::until("the worker is lost", || {
        let seen = Exposition::of(&address);
        (seen.value("taskq_workers_lost_total") == 1.0).then_some(seen)
    });
    assert_eq!(lost.value("taskq_attempts_ended_total{verdict=\"lost\"}"), 1.0);
    assert_eq!(lost.value("taskq_attempts_retried_total"), 1.0);
    assert_eq!(lost.value("taskq_tasks{state=\"queued\"}"), 1.0);
    assert!(!lost.text.contains("worker=\"w0\""), "who is lost is not listed:\n{}", lost.text);
    cluster.stop_server();
    cluster.start_server();
    let after = Exposition::of(&address);
    assert_eq!(after.value("taskq_epoch"), 2.0);
    assert_eq!(after.value("taskq_tasks_submitted_total"), 0.0, "it was counted before");
    assert_eq!(after.value("taskq_tasks{state=\"queued\"}"), 1.0);
    cluster.api().cancel(&[running]).expect("cancel");
}

#[test]
fn only_who_may_read_does() {
    let cluster = Cluster::start();
    let address = address(&cluster);
    let token = cluster.access().token;
    let good = format!("Authorization: Bearer {token}");
    assert_eq!(get(&address, "/metrics", &[&good]).status, 200);
    let wrong = ["Authorization: Bearer tq_wrong", "Authorization: Basic dXNlcjpwYXNz", "Authorization:"];
    for line in wrong {
        let page = get(&address, "/metrics", &[line]);
        assert_eq!((page.status, page.body.contains("taskq_")), (401, false), "{line}: {page:?}");
        assert!(page.head.contains("www-authenticate: bearer"), "{page:?}");
    }
    assert_eq!(get(&address, "/metrics", &[&good, &good]).status, 401, "said twice");
    let named = send(&address, b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert_eq!((named.status, named.body.contains("taskq_")), (401, false), "{named:?}");
    let page = get(&address, "/metrics?x=1", &[]);
    assert_eq!(page.status, 200);
    assert!(page.head.contains("content-type: text/plain; version=0.0.4"), "{page:?}");
    assert!(!page.body.contains(&token));
}

#[test]
fn strangers_see_metrics_only_with_the_token() {
    if !need::root_and(hosts::TOOLS) {
        return;
    }
    let hosts = Hosts::new(1);
    hosts.join(0);
    // Who comes from an address of the network is a stranger, also on the same machine.
    let address = format!("{}:7733", hosts.at(0).address());
    let setup = Setup::new().listen(&address).under(&hosts.at(0).wrapper());
    let cluster = setup.flags(&["--insecure-plaintext"]).start();
    assert_eq!(get(&address, "/healthz", &[]).status, 200);
    let refused = get(&address, "/metrics", &[]);
    assert_eq!((refused.status, refused.body.contains("taskq_")), (401, false), "{refused:?}");
    let good = format!("Authorization: Bearer {}", cluster.access().token);
    assert_eq!(get(&address, "/metrics", &[&good]).status, 200);
}

#[test]
fn other_paths_methods_and_protocols_are_told_what_there_is() {
    let cluster = Cluster::start();
    let address = address(&cluster);
    let healthy = get(&address, "/healthz", &[]);
    assert_eq!((healthy.status, healthy.body.as_str()), (200, "serving\n"), "{healthy:?}");
    for path in ["/", "/metrics/", "/metrics/../metrics", "//metrics", "/taskq.v1.Jobs/Submit", "/%6detrics"]
    {
        let page = get(&address, path, &[]);
        assert_eq!(page.status, 404, "{path}: {page:?}");
        assert!(page.body.contains("/metrics") && page.body.contains("taskq command"), "{page:?}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"] {
        let request = format!("{method} /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
        let page = send(&address, request.as_bytes());
        assert_eq!(page.status, 405, "{method}: {page:?}");
        assert!(page.head.contains("allow: get, head"), "{page:?}");
    }
    let head = send(&address, b"HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!((head.status, head.body.as_str()), (200, ""), "{head:?}");
    let old = send(&address, b"GET /metrics HTTP/1.0\r\n\r\n");
    assert_eq!(old.status, 200, "HTTP/1.0 has no Host");
    assert!(old.body.contains("taskq_build_info"), "{old:?}");
    let tls = send(&address, &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03]);
    assert_eq!(tls.status, 505, "{tls:?}");
    assert!(tls.body.contains("gRPC"), "{tls:?}");
}

#[test]
fn nonsense_is_refused_and_the_next_one_is_served() {
    let cluster = Cluster::start();
    let address = address(&cluster);
    let long = "x".repeat(1 << 20);
    let many = "X-Flood: value\r\n".repeat(5_000);
    let cases: [(&str, String, &[u16]); 9] = [
        ("a head of 1 MiB", format!("GET /metrics HTTP/1.1\r\nX-Long: {long}\r\n\r\n"), &[431, 0]),
        ("a path of 1 MiB", format!("GET /{long} HTTP/1.1\r\n\r\n"), &[414, 431, 0]),
        ("5,000 lines", format!("GET /metrics HTTP/1.1\r\n{many}\r\n"), &[431, 0]),
        ("no version", "GET /metrics\r\n\r\n".to_owned(), &[400, 0]),
        ("another version", "GET /metrics HTTP/3.9\r\n\r\n".to_owned(), &[400, 505, 0]),
        ("half a preface", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_owned(), &[400, 505, 0]),
        ("no method", "\0\0\0\0\r\n\r\n".to_owned(), &[505]),
        ("a line without a colon", "GET /metrics HTTP/1.1\r\nnonsense\r\n\r\n".to_owned(), &[400, 0]),
        ("zeros in a line", "GET /metrics HTTP/1.1\r\nHost: a\0b\r\n\r\n".to_owned(), &[400, 0]),
    ];
    for (what, bytes, expected) in cases {
        let page = send(&address, bytes.as_bytes());
        assert!(expected.contains(&page.status), "{what}: {page:?}");
        assert!(!page.body.contains("taskq_build_info"), "{what}: {page:?}");
        assert_eq!(get(&address, "/metrics", &[]).status, 200, "after {what}");
    }
}

#[test]
fn a_connection_is_for_one_request() {
    let cluster = Cluster::start();
    let address = address(&cluster);
    let three = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n".repeat(3);
    let page = send(&address, three.as_bytes());
    assert_eq!(page.status, 200);
    assert!(page.head.contains("connection: close"), "{}", page.head);
    assert_eq!(page.body.matches("# TYPE taskq_epoch ").count(), 1, "pipelined requests are not answered");
    // A body that is announced is not waited for.
    let body =
        send(&address, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n");
    assert_eq!(body.status, 200, "{body:?}");
}

#[test]
fn who_dawdles_is_hung_up_on_and_holds_up_nobody() {
    let cluster = Cluster::start();
    let address = address(&cluster);
    let begun = Instant::now();
    // Each with half a head.
    let mut slow: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = TcpStream::connect(&address).expect("connect");
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: loc").expect("half a head");
            stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a read timeout");
            stream
        })
        .collect();
    // Neither gRPC nor the next one notices.
    assert!(cluster.api().stats().is_ok());
    let seen = Exposition::of(&address);
    assert_eq!(seen.value("taskq_connections{protocol=\"http\"}"), 101.0);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    for stream in &mut slow {
        let page = http::finish(stream);
        assert!([0, 408].contains(&page.status), "{page:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    wait::holds("none is left", || {
        Exposition::of(&address).value("taskq_connections{protocol=\"http\"}") == 1.0
    });
}

#[test]
fn ten_thousand_scrapes_leave_nothing_behind() {
    let cluster = Cluster::start();
    let address = address(&cluster);
    let round = |many: usize| {
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..many / 8 {
                        assert_eq!(get(&address, "/metrics", &[]).status, 200);
                    }
                });
            }
        });
    };
    let pid = cluster.server_pid();
    round(2_000);
    let before = procs::resident_bytes(pid).expect("the coordinator lives");
    round(8_000);
    let after = procs::resident_bytes(pid).expect("the coordinator lives");
    assert!(after < before + before / 10 + (4 << 20), "{before} bytes before, {after} after");
    assert!(Exposition::of(&address).value("process_open_fds") < 200.0);
}

#[test]
fn a_coordinator_full_of_work_is_still_seen() {
    let mut cluster = Cluster::start();
    let address = address(&cluster);
    cluster.worker(2);
    let api = cluster.api();
    let mut jobs = Vec::new();
    for queue in 0..300 {
        let mut job = spec::array(spec::command(&["true"]), 20);
        job.queue = format!("q{queue}");
        jobs.push(job);
    }
    let ids = api.submit(&spec::request(jobs)).expect("submit");
    let last = *ids.last().expect("300 jobs");
    let mut scrapes = 0;
    let mut slowest = Duration::ZERO;
    while !spec::is_terminal(api.get(last).expect("a job").state) {
        let begun = Instant::now();
        let seen = Exposition::of(&address);
        slowest = slowest.max(begun.elapsed());
        scrapes += 1;
        let running = seen.value("taskq_tasks{state=\"running\"}");
        let over = seen.sum("taskq_attempts_ended_total");
        assert_eq!(seen.value("taskq_attempts_started_total"), over + running, "{}", seen.text);
        let live = seen.sum("taskq_tasks");
        assert_eq!(seen.value("taskq_tasks_submitted_total"), seen.sum("taskq_tasks_ended_total") + live);
        // Those that were not used for long are forgotten.
        assert!((200.0..=300.0).contains(&seen.value("taskq_queues")), "{}", seen.text);
        assert_eq!(seen.values.keys().filter(|series| series.starts_with("taskq_queue_jobs{")).count(), 200);
    }
    assert!(scrapes >= 3, "it was over too soon to look: {scrapes}");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    for id in ids {
        api.ended(id);
    }
    assert_eq!(Exposition::of(&address).value("taskq_tasks_ended_total{outcome=\"succeeded\"}"), 6_000.0);
}
