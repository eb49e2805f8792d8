//! What was learned, kept safe: every version of the head that was ever committed, newest first to be used.
//!
//! A [`Record`] is one generation as flat bytes, without allocator and file system ([`record`]). With the feature `std`
//! a [`Store`] keeps one file per generation in a folder; a commit becomes visible whole or not at all, wherever the
//! power fails. History only grows: a rollback is a new generation with an old one's content.
//!
//! ```
//! # #[cfg(feature = "std")] {
//! use hone_runtime::Fingerprint;
//! use hone_runtime::store::{Action, Draft, Store};
//!
//! # let home = tempfile::tempdir().unwrap();
//! # let path = home.path().join("head");
//! let backbone = Fingerprint([7; 16]);
//! let mut store = Store::open(&path, backbone)?; // a folder that is not there yet: an empty store
//! store.commit(&Draft::new(Action::Tuned { provider: "native" }, b"first head"))?;
//! store.commit(&Draft::new(Action::Tuned { provider: "native" }, b"second head"))?;
//! store.rollback(1, None)?;
//!
//! let store = Store::open(&path, backbone)?;
//! let active = store.active().unwrap();
//! assert_eq!((active.number, active.head.as_slice()), (3, b"first head".as_slice()));
//! assert_eq!(store.history()[2].action.to_string(), "rolled back to 1");
//! # }
//! # Ok::<(), hone_runtime::Error>(())
//! ```

mod action;
pub mod record;

#[cfg(feature = "std")]
mod disk;
#[cfg(feature = "std")]
mod generation;
#[cfg(feature = "std")]
pub mod volume;

pub use action::Action;
pub use record::{Draft, Measures, Record};

#[cfg(feature = "std")]
pub use disk::{DEFAULT_KEEP, MAX_RECORD_BYTES, Store, Warning};
#[cfg(feature = "std")]
pub(crate) use generation::shots;
#[cfg(feature = "std")]
pub use generation::{Entry, Generation, Shot};
