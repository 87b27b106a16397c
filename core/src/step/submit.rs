//! Jobs come in: all of a call or none, and only once however often the call is repeated.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    array::Array,
    effect::{Effect, Outcome, Rejection, Reply, Submitted, Write},
    gate::Origin,
    id::{JobId, Now, RequestId},
    job::NewJob,
    state::{Job, State},
};

pub(crate) fn submit(
    state: &mut State,
    now: Now,
    request: RequestId,
    repeat: Option<[u8; 16]>,
    jobs: Vec<NewJob>,
    out: &mut Outcome,
) {
    let reply = match resolve(state, repeat, &jobs) {
        Ok(known) => {
            let repeated = known.iter().all(Option::is_some);
            let ids = accept(state, now, repeat, jobs, known, out);
            Reply::Submitted { ids, repeated }
        }
        Err(rejection) => Reply::Rejected(rejection),
    };
    out.effects.push(Effect::Reply(request, reply));
}

/// Which of the jobs are there already, by the call's id or by their key.
fn resolve(
    state: &State,
    repeat: Option<[u8; 16]>,
    jobs: &[NewJob],
) -> Result<Vec<Option<JobId>>, Rejection> {
    let mut known = Vec::with_capacity(jobs.len());
    let (mut new_jobs, mut new_tasks) = (0, 0);
    for (place, job) in (0..).zip(jobs) {
        let mut found = repeat.and_then(|id| state.memory.call(&id, place));
        if let Some(key) = &job.key
            && let Some((job, stored)) = state.memory.key(&key.text)
        {
            if stored != key.digest {
                return Err(Rejection::KeyTaken { key: key.text.clone(), job, stored, offered: key.digest });
            }
            found = Some(job);
        }
        if found.is_none() {
            new_jobs += 1;
            new_tasks += job.only.as_ref().map_or(u64::from(job.total), roaring::RoaringBitmap::len);
        }
        known.push(found);
    }
    check_keys_within(jobs, state)?;
    let config = &state.config;
    if new_jobs > 0 && state.jobs.len() as u64 + new_jobs > config.max_live_jobs {
        return Err(Rejection::Full { what: "live job", limit: config.max_live_jobs });
    }
    if new_jobs > 0 && state.totals.queued + new_tasks > config.max_queued_tasks {
        return Err(Rejection::Full { what: "queued task", limit: config.max_queued_tasks });
    }
    Ok(known)
}

/// One call must not use one key for two payloads.
fn check_keys_within(jobs: &[NewJob], state: &State) -> Result<(), Rejection> {
    let mut seen = BTreeMap::new();
    for key in jobs.iter().filter_map(|job| job.key.as_ref()) {
        if let Some(stored) = seen.insert(&key.text, key.digest)
            && stored != key.digest
        {
            let job = JobId(state.last_job.0 + 1);
            return Err(Rejection::KeyTaken { key: key.text.clone(), job, stored, offered: key.digest });
        }
    }
    Ok(())
}

fn accept(
    state: &mut State,
    now: Now,
    repeat: Option<[u8; 16]>,
    jobs: Vec<NewJob>,
    known: Vec<Option<JobId>>,
    out: &mut Outcome,
) -> Vec<JobId> {
    let many = u32::try_from(jobs.len()).unwrap_or(u32::MAX);
    let any_new = known.iter().any(Option::is_none);
    let mut ids = Vec::with_capacity(jobs.len());
    for (place, (job, known)) in (0..).zip(jobs.into_iter().zip(known)) {
        let within = job.key.as_ref().and_then(|key| state.memory.key(&key.text));
        let id = match known.or(within.map(|(id, _)| id)) {
            Some(id) => id,
            None => add(state, now, job, repeat, (place, many), out),
        };
        ids.push(id);
    }
    if let Some(id) = repeat.filter(|_| any_new) {
        state.memory.keep_call(now.mono, id, &ids);
    }
    ids
}

fn add(
    state: &mut State,
    now: Now,
    new: NewJob,
    repeat: Option<[u8; 16]>,
    place: (u32, u32),
    out: &mut Outcome,
) -> JobId {
    let id = JobId(state.last_job.0 + 1);
    state.last_job = id;
    let policy = Arc::new(new.policy);
    let mut array = None;
    if new.only.is_some() || new.rerun_of.is_some() {
        let mut unfolded = Array::new(new.total, new.only.clone());
        unfolded.rerun_of = new.rerun_of;
        array = Some(Box::new(unfolded));
    }
    let job = |policy| Job { policy, total: new.total, submitted: now.wall, array };
    let shared = state.add_job(id, &policy, Origin::Submitted, job);
    if let Some(key) = &new.key {
        state.memory.keep_key(id, key);
    }
    state.settle(id);
    out.writes.push(Write::Submitted(Submitted {
        id,
        policy: shared,
        total: new.total,
        only: new.only,
        key: new.key,
        repeat,
        place,
        rerun_of: new.rerun_of,
        wall: now.wall,
        spec: new.spec,
    }));
    id
}
