//! A worker for tests that measure: its functions do nothing, and return nothing or a hundred bytes.

use std::process::ExitCode;

use taskq_worker::{Context, Failure, Worker};

fn main() -> ExitCode {
    Worker::new().blocking("nothing", nothing).blocking("hundred", hundred).main()
}

fn nothing(_: u64, _: &Context) -> Result<(), Failure> {
    Ok(())
}

/// A hundred bytes of JSON that have little in common from number to number.
fn hundred(number: u64, _: &Context) -> Result<String, Failure> {
    let mut state = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let letter = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'0' + (state % 64) as u8)
    };
    let text: String = (0..98).map(letter).collect();
    // One byte in the text, two in JSON.
    Ok(text.replace('\\', "z"))
}
