//! BTH opcodes and what each carries (IBTA volume 1, 9.2.1 and table "OpCode field"; annex A17 for the CNP).

use std::fmt;

/// What an opcode does, whatever the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// SEND.
    Send,
    /// RDMA WRITE.
    Write,
    /// RDMA READ request.
    ReadRequest,
    /// RDMA READ response.
    ReadResponse,
    /// Acknowledge: ACK, NAK and RNR NAK.
    Acknowledge,
    /// Atomic acknowledge.
    AtomicAcknowledge,
    /// CompareSwap or FetchAdd.
    Atomic,
    /// Congestion notification packet.
    Cnp,
}

/// Extended headers that follow the BTH, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExtLayout {
    /// None.
    None,
    /// RETH.
    Reth,
    /// RETH, ImmDt.
    RethImm,
    /// ImmDt.
    Imm,
    /// IETH.
    Ieth,
    /// AETH.
    Aeth,
    /// AETH, AtomicAckETH.
    AethAtomicAck,
    /// AtomicETH.
    Atomic,
    /// DETH.
    Deth,
    /// DETH, ImmDt.
    DethImm,
    /// The 16 reserved bytes of a CNP.
    Cnp,
}

impl ExtLayout {
    /// Bytes the extended headers take, 0..=28.
    #[inline]
    pub const fn len(self) -> usize {
        match self {
            ExtLayout::None => 0,
            ExtLayout::Reth | ExtLayout::Cnp => 16,
            ExtLayout::RethImm => 20,
            ExtLayout::Imm | ExtLayout::Ieth | ExtLayout::Aeth => 4,
            ExtLayout::AethAtomicAck | ExtLayout::DethImm => 12,
            ExtLayout::Atomic => 28,
            ExtLayout::Deth => 8,
        }
    }
    /// No extended header at all.
    #[inline]
    pub const fn is_empty(self) -> bool {
        matches!(self, ExtLayout::None)
    }
}

/// Which packets of a message an opcode can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    First,
    Middle,
    Last,
    Only,
}

macro_rules! opcodes {
    ($($(#[$doc:meta])*
        $name:ident = $value:literal, $text:literal, $op:ident, $place:ident, $ext:ident;)*) => {
        /// A BTH opcode this tool knows: all of RC (atomics and invalidate included), UC, UD, and the CNP.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Opcode { $($(#[$doc])* $name = $value,)* }

        impl Opcode {
            /// Every opcode, in ascending order.
            pub const ALL: &[Opcode] = &[$(Opcode::$name),*];

            /// The opcode with this number; `None` for RD, XRC, vendor and reserved ones.
            #[inline]
            pub const fn from_u8(value: u8) -> Option<Opcode> {
                match value { $($value => Some(Opcode::$name),)* _ => None }
            }
            /// Name in the style of the Linux header `ib_pack.h`, without its prefix: `RC_RDMA_WRITE_FIRST`.
            pub const fn name(self) -> &'static str {
                match self { $(Opcode::$name => $text,)* }
            }
            /// What it does.
            #[inline]
            pub const fn operation(self) -> Operation {
                match self { $(Opcode::$name => Operation::$op,)* }
            }
            /// Extended headers that follow the BTH.
            #[inline]
            pub const fn ext(self) -> ExtLayout {
                match self { $(Opcode::$name => ExtLayout::$ext,)* }
            }
            #[inline]
            const fn place(self) -> Place {
                match self { $(Opcode::$name => Place::$place,)* }
            }
        }
    };
}

opcodes! {
    /// RC SEND, first of several.
    RcSendFirst = 0x00, "RC_SEND_FIRST", Send, First, None;
    /// RC SEND, neither first nor last.
    RcSendMiddle = 0x01, "RC_SEND_MIDDLE", Send, Middle, None;
    /// RC SEND, last.
    RcSendLast = 0x02, "RC_SEND_LAST", Send, Last, None;
    /// RC SEND, last, with immediate data.
    RcSendLastImm = 0x03, "RC_SEND_LAST_WITH_IMMEDIATE", Send, Last, Imm;
    /// RC SEND in one packet.
    RcSendOnly = 0x04, "RC_SEND_ONLY", Send, Only, None;
    /// RC SEND in one packet, with immediate data.
    RcSendOnlyImm = 0x05, "RC_SEND_ONLY_WITH_IMMEDIATE", Send, Only, Imm;
    /// RC RDMA WRITE, first of several.
    RcWriteFirst = 0x06, "RC_RDMA_WRITE_FIRST", Write, First, Reth;
    /// RC RDMA WRITE, neither first nor last.
    RcWriteMiddle = 0x07, "RC_RDMA_WRITE_MIDDLE", Write, Middle, None;
    /// RC RDMA WRITE, last.
    RcWriteLast = 0x08, "RC_RDMA_WRITE_LAST", Write, Last, None;
    /// RC RDMA WRITE, last, with immediate data.
    RcWriteLastImm = 0x09, "RC_RDMA_WRITE_LAST_WITH_IMMEDIATE", Write, Last, Imm;
    /// RC RDMA WRITE in one packet.
    RcWriteOnly = 0x0a, "RC_RDMA_WRITE_ONLY", Write, Only, Reth;
    /// RC RDMA WRITE in one packet, with immediate data.
    RcWriteOnlyImm = 0x0b, "RC_RDMA_WRITE_ONLY_WITH_IMMEDIATE", Write, Only, RethImm;
    /// RC RDMA READ request.
    RcReadRequest = 0x0c, "RC_RDMA_READ_REQUEST", ReadRequest, Only, Reth;
    /// RC RDMA READ response, first of several.
    RcReadResponseFirst = 0x0d, "RC_RDMA_READ_RESPONSE_FIRST", ReadResponse, First, Aeth;
    /// RC RDMA READ response, neither first nor last; carries no AETH.
    RcReadResponseMiddle = 0x0e, "RC_RDMA_READ_RESPONSE_MIDDLE", ReadResponse, Middle, None;
    /// RC RDMA READ response, last.
    RcReadResponseLast = 0x0f, "RC_RDMA_READ_RESPONSE_LAST", ReadResponse, Last, Aeth;
    /// RC RDMA READ response in one packet.
    RcReadResponseOnly = 0x10, "RC_RDMA_READ_RESPONSE_ONLY", ReadResponse, Only, Aeth;
    /// RC acknowledge: ACK, NAK or RNR NAK, as the AETH says.
    RcAck = 0x11, "RC_ACKNOWLEDGE", Acknowledge, Only, Aeth;
    /// RC atomic acknowledge.
    RcAtomicAck = 0x12, "RC_ATOMIC_ACKNOWLEDGE", AtomicAcknowledge, Only, AethAtomicAck;
    /// RC CompareSwap.
    RcCompareSwap = 0x13, "RC_COMPARE_SWAP", Atomic, Only, Atomic;
    /// RC FetchAdd.
    RcFetchAdd = 0x14, "RC_FETCH_ADD", Atomic, Only, Atomic;
    /// RC SEND, last, with invalidate.
    RcSendLastInv = 0x16, "RC_SEND_LAST_WITH_INVALIDATE", Send, Last, Ieth;
    /// RC SEND in one packet, with invalidate.
    RcSendOnlyInv = 0x17, "RC_SEND_ONLY_WITH_INVALIDATE", Send, Only, Ieth;
    /// UC SEND, first of several.
    UcSendFirst = 0x20, "UC_SEND_FIRST", Send, First, None;
    /// UC SEND, neither first nor last.
    UcSendMiddle = 0x21, "UC_SEND_MIDDLE", Send, Middle, None;
    /// UC SEND, last.
    UcSendLast = 0x22, "UC_SEND_LAST", Send, Last, None;
    /// UC SEND, last, with immediate data.
    UcSendLastImm = 0x23, "UC_SEND_LAST_WITH_IMMEDIATE", Send, Last, Imm;
    /// UC SEND in one packet.
    UcSendOnly = 0x24, "UC_SEND_ONLY", Send, Only, None;
    /// UC SEND in one packet, with immediate data.
    UcSendOnlyImm = 0x25, "UC_SEND_ONLY_WITH_IMMEDIATE", Send, Only, Imm;
    /// UC RDMA WRITE, first of several.
    UcWriteFirst = 0x26, "UC_RDMA_WRITE_FIRST", Write, First, Reth;
    /// UC RDMA WRITE, neither first nor last.
    UcWriteMiddle = 0x27, "UC_RDMA_WRITE_MIDDLE", Write, Middle, None;
    /// UC RDMA WRITE, last.
    UcWriteLast = 0x28, "UC_RDMA_WRITE_LAST", Write, Last, None;
    /// UC RDMA WRITE, last, with immediate data.
    UcWriteLastImm = 0x29, "UC_RDMA_WRITE_LAST_WITH_IMMEDIATE", Write, Last, Imm;
    /// UC RDMA WRITE in one packet.
    UcWriteOnly = 0x2a, "UC_RDMA_WRITE_ONLY", Write, Only, Reth;
    /// UC RDMA WRITE in one packet, with immediate data.
    UcWriteOnlyImm = 0x2b, "UC_RDMA_WRITE_ONLY_WITH_IMMEDIATE", Write, Only, RethImm;
    /// UD SEND.
    UdSendOnly = 0x64, "UD_SEND_ONLY", Send, Only, Deth;
    /// UD SEND with immediate data.
    UdSendOnlyImm = 0x65, "UD_SEND_ONLY_WITH_IMMEDIATE", Send, Only, DethImm;
    /// Congestion notification packet (RoCEv2 annex).
    Cnp = 0x81, "CNP", Cnp, Only, Cnp;
}

impl Opcode {
    /// First packet of a message of several.
    #[inline]
    pub const fn is_first(self) -> bool {
        matches!(self.place(), Place::First)
    }
    /// Neither first nor last.
    #[inline]
    pub const fn is_middle(self) -> bool {
        matches!(self.place(), Place::Middle)
    }
    /// Last packet of a message of several.
    #[inline]
    pub const fn is_last(self) -> bool {
        matches!(self.place(), Place::Last)
    }
    /// The message is this packet. True for requests and answers that are always one packet.
    #[inline]
    pub const fn is_only(self) -> bool {
        matches!(self.place(), Place::Only)
    }
    /// A message starts here (FIRST or ONLY).
    #[inline]
    pub const fn starts_message(self) -> bool {
        self.is_first() || self.is_only()
    }
    /// A message ends here (LAST or ONLY).
    #[inline]
    pub const fn ends_message(self) -> bool {
        self.is_last() || self.is_only()
    }
    /// Any SEND.
    #[inline]
    pub const fn is_send(self) -> bool {
        matches!(self.operation(), Operation::Send)
    }
    /// Any RDMA WRITE.
    #[inline]
    pub const fn is_write(self) -> bool {
        matches!(self.operation(), Operation::Write)
    }
    /// Any RDMA READ response.
    #[inline]
    pub const fn is_read_response(self) -> bool {
        matches!(self.operation(), Operation::ReadResponse)
    }
    /// Carries message payload: SEND, WRITE, READ response.
    #[inline]
    pub const fn has_payload(self) -> bool {
        matches!(self.operation(), Operation::Send | Operation::Write | Operation::ReadResponse)
    }
    /// Travels from requester to responder.
    #[inline]
    pub const fn is_request(self) -> bool {
        matches!(
            self.operation(),
            Operation::Send | Operation::Write | Operation::ReadRequest | Operation::Atomic
        )
    }
    /// Travels from responder to requester.
    #[inline]
    pub const fn is_response(self) -> bool {
        matches!(
            self.operation(),
            Operation::ReadResponse | Operation::Acknowledge | Operation::AtomicAcknowledge
        )
    }
    /// Reliable connection.
    #[inline]
    pub const fn is_rc(self) -> bool {
        (self as u8) < 0x20
    }
    /// Unreliable connection.
    #[inline]
    pub const fn is_uc(self) -> bool {
        (self as u8) >> 5 == 1
    }
    /// Unreliable datagram.
    #[inline]
    pub const fn is_ud(self) -> bool {
        (self as u8) >> 5 == 3
    }
    /// Carries a RETH.
    #[inline]
    pub const fn has_reth(self) -> bool {
        matches!(self.ext(), ExtLayout::Reth | ExtLayout::RethImm)
    }
    /// Carries immediate data.
    #[inline]
    pub const fn has_imm(self) -> bool {
        matches!(self.ext(), ExtLayout::Imm | ExtLayout::RethImm | ExtLayout::DethImm)
    }
    /// Carries an AETH.
    #[inline]
    pub const fn has_aeth(self) -> bool {
        matches!(self.ext(), ExtLayout::Aeth | ExtLayout::AethAtomicAck)
    }
    /// Carries a DETH.
    #[inline]
    pub const fn has_deth(self) -> bool {
        matches!(self.ext(), ExtLayout::Deth | ExtLayout::DethImm)
    }
    /// Carries an IETH.
    #[inline]
    pub const fn has_ieth(self) -> bool {
        matches!(self.ext(), ExtLayout::Ieth)
    }
    /// Bytes of extended headers behind the BTH.
    #[inline]
    pub const fn ext_len(self) -> usize {
        self.ext().len()
    }
}

impl From<Opcode> for u8 {
    #[inline]
    fn from(op: Opcode) -> u8 {
        op as u8
    }
}

impl fmt::Display for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Bytes of extended headers behind a BTH with opcode `value`; 0 for opcodes we do not know. One table
/// lookup.
#[inline]
pub const fn ext_len_u8(value: u8) -> u8 {
    const TABLE: [u8; 256] = {
        let mut t = [0; 256];
        let mut i = 0;
        while i < Opcode::ALL.len() {
            t[Opcode::ALL[i] as usize] = Opcode::ALL[i].ext_len() as u8;
            i += 1;
        }
        t
    };
    TABLE[value as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_and_unknown_ones_are_refused() {
        let known = (0..=255u8).filter_map(Opcode::from_u8).collect::<Vec<_>>();
        assert_eq!(known, Opcode::ALL);
        assert!(known.iter().all(|&o| Opcode::from_u8(u8::from(o)) == Some(o)));
        for reserved in [0x15, 0x18, 0x2c, 0x40, 0x60, 0x80, 0xe0] {
            assert_eq!(Opcode::from_u8(reserved), None, "{reserved:#x}");
        }
    }

    #[test]
    fn uc_mirrors_the_first_twelve_of_rc() {
        for low in 0..12u8 {
            let (rc, uc) = (Opcode::from_u8(low), Opcode::from_u8(0x20 | low));
            let (Some(rc), Some(uc)) = (rc, uc) else { panic!("opcode {low:#x} missing") };
            assert_eq!((rc.operation(), rc.ext(), rc.place()), (uc.operation(), uc.ext(), uc.place()));
            assert!(rc.is_rc() && uc.is_uc());
        }
        assert!(Opcode::UdSendOnlyImm.is_ud() && !Opcode::Cnp.is_ud() && !Opcode::Cnp.is_rc());
    }

    #[test]
    fn extended_headers_follow_the_standard_table() {
        let len = |o: u8| ext_len_u8(o);
        assert_eq!([len(0x06), len(0x0a), len(0x0c)], [16; 3], "RETH");
        assert_eq!([len(0x03), len(0x05), len(0x09), len(0x16)], [4; 4], "ImmDt, IETH");
        assert_eq!((len(0x0b), len(0x12), len(0x13), len(0x64), len(0x65)), (20, 12, 28, 8, 12));
        assert_eq!((len(0x0d), len(0x0e), len(0x0f), len(0x10), len(0x11)), (4, 0, 4, 4, 4));
        assert_eq!((len(0x81), len(0xff)), (16, 0));
        assert!(Opcode::RcReadResponseMiddle.has_payload() && !Opcode::RcReadRequest.has_payload());
        assert!(Opcode::RcWriteOnlyImm.has_reth() && Opcode::RcWriteOnlyImm.has_imm());
    }
}
