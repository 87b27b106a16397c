//! Acts on many jobs: cancel, retry, pause, resume, remove. A selection names jobs, or says which by a filter.
//! Pause, resume and remove need a whole job: [`Chosen::whole`] is the one way to one.

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
use crate::store::{GROWTH, Lookup};

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
    part: Part,
}

/// How much of it.
enum Part {
    Whole,
    Tasks(RoaringBitmap),
}

impl Chosen {
    fn new(job: JobId, indices: Option<RoaringBitmap>) -> Chosen {
        Chosen { job, part: indices.map_or(Part::Whole, Part::Tasks) }
    }

    /// The job, for what cannot be done to some of its tasks.
    fn whole(&self) -> Result<JobId, Invalid> {
        match self.part {
            Part::Whole => Ok(self.job),
            Part::Tasks(_) => {
                let job = self.job;
                let why =
                    format!("pause, resume and remove work on whole jobs; name job {job} without its tasks");
                Err(Invalid::new("selection", why))
            }
        }
    }

    fn tasks(&self) -> Option<&RoaringBitmap> {
        match &self.part {
            Part::Whole => None,
            Part::Tasks(tasks) => Some(tasks),
        }
    }
}

impl Context {
    /// Does it to every selected job. What fails for one does not stop the others.
    pub(super) async fn act(&self, request: pb::ActRequest, deed: Deed) -> Result<pb::ActReply, Failure> {
        let selection = request.selection.ok_or_else(|| Invalid::new("selection", "is missing"))?;
        let mut acted = Vec::new();
        for chosen in self.chosen(selection).await? {
            let done = self.act_on(&chosen, deed, request.dry_run).await;
            acted.push(done.unwrap_or_else(|failure| pb::Acted {
                job_id: chosen.job.0,
                note: failure.message,
                error_code: failure.code.into(),
                ..pb::Acted::default()
            }));
        }
        Ok(pb::ActReply { acted })
    }

    async fn act_on(&self, chosen: &Chosen, deed: Deed, dry_run: bool) -> Result<pb::Acted, Failure> {
        match deed {
            Deed::Retry => self.retry(chosen, dry_run).await,
            Deed::Cancel => self.change(chosen.job, Act::Cancel(chosen.tasks().cloned()), dry_run).await,
            Deed::Pause => self.change(chosen.whole()?, Act::Pause, dry_run).await,
            Deed::Resume => self.change(chosen.whole()?, Act::Resume, dry_run).await,
            Deed::Remove => self.remove(chosen.whole()?, dry_run).await,
        }
    }

    async fn chosen(&self, selection: pb::Selection) -> Result<Vec<Chosen>, Failure> {
        let mut chosen = Vec::new();
        for one in &selection.jobs {
            chosen.push(Chosen::new(JobId(one.job_id), indices(&one.indices)?));
        }
        let Some(filter) = selection.filter else { return Ok(chosen) };
        if !chosen.is_empty() {
            return Err(Invalid::new("selection", "names jobs and has a filter; give one of them").into());
        }
        let mut page_token = String::new();
        loop {
            let request = pb::ListRequest { filter: Some(filter.clone()), page_size: 1_000, page_token };
            let page = self.list(request).await?;
            chosen.extend(page.jobs.iter().map(|job| Chosen::new(JobId(job.id), None)));
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

    async fn change(&self, job: JobId, act: Act, dry_run: bool) -> Result<pb::Acted, Failure> {
        match self.ask(Change { job, act, dry_run }).await? {
            Live::Yes((tasks, stopping, note)) => {
                let note = note.to_owned();
                Ok(pb::Acted { job_id: job.0, tasks, stopping, note, ..pb::Acted::default() })
            }
            Live::No => {
                self.read(move |store| read::show(store, job, None)).await?;
                let note = "already ended".to_owned();
                Ok(pb::Acted { job_id: job.0, note, ..pb::Acted::default() })
            }
        }
    }

    /// The loop knows live jobs only, so the store is asked first: what is gone is not removed again, and how many
    /// tasks go with the job stands nowhere else.
    async fn remove(&self, job: JobId, dry_run: bool) -> Result<pb::Acted, Failure> {
        let stored = self.read(move |store| store.submitted(job)).await?;
        let tasks = stored.only.map_or(stored.total, |only| only.len() as u32);
        let act = Act::Remove;
        match self.ask(Change { job, act, dry_run }).await? {
            Live::Yes(_) => Ok(pb::Acted { job_id: job.0, tasks, ..pb::Acted::default() }),
            Live::No => Err(Lookup::Unknown(job).into()),
        }
    }

    async fn retry(&self, chosen: &Chosen, dry_run: bool) -> Result<pb::Acted, Failure> {
        let job = chosen.job;
        let mut tasks = self.unsuccessful(job).await?;
        if let Some(named) = chosen.tasks() {
            tasks &= named;
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
        let bytes = stored.spec.len() + tasks.serialized_size();
        let room = self.room.reserve(&*self.store, GROWTH * bytes as u64)?;
        let (ids, _) = self.keep(room, Submit { repeat: None, jobs: vec![again] }).await?;
        acted.new_job_id = ids.first().map_or(0, |id| id.0);
        Ok(acted)
    }
}
