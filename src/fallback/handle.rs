use std::{borrow::Cow, fmt};

use super::{
    FallbackBuilder, FallbackConfig, FallbackCounts, FallbackLayer,
    answer::{AsyncFunction, Backup, Function, Value},
    cell::FallbackCell,
};
use crate::{cell::forever, error::ConfigError};

/// Something to answer with when a service cannot. See the [module page](super).
///
/// A handle that copies for free: every layer made from it counts in one place.
#[derive(Clone, Copy)]
pub struct Fallback {
    pub(super) cell: &'static FallbackCell,
}

/// Of every fallback without a name.
static UNNAMED: FallbackCell = FallbackCell::new("", FallbackConfig::DEFAULT);

impl Fallback {
    /// Builds a fallback that reports under this name.
    pub fn builder(name: impl Into<Cow<'static, str>>) -> FallbackBuilder {
        FallbackBuilder::new(name.into(), FallbackConfig::default())
    }

    /// Validates the configuration and builds from it.
    pub fn from_config(
        name: impl Into<Cow<'static, str>>,
        config: FallbackConfig,
    ) -> Result<Self, ConfigError> {
        FallbackBuilder::new(name.into(), config).build()
    }

    /// The fallback without a name, with the default configuration. There is only one: all its
    /// layers are counted together.
    pub const fn unnamed() -> Self {
        Fallback { cell: &UNNAMED }
    }

    pub(super) fn new(name: &'static str, config: FallbackConfig) -> Self {
        Fallback { cell: forever(FallbackCell::new(name, config)) }
    }

    /// The name it was built with; empty if it was given none.
    pub const fn name(self) -> &'static str {
        self.cell.name
    }

    /// What it was built from.
    pub const fn config(self) -> &'static FallbackConfig {
        &self.cell.config
    }

    /// How often it was needed, and what came of it, over all its layers. Each count is exact;
    /// together they may be some calls apart while calls are under way.
    pub fn counts(self) -> FallbackCounts {
        self.cell.counts()
    }

    /// A layer that answers with this value: an empty list, a default, a page that says sorry.
    ///
    /// The value is cloned when it is needed, and the request never. It is kept for the life of
    /// the process, so make the layer once and not per call.
    pub fn to_value<V>(self, value: V) -> FallbackLayer<Value<V>>
    where
        V: Clone + Send + Sync + 'static,
    {
        FallbackLayer::new(self, Value::new(forever(value)))
    }

    /// A layer that answers with a function of the failed outcome.
    ///
    /// The function gets the outcome itself (which is `Ok` where a classifier calls a response a
    /// failure) and may give it back as it is: such a call counts as failed. It runs inside `poll`
    /// or `call`, so it should not block. The request is never cloned. The function is kept for the
    /// life of the process, so make the layer once and not per call.
    pub fn to_fn<F, Res, Err>(self, function: F) -> FallbackLayer<Function<F, Res, Err>>
    where
        F: Fn(Result<Res, Err>) -> Result<Res, Err> + Send + Sync + 'static,
    {
        FallbackLayer::new(self, Function::new(forever(function)))
    }

    /// A layer that answers with an async function of the failed outcome: one that reads a default from
    /// a file, say. It does not see the request: a cache of answers is a
    /// [backup service](super#four-kinds). Otherwise the same as [`to_fn`](Fallback::to_fn).
    pub fn to_async_fn<F, Fut, Res, Err>(
        self,
        function: F,
    ) -> FallbackLayer<AsyncFunction<F, Res, Err>>
    where
        F: Fn(Result<Res, Err>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Res, Err>>,
    {
        FallbackLayer::new(self, AsyncFunction::new(forever(function)))
    }

    /// A layer that answers with a backup service: a replica, a second provider.
    ///
    /// Give the backup a timeout of its own: none of the primary's covers it, as a fallback is outside
    /// of all of them.
    ///
    /// The backup is cloned and waited for only when it is needed. The request is copied before
    /// each call of the primary, which may then consume it; [`clone_with`](FallbackLayer::clone_with)
    /// says how, for requests that are not `Clone`. The backup is kept for the life of the process,
    /// so make the layer once and not per call. A boxed backup has to be a
    /// `tower::util::BoxCloneSyncService`.
    pub fn to_service<B>(self, backup: B) -> FallbackLayer<Backup<B>>
    where
        B: Clone + Send + Sync + 'static,
    {
        FallbackLayer::new(self, Backup::new(forever(backup)))
    }
}

impl fmt::Debug for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback")
            .field("name", &self.name())
            .field("config", &self.cell.config)
            .field("counts", &self.counts())
            .finish()
    }
}
