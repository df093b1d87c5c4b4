//! What happens in the task of one message.

use std::{any::Any, fmt};

use tower_service::Service;

use super::{Handled, hand::Id};
use crate::{
    error::StackError,
    ready_call::ReadyCall,
    verdict::{Classify, Verdict},
};

/// What the task of a message tells the driver.
pub(super) struct Finished {
    pub(super) id: Id,
    pub(super) handled: Handled,
    pub(super) reason: String,
}

/// Decodes a payload, has it handled by a handler of its own, and reads the outcome.
pub(super) async fn handle<P, T, E, S, C>(
    id: Id,
    payload: P,
    decode: impl Fn(&P) -> Result<T, E>,
    handler: S,
    classifier: C,
) -> Finished
where
    E: fmt::Display,
    S: Service<T>,
    S::Error: StackError + fmt::Display,
    C: Classify<S::Response, S::Error>,
{
    let decoded = decode(&payload).map_err(|error| format!("undecodable: {error}"));
    drop(payload);
    let request = match decoded {
        Ok(request) => request,
        Err(reason) => return Finished { id, handled: Handled::Undecodable, reason },
    };
    let outcome = ReadyCall::new(handler, request).await;
    let verdict = match Verdict::of(&classifier, &outcome) {
        // There is nobody who set this message a time: it is a slow attempt like any other, and to
        // hold it for a dependency that is up would be to hold it for ever.
        Verdict::Refused { .. } if is_for_want_of_time(&outcome) => Verdict::Transient,
        verdict => verdict,
    };
    let reason = match (&outcome, verdict) {
        (Err(error), _) => error.to_string(),
        (Ok(_), Verdict::Success) => String::new(),
        (Ok(_), verdict) => format!("the handler's answer was {}", verdict.kind().as_str()),
    };
    Finished { id, handled: Handled::Verdict(verdict), reason }
}

fn is_for_want_of_time<Res, Err: StackError>(outcome: &Result<Res, Err>) -> bool {
    let policy = outcome.as_ref().err().and_then(StackError::policy_error);
    policy.is_some_and(crate::error::PolicyError::is_callers_hurry)
}

/// What a panic said, as far as it was text.
pub(super) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| String::from(*text));
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.map_or_else(|| String::from("panicked"), |text| format!("panicked: {text}"))
}
