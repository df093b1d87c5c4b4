use std::fmt;

/// A configuration that no policy can be built from.
///
/// Says which policy, which field, what is allowed and what was given, in one line:
///
/// ```
/// use buttress::CircuitBreaker;
///
/// let error = CircuitBreaker::builder("payments").failure_ratio(1.5).build().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     r#"circuit breaker "payments": failure_ratio must be above 0 and at most 1, but is 1.5"#
/// );
/// assert_eq!(error.field(), "failure_ratio");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{policy}{}: {field} {rule}, but is {given}", Named(*.name))]
pub struct ConfigError {
    policy: &'static str,
    name: Option<&'static str>,
    field: &'static str,
    rule: String,
    given: String,
}

impl ConfigError {
    /// `rule` reads on from the field: "must be above 0 and at most 1".
    pub(crate) fn new(
        policy: &'static str,
        field: &'static str,
        rule: impl Into<String>,
        given: impl fmt::Debug,
    ) -> Self {
        let given = format!("{given:?}");
        ConfigError { policy, name: None, field, rule: rule.into(), given }
    }

    /// The same error, told of the policy with this name.
    pub(crate) fn named(self, name: &'static str) -> Self {
        ConfigError { name: Some(name), ..self }
    }

    /// The kind of policy, such as `circuit breaker`.
    pub fn policy(&self) -> &'static str {
        self.policy
    }

    /// The name the policy was to have, where it was known.
    pub fn name(&self) -> Option<&'static str> {
        self.name
    }

    /// The field of the configuration struct, which is also the name of the builder's method.
    pub fn field(&self) -> &'static str {
        self.field
    }
}

/// ` "payments"`, or nothing where the name is not known yet.
struct Named(Option<&'static str>);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => write!(f, " {name:?}"),
            None => Ok(()),
        }
    }
}
