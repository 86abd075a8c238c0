/* What DPDK offers only as static inlines and macros, one line each; and proof that layout.rs is right. */

#include <stddef.h>

#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_mempool.h>
#include <rte_ring.h>

#define FITS(field, at) \
	_Static_assert(offsetof(struct rte_mbuf, field) == (at), "rte_mbuf." #field " moved: correct layout.rs")
FITS(buf_addr, MBUF_BUF_ADDR);
FITS(data_off, MBUF_DATA_OFF);
FITS(pkt_len, MBUF_PKT_LEN);
FITS(data_len, MBUF_DATA_LEN);
FITS(hash.usr, MBUF_USER);
FITS(buf_len, MBUF_BUF_LEN);
FITS(pool, MBUF_POOL);
_Static_assert(sizeof(struct rte_mbuf) == MBUF_BYTES, "struct rte_mbuf changed size: correct layout.rs");
_Static_assert(RTE_PKTMBUF_HEADROOM == MBUF_HEADROOM_BYTES, "headroom changed: correct layout.rs");

int rs_errno(void) { return rte_errno; }

unsigned rs_lcore_id(void) { return rte_lcore_id(); }

/* As rte_pktmbuf_pool_create, whose objects each lie within one page, for memory that no device reads by itself. */
struct rte_mempool *rs_pktmbuf_pool_create_packed(const char *name, unsigned n, unsigned cache, uint16_t priv_size,
						  uint16_t data_room_size, int socket_id)
{
	struct rte_pktmbuf_pool_private sizes = {
		.mbuf_data_room_size = data_room_size,
		.mbuf_priv_size = priv_size,
	};
	unsigned object = sizeof(struct rte_mbuf) + priv_size + data_room_size;
	struct rte_mempool *pool;
	int rc;

	pool = rte_mempool_create_empty(name, n, object, cache, sizeof(sizes), socket_id,
					RTE_MEMPOOL_F_NO_IOVA_CONTIG);
	if (pool == NULL)
		return NULL;
	rc = rte_mempool_set_ops_byname(pool, rte_mbuf_best_mempool_ops(), NULL);
	if (rc == 0) {
		rte_pktmbuf_pool_init(pool, &sizes);
		rc = rte_mempool_populate_default(pool);
	}
	if (rc < 0) {
		rte_mempool_free(pool);
		rte_errno = -rc;
		return NULL;
	}
	rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
	return pool;
}

int rs_mempool_get_bulk(struct rte_mempool *pool, void **objects, unsigned n)
{
	return rte_mempool_get_bulk(pool, objects, n);
}

void rs_mempool_put_bulk(struct rte_mempool *pool, void *const *objects, unsigned n)
{
	rte_mempool_put_bulk(pool, objects, n);
}

unsigned rs_ring_sp_enqueue_burst(struct rte_ring *ring, void *const *objects, unsigned n)
{
	return rte_ring_sp_enqueue_burst(ring, objects, n, NULL);
}

unsigned rs_ring_sc_dequeue_burst(struct rte_ring *ring, void **objects, unsigned n)
{
	return rte_ring_sc_dequeue_burst(ring, objects, n, NULL);
}

unsigned rs_ring_count(const struct rte_ring *ring) { return rte_ring_count(ring); }

unsigned rs_ring_free_count(const struct rte_ring *ring) { return rte_ring_free_count(ring); }
