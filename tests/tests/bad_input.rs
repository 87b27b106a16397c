//! Wrong input from people and programs: a clear error with the next step, the documented exit code, and nothing
//! changed.

use std::fs;
use std::process::Stdio;
use std::thread;
use taskq_proto::v1 as pb;
use taskq_tests::{Api, Cluster, daemon, spec, wait};
use tonic::Code;

/// Submits one job that must be refused as wrong, with a reason that contains `text`.
#[track_caller]
fn refused(api: &Api, what: &str, job: pb::JobSpec, text: &str) {
    let status = api.submit(&spec::request(vec![job])).expect_err(what);
    assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status}");
    assert!(status.message().contains(text), "{what} should be told about {text:?}: {status}");
}

fn changed(change: impl FnOnce(&mut pb::JobSpec)) -> pb::JobSpec {
    let mut job = spec::command(&["true"]);
    change(&mut job);
    job
}

fn with_command(change: impl FnOnce(&mut pb::Command)) -> pb::JobSpec {
    changed(|job| change(job.command.as_mut().expect("a command")))
}

#[test]
fn wrong_commands_are_refused_at_submit() {
    let cluster = Cluster::start();
    let api = cluster.api();
    refused(&api, "no command", changed(|job| job.command = None), "command");
    refused(&api, "an empty argv", spec::command::<&str>(&[]), "argv");
    refused(&api, "an empty program", spec::command(&[""]), "argv");
    refused(&api, "NUL in argv", spec::command(&["echo", "a\0b"]), "NUL");
    refused(&api, "an unknown placeholder", spec::array(spec::command(&["echo", "{nmae}"]), 2), "nmae");
    refused(
        &api,
        "NUL in the environment",
        with_command(|c| drop(c.env.insert("A".into(), "b\0".into()))),
        "NUL",
    );
    refused(&api, "an empty name", with_command(|c| drop(c.env.insert(String::new(), "b".into()))), "env");
    refused(&api, "a name with =", with_command(|c| drop(c.env.insert("A=B".into(), "b".into()))), "A=B");
    refused(&api, "a relative cwd", with_command(|c| c.cwd = "../..".into()), "cwd");
    refused(&api, "NUL in cwd", with_command(|c| c.cwd = "/tmp\0".into()), "cwd");
    refused(&api, "an oversized stdin", with_command(|c| c.stdin = vec![0; (64 << 10) + 1].into()), "stdin");
    let script = |words: &[&str]| {
        let mut job = spec::command(words);
        job.command.as_mut().expect("a command").shell = true;
        job
    };
    refused(&api, "two scripts", script(&["echo", "hi"]), "shell");
    assert_eq!(api.list(pb::Filter::default()).expect("list").len(), 0, "nothing was changed");
}

#[test]
fn wrong_fields_are_refused_at_submit() {
    let cluster = Cluster::start();
    let api = cluster.api();
    for queue in [
        "🦀",
        "\u{202e}evil",
        "a\u{1b}[31m",
        "-dash",
        "a b",
        "../etc",
        &"q".repeat(65),
        &"q".repeat(64 << 10),
    ] {
        refused(&api, "a queue name", changed(|job| job.queue = queue.to_owned()), "queue");
    }
    refused(&api, "a long name", changed(|job| job.name = "n".repeat(257)), "name");
    refused(&api, "a long key", changed(|job| job.idempotency_key = "k".repeat(257)), "key");
    refused(
        &api,
        "many labels",
        changed(|job| job.labels = (0..65).map(|n| (n.to_string(), "v".into())).collect()),
        "label",
    );
    refused(&api, "no elements", spec::array(spec::command(&["true"]), 0), "");
    let twice = spec::array(spec::command(&["true"]), 1 << 31);
    let product = changed(|job| {
        let source = twice.elements.clone().expect("elements").sources;
        job.elements =
            Some(pb::Elements { sources: [source.clone(), source].concat(), ..Default::default() });
    });
    refused(&api, "2^62 tasks", product, "");
    let big = with_command(|c| c.argv = vec!["echo".into(), "x".repeat(5 << 20)]);
    let status = api.submit(&spec::request(vec![big])).expect_err("5 MiB of argv");
    assert!(
        [Code::InvalidArgument, Code::OutOfRange, Code::ResourceExhausted].contains(&status.code()),
        "{status}"
    );
    assert_eq!(api.list(pb::Filter::default()).expect("list").len(), 0, "nothing was changed");
}

#[test]
fn the_limits_themselves_are_taken() {
    let mut cluster = Cluster::start();
    cluster.worker(1);
    let api = cluster.api();
    let stdin = with_command(|c| {
        c.argv = vec!["wc".into(), "-c".into()];
        c.stdin = vec![b'x'; 64 << 10].into();
    });
    let full = api.submit_one(stdin);
    let empty = api.submit_one(with_command(|c| c.argv = vec!["wc".into(), "-c".into()]));
    let named = api.submit_one(changed(|job| {
        job.name = "n".repeat(256);
        job.queue = "q".repeat(64);
        job.priority = 1_000;
    }));
    for id in [full, empty, named] {
        assert_eq!(api.ended(id).state, pb::State::Succeeded as i32);
    }
    assert_eq!(cluster.taskq(&["result", &full.to_string()]).ok().out(), "65536");
    assert_eq!(cluster.taskq(&["result", &empty.to_string()]).ok().out(), "0");
}

#[test]
fn one_wrong_job_refuses_its_whole_batch() {
    let cluster = Cluster::start();
    let api = cluster.api();
    let jobs = vec![spec::command(&["true"]), spec::command::<&str>(&[]), spec::command(&["true"])];
    let status = api.submit(&spec::request(jobs)).expect_err("the second is wrong");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(api.list(pb::Filter::default()).expect("list").len(), 0, "all or none");
    let none = api.submit(&spec::request(Vec::new())).expect_err("no jobs at all");
    assert_eq!(none.code(), Code::InvalidArgument);
    let many = api.submit(&spec::request(vec![spec::command(&["true"]); 10_001])).expect_err("too many");
    assert_eq!(many.code(), Code::InvalidArgument, "{many}");
}

#[test]
fn a_key_is_one_job_however_often_it_is_sent() {
    let cluster = Cluster::start();
    let job = changed(|job| job.idempotency_key = "once".to_owned());
    let access = cluster.access();
    let ids: Vec<u64> = thread::scope(|scope| {
        let senders: Vec<_> =
            (0..64).map(|_| scope.spawn(|| Api::connect(&access).submit_one(job.clone()))).collect();
        senders.into_iter().map(|sender| sender.join().expect("a sender")).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "64 at once are one job: {ids:?}");
    let api = cluster.api();
    let other = changed(|job| {
        job.idempotency_key = "once".to_owned();
        job.name = "other".to_owned();
    });
    let status = api.submit(&spec::request(vec![other])).expect_err("another payload");
    assert_eq!(status.code(), Code::AlreadyExists, "{status}");
    assert_eq!(api.list(pb::Filter::default()).expect("list").len(), 1);
}

#[test]
fn bad_selectors_and_unknown_jobs_are_named() {
    let cluster = Cluster::start();
    for selector in
        ["../../etc/passwd", "%2e%2e", "4x", "42.", "42.5-", "1-", "-1-2", "99999999999999999999999"]
    {
        let run = cluster.taskq(&["show", "--", selector]).code(2);
        run.says(&[selector]);
    }
    let long = "9".repeat(100_000);
    assert_eq!(cluster.taskq(&["show", &long]).code, 2);
    for verb in ["show", "result", "logs", "explain", "tasks", "wait"] {
        cluster.taskq(&[verb, "424242"]).code(3).says(&["424242"]);
    }
    cluster.taskq(&["show", "last"]).code(3);
    let api = cluster.api();
    let unknown = api.get(424_242).expect_err("unknown");
    assert_eq!(unknown.code(), Code::NotFound);
}

#[test]
fn cancelling_is_idempotent_and_says_what_it_found() {
    let mut cluster = Cluster::start();
    let api = cluster.api();
    let queued = api.submit_one(spec::command(&["true"]));
    let note = |id: u64| {
        let reply = api.cancel(&[id]).unwrap_or_else(|status| panic!("cancel {id}: {status}"));
        reply.acted.into_iter().next().unwrap_or_else(|| panic!("an answer for job {id}"))
    };
    assert_eq!(note(queued).tasks, 1);
    assert_eq!(api.ended(queued).state, pb::State::Cancelled as i32);
    let again = note(queued);
    assert_eq!((again.tasks, again.error_code), (0, 0), "{again:?}");
    let unknown = note(777);
    assert_eq!(unknown.error_code, Code::NotFound as i32, "{unknown:?}");
    cluster.worker(1);
    let done = api.submit_one(spec::command(&["true"]));
    api.ended(done);
    let late = note(done);
    assert_eq!(late.tasks, 0, "{late:?}");
    assert_eq!(
        api.get(done).expect("get").state,
        pb::State::Succeeded as i32,
        "what has ended stays as it is"
    );
}

#[test]
fn forged_pages_and_cursors_are_refused() {
    let cluster = Cluster::start();
    let api = cluster.api();
    let ids = api.submit(&spec::request(vec![spec::command(&["true"]); 5])).expect("submit");
    let list = |page_size, page_token: &str| {
        let request = pb::ListRequest { filter: None, page_size, page_token: page_token.to_owned() };
        api.call(|mut jobs| async move { jobs.list(request).await })
    };
    for token in ["forged", "\u{1b}", "-1", "🦀", &"9".repeat(10_000)] {
        let status = list(10, token).expect_err("a forged token");
        assert_eq!(status.code(), Code::InvalidArgument, "{token:?}: {status}");
    }
    assert_eq!(list(0, "").expect("the default size").jobs.len(), 5);
    match list(u32::MAX, "") {
        Ok(reply) => assert_eq!(reply.jobs.len(), 5),
        Err(status) => assert_eq!(status.code(), Code::InvalidArgument, "{status}"),
    }
    let future = api.call(|mut jobs| async move {
        let request = pb::ResultsRequest { job_id: ids[0], cursor: 1_000_000, ..Default::default() };
        let mut stream = jobs.results(request).await?.into_inner();
        stream.message().await.map(tonic::Response::new)
    });
    match future {
        Err(status) => {
            assert!([Code::OutOfRange, Code::InvalidArgument].contains(&status.code()), "{status}")
        }
        Ok(batch) => {
            assert!(batch.is_none_or(|batch| batch.tasks.is_empty()), "a cursor in the future finds nothing")
        }
    }
}

#[test]
fn programs_and_folders_that_are_not_there_are_named() {
    let mut cluster = Cluster::start();
    cluster.worker(1);
    let folder = cluster.folder().to_owned();
    let file = |name: &str, text: &str, mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.join(name);
        fs::write(&path, text).expect("write a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set a mode");
        path.display().to_string()
    };
    let forbidden = file("forbidden", "#!/bin/sh\n", 0o600);
    let no_interpreter = file("no-interpreter", "#!/no/such/interpreter\n", 0o755);
    let nonsense = file("nonsense", "\u{1}\u{2}\u{3}", 0o755);
    cluster.taskq(&["run", "--", &forbidden]).code(126).says(&["w0", &forbidden]);
    let run = cluster.taskq(&["run", "--", &no_interpreter]);
    assert!([126, 127].contains(&run.code), "{run}");
    cluster.taskq(&["run", "--", &nonsense]).code(126).says(&["w0", &nonsense]);
    let run = cluster.taskq(&["run", "--cwd", "/no/such/folder", "--", "true"]).code(126);
    run.says(&["w0", "/no/such/folder"]);
    let loops = folder.join("loop");
    std::os::unix::fs::symlink(&loops, &loops).expect("a link to itself");
    cluster.taskq(&["run", "--cwd", loops.to_str().expect("a path"), "--", "true"]).code(126);
    let long = "x".repeat(200_000);
    let run = cluster.taskq(&["run", "--", "true", &long[..100_000]]);
    assert_eq!(run.code, 0, "a long argument that fits is fine: {run}");
    // A single argument above the kernel's 128 KiB cannot be executed.
    let id = cluster.api().submit_one(spec::command(&["true", &long]));
    let job = cluster.api().ended(id);
    assert_eq!(job.state, pb::State::Failed as i32);
    let outcome = cluster.api().task(id, 0).outcome.expect("an outcome");
    assert_eq!(
        (outcome.kind, outcome.exit_code),
        (pb::outcome::Kind::CannotExecute as i32, 126),
        "{outcome:?}"
    );
    let path_less = cluster.taskq(&["run", "--env", "PATH=", "--", "no-such-program"]);
    assert_eq!(path_less.code, 127, "{path_less}");
    assert_eq!(cluster.taskq(&["run", "--", "echo", "well"]).ok().out(), "well", "the worker is well");
}

#[test]
fn odd_terminals_and_closed_pipes_are_met_calmly() {
    let cluster = Cluster::start();
    let api = cluster.api();
    let mut job = spec::command(&["true"]);
    job.name = "a name that is much longer than a narrow terminal".to_owned();
    let jobs = vec![job; 900];
    api.submit(&spec::request(jobs)).expect("submit");

    // The reader goes away after the first line.
    let mut command = cluster.cli(&["ls", "--limit", "900"]).into_command();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = daemon::spawn(command);
    drop(child.stdout.take());
    let done = child.wait_with_output().expect("the end of taskq ls");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(said, "", "a reader that left is no error to talk about");

    let mut command = cluster.cli(&["ls"]).into_command();
    command.stdout(fs::OpenOptions::new().write(true).open("/dev/full").expect("open /dev/full"));
    command.stderr(Stdio::piped());
    let done = daemon::spawn(command).wait_with_output().expect("the end of taskq ls");
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(74), "a full device is an error: {said}");
    assert!(!said.contains("panicked"), "{said}");

    for (name, value) in
        [("COLUMNS", "20"), ("COLUMNS", "0"), ("COLUMNS", "many"), ("TERM", "dumb"), ("LANG", "C")]
    {
        let run = cluster.cli(&["ls"]).env(name, value).run().ok();
        assert!(run.out().lines().count() > 1, "{name}={value}: {run}");
    }
    cluster.cli(&["ls"]).without("TERM").run().ok();
    cluster.cli(&["ls"]).without("HOME").run().ok();
    let piped = cluster.taskq(&["ls"]).ok();
    assert!(piped.out().contains('\t'), "tab-separated in a pipe: {piped}");
    assert!(!piped.out().contains('\u{1b}'), "no colour in a pipe");
}

#[test]
fn names_cannot_move_the_terminal() {
    let cluster = Cluster::start();
    let api = cluster.api();
    let mut job = spec::command(&["echo", "\u{1b}[2J"]);
    job.name = "\u{1b}]0;owned\u{7}\u{202e}".to_owned();
    let Ok(ids) = api.submit(&spec::request(vec![job])) else {
        // Refused is fine as well.
        assert_eq!(api.list(pb::Filter::default()).expect("list").len(), 0);
        return;
    };
    for words in [&["ls"][..], &["show", &ids[0].to_string()]] {
        let run = cluster.taskq(words).ok();
        assert!(!run.out().contains(['\u{1b}', '\u{7}']), "control bytes are escaped: {run}");
    }
}

#[test]
fn a_wrong_access_file_is_explained() {
    let cluster = Cluster::start();
    for (what, text) in [("empty", ""), ("no TOML", "\u{0}\u{1}"), ("no token", "addr = \"127.0.0.1:1\"\n")] {
        let path = cluster.folder().join("access");
        fs::write(&path, text).expect("write an access file");
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set a mode");
        let run = cluster.cli(&["ls"]).env("TASKQ_ACCESS", &path).run();
        assert!([77, 78].contains(&run.code), "{what}: {run}");
        run.says(&[path.to_str().expect("a path")]);
    }
    let absent = cluster.cli(&["ls"]).env("TASKQ_ACCESS", "/no/such/file").run();
    assert!([69, 77, 78].contains(&absent.code), "{absent}");
    absent.says(&["/no/such/file"]);
}

#[test]
fn the_token_shows_in_no_command_line_and_no_log() {
    let mut cluster = Cluster::start();
    cluster.worker(2);
    let token = cluster.access().token;
    let waiting = cluster.cli(&["run", "--", "sh", "-c", "echo up; exec sleep 600"]).start();
    wait::holds("the task runs", || waiting.stdout().contains("up"));
    for pid in [waiting.pid(), cluster.server_pid(), cluster.worker_at(0).pid()] {
        let words = fs::read(format!("/proc/{pid}/cmdline")).expect("a command line");
        assert!(!String::from_utf8_lossy(&words).contains(&token));
    }
    let seen = cluster.taskq(&["run", "--", "env"]).ok();
    assert!(!seen.out().contains(&token), "a task's environment has no token");
    assert!(token.starts_with("tq_"), "secret scanners can know it");
    for (name, text) in cluster.logs() {
        assert!(!text.contains(&token), "{name} shows the token");
    }
}
