//! What a worker is sent of a job, kept for a while so that the usual submit-then-run reads nothing back.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use prost::Message as _;
use taskq_core::id::JobId;
use taskq_proto::v1 as pb;

use crate::{
    api::convert,
    elements::{self, Elements},
    store::{Lookup, Store},
};

/// Encoded specifications that are kept, in bytes. Older ones are read from the store again.
const SPECS_BYTES: usize = 16 << 20;
/// The most of them.
const SPECS: usize = 32 << 10;
/// Decoded jobs that are kept: what is being handed out just now.
const JOBS: usize = 256;
/// The same in bytes, in which a table of elements counts. The newest is kept whatever it takes.
const JOBS_BYTES: usize = 64 << 20;

/// A job, ready to be sent.
#[derive(Debug)]
pub struct Job {
    /// The part that all its tasks share.
    pub template: pb::Template,
    elements: Option<Elements>,
}

impl Job {
    /// About what it takes of memory.
    fn bytes(&self) -> usize {
        self.template.encoded_len() + self.elements.as_ref().map_or(0, Elements::bytes)
    }

    /// One row per index, or none where the worker needs none.
    #[must_use]
    pub fn rows(&self, spans: &[(u32, u32)]) -> Vec<pb::Row> {
        match &self.elements {
            Some(elements) if self.template.range.is_none() => {
                let indices = spans.iter().flat_map(|&(first, count)| first..first + count);
                indices.map(|index| elements.row(index)).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Why a job cannot be run.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error(transparent)]
    Lookup(#[from] Lookup),
    #[error("its specification is damaged: {0}")]
    Spec(#[from] prost::DecodeError),
    #[error("its elements are damaged or missing: {0}")]
    Elements(#[from] elements::Error),
    #[error("its standard input is damaged or missing")]
    NoStdin,
}

/// Jobs on their way to workers.
#[derive(Debug)]
pub struct Templates {
    store: Arc<dyn Store>,
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    /// Ascending; those that were taken are empty.
    specs: VecDeque<(JobId, Box<[u8]>)>,
    specs_bytes: usize,
    jobs: HashMap<JobId, Arc<Job>>,
    jobs_bytes: usize,
    jobs_order: VecDeque<JobId>,
}

impl Templates {
    /// Reads from `store` what it does not remember.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Templates {
        Templates { store, cache: Mutex::default() }
    }

    /// Keeps a fresh job's specification for its first use.
    pub fn remember(&self, job: JobId, spec: &Bytes) {
        self.lock().keep_spec(job, spec);
    }

    /// A live job. One that cannot be read is such that its tasks fail and say why: others must not wait for it.
    #[must_use]
    pub fn get(&self, id: JobId) -> Arc<Job> {
        self.find(id).unwrap_or_else(|error| {
            tracing::error!(job = %id, %error, "cannot read a job that is to run; its tasks fail");
            let unusable = format!("the coordinator cannot read job {id}: {error}");
            let template = pb::Template { job_id: id.0, unusable, ..pb::Template::default() };
            Arc::new(Job { template, elements: None })
        })
    }

    fn find(&self, id: JobId) -> Result<Arc<Job>, Unreadable> {
        let remembered = {
            let mut cache = self.lock();
            if let Some(job) = cache.jobs.get(&id) {
                return Ok(Arc::clone(job));
            }
            cache.take_spec(id)
        };
        let spec = match remembered {
            Some(spec) => spec,
            None => self.store.submitted(id)?.spec,
        };
        let job = Arc::new(self.read(id, spec)?);
        self.lock().keep_job(id, Arc::clone(&job));
        Ok(job)
    }

    fn read(&self, id: JobId, spec: Bytes) -> Result<Job, Unreadable> {
        let spec = pb::JobSpec::decode(spec)?;
        let blob = |blob: &pb::Blob| {
            let digest = <[u8; 32]>::try_from(blob.sha256.as_ref()).ok()?;
            self.store.blob(&digest).ok().flatten()
        };
        let elements = spec.elements.as_ref().map(|elements| Elements::read(elements, &blob)).transpose();
        let elements = elements?.flatten();
        let mut template = convert::submit::template(id, spec);
        if let Some(command) = &mut template.command
            && let Some(named) = command.stdin_blob.take()
        {
            command.stdin = blob(&named).ok_or(Unreadable::NoStdin)?;
        }
        if let Some(elements) = &elements {
            template.columns.clone_from(&elements.columns);
            template.range = elements.range();
            template.total = elements.total();
        }
        Ok(Job { template, elements })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    fn keep_spec(&mut self, id: JobId, spec: &Bytes) {
        if self.specs.back().is_some_and(|(newest, _)| *newest >= id) {
            return;
        }
        self.specs_bytes += spec.len();
        self.specs.push_back((id, spec.as_ref().into()));
        while self.specs_bytes > SPECS_BYTES || self.specs.len() > SPECS {
            let Some((_, oldest)) = self.specs.pop_front() else { return };
            self.specs_bytes -= oldest.len();
        }
    }

    fn take_spec(&mut self, id: JobId) -> Option<Bytes> {
        let at = self.specs.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        let spec = std::mem::take(&mut self.specs[at].1);
        self.specs_bytes -= spec.len();
        (!spec.is_empty()).then(|| Bytes::from(spec))
    }

    fn keep_job(&mut self, id: JobId, job: Arc<Job>) {
        if self.jobs.contains_key(&id) {
            return;
        }
        self.jobs_bytes += job.bytes();
        self.jobs.insert(id, job);
        self.jobs_order.push_back(id);
        while self.jobs_order.len() > JOBS || (self.jobs_bytes > JOBS_BYTES && self.jobs_order.len() > 1) {
            let oldest = self.jobs_order.pop_front().expect("a queue above its limit");
            let oldest = self.jobs.remove(&oldest);
            self.jobs_bytes -= oldest.map_or(0, |job| job.bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One whose elements take about so many bytes.
    fn job(bytes: usize) -> Arc<Job> {
        let fields = vec![Bytes::from_static(&[0; 1 << 10]); bytes >> 10];
        let values = pb::source::Values::Table(pb::Table { fields });
        let source = pb::Source { values: Some(values), ..pb::Source::default() };
        let elements = pb::Elements { sources: vec![source], ..pb::Elements::default() };
        let elements = Elements::read(&elements, &|_| None).expect("a table");
        Arc::new(Job { template: pb::Template::default(), elements })
    }

    #[test]
    fn large_tables_make_room_for_each_other() {
        let mut cache = Cache::default();
        let kept = |cache: &Cache| {
            let mut kept: Vec<u64> = cache.jobs.keys().map(|job| job.0).collect();
            kept.sort_unstable();
            kept
        };
        for id in 1..=3 {
            cache.keep_job(JobId(id), job(JOBS_BYTES / 5 * 2));
        }
        assert_eq!(kept(&cache), [2, 3]);
        cache.keep_job(JobId(4), job(2 * JOBS_BYTES));
        assert_eq!(kept(&cache), [4], "the newest stays, however large");
        cache.keep_job(JobId(5), job(1 << 10));
        assert_eq!(kept(&cache), [5]);
        assert!(cache.jobs_bytes < 2 << 10, "{}", cache.jobs_bytes);
        // One that was read twice at once.
        cache.keep_job(JobId(5), job(1 << 10));
        for id in 6..1_000 {
            cache.keep_job(JobId(id), job(1 << 10));
        }
        assert_eq!((cache.jobs.len(), cache.jobs_order.len()), (JOBS, JOBS));
        assert!(cache.jobs_bytes < JOBS * (2 << 10), "{}", cache.jobs_bytes);
    }
}
