use tower_layer::{Identity, Layer};

use crate::{
    breaker::{
        CircuitBreaker, CircuitBreakerLayer, KeyedCircuitBreaker,
        keyed::{Key, KeyedCircuitBreakerLayer},
    },
    context::{Carried, NoContext},
    fallback::{Backup, Fallback, FallbackLayer, Value},
    request::Cloned,
    retry::RetryLayer,
    standard::{Standard, StandardLayer},
    timeout::{Fixed, Timeout, TimeoutLayer},
    verdict::Errors,
};

/// Builds a stack of policies that all agree on what a failure is.
///
/// Like tower's `ServiceBuilder`: layers are written from the outside in, a request passes them in
/// that order, and any foreign layer goes in with [`layer`](Stack::layer). What it adds is that one
/// classifier, and one way to copy requests, reach every policy. Each policy also works under
/// `ServiceBuilder` with a `.classify(..)` of its own; but there it is easy to give a classifier to
/// the breaker and forget the others, and then a client that answers `Ok(503)` looks like a success
/// to the retry and the fallback, and *fills* the retry budget during an outage.
///
/// A stack is itself a [`Layer`], so it goes wherever one fits.
///
/// ```
/// use buttress::{CircuitBreaker, Retry, ServiceErrors, Stack, Verdict, classify_response};
/// use std::{io, time::Duration};
/// use tower::{Service, ServiceExt};
///
/// #[derive(Clone)]
/// struct Reply { status: u16 }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let breaker = CircuitBreaker::builder("payments").build()?;
/// let retry = Retry::builder("payments").max_attempts(3).build()?;
///
/// let mut client = Stack::classified(classify_response(|reply: &Reply| match reply.status {
///     500.. => Verdict::Transient,
///     400.. => Verdict::Permanent,
///     _ => Verdict::Success,
/// }))
/// .fallback_to_value(Reply { status: 203 })   // a degraded answer, the last resort
/// .timeout(Duration::from_secs(3))            // the whole operation
/// .retry(retry)
/// .breaker(breaker)
/// .timeout(Duration::from_millis(500))        // each attempt
/// .layer(ServiceErrors)                       // the client's error becomes `Error::Service`
/// .service(tower::service_fn(|_: ()| async { Ok::<_, io::Error>(Reply { status: 503 }) }));
///
/// let reply = client.ready().await?.call(()).await?;
/// assert_eq!(reply.status, 203);
/// assert_eq!(retry.counts().retried, 2);
/// # Ok(()) }
/// ```
///
/// See the [crate's page](crate#the-order-of-layers) for the order of layers and the reasons.
///
/// # Keeping one
///
/// The type of a service in a stack is long. To keep it in a field, such as the state of an axum server,
/// box it, which costs an allocation for each call:
///
/// ```
/// use buttress::{Error, ServiceErrors, Stack};
/// use std::{io, time::Duration};
/// use tower::{ServiceExt, util::BoxCloneSyncService};
///
/// #[derive(Clone)]
/// struct App {
///     stock: BoxCloneSyncService<String, u32, Error<io::Error>>,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let stock = Stack::new()
///     .timeout(Duration::from_secs(1))
///     .layer(ServiceErrors)
///     .service(tower::service_fn(|_: String| async { Ok::<_, io::Error>(42) }));
/// let app = App { stock: BoxCloneSyncService::new(stock) };
///
/// assert_eq!(app.stock.clone().oneshot(String::from("apples")).await?, 42);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "nothing is wrapped until `service` is called"]
pub struct Stack<C = Errors, K = Cloned, L = Identity, X = NoContext> {
    classifier: C,
    copier: K,
    carrier: X,
    layers: L,
}

/// A [`Stack`] with one more layer, `T`, inside of its layers `L`.
type Layered<C, K, X, T, L> = Stack<C, K, tower_layer::Stack<T, L>, X>;

impl Stack {
    /// A stack in which `Ok` is a success and `Err` is transient.
    pub const fn new() -> Self {
        Stack::classified(Errors)
    }
}

impl Default for Stack {
    fn default() -> Self {
        Stack::new()
    }
}

impl<C> Stack<C> {
    /// A stack in which this [classifier](crate::Classify) says what outcomes mean.
    pub const fn classified(classifier: C) -> Self {
        Stack { classifier, copier: Cloned, carrier: NoContext, layers: Identity::new() }
    }
}

impl<C, K, X> Stack<C, K, Identity, X> {
    /// How retries and a backup service copy requests: a [`CloneRequest`](crate::CloneRequest),
    /// such as `reqwest::Request::try_clone`. Before the first layer, because it holds for all.
    ///
    /// Default: [`Cloned`], by the request's `Clone`.
    pub fn clone_with<J>(self, copier: J) -> Stack<C, J, Identity, X> {
        let Stack { classifier, copier: _, carrier, layers } = self;
        Stack { classifier, copier, carrier, layers }
    }

    /// How timeouts and retries learn what callers have said about a request, and tell those below:
    /// a [`CarryContext`](crate::CarryContext). See [`crate::context`]. Before the first layer,
    /// because it holds for all.
    ///
    /// Default: [`NoContext`], they learn and tell nothing.
    pub fn context<Y>(self, carrier: Y) -> Stack<C, K, Identity, Carried<Y>> {
        let Stack { classifier, copier, carrier: _, layers } = self;
        Stack { classifier, copier, carrier: Carried(carrier), layers }
    }
}

impl<C, K, X, L> Stack<C, K, L, X> {
    #[cfg(feature = "http")]
    pub(crate) const fn classifier(&self) -> &C {
        &self.classifier
    }

    /// Any layer, inside of those written before it.
    ///
    /// It is put in as it is: a policy's layer that comes in by this way is not given the stack's
    /// classifier, as by the policy's own method it is, and needs its own `.classify(..)`.
    pub fn layer<T>(self, layer: T) -> Layered<C, K, X, T, L> {
        let Stack { classifier, copier, carrier, layers } = self;
        Stack { classifier, copier, carrier, layers: tower_layer::Stack::new(layer, layers) }
    }

    /// Wraps a service in all the layers.
    pub fn service<S>(&self, service: S) -> L::Service
    where
        L: Layer<S>,
    {
        self.layers.layer(service)
    }
}

impl<C: Clone, K: Clone, X: Clone, L> Stack<C, K, L, X> {
    /// Gives up what takes longer: a [`Timeout`], or a duration for one without a name.
    pub fn timeout(
        self,
        timeout: impl Into<Timeout>,
    ) -> Layered<C, K, X, TimeoutLayer<Fixed, X>, L> {
        let layer = timeout.into().layer().carried(self.carrier.clone());
        self.layer(layer)
    }

    /// Repeats what failed in passing: a [`Retry`](crate::Retry), or its layer with a hook that
    /// [prepares](RetryLayer::prepare) repeated requests.
    pub fn retry<P>(
        self,
        retry: impl Into<RetryLayer<Errors, Cloned, P>>,
    ) -> Layered<C, K, X, RetryLayer<C, K, P, X>, L> {
        let layer = retry.into();
        let layer = layer.classify(self.classifier.clone()).clone_with(self.copier.clone());
        let layer = layer.carried(self.carrier.clone());
        self.layer(layer)
    }

    /// The recommended policies in the recommended order; see [`standard`](crate::standard).
    /// A fallback goes before it.
    pub fn standard(self, standard: Standard) -> Layered<C, K, X, StandardLayer<C, K, X>, L> {
        let layer = standard.layer();
        let layer = layer.classify(self.classifier.clone()).clone_with(self.copier.clone());
        let layer = layer.carried(self.carrier.clone());
        self.layer(layer)
    }

    /// Refuses what is bound to fail.
    pub fn breaker(self, breaker: CircuitBreaker) -> Layered<C, K, X, CircuitBreakerLayer<C>, L> {
        let layer = breaker.layer().classify(self.classifier.clone());
        self.layer(layer)
    }

    /// Refuses what is bound to fail, with a [breaker for each key](crate::breaker::keyed).
    ///
    /// ```
    /// use buttress::{CircuitBreaker, ServiceErrors, Stack, Verdict, breaker::State, classify_response};
    /// use tower::ServiceExt;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let hosts = CircuitBreaker::builder("hosts").consecutive_failures(3).build_keyed(100)?;
    /// let client = Stack::classified(classify_response(|status: &u16| match status {
    ///     500.. => Verdict::Transient,
    ///     _ => Verdict::Success,
    /// }))
    /// .keyed_breaker(hosts, |host: &String| host.clone())
    /// .layer(ServiceErrors)
    /// .service(tower::service_fn(|_: String| async { Ok::<_, std::io::Error>(503) }));
    ///
    /// for _ in 0..3 {
    ///     assert_eq!(client.clone().oneshot(String::from("a")).await?, 503);
    /// }
    /// assert_eq!(hosts.state("a"), Some(State::Open));
    /// # Ok(()) }
    /// ```
    pub fn keyed_breaker<Req, H: Key, F: Fn(&Req) -> H>(
        self,
        breakers: KeyedCircuitBreaker<H>,
        key: F,
    ) -> Layered<C, K, X, KeyedCircuitBreakerLayer<H, F, C>, L> {
        let layer = breakers.layer(key).classify(self.classifier.clone());
        self.layer(layer)
    }

    /// Answers for a service that cannot: any of [`Fallback`]'s layers, with this stack's
    /// classifier. For a backup service [`fallback_to`](Self::fallback_to) is the one to use: it
    /// copies requests as this stack does.
    pub fn fallback<A>(
        self,
        fallback: FallbackLayer<A>,
    ) -> Layered<C, K, X, FallbackLayer<A, C>, L> {
        let layer = fallback.classify(self.classifier.clone());
        self.layer(layer)
    }

    /// Answers with a value. Short for a [`Fallback`] without a name.
    pub fn fallback_to_value<V>(self, value: V) -> Layered<C, K, X, FallbackLayer<Value<V>, C>, L>
    where
        V: Clone + Send + Sync + 'static,
    {
        self.fallback(Fallback::unnamed().to_value(value))
    }

    /// Answers with a backup service, which gets copies made as this stack makes them. Short for a
    /// [`Fallback`] without a name.
    ///
    /// Give the backup a timeout of its own: none of this stack's covers it.
    pub fn fallback_to<B>(self, backup: B) -> Layered<C, K, X, FallbackLayer<Backup<B, K>, C>, L>
    where
        B: Clone + Send + Sync + 'static,
    {
        self.named_fallback_to(Fallback::unnamed(), backup)
    }

    /// [`fallback_to`](Self::fallback_to), reported and configured as this [`Fallback`].
    pub fn named_fallback_to<B>(
        self,
        fallback: Fallback,
        backup: B,
    ) -> Layered<C, K, X, FallbackLayer<Backup<B, K>, C>, L>
    where
        B: Clone + Send + Sync + 'static,
    {
        let layer = fallback.to_service(backup).clone_with(self.copier.clone());
        let layer = layer.classify(self.classifier.clone());
        self.layer(layer)
    }
}

impl<S, C, K, X, L> Layer<S> for Stack<C, K, L, X>
where
    L: Layer<S>,
{
    type Service = L::Service;

    fn layer(&self, service: S) -> Self::Service {
        self.layers.layer(service)
    }
}
