//! From what a build left to a package in the pool: normalised in a sandbox of its own, signed outside of any.
//!
//! 1. A second sandbox, with this program and without network, sees what the build wrote (read-only) and an empty folder;
//!    there it reads the package as hostile, audits its programs ([`super::audit`]), writes the canonical one, and prints what is
//!    in it.
//! 2. A process of its own, which reads no archive, signs the canonical package.
//! 3. A third sandbox verifies the signed package as a client does it, and what it finds must be what the second one said;
//!    then it goes into the pool. This process reads neither package: what a build made could be made to attack a reader.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::atom::Cpv;
use crate::backend::Step;
use crate::binhost::pool::{Audited, Entry, Origin};
use crate::build::one::Shop;
use crate::build::room::{Room, describe, full, interrupted, limits, path};
use crate::build::{BuildError, audit};
use crate::digest::Digest;
use crate::fs;
use crate::isa::Wanted;
use crate::package::entry::{NORMALISE, VERIFY, VerifyOptions};
use crate::package::{self, Facts, NormaliseOptions, Normalised, Offers, Verified};
use crate::process;
use crate::root::{Bind, Limits};
use crate::sandbox::{Status, Stream};

/// The longest description of a package that is believed, in bytes.
const ANSWER: usize = 64 << 20;
/// The longest complaint about one that is kept, in bytes.
const COMPLAINT: usize = 4000;
/// How long reading a package may take: far longer than the largest takes.
const TIME: Duration = Duration::from_secs(60 * 60);

/// A package that is not in the pool yet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Artefact<'a> {
    /// One that a build left below this folder.
    Built(&'a Path),
    /// One of another profile's pool that holds no compiled code.
    Shared {
        /// Where it is.
        file: &'a Path,
        /// What it must be.
        content: &'a Digest,
    },
}

/// Finishes a package; `scratch` is a folder of this user's, closed to everyone else.
pub(super) fn finish(
    shop: &Shop<'_>,
    cpv: &Cpv,
    artefact: Artefact<'_>,
    scratch: &Path,
    origin: &Origin,
) -> Result<Entry, BuildError> {
    let out = scratch.join("out");
    let (Normalised { facts, is_new, .. }, audited) = examine(shop, cpv, artefact, &out)?;
    if let Artefact::Shared { content, .. } = artefact {
        check_shared(&facts, content)?;
    }
    let origin = &Origin { audited, ..origin.clone() };
    if !is_new {
        // The same came out again: the package stays, and what it can be made from is noted. An earlier bindery's record
        // may lack what this one knows.
        let entry = shop.pool.find(cpv, facts.build_id)?.ok_or_else(|| BuildError::Vanished { cpv: cpv.clone() })?;
        return Ok(shop.pool.note(shop.held, &Entry { facts, ..entry }, origin)?);
    }
    let signed = scratch.join("signed");
    shop.key.sign(out.join("package"), signed.clone()).map_err(BuildError::Sign)?;
    verify(shop, cpv, &signed, &facts)?;
    Ok(shop.pool.add(shop.held, &signed, &facts, origin)?)
}

/// Reads a package of a pool once more, as any package is; nothing comes of it but what the audit says.
pub(super) fn audit_again(
    shop: &Shop<'_>,
    cpv: &Cpv,
    artefact: Artefact<'_>,
    scratch: &Path,
) -> Result<Option<Audited>, BuildError> {
    Ok(examine(shop, cpv, artefact, &scratch.join("out"))?.1)
}

/// Has a package read, audited and made canonical in `out`, a new folder: an error where it needs more of processors than the
/// profile's have.
fn examine(
    shop: &Shop<'_>,
    cpv: &Cpv,
    artefact: Artefact<'_>,
    out: &Path,
) -> Result<(Normalised, Option<Audited>), BuildError> {
    fs::create_dir_new(out, 0o700)?;
    // The sandbox's ids are none of this user's: the folder is open to all, and the one above it to nobody else.
    fs::set_mode(out, 0o777)?;
    let wanted = audit::wanted(shop.profile, cpv);
    let mut normalised = normalise(shop, cpv, artefact, out, &wanted)?;
    let audited = audit::good(cpv, &wanted, normalised.audit.take())?;
    Ok((normalised, audited))
}

/// Refuses a package of another profile that is another one, or of which it is not proven any more that it holds no code.
fn check_shared(facts: &Facts, content: &Digest) -> Result<(), BuildError> {
    if facts.content != *content {
        return Err(BuildError::Odd("it is not what its record says".into()));
    }
    let not_proven = facts.offers.as_ref().map_or_else(|| Some("nobody looked".to_string()), Offers::not_proven);
    not_proven.map_or(Ok(()), |why| Err(BuildError::Odd(why)))
}

/// Reads the package in a sandbox of its own, which writes the canonical one, unless the pool has it, to `out/package`.
fn normalise(
    shop: &Shop<'_>,
    cpv: &Cpv,
    artefact: Artefact<'_>,
    out: &Path,
    wanted: &Wanted,
) -> Result<Normalised, BuildError> {
    let known = shop.pool.builds(cpv)?.into_iter().map(|entry| (entry.facts.content, entry.facts.build_id));
    let (from, input) = match artefact {
        Artefact::Built(upper) => (upper, shop.prepared.backend.artefact(cpv).on(Path::new("/in"))),
        Artefact::Shared { file, .. } => (file, "/in".into()),
    };
    let options = NormaliseOptions {
        input,
        signed: matches!(artefact, Artefact::Shared { .. }),
        output: "/out/package".into(),
        cpv: cpv.clone(),
        source_date: shop.source_date,
        known: known.collect(),
        next: shop.pool.next(cpv)?.build_id,
        audit: Some(wanted.clone()),
    };
    let binds = [
        Bind { from: from.to_path_buf(), to: path("/in"), writable: false },
        Bind { from: out.to_path_buf(), to: path("/out"), writable: true },
    ];
    let json = serde_json::to_string(&options).expect("options are plain data");
    let answer = read_apart(shop, &format!("reading the package of {cpv}"), &binds, NORMALISE, json)?;
    let answer = answer.map_err(BuildError::Odd)?;
    package::parse_result(&answer, &options).map_err(|e| BuildError::Odd(e.to_string()))
}

/// Verifies the signed package in a sandbox of its own: it must be good, and say `facts`.
fn verify(shop: &Shop<'_>, cpv: &Cpv, signed: &Path, facts: &Facts) -> Result<(), BuildError> {
    let options = VerifyOptions {
        file: "/in".into(),
        certificate: shop.key.certificate().armored(),
        now: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
    };
    let binds = [Bind { from: signed.to_path_buf(), to: path("/in"), writable: false }];
    let json = serde_json::to_string(&options).expect("options are plain data");
    let answer = read_apart(shop, &format!("verifying the package of {cpv}"), &binds, VERIFY, json)?;
    let answer = answer.map_err(BuildError::Unverified)?;
    let found: Verified = serde_json::from_slice(&answer).map_err(|e| BuildError::Unverified(e.to_string()))?;
    if found.facts == *facts { Ok(()) } else { Err(BuildError::Odd("it is not what the sandbox said it is".into())) }
}

/// Runs an entry point of this program in a sandbox of its own, and returns what it printed, or its complaint.
pub(super) fn read_apart(
    shop: &Shop<'_>,
    purpose: &str,
    binds: &[Bind],
    entry: &str,
    json: String,
) -> Result<Result<Vec<u8>, String>, BuildError> {
    let program = fs::canonicalize(Path::new("/proc/self/exe"))?;
    let program = Bind { from: program, to: path("/bindery"), writable: false };
    let binds: Vec<_> = std::iter::once(program).chain(binds.iter().cloned()).collect();
    let step = Step { args: vec!["/bindery".into(), entry.into(), json], env: Vec::new() };
    let limits = Limits { time: Some(TIME), silence: None, ..limits(shop.profile) };
    let mut room = Room::to_discard(shop.host, purpose, shop.together)?;
    let (mut answer, mut complaint) = (Vec::new(), Vec::new());
    let mut sink = |stream: Stream, bytes: &[u8]| {
        let (kept, most) = if stream == Stream::Out { (&mut answer, ANSWER) } else { (&mut complaint, COMPLAINT) };
        kept.extend(bytes.iter().take(most.saturating_sub(kept.len())));
    };
    let exit = room.run(&shop.prepared.image, &shop.prepared.image.layers, &binds, &step, &limits, None, &mut sink);
    let closed = room.close();
    let exit = exit?;
    closed?;
    interrupted(shop.host.cancel)?;
    full(shop.host, &exit, purpose)?;
    if exit.status == Status::Code(0) && exit.stopped.is_none() {
        return Ok(Ok(answer));
    }
    let said = process::tail(&complaint);
    Ok(Err(if said.is_empty() { describe(&exit) } else { said }))
}
