//! The output of one ended task on its way to the screen.

use taskq_client::Client;
use taskq_client::model::{Stream, Task};

use crate::captured::{self, Piece};
use crate::holes::Holes;
use crate::output;
use crate::screen::Screen;
use crate::text;

/// Standard output to standard output, standard error to standard error.
pub(super) async fn output(
    client: &Client,
    screen: &Screen,
    task: &Task,
    holes: &mut Holes,
) -> anyhow::Result<()> {
    let both = [Stream::Stdout, Stream::Stderr];
    let take = |stream, piece: Piece<'_>| match piece {
        Piece::Gap(bytes) => {
            holes.met(task.job_id, task.index, stream, bytes);
            Ok(())
        }
        Piece::Bytes(bytes) => {
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
