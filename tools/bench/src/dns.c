// Asks a name server on loopback as fast as it answers, and counts what comes back.
//
//   dns ADDRESS PORT SECONDS WHAT < queries
//
// Queries come as 2 bytes of length, big-endian, and the message; they are taken in turn. WHAT is "letters": the name's
// letters are each time in another case; "names": also its first label is another one; "subnets": the letters, and the
// last two bytes of the query, where a client's /24 ends. So many queries are in flight as IN_FLIGHT says; what is not
// answered in WAIT_MS is given up. Prints "seconds sent answered wrong lost bytes": wrong is what is truncated or has
// another error than NXDOMAIN.

#define _GNU_SOURCE

#include <arpa/inet.h>
#include <ctype.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    SOCKETS = 8,
    PER_SOCKET = 32,
    IN_FLIGHT = SOCKETS * PER_SOCKET,
    QUERY_BYTES = 512,
    ANSWER_BYTES = 4096,
    MOST_QUERIES = 64,
    HEADER_BYTES = 12,
    WAIT_MS = 200,
    NXDOMAIN = 3,
};

struct query {
    size_t length;
    uint8_t data[QUERY_BYTES];
};

static struct query queries[MOST_QUERIES];
static size_t query_count;
static uint64_t seed = 0x9e3779b97f4a7c15;
static uint64_t sent, answered, wrong, lost, answer_bytes;

static uint64_t random_bits(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void read_queries(void) {
    uint8_t length[2];
    while (fread(length, 1, 2, stdin) == 2) {
        struct query *query = &queries[query_count];
        query->length = (size_t)length[0] << 8 | length[1];
        if (query_count == MOST_QUERIES || query->length > QUERY_BYTES || query->length < HEADER_BYTES + 5 ||
            fread(query->data, 1, query->length, stdin) != query->length) {
            fputs("queries are cut or too many\n", stderr);
            exit(1);
        }
        query_count++;
    }
    if (!query_count) {
        fputs("no queries\n", stderr);
        exit(1);
    }
}

// Change the letters' case, and the first label when it is to be another one.
static void vary_name(uint8_t *data, size_t length, bool another) {
    uint64_t bits = random_bits();
    size_t first_end = HEADER_BYTES + 1 + data[HEADER_BYTES];
    for (size_t at = HEADER_BYTES; at < length && data[at];) {
        size_t end = at + 1 + data[at];
        for (at++; at < end && at < length; at++) {
            if (another && at < first_end) {
                data[at] = (uint8_t)('a' + (bits >> 8) % 26);
                bits = random_bits();
            }
            if (isalpha(data[at]))
                data[at] = (uint8_t)((data[at] & ~0x20) | (bits & 1 ? 0x20 : 0));
            bits = bits >> 1 | bits << 63;
        }
    }
}

static void prepare(struct query *query, char what) {
    static size_t next;
    *query = queries[next++ % query_count];
    uint64_t bits = random_bits();
    query->data[0] = (uint8_t)bits;
    query->data[1] = (uint8_t)(bits >> 8);
    vary_name(query->data, query->length, what == 'n');
    if (what == 's') {
        query->data[query->length - 2] = (uint8_t)(bits >> 16);
        query->data[query->length - 1] = (uint8_t)(bits >> 24);
    }
}

static unsigned int ask(int fd, unsigned int count, char what) {
    static struct query asked[PER_SOCKET];
    struct mmsghdr headers[PER_SOCKET];
    struct iovec parts[PER_SOCKET];
    memset(headers, 0, sizeof headers);
    for (unsigned int at = 0; at < count; at++) {
        prepare(&asked[at], what);
        parts[at] = (struct iovec){asked[at].data, asked[at].length};
        headers[at].msg_hdr.msg_iov = &parts[at];
        headers[at].msg_hdr.msg_iovlen = 1;
    }
    int done = sendmmsg(fd, headers, count, 0);
    if (done < 0)
        return 0;
    sent += (uint64_t)done;
    return (unsigned int)done;
}

static unsigned int hear(int fd) {
    static uint8_t room[PER_SOCKET][ANSWER_BYTES];
    struct mmsghdr headers[PER_SOCKET];
    struct iovec parts[PER_SOCKET];
    memset(headers, 0, sizeof headers);
    for (unsigned int at = 0; at < PER_SOCKET; at++) {
        parts[at] = (struct iovec){room[at], ANSWER_BYTES};
        headers[at].msg_hdr.msg_iov = &parts[at];
        headers[at].msg_hdr.msg_iovlen = 1;
    }
    int got = recvmmsg(fd, headers, PER_SOCKET, MSG_DONTWAIT, NULL);
    for (int at = 0; at < got; at++) {
        const uint8_t *data = room[at];
        uint8_t rcode = data[3] & 0xF;
        bool good = headers[at].msg_len >= HEADER_BYTES && data[2] & 0x80 && !(data[2] & 2) && (!rcode || rcode == NXDOMAIN);
        answered += good;
        wrong += !good;
        answer_bytes += headers[at].msg_len;
    }
    return got > 0 ? (unsigned int)got : 0;
}

static int connected(const char *address, const char *port) {
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    if (inet_pton(AF_INET, address, &server.sin_addr) != 1 || ntohl(server.sin_addr.s_addr) >> 24 != 127) {
        fputs("only an address of 127.0.0.0/8 is asked\n", stderr);
        exit(1);
    }
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&server, sizeof server))
        fail("socket");
    return fd;
}

int main(int count, char **words) {
    if (count != 5) {
        fputs("dns ADDRESS PORT SECONDS letters|names|subnets < queries\n", stderr);
        return 1;
    }
    char what = words[4][0];
    struct pollfd fds[SOCKETS];
    unsigned int waiting[SOCKETS] = {0};
    read_queries();
    for (int at = 0; at < SOCKETS; at++)
        fds[at] = (struct pollfd){connected(words[1], words[2]), POLLIN, 0};
    double began = now(), ends = began + atof(words[3]);
    while (now() < ends) {
        for (int at = 0; at < SOCKETS; at++) {
            if (waiting[at] <= PER_SOCKET / 2)
                waiting[at] += ask(fds[at].fd, PER_SOCKET - waiting[at], what);
        }
        int ready = poll(fds, SOCKETS, WAIT_MS);
        for (int at = 0; at < SOCKETS; at++) {
            if (!ready) {
                lost += waiting[at];
                waiting[at] = 0;
            } else if (fds[at].revents) {
                unsigned int got = hear(fds[at].fd);
                waiting[at] -= got < waiting[at] ? got : waiting[at];
            }
        }
    }
    printf("%.6f %llu %llu %llu %llu %llu\n", now() - began, (unsigned long long)sent, (unsigned long long)answered,
           (unsigned long long)wrong, (unsigned long long)lost, (unsigned long long)answer_bytes);
    return 0;
}
