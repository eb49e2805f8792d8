//! Integer arithmetic on embeddings. [`generic`] is the specification: every other kernel gives the same bits.

pub mod generic;
