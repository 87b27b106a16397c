//! What is whole of something damaged, as a new backup. Jobs whose submission is lost are left out. Where ends or pieces of
//! output are lost, those that are there close up, so that who reads them in order finds no gap to wait at.

use std::io;

use super::{
    About, Error, Summary,
    audit::Seen,
    check::Report,
    source::{Piece, Source},
    write::Writer,
};
use crate::store::codec::record::{Body, JobEnded, Record};

/// Writes it. `report` is what was found in the same source.
///
/// # Errors
/// If the source cannot be read, or the new backup not be written.
pub fn salvage(source: &Source, report: &Report, out: &mut dyn io::Write) -> Result<Summary, Error> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let about = About { version, salvaged: true, ..report.about.clone() };
    let mut writer = Writer::begin(out, &about, report.epoch).map_err(Error::Write)?;
    source.walk(&mut |piece| match piece {
        Piece::Record(mut record) => match usable(&mut record, report) {
            true => writer.record(&record).map_err(Error::Write),
            false => Ok(()),
        },
        Piece::Blob(digest, bytes) => writer.blob(&digest, &bytes).map_err(Error::Write),
        Piece::About { .. } | Piece::Closing(_) | Piece::Highest(_) | Piece::Damage(_) => Ok(()),
    })?;
    writer.finish(report.jobs, report.highest).map_err(Error::Write)
}

/// False for what cannot be used; the rest is fitted to what is there.
fn usable(record: &mut Record, report: &Report) -> bool {
    let Some(body) = &mut record.body else { return false };
    let Some(job) = body.job() else { return true };
    let Some(seen) = report.audit.kept(job) else { return false };
    match body {
        Body::Ends(ends) => ends.rank = seen.ranks.below(ends.rank),
        Body::Output(output) => output.number = seen.outputs.below(output.number),
        Body::JobEnded(ended) => close(ended, seen),
        Body::Submitted(_)
        | Body::Attempt(_)
        | Body::Job(_)
        | Body::JobGone(_)
        | Body::Queue(_)
        | Body::WorkerSeen(_)
        | Body::WorkerGone(_)
        | Body::Epoch(_) => {}
    }
    true
}

/// An ended job counts the ends that are there.
fn close(ended: &mut JobEnded, seen: &Seen) {
    [ended.succeeded, ended.failed, ended.cancelled, ended.skipped] = seen.kinds;
}
