use std::{fmt::Debug, hash::Hash};

/// What tells one breaker of a keyed one from the others: a host, a shard, a tenant.
///
/// Implemented for every type that can be one. `Hash`, `Eq` and `Clone` should be what they are for
/// the key of any map; the first two run under a lock, and must not use the breaker. `Debug` is what
/// logs show, so it should be short and hold no secret.
pub trait Key: Hash + Eq + Clone + Debug + Send + Sync + 'static {}

impl<K: Hash + Eq + Clone + Debug + Send + Sync + 'static> Key for K {}
