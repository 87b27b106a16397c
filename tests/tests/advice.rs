//! What people are told when something is not as they expect: what it is, in their own words, and the next step.

use std::fs;

use taskq_proto::v1 as pb;
use taskq_tests::{Cluster, Setup, Taskq, binaries, daemon, spec};

#[test]
fn what_has_ended_is_explained_by_its_end() {
    let mut cluster = Cluster::start();
    cluster.worker(2);
    let api = cluster.api();
    let failed = api.submit_one(spec::command(&["sh", "-c", "exit 3"]));
    let fine = api.submit_one(spec::command(&["true"]));
    let many = api.submit_one(spec::array(spec::shell("exit $(( TASKQ_TASK % 2 ))"), 4));
    for id in [failed, fine, many] {
        api.ended(id);
    }
    let explained = |what: &str| cluster.taskq(&["explain", what]).ok().out();
    let said = explained(&failed.to_string());
    assert!(said.starts_with(&format!("job {failed} has ended: failed (exit 3), ")), "{said}");
    assert!(said.contains(&format!("taskq result {failed}")) && said.contains("taskq retry"), "{said}");
    let said = explained(&fine.to_string());
    assert!(said.starts_with(&format!("job {fine} has ended: succeeded (exit 0), ")), "{said}");
    assert!(said.contains(&format!("taskq show {fine}")) && !said.contains("retry"), "{said}");
    let said = explained(&many.to_string());
    assert!(said.starts_with(&format!("job {many} has ended: failed (2 succeeded, 2 failed), ")), "{said}");
    let said = explained(&format!("{many}.1"));
    assert!(said.starts_with(&format!("task {many}.1 has ended: failed (exit 1), ")), "{said}");
    let json = cluster.taskq(&["explain", &failed.to_string(), "--json"]).ok().json();
    assert_eq!(json["end"]["how"], "exit 3", "{json}");
}

#[test]
fn what_waits_to_be_tried_again_is_explained_by_its_last_attempt() {
    let mut cluster = Cluster::start();
    cluster.worker(1);
    let api = cluster.api();
    let flags = ["submit", "--retries", "3", "--backoff", "fixed:1h", "--", "sh", "-c", "exit 7"];
    let id = cluster.taskq(&flags).ok().number();
    let waits = || api.get(id).is_ok_and(|job| job.state == pb::State::Backoff as i32);
    taskq_tests::wait::holds("the job waits for its next attempt", waits);
    for what in [id.to_string(), format!("{id}.0")] {
        let said = cluster.taskq(&["explain", &what]).ok().out();
        for part in ["waits for its next attempt", " s before its next attempt", "attempt 1 of 4: exit 7"] {
            assert!(said.contains(part), "{part:?} is missing:\n{said}");
        }
    }
    let json = cluster.taskq(&["explain", &id.to_string(), "--json"]).ok().json();
    assert_eq!(json["failures"][0]["how"], "exit 7", "{json}");
}

#[test]
fn what_no_worker_has_room_for_is_said_in_the_words_that_asked_for_it() {
    let mut cluster = Cluster::start();
    cluster.worker(2);
    let explained = |flags: &[&str]| {
        let id = cluster.taskq(&[&["submit"], flags, &["--", "true"]].concat()).ok().out();
        cluster.taskq(&["explain", &id]).ok().out()
    };
    let said = explained(&["--cpus", "4"]);
    assert!(said.contains("a task takes --cpus 4, and the largest worker has 2 slots"), "{said}");
    assert!(said.contains("taskq-worker --slots 4, or submit it with --cpus 2"), "{said}");
    let said = explained(&["--res", "gpu=1", "--on", "zone=eu"]);
    assert!(said.contains("--res gpu=1, and the most that a worker has is 0"), "{said}");
    assert!(said.contains("--on zone=eu, and no worker has that label"), "{said}");
    assert!(said.contains("taskq-worker --resource gpu=1 --label zone=eu"), "{said}");
}

#[test]
fn a_task_that_a_job_does_not_have_is_refused_with_those_that_it_has() {
    let mut cluster = Cluster::start();
    cluster.worker(2);
    let api = cluster.api();
    let id = api.submit_one(spec::array(spec::shell("exit $(( TASKQ_TASK % 2 ))"), 4));
    api.ended(id);
    let again = cluster.taskq(&["retry", &id.to_string(), "-o", "id"]).ok().number();
    api.ended(again);
    for verb in ["show", "tasks", "explain", "result", "logs", "wait", "cancel", "retry"] {
        let words = format!("job {id} has no task 4; it has 0-3 (tasks count from 0)");
        cluster.taskq(&[verb, &format!("{id}.4")]).code(3).says(&[&words]);
        let words = format!("job {again} has no task 0; it has 1,3 (tasks count from 0)");
        cluster.taskq(&[verb, &format!("{again}.0")]).code(3).says(&[&words]);
    }
    cluster.taskq(&["show", &format!("{id}.2-9")]).code(3).says(&["has no task 4"]);
    cluster.taskq(&["show", &format!("{id}.0-3"), &format!("{again}.1,3")]).ok();
}

#[test]
fn an_attempt_that_was_not_made_has_no_output() {
    let mut cluster = Cluster::start();
    cluster.worker(1);
    let run =
        ["run", "--retries", "2", "--backoff", "fixed:1ms", "--", "sh", "-c", "echo $TASKQ_ATTEMPT; exit 1"];
    cluster.taskq(&run).code(1);
    assert_eq!(cluster.taskq(&["logs", "last", "--attempt", "3"]).ok().out(), "3");
    for what in ["last", "last.0"] {
        let run = cluster.taskq(&["logs", what, "--attempt", "4"]).code(3);
        assert_eq!(run.says(&["has no attempt 4: there were 3 attempts"]).out(), "");
    }
    cluster.taskq(&["run", "--", "true"]).ok();
    assert_eq!(cluster.taskq(&["logs", "last", "--attempt", "1"]).ok().out(), "", "it wrote nothing");
    cluster.taskq(&["logs", "last", "--attempt", "2"]).code(3).says(&["there was one attempt"]);
}

#[test]
fn what_keeps_the_rest_of_a_running_job_from_starting_is_explained() {
    let mut cluster = Cluster::start();
    cluster.worker(1);
    let api = cluster.api();
    let id = cluster.taskq(&["submit", "-j", "1", "--array", "1-3", "--", "sleep", "600"]).ok().number();
    let explained = || cluster.taskq(&["explain", &id.to_string()]).ok().out();
    api.running(id);
    assert!(explained().contains("max_parallel"), "{}", explained());
    cluster.taskq(&["pause", &id.to_string()]).ok();
    let said = explained();
    assert!(said.contains("job_paused") && said.contains(&format!("Fix: taskq resume {id}")), "{said}");
    cluster.taskq(&["cancel", &id.to_string(), "-y"]).ok();
    let ended = || api.get(id).is_ok_and(|job| job.state == pb::State::Cancelled as i32);
    taskq_tests::wait::holds("it is cancelled", ended);
}

#[test]
fn the_help_names_the_variables_of_a_task_and_no_others() {
    let mut cluster = Cluster::start();
    cluster.worker(1);
    let names = |text: &str| {
        let word = |line: &str| {
            line.trim_start().strip_prefix("TASKQ_")?.split([' ', '=']).next().map(str::to_owned)
        };
        let mut names: Vec<String> = text.lines().filter_map(word).collect();
        names.sort();
        names
    };
    let told = names(&cluster.taskq(&["run", "--", "env"]).ok().out());
    assert!(told.len() > 3, "{told:?}");
    for command in ["run", "submit", "map"] {
        let help = cluster.taskq(&[command, "--help"]).ok().out();
        assert_eq!(names(&help), told, "taskq {command} --help");
    }
    let seen = cluster.taskq(&["map", "-c", "echo $TASKQ_TASK $TASKQ_ITEM {#}; : {}", ":::", "a", "b"]).ok();
    assert_eq!(seen.out(), "0 a 1\n1 b 2");
}

#[test]
fn a_local_command_is_told_who_has_its_directory() {
    let cluster = Cluster::start();
    let local = format!("local:{}", cluster.data().display());
    let run = Taskq::new(cluster.folder(), &["--addr", &local, "ls"]).run().code(75);
    let run = run.says(&[&cluster.server_pid().to_string(), "leave out --local", "--addr local:DIR"]);
    assert!(!run.stderr.contains("--data"), "it has no such option: {run}");
}

#[test]
fn an_address_of_another_machine_is_not_listened_on() {
    // Reserved for documentation: no machine has it.
    let (code, said) = Setup::new().flags(&["--listen", "192.0.2.1:7733", "--insecure-plaintext"]).refused();
    assert_eq!(code, 69, "{said}");
    let cluster = Cluster::start();
    let up = cluster.taskq(&["up", "--listen", "192.0.2.1:7733"]).code(69);
    for said in [said, up.stderr] {
        assert!(said.contains("cannot listen on 192.0.2.1:7733: this machine has no such address"), "{said}");
        assert!(said.contains("ip -brief address") && !said.contains("os error"), "{said}");
    }
}

#[test]
fn a_file_in_the_place_of_the_data_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("file"), folder.path().join("data"));
    fs::write(&file, "").unwrap();
    fs::create_dir(&data).unwrap();
    fs::write(data.join("sled"), "").unwrap();
    for (data, named) in [(&file, file.clone()), (&data, data.join("sled"))] {
        let mut command = daemon::leashed(&binaries::server());
        command.arg("--data").arg(data).args(["--listen", "127.0.0.1:0"]);
        let server = command.output().unwrap();
        let said = String::from_utf8_lossy(&server.stderr).into_owned();
        assert_eq!(server.status.code(), Some(78), "{said}");
        let local = format!("local:{}", data.display());
        let run = Taskq::new(folder.path(), &["--addr", &local, "ls"]).run().code(78);
        for said in [said, run.stderr] {
            assert!(said.contains(&format!("error: {} is not a directory", named.display())), "{said}");
        }
    }
}

#[test]
fn what_ran_is_told_even_if_the_rest_could_not_run() {
    let mut cluster = Cluster::start();
    cluster.worker(1);
    let header = "Seq\tHost\tStarttime\tJobRuntime\tExitval\tSignal\tState\tAttempt\tJob\tPeakRSS\tCommand\n";
    let id = cluster.taskq(&["submit", "--array", "1-2", "--", "false"]).ok().number();
    cluster.api().ended(id);
    let line = |seq: u32, job: u64| format!("{seq}\tw\t1\t1\t1\t0\tfailed\t1\t{job}\t0\tfalse {seq}\n");
    let log = [header.to_owned(), line(1, id), line(2, 4_242)].concat();
    fs::write(cluster.folder().join("log.tsv"), log).unwrap();
    let run = cluster.taskq(&["map", "--resume-failed", "log.tsv", "--json"]).code(3).says(&["4242"]);
    let document = run.json();
    assert_eq!(document["schema"], "taskq.v1.show", "{document}");
    assert_eq!(document["jobs"][0]["rerun_of"], id, "{document}");
}

#[test]
fn a_huge_element_does_not_fill_the_screen() {
    let mut cluster = Cluster::start();
    cluster.worker(1);
    let long = "x".repeat(50_000);
    let run = cluster.taskq(&["map", "false", ":::", &long]).code(1).says(&["(50006 characters)"]);
    assert!(run.stderr.len() < 1_000, "{} bytes: {run}", run.stderr.len());
    let run = cluster.taskq(&["run", "--", &long]).code(126).says(&["(50000 characters)"]);
    assert!(run.stderr.len() < 1_000, "{} bytes: {run}", run.stderr.len());
    for words in [
        &["show", &"9".repeat(50_000)][..],
        &["submit", "--array", &long, "--", "true"],
        &["map", "echo", &format!("{{{long}}}"), ":::", "a"],
        &["submit", "--timeout", &long, "--", "true"],
    ] {
        let run = cluster.taskq(words).code(2);
        assert!(run.stderr.len() < 2_000, "{} bytes from taskq {}", run.stderr.len(), words[0]);
    }
}
