//! Writes a backup, frame by frame, and keeps no more of it in memory than one.

use std::{collections::BTreeSet, io};

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};

use super::{
    About, Summary, VERSION,
    frame::{self, Closing, Head, Kind, Opening},
};
use crate::{
    access::Token,
    store::codec::{
        self,
        record::{Body, Record},
    },
};

/// Bytes of facts after which a frame ends: what one damaged byte costs at most, but for a fact that is larger by itself.
const FACTS_BYTES: usize = 64 << 10;
/// Bytes of a blob in one frame.
const STRETCH_BYTES: usize = 1 << 20;

/// A backup that is being written.
pub(in crate::store) struct Writer<'a> {
    out: &'a mut dyn io::Write,
    hash: Sha256,
    bytes: u64,
    number: u64,
    facts: Vec<u8>,
    facts_count: u32,
    jobs: BTreeSet<u64>,
    former_jobs: Vec<u64>,
    former_blob: Bytes,
    records: u64,
    blobs: u64,
}

impl Writer<'_> {
    /// Begins one.
    pub(super) fn begin<'a>(out: &'a mut dyn io::Write, about: &About, epoch: u64) -> io::Result<Writer<'a>> {
        let mut writer = Writer {
            out,
            hash: Sha256::new(),
            bytes: 0,
            number: 0,
            facts: Vec::new(),
            facts_count: 0,
            jobs: BTreeSet::new(),
            former_jobs: Vec::new(),
            former_blob: Bytes::new(),
            records: 0,
            blobs: 0,
        };
        let opening = Opening {
            format: VERSION,
            epoch,
            wall: about.wall.0,
            version: about.version.clone(),
            salvaged: about.salvaged,
            instance: about.token.as_ref().map(Token::fingerprint).unwrap_or_default(),
            token: about.token.as_ref().map(|token| token.reveal().to_owned()).unwrap_or_default(),
        };
        writer.frame(Head { kind: Kind::Opening.into(), ..Head::default() }, &opening.encode_to_vec())?;
        Ok(writer)
    }

    /// Adds a record.
    pub(super) fn record(&mut self, record: &Record) -> io::Result<()> {
        codec::plain(record, &mut self.facts);
        self.facts_count += 1;
        if let Some(job) = record.body.as_ref().and_then(Body::job) {
            self.jobs.insert(job);
        }
        if self.facts.len() >= FACTS_BYTES { self.end_facts() } else { Ok(()) }
    }

    /// Adds a blob.
    pub(super) fn blob(&mut self, sha256: &[u8; 32], bytes: &[u8]) -> io::Result<()> {
        self.end_facts()?;
        let mut rest = bytes;
        let mut offset = 0;
        // An empty one has one frame as well.
        loop {
            let (stretch, later) = rest.split_at(rest.len().min(STRETCH_BYTES));
            let head = Head {
                kind: Kind::Blob.into(),
                blob: Bytes::copy_from_slice(sha256),
                offset,
                whole: bytes.len() as u64,
                ..Head::default()
            };
            self.frame(head, stretch)?;
            offset += stretch.len() as u64;
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        self.blobs += 1;
        Ok(())
    }

    /// Ends it.
    pub(super) fn finish(mut self, jobs: u64, highest: u64) -> io::Result<Summary> {
        self.end_facts()?;
        let (records, blobs) = (self.records, self.blobs);
        let sha256 = Bytes::copy_from_slice(&self.hash.clone().finalize());
        let closing = Closing { sha256, jobs, records, blobs, highest };
        self.frame(Head { kind: Kind::Closing.into(), ..Head::default() }, &closing.encode_to_vec())?;
        self.out.flush()?;
        Ok(Summary { bytes: self.bytes, sha256: self.hash.finalize().into(), jobs, records, blobs })
    }

    fn end_facts(&mut self) -> io::Result<()> {
        if self.facts_count == 0 {
            return Ok(());
        }
        let facts = std::mem::take(&mut self.facts);
        let head = Head {
            kind: Kind::Facts.into(),
            records: std::mem::take(&mut self.facts_count),
            jobs: frame::runs(&std::mem::take(&mut self.jobs)),
            ..Head::default()
        };
        self.records += u64::from(head.records);
        self.frame(head, &facts)
    }

    fn frame(&mut self, mut head: Head, body: &[u8]) -> io::Result<()> {
        head.number = self.number;
        head.former_jobs = std::mem::replace(&mut self.former_jobs, head.jobs.clone());
        head.former_blob = std::mem::replace(&mut self.former_blob, head.blob.clone());
        self.number += 1;
        let frame = frame::seal(head, body);
        self.hash.update(&frame);
        self.bytes += frame.len() as u64;
        self.out.write_all(&frame)
    }
}
