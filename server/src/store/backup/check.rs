//! Everything that can be told of a backup or a directory: what is there, what is damaged, and what is lost by that.

use std::{collections::BTreeSet, path::PathBuf};

use taskq_core::id::{JobId, WallTime};

use super::{
    About, Damage, Error,
    audit::Audit,
    frame::Closing,
    source::{Piece, Source},
};
use crate::store::codec;

/// What was found.
#[derive(Debug)]
pub struct Report {
    /// The file or directory.
    pub path: PathBuf,
    /// Bytes read.
    pub bytes: u64,
    /// Jobs that are there.
    pub jobs: u64,
    /// Records of facts.
    pub records: u64,
    /// Large payloads.
    pub blobs: u64,
    /// When a backup was begun, and by which version; `None` if it is a directory, or that is lost.
    pub made: Option<(WallTime, String)>,
    /// Places that are not as they were written.
    pub damages: Vec<Damage>,
    /// What jobs have lost, also where no place is known any more.
    pub lost: Vec<(JobId, String)>,
    pub(super) about: About,
    pub(super) epoch: u64,
    pub(super) highest: u64,
    pub(super) audit: Audit,
}

impl Report {
    /// Nothing is damaged or lost.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.damages.is_empty() && self.lost.is_empty()
    }

    /// The first thing that is wrong, and how many more there are.
    pub(super) fn first(&self) -> Option<(Damage, usize)> {
        let lost = self.lost.iter().map(|(job, what)| Damage {
            file: self.path.clone(),
            bytes: None,
            what: what.clone(),
            jobs: vec![(*job, *job)],
        });
        let first = self.damages.iter().cloned().chain(lost).next()?;
        Some((first, self.damages.len() + self.lost.len() - 1))
    }
}

/// Reads all of it.
///
/// # Errors
/// If it cannot be read, or is something else. What is damaged is in the report.
pub fn check(source: &Source) -> Result<Report, Error> {
    let mut audit = Audit::default();
    let (mut about, mut epoch, mut closing, mut highest) = (None, 0, None, 0);
    let (mut records, mut damages, mut blobs) = (0, Vec::new(), BTreeSet::new());
    let mut blob_count = 0;
    let path = source.path().to_owned();
    let bytes = source.walk(&mut |piece| {
        match piece {
            Piece::About { about: said, epoch: then } => {
                epoch = then;
                about = Some(said);
            }
            Piece::Record(record) => {
                records += 1;
                if let Some(body) = &record.body
                    && let Err(error) = audit.add(body)
                {
                    damages.push(unusable(&path, body.job(), &error));
                }
            }
            Piece::Blob(digest, _) => {
                blob_count += 1;
                blobs.insert(digest);
            }
            Piece::Closing(said) => closing = Some(said),
            Piece::Highest(said) => highest = said,
            Piece::Damage(damage) => damages.push(damage),
        }
        Ok(())
    })?;
    if let Some(closing) = &closing {
        highest = closing.highest;
        if damages.is_empty() {
            damages.extend(differs(&path, closing, [audit.jobs(), records, blob_count]));
        }
    }
    let salvaged = about.as_ref().is_some_and(|about| about.salvaged);
    let lost = audit.lost(if salvaged { None } else { Some(&blobs) });
    let made = match source {
        Source::File(_) => about.as_ref().map(|about: &About| (about.wall, about.version.clone())),
        Source::Directory(_) => None,
    };
    Ok(Report {
        bytes,
        jobs: audit.jobs(),
        records,
        blobs: blob_count,
        made,
        damages,
        lost,
        about: about.unwrap_or_default(),
        epoch: epoch.max(audit.epoch),
        highest: highest.max(audit.highest()),
        audit,
        path,
    })
}

fn unusable(path: &std::path::Path, job: Option<u64>, error: &codec::Error) -> Damage {
    let jobs = job.map(|job| (JobId(job), JobId(job))).into_iter().collect();
    Damage { file: path.to_owned(), bytes: None, what: format!("a record cannot be used: {error}"), jobs }
}

fn differs(path: &std::path::Path, closing: &Closing, found: [u64; 3]) -> Option<Damage> {
    let said = [closing.jobs, closing.records, closing.blobs];
    let what = format!(
        "{} jobs, {} records and {} blobs are there, but its end says {}, {} and {}",
        found[0], found[1], found[2], said[0], said[1], said[2]
    );
    (said != found).then(|| Damage { file: path.to_owned(), bytes: None, what, jobs: Vec::new() })
}
