//! The database that several nodes share, as it is configured: its URL may hold a password, and is never shown with it.

use std::fmt::Display;

/// The database that several nodes share.
#[derive(Clone)]
pub struct Postgres {
    /// It may hold a password.
    url: String,
    /// The password, where it comes from a file or the environment.
    pub password: Option<String>,
    /// Takes a database that may lose what it has confirmed.
    pub relaxed: bool,
}

impl Postgres {
    /// Where the database is, and as whom.
    ///
    /// # Errors
    /// A line that doesn't repeat the URL, since it may hold a password.
    pub fn at(url: &str) -> Result<Self, String> {
        match url.split_once("://") {
            Some(("postgres" | "postgresql", _)) => Ok(Self { url: url.to_owned(), password: None, relaxed: false }),
            _ => Err("it must begin with postgres:// or postgresql://".to_owned()),
        }
    }

    /// The URL, with a password that stands in it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether the URL holds a password.
    pub fn has_password(&self) -> bool {
        let authority = self.url.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@')).map(|(user, _)| user);
        authority.is_some_and(|user| user.contains(':')) || self.url.contains("password=")
    }
}

/// For logs and errors: without the password.
impl Display for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rest = self.url.split_once("://").map_or("", |(_, rest)| rest);
        let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
        write!(f, "postgres://{}", place.split('?').next().unwrap_or_default())
    }
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Display::fmt(self, f)
    }
}
