//! The regions of the SDK against libphonenumber's metadata: what is known about each, and what becomes of its example numbers.

use hookloom_plugin::phone::Region;
use phonenumber::{Mode, country, metadata::DATABASE};

#[test]
fn each_regions_example_numbers_come_out_as_the_reference_says() {
    assert!(Region::ALL.len() > 40);
    for region in Region::ALL {
        let metadata = DATABASE.by_id(region.id()).unwrap();
        let trunk = metadata.national_prefix().unwrap_or_default();
        let descriptors = metadata.descriptors();
        let examples = [descriptors.fixed_line(), descriptors.mobile()].into_iter().flatten();
        for example in examples.filter_map(|descriptor| descriptor.example()) {
            let id: country::Id = region.id().parse().unwrap();
            for written in [format!("{trunk}{example}"), example.to_owned()] {
                let reference = phonenumber::parse(Some(id), &written).unwrap();
                let reference = reference.format().mode(Mode::E164).to_string();
                assert_eq!(region.e164(&written), Some(reference), "{region:?} {written}");
            }
        }
        let code = metadata.country_code();
        assert_eq!(region.e164(&format!("+{code} 123 456 78")), Some(format!("+{code}12345678")));
    }
}
