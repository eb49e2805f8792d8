//! What to tell a user whose cut is refused.

use super::Cut;
use crate::graph::{Graph, ValueId};

/// Names listed in one message.
const LISTED: usize = 6;

/// Why a tensor is no legal cut.
pub(super) fn why_not(graph: &Graph, cuts: &[Cut], name: &str) -> String {
    let used = |id: &ValueId| {
        graph.inputs.contains(id) || graph.nodes.iter().any(|n| n.outputs.contains(id) || n.inputs.contains(&Some(*id)))
    };
    let Some(id) = graph.find(name).filter(used) else {
        let mut nearest: Vec<&Cut> = cuts.iter().collect();
        nearest.sort_by_key(|c| distance(&c.tensor, name));
        return format!(
            "the simplified model has no such tensor (it may have been merged into its neighbour); nearest legal cuts: {}",
            list(nearest.iter().map(|c| c.tensor.as_str()))
        );
    };
    let last = list(cuts.iter().rev().map(|c| c.tensor.as_str()));
    let value = graph.value(id);
    if value.constant.is_some() {
        return format!("it is a constant; last legal cuts: {last}");
    }
    if graph.inputs.contains(&id) {
        return format!("it is the model's input; last legal cuts: {last}");
    }
    if let Some(path) = path_around(graph, id) {
        return format!("a path leads around it: {}; last legal cuts: {last}", list_path(&path));
    }
    let shape = value.shape.as_deref().map_or_else(|| "unknown".to_owned(), crate::graph::show_shape);
    format!("its shape {shape} gives no embedding [N, width]; last legal cuts: {last}")
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.take(LISTED).map(|n| format!("'{n}'")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// First and last tensors of a path.
fn list_path(path: &[String]) -> String {
    if path.len() <= LISTED {
        return path.join(" → ");
    }
    let half = LISTED / 2;
    format!("{} → … → {}", path[..half].join(" → "), path[path.len() - half..].join(" → "))
}

/// Names of the tensors of a path from an input to an output that avoids `cut`.
fn path_around(graph: &Graph, cut: ValueId) -> Option<Vec<String>> {
    // For every value that an input reaches without the cut, where it was reached from.
    let mut from: Vec<Option<ValueId>> = vec![None; graph.values.len()];
    for id in graph.inputs.iter().filter(|id| **id != cut) {
        from[id.0] = Some(*id);
    }
    for node in &graph.nodes {
        let Some(reached) = node.inputs.iter().flatten().find(|id| from[id.0].is_some()) else { continue };
        for id in node.outputs.iter().filter(|id| **id != cut) {
            from[id.0] = Some(*reached);
        }
    }
    let mut at = *graph.outputs.iter().find(|id| **id != cut && from[id.0].is_some())?;
    let mut path = vec![graph.value(at).name.clone()];
    while let Some(previous) = from[at.0].filter(|id| *id != at) {
        path.push(graph.value(previous).name.clone());
        at = previous;
    }
    path.reverse();
    Some(path)
}

/// Edit distance, on the last 64 characters.
fn distance(a: &str, b: &str) -> usize {
    let tail = |s: &str| {
        let mut chars: Vec<char> = s.chars().rev().take(64).collect();
        chars.reverse();
        chars
    };
    let (a, b) = (tail(a), tail(b));
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    /// Distances of well-known pairs.
    #[test]
    fn edit_distance() {
        assert_eq!(super::distance("kitten", "sitting"), 3);
        assert_eq!(super::distance("", "abc"), 3);
        assert_eq!(super::distance("flatten", "flatten"), 0);
    }
}
