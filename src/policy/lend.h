/*
 * lend.h - one-way lending between the pools of one budget (contract 4, `borrow`).
 *
 * A pool with reserved connections whose waiter is kept from another connection by the cap alone takes the place of an idle
 * connection of a pool without any: that one is closed, and its place is nobody else's from the server's EOF until the waiter's
 * login takes it or no waiter needs it any more.  Pure, as pool.h is; only pool.c calls it.
 */
#ifndef POLICY_LEND_H
#define POLICY_LEND_H

#include "policy/pool.h"

/* Whether the pool may have the place of another's idle connection at all, be there one or not. */
bool lend_may_borrow(const struct pool *pool);
/* Places that other pools are clearing for it, or have: a close that began before `patience_us` ago is not waited for. */
int lend_coming(const struct pool *pool, int64_t now_us, int64_t patience_us);
/* The longest idle connection that another pool can do without; NULL: none. */
struct pool_backend *lend_find(const struct pool *pool);
/* It is CLOSING from now on, for that pool. */
void lend_begin(struct pool_backend *backend, struct pool *borrower, int64_t now_us);
/* The server has let go of it, and its place has been given back: it is kept for the borrower. */
void lend_end(const struct pool_backend *backend);
/* Gives back what is kept for the pool beyond `wanted` places. */
void lend_settle(struct pool *pool, int wanted);

#endif
