//! Odd surroundings: programs that are being written, hostile environment variables, a closed standard input, a machine
//! without /proc or without processes to spare, questions about what is gone.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use taskq_proto::v1::{self as pb, State, outcome::Kind};
use taskq_tests::{Cluster, Ledger, Setup, binaries, daemon, need, spec, wait};
use tonic::Code;

#[test]
fn a_program_that_is_being_written_is_named() {
    let mut cluster = Cluster::start();
    cluster.worker(1);
    let program = cluster.folder().join("program");
    fs::copy("/bin/true", &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let writer = fs::OpenOptions::new().append(true).open(&program).unwrap();
    let name = program.to_str().unwrap();
    let run = cluster.taskq(&["run", "--", name]).code(126);
    let run = run.says(&["w0", name]);
    assert!(run.stderr.to_lowercase().contains("busy"), "{run}");
    drop(writer);
    cluster.taskq(&["run", "--", name]).ok();
}

#[test]
fn a_task_s_environment_is_the_task_s_own_trouble() {
    let mut cluster = Cluster::start();
    cluster.worker(1);
    let run = cluster.taskq(&["run", "--env", "LD_PRELOAD=/no/such/library.so", "--", "echo", "well"]).ok();
    assert_eq!(run.out(), "well", "{run}");
    cluster.taskq(&["run", "--env", "HOME=", "--env", "IFS=x", "--", "sh", "-c", "exit 4"]).code(4);
    assert_eq!(cluster.taskq(&["run", "--", "sh", "-c", "echo ${LD_PRELOAD-unset}"]).ok().out(), "unset");
}

#[test]
fn a_closed_standard_input_is_empty() {
    let mut cluster = Cluster::start();
    cluster.worker(1);
    let shell = |line: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", line]).arg(binaries::taskq()).env("TASKQ_ACCESS", cluster.access_file());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        daemon::spawn(command).wait_with_output().unwrap()
    };
    for line in ["exec \"$0\" ls <&-", "exec \"$0\" run -- true <&-"] {
        let done = shell(line);
        assert_eq!(done.status.code(), Some(0), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    }
    let done = shell("exec \"$0\" run --stdin - -- wc -c <&-");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!((done.status.code(), done.stdout.trim_ascii()), (Some(0), &b"0"[..]), "{said}");
}

#[test]
fn the_command_line_needs_no_proc() {
    if !need::root_and(&["unshare"]) {
        return;
    }
    let mut cluster = Cluster::start();
    cluster.worker(1);
    let mut command = Command::new("unshare");
    // In a container there may be more than one.
    let line =
        "while umount -l /proc 2>/dev/null; do :; done; [ ! -e /proc/self ] && exec \"$0\" run -- echo seen";
    command.args(["--mount", "sh", "-c", line]).arg(binaries::taskq());
    command.env("TASKQ_ACCESS", cluster.access_file()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let done = daemon::spawn(command).wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(done.stdout, b"seen\n");
}

#[test]
fn a_job_that_cannot_be_read_fails_alone() {
    let mut cluster = Setup::new().tolerate("cannot read a job").start();
    let input = cluster.folder().join("input");
    fs::write(&input, vec![b'x'; 500_000]).unwrap();
    let broken =
        cluster.taskq(&["submit", "--stdin", input.to_str().unwrap(), "--", "wc", "-c"]).ok().number();
    cluster.kill_server();
    fs::remove_dir_all(cluster.data().join("blobs-sha256")).unwrap();
    cluster.start_server();
    cluster.worker(1);
    assert_eq!(cluster.taskq(&["run", "--", "echo", "others run"]).ok().out(), "others run");
    let api = cluster.api();
    api.ended(broken);
    let outcome = api.task(broken, 0).outcome.unwrap();
    assert_eq!(outcome.exit_code, 126, "{outcome:?}");
    assert!(outcome.message.contains("standard input is damaged or missing"), "{outcome:?}");
}

#[test]
fn what_would_not_fit_into_a_message_is_refused_or_cut() {
    let mut cluster = Cluster::start();
    cluster.worker(8);
    let input = cluster.folder().join("input");
    fs::write(&input, vec![b'x'; (32 << 20) + 1]).unwrap();
    let input = input.to_str().unwrap();
    cluster.taskq(&["submit", "--stdin", input, "--", "wc", "-c"]).code(2).says(&["32 MiB", "file"]);
    let long = cluster.folder().join("long");
    fs::write(&long, vec![b'x'; (1 << 20) + 1]).unwrap();
    let long = long.to_str().unwrap();
    cluster.taskq(&["map", "--each-line", long, "--", "true"]).code(2).says(&["1048576"]);
    // 100 MB of elements for one worker: each too long for a program, all of them delivered.
    let lines = cluster.folder().join("lines");
    fs::write(&lines, format!("{}\n", "y".repeat(1_000_000)).repeat(100)).unwrap();
    let job = ["submit", "--each-line", lines.to_str().unwrap(), "--", "echo", "{#}"];
    let id = cluster.taskq(&job).ok().number();
    let api = cluster.api();
    assert_eq!(api.ended(id).counts.unwrap().failed, 100);
    let message = api.task(id, 99).outcome.unwrap().message;
    assert!(message.contains("too long"), "{message}");
    assert_eq!(cluster.taskq(&["run", "--", "echo", "well"]).ok().out(), "well", "the worker is well");
}

#[test]
fn what_is_gone_is_not_found() {
    let mut cluster = Cluster::start();
    cluster.worker(1);
    let api = cluster.api();
    let gone = api.submit_one(spec::command(&["true"]));
    api.ended(gone);
    cluster.taskq(&["rm", &gone.to_string()]).ok();
    let status = api.call(|mut jobs| async move {
        let mut stream = jobs.watch(pb::WatchRequest { job_id: gone }).await?.into_inner();
        stream.message().await.map(tonic::Response::new)
    });
    assert_eq!(status.expect_err("it was removed").code(), Code::NotFound);
    cluster.taskq(&["result", &gone.to_string()]).code(3).says(&["removed"]);
}

#[test]
fn a_page_token_holds_no_filter() {
    let cluster = Cluster::start();
    let api = cluster.api();
    let named = |name: &str| {
        let mut job = spec::command(&["true"]);
        job.name = name.to_owned();
        job
    };
    let jobs = (0..10).map(|n| named(if n % 2 == 0 { "even" } else { "odd" })).collect();
    api.submit(&spec::request(jobs)).unwrap();
    let page = |name: &str, page_token: String| {
        let filter = pb::Filter { name_glob: name.to_owned(), ..Default::default() };
        let request = pb::ListRequest { filter: Some(filter), page_size: 2, page_token };
        api.call(|mut jobs| async move { jobs.list(request).await })
    };
    let token = page("even", String::new()).unwrap().next_page_token;
    assert!(!token.is_empty());
    let reply = page("odd", token).unwrap();
    assert!(!reply.jobs.is_empty());
    let odd = |job: &pb::Job| job.spec.as_ref().is_some_and(|spec| spec.name == "odd");
    assert!(reply.jobs.iter().all(odd), "the filter is the request's");
}

#[test]
fn tasks_for_which_there_is_no_process_run_elsewhere_uncharged() {
    if !need::root_and(&["setpriv", "prlimit", "mkfifo"]) {
        return;
    }
    const TASKS: u32 = 8;
    let mut cluster = Cluster::start();
    let folder = cluster.folder().to_owned();
    let (gate, ledger) = (folder.join("gate"), Ledger::new(&folder));
    let made = Command::new("mkfifo").arg(&gate).status();
    assert!(made.is_ok_and(|status| status.success()));
    for shared in [&gate, &folder.join("ledger")] {
        fs::set_permissions(shared, fs::Permissions::from_mode(0o666)).unwrap();
    }
    // The worker and its spawner, and some tasks, but not all; a task makes no further process.
    cluster.launch_worker_with_few_processes(0, TASKS, 5);
    let script = format!("{}; read word < {}; {}", ledger.note("start"), gate.display(), ledger.note("end"));
    let mut job = spec::array(spec::shell(&script), TASKS);
    if let Some(command) = &mut job.command {
        command.cwd = "/".to_owned();
    }
    let api = cluster.api();
    let id = api.submit_one(job);
    let refused = |task: &pb::Task| task.earlier.iter().any(|earlier| earlier.kind() == Kind::Rejected);
    wait::holds("a task was refused", || (0..TASKS).any(|index| refused(&api.task(id, index))));
    assert!(!ledger.lines("start").is_empty(), "others run there");
    cluster.worker(TASKS);
    wait::holds("all tasks run", || ledger.lines("start").len() == TASKS as usize);

    let mut opened = fs::OpenOptions::new().read(true).write(true).open(&gate).unwrap();
    opened.write_all("go\n".repeat(TASKS as usize).as_bytes()).unwrap();
    let ended = api.ended(id);
    assert_eq!((ended.state, ended.counts.unwrap().succeeded), (State::Succeeded as i32, TASKS));
    let (mut here, mut elsewhere) = (0, 0);
    for index in 0..TASKS {
        let task = api.task(id, index);
        for earlier in &task.earlier {
            assert_eq!(earlier.kind(), Kind::Rejected, "{earlier:?}");
            let said = &earlier.message;
            assert!(said.contains("w0") && said.contains("could not make a process"), "{said}");
        }
        match task.worker.as_str() {
            "w0" => here += 1,
            _ => elsewhere += u32::from(refused(&task)),
        }
        assert_eq!(ledger.counts("end").get(&(id, index)), Some(&1), "task {index} ran once");
    }
    assert!(here > 0 && elsewhere > 0 && here + elsewhere == TASKS, "{here} at w0, {elsewhere} elsewhere");
    assert_eq!(ledger.lines("start").len(), TASKS as usize);
}
