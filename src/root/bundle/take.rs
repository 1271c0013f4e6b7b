//! A JSON object that is read by taking fields out of it: what is left in the end was not understood.

use serde_json::{Map, Value};

use crate::root::bundle::Reason;

#[cfg(test)]
thread_local! {
    /// The paths of all fields that were asked for in this thread, whether they were there or not.
    pub(super) static TAKEN: std::cell::RefCell<std::collections::BTreeSet<String>> = const {
        std::cell::RefCell::new(std::collections::BTreeSet::new())
    };
}

/// An object of the config.json, and what was found wrong in it.
#[derive(Debug)]
pub(super) struct Object {
    path: String,
    fields: Map<String, Value>,
    reasons: Vec<Reason>,
}

impl Object {
    /// Starts to read an object at `path`, which is empty for the whole.
    pub(super) fn new(path: &str, fields: Map<String, Value>) -> Self {
        Self { path: path.to_string(), fields, reasons: Vec::new() }
    }

    fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) }
    }

    /// Takes a field out.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        #[cfg(test)]
        TAKEN.with_borrow_mut(|taken| taken.insert(self.path(name)));
        self.fields.remove(name).filter(|value| !value.is_null())
    }

    /// Takes a text out.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.take(name).and_then(|value| value.as_str().map(str::to_string)).filter(|text| !text.is_empty())
    }

    /// Takes a truth value out.
    pub(super) fn flag(&mut self, name: &str) -> Option<bool> {
        self.take(name).and_then(|value| value.as_bool())
    }

    /// Takes an object out, an empty one where there is none.
    pub(super) fn object(&mut self, name: &str) -> Self {
        let fields = match self.take(name) {
            Some(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        Self::new(&self.path(name), fields)
    }

    /// Takes a list out, an empty one where there is none.
    pub(super) fn list(&mut self, name: &str) -> Vec<Value> {
        match self.take(name) {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        }
    }

    /// Takes a list of texts out.
    pub(super) fn texts(&mut self, name: &str) -> Vec<String> {
        self.list(name).iter().filter_map(|item| item.as_str().map(str::to_string)).collect()
    }

    /// Looks at a text without taking it out.
    pub(super) fn peek(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(Value::as_str)
    }

    /// Takes all that is left out.
    pub(super) fn rest(&mut self) -> Map<String, Value> {
        std::mem::take(&mut self.fields)
    }

    /// Notes that a field asks for what cannot be done.
    pub(super) fn refuse(&mut self, name: &str, why: impl Into<String>, instead: impl Into<String>) {
        let field = self.path(name);
        self.reasons.push(Reason { field, why: why.into(), instead: instead.into() });
    }

    /// Refuses what is left and set, and returns all that was refused.
    pub(super) fn end(mut self) -> Vec<Reason> {
        let mut left: Vec<_> = self.fields.iter().filter(|(_, value)| is_set(value)).map(|(name, _)| name).collect();
        left.sort_unstable();
        let left: Vec<_> = left.into_iter().map(|name| self.path(name)).collect();
        self.reasons.extend(left.into_iter().map(|field| Reason {
            field,
            why: "a sandbox does nothing of the kind".to_string(),
            instead: "remove it".to_string(),
        }));
        self.reasons
    }
}

/// Whether a value asks for anything.
pub(super) fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => items.iter().any(is_set),
        Value::Object(fields) => fields.values().any(is_set),
        Value::Bool(_) | Value::Number(_) => true,
    }
}
