//! The messages of the compiler where inference or a bound fails: each trap of the error model is
//! met by a note that says what to write; `tests/named_ways.rs` writes it.
//!
//! The expected messages are those of the compiler that the rest of CI runs on. After a change of
//! it: `TRYBUILD=overwrite cargo test --features http --test ui`, and read the difference.

// Programs compiled one by one take a while, and once is enough: with `http`, which two of them need, and
// without `consumer`, whose brokers' clients would be compiled for this once more. tests/run has a step for it.
#![cfg(all(feature = "http", not(feature = "consumer")))]

#[test]
fn traps_of_inference() {
    let tests = trybuild::TestCases::new();
    tests.compile_fail("tests/ui/fail_*.rs");
}
