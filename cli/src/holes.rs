//! Gaps in output that is shown: each is told where it is, and none is passed over, for the exit code tells of it too.

use taskq_client::model::Stream;

use crate::context::eprint_line;
use crate::exit::Exit;

/// How many gaps are told one by one.
const TOLD: u64 = 10;

/// The gaps that one command has met.
#[derive(Debug)]
pub(crate) struct Holes {
    /// Gaps in these streams count for the exit code: they are what the command is there to give.
    data: &'static [Stream],
    met: u64,
    bytes: u64,
}

impl Holes {
    /// None yet.
    pub(crate) fn new(data: &'static [Stream]) -> Holes {
        Holes { data, met: 0, bytes: 0 }
    }

    /// At the place where the output of a task goes on, this many bytes of it are missing.
    pub(crate) fn met(&mut self, job: u64, index: u32, stream: Stream, bytes: u64) {
        self.met += 1;
        if self.data.contains(&stream) {
            self.bytes += bytes;
        }
        let name = match stream {
            Stream::Stdout => "output",
            Stream::Stderr => "error",
        };
        if self.met <= TOLD {
            eprint_line(&format!(
                "taskq: {bytes} bytes of standard {name} of task {job}.{index} are missing here (see --output-limit)"
            ));
        }
    }

    /// The last word on them, and the exit code: what is not whole never ends with 0.
    pub(crate) fn over(&self, exit: Exit) -> Exit {
        if self.met > TOLD {
            eprint_line(&format!("taskq: ... and in {} more places", self.met - TOLD));
        }
        if self.bytes == 0 {
            return exit;
        }
        eprint_line(&format!(
            "error: the output is not whole: {} bytes are missing; they were more than --output-limit keeps (a higher one: \
             --output-limit 10G), or the coordinator's disk was full (its log says so)",
            self.bytes
        ));
        if exit == Exit::Ok { Exit::InputOutput } else { exit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_in_the_data_is_never_a_success() {
        let mut holes = Holes::new(&[Stream::Stdout]);
        assert_eq!(holes.over(Exit::Ok), Exit::Ok);
        holes.met(1, 0, Stream::Stderr, 5);
        assert_eq!(holes.over(Exit::Ok), Exit::Ok, "messages are not the data");
        holes.met(1, 0, Stream::Stdout, 5);
        assert_eq!(holes.over(Exit::Ok), Exit::InputOutput);
        assert_eq!(holes.over(Exit::Task(3)), Exit::Task(3), "the program's own failure says more");
    }
}
