//! Sets of packages: `@NAME` stands for the atoms a profile or `bindery.toml` lists under that name.

use crate::atom::{Atom, Name};
use crate::config::{closest, listed};
use crate::profile::Profile;

/// Sets that the Portage profile itself defines; they are passed on.
const PORTAGE_SETS: &[&str] = &["system", "profile"];

impl Profile {
    /// Replaces sets by what they stand for, sets within sets too; an atom that comes twice is kept once, where it came
    /// first.
    pub fn expand(&self, asked: &[Atom]) -> Result<Vec<Atom>, SetError> {
        let mut atoms = Vec::new();
        let mut chain = Vec::new();
        for atom in asked {
            self.add(atom, &mut chain, &mut atoms)?;
        }
        Ok(atoms)
    }

    fn add(&self, atom: &Atom, chain: &mut Vec<Name>, atoms: &mut Vec<Atom>) -> Result<(), SetError> {
        let Some(set) = atom.set() else {
            if !atoms.contains(atom) {
                atoms.push(atom.clone());
            }
            return Ok(());
        };
        let known = self.sets.iter().find(|(name, _)| name.as_str() == set);
        let Some((name, members)) = known else {
            if PORTAGE_SETS.contains(&set) {
                atoms.push(atom.clone());
                return Ok(());
            }
            let known = self.sets.keys().cloned().collect();
            return Err(SetError::Unknown { set: set.to_string(), profile: self.name.clone(), known });
        };
        if chain.contains(name) {
            let chain = chain.iter().chain([name]).map(|name| format!("@{name}")).collect::<Vec<_>>().join(" → ");
            return Err(SetError::Circle { chain });
        }
        chain.push(name.clone());
        for member in members {
            self.add(member, chain, atoms)?;
        }
        chain.pop();
        Ok(())
    }
}

/// A set cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// There is none of that name.
    #[error("there is no set `@{set}` for profile `{profile}`")]
    Unknown {
        /// The name without `@`.
        set: String,
        /// The profile.
        profile: Name,
        /// The sets there are.
        known: Vec<Name>,
    },
    /// A set is part of itself.
    #[error("a set contains itself: {chain}")]
    Circle {
        /// How.
        chain: String,
    },
}

impl SetError {
    /// Returns what to do about it.
    pub fn hints(&self) -> Vec<String> {
        let Self::Unknown { set, known, .. } = self else { return Vec::new() };
        let names = || known.iter().map(Name::as_str);
        let nearest = closest(set, names()).map(|name| format!("did you mean `@{name}`?"));
        let known = format!("known sets: {}; [sets] of `bindery.toml` or of a profile defines more", listed(names()));
        nearest.into_iter().chain([known]).collect()
    }
}
