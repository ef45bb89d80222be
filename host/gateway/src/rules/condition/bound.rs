//! Bounds on values: how large a value can be at most, how many rounds a comprehension over it makes, and what its parts
//! can be. The arithmetic under [`cost`](super::cost).

use std::{collections::HashMap, rc::Rc};

use serde_json::Value;

/// Size of a scalar, and of a list or map without its parts.
pub(super) const SCALAR: u64 = 8;
/// Bytes of text to one unit of size.
const TEXT: usize = 8;
/// The cost of looking at one part of the input during the walk.
const WALK: u64 = 2;

/// How large the parts of a JSON value are.
pub(super) struct Shape<'a> {
    size: u64,
    parts: Parts<'a>,
}

enum Parts<'a> {
    None,
    Items(Vec<Shape<'a>>),
    Fields(HashMap<&'a str, Shape<'a>>),
}

impl<'a> Shape<'a> {
    pub(super) fn new(json: &'a Value) -> Self {
        match json {
            Value::Null | Value::Bool(_) | Value::Number(_) => Self { size: SCALAR, parts: Parts::None },
            Value::String(text) => Self { size: text_size(text.len()), parts: Parts::None },
            Value::Array(items) => {
                let items: Vec<Self> = items.iter().map(Self::new).collect();
                Self { size: SCALAR + sum(items.iter().map(|item| item.size)), parts: Parts::Items(items) }
            }
            Value::Object(fields) => {
                let keys = sum(fields.keys().map(|key| text_size(key.len())));
                let fields: HashMap<&str, Self> =
                    fields.iter().map(|(key, field)| (key.as_str(), Self::new(field))).collect();
                let size = SCALAR + keys + sum(fields.values().map(|field| field.size));
                Self { size, parts: Parts::Fields(fields) }
            }
        }
    }
}

/// Counts what the evaluation may cost, and what this walk itself costs.
pub(super) struct Meter {
    pub(super) spent: u64,
    /// The part of it that is already done: the walk.
    pub(super) walked: u64,
    pub(super) allowed: u64,
}

impl Meter {
    /// `None`: over the budget.
    pub(super) fn spend(&mut self, times: u64, units: u64) -> Option<()> {
        self.spent = self.spent.saturating_add(times.saturating_mul(units));
        (self.spent <= self.allowed).then_some(())
    }

    /// Pays for looking at `parts` of the input, now.
    pub(super) fn walk(&mut self, parts: u64) -> Option<()> {
        self.walked = self.walked.saturating_add(parts.saturating_mul(WALK));
        self.spend(parts, WALK)
    }
}

/// What is known about the value of a node.
#[derive(Clone)]
pub(super) struct Bound<'a> {
    /// It is at most this large.
    pub(super) size: u64,
    /// A comprehension over it makes at most so many rounds.
    pub(super) count: u64,
    inside: Inside<'a>,
}

#[derive(Clone)]
enum Inside<'a> {
    /// It is one of these values of the input. None of them: it has no parts.
    OneOf(Rc<[&'a Shape<'a>]>),
    /// It is computed, and each of its parts is within this.
    Each(Rc<Bound<'a>>),
    /// It is computed, and a part can be as large as the whole.
    Unknown,
}

impl<'a> Bound<'a> {
    pub(super) fn scalar() -> Self {
        Self::text(SCALAR)
    }

    /// A value without parts.
    pub(super) fn text(size: u64) -> Self {
        Self { size, count: 0, inside: Inside::OneOf(Rc::new([])) }
    }

    pub(super) fn one_of(shapes: impl IntoIterator<Item = &'a Shape<'a>>) -> Self {
        let shapes: Rc<[_]> = shapes.into_iter().collect();
        let size = shapes.iter().map(|shape| shape.size).max().unwrap_or(SCALAR);
        let count = shapes.iter().map(|shape| shape.parts.count()).max().unwrap_or(0);
        Self { size, count, inside: Inside::OneOf(shapes) }
    }

    /// A computed value of that size whose `count` parts are within `each`.
    pub(super) fn computed(count: u64, size: u64, each: Self) -> Self {
        Self { size, count, inside: Inside::Each(Rc::new(each)) }
    }

    /// What a value becomes that starts as nothing and gets this added `rounds` times.
    pub(super) fn times(self, rounds: u64) -> Self {
        Self {
            size: self.size.saturating_mul(rounds).saturating_add(SCALAR),
            count: self.count.saturating_mul(rounds),
            inside: self.inside,
        }
    }

    fn unknown(size: u64) -> Self {
        Self { size, count: size / SCALAR, inside: Inside::Unknown }
    }

    /// Either of the two.
    pub(super) fn or(self, other: Self, meter: &mut Meter) -> Option<Self> {
        Some(Self {
            size: self.size.max(other.size),
            count: self.count.max(other.count),
            inside: self.inside.or(other.inside, meter)?,
        })
    }

    /// The two, one after the other: each part of the sum is a part of one of them.
    pub(super) fn plus(self, other: Self, meter: &mut Meter) -> Option<Self> {
        let each = self.part(meter)?.or(other.part(meter)?, meter)?;
        Some(Self {
            size: self.size.saturating_add(other.size),
            count: self.count.saturating_add(other.count),
            inside: Inside::Each(Rc::new(each)),
        })
    }

    /// Any part of it: an item, a key, or the value of a field.
    pub(super) fn part(&self, meter: &mut Meter) -> Option<Self> {
        self.spend_parts(meter)?;
        Some(match &self.inside {
            Inside::OneOf(shapes) => {
                Self::one_of(shapes.iter().flat_map(|shape| shape.parts.values())).or_key_of(shapes)
            }
            Inside::Each(each) => each.as_ref().clone(),
            Inside::Unknown => Self::unknown(self.size),
        })
    }

    /// The field of that name.
    pub(super) fn field(&self, name: &str, meter: &mut Meter) -> Option<Self> {
        let Inside::OneOf(shapes) = &self.inside else {
            return self.part(meter);
        };
        meter.walk(shapes.len() as u64)?;
        Some(Self::one_of(shapes.iter().filter_map(|shape| shape.parts.field(name))))
    }

    /// What a macro's variable stands for: an item of a list, a key of a map.
    pub(super) fn round(&self, meter: &mut Meter) -> Option<Self> {
        let Inside::OneOf(shapes) = &self.inside else {
            return self.part(meter);
        };
        self.spend_parts(meter)?;
        Some(Self::one_of(shapes.iter().flat_map(|shape| shape.parts.items())).or_key_of(shapes))
    }

    /// Itself, or a key of one of these.
    fn or_key_of(self, shapes: &[&'a Shape<'a>]) -> Self {
        let keys = shapes.iter().flat_map(|shape| shape.parts.keys());
        let longest = keys.map(|key| text_size(key.len())).max().unwrap_or(SCALAR);
        Self { size: self.size.max(longest), ..self }
    }

    /// Pays for looking at every part of the input values that it stands for.
    fn spend_parts(&self, meter: &mut Meter) -> Option<()> {
        let Inside::OneOf(shapes) = &self.inside else {
            return Some(());
        };
        meter.walk(shapes.len() as u64)?;
        shapes.iter().try_for_each(|shape| meter.walk(shape.parts.count()))
    }
}

impl Inside<'_> {
    fn or(self, other: Self, meter: &mut Meter) -> Option<Self> {
        Some(match (self, other) {
            (Self::OneOf(none), one) | (one, Self::OneOf(none)) if none.is_empty() => one,
            (Self::OneOf(one), Self::OneOf(other)) if Rc::ptr_eq(&one, &other) => Self::OneOf(one),
            (Self::OneOf(one), Self::OneOf(other)) => {
                meter.walk((one.len() + other.len()) as u64)?;
                Self::OneOf(one.iter().chain(other.iter()).copied().collect())
            }
            (Self::Each(one), Self::Each(other)) => {
                Self::Each(Rc::new(one.as_ref().clone().or(other.as_ref().clone(), meter)?))
            }
            _ => Self::Unknown,
        })
    }
}

impl<'a> Parts<'a> {
    /// How many rounds a comprehension makes.
    fn count(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Items(items) => items.len() as u64,
            Self::Fields(fields) => fields.len() as u64,
        }
    }

    fn items(&self) -> &[Shape<'a>] {
        if let Self::Items(items) = self { items } else { &[] }
    }

    fn fields(&self) -> impl Iterator<Item = (&&'a str, &Shape<'a>)> {
        let fields = if let Self::Fields(fields) = self { Some(fields) } else { None };
        fields.into_iter().flatten()
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        self.fields().map(|(key, _)| *key)
    }

    fn values(&self) -> impl Iterator<Item = &Shape<'a>> {
        self.items().iter().chain(self.fields().map(|(_, field)| field))
    }

    fn field(&self, name: &str) -> Option<&Shape<'a>> {
        if let Self::Fields(fields) = self { fields.get(name) } else { None }
    }
}

/// The size of a text.
pub(super) fn text_size(bytes: usize) -> u64 {
    SCALAR + bytes.div_ceil(TEXT) as u64
}

/// The sum of sizes.
pub(super) fn sum(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Checks the bound on a part that is `pick`ed from a JSON value.
    #[track_caller]
    fn check(json: Value, pick: impl Fn(Bound<'_>, &mut Meter) -> Option<(u64, u64)>, expected: (u64, u64)) {
        let shape = Shape::new(&json);
        let mut meter = Meter { spent: 0, walked: 0, allowed: u64::MAX };
        assert_eq!(pick(Bound::one_of([&shape]), &mut meter), Some(expected), "{json}");
    }

    fn both(bound: Bound<'_>) -> (u64, u64) {
        (bound.size, bound.count)
    }

    #[test]
    fn sizes_add_up() {
        check(json!(null), |it, _| Some(both(it)), (8, 0));
        check(json!("123456789"), |it, _| Some(both(it)), (10, 0));
        check(json!([1, [2, 3]]), |it, _| Some(both(it)), (40, 2));
        check(json!({ "12345678": 1 }), |it, _| Some(both(it)), (25, 1));
    }

    #[test]
    fn a_part_is_as_large_as_the_largest() {
        let orders = json!([{ "sku": "12345678" }, { "sku": "1", "tags": [1, 2, 3] }, 7]);
        check(orders.clone(), |it, meter| Some(both(it.round(meter)?.field("sku", meter)?)), (9, 0));
        check(orders.clone(), |it, meter| Some(both(it.part(meter)?.field("tags", meter)?)), (32, 3));
        check(orders, |it, meter| Some(both(it.field("sku", meter)?)), (8, 0));
        // A round over an object is one of its keys, and a sum with it has its keys as parts.
        let keyed = json!({ "1234567890123456": [1, 2, 3] });
        check(keyed.clone(), |it, meter| Some(both(it.round(meter)?)), (10, 0));
        check(keyed, |it, meter| Some(both(it.clone().plus(it, meter)?.part(meter)?)), (32, 3));
        check(json!({ "12345678901234567890": 1 }), |it, meter| Some(both(it.part(meter)?)), (11, 0));
    }

    #[test]
    fn of_two_kinds_nothing_is_known_but_the_size() {
        fn mixed<'a>(it: Bound<'a>, meter: &mut Meter) -> Option<Bound<'a>> {
            it.or(Bound::computed(1, 16, Bound::scalar()), meter)
        }
        check(json!([[1, 2, 3]]), |it, meter| Some(both(mixed(it, meter)?)), (40, 1));
        check(json!([[1, 2, 3]]), |it, meter| mixed(it, meter)?.part(meter).map(both), (40, 5));
    }

    #[test]
    fn doubling_the_choice_is_paid() {
        let shape = json!([1]);
        let shape = Shape::new(&shape);
        let mut meter = Meter { spent: 0, walked: 0, allowed: 1_000 };
        let mut choice = Bound::computed(1, 16, Bound::one_of([&shape]));
        let doublings = (0..64).take_while(|_| {
            let (one, other) = (choice.clone().plus(Bound::scalar(), &mut meter), choice.part(&mut meter));
            let widened = one.zip(other).and_then(|(one, other)| {
                let wider = Bound::one_of([&shape, &shape]).or(other, &mut meter)?;
                one.or(Bound::computed(1, 16, wider), &mut meter)
            });
            widened.map(|wider| choice = wider).is_some()
        });
        assert!(doublings.count() < 64);
        assert!(meter.walked >= 1_000);
    }
}
