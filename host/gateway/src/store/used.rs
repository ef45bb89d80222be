//! What a commit changes in the tenants' usage: counted by each operation, written once for all of them, in each store.

use super::key::Key;

/// A change of what a tenant has in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    pub events: i64,
    pub event_bytes: i64,
    pub messages: i64,
    pub message_bytes: i64,
    /// Fuel of calls,
    pub fuel: i64,
    /// made on this day.
    pub fuel_day: i64,
}

impl Used {
    /// Both together. Fuel is that of the later day alone.
    fn and(self, other: Self) -> Self {
        let fuel_day = self.fuel_day.max(other.fuel_day);
        let fuel = [self, other].iter().filter(|used| used.fuel_day == fuel_day).map(|used| used.fuel).sum();
        Self {
            events: self.events + other.events,
            event_bytes: self.event_bytes + other.event_bytes,
            messages: self.messages + other.messages,
            message_bytes: self.message_bytes + other.message_bytes,
            fuel,
            fuel_day,
        }
    }
}

/// What was counted of each tenant together, in the order of their keys: who writes rows in one order never waits for each other in a
/// circle.
pub fn by_tenant(mut counted: Vec<(Key, Used)>) -> Vec<(Key, Used)> {
    counted.sort_by_key(|(app, _)| *app);
    let of_one = |all: &[(Key, Used)]| (all[0].0, all.iter().fold(Used::default(), |sum, (_, used)| sum.and(*used)));
    counted.chunk_by(|(one, _), (other, _)| one == other).map(of_one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_of_a_tenant_is_one_change_and_fuel_is_that_of_the_last_day() {
        let fuel = |fuel, fuel_day| Used { fuel, fuel_day, ..Used::default() };
        let message = Used { messages: 1, message_bytes: 7, ..Used::default() };
        let event = Used { events: -1, event_bytes: -5, ..Used::default() };
        let counted = vec![
            ([2; 16], message),
            ([1; 16], fuel(3, 20)),
            ([1; 16], event),
            ([1; 16], fuel(4, 21)),
            ([2; 16], message),
            ([1; 16], fuel(5, 21)),
            ([1; 16], fuel(6, 20)),
        ];
        let expected = [
            ([1; 16], Used { fuel: 9, fuel_day: 21, ..event }),
            ([2; 16], Used { messages: 2, message_bytes: 14, ..Used::default() }),
        ];
        assert_eq!(by_tenant(counted), expected);
        assert_eq!(by_tenant(Vec::new()), []);
    }
}
