#include "latency.h"

/* Values up to 63 have a bucket each; above, every power of two is cut into 32. */
static unsigned bucket_of(uint64_t value) {
    unsigned power;

    if (value < 64)
        return (unsigned)value;
    power = 63 - (unsigned)__builtin_clzll(value);
    if (power > 45)
        return LATENCY_BUCKETS - 1;
    return 64 + 32 * (power - 6) + (unsigned)(value >> (power - 5) & 31);
}

static uint64_t top_of(unsigned bucket) {
    unsigned power;

    if (bucket < 64)
        return bucket;
    power = (bucket - 64) / 32 + 6;
    return ((uint64_t)1 << power) + ((uint64_t)((bucket - 64) % 32 + 1) << (power - 5)) - 1;
}

void latency_add(struct latency *latency, uint64_t microseconds) {
    latency->count++;
    latency->buckets[bucket_of(microseconds)]++;
    if (microseconds > latency->largest)
        latency->largest = microseconds;
}

uint64_t latency_at(const struct latency *latency, double share) {
    uint64_t wanted = (uint64_t)(share * (double)latency->count + 0.5);
    uint64_t seen = 0;

    if (latency->count == 0)
        return 0;
    for (unsigned bucket = 0; bucket < LATENCY_BUCKETS; bucket++) {
        seen += latency->buckets[bucket];
        if (seen >= wanted && seen > 0)
            return top_of(bucket) < latency->largest ? top_of(bucket) : latency->largest;
    }
    return latency->largest;
}
