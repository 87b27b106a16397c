//! A checked template, and how it is filled in.

use crate::error::{Error, Problem};
use crate::placeholder::{self, Meaning, Placeholder};
use crate::scan::{self, Piece};
use crate::shell::{self, Context, Tracker};

/// A command with its placeholders found and checked. Cheap to fill in many times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    arguments: Vec<Vec<Part>>,
    columns: usize,
    shell: bool,
    uses_placeholders: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Value(Placeholder, Context),
}

/// What one run of a task fills into its template.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a, F = &'a [u8]> {
    /// `{job}`
    pub job: u64,
    /// Index of the task, from 0; `{#}` is one more.
    pub index: u32,
    /// `{attempt}`, from 1.
    pub attempt: u32,
    /// `{%}`, from 0.
    pub slot: u32,
    /// `{worker}`
    pub worker: &'a str,
    /// One value per column of the template. A missing one is filled in as nothing: check
    /// [`Template::columns`] where the values come from outside.
    pub fields: &'a [F],
}

impl Template {
    /// Finds and checks the placeholders of `argv`.
    ///
    /// `columns` has one entry for each field that a task gets, in order, `""` for a nameless one; empty means a
    /// job without sources. With `shell`, `argv` is one script, and values are quoted for it.
    ///
    /// # Errors
    /// See [`Problem`].
    pub fn parse(argv: &[String], shell: bool, columns: &[String]) -> Result<Self, Error> {
        check(argv, shell)?;
        let mut arguments = Vec::with_capacity(argv.len());
        let mut uses_placeholders = false;
        let mut script = Tracker::new();
        for (number, argument) in argv.iter().enumerate() {
            let mut parts = Vec::new();
            for piece in
                scan::pieces(argument, |inside| placeholder::meaning(inside, columns) != Meaning::Literal)
            {
                match piece {
                    Piece::Text(text) => {
                        script.text(text);
                        parts.push(Part::Text(text.as_bytes().to_vec()));
                    }
                    Piece::Group { at, inside } => {
                        let place = Place { argument: number, byte: at, inside };
                        let found = place.placeholder(columns)?;
                        let context = if shell { place.quotable(script.context())? } else { Context::Bare };
                        script.value();
                        uses_placeholders = true;
                        parts.push(Part::Value(found, context));
                    }
                }
            }
            arguments.push(parts);
        }
        if !columns.is_empty() && !uses_placeholders {
            append(&mut arguments, shell.then_some((&argv[0], &script)))?;
        }
        Ok(Self { arguments, columns: columns.len(), shell, uses_placeholders })
    }

    /// How many fields a task of this template has; 0 without sources.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Whether a placeholder was written. If not, and there are sources, the item is appended.
    #[must_use]
    pub fn uses_placeholders(&self) -> bool {
        self.uses_placeholders
    }

    /// Whether the values of a column, from 0, reach the command.
    #[must_use]
    pub fn uses_column(&self, column: usize) -> bool {
        let uses = |part: &Part| match part {
            Part::Value(Placeholder::Items(_), _) => column < self.columns,
            Part::Value(Placeholder::Column(used, _), _) => *used == column,
            Part::Value(_, _) | Part::Text(_) => false,
        };
        self.arguments.iter().flatten().any(uses)
    }

    /// The arguments of one run; for a shell template the one script.
    #[must_use]
    pub fn expand<F: AsRef<[u8]>>(&self, values: &Values<'_, F>) -> Vec<Vec<u8>> {
        let mut argv = Vec::with_capacity(self.arguments.len());
        for parts in &self.arguments {
            if let ([Part::Value(Placeholder::Items(part), _)], false) = (parts.as_slice(), self.shell) {
                argv.extend(values.fields.iter().map(|field| part.of(field.as_ref()).to_vec()));
                continue;
            }
            let mut argument = Vec::new();
            for part in parts {
                match part {
                    Part::Text(text) => argument.extend_from_slice(text),
                    Part::Value(placeholder, context) => {
                        self.value(*placeholder, *context, values, &mut argument)
                    }
                }
            }
            argv.push(argument);
        }
        argv
    }

    fn value<F: AsRef<[u8]>>(
        &self,
        what: Placeholder,
        context: Context,
        values: &Values<'_, F>,
        out: &mut Vec<u8>,
    ) {
        let mut put = |value: &[u8]| {
            if self.shell { shell::quote(value, context, out) } else { out.extend_from_slice(value) }
        };
        match what {
            Placeholder::Number => put((u64::from(values.index) + 1).to_string().as_bytes()),
            Placeholder::Slot => put(values.slot.to_string().as_bytes()),
            Placeholder::Job => put(values.job.to_string().as_bytes()),
            Placeholder::Attempt => put(values.attempt.to_string().as_bytes()),
            Placeholder::Worker => put(values.worker.as_bytes()),
            Placeholder::Column(column, part) => {
                put(part.of(values.fields.get(column).map_or(&[][..], AsRef::as_ref)));
            }
            Placeholder::Items(part) => {
                for (i, field) in values.fields.iter().enumerate() {
                    if i > 0 {
                        out.push(b' ');
                    }
                    let value = part.of(field.as_ref());
                    if self.shell { shell::quote(value, context, out) } else { out.extend_from_slice(value) }
                }
            }
        }
    }
}

fn check(argv: &[String], shell: bool) -> Result<(), Error> {
    let refuse = |argument, byte, text: &str, problem, suggestion: &str| {
        Err(Error { argument, byte, text: text.into(), problem, suggestion: suggestion.into() })
    };
    if shell && argv.len() != 1 {
        let text = format!("{} arguments", argv.len());
        return refuse(0, 0, &text, Problem::NotOneScript, "put the whole script into one quoted argument");
    }
    if argv.first().is_none_or(|program| program.trim().is_empty()) {
        return refuse(0, 0, "", Problem::Empty, "name a program, as in: echo hello");
    }
    for (number, argument) in argv.iter().enumerate() {
        if let Some(byte) = argument.find('\0') {
            return refuse(number, byte, "\\0", Problem::Nul, "remove it: no program can be given one");
        }
    }
    Ok(())
}

/// Adds the item(s) to a command that does not say where they belong.
fn append(arguments: &mut Vec<Vec<Part>>, script: Option<(&String, &Tracker)>) -> Result<(), Error> {
    let items = Part::Value(Placeholder::Items(crate::path::Part::Whole), Context::Bare);
    let Some((text, tracker)) = script else {
        arguments.push(vec![items]);
        return Ok(());
    };
    let trimmed = text.trim_end();
    if !tracker.is_closed() || trimmed.ends_with([';', '&', '|', '(', '<', '>', '\\']) {
        let end = trimmed.char_indices().rev().nth(11).map_or(trimmed, |(i, _)| &trimmed[i..]);
        return Err(Error {
            argument: 0,
            byte: trimmed.len(),
            text: format!("{end:?}"),
            problem: Problem::CannotAppend,
            suggestion: "write {} where the item belongs".into(),
        });
    }
    *arguments = vec![vec![Part::Text([trimmed.as_bytes(), b" "].concat()), items]];
    Ok(())
}

/// A group of braces and where it stands, for messages.
struct Place<'a> {
    argument: usize,
    byte: usize,
    inside: &'a str,
}

impl Place<'_> {
    fn placeholder(&self, columns: &[String]) -> Result<Placeholder, Error> {
        match placeholder::meaning(self.inside, columns) {
            Meaning::Known(found) => Ok(found),
            Meaning::NoSuchColumn => {
                let known = match columns.len() {
                    1 => "there is one: {1}".to_owned(),
                    count => format!("there are {count}: {{1}} to {{{count}}}"),
                };
                Err(self.error(Problem::NoSuchColumn, format!("{known}; {}", self.escape())))
            }
            Meaning::UnknownName | Meaning::Literal => {
                let name = self.inside.trim_end_matches(['.', '/']);
                let hint = match placeholder::nearest(name, columns) {
                    Some(near) => format!("did you mean {{{near}}}?"),
                    None => format!("known are {}", known(columns)),
                };
                Err(self.error(Problem::UnknownName, format!("{hint}; {}", self.escape())))
            }
        }
    }

    fn quotable(&self, context: Context) -> Result<Context, Error> {
        if context == Context::Unsafe {
            let advice = "assign it to a variable at the start of the script (x={}; ...) and use \"$x\" here";
            return Err(self.error(Problem::Unquotable, advice.into()));
        }
        Ok(context)
    }

    fn escape(&self) -> String {
        format!("for literal braces write {{{{{}}}}}", self.inside)
    }

    fn error(&self, problem: Problem, suggestion: String) -> Error {
        Error {
            argument: self.argument,
            byte: self.byte,
            text: format!("{{{}}}", self.inside),
            problem,
            suggestion,
        }
    }
}

fn known(columns: &[String]) -> String {
    let named =
        columns.iter().filter(|column| !column.is_empty()).take(8).map(|column| format!("{{{column}}}"));
    let fixed = ["{}", "{1}", "{#}", "{%}", "{job}", "{attempt}", "{worker}"].map(str::to_owned);
    named.chain(fixed).collect::<Vec<_>>().join(" ")
}
