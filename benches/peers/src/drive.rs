//! Poll-loop drivers: no executor, a no-op waker, every call must be ready.

use std::{
    future::Future,
    hint::black_box,
    mem::size_of,
    pin::pin,
    task::{Context, Poll, Waker},
};
use tower_service::Service;

/// Outcome of a batch. Folding every result into it keeps the optimiser honest.
#[derive(Default, Clone, Copy, Debug)]
pub struct Tally {
    pub ok: u64,
    pub err: u64,
    pub sum: u64,
}

pub struct Built {
    /// `size_of` the future handed to the caller (0 = not async).
    pub fut_size: usize,
    pub run: Box<dyn FnMut(u64) -> Tally>,
}

#[inline(always)]
fn fold<T: Into<u64>, Er>(t: &mut Tally, r: Result<T, Er>) {
    match r {
        Ok(v) => {
            t.ok += 1;
            t.sum = t.sum.wrapping_add(v.into());
        }
        Err(_) => t.err += 1,
    }
}

/// One tower call: `poll_ready`, `call`, poll the future once.
#[inline(always)]
pub fn tower_call<S: Service<u64, Response = u64>>(svc: &mut S, req: u64) -> Result<u64, S::Error> {
    let mut cx = Context::from_waker(Waker::noop());
    match svc.poll_ready(&mut cx) {
        Poll::Ready(Ok(())) => {}
        Poll::Ready(Err(e)) => return Err(e),
        Poll::Pending => panic!("service not ready"),
    }
    // black_box on the pinned future: it has to exist in memory, as it would
    // in a task, and its state is opaque when polled. Without this LLVM elides
    // whole layers (and even `Box::pin`'s allocation).
    let fut = pin!(svc.call(black_box(req)));
    let mut fut = black_box(fut);
    match fut.as_mut().poll(&mut cx) {
        Poll::Ready(r) => r,
        Poll::Pending => panic!("future pending"),
    }
}

/// Same, but spins while pending (tokio's async mutex under contention).
#[inline(always)]
pub fn tower_call_spin<S: Service<u64, Response = u64>>(
    svc: &mut S,
    req: u64,
) -> Result<u64, S::Error> {
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        match svc.poll_ready(&mut cx) {
            Poll::Ready(Ok(())) => break,
            Poll::Ready(Err(e)) => return Err(e),
            Poll::Pending => std::hint::spin_loop(),
        }
    }
    let fut = pin!(svc.call(black_box(req)));
    let mut fut = black_box(fut);
    loop {
        match fut.as_mut().poll(&mut cx) {
            Poll::Ready(r) => return r,
            Poll::Pending => std::hint::spin_loop(),
        }
    }
}

/// Trips a breaker by sending failing requests until `n` calls were made.
pub fn trip<S: Service<u64, Response = u64>>(svc: &mut S, n: usize) {
    for _ in 0..n {
        let _ = tower_call(svc, crate::POISON);
    }
}

pub fn tower<S>(mut svc: S) -> Built
where
    S: Service<u64, Response = u64> + 'static,
{
    Built {
        fut_size: size_of::<S::Future>(),
        run: Box::new(move |n| {
            let svc = black_box(&mut svc);
            let mut t = Tally::default();
            for i in 0..n {
                fold(&mut t, tower_call(svc, i));
            }
            black_box(t)
        }),
    }
}

/// As [`tower`], where one request in `every` fails.
pub fn tower_failing<S>(mut svc: S, every: u64) -> Built
where
    S: Service<u64, Response = u64> + 'static,
{
    let mut sent = 0_u64;
    Built {
        fut_size: size_of::<S::Future>(),
        run: Box::new(move |n| {
            let svc = black_box(&mut svc);
            let mut t = Tally::default();
            for i in 0..n {
                sent += 1;
                let request = if sent.is_multiple_of(every) { crate::POISON } else { i };
                fold(&mut t, tower_call(svc, request));
            }
            black_box(t)
        }),
    }
}

/// For non-tower async APIs: `mk(req)` returns the future.
pub fn fut<F, Fut, Er>(mut mk: F) -> Built
where
    F: FnMut(u64) -> Fut + 'static,
    Fut: Future<Output = Result<u64, Er>>,
{
    Built {
        fut_size: size_of::<Fut>(),
        run: Box::new(move |n| {
            let mk = black_box(&mut mk);
            let mut cx = Context::from_waker(Waker::noop());
            let mut t = Tally::default();
            for i in 0..n {
                let f = pin!(mk(black_box(i)));
                let mut f = black_box(f);
                match f.as_mut().poll(&mut cx) {
                    Poll::Ready(r) => fold(&mut t, r),
                    Poll::Pending => panic!("future pending"),
                }
            }
            black_box(t)
        }),
    }
}

/// For synchronous APIs and primitives.
pub fn sync<F, Er>(mut f: F) -> Built
where
    F: FnMut(u64) -> Result<u64, Er> + 'static,
{
    Built {
        fut_size: 0,
        run: Box::new(move |n| {
            let f = black_box(&mut f);
            let mut t = Tally::default();
            for i in 0..n {
                fold(&mut t, f(black_box(i)));
            }
            black_box(t)
        }),
    }
}

/// Primitive whose value is just black-boxed.
pub fn prim<F, T>(mut f: F) -> Built
where
    F: FnMut() -> T + 'static,
{
    Built {
        fut_size: 0,
        run: Box::new(move |n| {
            let f = black_box(&mut f);
            for _ in 0..n {
                black_box(f());
            }
            Tally { ok: n, err: 0, sum: 0 }
        }),
    }
}
