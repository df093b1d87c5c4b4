//! Law 11 for bodies: what is watched or limited in time allocates nothing.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use allocation_counter::measure;
use buttress::{CircuitBreaker, Error, http::body::BodyTimeout};
use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame};
use tokio::time::advance;
use tower::{Layer, Service, service_fn};

use crate::script::ms;

/// So many pieces, each after having been pending once.
struct Pieces {
    left: usize,
    pending: bool,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.pending = !self.pending;
        if self.pending {
            return Poll::Pending;
        }
        Poll::Ready(self.left.checked_sub(1).map(|left| {
            self.left = left;
            Ok(Frame::data(Bytes::from_static(b"piece")))
        }))
    }
}

#[tokio::test(start_paused = true)]
async fn law_11_a_body_that_is_watched_and_limited_allocates_nothing() {
    let breaker = CircuitBreaker::builder("costs").build().unwrap();
    let timeout = BodyTimeout::builder("costs").stall(ms(100)).total(ms(1000)).build().unwrap();
    let client = service_fn(|left| async move {
        Ok::<_, Error<std::io::Error>>(Response::new(Pieces { left, pending: false }))
    });
    let mut client = breaker.layer().through_body().layer(timeout.layer().layer(client));
    let mut cx = Context::from_waker(Waker::noop());
    for warm in [false, true] {
        let mut count = 0;
        let mut made = None;
        count += measure(|| {
            assert!(client.poll_ready(&mut cx).is_ready());
            made = Some(client.call(5));
        })
        .count_total;
        let mut made = pin!(made.unwrap());
        let mut outcome = Poll::Pending;
        count += measure(|| outcome = made.as_mut().poll(&mut cx)).count_total;
        let Poll::Ready(Ok(response)) = outcome else { panic!("it was ready at once") };
        let mut body = pin!(response.into_body());
        let mut pieces = 0;
        loop {
            let mut frame = Poll::Pending;
            count += measure(|| frame = body.as_mut().poll_frame(&mut cx)).count_total;
            match frame {
                Poll::Pending => advance(ms(10)).await,
                Poll::Ready(Some(frame)) => {
                    assert!(frame.unwrap().is_data());
                    pieces += 1;
                }
                Poll::Ready(None) => break,
            }
        }
        assert_eq!(pieces, 5);
        assert!(!warm || count == 0, "{count} allocations");
    }
    assert_eq!(breaker.snapshot().calls, 2);
}
