//! Real work: `taskq map` over real files gives the bytes of a plain loop, and a job log that a spreadsheet opens.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use taskq_tests::{Cluster, binaries};

/// Fills `folder` with `count` copies of this workspace's Rust sources.
fn sources(folder: &Path, count: usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for member in ["core", "server", "worker", "client", "cli", "proto", "template", "tests"] {
        collect(&binaries::workspace().join(member).join("src"), &mut found);
    }
    found.sort();
    assert!(found.len() > 20, "the workspace has sources");
    fs::create_dir(folder).expect("a readable folder of sources");
    let copies = (0..count).map(|number| {
        let copy = folder.join(format!("{number:03}.rs"));
        fs::copy(&found[number % found.len()], &copy).expect("a readable folder of sources");
        copy
    });
    copies.collect()
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a readable folder of sources") {
        let path = entry.expect("a readable folder of sources").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn map_over_files_gives_the_bytes_of_a_plain_loop() {
    let mut cluster = Cluster::start();
    cluster.worker(2);
    cluster.worker(2);
    let mapped = sources(&cluster.folder().join("mapped"), 200);
    let looped = sources(&cluster.folder().join("looped"), 200);
    for path in &looped {
        assert!(Command::new("gzip").args(["-n", "-k9"]).arg(path).status().unwrap().success());
    }

    let log = cluster.folder().join("jobs.tsv");
    let mut words = vec!["map", "--joblog", log.to_str().unwrap(), "gzip", "-n", "-k9", "{}", ":::"];
    words.extend(mapped.iter().map(|path| path.to_str().unwrap()));
    cluster.taskq(&words).ok();

    for (one, other) in mapped.iter().zip(&looped) {
        let compressed = |path: &Path| fs::read(format!("{}.gz", path.display())).unwrap();
        assert_eq!(compressed(one), compressed(other), "{}", one.display());
    }
    let text = fs::read_to_string(&log).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows.len(), 201, "a heading and a row for each task:\n{text}");
    for row in &rows {
        assert_eq!(row.len(), rows[0].len(), "every row has the heading's columns: {row:?}");
    }
    let workers: std::collections::BTreeSet<&str> = rows[1..]
        .iter()
        .flatten()
        .copied()
        .filter(|field| field.starts_with('w') && field.len() == 2)
        .collect();
    assert_eq!(workers.len(), 2, "both workers took part: {:?}", rows[1]);
}

#[test]
fn output_comes_in_the_order_of_the_input() {
    let mut cluster = Cluster::start();
    cluster.worker(3);
    let items: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    let mut words = vec!["map", "--shell", "sleep 0.0{}; echo item {}", ":::"];
    words.extend(items.iter().map(String::as_str));
    let run = cluster.taskq(&words).ok();
    let expected: Vec<String> = items.iter().map(|item| format!("item {item}")).collect();
    assert_eq!(run.out().lines().collect::<Vec<_>>(), expected, "{run}");
}

#[test]
fn resume_failed_runs_only_what_failed() {
    let mut cluster = Cluster::start();
    cluster.worker(2);
    let (log, flag) = (cluster.folder().join("jobs.tsv"), cluster.folder().join("repaired"));
    let runs = cluster.folder().join("runs");
    let script = format!("echo {{}} >> {}; [ {{}} != b ] || [ -e {} ]", runs.display(), flag.display());
    let log = log.to_str().unwrap();
    cluster.taskq(&["map", "--joblog", log, "--shell", &script, ":::", "a", "b", "c"]).code(1);
    fs::write(&flag, "").unwrap();
    cluster.taskq(&["map", "--resume-failed", log]).ok();
    let mut ran: Vec<String> = fs::read_to_string(&runs).unwrap().lines().map(str::to_owned).collect();
    ran.sort();
    assert_eq!(ran, ["a", "b", "b", "c"], "only b ran again");
    cluster.taskq(&["map", "--resume-failed", "misspelled.tsv"]).code(74).says(&["misspelled.tsv"]);
}

#[test]
fn resume_failed_is_one_document_for_a_program() {
    let mut cluster = Cluster::start();
    cluster.worker(2);
    let (log, flag) = (cluster.folder().join("jobs.tsv"), cluster.folder().join("repaired"));
    let script = format!("test {{}} = good || test -e {}", flag.display());
    let log = log.to_str().unwrap();
    // One log of two jobs: the second map goes on where the first one stopped.
    cluster.taskq(&["map", "--joblog", log, "--shell", &script, ":::", "a"]).code(1);
    cluster.taskq(&["map", "--resume", log, "--shell", &script, ":::", "a", "b", "good"]).code(1);
    let resume = ["map", "--resume-failed", log, "--json"];
    let planned = cluster.taskq(&[&resume[..], &["--dry-run"]].concat()).ok().json();
    assert_eq!(planned["schema"], "taskq.v1.commands", "{planned}");
    assert_eq!(planned["commands"].as_array().unwrap().len(), 2, "{planned}");
    fs::write(&flag, "").unwrap();
    let shown = cluster.taskq(&resume).ok().json();
    assert_eq!(shown["schema"], "taskq.v1.show", "{shown}");
    assert_eq!(shown["jobs"].as_array().unwrap().len(), 2, "{shown}");
    let nothing = cluster.taskq(&resume).ok().json();
    assert_eq!(nothing["jobs"].as_array().unwrap().len(), 0, "{nothing}");
}

#[test]
fn elements_come_from_lines_csv_and_json() {
    let mut cluster = Cluster::start();
    cluster.worker(2);
    let file = |name: &str, text: &str| {
        let path = cluster.folder().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let lines = file("lines", "one\ntwo words\n$(three)\n");
    assert_eq!(
        cluster.taskq(&["map", "--each-line", &lines, "echo", "<{}>"]).ok().out(),
        "<one>\n<two words>\n<$(three)>"
    );
    let csv = file("people.csv", "name,age\nAnn,30\n\"Bo, Jr\",7\n");
    assert_eq!(cluster.taskq(&["map", "--csv", &csv, "echo", "{name}/{age}"]).ok().out(), "Ann/30\nBo, Jr/7");
    let json = file("people.jsonl", "{\"name\":\"Ann\"}\n{\"name\":\"Bo\"}\n");
    assert_eq!(cluster.taskq(&["map", "--jsonl", &json, "echo", "{name}"]).ok().out(), "Ann\nBo");
    let product = cluster.taskq(&["map", "echo", "{1}-{2}", ":::", "a", "b", ":::", "1", "2"]).ok();
    assert_eq!(product.out(), "a-1\na-2\nb-1\nb-2");
}
