//! taskq's command templates: placeholders are parsed and checked where a job is submitted, and filled in where
//! its tasks run. Pure: no files, no processes, no clock.
//!
//! # Placeholders
//! | written | becomes |
//! |---|---|
//! | `{}` | the item; with several columns all of them: as own arguments if `{}` is a whole argument, else joined by spaces |
//! | `{.}` `{/}` `{//}` `{/.}` | the item without extension, its file name, its folder, its file name without extension |
//! | `{1}` `{2.}` `{3//}` | a column by number, from 1, with the same suffixes |
//! | `{name}` `{name/.}` | a column by name, with the same suffixes |
//! | `{#}` `{%}` | number of the task, from 1; slot of the worker, from 0 |
//! | `{job}` `{attempt}` `{worker}` | as they say; a column of that name wins |
//!
//! # What is literal
//! Commands are full of braces that mean something else, so only what looks like a placeholder is one:
//! * text in braces that is no known symbol, number, name or identifier stays as it is: `awk '{print $1}'`,
//!   `{"a": 1}`, `{a,b}`, `{2,3}`;
//! * so does a brace right after a dollar sign: `${HOME}`;
//! * doubled braces around what would be a placeholder give it literally: `{{}}` is `{}`, `{{1}}` is `{1}`.
//!   Doubled braces around anything else are left alone;
//! * without sources only `{#}`, `{%}`, `{job}`, `{attempt}` and `{worker}` are placeholders, so that
//!   `find . -exec rm {} \;` is what it looks like.
//!
//! With sources an identifier or number that names no column is an [`Error`], never a silent literal.
//! With sources and no placeholder at all, the item is appended: each column as one more argument.
//!
//! # Shell scripts
//! With `shell` there is one argument, a script. Each value is quoted for the place where it stands: bare, in
//! single or in double quotes, also inside `$(...)`. Where no quoting is safe (backquotes, here-documents), the
//! template is refused.

pub mod elements;
mod error;
mod path;
mod placeholder;
mod scan;
mod shell;
mod template;

pub use error::{Error, Problem};
pub use template::{Template, Values};
