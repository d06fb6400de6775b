//! The rules for what people type, told field by field. The one place for them.

use std::borrow::Cow;

use protocol::limits;
use unicode_normalization::UnicodeNormalization;

use crate::rest::problem::{FieldProblem, Problem};

/// Shortest user name.
const NAME_CHARS_LEAST: usize = 3;
/// Longest e-mail address, as in RFC 5321.
const EMAIL_BYTES: usize = 254;
/// Longest name of a device.
const LABEL_CHARS: usize = 64;

/// Collects what is wrong with a request, and gives each value in its normal form.
#[derive(Default)]
pub(crate) struct Rules {
    broken: Vec<FieldProblem>,
}

impl Rules {
    /// Ends the look at a request.
    pub(crate) fn done(self) -> Result<(), Problem> {
        if self.broken.is_empty() { Ok(()) } else { Err(Problem::fields(self.broken)) }
    }

    /// Notes a broken rule.
    pub(crate) fn require(
        &mut self,
        holds: bool,
        field: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) {
        if !holds {
            self.broken.push(FieldProblem { field, message: message.into() });
        }
    }

    /// The name to sign in with, in lower case.
    pub(crate) fn user_name(&mut self, name: &str) -> String {
        let name = name.trim().to_ascii_lowercase();
        let length = NAME_CHARS_LEAST..=limits::USER_NAME_CHARS;
        self.require(
            length.contains(&name.chars().count()),
            "name",
            format!("{NAME_CHARS_LEAST} to {} characters", limits::USER_NAME_CHARS),
        );
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.' | '-');
        self.require(name.chars().all(allowed), "name", "only a to z, 0 to 9, _ . and -");
        name
    }

    /// A new password.
    pub(crate) fn password(&mut self, field: &'static str, password: &str) {
        let bytes: usize = password.nfc().map(char::len_utf8).sum();
        let (least, most) = (limits::PASSWORD_BYTES.start(), limits::PASSWORD_BYTES.end());
        self.require(bytes >= *least, field, format!("at least {least} bytes"));
        self.require(bytes <= *most, field, format!("at most {most} bytes"));
    }

    /// A display name: not empty.
    pub(crate) fn display_name(&mut self, name: &str) -> String {
        let name = self.line("display_name", name, limits::DISPLAY_NAME_CHARS);
        self.require(!name.is_empty(), "display_name", "not empty");
        name
    }

    /// A full name; empty takes it away.
    pub(crate) fn full_name(&mut self, name: &str) -> String {
        self.line("full_name", name, limits::DISPLAY_NAME_CHARS)
    }

    /// An e-mail address by its shape alone: one `@`, something before it, a domain with a dot or `localhost` after.
    pub(crate) fn email(&mut self, email: &str) -> String {
        let email = email.trim();
        let shaped = email.rsplit_once('@').is_some_and(|(local, domain)| {
            let labels = || domain.split('.');
            let plain = |c: char| c.is_alphanumeric() || c == '-';
            !local.is_empty()
                && !local.contains(['@', ' '])
                && (labels().count() > 1 || domain == "localhost")
                && labels().all(|label| !label.is_empty() && label.chars().all(plain))
        });
        let printable = !email.chars().any(|c| c.is_control() || c.is_whitespace());
        self.require(shaped && printable && email.len() <= EMAIL_BYTES, "email", "not an e-mail address");
        email.to_owned()
    }

    /// A colour.
    pub(crate) fn colour(&mut self, colour: &str) -> String {
        let digits = colour.strip_prefix('#').unwrap_or_default();
        let shaped = digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        self.require(shaped, "colour", "#rrggbb");
        colour.to_ascii_lowercase()
    }

    /// A room's name: not empty.
    pub(crate) fn room_name(&mut self, name: &str) -> String {
        let name = self.line("name", name, limits::ROOM_NAME_CHARS);
        self.require(!name.is_empty(), "name", "not empty");
        name
    }

    /// A room's topic.
    pub(crate) fn topic(&mut self, topic: &str) -> String {
        self.line("topic", topic, limits::TOPIC_CHARS)
    }

    /// Seconds between two sends of a member.
    pub(crate) fn slow_mode(&mut self, seconds: u32) {
        let most = limits::SLOW_MODE_S;
        self.require(seconds <= most, "slow_mode_s", format!("at most {most} seconds"));
    }

    /// What a device is called: cut to fit rather than refused, since no person may have typed it.
    pub(crate) fn label(label: Option<&str>, client: Option<&str>) -> String {
        let text = label.filter(|label| !label.trim().is_empty()).or(client).unwrap_or("unknown");
        text.trim().nfc().filter(|c| shown(*c)).take(LABEL_CHARS).collect()
    }

    /// One line of text in its composed form.
    fn line(&mut self, field: &'static str, text: &str, most: usize) -> String {
        let text: String = text.trim().nfc().collect();
        self.require(text.chars().count() <= most, field, format!("at most {most} characters"));
        self.require(text.chars().all(shown), field, "no control characters");
        text
    }
}

/// Whether a character may stand in a name: none that controls, breaks a line, or turns the direction of what
/// follows, which lets one name look like another.
fn shown(c: char) -> bool {
    let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    let breaks = matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}');
    !(c.is_control() || turns || breaks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaks(look: impl FnOnce(&mut Rules)) -> usize {
        let mut rules = Rules::default();
        look(&mut rules);
        rules.broken.len()
    }

    #[test]
    fn user_names_are_short_plain_and_lower_case() {
        let mut rules = Rules::default();
        assert_eq!(rules.user_name(" Ann.B-c_9 "), "ann.b-c_9");
        assert!(rules.done().is_ok());
        for name in ["ab", "ann b", "änn", "ann@b", &"a".repeat(33)] {
            assert_eq!(breaks(|rules| drop(rules.user_name(name))), 1, "{name}");
        }
    }

    #[test]
    fn names_are_composed_and_hold_nothing_invisible() {
        let mut rules = Rules::default();
        assert_eq!(rules.display_name("Rene\u{301} 👩‍💻"), "René 👩‍💻");
        assert!(rules.done().is_ok());
        for name in ["", "a\nb", "a\u{202e}b", "\u{0}", &"x".repeat(65)] {
            assert_eq!(breaks(|rules| drop(rules.display_name(name))), 1, "{name:?}");
        }
    }

    #[test]
    fn passwords_are_measured_in_their_composed_form() {
        assert_eq!(breaks(|rules| rules.password("password", "e\u{301}e\u{301}e\u{301}a")), 1, "7 bytes");
        assert_eq!(breaks(|rules| rules.password("password", "12345678")), 0);
        assert_eq!(breaks(|rules| rules.password("password", &"x".repeat(257))), 1);
    }

    #[test]
    fn addresses_and_colours_have_a_shape() {
        for good in ["a@b.c", "a.b+c@localhost", "ä@bücher.example"] {
            assert_eq!(breaks(|rules| drop(rules.email(good))), 0, "{good}");
        }
        for bad in ["a", "a@", "@b.c", "a@b", "a@b..c", "a b@c.d", "a@b@c.d", "a@b.c\n.d"] {
            assert_eq!(breaks(|rules| drop(rules.email(bad))), 1, "{bad}");
        }
        assert_eq!(breaks(|rules| drop(rules.colour("#A0b1c2"))), 0);
        for bad in ["", "a0b1c2", "#a0b1c", "#a0b1cg", "#a0b1c2d"] {
            assert_eq!(breaks(|rules| drop(rules.colour(bad))), 1, "{bad}");
        }
    }

    #[test]
    fn labels_are_cut_never_refused() {
        assert_eq!(Rules::label(Some("  "), Some("web")), "web");
        assert_eq!(Rules::label(None, None), "unknown");
        assert_eq!(Rules::label(Some(&"x\u{7}".repeat(80)), None).chars().count(), 64);
    }
}
