//! Commands that are given while faults are going on, right and wrong ones, each with the exit code that
//! it must have.

/// A command: its words and its exit code. `{name}` stands for an actor that runs.
pub const ORDERS: &[(&[&str], i32)] = &[
    (&["aps"], 0),
    (&["aps", "-l"], 0),
    (&["aps", "--json"], 0),
    (&["memstat"], 0),
    (&["memstat", "--json"], 0),
    (&["chorusStat"], 0),
    (&["chorusStat", "--json"], 0),
    (&["env"], 0),
    (&["umask"], 0),
    (&["help", "arun"], 0),
    (&["log", "{name}"], 0),
    (&["log", "HR_CTRL"], 0),
    (&["akill", "999999999"], 1),
    (&["akill", "-g", "4000000000"], 1),
    (&["arun", "-g", "7777", "-n", "{name}", "/bin/true"], 1),
    (&["arun", "-g", "7777", "/nonexistent"], 1),
    (&["arun", "-g", "7777", "/"], 1),
    (&["source", "/nonexistent"], 1),
    (&["log", "nobody"], 1),
    (&["aps", "--bogus"], 2),
    (&["arun"], 2),
];
