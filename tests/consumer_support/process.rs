//! What this process costs.

use std::{fs, path::Path, time::Duration};

/// Linux counts in hundredths of a second, whatever its own timer does: `USER_HZ`.
const TICK: Duration = Duration::from_millis(10);

/// Processor time of this process so far, without its children. Threads whose name starts with one
/// of these do not count: librdkafka runs its mock cluster in a thread of its own.
pub fn cpu_without(threads: &[&str]) -> Duration {
    let all = cpu_of(Path::new("/proc/self/stat"));
    let tasks = fs::read_dir("/proc/self/task").expect("Linux");
    let others = tasks.flatten().filter_map(|task| {
        let path = task.path();
        let name = fs::read_to_string(path.join("comm")).ok()?;
        let left_out = threads.iter().any(|start| name.starts_with(start));
        left_out.then(|| cpu_of(&path.join("stat")))
    });
    all.saturating_sub(others.sum())
}

/// See `proc_pid_stat(5)`: after the name, which may hold blanks, `utime` and `stime` are the twelfth
/// and thirteenth.
fn cpu_of(stat: &Path) -> Duration {
    let Ok(stat) = fs::read_to_string(stat) else { return Duration::ZERO };
    let after = stat.rsplit_once(')').expect("a name in parentheses").1;
    let ticks = after.split_whitespace().skip(11).take(2);
    TICK * ticks.map(|ticks| ticks.parse::<u32>().unwrap()).sum::<u32>()
}
