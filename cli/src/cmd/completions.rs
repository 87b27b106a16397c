//! `taskq completions`: a completion script for a shell.

use clap_complete::Shell;

use crate::context::Context;
use crate::exit::Exit;
use crate::output;

/// Print a completion script for a shell
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    taskq completions bash > ~/.local/share/bash-completion/completions/taskq\n  \
    taskq completions fish > ~/.config/fish/completions/taskq.fish\n  \
    taskq completions zsh > \"${fpath[1]}/_taskq\"")]
pub(crate) struct Args {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) async fn run(args: Args, _context: &Context) -> anyhow::Result<Exit> {
    // The generator panics when its writer fails, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::args::command(), "taskq", &mut script);
    let mut out = output::Out::new();
    out.bytes(&script).and_then(|()| out.flush()).map_err(|cause| output::stdout_failed(&cause))?;
    Ok(Exit::Ok)
}
