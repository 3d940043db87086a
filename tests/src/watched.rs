//! How lives are watched for hangs, as `aps --json` shows it, and what the site says of those that do hang.
//! Called by the tests of hangs and checks.

use std::cell::RefCell;

use serde_json::Value;

use crate::{Site, binaries, wait};

/// A file that no test makes.
pub const NEVER: &str = "/nonexistent/never";

/// Runs a program of this package with these flags of `arun`; nobody looks at what it writes down.
///
/// # Panics
/// When `arun` refuses.
pub fn runs(site: &Site, flags: &[&str], program: &str, words: &[&str]) {
    let path = binaries::path(program).display().to_string();
    let mut all = flags.to_vec();
    all.extend([path.as_str(), "-"]);
    all.extend(words);
    site.arun(all);
}

/// A file of the site's directory, as a word of a command line.
#[must_use]
pub fn path(site: &Site, name: &str) -> String {
    site.file(name).display().to_string()
}

impl Site {
    /// How the life of `name` is watched; null when it is not.
    ///
    /// # Panics
    /// When there is no such actor.
    #[must_use]
    pub fn watch(&self, name: &str) -> Value {
        let rows: Value = serde_json::from_str(&self.ok("aps --json")).expect("aps prints JSON");
        let rows = rows.as_array().into_iter().flatten();
        let row = rows.into_iter().find(|row| row["name"] == name);
        row.unwrap_or_else(|| panic!("no {name}"))["watch"].clone()
    }

    /// Waits until the life of `name` is watched as `wanted` says.
    pub fn wait_watch(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let told = RefCell::new(Value::Null);
        wait::until_true(&format!("{name} to be watched: {what}"), || {
            *told.borrow_mut() = self.watch(name);
            wanted(&told.borrow())
        });
        told.into_inner()
    }

    /// Waits until the site has said a line with `text` in it.
    pub fn said(&self, text: &str) -> String {
        wait::until(&format!("a line with '{text}'"), || {
            // There is no log before the first line.
            let log = self.command("log HR_CTRL").out;
            let mut lines = log.lines();
            lines.find(|line| line.contains(text)).map(str::to_owned)
        })
    }
}

/// Whether a life that is watched so was seen well at least once.
#[must_use]
pub fn was_well(watch: &Value) -> bool {
    watch["well_ms"].is_u64()
}
