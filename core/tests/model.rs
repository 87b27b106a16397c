//! The table and the ready order against naive models.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::prelude::*;
use taskq_core::{
    id::JobId,
    job::Shape,
    ready::{ClassId, Fit, QueueId, Ready},
    table::Table,
};

proptest! {
    #[test]
    fn a_table_is_a_map(acts in prop::collection::vec((0_u8..3, 0_u64..400, 0_u32..9), 1..200)) {
        let mut table = Table::new();
        let mut model = BTreeMap::new();
        for (act, id, value) in acts {
            let id = JobId(id);
            match act {
                0 | 1 => prop_assert_eq!(table.insert(id, value), model.insert(id, value)),
                _ => prop_assert_eq!(table.remove(id), model.remove(&id)),
            }
            prop_assert_eq!(table.len(), model.len());
            prop_assert_eq!(table.get(id), model.get(&id));
        }
        let all: Vec<_> = table.iter().map(|(id, value)| (id, *value)).collect();
        prop_assert_eq!(&all, &model.clone().into_iter().collect::<Vec<_>>());
        let below: Vec<_> = table.below(JobId(130)).map(|(id, _)| id).collect();
        prop_assert_eq!(below, model.range(..JobId(130)).rev().map(|(id, _)| *id).collect::<Vec<_>>());
        let from: Vec<_> = table.from(JobId(130)).map(|(id, _)| id).collect();
        prop_assert_eq!(from, model.range(JobId(130)..).map(|(id, _)| *id).collect::<Vec<_>>());
    }

    /// In one queue: the highest priority that fits, then the lowest job.
    #[test]
    fn the_best_job_that_fits_is_chosen(acts in prop::collection::vec((0_u8..3, 0_usize..6, 1_u64..60), 1..150), small in any::<bool>()) {
        let mut ready = Ready::default();
        let queue = QueueId(0);
        let classes: Vec<(ClassId, i32, u32)> = (0..6)
            .map(|n| {
                let (priority, slots) = (n % 3, 1 + (n as u32) / 3);
                (ready.class(queue, priority, &Shape { slots, ..Shape::default() }), priority, slots)
            })
            .collect();
        let mut model: BTreeSet<(usize, JobId)> = BTreeSet::new();
        let most = if small { 1 } else { 2 };
        for (act, class, job) in acts {
            let job = JobId(job * 6 + class as u64);
            let (id, ..) = classes[class];
            if act < 2 {
                let was_empty = !model.iter().any(|(other, _)| *other == class);
                prop_assert_eq!(ready.insert(id, job), was_empty);
                model.insert((class, job));
            } else {
                ready.remove(id, job);
                model.remove(&(class, job));
            }
            let fitting = model.iter().filter(|(class, _)| classes[*class].2 <= most);
            let best = fitting.min_by_key(|(class, job)| (-classes[*class].1, *job));
            let expected = best.map(|(class, job)| (classes[*class].0, *job));
            let chosen = ready.choose(queue, |class, _| {
                let fits = classes.iter().any(|(id, _, slots)| *id == class && *slots <= most);
                if fits { Fit::Yes } else { Fit::Busy }
            });
            prop_assert_eq!(chosen, expected);
            prop_assert_eq!(ready.queues().next(), (!model.is_empty()).then_some(queue));
        }
    }
}

/// Whoever was overtaken ten thousand times goes first, whatever its priority.
#[test]
fn nobody_waits_for_ever() {
    let mut ready = Ready::default();
    let queue = QueueId(0);
    let shape = Arc::new(Shape { slots: 1, ..Shape::default() });
    let low = ready.class(queue, 0, &shape);
    let high = ready.class(queue, 9, &shape);
    ready.insert(low, JobId(1));
    for n in 2..20_000 {
        ready.insert(high, JobId(n));
        let (class, job) = ready.choose(queue, |_, _| Fit::Yes).expect("something is ready");
        ready.served(class, job, 1, 1);
        ready.remove(class, job);
        if job == JobId(1) {
            assert!(n > 10_000, "it is overtaken for a while");
            assert!(n < 10_010, "but not for longer");
            return;
        }
    }
    panic!("job 1 never went");
}

/// Queues get the same share of slots, and one that was away does not catch up.
#[test]
fn queues_share_evenly() {
    let mut ready = Ready::default();
    let shape = Shape { slots: 1, ..Shape::default() };
    let classes: Vec<ClassId> = (0..3).map(|n| ready.class(QueueId(n), 0, &shape)).collect();
    let mut served = [0_u32; 3];
    for (n, class) in classes.iter().enumerate().take(2) {
        ready.insert(*class, JobId(n as u64));
    }
    for round in 0..900 {
        if round == 300 {
            ready.insert(classes[2], JobId(2));
        }
        let queue = ready.queues().next().expect("something is ready");
        served[queue.0 as usize] += 1;
        ready.served(classes[queue.0 as usize], JobId(u64::from(queue.0)), 1, 1);
    }
    assert!(served[0].abs_diff(served[1]) <= 2, "{served:?}");
    assert!(served[2].abs_diff(200) <= 2, "{served:?}");
}
