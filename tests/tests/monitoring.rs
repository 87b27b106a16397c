//! `deploy/monitoring`: what it asks for is there. Every metric of dashboard, alerts and documents is told by a running
//! coordinator and every one that is told is documented; Prometheus' own checker accepts all of it; each alert says what to
//! do, and has been seen to fire.

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use taskq_proto::v1 as pb;
use taskq_tests::binaries::workspace;
use taskq_tests::{Cluster, Exposition, need, spec, wait};

fn folder() -> PathBuf {
    workspace().join("deploy/monitoring")
}

fn read(name: &str) -> String {
    fs::read_to_string(folder().join(name)).expect("a file of deploy/monitoring")
}

/// Metrics that are asked for: words that begin like ours, without what a histogram adds.
fn asked(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_part(c)).filter(|word| {
        word.starts_with("taskq_") || (word.starts_with("process_") && word.len() > "process_".len())
    });
    words.map(family).collect()
}

/// The metric that a series belongs to.
fn family(series: &str) -> String {
    let ends = ["_bucket", "_sum", "_count"];
    let base = ends.iter().find_map(|end| series.strip_suffix(end)).unwrap_or(series);
    base.to_owned()
}

/// The names in the table of docs/METRICS.md, with their types.
fn documented() -> Vec<(String, String)> {
    let text = fs::read_to_string(workspace().join("docs/METRICS.md")).expect("docs/METRICS.md");
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        Some((cells.next()?.trim_end_matches('`').to_owned(), cells.next()?.to_owned()))
    };
    text.lines().filter_map(row).collect()
}

/// Every query of the dashboard.
fn queries() -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    match field {
                        Value::String(text) if name == "expr" => found.push(text.clone()),
                        _ => collect(field, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null => {}
        }
    }
    let dashboard: Value = serde_json::from_str(&read("dashboard.json")).expect("a dashboard is JSON");
    let mut found = Vec::new();
    collect(&dashboard, &mut found);
    assert!(found.len() > 40, "the dashboard has queries: {}", found.len());
    found
}

/// What a coordinator tells once there are a queue, a worker, and jobs that succeeded, failed and were tried again.
fn told() -> Exposition {
    let mut cluster = Cluster::start();
    cluster.worker(2);
    let api = cluster.api();
    let mut bad = spec::shell("exit 3");
    bad.retry = Some(pb::Retry { max_attempts: 2, backoff_ms: 1, ..Default::default() });
    for job in [spec::array(spec::command(&["true"]), 3), bad] {
        api.ended(api.submit_one(job));
    }
    let address = cluster.access().address;
    wait::until("the worker has spoken of itself", || {
        let seen = Exposition::of(&address);
        (seen.values.get("taskq_worker_attempts_ended_total{worker=\"w0\"}") == Some(&5.0)).then_some(seen)
    })
}

/// Runs promtool on a folder, with this on its standard input; what it said.
#[track_caller]
fn promtool(folder: &Path, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    let mut stdin = child.stdin.take().expect("its standard input");
    let input = input.to_owned();
    // What it does not want to read it need not.
    let feeding = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("promtool ends");
    let _fed = feeding.join().expect("the feeding thread ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}: {}\n{said}", output.status);
    said
}

#[test]
fn what_is_told_is_documented_and_what_is_asked_for_is_told() {
    let seen = told();
    let told: BTreeSet<String> = seen.types.keys().cloned().collect();
    let documented = documented();
    for (name, kind) in &documented {
        assert_eq!(seen.types.get(name), Some(kind), "docs/METRICS.md has {name}");
    }
    let known: BTreeSet<String> = documented.into_iter().map(|(name, _)| name).collect();
    assert_eq!(told, known, "docs/METRICS.md has what is told");
    for series in seen.values.keys() {
        let name = series.split('{').next().unwrap_or_default();
        assert!(told.contains(name) || told.contains(&family(name)), "{series} is introduced");
    }
    for file in ["dashboard.json", "alerts.yml", "alerts_test.yml", "README.md", "prometheus.yml"] {
        for name in asked(&read(file)) {
            assert!(told.contains(&name), "deploy/monitoring/{file} asks for {name}, which is not told");
        }
    }
    let shown = asked(&queries().join("\n"));
    for name in known.iter().filter(|name| name.starts_with("taskq_")) {
        assert!(shown.contains(name), "no panel shows {name}");
    }
}

#[test]
fn each_alert_says_what_to_do_and_has_been_seen() {
    let (alerts, tests) = (read("alerts.yml"), read("alerts_test.yml"));
    let rules: Vec<&str> = alerts.split("- alert: ").skip(1).collect();
    assert!(rules.len() >= 10, "there are alerts: {}", rules.len());
    for rule in rules {
        let name = rule.lines().next().expect("a name").trim();
        let runbook = rule.split_once("runbook: >-").map(|(_, text)| text.trim()).unwrap_or_default();
        assert!(runbook.len() > 60, "{name} has a runbook");
        assert!(rule.contains("severity: "), "{name} has a severity");
        assert!(rule.contains("summary: \""), "{name} has a summary");
        let fires = format!("{{labels: '{{alertname=\"{name}\"}}', value: ");
        assert!(tests.contains(&fires), "no test of the alerts sees {name} fire");
    }
}

#[test]
fn prometheus_takes_it_all() {
    if !need::tools_present(&["promtool"]) {
        return;
    }
    let place = tempfile::tempdir().expect("a folder");
    for file in ["prometheus.yml", "alerts.yml", "alerts_test.yml"] {
        fs::copy(folder().join(file), place.path().join(file)).expect("a copy");
    }
    fs::write(place.path().join("taskq-token"), "tq_0\n").expect("a token");
    promtool(place.path(), &["check", "config", "prometheus.yml"], "");
    promtool(place.path(), &["check", "rules", "alerts.yml"], "");
    promtool(place.path(), &["test", "rules", "alerts_test.yml"], "");
    // Each query of the dashboard as a rule, for the same checker.
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for (number, query) in queries().into_iter().enumerate() {
        let query = query.replace("$__rate_interval", "5m").replace("$instance", ".*");
        let query = serde_json::to_string(&query).expect("a string");
        rules += &format!("      - record: panel:{number}\n        expr: {query}\n");
    }
    fs::write(place.path().join("dashboard.yml"), rules).expect("rules of the dashboard");
    promtool(place.path(), &["check", "rules", "dashboard.yml"], "");
    let said = promtool(place.path(), &["check", "metrics"], &told().text);
    assert_eq!(said, "", "nothing to remark");
}
