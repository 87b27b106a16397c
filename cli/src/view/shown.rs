//! Jobs and tasks in full: what `taskq show` prints, and `wait`, `run`, `submit --wait` and `map` at their end with
//! --json.

use serde::Serialize;
use taskq_client::model::{Job, Span};
use taskq_client::{Client, JobId, TaskQuery};

use super::{JobView, TaskView};
use crate::clock::UnixMs;
use crate::output::{self, Format, Out, View};
use crate::screen::Screen;

/// The document `taskq.v1.show`.
#[derive(Default, Serialize)]
pub(crate) struct Shown {
    jobs: Vec<JobView>,
    tasks: Vec<TaskView>,
}

impl Shown {
    const SCHEMA: &'static str = "taskq.v1.show";

    /// A whole job. If it has one task only, that task as well.
    pub(crate) async fn job(&mut self, client: &Client, job: Job) -> anyhow::Result<()> {
        let (id, one_task) = (JobId(job.id), job.counts.is_some_and(|counts| counts.total == 1));
        let codec = codec_of(&job);
        self.jobs.push(JobView::new(job, UnixMs::now()));
        match one_task {
            true => self.add(client, id, vec![], codec.as_deref()).await,
            false => Ok(()),
        }
    }

    /// Some tasks of a job, with their earlier attempts; no span means all of them.
    pub(crate) async fn tasks(
        &mut self,
        client: &Client,
        job: JobId,
        indices: Vec<Span>,
    ) -> anyhow::Result<()> {
        let codec = codec_of(&client.get(job).await?);
        self.add(client, job, indices, codec.as_deref()).await
    }

    async fn add(
        &mut self,
        client: &Client,
        job: JobId,
        indices: Vec<Span>,
        codec: Option<&str>,
    ) -> anyhow::Result<()> {
        let query = TaskQuery { indices, with_history: true, ..TaskQuery::default() };
        let mut tasks = client.list_tasks(job, query);
        while let Some(task) = tasks.next().await {
            let view = TaskView::new(&task?);
            self.tasks.push(match codec {
                Some(codec) => view.in_codec(codec),
                None => view,
            });
        }
        Ok(())
    }

    /// For people all of it line by line; as JSON one document, or one line for each job and each task.
    pub(crate) fn print(&self, screen: &Screen) -> anyhow::Result<()> {
        let jobs = self.jobs.iter().flat_map(JobView::lines);
        let lines: Vec<String> = jobs.chain(self.tasks.iter().flat_map(TaskView::lines)).collect();
        match screen.format {
            Format::Jsonl => self.records().map_err(|cause| output::stdout_failed(&cause)),
            Format::Table | Format::Tsv | Format::Json | Format::Id => {
                output::one(screen, Shown::SCHEMA, self, &lines)
            }
        }
    }

    /// The end of a command that stayed with jobs. For people that has been said already.
    pub(crate) async fn print_ended(
        screen: &Screen,
        client: &Client,
        jobs: impl IntoIterator<Item = Job>,
    ) -> anyhow::Result<()> {
        if !screen.format.is_json() {
            return Ok(());
        }
        let mut shown = Shown::default();
        for job in jobs {
            shown.job(client, job).await?;
        }
        shown.print(screen)
    }

    fn records(&self) -> std::io::Result<()> {
        let mut out = Out::new();
        self.jobs.iter().try_for_each(|job| out.record(JobView::SCHEMA, job))?;
        self.tasks.iter().try_for_each(|task| out.record(TaskView::SCHEMA, task))?;
        out.flush()
    }
}

/// What the values of its calls are written in, if it makes calls.
fn codec_of(job: &Job) -> Option<String> {
    Some(job.spec.as_ref()?.call.as_ref()?.codec.clone())
}
