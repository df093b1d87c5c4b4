//! The policies around a client, from the outside in.
//!
//! It is [`Standard`]'s order, with two differences that take the parts by hand: the breaker watches
//! bodies to their end, or connections alone; and there are up to two fallbacks, to a backup and to
//! a static answer.

use std::error::Error as StdError;

use buttress::{
    CircuitBreaker, Error, Fallback, ServiceErrors, Stack, Standard, Timeout,
    http::{
        BodyTimeout, Connections, ExtensionContext, Idempotent, InboundLayer, PropagateLayer,
        ReplayLayer, Responses,
    },
    standard::OptionalLayer,
};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::{Body, Incoming};
use hyper_util::client::legacy;
use tower::{
    BoxError, Layer, ServiceExt,
    util::{BoxCloneSyncService, MapResponseLayer},
};

use crate::{
    client::{Outgoing, client},
    config::{DegradedSettings, Monitor, UpstreamSettings},
    headers::{DEGRADED, Via},
};

/// Bodies of answers, whoever's they are.
pub(crate) type Answer = UnsyncBoxBody<Bytes, BoxError>;

/// What can become of a request that was passed on.
pub(crate) type Outcome = Result<Response<Answer>, Error<legacy::Error>>;

/// The whole stack. In a box, because its type is some twenty types deep and this is the edge.
type Boxed<Req> = BoxCloneSyncService<Req, Response<Answer>, Error<legacy::Error>>;

/// One upstream with its policies around it.
pub(crate) struct Protected {
    pub(crate) standard: Standard,
    pub(crate) breaker: CircuitBreaker,
    /// Of the backup, where there is one.
    pub(crate) backup: Option<Fallback>,
    degraded: Option<DegradedSettings>,
    /// Both are the same policies; one has an answer for when they are at their wits' end.
    with_static_answer: Boxed<Request<Incoming>>,
    without: Boxed<Request<Incoming>>,
}

impl Protected {
    /// Builds and checks the policies.
    pub(crate) fn new(
        name: &str,
        settings: UpstreamSettings,
        via: &Via,
    ) -> Result<Self, Box<dyn StdError>> {
        let policies = settings.policies.clone();
        let standard = Standard::from_config(name.to_owned(), policies)?;
        let breaker = standard.breaker().ok_or("there is no breaker")?;
        let timeout = BodyTimeout::from_config(name.to_owned(), settings.body_timeout.clone())?;
        let primary = primary(&settings, standard, breaker, timeout, via)?;

        let (guarded, backup) = match &settings.backup {
            None => (primary, None),
            Some(target) => {
                let name = format!("{name}/backup");
                let fallback = settings.policies.fallback.clone().unwrap_or_default();
                let fallback = Fallback::from_config(name.clone(), fallback)?;
                let limit = Timeout::from_config(name.clone(), settings.backup_timeout.clone())?;
                let bodies = BodyTimeout::from_config(name, settings.body_timeout.clone())?;
                let backup = Stack::new()
                    .context(ExtensionContext)
                    .layer(MapResponseLayer::new(from_backup))
                    .timeout(limit)
                    .layer(PropagateLayer::new())
                    .layer(MapResponseLayer::new(erase))
                    .layer(bodies.layer())
                    .layer(ServiceErrors)
                    .service(client(target, via.clone())?);
                let guarded = Stack::http().named_fallback_to(fallback, backup).service(primary);
                (BoxCloneSyncService::new(guarded), Some(fallback))
            }
        };

        // Outermost, so that whatever is sent again further in can be.
        let inbound = InboundLayer::new();
        let inbound = if settings.trust_inbound { inbound.trust_inbound() } else { inbound };
        let replayed = (inbound, ReplayLayer::new().limit(settings.replay_limit)).layer(guarded);
        let with_static_answer = match (&settings.degraded, standard.fallback()) {
            (Some(degraded), Some(fallback)) => {
                let answer = static_answer(degraded)?;
                let answer = fallback.to_fn(move |_: Outcome| Ok(answer()));
                let service = Stack::http().fallback(answer).service(replayed.clone());
                BoxCloneSyncService::new(service)
            }
            _ => BoxCloneSyncService::new(replayed.clone()),
        };
        let without = BoxCloneSyncService::new(replayed);
        let degraded = settings.degraded;
        Ok(Protected { standard, breaker, backup, degraded, with_static_answer, without })
    }

    /// What counts the static answers, where there is one.
    pub(crate) fn static_answer(&self) -> Option<Fallback> {
        self.standard.fallback().filter(|_| self.degraded.is_some())
    }

    pub(crate) async fn call(&self, request: Request<Incoming>) -> Outcome {
        let degraded = self.degraded.as_ref();
        let answers = degraded.is_some_and(|it| it.answers(request.method()));
        let service = if answers { &self.with_static_answer } else { &self.without };
        service.clone().oneshot(request).await
    }
}

/// What `Standard` would build, around the client.
fn primary(
    settings: &UpstreamSettings,
    standard: Standard,
    breaker: CircuitBreaker,
    bodies: BodyTimeout,
    via: &Via,
) -> Result<Boxed<Outgoing>, Box<dyn StdError>> {
    let timed = |timeout: Timeout| timeout.layer().context(ExtensionContext);
    let whole = OptionalLayer::from(standard.timeout().map(timed));
    let each = OptionalLayer::from(standard.attempt_timeout().map(timed));
    let retry = OptionalLayer::from(standard.retry().map(|retry| {
        retry.layer().classify(Responses::new()).clone_with(Idempotent).context(ExtensionContext)
    }));
    let attempt = Stack::new()
        .layer(each)
        .layer(PropagateLayer::new())
        .layer(bodies.layer())
        .layer(ServiceErrors)
        .service(client(&settings.primary, via.clone())?);
    let operation = Stack::new().layer(whole).layer(retry);
    Ok(match settings.monitor {
        Monitor::Responses => {
            let breaker = breaker.layer().classify(Responses::new()).through_body();
            let attempts =
                Stack::new().layer(MapResponseLayer::new(erase)).layer(breaker).service(attempt);
            BoxCloneSyncService::new(operation.service(attempts))
        }
        Monitor::Connections => {
            let breaker = breaker.layer().classify(Connections);
            let attempts =
                Stack::new().layer(MapResponseLayer::new(erase)).layer(breaker).service(attempt);
            BoxCloneSyncService::new(operation.service(attempts))
        }
    })
}

/// One type for the bodies of all services, so that they can stand in for each other.
fn erase<B>(response: Response<B>) -> Response<Answer>
where
    B: Body<Data = Bytes, Error = BoxError> + Send + 'static,
{
    response.map(BodyExt::boxed_unsync)
}

fn from_backup(mut response: Response<Answer>) -> Response<Answer> {
    response.headers_mut().insert(DEGRADED, HeaderValue::from_static("backup"));
    response
}

/// Makes the static answer, as often as it is needed.
fn static_answer(
    degraded: &DegradedSettings,
) -> Result<impl Fn() -> Response<Answer> + Send + Sync + 'static, Box<dyn StdError>> {
    let body = Bytes::from(degraded.body.clone());
    let template = Response::builder()
        .status(degraded.status)
        .header(header::CONTENT_TYPE, &degraded.content_type)
        .header(header::CONTENT_LENGTH, body.len())
        .header(DEGRADED, "static")
        .body(())?;
    Ok(move || template.clone().map(|()| whole(body.clone())))
}

/// A body that is there.
pub(crate) fn whole(body: Bytes) -> Answer {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}
