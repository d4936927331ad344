/* The kernel's share of a REGISTER: read it, do not look at it, send as many bytes as a real answer has.
 *
 * floor PORT ANSWER_BYTES serves UDP and TCP on 127.0.0.1 until standard input ends. Nothing that reads and
 * answers one request per system call can cost less.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LEAST_ANSWER = 64, MOST_ANSWER = 8192, ROOM = 65536, EVENTS = 256 };

static char answer[MOST_ANSWER + 1];
static size_t answer_length;
static int poller;

static void die(const char *what) {
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void watch(int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) != 0)
        die("epoll_ctl");
}

static int bound(int type, unsigned port) {
    struct sockaddr_in local = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0)
        die("socket");
    if (bind(fd, (struct sockaddr *)&local, sizeof local) != 0)
        die("bind");
    if (type == SOCK_STREAM && listen(fd, 1024) != 0)
        die("listen");
    watch(fd);
    return fd;
}

/* A canned 200 OK of exactly the wanted size, padded in the Server header. */
static void can(size_t wanted) {
    static const char head[] = "SIP/2.0 200 OK\r\nServer: ", tail[] = "\r\nContent-Length: 0\r\n\r\n";
    size_t padding = wanted - (sizeof head - 1) - (sizeof tail - 1);

    answer_length = wanted;
    memcpy(answer, head, sizeof head - 1);
    memset(answer + sizeof head - 1, 'x', padding);
    memcpy(answer + sizeof head - 1 + padding, tail, sizeof tail - 1);
}

static void serve_datagrams(int fd) {
    static char request[ROOM];
    struct sockaddr_in peer;
    socklen_t room = sizeof peer;

    while (recvfrom(fd, request, sizeof request, 0, (struct sockaddr *)&peer, &room) >= 0)
        sendto(fd, answer, answer_length, 0, (struct sockaddr *)&peer, room);
}

/* Every client has one request in flight, so what one read brings is one request. */
static void serve_stream(int fd) {
    static char request[ROOM];

    if (recv(fd, request, sizeof request, 0) <= 0 || send(fd, answer, answer_length, MSG_NOSIGNAL) < 0)
        close(fd);
}

int main(int count, char **words) {
    struct epoll_event events[EVENTS];
    int datagrams, listener;
    long port = count == 3 ? strtol(words[1], NULL, 10) : 0, wanted = count == 3 ? strtol(words[2], NULL, 10) : 0;

    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (port < 1 || port > 65535 || wanted < LEAST_ANSWER || wanted > MOST_ANSWER) {
        fprintf(stderr, "usage: floor PORT ANSWER_BYTES\n");
        return 2;
    }
    can((size_t)wanted);
    poller = epoll_create1(EPOLL_CLOEXEC);
    datagrams = bound(SOCK_DGRAM, (unsigned)port);
    listener = bound(SOCK_STREAM, (unsigned)port);
    watch(STDIN_FILENO);
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS, -1);

        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;

            if (fd == STDIN_FILENO)
                return 0;
            if (fd == datagrams)
                serve_datagrams(fd);
            else if (fd == listener)
                for (int new; (new = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;)
                    watch(new);
            else
                serve_stream(fd);
        }
    }
}
