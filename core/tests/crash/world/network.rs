//! What workers and the network do: messages that are late, lost, doubled, and sessions that break.

use super::*;

impl World {
    pub(super) fn with_worker(&mut self, f: impl FnOnce(&mut Worker, &mut World)) {
        if self.workers.is_empty() {
            return;
        }
        let at = self.rng.below(self.workers.len() as u64) as usize;
        let mut worker = self.workers.swap_remove(at);
        f(&mut worker, self);
        self.workers.push(worker);
    }

    /// Some of what the coordinator sent arrives.
    pub(super) fn deliver(&mut self) {
        let now = Timestamp(self.now);
        self.with_worker(|worker, world| {
            for _ in 0..1 + world.rng.below(4) {
                let Link::Up { down, cut: false, .. } = &mut worker.link else { return };
                let Some(effect) = down.pop_front() else { return };
                worker.receive(effect, now, &mut world.audit);
            }
        });
        self.workers.retain(|worker| !worker.dead);
    }

    /// Some of what a worker sent arrives.
    pub(super) fn uplink(&mut self) {
        self.with_worker(|worker, world| {
            for _ in 0..1 + world.rng.below(3) {
                let Link::Up { up, cut: false, .. } = &mut worker.link else { return };
                let Some(event) = up.pop_front() else { return };
                world.step(event);
            }
        });
    }

    pub(super) fn work(&mut self) {
        self.with_worker(|worker, world| {
            worker.start(&world.policies, &mut world.audit);
            worker.finish(&mut world.rng, &world.policies, world.calm);
            worker.flush();
            if worker.draining {
                worker.leave();
            }
        });
    }

    pub(super) fn connect(&mut self) {
        let name = NAMES[self.rng.below(3) as usize];
        self.next += 1;
        let next = self.next;
        match self.workers.iter_mut().find(|worker| *worker.name == *name) {
            Some(worker) if matches!(worker.link, Link::Down) => worker.connect(SessionId(next)),
            Some(_) => {}
            None => {
                let mut worker = Worker::new(WorkerId(next), name, &mut self.rng, Timestamp(self.now));
                worker.connect(SessionId(next));
                self.workers.push(worker);
            }
        }
    }

    /// A connection breaks: what is under way is lost, or comes late.
    pub(super) fn disconnect(&mut self) {
        self.with_worker(|worker, world| {
            let link = std::mem::replace(&mut worker.link, Link::Down);
            let Link::Up { session, up, .. } = link else { return };
            let arrive = world.rng.below(up.len() as u64 + 1) as usize;
            for event in up.into_iter().take(arrive) {
                world.later(event);
            }
            world.later(Event::Disconnected { session });
        });
    }

    pub(super) fn later(&mut self, event: Event) {
        if self.rng.one_in(2) && self.limbo.is_empty() {
            self.step(event);
        } else {
            self.limbo.push(event);
        }
    }

    /// A message of a broken connection comes after all.
    pub(super) fn limbo(&mut self) {
        if !self.limbo.is_empty() {
            let event = self.limbo.remove(0);
            self.step(event);
        }
    }

    pub(super) fn mishap(&mut self) {
        if self.calm {
            return;
        }
        match self.rng.below(6) {
            // Killed: all that it ran is gone, and somebody may say so.
            0 | 1 => self.with_worker(|worker, world| {
                worker.dead = true;
                world.graves.push(worker.id);
                if let Some(session) = worker.session() {
                    world.later(Event::Disconnected { session });
                }
            }),
            2 => {
                if let Some(&worker) = self.rng.pick(&self.graves) {
                    let request = self.request(Asked::Other);
                    self.step(Event::Bury { request, worker });
                }
            }
            // Cut off: neither side notices for a while.
            3 | 4 => self.with_worker(|worker, _| {
                if let Link::Up { cut, .. } = &mut worker.link {
                    *cut = true;
                }
            }),
            _ => {
                let name = Arc::from(NAMES[self.rng.below(3) as usize]);
                let request = self.request(Asked::Other);
                self.step(Event::Drain { request, name });
            }
        }
        self.workers.retain(|worker| !worker.dead);
    }
}
