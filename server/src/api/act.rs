//! Acts on many jobs: cancel, retry, pause, resume, remove. A selection names jobs, or says which by a filter.

use roaring::RoaringBitmap;
use taskq_core::{event::Act, id::JobId};
use taskq_proto::v1 as pb;

use super::{
    Context,
    ask::{Change, Live, Submit},
    convert::{indices, submit},
    read,
    status::{Failure, Invalid},
    submit::blob,
};

/// Jobs that one call acts on.
const JOBS: usize = 100_000;

/// What to do with each selected job.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deed {
    Cancel,
    Retry,
    Pause,
    Resume,
    Remove,
}

/// One job of a selection.
struct Chosen {
    job: JobId,
    indices: Option<RoaringBitmap>,
}

impl Context {
    /// Does it to every selected job. What fails for one does not stop the others.
    pub(super) async fn act(&self, request: pb::ActRequest, deed: Deed) -> Result<pb::ActReply, Failure> {
        let selection = request.selection.ok_or_else(|| Invalid::new("selection", "is missing"))?;
        let mut acted = Vec::new();
        for chosen in self.chosen(selection).await? {
            let done = match deed {
                Deed::Retry => self.retry(&chosen, request.dry_run).await,
                Deed::Cancel => {
                    self.change(&chosen, Act::Cancel(chosen.indices.clone()), request.dry_run).await
                }
                Deed::Pause => self.change(&chosen, Act::Pause, request.dry_run).await,
                Deed::Resume => self.change(&chosen, Act::Resume, request.dry_run).await,
                Deed::Remove => self.change(&chosen, Act::Remove, request.dry_run).await,
            };
            acted.push(done.unwrap_or_else(|failure| pb::Acted {
                job_id: chosen.job.0,
                note: failure.message,
                error_code: failure.code.into(),
                ..pb::Acted::default()
            }));
        }
        Ok(pb::ActReply { acted })
    }

    async fn chosen(&self, selection: pb::Selection) -> Result<Vec<Chosen>, Failure> {
        let mut chosen = Vec::new();
        for one in &selection.jobs {
            chosen.push(Chosen { job: JobId(one.job_id), indices: indices(&one.indices)? });
        }
        let Some(filter) = selection.filter else { return Ok(chosen) };
        if !chosen.is_empty() {
            return Err(Invalid::new("selection", "names jobs and has a filter; give one of them").into());
        }
        let mut page_token = String::new();
        loop {
            let request = pb::ListRequest { filter: Some(filter.clone()), page_size: 1_000, page_token };
            let page = self.list(request).await?;
            chosen.extend(page.jobs.iter().map(|job| Chosen { job: JobId(job.id), indices: None }));
            if chosen.len() > JOBS {
                return Err(
                    Invalid::new("filter", format!("matches more than {JOBS} jobs; narrow it")).into()
                );
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(chosen);
            }
        }
    }

    async fn change(&self, chosen: &Chosen, act: Act, dry_run: bool) -> Result<pb::Acted, Failure> {
        let job = chosen.job;
        let removes = matches!(act, Act::Remove);
        if chosen.indices.is_some() && !matches!(act, Act::Cancel(_)) {
            let why =
                format!("pause, resume and remove work on whole jobs; name job {job} without its tasks");
            return Err(Invalid::new("selection", why).into());
        }
        match self.ask(Change { job, act, dry_run }).await? {
            Live::Yes((tasks, note)) => {
                Ok(pb::Acted { job_id: job.0, tasks, note: note.to_owned(), ..pb::Acted::default() })
            }
            Live::No => {
                let shown = self.read(move |store| read::show(store, job, None)).await?;
                let tasks = if removes { shown.counts.map_or(0, |counts| counts.total) } else { 0 };
                Ok(pb::Acted {
                    job_id: job.0,
                    tasks,
                    note: "already ended".to_owned(),
                    ..pb::Acted::default()
                })
            }
        }
    }

    async fn retry(&self, chosen: &Chosen, dry_run: bool) -> Result<pb::Acted, Failure> {
        let job = chosen.job;
        let mut tasks = self.unsuccessful(job).await?;
        if let Some(indices) = &chosen.indices {
            tasks &= indices;
        }
        let mut acted = pb::Acted { job_id: job.0, tasks: tasks.len() as u32, ..pb::Acted::default() };
        if tasks.is_empty() {
            acted.note = "nothing has failed or was cancelled".to_owned();
            return Ok(acted);
        }
        if dry_run {
            return Ok(acted);
        }
        let stored = self.read(move |store| store.submitted(job)).await?;
        let again = submit::rerun(&stored.spec, job, &tasks, &|named| blob(&*self.store, named))?;
        let (ids, _) = self.ask(Submit { repeat: None, jobs: vec![again] }).await?;
        acted.new_job_id = ids.first().map_or(0, |id| id.0);
        Ok(acted)
    }
}
