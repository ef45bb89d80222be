//! Phone numbers in E.164: `+`, the country's calling code, and the number within the country.
//!
//! ```
//! use hookloom_plugin::phone::Region;
//!
//! assert_eq!(Region::US.e164("(888) 321-3212 ext. 7").as_deref(), Some("+18883213212"));
//! assert_eq!(Region::GB.e164("0113 496 0000").as_deref(), Some("+441134960000"));
//! assert_eq!(Region::GB.e164("+1 888 321 3212").as_deref(), Some("+18883213212"));
//! ```
//!
//! Small on purpose: the whole of libphonenumber's metadata would be many times the size of a plugin. What it does: punctuation and an extension
//! go; `+` or the region's own prefix begin an international number; anything else is a number of the region, without the prefix that
//! only callers within the country dial. What it doesn't: it knows the lengths that a region's numbers can have, not which of them are
//! assigned; letters for digits (1-800-FLOWERS) are no digits; dialing by way of a carrier (Brazil, Korea) is not taken apart. The gateway
//! looks at each number again, with the whole of the metadata, before a rule may use it.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// A country or territory, by whose rules a number without a country code is read.
///
/// In settings it is its two letters: `{"region": "GB"}`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Region(&'static Facts);

/// What is to know about a region's numbers.
///
/// Source: the countries' numbering plans as libphonenumber 9.0.33 has them; a test compares what becomes of its example numbers.
#[derive(PartialEq, Eq)]
struct Facts {
    /// ISO 3166-1 alpha-2.
    id: &'static str,
    /// The calling code.
    code: &'static str,
    /// What callers within the country dial first; empty where there is no such thing.
    trunk: &'static str,
    /// What callers dial before a calling code; empty where that differs by carrier.
    abroad: &'static str,
    /// Digits that fixed and mobile numbers have within the country, the fewest and the most.
    digits_min: usize,
    digits_max: usize,
}

/// The fewest and the most digits of an international number, with its calling code.
///
/// Source: libphonenumber's metadata, by which the shortest are Austria's, `43` and four digits; ITU-T E.164 §6.2.1 for the most.
const INTERNATIONAL_DIGITS_MIN: usize = 6;
const INTERNATIONAL_DIGITS_MAX: usize = 15;

macro_rules! regions {
    ($($id:ident $name:literal $code:literal $trunk:literal $abroad:literal $digits_min:literal $digits_max:literal;)*) => {
        impl Region {
            $(
                #[doc = $name]
                pub const $id: Region = Region(&Facts {
                    id: stringify!($id), code: $code, trunk: $trunk, abroad: $abroad,
                    digits_min: $digits_min, digits_max: $digits_max,
                });
            )*

            /// All regions that are known here.
            pub const ALL: &'static [Region] = &[$(Region::$id),*];
        }
    };
}

regions! {
    US "United States" "1" "1" "011" 10 10;
    CA "Canada" "1" "1" "011" 10 10;
    GB "United Kingdom" "44" "0" "00" 9 10;
    IE "Ireland" "353" "0" "00" 7 10;
    DE "Germany" "49" "0" "00" 5 13;
    AT "Austria" "43" "0" "00" 4 13;
    CH "Switzerland" "41" "0" "00" 9 9;
    FR "France" "33" "0" "00" 9 9;
    BE "Belgium" "32" "0" "00" 8 9;
    NL "Netherlands" "31" "0" "00" 9 11;
    LU "Luxembourg" "352" "" "00" 4 11;
    ES "Spain" "34" "" "00" 9 9;
    PT "Portugal" "351" "" "00" 9 9;
    IT "Italy" "39" "" "00" 6 12;
    DK "Denmark" "45" "" "00" 8 8;
    SE "Sweden" "46" "0" "00" 7 9;
    NO "Norway" "47" "" "00" 8 8;
    FI "Finland" "358" "0" "00" 5 10;
    PL "Poland" "48" "" "00" 9 9;
    CZ "Czechia" "420" "" "00" 9 9;
    SK "Slovakia" "421" "0" "00" 9 9;
    HU "Hungary" "36" "06" "00" 8 9;
    RO "Romania" "40" "0" "00" 9 9;
    BG "Bulgaria" "359" "0" "00" 7 9;
    GR "Greece" "30" "" "00" 10 10;
    HR "Croatia" "385" "0" "00" 8 9;
    SI "Slovenia" "386" "0" "00" 8 8;
    EE "Estonia" "372" "" "00" 7 8;
    LV "Latvia" "371" "" "00" 8 8;
    LT "Lithuania" "370" "0" "00" 8 8;
    AU "Australia" "61" "0" "0011" 9 9;
    NZ "New Zealand" "64" "0" "00" 8 10;
    IN "India" "91" "0" "00" 10 10;
    SG "Singapore" "65" "" "" 8 8;
    HK "Hong Kong" "852" "" "" 8 8;
    JP "Japan" "81" "0" "010" 9 10;
    KR "South Korea" "82" "0" "" 8 10;
    IL "Israel" "972" "0" "00" 8 9;
    AE "United Arab Emirates" "971" "0" "00" 8 9;
    SA "Saudi Arabia" "966" "0" "00" 9 9;
    ZA "South Africa" "27" "0" "00" 9 9;
    NG "Nigeria" "234" "0" "009" 10 10;
    KE "Kenya" "254" "0" "000" 7 9;
    EG "Egypt" "20" "0" "00" 8 10;
    TR "Turkey" "90" "0" "00" 10 10;
    MX "Mexico" "52" "" "00" 10 10;
    BR "Brazil" "55" "0" "" 10 11;
    CL "Chile" "56" "" "" 9 9;
    PE "Peru" "51" "0" "00" 8 9;
    PH "Philippines" "63" "0" "00" 9 10;
    TH "Thailand" "66" "0" "" 8 9;
    MY "Malaysia" "60" "0" "00" 8 10;
    ID "Indonesia" "62" "0" "" 7 12;
}

impl Region {
    /// The region of that ISO 3166-1 alpha-2 code, in whatever case; `None` where it is not known here.
    pub fn find(id: &str) -> Option<Region> {
        Region::ALL.iter().copied().find(|region| region.0.id.eq_ignore_ascii_case(id))
    }

    /// The two letters, for example `GB`.
    pub fn id(self) -> &'static str {
        self.0.id
    }

    /// A number as people write it, in E.164; `None` where it can't be one by its length.
    pub fn e164(self, written: &str) -> Option<String> {
        let written = written.trim_start().trim_start_matches("tel:").trim_start();
        // `+44 (0)113 …` tells both ways at once.
        let written = written.replace("(0)", "");
        let number = written.split(|letter: char| letter.is_alphabetic() || ";#,".contains(letter)).next()?;
        let digits: String = number.chars().filter(char::is_ascii_digit).collect();
        let Facts { code, trunk, abroad, .. } = self.0;
        let international = match number.trim_start_matches(['(', ' ']).starts_with('+') {
            true => Some(digits.as_str()),
            false => digits.strip_prefix(abroad).filter(|_| !abroad.is_empty()),
        };
        if let Some(digits) = international {
            let possible = INTERNATIONAL_DIGITS_MIN..=INTERNATIONAL_DIGITS_MAX;
            let is_possible = possible.contains(&digits.len()) && !digits.starts_with('0');
            return is_possible.then(|| format!("+{digits}"));
        }
        let without_trunk = digits.strip_prefix(trunk).filter(|_| !trunk.is_empty());
        let national = without_trunk.filter(|rest| self.has_length(rest)).unwrap_or(&digits);
        self.has_length(national).then(|| format!("+{code}{national}"))
    }

    fn has_length(self, national: &str) -> bool {
        (self.0.digits_min..=self.0.digits_max).contains(&national.len())
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.id)
    }
}

impl<'de> Deserialize<'de> for Region {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Region, D::Error> {
        let id = String::deserialize(deserializer)?;
        Region::find(&id)
            .ok_or_else(|| de::Error::custom(format_args!("`{id}` is no region that is known here, for example `GB`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(region: Region, written: &str, expected: Option<&str>) {
        assert_eq!(region.e164(written).as_deref(), expected, "{written}");
    }

    #[test]
    fn numbers_are_read_as_people_write_them() {
        check(Region::US, "+18883213212", Some("+18883213212"));
        check(Region::US, "(888) 321-3212", Some("+18883213212"));
        check(Region::US, "1 888 321 3212 ext. 7", Some("+18883213212"));
        check(Region::US, "011 44 20 7946 0958", Some("+442079460958"));
        check(Region::US, "tel:+1-888-321-3212;ext=7", Some("+18883213212"));
        check(Region::GB, "0044 20 7946 0958", Some("+442079460958"));
        check(Region::GB, "+44 (0)20 7946 0958", Some("+442079460958"));
        check(Region::GB, "0113 496 0000", Some("+441134960000"));
        check(Region::IT, "06 698 12345", Some("+390669812345"));
        check(Region::DE, "030/123456", Some("+4930123456"));
    }

    #[test]
    fn what_can_not_be_a_number_is_none() {
        for written in ["none", "", "12345", "+1234567890123456", "+0123456789", "888 321 321", "1-800-FLOWERS"] {
            check(Region::US, written, None);
        }
    }

    #[test]
    fn every_length_that_a_region_has_is_also_read_as_an_international_number() {
        for &region in Region::ALL {
            for digits in region.0.digits_min..=region.0.digits_max {
                let number = region.e164(&"2".repeat(digits)).unwrap();
                check(Region::US, &number, Some(&number));
            }
        }
    }

    #[test]
    fn a_region_is_two_letters() {
        assert_eq!(Region::find("gb"), Some(Region::GB));
        assert_eq!(Region::find("ZZ"), None);
        assert_eq!(serde_json::from_str::<Region>(r#""US""#).unwrap(), Region::US);
        let error = serde_json::from_str::<Region>(r#""Mars""#).unwrap_err().to_string();
        assert!(error.starts_with("`Mars` is no region"), "{error}");
    }
}
