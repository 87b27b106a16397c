//! Options of `taskq map` that were typed where they belong to the command or to its values. A program may have an
//! option of the same name, so only what can hardly be meant is refused, and nothing that follows a `--`.

use std::ffi::OsString;

use crate::exit::Failure;

/// Refuses an option among the values, or behind a template that is a whole command line in one word.
/// `typed` is the whole command line.
pub(super) fn check(typed: &[OsString], words: &[OsString]) -> anyhow::Result<()> {
    if follows_dashes(typed, words) {
        return Ok(());
    }
    match suspicious(words, &options()) {
        Some((option, place)) => Err(Failure::usage(format!("{option} stands {place}{}", advice(&option)))),
        None => Ok(()),
    }
}

/// What to add to another error, if an option may be its reason.
pub(super) fn hint(words: &[OsString]) -> Option<String> {
    let options = options();
    let option = words.iter().skip(1).find_map(|word| option(word, &options))?;
    Some(format!("\n  {option} stands behind the template and was left to the command{}", advice(&option)))
}

fn advice(option: &str) -> String {
    format!(
        "; put options of taskq before the template, as in: taskq map {option} ... -- TEMPLATE ::: VALUES\n  \
         if it is meant for the command, put -- before the template"
    )
}

fn suspicious(words: &[OsString], options: &[String]) -> Option<(String, &'static str)> {
    let mark = words.iter().position(|word| word == ":::" || word == "::::").unwrap_or(words.len());
    let (template, values) = words.split_at(mark);
    if let Some(found) = values.iter().find_map(|word| option(word, options)) {
        return Some((found, "among the values"));
    }
    let (line, rest) = template.split_first()?;
    if !line.to_string_lossy().trim().contains(char::is_whitespace) {
        return None;
    }
    rest.iter().find_map(|word| option(word, options)).map(|found| (found, "behind the template"))
}

/// `--joblog` of `--joblog` and of `--joblog=FILE`, if there is such an option.
fn option(word: &OsString, options: &[String]) -> Option<String> {
    let word = word.to_str()?.strip_prefix("--")?;
    let name = word.split_once('=').map_or(word, |(name, _)| name);
    options.iter().find(|option| *option == name).map(|option| format!("--{option}"))
}

/// True if the command line ends in `--` and these words.
fn follows_dashes(typed: &[OsString], words: &[OsString]) -> bool {
    typed.strip_suffix(words).and_then(|before| before.last()).is_some_and(|last| last == "--")
}

fn options() -> Vec<String> {
    let taskq = crate::args::command();
    let map = taskq.find_subcommand("map").into_iter().flat_map(clap::Command::get_arguments);
    map.chain(taskq.get_arguments()).filter_map(|arg| arg.get_long()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &[&str]) -> Vec<OsString> {
        text.iter().map(OsString::from).collect()
    }

    #[test]
    fn what_can_hardly_be_meant_is_found() {
        let options = options();
        let found = |text: &[&str]| suspicious(&words(text), &options).map(|(option, _)| option);
        assert_eq!(found(&["echo", ":::", "a", "--joblog", "x"]).as_deref(), Some("--joblog"));
        assert_eq!(found(&["echo", ":::", "a", "--retries=3"]).as_deref(), Some("--retries"));
        assert_eq!(found(&["echo {}", "--array", "1-9"]).as_deref(), Some("--array"));
        assert_eq!(found(&["rg", "--json", "{}", ":::", "a"]), None, "a program's own option");
        assert_eq!(found(&["echo", ":::", "-n", "--unknown"]), None, "values may look like options");
    }

    #[test]
    fn what_follows_dashes_is_literal() {
        let typed = words(&["taskq", "map", "--", "echo", ":::", "--zip"]);
        assert!(follows_dashes(&typed, &typed[3..]));
        assert!(!follows_dashes(&typed, &typed[4..]));
        assert!(!follows_dashes(&typed[3..], &typed[3..]));
    }
}
