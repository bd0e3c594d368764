//! The search for a target through delegations (5.6.7), without I/O: pre-order and depth first, in the order of the lists.

use super::{DelegatedRole, RoleName, Signed, Target, Targets, Trusted, TufError, Wanted};
use std::collections::BTreeSet;
use time::OffsetDateTime;

/// Most roles looked into for one target.
pub const SEARCHED_ROLES_MAX: usize = 32;

/// Where a search stands.
#[derive(Debug, Clone)]
pub struct Search {
    path: String,
    visited: BTreeSet<String>,
    /// The next role is the last.
    to_visit: Vec<Visit>,
}

/// A role to look into, and who delegated to it: that one's keys must have signed it, whoever else did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    pub(super) role: String,
    pub(super) delegator: String,
}

/// What a search comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// The target.
    Target(Box<Target>),
    /// No role that may sign the target names it.
    Nothing,
    /// The search goes on once [`Trusted::update_delegated`] took this file.
    Needs(Visit, Wanted),
}

impl Search {
    /// A search that begins at the top-level targets role.
    #[must_use]
    pub fn new(path: &str) -> Self {
        Self { path: path.to_owned(), visited: BTreeSet::new(), to_visit: vec![top()] }
    }

    /// Goes on as far as what is trusted leads.
    ///
    /// # Errors
    /// When a role on the way cannot be trusted, or there are too many: a search never passes over one, since the next
    /// might name another target under the same path.
    pub fn advance(&mut self, trusted: &Trusted, now: OffsetDateTime) -> Result<Found, TufError> {
        while let Some(visit) = self.to_visit.last().cloned() {
            if self.visited.contains(&visit.role) {
                self.to_visit.pop();
                continue;
            }
            let Some(role) = trusted.current(&visit, now)? else {
                let wanted = trusted.delegated_wanted(&visit, now)?;
                return Ok(Found::Needs(visit, wanted));
            };
            self.to_visit.pop();
            if let Some(target) = role.body().targets.get(&self.path) {
                return Ok(Found::Target(Box::new(target.clone())));
            }
            self.visit_children(&visit.role, role.body());
            if self.visited.len() > SEARCHED_ROLES_MAX {
                let reason = format!("more than {SEARCHED_ROLES_MAX} roles may have signed {:?}", self.path);
                return Err(TufError::Inconsistent { role: RoleName::Targets, reason });
            }
        }
        Ok(Found::Nothing)
    }

    fn visit_children(&mut self, name: &str, role: &Targets) {
        self.visited.insert(name.to_owned());
        let mut children = Vec::new();
        for child in role.delegations.iter().flat_map(|d| &d.roles) {
            if child.scope.holds(&self.path) {
                children.push(Visit { role: child.name.clone(), delegator: name.to_owned() });
                if child.terminating {
                    self.to_visit.clear();
                    break;
                }
            }
        }
        self.to_visit.extend(children.into_iter().rev());
    }
}

fn top() -> Visit {
    let targets = RoleName::Targets.as_str().to_owned();
    Visit { role: targets, delegator: RoleName::Root.as_str().to_owned() }
}

impl Visit {
    pub(super) fn is_top(&self) -> bool {
        self.role == RoleName::Targets.as_str()
    }

    /// What the delegator says about the role.
    pub(super) fn terms<'a>(&self, delegator: &'a Signed<Targets>) -> Option<&'a DelegatedRole> {
        delegator.body().delegations.as_ref()?.role(&self.role)
    }
}
