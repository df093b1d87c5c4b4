//! Constructors for every case. Each returns a `Built` ready to run.

use std::{
    future::Ready,
    hint::black_box,
    num::NonZeroU32,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tower_layer::Layer;
use tower_service::Service;

use crate::{
    Built, E, Inner,
    drive::{self, trip},
};

const HOUR: Duration = Duration::from_secs(3600);
const SEC: Duration = Duration::from_secs(1);

pub mod base {
    use super::*;
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU64, Ordering::*};
    use std::time::Instant;

    pub fn inner() -> Built {
        drive::tower(Inner)
    }
    #[derive(Clone)]
    struct Boxed(Inner);
    impl Service<u64> for Boxed {
        type Response = u64;
        type Error = E;
        type Future = std::pin::Pin<Box<dyn Future<Output = Result<u64, E>> + Send>>;
        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
            self.0.poll_ready(cx)
        }
        fn call(&mut self, req: u64) -> Self::Future {
            let f = self.0.call(req);
            Box::pin(async move { black_box(f).await })
        }
    }
    pub fn boxed() -> Built {
        drive::tower(Boxed(Inner))
    }
    pub fn empty() -> Built {
        drive::prim(|| ())
    }
    pub fn std_instant() -> Built {
        drive::prim(Instant::now)
    }
    pub fn std_elapsed() -> Built {
        drive::prim(|| Instant::now().elapsed())
    }
    pub fn tokio_instant() -> Built {
        drive::prim(tokio::time::Instant::now)
    }
    pub fn quanta_instant() -> Built {
        drive::prim(quanta::Instant::now)
    }
    pub fn quanta_raw() -> Built {
        let c = quanta::Clock::new();
        drive::prim(move || c.raw())
    }
    pub fn minstant_instant() -> Built {
        drive::prim(minstant::Instant::now)
    }
    pub fn fastant_instant() -> Built {
        drive::prim(fastant::Instant::now)
    }
    pub fn tick_instant() -> Built {
        let c = tick::Clock::new_tokio();
        drive::prim(move || c.instant())
    }
    pub fn tick_fast() -> Built {
        let c = tick::Clock::new_tokio().with_fast_instant(true);
        drive::prim(move || c.instant())
    }
    pub fn rdtsc() -> Built {
        drive::prim(crate::floor::rdtsc)
    }
    pub fn mono() -> Built {
        drive::prim(crate::floor::mono_ns)
    }
    pub fn coarse() -> Built {
        drive::prim(crate::floor::coarse_ns)
    }
    pub fn atomic_load() -> Built {
        let a = Box::new(AtomicU64::new(0));
        drive::prim(move || a.load(Acquire))
    }
    pub fn atomic_store() -> Built {
        let a = Box::new(AtomicU64::new(0));
        drive::prim(move || a.store(black_box(1), Release))
    }
    pub fn atomic_add() -> Built {
        let a = Box::new(AtomicU64::new(0));
        drive::prim(move || a.fetch_add(1, Relaxed))
    }
    pub fn atomic_cas() -> Built {
        let a = Box::new(AtomicU64::new(0));
        drive::prim(move || {
            let v = a.load(Relaxed);
            a.compare_exchange(v, v + 1, Relaxed, Relaxed)
        })
    }
    pub fn tls_add() -> Built {
        thread_local!(static C: Cell<u64> = const { Cell::new(0) });
        drive::prim(|| C.with(|c| c.set(c.get() + 1)))
    }
    pub fn arc() -> Built {
        let a = Arc::new(0u64);
        drive::prim(move || drop(black_box(Arc::clone(&a))))
    }
    pub fn std_mutex() -> Built {
        let m = Box::new(std::sync::Mutex::new(0u64));
        drive::prim(move || *m.lock().unwrap() += 1)
    }
    pub fn pl_mutex() -> Built {
        let m = Box::new(parking_lot::Mutex::new(0u64));
        drive::prim(move || *m.lock() += 1)
    }
    pub fn tokio_mutex() -> Built {
        let m: &'static _ = Box::leak(Box::new(tokio::sync::Mutex::new(0u64)));
        drive::fut(move |_| async move {
            let mut g = m.lock().await;
            *g += 1;
            Ok::<u64, E>(*g)
        })
    }
    pub fn tokio_sem() -> Built {
        let s = Arc::new(tokio::sync::Semaphore::new(1000));
        drive::prim(move || drop(black_box(s.clone().try_acquire_owned().unwrap())))
    }
    pub fn box64() -> Built {
        drive::prim(|| drop(black_box(Box::new([0u8; 64]))))
    }
    pub fn string() -> Built {
        let s = String::from("<unnamed>");
        drive::prim(move || drop(black_box(s.clone())))
    }
    pub fn epoch_pin() -> Built {
        drive::prim(|| drop(black_box(crossbeam_epoch::pin())))
    }
    pub fn sleep_drop() -> Built {
        drive::prim(|| drop(black_box(tokio::time::sleep(SEC))))
    }
    pub fn sleep_poll() -> Built {
        drive::prim(|| {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let mut s = std::pin::pin!(tokio::time::sleep(SEC));
            assert!(s.as_mut().poll(&mut cx).is_pending());
        })
    }
    pub fn timeout_ready() -> Built {
        let mut i = Inner;
        drive::fut(move |r| {
            let t = tokio::time::timeout(SEC, i.call(r));
            async move { t.await.unwrap() }
        })
    }
    pub fn tick_delay() -> Built {
        let c = tick::Clock::new_tokio();
        drive::prim(move || drop(black_box(c.delay(SEC))))
    }
}

pub mod floors {
    use super::*;
    use crate::floor::*;
    fn st<M: Mode>(m: M, open: bool) -> Breaker<Inner, &'static Core, M> {
        Breaker::new(Inner, &*Box::leak(Box::new(Core::new(open))), m)
    }
    fn ar<M: Mode>(m: M) -> Breaker<Inner, Arc<Core>, M> {
        Breaker::new(Inner, Arc::new(Core::new(false)), m)
    }
    pub fn load_static() -> Built {
        drive::tower(st(LoadOnly, false))
    }
    pub fn add_static() -> Built {
        drive::tower(st(FetchAdd, false))
    }
    pub fn add_arc() -> Built {
        drive::tower(ar(FetchAdd))
    }
    pub fn striped_static() -> Built {
        drive::tower(st(Striped, false))
    }
    pub fn striped_arc() -> Built {
        drive::tower(ar(Striped))
    }
    pub fn shift_static() -> Built {
        drive::tower(st(ShiftReg, false))
    }
    pub fn win_rdtsc() -> Built {
        drive::tower(st(RdtscWindow, false))
    }
    pub fn win_coarse() -> Built {
        drive::tower(st(CoarseWindow, false))
    }
    pub fn win_quanta() -> Built {
        drive::tower(st(TscWindow, false))
    }
    pub fn win_std() -> Built {
        drive::tower(st(StdWindow, false))
    }
    pub fn win_mono() -> Built {
        drive::tower(st(MonoWindow, false))
    }
    pub fn win_coarse_arc() -> Built {
        drive::tower(ar(CoarseWindow))
    }
    pub fn win_std_arc() -> Built {
        drive::tower(ar(StdWindow))
    }
    pub fn timeout_lazy() -> Built {
        drive::tower(LazyTimeout { inner: Inner, after: SEC })
    }
    pub fn bulkhead_static() -> Built {
        let c: &'static Core = Box::leak(Box::new(Core::new(false)));
        drive::tower(Bulk { inner: Inner, hold: c, max: 1000 })
    }
    pub fn bulkhead_arc() -> Built {
        drive::tower(Bulk { inner: Inner, hold: Arc::new(Core::new(false)), max: 1000 })
    }
    pub fn retry() -> Built {
        drive::tower(MiniRetry { inner: Inner, max: 3 })
    }
    pub fn fallback() -> Built {
        drive::tower(MiniFallback(Inner))
    }
    fn stack_on<H: Hold, M: Mode>(h: H, m: M) -> Built {
        let s = LazyTimeout { inner: Inner, after: SEC };
        let s = Breaker::new(s, h, m);
        drive::tower(MiniFallback(MiniRetry { inner: s, max: 3 }))
    }
    pub fn stack() -> Built {
        let c: &'static Core = Box::leak(Box::new(Core::new(false)));
        stack_on(c, FetchAdd)
    }
    pub fn stack_arc() -> Built {
        stack_on(Arc::new(Core::new(false)), FetchAdd)
    }
    fn one_arc<M: Mode>(m: M) -> Built {
        let s = LazyTimeout { inner: Inner, after: SEC };
        let c: &'static Core = Box::leak(Box::new(Core::new(false)));
        let s = MiniFallback(MiniRetry { inner: Breaker::new(s, c, m), max: 3 });
        drive::tower(OneArc { inner: s, arc: Arc::new(Core::new(false)) })
    }
    pub fn stack_one_arc() -> Built {
        one_arc(FetchAdd)
    }
    pub fn stack_one_arc_coarse() -> Built {
        one_arc(CoarseWindow)
    }
    pub fn stack_arc_coarse() -> Built {
        stack_on(Arc::new(Core::new(false)), CoarseWindow)
    }
    pub fn open_noclock() -> Built {
        drive::tower(st(FetchAdd, true))
    }
    pub fn open_clock() -> Built {
        drive::tower(st(OpenStd, true))
    }
}

/// buttress, as a user has it: over `ServiceErrors`, which turns the client's error into `Error`.
pub mod bt {
    use super::*;
    use buttress::{
        CircuitBreaker, Fallback, Retry, ServiceErrors, Stack, Timeout, Window,
        breaker::CircuitBreakerBuilder,
    };

    fn client() -> impl Service<u64, Response = u64, Error = buttress::Error<E>, Future: Send>
    + Clone
    + Send {
        ServiceErrors.layer(Inner)
    }
    /// Not to be tripped by the failures that a case sends.
    fn breaker() -> CircuitBreakerBuilder {
        CircuitBreaker::builder("bench").window(Window::calls(100)).failure_ratio(0.5)
    }
    pub fn shared()
    -> impl Service<u64, Response = u64, Error = buttress::Error<E>, Future: Send> + Clone + Send
    {
        breaker().build().unwrap().layer().layer(client())
    }
    pub fn closed() -> Built {
        drive::tower(shared())
    }
    pub fn failing_1_in_1000() -> Built {
        drive::tower_failing(shared(), 1000)
    }
    pub fn failing_1_in_100() -> Built {
        drive::tower_failing(shared(), 100)
    }
    pub fn failing_1_in_20() -> Built {
        drive::tower_failing(shared(), 20)
    }
    pub fn consecutive() -> Built {
        let breaker = breaker().consecutive_failures(5).build().unwrap();
        drive::tower(breaker.layer().layer(client()))
    }
    pub fn slow_calls() -> Built {
        let breaker = breaker().slow_calls(SEC, 0.5).build().unwrap();
        drive::tower(breaker.layer().layer(client()))
    }
    pub fn window_shared()
    -> impl Service<u64, Response = u64, Error = buttress::Error<E>, Future: Send> + Clone + Send
    {
        let breaker = breaker().window(Window::time(Duration::from_secs(30))).build().unwrap();
        breaker.layer().layer(client())
    }
    pub fn window() -> Built {
        drive::tower(window_shared())
    }
    pub fn open() -> Built {
        let breaker = breaker().open_for(HOUR).build().unwrap();
        let mut service = breaker.layer().layer(client());
        trip(&mut service, 150);
        assert_eq!(breaker.state(), buttress::breaker::State::Open);
        drive::tower(service)
    }
    pub fn retry() -> Built {
        drive::tower(Retry::builder("bench").build().unwrap().layer().layer(client()))
    }
    pub fn retry_without_budget() -> Built {
        let retry = Retry::builder("bench").without_budget().build().unwrap();
        drive::tower(retry.layer().layer(client()))
    }
    pub fn timeout() -> Built {
        drive::tower(Timeout::after(SEC).layer().layer(client()))
    }
    pub fn fallback() -> Built {
        drive::tower(Fallback::unnamed().to_value(0_u64).layer(client()))
    }
    pub fn stack() -> Built {
        let stack = Stack::new()
            .fallback_to_value(0_u64)
            .retry(Retry::builder("bench").build().unwrap())
            .breaker(breaker().build().unwrap())
            .timeout(SEC);
        drive::tower(stack.service(client()))
    }
}

pub mod tr {
    use super::*;
    use tower_resilience::{
        adaptive::{AdaptiveLimiterLayer, Aimd},
        bulkhead::BulkheadLayer,
        circuitbreaker::{
            CircuitBreaker, CircuitBreakerLayer, DefaultClassifier, SlidingWindowType,
        },
        fallback::FallbackLayer,
        hedge::HedgeLayer,
        ratelimiter::{RateLimiterLayer, WindowType},
        retry::{RetryBudgetBuilder, RetryLayer},
        timelimiter::TimeLimiterLayer,
    };

    pub type Cb = CircuitBreaker<Inner, DefaultClassifier>;

    pub fn breaker() -> Cb {
        CircuitBreakerLayer::builder()
            .failure_rate_threshold(0.5)
            .sliding_window_size(100)
            .wait_duration_in_open(HOUR)
            .build()
            .unwrap()
            .layer(Inner)
    }
    pub fn cb_closed() -> Built {
        drive::tower(breaker())
    }
    pub fn cb_consec() -> Built {
        drive::tower(
            CircuitBreakerLayer::builder()
                .consecutive_failures(5)
                .wait_duration_in_open(HOUR)
                .build()
                .unwrap()
                .layer(Inner),
        )
    }
    pub fn cb_open() -> Built {
        let mut s = breaker();
        trip(&mut s, 150);
        assert!(s.is_open());
        drive::tower(s)
    }
    pub fn breaker_window(w: Duration) -> Cb {
        CircuitBreakerLayer::builder()
            .failure_rate_threshold(0.5)
            .sliding_window_type(SlidingWindowType::TimeBased)
            .sliding_window_duration(w)
            .minimum_number_of_calls(100)
            .wait_duration_in_open(HOUR)
            .build()
            .unwrap()
            .layer(Inner)
    }
    pub fn cb_window() -> Built {
        drive::tower(breaker_window(Duration::from_millis(10)))
    }
    pub fn retry() -> Built {
        let l = RetryLayer::<u64, u64, E>::builder()
            .max_attempts(3)
            .fixed_backoff(Duration::from_millis(10))
            .build();
        drive::tower(l.layer(Inner))
    }
    pub fn retry_budget() -> Built {
        let budget = RetryBudgetBuilder::new().token_bucket().build().unwrap();
        let l = RetryLayer::<u64, u64, E>::builder()
            .max_attempts(3)
            .fixed_backoff(Duration::from_millis(10))
            .budget(budget)
            .build();
        drive::tower(l.layer(Inner))
    }
    pub fn timeout() -> Built {
        drive::tower(TimeLimiterLayer::builder().timeout_duration(SEC).build().layer(Inner))
    }
    pub fn bulkhead() -> Built {
        drive::tower(
            BulkheadLayer::builder().max_concurrent_calls(1000).build().unwrap().layer(Inner),
        )
    }
    pub fn bulkhead_reject() -> Built {
        drive::tower(
            BulkheadLayer::builder()
                .max_concurrent_calls(1000)
                .reject_when_full()
                .build()
                .unwrap()
                .layer(Inner),
        )
    }
    pub fn bulkhead_bp() -> Built {
        drive::tower(
            BulkheadLayer::builder()
                .max_concurrent_calls(1000)
                .backpressure()
                .build()
                .unwrap()
                .layer(Inner),
        )
    }
    pub fn adaptive() -> Built {
        let a = Aimd::builder()
            .initial_limit(1000)
            .min_limit(1000)
            .max_limit(1000)
            .latency_threshold(SEC)
            .build()
            .unwrap();
        drive::tower(AdaptiveLimiterLayer::new(a).layer(Inner))
    }
    const HUGE: usize = 1 << 50;
    pub fn rate_fixed() -> Built {
        drive::tower(
            RateLimiterLayer::builder()
                .limit_for_period(HUGE)
                .refresh_period(SEC)
                .build()
                .unwrap()
                .layer(Inner),
        )
    }
    pub fn rate_counter() -> Built {
        drive::tower(
            RateLimiterLayer::builder()
                .limit_for_period(HUGE)
                .refresh_period(SEC)
                .window_type(WindowType::SlidingCounter)
                .build()
                .unwrap()
                .layer(Inner),
        )
    }
    pub fn rate_log() -> Built {
        drive::tower(
            RateLimiterLayer::builder()
                .limit_for_period(1 << 20)
                .refresh_period(Duration::from_millis(1))
                .window_type(WindowType::SlidingLog)
                .build()
                .unwrap()
                .layer(Inner),
        )
    }
    pub fn rate_bucket() -> Built {
        drive::tower(
            RateLimiterLayer::builder()
                .limit_for_period(1 << 40)
                .refresh_period(SEC)
                .burst_size(1 << 40)
                .build()
                .unwrap()
                .layer(Inner),
        )
    }
    pub fn fallback() -> Built {
        drive::tower(FallbackLayer::<u64, u64, E>::value(0).layer(Inner))
    }
    pub fn hedge() -> Built {
        drive::tower(HedgeLayer::new(SEC).layer(Inner))
    }
    pub fn stack() -> Built {
        use tower_resilience::{
            circuitbreaker::CircuitBreakerError, timelimiter::TimeLimiterError,
        };
        type E1 = TimeLimiterError<E>;
        type E2 = CircuitBreakerError<E1>;
        let s = TimeLimiterLayer::builder().timeout_duration(SEC).build().layer(Inner);
        let s = CircuitBreakerLayer::builder()
            .failure_rate_threshold(0.5)
            .sliding_window_size(100)
            .build()
            .unwrap()
            .layer(s);
        let s = RetryLayer::<u64, u64, E2>::builder()
            .max_attempts(3)
            .fixed_backoff(Duration::from_millis(10))
            .build()
            .layer(s);
        let s = FallbackLayer::<u64, u64, E2>::value(0).layer(s);
        drive::tower(s)
    }
}

pub mod fs {
    use super::*;
    use failsafe::{
        Config, FailurePolicy, StateMachine,
        backoff::{self, Constant},
        failure_policy::{self, ConsecutiveFailures, SuccessRateOverTimeWindow},
        futures::ResponseFuture,
    };

    pub type Consec = StateMachine<ConsecutiveFailures<Constant>, ()>;
    pub fn consec() -> Consec {
        Config::new()
            .failure_policy(failure_policy::consecutive_failures(5, backoff::constant(HOUR)))
            .build()
    }
    pub type Window = StateMachine<SuccessRateOverTimeWindow<Constant>, ()>;
    pub fn window() -> Window {
        Config::new()
            .failure_policy(failure_policy::success_rate_over_time_window(
                0.5,
                100,
                Duration::from_secs(30),
                backoff::constant(HOUR),
            ))
            .build()
    }

    /// The thin tower adapter a user has to write for failsafe.
    pub struct Svc<S, P> {
        pub inner: S,
        pub cb: StateMachine<P, ()>,
    }
    impl<S: Clone, P> Clone for Svc<S, P> {
        fn clone(&self) -> Self {
            Svc { inner: self.inner.clone(), cb: self.cb.clone() }
        }
    }
    impl<S, P> Service<u64> for Svc<S, P>
    where
        S: Service<u64>,
        P: FailurePolicy + Send + Sync,
    {
        type Response = S::Response;
        type Error = failsafe::Error<S::Error>;
        type Future = ResponseFuture<S::Future, P, (), failsafe::Any>;
        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            self.inner.poll_ready(cx).map_err(failsafe::Error::Inner)
        }
        fn call(&mut self, req: u64) -> Self::Future {
            failsafe::futures::CircuitBreaker::call(&self.cb, self.inner.call(req))
        }
    }

    pub fn consec_async() -> Built {
        drive::tower(Svc { inner: Inner, cb: consec() })
    }
    pub fn consec_sync() -> Built {
        let cb = consec();
        drive::sync(move |r| failsafe::CircuitBreaker::call(&cb, || Inner::go(r)))
    }
    pub fn open_async() -> Built {
        let mut s = Svc { inner: Inner, cb: consec() };
        trip(&mut s, 20);
        assert!(!s.cb.is_call_permitted());
        drive::tower(s)
    }
    pub fn open_sync() -> Built {
        let cb = consec();
        for _ in 0..20 {
            let _ = failsafe::CircuitBreaker::call(&cb, || Err::<u64, E>(E));
        }
        drive::sync(move |r| failsafe::CircuitBreaker::call(&cb, || Inner::go(r)))
    }
    pub fn window_async() -> Built {
        drive::tower(Svc { inner: Inner, cb: window() })
    }
    pub fn default_async() -> Built {
        drive::tower(Svc { inner: Inner, cb: Config::new().build() })
    }
}

pub mod rc {
    use super::*;
    use recloser::{AnyError, AsyncRecloser, Recloser, RecloserFuture};

    pub fn sync_breaker() -> Recloser {
        Recloser::custom().error_rate(0.5).closed_len(100).open_wait(HOUR).build()
    }
    #[derive(Clone)]
    pub struct Svc<S> {
        pub inner: S,
        pub cb: AsyncRecloser,
    }
    impl<S, T, Er> Service<u64> for Svc<S>
    where
        S: Service<u64, Response = T, Error = Er>,
        S::Future: Future<Output = Result<T, Er>>,
    {
        type Response = T;
        type Error = recloser::Error<Er>;
        type Future = RecloserFuture<S::Future, AnyError>;
        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            self.inner.poll_ready(cx).map_err(recloser::Error::Inner)
        }
        fn call(&mut self, req: u64) -> Self::Future {
            self.cb.call(self.inner.call(req))
        }
    }
    pub fn svc() -> Svc<Inner> {
        Svc { inner: Inner, cb: AsyncRecloser::from(sync_breaker()) }
    }
    pub fn closed_async() -> Built {
        drive::tower(svc())
    }
    pub fn closed_sync() -> Built {
        let cb = sync_breaker();
        drive::sync(move |r| cb.call(|| Inner::go(r)))
    }
    pub fn open_async() -> Built {
        let mut s = svc();
        trip(&mut s, 250);
        drive::tower(s)
    }
    pub fn open_sync() -> Built {
        let cb = sync_breaker();
        for _ in 0..250 {
            let _ = cb.call(|| Err::<u64, E>(E));
        }
        drive::sync(move |r| cb.call(|| Inner::go(r)))
    }
}

pub mod sb {
    use super::*;
    use layered::{Service as LService, Stack};
    use seatbelt::{
        RecoveryInfo, ResilienceContext, breaker::Breaker, fallback::Fallback, hedging::Hedging,
        retry::Retry, timeout::Timeout,
    };
    use tick::Clock;

    type Out = Result<u64, E>;
    pub type Ctx = ResilienceContext<u64, Out>;

    fn ctx(fast: bool) -> Ctx {
        ResilienceContext::new(Clock::new_tokio().with_fast_instant(fast))
    }
    fn rec<A>(r: &Out, _: A) -> RecoveryInfo {
        match r {
            Ok(_) => RecoveryInfo::never(),
            Err(_) => RecoveryInfo::retry(),
        }
    }
    macro_rules! breaker_layer {
        ($ctx:expr) => {
            Breaker::layer("breaker", $ctx)
                .failure_threshold(0.5)
                .break_duration(HOUR)
                .recovery_with(|r, a| rec(r, a))
                .rejected_input_error(|_, _| E)
        };
    }
    macro_rules! retry_layer {
        ($ctx:expr) => {
            Retry::layer("retry", $ctx)
                .max_retry_attempts(3)
                .clone_input()
                .recovery_with(|r, a| rec(r, a))
        };
    }
    macro_rules! timeout_layer {
        ($ctx:expr) => {
            Timeout::layer("timeout", $ctx).timeout(SEC).timeout_error(|_| E)
        };
    }
    macro_rules! fallback_layer {
        ($ctx:expr) => {
            Fallback::layer("fallback", $ctx)
                .should_fallback(|r: &Out| r.is_err())
                .fallback_output(Ok(0))
        };
    }
    macro_rules! hedge_layer {
        ($ctx:expr) => {
            Hedging::layer("hedge", $ctx)
                .clone_input()
                .recovery_with(|r, a| rec(r, a))
                .hedging_delay(SEC)
        };
    }

    fn lay<S>(s: S) -> Built
    where
        S: LService<u64, Out = Out> + 'static,
    {
        let s: &'static S = Box::leak(Box::new(s));
        drive::fut(move |r| s.execute(r))
    }
    fn trip_layered<S: LService<u64, Out = Out>>(s: &S) {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for _ in 0..300 {
            let f = std::pin::pin!(s.execute(crate::POISON));
            assert!(f.poll(&mut cx).is_ready());
        }
    }

    pub type TowerBreaker = Breaker<u64, Out, Inner>;
    pub fn tower_breaker(fast: bool) -> TowerBreaker {
        breaker_layer!(&ctx(fast)).layer(Inner)
    }
    pub fn cb_tower() -> Built {
        drive::tower(tower_breaker(false))
    }
    pub fn cb_tower_fast() -> Built {
        drive::tower(tower_breaker(true))
    }
    pub fn cb_layered() -> Built {
        lay((breaker_layer!(&ctx(false)), Inner).into_service())
    }
    pub fn cb_layered_fast() -> Built {
        lay((breaker_layer!(&ctx(true)), Inner).into_service())
    }
    pub fn open_tower() -> Built {
        let mut s = tower_breaker(false);
        trip(&mut s, 300);
        drive::tower(s)
    }
    pub fn open_layered() -> Built {
        let s = (breaker_layer!(&ctx(false)), Inner).into_service();
        trip_layered(&s);
        lay(s)
    }
    pub fn retry_tower() -> Built {
        drive::tower(retry_layer!(&ctx(false)).layer(Inner))
    }
    pub fn retry_layered() -> Built {
        lay((retry_layer!(&ctx(false)), Inner).into_service())
    }
    pub fn timeout_tower() -> Built {
        drive::tower(timeout_layer!(&ctx(false)).layer(Inner))
    }
    pub fn timeout_layered() -> Built {
        lay((timeout_layer!(&ctx(false)), Inner).into_service())
    }
    pub fn fallback_tower() -> Built {
        drive::tower(fallback_layer!(&ctx(false)).layer(Inner))
    }
    pub fn fallback_layered() -> Built {
        lay((fallback_layer!(&ctx(false)), Inner).into_service())
    }
    pub fn hedge_tower() -> Built {
        drive::tower(hedge_layer!(&ctx(false)).layer(Inner))
    }
    pub fn hedge_layered() -> Built {
        lay((hedge_layer!(&ctx(false)), Inner).into_service())
    }
    pub fn layered_workers(k: usize) -> Vec<crate::contend_cases::Worker> {
        let s: &'static _ =
            Box::leak(Box::new((breaker_layer!(&ctx(false)), Inner).into_service()));
        (0..k)
            .map(|_| {
                Box::new(move |n| {
                    let mut cx = Context::from_waker(std::task::Waker::noop());
                    let mut ok = 0;
                    for i in 0..n {
                        let f = std::pin::pin!(s.execute(black_box(i)));
                        let f = black_box(f);
                        match f.poll(&mut cx) {
                            Poll::Ready(r) => ok += r.is_ok() as u64,
                            Poll::Pending => panic!("pending"),
                        }
                    }
                    ok
                }) as crate::contend_cases::Worker
            })
            .collect()
    }
    pub fn stack_tower() -> Built {
        let c = ctx(false);
        let s = timeout_layer!(&c).layer(Inner);
        let s = breaker_layer!(&c).layer(s);
        let s = retry_layer!(&c).layer(s);
        let s = fallback_layer!(&c).layer(s);
        drive::tower(s)
    }
    pub fn stack_layered() -> Built {
        let c = ctx(false);
        lay((
            fallback_layer!(&c),
            retry_layer!(&c),
            breaker_layer!(&c),
            timeout_layer!(&c),
            Inner,
        )
            .into_service())
    }
}

pub mod tw {
    use super::*;
    use tower::{
        ServiceExt,
        limit::{ConcurrencyLimit, RateLimit, rate::Rate},
        load_shed::LoadShed,
        retry::{
            Policy, Retry,
            budget::{Budget, TpsBudget},
        },
        timeout::Timeout,
    };

    #[derive(Clone)]
    struct Pol {
        left: u8,
        budget: Option<Arc<TpsBudget>>,
    }
    impl<Er> Policy<u64, u64, Er> for Pol {
        type Future = tokio::time::Sleep;
        fn retry(&mut self, _: &mut u64, r: &mut Result<u64, Er>) -> Option<Self::Future> {
            match r {
                Ok(_) => {
                    if let Some(b) = &self.budget {
                        b.deposit();
                    }
                    None
                }
                Err(_) => {
                    if self.left == 0 {
                        return None;
                    }
                    if let Some(b) = &self.budget
                        && !b.withdraw()
                    {
                        return None;
                    }
                    self.left -= 1;
                    Some(tokio::time::sleep(Duration::from_millis(10)))
                }
            }
        }
        fn clone_request(&mut self, r: &u64) -> Option<u64> {
            Some(*r)
        }
    }
    fn pol() -> Pol {
        Pol { left: 3, budget: None }
    }

    pub fn retry() -> Built {
        drive::tower(Retry::new(pol(), Inner))
    }
    pub fn retry_budget() -> Built {
        let p = Pol { left: 3, budget: Some(Arc::new(TpsBudget::new(Duration::from_secs(10), 10, 0.2))) };
        drive::tower(Retry::new(p, Inner))
    }
    pub fn timeout() -> Built {
        drive::tower(Timeout::new(Inner, SEC))
    }
    pub fn conc() -> Built {
        drive::tower(ConcurrencyLimit::new(Inner, 1000))
    }
    pub fn shed() -> Built {
        drive::tower(LoadShed::new(Inner))
    }
    pub fn shed_conc() -> Built {
        drive::tower(LoadShed::new(ConcurrencyLimit::new(Inner, 1000)))
    }
    pub fn rate() -> Built {
        drive::tower(RateLimit::new(Inner, Rate::new(u64::MAX, SEC)))
    }
    /// DIY fallback; `then` wants the error type kept (`Error: From<S::Error>`).
    fn or_zero<X>(r: Result<u64, X>) -> Ready<Result<u64, X>> {
        std::future::ready(match r {
            Ok(v) => Ok(v),
            Err(_) => Ok(0),
        })
    }
    pub fn then() -> Built {
        drive::tower(Inner.then(or_zero))
    }
    fn or_zero_sync<X>(r: Result<u64, X>) -> Result<u64, X> {
        Ok(r.unwrap_or(0))
    }
    pub fn map_result() -> Built {
        drive::tower(Inner.map_result(or_zero_sync))
    }
    pub fn retry_timeout() -> Built {
        drive::tower(Retry::new(pol(), Timeout::new(Inner, SEC)))
    }
    pub fn stack_failsafe() -> Built {
        let s = fs::Svc { inner: Timeout::new(Inner, SEC), cb: fs::consec() };
        let s = Retry::new(pol(), s);
        drive::tower(s.map_result(or_zero_sync))
    }
    pub fn stack_recloser() -> Built {
        let s = rc::Svc {
            inner: Timeout::new(Inner, SEC),
            cb: recloser::AsyncRecloser::from(rc::sync_breaker()),
        };
        let s = Retry::new(pol(), s);
        drive::tower(s.map_result(or_zero_sync))
    }
}

pub mod misc {
    use super::*;
    use ::backon::Retryable;
    use governor::{Quota, RateLimiter, clock::MonotonicClock};

    pub fn backon() -> Built {
        let b = ::backon::ExponentialBuilder::default();
        drive::fut(move |r| (move || Inner.call(r)).retry(b))
    }
    pub fn tokio_retry() -> Built {
        drive::fut(move |r| {
            let strategy = ::tokio_retry::strategy::ExponentialBackoff::from_millis(10).take(3);
            ::tokio_retry::Retry::start(strategy, move || Inner.call(r))
        })
    }
    fn q() -> Quota {
        Quota::per_second(NonZeroU32::new(1_000_000_000).unwrap())
    }
    pub fn gov_quanta() -> Built {
        let l = RateLimiter::direct(q());
        drive::sync(move |r| l.check().map(|_| r))
    }
    pub fn gov_std() -> Built {
        let l = RateLimiter::direct_with_clock(q(), MonotonicClock);
        drive::sync(move |r| l.check().map(|_| r))
    }
    pub fn gov_keyed() -> Built {
        let l = RateLimiter::keyed(q());
        let k = 7u64;
        drive::sync(move |r| l.check_key(&k).map(|_| r))
    }
}
