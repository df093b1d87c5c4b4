use std::{
    borrow::{Borrow, Cow},
    fmt,
    hash::Hash,
    sync::Arc,
    time::Duration,
};

use super::{Key, KeyedCircuitBreakerLayer, cell::KeyedCell, place::Place};
use crate::{
    breaker::{
        CircuitBreaker, CircuitBreakerConfig, CircuitBreakerFuture, Permit, Snapshot, State,
        Subscription, Transition, WhenOpen, attempt::Attempt, config::require,
    },
    cell,
    error::{ConfigError, PolicyError, StackError},
    sync::{Ordering, read},
    verdict::{Classify, Errors},
};

/// The most places a keyed breaker can have: they are searched one after the other.
const MAX_PLACES: usize = 1 << 16;

/// A circuit breaker for each of many keys: the handle to all of them.
///
/// Copies, layers and services made from it all see and change the same breakers. They live as long
/// as the process; build it once. See the [module page](super) for when a key has a breaker.
///
/// Keys are given as anything that a map of them could be asked for: `&str` where they are `String`s.
pub struct KeyedCircuitBreaker<K: 'static> {
    pub(super) cell: &'static KeyedCell<K>,
}

impl<K: Key> KeyedCircuitBreaker<K> {
    /// Builds a keyed breaker from a configuration that was made elsewhere: each key is treated by
    /// it alone. See [`build_keyed`](crate::breaker::CircuitBreakerBuilder::build_keyed).
    ///
    /// # Errors
    ///
    /// What [`CircuitBreakerConfig::validate`] refuses; places that are not from 1 to 65 536; and
    /// [`WhenOpen::Wait`].
    pub fn from_config(
        name: impl Into<Cow<'static, str>>,
        config: CircuitBreakerConfig,
        places: usize,
    ) -> Result<Self, ConfigError> {
        let name = cell::name(name.into());
        let validate = || {
            config.validate()?;
            let rule = "must be to refuse where there are keys, which nobody can wait for";
            require(config.when_open == WhenOpen::Refuse, "when_open", rule, config.when_open)?;
            let rule = format!("must be from 1 to {MAX_PLACES}");
            require((1..=MAX_PLACES).contains(&places), "places", rule, places)
        };
        validate().map_err(|error| error.named(name))?;
        Ok(KeyedCircuitBreaker { cell: cell::forever(KeyedCell::new(name, config, places)) })
    }

    /// The name it was built with. Metrics and errors know it, and not the key.
    pub fn name(self) -> &'static str {
        self.cell.spare.name
    }

    /// The configuration it was built with, which is that of every key.
    pub fn config(self) -> &'static CircuitBreakerConfig {
        &self.cell.spare.config
    }

    /// How many keys can have a breaker at the same time.
    pub fn places(self) -> usize {
        self.cell.places
    }

    /// Memory it takes at present, in bytes: [more](super#what-it-costs) with every place that is
    /// used for the first time, and never less. What keys keep on the heap is not in it.
    pub fn bytes(self) -> usize {
        self.cell.bytes()
    }

    /// A layer that gives each request to the breaker of its key.
    ///
    /// ```
    /// use buttress::CircuitBreaker;
    /// use tower::Layer;
    ///
    /// struct Query {
    ///     shard: u32,
    /// }
    ///
    /// let shards = CircuitBreaker::builder("shards").build_keyed(256)?;
    /// let layer = shards.layer(|query: &Query| query.shard);
    /// # let _ = layer.layer(tower::service_fn(|_: Query| async { Ok::<_, buttress::BoxError>(()) }));
    /// # Ok::<(), buttress::ConfigError>(())
    /// ```
    pub fn layer<Req, F>(self, key: F) -> KeyedCircuitBreakerLayer<K, F>
    where
        F: Fn(&Req) -> K,
    {
        KeyedCircuitBreakerLayer::new(self, key)
    }

    // ---- Looking at it -------------------------------------------------------------------------

    /// What the next call with this key would meet; `None` if it has no place.
    ///
    /// Such a call meets a new breaker, which is closed, or none, if every place is taken.
    pub fn state<Q>(self, key: &Q) -> Option<State>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        read(&self.cell.index).by_key.get(key).map(|place| one(place).state())
    }

    /// What the breaker of this key looks like; `None` if it has none. Has the name of all.
    ///
    /// Generations are numbered through: those of a key need not begin at zero.
    pub fn snapshot<Q>(self, key: &Q) -> Option<Snapshot>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        read(&self.cell.index).by_key.get(key).map(|place| one(place).snapshot())
    }

    /// Every key that has a place, in no order. Looks at all places, so it is for an admin's view.
    pub fn keys(self) -> Vec<K> {
        let keys = self.cell.list(|key, _| Some(key));
        keys.iter().map(|key| K::clone(key)).collect()
    }

    /// Every key whose circuit is not simply closed, and its state, in no order: those whose places
    /// cannot be had. Looks at all places, so it is for an admin's view.
    pub fn open_keys(self) -> Vec<(K, State)> {
        let keys = self.cell.list(|key, place| {
            let state = one(place).state();
            (state != State::Closed).then_some((key, state))
        });
        keys.iter().map(|(key, state)| (K::clone(key), *state)).collect()
    }

    /// How many keys have a place.
    pub fn len(self) -> usize {
        read(&self.cell.index).by_key.len()
    }

    /// Whether no key has a place.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// How many calls have passed without a breaker, because every place was taken by a circuit
    /// that was not closed. Also the metric `buttress_breaker_unprotected_total`.
    pub fn unprotected(self) -> u64 {
        self.cell.unprotected.load(Ordering::Relaxed)
    }

    /// Calls `callback` at every transition of every key, until the subscription is dropped.
    ///
    /// As with [`CircuitBreaker::subscribe`] it runs in a task or thread that causes a transition,
    /// outside of every lock, after that is in effect; so it may use the breaker, and should not
    /// block: until the transitions of a key are told, its place cannot be had for another. Those
    /// of one key are told in order, those of two keys perhaps at the same time. A callback that
    /// panics is caught.
    pub fn subscribe(
        self,
        callback: impl Fn(&K, &Transition) + Send + Sync + 'static,
    ) -> Subscription {
        let callback = move |(key, transition): &(Arc<K>, Transition)| callback(key, transition);
        self.cell.subscribers.add(Arc::new(callback))
    }

    // ---- Taking over ---------------------------------------------------------------------------

    /// [`CircuitBreaker::force_open`] for this key, which gets a place if it has none.
    ///
    /// False, and nothing done, if every place is taken by a circuit that is not closed.
    #[must_use = "a key without a place has not been forced"]
    pub fn force_open<Q>(
        self,
        key: &Q,
        reason: impl Into<Cow<'static, str>>,
        expiry: Option<Duration>,
    ) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let pin = self.cell.find(key).or_else(|| self.cell.move_in(key));
        pin.map(|pin| one(pin.place()).force_open(reason, expiry)).is_some()
    }

    /// [`CircuitBreaker::force_closed`] for this key, which gets a place if it has none.
    ///
    /// False, and nothing done, if every place is taken by a circuit that is not closed. (A call of
    /// such a key passes all the same, being unprotected.)
    #[must_use = "a key without a place has not been forced"]
    pub fn force_closed<Q>(
        self,
        key: &Q,
        reason: impl Into<Cow<'static, str>>,
        expiry: Option<Duration>,
    ) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let pin = self.cell.find(key).or_else(|| self.cell.move_in(key));
        pin.map(|pin| one(pin.place()).force_closed(reason, expiry)).is_some()
    }

    /// [`CircuitBreaker::reset`] for this key. False if it has no place, so that there is nothing
    /// to reset.
    pub fn reset<Q>(self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.cell.find(key).map(|pin| one(pin.place()).reset()).is_some()
    }

    /// Forgets this key: whatever state its breaker is in, its place is free for another, and
    /// results of its calls no longer count. False if it has no place.
    ///
    /// For hosts that are gone for good: a circuit that is not closed keeps its place until then,
    /// even if nobody calls it any more. One that was not closed is told of as closing, with the
    /// note `removed`.
    pub fn remove<Q>(self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.cell.remove(key)
    }

    // ---- Without tower -------------------------------------------------------------------------

    /// Makes a call with this key, if its breaker lets it pass, and records what comes of it: `Ok`
    /// is a success, `Err` a failure.
    ///
    /// Nothing happens before the first poll. Dropped before it is ready it gives its probe back.
    ///
    /// # Errors
    ///
    /// What `operation` returned, or the breaker's [`PolicyError`] turned into that type, as with
    /// [`CircuitBreaker::call`].
    ///
    /// ```
    /// # tokio_test::block_on(async {
    /// use buttress::{CircuitBreaker, Error, KeyedCircuitBreaker};
    ///
    /// async fn fetch(host: &str) -> Result<String, std::io::Error> {
    /// #   Ok(String::from("hello from ") + host)
    ///     // ...
    /// }
    ///
    /// let hosts: KeyedCircuitBreaker<String> = CircuitBreaker::builder("hosts").build_keyed(100)?;
    /// let host = "example.org";
    /// let page = hosts.call(host, || async { fetch(host).await.map_err(Error::Service) }).await?;
    /// # assert_eq!(page, "hello from example.org");
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// ```
    pub async fn call<Q, F, Fut, T, E>(self, key: &Q, operation: F) -> Result<T, E>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: StackError,
    {
        self.call_with(key, Errors, operation).await
    }

    /// [`call`](Self::call), with a classifier of your own.
    pub async fn call_with<Q, C, F, Fut, T, E>(
        self,
        key: &Q,
        classifier: C,
        operation: F,
    ) -> Result<T, E>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        C: Classify<T, E>,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: StackError,
    {
        let attempt = self.cell.admit(key).map_err(PolicyError::from)?;
        running(attempt, classifier, operation).await
    }

    /// Leave to make one call with this key now, for code that calls in its own way, synchronous
    /// code too.
    pub fn try_acquire<Q>(self, key: &Q) -> Result<Permit, PolicyError>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        Ok(Permit::new(self.cell.admit(key)?))
    }
}

/// The call that this attempt is leave for.
#[inline]
pub(super) fn running<C, F, Fut>(
    mut attempt: Attempt,
    classifier: C,
    operation: F,
) -> CircuitBreakerFuture<Fut, C>
where
    F: FnOnce() -> Fut,
{
    let stopwatch = attempt.cell.meter.start();
    let inner = attempt.run(operation);
    CircuitBreakerFuture::running(inner, classifier, attempt, stopwatch)
}

/// The breaker at a place, as if it were alone.
fn one<K>(place: &'static Place<K>) -> CircuitBreaker {
    CircuitBreaker { cell: &place.breaker }
}

impl<K> Clone for KeyedCircuitBreaker<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for KeyedCircuitBreaker<K> {}

impl<K: Key> fmt::Debug for KeyedCircuitBreaker<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedCircuitBreaker")
            .field("name", &self.name())
            .field("places", &self.places())
            .field("keys", &self.len())
            .finish_non_exhaustive()
    }
}

impl<K> PartialEq for KeyedCircuitBreaker<K> {
    /// Whether both are handles to the same breakers.
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.cell, other.cell)
    }
}

impl<K> Eq for KeyedCircuitBreaker<K> {}
