//! Names that are like one that nobody serves: what was meant, perhaps.

use std::collections::BTreeSet;

use taskq_client::model::Worker;

/// How many are named.
const NAMED: usize = 5;
/// So many letters may be wrong, missing, too many or in each other's place.
const SLIPS: usize = 2;

/// Functions that workers serve and whose names are like this one, the most alike first.
pub(crate) fn functions(wanted: &str, workers: &[Worker]) -> Vec<String> {
    let served: BTreeSet<&str> =
        workers.iter().flat_map(|worker| &worker.functions).map(|function| function.name.as_str()).collect();
    let mut alike: Vec<(usize, &str)> =
        served.into_iter().filter_map(|name| Some((distance(wanted, name)?, name))).collect();
    alike.sort_unstable();
    alike.into_iter().take(NAMED).map(|(_, name)| name.to_owned()).collect()
}

/// How much two names differ; `None` if they are not alike. A name may also be a part of the other, as `echo` of
/// `child.echo`.
fn distance(wanted: &str, name: &str) -> Option<usize> {
    let (wanted, name) = (wanted.to_lowercase(), name.to_lowercase());
    let slips = slips(wanted.as_bytes(), name.as_bytes());
    // Of a very short name a slip leaves nothing.
    if slips <= SLIPS && slips < wanted.len().min(name.len()) {
        return Some(slips);
    }
    let shorter = wanted.len().min(name.len());
    let part = shorter > 2 && (wanted.contains(&name) || name.contains(&wanted));
    part.then_some(SLIPS + wanted.len().abs_diff(name.len()))
}

/// The least number of letters to change, add or leave out that makes one word of the other.
fn slips(one: &[u8], other: &[u8]) -> usize {
    let mut above: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in one.iter().enumerate() {
        let mut here = vec![row + 1];
        for (column, its) in other.iter().enumerate() {
            let changed = above[column] + usize::from(letter != its);
            here.push(changed.min(above[column + 1] + 1).min(here[column] + 1));
        }
        above = here;
    }
    above[other.len()]
}

#[cfg(test)]
mod tests {
    use taskq_client::model::Function;

    use super::*;

    #[test]
    fn what_was_meant_comes_first() {
        let of = |names: &[&str]| {
            let function = |name: &&str| Function { name: (*name).to_owned(), ..Function::default() };
            Worker { functions: names.iter().map(function).collect(), ..Worker::default() }
        };
        let workers = [of(&["echo", "child.echo", "primes", "fetch"]), of(&["echo", "f"])];
        assert_eq!(functions("ecoh", &workers), ["echo"]);
        assert_eq!(functions("Echo", &workers), ["echo", "child.echo"]);
        assert_eq!(functions("prime", &workers), ["primes"]);
        assert_eq!(functions("g", &workers), [""; 0], "one wrong letter of one is another name");
        assert_eq!(functions("nobodys", &workers), [""; 0]);
    }
}
