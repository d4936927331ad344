#include "options.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_CONNECTIONS = 19900, MOST_PHONES = 4000000, MOST_OPENING_RATE = 100000, MOST_SOURCES = 250 };

static void refuse(const char *reason, const char *value) {
    fprintf(stderr, "load: %s: %s\n", reason, value);
    exit(2);
}

static unsigned number(const char *text, unsigned least, unsigned most) {
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    if (*text == 0 || *end != 0 || value < least || value > most)
        refuse("number out of bounds", text);
    return (unsigned)value;
}

/* This program makes load; it must never make it for somebody else's machine. */
static struct sockaddr_in loopback(const char *host) {
    struct sockaddr_in address = {.sin_family = AF_INET};

    if (inet_pton(AF_INET, host, &address.sin_addr) != 1 || ntohl(address.sin_addr.s_addr) >> 24 != 127)
        refuse("only loopback addresses may be loaded, or loaded from", host);
    return address;
}

static struct sockaddr_in loopback_port(const char *text) {
    struct sockaddr_in server;
    const char *colon = strrchr(text, ':');
    char host[INET_ADDRSTRLEN] = "";

    if (colon == NULL || (size_t)(colon - text) >= sizeof host)
        refuse("the server must be given as 127.x.x.x:port", text);
    memcpy(host, text, (size_t)(colon - text));
    server = loopback(host);
    server.sin_port = htons((uint16_t)number(colon + 1, 1, 65535));
    return server;
}

struct options options_read(int count, char **words) {
    enum {
        SERVER = 1, SOURCE, SOURCES, TRANSPORT, CONNECTIONS, PHONES, FIRST, EXPIRES, OPENING_RATE, DOMAIN, PASSWORD, DIGEST, FRESH,
        CANNED
    };
    static const struct option known[] = {
        {"server", required_argument, NULL, SERVER},     {"source", required_argument, NULL, SOURCE},
        {"sources", required_argument, NULL, SOURCES},   {"transport", required_argument, NULL, TRANSPORT},
        {"connections", required_argument, NULL, CONNECTIONS}, {"phones", required_argument, NULL, PHONES},
        {"opening-rate", required_argument, NULL, OPENING_RATE},
        {"first", required_argument, NULL, FIRST},       {"expires", required_argument, NULL, EXPIRES},
        {"domain", required_argument, NULL, DOMAIN},     {"password", required_argument, NULL, PASSWORD},
        {"digest", no_argument, NULL, DIGEST},           {"fresh", no_argument, NULL, FRESH},
        {"canned", no_argument, NULL, CANNED},           {NULL, 0, NULL, 0},
    };
    struct options options = {
        .connections = 100, .phones = 100, .sources = 1, .expires = 3600, .salt = (unsigned)getpid(),
        .domain = "bench.test", .password = "bench"};

    for (int option; (option = getopt_long(count, words, "", known, NULL)) != -1;) {
        switch (option) {
        case SERVER: options.server = loopback_port(optarg); break;
        case SOURCE: options.source = loopback(optarg); break;
        case SOURCES: options.sources = number(optarg, 1, MOST_SOURCES); break;
        case TRANSPORT:
            if (strcmp(optarg, "tcp") != 0 && strcmp(optarg, "udp") != 0)
                refuse("the transport is tcp or udp", optarg);
            options.tcp = strcmp(optarg, "tcp") == 0;
            break;
        case CONNECTIONS: options.connections = number(optarg, 1, MOST_CONNECTIONS); break;
        case PHONES: options.phones = number(optarg, 1, MOST_PHONES); break;
        case FIRST: options.first = number(optarg, 0, MOST_PHONES); break;
        case EXPIRES: options.expires = number(optarg, 60, 86400); break;
        case OPENING_RATE: options.opening_rate = number(optarg, 0, MOST_OPENING_RATE); break;
        case DOMAIN: options.domain = optarg; break;
        case PASSWORD: options.password = optarg; break;
        case DIGEST: options.digest = true; break;
        case FRESH: options.fresh = true; break;
        case CANNED: options.canned = true; break;
        default: exit(2);
        }
    }
    if (optind < count)
        refuse("unknown word", words[optind]);
    if (options.server.sin_port == 0)
        refuse("missing", "--server");
    if (options.phones % options.connections != 0)
        refuse("the phones must spread evenly over the connections", "--phones");
    if ((ntohl(options.source.sin_addr.s_addr) & 0xff) + options.sources > 255)
        refuse("the last address must end in 254 or less", "--sources");
    return options;
}
