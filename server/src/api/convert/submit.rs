//! What a client submits: checked against every limit that `jobs.proto` names, and turned into what the core
//! schedules and the store keeps.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use prost::Message as _;
use roaring::RoaringBitmap;
use sha2::{Digest as _, Sha256};
use taskq_core::{
    id::{JobId, Millis},
    job::{CRASH_LIMIT, Key, Limits, NewJob, Policy, Retry, Shape},
};
use taskq_proto::STDIN_BYTES;
use taskq_proto::v1::{self as pb, source::Values};
use taskq_template::Template;

use super::{call, indices, limits};
use crate::{api::status::Invalid, elements::Elements};

/// Jobs in one request.
pub const JOBS: usize = 10_000;
/// Standard input and element values that travel inside a job.
const INLINE_BYTES: usize = 64 << 10;
/// Arguments and environment together: the kernel's own limit is 2 MiB.
const COMMAND_BYTES: usize = 1 << 20;
const LABELS: usize = 64;
const TEXT_BYTES: usize = 256;
const PRIORITY: i32 = 1_000;
const OUTPUT_DEFAULT: u64 = 1 << 20;
const GRACE_DEFAULT: u64 = 10_000;
const CALL_GRACE_DEFAULT: u64 = 1_000;
const BACKOFF_DEFAULT: u64 = 1_000;
const BACKOFF_MOST: u64 = 300_000;
/// Ten years: longer spans are a mistake in the unit.
const SPAN_MOST: u64 = 315_360_000_000;
const DEFAULT_QUEUE: &str = "default";

/// A checked job.
///
/// # Errors
/// Names the first field that is wrong, and what it must be.
pub fn job(mut spec: pb::JobSpec, blob: &dyn Fn(&pb::Blob) -> Option<Bytes>) -> Result<NewJob, Invalid> {
    let default_name = match (&spec.command, &mut spec.call) {
        (Some(command), None) => {
            check_command(command, blob).map_err(|error| error.within("command"))?;
            default_name(command)
        }
        (None, Some(call)) => {
            call::check(call, spec.elements.as_ref(), blob).map_err(|error| error.within("call"))?;
            call.function.clone()
        }
        (Some(_), Some(_)) => return Err(Invalid::new("call", "a command is given as well")),
        (None, None) => return Err(Invalid::new("command", "is missing, and so is call")),
    };
    check_texts(&spec)?;
    let (total, only, columns) = elements(&spec, blob).map_err(|error| error.within("elements"))?;
    if let Some(command) = &spec.command {
        Template::parse(&command.argv, command.shell, &columns)
            .map_err(|error| Invalid::new("command.argv", error.to_string()))?;
    }
    let limits = limits::check(&spec).map_err(|error| error.within("limits"))?;
    let mut policy = policy(&spec)?;
    policy.shape.limits = limits;
    let key = key(&spec)?;
    if spec.name.is_empty() {
        spec.name = default_name;
    }
    Ok(NewJob { policy, total, only, key, rerun_of: None, spec: spec.encode_to_vec().into() })
}

/// The same job again, for these of its tasks.
///
/// # Errors
/// If the stored specification does not pass the checks of this version.
pub fn rerun(
    stored: &Bytes,
    of: JobId,
    only: &RoaringBitmap,
    blob: &dyn Fn(&pb::Blob) -> Option<Bytes>,
) -> Result<NewJob, Invalid> {
    let mut spec =
        pb::JobSpec::decode(stored.clone()).map_err(|error| Invalid::new("job", error.to_string()))?;
    spec.idempotency_key.clear();
    spec.elements.get_or_insert_default().only = super::spans(only);
    Ok(NewJob { rerun_of: Some(of), ..job(spec, blob)? })
}

/// What a worker needs of a job; elements and blobs are filled in by `templates.rs`.
#[must_use]
pub fn template(id: JobId, spec: pb::JobSpec) -> pb::Template {
    pb::Template {
        job_id: id.0,
        kill_grace_ms: kill_grace(&spec),
        command: spec.command,
        call: spec.call,
        timeout_ms: spec.timeout_ms,
        resources: Some(pb::Resources {
            slots: spec.resources.as_ref().map_or(1, |resources| resources.slots.max(1)),
            ..spec.resources.unwrap_or_default()
        }),
        priority: spec.priority,
        limits: spec.limits,
        output_limit_bytes: Some(spec.output_limit_bytes.unwrap_or(OUTPUT_DEFAULT)),
        columns: Vec::new(),
        range: None,
        total: 1,
        unusable: String::new(),
    }
}

/// The blobs that a stored specification refers to.
#[must_use]
pub fn blobs(spec: &Bytes) -> Vec<[u8; 32]> {
    let Ok(spec) = pb::JobSpec::decode(spec.clone()) else { return Vec::new() };
    let sources = spec.elements.into_iter().flat_map(|elements| elements.sources);
    let tables = sources.filter_map(|source| match source.values {
        Some(Values::Blob(blob)) => Some(blob),
        Some(Values::Range(_) | Values::Table(_)) | None => None,
    });
    let stdin = spec.command.and_then(|command| command.stdin_blob);
    let argument = spec.call.and_then(|call| call.argument_blob);
    tables.chain(stdin).chain(argument).filter_map(|blob| blob.sha256.as_ref().try_into().ok()).collect()
}

/// The program's file name; of a script its first word. Cut to what a name may be long.
fn default_name(command: &pb::Command) -> String {
    let program = command.argv.first().map(String::as_str).unwrap_or_default();
    let word = if command.shell { program.split_whitespace().next().unwrap_or("sh") } else { program };
    let file = word.rsplit('/').find(|part| !part.is_empty()).unwrap_or(word);
    let end = file
        .char_indices()
        .map(|(at, char)| at + char.len_utf8())
        .take_while(|end| *end <= TEXT_BYTES)
        .last();
    file[..end.unwrap_or(0)].to_owned()
}

fn check_command(command: &pb::Command, blob: &dyn Fn(&pb::Blob) -> Option<Bytes>) -> Result<(), Invalid> {
    let program = command.argv.first().ok_or_else(|| Invalid::new("argv", "is empty; name a program"))?;
    if program.is_empty() {
        return Err(Invalid::new("argv", "the program's name is empty"));
    }
    if command.shell && command.argv.len() != 1 {
        return Err(Invalid::new("argv", "with shell there is exactly one argument: the script"));
    }
    if command.argv.iter().any(|argument| argument.contains('\0')) {
        return Err(Invalid::new("argv", "an argument holds a NUL byte, which no program can be given"));
    }
    for (name, value) in &command.env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            let why = "a name must not be empty or hold `=` or NUL, nor a value NUL";
            return Err(Invalid::new(format!("env[{name:?}]"), why));
        }
    }
    let arguments = command.argv.iter().map(String::len);
    let environment = command.env.iter().map(|(name, value)| name.len() + value.len());
    let bytes: usize = arguments.chain(environment).sum();
    if bytes > COMMAND_BYTES {
        let why = format!("{bytes} bytes of arguments and environment; at most {COMMAND_BYTES}");
        return Err(Invalid::new("argv", why));
    }
    if !command.cwd.is_empty() && (!command.cwd.starts_with('/') || command.cwd.contains('\0')) {
        return Err(Invalid::new("cwd", "must be an absolute path"));
    }
    if command.stdin.len() > INLINE_BYTES {
        let why =
            format!("{} bytes; at most {INLINE_BYTES}: upload it and give stdin_blob", command.stdin.len());
        return Err(Invalid::new("stdin", why));
    }
    match &command.stdin_blob {
        Some(_) if !command.stdin.is_empty() => Err(Invalid::new("stdin_blob", "stdin is given as well")),
        Some(named) => match blob(named).map(|stdin| stdin.len()) {
            None => Err(Invalid::new("stdin_blob", "is not here; upload it first")),
            Some(bytes) if bytes > STDIN_BYTES => {
                let why = format!(
                    "{bytes} bytes; standard input is at most {STDIN_BYTES}: put it into a file that the workers see"
                );
                Err(Invalid::new("stdin_blob", why))
            }
            Some(_) => Ok(()),
        },
        None => Ok(()),
    }
}

fn check_texts(spec: &pb::JobSpec) -> Result<(), Invalid> {
    if spec.name.len() > TEXT_BYTES || spec.name.contains('\0') {
        return Err(Invalid::new("name", format!("at most {TEXT_BYTES} bytes, without NUL")));
    }
    if !spec.queue.is_empty() {
        name(&spec.queue).map_err(|why| Invalid::new("queue", why))?;
    }
    check_labels("labels", &spec.labels)?;
    if !(-PRIORITY..=PRIORITY).contains(&spec.priority) {
        return Err(Invalid::new("priority", format!("must be from -{PRIORITY} to {PRIORITY}")));
    }
    for (field, span) in
        [("timeout_ms", spec.timeout_ms), ("kill_grace_ms", spec.kill_grace_ms), ("keep_ms", spec.keep_ms)]
    {
        if span > SPAN_MOST {
            return Err(Invalid::new(field, format!("at most {SPAN_MOST} (ten years)")));
        }
    }
    Ok(())
}

/// The rule for names of queues, workers and resources.
///
/// # Errors
/// Says the rule.
pub fn name(text: &str) -> Result<(), &'static str> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let good = text.len() <= 64
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && text.bytes().all(inner);
    good.then_some(()).ok_or("must be 1 to 64 of A-Z a-z 0-9 . _ - and begin with a letter or digit")
}

/// Checks labels of a job or a worker.
///
/// # Errors
/// If there are too many, or one is too long or empty.
pub fn check_labels(field: &str, labels: &BTreeMap<String, String>) -> Result<(), Invalid> {
    if labels.len() > LABELS {
        return Err(Invalid::new(field, format!("at most {LABELS}")));
    }
    for (name, value) in labels {
        let long = name.len() > TEXT_BYTES || value.len() > TEXT_BYTES;
        if name.is_empty() || long || name.contains('\0') || value.contains('\0') {
            let why =
                format!("a name of 1 to {TEXT_BYTES} bytes and a value of at most as many, without NUL");
            return Err(Invalid::new(format!("{field}[{name:?}]"), why));
        }
    }
    Ok(())
}

/// Total, subset and column names.
type Shaped = (u32, Option<RoaringBitmap>, Vec<String>);

fn elements(spec: &pb::JobSpec, blob: &dyn Fn(&pb::Blob) -> Option<Bytes>) -> Result<Shaped, Invalid> {
    let Some(elements) = &spec.elements else { return Ok((1, None, Vec::new())) };
    let inline: usize = elements.sources.iter().map(inline_bytes).sum();
    if inline > INLINE_BYTES {
        return Err(Invalid::new(
            "sources",
            format!("{inline} bytes of values; at most {INLINE_BYTES}: upload a blob"),
        ));
    }
    let read = Elements::read(elements, blob).map_err(|error| Invalid::new("sources", error.to_string()))?;
    let (total, columns) = read.map_or((1, Vec::new()), |read| (read.total(), read.columns));
    let only = indices(&elements.only)?;
    if only.as_ref().and_then(RoaringBitmap::max).is_some_and(|last| last >= total) {
        return Err(Invalid::new("only", format!("an index is not below the number of elements, {total}")));
    }
    Ok((total, only, columns))
}

fn inline_bytes(source: &pb::Source) -> usize {
    match &source.values {
        Some(Values::Table(table)) => table.fields.iter().map(Bytes::len).sum(),
        Some(Values::Range(_) | Values::Blob(_)) | None => 0,
    }
}

fn policy(spec: &pb::JobSpec) -> Result<Policy, Invalid> {
    let queue = if spec.queue.is_empty() { DEFAULT_QUEUE } else { &spec.queue };
    Ok(Policy {
        queue: queue.into(),
        priority: spec.priority,
        shape: shape(spec).map_err(|error| error.within("resources"))?,
        retry: retry(spec.retry.as_ref()).map_err(|error| error.within("retry"))?,
        timeout: some(spec.timeout_ms).map(Millis),
        kill_grace: Millis(kill_grace(spec)),
        crash_limit: some(spec.crash_limit).unwrap_or(CRASH_LIMIT),
        max_parallel: some(spec.max_parallel),
        max_fails: spec.has_max_fails.then_some(spec.max_fails),
        keep: some(spec.keep_ms).map(Millis),
    })
}

/// A function that does not heed its token is given up sooner than a program that may have to clean up.
fn kill_grace(spec: &pb::JobSpec) -> u64 {
    or(spec.kill_grace_ms, if spec.call.is_some() { CALL_GRACE_DEFAULT } else { GRACE_DEFAULT })
}

fn shape(spec: &pb::JobSpec) -> Result<Shape, Invalid> {
    let function = spec.call.as_ref().map(|call| call.function.as_str().into());
    let Some(resources) = &spec.resources else {
        return Ok(Shape { function, slots: 1, ..Shape::default() });
    };
    if resources.slots > 4_096 {
        return Err(Invalid::new("slots", "at most 4,096"));
    }
    check_labels("labels", &resources.labels)?;
    for (resource, amount) in &resources.named {
        name(resource).map_err(|why| Invalid::new(format!("named[{resource:?}]"), why))?;
        if *amount == 0 || *amount > 1 << 53 {
            return Err(Invalid::new(format!("named[{resource:?}]"), "must be from 1 to 2^53"));
        }
    }
    Ok(Shape {
        function,
        slots: resources.slots.max(1),
        named: resources.named.iter().map(|(name, amount)| (name.as_str().into(), *amount)).collect(),
        labels: texts(&resources.labels),
        limits: Limits::default(),
    })
}

/// Labels with shared texts.
#[must_use]
pub fn texts(labels: &BTreeMap<String, String>) -> BTreeMap<Arc<str>, Arc<str>> {
    labels.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect()
}

fn retry(retry: Option<&pb::Retry>) -> Result<Retry, Invalid> {
    let default = pb::Retry::default();
    let retry = retry.unwrap_or(&default);
    if retry.max_attempts > 1_000 {
        return Err(Invalid::new("max_attempts", "at most 1,000"));
    }
    let multiplier = if retry.multiplier == 0.0 { 2.0 } else { retry.multiplier };
    if !(1.0..=100.0).contains(&multiplier) {
        return Err(Invalid::new("multiplier", "must be from 1 to 100"));
    }
    if retry.backoff_ms > SPAN_MOST || retry.max_backoff_ms > SPAN_MOST {
        return Err(Invalid::new("backoff_ms", format!("at most {SPAN_MOST} (ten years)")));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be from 1 to 100"
    )]
    let multiplier_milli = (multiplier * 1_000.0) as u32;
    let initial = or(retry.backoff_ms, BACKOFF_DEFAULT);
    Ok(Retry {
        max_attempts: retry.max_attempts.max(1),
        initial: Millis(initial),
        multiplier_milli,
        max: Millis(or(retry.max_backoff_ms, BACKOFF_MOST).max(initial)),
        exit_codes: retry.exit_codes.clone(),
    })
}

fn key(spec: &pb::JobSpec) -> Result<Option<Key>, Invalid> {
    if spec.idempotency_key.is_empty() {
        return Ok(None);
    }
    if spec.idempotency_key.len() > TEXT_BYTES {
        return Err(Invalid::new("idempotency_key", format!("at most {TEXT_BYTES} bytes")));
    }
    let payload = pb::JobSpec { idempotency_key: String::new(), ..spec.clone() };
    let digest = Sha256::digest(payload.encode_to_vec()).into();
    Ok(Some(Key { text: spec.idempotency_key.as_str().into(), digest }))
}

/// A number, or its default where it is 0.
fn or(value: u64, default: u64) -> u64 {
    if value == 0 { default } else { value }
}

/// Nothing where it is 0.
fn some<T: PartialEq + Default>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}
