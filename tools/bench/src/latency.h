/* A histogram of microseconds: exact below 64, at most 3.2 % too high above. */
#ifndef BENCH_LATENCY_H
#define BENCH_LATENCY_H

#include <stdint.h>

enum { LATENCY_BUCKETS = 64 + 32 * 40 };

struct latency {
    uint64_t count;
    uint64_t largest;
    uint32_t buckets[LATENCY_BUCKETS];
};

void latency_add(struct latency *latency, uint64_t microseconds);

/* The value that `share` (0..1) of the recorded ones do not exceed; 0 when nothing was recorded. */
uint64_t latency_at(const struct latency *latency, double share);

#endif
