//! What programs read: with --json one versioned document a command, with -o jsonl one line a thing; and tables for
//! people on narrow terminals.

use serde_json::Value;
use taskq_tests::{Cluster, spec};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

fn schemas(lines: &[Value]) -> Vec<&str> {
    lines.iter().filter_map(|line| line["schema"].as_str()).collect()
}

#[test]
fn commands_that_stay_give_the_job_at_its_end() {
    let mut cluster = Cluster::start();
    cluster.worker(2);
    let script = ["sh", "-c", "echo out; echo err >&2; exit 3"];
    for words in [&["run", "--json", "--"][..], &["submit", "--wait", "--json", "--"]] {
        let run = cluster.taskq(&[words, &script].concat()).code(3);
        let shown = run.json();
        assert_eq!(shown["schema"], "taskq.v1.show", "{run}");
        assert_eq!(shown["jobs"][0]["state"], "failed", "{run}");
        assert_eq!(shown["tasks"][0]["outcome"]["exit_code"], 3, "{run}");
        let id = shown["jobs"][0]["id"].to_string();
        let later = cluster.taskq(&["show", &id, "--json"]).ok().json();
        assert_eq!(shown, later, "the same as taskq show");
        assert_eq!(cluster.taskq(&["wait", &id, "--json"]).code(3).json(), later);
    }
    let followed = cluster.taskq(&[&["submit", "-f", "--json", "--"][..], &script].concat()).code(3);
    assert_eq!(followed.json()["jobs"][0]["state"], "failed");
    followed.says(&["err"]);
    let streamed = cluster.taskq(&["submit", "--wait", "-o", "jsonl", "--", "true"]).ok();
    assert_eq!(schemas(&lines(&streamed.out())), ["taskq.v1.submitted", "taskq.v1.job", "taskq.v1.task"]);
}

#[test]
fn wait_gives_all_jobs_also_after_a_timeout() {
    let cluster = Cluster::start();
    let api = cluster.api();
    let (first, second) =
        (api.submit_one(spec::command(&["true"])), api.submit_one(spec::command(&["true"])));
    let ids = [first.to_string(), second.to_string()];
    let waiting = cluster.taskq(&["wait", &ids[0], &ids[1], "--timeout", "10ms", "--json"]).code(124).json();
    assert_eq!(waiting["jobs"][1]["state"], "queued", "{waiting}");
    api.cancel(&[first, second]).expect("cancel");
    let ended = cluster.taskq(&["wait", &ids[0], &ids[1], "-o", "jsonl"]).code(6).out();
    let ended = lines(&ended);
    assert_eq!(schemas(&ended), ["taskq.v1.job", "taskq.v1.job", "taskq.v1.task", "taskq.v1.task"]);
    assert_eq!((&ended[0]["state"], &ended[1]["id"]), (&Value::from("cancelled"), &Value::from(second)));
    let part = cluster.taskq(&["wait", &format!("{first}.0"), "--json"]).json();
    assert_eq!(part["tasks"][0]["state"], "cancelled", "{part}");
}

#[test]
fn map_gives_a_line_for_each_task() {
    let mut cluster = Cluster::start();
    cluster.worker(2);
    let run = cluster.taskq(&["map", "-o", "jsonl", "echo", ":::", "a", "b"]).ok();
    let ended = lines(&run.out());
    assert_eq!(schemas(&ended), ["taskq.v1.task", "taskq.v1.task", "taskq.v1.job"], "{run}");
    assert_eq!(ended[1]["index"], 1, "in order: {run}");
    let whole = cluster.taskq(&["map", "--json", "echo", ":::", "a", "b"]).ok().json();
    assert_eq!(whole["jobs"][0]["counts"]["succeeded"], 2, "{whole}");
}

#[test]
fn logs_are_pieces_with_their_place() {
    let mut cluster = Cluster::start();
    cluster.worker(1);
    let words = ["submit", "--wait", "-Q", "--", "sh", "-c", "printf 'a\\377'; echo e >&2"];
    let id = cluster.taskq(&words).ok().out();
    let logs = cluster.taskq(&["logs", &id, "--json"]).ok().json();
    assert_eq!(logs["schema"], "taskq.v1.logs");
    let pieces = logs["logs"].as_array().expect("pieces");
    let of = |stream: &str| pieces.iter().find(|piece| piece["stream"] == stream).expect("its output");
    assert_eq!(of("stdout")["data"]["base64"], "Yf8=", "{logs}");
    assert_eq!(of("stderr")["data"], "e\n", "{logs}");
    let followed = cluster.taskq(&["logs", "-f", &id, "--json", "--stderr"]).ok().out();
    let followed = lines(&followed);
    assert_eq!((schemas(&followed), &followed[0]["worker"]), (vec!["taskq.v1.log"], &Value::from("w0")));
}

#[test]
fn show_gives_a_line_for_each_thing() {
    let cluster = Cluster::start();
    let id = cluster.api().submit_one(spec::array(spec::command(&["true"]), 3));
    let shown = cluster.taskq(&["show", &id.to_string(), &format!("{id}.1-2"), "-o", "jsonl"]).ok();
    let shown = lines(&shown.out());
    assert_eq!(schemas(&shown), ["taskq.v1.job", "taskq.v1.task", "taskq.v1.task"]);
    assert_eq!(shown[2]["index"], 2);
}

#[test]
fn tables_fit_whatever_there_is() {
    let mut cluster = Cluster::start();
    cluster.worker_with(1, &["--label", "zone=a", "--resource", "gpu=3"]);
    let mut job = spec::array(spec::command(&["true"]), 2);
    job.name = "a name that is much longer than a narrow terminal 日本語".to_owned();
    job.queue = "a-queue-with-a-long-name".to_owned();
    let api = cluster.api();
    let id = api.submit_one(job);
    api.ended(id);
    let id = id.to_string();
    for columns in ["1", "5", "9", "20", "33", "80"] {
        let most: usize = columns.parse().expect("a number");
        for words in
            [&["ls"][..], &["tasks", &id], &["worker", "ls"], &["queue", "ls"], &["rm", &id, "--dry-run"]]
        {
            let run = cluster.cli(&[words, &["-o", "table"]].concat()).env("COLUMNS", columns).run().ok();
            let out = run.out();
            let widest = out.lines().map(|line| line.chars().map(width).sum()).max().unwrap_or(0);
            assert!(widest <= most, "{widest} of {columns} columns: {run}");
            assert!(!out.is_empty(), "{run}");
        }
    }
    let narrow = cluster.cli(&["tasks", &id, "-o", "table"]).env("COLUMNS", "12").run().ok().out();
    assert!(narrow.starts_with(&format!("TASK: {id}.0\nSTATE: succ…")), "{narrow}");
}

/// Columns of a character of this test.
fn width(c: char) -> usize {
    if "日本語".contains(c) { 2 } else { 1 }
}
