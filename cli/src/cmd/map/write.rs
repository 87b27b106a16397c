//! The output or the value of one ended task on its way to the screen.

use taskq_client::Client;
use taskq_client::model::outcome::Kind;
use taskq_client::model::{Stream, Task};

use crate::captured::{self, Piece};
use crate::holes::Holes;
use crate::output;
use crate::screen::Screen;
use crate::{text, value};

/// Standard output to standard output, standard error to standard error.
pub(super) async fn output(
    client: &Client,
    screen: &Screen,
    task: &Task,
    holes: &mut Holes,
) -> anyhow::Result<()> {
    show(client, screen, task, holes, |stream| stream).await
}

/// What a call returned to standard output, as a line of JSON; what it printed to standard error, before that. What is
/// wrong with the value, if it is no JSON.
pub(super) async fn value(
    client: &Client,
    screen: &Screen,
    task: &Task,
    holes: &mut Holes,
) -> anyhow::Result<Option<String>> {
    show(client, screen, task, holes, |_| Stream::Stderr).await?;
    let Some(outcome) = task.outcome.as_ref().filter(|outcome| outcome.kind() == Kind::Completed) else {
        return Ok(None);
    };
    let value = client.value(outcome).await?;
    captured::put(Stream::Stdout, &value::printed("json", &value))
        .map_err(|cause| output::stdout_failed(&cause))?;
    Ok(value::problem("json", task, &value))
}

/// `place` says which of our streams takes what a task wrote to its own.
async fn show(
    client: &Client,
    screen: &Screen,
    task: &Task,
    holes: &mut Holes,
    place: impl Fn(Stream) -> Stream,
) -> anyhow::Result<()> {
    let both = [Stream::Stdout, Stream::Stderr];
    let take = |stream, piece: Piece<'_>| match piece {
        Piece::Gap(bytes) => {
            holes.met(task.job_id, task.index, stream, bytes);
            Ok(())
        }
        Piece::Bytes(bytes) => {
            let stream = place(stream);
            let terminal = match stream {
                Stream::Stdout => screen.stdout_is_terminal,
                Stream::Stderr => screen.stderr_is_terminal,
            };
            let written = match terminal {
                true => captured::put(stream, text::harmless(bytes, screen.paint.is_on()).as_bytes()),
                false => captured::put(stream, bytes),
            };
            written.map_err(|cause| output::stdout_failed(&cause))
        }
    };
    captured::read(client, task, &both, take).await
}
