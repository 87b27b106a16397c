//! Output of tasks: whole streams byte for byte, results of many tasks in order and in time, and gaps that are told.

use std::fs::{self, File, OpenOptions};
use std::time::Duration;
use taskq_proto::v1 as pb;
use taskq_proto::v1::outcome::Kind;
use taskq_proto::v1::worker_message::Body as Said;
use taskq_tests::{Api, Cluster, Disk, FakeWorker, Seed, Setup, need, spec};

const MIB: usize = 1 << 20;

fn one_worker() -> Cluster {
    let mut cluster = Cluster::start();
    cluster.worker(2);
    cluster
}

#[test]
fn a_large_stream_passes_through_run_byte_for_byte() {
    let cluster = one_worker();
    let original = cluster.folder().join("original");
    let script = format!("head -c {} /dev/urandom | tee original", 64 * MIB);
    let run = cluster.taskq(&["run", "-c", &script]).ok();
    let expected = fs::read(&original).unwrap();
    assert_eq!(expected.len(), 64 * MIB);
    assert!(run.stdout == expected, "{} bytes of {}", run.stdout.len(), expected.len());
    for command in [vec!["result", "last"], vec!["logs", "last"]] {
        let again = cluster.taskq(&command).ok();
        assert!(again.stdout == expected, "{command:?}: {} bytes", again.stdout.len());
    }
}

#[test]
fn standard_input_of_run_comes_out_again() {
    let cluster = one_worker();
    let bytes = Seed::new("standard input").bytes(24 * MIB);
    let run = cluster.cli(&["run", "--stdin", "-", "--", "cat"]).stdin(bytes.clone()).run().ok();
    assert!(run.stdout == bytes, "{} bytes of {}", run.stdout.len(), bytes.len());
}

#[test]
fn a_gap_in_attached_output_is_told_and_never_a_success() {
    let cluster = one_worker();
    let script = "head -c 1000000 /dev/zero";
    let limited = |command: &'static str, script| [command, "--output-limit", "100000", "-c", script];
    let said = ["900000 bytes", "--output-limit"];
    let run = cluster.taskq(&limited("run", script)).code(74).says(&said);
    assert_eq!(run.stdout.len(), 100_000);
    let quiet = [&["run", "--exit-zero"][..], &limited("run", script)[1..]].concat();
    cluster.taskq(&quiet).code(74).says(&said);
    let follow = [&["submit", "--follow"][..], &limited("submit", script)[1..]].concat();
    cluster.taskq(&follow).code(74).says(&said);
    let waited = [&["submit", "--wait"][..], &limited("submit", script)[1..]].concat();
    let id = cluster.taskq(&waited).ok().number().to_string();
    assert_eq!(cluster.taskq(&["result", &id]).code(74).says(&said).stdout.len(), 100_000);
    let shown = cluster.taskq(&["result", &id, "--json"]).code(74).says(&said).json();
    assert_eq!(shown["results"][0]["stdout_missing_bytes"], 900_000, "{shown}");
    for flags in [&["--json"][..], &["-o", "jsonl"], &["--json", "-f"]] {
        let logs = cluster.taskq(&[&["logs", &id][..], flags].concat()).code(74).says(&said);
        let text = String::from_utf8(logs.stdout.clone()).unwrap();
        let missing = if flags == ["--json"] {
            let document = logs.json();
            assert_eq!(document["schema"], "taskq.v1.logs");
            let pieces = document["logs"].as_array().unwrap().iter();
            pieces.map(|piece| piece["missing_bytes"].as_u64().unwrap()).sum::<u64>()
        } else {
            let pieces = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            pieces.map(|piece| piece["missing_bytes"].as_u64().unwrap()).sum()
        };
        assert_eq!(missing, 900_000, "{flags:?}: {text}");
    }
    cluster.taskq(&["logs", &id, "--stderr", "--json"]).ok();
    let map = ["map", "--output-limit", "100000", "head -c 1000000 {}", ":::", "/dev/zero"];
    assert_eq!(cluster.taskq(&map).code(74).says(&said).stdout.len(), 100_000);

    // The program's own failure says more, and messages are not the data.
    cluster.taskq(&limited("run", "head -c 1000000 /dev/zero; exit 3")).code(3).says(&said);
    cluster.taskq(&limited("run", "head -c 1000000 /dev/zero >&2")).ok().says(&said);
    // Nothing is kept if that is what was asked for.
    let nothing = cluster.taskq(&["run", "--output-limit", "0", "--", "echo", "hi"]).code(74);
    assert_eq!(nothing.says(&["3 bytes"]).stdout, b"");
    cluster.taskq(&["run", "--output-limit", "0", "--", "true"]).ok();
    // What is not looked at is submitted with the usual limit.
    let id = cluster.taskq(&["submit", "--wait", "-c", "head -c 3000000 /dev/zero"]).ok().number();
    assert_eq!(cluster.taskq(&["result", &id.to_string()]).code(74).stdout.len(), MIB);
}

#[test]
fn an_output_that_cannot_be_written_is_seventy_four() {
    let cluster = one_worker();
    for arguments in [vec!["run", "--", "echo", "hi"], vec!["submit", "--follow", "--", "echo", "hi"]] {
        let mut command = cluster.cli(&arguments).into_command();
        command.stdout(OpenOptions::new().write(true).open("/dev/full").unwrap());
        command.stderr(File::create(cluster.folder().join("said")).unwrap());
        let status = command.status().unwrap();
        assert_eq!(status.code(), Some(74), "{arguments:?}");
    }
}

#[test]
fn a_full_disk_costs_output_before_anything_else() {
    if !need::root_and(&["mount"]) {
        return;
    }
    let disk = Disk::tmpfs(192);
    let mut cluster = Setup::new().data(&disk.folder().join("data")).tolerate("nearly full").start();
    cluster.worker(1);
    let run =
        cluster.taskq(&["run", "--", "head", "-c", "400000000", "/dev/zero"]).code(74).says(&["missing"]);
    assert!(run.stdout.len() > 32 * MIB, "{} bytes", run.stdout.len());
    // The rest of the store goes on.
    let id = cluster.taskq(&["submit", "--wait", "--", "sh", "-c", "echo small; exit 7"]).code(7).out();
    assert_eq!(cluster.taskq(&["result", &id]).code(7).out(), "small");
}

/// So many that a reading that is not linear takes many minutes.
const MANY: u32 = 20_000;

#[test]
fn results_of_many_tasks_come_in_order_and_in_time() {
    let cluster = Setup::new().start();
    let api = cluster.api();
    let id = ended_array(&cluster, &api);
    let within = Duration::from_secs(20);
    let run = cluster.cli(&["result", &id]).start().end_within(within).code(1);
    let expected: String = (0..MANY).map(|index| format!("{index}\n")).collect();
    assert!(run.stdout == expected.as_bytes(), "in the order of the tasks");
    assert!(run.stderr.lines().count() <= 12, "a few notes and their number: {}", run.stderr);
    let failed = MANY / 10;
    let run = run.says(&["exit 1", &format!("{} more tasks", failed - 10), &format!("taskq tasks {id}")]);
    println!("{MANY} results in {:?}", run.wall);

    let run = cluster.cli(&["result", &id, "-o", "jsonl"]).start().end_within(within).code(1);
    let text = String::from_utf8(run.stdout).unwrap();
    let rows: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), MANY as usize);
    assert!(
        rows.iter().zip(0..).all(|(row, index)| row["index"] == index && row["schema"] == "taskq.v1.result")
    );
    let document = cluster.cli(&["result", &id, "--json"]).start().end_within(within).code(1).json();
    assert_eq!(document["schema"], "taskq.v1.results");
    let results = document["results"].as_array().unwrap();
    assert!(results.iter().zip(0..MANY).all(|(row, index)| row["stdout"] == format!("{index}\n")));

    // A few of them, and the output of one among its thousands of neighbours.
    let some = cluster.taskq(&["result", &format!("{id}.7,19000-19002")]).code(1);
    assert_eq!(some.out(), "7\n19000\n19001\n19002");
    assert_eq!(cluster.taskq(&["logs", &format!("{id}.19001"), "--no-prefix"]).ok().out(), "19001");
    cluster.taskq(&["result", &format!("{id}.{MANY}")]).code(3);
}

#[test]
fn results_are_refused_before_anything_is_printed_if_one_task_runs() {
    let cluster = one_worker();
    let script = "test {} = 3 && exec sleep 600; echo {}";
    let id = cluster.taskq(&["submit", "--array", "1-3", "-c", script]).ok().out();
    let number = id.parse().unwrap();
    taskq_tests::wait::holds("two have ended", || {
        cluster.api().get(number).is_ok_and(|job| job.counts.is_some_and(|counts| counts.succeeded == 2))
    });
    let refused = cluster.taskq(&["result", &id]).code(5).says(&[&format!("{id}.2"), "--wait"]);
    assert_eq!(refused.stdout, b"");
    assert_eq!(cluster.taskq(&["result", &format!("{id}.0-1")]).ok().out(), "1\n2");
    // Following one that has ended does not wait for the one that runs.
    assert_eq!(cluster.taskq(&["logs", "-f", &format!("{id}.1"), "--no-prefix"]).ok().out(), "2");
    cluster.taskq(&["cancel", &id, "-y"]).ok();
}

/// A job of `MANY` tasks that have written their index; each tenth has failed.
fn ended_array(cluster: &Cluster, api: &Api) -> String {
    let id = api.submit_one(spec::array(spec::command(&["true"]), MANY));
    let access = cluster.access();
    // It stays until the coordinator has taken all that it said.
    let _worker = api
        .block_on(async {
            let (mut worker, _) = FakeWorker::join(&access, "many", 64, 4_096).await?;
            let mut left = MANY as usize;
            while left > 0 {
                let keys = worker.assigned().await?;
                left -= keys.len();
                let reports = keys.into_iter().map(|key| {
                    let line = format!("{}\n", key.index).into_bytes();
                    let outcome = pb::Outcome {
                        kind: Kind::Exited.into(),
                        exit_code: i32::from(key.index % 10 == 0),
                        stdout_bytes: line.len() as u64,
                        stdout: line.into(),
                        ..pb::Outcome::default()
                    };
                    pb::Report { key: Some(key), event: Some(pb::report::Event::Outcome(outcome)) }
                });
                worker.say(Said::Reports(pb::Reports { reports: reports.collect() })).await;
            }
            Ok::<_, tonic::Status>(worker)
        })
        .expect("the fake worker works");
    api.ended(id);
    id.to_string()
}

#[test]
fn each_attempt_is_shown_whole_and_apart() {
    let mut cluster = Cluster::start();
    cluster.worker(1);
    let script = "echo attempt {attempt} begins; echo attempt {attempt} ends; [ {attempt} = 3 ]";
    let run = ["run", "--retries", "2", "--backoff", "fixed:10ms", "-c", script];
    let run = cluster.taskq(&run).ok();
    let all = "attempt 1 begins\nattempt 1 ends\nattempt 2 begins\nattempt 2 ends\nattempt 3 begins\nattempt 3 ends";
    assert_eq!(run.out(), all, "{run}");
    assert!(
        run.stderr.contains("attempt 2 of task 1.0") && run.stderr.contains("attempt 3 of task 1.0"),
        "{run}"
    );
    assert_eq!(cluster.taskq(&["logs", "last"]).ok().out(), all);
    assert_eq!(
        cluster.taskq(&["logs", "last", "--attempt", "2"]).ok().out(),
        "attempt 2 begins\nattempt 2 ends"
    );
    assert_eq!(cluster.taskq(&["result", "last"]).ok().out(), "attempt 3 begins\nattempt 3 ends");
}
