//! taskq's client library: submit commands, call functions, wait for them, read what became of them.
//!
//! ```no_run
//! use taskq_client::{Access, Client, Elements, JobBuilder, ResultsQuery, Sources};
//!
//! # async fn tour() -> Result<(), taskq_client::Error> {
//! let client = Client::connect(&Access::find(&Sources::default())?).await?;
//! let photos = Elements::new().items(["a.jpg", "b.jpg", "c.jpg"]);
//! let job = client.submit(JobBuilder::command(["gzip", "-k9", "{}"]).elements(photos).retries(2)).await?;
//! println!("job {} is on disk", job.id());
//! let mut results = job.results_in_order(ResultsQuery { with_output: true, ..Default::default() }).await?;
//! while let Some(task) = results.next().await {
//!     let task = task?;
//!     println!("task {} ended {:?}", task.index, task.state());
//! }
//! # Ok(()) }
//! ```
//!
//! Everything here is asynchronous, and wants to be inside of a tokio runtime: there is no blocking client. A program
//! without one wraps what it does in `tokio::runtime::Runtime::new()?.block_on(..)`.
//!
//! Functions that workers offer are called by name, and return values:
//!
//! ```no_run
//! use taskq_client::{Access, Client, Pool, Sources, as_completed};
//!
//! # async fn tour() -> Result<(), taskq_client::Error> {
//! let client = Client::connect(&Access::find(&Sources::default())?).await?;
//! let n: u64 = client.call("fib", 30).await?;
//! let squares: Vec<u64> = Pool::new(&client).map("square", 0..1_000_000).await?;
//! let slow = [client.call::<f64>("integrate", "sin").submit().await?, client.call("integrate", "cos").submit().await?];
//! let mut results = as_completed(slow);
//! while let Some((handle, result)) = results.next().await {
//!     println!("job {}: {}", handle.id(), result?);
//! }
//! # Ok(()) }
//! ```
//!
//! A call that has no value is an [`Error::Call`], whose [`CallError`] says how it ended ([`Ending`]), in which words, and
//! holds the error itself if the function gave it ([`CallError::typed`]):
//!
//! ```no_run
//! # use taskq_client::{Client, Error};
//! # #[derive(serde::Deserialize)] struct NoSuchCity { name: String }
//! # async fn tour(client: Client) -> Result<(), Error> {
//! match client.call::<f64>("temperature", "Atlantis").retries(2).await {
//!     Ok(degrees) => println!("{degrees}"),
//!     Err(Error::Call(failed)) => match failed.typed() {
//!         Some(Ok(NoSuchCity { name })) => println!("there is no {name}"),
//!         Some(Err(_)) | None => println!("{failed}"),
//!     },
//!     Err(error) => return Err(error),
//! }
//! # Ok(()) }
//! ```
//!
//! What to know of calls:
//!
//! * A call of a function that nobody serves is no error: it waits until a worker comes that does, if need be for ever.
//!   [`Client::explain`] says why it waits. Who does not want that bounds the waiting, and takes the call back:
//!
//!   ```no_run
//!   # use std::time::Duration;
//!   # async fn tour(client: taskq_client::Client) -> taskq_client::Result<()> {
//!   let mut call = client.call::<u64>("fib", 30).submit().await?;
//!   match tokio::time::timeout(Duration::from_secs(60), &mut call).await {
//!       Ok(n) => println!("{}", n?),
//!       Err(_too_late) => _ = call.cancel().await?,
//!   }
//!   # Ok(()) }
//!   ```
//!
//!   `timeout` of a call is another thing: the most that one attempt may run, once it runs.
//! * An argument or value has at most 256 MiB, an element of a map at most 1 MiB, an error that travels whole at most
//!   32 KiB.
//! * A value is kept as long as its job: for the coordinator's retention after the end, or as `keep` says. Later it is
//!   [`Error::Gone`].
//! * A [`JobHandle`] is a future; the job does not depend on it. Another process picks it up by its number:
//!   [`Client::pick_up`], [`Client::pick_up_map`].
//! * Every write is safe to repeat: it carries an id, and what the coordinator has already done it does not do
//!   again. So calls outlive a restart of the coordinator; how long they try is up to [`Options`].
//! * What can be long ([`Results`], [`Logs`], [`Jobs`], ...) is pulled with `next()`, which may be dropped at any
//!   time without losing an item, and goes on from its cursor after a lost connection.
//! * The words on the wire are the words here: [`model`] holds the types of the protocol, and the comments of
//!   its `.proto` files are their specification.

pub mod access;
mod act;
mod address;
mod call;
mod call_many;
pub mod channel;
mod client;
pub mod codec;
mod download;
mod echo;
mod elements;
mod ends;
mod error;
mod failed;
mod follow;
mod handle;
mod job;
mod list;
mod logs;
mod map;
pub mod model;
mod ordered;
mod pool;
mod progress;
mod results;
mod retry;
mod settings;
mod submit;
mod submit_many;
mod together;
mod told;
mod value;

pub use access::{Access, Sources, Token, default_data_dir};
pub use address::{Address, Port};
pub use call::Call;
pub use call_many::{Answer, Answers, CallMany};
pub use client::Client;
pub use codec::{Codec, Mismatch, Raw};
pub use echo::Echo;
pub use elements::{Elements, Source};
pub use error::{Error, Kind, Result};
pub use failed::{CallError, Ending};
pub use follow::Watch;
pub use handle::{JobHandle, Untyped};
pub use job::{JobBuilder, JobId};
pub use list::{Jobs, TaskQuery, Tasks};
pub use logs::{Logs, LogsQuery};
pub use map::{Element, Elementwise, MapHandle, MapResults};
pub use model::{is_terminal, select};
pub use ordered::InOrder;
pub use pool::{Arguments, Pool};
pub use progress::Progresses;
pub use results::{End, Results, ResultsQuery};
pub use retry::{Listener, Options, Trouble};
pub use submit_many::SubmitMany;
pub use together::{AsCompleted, Until, Waited, as_completed, wait};
pub use told::Told;
pub use value::Value;
