//! Groups whose spawner is gone: it was killed together with its worker, so that nobody was left to remove them. Their
//! names say whose they were; what runs in them still is nobody's, and is killed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tracing::{info, warn};

use super::{Places, group};
use crate::spawner::proc;

/// How often a group is tried whose processes are just ending.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);
/// When a worker looks again: by then a spawner that was killed just before the worker's start is gone.
const AGAIN: Duration = Duration::from_secs(5);

/// Removes the groups of dead spawners. Blocks for a second at most, and only if there is something to kill.
pub(crate) fn sweep(places: &Places) {
    for folder in places.folders() {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        let left = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_left_over(path));
        left.for_each(|group| end(&group));
    }
}

/// The same once more, a while after the start.
pub(crate) async fn sweep_again(places: Places) {
    tokio::time::sleep(AGAIN).await;
    // It ends with the runtime.
    let _ = tokio::task::spawn_blocking(move || sweep(&places)).await;
}

fn is_left_over(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some(rest) = name.strip_prefix(group::PREFIX) else { return false };
    let parts: Vec<&str> = rest.split('-').collect();
    let &[namespace, spawner, start, _] = &parts[..] else { return false };
    let (Ok(spawner), Ok(start)) = (spawner.parse::<i32>(), start.parse::<u64>()) else { return false };
    // Numbers of another container mean nothing here.
    namespace == format!("{:x}", group::namespace())
        && proc::stat(spawner).is_none_or(|stat| stat.has_ended || stat.start != start)
}

fn end(folder: &Path) {
    for _ in 0..TRIES {
        group::kill(folder);
        match group::remove(folder) {
            Ok(()) => {
                info!(group = %folder.display(), "removed what a worker that was killed had left");
                return;
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
    warn!(group = %folder.display(), "a control group of a worker that was killed cannot be removed");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_dead_spawner_has_made_is_left_over() {
        let own = std::process::id().cast_signed();
        let alive = group::name(own, 7);
        let parts: Vec<&str> = alive.split('-').collect();
        let earlier = format!("{}-{}-{}-1-7", parts[0], parts[1], parts[2]);
        assert!(!is_left_over(Path::new(&alive)), "{alive}");
        assert!(is_left_over(Path::new(&earlier)), "{earlier}: another process of that number");
        let elsewhere = format!("taskq-1-{own}-1-7");
        for other in [elsewhere.as_str(), "taskq-main", "taskq-1", "system.slice", "taskq-a-b-c-d"] {
            assert!(!is_left_over(Path::new(other)), "{other}");
        }
    }
}
