//! What must work, or fail well, without a coordinator: dry runs, completions, the manual, closed output, and the
//! errors about a coordinator that is not there.

mod common;

use std::io::{Read, Write};
use std::process::Stdio;

#[test]
fn an_unreachable_coordinator_is_exit_69_with_the_next_step() {
    let home = tempfile::tempdir().expect("temporary directory");
    for args in [
        &["submit", "--", "true"][..],
        &["ls"],
        &["cancel", "42"],
        &["map", "echo", ":::", "a"],
        &["stats"],
        &["call", "f", "--detach"],
    ] {
        let said = common::said(&mut common::taskq(home.path(), args));
        assert_eq!(said.code, 69, "taskq {args:?}: {}", said.stderr);
        assert!(
            said.stderr.starts_with("error: coordinator not reachable at 127.0.0.1:1"),
            "{}",
            said.stderr
        );
        assert!(said.stderr.contains("address came from: TASKQ_ADDR"), "{}", said.stderr);
        assert!(said.stderr.contains("taskq up"), "{}", said.stderr);
        assert_eq!(said.stdout, "");
    }
}

#[test]
fn where_the_status_is_the_task_s_own_it_is_125() {
    let home = tempfile::tempdir().expect("temporary directory");
    for args in [
        &["run", "--", "true"][..],
        &["submit", "--wait", "--", "true"],
        &["submit", "-f", "true"],
        &["call", "f", "1"],
        &["submit", "--wait", "--array", "1-9", "--", "true"],
        &["wait", "42"],
        &["wait", "42", "43"],
    ] {
        let said = common::said(&mut common::taskq(home.path(), args));
        assert_eq!(said.code, 125, "taskq {args:?}: {}", said.stderr);
        assert!(said.stderr.contains("not reachable"), "{}", said.stderr);
    }
}

#[test]
fn without_any_address_the_error_says_where_it_looked() {
    let home = tempfile::tempdir().expect("temporary directory");
    let mut command = common::taskq(home.path(), &["ls"]);
    let said = common::said(command.env_remove("TASKQ_ADDR").env_remove("TASKQ_TOKEN"));
    assert_eq!(said.code, 69, "{}", said.stderr);
    // What is likeliest first: a coordinator that runs, and is only not known to this user.
    let words = ["with --access FILE", "TASKQ_ACCESS", "TASKQ_ADDR and TASKQ_TOKEN", "start one here"];
    let places = words.map(|words| said.stderr.find(words));
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}: {}", said.stderr);
}

#[test]
fn an_empty_variable_names_no_queue() {
    let home = tempfile::tempdir().expect("temporary directory");
    let mut command = common::taskq(home.path(), &["submit", "--", "true"]);
    let said = common::said(command.env("TASKQ_QUEUE", ""));
    assert_eq!(said.code, 69, "the job is fine, the coordinator is asked: {}", said.stderr);
}

#[test]
fn an_address_without_a_token_is_exit_77() {
    let home = tempfile::tempdir().expect("temporary directory");
    let said = common::said(common::taskq(home.path(), &["ls"]).env_remove("TASKQ_TOKEN"));
    assert_eq!(said.code, 77, "{}", said.stderr);
    assert!(said.stderr.contains("TASKQ_TOKEN"), "{}", said.stderr);
}

#[test]
fn a_dry_run_shows_the_commands_as_they_will_run() {
    let home = tempfile::tempdir().expect("temporary directory");
    let args = ["submit", "--dry-run", "--array", "1-12", "--", "echo", "{#}", "n={}", "it's"];
    let said = common::said(&mut common::taskq(home.path(), &args));
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_eq!(said.stdout.lines().next(), Some(r"echo 1 n=1 'it'\''s'"));
    assert_eq!(said.stdout.lines().count(), 10);
    assert_eq!(said.stderr, "... and 2 more\n");

    let args = ["map", "--dry-run", "convert {} -resize 50% {.}.png", ":::", "a b.jpg", "c.jpg"];
    let said = common::said(&mut common::taskq(home.path(), &args));
    assert_eq!(said.stdout, "convert 'a b.jpg' -resize 50% 'a b.png'\nconvert c.jpg -resize 50% c.png\n");

    let args = ["map", "--dry-run", "echo", ":::", "a", "b", ":::", "1", "2"];
    let said = common::said(&mut common::taskq(home.path(), &args));
    assert_eq!(said.stdout, "echo a 1\necho a 2\necho b 1\necho b 2\n");
}

#[test]
fn a_dry_run_is_a_document_too() {
    let home = tempfile::tempdir().expect("temporary directory");
    let run = |format: &str| {
        let args = ["map", "--dry-run", "-o", format, "echo", ":::", "a", "b"];
        common::said(&mut common::taskq(home.path(), &args)).stdout
    };
    let value: serde_json::Value = serde_json::from_str(&run("json")).expect("JSON");
    assert_eq!(value["schema"], "taskq.v1.commands");
    assert_eq!(value["commands"][1]["command"], "echo b");
    let lines = run("jsonl");
    assert_eq!(
        lines.lines().next(),
        Some(r#"{"schema":"taskq.v1.command","index":0,"command":"echo a"}"#),
        "{lines}"
    );
}

#[test]
fn without_sources_other_words_in_braces_are_literal() {
    let home = tempfile::tempdir().expect("temporary directory");
    let args = ["submit", "--dry-run", "--", "echo", "{nope}", "{}", "{#}"];
    let said = common::said(&mut common::taskq(home.path(), &args));
    assert_eq!((said.code, said.stdout.as_str()), (0, "echo '{nope}' '{}' 1\n"), "{}", said.stderr);
    for command in ["run", "submit"] {
        let help = common::said(&mut common::taskq(home.path(), &[command, "--help"])).stdout;
        assert!(help.contains("literal"), "{command} --help does not say so");
    }
}

#[test]
fn a_closed_standard_output_is_an_error() {
    let home = tempfile::tempdir().expect("temporary directory");
    for args in ["version", "--help", "map --dry-run echo ::: a"] {
        let mut command = common::taskq(home.path(), &[]);
        let taskq = command.get_program().to_owned();
        let script = format!("exec \"$0\" {args} >&-");
        let mut shell = std::process::Command::new("/bin/sh");
        shell.env_clear().envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        let said = common::said(shell.arg("-c").arg(script).arg(taskq).stdin(Stdio::null()));
        assert_eq!(said.code, 74, "taskq {args}: {}", said.stderr);
        let helped = args == "--help";
        assert!(helped || said.stderr.contains("standard output: it is closed"), "{args}: {}", said.stderr);
        // A standard output that leads nowhere is fine.
        let nowhere = common::said(command.args(args.split(' ')).stdout(Stdio::null()));
        assert_eq!(nowhere.code, 0, "taskq {args}: {}", nowhere.stderr);
    }
}

#[test]
fn lines_are_read_from_standard_input() {
    let home = tempfile::tempdir().expect("temporary directory");
    let mut command = common::taskq(home.path(), &["map", "--dry-run", "--each-line", "-", "gzip"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("taskq starts");
    child.stdin.take().expect("piped").write_all(b"a\nb c\n").expect("write");
    let output = child.wait_with_output().expect("taskq ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "gzip a\ngzip 'b c'\n");
}

#[test]
fn a_job_log_leaves_the_rest_to_do() {
    let home = tempfile::tempdir().expect("temporary directory");
    let log = "Seq\tHost\tStarttime\tJobRuntime\tExitval\tSignal\tState\tAttempt\tJob\tPeakRSS\tCommand\n\
        1\tw\t1\t1\t0\t0\tsucceeded\t1\t1\t0\techo a\n2\tw\t1\t1\t3\t0\tfailed\t1\t1\t0\techo b\n";
    std::fs::write(home.path().join("log.tsv"), log).expect("write");
    let run = |how: &str, values: &[&str]| {
        let mut args = vec!["map", "--dry-run", how, "log.tsv", "echo", ":::"];
        args.extend(values);
        common::said(common::taskq(home.path(), &args).current_dir(home.path()))
    };
    assert_eq!(run("--resume", &["a", "b", "c"]).stdout, "echo c\n");
    assert_eq!(run("--resume-failed", &["a", "b", "c"]).stdout, "echo b\necho c\n");
    let other = run("--resume", &["x", "b"]);
    assert_eq!(other.code, 2, "{}", other.stderr);
    assert!(other.stderr.contains("echo a") && other.stderr.contains("echo x"), "{}", other.stderr);
    let again = common::said(
        common::taskq(home.path(), &["map", "--dry-run", "--resume-failed", "log.tsv"])
            .current_dir(home.path()),
    );
    assert_eq!(again.stdout, "echo b\n", "without a template only what failed: {}", again.stderr);
    let done = run("--resume", &["a", "b"]);
    assert_eq!((done.code, done.stdout.as_str()), (0, ""));
}

#[test]
fn a_reader_that_goes_away_ends_the_command_quietly() {
    let home = tempfile::tempdir().expect("temporary directory");
    let mut command = common::taskq(home.path(), &["map", "--dry-run", "--array", "1-1000000", "echo"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("taskq starts");
    let mut stdout = child.stdout.take().expect("piped");
    let mut first = [0; 7];
    stdout.read_exact(&mut first).expect("the first line");
    drop(stdout);
    let output = child.wait_with_output().expect("taskq ends");
    assert_eq!(&first, b"echo 1\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(141));
}

#[test]
fn a_full_disk_under_standard_output_is_an_error() {
    let home = tempfile::tempdir().expect("temporary directory");
    for args in [&["version"][..], &["completions", "bash"], &["map", "--dry-run", "echo", ":::", "a"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let said = common::said(common::taskq(home.path(), args).stdout(full));
        assert_eq!(said.code, 74, "taskq {args:?}: {}", said.stderr);
        assert!(said.stderr.contains("standard output"), "{}", said.stderr);
    }
}

#[test]
fn completions_know_every_command() {
    let home = tempfile::tempdir().expect("temporary directory");
    for shell in ["bash", "zsh", "fish"] {
        let said = common::said(&mut common::taskq(home.path(), &["completions", shell]));
        assert_eq!(said.code, 0, "{}", said.stderr);
        for command in ["submit", "explain", "purge", "drain"] {
            assert!(said.stdout.contains(command), "{shell} completions lack {command}");
        }
    }
}

#[test]
fn the_manual_has_a_page_per_command_and_the_exit_codes() {
    let home = tempfile::tempdir().expect("temporary directory");
    let dir = home.path().join("man/man1");
    let said = common::said(&mut common::taskq(home.path(), &["man", dir.to_str().expect("UTF-8")]));
    assert_eq!(said.code, 0, "{}", said.stderr);
    for page in ["taskq.1", "taskq-submit.1", "taskq-queue-purge.1", "taskq-exit-codes.1", "taskq-server.8"] {
        let text = std::fs::read_to_string(dir.join(page)).unwrap_or_default();
        assert!(text.contains(".TH"), "{page} is missing or empty");
    }
    // A command and a daemon, each with a page of its own.
    for (page, says) in [("taskq-worker.1", "List workers"), ("taskq-worker.8", "Takes tasks")] {
        let text = std::fs::read_to_string(dir.join(page)).expect("written");
        assert!(text.contains(says), "{page}: {text}");
    }
    let codes = std::fs::read_to_string(dir.join("taskq-exit-codes.1")).expect("written");
    assert!(codes.contains(".B 125") && codes.contains(".B 69"), "{codes}");
}

#[test]
fn json_names_its_schema() {
    let home = tempfile::tempdir().expect("temporary directory");
    let said = common::said(&mut common::taskq(home.path(), &["version", "--json"]));
    let value: serde_json::Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!(value["schema"], "taskq.v1.version");
    assert_eq!(value["version"], env!("CARGO_PKG_VERSION"));
}
