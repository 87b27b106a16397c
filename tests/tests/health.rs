//! `taskq-server health`: what containers and people ask before they trust a coordinator. Exit 0 means that it serves.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use taskq_tests::{Cluster, Taskq, cluster::free_port};

#[test]
fn a_coordinator_that_serves_is_found_by_its_directory_its_file_or_its_address() {
    let mut cluster = Cluster::start();
    let (data, file) = (cluster.data().display().to_string(), cluster.access_file());
    let addr = cluster.access().address;
    let health = |arguments: &[&str]| Taskq::server(cluster.folder(), &[&["health"], arguments].concat());
    for run in [
        health(&["--data", &data]),
        health(&["--access", &file.display().to_string()]),
        health(&["--addr", &addr]),
        health(&["--addr", &format!("http://{addr}/")]),
        health(&[]).env("TASKQ_DATA", &data),
        health(&[]).env("TASKQ_ACCESS", &file),
        health(&[]).env("TASKQ_ADDR", &addr),
    ] {
        let run = run.run().ok();
        assert!(run.out().starts_with("serving at ") && run.out().contains(&addr), "{run}");
        assert!(run.wall < Duration::from_secs(2), "{run}");
    }
    // Others may ask who cannot read the token.
    cluster.stop_server();
    let run = Taskq::server(cluster.folder(), &["health", "--data", &data]).run();
    run.code(69).says(&["not serving", &addr, "refused", "is taskq-server running"]);
}

#[test]
fn a_coordinator_that_does_not_answer_yet_is_said_to_be_starting() {
    let mut cluster = Cluster::start();
    let data = cluster.data().display().to_string();
    let ask = |cluster: &Cluster| {
        Taskq::server(cluster.folder(), &["health", "--data", &data, "--timeout", "300ms"]).run()
    };
    // Its port is open while it reads its store, as it is while it stands still.
    cluster.server().signal(Signal::STOP);
    let run = ask(&cluster).code(69).says(&["starting", "300ms", "reads its store"]);
    assert!(run.wall < Duration::from_secs(3), "{run}");
    cluster.server().signal(Signal::CONT);
    ask(&cluster).ok();
}

#[test]
fn what_is_no_coordinator_is_not_taken_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let health = |arguments: &[&str]| Taskq::server(folder.path(), &[&["health"], arguments].concat()).run();
    health(&[]).code(69).says(&["access.toml does not exist", "--addr"]);
    health(&["--addr", &format!("127.0.0.1:{}", free_port())]).code(69).says(&["cannot be reached"]);
    health(&["--addr", "no such host"]).code(69).says(&["is not an address", "HOST:PORT"]);
    health(&["--addr", "nowhere.invalid"]).code(69).says(&["nowhere.invalid cannot be reached"]);
    health(&["--timeout", "3"]).code(2).says(&["500ms"]);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let web = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut begun = [0; 24];
        stream.read_exact(&mut begun).unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").unwrap();
    });
    let start = Instant::now();
    health(&["--addr", &addr]).code(69).says(&["not serving", &addr]);
    assert!(start.elapsed() < Duration::from_secs(3), "it is told at once: {:?}", start.elapsed());
    web.join().unwrap();
}

#[test]
fn flags_of_serving_go_with_no_command() {
    let folder = tempfile::tempdir().unwrap();
    let run = Taskq::server(folder.path(), &["--ephemeral", "health"]).run();
    run.code(2).says(&["health"]);
    // What the environment says of serving is no flag.
    let run = Taskq::server(folder.path(), &["health"]).env("TASKQ_LISTEN", "127.0.0.1:1").run();
    run.code(69).says(&["access.toml does not exist"]);
}
