//! The commands, one file each: `struct Args`, whose comments are the manual, and `run`.

pub(crate) mod call;
pub(crate) mod run;
pub(crate) mod submit;

pub(crate) mod map;

pub(crate) mod wait;

pub(crate) mod explain;
pub(crate) mod logs;
pub(crate) mod ls;
pub(crate) mod result;
pub(crate) mod show;
pub(crate) mod tasks;

pub(crate) mod cancel;
pub(crate) mod pause;
pub(crate) mod resume;
pub(crate) mod retry;
pub(crate) mod rm;

pub(crate) mod bench;
pub(crate) mod queue;
pub(crate) mod stats;
pub(crate) mod up;
pub(crate) mod worker;

pub(crate) mod completions;
pub(crate) mod man;
pub(crate) mod version;
