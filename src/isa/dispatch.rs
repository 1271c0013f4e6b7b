//! The rule of dispatch: which functions may hold instructions beyond the level, because nothing leads to them on a processor
//! without.
//!
//! A function may where *every* reference to it, and there is one, is
//!
//! * from a **resolver** that takes its address: what `STT_GNU_IFUNC` symbols and `IRELATIVE` relocations name, and what only
//!   resolvers call. The resolver also takes the address of a function within the level: that is what it falls back to;
//! * **guarded**: reached only after a conditional jump on what CPUID told, on one side of it ([`super::guard`]), or chosen by a
//!   `cmov` among addresses of which one is of a function within the level;
//! * from a function, or from data, that all this is true of in turn.
//!
//! In any other function each instruction beyond the level has to be guarded itself. What the processor can do is known from
//! CPUID and XGETBV in the file, from [`ANSWERS`] and [`VARIABLES`] of the compiler's and C libraries, and from variables that
//! functions write that ask there.
//!
//! That an exported function is called by others is not counted against it: its users have the same choice. That nobody in the
//! file refers to it, is.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::graph::{Graph, How, Node, Site};
use super::guard::{self, Guards, Sources};
use super::object::Object;
use super::space::Space;
use super::sweep::Hit;

/// Functions of the compiler's and C libraries that ask what the processor can do.
const ANSWERS: [&str; 8] = [
    "__cpu_indicator_init",
    "__get_cpu_features",
    "__x86_get_cpu_features",
    "__x86_get_cpuid_feature_leaf",
    "__get_cpuid",
    "__get_cpuid_count",
    "getauxval",
    "__getauxval",
];
/// Variables of theirs that hold it, and how many bytes.
const VARIABLES: [(&str, u64); 5] = [
    ("__cpu_model", 16),
    ("__cpu_features2", 64),
    ("_dl_x86_cpu_features", 1024),
    ("_rtld_global_ro", 4096),
    ("OPENSSL_ia32cap_P", 32),
];
/// What takes the addresses of all implementations, for the C library's own tests, and calls none.
const LIST: &str = "__libc_ifunc_impl_list";
/// How far from an address that is taken a feature variable may be, in bytes.
const NEAR: u64 = 64;
/// From how far what the processor can do is followed: variables and answers of variables and answers.
const ROUNDS: usize = 4;

/// What is to be said of a function with instructions beyond the level.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing leads to it on a processor without.
    Dispatched,
    /// The instruction at this place of its section is reached.
    Reached(usize),
}

/// Judges the hits of each object of a file or archive.
pub(super) fn judge(objects: &[Object<'_>], hits: &[Vec<Hit>]) -> Vec<Vec<Verdict>> {
    let space = Space::of(objects);
    let numbers: BTreeMap<(usize, usize), usize> =
        space.functions.iter().enumerate().map(|(at, place)| ((place.object, place.function), at)).collect();
    let mut beyond: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for (object, hits) in hits.iter().enumerate() {
        for hit in hits {
            let Some(number) = numbers.get(&(object, hit.function)) else { continue };
            let (place, function) = (&space.functions[*number], &objects[object].functions[hit.function]);
            let address = |at: &usize| place.start + (at - function.start) as u64;
            beyond.insert(*number, hit.places.iter().map(address).collect());
        }
    }
    let mut court = Court::new(&space, beyond);
    court.ask();
    court.find_resolvers();
    court.settle();
    let verdict = |object: usize, hit: &Hit| {
        let first = hit.places.first().copied().unwrap_or_default();
        let Some(number) = numbers.get(&(object, hit.function)) else { return Verdict::Reached(first) };
        let place = &space.functions[*number];
        match court.reached(*number) {
            None => Verdict::Dispatched,
            Some(address) => {
                let start = objects[object].functions[hit.function].start;
                Verdict::Reached(start + usize::try_from(address - place.start).unwrap_or_default())
            }
        }
    };
    hits.iter().enumerate().map(|(object, hits)| hits.iter().map(|hit| verdict(object, hit)).collect()).collect()
}

struct Court<'a, 'o> {
    space: &'a Space<'o>,
    graph: Graph,
    /// Addresses of instructions beyond the level, by function.
    beyond: BTreeMap<usize, Vec<u64>>,
    /// What was looked into.
    guards: BTreeMap<usize, Guards>,
    resolvers: BTreeSet<usize>,
    list: Option<usize>,
    /// What is only reached by dispatch.
    dispatched: HashSet<Node>,
}

impl<'a, 'o> Court<'a, 'o> {
    fn new(space: &'a Space<'o>, beyond: BTreeMap<usize, Vec<u64>>) -> Self {
        let (guards, resolvers, dispatched) = (BTreeMap::new(), BTreeSet::new(), HashSet::new());
        let list = space.known(LIST).and_then(|address| space.function_at(address));
        Self { space, graph: Graph::of(space), beyond, guards, resolvers, list, dispatched }
    }

    /// Looks into all functions that know what the processor can do.
    fn ask(&mut self) {
        let mut sources = Sources::default();
        for name in ANSWERS {
            sources.answering.extend(self.space.known(name));
        }
        for (name, size) in VARIABLES {
            if let Some(address) = self.space.known(name) {
                sources.add(address, size);
            }
        }
        let start = |number: &usize| self.space.functions[*number].start;
        sources.answering.extend(self.graph.asking.iter().map(start));
        let mut again: BTreeSet<usize> = self.graph.asking.clone();
        for _ in 0..ROUNDS {
            again.extend(self.who_knows(&sources));
            again.extend(sources.handed.keys());
            let mut news = false;
            for number in std::mem::take(&mut again) {
                let guards = guard::look(self.space, number, &sources, self.graph.asking.contains(&number));
                for (address, size) in &guards.written {
                    news |= self.space.is_data(*address) && sources.add(*address, *size);
                }
                news |= guards.answers && sources.answering.insert(start(&number));
                for (address, registers) in &guards.hands {
                    let Some(to) = self.space.function_at(*address) else { continue };
                    let known = sources.handed.entry(to).or_default();
                    news |= *registers & !*known != 0;
                    *known |= registers;
                }
                self.guards.insert(number, guards);
            }
            if !news {
                break;
            }
        }
    }

    /// Returns the functions that use a feature variable, or call who answers.
    fn who_knows(&self, sources: &Sources) -> BTreeSet<usize> {
        let mut who = BTreeSet::new();
        for (address, users) in &self.graph.uses {
            // A structure is known by where it begins.
            if sources.touches(*address, NEAR) || sources.answering.contains(address) {
                who.extend(users);
            }
        }
        for address in &sources.answering {
            let Some(number) = self.space.function_at(*address) else { continue };
            let callers = self.graph.to(Node::Function(number)).filter(|site| site.how == How::Runs);
            who.extend(callers.filter_map(|site| function(site.from)));
        }
        who
    }

    fn find_resolvers(&mut self) {
        self.resolvers = self.space.resolvers.iter().filter_map(|address| self.space.function_at(*address)).collect();
        // And what only these call.
        loop {
            let called = self.resolvers.iter().flat_map(|number| self.graph.from(Node::Function(*number)));
            let called = called.filter(|site| site.how == How::Runs).filter_map(|site| function(site.to));
            let is_theirs = |number: &usize| {
                !self.resolvers.contains(number)
                    && self.graph.to(Node::Function(*number)).all(|site| {
                        site.how == How::Runs && function(site.from).is_some_and(|from| self.resolvers.contains(&from))
                    })
            };
            let new: Vec<usize> = called.filter(is_theirs).collect();
            if new.is_empty() {
                return;
            }
            self.resolvers.extend(new);
        }
    }

    /// Finds everything that is only reached by dispatch: first takes it of all that anything refers to, then takes away what
    /// something else reaches, until nothing changes, and then what no dispatch leads to.
    fn settle(&mut self) {
        let mut candidates: HashSet<Node> = self.graph.of.keys().copied().collect();
        let mut leading: Vec<bool> = Vec::with_capacity(self.graph.sites.len());
        for site in &self.graph.sites {
            leading.push(self.leads(site));
        }
        let mut todo: Vec<Node> = Vec::new();
        for (site, leads) in self.graph.sites.iter().zip(&leading) {
            if !leads && !candidates.contains(&site.from) {
                todo.push(site.to);
            }
        }
        while let Some(node) = todo.pop() {
            if candidates.remove(&node) {
                let by = self.graph.by.get(&node).into_iter().flatten();
                todo.extend(by.filter(|at| !leading[**at]).filter_map(|at| Some(self.graph.sites.get(*at)?.to)));
            }
        }
        let sites = self.graph.sites.iter().zip(&leading);
        let mut todo: Vec<Node> = sites.filter(|(_, leads)| **leads).map(|(site, _)| site.to).collect();
        while let Some(node) = todo.pop() {
            if candidates.contains(&node) && self.dispatched.insert(node) {
                todo.extend(self.graph.from(node).map(|site| site.to));
            }
        }
    }

    /// Returns whether a site is one of dispatch by itself.
    fn leads(&self, site: &Site) -> bool {
        let Some(from) = function(site.from) else { return false };
        if self.list == Some(from) {
            return true;
        }
        if self.resolvers.contains(&from) && site.how == How::Takes && self.falls_back(from) {
            return true;
        }
        let Some(guards) = self.guards.get(&from) else { return false };
        if guards.guard(site.at, &self.executing(from)) {
            return true;
        }
        let is_within = |at: &u64| {
            let sites = self.graph.from(Node::Function(from)).filter(|site| site.at == *at);
            sites.filter_map(|site| function(site.to)).any(|number| !self.beyond.contains_key(&number))
        };
        site.how == How::Takes
            && guards.choices.iter().any(|choice| choice.contains(&site.at) && choice.iter().any(is_within))
    }

    /// Returns whether a resolver, or one that it calls, takes the address of a function within the level.
    fn falls_back(&self, resolver: usize) -> bool {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![Node::Function(resolver)]);
        while let Some(node) = todo.pop() {
            if !seen.insert(node) {
                continue;
            }
            for site in self.graph.from(node) {
                match (site.to, site.how) {
                    (Node::Function(to), How::Takes) if !self.beyond.contains_key(&to) => return true,
                    (Node::Function(to), How::Runs) if self.resolvers.contains(&to) => todo.push(site.to),
                    (Node::Data(_), How::Takes) => todo.push(site.to),
                    _ => {}
                }
            }
        }
        false
    }

    /// Returns the addresses in a function that execute something beyond the level, itself or by what is called or chosen.
    fn executing(&self, number: usize) -> Vec<u64> {
        let mut all = self.beyond.get(&number).cloned().unwrap_or_default();
        let is_beyond = |site: &&Site| function(site.to).is_some_and(|to| self.beyond.contains_key(&to));
        all.extend(self.graph.from(Node::Function(number)).filter(is_beyond).map(|site| site.at));
        all
    }

    /// Returns the first instruction beyond the level of a function that is reached without dispatch.
    fn reached(&self, number: usize) -> Option<u64> {
        if self.dispatched.contains(&Node::Function(number)) {
            return None;
        }
        let executing = self.executing(number);
        let guards = self.guards.get(&number);
        let is_open = |address: &&u64| !guards.is_some_and(|guards| guards.guard(**address, &executing));
        self.beyond.get(&number)?.iter().find(is_open).copied()
    }
}

fn function(node: Node) -> Option<usize> {
    match node {
        Node::Function(number) => Some(number),
        Node::Data(_) => None,
    }
}
