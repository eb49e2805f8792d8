//! The command line of hone.
fn main() {}
