// SPDX-License-Identifier: GPL-2.0-only
//! Commands whose outcome is not known, so that the same command given again finds its way.
//!
//! A create whose answers were all lost may have left an empty volume; the user, who was told so,
//! gives the command again, and now the name is taken, by nobody but that create. Before: an
//! command of [`super::Cdmi`] ends without knowing what it did. After: the next one for the
//! same volume asks here. Belongs to the control thread, and is forgotten with the agent: then the
//! user, who was told what may be left, removes it himself.

use std::cell::RefCell;
use std::collections::BTreeMap;

/// Volumes about which there is a doubt at most; a new doubt beyond them is not remembered.
const MOST: usize = 1024;

/// What may have happened to a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It may have been made, empty or with this size.
    Created(u64),
    /// It may have this size now.
    Extended(u64),
    /// It may be gone.
    Destroyed,
}

/// The doubts, by the volume's name.
#[derive(Debug, Default)]
pub(super) struct Doubts(RefCell<BTreeMap<String, Doubt>>);

impl Doubts {
    /// Remembers one; it takes the place of an earlier one about the same volume.
    pub(super) fn remember(&self, name: &str, doubt: Doubt) {
        let mut doubts = self.0.borrow_mut();
        if doubts.len() < MOST || doubts.contains_key(name) {
            doubts.insert(name.to_owned(), doubt);
        }
    }

    /// What is known of the volume again.
    pub(super) fn settle(&self, name: &str) {
        self.0.borrow_mut().remove(name);
    }

    /// Whether there is this doubt.
    pub(super) fn holds(&self, name: &str, doubt: Doubt) -> bool {
        self.0.borrow().get(name) == Some(&doubt)
    }

    /// The size of a volume that may have been created, as its create wanted it.
    pub(super) fn created(&self, name: &str) -> Option<u64> {
        match self.0.borrow().get(name) {
            Some(Doubt::Created(size)) => Some(*size),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_for_each_volume_and_not_without_bound() {
        let doubts = Doubts::default();
        doubts.remember("v", Doubt::Created(512));
        assert_eq!(doubts.created("v"), Some(512));
        doubts.remember("v", Doubt::Destroyed);
        assert_eq!(doubts.created("v"), None);
        assert!(doubts.holds("v", Doubt::Destroyed));
        for number in 0..2 * MOST {
            doubts.remember(&number.to_string(), Doubt::Extended(1));
        }
        assert_eq!(doubts.0.borrow().len(), MOST);
        doubts.remember("v", Doubt::Extended(7));
        assert!(doubts.holds("v", Doubt::Extended(7)));
        doubts.settle("v");
        assert!(!doubts.holds("v", Doubt::Extended(7)));
    }
}
