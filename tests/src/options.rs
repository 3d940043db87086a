//! How a test wants its site: the builder that ends in [`Options::start`] or
//! [`Options::prepare`]. Holds no process and no file.

use std::path::{Path, PathBuf};

use crate::Site;

/// How a site is to be started. Every field optional.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub(crate) config: Option<String>,
    pub(crate) ini: Option<Vec<u8>>,
    pub(crate) bank: Option<PathBuf>,
    pub(crate) default_bank: bool,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) keeps_bank: bool,
}

impl Options {
    /// Nothing but defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The configuration, RON.
    #[must_use]
    pub fn config(mut self, ron: &str) -> Self {
        self.config = Some(ron.to_owned());
        self
    }

    /// A limit on badness that no test reaches: for actors that crash all the time.
    #[must_use]
    pub fn never_bad(self) -> Self {
        self.config("(hr_ctrl: (max_badness: 1000000000))")
    }

    /// `sysadm.ini`; `{dir}` stands for the site's directory.
    #[must_use]
    pub fn ini(mut self, text: &str) -> Self {
        self.ini = Some(text.into());
        self
    }

    /// `sysadm.ini` that may not be text.
    #[must_use]
    pub fn ini_bytes(mut self, bytes: &[u8]) -> Self {
        self.ini = Some(bytes.into());
        self
    }

    /// A bank of the caller's, which the harness does not look into afterwards.
    #[must_use]
    pub fn bank(mut self, dir: &Path) -> Self {
        self.bank = Some(dir.to_owned());
        self
    }

    /// The bank where a site has it when nothing is said.
    #[must_use]
    pub fn default_bank(mut self) -> Self {
        self.default_bank = true;
        self
    }

    /// The bank is to be there after a halt; the harness then does not take it for a leftover.
    #[must_use]
    pub fn keeps_bank(mut self) -> Self {
        self.keeps_bank = true;
        self
    }

    /// A variable in the environment that the site is started with.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Prepares everything and starts nothing: the test starts the site its own way.
    #[must_use]
    pub fn prepare(self) -> Site {
        Site::prepare(self)
    }

    /// Starts the site in the background.
    ///
    /// # Panics
    /// When it does not serve.
    #[must_use]
    pub fn start(self) -> Site {
        let mut site = Site::prepare(self);
        site.detach();
        site
    }
}
