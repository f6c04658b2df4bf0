//! What a driver says, without the secrets that it was told. No I/O, no clock, no async.

use tonic::Status;
use zeroize::Zeroizing;

use crate::Secrets;

/// A value shorter than this is in many a text by chance: only whole words of a message are taken for it.
const SHORT: usize = 4;

/// `status`, with names where secrets of the call were. Of what is beside the message nothing is left: it may tell them
/// in ways that nobody knows.
pub(super) fn status(status: Status, secrets: &Secrets) -> Status {
    if secrets.is_empty() {
        return status;
    }
    Status::new(status.code(), text(status.message(), secrets))
}

/// `message` with names where secrets were: as they are, line by line, quoted, or in base64.
fn text(message: &str, secrets: &Secrets) -> String {
    let mut spelt: Vec<(Zeroizing<String>, &str)> = Vec::new();
    for (name, secret) in secrets.iter() {
        let all = spellings(&String::from_utf8_lossy(secret.expose()));
        spelt.extend(all.into_iter().map(|spelling| (spelling, name)));
    }
    // The longest first: another secret may be a part of it.
    spelt.sort_by(|(one, _), (other, _)| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
    let (mut clean, mut rest) = (String::with_capacity(message.len()), message);
    while let Some(next) = rest.chars().next() {
        let before = clean.chars().next_back();
        match spelt.iter().find(|(spelling, _)| begins(rest, before, spelling)) {
            Some((spelling, name)) => {
                clean.push_str(&format!("<secret {name}>"));
                rest = rest.get(spelling.len()..).unwrap_or_default();
            }
            None => {
                clean.push(next);
                rest = rest.get(next.len_utf8()..).unwrap_or_default();
            }
        }
    }
    clean
}

/// Whether `rest` begins with `spelling`, as a word of its own if that is short.
fn begins(rest: &str, before: Option<char>, spelling: &str) -> bool {
    let inside = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    rest.strip_prefix(spelling)
        .is_some_and(|after| spelling.len() >= SHORT || !(inside(before) || inside(after.chars().next())))
}

/// The ways in which a driver may spell `secret`.
fn spellings(secret: &str) -> Vec<Zeroizing<String>> {
    let lines = secret.lines().map(str::trim).filter(|line| line.len() >= SHORT);
    let mut all = Vec::new();
    for plain in [secret, secret.trim()].into_iter().chain(lines) {
        let json = Zeroizing::new(serde_json::to_string(plain).unwrap_or_default());
        // The quotes around it belong to the message.
        let json = json.get(1..json.len().saturating_sub(1)).unwrap_or_default();
        let quoted = plain.escape_debug().to_string();
        all.extend([plain.to_owned(), quoted, json.to_owned(), base64(plain.as_bytes())].map(Zeroizing::new));
    }
    all.retain(|spelling| !spelling.is_empty());
    all
}

/// Base64 (RFC 4648, section 4), without what fills it up: with it, it is found, too.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for at in 0..=chunk.len() {
            let digit = usize::try_from(bits >> (18 - 6 * at) & 63).ok().and_then(|digit| DIGITS.get(digit));
            text.push(digit.copied().map_or('A', char::from));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use hivemind_core::SecretBytes;
    use proptest::prelude::*;

    use super::*;

    fn secrets(pairs: &[(&str, &str)]) -> Secrets {
        pairs.iter().fold(Secrets::none(), |all, (name, value)| {
            all.with(*name, SecretBytes::new(value.as_bytes().to_vec()))
        })
    }

    #[test]
    fn a_message_says_which_secret_was_in_it() {
        let told = secrets(&[("password", "hunter2"), ("user", "hunter"), ("port", "1"), ("empty", "")]);
        let clean = |message: &str| text(message, &told);
        assert_eq!(clean("hunter2 of hunter is wrong"), "<secret password> of <secret user> is wrong");
        assert_eq!(clean("port 1 of 10, v1"), "port <secret port> of 10, v1");
        assert_eq!(clean("aHVudGVyMg== is wrong"), "<secret password>== is wrong");
        assert_eq!(clean("nothing here, äöü"), "nothing here, äöü");
        let lines = secrets(&[("key", "first line\nsecond \"line\"\n")]);
        for spelt in
            ["first line", r#"first line\nsecond \"line\"\n"#, "second \"line\"", r#"second \"line\""#]
        {
            assert_eq!(text(&format!("no: {spelt}."), &lines), "no: <secret key>.");
        }
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, spelt) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), spelt);
        }
    }

    #[test]
    fn what_carries_no_secret_stays_as_it_is() {
        let with_details = || Status::with_details(tonic::Code::Internal, "why", "details".into());
        assert_eq!(status(with_details(), &Secrets::none()).details(), b"details");
        let clean = status(with_details(), &secrets(&[("a", "hunter2")]));
        assert_eq!(
            (clean.code(), clean.message(), clean.details()),
            (tonic::Code::Internal, "why", &b""[..])
        );
    }

    proptest! {
        #[test]
        fn no_secret_is_left_in_a_message(
            // Names are told: no part of one must look like a secret.
            values in prop::collection::vec("[A-Z0-9\"\\\\\n+/=é]{4,24}", 1..4),
            parts in prop::collection::vec(("[a-z .:\"]{0,9}", 0usize..4, 0usize..4), 0..6),
        ) {
            let named: Vec<String> = (0..values.len()).map(|n| "k".repeat(n + 1)).collect();
            let pairs: Vec<_> = named.iter().map(String::as_str).zip(values.iter().map(String::as_str)).collect();
            let mut message = String::new();
            for (between, which, spelt) in parts {
                let value = &values[which % values.len()];
                message.push_str(&between);
                message.push_str(&match spelt {
                    0 => value.clone(),
                    1 => format!("{value:?}"),
                    2 => serde_json::to_string(value).unwrap(),
                    _ => base64(value.as_bytes()),
                });
            }
            let clean = text(&message, &secrets(&pairs));
            for value in values.iter().filter(|value| !value.trim().is_empty()) {
                prop_assert!(!clean.contains(value.as_str()), "{clean:?} tells {value:?}");
                prop_assert!(!clean.contains(&base64(value.as_bytes())), "{clean:?} tells {value:?}");
            }
        }
    }
}
