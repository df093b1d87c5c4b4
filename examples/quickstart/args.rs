//! The command line.

use std::{ops::RangeInclusive, time::Duration};

const HELP: &str = "\
Two clients under the same load against a server that goes through good and bad times.

usage: cargo run --example quickstart -- [--seconds N] [--rate N] [--check]

  --seconds N   length of the whole script, 10 to 600; default 30
  --rate N      calls a second offered to each client, 50 to 1000; default 300
  --check       exit with code 1 if a promise was missed
  --help        this text

While the server is a black hole, every call that waits holds a connection, and both of its ends are
in this process: 300 calls a second need about 700 open files (see ulimit -n), in proportion to the
rate.
";

pub struct Args {
    pub length: Duration,
    pub rate: u32,
    pub check: bool,
}

/// What the command line asks for.
pub enum Asked {
    Run(Args),
    Help(&'static str),
}

pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut args = Args { length: Duration::from_secs(30), rate: 300, check: false };
    while let Some(word) = words.next() {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        let mut number = |allowed| number(name, value.clone().or_else(|| words.next()), allowed);
        match name {
            "--seconds" => args.length = Duration::from_secs(number(10..=600)?.into()),
            "--rate" => args.rate = number(50..=1000)?,
            "--check" if value.is_none() => args.check = true,
            "--help" | "-h" => return Ok(Asked::Help(HELP)),
            _ => return Err(format!("{word:?} is not an option; try --help")),
        }
    }
    Ok(Asked::Run(args))
}

fn number(name: &str, value: Option<String>, allowed: RangeInclusive<u32>) -> Result<u32, String> {
    let range = format!("a whole number from {} to {}", allowed.start(), allowed.end());
    let value = value.ok_or_else(|| format!("{name} needs {range}"))?;
    match value.parse() {
        Ok(number) if allowed.contains(&number) => Ok(number),
        _ => Err(format!("{name} must be {range}, but is {value:?}")),
    }
}
