use super::{Idempotent, Responses};
use crate::stack::Stack;

impl Stack {
    /// The way to begin for an HTTP client: outcomes are [`Responses`], and requests are repeated
    /// only where they are [`Idempotent`] or were not sent.
    ///
    /// The same as `Stack::classified(http::Responses::new()).clone_with(http::Idempotent)`.
    pub fn http() -> Stack<Responses, Idempotent> {
        Stack::classified(Responses::new()).clone_with(Idempotent)
    }
}
