//! From the disk back into the core, at start.

use taskq_core::{
    Config, Restore, State,
    effect::Outcome,
    id::{Epoch, Now},
};

use crate::store::{Error, Store};

/// The restored state, in a new epoch that is already durable.
///
/// # Errors
/// If the store cannot be read, or the epoch not be written.
pub fn restore(store: &dyn Store, mut config: Config, now: Now) -> Result<(State, Epoch), Error> {
    let mut restore = Restore::new();
    let highest = store.load(&mut |write| restore.apply(write))?;
    config.epoch = Epoch(restore.epoch().0 + 1);
    let epoch = config.epoch;
    let mut out = Outcome::default();
    let state = restore.finish(config, highest, now, &mut out);
    store.commit(&out.writes)?;
    assert!(out.effects.is_empty(), "nobody is there yet who could be told anything");
    Ok((state, epoch))
}
