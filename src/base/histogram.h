/*
 * histogram.h - how long things took, in fixed buckets fit for Prometheus.
 *
 * The bounds rise roughly by 2.5 from 100 us to five minutes; the last bucket has no bound.  An observation is a short
 * walk over the bounds and three additions: no clock, no allocation, no floating point.  Pure.
 */
#ifndef BASE_HISTOGRAM_H
#define BASE_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_BOUNDS  19
#define HISTOGRAM_BUCKETS (HISTOGRAM_BOUNDS + 1) /* the last one is +Inf */

/* All zeroes is an empty one. */
struct histogram {
    uint64_t buckets[HISTOGRAM_BUCKETS]; /* each for itself: not cumulative */
    uint64_t sum_us;
};

/* The upper bounds in microseconds, rising; a value equal to a bound belongs to its bucket, as Prometheus' `le` says. */
extern const int64_t histogram_bounds_us[HISTOGRAM_BOUNDS];

/* Observes one duration; a negative one counts as 0. */
void histogram_add(struct histogram *histogram, int64_t us);
/* How many were observed. */
uint64_t histogram_count(const struct histogram *histogram);
/* What `now` has seen since it stood at `then`. */
void histogram_since(const struct histogram *now, const struct histogram *then,
                     struct histogram *out);
/* The bound below or at which the share (0 to 1) of all observations lies: 0 when there are none, INT64_MAX
 * when it lies in the last bucket. */
int64_t histogram_quantile_us(const struct histogram *histogram, double share);

#endif
