//! `taskq up`: a coordinator and a worker in the foreground, for one machine and the first minute.

use std::path::PathBuf;

use serde::Serialize;
use taskq_worker::Worker;

use crate::context::Context;
use crate::embed::{Embedded, Part, Settings};
use crate::exit::Exit;
use crate::interrupt::Interrupts;
use crate::output;

/// Start a coordinator and a worker here, until Ctrl-C
///
/// Other commands of the same user find it by themselves. What was acknowledged is in the data directory and is taken
/// up again by the next `taskq up`. `taskq worker drain` ends the worker alone: the coordinator goes on, for workers that
/// are started elsewhere. With --json, a document says where it is once it is there.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    taskq up\n  \
    taskq up --slots 4 --data /var/tmp/taskq\n  \
    taskq run -- echo hi        (in another terminal)")]
pub(crate) struct Args {
    /// Where everything is kept [default: $XDG_DATA_HOME/taskq or ~/.local/share/taskq]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where to listen
    #[arg(long, value_name = "HOST:PORT", default_value = taskq_client::access::DEFAULT_ADDR)]
    listen: String,
    /// How many tasks run at once [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4_096))]
    slots: Option<u32>,
}

#[derive(Serialize)]
struct Started {
    version: &'static str,
    addr: String,
    data: String,
    worker: String,
    slots: u32,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let dir = args.data.map_or_else(taskq_client::default_data_dir, Ok)?;
    let mut interrupts = Interrupts::listen()?;
    let settings = Settings {
        dir: dir.clone(),
        listen: args.listen,
        slots: args.slots,
        works: true,
        advertise: true,
        functions: Worker::default(),
    };
    let mut cluster = Embedded::start_at(settings).await?;
    let (version, slots) = (env!("CARGO_PKG_VERSION"), cluster.slots());
    context.say(&format!(
        "taskq {version}  coordinator {}   data {} (durable)",
        cluster.access().addr,
        dir.display()
    ));
    let plural = if slots == 1 { "" } else { "s" };
    context.say(&format!(
        "worker {}  {slots} slot{plural}   stop: Ctrl-C   try: taskq run -- echo hi",
        cluster.worker()
    ));
    if context.screen.format.is_json() {
        let started = Started {
            version,
            addr: cluster.access().addr.clone(),
            data: dir.display().to_string(),
            worker: cluster.worker().to_owned(),
            slots,
        };
        output::one(&context.screen, "taskq.v1.up", &started, &[])?;
    }
    loop {
        tokio::select! {
            () = interrupts.next() => {
                context.say("stopping; what runs is finished first, Ctrl-C again stops it now");
                break;
            }
            ended = cluster.ended() => match ended? {
                Part::Coordinator => break,
                Part::Worker => context.say(&format!(
                    "worker {} was drained and has ended; the coordinator goes on. To run tasks again, start a \
                     taskq-worker, or stop this with Ctrl-C and start it anew",
                    cluster.worker()
                )),
            },
        }
    }
    let drained = tokio::select! {
        drained = cluster.drained() => drained,
        () = interrupts.next() => Ok(()),
    };
    cluster.stop().await?;
    drained?;
    Ok(Exit::Ok)
}
