#define _GNU_SOURCE
#include "phone.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "md5.h"

struct span {
    const char *at; /* NULL when there is nothing */
    size_t length;
};

static void hash_of(char hex[33], const char *format, ...) {
    char text[REQUEST_ROOM];
    va_list values;
    int length;

    va_start(values, format);
    length = vsnprintf(text, sizeof text, format, values);
    va_end(values);
    if (length < 0 || (size_t)length >= sizeof text)
        abort();
    md5_hex(text, (size_t)length, hex);
}

/* RFC 7616 §3.4.1 with qop=auth; the client nonce needs no secrecy here. */
static size_t authorization(struct phone *phone, const struct options *options, char *text, size_t room) {
    char secret[33], asked[33], response[33];

    phone->nonce_count++;
    hash_of(secret, "u%07llu:%s:%s", (unsigned long long)phone->number, phone->realm, options->password);
    hash_of(asked, "REGISTER:sip:%s", options->domain);
    hash_of(response, "%s:%s:%08x:0a4f113b:auth:%s", secret, phone->nonce, phone->nonce_count, asked);
    return (size_t)snprintf(text, room,
                            "Authorization: Digest username=\"u%07llu\", %s, uri=\"sip:%s\", response=\"%s\", "
                            "algorithm=MD5, cnonce=\"0a4f113b\", qop=auth, nc=%08x\r\n",
                            (unsigned long long)phone->number, phone->credentials, options->domain, response,
                            phone->nonce_count);
}

size_t phone_request(struct phone *phone, const struct options *options, const struct sockaddr_in *local,
                     char text[REQUEST_ROOM]) {
    unsigned long long number = phone->number;
    char credentials[1024] = "", host[INET_ADDRSTRLEN];
    unsigned port = ntohs(local->sin_port);
    int length;

    if (inet_ntop(AF_INET, &local->sin_addr, host, sizeof host) == NULL)
        abort();
    if (phone->credentials != NULL && authorization(phone, options, credentials, sizeof credentials) >= sizeof credentials)
        abort();
    length = snprintf(text, REQUEST_ROOM,
                      "REGISTER sip:%s SIP/2.0\r\n"
                      "Via: SIP/2.0/%s %s:%u;branch=z9hG4bK-%x-%llx-%x;rport\r\n"
                      "Max-Forwards: 70\r\n"
                      "From: <sip:u%07llu@%s>;tag=f%07llu\r\n"
                      "To: <sip:u%07llu@%s>\r\n"
                      "Call-ID: c%07llu-4f2a9d01c37b@127.0.0.1\r\n"
                      "CSeq: %u REGISTER\r\n"
                      "Contact: <sip:u%07llu@%s:%u%s>\r\n"
                      "Expires: %u\r\n"
                      "Supported: path\r\n"
                      "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, REFER, NOTIFY, MESSAGE, INFO\r\n"
                      "User-Agent: Bench Phone 1.0\r\n"
                      "%sContent-Length: 0\r\n\r\n",
                      options->domain, options->tcp ? "TCP" : "UDP", host, port, options->salt, number,
                      phone->cseq + 1, number, options->domain, number, number, options->domain, number,
                      phone->cseq + 1, number, host, port,
                      options->tcp ? ";transport=tcp" : "", options->expires, credentials);
    if (length < 0 || length >= REQUEST_ROOM)
        abort();
    phone->cseq++;
    return (size_t)length;
}

void phone_step_back(struct phone *phone) {
    phone->cseq--;
    if (phone->credentials != NULL)
        phone->nonce_count--;
}

void phone_become(struct phone *phone, uint64_t number) {
    phone->number = number;
    phone->cseq = 0;
}

/* The value of the first header called `name` at or behind *at, which moves behind it. */
static struct span next_header(const char **at, const char *end, const char *name) {
    size_t name_length = strlen(name);

    while (*at < end) {
        const char *line = *at;
        const char *line_end = memmem(line, (size_t)(end - line), "\r\n", 2);

        if (line_end == NULL)
            line_end = end;
        *at = line_end + 2;
        if ((size_t)(line_end - line) > name_length && line[name_length] == ':' &&
            strncasecmp(line, name, name_length) == 0) {
            line += name_length + 1;
            while (line < line_end && *line == ' ')
                line++;
            return (struct span){line, (size_t)(line_end - line)};
        }
    }
    return (struct span){NULL, 0};
}

static uint32_t number_in(struct span text) {
    uint32_t value = 0;

    for (size_t i = 0; i < text.length && text.at[i] >= '0' && text.at[i] <= '9'; i++)
        value = value * 10 + (uint32_t)(text.at[i] - '0');
    return value;
}

/* The value of `name` among comma-separated parameters, without its quotes. */
static struct span parameter(struct span text, const char *name) {
    const char *at = text.at, *end = text.at + text.length;
    size_t name_length = strlen(name);

    while (at < end) {
        const char *value = memchr(at, '=', (size_t)(end - at));
        const char *value_end;

        if (value == NULL)
            break;
        while (*at == ' ' || *at == ',')
            at++;
        value++;
        if (value < end && *value == '"') {
            value++;
            value_end = memchr(value, '"', (size_t)(end - value));
        } else {
            value_end = memchr(value, ',', (size_t)(end - value));
        }
        if (value_end == NULL)
            value_end = end;
        if (strncasecmp(at, name, name_length) == 0 && at[name_length] == '=')
            return (struct span){value, (size_t)(value_end - value)};
        at = value_end + 1;
    }
    return (struct span){NULL, 0};
}

static void remember(struct phone *phone, struct span realm, struct span nonce, struct span opaque) {
    char text[768];
    int length = snprintf(text, sizeof text, "realm=\"%.*s\", nonce=\"%.*s\"%s%.*s%s", (int)realm.length, realm.at,
                          (int)nonce.length, nonce.at, opaque.at ? ", opaque=\"" : "", (int)opaque.length,
                          opaque.at ? opaque.at : "", opaque.at ? "\"" : "");

    if (length < 0 || (size_t)length >= sizeof text)
        abort();
    free(phone->credentials);
    free(phone->realm);
    free(phone->nonce);
    phone->credentials = strdup(text);
    phone->realm = strndup(realm.at, realm.length);
    phone->nonce = strndup(nonce.at, nonce.length);
    phone->nonce_count = 0;
}

bool phone_challenged(struct phone *phone, const char *text, size_t length) {
    const char *at = text;
    struct span challenge;

    while ((challenge = next_header(&at, text + length, "WWW-Authenticate")).at != NULL) {
        struct span algorithm, realm, nonce;

        if (challenge.length < 7 || strncasecmp(challenge.at, "Digest ", 7) != 0)
            continue;
        challenge.at += 7, challenge.length -= 7;
        algorithm = parameter(challenge, "algorithm");
        realm = parameter(challenge, "realm");
        nonce = parameter(challenge, "nonce");
        if (realm.at == NULL || nonce.at == NULL ||
            (algorithm.at != NULL && (algorithm.length != 3 || strncasecmp(algorithm.at, "MD5", 3) != 0)))
            continue;
        remember(phone, realm, nonce, parameter(challenge, "opaque"));
        return true;
    }
    return false;
}

struct answer answer_read(const char *text, size_t length, bool stream) {
    struct answer answer = {0};
    const char *end = memmem(text, length, "\r\n\r\n", 4);
    const char *at = text;
    struct span body, cseq;

    if (end == NULL)
        return answer;
    at = text;
    body = next_header(&at, end, "Content-Length");
    answer.length = (size_t)(end + 4 - text) + number_in(body);
    if (body.at == NULL && stream)
        answer.length = SIZE_MAX;
    else if (answer.length > length)
        answer.length = stream ? 0 : SIZE_MAX;
    if (length > 12 && memcmp(text, "SIP/2.0 ", 8) == 0)
        answer.status = (int)number_in((struct span){text + 8, 3});
    at = text;
    cseq = next_header(&at, end, "CSeq");
    answer.cseq = number_in(cseq);
    return answer;
}
