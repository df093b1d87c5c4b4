//! The messages of the compiler where inference or a bound fails: each trap of the error model is
//! met by a note that says what to write; `tests/named_ways.rs` writes it.
//!
//! The expected messages are those of the compiler that the rest of CI runs on. After a change of
//! it: `TRYBUILD=overwrite cargo test --all-features --test ui`, and read the difference.

// Programs compiled one by one take a while, and once is enough: with all features, because which types
// the compiler calls by their full path depends on what else has a type of that name.
#![cfg(all(
    feature = "kafka",
    feature = "metrics",
    feature = "nats",
    feature = "rabbitmq",
    feature = "reqwest",
    feature = "serde",
    feature = "tracing"
))]

#[test]
fn traps_of_inference() {
    let tests = trybuild::TestCases::new();
    tests.compile_fail("tests/ui/fail_*.rs");
}
