//! Profiles: how one webhook system behaves, as data. Pure.
//!
//! A source follows a profile in what it takes ([`Inbound`]), an endpoint in what it gets ([`Outbound`]): which messages, in
//! what envelope, under which headers and signature, how often, and who may configure it. Each system is one file,
//! `profiles/*.toml`, compiled in; an operator's folder adds more. No name of a system stands in the code.
//!
//! [`mod@file`] reads a file and finds all that is wrong with it; [`envelope`] and [`ecmascript`] make the bytes.

pub mod ecmascript;
pub mod envelope;
pub mod file;

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    clock::Timestamp,
    delivery::policy::PolicyPatch,
    store::resource::{Endpoint, Role, SignatureEncoding},
};
use ecmascript::CanonicalError;
use envelope::{Envelope, Facts};
use hookloom_runtime::Origin;

/// The profile of what names none: Standard Webhooks.
pub const STANDARD: &str = "standard";

include!(concat!(env!("OUT_DIR"), "/profiles.rs"));

/// One webhook system.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Its name in the API.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// What it is, and where it is documented.
    pub about: String,
    /// The keys of the file that the system's documentation doesn't settle, as paths with `/`; all others it does.
    pub ours: Vec<String>,
    /// Its event types; empty: any.
    pub catalogue: Vec<EventType>,
    /// What its sources take; none: it has none.
    pub inbound: Option<Inbound>,
    /// What its endpoints get; none: it has none.
    pub outbound: Option<Outbound>,
    /// The file.
    pub text: String,
}

/// An entry of a profile's catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventType {
    /// Its name.
    pub name: String,
    /// What the system calls it.
    pub title: String,
    /// When it fires.
    pub description: String,
    /// A payload for tests: JSON.
    pub example: Option<String>,
}

/// What a system takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// JSON Pointer to the trigger, where no mapper says it.
    pub trigger: String,
    /// A rule that sends on one of these channels needs a valid phone number, whatever else it needs.
    pub phone_channels: Vec<String>,
    /// How many requests a second.
    pub limit: Option<RateLimit>,
}

/// Requests a second that a node takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// From one source.
    pub per_source: u32,
    /// From all sources of the profile together.
    pub shared: u32,
    /// For URLs that don't exist.
    pub unknown: u32,
    /// What is answered beyond, with 429.
    pub body: String,
}

/// What a system sends.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outbound {
    /// Endpoints have an `https://` address. What an operator allows by `egress.allow_subnets` may be without.
    pub https_only: bool,
    /// Endpoints a tenant may have.
    pub endpoints_max: Option<usize>,
    /// An endpoint names so many event types, and at least one.
    pub event_types_max: Option<usize>,
    /// An endpoint may say `*`.
    pub wildcard: bool,
    /// Who may see and change its endpoints, beside the operator; empty: as everywhere.
    pub roles: Vec<Role>,
    /// A field of the payload that endpoints can choose by, and that stands in the envelope.
    pub scope: Option<String>,
    /// The body is what an ECMAScript receiver makes of it.
    pub ecmascript: bool,
    /// How it is signed.
    pub signature: Signature,
    /// What stands around the payload.
    pub envelope: Envelope,
    /// Which messages go out; empty: all.
    pub forward: Vec<Forward>,
    /// How it is delivered, as far as the endpoint doesn't say it itself.
    pub delivery: PolicyPatch,
    /// The system's own routes for endpoints.
    pub configuration_api: Option<ConfigurationApi>,
}

/// How deliveries are signed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    /// Over the body alone, in a header of its own; none: Standard Webhooks alone.
    pub legacy: Option<Legacy>,
    /// The headers of Standard Webhooks beside the legacy one; an endpoint can switch them off.
    pub standard_webhooks: bool,
    /// The secret is shown in the answer that makes it, and never again.
    pub secret_shown_once: bool,
}

/// An HMAC-SHA256 of the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Legacy {
    /// The header that it stands in.
    pub header: String,
    /// What stands before it.
    pub prefix: String,
    /// How it is written.
    pub encoding: SignatureEncoding,
    /// What of the secret is the key.
    pub key: KeyEncoding,
}

/// What of a printed secret is the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyEncoding {
    /// The whole text, its prefix included.
    Utf8,
    /// What the base64 after the prefix stands for.
    StandardWebhooks,
}

/// Messages that go out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forward {
    /// Of these event types; empty: of all.
    pub event_types: Vec<String>,
    /// From these; empty: from everybody.
    pub origins: Vec<Origin>,
    /// By these media, or by none that the message names; empty: by all.
    pub media: Vec<String>,
    /// Only where the endpoint has this switch on.
    pub switch: Option<String>,
}

/// A system's own routes for endpoints, all at one path: GET lists, POST makes, PATCH switches, DELETE removes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigurationApi {
    /// The path.
    pub path: String,
    /// The field of the address.
    pub url: String,
    /// The field of the event types.
    pub events: String,
    /// The field, and the parameter of the query, of the id.
    pub id: String,
    /// The field that says whether the endpoint is on.
    pub active: String,
    /// The field of the secret, in the answer to POST alone.
    pub secret: String,
    /// The field of the time at which it was made.
    pub created: String,
}

/// What is against an endpoint under a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// The field that it concerns.
    pub field: &'static str,
    /// What is wrong.
    pub message: String,
}

/// A body that is ready to be stored and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Composed {
    /// The bytes; none: the payload as it is.
    pub text: Option<String>,
    /// What its reader should know.
    pub note: Option<String>,
}

/// The profiles that this gateway knows.
#[derive(Clone, Debug)]
pub struct Profiles(BTreeMap<String, Arc<Profile>>);

impl Profiles {
    /// Those that are compiled in.
    pub fn built_in() -> Self {
        Self::read(BUILT_IN.iter().map(|(origin, text)| ((*origin).to_owned(), (*text).to_owned())))
            .expect("a test reads every built-in profile")
    }

    /// Those that are compiled in, and these files over them: one with a known name takes its place.
    ///
    /// # Errors
    /// Every problem in every file, one line each.
    pub fn with(files: impl IntoIterator<Item = (String, String)>) -> Result<Self, Vec<String>> {
        let mut all = Self::built_in();
        let own = Self::read(files)?;
        all.0.extend(own.0);
        all.check_paths()?;
        Ok(all)
    }

    fn read(files: impl IntoIterator<Item = (String, String)>) -> Result<Self, Vec<String>> {
        let (mut all, mut problems) = (BTreeMap::new(), Vec::new());
        for (origin, text) in files {
            match file::parse(&text) {
                Err(found) => problems.extend(found.into_iter().map(|problem| format!("{origin}: {problem}"))),
                Ok(profile) => {
                    let name = profile.name.clone();
                    if all.insert(name.clone(), Arc::new(profile)).is_some() {
                        problems.push(format!("{origin}: there is another profile `{name}` in this folder"));
                    }
                }
            }
        }
        if problems.is_empty() { Ok(Self(all)) } else { Err(problems) }
    }

    /// Routes of one path can't be two systems'.
    fn check_paths(&self) -> Result<(), Vec<String>> {
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        let mut problems = Vec::new();
        for profile in self.0.values() {
            let Some(api) = profile.outbound.as_ref().and_then(|outbound| outbound.configuration_api.as_ref()) else {
                continue;
            };
            if let Some(other) = seen.insert(&api.path, &profile.name) {
                problems.push(format!("`{}`: its path {} is that of `{other}` already", profile.name, api.path));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// The profile of this name.
    pub fn find(&self, name: &str) -> Option<&Arc<Profile>> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Profile>> {
        self.0.values()
    }

    /// The strictest limit for URLs that don't exist; nobody can say to which system they would belong.
    pub fn unknown_limit(&self) -> Option<&RateLimit> {
        let limits = self.0.values().filter_map(|profile| profile.inbound.as_ref()?.limit.as_ref());
        limits.min_by_key(|limit| limit.unknown)
    }
}

impl Profile {
    /// Whether a message of this type is one of the system's.
    pub fn knows(&self, event_type: &str) -> bool {
        self.catalogue.is_empty() || self.catalogue.iter().any(|known| known.name == event_type)
    }

    /// Whether a message goes to an endpoint of this profile, as far as the system itself decides.
    pub fn forwards(&self, endpoint: &Endpoint, message: &Candidate<'_>) -> bool {
        let Some(outbound) = &self.outbound else { return false };
        let is_on = |switch: &String| endpoint.profile.switches.get(switch).copied().unwrap_or(false);
        let by_rule = outbound.forward.is_empty()
            || outbound.forward.iter().any(|rule| rule.fits(message) && rule.switch.as_ref().is_none_or(is_on));
        let by_scope = match (&endpoint.profile.scope, &outbound.scope) {
            (Some(wanted), Some(field)) => {
                let found = envelope::field_of(message.payload, field);
                found.and_then(|text| serde_json::from_str::<String>(text).ok()).as_ref() == Some(wanted)
            }
            _ => true,
        };
        self.knows(message.event_type) && by_rule && by_scope
    }

    /// A payload to test an endpoint with: the catalogue's example, with what the endpoint chooses by. None for what is in no
    /// catalogue.
    pub fn example(&self, endpoint: &Endpoint, event_type: &str) -> Option<String> {
        let found = self.catalogue.iter().find(|known| known.name == event_type)?;
        let payload = found.example.as_deref().unwrap_or("{}");
        let field = self.outbound.as_ref().and_then(|outbound| outbound.scope.as_deref());
        Some(match (field, &endpoint.profile.scope) {
            (Some(field), Some(scope)) => envelope::with_field(payload, field, scope),
            _ => payload.to_owned(),
        })
    }

    /// The switches that an endpoint of this profile has.
    pub fn switches(&self) -> impl Iterator<Item = &String> {
        let rules = self.outbound.iter().flat_map(|outbound| &outbound.forward);
        rules.filter_map(|rule| rule.switch.as_ref())
    }

    /// Everything that is against an endpoint under this profile, as it would be.
    pub fn objections(&self, endpoint: &Endpoint) -> Vec<Objection> {
        let mut found = Vec::new();
        let mut object = |field, message: String| found.push(Objection { field, message });
        let Some(outbound) = &self.outbound else {
            object("profile", format!("{} has no endpoints: it takes events and sends none", self.title));
            return found;
        };
        let types = endpoint.event_types.as_deref().unwrap_or_default();
        if let Some(max) = outbound.event_types_max
            && (types.is_empty() || types.len() > max)
        {
            object("eventTypes", format!("an endpoint of {} names one to {max} event types", self.title));
        }
        for event_type in types {
            let is_wildcard = event_type.ends_with('*');
            let fits = match is_wildcard {
                true => outbound.wildcard && (event_type == "*" || self.catalogue.is_empty()),
                false => self.knows(event_type),
            };
            if !fits {
                object("eventTypes", format!("{} has no event type `{event_type}`", self.title));
            }
        }
        if endpoint.profile.scope.is_some() && outbound.scope.is_none() {
            object("scope", format!("{} has nothing that an endpoint could choose by", self.title));
        }
        for switch in endpoint.profile.switches.keys() {
            if !self.switches().any(|known| known == switch) {
                object("switches", format!("{} has no switch `{switch}`", self.title));
            }
        }
        found
    }
}

/// A message that may go to an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its event type.
    pub event_type: &'a str,
    /// Who wrote it.
    pub origin: Origin,
    /// How it reached or reaches people.
    pub medium: Option<&'a str>,
    /// Its own payload, as the platform gave it.
    pub payload: &'a str,
}

impl Forward {
    fn fits(&self, message: &Candidate<'_>) -> bool {
        let by_type = self.event_types.is_empty() || self.event_types.iter().any(|known| known == message.event_type);
        let by_origin = self.origins.is_empty() || self.origins.contains(&message.origin);
        let by_medium =
            self.media.is_empty() || message.medium.is_none_or(|medium| envelope::names(&self.media, medium));
        by_type && by_origin && by_medium
    }
}

impl Outbound {
    /// The value of the scope in a message's own payload.
    pub fn scope_of<'a>(&'a self, payload: &'a str) -> Option<(&'a str, &'a str)> {
        let name = self.scope.as_deref()?;
        envelope::field_of(payload, name).map(|value| (name, value))
    }

    /// What is sent of a payload.
    ///
    /// # Errors
    /// [`CanonicalError`] where the receiver could not read it as it is.
    pub fn compose(&self, payload: &str, facts: &Facts<'_>) -> Result<Composed, CanonicalError> {
        let wrapped = self.envelope.wrap(payload, facts);
        if !self.ecmascript {
            return Ok(Composed { text: wrapped, note: None });
        }
        let canonical = ecmascript::canonical(wrapped.as_deref().unwrap_or(payload))?;
        let note = canonical.rounded.map(|rounded| {
            let (count, first) = (rounded.count, rounded.first);
            format!("{count} numbers were rounded to what the receiver can read, the first one at {first}")
        });
        Ok(Composed { text: Some(canonical.text), note })
    }

    /// What is sent of a stored body now; none: the body as it is. A scheduled message may have been moved since it was
    /// composed, and the endpoint have got another profile.
    ///
    /// # Errors
    /// As [`compose`](Self::compose).
    pub fn finish(&self, body: &str, scheduled: Option<Timestamp>) -> Result<Option<String>, CanonicalError> {
        let moved = scheduled.and_then(|at| self.envelope.at(body, at));
        if !self.ecmascript {
            return Ok(moved);
        }
        let canonical = ecmascript::canonical(moved.as_deref().unwrap_or(body))?.text;
        Ok((canonical != body).then_some(canonical))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_profile_can_be_read() {
        let all = Profiles::built_in();
        assert_eq!(all.iter().count(), BUILT_IN.len());
        assert!(all.find(STANDARD).is_some());
        assert_eq!(all.check_paths(), Ok(()));
    }

    fn with(files: &[(&str, &str)]) -> Result<Profiles, Vec<String>> {
        Profiles::with(files.iter().map(|(origin, text)| ((*origin).to_owned(), (*text).to_owned())))
    }

    #[test]
    fn an_operators_file_takes_the_place_of_a_built_in_one() {
        let own = "name = \"standard\"\ntitle = \"Ours\"\n[outbound]\n[outbound.delivery]\ntimeout_ms = 1\n";
        let all = with(&[("own.toml", own)]).unwrap();
        assert_eq!((all.find(STANDARD).unwrap().title.as_str(), all.iter().count()), ("Ours", BUILT_IN.len()));
    }

    #[test]
    fn files_that_stand_in_each_others_way_are_refused() {
        let api = "path = \"/api/x\"\nurl = \"u\"\nevents = \"e\"\nid = \"i\"\nactive = \"a\"\nsecret = \"s\"\ncreated = \"c\"";
        let file = |name: &str| format!("name = {name:?}\ntitle = \"X\"\n[outbound.configuration_api]\n{api}\n");
        let (one, other) = (file("one"), file("other"));
        assert!(with(&[("a", &one)]).is_ok());
        assert_eq!(
            with(&[("a", &one), ("b", &one)]).unwrap_err(),
            ["b: there is another profile `one` in this folder"]
        );
        assert_eq!(
            with(&[("a", &one), ("b", &other)]).unwrap_err(),
            ["`other`: its path /api/x is that of `one` already"]
        );
        assert_eq!(with(&[("a", "name = 1"), ("b", "x")]).unwrap_err().len(), 4, "all problems of all files");
    }
}
