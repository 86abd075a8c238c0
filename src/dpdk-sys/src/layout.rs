// Where the safe layer finds the fields of `struct rte_mbuf`, in bytes from its start. The one list:
// `build.rs` hands it to `shim.c`, whose static assertions hold it against the headers the build uses.

/// Size of `struct rte_mbuf`; the private area follows it.
pub const MBUF_BYTES: usize = 128;
/// Room in front of the data of every mbuf (`RTE_PKTMBUF_HEADROOM`).
pub const MBUF_HEADROOM_BYTES: usize = 128;
/// `void *buf_addr`.
pub const MBUF_BUF_ADDR: usize = 0;
/// `uint16_t data_off`.
pub const MBUF_DATA_OFF: usize = 16;
/// `uint32_t pkt_len`.
pub const MBUF_PKT_LEN: usize = 36;
/// `uint16_t data_len`.
pub const MBUF_DATA_LEN: usize = 40;
/// `uint32_t hash.usr`, a word for the application that neither pools nor rings touch.
pub const MBUF_USER: usize = 44;
/// `uint16_t buf_len`.
pub const MBUF_BUF_LEN: usize = 54;
/// `struct rte_mempool *pool`.
pub const MBUF_POOL: usize = 56;

/// Size of `struct rs_eth_info` of `shim_eth.c`.
pub const RS_ETH_INFO_BYTES: usize = 72;
/// Size of `struct rs_eth_stats` of `shim_eth.c`.
pub const RS_ETH_STATS_BYTES: usize = 64;
/// Size of `struct rs_eth_xstat` of `shim_eth.c`.
pub const RS_ETH_XSTAT_BYTES: usize = 72;
