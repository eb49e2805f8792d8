//! Which nodes each execution provider has taken: ONNX Runtime's own account of it.

#![allow(unsafe_code, reason = "the binding has no words for it")]

use std::ffi::{CStr, c_char};
use std::format;
use std::ptr;
use std::string::String;
use std::vec::Vec;

use ort::AsPointer as _;
use ort::session::Session;
use ort::sys::OrtStatusPtr;

/// A connected part of the graph that one execution provider runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// As ONNX Runtime names it: `CPUExecutionProvider`, …
    pub provider: String,
    /// Its nodes, as the graph had them when it was divided.
    pub nodes: Vec<AssignedNode>,
}

/// A node of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedNode {
    /// Name; may be empty.
    pub name: String,
    /// Operator.
    pub op: String,
}

/// What the session recorded when it was made with [`RECORD`].
///
/// # Errors
/// A library older than 1.24, a session that did not record.
pub(super) fn of(session: &Session) -> Result<Vec<Partition>, String> {
    let api = ort::api();
    let (mut parts, mut count) = (ptr::null(), 0);
    // SAFETY: the session lives; both places are ours to write to.
    check(unsafe { (api.Session_GetEpGraphAssignmentInfo)(session.ptr(), &raw mut parts, &raw mut count) })?;
    let mut partitions = Vec::with_capacity(count);
    for index in 0..count {
        // SAFETY: ONNX Runtime gave `count` pointers, which live as long as the session.
        let part = unsafe { *parts.add(index) };
        let (mut name, mut nodes, mut node_count) = (ptr::null(), ptr::null(), 0);
        // SAFETY: as above.
        check(unsafe { (api.EpAssignedSubgraph_GetEpName)(part, &raw mut name) })?;
        // SAFETY: as above.
        check(unsafe { (api.EpAssignedSubgraph_GetNodes)(part, &raw mut nodes, &raw mut node_count) })?;
        let mut taken = Vec::with_capacity(node_count);
        for index in 0..node_count {
            // SAFETY: as above, of `node_count` pointers.
            let node = unsafe { *nodes.add(index) };
            let (mut called, mut op) = (ptr::null(), ptr::null());
            // SAFETY: as above.
            check(unsafe { (api.EpAssignedNode_GetName)(node, &raw mut called) })?;
            // SAFETY: as above.
            check(unsafe { (api.EpAssignedNode_GetOperatorType)(node, &raw mut op) })?;
            taken.push(AssignedNode { name: text(called), op: text(op) });
        }
        partitions.push(Partition { provider: text(name), nodes: taken });
    }
    Ok(partitions)
}

/// The session option that makes ONNX Runtime remember.
pub(super) const RECORD: &str = "session.record_ep_graph_assignment_info";

/// A text of ONNX Runtime's.
fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: it ends with a zero and lives as long as its session.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

fn check(status: OrtStatusPtr) -> Result<(), String> {
    let status = status.0;
    if status.is_null() {
        return Ok(());
    }
    let api = ort::api();
    // SAFETY: the status is ours until it is released, once.
    let why = unsafe {
        let why = text((api.GetErrorMessage)(status));
        (api.ReleaseStatus)(status);
        why
    };
    Err(format!("ONNX Runtime does not say which nodes it assigned: {why}"))
}
