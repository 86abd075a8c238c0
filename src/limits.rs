//! Every capacity of the tool, each with its reason. A limit that a profile can reach is checked by `check` and named
//! in the error.

/// Frames handed over in one burst: twice the DPDK convention, which made 5 to 8 % more on net_null than 32 and 2 to 4 % more
/// with ACKs back. Their headers fit the first-level cache; a packet socket is called half as often.
pub const BURST: usize = 64;
/// Tester ports in one run. A three-tier 400G fabric of 8,192 hosts fits twice.
pub const PORTS_MAX: usize = 16_384;
/// Ranks in one run; queue pair numbers are 24 bits, and a ring needs two per rank.
pub const RANKS_MAX: usize = 1 << 20;
/// Queue pairs on one tester port: 24-bit queue pair numbers less the reserved ones, kept to a quarter.
pub const QPS_PER_PORT_MAX: usize = 1 << 22;
/// Queues of one real port: as many as rings of DPDK's `net_ring` take.
pub const QUEUES_PER_PORT_MAX: u16 = 16;
/// Queues of all real ports of a run: stamps have eight bits for the one that sent.
pub const QUEUES_MAX: usize = 256;
/// Traffic classes of a profile: the eight priorities of 802.1Q, twice.
pub const CLASSES_MAX: usize = 16;
/// Ports of one embedded switch.
pub const SWITCH_PORTS_MAX: usize = 1_024;
/// Priorities of 802.1Q.
pub const PRIORITIES: usize = 8;
/// Switches a path may have; what is longer counts as a loop. The TTL of our frames allows one less.
pub const HOPS_MAX: u8 = 64;
/// Rows of flows.csv; a longer run keeps the first ones and says how many are missing.
pub const FLOW_ROWS_MAX: usize = 1 << 20;
/// Queue depth histograms of one run (10 KB each); the queues beyond keep their deepest value only.
pub const QUEUE_HISTOGRAMS_MAX: usize = 4_096;
/// Streams with a latency histogram of their own (13 KB each, held as far as they are used); those beyond are in the
/// histograms of their class only.
pub const STREAM_HISTOGRAMS_MAX: usize = 1 << 16;
/// Longest run, in nominal seconds: a day and an hour, for 24 h soaks.
pub const RUN_SECONDS_MAX: u64 = 25 * 3600;
/// Largest RoCE message: the DMA length of RETH is 31 usable bits (IBTA volume 1).
pub const MESSAGE_BYTES_MAX: u64 = 1 << 31;
