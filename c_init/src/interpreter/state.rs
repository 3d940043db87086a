//! What the interpreter remembers from command to command, and hands to the actors it starts.

use std::collections::BTreeMap;

/// Environment, mask and limits of the actors that are started from now on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// The file mode creation mask; `None`: the site's own.
    pub umask: Option<u32>,
    /// The resource limits that `ulimit` changed: resource, as in setrlimit(2), to soft and
    /// hard; `u64::MAX` is no limit.
    pub limits: BTreeMap<u32, (u64, u64)>,
}

impl State {
    /// The state of a site that was just started with the environment `env`. Refrain's own
    /// variables are for its boot processes: a life finds none but `REFRAIN_LIFE` (DESIGN 7).
    #[must_use]
    pub fn new(env: Vec<(String, String)>) -> Self {
        let mut env = BTreeMap::from_iter(env);
        env.retain(|name, _| !name.starts_with("REFRAIN_"));
        Self {
            env,
            ..Self::default()
        }
    }

    /// The limits as the site takes them.
    #[must_use]
    pub fn rlimits(&self) -> Vec<(u32, u64, u64)> {
        self.limits
            .iter()
            .map(|(&resource, &(soft, hard))| (resource, soft, hard))
            .collect()
    }
}
