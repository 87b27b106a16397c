//! The help of every command, kept word for word in `help/*.txt`: a change of the manual shows in review.
//! `UPDATE=1 cargo test -p taskq-cli --test help` writes them anew.

mod common;

use std::path::Path;

const COMMANDS: &[&str] = &[
    "",
    "run",
    "submit",
    "call",
    "map",
    "wait",
    "ls",
    "tasks",
    "show",
    "explain",
    "result",
    "logs",
    "cancel",
    "retry",
    "pause",
    "resume",
    "rm",
    "queue",
    "queue ls",
    "queue pause",
    "queue resume",
    "queue purge",
    "worker",
    "worker ls",
    "worker show",
    "worker drain",
    "stats",
    "up",
    "bench",
    "completions",
    "man",
    "version",
];

#[test]
fn every_help_is_as_it_was_reviewed() {
    let home = tempfile::tempdir().expect("temporary directory");
    let mut changed = Vec::new();
    for command in COMMANDS {
        let args: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        let said = common::said(&mut common::taskq(home.path(), &args));
        assert_eq!(said.code, 0, "{command} --help: {}", said.stderr);
        assert!(!said.stdout.contains('\u{1b}'), "{command} --help has colours in a pipe");
        let name = if command.is_empty() { "taskq".to_owned() } else { command.replace(' ', "-") };
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/help/{name}.txt"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &said.stdout).expect("write");
        }
        let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
        if reviewed != said.stdout {
            changed.push(format!("--- {}\n{}", path.display(), said.stdout));
        }
    }
    assert!(changed.is_empty(), "help changed; UPDATE=1 accepts it:\n{}", changed.join("\n"));
}

#[test]
fn every_command_has_an_example() {
    let home = tempfile::tempdir().expect("temporary directory");
    let top = common::said(&mut common::taskq(home.path(), &["--help"])).stdout;
    for command in COMMANDS.iter().filter(|command| !command.is_empty() && !command.contains(' ')) {
        assert!(top.contains(&format!("\n  {command} ")), "taskq --help does not list {command}");
        let help = common::said(&mut common::taskq(home.path(), &[command, "--help"])).stdout;
        assert!(help.contains(&format!("  taskq {command}")), "{command} --help has no example:\n{help}");
    }
}
