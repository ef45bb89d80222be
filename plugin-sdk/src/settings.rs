//! The settings of the plugin's version, as the author's own type.

use serde::de::DeserializeOwned;

use crate::{Failure, host};

/// Reads the settings. A version without any has `{}`, which gives `T::default()`.
///
/// # Errors
/// [`Failure::Broken`] when they don't fit `T`: whoever configured the plugin has to act, not the sender of a payload.
pub fn settings<T: DeserializeOwned + Default>() -> Result<T, Failure> {
    let text = host::settings();
    if text.trim() == "{}" {
        return Ok(T::default());
    }
    serde_json::from_str(&text).map_err(|error| Failure::broken(format_args!("settings: {error}")))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::testing;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Limits {
        retries: u32,
    }

    impl Default for Limits {
        fn default() -> Limits {
            Limits { retries: 3 }
        }
    }

    #[test]
    fn no_settings_give_the_defaults() {
        assert_eq!(settings(), Ok(Limits { retries: 3 }));
    }

    #[test]
    fn settings_that_do_not_fit_are_the_fault_of_the_plugin() {
        testing::set_settings(r#"{"retries": 7}"#);
        assert_eq!(settings(), Ok(Limits { retries: 7 }));
        testing::set_settings(r#"{"retries": "seven"}"#);
        let Err(Failure::Broken(text)) = settings::<Limits>() else { panic!("the settings were read") };
        assert!(text.starts_with("settings: invalid type: string \"seven\", expected u32"), "{text}");
    }
}
