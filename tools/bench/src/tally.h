/* What one phase of the generator saw, and the line of JSON that says so. */
#ifndef BENCH_TALLY_H
#define BENCH_TALLY_H

#include <stdint.h>

#include "latency.h"

enum { TALLY_STATUSES = 700 };

struct tally {
    uint64_t sent, answered, failed, challenged, unanswered, retransmitted, lost, request_bytes, answer_bytes;
    uint64_t statuses[TALLY_STATUSES];
    struct latency latency;
};

/* Print the line; `answered` counts 200s, latencies are in microseconds. */
void tally_report(const struct tally *tally, const char *phase, double seconds);

#endif
