//! The trace context that an event carries, as W3C `traceparent`.

/// Turns an X-Ray trace header (`Root=1-67890abc-…;Parent=…;Sampled=1`) into a W3C `traceparent`.
///
/// X-Ray's root is the W3C trace id with its version and dashes around it; the sampling decision is
/// kept. None where the header has no root, or no parent to point at. Sources: AWS X-Ray, "Tracing
/// header"; W3C Trace Context, section 3.2.2.
pub fn traceparent(xray_header: &str) -> Option<String> {
    let field = |name: &str| {
        xray_header.split(';').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
    };
    let trace_id = field("Root")?.strip_prefix("1-")?.replace('-', "");
    let parent = field("Parent")?;
    let is_hex =
        |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let sampled = if field("Sampled") == Some("1") { "01" } else { "00" };
    (is_hex(&trace_id, 32) && is_hex(parent, 16)).then(|| format!("00-{trace_id}-{parent}-{sampled}"))
}

/// Turns a `traceparent` back into an X-Ray trace header. None where it is not one.
pub fn xray_header(traceparent: &str) -> Option<String> {
    let mut parts = traceparent.split('-');
    let (_version, trace_id, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let (epoch, unique) = trace_id.split_at_checked(8).filter(|_| trace_id.len() == 32)?;
    let sampled = u8::from_str_radix(flags, 16).ok()? & 1;
    Some(format!("Root=1-{epoch}-{unique};Parent={parent};Sampled={sampled}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_parent_and_sampling_decision_are_kept() {
        assert_eq!(
            traceparent("Root=1-67890abc-0123456789abcdef01234567;Parent=53995c3f42cd8ad8;Sampled=1")
                .unwrap(),
            "00-67890abc0123456789abcdef01234567-53995c3f42cd8ad8-01"
        );
    }

    #[test]
    fn a_traceparent_leads_back_to_the_header_it_came_from() {
        let header = "Root=1-67890abc-0123456789abcdef01234567;Parent=53995c3f42cd8ad8;Sampled=0";
        assert_eq!(xray_header(&traceparent(header).unwrap()).unwrap(), header);
        assert_eq!(xray_header("rubbish"), None);
        assert_eq!(xray_header("00-é-1-01"), None);
    }

    #[test]
    fn a_header_without_a_root_or_parent_gives_nothing() {
        for header in [
            "",
            "Sampled=1",
            "Root=1-xyz-1;Parent=53995c3f42cd8ad8",
            "Root=1-67890abc-0123456789abcdef01234567",
        ] {
            assert_eq!(traceparent(header), None, "{header}");
        }
    }
}
