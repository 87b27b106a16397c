//! Disks that fail: truncated snapshots, flipped bits, no space, errors of the n-th sync, and data directories that
//! cannot be used. What was acknowledged is there afterwards, or the coordinator says clearly that it is not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use taskq_proto::v1 as pb;
use taskq_tests::{Api, Cluster, Disk, Seed, Setup, need, spec, wait};
use tonic::Code;

#[test]
fn a_truncated_snapshot_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut acked = Vec::new();
    let mut struck = 0;
    for keep_percent in [0, 10, 50, 90] {
        let mut cluster = Setup::new().data(&data).tolerate("snap").start();
        let api = cluster.api();
        assert_eq!(missing(&api, &acked), Vec::<u64>::new(), "after snapshots of {keep_percent} %");
        for _ in 0..40 {
            acked.extend(api.submit(&spec::request(vec![spec::command(&["true"]); 50])).unwrap());
        }
        drop(api);
        // A clean stop writes the snapshot file.
        cluster.stop_server();
        for path in files(&data, &|name| name.starts_with("snap.")) {
            let length = fs::metadata(&path).unwrap().len();
            fs::OpenOptions::new()
                .write(true)
                .open(&path)
                .unwrap()
                .set_len(length * keep_percent / 100)
                .unwrap();
            struck += 1;
        }
    }
    assert!(struck > 0, "there were snapshot files to truncate in {}", data.display());
    let cluster = Setup::new().data(&data).tolerate("snap").start();
    assert_eq!(missing(&cluster.api(), &acked), Vec::<u64>::new());
}

#[test]
fn damaged_bytes_are_never_served() {
    let mut seed = Seed::new("damaged bytes");
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut cluster = Setup::new().data(&data).start();
    let api = cluster.api();
    let mut acked = Vec::new();
    for _ in 0..40 {
        let jobs = vec![spec::command(&["echo", &"x".repeat(200)]); 50];
        acked.extend(api.submit(&spec::request(jobs)).unwrap());
    }
    cluster.kill_server();
    let path = files(&data, &|name| name == "db").pop().expect("the store's file `db`");
    let whole = fs::read(&path).unwrap();
    // Zeros at the end are room that was never written.
    let used = whole.iter().rposition(|byte| *byte != 0).expect("the store wrote something") as u64;
    let mut refused = 0;
    for _ in 0..12 {
        let mut bytes = whole.clone();
        for _ in 0..seed.number(1, 3) {
            let at = seed.number(used / 10, used) as usize;
            bytes[at] ^= 1 << seed.number(0, 7);
        }
        let copy = tempfile::tempdir().unwrap();
        let struck = copy.path().join("data");
        copy_folder(&data, &struck);
        let relative = path.strip_prefix(&data).unwrap();
        fs::write(struck.join(relative), &bytes).unwrap();

        let mut cluster = Setup::new().data(&struck).tolerate("").launch();
        wait::holds("it serves or refuses", || {
            cluster.api_if_ready().is_some() || cluster.server().ended().is_some()
        });
        match cluster.server().ended() {
            Some(status) => {
                let said = cluster.server().log();
                assert_eq!(status.code(), Some(78), "{said}");
                let end = said.lines().rfind(|line| line.starts_with("error:")).unwrap_or_default();
                assert!(end.contains(&struck.display().to_string()), "names the directory: {said}");
                assert!(end.contains("backup") || end.contains("restore"), "names the way back: {said}");
                refused += 1;
            }
            // Harmless damage: then everything is there.
            None => {
                assert_eq!(missing(&cluster.api(), &acked), Vec::<u64>::new(), "served with jobs missing")
            }
        }
    }
    println!("12 damaged stores: {refused} refused, the others whole");
}

#[test]
fn a_log_whose_witness_is_gone_needs_its_owners_word() {
    let folder = tempfile::tempdir().unwrap();
    let (data, older) = (folder.path().join("data"), folder.path().join("older"));
    let mut cluster = Setup::new().data(&data).start();
    let mut acked = vec![cluster.api().submit_one(spec::command(&["true"]))];
    cluster.stop_server();
    copy_folder(&data, &older);
    cluster.start_server();
    acked.push(cluster.api().submit_one(spec::command(&["true"])));
    cluster.stop_server();
    drop(cluster);

    // A log that is shorter than what was acknowledged, with nothing to tell it by.
    fs::remove_dir_all(data.join("sled")).unwrap();
    copy_folder(&older.join("sled"), &data.join("sled"));
    fs::remove_file(data.join("acked")).unwrap();
    for _ in 0..2 {
        let (code, said) = Setup::new().data(&data).refused();
        assert_eq!(code, 78, "{said}");
        let named = [data.to_str().unwrap(), "`acked`", "backup", "--accept-loss"];
        assert!(named.iter().all(|text| said.contains(text)), "{said}");
    }
    let mut cluster = Setup::new().data(&data).flags(&["--accept-loss"]).tolerate("--accept-loss").start();
    let api = cluster.api();
    assert_eq!(missing(&api, &acked), acked[1..], "what is left is served");
    let new = api.submit_one(spec::command(&["true"]));
    assert!(!acked.contains(&new), "{new} was another job before");
    drop(api);
    cluster.stop_server();
    drop(cluster);
    let cluster = Setup::new().data(&data).start();
    assert_eq!(missing(&cluster.api(), &[acked[0], new]), Vec::<u64>::new(), "it was needed once");
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    if !need::root_and(&["mount"]) {
        return;
    }
    let disk = Disk::tmpfs(96);
    let data = disk.folder().join("data");
    let mut cluster = Setup::new().data(&data).tolerate("").start();
    let api = cluster.api();
    let mut acked = vec![api.submit_one(spec::command(&["true"]))];
    cluster.taskq(&["cancel", &acked[0].to_string()]).ok();
    let filler = disk.fill();
    cluster.taskq(&["retry", &acked[0].to_string()]).code(75).says(&["DISK_FULL"]);
    assert!(cluster.server().ended().is_none(), "a refused retry stops nothing");
    // The store has some room of its own; it fills while submits are accepted.
    let refusal = wait::until("the full disk is felt", || {
        let big = spec::command(&["echo", &"x".repeat(50_000)]);
        match api.submit(&spec::request(vec![big])) {
            Ok(ids) => {
                acked.extend(ids);
                None
            }
            Err(status) => Some(status),
        }
    });
    match cluster.server().ended() {
        Some(status) => assert_eq!(status.code(), Some(74), "{}", cluster.server().log()),
        None if refusal.code() == Code::ResourceExhausted => {
            assert!(refusal.message().contains("DISK_FULL"), "{refusal}");
            assert_eq!(missing(&api, &acked), Vec::<u64>::new(), "reads go on");
        }
        None => {
            assert_eq!(cluster.server().end().code(), Some(74), "{refusal}\n{}", cluster.server().log());
        }
    }
    let said = cluster.server().log();
    assert!(said.contains("the disk is full") || refusal.message().contains("DISK_FULL"), "says why: {said}");
    fs::remove_file(filler).unwrap();
    if cluster.server().ended().is_some() {
        cluster.start_server();
    }
    let api = cluster.api();
    wait::holds("submits are taken again", || {
        match api.submit(&spec::request(vec![spec::command(&["true"])])) {
            Ok(ids) => {
                acked.extend(ids);
                true
            }
            Err(_) => false,
        }
    });
    cluster.kill_server();
    cluster.start_server();
    assert_eq!(missing(&cluster.api(), &acked), Vec::<u64>::new());
    drop(cluster);
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged() {
    if !need::root_and(&["strace"]) {
        return;
    }
    for nth in [1, 2, 3, 5, 8, 13] {
        ends_and_loses_nothing("fdatasync,fsync", "EIO", nth);
    }
}

#[test]
fn after_a_failed_write_nothing_is_acknowledged() {
    if !need::root_and(&["strace"]) {
        return;
    }
    for nth in [1, 2, 3, 5, 8, 13, 21] {
        ends_and_loses_nothing("pwrite64", "ENOSPC", nth);
    }
    for nth in [1, 2, 4, 9] {
        ends_and_loses_nothing("pwrite64", "EIO", nth);
    }
}

/// Lets the n-th of these calls fail in a coordinator that takes jobs: it ends with 74, and the next one knows all that
/// was acknowledged.
fn ends_and_loses_nothing(calls: &str, error: &str, nth: u32) {
    let at = format!("{error} at {calls} {nth}");
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    // A store that exists already: its making is not what fails.
    let mut cluster = Setup::new().data(&data).start();
    let mut acked = vec![cluster.api().submit_one(spec::command(&["true"]))];
    cluster.stop_server();
    drop(cluster);

    let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:error={error}:when={nth}"));
    let log = folder.path().join("strace");
    let traced = ["strace", "-f", "-o", log.to_str().expect("a path"), "-e", &trace, "-e", &inject];
    let mut cluster = Setup::new().data(&data).under(&traced).tolerate("").launch();
    let mut api = None;
    wait::holds("the failing disk ends the coordinator", || {
        if cluster.server().ended().is_some() {
            return true;
        }
        if api.is_none() {
            api = cluster.api_if_ready();
        }
        if let Some(api) = &api
            && let Ok(ids) = api.submit(&spec::request(vec![spec::command(&["true"])]))
        {
            acked.extend(ids);
        }
        false
    });
    let said = cluster.server().log();
    assert_eq!(cluster.server().end().code(), Some(74), "{at}:\n{said}");
    assert!(!said.contains("panicked"), "{at}:\n{said}");
    drop(cluster);
    let injected = fs::read_to_string(&log).expect("a trace").matches("(INJECTED)").count();
    assert_eq!(injected, 1, "{at}: injected once");

    let cluster = Setup::new().data(&data).start();
    assert_eq!(missing(&cluster.api(), &acked), Vec::<u64>::new(), "after {at}");
}

#[test]
fn data_directories_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    let (code, said) = Setup::new().data(&file).refused();
    assert!([74, 78].contains(&code), "{code}: {said}");
    assert!(said.contains(file.to_str().unwrap()), "{said}");
    assert_eq!(fs::read(&file).unwrap(), b"not a directory", "nothing was changed");

    let (code, said) = Setup::new().data(Path::new("/proc/taskq")).refused();
    assert!([74, 78].contains(&code), "{code}: {said}");
    assert!(said.contains("/proc/taskq"), "{said}");
}

#[test]
fn a_read_only_data_directory_is_named() {
    if !need::root_and(&["mount"]) {
        return;
    }
    let disk = Disk::tmpfs(64);
    let data = disk.folder().join("data");
    let mut cluster = Setup::new().data(&data).start();
    cluster.stop_server();
    drop(cluster);
    disk.read_only();
    let (code, said) = Setup::new().data(&data).refused();
    assert!([74, 78].contains(&code), "{code}: {said}");
    assert!(said.contains(data.to_str().unwrap()) && said.to_lowercase().contains("read-only"), "{said}");
}

#[test]
fn a_store_of_random_bytes_is_corrupt() {
    let mut seed = Seed::new("random store");
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut cluster = Setup::new().data(&data).start();
    cluster.api().submit_one(spec::command(&["true"]));
    cluster.stop_server();
    drop(cluster);
    for path in files(&data, &|name| name == "conf" || name == "db") {
        let whole = fs::read(&path).unwrap();
        fs::write(&path, seed.bytes(whole.len().min(1 << 20))).unwrap();
        let (code, said) = Setup::new().data(&data).tolerate("").refused();
        assert_eq!(code, 78, "{}: {said}", path.display());
        assert!(said.contains(data.to_str().unwrap()), "{said}");
        fs::write(&path, whole).unwrap();
    }
}

#[test]
fn the_access_file_is_private() {
    let cluster = Cluster::start();
    let mode = fs::metadata(cluster.access_file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    fs::set_permissions(cluster.access_file(), fs::Permissions::from_mode(0o644)).unwrap();
    let run = cluster.taskq(&["ls"]);
    assert!([77, 78].contains(&run.code), "{run}");
    run.says(&["access.toml", "chmod"]);
}

/// The acknowledged jobs that the coordinator does not know.
fn missing(api: &Api, acked: &[u64]) -> Vec<u64> {
    let known: Vec<u64> =
        api.list(pb::Filter::default()).expect("list").into_iter().map(|job| job.id).collect();
    let known: std::collections::HashSet<u64> = known.into_iter().collect();
    acked.iter().filter(|id| !known.contains(id)).copied().collect()
}

fn files(folder: &Path, wanted: &dyn Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a readable data directory") {
        let path = entry.expect("a readable data directory").path();
        if path.is_dir() {
            found.extend(files(&path, wanted));
        } else if wanted(&path.file_name().expect("a readable data directory").to_string_lossy()) {
            found.push(path);
        }
    }
    found
}

fn copy_folder(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp")
        .args(["-a", "--sparse=always"])
        .args([from, to])
        .status()
        .expect("a readable data directory");
    assert!(done.success());
}
