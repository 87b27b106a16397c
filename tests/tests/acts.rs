//! Acts on jobs and queues: what they say they did, what they refuse, and that a refusal changes nothing.

use taskq_proto::v1 as pb;
use taskq_tests::{Api, Cluster, spec};
use tonic::Code;

fn ended(cluster: &mut Cluster, tasks: u32) -> u64 {
    let api = cluster.api();
    let id = api.submit_one(spec::array(spec::command(&["true"]), tasks));
    assert_eq!(api.ended(id).state, pb::State::Succeeded as i32);
    id
}

fn removed(api: &Api, jobs: Vec<pb::JobTasks>) -> Vec<pb::Acted> {
    let selection = Some(pb::Selection { jobs, filter: None });
    let request = pb::ActRequest { selection, ..Default::default() };
    api.call(|mut jobs| async move { jobs.remove(request).await }).expect("an answer for each job").acted
}

#[test]
fn rm_says_how_much_it_removed_and_nothing_is_removed_twice() {
    let mut cluster = Cluster::start();
    cluster.worker(2);
    let (three, one) = (ended(&mut cluster, 3), ended(&mut cluster, 1));
    let (three, one) = (three.to_string(), one.to_string());
    let commits = |cluster: &Cluster| cluster.api().stats().expect("stats").commits;

    let before = commits(&cluster);
    let would = cluster.taskq(&["rm", &three, &one, "--dry-run"]).ok();
    would.says(&[&format!("would remove 2 jobs with 4 tasks ({three}: 3, {one}: 1)")]);
    assert_eq!(commits(&cluster), before, "a dry run writes nothing");
    cluster.taskq(&["show", &three, &one]).ok();

    let done = cluster.taskq(&["rm", &three, &one]).ok();
    done.says(&[&format!("removed 2 jobs with 4 tasks ({three}: 3, {one}: 1)")]);
    cluster.taskq(&["show", &three]).code(3);

    let before = commits(&cluster);
    for flags in [&["rm", &three][..], &["rm", &three, "--dry-run"]] {
        let again = cluster.taskq(flags).code(3);
        assert_eq!(
            again.stderr,
            format!("error: job {three} has ended and was removed\n"),
            "once, and in words"
        );
        assert_eq!(again.out(), "", "{again}");
    }
    cluster.taskq(&["rm", "424242"]).code(3).says(&["there is no job 424242"]);
    assert_eq!(commits(&cluster), before, "what is gone is not written again");
}

#[test]
fn a_job_that_runs_is_not_removed() {
    let mut cluster = Cluster::start();
    cluster.worker(1);
    let api = cluster.api();
    let id = api.submit_one(spec::command(&["sleep", "600"]));
    api.running(id);
    cluster.taskq(&["rm", &id.to_string()]).code(5).says(&["has not ended", "cancel it first"]);
    assert_eq!(api.get(id).expect("get").state, pb::State::Running as i32);
}

#[test]
fn rm_pause_and_resume_take_no_single_tasks() {
    let mut cluster = Cluster::start();
    cluster.worker(2);
    let id = ended(&mut cluster, 3);
    for verb in ["rm", "pause", "resume"] {
        let run = cluster.taskq(&[verb, &format!("{id}.1")]).code(2);
        run.says(&["whole jobs", &format!("write {id} ")]);
        let piped = cluster.cli(&[verb, "-"]).stdin(format!("{id}.0-1\n")).run().code(2);
        piped.says(&["whole jobs"]);
    }
    // A client that sends them nevertheless is refused by the coordinator.
    let api = cluster.api();
    let part = pb::JobTasks { job_id: id, indices: vec![pb::Span { first: 1, count: 1 }] };
    let acted = removed(&api, vec![part]);
    assert_eq!(acted[0].error_code, Code::InvalidArgument as i32, "{acted:?}");
    assert!(acted[0].note.contains("whole jobs"), "{acted:?}");
    assert_eq!(api.tasks(id).expect("tasks").len(), 3, "nothing is gone");
}

#[test]
fn only_known_queues_are_resumed() {
    let mut cluster = Cluster::start();
    let api = cluster.api();
    cluster.taskq(&["queue", "resume", "nosuch"]).code(3).says(&["no queue nosuch", "none yet"]);
    api.submit_one(pb::JobSpec { queue: "fetch".into(), ..spec::command(&["true"]) });
    cluster.taskq(&["queue", "resume", "fetsh"]).code(3).says(&["no queue fetsh", "known are fetch"]);
    let queues = cluster.taskq(&["queue", "ls", "-o", "id"]).ok().out();
    assert_eq!(queues, "fetch", "a slip makes no queue");

    // Pausing is how one prepares a queue before its first job.
    cluster.taskq(&["queue", "pause", "later"]).ok();
    cluster.worker(1);
    let id = api.submit_one(pb::JobSpec { queue: "later".into(), ..spec::command(&["true"]) });
    assert_eq!(api.get(id).expect("get").state, pb::State::Blocked as i32);
    cluster.taskq(&["queue", "resume", "later"]).ok();
    assert_eq!(api.ended(id).state, pb::State::Succeeded as i32);
}

#[test]
fn rm_takes_what_ended_long_ago_and_nothing_else() {
    let mut cluster = Cluster::start();
    cluster.worker(1);
    let (first, second) = (ended(&mut cluster, 2).to_string(), ended(&mut cluster, 1).to_string());
    let api = cluster.api();
    let runs = api.submit_one(spec::command(&["sleep", "600"]));
    api.running(runs);
    cluster.taskq(&["rm", "--older-than", "1h", "-y"]).code(4).says(&["matched nothing"]);
    cluster.taskq(&["rm", "--older-than", "0"]).code(2).says(&["would remove 2 jobs with 3 tasks", "add -y"]);
    assert_eq!(
        cluster.taskq(&["ls", "--older-than", "0", "-o", "id"]).ok().out(),
        format!("{second}\n{first}")
    );
    assert_eq!(cluster.taskq(&["ls", "--older-than", "1h", "-o", "id"]).ok().out(), "");
    let done = cluster.taskq(&["rm", "--older-than", "0", "-y"]).ok().says(&["removed 2 jobs with 3 tasks"]);
    let rows = format!("JOB\tDONE\tTASKS\tNEW JOB\tNOTE\n{second}\tremoved\t1\t-\t\n{first}\tremoved\t2\t-");
    assert_eq!(done.out(), rows);
    assert_eq!(cluster.taskq(&["ls", "-o", "id"]).ok().out(), runs.to_string(), "what runs is left alone");
}

#[test]
fn what_still_runs_is_not_called_cancelled() {
    let mut cluster = Cluster::start();
    cluster.worker(1);
    let api = cluster.api();
    // It ends after TERM, but not before it is told to.
    let script = "trap 'while [ ! -e go ]; do sleep 0.05; done; exit 0' TERM; while :; do sleep 0.05; done";
    let folder = cluster.folder().to_owned();
    let submit = ["submit", "--array", "1-3", "--kill-grace", "10m", "--", "sh", "-c", script];
    let id = cluster.taskq(&submit).ok().number();
    api.running(id);
    let job = id.to_string();
    let would = cluster.taskq(&["cancel", &job, "--dry-run"]).ok();
    would.says(&[&format!(
        "would cancel 3 tasks of 1 job ({job}: 3); 1 of them would have to be stopped first"
    )]);
    let said = cluster.taskq(&["cancel", &job]).ok();
    let said = said.says(&[&format!("cancelling 3 tasks of 1 job ({job}: 3); 1 of them run"), "taskq wait"]);
    assert!(said.out().contains("\tcancelling\t3\t"), "{said}");
    let again = cluster.taskq(&["cancel", &job, "--json"]).ok().json();
    assert_eq!(again["acts"][0]["note"], "already being cancelled", "{again}");
    std::fs::write(folder.join("go"), "").expect("let it end");
    cluster.taskq(&["wait", &job]).code(6);
}

#[test]
fn only_known_queues_are_emptied() {
    let cluster = Cluster::start();
    cluster.api().submit_one(pb::JobSpec { queue: "fetch".into(), ..spec::command(&["true"]) });
    for flags in [&["queue", "purge", "fetsh", "-y"][..], &["queue", "purge", "fetsh", "--dry-run"]] {
        let run = cluster.taskq(flags).code(3).says(&["no queue fetsh", "known are fetch"]);
        assert_eq!(run.out(), "", "{run}");
    }
    assert_eq!(cluster.taskq(&["queue", "purge", "fetch", "-y"]).ok().out(), "cancelled 1 task of 1 job");
}

#[test]
fn what_was_cancelled_is_pointed_at_as_cancelled() {
    let cluster = Cluster::start();
    let id = cluster.api().submit_one(spec::array(spec::command(&["true"]), 3)).to_string();
    cluster.taskq(&["cancel", &id]).ok().says(&[&format!("cancelled 3 tasks of 1 job ({id}: 3)")]);
    cluster.taskq(&["wait", &id]).code(6).says(&[&format!("taskq tasks {id} -s cancelled")]);
    let again = cluster.taskq(&["cancel", &id]).ok();
    assert!(!again.stderr.contains("0 tasks"), "nothing was done, and nothing else is said: {again}");
    assert!(again.out().contains("already ended"), "{again}");
    // A task that never started has taken no time, in the list as in the details.
    let listed = cluster.taskq(&["tasks", &id, "--no-headers"]).ok().out();
    let cells: Vec<&str> = listed.lines().next().unwrap_or_default().split('\t').collect();
    assert_eq!(cells.get(4), Some(&"-"), "{listed}");
    let shown = cluster.taskq(&["show", &format!("{id}.0")]).ok().out();
    assert!(shown.contains("never started: cancelled 20"), "{shown}");
}
