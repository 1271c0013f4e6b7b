//! The step that plans: a program of ours that asks Portage's resolver, given to Python as an argument, so that nothing
//! has to be put into the root.

use crate::atom::Atom;
use crate::backend::{Cross, Step};

/// In this order they are one program: what it answers, how it explains a refusal, and the asking.
const PROGRAM: &str = concat!(
    include_str!("plan.py"),
    "\n\n",
    include_str!("plan/links.py"),
    "\n\n",
    include_str!("plan/wishes.py"),
    "\n\n",
    include_str!("plan/conflicts.py"),
    "\n\n",
    include_str!("plan/problems.py"),
    "\n\n",
    include_str!("plan/answer.py"),
);

/// Returns the step. Its standard output is the resolution as JSON and nothing else.
pub(super) fn step(atoms: &[Atom], cross: Option<&Cross>) -> Step {
    let mut args = vec!["/usr/bin/python3".to_string(), "-c".to_string(), PROGRAM.to_string()];
    args.extend(atoms.iter().map(|atom| atom.as_str().to_string()));
    Step { args, env: super::across(cross) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atoms_are_arguments_of_the_program() {
        let step = step(&["app-misc/hello".parse().unwrap()], None);
        assert_eq!(step.args.last().unwrap(), "app-misc/hello");
        // Linux takes arguments of at most 128 KiB.
        assert!(PROGRAM.len() < 64 << 10);
    }
}
