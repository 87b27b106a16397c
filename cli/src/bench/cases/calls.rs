//! Calls of a function that returns its argument: as one array, and each its own job. Values are fetched and compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use taskq_client::{Error, Pool};

use crate::bench::meter::{Measured, Meter, nanos};
use crate::bench::stage::{Stage, check};

/// One job over the numbers below `tasks`, whose values come as they end.
pub(in crate::bench) async fn array(stage: &Stage, tasks: u32, function: &str) -> anyhow::Result<Measured> {
    let meter = Meter::start(stage)?;
    let pool = Pool::new(stage.client());
    let mut results = pool.imap_unordered::<u64>(function, 0..u64::from(tasks)).await?;
    let (mut right, mut first_wrong) = (0, None);
    while let Some(element) = results.next().await {
        let element = element?;
        let value = element.value.map_err(Error::Call)?;
        if value == u64::from(element.index) {
            right += 1;
        } else {
            first_wrong.get_or_insert((element.index, value));
        }
        stage.tick(1);
    }
    let measured = meter.stop(Vec::new())?;

    if let Some((index, value)) = first_wrong {
        anyhow::bail!("{function}({index}) has another value than its argument: {value}");
    }
    // Each index comes once: the client sees to that.
    check(right == tasks, || format!("of {tasks} values, only {right} have come"))?;
    Ok(measured)
}

/// As many jobs of one call; the time of each counts from when its argument is taken until its value is handed out.
pub(in crate::bench) async fn each(stage: &Stage, tasks: u32, function: &str) -> anyhow::Result<Measured> {
    let taken: Arc<Vec<AtomicU64>> = Arc::new((0..tasks).map(|_| AtomicU64::new(0)).collect());
    let mut times = Vec::with_capacity(tasks as usize);
    let mut seen = vec![false; tasks as usize];

    let meter = Meter::start(stage)?;
    let began = Instant::now();
    let arguments = {
        let taken = taken.clone();
        (0..u64::from(tasks)).inspect(move |n| {
            // Read only after the call's answer, which comes later.
            taken[usize::try_from(*n).expect("below a u32")].store(nanos(began.elapsed()), Ordering::Relaxed);
        })
    };
    let mut answers = stage.client().call_many::<u64, _>(function, arguments).start();
    while let Some(answer) = answers.next().await {
        let answer = answer?;
        let position = answer.position;
        let value = answer.value.map_err(Error::Call)?;
        check(value == position as u64, || format!("{function}({position}) is {value}"))?;
        check(!std::mem::replace(&mut seen[position], true), || {
            format!("call {position} was answered twice")
        })?;
        times.push(nanos(began.elapsed()) - taken[position].load(Ordering::Relaxed));
        stage.tick(1);
    }
    let measured = meter.stop(times)?;

    let answered = seen.iter().filter(|seen| **seen).count();
    check(answered == tasks as usize, || format!("of {tasks} calls, only {answered} were answered"))?;
    Ok(measured)
}
