/* What the generator is asked to do; read once from the command line. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

struct options {
    struct sockaddr_in server; /* always in 127.0.0.0/8 */
    struct sockaddr_in source; /* where connections come from, in 127.0.0.0/8 too; family 0: as the kernel chooses */
    unsigned sources;          /* so many addresses, the first one included, take turns */
    bool tcp;
    bool digest; /* a 401 is answered; without it a 401 is a failure */
    bool fresh;  /* every request is the first one of a new address of record */
    bool canned; /* the server does not read: any 200 will do, credentials are made up */
    unsigned connections;
    unsigned phones; /* addresses of record, spread evenly over the connections */
    unsigned first;  /* number of the first one */
    unsigned expires;
    unsigned opening_rate; /* connections opened per second, planned evenly; 0: a few at a time, as fast as it goes */
    unsigned salt; /* makes the branches of this process its own */
    const char *domain;
    const char *password;
};

/* Read the command line; anything out of bounds ends the process with status 2 and a reason. */
struct options options_read(int count, char **words);

#endif
