// Egress of a slow port, seen from in front of its queue: marks CE by the depth of a queue that is only reckoned, drops
// what would not fit, and counts both. tools/lab-bridge loads it with `tc filter ... bpf direct-action`.
//
// The queue is kept as a time: `free_at` is when a wire of RATE_BPS would be done with everything that was let through.
// A frame finds free_at - now of work before it. Below MARK_FROM_NS nothing is marked, above MARK_ALL_NS everything, and
// between them with a chance that rises linearly. More than ROOM_NS is not let in.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#ifndef RATE_BPS
#error RATE_BPS: layer 1 rate of the port, bit/s
#endif
#ifndef MARK_FROM_NS
#error MARK_FROM_NS, MARK_ALL_NS, ROOM_NS: nanoseconds of work in the queue
#endif
// FCS, preamble and gap, which the kernel does not count.
#define WIRE_EXTRA_BYTES 24

struct tally {
	struct bpf_spin_lock lock;
	__u32 reserved;
	__u64 free_at;
	__u64 frames;
	__u64 bytes;
	__u64 marked;
	__u64 dropped;
	__u64 not_capable;
	__u64 deepest_ns;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tally);
} lab_tally SEC(".maps");

enum verdict { PASS, MARK, DROP };

// Sets CE where the frame is ECN capable: 1 when it has, 0 when it is not, by hand, as the helper for it wants a socket
// buffer that knows its network header.
static __always_inline int set_ce(struct __sk_buff *skb)
{
	__u32 at = ETH_HLEN;
	__be16 type;
	__u8 b[2];

	if (bpf_skb_load_bytes(skb, ETH_HLEN - 2, &type, 2))
		return 0;
	if (type == bpf_htons(ETH_P_8021Q)) {
		if (bpf_skb_load_bytes(skb, ETH_HLEN + 2, &type, 2))
			return 0;
		at += 4;
	}
	if (bpf_skb_load_bytes(skb, at, b, 2))
		return 0;
	if (type == bpf_htons(ETH_P_IP)) {
		// The checksum covers version and TOS as one word.
		__be16 before = bpf_htons((__u16)(b[0] << 8 | b[1])), after;

		if (!(b[1] & 3))
			return 0;
		b[1] |= 3;
		after = bpf_htons((__u16)(b[0] << 8 | b[1]));
		if (bpf_l3_csum_replace(skb, at + 10, before, after, 2))
			return 0;
		return !bpf_skb_store_bytes(skb, at + 1, &b[1], 1, 0);
	}
	if (type == bpf_htons(ETH_P_IPV6)) {
		// Traffic class: four bits in the first byte, four in the second, of which the lower two are ECN.
		if (!(b[1] & 0x30))
			return 0;
		b[1] |= 0x30;
		return !bpf_skb_store_bytes(skb, at + 1, &b[1], 1, 0);
	}
	return 0;
}

SEC("tc")
int lab_egress(struct __sk_buff *skb)
{
	__u32 first = 0;
	__u32 coin = bpf_get_prandom_u32();
	__u64 now = bpf_ktime_get_ns();
	__u64 takes = (skb->len + WIRE_EXTRA_BYTES) * 8ULL * 1000000000ULL / RATE_BPS;
	struct tally *t = bpf_map_lookup_elem(&lab_tally, &first);
	enum verdict verdict = PASS;
	__u64 waits;
	int marked = 0;

	if (!t)
		return TC_ACT_OK;
	bpf_spin_lock(&t->lock);
	waits = t->free_at > now ? t->free_at - now : 0;
	if (waits + takes > ROOM_NS)
		verdict = DROP;
	else if (waits >= MARK_ALL_NS)
		verdict = MARK;
	else if (waits > MARK_FROM_NS && (coin >> 8) * (MARK_ALL_NS - MARK_FROM_NS) < (waits - MARK_FROM_NS) << 24)
		verdict = MARK;
	if (verdict == DROP) {
		t->dropped++;
	} else {
		t->frames++;
		t->bytes += skb->len;
		t->free_at = now + waits + takes;
		if (waits > t->deepest_ns)
			t->deepest_ns = waits;
	}
	bpf_spin_unlock(&t->lock);
	if (verdict == DROP)
		return TC_ACT_SHOT;
	if (verdict == MARK) {
		marked = set_ce(skb);
		__sync_fetch_and_add(marked ? &t->marked : &t->not_capable, 1);
	}
	return TC_ACT_OK;
}

char _license[] SEC("license") = "Apache-2.0";
