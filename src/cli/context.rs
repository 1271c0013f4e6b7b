//! What every command needs: where things are, what is configured, and whether to stop.
//!
//! The only place that reads environment variables.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use etcetera::BaseStrategy as _;

use crate::cli::events::shower;
use crate::cli::report::{Failure, Kind};
use crate::cli::{reap, signals};
use crate::config::{Config, Search};
use crate::sandbox::{IdRange, Keys};
use crate::state::State;

/// What every command needs.
#[derive(Debug)]
pub(super) struct Context {
    /// Where things are.
    pub state: State,
    /// What the configuration files say.
    pub config: Config,
    /// Where definitions are written: the folder that was named, or the user's own.
    pub own: PathBuf,
    /// Whether results are printed as JSON.
    pub json: bool,
    /// Set by the first signal that asks for an end.
    pub cancel: Arc<AtomicBool>,
    /// Signals that are for a running command.
    pub keys: Arc<Keys>,
}

impl Context {
    /// Finds the state and the configuration.
    pub(super) fn new(state: Option<PathBuf>, config: Option<PathBuf>, json: bool) -> Result<Self, Failure> {
        let asked = signals::catch()
            .map_err(|e| Failure::new(Kind::System, anyhow::Error::new(e).context("cannot wait for signals")))?;
        let cwd = std::env::current_dir()
            .map_err(|e| Failure::new(Kind::System, anyhow::Error::new(e).context("cannot find the current folder")))?;
        let state = match state {
            Some(dir) => State::below(&cwd.join(dir)),
            None if nix::unistd::geteuid().is_root() => State::system(),
            None => user_state()?,
        };
        // Leases, specs and mount options are text; a name that cannot be written there would be another folder's.
        if let Some(dir) = state.not_utf8() {
            let what =
                format!("the folder `{}` is not UTF-8, and what bindery keeps must lie in one that is", dir.display());
            return Err(Failure::user(what).hint("`--state DIR` keeps everything below another folder"));
        }
        let (mut search, mut own) = (Search::new(&cwd, &state), state.etc().to_path_buf());
        if let Some(dir) = config {
            let first = cwd.join(dir);
            own.clone_from(&first);
            search = Search::of(std::iter::once(first).chain(search.folders().to_vec()).collect());
        }
        let config = Config::load(search)?;
        Ok(Self { state, config, own, json, cancel: asked.cancel, keys: asked.keys })
    }

    /// Makes the folders of the state and removes what dead processes left there; returns the id range that roots of
    /// this user belong to.
    pub(super) fn prepare(&self) -> Result<IdRange, Failure> {
        let ids = self.prepare_ids()?;
        self.sweep(&ids)?;
        Ok(ids)
    }

    /// The first half of [`Self::prepare`]: makes the folders and finds the id range.
    pub(super) fn prepare_ids(&self) -> Result<IdRange, Failure> {
        self.prepare_state()?;
        IdRange::detect(self.config.ids).map_err(|e| Failure::new(Kind::System, e).hint_at_doctor())
    }

    /// The second half of [`Self::prepare`]: removes what dead processes left.
    pub(super) fn sweep(&self, ids: &IdRange) -> Result<(), Failure> {
        // What could not be removed has been told, and is no reason not to do what was asked for.
        reap::sweep(&self.state, ids, &mut shower(false)).map(drop)
    }

    /// Makes the folders of the state, for commands that enter no namespace.
    pub(super) fn prepare_state(&self) -> Result<(), Failure> {
        self.state
            .prepare()
            .map_err(|e| Failure::new(Kind::System, e).hint("`--state DIR` keeps everything below another folder"))
    }
}

fn user_state() -> Result<State, Failure> {
    let base = etcetera::choose_base_strategy()
        .map_err(|e| Failure::new(Kind::System, anyhow::Error::new(e).context("cannot find your home folder")))?;
    let state = base.state_dir().unwrap_or_else(|| base.home_dir().join(".local/state"));
    // A runtime folder that is set and not there (cron, su) is as good as none.
    let runtime = base.runtime_dir().filter(|dir: &PathBuf| Path::is_dir(dir));
    Ok(State::user(&base.config_dir(), &base.cache_dir(), &state, runtime.as_deref()))
}
