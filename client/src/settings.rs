//! What can be said of a job besides what it runs, for everything that makes calls: the words of
//! [`JobBuilder`](crate::JobBuilder), which says what they mean.

/// The methods, for a type with `fn change(self, impl FnOnce(JobBuilder) -> JobBuilder) -> Self`. The type says
/// `#[must_use]` itself.
macro_rules! settings {
    () => {
        /// For people. Default: the function.
        pub fn name(self, name: impl Into<String>) -> Self {
            self.change(|job| job.name(name))
        }

        /// Default: `default`.
        pub fn queue(self, queue: impl Into<String>) -> Self {
            self.change(|job| job.queue(queue))
        }

        /// For filters.
        pub fn label(self, key: impl Into<String>, value: impl Into<String>) -> Self {
            self.change(|job| job.label(key, value))
        }

        /// Higher goes first, -1000 to 1000. Default: 0.
        pub fn priority(self, priority: i32) -> Self {
            self.change(|job| job.priority(priority))
        }

        /// How many slots of a worker the call takes: `--cpus` or `--slots` of `taskq`. Default: 1.
        pub fn slots(self, slots: u32) -> Self {
            self.change(|job| job.slots(slots))
        }

        /// An amount of something that a worker offers by name, such as `gpu`: `--res NAME=COUNT` of `taskq`, and what workers
        /// have with `--resource` of `taskq-worker`.
        pub fn resource(self, name: impl Into<String>, amount: u64) -> Self {
            self.change(|job| job.resource(name, amount))
        }

        /// A label that a worker must have: `--on KEY=VALUE` of `taskq`, and `--label` of `taskq-worker`. (`label` is for
        /// filters of jobs.)
        pub fn worker_label(self, key: impl Into<String>, value: impl Into<String>) -> Self {
            self.change(|job| job.worker_label(key, value))
        }

        /// The most that one attempt may take, from its start: waiting for a worker is not counted. Default: no limit.
        pub fn timeout(self, timeout: std::time::Duration) -> Self {
            self.change(|job| job.timeout(timeout))
        }

        /// Between the moment when a call is told to stop and the one when it is dropped, killed or left to itself.
        /// Default: 1 s.
        pub fn kill_grace(self, grace: std::time::Duration) -> Self {
            self.change(|job| job.kill_grace(grace))
        }

        /// How many lost workers a call may see before it fails. Default: 3.
        pub fn crash_limit(self, losses: u32) -> Self {
            self.change(|job| job.crash_limit(losses))
        }

        /// How often a failed call is made again, unless its error is fatal. Default: 0.
        pub fn retries(self, retries: u32) -> Self {
            self.change(|job| job.retries(retries))
        }

        /// The pause before a second attempt, its growth with each further one (1 to 1000), and its limit; without `retries`
        /// there is none. `--backoff exp:1s..5m` of `taskq` is 1 s, 2, 300 s, which is the default; `fixed:10s` is 10 s, 1,
        /// 10 s. All but those that grow by 1 are varied by up to a half.
        pub fn backoff(self, first: std::time::Duration, multiplier: f64, most: std::time::Duration) -> Self {
            self.change(|job| job.backoff(first, multiplier, most))
        }

        /// How long the ended job is kept, with its value and output. Default: the coordinator's.
        pub fn keep(self, time: std::time::Duration) -> Self {
            self.change(|job| job.keep(time))
        }

        /// The most output that is kept of each stream of an attempt. Default: 1 MiB.
        pub fn output_limit(self, bytes: u64) -> Self {
            self.change(|job| job.output_limit(bytes))
        }
    };
}

pub(crate) use settings;
