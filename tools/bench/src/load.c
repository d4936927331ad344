/* Phones that register over and over on loopback, and a count of what came back.
 *
 * All phones register once, then one line of JSON says so, and the connections stay open. With an opening rate
 * connections are planned evenly too, and latency counts from the planned opening to the 200. Every line
 * "run SECONDS REQUESTS RATE" on standard input makes one measured run and one more line of JSON; the end of
 * standard input ends the program. Each connection has one request in flight. RATE 0 is a closed loop: the next
 * request leaves when the answer is there. Otherwise requests are planned RATE per second, evenly, and latency
 * counts from the planned moment, so that a server that stalls can't hide it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "options.h"
#include "phone.h"
#include "tally.h"

#define SECOND UINT64_C(1000000000)
#define RETRANSMIT_AFTER (SECOND / 2) /* T1, RFC 3261 §17.1.2.2 */
#define GIVE_UP_AFTER (8 * SECOND)
enum { OPENING_AT_ONCE = 128, ROOM = 65536, EVENTS = 256 };
static const double MOST_SECONDS = 600, MOST_REQUESTS = 100e6, MOST_RATE = 1e6;

struct connection {
    int fd; /* -1: closed */
    struct sockaddr_in local;
    bool waiting;
    bool connecting;
    bool challenged; /* the request in flight answers a challenge */
    unsigned rank;   /* of the next phone among this connection's */
    unsigned due;    /* planned requests that wait for the one in flight */
    uint64_t turn;   /* open loop: number of the next planned request */
    uint64_t planned_at, sent_at, last_sent_at;
    struct phone *phone; /* whose request is in flight */
    char *partial;
    size_t partial_length;
};

static struct options options;
static struct connection *connections;
static struct phone *phones;
static struct tally tally;
static int poller;

static bool opening;
static unsigned next_to_open, active;
static uint64_t begun_at, ends_at, limit, started, planned;
static double rate;

static uint64_t clock_now(void) {
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

static void die(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void advance(struct connection *connection, uint64_t now);

static void lose(struct connection *connection) {
    if (connection->fd < 0)
        return;
    close(connection->fd);
    connection->fd = -1;
    tally.lost++;
    if (connection->waiting || connection->connecting)
        tally.failed++;
    tally.failed += connection->due;
    connection->due = 0;
    connection->waiting = connection->connecting = false;
}

static void transmit(struct connection *connection, uint64_t now) {
    char text[REQUEST_ROOM];
    size_t length = phone_request(connection->phone, &options, &connection->local, text);
    ssize_t gone = send(connection->fd, text, length, MSG_NOSIGNAL);

    connection->last_sent_at = now;
    connection->waiting = true;
    tally.sent++;
    tally.request_bytes += length;
    if (gone != (ssize_t)length && options.tcp)
        shutdown(connection->fd, SHUT_RDWR); /* its end is noticed where every other end is */
}

/* Send the next phone's REGISTER. */
static void begin(struct connection *connection, uint64_t planned_at, uint64_t now) {
    unsigned index = (unsigned)(connection - connections);
    unsigned share = options.phones / options.connections;

    connection->phone = &phones[index + (connection->rank % share) * options.connections];
    if (options.fresh && connection->rank >= share)
        phone_become(connection->phone, connection->phone->number + options.phones);
    connection->rank++;
    connection->challenged = false;
    connection->planned_at = planned_at;
    connection->sent_at = now;
    started++;
    transmit(connection, now);
}

static uint64_t plan(uint64_t turn) { return begun_at + (uint64_t)((double)turn * 1e9 / rate); }

/* When the connection's registration was to begin. */
static uint64_t opening_planned_at(const struct connection *connection, uint64_t now) {
    return rate > 0 && connection->rank == 0 ? plan((uint64_t)(connection - connections)) : now;
}

/* The connection is free: give it its next request, or take it out of the phase. */
static void advance(struct connection *connection, uint64_t now) {
    if (connection->fd >= 0 && opening && connection->rank < options.phones / options.connections)
        return begin(connection, opening_planned_at(connection, now), now);
    if (connection->fd >= 0 && !opening && rate > 0) {
        if (connection->due > 0) {
            connection->due--;
            begin(connection, plan(connection->turn), now);
            connection->turn += options.connections;
        }
        return;
    }
    if (connection->fd >= 0 && !opening && now < ends_at && started < limit)
        return begin(connection, now, now);
    active--;
}

/* A new socket. Its address may be given; its port is chosen at connect, where other servers' ports do not count. */
static int new_socket(unsigned index) {
    int fd = socket(AF_INET, (options.tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in source = options.source;

    if (fd < 0)
        die("socket");
    if (source.sin_family == 0)
        return fd;
    source.sin_addr.s_addr = htonl(ntohl(source.sin_addr.s_addr) + index % options.sources);
    if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) != 0 ||
        bind(fd, (const struct sockaddr *)&source, sizeof source) != 0)
        die("bind");
    return fd;
}

static void open_connection(struct connection *connection, uint64_t now) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    socklen_t room = sizeof connection->local;

    connection->fd = new_socket((unsigned)(connection - connections));
    connection->sent_at = now;
    if (connect(connection->fd, (struct sockaddr *)&options.server, sizeof options.server) != 0) {
        if (errno != EINPROGRESS)
            die("connect");
        connection->connecting = true;
        event.events = EPOLLOUT;
    }
    if (getsockname(connection->fd, (struct sockaddr *)&connection->local, &room) != 0)
        die("getsockname");
    if (epoll_ctl(poller, EPOLL_CTL_ADD, connection->fd, &event) != 0)
        die("epoll_ctl");
    active++;
    if (!connection->connecting)
        advance(connection, now);
}

static void connected(struct connection *connection, uint64_t now) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    int error = 0;
    socklen_t room = sizeof error;

    getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &room);
    if (error != 0) {
        lose(connection);
    } else {
        connection->connecting = false;
        epoll_ctl(poller, EPOLL_CTL_MOD, connection->fd, &event);
    }
    advance(connection, now);
}

static void answered(struct connection *connection, const struct answer *answer, const char *text, uint64_t now) {
    if (answer->status == 0 || !connection->waiting)
        return; /* a request of the server's, or an answer to a retransmission */
    if (!options.canned && answer->cseq != connection->phone->cseq)
        return;
    if (answer->status < 200)
        return;
    connection->waiting = false;
    tally.statuses[answer->status < TALLY_STATUSES ? answer->status : 0]++;
    tally.answer_bytes += answer->length;
    if (answer->status == 401 && options.digest && !connection->challenged &&
        phone_challenged(connection->phone, text, answer->length)) {
        tally.challenged++;
        connection->challenged = true;
        return transmit(connection, now);
    }
    if (answer->status == 200)
        tally.answered++;
    else
        tally.failed++;
    latency_add(&tally.latency, (now - connection->planned_at) / 1000);
    advance(connection, now);
}

static void keep_partial(struct connection *connection, const char *text, size_t length) {
    if (length > 0 && connection->partial == NULL && (connection->partial = malloc(ROOM)) == NULL)
        die("malloc");
    if (length > 0)
        memmove(connection->partial, text, length);
    connection->partial_length = length;
}

static void take_stream(struct connection *connection, char *text, size_t length, uint64_t now) {
    while (length > 0) {
        struct answer answer;

        if (*text == '\r' || *text == '\n') {
            text++, length--;
            continue;
        }
        answer = answer_read(text, length, true);
        if (answer.length == 0)
            break;
        if (answer.length == SIZE_MAX) {
            lose(connection);
            return advance(connection, now);
        }
        answered(connection, &answer, text, now);
        text += answer.length, length -= answer.length;
    }
    keep_partial(connection, text, length);
}

static void readable(struct connection *connection, uint64_t now) {
    static char text[2 * ROOM];
    size_t kept = connection->partial_length;
    ssize_t got;

    if (kept > 0)
        memcpy(text, connection->partial, kept);
    got = recv(connection->fd, text + kept, ROOM - kept, 0);
    if (got < 0 && (errno == EAGAIN || (!options.tcp && errno == ECONNREFUSED)))
        return;
    if (options.tcp && got <= 0) {
        bool busy = connection->waiting;

        lose(connection);
        if (busy)
            advance(connection, now);
        return;
    }
    if (options.tcp)
        return take_stream(connection, text, kept + (size_t)got, now);
    if (got > 0) {
        struct answer answer = answer_read(text, (size_t)got, false);

        if (answer.length > 0 && answer.length != SIZE_MAX)
            answered(connection, &answer, text, now);
    }
}

/* Retransmit over UDP, give up on what was never answered. */
static void look_after(uint64_t now) {
    for (unsigned i = 0; i < options.connections; i++) {
        struct connection *connection = &connections[i];

        if (!connection->waiting && !connection->connecting)
            continue;
        if (now - connection->sent_at > GIVE_UP_AFTER) {
            tally.unanswered++;
            if (options.tcp) {
                lose(connection);
            } else {
                connection->waiting = false;
                tally.failed++;
            }
            advance(connection, now);
        } else if (!options.tcp && now - connection->last_sent_at > RETRANSMIT_AFTER) {
            tally.retransmitted++;
            phone_step_back(connection->phone);
            transmit(connection, now);
        }
    }
}

/* Hand out what is due; returns nanoseconds until the next planned request. */
static uint64_t follow_plan(uint64_t now) {
    while (planned < limit && plan(planned) <= now) {
        struct connection *connection = &connections[planned++ % options.connections];

        if (connection->fd < 0) {
            tally.failed++;
            continue;
        }
        connection->due++;
        if (!connection->waiting)
            advance(connection, now);
    }
    return planned < limit ? plan(planned) - now : SECOND / 10;
}

static bool open_loop_over(void) {
    if (planned < limit)
        return false;
    for (unsigned i = 0; i < options.connections; i++)
        if (connections[i].waiting)
            return false;
    return true;
}

/* Open what may be opened; returns nanoseconds until the next planned opening. */
static uint64_t open_more(uint64_t now) {
    while (next_to_open < options.connections && (rate > 0 ? plan(next_to_open) <= now : active < OPENING_AT_ONCE))
        open_connection(&connections[next_to_open++], now);
    return rate > 0 && next_to_open < options.connections ? plan(next_to_open) - now : SECOND / 10;
}

static bool phase_over(void) {
    if (opening)
        return active == 0 && next_to_open == options.connections;
    return rate > 0 ? open_loop_over() : active == 0;
}

static void turn_until_over(void) {
    static struct epoll_event events[EVENTS];
    uint64_t looked_at = clock_now();

    while (!phase_over()) {
        struct timespec wait = {0};
        uint64_t now = clock_now(), left = SECOND / 10;
        int count;

        if (opening)
            left = open_more(now);
        else if (rate > 0)
            left = follow_plan(now);
        wait.tv_nsec = (long)(left < SECOND / 10 ? left : SECOND / 10);
        count = epoll_pwait2(poller, events, EVENTS, &wait, NULL);
        now = clock_now();
        for (int i = 0; i < count; i++) {
            struct connection *connection = events[i].data.ptr;

            if (connection->connecting)
                connected(connection, now);
            else if (connection->fd >= 0)
                readable(connection, now);
        }
        if (now - looked_at > SECOND / 10)
            look_after(looked_at = now);
    }
}

static void register_all(void) {
    begun_at = clock_now();
    rate = options.opening_rate;
    opening = true;
    turn_until_over();
    opening = false;
    tally_report(&tally, "ready", (double)(clock_now() - begun_at) / 1e9);
}

static void run(double seconds, double requests) {
    memset(&tally, 0, sizeof tally);
    started = planned = 0;
    begun_at = clock_now();
    ends_at = begun_at + (uint64_t)(seconds * 1e9);
    limit = (uint64_t)(requests > 0 ? requests : MOST_REQUESTS);
    if (rate > 0 && seconds * rate < (double)limit)
        limit = (uint64_t)(seconds * rate);
    active = 0;
    for (unsigned i = 0; i < options.connections; i++) {
        connections[i].due = 0;
        connections[i].turn = i;
        active += rate == 0;
        if (rate == 0)
            advance(&connections[i], begun_at);
    }
    turn_until_over();
    tally_report(&tally, "done", (double)(clock_now() - begun_at) / 1e9);
}

static void obey(void) {
    char line[256];

    while (fgets(line, sizeof line, stdin) != NULL) {
        double seconds, requests;

        if (sscanf(line, "run %lf %lf %lf", &seconds, &requests, &rate) != 3 || !(seconds > 0) ||
            !(seconds <= MOST_SECONDS) || !(requests >= 0) || !(requests <= MOST_REQUESTS) || !(rate >= 0) ||
            !(rate <= MOST_RATE)) {
            fprintf(stderr, "load: out of bounds or not \"run SECONDS REQUESTS RATE\": %s", line);
            exit(2);
        }
        run(seconds, requests);
    }
}

int main(int count, char **words) {
    static const char made_up[] = "WWW-Authenticate: Digest realm=\"bench.test\", "
                                  "nonce=\"Zm9yIGEga2VybmVsIGZsb29yIG9ubHksIHRoYXQgcmVhZHMgbm90aGluZyBhdCBhbGw\"";

    prctl(PR_SET_PDEATHSIG, SIGTERM);
    options = options_read(count, words);
    connections = calloc(options.connections, sizeof *connections);
    phones = calloc(options.phones, sizeof *phones);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (connections == NULL || phones == NULL || poller < 0)
        die("start");
    for (unsigned i = 0; i < options.connections; i++)
        connections[i].fd = -1;
    for (unsigned i = 0; i < options.phones; i++) {
        phones[i].number = options.first + i;
        if (options.canned && options.digest)
            phone_challenged(&phones[i], made_up, sizeof made_up - 1);
    }
    register_all();
    obey();
    return 0;
}
