//! `taskq logs`: captured output, also while it grows.

use serde::Serialize;
use taskq_client::model::{LogChunk, Span, Stream};
use taskq_client::{Client, JobId, LogsQuery, TaskQuery};

use crate::attach;
use crate::captured::Bytes;
use crate::context::{Context, spans};
use crate::exit::{Exit, Failure};
use crate::holes::Holes;
use crate::interrupt::Interrupts;
use crate::output::{self, Array, Format, Out};
use crate::prefix::{Style, Writer};
use crate::select::Typed;

const SCHEMA: &str = "taskq.v1.logs";

/// Print the captured output of a job; -f goes on until it has ended
///
/// Standard output of tasks goes to standard output, standard error to standard error. With several tasks each line
/// begins with its task and worker. On a terminal, control bytes are shown instead of obeyed, but for colours.
///
/// With -o jsonl, or --json and -f, a line for each piece of output as it comes; bytes that are not UTF-8 are given in
/// base64.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    taskq logs 42\n  \
    taskq logs -f last\n  \
    taskq logs 42.7 --attempt 1\n  \
    taskq logs -f --from-now 42\n\n\
    Ctrl-C stops reading and leaves the job alone (130). If standard output was not kept\n\
    whole, notes say where and how much is missing, and the exit code is 74.")]
pub(crate) struct Args {
    /// A job, or some of its tasks, which count from 0: 42, 42.7, 42.1-5,9, last, last~1
    #[arg(value_name = "SELECTOR")]
    selector: Typed,
    /// Go on until all these tasks have ended
    #[arg(short, long)]
    follow: bool,
    /// Leave out what is there already
    #[arg(long, requires = "follow")]
    from_now: bool,
    /// Of this attempt [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    attempt: Option<u32>,
    /// Standard output only
    #[arg(long, conflicts_with = "stderr")]
    stdout: bool,
    /// Standard error only
    #[arg(long)]
    stderr: bool,
    /// No task and worker before each line
    #[arg(long)]
    no_prefix: bool,
    /// Control bytes as they are, even on a terminal
    #[arg(long)]
    raw: bool,
}

impl Args {
    /// True if the command stays until the tasks have ended.
    pub(crate) fn follows(&self) -> bool {
        self.follow
    }
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let client = context.client().await?;
    let chosen = context.choose(&client, std::slice::from_ref(&args.selector)).await?;
    let [one] = chosen.as_slice() else {
        return Err(Failure::usage("logs takes one job, as in: taskq logs 42"));
    };
    let job = client.get(one.job).await?;
    let single = match one.tasks.as_slice() {
        [] => job.counts.is_some_and(|counts| counts.total == 1),
        [span] => span.first == span.last,
        _ => false,
    };
    let screen = &context.screen;
    let style = Style {
        prefix: !single && !args.no_prefix,
        raw: args.raw,
        stdout: !args.stderr,
        stderr: !args.stdout,
        aside: false,
        stdout_is_terminal: screen.stdout_is_terminal,
        stderr_is_terminal: screen.stderr_is_terminal,
        paint: screen.paint,
        symbols: screen.symbols,
    };
    let query = LogsQuery {
        indices: spans(&one.tasks),
        follow: args.follow,
        tail_from_now: args.from_now,
        attempt: args.attempt.unwrap_or(0),
        cursor: 0,
    };
    let mut interrupts = Interrupts::listen()?;
    let (indices, mut came) = (query.indices.clone(), false);
    let mut logs = client.logs(one.job, query);
    let mut sink = Sink::new(one.job, style, args.follow, screen.format);
    loop {
        tokio::select! {
            chunk = logs.next() => match chunk {
                Some(chunk) => {
                    came = true;
                    sink.chunk(&chunk?)?;
                }
                None => break,
            },
            () = interrupts.next() => {
                attach::say_detached(context, &client.attach(one.job)).await;
                return Ok(Exit::Interrupted);
            }
        }
    }
    if let (Some(attempt), false) = (args.attempt, came) {
        check_attempt(&client, one.job, indices, attempt).await?;
    }
    sink.finish()
}

/// An attempt may have written nothing, but there must have been one.
async fn check_attempt(client: &Client, job: JobId, indices: Vec<Span>, attempt: u32) -> anyhow::Result<()> {
    let mut tasks = client.list_tasks(job, TaskQuery { indices, ..TaskQuery::default() }).page_size(1_000);
    let mut most = 0;
    while let Some(task) = tasks.next().await {
        most = most.max(task?.attempt);
        if most >= attempt {
            return Ok(());
        }
    }
    let there = match most {
        0 => "nothing has started yet".to_owned(),
        1 => "there was one attempt".to_owned(),
        most => format!("there were {most} attempts at most"),
    };
    Err(Failure::because(Exit::NotFound, format!("job {job} has no attempt {attempt}: {there}")))
}

/// Where pieces of output go.
enum Sink {
    People(Writer),
    Lines(Pieces),
    Document(Pieces, Array),
}

impl Sink {
    fn new(job: JobId, style: Style, follow: bool, format: Format) -> Sink {
        match format {
            Format::Json if !follow => Sink::Document(Pieces::new(job, style), Array::new(SCHEMA)),
            Format::Json | Format::Jsonl => Sink::Lines(Pieces::new(job, style)),
            Format::Table | Format::Tsv | Format::Id => Sink::People(Writer::new(job.0, style)),
        }
    }

    /// Shows a piece now; of a document, once enough has come together.
    fn chunk(&mut self, chunk: &LogChunk) -> anyhow::Result<()> {
        let written = match self {
            Sink::People(writer) => writer.chunk(chunk),
            Sink::Lines(pieces) => match pieces.piece(chunk) {
                Some(piece) => pieces.out.record(SCHEMA, &piece).and_then(|()| pieces.out.flush()),
                None => Ok(()),
            },
            Sink::Document(pieces, array) => match pieces.piece(chunk) {
                Some(piece) => array.element(&mut pieces.out, &piece),
                None => Ok(()),
            },
        };
        written.map_err(|cause| output::stdout_failed(&cause))
    }

    fn finish(self) -> anyhow::Result<Exit> {
        let (written, holes) = match self {
            Sink::People(mut writer) => (writer.finish(), writer.into_holes()),
            Sink::Lines(mut pieces) => (pieces.out.flush(), pieces.holes),
            Sink::Document(mut pieces, array) => {
                (array.end(&mut pieces.out).and_then(|()| pieces.out.flush()), pieces.holes)
            }
        };
        written.map_err(|cause| output::stdout_failed(&cause))?;
        Ok(holes.over(Exit::Ok))
    }
}

/// Output on its way to a program.
struct Pieces {
    job: JobId,
    stdout: bool,
    stderr: bool,
    out: Out,
    /// What is missing is a field of the piece after it, and told to people as well.
    holes: Holes,
}

impl Pieces {
    fn new(job: JobId, style: Style) -> Pieces {
        let (stdout, stderr) = (style.stdout, style.stderr);
        Pieces { job, stdout, stderr, out: Out::new(), holes: Holes::new(&[Stream::Stdout]) }
    }

    /// None of a stream that nobody asked for.
    fn piece(&mut self, chunk: &LogChunk) -> Option<Piece> {
        let stream = chunk.stream();
        let wanted = match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        };
        if wanted && chunk.missing_bytes > 0 {
            self.holes.met(self.job.0, chunk.index, stream, chunk.missing_bytes);
        }
        wanted.then(|| Piece::new(self.job, chunk))
    }
}

/// Some output of one stream of an attempt.
#[derive(Serialize)]
struct Piece {
    job: u64,
    index: u32,
    attempt: u32,
    worker: String,
    stream: &'static str,
    offset: u64,
    missing_bytes: u64,
    data: Bytes,
}

impl Piece {
    fn new(job: JobId, chunk: &LogChunk) -> Piece {
        Piece {
            job: job.0,
            index: chunk.index,
            attempt: chunk.attempt,
            worker: chunk.worker.clone(),
            stream: match chunk.stream() {
                Stream::Stdout => "stdout",
                Stream::Stderr => "stderr",
            },
            offset: chunk.offset,
            missing_bytes: chunk.missing_bytes,
            data: chunk.data.to_vec().into(),
        }
    }
}
