//! What made a generation: the "why" column of the history.

use core::fmt;

/// What led to a generation. `S` is `&str` in a record that is read or written in place, `String` in an owned history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action<S> {
    /// The solver made a new head and the acceptance gate let it pass.
    Tuned {
        /// The provider that the session ran on, whose embeddings the head knows; empty: not recorded.
        provider: S,
    },
    /// Head and shots are those of generation `to`; 0 is the bundle's own head without shots.
    RolledBack {
        /// The generation whose content came back.
        to: u32,
    },
    /// A class and its shots were taken out.
    ClassRemoved {
        /// The class that left.
        label: S,
    },
    /// Shots were dropped while the head stayed as it was.
    Forgot {
        /// The class whose shots were dropped; empty: of every class.
        label: S,
        /// How many were dropped.
        shots: u32,
    },
    /// The head was re-centred for another provider; shots stayed as they were.
    Moved {
        /// The provider that it answers for now.
        provider: S,
    },
    /// Shots were added while the head stayed as it was (no tuning yet, or the gate refused it).
    Taught {
        /// How many were added.
        shots: u32,
    },
}

impl<'a> Action<&'a str> {
    /// The action of the stored code, or `None` where this version does not know it or its fields disagree.
    pub(crate) fn from_stored(code: u16, argument: u32, subject: &'a str) -> Option<Self> {
        let action = match code {
            1 => Self::Tuned { provider: subject },
            2 => Self::RolledBack { to: argument },
            3 => Self::ClassRemoved { label: subject },
            4 => Self::Forgot { label: subject, shots: argument },
            5 => Self::Taught { shots: argument },
            6 => Self::Moved { provider: subject },
            _ => return None,
        };
        // A field that the action does not use must be empty, so that one action has one encoding.
        (action.argument() == argument && action.subject() == subject).then_some(action)
    }
}

impl<S: AsRef<str>> Action<S> {
    /// Stable word for `--json`: `tuned`, `rolled-back`, `class-removed`, `forgot`, `taught` or `moved`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Tuned { .. } => "tuned",
            Self::RolledBack { .. } => "rolled-back",
            Self::ClassRemoved { .. } => "class-removed",
            Self::Forgot { .. } => "forgot",
            Self::Taught { .. } => "taught",
            Self::Moved { .. } => "moved",
        }
    }

    /// The same action with its label borrowed.
    #[must_use]
    pub fn borrowed(&self) -> Action<&str> {
        match self {
            Self::Tuned { provider } => Action::Tuned { provider: provider.as_ref() },
            Self::RolledBack { to } => Action::RolledBack { to: *to },
            Self::ClassRemoved { label } => Action::ClassRemoved { label: label.as_ref() },
            Self::Forgot { label, shots } => Action::Forgot { label: label.as_ref(), shots: *shots },
            Self::Taught { shots } => Action::Taught { shots: *shots },
            Self::Moved { provider } => Action::Moved { provider: provider.as_ref() },
        }
    }

    pub(crate) fn code(&self) -> u16 {
        match self {
            Self::Tuned { .. } => 1,
            Self::RolledBack { .. } => 2,
            Self::ClassRemoved { .. } => 3,
            Self::Forgot { .. } => 4,
            Self::Taught { .. } => 5,
            Self::Moved { .. } => 6,
        }
    }

    pub(crate) fn argument(&self) -> u32 {
        match self {
            Self::Tuned { .. } | Self::ClassRemoved { .. } | Self::Moved { .. } => 0,
            Self::RolledBack { to } => *to,
            Self::Forgot { shots, .. } | Self::Taught { shots } => *shots,
        }
    }

    pub(crate) fn subject(&self) -> &str {
        match self {
            Self::ClassRemoved { label } | Self::Forgot { label, .. } => label.as_ref(),
            Self::Tuned { provider } | Self::Moved { provider } => provider.as_ref(),
            Self::RolledBack { .. } | Self::Taught { .. } => "",
        }
    }
}

impl<S: AsRef<str>> fmt::Display for Action<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tuned { provider } if provider.as_ref().is_empty() => f.write_str("tuned"),
            Self::Tuned { provider } => write!(f, "tuned on {}", provider.as_ref()),
            Self::RolledBack { to: 0 } => f.write_str("rolled back to the bundle's head"),
            Self::RolledBack { to } => write!(f, "rolled back to {to}"),
            Self::ClassRemoved { label } => write!(f, "class '{}' removed", label.as_ref()),
            Self::Forgot { label, shots } if label.as_ref().is_empty() => write!(f, "forgot {shots} shots"),
            Self::Forgot { label, shots } => write!(f, "forgot {shots} shots of '{}'", label.as_ref()),
            Self::Taught { shots } => write!(f, "taught {shots} shots, head unchanged"),
            Self::Moved { provider } => write!(f, "moved to {}", provider.as_ref()),
        }
    }
}
