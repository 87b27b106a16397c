//! `taskq man`: the manual of all three programs, made of the same texts as `--help`.

use std::path::{Path, PathBuf};

use clap::CommandFactory as _;

use crate::context::Context;
use crate::exit::{ATTACHED, Exit, Failure, TABLE};

/// Write the manual pages into a directory
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  taskq man ~/.local/share/man/man1    (then: man taskq-submit)\n\n\
    The pages that end in .8, of taskq-server and taskq-worker, belong into man8 beside it.")]
pub(crate) struct Args {
    /// Where to; it is created if it does not exist
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub(crate) async fn run(args: Args, context: &Context) -> anyhow::Result<Exit> {
    let fail = |cause: std::io::Error| {
        Failure::io(format!("cannot write the manual to {}", args.dir.display()), &cause)
    };
    std::fs::create_dir_all(&args.dir).map_err(fail)?;
    clap_mangen::generate_to(crate::args::command(), &args.dir).map_err(fail)?;
    for mut daemon in [taskq_server::config::Args::command(), taskq_worker::Args::command()] {
        daemon.build();
        daemon_pages(&daemon, &args.dir).map_err(fail)?;
    }
    std::fs::write(args.dir.join("taskq-exit-codes.1"), exit_codes()).map_err(fail)?;
    context.say(&format!("manual pages are in {}", args.dir.display()));
    Ok(Exit::Ok)
}

/// Of a daemon and its commands: in section 8, for `taskq-worker(1)` is the command `taskq worker`.
fn daemon_pages(command: &clap::Command, dir: &Path) -> std::io::Result<()> {
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        daemon_pages(command, dir)?;
    }
    clap_mangen::Man::new(command.clone()).section("8").generate_to(dir).map(drop)
}

/// A page of its own for the table: scripts depend on it.
fn exit_codes() -> String {
    let mut page = String::from(
        ".TH taskq-exit-codes 1\n.SH NAME\ntaskq\\-exit\\-codes \\- what the exit codes of taskq mean\n.SH \"EXIT STATUS\"\n",
    );
    page.push_str(&format!("{}\n", ATTACHED.replace('-', "\\-")));
    for (code, meaning) in TABLE {
        let meaning = meaning.replace('\\', "\\\\").replace('-', "\\-");
        page.push_str(&format!(".TP\n.B {code}\n{meaning}\n"));
    }
    page
}
