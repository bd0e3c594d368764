/* One HTTP request over a Unix socket. */
#ifndef CLASSIFY_HTTP_H
#define CLASSIFY_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#define HTTP_BODY_BYTES_MAX ((size_t)1 << 20)
#define HTTP_HEAD_BYTES_MAX ((size_t)16 << 10)
#define HTTP_ERROR_BYTES 256
#define HTTP_TIMEOUT_S 10

/* An answer. `body` belongs to the caller, who frees it. */
struct http_response {
    int status;
    char *body;
    size_t body_size;
};

/* Posts `body` as JSON to `path` through the socket at `socket_path`. On failure writes one sentence to `error`. */
bool http_post(const char *socket_path, const char *path, const char *body, size_t body_size,
               struct http_response *response, char error[HTTP_ERROR_BYTES]);

#endif
