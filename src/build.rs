//! One run: plan, fetch, build each package in a root of its own, some side by side, publish.
//!
//! A package that fails costs only itself and what needs it: the others are built, what is finished is kept, and the
//! last good package of a failed one stays published.

use std::num::NonZeroU32;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use crate::atom::Atom;
use crate::binhost::pool::Pool;
use crate::config::Config;
use crate::event::{Event, Sink};
use crate::layer::collect;
use crate::package::{DEFAULT_SOURCE_DATE, SigningKey};
use crate::profile::Profile;
use crate::sandbox::{self, IdRange, Together};
use crate::state::{Lease, Lock, State};
use crate::{distfiles, process};

mod across;
mod answer;
mod audit;
mod bundle;
mod crossed;
mod detail;
mod emulated;
mod error;
mod explain;
mod fallback;
mod fetch;
mod finish;
mod foreign;
mod ground;
mod images;
mod method;
mod methods;
mod one;
mod outlook;
mod phases;
mod prepare;
mod publish;
mod record;
mod room;
mod schedule;
mod settle;
mod share;
mod turns;
mod undeclared;
mod used;
mod workers;

pub use audit::Beyond;
pub use bundle::bundle;
pub use error::{Blame, BuildError};
pub use explain::{Addition, Explanation};
pub use images::{emulator, emulator_of_cross, image};
pub use method::{Elsewhere, MethodError};
use one::Shop;
pub use outlook::{Kept, Outlook};
pub use prepare::{Prepared, output, pool, prepare};
pub use record::{Outcome, Record, Status, events, note, runs};

/// What a run has to work with.
#[derive(Debug, Clone, Copy)]
pub struct Host<'a> {
    /// Where things are.
    pub state: &'a State,
    /// What the configuration files say.
    pub config: &'a Config,
    /// The id range that roots belong to.
    pub ids: &'a IdRange,
    /// Set by a signal: everything is stopped and cleaned up.
    pub cancel: &'a AtomicBool,
    /// How many jobs one build may run at a time, however many processors there are.
    pub jobs: Option<u32>,
    /// How many packages are built at a time; as many as the budget is for, where nobody says.
    pub side_by_side: Option<NonZeroU32>,
    /// `SOURCE_DATE_EPOCH` from the environment, which wins over the profile's.
    pub source_date: Option<u64>,
    /// Through which proxy source archives are fetched.
    pub proxy: Option<&'a distfiles::Proxy>,
}

impl Host<'_> {
    /// Returns the time that stands for "now" in a profile's builds, in seconds since 1970.
    fn source_date(&self, profile: &Profile) -> u64 {
        self.source_date.or(profile.source_date_epoch).unwrap_or(DEFAULT_SOURCE_DATE)
    }
}

/// `request.json` of a run.
#[derive(Debug, serde::Serialize)]
struct Asked<'a> {
    version: u32,
    /// What the user typed.
    atoms: &'a [String],
    /// The profile as it was then, in full.
    profile: &'a Profile,
}

/// Builds what `atoms` need for a profile, and publishes it; `asked` is what the user typed. Events go to `on` and into
/// the run's record. An error means that the run could not go on; a package that failed is in the status.
pub fn build(
    host: &Host<'_>,
    profile: &Profile,
    atoms: &[Atom],
    asked: &[String],
    on: Sink<'_>,
) -> Result<Status, BuildError> {
    build_for(host, profile, atoms, asked, Purpose::Publish, on)
}

/// What packages are built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose<'a> {
    /// To be published.
    Publish,
    /// To run while others are cross built, in the run of this id: they stay in the pool.
    BuildSide(&'a str),
}

fn build_for(
    host: &Host<'_>,
    profile: &Profile,
    atoms: &[Atom],
    asked: &[String],
    purpose: Purpose<'_>,
    on: Sink<'_>,
) -> Result<Status, BuildError> {
    let dir = host.state.profile(&profile.name);
    let (held, inside) = match purpose {
        Purpose::Publish => (dir.lock()?, None),
        // Whoever builds for that profile may well build the same: what it leaves is used.
        Purpose::BuildSide(run) => {
            let waits = |holder: &str| {
                let what = format!("waits for process {holder}: another bindery builds for {}", profile.name);
                on(Event::Step { what });
            };
            (dir.wait(host.cancel, waits)?.ok_or(BuildError::Interrupted)?, Some(run))
        }
    };
    // Before anything is built: it would be of no use without.
    let key = SigningKey::open(&host.state.keys(), &profile.key).map_err(BuildError::Key)?;
    let mut record = Record::start(host.state, &profile.name, asked, inside)?;
    record.write_json("request.json", &Asked { version: 1, atoms: asked, profile })?;
    let started = Event::RunStarted { run: record.status.id.clone(), profile: profile.name.clone() };
    record.tell(started, on);
    let layers = collect::in_use(host.state)?;
    let result = run(host, profile, atoms, &held, &key, purpose, &mut record, on)
        .map_err(|error| error.or_interrupted(host.cancel));
    drop(layers);
    collect_layers(host, &mut |event| record.tell(event, on));
    let outcome = match &result {
        Ok(()) if record.status.failed.is_empty() => Outcome::Done,
        Ok(()) => Outcome::Failed,
        Err(BuildError::Interrupted) => Outcome::Interrupted,
        Err(error) => {
            record.status.error = Some(process::chain(error));
            Outcome::Failed
        }
    };
    // The first failure counts: a full disk takes the status with it.
    let ended = record.end(outcome);
    result?;
    Ok(ended?)
}

/// Removes layers that nobody has used for long, unless somebody else is at work. That it fails is no fault of the run's.
fn collect_layers(host: &Host<'_>, on: Sink<'_>) {
    let Some(before) = SystemTime::now().checked_sub(collect::UNUSED) else { return };
    match collect::collect(host.state, host.ids, before) {
        Ok(None | Some(0)) => {}
        Ok(Some(count)) => on(Event::Step { what: format!("removed {count} layers that were not used for long") }),
        Err(error) => on(Event::Warning { what: process::chain(&error) }),
    }
}

#[expect(clippy::too_many_arguments, reason = "each is one thing that a run has")]
fn run(
    host: &Host<'_>,
    profile: &Profile,
    atoms: &[Atom],
    held: &Lock,
    key: &SigningKey,
    purpose: Purpose<'_>,
    record: &mut Record,
    on: Sink<'_>,
) -> Result<(), BuildError> {
    let pool = Pool::open(&host.state.profile(&profile.name));
    pool.clean(held)?;
    let configuration = record.dir().join("portage");
    let mut prepared = prepare(host, profile, atoms, &configuration, &mut |event| record.tell(event, on))?;
    across::build(host, &mut prepared, record, on)?;
    record.write_json("plan.json", &prepared.plan)?;
    for entry in &prepared.altered {
        let aside = pool.set_aside(held, entry)?;
        let (file, aside) = (entry.file.display(), aside.display());
        let what = format!(
            "`{file}` is no longer what was put into the pool: it is now `{aside}`, and published again once it is built again"
        );
        record.tell(Event::Warning { what }, on);
    }
    audit::unknown(profile, &prepared.trees, &mut |event| record.tell(event, on));
    let build = prepared.plan.to_build().count();
    let share = prepared.plan.shared();
    record.tell(Event::Planned { build, reuse: prepared.plan.packages.len() - build - share, share }, on);
    fetch::fetch(host, profile, &prepared, &mut |event| record.tell(event, on))?;
    let source_date = host.source_date(profile);
    let limits = Arc::new(Mutex::new(room::limits(profile)));
    let run = one::Run { id: record.status.id.clone(), dir: record.dir().to_path_buf() };
    let told = AtomicBool::new(false);
    let most = side_by_side(host, &prepared, profile).min(build).max(1);
    let builders = Host { cancel: if most == 1 { host.cancel } else { &told }, ..*host };
    let shared = match most {
        1 => None,
        _ => Some(Together::new(Lease::take(host.state, &format!("the builds of a run for {}", profile.name))?)),
    };
    let (prepared, pool, together) = (&prepared, &pool, shared.as_ref());
    let shop = Shop { host: &builders, profile, prepared, pool, held, key, source_date, limits, run, together };
    let stop = workers::Stop { asked: host.cancel, told: &told };
    let published = workers::build(&shop, most, stop, record, on).and_then(|ready| match purpose {
        Purpose::Publish => publish::publish(&shop, &ready, &mut |event| record.tell(event, on)),
        Purpose::BuildSide(_) => Ok(None),
    });
    let closed = shared.map_or(Ok(()), Together::close);
    let published = published?;
    closed?;
    let Some(published) = published else { return Ok(()) };
    record.status.generation = Some(published.generation.number);
    if published.new {
        let event = Event::Published {
            generation: published.generation.number,
            path: published.generation.path.clone(),
            packages: published.generation.statement.packages.len(),
        };
        record.tell(event, on);
    }
    Ok(())
}

/// How much memory a build is to have, in bytes, where nobody says how many run at a time: a C++ compiler takes as much.
const MEMORY_OF_ONE: u64 = 1 << 30;

/// Returns how many packages are built at a time: as many as there are processors for, each with enough memory.
fn side_by_side(host: &Host<'_>, prepared: &Prepared, profile: &Profile) -> usize {
    let memory = sandbox::memory(profile.limits.memory).map_or(u64::MAX, |memory| memory / MEMORY_OF_ONE);
    let budget = u64::from(prepared.processors).min(memory);
    let most = host.side_by_side.map_or(budget, |most| most.get().into());
    usize::try_from(most).unwrap_or(usize::MAX)
}
