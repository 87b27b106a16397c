//! `taskq version`: of this program; asks no coordinator.

use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::output;

/// Print the version of this program
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  taskq version\n  taskq version --json\n  taskq stats        (the coordinator's version)"
)]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Version {
    name: &'static str,
    version: &'static str,
}

pub(crate) async fn run(Args {}: Args, context: &Context) -> anyhow::Result<Exit> {
    let view = Version { name: "taskq", version: env!("CARGO_PKG_VERSION") };
    output::one(&context.screen, "taskq.v1.version", &view, &[format!("taskq {}", view.version)])?;
    Ok(Exit::Ok)
}
