//! `taskq call`: one call of a function, attached: its value on standard output.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;
use taskq_client::model::{Job, Outcome, State, VALUE_BYTES};
use taskq_client::{CallError, Client, Ending, JobBuilder};

use crate::attach::{self, Attach, Stay};
use crate::context::Context;
use crate::exit::{self, Exit, Failure};
use crate::interrupt::Interrupts;
use crate::output::{self, Out};
use crate::prefix::Style;
use crate::progress::Progress;
use crate::{job, text, value};

use super::run::live;

/// Call a function that workers offer, and print what it returns
///
/// The argument is JSON unless --text or --raw say otherwise, and null if there is none; a function of several arguments
/// takes a list. The value is printed as one line of JSON, or as it is for --text and --raw, whatever -o says. What the
/// function itself prints goes to standard error, live, as does its progress if it tells any. `taskq worker show` lists what workers offer.
///
/// Ctrl-C and SIGTERM cancel the call; a second one does not wait for its end and ends this command with 130.
/// The call is durable: it goes on if this command is killed, and `taskq result last` prints its value.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    taskq call fib --json 30\n  \
    taskq call pow '[2, 10]' --retries 2 --timeout 1m\n  \
    taskq call shout --text 'hello there'\n  \
    taskq call thumbnail --raw photo.jpg > small.jpg\n  \
    taskq call train '{\"epochs\": 3}' --detach\n\n\
    Exit codes: 0 it returned a value; 1 it returned an error or panicked; 6 cancelled, 124 timeout,\n\
    125 taskq failed, 128+n its process was killed by signal n, 130 Ctrl-C. All codes: taskq --help")]
pub(crate) struct Args {
    /// The argument is this text, as it is
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["argument", "raw"], allow_hyphen_values = true)]
    text: Option<String>,
    /// The argument is what this file holds, as it is, at most 256 MiB (`-`: what this command reads)
    #[arg(long, value_name = "FILE", conflicts_with = "argument")]
    raw: Option<PathBuf>,
    /// Print the job's number once the call is on the coordinator's disk, and do not wait
    #[arg(long)]
    detach: bool,
    /// The function
    #[arg(value_name = "FUNCTION")]
    function: String,
    /// Its argument as JSON; --json may stand before it [default: null]
    #[arg(value_name = "JSON", allow_negative_numbers = true)]
    argument: Option<String>,
    #[command(flatten)]
    job: job::Common,
}

impl Args {
    /// True if the command stays until the call has ended.
    pub(crate) fn waits(&self) -> bool {
        !self.detach
    }

    fn call(&self) -> anyhow::Result<JobBuilder> {
        let function = self.function.as_str();
        if let Some(text) = &self.text {
            return Ok(JobBuilder::call_encoded(function, "raw", text.clone().into_bytes()));
        }
        if let Some(path) = &self.raw {
            return Ok(JobBuilder::call_encoded(function, "raw", read(path)?));
        }
        let argument = self.argument.as_deref().unwrap_or("null").trim();
        if let Some(problem) = value::not_json(argument.as_bytes()) {
            return Err(Failure::usage(format!(
                "the argument {} is no JSON ({problem}); text is written in quotes, as in '\"some text\"', or given \
                 with --text",
                text::short(argument)
            )));
        }
        Ok(JobBuilder::call_encoded(function, "json", argument.to_owned().into_bytes()))
    }
}

/// One byte more than is allowed, which the check of the call refuses: nobody needs to read the rest.
fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let most = VALUE_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    read.map_err(|cause| Failure::io(format!("--raw {}", path.display()), &cause))?;
    Ok(bytes)
}

pub(crate) async fn run(mut args: Args, context: &Context) -> anyhow::Result<Exit> {
    if args.waits() {
        args.job.keep_all_output();
    }
    let call = args.job.apply(args.call()?)?;
    call.check()?;
    if !args.detach {
        context.refuse_local_calls(&args.function)?;
    }
    let client = context.client().await?;
    if args.detach {
        let id = client.submit(call).await?.id().0;
        output::one(&context.screen, "taskq.v1.submitted", &Submitted { id, tasks: 1 }, &[id.to_string()])?;
        return Ok(Exit::Ok);
    }
    let mut interrupts = Interrupts::listen()?;
    let handle = client.submit(call).await?;
    let style = Style { stdout: true, aside: true, ..live(context, false) };
    let attach = Attach { output: Some(style), owns: true, timeout: None };
    let mut progress = Progress::of_call(&context.screen, &args.function);
    match attach.stay(context, &handle, &mut interrupts, &mut progress).await? {
        Stay::Ended(job, _) => ended(context, &client, &job).await,
        Stay::Interrupted | Stay::TimedOut => {
            attach::say_detached(context, &handle).await;
            Ok(Exit::Interrupted)
        }
    }
}

/// Prints the value, or why there is none.
async fn ended(context: &Context, client: &Client, job: &Job) -> anyhow::Result<Exit> {
    let task = attach::single_task(client, job).await?;
    let exit = exit::of_task(&task);
    let call = job.spec.clone().unwrap_or_default().call.unwrap_or_default();
    if task.state() != State::Succeeded {
        let failed = CallError::of(task, &call);
        let words = failed.to_string();
        let words: Vec<_> = words.lines().map(text::visible).collect();
        context.say(&format!("{} {}", context.screen.symbols.cross(), words.join("\n")));
        if let Some(hint) = as_it_is(&failed, &call.codec) {
            context.say(hint);
        }
        return Ok(exit);
    }
    let value = client.value(task.outcome.as_ref().unwrap_or(&Outcome::default())).await?;
    let mut out = Out::new();
    let written = out.bytes(&value::printed(&call.codec, &value)).and_then(|()| out.flush());
    written.map_err(|cause| output::stdout_failed(&cause))?;
    // A function that does not keep its word has failed, whatever it says.
    if let Some(problem) = value::problem(&call.codec, &task, &value) {
        context.say(&format!("{} {problem}", context.screen.symbols.cross()));
        return Ok(Exit::TasksFailed);
    }
    Ok(exit)
}

/// For a function that reads numbers, lists, ..., and was given bytes or text as they are.
fn as_it_is(failed: &CallError, codec: &str) -> Option<&'static str> {
    let of_type = failed.ended == Ending::Argument && failed.message.contains("invalid type");
    (of_type && codec == "raw")
        .then_some("  it was called with --text or --raw; give the argument as JSON instead")
}

#[derive(Serialize)]
struct Submitted {
    id: u64,
    tasks: u32,
}
