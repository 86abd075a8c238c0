/* Ethernet devices: DPDK's large configuration structs stay here; Rust sees flat ones of its own. */

/* For rte_eth_read_clock and rte_eth_fec_get, which are marked so since 2019. */
#define ALLOW_EXPERIMENTAL_API

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_flow.h>
#include <rte_mbuf.h>
#include <rte_mbuf_dyn.h>

/* Mirrors of the structs in eth.rs, whose sizes it passes in. */
struct rs_eth_info {
	char driver[32];
	uint32_t max_rx_pktlen;
	uint32_t if_index;
	uint16_t min_mtu, max_mtu;
	uint16_t max_rx_queues, max_tx_queues;
	uint16_t rx_descs_min, rx_descs_max, rx_descs_align;
	uint16_t tx_descs_min, tx_descs_max, tx_descs_align;
	uint16_t rx_descs, tx_descs;
	uint8_t mac[6];
	uint8_t rx_timestamps;
	uint8_t tx_pacing;
};
_Static_assert(sizeof(struct rs_eth_info) == RS_ETH_INFO_BYTES, "struct rs_eth_info: correct eth.rs");

struct rs_eth_stats {
	uint64_t ipackets, opackets, ibytes, obytes, imissed, ierrors, oerrors, rx_nombuf;
};
_Static_assert(sizeof(struct rs_eth_stats) == RS_ETH_STATS_BYTES, "struct rs_eth_stats: correct eth.rs");

struct rs_eth_xstat {
	char name[64];
	uint64_t value;
};
_Static_assert(sizeof(struct rs_eth_xstat) == RS_ETH_XSTAT_BYTES, "struct rs_eth_xstat: correct eth.rs");

int rs_eth_info(uint16_t port, struct rs_eth_info *out)
{
	struct rte_eth_dev_info info;
	struct rte_ether_addr mac;
	int rc = rte_eth_dev_info_get(port, &info);

	if (rc != 0)
		return rc;
	memset(out, 0, sizeof(*out));
	if (info.driver_name != NULL)
		strncpy(out->driver, info.driver_name, sizeof(out->driver) - 1);
	out->max_rx_pktlen = info.max_rx_pktlen;
	out->if_index = info.if_index;
	out->min_mtu = info.min_mtu;
	out->max_mtu = info.max_mtu;
	out->max_rx_queues = info.max_rx_queues;
	out->max_tx_queues = info.max_tx_queues;
	out->rx_descs_min = info.rx_desc_lim.nb_min;
	out->rx_descs_max = info.rx_desc_lim.nb_max;
	out->rx_descs_align = info.rx_desc_lim.nb_align;
	out->tx_descs_min = info.tx_desc_lim.nb_min;
	out->tx_descs_max = info.tx_desc_lim.nb_max;
	out->tx_descs_align = info.tx_desc_lim.nb_align;
	out->rx_descs = info.default_rxportconf.ring_size;
	out->tx_descs = info.default_txportconf.ring_size;
	out->rx_timestamps = (info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_TIMESTAMP) != 0;
	out->tx_pacing = (info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_SEND_ON_TIMESTAMP) != 0;
	if (rte_eth_macaddr_get(port, &mac) == 0)
		memcpy(out->mac, mac.addr_bytes, sizeof(out->mac));
	return 0;
}

/* So many queues each way. mtu: largest IP packet, already within what the device says. stamps: arrivals get the device's
 * time. times: frames are sent at the times they carry. */
int rs_eth_configure(uint16_t port, uint16_t queues, uint16_t mtu, uint16_t rx_descs, uint16_t tx_descs,
		     struct rte_mempool *pool, int stamps, int times)
{
	struct rte_eth_conf conf;
	int rc;

	memset(&conf, 0, sizeof(conf));
	conf.rxmode.mtu = mtu;
	if (stamps)
		conf.rxmode.offloads = RTE_ETH_RX_OFFLOAD_TIMESTAMP;
	if (times)
		conf.txmode.offloads = RTE_ETH_TX_OFFLOAD_SEND_ON_TIMESTAMP;
	rc = rte_eth_dev_configure(port, queues, queues, &conf);
	for (uint16_t q = 0; rc == 0 && q < queues; q++)
		rc = rte_eth_rx_queue_setup(port, q, rx_descs, SOCKET_ID_ANY, NULL, pool);
	for (uint16_t q = 0; rc == 0 && q < queues; q++)
		rc = rte_eth_tx_queue_setup(port, q, tx_descs, SOCKET_ID_ANY, NULL);
	return rc;
}

/* Frames whose IP destination equals `ip` where `mask` has ones go to `queue`: 4 or 16 bytes each. tagged: behind a VLAN
 * tag. priority: 0 is the first. Negative errno, and why in the device's words. */
int rs_eth_steer(uint16_t port, const uint8_t *ip, const uint8_t *mask, int v6, int tagged, uint32_t priority,
		 uint16_t queue, char *why, unsigned room)
{
	const struct rte_flow_attr attr = { .ingress = 1, .priority = priority };
	const struct rte_flow_action_queue to = { .index = queue };
	const struct rte_flow_action actions[] = {
		{ .type = RTE_FLOW_ACTION_TYPE_QUEUE, .conf = &to },
		{ .type = RTE_FLOW_ACTION_TYPE_END },
	};
	struct rte_flow_item_ipv4 ip4, mask4;
	struct rte_flow_item_ipv6 ip6, mask6;
	struct rte_flow_item items[4];
	struct rte_flow_error error;
	unsigned n = 0;

	memset(&ip4, 0, sizeof(ip4));
	memset(&mask4, 0, sizeof(mask4));
	memset(&ip6, 0, sizeof(ip6));
	memset(&mask6, 0, sizeof(mask6));
	memset(items, 0, sizeof(items));
	memset(&error, 0, sizeof(error));
	items[n++].type = RTE_FLOW_ITEM_TYPE_ETH;
	if (tagged)
		items[n++].type = RTE_FLOW_ITEM_TYPE_VLAN;
	if (v6) {
		memcpy(ip6.hdr.dst_addr, ip, 16);
		memcpy(mask6.hdr.dst_addr, mask, 16);
		items[n].spec = &ip6;
		items[n].mask = &mask6;
		items[n++].type = RTE_FLOW_ITEM_TYPE_IPV6;
	} else {
		memcpy(&ip4.hdr.dst_addr, ip, 4);
		memcpy(&mask4.hdr.dst_addr, mask, 4);
		items[n].spec = &ip4;
		items[n].mask = &mask4;
		items[n++].type = RTE_FLOW_ITEM_TYPE_IPV4;
	}
	items[n].type = RTE_FLOW_ITEM_TYPE_END;
	why[0] = 0;
	if (rte_flow_create(port, &attr, items, actions, &error) != NULL)
		return 0;
	if (error.message != NULL)
		snprintf(why, room, "%s", error.message);
	return rte_errno != 0 ? -rte_errno : -EIO;
}

/* Removes every rule of the port. */
int rs_eth_forget_rules(uint16_t port)
{
	struct rte_flow_error error;

	return rte_flow_flush(port, &error);
}

int rs_eth_port_of(const char *name, uint16_t *port) { return rte_eth_dev_get_port_by_name(name, port); }

int rs_eth_detach(uint16_t port)
{
	struct rte_eth_dev_info info;
	int rc = rte_eth_dev_info_get(port, &info);
	struct rte_device *device = rc == 0 ? info.device : NULL;
	int closed = rte_eth_dev_close(port);

	if (closed != 0)
		return closed;
	return device == NULL ? 0 : rte_dev_remove(device);
}

/* 1 up, 0 down, negative: not known. speed in Mbit/s, UINT32_MAX unknown. Does not wait. */
int rs_eth_link(uint16_t port, uint32_t *speed)
{
	struct rte_eth_link link;
	int rc = rte_eth_link_get_nowait(port, &link);

	if (rc != 0)
		return rc;
	*speed = link.link_speed;
	return link.link_status == RTE_ETH_LINK_UP;
}

int rs_eth_stats(uint16_t port, struct rs_eth_stats *out)
{
	struct rte_eth_stats s;
	int rc = rte_eth_stats_get(port, &s);

	if (rc != 0)
		return rc;
	out->ipackets = s.ipackets;
	out->opackets = s.opackets;
	out->ibytes = s.ibytes;
	out->obytes = s.obytes;
	out->imissed = s.imissed;
	out->ierrors = s.ierrors;
	out->oerrors = s.oerrors;
	out->rx_nombuf = s.rx_nombuf;
	return 0;
}

/* How many there are, or negative; fills at most n. */
int rs_eth_xstats(uint16_t port, struct rs_eth_xstat *out, unsigned n)
{
	enum { MOST = 512 };
	struct rte_eth_xstat values[MOST];
	struct rte_eth_xstat_name names[MOST];
	int count = rte_eth_xstats_get(port, values, MOST);
	int named = rte_eth_xstats_get_names(port, names, MOST);

	if (count < 0 || named < 0)
		return count < 0 ? count : named;
	if (count > MOST)
		return -E2BIG;
	for (int i = 0; i < count && i < named && (unsigned)i < n; i++) {
		memcpy(out[i].name, names[i].name, sizeof(out[i].name));
		out[i].name[sizeof(out[i].name) - 1] = 0;
		out[i].value = values[i].value;
	}
	return count;
}

int rs_eth_fec(uint16_t port)
{
	uint32_t modes = 0;
	int rc = rte_eth_fec_get(port, &modes);

	return rc < 0 ? rc : (int)(modes & INT32_MAX);
}

/* Pause modes: 0 none, 1 obeys, 2 sends, 3 both. */
int rs_eth_flow_control(uint16_t port)
{
	struct rte_eth_fc_conf conf;
	int rc;

	memset(&conf, 0, sizeof(conf));
	rc = rte_eth_dev_flow_ctrl_get(port, &conf);
	return rc != 0 ? rc : (int)conf.mode;
}

int rs_eth_set_flow_control(uint16_t port, int mode, int forward)
{
	struct rte_eth_fc_conf conf;
	int rc;

	memset(&conf, 0, sizeof(conf));
	rc = rte_eth_dev_flow_ctrl_get(port, &conf);
	if (rc != 0)
		return rc;
	conf.mode = (enum rte_eth_fc_mode)mode;
	conf.mac_ctrl_frame_fwd = (uint8_t)forward;
	return rte_eth_dev_flow_ctrl_set(port, &conf);
}

uint16_t rs_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t n)
{
	return rte_eth_tx_burst(port, queue, frames, n);
}

_Static_assert(offsetof(struct rte_mbuf, data_off) == offsetof(struct rte_mbuf, rearm_data) &&
		       offsetof(struct rte_mbuf, refcnt) == offsetof(struct rte_mbuf, rearm_data) + 2 &&
		       offsetof(struct rte_mbuf, nb_segs) == offsetof(struct rte_mbuf, rearm_data) + 4,
	       "struct rte_mbuf changed: correct adopt");

/* Makes a received mbuf one that the safe layer can own: alone, whole, data right behind the headroom. NICs that use less of a
 * buffer than there is (e1000: a power of two) leave the end of a frame in another: it is copied into the rest of the first.
 * Returns 0, or -1 after freeing it: shared, foreign, or no room to move the data. */
static int adopt(struct rte_mbuf *m)
{
	/* data_off, refcnt, nb_segs: neighbours, looked at together. */
	static const uint16_t usual[3] = { RTE_PKTMBUF_HEADROOM, 1, 1 };

	if (likely(memcmp(&m->rearm_data, usual, sizeof(usual)) == 0 && RTE_MBUF_DIRECT(m)))
		return 0;
	if (m->nb_segs > 1 && RTE_MBUF_DIRECT(m) && rte_mbuf_refcnt_read(m) == 1)
		rte_pktmbuf_linearize(m);
	if (m->nb_segs == 1 && RTE_MBUF_DIRECT(m) && rte_mbuf_refcnt_read(m) == 1 &&
	    (uint32_t)RTE_PKTMBUF_HEADROOM + m->data_len <= m->buf_len) {
		memmove((char *)m->buf_addr + RTE_PKTMBUF_HEADROOM, rte_pktmbuf_mtod(m, char *), m->data_len);
		m->data_off = RTE_PKTMBUF_HEADROOM;
		return 0;
	}
	rte_pktmbuf_free(m);
	return -1;
}

/* Receives a burst and keeps those that can be adopted, at the front of `frames`. Returns how many, and through
 * `freed` how many were not. */
uint16_t rs_eth_rx_adopt(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t n, uint16_t *freed)
{
	uint16_t got = rte_eth_rx_burst(port, queue, frames, n), kept = 0;

	for (uint16_t i = 0; i < got && i < 4; i++)
		rte_prefetch0(frames[i]);
	for (uint16_t i = 0; i < got; i++) {
		struct rte_mbuf *m = frames[i];

		if (i + 4 < got)
			rte_prefetch0(frames[i + 4]);
		rte_prefetch0((char *)m->buf_addr + RTE_PKTMBUF_HEADROOM);
		if (adopt(m) == 0)
			frames[kept++] = m;
	}
	*freed = got - kept;
	return kept;
}

/* Where mbufs carry the time of their arrival, and the flag that says so; the same for all devices of the process. */
static int stamp_at = -1;
static uint64_t stamp_flag;

int rs_rx_stamps(void)
{
	if (stamp_at >= 0)
		return 0;
	return rte_mbuf_dyn_rx_timestamp_register(&stamp_at, &stamp_flag) == 0 ? 0 : -rte_errno;
}

/* 0: none. In the device's own unit. */
uint64_t rs_mbuf_rx_stamp(const struct rte_mbuf *m)
{
	if (stamp_at < 0 || (m->ol_flags & stamp_flag) == 0)
		return 0;
	return *RTE_MBUF_DYNFIELD(m, stamp_at, const rte_mbuf_timestamp_t *);
}

/* Where mbufs carry the time at which they are to be sent, and the flag that says so. */
static int send_at = -1;
static uint64_t send_flag;

int rs_send_times(void)
{
	if (send_at >= 0)
		return 0;
	return rte_mbuf_dyn_tx_timestamp_register(&send_at, &send_flag) == 0 ? 0 : -rte_errno;
}

/* To be sent at `time`, in the device's own unit; 0: as soon as may be. Nothing before rs_send_times. */
void rs_mbuf_set_send_time(struct rte_mbuf *m, uint64_t time)
{
	if (send_at < 0)
		return;
	m->ol_flags &= ~send_flag;
	if (time == 0)
		return;
	m->ol_flags |= send_flag;
	*RTE_MBUF_DYNFIELD(m, send_at, rte_mbuf_timestamp_t *) = time;
}

/* 0: none. */
uint64_t rs_mbuf_send_time(const struct rte_mbuf *m)
{
	if (send_at < 0 || (m->ol_flags & send_flag) == 0)
		return 0;
	return *RTE_MBUF_DYNFIELD(m, send_at, const rte_mbuf_timestamp_t *);
}

int rs_eth_read_clock(uint16_t port, uint64_t *now) { return rte_eth_read_clock(port, now); }

/* The device holds one priority by itself when a PFC frame asks for it, or not. */
int rs_eth_obey_pfc(uint16_t port, uint8_t priority, int obey)
{
	struct rte_eth_pfc_conf conf;

	memset(&conf, 0, sizeof(conf));
	conf.fc.mode = obey ? RTE_ETH_FC_RX_PAUSE : RTE_ETH_FC_NONE;
	conf.priority = priority;
	return rte_eth_dev_priority_flow_ctrl_set(port, &conf);
}
