//! What templates become, as their users see it.

use taskq_template::{Problem, Template, Values};

fn words(text: &[&str]) -> Vec<String> {
    text.iter().map(|word| (*word).to_owned()).collect()
}

fn filled(argv: &[&str], shell: bool, columns: &[&str], fields: &[&[u8]]) -> Vec<String> {
    let template = Template::parse(&words(argv), shell, &words(columns)).expect("a good template");
    let values = Values { job: 42, index: 6, attempt: 2, slot: 3, worker: "w1", fields };
    template.expand(&values).into_iter().map(|arg| String::from_utf8(arg).expect("text")).collect()
}

#[test]
fn every_placeholder() {
    let argv = ["{}|{.}|{/}|{//}|{/.}", "{#}-{%}-{job}-{attempt}-{worker}", "{1}{1.}{1/}{1//}{1/.}"];
    let wanted = ["a/b.c|a/b|b.c|a|b", "7-3-42-2-w1", "a/b.ca/bb.cab"];
    assert_eq!(filled(&argv, false, &[""], &[b"a/b.c"]), wanted);
    let argv = ["{size}", "{file/.}", "{2}", "{user.id}", "{File Name}"];
    let columns = ["file", "size", "user.id", "File Name"];
    assert_eq!(filled(&argv, false, &columns, &[b"d/x.y", b"9", b"u7", b"n"]), ["9", "x", "9", "u7", "n"]);
}

#[test]
fn several_columns_at_once() {
    let fields: [&[u8]; 2] = [b"a b", b"c"];
    assert_eq!(filled(&["echo", "{}", "[{}]"], false, &["", ""], &fields), ["echo", "a b", "c", "[a b c]"]);
    assert_eq!(filled(&["echo"], false, &["", ""], &fields), ["echo", "a b", "c"]);
    assert_eq!(filled(&["echo {}"], true, &["", ""], &fields), ["echo 'a b' 'c'"]);
}

#[test]
fn foreign_braces_stay() {
    let argv = [
        "awk",
        "{print $1}",
        "{\"a\": {\"b\": [1]}}",
        "{a,b}",
        "x{2,3}",
        "${HOME}/${1}",
        "{{.Names}}",
        "{{ x }}",
        "{",
        "}",
        "{{",
        "}}",
        "{1..3}",
        "{a:1}",
        "{é",
        "}{",
    ];
    assert_eq!(filled(&argv, false, &[], &[]), argv);
    let mut with_item = argv.to_vec();
    with_item.push("item");
    assert_eq!(filled(&argv, false, &[""], &[b"item"]), with_item);
}

#[test]
fn without_sources_only_facts_of_the_run_are_filled() {
    let argv = [
        "find",
        "-exec",
        "rm",
        "{}",
        ";",
        "{1}",
        "{foo}",
        "{{foo}}",
        "{job}.{attempt}.{worker}.{#}.{%}",
        "{{job}}",
    ];
    let wanted = ["find", "-exec", "rm", "{}", ";", "{1}", "{foo}", "{{foo}}", "42.2.w1.7.3", "{job}"];
    assert_eq!(filled(&argv, false, &[], &[]), wanted);
}

#[test]
fn doubled_braces_are_literal() {
    let argv = ["{{}}", "{{1}}", "{{{}}}", "{{{{}}}}", "{\"f\":{\"n\":{}}}", "{{}", "{{nope}}", "{}{}"];
    let wanted = ["{}", "{1}", "{x}", "{{}}", "{\"f\":{\"n\":x}}", "{x", "{nope}", "xx"];
    assert_eq!(filled(&argv, false, &[""], &[b"x"]), wanted);
}

#[test]
fn a_column_hides_a_fixed_name() {
    assert_eq!(filled(&["{job}", "{worker}"], false, &["job"], &[b"baker"]), ["baker", "w1"]);
}

#[test]
fn mistakes_are_named() {
    let fail = |argv: &[&str], shell, columns: &[&str]| {
        Template::parse(&words(argv), shell, &words(columns)).expect_err("a bad template")
    };
    let error = fail(&["convert", "in/{fiel}.png"], false, &["file", "size"]);
    assert_eq!((error.argument, error.byte, error.problem), (1, 3, Problem::UnknownName));
    assert_eq!(
        error.to_string(),
        "unknown placeholder {fiel} in argument 2 at byte 3; did you mean {file}?; for literal braces write {{fiel}}"
    );
    assert!(fail(&["x", "{zzzzzz}"], false, &["file"]).suggestion.starts_with("known are {file} {} {1}"));
    assert_eq!(fail(&["x", "{3}"], false, &["", ""]).problem, Problem::NoSuchColumn);
    assert_eq!(fail(&["x", "{0}"], false, &[""]).problem, Problem::NoSuchColumn);
    assert_eq!(fail(&["x", "{99999999999999999999999}"], false, &[""]).problem, Problem::NoSuchColumn);
    assert_eq!(fail(&[], false, &[]).problem, Problem::Empty);
    assert_eq!(fail(&[" "], false, &[]).problem, Problem::Empty);
    assert_eq!(fail(&["a", "b"], true, &[]).problem, Problem::NotOneScript);
    assert_eq!(fail(&["a", "b\0"], false, &[]).problem, Problem::Nul);
    for script in
        ["echo `cat {}`", "cat <<E\n{}\nE", "echo \\{}", "echo $'{}'", "\"$(case x in x) echo {};; esac)\""]
    {
        assert_eq!(fail(&[script], true, &[""]).problem, Problem::Unquotable, "{script}");
    }
    for script in ["echo '", "echo hi;", "echo # no", "( echo"] {
        assert_eq!(fail(&[script], true, &[""]).problem, Problem::CannotAppend, "{script}");
    }
}

#[test]
fn bytes_that_are_not_text_pass() {
    let template = Template::parse(&words(&["cat", "{}"]), false, &words(&[""])).expect("a good template");
    let values =
        Values { job: 1, index: 0, attempt: 1, slot: 0, worker: "", fields: &[[0xff, 0xfe].as_slice()] };
    assert_eq!(template.expand(&values), [b"cat".to_vec(), vec![0xff, 0xfe]]);
}
