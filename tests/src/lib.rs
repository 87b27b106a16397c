//! The harness of taskq's whole-system tests: real binaries as real processes, driven from outside.
//!
//! Reading order: [`Cluster`] is what a test starts with; [`Taskq`] runs the command line against it; [`Api`] speaks
//! gRPC where a test needs more than the command line says; [`wait`] is the only way in which a test waits.
//! [`Ledger`] counts what tasks really did, [`Manager`] is told what systemd would be, [`notes`] makes the calls that write
//! into the ledger, [`procs`] looks at processes, [`Disk`] makes file systems to break, [`http`] speaks HTTP/1 and reads metrics,
//! [`FakeWorker`] speaks the worker protocol without running anything, [`Proxy`] is a cable that can be pulled or go dead in silence,
//! [`Hosts`] is a network of machines of their own.
//!
//! The harness knows the system only through its command lines, its files and its wire contract.

pub mod api;
pub mod binaries;
pub mod cluster;
pub mod daemon;
pub mod disk;
pub mod fake_worker;
pub mod h2raw;
pub mod hosts;
pub mod http;
pub mod ledger;
pub mod load;
pub mod manager;
pub mod need;
pub mod notes;
pub mod procs;
pub mod proxy;
pub mod seed;
pub mod spec;
pub mod taskq;
pub mod wait;

pub use api::Api;
pub use cluster::{Access, Cluster, Setup};
pub use daemon::Daemon;
pub use disk::Disk;
pub use fake_worker::FakeWorker;
pub use hosts::{Host, Hosts};
pub use http::Exposition;
pub use ledger::Ledger;
pub use manager::Manager;
pub use proxy::Proxy;
pub use seed::Seed;
pub use taskq::{Run, Taskq};
