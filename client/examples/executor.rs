//! Python's executor example: ten calls are submitted, and their results printed as they come. What the calls print, on
//! whichever machine, is printed here.
//!
//! ```python
//! with ThreadPoolExecutor() as executor:
//!     futures = [executor.submit(task, n) for n in range(10)]
//!     for future in as_completed(futures):
//!         print("Result:", future.result())
//! ```
//!
//! To be run where a coordinator is known (`taskq up`), with a worker that offers `task`.

use taskq_client::{Access, Client, Result, Sources, as_completed};

#[tokio::main]
async fn main() -> Result<()> {
    let client = Client::connect(&Access::find(&Sources::default())?).await?;
    let mut futures = Vec::new();
    for n in 0..10 {
        futures.push(client.call::<u32>("task", n).echo().submit().await?);
    }
    let mut results = as_completed(futures);
    while let Some((_, result)) = results.next().await {
        println!("Result: {}", result?);
    }
    Ok(())
}
