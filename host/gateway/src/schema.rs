//! The parts of the OpenAPI document that no wire type of ours has: texts with a pattern, numbers with names, parameters
//! of queries, and the values of the plugin runtime, which knows no HTTP. `check` refuses what these describe as wrong.

#![expect(dead_code, reason = "these types are written into the document, no value of them is ever made")]

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr, Type,
        schema::{ArrayBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat},
    },
};

/// One of these words.
pub fn words(about: &str, words: impl Iterator<Item = &'static str>) -> RefOr<Schema> {
    let text = ObjectBuilder::new().schema_type(Type::String).description(Some(about.trim()));
    text.enum_values(Some(words)).into()
}

/// Texts of a certain form.
macro_rules! texts {
    ($($(#[doc = $doc:literal])* $name:ident($min:literal..=$max:literal, $pattern:expr);)*) => {$(
        $(#[doc = $doc])*
        pub struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let doc = concat!($($doc),*).trim();
                let text = ObjectBuilder::new().schema_type(Type::String).description(Some(doc));
                text.min_length(Some($min)).max_length(Some($max)).pattern($pattern).into()
            }
        }

        impl ToSchema for $name {}
    )*};
}

/// Numbers of which each means something.
macro_rules! numbers {
    ($($(#[doc = $doc:literal])* $name:ident { $($value:literal $word:literal,)* })*) => {$(
        $(#[doc = $doc])*
        pub struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let meanings = concat!($($doc,)* " ", $($value, " ", $word, "; ",)*);
                let number = ObjectBuilder::new().schema_type(Type::Integer);
                number.description(Some(meanings.trim_end_matches("; ").trim())).enum_values(Some([$($value),*])).into()
            }
        }

        impl ToSchema for $name {}
    )*};
}

/// Parameters of a query that several operations read with one function.
macro_rules! params {
    ($(#[doc = $doc:literal])* $vis:vis struct $name:ident { $($param:literal: $type:ty = $about:literal,)* }) => {
        $(#[doc = $doc])*
        $vis struct $name;

        impl utoipa::IntoParams for $name {
            fn into_params(
                _: impl Fn() -> Option<utoipa::openapi::path::ParameterIn>,
            ) -> Vec<utoipa::openapi::path::Parameter> {
                use utoipa::{PartialSchema, openapi::path::{ParameterBuilder, ParameterIn}};
                vec![$(
                    ParameterBuilder::new()
                        .name($param)
                        .parameter_in(ParameterIn::Query)
                        .description(Some($about))
                        .schema(Some(<$type>::schema()))
                        .build(),
                )*]
            }
        }
    };
}
pub(crate) use params;

texts! {
    /// Letters, digits, `-`, `_` and `.`; nothing that looks like an id that Hookloom makes.
    Uid(1..=256, Some(r"^[a-zA-Z0-9\-_.]+$"));
    /// The name of an event type.
    EventTypeName(1..=256, Some(r"^[a-zA-Z0-9\-_.]+$"));
    /// The name of an event type, `prefix.*` or `*`.
    EventTypeFilter(1..=256, Some(r"^(\*|[a-zA-Z0-9\-_.]+(\.\*)?)$"));
    /// A channel.
    Channel(1..=128, Some(r"^[a-zA-Z0-9\-_.]+$"));
    /// A text for people.
    Text(1..=1_024, Some(r"\S"));
    /// An `https` URL of a public address.
    Url(1..=65_536, Some(r"^https?://\S+$"));
}

numbers! {
    /// How far a delivery or an attempt has come:
    MessageStatus { 0 "success", 1 "pending", 2 "fail", 3 "sending", }
    /// Why an attempt was made:
    MessageAttemptTriggerType { 0 "scheduled", 1 "manual", }
    /// The classes of status codes:
    StatusCodeClass { 0 "no answer", 100 "1xx", 200 "2xx", 300 "3xx", 400 "4xx", 500 "5xx", }
}

/// Several event types.
pub struct EventTypeNames;

impl PartialSchema for EventTypeNames {
    fn schema() -> RefOr<Schema> {
        ArrayBuilder::new().items(EventTypeName::schema()).into()
    }
}

/// A number of rows.
pub struct Limit;

impl PartialSchema for Limit {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).default(Some(50.into())).into()
    }
}

/// A point in time (RFC 3339).
pub struct DateTime;

impl PartialSchema for DateTime {
    fn schema() -> RefOr<Schema> {
        let format = Some(SchemaFormat::KnownFormat(KnownFormat::DateTime));
        ObjectBuilder::new().schema_type(Type::String).format(format).into()
    }
}

impl ToSchema for DateTime {}

/// The order of a list.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Ordering {
    /// The oldest first.
    Ascending,
    /// The newest first.
    Descending,
}

/// The same as the number beside it, as a word.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum MessageStatusText {
    /// 0
    Success,
    /// 1
    Pending,
    /// 2
    Fail,
    /// 3
    Sending,
}

/// States in which nothing more comes of a delivery by itself.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum EndedState {
    /// The receiver confirmed it.
    Delivered,
    /// No attempt is left.
    Dead,
    /// It was cancelled.
    Cancelled,
}

/// What a contact must have.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Need {
    /// A valid phone number.
    Phone,
    /// An email address.
    Email,
}

/// Who wrote a message.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Origin {
    /// A person.
    Human,
    /// A scripted bot.
    Bot,
    /// An AI agent.
    Ai,
    /// A rule of the tenant.
    Automation,
    /// The platform itself, or unknown.
    System,
}

/// The person whom an event is about.
#[derive(ToSchema)]
pub struct Contact {
    /// The sender's own id for the person.
    id: Option<String>,
    /// Full name.
    name: Option<String>,
    /// Phone number, as the plugin wrote it.
    phone: Option<String>,
    /// Email address, as the plugin wrote it.
    email: Option<String>,
}

/// One HTTP header of the sender's request.
#[derive(ToSchema)]
pub struct Header {
    /// The name in lower case.
    name: String,
    /// The value as it was sent.
    value: String,
}

/// Why a call failed.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Failure {
    /// Its cause, for example `trap` or `fuel_exhausted`.
    code: String,
    /// What happened, in words.
    detail: String,
    /// How much was used of what has a limit.
    used: Option<u64>,
    /// How much was allowed.
    allowed: Option<u64>,
    /// The plugin's frames, innermost first.
    backtrace: Vec<String>,
    /// Where in the component the frames are.
    frames: Option<Vec<Frame>>,
}

/// A place in a component's code.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Frame {
    /// The function's index in its core module.
    function: u32,
    /// Bytes from the component's beginning to the instruction.
    offset: Option<u64>,
    /// The function's name, where the component has one.
    name: Option<String>,
}

/// What a plugin wrote during one call.
#[derive(ToSchema)]
pub struct Logs {
    /// The lines in the order of writing.
    lines: Vec<LogLine>,
    /// Whether some were left out because of a limit.
    cut: bool,
}

/// One line of a plugin's log.
#[derive(ToSchema)]
pub struct LogLine {
    /// `debug`, `info`, `warn` or `error`.
    level: String,
    /// The text.
    message: String,
    /// Whether its end was left out because of a limit.
    cut: bool,
}

/// What an endpoint says of its profile.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct ProfileChoice {
    /// The webhook system that it follows. Missing: the tenant's.
    profile: Option<String>,
    /// What of the profile's is switched on or off.
    switches: Option<std::collections::BTreeMap<String, bool>>,
    /// Only messages whose field that the profile names has this value.
    #[schema(min_length = 1, max_length = 256)]
    scope: Option<String>,
    /// Whether Standard Webhooks headers are added to the profile's own. Missing: yes.
    standard_webhooks: Option<bool>,
}

/// The profile of all that name none.
#[derive(ToSchema)]
pub struct DefaultProfile {
    /// Missing or null: `standard`.
    profile: Option<String>,
}

/// How a source's senders prove who they are.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct SourceVerification {
    /// The form of the signature.
    scheme: SignatureScheme,
    /// What the senders sign with; all are good at the same time.
    #[schema(min_items = 1, max_items = 10)]
    secrets: Vec<String>,
    /// The header that carries the signature. Required for `hmac`, possible for `stripe` and `github`.
    header: Option<String>,
    /// What stands before the signature; only for `hmac`.
    prefix: Option<String>,
    /// How the signature is written; only for `hmac`. Missing: `hex`.
    encoding: Option<SignatureEncoding>,
    /// How far a signed time may lie from now, in seconds.
    #[schema(minimum = 1, maximum = 86400)]
    tolerance_s: Option<u32>,
}

/// The forms of signature.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum SignatureScheme {
    /// Standard Webhooks.
    StandardWebhooks,
    /// `t=…,v1=…`
    Stripe,
    /// `sha256=` and hexadecimal.
    Github,
    /// HMAC-SHA256 of the body in a header.
    Hmac,
}

/// How a signature is written.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum SignatureEncoding {
    /// Hexadecimal.
    Hex,
    /// Base64.
    Base64,
}
