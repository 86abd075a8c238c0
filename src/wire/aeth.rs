//! What an AETH syndrome means (IBTA volume 1, 9.7.5.1 and 9.7.5.2): ACK credits, RNR timers, NAK codes.

use crate::units::Span;

use super::headers::Aeth;

/// Credit code that means "no end-to-end flow control": what most hardware and every shared receive queue
/// sends.
pub const CREDIT_UNLIMITED: u8 = 31;

/// A decoded AETH syndrome. Bit 7 is reserved and must be zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syndrome {
    /// Everything up to this PSN has arrived. 5-bit credit code, see [`credits`].
    Ack {
        /// Credit code, 0..32.
        credit: u8,
    },
    /// No receive buffer was ready; try again after a while. 5-bit timer code, see [`rnr_timer`].
    RnrNak {
        /// Timer code, 0..32.
        timer: u8,
    },
    /// The request was refused.
    Nak(NakCode),
    /// Reserved encoding, kept raw.
    Reserved(u8),
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NakCode {
    /// A PSN is missing; the NAK carries the expected one. Everything before it is acknowledged.
    PsnSequenceError,
    /// Wrong opcode order or length. Fatal.
    InvalidRequest,
    /// Bad R_Key, range or permission. Fatal.
    RemoteAccessError,
    /// The responder failed. Fatal.
    RemoteOperationalError,
    /// RD only.
    InvalidRdRequest,
}

impl NakCode {
    /// The 5-bit code.
    pub const fn code(self) -> u8 {
        self as u8
    }
    /// The code in words.
    pub const fn name(self) -> &'static str {
        match self {
            NakCode::PsnSequenceError => "PSN sequence error",
            NakCode::InvalidRequest => "invalid request",
            NakCode::RemoteAccessError => "remote access error",
            NakCode::RemoteOperationalError => "remote operational error",
            NakCode::InvalidRdRequest => "invalid RD request",
        }
    }
}

impl Syndrome {
    /// Decodes the syndrome byte.
    #[inline]
    pub const fn from_u8(value: u8) -> Syndrome {
        let low = value & 0x1f;
        match (value >> 5, low) {
            (0, _) => Syndrome::Ack { credit: low },
            (1, _) => Syndrome::RnrNak { timer: low },
            (3, 0) => Syndrome::Nak(NakCode::PsnSequenceError),
            (3, 1) => Syndrome::Nak(NakCode::InvalidRequest),
            (3, 2) => Syndrome::Nak(NakCode::RemoteAccessError),
            (3, 3) => Syndrome::Nak(NakCode::RemoteOperationalError),
            (3, 4) => Syndrome::Nak(NakCode::InvalidRdRequest),
            _ => Syndrome::Reserved(value),
        }
    }
    /// Encodes the syndrome byte.
    #[inline]
    pub const fn to_u8(self) -> u8 {
        match self {
            Syndrome::Ack { credit } => credit & 0x1f,
            Syndrome::RnrNak { timer } => 0x20 | (timer & 0x1f),
            Syndrome::Nak(code) => 0x60 | code.code(),
            Syndrome::Reserved(raw) => raw,
        }
    }
}

impl Aeth {
    /// A positive acknowledgement without a credit limit; `msn` counts completed messages, 24 bits.
    #[inline]
    pub const fn ack(msn: u32) -> Aeth {
        Aeth { syndrome: CREDIT_UNLIMITED, msn }
    }
    /// A refusal.
    #[inline]
    pub const fn nak(code: NakCode, msn: u32) -> Aeth {
        Aeth { syndrome: Syndrome::Nak(code).to_u8(), msn }
    }
    /// "Receiver not ready": retry after [`rnr_timer`]`(timer)`.
    #[inline]
    pub const fn rnr_nak(timer: u8, msn: u32) -> Aeth {
        Aeth { syndrome: Syndrome::RnrNak { timer }.to_u8(), msn }
    }
    /// The decoded syndrome.
    #[inline]
    pub const fn meaning(&self) -> Syndrome {
        Syndrome::from_u8(self.syndrome)
    }
}

/// Receive credits behind a credit code; `None` for 31 (no limit) and for codes beyond 5 bits.
pub const fn credits(code: u8) -> Option<u32> {
    // From code 4 on the steps alternate: x 1.5, x 1.33.
    match code {
        0..=1 => Some(code as u32),
        2..=30 if code.is_multiple_of(2) => Some(1 << (code / 2)),
        3..=29 => Some(3 << (code / 2 - 1)),
        _ => None,
    }
}

/// The credit code that says as much of `buffers` as a code can, never more.
pub fn credit_code(buffers: u32) -> u8 {
    (0..CREDIT_UNLIMITED).rev().find(|c| credits(*c).is_some_and(|n| n <= buffers)).unwrap_or(0)
}

/// RNR timer codes in units of 10 us.
const RNR_TIMER_10US: [u32; 32] = [
    65_536, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1_024, 1_536, 2_048,
    3_072, 4_096, 6_144, 8_192, 12_288, 16_384, 24_576, 32_768, 49_152,
];

/// How long an RNR NAK with this timer code asks the requester to wait, 10 us to 655.36 ms. Bits beyond five
/// are ignored.
pub const fn rnr_timer(code: u8) -> Span {
    Span::from_us(RNR_TIMER_10US[(code & 0x1f) as usize] as u64 * 10)
}

/// The code of the shortest RNR timer that is not shorter than `span`; the longest (code 0) beyond 491.52 ms.
pub fn rnr_timer_code(span: Span) -> u8 {
    (1..32u8).find(|&c| rnr_timer(c) >= span).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_syndrome_byte_survives() {
        for raw in 0..=255u8 {
            assert_eq!(Syndrome::from_u8(raw).to_u8(), raw);
        }
        assert_eq!(Syndrome::from_u8(0x34), Syndrome::RnrNak { timer: 20 });
        assert_eq!(Aeth::nak(NakCode::RemoteAccessError, 7).syndrome, 0x62);
    }

    #[test]
    fn credit_codes_follow_the_standard_table() {
        let table = [
            0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048,
            3072, 4096, 6144, 8192, 12288, 16384, 24576, 32768,
        ];
        for (code, want) in (0u8..).zip(table) {
            assert_eq!(credits(code), Some(want), "code {code}");
        }
        assert_eq!(credits(CREDIT_UNLIMITED), None);
        assert_eq!([0, 1, 5, 6, 7, 1_000_000].map(credit_code), [0, 1, 4, 5, 5, 30]);
    }

    #[test]
    fn rnr_timers_cover_ten_microseconds_to_two_thirds_of_a_second() {
        assert_eq!(rnr_timer(1), Span::from_us(10));
        assert_eq!(rnr_timer(20), Span::from_us(10_240));
        assert_eq!(rnr_timer(25), Span::from_us(61_440));
        assert_eq!(rnr_timer(0), Span::from_us(655_360));
        assert_eq!(rnr_timer_code(Span::from_us(11)), 2);
        assert_eq!(rnr_timer_code(Span::from_ms(491)), 31);
        assert_eq!(rnr_timer_code(Span::from_ms(600)), 0);
    }
}
