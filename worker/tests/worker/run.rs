//! One task: what it gets, what is kept of what it says, how its end is told.

use pb::outcome::Kind;
use taskq_proto::v1 as pb;

use crate::coordinator::{Coordinator, Worker, argv, shell};

const MIB: u64 = 1024 * 1024;

#[tokio::test]
async fn output_exit_code_and_usage_are_reported() {
    let mut coordinator = Coordinator::start().await;
    let _worker = Worker::start(&coordinator, &[]);
    let mut session = coordinator.session().await;
    let run = session.run(1, "echo out; echo err >&2; exit 3").await;
    assert_eq!((run.outcome.kind(), run.outcome.exit_code), (Kind::Exited, 3));
    assert_eq!(run.stdout(), "out\n");
    assert_eq!(run.outcome.stderr, "err\n");
    assert_eq!((run.outcome.stdout_bytes, run.outcome.stderr_bytes), (4, 4));
    let usage = run.outcome.usage.expect("usage");
    assert!(usage.wall_us > 0 && usage.peak_rss_bytes > 0, "{usage:?}");
    assert!(run.outcome.started_unix_ms > 0 && run.outcome.ended_unix_ms >= run.outcome.started_unix_ms);
}

#[tokio::test]
async fn the_wall_time_covers_the_making_of_the_process() {
    let mut coordinator = Coordinator::start().await;
    let _worker = Worker::start(&coordinator, &["--slots", "1"]);
    let mut session = coordinator.session().await;
    // A megabyte of arguments: most of what it uses, it uses before it executes its program.
    let long = "x".repeat(100 * 1024);
    session
        .assign(argv(1, &["true", &long, &long, &long, &long, &long, &long, &long, &long, &long, &long]), 10);
    for index in 0..10 {
        let usage = session.ended(index).await.outcome.usage.expect("usage");
        assert!(usage.wall_us >= usage.user_us + usage.system_us, "one process on one core: {usage:?}");
    }
}

#[tokio::test]
async fn every_signal_and_every_code_is_told_apart() {
    let mut coordinator = Coordinator::start().await;
    let _worker = Worker::start(&coordinator, &["--slots", "1"]);
    let mut session = coordinator.session().await;
    for code in [0, 1, 2, 125, 126, 127, 128, 137, 255] {
        let run = session.run(1000 + code, &format!("exit {code}")).await;
        assert_eq!((run.outcome.kind(), run.outcome.exit_code), (Kind::Exited, code as i32));
    }
    // Those that end a process by default; 13 (PIPE) shows that ignored signals are not inherited.
    for signal in [1, 2, 3, 4, 6, 8, 9, 10, 11, 12, 13, 14, 15] {
        let run = session.run(2000 + signal, &format!("kill -{signal} $$")).await;
        assert_eq!((run.outcome.kind(), run.outcome.signal), (Kind::Signaled, signal as i32));
    }
}

#[tokio::test]
async fn a_task_sees_its_own_variables_and_none_of_the_workers_secrets() {
    let mut coordinator = Coordinator::start().await;
    let _worker = Worker::start(&coordinator, &[]);
    let mut session = coordinator.session().await;
    let mut template = argv(7, &["env"]);
    if let Some(command) = &mut template.command {
        command.env = [("COLOUR", "red"), ("LANG", "xx"), ("TASKQ_JOB", "999")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
    }
    session.assign(template, 3);
    let run = session.ended(2).await;
    let text = run.stdout();
    let mut names: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.sort_unstable();
    let known = ["HOME", "USER", "TMPDIR", "LANG", "PATH", "COLOUR"];
    assert!(names.iter().all(|name| known.contains(name) || name.starts_with("TASKQ_")), "{names:?}");
    assert!(names.is_sorted_by(|a, b| a < b), "each name once: {names:?}");
    for entry in
        ["TASKQ_JOB=7", "TASKQ_TASK=2", "TASKQ_ATTEMPT=1", "TASKQ_WORKER=w1", "COLOUR=red", "LANG=xx"]
    {
        assert!(text.lines().any(|line| line == entry), "{entry} in {text}");
    }
    assert!(!text.contains("TASKQ_TOKEN") && !text.contains("SECRET"), "{text}");
}

#[tokio::test]
async fn neither_worker_nor_spawner_show_the_token_to_tasks() {
    let mut coordinator = Coordinator::start().await;
    let _worker = Worker::start(&coordinator, &[]);
    let mut session = coordinator.session().await;
    let script = "ls /proc/self/fd; umask; ulimit -c; ps -o args= -p $PPID";
    let run = session.run(1, script).await;
    let text = run.stdout();
    // ls itself opens the directory as 3.
    assert_eq!(
        text.lines().take(7).collect::<Vec<_>>(),
        ["0", "1", "2", "3", "0077", "0", "taskq-spawner __taskq-spawner"]
    );
}

#[tokio::test]
async fn values_go_into_the_arguments_and_standard_input_is_whole() {
    let mut coordinator = Coordinator::start().await;
    let _worker = Worker::start(&coordinator, &[]);
    let mut session = coordinator.session().await;
    let mut template = argv(1, &["sh", "-c", "printf '%s|' \"$@\"; cat", "-", "a {} b", "$HOME; {}"]);
    template.columns = vec![String::new()];
    template.range = Some(pb::Range { start: 10, step: 5, count: 3 });
    if let Some(command) = &mut template.command {
        command.stdin = vec![b'x'; 3_000].into();
    }
    session.assign(template, 3);
    let run = session.ended(2).await;
    assert_eq!(run.stdout(), format!("a 20 b|$HOME; 20|{}", "x".repeat(3_000)));
}

#[tokio::test]
async fn what_cannot_be_executed_says_why_and_where() {
    let mut coordinator = Coordinator::start().await;
    let _worker = Worker::start(&coordinator, &[]);
    let mut session = coordinator.session().await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str, mode: u32| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode))
            .expect("own file");
        path.to_str().expect("plain").to_owned()
    };
    let plain = file("plain", "echo hi\n", 0o644);
    let headless = file("headless", "echo hi\n", 0o755);
    let lost = file("lost", "#!/no/such/interpreter\n", 0o755);
    let long = "x".repeat(3 * MIB as usize);
    let cases: [(&[&str], i32, &str); 7] = [
        (&["no-such-program-anywhere"], 127, "\"no-such-program-anywhere\" not found on PATH"),
        (&["/no/such/program"], 127, "\"/no/such/program\" not found"),
        (&[&plain], 126, "Permission denied"),
        (&["/"], 126, "Permission denied"),
        (&[&headless], 126, "first line"),
        (&[&lost], 126, "interpreter"),
        (&["true", &long], 126, "too long"),
    ];
    for (job, (command, code, words)) in (1..).zip(cases) {
        session.assign(argv(job, command), 1);
        let outcome = session.ended(0).await.outcome;
        assert_eq!(
            (outcome.kind(), outcome.exit_code),
            (Kind::CannotExecute, code),
            "{command:.40?}: {outcome:?}"
        );
        assert!(
            outcome.message.contains(words) && outcome.message.contains("worker w1"),
            "{}",
            outcome.message
        );
    }
    let mut template = argv(99, &["true"]);
    if let Some(command) = &mut template.command {
        command.cwd = "/no/such/place".to_owned();
    }
    session.assign(template, 1);
    let outcome = session.ended(0).await.outcome;
    assert_eq!((outcome.kind(), outcome.exit_code), (Kind::CannotExecute, 126));
    assert!(outcome.message.contains("/no/such/place"), "{}", outcome.message);
}

#[tokio::test]
async fn output_of_a_running_task_is_passed_on() {
    let mut coordinator = Coordinator::start().await;
    let _worker = Worker::start(&coordinator, &[]);
    let mut session = coordinator.session().await;
    session.assign(shell(1, "echo first; sleep 600"), 1);
    assert_eq!(session.output().await, "first\n");
}

#[tokio::test]
async fn of_endless_output_the_beginning_and_the_end_are_kept() {
    let mut coordinator = Coordinator::start().await;
    let _worker = Worker::start(&coordinator, &[]);
    let mut session = coordinator.session().await;
    let run = session.run(1, "printf begin; head -c 300000000 /dev/zero; printf end").await;
    assert_eq!(run.outcome.stdout_bytes, 300_000_008);
    assert_eq!(run.kept_bytes() as u64, MIB);
    let (offset, first) = &run.stdout[0];
    assert!(*offset == 0 && first.starts_with(b"begin"));
    let (offset, last) = run.stdout.iter().rfind(|(_, data)| !data.is_empty()).expect("some output");
    assert!(last.ends_with(b"end") && offset + last.len() as u64 == 300_000_008);
}

#[tokio::test]
async fn output_that_nobody_confirms_stops_its_writer() {
    let mut coordinator = Coordinator::start().await;
    let _worker = Worker::start(&coordinator, &["--slots", "1"]);
    let mut session = coordinator.session().await;
    let mut template = shell(1, "head -c 40000000 /dev/zero; echo done >&2");
    template.output_limit_bytes = Some(64 * MIB);
    session.assign(template, 1);
    let mut received = 0;
    while received < 16 * MIB - 60 * 1024 {
        if let Some(pb::report::Event::Output(output)) = session.report().await.event {
            received += output.data.len() as u64;
        }
    }
    // Two heartbeats later no more than the room has come.
    let seq = session.last_seq + 2;
    session.next_messages_until(seq, &mut received).await;
    assert!(received <= 16 * MIB, "{received}");
    session.commit();
    let run = session.ended(0).await;
    assert_eq!(received + run.kept_bytes() as u64, 40_000_000);
    assert_eq!(run.outcome.stderr, "done\n");
}
