//! What waits for the writer: tenants take turns, so that the flood of one never stands before another's single operation;
//! what can wait goes last. Pure.

use std::collections::{HashMap, VecDeque};

use crate::store::key::Key;

/// In whose name an operation waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// A tenant's, or the gateway's own (all zeros): taken in turns.
    Turn(Key),
    /// Upkeep: one of them may end a commit.
    Upkeep,
}

/// Operations that wait.
pub struct Backlog<T> {
    tenants: HashMap<Key, VecDeque<T>>,
    /// The tenants with something in their queue, in the order of their turns.
    round: VecDeque<Key>,
    upkeep: VecDeque<T>,
}

impl<T> Backlog<T> {
    pub fn new() -> Self {
        Self { tenants: HashMap::new(), round: VecDeque::new(), upkeep: VecDeque::new() }
    }

    pub fn push(&mut self, rank: Rank, item: T) {
        match rank {
            Rank::Upkeep => self.upkeep.push_back(item),
            Rank::Turn(tenant) => {
                let queue = self.tenants.entry(tenant).or_default();
                if queue.is_empty() {
                    self.round.push_back(tenant);
                }
                queue.push_back(item);
            }
        }
    }

    /// The next one of the tenant whose turn it is.
    pub fn next(&mut self) -> Option<T> {
        let tenant = self.round.pop_front()?;
        let queue = self.tenants.get_mut(&tenant)?;
        let item = queue.pop_front();
        if queue.is_empty() {
            self.tenants.remove(&tenant);
        } else {
            self.round.push_back(tenant);
        }
        item
    }

    /// The next one that could wait.
    pub fn upkeep(&mut self) -> Option<T> {
        self.upkeep.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(backlog: &mut Backlog<u32>) -> Vec<u32> {
        std::iter::from_fn(|| backlog.next()).collect()
    }

    #[test]
    fn a_flood_of_one_tenant_does_not_stand_before_another() {
        let mut backlog = Backlog::new();
        let (flood, other, third) = (Rank::Turn([1; 16]), Rank::Turn([2; 16]), Rank::Turn([3; 16]));
        for n in 0..100 {
            backlog.push(flood, n);
        }
        backlog.push(other, 1_000);
        backlog.push(other, 1_001);
        backlog.push(third, 2_000);
        let order = all(&mut backlog);
        assert_eq!(order[..6], [0, 1_000, 2_000, 1, 1_001, 2]);
        assert_eq!(order.len(), 103, "each once");
        assert!(order.iter().filter(|n| **n < 1_000).is_sorted(), "a tenant's own order stays");
        assert!(backlog.tenants.is_empty() && backlog.round.is_empty(), "nothing is left of who is gone");
    }

    #[test]
    fn upkeep_takes_nobodys_turn() {
        let mut backlog = Backlog::new();
        backlog.push(Rank::Upkeep, 1);
        backlog.push(Rank::Turn([1; 16]), 2);
        assert_eq!(all(&mut backlog), [2]);
        assert_eq!((backlog.upkeep(), backlog.upkeep()), (Some(1), None));
    }
}
