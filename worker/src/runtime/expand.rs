//! From a task to the exact program, arguments and environment; and from a failed start to words that help.

use std::path::Path;
use std::sync::Arc;

use taskq_template::Values;

use crate::attempt::{How, Job, Program, Task};
use crate::spawner::{Command, Failure, Stage, Stdin};

/// Variables that tasks get from the worker. Everything else of its environment stays with it.
const PASSED_ON: [&str; 5] = ["PATH", "HOME", "LANG", "USER", "TMPDIR"];

/// What of the worker shows in its tasks.
pub(crate) struct Surroundings {
    /// The worker's name.
    pub worker: Arc<str>,
    pub env: Vec<(String, String)>,
    /// Added to the worker's own niceness.
    pub nice: i32,
}

impl Surroundings {
    pub(crate) fn new(worker: String, nice: i32) -> Surroundings {
        let env = PASSED_ON.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
        Surroundings { worker: worker.into(), env: env.collect(), nice }
    }
}

/// Fills in the placeholders and puts the environment together. The error is for people.
pub(crate) fn expand(task: &Task, slot: u32, surroundings: &Surroundings) -> Result<Command, String> {
    let worker = &surroundings.worker;
    let values = Values {
        job: task.key.job.0,
        index: task.key.index,
        attempt: task.key.attempt,
        slot,
        worker,
        fields: &task.fields,
    };
    if let Program::Argv(template) | Program::Shell(template) = &task.job.program
        && template.columns() != task.fields.len()
    {
        let (want, got) = (template.columns(), task.fields.len());
        return Err(format!(
            "worker {worker}: the command has {want} columns, but the task came with {got} values"
        ));
    }
    let argv = match &task.job.program {
        Program::Argv(template) => template.expand(&values),
        Program::Shell(template) => {
            [b"/bin/sh".to_vec(), b"-c".to_vec()].into_iter().chain(template.expand(&values)).collect()
        }
        Program::Call(call) => {
            return Err(format!("worker {worker}: function {} is not called in this way", call.function));
        }
        Program::Unusable(why) => {
            return Err(format!(
                "worker {worker} does not understand the command: {why}; is it older than the client?"
            ));
        }
    };
    let env = environment(task, slot, surroundings);
    if argv.iter().chain(&env).any(|text| text.contains(&0)) {
        return Err(format!("worker {worker}: a value contains a NUL byte, which no argument can carry"));
    }
    let job = &task.job;
    let cwd = job.cwd.clone().into_bytes();
    Ok(Command {
        argv,
        env,
        cwd,
        stdin: Stdin::Bytes(job.stdin.clone()),
        nice: surroundings.nice,
        limits: job.limits,
    })
}

fn environment(task: &Task, slot: u32, surroundings: &Surroundings) -> Vec<Vec<u8>> {
    let Job { env, .. } = &*task.job;
    let own: [(&str, Vec<u8>); 6] = [
        ("TASKQ_JOB", task.key.job.0.to_string().into_bytes()),
        ("TASKQ_TASK", task.key.index.to_string().into_bytes()),
        ("TASKQ_ITEM", task.fields.join(&b'\t')),
        ("TASKQ_ATTEMPT", task.key.attempt.to_string().into_bytes()),
        ("TASKQ_SLOT", slot.to_string().into_bytes()),
        ("TASKQ_WORKER", surroundings.worker.as_bytes().to_vec()),
    ];
    let is_own = |name: &str| own.iter().any(|(own, _)| *own == name);
    let is_given = |name: &str| env.iter().any(|(given, _)| given == name);
    // Each name once: programs disagree on which of two entries counts.
    let inherited = surroundings.env.iter().filter(|(name, _)| !is_given(name));
    let given = env.iter().filter(|(name, _)| !is_own(name));
    let plain = inherited.chain(given).map(|(name, value)| entry(name, value.as_bytes()));
    plain.chain(own.iter().map(|(name, value)| entry(name, value))).collect()
}

fn entry(name: &str, value: &[u8]) -> Vec<u8> {
    [name.as_bytes(), b"=", value].concat()
}

/// What a failed start means, and what to do about it.
pub(crate) fn explain(failure: Failure, command: &Command, surroundings: &Surroundings) -> (How, String) {
    let worker = &surroundings.worker;
    let (stage, errno) = match failure {
        Failure::Refused { stage, errno } => (stage, errno),
        Failure::Lost => {
            return (
                How::Lost,
                format!("worker {worker}: the process that runs tasks was killed while this task started"),
            );
        }
    };
    let reason = std::io::Error::from_raw_os_error(errno);
    let cwd = String::from_utf8_lossy(&command.cwd);
    let (code, what) = match stage {
        Stage::Fork | Stage::Setup => {
            return (How::Rejected, format!("worker {worker} could not make a process: {reason}"));
        }
        Stage::Group => {
            let what = "could not make a control group for the limits of the task";
            return (How::Rejected, format!("worker {worker} {what}: {reason}"));
        }
        Stage::Cwd => {
            (126, format!("cannot enter the working directory {cwd:?}: {reason}; give another with --cwd"))
        }
        Stage::Exec => not_executed(errno, command),
    };
    (How::CannotExecute(code), format!("worker {worker}: {what}"))
}

fn not_executed(errno: i32, command: &Command) -> (i32, String) {
    let name = command.argv.first().map(|name| String::from_utf8_lossy(name)).unwrap_or_default();
    let reason = std::io::Error::from_raw_os_error(errno);
    let by_path = name.contains('/');
    let exists = by_path && Path::new(&*String::from_utf8_lossy(&command.cwd)).join(&*name).exists();
    match errno {
        libc::ENOENT | libc::ENOTDIR if exists => {
            (126, format!("{name:?} names an interpreter that does not exist; see its first line"))
        }
        libc::ENOENT | libc::ENOTDIR if by_path => (127, format!("program {name:?} not found")),
        libc::ENOENT | libc::ENOTDIR => {
            let path = command.env.iter().find_map(|entry| entry.strip_prefix(b"PATH="));
            let path = String::from_utf8_lossy(path.unwrap_or_default());
            (
                127,
                format!(
                    "program {name:?} not found on PATH ({path}); install it there, or give its full path"
                ),
            )
        }
        libc::ENOEXEC => {
            (126, format!("{name:?} is not a program; a script needs a first line such as #!/bin/sh"))
        }
        libc::E2BIG => {
            (126, format!("the arguments of {name:?} are too long: {reason}; pass them by standard input"))
        }
        _ => (126, format!("cannot execute {name:?}: {reason}")),
    }
}
