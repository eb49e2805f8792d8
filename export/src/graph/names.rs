//! Which names of values are taken, so that a new one is found without looking through all of them: node names come from untrusted
//! files, and thousands of equal ones must not cost quadratic time.

use std::collections::HashMap;

use super::Value;

/// An index of names; it learns those of values that were added beside it.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Every name, with the suffix to try next for it.
    taken: HashMap<String, usize>,
    /// How many values are in it.
    indexed: usize,
}

impl Names {
    /// `name`, or with the first suffix that makes it unique among `values` and all names given out before.
    pub(super) fn unused(&mut self, values: &[Value], name: String) -> String {
        for value in values.get(self.indexed..).unwrap_or_default() {
            self.take(&value.name);
        }
        self.indexed = values.len();
        let Some(mut suffix) = self.taken.get(&name).copied() else { return name };
        let mut candidate = format!("{name}_{suffix}");
        while self.taken.contains_key(&candidate) {
            suffix += 1;
            candidate = format!("{name}_{suffix}");
        }
        self.taken.insert(name, suffix + 1);
        candidate
    }

    /// A value that was called `old` is called `new` from now on.
    pub(super) fn exchange(&mut self, old: &str, new: &str) {
        self.taken.remove(old);
        self.take(new);
    }

    fn take(&mut self, name: &str) {
        if !self.taken.contains_key(name) {
            self.taken.insert(name.to_owned(), 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::graph::{Graph, Value};

    #[test]
    fn names_are_unique_however_they_came_in() {
        let mut graph = Graph::default();
        let named = |name: &str| Value { name: name.to_owned(), ..Value::default() };
        graph.values.push(named("a"));
        graph.values.push(named("a_1"));
        let mut names = Vec::new();
        for name in ["a", "a", "b", "b_1", "b"] {
            let id = graph.add_value(named(name));
            names.push(graph.value(id).name.clone());
        }
        assert_eq!(names, ["a_2", "a_3", "b", "b_1", "b_2"]);
        graph.rename(crate::graph::ValueId(0), "b");
        assert_eq!(graph.values[0].name, "b_3");
        let id = graph.add_value(named("a"));
        assert_eq!(graph.value(id).name, "a", "free again");
    }
}
