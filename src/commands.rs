//! The subcommands: each calls the libraries and prints.

pub mod bench;
pub mod eval;
pub mod export;
pub mod head;
pub mod inspect;
pub mod predict;
pub mod quickstart;
pub mod tune;
