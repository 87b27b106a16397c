//! Command lines that cannot be right: exit 2, one error that names the remedy, nothing on standard output, and no
//! coordinator is asked.

mod common;

/// What is typed, and what the error must say.
const WRONG: &[(&[&str], &str)] = &[
    (&["run"], "COMMAND"),
    (&["run", "--"], "COMMAND"),
    (&["run", "--", ""], "command is empty"),
    (&["submit", "--pirority", "5", "--", "true"], "--priority"),
    (&["submit", "--priority", "1001", "--", "true"], "1000"),
    (&["submit", "--timeout", "1y", "--", "true"], "unknown unit"),
    (&["submit", "--array", "5-1", "--", "true"], "ends before it begins"),
    (&["submit", "--label", "x", "--", "true"], "KEY=VALUE"),
    (&["submit", "--env", "TASKQ_TEST_UNSET", "--", "true"], "not set here"),
    (&["submit", "--queue", "a b", "--", "true"], "queue"),
    (&["run", "-q", "", "--", "true"], "--queue <QUEUE>"),
    (&["rm", "-q", "", "-y"], "--queue <QUEUE>"),
    (&["rm", "--name", "", "-y"], "--name <GLOB>"),
    (&["cancel", "--error-like", "", "-y"], "--error-like <TEXT>"),
    (&["submit", "--array", "1-3", "--", "echo", "{nmae}"], "{nmae}"),
    (&["submit", "-c", "--", "a", "b"], "one argument"),
    (&["submit", "--zip", "--", "echo", ":::", "a", "b", ":::", "c"], "equally long"),
    (&["submit", "--stdin", "-", "--each-line", "-", "--", "cat"], "standard input"),
    (&["map", "echo"], ":::"),
    (&["map", "echo {1} {2}", ":::", "a", "b", ":::+", "1", "2"], "--zip"),
    (&["run", "--retry-on", "3", "--", "true"], "--retries"),
    (&["map", "cat {} | wc", ":::", "a"], "-c"),
    (&["map", "echo 'a", ":::", "a"], "never closed"),
    (&["map", "--resume", "log.tsv"], "TEMPLATE"),
    (&["wait", "42.5-1"], "position 4"),
    (&["wait", "x"], "position 1"),
    (&["wait"], "SELECTOR"),
    (&["logs", "last~"], "position 6"),
    (&["cancel"], "say what to cancel"),
    (&["cancel", "42", "-q", "x"], "not both"),
    (&["rm", "42.7"], "takes whole jobs; write 42 "),
    (&["pause", "42", "last~1.0-3"], "write last~1 "),
    (&["resume", "42.1,2"], "takes whole jobs"),
    (&["map", "echo", ":::", "a", "--joblog", "log.tsv"], "put options of taskq before the template"),
    (&["map", "echo {}", "--array", "1-9"], "put options of taskq before the template"),
    (&["map", "echo", "{}", "--array", "1-9"], "put options of taskq before the template"),
    (&["ls", "--addr", "x:1", "--local"], "cannot be used with"),
    (&["ls", "--addr", "local:"], "directory"),
    (&["call"], "FUNCTION"),
    (&["call", "7up"], "not a function's name"),
    (&["call", "f", "abc"], "--text"),
    (&["call", "f", "--json", "{\"a\":}"], "is no JSON"),
    (&["call", "f", "1", "--text", "a"], "cannot be used with"),
    (&["call", "f", "--text", "a", "--raw", "b"], "cannot be used with"),
    (&["call", "f", "--env", "A=b"], "unexpected argument '--env'"),
    (&["call", "f", "--local"], "start a coordinator with `taskq up`"),
    (&["call", "f", "--addr", "local:/nowhere"], "nobody would serve f"),
    (&["map", "--call", "f", "--local", ":::", "a"], "nobody would serve f"),
    (&["map", "--call", "f"], "nothing to map over"),
    (&["map", "--call", "f", "echo", ":::", "a"], "put ::: before echo"),
    (&["map", "--call", "f", "--cwd", "/tmp", ":::", "a"], "--cwd is for programs"),
    (&["map", "--call", "f", ":::", "a", ":::", "b"], "one argument"),
    (&["map", "--call", "7up", ":::", "a"], "not a function's name"),
    (&["nonsense"], "unrecognized subcommand"),
];

#[test]
fn a_wrong_command_line_is_exit_2_with_the_remedy() {
    let home = tempfile::tempdir().expect("temporary directory");
    for (args, expected) in WRONG {
        let said = common::said(&mut common::taskq(home.path(), args));
        assert_eq!(said.code, 2, "taskq {args:?}: {}", said.stderr);
        assert!(said.stderr.contains(expected), "taskq {args:?} does not say {expected:?}: {}", said.stderr);
        assert!(said.stderr.starts_with("error: "), "taskq {args:?}: {}", said.stderr);
        assert_eq!(said.stderr.matches("error:").count(), 1, "taskq {args:?}: {}", said.stderr);
        assert_eq!(said.stdout, "", "taskq {args:?} printed data");
    }
}

#[test]
fn elements_of_a_call_are_json_or_text() {
    let home = tempfile::tempdir().expect("temporary directory");
    std::fs::write(home.path().join("people.csv"), "name,n\nann,1\n").expect("write");
    std::fs::write(home.path().join("items.jsonl"), "{\"a\": 1}\n\n[2]\n").expect("write");
    let run = |words: &[&str]| {
        let args = [&["map", "--dry-run", "--call", "f"][..], words].concat();
        common::said(common::taskq(home.path(), &args).current_dir(home.path()))
    };
    for (words, expected) in [
        (&[":::", "1", "a b", "\"c\"", "-5"][..], "f(1)\nf(\"a b\")\nf(\"c\")\nf(-5)\n"),
        (&["--csv", "people.csv"], "f({\"name\":\"ann\",\"n\":\"1\"})\n"),
        (&["--jsonl", "items.jsonl"], "f({\"a\": 1})\nf([2])\n"),
        (&["--array", "3-5:2"], "f(3)\nf(5)\n"),
    ] {
        let said = run(words);
        assert_eq!((said.code, said.stdout.as_str()), (0, expected), "{words:?}: {}", said.stderr);
    }
    std::fs::write(home.path().join("items.jsonl"), "1\n{\n").expect("write");
    let said = run(&["--jsonl", "items.jsonl"]);
    assert!(said.code == 2 && said.stderr.contains("items.jsonl, line 2: "), "{}", said.stderr);
}

#[test]
fn a_misspelled_state_lists_the_states() {
    let home = tempfile::tempdir().expect("temporary directory");
    let said = common::said(&mut common::taskq(home.path(), &["ls", "-s", "runing"]));
    assert_eq!(said.code, 2);
    assert!(said.stderr.contains("running"), "{}", said.stderr);
}

#[test]
fn a_json_line_without_a_key_that_the_command_uses_is_named() {
    let home = tempfile::tempdir().expect("temporary directory");
    let text = "{\"name\":\"a\",\"n\":1}\n\n{\"name\":\"b\"}\n{\"name\":\"c\",\"n\":null}\n";
    std::fs::write(home.path().join("people.jsonl"), text).expect("write");
    let run = |words: &[&str]| {
        let args = [&["map", "--dry-run", "--jsonl", "people.jsonl", "--"][..], words].concat();
        common::said(common::taskq(home.path(), &args).current_dir(home.path()))
    };
    for words in [&["echo", "{n}"][..], &["echo", "{2}"], &["echo", "x={}"], &["echo"]] {
        let said = run(words);
        assert_eq!(said.code, 2, "{words:?}: {}", said.stderr);
        assert!(said.stderr.contains("people.jsonl, line 3 lacks the key \"n\""), "{}", said.stderr);
        assert_eq!(said.stdout, "", "{words:?}");
    }
    let said = run(&["echo", "{name}"]);
    assert_eq!((said.code, said.stdout.as_str()), (0, "echo a\necho b\necho c\n"), "{}", said.stderr);
}

#[test]
fn an_option_behind_dashes_belongs_to_the_command() {
    let home = tempfile::tempdir().expect("temporary directory");
    let args = ["map", "--dry-run", "--", "echo", ":::", "--zip", "b"];
    let said = common::said(&mut common::taskq(home.path(), &args));
    assert_eq!((said.code, said.stdout.as_str()), (0, "echo --zip\necho b\n"), "{}", said.stderr);
}

#[test]
fn bytes_that_are_no_text_are_refused_in_a_command() {
    use std::os::unix::ffi::OsStrExt;
    let home = tempfile::tempdir().expect("temporary directory");
    let mut command = common::taskq(home.path(), &["submit", "--", "echo"]);
    command.arg(std::ffi::OsStr::from_bytes(b"\xff"));
    let said = common::said(&mut command);
    assert_eq!(said.code, 2, "{}", said.stderr);
    assert!(said.stderr.contains("not UTF-8"), "{}", said.stderr);
}

#[test]
fn a_file_that_is_not_there_is_exit_74_and_named() {
    let home = tempfile::tempdir().expect("temporary directory");
    for args in [
        &["submit", "--each-line", "missing.txt", "--", "echo"][..],
        &["submit", "--stdin", "missing.txt", "--", "cat"],
        &["map", "echo", "::::", "missing.txt"],
    ] {
        let said = common::said(common::taskq(home.path(), args).current_dir(home.path()));
        assert_eq!(said.code, 74, "taskq {args:?}: {}", said.stderr);
        assert!(said.stderr.contains("missing.txt"), "{}", said.stderr);
    }
}

#[test]
fn numbers_of_json_lines_reach_the_command_as_written() {
    let home = tempfile::tempdir().expect("temporary directory");
    let numbers = ["18446744073709551616", "1.0", "1", "1e3", "0.10"];
    let lines: String = numbers.iter().map(|number| format!("{{\"n\": {number}}}\n")).collect();
    std::fs::write(home.path().join("numbers.jsonl"), lines).expect("write");
    let args = ["map", "--dry-run", "--jsonl", "numbers.jsonl", "--", "echo", "{n}"];
    let said = common::said(common::taskq(home.path(), &args).current_dir(home.path()));
    let commands: Vec<String> = numbers.iter().map(|number| format!("echo {number}")).collect();
    assert_eq!(said.stdout.lines().collect::<Vec<_>>(), commands, "{}", said.stderr);
}

#[test]
fn what_is_wrong_in_a_file_of_records_is_told_with_its_one_line() {
    let home = tempfile::tempdir().expect("temporary directory");
    std::fs::write(home.path().join("open.csv"), "a,b\n1,2\n3,\"4\n5,6\n").expect("write");
    std::fs::write(home.path().join("bad.jsonl"), "{\"a\": 1}\n{\"a\": }\n").expect("write");
    for (format, file, expected) in [
        ("--csv", "open.csv", "open.csv, line 3: the quote that opens a field here is never closed"),
        ("--jsonl", "bad.jsonl", "bad.jsonl, line 2: expected value at column 7"),
    ] {
        let args = ["map", "--dry-run", format, file, "--", "echo", "{a}"];
        let said = common::said(common::taskq(home.path(), &args).current_dir(home.path()));
        assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{}", said.stderr);
        assert_eq!(said.stderr, format!("error: {expected}\n"));
    }
}

#[test]
fn an_empty_source_of_any_kind_is_nothing_to_do() {
    let home = tempfile::tempdir().expect("temporary directory");
    std::fs::write(home.path().join("empty"), "").expect("write");
    std::fs::write(home.path().join("header"), "name\n").expect("write");
    for (source, file, word) in [
        ("--jsonl", "empty", "{name}"),
        ("--csv", "empty", "{name}"),
        ("--csv", "header", "{name}"),
        ("--each-line", "empty", "{}"),
        ("--each-null", "empty", "{}"),
    ] {
        let run = |args: &[&str]| common::said(common::taskq(home.path(), args).current_dir(home.path()));
        let mapped = run(&["map", source, file, "--", "echo", word]);
        let said = (mapped.code, mapped.stderr.as_str());
        assert_eq!(said, (0, "taskq: nothing to do\n"), "{source} {file}");
        let submitted = run(&["submit", source, file, "--", "echo", word]);
        assert_eq!(submitted.code, 4, "{source} {file}: {}", submitted.stderr);
    }
}

#[test]
fn empty_sources_submit_nothing() {
    let home = tempfile::tempdir().expect("temporary directory");
    let said =
        common::said(&mut common::taskq(home.path(), &["submit", "--each-line", "/dev/null", "--", "echo"]));
    assert_eq!(said.code, 4, "{}", said.stderr);
    let said = common::said(&mut common::taskq(home.path(), &["map", "echo", ":::"]));
    assert_eq!((said.code, said.stderr.as_str()), (0, "taskq: nothing to do\n"));
}
