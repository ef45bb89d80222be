//! The person whom a match is about: tidied, with a phone number in E.164, and checked for what a rule needs.

use std::panic::catch_unwind;

use hookloom_runtime::Contact;
use phonenumber::Mode;
use serde_json::Value;

use super::{
    reason::{Reason, quote},
    rule::Need,
};

/// A longer text is no phone number, whatever it contains.
const PHONE_BYTES_MAX: usize = 64;
/// A plus sign and 15 digits. Source: ITU-T E.164 §6.
const E164_LENGTH_MAX: usize = 16;
/// A longer text is no email address. Source: RFC 5321 §4.5.3.1.3, with the erratum about its brackets.
const EMAIL_BYTES_MAX: usize = 254;

/// A tidied contact.
pub(super) struct Person {
    pub(super) contact: Contact,
    phone_is_valid: bool,
}

impl Person {
    /// Takes a contact as a mapper or a payload tells it: blanks around its fields go, a field of blanks alone tells
    /// nothing, and a valid phone number is brought to E.164. One that isn't valid stays as it is.
    pub(super) fn new(contact: Contact) -> Self {
        let tidy = |field: Option<String>| field.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let written = tidy(contact.phone);
        let phone = written.as_deref().and_then(e164);
        let phone_is_valid = phone.is_some();
        let contact = Contact {
            id: tidy(contact.id),
            name: tidy(contact.name),
            phone: phone.or(written),
            email: tidy(contact.email),
        };
        Self { contact, phone_is_valid }
    }

    /// What conditions see: what is unknown is missing, so that `has(contact.email)` asks for it.
    pub(super) fn to_json(&self) -> Value {
        let Contact { id, name, phone, email } = &self.contact;
        let fields = [("id", id), ("name", name), ("phone", phone), ("email", email)];
        fields.into_iter().filter_map(|(name, field)| Some((name, field.as_deref()?))).collect()
    }

    /// Why the person doesn't have what a rule needs; none if he does.
    pub(super) fn lacks(&self, need: Need) -> Option<Reason> {
        match (need, &self.contact.phone, &self.contact.email) {
            (Need::Phone, None, _) => Some(Reason::MissingPhone),
            (Need::Phone, Some(_), _) if self.phone_is_valid => None,
            (Need::Phone, Some(phone), _) => Some(Reason::InvalidPhone { phone: quote(phone) }),
            (Need::Email, _, None) => Some(Reason::MissingEmail),
            (Need::Email, _, Some(email)) if is_email(email) => None,
            (Need::Email, _, Some(email)) => Some(Reason::InvalidEmail { email: quote(email) }),
        }
    }
}

/// The contact that a payload tells in its fields `name`, `phone` and `email`.
pub(super) fn of_payload(payload: &Value) -> Contact {
    let field = |name: &str| match payload.get(name) {
        Some(Value::String(text)) => Some(text.clone()),
        // Some senders write a phone number as a number.
        Some(Value::Number(number)) if number.is_u64() => Some(number.to_string()),
        _ => None,
    };
    Contact { id: None, name: field("name"), phone: field("phone"), email: field("email") }
}

/// A valid phone number in E.164, for example `+18883213212`. It must have its country code: the gateway doesn't know
/// where a sender lives. An extension is left out.
///
/// The library alone would read letters as the digits of their keys, and make a stranger's number of many a text.
fn e164(text: &str) -> Option<String> {
    let digits_and_signs = without_extension(text.strip_prefix("tel:").unwrap_or(text))?;
    if text.len() > PHONE_BYTES_MAX
        || !digits_and_signs.chars().all(|c| c.is_ascii_digit() || " \u{a0}+-./()".contains(c))
    {
        return None;
    }
    // The library unwraps on its way; a text that finds a gap there is no phone number, and no end of a worker.
    let number = catch_unwind(|| {
        let number = phonenumber::parse(None, digits_and_signs).ok()?;
        phonenumber::is_valid(&number).then(|| number.format().mode(Mode::E164).to_string())
    });
    number.ok()?.filter(|number| number.len() <= E164_LENGTH_MAX)
}

/// The text before `ext. 12`, `x12`, `;ext=12` or `#12`; none if something else begins there.
fn without_extension(text: &str) -> Option<&str> {
    let Some(at) = text.find(|c: char| c.is_alphabetic() || c == ';' || c == '#') else {
        return Some(text);
    };
    let extension = text[at..].to_lowercase();
    let marks = [";ext=", "extension", "ext.", "ext", "x", "#"];
    let number = marks.iter().find_map(|mark| extension.strip_prefix(mark))?.trim();
    let plausible = (1..=7).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    plausible.then_some(&text[..at])
}

/// Whether a text can be an email address: one that no server could take is noticed here, all others where it is used.
fn is_email(text: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && !part.chars().any(|c| c.is_whitespace() || c.is_control() || c == '@');
    let parts = text.rsplit_once('@').filter(|(local, domain)| plain(local) && plain(domain));
    text.len() <= EMAIL_BYTES_MAX
        && parts.is_some_and(|(_, domain)| !domain.starts_with('.') && !domain.ends_with('.') && domain.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_phone(phone: &str, expected: Option<&str>) {
        assert_eq!(e164(phone).as_deref(), expected, "{phone:?}");
    }

    #[test]
    fn phone_numbers_are_normalized_to_e164() {
        check_phone("+18883213212", Some("+18883213212"));
        check_phone("+1 (888) 321-3212", Some("+18883213212"));
        check_phone("tel:+49-30-901820", Some("+4930901820"));
        check_phone("+39 06 698 12345", Some("+390669812345"));
        for extension in [" ext. 5", "x1234567", ";ext=5", " #5", " Extension 12"] {
            check_phone(&format!("+1 888 321 3212{extension}"), Some("+18883213212"));
        }
    }

    #[test]
    fn what_is_no_phone_number_is_none() {
        let long = format!("+1{}", "8".repeat(10_000));
        for text in [
            "",
            "+",
            "8883213212",
            "888-321-3212",
            "+1555",
            "+999 123 456 789",
            "call me",
            "+49 1 phone-context",
            "+1 800 FLOWERS",
            "+1 888 321 3212 x",
            "+1 888 321 3212 x12345678",
            "+1 888 321 3212 or 3213",
            "+491888321888321888",
            "+1888321321٣x",
            "\0",
            "+0",
            &long,
        ] {
            check_phone(text, None);
        }
    }

    #[test]
    fn whatever_is_written_comes_out_as_e164_or_not_at_all() {
        let parts = "+|0|00|1|49| |-|(|)|ext|;|tel:|é|٣|=|phone-context|#|*|888321|99999999".split('|');
        let parts: Vec<&str> = parts.collect();
        let mut valid = 0;
        for (a, b, c) in
            parts.iter().flat_map(|a| parts.iter().flat_map(move |b| [("", a, b), ("+1", a, b), ("+49", a, b)]))
        {
            for part in &parts {
                let text = format!("{a}{b}{c}{part}");
                if let Some(number) = e164(&text) {
                    let digits = number.strip_prefix('+').unwrap_or("");
                    assert!(
                        (7..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()),
                        "{text}: {number}"
                    );
                    valid += 1;
                }
            }
        }
        assert!(valid > 0);
    }

    #[test]
    fn email_addresses_are_plausible() {
        for (text, valid) in [
            ("a@b.example", true),
            ("a+tag@sub.b.example", true),
            ("ä@ö.example", true),
            ("a@b", false),
            ("a@@b.example", false),
            ("@b.example", false),
            ("a b@c.example", false),
            ("a@.example", false),
            ("a@example.", false),
            (&format!("{}@b.example", "a".repeat(250)), false),
        ] {
            assert_eq!(is_email(text), valid, "{text}");
        }
    }
}
