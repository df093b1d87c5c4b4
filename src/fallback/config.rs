use std::borrow::Cow;

use super::{Fallback, VerdictKinds};
use crate::{cell, error::ConfigError, verdict::VerdictKind};

/// What a [`Fallback`] is built from.
///
/// With feature `serde`: a table such as `{ when = ["transient", "refused"] }`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct FallbackConfig {
    /// Which outcomes the fallback answers. See [`FallbackBuilder::when`].
    pub when: VerdictKinds,
}

impl FallbackConfig {
    /// The default, for a `static`.
    pub(super) const DEFAULT: FallbackConfig = FallbackConfig {
        when: VerdictKinds::NONE
            .with(VerdictKind::Transient)
            .with(VerdictKind::Unreachable)
            .with(VerdictKind::Throttled)
            .with(VerdictKind::Final)
            .with(VerdictKind::Refused),
    };

    /// Whether a fallback can be built from this: `when` names at least one verdict, and not
    /// `success`.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let rule = if self.when.is_empty() {
            "must name at least one verdict, or the fallback would never answer"
        } else if self.when.contains(VerdictKind::Success) {
            "must not name success, or the fallback would replace every good answer"
        } else {
            return Ok(());
        };
        Err(ConfigError::new("fallback", "when", rule, self.when))
    }
}

impl Default for FallbackConfig {
    fn default() -> Self {
        FallbackConfig::DEFAULT
    }
}

/// Builds a [`Fallback`]; made by [`Fallback::builder`].
#[derive(Clone, Debug)]
pub struct FallbackBuilder {
    name: Cow<'static, str>,
    config: FallbackConfig,
}

impl FallbackBuilder {
    pub(super) fn new(name: Cow<'static, str>, config: FallbackConfig) -> Self {
        FallbackBuilder { name, config }
    }

    /// Which outcomes the fallback answers: at least one kind of verdict, and not `Success`.
    ///
    /// Default: `Transient`, `Unreachable`, `Throttled`, `Final` and `Refused`, which are the ways in
    /// which a service is not there. A `Permanent` answer (a 404, a validation error) *is* an answer,
    /// and replacing it would hide a mistake of the caller's; an `Ignored` outcome is one that nobody
    /// waits for. Name those two where you know better.
    pub fn when(mut self, kinds: impl IntoIterator<Item = VerdictKind>) -> Self {
        self.config.when = kinds.into_iter().collect();
        self
    }

    /// Validates and builds. The fallback is kept for the life of the process.
    pub fn build(self) -> Result<Fallback, ConfigError> {
        let name = cell::name(self.name);
        self.config.validate().map_err(|error| error.named(name))?;
        Ok(Fallback::new(name, self.config))
    }
}
