/* One address of record: the REGISTER it sends and what it makes of the answer (RFC 3261 §10.2, RFC 7616). */
#ifndef BENCH_PHONE_H
#define BENCH_PHONE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "options.h"

enum { REQUEST_ROOM = 2048 };

struct phone {
    uint64_t number;
    uint32_t cseq;
    uint32_t nonce_count;
    char *credentials; /* realm, nonce, opaque as they go into Authorization; NULL before the first challenge */
    char *nonce;
    char *realm;
};

struct answer {
    size_t length; /* of the whole message; 0 while it is incomplete, SIZE_MAX when it can't be framed */
    int status;    /* 0 when it is a request */
    uint32_t cseq; /* 0 when there is none */
};

/* Write the phone's next REGISTER (with the next CSeq and nonce count), sent from `local`, to `text`; returns its length. */
size_t phone_request(struct phone *phone, const struct options *options, const struct sockaddr_in *local,
                     char text[REQUEST_ROOM]);

/* Make the next request the same, byte for byte, as the last one: a retransmission (RFC 3261 §17.1.2). */
void phone_step_back(struct phone *phone);

/* Take the MD5 challenge out of a 401; false when it holds none. */
bool phone_challenged(struct phone *phone, const char *text, size_t length);

/* Forget who the phone was and become `number`, unregistered; a known nonce is kept. */
void phone_become(struct phone *phone, uint64_t number);

/* Look at the first message in `text`, which may go on behind it or end before. */
struct answer answer_read(const char *text, size_t length, bool stream);

#endif
