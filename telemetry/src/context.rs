//! The W3C trace context in 25 bytes: what follows a message from its sender's frame to its receivers' flush.

use std::fmt;

/// Trace id, parent span id and flags, as in the W3C `traceparent` header. [`TraceContext::NONE`] is a message that
/// nobody follows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TraceContext {
    trace: [u8; 16],
    span: [u8; 8],
    flags: u8,
}

impl TraceContext {
    /// Bytes of [`Self::to_bytes`].
    pub const LENGTH: usize = 25;

    /// Not traced.
    pub const NONE: Self = Self { trace: [0; 16], span: [0; 8], flags: 0 };

    /// Reads a `traceparent` header (version 00: `00-<32 hex>-<16 hex>-<2 hex>`, lowercase). Anything else is `None`:
    /// a broken header never fails a message.
    pub fn parse(header: &str) -> Option<Self> {
        let bytes = header.as_bytes();
        let dashes = bytes.len() == 55 && bytes[2] == b'-' && bytes[35] == b'-' && bytes[52] == b'-';
        if !dashes || &bytes[..2] != b"00" {
            return None;
        }
        let mut context = Self::NONE;
        unhex(&bytes[3..35], &mut context.trace)?;
        unhex(&bytes[36..52], &mut context.span)?;
        let mut flags = [0];
        unhex(&bytes[53..], &mut flags)?;
        context.flags = flags[0];
        (context.trace != [0; 16] && context.span != [0; 8]).then_some(context)
    }

    /// Trace id, span id, flags: what is sent to another node.
    pub fn to_bytes(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..16].copy_from_slice(&self.trace);
        bytes[16..24].copy_from_slice(&self.span);
        bytes[24] = self.flags;
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote. An id of zeros is no id, as in a header: [`Self::NONE`].
    pub fn from_bytes(bytes: &[u8; Self::LENGTH]) -> Self {
        let mut context = Self { flags: bytes[24], ..Self::NONE };
        context.trace.copy_from_slice(&bytes[..16]);
        context.span.copy_from_slice(&bytes[16..24]);
        if context.trace == [0; 16] || context.span == [0; 8] { Self::NONE } else { context }
    }

    /// Whether somebody follows this message.
    pub fn is_some(&self) -> bool {
        self.trace != [0; 16]
    }

    /// Whether its spans are recorded.
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }
}

fn unhex(text: &[u8], into: &mut [u8]) -> Option<()> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    for (pair, byte) in text.chunks_exact(2).zip(into) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(())
}

/// The `traceparent` header.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trace = u128::from_be_bytes(self.trace);
        let span = u64::from_be_bytes(self.span);
        write!(f, "00-{trace:032x}-{span:016x}-{:02x}", self.flags)
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceContext({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_the_way_through() {
        let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = TraceContext::parse(header).unwrap();
        assert!(context.is_some() && context.is_sampled());
        assert_eq!(context.to_string(), header);
        assert_eq!(size_of::<TraceContext>(), 25);
    }

    #[test]
    fn bytes_are_read_back_and_a_missing_id_is_no_context() {
        let context = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert_eq!(TraceContext::from_bytes(&context.to_bytes()), context);
        assert_eq!(TraceContext::from_bytes(&TraceContext::NONE.to_bytes()), TraceContext::NONE);
        let mut spanless = context.to_bytes();
        spanless[16..24].fill(0);
        assert_eq!(TraceContext::from_bytes(&spanless), TraceContext::NONE);
    }

    #[test]
    fn broken_headers_are_no_context() {
        for header in [
            "",
            "00-zz",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-0f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(header), None, "{header}");
        }
    }
}
