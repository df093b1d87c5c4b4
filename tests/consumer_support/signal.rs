//! Signals to processes of a test's own.

use std::process::Command;

/// `STOP`, `CONT`. By the shell, which knows how on every machine; a program `kill` is not on each.
pub fn signal(process: &str, signal: &str) {
    let kill =
        Command::new("sh").args(["-c", "kill -s \"$1\" \"$2\"", "kill", signal, process]).status();
    assert!(kill.unwrap().success());
}
