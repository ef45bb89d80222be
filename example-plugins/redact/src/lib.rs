//! A reshaper that keeps things in: it masks card and phone numbers in the text of a message, and drops what must not go out.
//!
//! All other fields leave exactly as they were written: they are never parsed (`RawValue`), so that no number is rounded.

use std::collections::BTreeMap;

use hookloom_plugin::{Failure, Message, Reshaped, settings};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

/// The payload's fields as JSON text.
type Payload = BTreeMap<String, Box<RawValue>>;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Settings {
    /// A message that contains one of these, in whatever case, is dropped.
    never_send: Vec<String>,
}

#[hookloom_plugin::reshaper]
fn reshape(mut message: Message<Payload>) -> Result<Reshaped, Failure> {
    let settings: Settings = settings()?;
    if message.payload.get("internal").is_some_and(|value| value.get() == "true") {
        return Ok(Reshaped::dropped("the message is marked as internal"));
    }
    let Some(field) = message.payload.get_mut("message") else { return Ok(Reshaped::Unchanged) };
    let text: String = serde_json::from_str(field.get())?;
    let lower_case = text.to_lowercase();
    if let Some(word) = settings.never_send.iter().find(|word| lower_case.contains(&word.to_lowercase())) {
        return Ok(Reshaped::dropped(format!("the message contains \"{word}\"")));
    }
    let masked = mask(&text);
    if masked == text {
        return Ok(Reshaped::Unchanged);
    }
    hookloom_plugin::info!("numbers were masked");
    *field = to_raw_value(&masked).map_err(Failure::broken)?;
    Reshaped::replaced(&message.payload)
}

/// The text with each card or phone number replaced by a word in brackets.
fn mask(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|letter: char| "(+".contains(letter) || letter.is_ascii_digit()) {
        let (before, candidate) = rest.split_at(start);
        masked.push_str(before);
        let number = Number::read(candidate);
        // What is no card and no phone stays, and it goes on after its first group of digits, or after the bracket or plus.
        let first = number.ends.first().map_or(1, |end| end.length);
        let (length, word) = number.mask().unwrap_or((first, &candidate[..first]));
        masked.push_str(word);
        rest = &candidate[length..];
    }
    masked + rest
}

/// Groups of digits with at most two separators between them, at the beginning of a text.
struct Number {
    has_plus: bool,
    digits: Vec<u8>,
    /// Where each group ends.
    ends: Vec<End>,
}

struct End {
    digits: usize,
    /// In bytes of the text.
    length: usize,
}

/// The most digits of a card number; a phone number has at most 15.
const DIGITS_MAX: usize = 19;

impl Number {
    fn read(text: &str) -> Number {
        let bytes = text.as_bytes();
        let mut number =
            Number { has_plus: text.trim_start_matches('(').starts_with('+'), digits: Vec::new(), ends: Vec::new() };
        let mut position = count(bytes, 2, |byte| b"(+".contains(byte));
        while number.digits.len() <= DIGITS_MAX {
            let length = count(&bytes[position..], bytes.len(), u8::is_ascii_digit);
            if length == 0 {
                break;
            }
            number.digits.extend(bytes[position..position + length].iter().map(|byte| byte - b'0'));
            position += length;
            number.ends.push(End { digits: number.digits.len(), length: position });
            position += count(&bytes[position..], 2, |byte| b" -./()".contains(byte));
        }
        number
    }

    /// The bytes to replace and the word for them; the longest match wins, a card number first.
    fn mask(&self) -> Option<(usize, &'static str)> {
        let is_card = |end: &&End| (13..=DIGITS_MAX).contains(&end.digits) && luhn(&self.digits[..end.digits]);
        let phone_digits = if self.has_plus { 8..=15 } else { 10..=15 };
        let card = self.ends.iter().rev().find(is_card).map(|end| (end.length, "[card]"));
        let phone = || self.ends.iter().rev().find(|end| phone_digits.contains(&end.digits));
        card.or_else(|| phone().map(|end| (end.length, "[phone]")))
    }
}

/// How many bytes at the beginning are of a kind, at most `max`.
fn count(bytes: &[u8], max: usize, is_of_kind: impl Fn(&u8) -> bool) -> usize {
    bytes.iter().take(max).take_while(|byte| is_of_kind(byte)).count()
}

/// Whether the last digit is the check digit of a card number.
///
/// Source: ISO/IEC 7812-1, annex B.
fn luhn(digits: &[u8]) -> bool {
    let doubled = |digit: u8| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let value = |(place, digit): (usize, &u8)| u32::from(if place % 2 == 1 { doubled(*digit) } else { *digit });
    digits.iter().rev().enumerate().map(value).sum::<u32>() % 10 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixtures_hold() {
        hookloom_plugin::testing::check_reshaper("fixtures", reshape);
    }

    #[test]
    fn numbers_are_masked_wherever_they_stand() {
        let check = |text, expected| assert_eq!(mask(text), expected, "{text}");
        check("card 4111 1111 1111 1111.", "card [card].");
        check("4111-1111-1111-1111", "[card]");
        check("4111111111111112 is no card", "4111111111111112 is no card");
        check("call +1 (888) 321-3212, please", "call [phone], please");
        check("(888) 321-3212 (home)", "[phone] (home)");
        check("888.321.3212 or 8883213212", "[phone] or [phone]");
        check("on 2026-06-30 at 17:40, order 1234567", "on 2026-06-30 at 17:40, order 1234567");
        check("größe 5 + 3 = 8", "größe 5 + 3 = 8");
    }
}
