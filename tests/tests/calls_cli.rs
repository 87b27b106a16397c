//! The command line calls functions: values on standard output, everything else on standard error, and exit codes that
//! tell how a call ended.

use rustix::process::Signal;
use serde_json::json;
use taskq_tests::{Cluster, Setup, binaries, need, wait};

fn troubled() -> Cluster {
    // The worker says what its children do.
    let mut cluster = Setup::new().tolerate("child").start();
    cluster.worker_of(&binaries::example("troubled"), 2, &[]);
    cluster
}

#[test]
fn a_value_is_one_line_and_output_does_not_mix_with_it() {
    let cluster = troubled();
    let echoed = cluster.taskq(&["call", "echo", "--json", "{\"a\": [1,\n 2], \"b\": \"x  y\"}"]).ok();
    assert_eq!(String::from_utf8_lossy(&echoed.stdout), "{\"a\":[1,2],\"b\":\"x  y\"}\n");
    assert_eq!(echoed.stderr, "");
    for (argument, value) in [(&["-5"][..], "-5\n"), (&[], "null\n"), (&["--json", "\"ä\""], "\"ä\"\n")] {
        let run = cluster.taskq(&[&["call", "echo"], argument].concat()).ok();
        assert_eq!(String::from_utf8_lossy(&run.stdout), value, "{argument:?}");
    }
    for function in ["says", "async.says", "child.says"] {
        let run = cluster.taskq(&["call", function, "--json", "\"hey\""]).ok();
        assert_eq!(String::from_utf8_lossy(&run.stdout), "null\n", "{function}");
        run.says(&["printed hey\n", "complained hey\n", "logged hey\n", "written hey\n"]);
    }
    // As it is: no codec reads or writes it.
    let run = cluster.taskq(&["call", "says", "--text", "hey you"]).ok().says(&["printed hey you\n"]);
    assert_eq!(run.stdout, b"", "nothing, written as it is");
    let large = cluster.taskq(&["call", "large", "3000000"]).ok();
    assert_eq!(large.stdout.len(), 3_000_003, "more than an outcome holds");
}

#[test]
fn a_failed_call_says_why_and_its_exit_code_says_how() {
    let cluster = troubled();
    let run = |words: &[&str]| cluster.taskq(&[&["call"], words].concat());
    let typed = run(&["fails", "\"typed\""]).code(1);
    assert_eq!(typed.stdout, b"");
    assert!(!typed.stderr.contains("its output"), "it printed nothing: {typed}");
    typed.says(&[
        "fails returned an error: tank 3 is empty",
        "troubled.rs:",
        "  value: {\"tank\":3}\n",
        "job 1, task 0, attempt 1",
    ]);
    // The error itself is there for programs.
    let shown = &cluster.taskq(&["show", "1", "--json"]).ok().json()["tasks"][0]["outcome"]["failure"];
    let result =
        &cluster.taskq(&["result", "1", "--json"]).code(1).json()["results"][0]["outcome"]["failure"];
    assert_eq!((&shown["value"], &result["value"]), (&json!({"tank": 3}), &json!({"tank": 3})));
    assert!(cluster.taskq(&["show", "1"]).ok().out().contains("value: {\"tank\":3}"));
    let panicked = run(&["panic", "\"no way\"", "--retries", "1", "--backoff", "fixed:1ms"]).code(1);
    for words in ["panic panicked: no way\n", "troubled.rs:", "attempt 2"] {
        assert!(panicked.stderr.contains(words), "{words:?} in {panicked}");
    }
    run(&["large", "--text", "7"]).code(1).says(&["could not read its argument", "argument as JSON instead"]);
    run(&["fails", "7"]).code(1).says(&["could not read its argument", "expected a string", "attempt 1"]);
    run(&["child.abort"]).code(134).says(&["killed by signal 6"]);
    run(&["patient", "--timeout", "200ms"]).code(124).says(&["longer than its timeout"]);
    // What nobody serves waits, and says so; Ctrl-C takes it back.
    let waits = cluster.cli(&["call", "child.ecoh"]).start();
    wait::holds("the reason is told", || waits.stderr().contains("serves the function child.ecoh"));
    for words in ["(served are child.echo)", "Ctrl-C takes it back", "taskq explain "] {
        assert!(waits.stderr().contains(words), "{words:?} in {}", waits.stderr());
    }
    waits.signal(Signal::INT);
    waits.end().code(130).says(&["cancelling job", "cancelled"]);
}

#[test]
fn a_call_that_is_cancelled_elsewhere_is_6_and_progress_is_seen() {
    let cluster = troubled();
    let calls = cluster.cli(&["call", "steps", "4"]).start();
    wait::holds("progress is shown", || {
        cluster.taskq(&["show", "1"]).out().contains("progress   100% step 4 (task 0)")
    });
    let task = &cluster.taskq(&["tasks", "1", "--json"]).ok().json()["tasks"][0];
    assert_eq!(task["progress"], json!({"index": 0, "fraction": 1.0, "note": "step 4"}));
    let explained = cluster.taskq(&["explain", "1"]).ok().out();
    assert!(explained.contains("task 1.0 runs on ") && explained.contains(": 100% step 4"), "{explained}");
    cluster.taskq(&["cancel", "1"]).ok();
    calls.end().code(6).says(&["steps was cancelled", "taskq retry 1"]);
}

#[test]
fn a_terminal_shows_the_progress_that_a_call_tells() {
    if !need::tools_present(&["script"]) {
        return;
    }
    let cluster = troubled();
    // `script` runs a command on a terminal of its own.
    let line = format!("{} call steps 4", binaries::taskq().display());
    let mut script = std::process::Command::new("script");
    let calls = cluster.cli(&["call"]).into_command();
    script.envs(calls.get_envs().filter_map(|(name, value)| Some((name, value?))));
    script
        .args(["-qec", &line, "/dev/null"])
        .current_dir(cluster.folder())
        .stdin(std::process::Stdio::null());
    let shown = cluster.folder().join("shown");
    script.stdout(std::fs::File::create(&shown).expect("create"));
    let mut script = script.spawn().expect("start script");
    wait::holds("the progress is on the terminal", || {
        std::fs::read_to_string(&shown)
            .is_ok_and(|shown| shown.contains("\r\u{1b}[Ksteps  [##################]  100%  step 4"))
    });
    cluster.taskq(&["cancel", "1"]).ok();
    assert_eq!(script.wait().expect("script ends").code(), Some(6), "its status is that of the call");
}

#[test]
fn a_detached_call_is_picked_up_by_its_number() {
    let cluster = troubled();
    let id =
        cluster.taskq(&["call", "echo", "[1, 2]", "--detach", "--name", "pair"]).ok().number().to_string();
    assert_eq!(cluster.taskq(&["result", &id, "--wait"]).ok().out(), "[1,2]");
    let shown = cluster.taskq(&["show", &id, "--json"]).ok().json();
    assert_eq!(shown["jobs"][0]["call"], json!({"function": "echo", "codec": "json"}));
    assert_eq!(shown["tasks"][0]["outcome"]["kind"], "completed");
    let row = &cluster.taskq(&["result", &id, "--json"]).ok().json()["results"][0];
    assert_eq!((&row["value"], &row["stdout"]), (&json!([1, 2]), &json!("")));

    let id = cluster
        .taskq(&["call", "fails", "\"fatal\"", "--retries", "3", "--detach"])
        .ok()
        .number()
        .to_string();
    cluster.taskq(&["wait", &id]).code(1).says(&["returned an error: invalid digit"]);
    let failure = &cluster.taskq(&["tasks", &id, "--json"]).ok().json()["tasks"][0]["outcome"]["failure"];
    assert_eq!((&failure["cause"], &failure["fatal"]), (&json!("error"), &json!(true)));
    let shown = cluster.taskq(&["show", &id]).ok().out();
    assert!(shown.contains("type: ") && shown.contains("at ") && shown.contains("fatal: "), "{shown}");
    let result = cluster.taskq(&["result", &id]).code(1).says(&["returned an error: invalid digit"]);
    assert_eq!(result.out(), "", "it has no value");
    let row = &cluster.taskq(&["result", &id, "--json"]).code(1).json()["results"][0];
    assert_eq!((&row["state"], &row["outcome"]["kind"]), (&json!("failed"), &json!("failed")));
    // Of several, whether all have succeeded.
    assert_eq!(cluster.taskq(&["result", "1", &id]).code(1).out(), "[1,2]");
    let slow = cluster.taskq(&["call", "patient", "--timeout", "100ms", "--detach"]).ok().out();
    cluster.taskq(&["result", &slow, "--wait"]).code(124).says(&["timed out"]);
}

#[test]
fn a_map_prints_values_in_order_and_failures_with_their_index() {
    let cluster = troubled();
    let values = cluster.taskq(&["map", "--call", "echo", ":::", "1", "two", "\"3\"", "[4]"]).ok();
    assert_eq!(String::from_utf8_lossy(&values.stdout), "1\n\"two\"\n\"3\"\n[4]\n");
    std::fs::write(cluster.folder().join("people.csv"), "name,n\nann,1\nbob,2\n").expect("write");
    let rows = cluster.taskq(&["map", "--call", "child.echo", "--csv", "people.csv"]).ok();
    assert_eq!(rows.out(), "{\"name\":\"ann\",\"n\":\"1\"}\n{\"name\":\"bob\",\"n\":\"2\"}");
    let lines: String = (0..500).map(|n| format!("{{\"n\": {n}}}\n")).collect();
    let many =
        cluster.cli(&["map", "--call", "async.echo", "--jsonl", "-", "--unordered"]).stdin(lines).run().ok();
    let mut seen: Vec<String> = many.out().lines().map(str::to_owned).collect();
    let mut expected: Vec<String> = (0..500).map(|n| format!("{{\"n\":{n}}}")).collect();
    seen.sort_unstable();
    expected.sort_unstable();
    assert_eq!(seen, expected);

    let waits = cluster.cli(&["map", "--call", "ecoh", ":::", "1"]).start();
    wait::holds("a map says why it waits", || waits.stderr().contains("(served are echo)"));
    waits.signal(Signal::INT);
    waits.end().code(130).says(&["serves the function ecoh", "cancelled"]);

    let says = cluster.taskq(&["map", "--call", "says", ":::", "a", "b"]).ok();
    assert_eq!(String::from_utf8_lossy(&says.stdout), "null\nnull\n");
    says.says(&["printed a\n", "complained b\n"]);

    let mixed = &["map", "--call", "fails", "--joblog", "log.tsv", ":::", "\"7\"", "typed", "\"8\""];
    let mixed = cluster.taskq(mixed).code(1);
    assert_eq!(mixed.out(), "7\n8");
    mixed.says(&[".1 failed: returned an error: tank 3 is empty", "fails(\"typed\")", "1 failed of 3 tasks"]);
    let log = std::fs::read_to_string(cluster.folder().join("log.tsv")).expect("log");
    let ends: Vec<_> = log.lines().map(|line| line.split('\t').collect::<Vec<_>>()).collect();
    let second = ends.iter().find(|fields| fields[0] == "2").expect("a line of the second");
    assert_eq!(second[4..7], ["1", "0", "failed"], "{log}");
    let again = cluster.taskq(&["map", "--resume-failed", "log.tsv"]).code(1);
    assert_eq!(again.stdout, b"");
    again.says(&[".1 failed: returned an error", "fails(\"typed\")"]);
}

#[test]
fn a_worker_shows_what_it_can_be_called_for() {
    let cluster = troubled();
    let shown = cluster.taskq(&["worker", "ls", "--json"]).ok().json();
    let worker = &shown["workers"][0];
    let functions = worker["functions"].as_array().expect("functions");
    for (name, runtime) in [("echo", "threads"), ("async.echo", "async"), ("child.echo", "process")] {
        assert!(functions.contains(&json!({"name": name, "runtime": runtime})), "{name} in {functions:?}");
    }
    assert_eq!((&worker["busy"], &worker["address"]), (&json!(0), &json!("127.0.0.1")));
    assert!(worker["async_slots"].as_u64().is_some_and(|slots| slots > 0), "{worker}");
    let name = worker["name"].as_str().expect("a name");
    let lines = cluster.taskq(&["worker", "show", name]).ok().out();
    for line in [
        "  process    child.abort ",
        "  async      async.deaf ",
        "  threads    about ",
        "  address    127.0.0.1",
    ] {
        assert!(lines.contains(line), "{line:?} in\n{lines}");
    }
    assert_eq!(cluster.taskq(&["worker", "show"]).ok().out().lines().next(), lines.lines().next());
    assert_eq!(cluster.taskq(&["worker", "show", "--json"]).ok().json()["workers"][0]["name"], name);
    let row = cluster.taskq(&["worker", "ls"]).ok().out();
    assert!(row.contains("about async.deaf") && row.contains("functions more"), "{row}");
    // A call that hears nothing keeps its slot after its end, and that is told.
    cluster.taskq(&["call", "deaf", "30000", "--timeout", "100ms", "--kill-grace", "100ms"]).code(124);
    wait::holds("a busy slot is told", || {
        cluster.taskq(&["worker", "show", name]).out().contains("1 still busy with calls that were stopped")
    });
}
