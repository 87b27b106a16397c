//! The worker as its coordinator and its machine see it: the real binary against a coordinator that does what the
//! test says.

mod blobs;
mod calls;
mod children;
mod coordinator;
mod embed;
mod liars;
mod link;
mod run;
mod trees;
mod values;
