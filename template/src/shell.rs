//! Quoting for `sh`: where in a script a value stands, and how it must be written there.
//!
//! Reads as much of the shell's grammar as decides about quotes: quotes, backslashes, comments, parentheses and
//! `$(...)`. Whatever is beyond that (backquotes, here-documents, `case` inside `$(...)`) makes the place unsafe
//! rather than guessed.

/// The quoting that is in force at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Context {
    Bare,
    Single,
    Double,
    /// No value can be quoted here.
    Unsafe,
    /// In a comment: what stands here does not matter, but must not end it.
    Comment,
}

/// Follows a script byte by byte.
#[derive(Debug)]
pub(crate) struct Tracker {
    context: Context,
    /// What each open parenthesis returns to.
    parentheses: Vec<Open>,
    escaped: bool,
    previous: u8,
    word: Vec<u8>,
}

#[derive(Debug)]
struct Open {
    back_to: Context,
    substitution: bool,
}

impl Tracker {
    pub(crate) fn new() -> Self {
        Self {
            context: Context::Bare,
            parentheses: Vec::new(),
            escaped: false,
            previous: b'\n',
            word: Vec::new(),
        }
    }

    /// Where the next byte would stand.
    pub(crate) fn context(&self) -> Context {
        if self.escaped { Context::Unsafe } else { self.context }
    }

    /// Whether a word appended at the end would be a further argument.
    pub(crate) fn is_closed(&self) -> bool {
        self.context() == Context::Bare && self.parentheses.is_empty()
    }

    pub(crate) fn text(&mut self, text: &str) {
        for byte in text.bytes() {
            self.byte(byte);
        }
    }

    /// A value was inserted: it is quoted, and counts as part of a word.
    pub(crate) fn value(&mut self) {
        self.previous = b'x';
    }

    fn byte(&mut self, byte: u8) {
        let previous = std::mem::replace(&mut self.previous, byte);
        if self.escaped {
            self.escaped = false;
            // An escaped byte is an ordinary one: it neither begins a comment nor makes `$(`.
            self.previous = b'x';
            return;
        }
        match self.context {
            Context::Unsafe => {}
            Context::Comment => {
                if byte == b'\n' {
                    self.context = Context::Bare;
                }
            }
            Context::Single => {
                if byte == b'\'' {
                    self.context = Context::Bare;
                }
            }
            Context::Double => self.double(byte, previous),
            Context::Bare => self.bare(byte, previous),
        }
    }

    fn double(&mut self, byte: u8, previous: u8) {
        match byte {
            b'\\' => self.escaped = true,
            b'"' => self.context = Context::Bare,
            b'`' => self.context = Context::Unsafe,
            b'(' if previous == b'$' => self.open(Context::Double, true),
            _ => {}
        }
    }

    fn bare(&mut self, byte: u8, previous: u8) {
        if byte.is_ascii_alphanumeric() {
            self.word.push(byte);
        } else {
            let word = std::mem::take(&mut self.word);
            // `case x in a)` has a parenthesis without a partner, which would end the substitution too early.
            if word == b"case" && self.parentheses.iter().any(|open| open.substitution) {
                self.context = Context::Unsafe;
                return;
            }
        }
        match byte {
            b'\\' => self.escaped = true,
            b'\'' if previous == b'$' => self.context = Context::Unsafe,
            b'\'' => self.context = Context::Single,
            b'"' => self.context = Context::Double,
            b'`' => self.context = Context::Unsafe,
            b'<' if previous == b'<' => self.context = Context::Unsafe,
            b'(' => self.open(Context::Bare, previous == b'$'),
            b')' => self.context = self.parentheses.pop().map_or(Context::Bare, |open| open.back_to),
            b'#' if begins_word(previous) => self.context = Context::Comment,
            _ => {}
        }
    }

    fn open(&mut self, back_to: Context, substitution: bool) {
        self.parentheses.push(Open { back_to, substitution });
        self.context = Context::Bare;
    }
}

fn begins_word(previous: u8) -> bool {
    previous.is_ascii_whitespace() || matches!(previous, b';' | b'&' | b'|' | b'(' | b')')
}

/// Writes `value` so that `sh` reads exactly its bytes at a place with this context.
pub(crate) fn quote(value: &[u8], context: Context, out: &mut Vec<u8>) {
    match context {
        Context::Bare => {
            out.push(b'\'');
            quote(value, Context::Single, out);
            out.push(b'\'');
        }
        Context::Single => {
            for byte in value {
                if *byte == b'\'' { out.extend_from_slice(b"'\\''") } else { out.push(*byte) }
            }
        }
        Context::Double => {
            for byte in value {
                if matches!(byte, b'\\' | b'"' | b'$' | b'`') {
                    out.push(b'\\');
                }
                out.push(*byte);
            }
        }
        // Refused when the template was parsed, or of no consequence.
        Context::Unsafe | Context::Comment => {}
    }
}
