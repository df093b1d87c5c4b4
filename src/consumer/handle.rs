use std::{borrow::Cow, convert::Infallible, fmt, sync::Arc};

use tokio::sync::mpsc;
use tower_service::Service;

use super::{
    ConsumerBuilder, ConsumerConfig, Delivery, Running, Source, config::Decide, driver::Driver,
    handling::handle, running::Shared,
};
use crate::{
    breaker::CircuitBreaker,
    error::StackError,
    verdict::{Classify, Errors},
};

/// Drives a handler with the deliveries of a source. See the [module page](super).
///
/// It is a description, and starts as many times as it is told to; each start is a consumer of its
/// own.
#[derive(Clone)]
pub struct Consumer<C = Errors> {
    pub(super) name: &'static str,
    pub(super) config: ConsumerConfig,
    pub(super) gate: Option<CircuitBreaker>,
    pub(super) decide: Option<Decide>,
    pub(super) classifier: C,
}

impl Consumer {
    /// Begins a consumer. The name is what metrics and logs call it.
    pub fn builder(name: impl Into<Cow<'static, str>>) -> ConsumerBuilder {
        ConsumerBuilder::new(name.into(), ConsumerConfig::default())
    }

    /// Begins with a configuration that was made elsewhere; a gate and functions can be added.
    pub fn from_config(
        name: impl Into<Cow<'static, str>>,
        config: ConsumerConfig,
    ) -> ConsumerBuilder {
        ConsumerBuilder::new(name.into(), config)
    }
}

impl<C> Consumer<C> {
    pub(super) fn new(
        name: &'static str,
        config: ConsumerConfig,
        gate: Option<CircuitBreaker>,
        decide: Option<Decide>,
        classifier: C,
    ) -> Self {
        Consumer { name, config, gate, decide, classifier }
    }

    /// The name it was built with.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The configuration it was built with.
    pub fn config(&self) -> &ConsumerConfig {
        &self.config
    }

    /// Begins to consume: hands each payload to a clone of `handler`, and settles it by what comes of
    /// that.
    ///
    /// Takes one task of its own and one for each handler that runs, so that a handler that computes
    /// does not keep the others, and their heartbeats, from going on.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime whose timers are on.
    pub fn start<Src, S>(&self, source: Src, handler: S) -> Running
    where
        Src: Source,
        S: Service<<Src::Delivery as Delivery>::Payload> + Clone + Send + 'static,
        S::Response: Send + 'static,
        S::Error: StackError + fmt::Display + Send + 'static,
        S::Future: Send + 'static,
        C: Classify<S::Response, S::Error> + Clone + Send + Sync + 'static,
    {
        let decode =
            |payload: &<Src::Delivery as Delivery>::Payload| Ok::<_, Infallible>(payload.clone());
        self.start_decoded(source, decode, handler)
    }

    /// Begins to consume, and decodes each payload before the handler gets it. One that cannot be
    /// decoded, now or ever, is a dead letter, with the error as its reason.
    ///
    /// `decode` runs in the task of the handler.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime whose timers are on.
    pub fn start_decoded<Src, F, T, E, S>(&self, source: Src, decode: F, handler: S) -> Running
    where
        Src: Source,
        F: Fn(&<Src::Delivery as Delivery>::Payload) -> Result<T, E> + Send + Sync + 'static,
        T: Send + 'static,
        E: fmt::Display + 'static,
        S: Service<T> + Clone + Send + 'static,
        S::Response: Send + 'static,
        S::Error: StackError + fmt::Display + Send + 'static,
        S::Future: Send + 'static,
        C: Classify<S::Response, S::Error> + Clone + Send + Sync + 'static,
    {
        let (stop, stopped) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::new(self.name));
        let (decode, classifier) = (Arc::new(decode), self.classifier.clone());
        let work = move |id, payload| {
            let decode = Arc::clone(&decode);
            handle(id, payload, move |it| decode(it), handler.clone(), classifier.clone())
        };
        let driver = Driver::new(self, source, work, Arc::clone(&shared), stopped);
        let task = tokio::spawn(driver.run());
        Running { shared, stop, task }
    }
}

impl<C> fmt::Debug for Consumer<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("name", &self.name)
            .field("config", &self.config)
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}
