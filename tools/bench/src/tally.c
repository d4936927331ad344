#include "tally.h"

#include <stdio.h>

static double mean(uint64_t sum, uint64_t count) { return count > 0 ? (double)sum / (double)count : 0.0; }

void tally_report(const struct tally *tally, const char *phase, double seconds) {
    const char *comma = "";

    printf("{\"phase\": \"%s\", \"seconds\": %.6f, \"sent\": %lu, \"answered\": %lu, \"failed\": %lu, "
           "\"challenged\": %lu, \"unanswered\": %lu, \"retransmitted\": %lu, \"lost\": %lu, ",
           phase, seconds, tally->sent, tally->answered, tally->failed, tally->challenged, tally->unanswered,
           tally->retransmitted, tally->lost);
    printf("\"request_bytes\": %.1f, \"answer_bytes\": %.1f, \"p50_us\": %lu, \"p99_us\": %lu, \"p999_us\": %lu, "
           "\"largest_us\": %lu, \"statuses\": {",
           mean(tally->request_bytes, tally->sent),
           mean(tally->answer_bytes, tally->answered + tally->failed + tally->challenged),
           latency_at(&tally->latency, 0.5), latency_at(&tally->latency, 0.99), latency_at(&tally->latency, 0.999),
           tally->latency.largest);
    for (unsigned status = 0; status < TALLY_STATUSES; status++)
        if (tally->statuses[status] > 0) {
            printf("%s\"%u\": %lu", comma, status, tally->statuses[status]);
            comma = ", ";
        }
    printf("}}\n");
    fflush(stdout);
}
