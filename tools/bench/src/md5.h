/* MD5 for digest answers (RFC 1321), so that the generator needs no library. */
#ifndef BENCH_MD5_H
#define BENCH_MD5_H

#include <stddef.h>

/* Write the 32 hexadecimal digits of the MD5 of `data`, and a NUL, to `hex`. */
void md5_hex(const char *data, size_t length, char hex[33]);

#endif
