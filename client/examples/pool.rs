//! Python's pool example: ten calls, none of which is waited for by itself; then the pool is closed, and joined. What the
//! calls print, on whichever machine, is printed here.
//!
//! ```python
//! pool = Pool()
//! for n in range(10):
//!     pool.apply_async(task, (n,))
//! pool.close()
//! pool.join()
//! ```
//!
//! To be run where a coordinator is known (`taskq up`), with a worker that offers `task`.

use taskq_client::{Access, Client, Pool, Result, Sources};

#[tokio::main]
async fn main() -> Result<()> {
    let client = Client::connect(&Access::find(&Sources::default())?).await?;
    let pool = Pool::new(&client).echo();
    for n in 0..10 {
        pool.apply_async::<u32>("task", n).await?;
    }
    pool.close();
    pool.join().await
}
