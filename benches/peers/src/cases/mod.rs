//! Registry of all single-thread cases.

use crate::Case;

mod build;
pub use build::*;

macro_rules! cases {
    ($($group:literal, $krate:literal, $variant:literal, $exp:ident => $f:expr;)*) => {
        vec![$(Case { group: $group, krate: $krate, variant: $variant, expect: crate::Expect::$exp, build: $f },)*]
    };
}

pub fn all() -> Vec<Case> {
    cases! {
        // ---- n: baselines --------------------------------------------------
        "n baseline", "-", "bare inner call", Ok => base::inner;
        "n baseline", "-", "inner behind Box::pin(async move)", Ok => base::boxed;
        "n baseline", "-", "empty loop (black_box only)", Ok => base::empty;
        "n baseline", "std", "Instant::now()", Ok => base::std_instant;
        "n baseline", "std", "Instant::now() + elapsed()", Ok => base::std_elapsed;
        "n baseline", "tokio", "time::Instant::now()", Ok => base::tokio_instant;
        "n baseline", "quanta", "Instant::now()", Ok => base::quanta_instant;
        "n baseline", "quanta", "Clock::raw() (cached clock)", Ok => base::quanta_raw;
        "n baseline", "minstant", "Instant::now()", Ok => base::minstant_instant;
        "n baseline", "fastant", "Instant::now()", Ok => base::fastant_instant;
        "n baseline", "tick", "Clock::instant()", Ok => base::tick_instant;
        "n baseline", "tick", "Clock::instant() fast-instant", Ok => base::tick_fast;
        "n baseline", "-", "_rdtsc()", Ok => base::rdtsc;
        "n baseline", "libc", "clock_gettime(MONOTONIC) as u64 ns", Ok => base::mono;
        "n baseline", "libc", "clock_gettime(MONOTONIC_COARSE) as u64 ns", Ok => base::coarse;
        "n baseline", "std", "AtomicU64 load(Acquire)", Ok => base::atomic_load;
        "n baseline", "std", "AtomicU64 store(Release)", Ok => base::atomic_store;
        "n baseline", "std", "AtomicU64 fetch_add(Relaxed)", Ok => base::atomic_add;
        "n baseline", "std", "AtomicU64 compare_exchange", Ok => base::atomic_cas;
        "n baseline", "std", "thread_local Cell += 1", Ok => base::tls_add;
        "n baseline", "std", "Arc clone + drop", Ok => base::arc;
        "n baseline", "std", "Mutex lock/unlock", Ok => base::std_mutex;
        "n baseline", "parking_lot", "Mutex lock/unlock", Ok => base::pl_mutex;
        "n baseline", "tokio", "sync::Mutex lock().await/unlock", Ok => base::tokio_mutex;
        "n baseline", "tokio", "Semaphore try_acquire_owned/drop", Ok => base::tokio_sem;
        "n baseline", "std", "Box::new([u8;64]) + drop", Ok => base::box64;
        "n baseline", "std", "String(\"<unnamed>\") clone + drop", Ok => base::string;
        "n baseline", "crossbeam-epoch", "pin() + drop", Ok => base::epoch_pin;
        "n baseline", "tokio", "sleep() create + drop", Ok => base::sleep_drop;
        "n baseline", "tokio", "sleep() create + poll + drop", Ok => base::sleep_poll;
        "n baseline", "tokio", "timeout(ready) poll + drop", Ok => base::timeout_ready;
        "n baseline", "tick", "Clock::delay() create + drop", Ok => base::tick_delay;

        // ---- floors ---------------------------------------------------------
        "z floor closed", "floor", "load only, &'static", Ok => floors::load_static;
        "z floor closed", "floor", "load + fetch_add, &'static", Ok => floors::add_static;
        "z floor closed", "floor", "load + fetch_add, Arc in future", Ok => floors::add_arc;
        "z floor closed", "floor", "load + striped fetch_add, &'static", Ok => floors::striped_static;
        "z floor closed", "floor", "load + striped fetch_add, Arc in future", Ok => floors::striped_arc;
        "z floor closed", "floor", "load + 64-bit shift register CAS, &'static", Ok => floors::shift_static;
        "z floor closed", "floor", "time bucket: rdtsc, &'static", Ok => floors::win_rdtsc;
        "z floor closed", "floor", "time bucket: coarse clock, &'static", Ok => floors::win_coarse;
        "z floor closed", "floor", "time bucket: coarse clock, Arc in future", Ok => floors::win_coarse_arc;
        "z floor closed", "floor", "time bucket: clock_gettime(MONOTONIC), &'static", Ok => floors::win_mono;
        "z floor closed", "floor", "time bucket: quanta, &'static", Ok => floors::win_quanta;
        "z floor closed", "floor", "time bucket: std Instant, &'static", Ok => floors::win_std;
        "z floor closed", "floor", "time bucket: std Instant, Arc in future", Ok => floors::win_std_arc;
        "z floor other", "floor", "timeout created only on Pending", Ok => floors::timeout_lazy;
        "z floor other", "floor", "bulkhead: fetch_add + fetch_sub, &'static", Ok => floors::bulkhead_static;
        "z floor other", "floor", "bulkhead: fetch_add + fetch_sub, Arc in future", Ok => floors::bulkhead_arc;
        "z floor other", "floor", "retry (hand-written, inline Sleep slot)", Ok => floors::retry;
        "z floor other", "floor", "fallback (hand-written)", Ok => floors::fallback;
        "z floor other", "floor", "stack fallback(retry(breaker fetch_add(lazy timeout))), &'static", Ok => floors::stack;
        "z floor other", "floor", "stack fallback(retry(breaker fetch_add(lazy timeout))), fused: one Arc", Ok => floors::stack_one_arc;
        "z floor other", "floor", "stack fallback(retry(breaker coarse window(lazy timeout))), fused: one Arc", Ok => floors::stack_one_arc_coarse;
        "z floor other", "floor", "stack fallback(retry(breaker fetch_add(lazy timeout))), Arc per layer", Ok => floors::stack_arc;
        "z floor other", "floor", "stack fallback(retry(breaker coarse window(lazy timeout))), Arc per layer", Ok => floors::stack_arc_coarse;
        "z floor open", "floor", "load, reject (no clock)", Err => floors::open_noclock;
        "z floor open", "floor", "load, clock check, reject", Err => floors::open_clock;

        // ---- a: breaker closed, success --------------------------------------
        "a breaker closed", "tower-resilience", "count-based", Ok => tr::cb_closed;
        "a breaker closed", "tower-resilience", "consecutive failures", Ok => tr::cb_consec;
        "a breaker closed", "failsafe", "consecutive failures, async", Ok => fs::consec_async;
        "a breaker closed", "failsafe", "consecutive failures, sync", Ok => fs::consec_sync;
        "a breaker closed", "recloser", "ring 100, async", Ok => rc::closed_async;
        "a breaker closed", "recloser", "ring 100, sync", Ok => rc::closed_sync;
        "a breaker closed", "seatbelt", "tower (30 s window, its only kind)", Ok => sb::cb_tower;
        "a breaker closed", "seatbelt", "layered (30 s window, its only kind)", Ok => sb::cb_layered;
        "a breaker closed", "buttress", "last 100 calls", Ok => bt::closed;
        "a breaker closed", "buttress", "last 100 calls, or 5 failures in a row", Ok => bt::consecutive;
        "a breaker closed", "buttress", "last 100 calls, slow calls counted", Ok => bt::slow_calls;
        "a breaker closed", "buttress", "last 100 calls, 0.1 % failures", Mixed => bt::failing_1_in_1000;
        "a breaker closed", "buttress", "last 100 calls, 1 % failures", Mixed => bt::failing_1_in_100;
        "a breaker closed", "buttress", "last 100 calls, 5 % failures", Mixed => bt::failing_1_in_20;

        // ---- b: breaker open, rejection ---------------------------------------
        "b breaker open", "tower-resilience", "count-based", Err => tr::cb_open;
        "b breaker open", "failsafe", "async", Err => fs::open_async;
        "b breaker open", "failsafe", "sync", Err => fs::open_sync;
        "b breaker open", "recloser", "async", Err => rc::open_async;
        "b breaker open", "recloser", "sync", Err => rc::open_sync;
        "b breaker open", "seatbelt", "tower", Err => sb::open_tower;
        "b breaker open", "seatbelt", "layered", Err => sb::open_layered;
        "b breaker open", "buttress", "last 100 calls", Err => bt::open;

        // ---- d: time window ----------------------------------------------------
        "d breaker closed, time window", "tower-resilience", "10 ms window, saturated", Ok => tr::cb_window;
        "d breaker closed, time window", "failsafe", "success rate over 30 s (EMA), async", Ok => fs::window_async;
        "d breaker closed, time window", "failsafe", "default policy (EMA or consecutive), async", Ok => fs::default_async;
        "d breaker closed, time window", "seatbelt", "30 s window, tower", Ok => sb::cb_tower;
        "d breaker closed, time window", "seatbelt", "30 s window, layered", Ok => sb::cb_layered;
        "d breaker closed, time window", "seatbelt", "30 s window, tower, fast-instant clock", Ok => sb::cb_tower_fast;
        "d breaker closed, time window", "seatbelt", "30 s window, layered, fast-instant clock", Ok => sb::cb_layered_fast;
        "d breaker closed, time window", "buttress", "30 s window", Ok => bt::window;

        // ---- e: retry, first attempt ok -----------------------------------------
        "e retry", "tower", "Retry + Policy (Sleep backoff)", Ok => tw::retry;
        "e retry", "tower", "Retry + TpsBudget", Ok => tw::retry_budget;
        "e retry", "tower-resilience", "fixed backoff", Ok => tr::retry;
        "e retry", "tower-resilience", "fixed backoff + token bucket budget", Ok => tr::retry_budget;
        "e retry", "seatbelt", "tower", Ok => sb::retry_tower;
        "e retry", "seatbelt", "layered", Ok => sb::retry_layered;
        "e retry", "backon", "ExponentialBuilder", Ok => misc::backon;
        "e retry", "tokio-retry", "ExponentialBackoff.take(3)", Ok => misc::tokio_retry;
        "e retry", "buttress", "exponential backoff, budget", Ok => bt::retry;
        "e retry", "buttress", "exponential backoff, no budget", Ok => bt::retry_without_budget;

        // ---- f: timeout, inner immediately ready -----------------------------------
        "f timeout", "tower", "Timeout", Ok => tw::timeout;
        "f timeout", "tower-resilience", "TimeLimiter (cancelling)", Ok => tr::timeout;
        "f timeout", "seatbelt", "tower", Ok => sb::timeout_tower;
        "f timeout", "seatbelt", "layered", Ok => sb::timeout_layered;
        "f timeout", "buttress", "Timeout", Ok => bt::timeout;

        // ---- g: bulkhead -------------------------------------------------------------
        "g bulkhead", "tower", "ConcurrencyLimit(1000)", Ok => tw::conc;
        "g bulkhead", "tower", "LoadShed<ConcurrencyLimit(1000)>", Ok => tw::shed_conc;
        "g bulkhead", "tower", "LoadShed only", Ok => tw::shed;
        "g bulkhead", "tower-resilience", "Bulkhead(1000)", Ok => tr::bulkhead;
        "g bulkhead", "tower-resilience", "Bulkhead(1000) reject_when_full", Ok => tr::bulkhead_reject;
        "g bulkhead", "tower-resilience", "Bulkhead(1000) backpressure", Ok => tr::bulkhead_bp;
        "g bulkhead", "tower-resilience", "Adaptive AIMD(1000)", Ok => tr::adaptive;

        // ---- h: rate limiter, admit -----------------------------------------------------
        "h rate limit", "tower", "RateLimit", Ok => tw::rate;
        "h rate limit", "tower-resilience", "fixed window", Ok => tr::rate_fixed;
        "h rate limit", "tower-resilience", "sliding counter", Ok => tr::rate_counter;
        "h rate limit", "tower-resilience", "sliding log (1 ms window)", Ok => tr::rate_log;
        "h rate limit", "tower-resilience", "token bucket (burst)", Ok => tr::rate_bucket;
        "h rate limit", "governor", "direct check(), quanta clock", Ok => misc::gov_quanta;
        "h rate limit", "governor", "direct check(), std clock", Ok => misc::gov_std;
        "h rate limit", "governor", "keyed check_key() (dashmap, 1 key)", Ok => misc::gov_keyed;

        // ---- i: fallback pass-through ------------------------------------------------------
        "i fallback", "tower", "ServiceExt::map_result (DIY, sync)", Ok => tw::map_result;
        "i fallback", "tower", "ServiceExt::then (DIY, async)", Ok => tw::then;
        "i fallback", "tower-resilience", "value", Ok => tr::fallback;
        "i fallback", "seatbelt", "tower", Ok => sb::fallback_tower;
        "i fallback", "seatbelt", "layered", Ok => sb::fallback_layered;
        "i fallback", "buttress", "value", Ok => bt::fallback;

        // ---- hedge ---------------------------------------------------------------------------
        "k hedge, first attempt wins", "tower-resilience", "delay 1 s", Ok => tr::hedge;
        "k hedge, first attempt wins", "seatbelt", "tower, delay 1 s", Ok => sb::hedge_tower;
        "k hedge, first attempt wins", "seatbelt", "layered, delay 1 s", Ok => sb::hedge_layered;

        // ---- j: full stack ----------------------------------------------------------------------
        "j full stack", "tower-resilience", "fallback(retry(breaker(timeout)))", Ok => tr::stack;
        "j full stack", "seatbelt", "tower: fallback(retry(breaker(timeout)))", Ok => sb::stack_tower;
        "j full stack", "seatbelt", "layered: fallback(retry(breaker(timeout)))", Ok => sb::stack_layered;
        "j full stack", "tower+failsafe", "map_result(tower retry(failsafe(tower timeout)))", Ok => tw::stack_failsafe;
        "j full stack", "tower+recloser", "map_result(tower retry(recloser(tower timeout)))", Ok => tw::stack_recloser;
        "j full stack", "tower", "retry(timeout) only, no breaker/fallback", Ok => tw::retry_timeout;
        "j full stack", "buttress", "fallback(retry(breaker(timeout)))", Ok => bt::stack;
    }
}
