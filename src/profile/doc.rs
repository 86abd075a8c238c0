//! The profile as typed: one struct per table, every key optional. After [`super::defaults::fill`] every
//! key that acts
//! is present, and writing the document out gives the effective profile.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use super::fabric_doc::*;
pub use super::pfc::{GenerateDoc, PfcKind, ReceiveDoc};
pub use super::port_doc::{PacingDoc, PfcDoc, PortDoc};
use super::quantity::{Dur, LoadText, Size};
pub use super::rate_doc::{DcqcnDoc, OtgDoc, SwiftDoc, WindowDoc};
pub use super::switch_doc::*;
pub use super::values::{Dilation, Files, Imix, PortRef, WatchdogDoc, WredCurve, WredDoc};
use crate::plan::Mode;
use crate::transport::config::{Ecn, Retransmission, Verb};
use crate::workload::config::StreamVerb;

macro_rules! table {
    ($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident : $ty:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[$fdoc])* #[serde(skip_serializing_if = "absent")] pub $field: $ty,)*
        }
    };
}

pub(super) use table;

/// Whether a key was left out; such keys are not written.
pub(super) trait Absent {
    fn is_absent(&self) -> bool;
}
impl<T> Absent for Option<T> {
    fn is_absent(&self) -> bool {
        self.is_none()
    }
}
impl<T> Absent for Vec<T> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}
impl<K, V> Absent for BTreeMap<K, V> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}
pub(super) fn absent<T: Absent>(value: &T) -> bool {
    value.is_absent()
}

table! {
    /// A whole profile.
    ProfileDoc {
        /// Version of the format: 1.
        schema: Option<u32>,
        /// Name in reports and of the output folder.
        name: Option<String>,
        /// What the run is to find out; also read from a `# Question :` comment.
        question: Option<String>,
        /// What its author expects; also read from a `# Expect   :` comment.
        expectation: Option<String>,
        /// How long it takes; also read from a `# Takes    :` comment.
        takes: Option<String>,
        /// `[run]`
        run: Option<RunDoc>,
        /// `[[workload]]`
        workload: Vec<WorkloadDoc>,
        /// `[[stream]]`
        stream: Vec<StreamDoc>,
        /// `[[at]]`
        at: Vec<AtDoc>,
        /// `[class.NAME]`
        class: BTreeMap<String, ClassDoc>,
        /// `[switch]`
        switch: Option<SwitchDoc>,
        /// `[fabric]`
        fabric: Option<FabricDoc>,
        /// `[[port]]`
        port: Vec<PortDoc>,
        /// `[[fault]]`
        fault: Vec<FaultDoc>,
        /// `[[pfc]]`
        pfc: Vec<GenerateDoc>,
        /// `[dut]`
        dut: Option<DutDoc>,
        /// `[expect]`
        expect: Option<ExpectDoc>,
    }
}

table! {
    /// `[run]`: repeats, bounds, seed and clock.
    RunDoc {
        /// Iterations thrown away.
        warmup: Option<u32>,
        /// Iterations measured.
        repeats: Option<u32>,
        /// Silence between iterations.
        gap: Option<Dur>,
        /// Nominal end of the run, whatever happens.
        limit: Option<Dur>,
        /// Seed of every random stream.
        seed: Option<u64>,
        /// Mode when `--on` is not given.
        on: Option<Mode>,
        /// Clock of a rings run.
        clock: Option<ClockDoc>,
        /// `"auto"` or a factor of at least 1: real time over nominal time.
        dilation: Option<Dilation>,
        /// Addresses of the ranks.
        ip: Option<IpVersion>,
        /// Ranks behind one port talk through the switch instead of inside the port.
        hairpin: Option<bool>,
        /// What a confirmed deadlock does to the run: `"end"`, or `"go-on"` where a PFC watchdog drops or forwards.
        deadlock: Option<DeadlockDoc>,
        /// ports: networks outside 198.18.0.0/15 and 2001:2::/48 that ranks may live in.
        allow: Vec<String>,
        /// ports: pauses may be sent into a real network.
        allow_pfc: Option<bool>,
        /// ports: longest absence of a worker from its ports before the result is not trusted.
        stall_max: Option<Dur>,
        /// ports: neighbours are asked again, and switches reminded of us, once in so long.
        keep_alive: Option<Dur>,
        /// ports: worker threads, each on a core of its own with its ports; left out: one per port as far as cores go, less
        /// one for the control plane.
        workers: Option<u16>,
        /// ports: frames on their way out at most, of each kind.
        pool_frames: Option<u32>,
    }
}

/// `clock = ...`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClockDoc {
    /// Workers wait for each other: stalls never reach the physics.
    Elastic,
    /// TSC / dilation whatever happens.
    Free,
}

/// `ip = ...`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpVersion {
    /// 198.18.0.0/15 (RFC 2544, RFC 6815).
    V4,
    /// 2001:2::/48 (RFC 5180).
    V6,
}

/// `placement = ...`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// Consecutive ranks of the job on consecutive ports of one leaf.
    Packed,
    /// Consecutive ranks of the job on different leaves (single switch: on different ports).
    Interleaved,
}

/// `role = ...`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Its ranks send.
    Send,
    /// Its ranks receive.
    Receive,
    /// Either.
    Both,
}

/// `fec = ...`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fec {
    /// No FEC, no delay.
    None,
    /// RS(528,514), 5280-bit codewords (25G to 100G NRZ).
    Rs528,
    /// RS(544,514), 5440-bit codewords (PAM4 lanes).
    Rs544,
}

/// `kind = ...` of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KindDoc {
    /// Many senders, one receiver, at once.
    Incast,
    /// Ring all-reduce.
    RingAllReduce,
    /// A captured or imported schedule.
    Replay,
}

table! {
    /// `[[workload]]`: closed-loop traffic.
    WorkloadDoc {
        /// Name in reports.
        name: Option<String>,
        /// What it does.
        kind: Option<KindDoc>,
        /// incast: sending ranks.
        senders: Option<u32>,
        /// incast: the receiving rank; default: the first rank of a `role = "receive"` port, else the last
        /// rank.
        receiver: Option<u32>,
        /// incast: bytes of each sender.
        message: Option<Size>,
        /// ring-all-reduce: ranks in the ring.
        ranks: Option<u32>,
        /// ring-all-reduce: bytes of the vector on each rank.
        vector: Option<Size>,
        /// ring-all-reduce: largest message.
        chunk: Option<Size>,
        /// ring-all-reduce: span a rank computes before it forwards a chunk.
        reduce: Option<Dur>,
        /// ring-all-reduce: ranks of one node; above 1 hierarchical, a ring over the nodes for each of them.
        per_node: Option<u32>,
        /// replay: the file, relative to the profile.
        file: Option<String>,
        /// replay: format of the file; `"auto"` recognises it.
        format: Option<String>,
        /// replay: `"dependent"` messages wait for what they followed, `"timed"` ones keep their spacing.
        timing: Option<TimingDoc>,
        /// RDMA operation.
        verb: Option<VerbDoc>,
        /// Start offsets.
        start: Option<StartDoc>,
        /// Traffic class.
        class: Option<String>,
        /// Queue pairs per pair of ranks.
        qps_per_pair: Option<u16>,
        /// `"none"`, `"fixed:25G"`, `"dcqcn:NAME"`, `"window"`, `"swift"`, `"swift:NAME"`.
        rate_control: Option<String>,
        /// dcqcn: changes to the named set.
        dcqcn: Option<DcqcnDoc>,
        /// dcqcn: the same as the Open Traffic Generator model spells it; instead of `dcqcn`.
        dcqcn_settings: Option<OtgDoc>,
        /// swift: changes to the named set.
        swift: Option<SwiftDoc>,
        /// Which ranks of the fabric take part, in which order.
        placement: Option<Placement>,
        /// The responder acknowledges at least every so many frames.
        ack_every: Option<u16>,
        /// The requester asks for an ACK after so many packets without asking.
        ack_req_every: Option<u16>,
        /// Local ACK timeout.
        ack_timeout: Option<Dur>,
        /// Retries before a queue pair fails.
        retry_count: Option<u8>,
        /// Waits for a receiver that is not ready before a queue pair fails; 7 = for ever.
        rnr_retry: Option<u8>,
        /// Unacknowledged packets in flight: a number, `"bdp"`, or bytes of payload.
        window: Option<WindowDoc>,
        /// READ requests without a complete answer.
        max_rd_atomic: Option<u8>,
        /// `"count"` (after `ack_every` frames), `"frame"`, `"message"` or `"delay:10us"`.
        ack_policy: Option<String>,
        /// `"count"` (last packet and after `ack_req_every`), `"last"`, `"packet"` or `"window"`.
        ack_req: Option<String>,
        /// Receive buffers of each queue pair; 0 = no limit.
        receive_queue: Option<u32>,
        /// receive_queue: from the end of a message until its buffer is posted again.
        receive_delay: Option<Dur>,
        /// receive_queue: timer code of RNR NAKs.
        min_rnr_timer: Option<u8>,
        /// receive_queue: requesters obey credits.
        credits: Option<bool>,
        /// `"round-robin"`, `"hash"` or `"chunks"`: how messages take the queue pairs of their pair of ranks.
        spread: Option<SpreadDoc>,
        /// `"go-back-n"` or `"selective-repeat"`.
        retransmission: Option<RetransmissionDoc>,
        /// selective-repeat: packets that may overtake a missing one before it is asked for.
        reorder: Option<u16>,
        /// `"kernel"`, `"qpn"`, `"fixed:49152"`, `"random"` or `"per-message"`.
        source_port: Option<String>,
    }
}

table! {
    /// `[[fault]]`: frames of one link that are lost, doubled, reordered, delayed, broken or marked on purpose.
    FaultDoc {
        /// `"port NAME tx"` (what the tester port sends) or `"port NAME rx"` (what it receives).
        link: Option<String>,
        /// `"drop"`, `"duplicate"`, `"swap"`, `"corrupt"`, `"delay"` or `"mark-ce"`.
        effect: Option<FaultEffect>,
        /// delay: how long; swap: the longest wait for the next frame.
        span: Option<Dur>,
        /// An opcode (`"write-last"`) or a group: `"data"`, `"ack"`, `"send"`, `"write"`, `"read-request"`, ...
        opcode: Option<String>,
        /// Destination queue pair on the wire.
        qp: Option<u32>,
        /// Number of the sending queue pair or stream on its port, from 0.
        flow: Option<u32>,
        /// One PSN.
        psn: Option<u32>,
        /// First matching frame to act on, from 1.
        nth: Option<u64>,
        /// How many matching frames in a row from there.
        count: Option<u64>,
        /// Probability for each of them.
        probability: Option<f64>,
    }
}

/// `effect = ...` of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultEffect {
    /// Lost.
    Drop,
    /// Seen twice.
    Duplicate,
    /// Changes places with the next frame.
    Swap,
    /// Its ICRC is broken.
    Corrupt,
    /// Held back.
    Delay,
    /// Congestion experienced.
    MarkCe,
}

/// `timing = ...` of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimingDoc {
    /// A message waits for what it followed.
    Dependent,
    /// Messages keep the spacing they had.
    Timed,
}

/// `retransmission = ...`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RetransmissionDoc {
    /// Everything from the lost packet on.
    GoBackN,
    /// The lost packet alone.
    SelectiveRepeat,
}

impl From<RetransmissionDoc> for Retransmission {
    fn from(r: RetransmissionDoc) -> Retransmission {
        match r {
            RetransmissionDoc::GoBackN => Retransmission::GoBackN,
            RetransmissionDoc::SelectiveRepeat => Retransmission::SelectiveRepeat,
        }
    }
}

/// `spread = ...`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpreadDoc {
    /// One queue pair after the other.
    RoundRobin,
    /// By a hash of the message's tag.
    Hash,
    /// Each message in as many parts as there are queue pairs.
    Chunks,
}

/// `verb = ...`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerbDoc {
    /// RDMA WRITE.
    Write,
    /// RDMA WRITE with immediate.
    WriteImm,
    /// SEND.
    Send,
    /// RDMA READ: the receiver of the data asks for it.
    Read,
    /// UD SEND: one packet per message, no acknowledgement.
    UdSend,
}

impl From<VerbDoc> for Verb {
    fn from(v: VerbDoc) -> Verb {
        match v {
            VerbDoc::Write => Verb::Write,
            VerbDoc::WriteImm => Verb::WriteImm,
            VerbDoc::Send => Verb::Send,
            VerbDoc::Read => Verb::Read,
            VerbDoc::UdSend => Verb::UdSend,
        }
    }
}

table! {
    /// `start = { skew = "0 ns" }` or `{ uniform = "5 us" }`.
    StartDoc {
        /// Rank number times this.
        skew: Option<Dur>,
        /// Uniform in [0, this], drawn per rank and iteration.
        uniform: Option<Dur>,
    }
}

table! {
    /// `[[stream]]`: open-loop traffic, no acknowledgement.
    StreamDoc {
        /// Name in reports.
        name: Option<String>,
        /// Sending rank.
        from: Option<u32>,
        /// Receiving rank.
        to: Option<u32>,
        /// Traffic class.
        class: Option<String>,
        /// Frame length with FCS, bytes.
        size: Option<u16>,
        /// `"simple"` or a list of `[bytes, weight]`; instead of `size`.
        imix: Option<Imix>,
        /// Offered load.
        load: Option<LoadText>,
        /// Ends after so many frames...
        frames: Option<u64>,
        /// ... or after so long.
        duration: Option<Dur>,
        /// When it starts.
        start: Option<Dur>,
        /// The sender obeys PFC.
        obey_pfc: Option<bool>,
        /// `"uc-send"` or `"ud-send"`.
        verb: Option<StreamVerb>,
    }
}

table! {
    /// `[[at]]`: one step of the timeline.
    AtDoc {
        /// Span after the base (the start of the run, shifted by every `wait` before this line).
        time: Option<Dur>,
        /// A port pauses its switch.
        pause: Option<PauseDoc>,
        /// A port lets its switch go on.
        release: Option<ReleaseDoc>,
        /// An exact number of frames at line rate.
        burst: Option<BurstDoc>,
        /// Shifts the base of the lines that follow.
        wait: Option<Dur>,
        /// Records every queue, pool and priority group of the switches...
        snapshot: Option<String>,
        /// ... again after this span...
        every: Option<Dur>,
        /// ... so many times in all.
        count: Option<u32>,
        /// Something happens to a cable.
        link: Option<LinkDoc>,
    }
}

table! {
    /// `pause = { port, priority, hold }`
    PauseDoc {
        /// Port number or name.
        port: Option<PortRef>,
        /// Priority.
        priority: Option<u8>,
        /// How long; left out: until a `release`.
        hold: Option<Dur>,
    }
}

table! {
    /// `release = { port, priority }`
    ReleaseDoc {
        /// Port number or name.
        port: Option<PortRef>,
        /// Priority.
        priority: Option<u8>,
    }
}

table! {
    /// `burst = { from, to, frames, size, class }`
    BurstDoc {
        /// Sending rank.
        from: Option<u32>,
        /// Receiving rank.
        to: Option<u32>,
        /// Frames.
        frames: Option<u64>,
        /// Frame length with FCS, bytes.
        size: Option<u16>,
        /// Traffic class.
        class: Option<String>,
        /// The sender obeys PFC.
        obey_pfc: Option<bool>,
    }
}

table! {
    /// `[class.NAME]`
    ClassDoc {
        /// DSCP of data.
        dscp: Option<u8>,
        /// Priority of data; must be what the switch's map gives.
        priority: Option<u8>,
        /// Must not lose frames.
        lossless: Option<bool>,
        /// `"off"`, `"ect0"`, `"ect1"`.
        ecn: Option<EcnDoc>,
        /// DSCP of ACKs and NAKs.
        ack_dscp: Option<u8>,
        /// DSCP of CNPs.
        cnp_dscp: Option<u8>,
        /// RDMA path MTU.
        mtu: Option<u16>,
        /// VLAN id.
        vlan: Option<u16>,
        /// Priority code point of tagged data frames; the class's priority unless the switch goes by it.
        pcp: Option<u8>,
    }
}

/// `ecn = ...`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EcnDoc {
    /// Not ECN capable.
    Off,
    /// ECT(0).
    Ect0,
    /// ECT(1).
    Ect1,
}

impl From<EcnDoc> for Ecn {
    fn from(e: EcnDoc) -> Ecn {
        match e {
            EcnDoc::Off => Ecn::Off,
            EcnDoc::Ect0 => Ecn::Ect0,
            EcnDoc::Ect1 => Ecn::Ect1,
        }
    }
}

table! {
    /// `[dut]`: goes into the report as it stands.
    DutDoc {
        /// Name.
        name: Option<String>,
        /// Model.
        model: Option<String>,
        /// Switch chip.
        asic: Option<String>,
        /// Version of the network operating system.
        nos_version: Option<String>,
        /// Serial number.
        serial: Option<String>,
        /// SHA-256 of its configuration.
        config_sha: Option<String>,
        /// Commands run before and after every repeat (ports only).
        snapshot: Vec<String>,
    }
}

table! {
    /// `[expect]`: what must hold for exit code 0.
    ExpectDoc {
        /// Exactly so many lossless frames dropped by switches.
        lossless_drops: Option<u64>,
        /// Exactly so many frames dropped by switches.
        drops: Option<u64>,
        /// Completion over ideal, at most.
        ideal_ratio_max: Option<f64>,
        /// Completion over ideal, at least (a run that is too good is wrong).
        ideal_ratio_min: Option<f64>,
        /// Most headroom bytes of one priority group.
        headroom_bytes_max: Option<Size>,
        /// Exactly so many tester ports paused.
        pfc_ports: Option<u64>,
        /// At least so many tester ports paused.
        pfc_ports_min: Option<u64>,
        /// At most so many tester ports paused.
        pfc_ports_max: Option<u64>,
        /// XOFFs at the tester ports, at most.
        pfc_xoff_max: Option<u64>,
        /// XOFFs at the tester ports, at least.
        pfc_xoff_min: Option<u64>,
        /// Frames marked CE, at most.
        ce_marked_max: Option<u64>,
        /// Frames marked CE, at least.
        ce_marked_min: Option<u64>,
        /// Frames sent again, at most.
        retransmitted_max: Option<u64>,
        /// Slowest completion of an iteration, at most.
        completion_max: Option<Dur>,
        /// Exactly so many deadlocks; above 0, a run that one ends is complete.
        deadlocks: Option<u64>,
        /// Flows that suffered for others, at most.
        victims_max: Option<u64>,
        /// Messages that did not complete, at most.
        failed_max: Option<u64>,
    }
}
