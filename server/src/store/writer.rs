//! The one writer: makes a batch durable, then visible.

use std::collections::HashMap;

use taskq_core::{effect::Write, id::JobId};

use super::{
    Error,
    clean::{Cleaner, Plan, Weight},
    codec::{
        self, Press,
        record::{Body, Record},
    },
    entries::Loc,
    guard::{Fault, Guard},
    index::{Index, Stage},
    log::{Options, Shared},
    part::{self, Chunk, PartKey, Seal},
    recover::Extent,
    space::Space,
    trouble,
    witness::Witness,
};

/// What only the writer has.
#[derive(Debug)]
pub(super) struct Writer {
    guard: Guard,
    fault: Fault,
    witness: Witness,
    space: Space,
    cleaner: Cleaner,
    extent: Extent,
    press: Press,
}

/// A commit as bytes, and which record lies where.
struct Encoded {
    stream: Vec<u8>,
    records: Vec<(Record, Loc)>,
}

impl Writer {
    pub(super) fn new(options: &Options, guard: Guard, witness: Witness, extent: Extent) -> Writer {
        Writer {
            guard,
            fault: options.fault,
            witness,
            space: Space::new(&options.dir),
            cleaner: Cleaner::new(extent.floor, options.tuning),
            extent,
            press: Press::new(),
        }
    }

    pub(super) fn extent(&self) -> Extent {
        self.extent
    }

    /// See [`Store::commit`](super::Store::commit).
    pub(super) fn commit(&mut self, shared: &Shared, writes: &[Write]) -> Result<(), Error> {
        if let Some(why) = shared.poisoned.get() {
            let cause = std::io::Error::other(format!("an earlier write failed ({why}); restart the server"));
            return Err(Error::Io { act: "write", path: shared.place.0.clone(), cause });
        }
        let writes = &*self.space.without_excess(writes);
        if writes.is_empty() {
            return Ok(());
        }
        // Up to here and within `prepare` nothing has been written: an error leaves all as it was.
        let (encoded, plan) = self.prepare(shared, writes)?;
        let stored = self.store(shared, &encoded, &plan, writes);
        let done = stored.and_then(|sizes| self.publish(shared, &encoded, &plan, sizes, Stage::Commit));
        done.map_err(|error| poison(shared, error))
    }

    /// Takes over records of a backup, which come in the order in which they were in a log.
    pub(super) fn adopt(
        &mut self,
        shared: &Shared,
        records: Vec<Record>,
        highest: JobId,
    ) -> Result<(), Error> {
        let encoded = encode(self.extent.next, records.into_iter(), &mut self.press)
            .ok_or_else(|| shared.place.corrupt("the records do not fit into a commit"))?;
        self.space.admit(&[], encoded.stream.len() as u64)?;
        let submitted = encoded.records.iter().filter_map(|(record, _)| match &record.body {
            Some(Body::Submitted(submitted)) => Some(submitted.id),
            _ => None,
        });
        self.extent.highest = submitted.fold(self.extent.highest.max(highest.0), u64::max);
        let floor = self.extent.floor;
        let plan = Plan { cleaner: self.cleaner.clone(), carried: Vec::new(), dead: Vec::new(), floor };
        let sizes = self.store(shared, &encoded, &plan, &[])?;
        self.publish(shared, &encoded, &plan, sizes, Stage::Scan)
    }

    fn prepare(&mut self, shared: &Shared, writes: &[Write]) -> Result<(Encoded, Plan), Error> {
        let index = trouble::read(&shared.index);
        let new = codec::pack(number_outputs(&index, writes));
        let added = new.iter().map(|r| prost::Message::encoded_len(r) as u64).sum();
        let weight = Weight { parts: self.extent.parts, bytes: self.extent.bytes, live: index.live_bytes };
        let plan =
            self.cleaner.plan(&shared.engine, &shared.place, &index, self.extent.next, weight, added)?;
        drop(index);
        // What is carried over comes first: a job may be forgotten by this very batch.
        let records = codec::pack(plan.carried.iter().map(codec::Stored::parts)).into_iter().chain(new);
        let encoded = encode(self.extent.next, records, &mut self.press).ok_or_else(|| {
            let cause =
                std::io::Error::new(std::io::ErrorKind::InvalidInput, "the batch is larger than 4 GiB");
            Error::Io { act: "write", path: shared.place.0.clone(), cause }
        })?;
        self.space.admit(writes, encoded.stream.len() as u64)?;
        Ok((encoded, plan))
    }

    /// Puts the commit on stable storage and returns the number of its parts and bytes.
    fn store(
        &mut self,
        shared: &Shared,
        encoded: &Encoded,
        plan: &Plan,
        writes: &[Write],
    ) -> Result<(u64, u64), Error> {
        let failed = |failure| shared.place.engine("write", failure);
        let parts = part::parts(encoded.stream.len()).unwrap_or(u16::MAX);
        self.extent.highest = self.extent.highest.max(highest(writes).0);
        let cut = Chunk::of(encoded.stream.len());
        let mut bytes = 0;
        for number in 0..parts {
            let start = usize::from(number) * cut.bytes();
            let chunk = &encoded.stream[start..encoded.stream.len().min(start + cut.bytes())];
            let key = PartKey { seq: self.extent.next, part: number };
            let seal = Seal { parts, floor: plan.floor, highest: self.extent.highest };
            let value = part::seal(key, cut, chunk, (number + 1 == parts).then_some(seal));
            bytes += value.len() as u64;
            self.fault.part().map_err(|cause| shared.place.io("write", cause))?;
            shared.engine.insert(key, value).map_err(failed)?;
        }
        shared.engine.flush().map_err(failed)?;
        self.guard.sync()?;
        Ok((u64::from(parts), bytes))
    }

    /// The commit is durable: lets readers see it, and removes what it has made superfluous.
    fn publish(
        &mut self,
        shared: &Shared,
        encoded: &Encoded,
        plan: &Plan,
        (parts, bytes): (u64, u64),
        stage: Stage,
    ) -> Result<(), Error> {
        let seq = self.extent.next;
        let mut index = trouble::write(&shared.index);
        for (record, loc) in &encoded.records {
            if let Some(body) = &record.body {
                index.apply(body, *loc, stage).map_err(|e| shared.place.entry(seq, &e))?;
            }
        }
        drop(index);
        self.witness.write(seq)?;
        self.cleaner = plan.cleaner.clone();
        self.extent.next += 1;
        self.extent.floor = plan.floor;
        self.extent.parts += parts;
        self.extent.bytes += bytes;
        for (key, size) in &plan.dead {
            shared.engine.remove(*key).map_err(|failure| shared.place.engine("write", failure))?;
            self.extent.parts -= 1;
            self.extent.bytes -= size;
        }
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.guard.enabled()
            && let Err(error) = self.witness.sync()
        {
            tracing::debug!(%error, "the witness was not synced");
        }
    }
}

/// Something has been written and it is not known what of it will be there: nothing may be acknowledged any more.
fn poison(shared: &Shared, error: Error) -> Error {
    let error = match error {
        // Here it is too late to go on when there is room again.
        Error::Full { dir, cause } => Error::Io { act: "write", path: dir, cause },
        other => other,
    };
    let first = shared.poisoned.get_or_init(|| error.to_string());
    tracing::error!(%first, "the store takes nothing more; the server must restart");
    error
}

/// Gives each piece of output the next number of its job.
fn number_outputs<'a>(index: &Index, writes: &'a [Write]) -> impl Iterator<Item = (&'a Write, u64)> {
    let mut next: HashMap<JobId, u64> = HashMap::new();
    writes.iter().map(move |write| {
        let mut number = 0;
        if let Write::Output { task, .. } = write {
            let due = next
                .entry(task.job)
                .or_insert_with(|| index.jobs.get(task.job).map_or(0, |j| j.next_output()));
            number = *due;
            *due += 1;
        }
        (write, number)
    })
}

fn highest(writes: &[Write]) -> JobId {
    let ids = writes.iter().filter_map(|w| if let Write::Submitted(s) = w { Some(s.id) } else { None });
    ids.max().unwrap_or_default()
}

/// `None` if it is too long for a commit.
fn encode(seq: u64, records: impl Iterator<Item = Record>, press: &mut Press) -> Option<Encoded> {
    let mut stream = Vec::new();
    let mut placed = Vec::new();
    for record in records {
        let offset = u32::try_from(stream.len()).ok()?;
        let len = u32::try_from(codec::frame(&record, press, &mut stream)).ok()?;
        placed.push((record, Loc { seq, offset, len }));
    }
    part::parts(stream.len())?;
    u32::try_from(stream.len()).ok()?;
    Some(Encoded { stream, records: placed })
}
