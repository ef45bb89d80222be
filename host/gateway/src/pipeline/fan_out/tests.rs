use super::*;

#[test]
fn event_types_match_exactly_or_by_wildcard() {
    let check = |pattern, event_type, expected| {
        assert_eq!(matches_pattern(pattern, event_type), expected, "{pattern} {event_type}");
    };
    check("message.inbound", "message.inbound", true);
    check("message.inbound", "message.outbound", false);
    check("*", "message.inbound", true);
    check("message.*", "message.inbound", true);
    check("message.*", "message", false);
    check("message.*", "messages.inbound", false);
    check("mess*", "message.inbound", false);
}

#[test]
fn a_body_that_several_endpoints_get_is_in_memory_once() {
    let text: Arc<str> = "{}".into();
    let [first, second] = [shared(text.clone()), shared(text.clone())];
    assert_eq!((&first[..], first.as_ptr(), second.as_ptr()), (&b"{}"[..], text.as_ptr(), text.as_ptr()));
}
