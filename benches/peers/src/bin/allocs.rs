//! Metric k and l: heap allocations and bytes per call (steady state), and the
//! size of the returned future. Deterministic. `usage: allocs [--tsv FILE]`

use peers::{cases, leaked_rt};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

struct Counting;
static ALLOCS: AtomicU64 = AtomicU64::new(0);
static FREES: AtomicU64 = AtomicU64::new(0);
static REALLOCS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, l: Layout) -> *mut u8 {
        ALLOCS.fetch_add(1, Relaxed);
        BYTES.fetch_add(l.size() as u64, Relaxed);
        unsafe { System.alloc(l) }
    }
    unsafe fn dealloc(&self, p: *mut u8, l: Layout) {
        FREES.fetch_add(1, Relaxed);
        unsafe { System.dealloc(p, l) }
    }
    unsafe fn alloc_zeroed(&self, l: Layout) -> *mut u8 {
        ALLOCS.fetch_add(1, Relaxed);
        BYTES.fetch_add(l.size() as u64, Relaxed);
        unsafe { System.alloc_zeroed(l) }
    }
    unsafe fn realloc(&self, p: *mut u8, l: Layout, n: usize) -> *mut u8 {
        REALLOCS.fetch_add(1, Relaxed);
        BYTES.fetch_add(n.saturating_sub(l.size()) as u64, Relaxed);
        unsafe { System.realloc(p, l, n) }
    }
}
#[global_allocator]
static A: Counting = Counting;

fn main() {
    let _ctx = leaked_rt().enter();
    const N: u64 = 10_000;
    let mut tsv = String::from("group\tcrate\tvariant\tallocs\tbytes\tfrees\trealloc\tfut\n");
    let mut last = "";
    for c in cases::all() {
        if c.group != last {
            last = c.group;
            println!("\n### {last}\n\n| crate | variant | allocs/call | bytes/call | future bytes (stack) |\n|---|---|--:|--:|--:|");
        }
        let mut b = (c.build)();
        (b.run)(N); // warm-up: lazy init, ring growth
        let s = (ALLOCS.load(Relaxed), BYTES.load(Relaxed), FREES.load(Relaxed), REALLOCS.load(Relaxed));
        (b.run)(N);
        let d = |now: u64, was: u64| (now - was) as f64 / N as f64;
        let (a, by, f, r) = (
            d(ALLOCS.load(Relaxed), s.0),
            d(BYTES.load(Relaxed), s.1),
            d(FREES.load(Relaxed), s.2),
            d(REALLOCS.load(Relaxed), s.3),
        );
        println!(
            "| {} | {} | {a:.2} | {by:.0} | {} |",
            c.krate, c.variant, if b.fut_size == 0 { "-".into() } else { b.fut_size.to_string() }
        );
        tsv += &format!("{}\t{}\t{}\t{a:.3}\t{by:.1}\t{f:.3}\t{r:.4}\t{}\n", c.group, c.krate, c.variant, b.fut_size);
    }
    let mut a = std::env::args();
    while let Some(x) = a.next() {
        if x == "--tsv" {
            std::fs::write(a.next().unwrap(), &tsv).unwrap();
        }
    }
}
