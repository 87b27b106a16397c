//! `taskq explain`: every reason why a job or task is not running, with the remedy.

use serde::Serialize;
use taskq_client::model::state_word;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::select::Typed;
use crate::text;

/// Say why a job or task is not running, and what to do about it
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  taskq explain 42\n  taskq explain 42.7\n  taskq explain last --json")]
pub(crate) struct Args {
    /// A job or a task: 42, 42.7, last, last~1
    #[arg(value_name = "SELECTOR")]
    selector: Typed,
}

#[derive(Serialize)]
struct Explained {
    job: u64,
    task: Option<u32>,
    state: &'static str,
    reasons: Vec<ReasonView>,
}

#[derive(Serialize)]
struct ReasonView {
    code: String,
    text: String,
    fix: String,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let client = context.client().await?;
    let chosen = context.choose(&client, &[args.selector]).await?;
    let [one] = chosen.as_slice() else {
        return Err(Failure::usage("explain takes one job or task"));
    };
    let task = match one.tasks.as_slice() {
        [] => None,
        [span] if span.first == span.last => Some(span.first),
        _ => return Err(Failure::usage("explain takes one job or task, as in: taskq explain 42.7")),
    };
    let reply = client.explain(one.job, task).await?;
    let explained = Explained {
        job: one.job.0,
        task,
        state: state_word(reply.state()),
        reasons: reply
            .reasons
            .into_iter()
            .map(|reason| ReasonView { code: reason.code, text: reason.text, fix: reason.fix })
            .collect(),
    };
    output::one(&context.screen, "taskq.v1.explanation", &explained, &lines(&explained, context))?;
    Ok(Exit::Ok)
}

fn lines(explained: &Explained, context: &Context) -> Vec<String> {
    let state = explained.state;
    let what = match explained.task {
        Some(index) => format!("task {}.{index}", explained.job),
        None => format!("job {}", explained.job),
    };
    if explained.reasons.is_empty() {
        return vec![format!("{what} is {state}; nothing stands in its way")];
    }
    let mut lines = vec![format!("{what} is {state}. Reasons (all that apply):")];
    let codes = explained.reasons.iter().map(|reason| text::width(&reason.code)).max().unwrap_or(0);
    for reason in &explained.reasons {
        let cross = context.screen.symbols.cross();
        lines.push(format!(
            "  {cross} {:<codes$}  {}",
            text::visible(&reason.code),
            text::visible(&reason.text)
        ));
    }
    for reason in explained.reasons.iter().filter(|reason| !reason.fix.is_empty()) {
        lines.push(format!("Fix: {}", text::visible(&reason.fix)));
    }
    lines
}
