/// The longest `sub` that SQS carries as a `MessageGroupId`, in bytes.
pub const SUBJECT_BYTES_MAX: usize = 128;

/// Returns whether this backend supports a `sub`: 1 to [`SUBJECT_BYTES_MAX`] of the characters
/// `A-Z a-z 0-9 . _ : | @ + = / -`.
///
/// The gateway accepts more characters. These have no special meaning in JSON, XML, a URL's query or a log line, so
/// such a subject does not depend on the escaping of any component in between. Code that creates accounts refuses all
/// other subjects.
pub fn is_supported_subject(sub: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:|@+=/-".contains(&byte);
    (1..=SUBJECT_BYTES_MAX).contains(&sub.len()) && sub.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_of_known_issuers_are_supported_and_nothing_that_could_be_syntax() {
        let longest = "v".repeat(SUBJECT_BYTES_MAX);
        for sub in [
            "9f1e0f0e-0000-4000-8000-000000000001",
            "auth0|5f7c",
            "us-east-1:9f1e",
            "a.b+c@d.example",
            "x_=/",
        ] {
            assert!(is_supported_subject(sub), "{sub}");
        }
        assert!(is_supported_subject(&longest) && !is_supported_subject(&format!("{longest}v")));
        for sub in [
            "",
            " ",
            "a b",
            "a\"b",
            "a'b",
            "{a}",
            "a,b",
            "a\\b",
            "a<b",
            "a&b",
            "a%b",
            "a\nb",
            "jo\u{e3}o",
            "a\0",
        ] {
            assert!(!is_supported_subject(sub), "{sub:?}");
        }
    }
}
