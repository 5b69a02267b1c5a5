/*
 * histogram.c - how long things took: see histogram.h.
 *
 * Most of what is observed is short (a wait of nothing, a query of a millisecond), so that walking the bounds from
 * the front beats a binary search.
 */
#include "base/histogram.h"

#define MS 1000LL
#define S  1000000LL

const int64_t histogram_bounds_us[HISTOGRAM_BOUNDS] = {
    100,      250,      500,   1 * MS,    2500,  5 * MS, 10 * MS, 25 * MS, 50 * MS, 100 * MS,
    250 * MS, 500 * MS, 1 * S, 2500 * MS, 5 * S, 10 * S, 30 * S,  60 * S,  300 * S,
};

void histogram_add(struct histogram *histogram, int64_t us)
{
    size_t i = 0;
    if (us < 0)
        us = 0;
    while (i < HISTOGRAM_BOUNDS && us > histogram_bounds_us[i])
        i++;
    histogram->buckets[i]++;
    histogram->sum_us += (uint64_t)us;
}

uint64_t histogram_count(const struct histogram *histogram)
{
    uint64_t count = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        count += histogram->buckets[i];
    return count;
}

void histogram_since(const struct histogram *now, const struct histogram *then,
                     struct histogram *out)
{
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        out->buckets[i] = now->buckets[i] - then->buckets[i];
    out->sum_us = now->sum_us - then->sum_us;
}

int64_t histogram_quantile_us(const struct histogram *histogram, double share)
{
    uint64_t count = histogram_count(histogram);
    uint64_t seen = 0;
    if (count == 0)
        return 0;
    for (size_t i = 0; i < HISTOGRAM_BOUNDS; i++) {
        seen += histogram->buckets[i];
        if ((double)seen >= share * (double)count)
            return histogram_bounds_us[i];
    }
    return INT64_MAX;
}
