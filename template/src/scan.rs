//! Finds brace groups in one argument. Knows braces, not their meaning: that is asked of the caller.

/// A stretch of an argument.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// As it is.
    Text(&'a str),
    /// `{inside}` as a placeholder, at this byte of the argument.
    Group { at: usize, inside: &'a str },
}

/// Splits `text`. `ours` says whether `{inside}` is a placeholder, or close enough to one to be a mistake.
///
/// A group may stand in several pairs of braces: each two pairs are one literal pair, an odd one is the group's.
/// Braces without a counterpart, and everything that is not ours, are text.
pub(crate) fn pieces<'a>(text: &'a str, ours: impl Fn(&str) -> bool) -> Vec<Piece<'a>> {
    let bytes = text.as_bytes();
    let mut pieces = Vec::new();
    let mut text_from = 0;
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'{' {
            at += 1;
            continue;
        }
        let opening = run(bytes, at, b'{');
        let from = at + opening;
        let to =
            bytes[from..].iter().position(|b| matches!(b, b'{' | b'}')).map_or(bytes.len(), |n| from + n);
        let closing = run(bytes, to, b'}');
        let inside = &text[from..to];
        let after_dollar = at > 0 && bytes[at - 1] == b'$';
        if closing == 0 || after_dollar || !ours(inside) {
            at = from;
            continue;
        }
        let pairs = opening.min(closing);
        let literal = pairs / 2;
        push_text(&mut pieces, &text[text_from..from - pairs + literal]);
        if pairs % 2 == 1 {
            pieces.push(Piece::Group { at: from - 1, inside });
        } else {
            push_text(&mut pieces, inside);
        }
        // The closing literal braces are the first ones after `inside`; those of the pairs are skipped.
        push_text(&mut pieces, &text[to..to + literal]);
        at = to + pairs;
        text_from = at;
    }
    push_text(&mut pieces, &text[text_from..]);
    pieces
}

fn run(bytes: &[u8], from: usize, of: u8) -> usize {
    bytes[from..].iter().take_while(|b| **b == of).count()
}

fn push_text<'a>(pieces: &mut Vec<Piece<'a>>, text: &'a str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
}
