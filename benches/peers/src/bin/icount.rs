//! Metric m: runs ONE case N times, for `valgrind --tool=callgrind
//! --toggle-collect=peers_measured`. See icount.sh.
//!
//! usage: icount --list | icount CASE_INDEX N

use peers::{Built, Tally, cases, leaked_rt};

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn peers_measured(b: &mut Built, n: u64, t: &mut Tally) {
    *t = (b.run)(n);
}

fn main() {
    let a: Vec<String> = std::env::args().collect();
    let all = cases::all();
    if a[1] == "--list" {
        for (i, c) in all.iter().enumerate() {
            println!("{i}\t{}\t{}\t{}", c.group, c.krate, c.variant);
        }
        return;
    }
    let c = &all[a[1].parse::<usize>().unwrap()];
    let n: u64 = a[2].parse().unwrap();
    let _ctx = leaked_rt().enter();
    let mut b = (c.build)();
    (b.run)(1000); // warm-up, not collected
    let mut t = Tally::default();
    peers_measured(&mut b, n, &mut t);
    assert_eq!(t.ok + t.err, n);
}
