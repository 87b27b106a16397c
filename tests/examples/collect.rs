//! A client for tests that kill: fetches the results of a map and appends each to a file, a line `CURSOR INDEX VALUE`. Started
//! again it goes on after the last whole line. `collect JOB FILE`, with the coordinator in `TASKQ_ACCESS`.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};

use anyhow::Context;
use taskq_client::{Access, Client, Sources};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let [job, path] = std::env::args().skip(1).collect::<Vec<_>>().try_into().ok().context("JOB FILE")?;
    let client = Client::connect(&Access::find(&Sources::default())?).await?;
    let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
    let cursor = last_cursor(&mut file)?;
    let map = client.pick_up_map::<u64>(job.parse::<u64>()?).await?;
    let mut results = map.results(cursor);
    while let Some(element) = results.next().await {
        let element = element?;
        let value = element.value?;
        // One write: a line is there as a whole or cut off at the end.
        file.write_all(format!("{} {} {value}\n", element.cursor, element.index).as_bytes())?;
    }
    Ok(())
}

/// Where the last whole line says to go on; what is cut off behind it is removed.
fn last_cursor(file: &mut File) -> anyhow::Result<u64> {
    let (mut cursor, mut whole) = (0, 0);
    let mut line = Vec::new();
    let mut reader = BufReader::new(&*file);
    while reader.read_until(b'\n', &mut line)? > 0 {
        if line.last() == Some(&b'\n') {
            whole += line.len() as u64;
            let text = std::str::from_utf8(&line)?;
            cursor = text.split(' ').next().context("a cursor")?.parse()?;
        }
        line.clear();
    }
    file.set_len(whole)?;
    file.seek(SeekFrom::End(0))?;
    Ok(cursor)
}
