//! Quoting, judged by a real `sh`; and what holds for any template.

use proptest::prelude::*;
use std::process::Command;
use taskq_template::{Template, Values};

fn script(text: &str, value: &[u8]) -> Vec<u8> {
    let template = Template::parse(&[text.to_owned()], true, &[String::new()]).expect("a good script");
    let values = Values { job: 1, index: 0, attempt: 1, slot: 0, worker: "w", fields: &[value] };
    template.expand(&values).concat()
}

fn sh(script: Vec<u8>) -> Vec<u8> {
    use std::os::unix::ffi::OsStringExt;
    let script = std::ffi::OsString::from_vec(script);
    let done = Command::new("sh").arg("-c").arg(script).output().expect("sh runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

/// Scripts that print the value and nothing else, however it is quoted.
const PRINTERS: [&str; 10] = [
    "printf %s",
    "printf %s {}",
    "printf %s '{}'",
    "printf %s \"{}\"",
    "# it's a comment\nprintf %s {} # \"{}",
    "printf %s \"$(printf '%s.' {})\" | sed '$s/\\.$//'",
    "printf %s \"$(printf '%s.' \"{}\")\" | sed '$s/\\.$//'",
    "x={}; printf %s \"$x\"",
    "(printf %s \"\"{}'')",
    "printf %s \"\\\"{}\" | tail -c +2",
];

#[test]
fn nasty_values_arrive_whole() {
    for value in [
        "", " ", "a b", "'", "\"", "$(id)", "`id`", "\\", "\\'", "a\nb", "*", "~", "-n", "!x", "#", "; id",
        "é",
    ] {
        for printer in PRINTERS {
            // sed adds nothing, but drops an empty last line.
            assert_eq!(sh(script(printer, value.as_bytes())), value.as_bytes(), "{printer} with {value:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_arrive_whole(value in prop::collection::vec(1_u8..=255, 0..24), which in 0..5_usize) {
        prop_assert_eq!(sh(script(PRINTERS[which], &value)), value);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Without sources nothing but the five facts of a run is ever touched.
    #[test]
    fn text_without_sources_is_kept(text in "[a-z${} .,/1'\"]{1,24}") {
        prop_assume!(!text.trim().is_empty());
        let template = Template::parse(std::slice::from_ref(&text), false, &[]).expect("never refused");
        let values = Values::<&[u8]> { job: 1, index: 0, attempt: 1, slot: 0, worker: "w", fields: &[] };
        prop_assume!(!["{job}", "{attempt}", "{worker}"].iter().any(|name| text.contains(name)));
        prop_assert_eq!(template.expand(&values), vec![text.into_bytes()]);
    }

    /// Values are never read as templates themselves, and no input makes the parser panic.
    #[test]
    fn values_are_inert(text in "[a{}.#%/$1]{1,16}", value in "[{}1#]{0,8}") {
        let columns = [String::new()];
        if let Ok(template) = Template::parse(std::slice::from_ref(&text), false, &columns) {
            let with = |value: &str| {
                let fields = [value.as_bytes()];
                template.expand(&Values { job: 1, index: 0, attempt: 1, slot: 0, worker: "w", fields: &fields })
            };
            let (marked, filled) = (with("@"), with(&value));
            if !text.contains(['.', '/']) {
                let replaced: Vec<Vec<u8>> = marked
                    .into_iter()
                    .map(|arg| String::from_utf8(arg).expect("text").replace('@', &value).into_bytes())
                    .collect();
                prop_assert_eq!(filled, replaced);
            }
        }
    }

    /// A literal in doubled braces comes out single, whatever surrounds it.
    #[test]
    fn escapes_undo_placeholders(before in "[a-z ]{0,8}", inner in "(|\\.|/|1|name|#|job)", after in "[a-z ]{0,8}") {
        let text = format!("x{before}{{{{{inner}}}}}{after}");
        let columns = ["name".to_owned()];
        let template = Template::parse(&[text], false, &columns).expect("nothing to refuse");
        let values = Values { job: 1, index: 0, attempt: 1, slot: 0, worker: "w", fields: &[b"v".as_slice()] };
        prop_assert!(!template.uses_placeholders());
        prop_assert_eq!(&template.expand(&values)[0], &format!("x{before}{{{inner}}}{after}").into_bytes());
    }
}
