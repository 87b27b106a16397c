//! A store into a backup, while it is used. Nobody waits for it: it takes what lies in the log from its beginning up to
//! where it ended when the backup began, and nothing is held for it meanwhile. Two things go on beside it.
//!
//! Housekeeping carries what is wanted from the oldest commits to the end, and removes those. If it overtakes the reading,
//! what was not read has been carried: the reading goes on at what is the oldest now, and up to what is the end now. Facts
//! that are read twice by that are the same facts.
//!
//! Retention forgets jobs, of which parts may have been read already: in the end all of those are said to be gone.

use std::io;

use roaring::RoaringTreemap;
use taskq_core::id::JobId;

use super::{About, Error, Summary, write::Writer};
use crate::store::{
    blobs::Blobs,
    codec::record::{Body, Record},
    entries::Entries,
    log::LogStore,
    part::{Part, PartKey},
    recover, trouble,
};

/// Writes all that is acknowledged by now, and maybe more.
pub(in crate::store) fn copy(
    store: &LogStore,
    about: &About,
    out: &mut dyn io::Write,
) -> Result<Summary, Error> {
    let epoch = trouble::read(&store.shared.index).epoch.map_or(0, |(epoch, _)| epoch.0);
    let mut writer = Writer::begin(out, about, epoch).map_err(Error::Write)?;
    let mut copied = Copied::default();
    facts(store, &mut writer, &mut copied)?;
    blobs(&store.blobs, &mut writer)?;
    let gone: Vec<u64> = {
        let index = trouble::read(&store.shared.index);
        copied.met.iter().filter(|id| index.jobs.get(JobId(*id)).is_none()).collect()
    };
    for job in gone {
        copied.submitted.remove(job);
        writer.record(&Record { body: Some(Body::JobGone(job)) }).map_err(Error::Write)?;
    }
    let highest = trouble::read(&store.shared.index).highest;
    writer.finish(copied.submitted.len(), highest.0).map_err(Error::Write)
}

/// Whose facts are in the backup.
#[derive(Default)]
struct Copied {
    met: RoaringTreemap,
    submitted: RoaringTreemap,
}

impl Copied {
    fn add(&mut self, body: &Body) {
        if let Some(job) = body.job() {
            self.met.insert(job);
        }
        if let Body::Submitted(submitted) = body {
            self.submitted.insert(submitted.id);
        }
    }
}

fn facts(store: &LogStore, writer: &mut Writer<'_>, copied: &mut Copied) -> Result<(), Error> {
    let shared = &store.shared;
    let place = &shared.place;
    let extent = store.extent();
    let (mut due, mut end) = (PartKey { seq: extent.floor, part: 0 }, extent.next);
    let mut entries = Entries::of(due.seq);
    let mut scan = shared.engine.scan(due).map_err(|f| place.engine("read", f))?;
    while due.seq < end {
        let next = scan.next().transpose().map_err(|f| place.engine("read", f))?;
        let Some((key, value)) = next.filter(|(key, _)| *key == due) else {
            let now = store.extent();
            if now.floor <= due.seq {
                return Err(place
                    .corrupt(format!("commit {}, part {} is missing", due.seq, due.part))
                    .into());
            }
            (due, end) = (PartKey { seq: now.floor, part: 0 }, now.next);
            entries = Entries::of(due.seq);
            scan = shared.engine.scan(due).map_err(|f| place.engine("read", f))?;
            continue;
        };
        let Part { seal, bytes, .. } = recover::open(place, key, value)?;
        entries.push(bytes);
        let mut taken = Vec::new();
        while let Some((_, record)) = entries.take().map_err(|e| place.entry(key.seq, &e))? {
            taken.push(record);
        }
        {
            // Not held while the backup is written: whoever takes it may be slow.
            let index = trouble::read(&shared.index);
            let kept = |job: u64| index.jobs.get(JobId(job)).is_some();
            taken.retain(|record| record.body.as_ref().and_then(Body::job).is_none_or(kept));
        }
        for record in &taken {
            record.body.iter().for_each(|body| copied.add(body));
            writer.record(record).map_err(Error::Write)?;
        }
        due = match seal {
            None => PartKey { part: key.part + 1, ..key },
            Some(_) => PartKey { seq: key.seq + 1, part: 0 },
        };
        if due.part == 0 {
            entries = Entries::of(due.seq);
        }
    }
    Ok(())
}

fn blobs(blobs: &Blobs, writer: &mut Writer<'_>) -> Result<(), Error> {
    for digest in blobs.digests()? {
        // One that no job needs any more may have been removed meanwhile.
        if let Some(bytes) = blobs.get(&digest)? {
            writer.blob(&digest, &bytes).map_err(Error::Write)?;
        }
    }
    Ok(())
}
