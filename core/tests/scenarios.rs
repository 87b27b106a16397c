//! Scenarios: scripts of what happens, each with what the scheduler answers. They are its manual by example.
//!
//! A script is blocks of commands, a line `----`, and the answer up to an empty line. `UPDATE=1` writes the answers
//! anew; read the difference before you commit it. What the commands mean is said in `scenarios/README.md`.

mod script;

use std::{fs, path::Path};

use script::Script;

#[test]
fn every_scenario_answers_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .expect("the scenarios are there")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    assert!(files.len() >= 15, "the scenarios are found");
    let update = std::env::var_os("UPDATE").is_some();
    let mut wrong = Vec::new();
    for file in files {
        let written = fs::read_to_string(&file).expect("a readable scenario");
        let played = play(&written);
        if update {
            fs::write(&file, &played).expect("a writable scenario");
        } else if played != written {
            wrong.push(format!("{}:\n{played}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "answers differ (UPDATE=1 writes them anew):\n{}", wrong.join("\n"));
}

/// The script with the answers that it gets now.
fn play(text: &str) -> String {
    let mut script = Script::new();
    let mut played = String::new();
    let mut answering = false;
    let mut answer: Vec<String> = Vec::new();
    for line in text.lines() {
        match (line, answering) {
            ("----", _) => {
                played.push_str("----\n");
                for line in answer.drain(..) {
                    played.push_str(&line);
                    played.push('\n');
                }
                answering = true;
            }
            ("", _) => {
                played.push('\n');
                answering = false;
            }
            (_, true) => {}
            (comment, false) if comment.starts_with('#') => {
                played.push_str(comment);
                played.push('\n');
            }
            (command, false) => {
                played.push_str(command);
                played.push('\n');
                answer.extend(script.run(command));
            }
        }
    }
    played
}
