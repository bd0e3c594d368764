#define _POSIX_C_SOURCE 200809L

#include "http.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static bool fail(char error[HTTP_ERROR_BYTES], const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error, HTTP_ERROR_BYTES, format, arguments);
    va_end(arguments);
    return false;
}

static const char *why(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK ? "no answer in time" : strerror(errno);
}

/* A connected socket, or -1. */
static int open_socket(const char *path, char error[HTTP_ERROR_BYTES])
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        fail(error, "connecting to %.100s: the path is longer than a socket's may be", path);
        return -1;
    }
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0) {
        fail(error, "opening a socket: %s", strerror(errno));
        return -1;
    }
    struct timeval timeout = {.tv_sec = HTTP_TIMEOUT_S};
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) != 0 ||
        connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        fail(error, "connecting to %s: %s", path, why());
        close(fd);
        return -1;
    }
    return fd;
}

static bool send_all(int fd, const char *bytes, size_t size, char error[HTTP_ERROR_BYTES])
{
    while (size > 0) {
        ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno == EPIPE)
            return true; /* the agent has seen enough; its answer may say why */
        if (sent < 0)
            return fail(error, "sending the request: %s", why());
        bytes += sent;
        size -= (size_t)sent;
    }
    return true;
}

/* Reads until `size` bytes are in `buffer`, of which `*used` are already; stops early at the end of the stream. */
static bool receive(int fd, char *buffer, size_t size, size_t *used, char error[HTTP_ERROR_BYTES])
{
    while (*used < size) {
        ssize_t got = recv(fd, buffer + *used, size - *used, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail(error, "reading the answer: %s", why());
        if (got == 0)
            return true;
        *used += (size_t)got;
    }
    return true;
}

/* The end of the head (after its empty line) within `size` bytes, or NULL. */
static char *end_of_head(char *bytes, size_t size)
{
    for (size_t i = 3; i < size; i++) {
        if (memcmp(bytes + i - 3, "\r\n\r\n", 4) == 0)
            return bytes + i + 1;
    }
    return NULL;
}

/* The value of header `name` in a head that ends with a NUL, or NULL. */
static const char *header(const char *head, const char *name)
{
    size_t length = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, length) == 0 && line[length] == ':') {
            line += length + 1;
            return line + strspn(line, " \t");
        }
    }
    return NULL;
}

static bool parse_head(const char *head, int *status, size_t *body_size, char error[HTTP_ERROR_BYTES])
{
    int minor;
    if (sscanf(head, "HTTP/1.%1d %3d", &minor, status) != 2 || *status < 100 || *status > 599)
        return fail(error, "reading the answer: it is not HTTP");
    if (header(head, "Transfer-Encoding") != NULL)
        return fail(error, "reading the answer: its transfer encoding is not spoken here");
    const char *length = header(head, "Content-Length");
    if (length == NULL || *length < '0' || *length > '9')
        return fail(error, "reading the answer: it does not say how long it is");
    char *rest;
    errno = 0;
    unsigned long long size = strtoull(length, &rest, 10);
    if (rest[strspn(rest, " \t")] != '\r')
        return fail(error, "reading the answer: it does not say how long it is");
    if (errno != 0 || size > HTTP_BODY_BYTES_MAX)
        return fail(error, "reading the answer: it is longer than %zu bytes", HTTP_BODY_BYTES_MAX);
    *body_size = (size_t)size;
    return true;
}

/* Reads head and body into `buffer` of HTTP_HEAD_BYTES_MAX + HTTP_BODY_BYTES_MAX + 1 bytes. */
static bool read_response(int fd, char *buffer, struct http_response *response, char error[HTTP_ERROR_BYTES])
{
    size_t used = 0;
    char *body = NULL;
    while (body == NULL) {
        size_t before = used;
        /* One byte at a time would be slow, a fixed block would wait for bytes that never come: take what is there. */
        ssize_t got = recv(fd, buffer + used, HTTP_HEAD_BYTES_MAX - used, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail(error, "reading the answer: %s", why());
        if (got == 0)
            return fail(error, "reading the answer: the connection ended after %zu bytes", before);
        used += (size_t)got;
        body = end_of_head(buffer, used);
        if (body == NULL && used == HTTP_HEAD_BYTES_MAX)
            return fail(error, "reading the answer: its head is longer than %zu bytes", HTTP_HEAD_BYTES_MAX);
    }
    char first = *body; /* not part of the head; the byte may not be there yet, the buffer's memory is */
    *body = '\0';
    bool good = strlen(buffer) == (size_t)(body - buffer) ||
                fail(error, "reading the answer: its head holds a NUL");
    good = good && parse_head(buffer, &response->status, &response->body_size, error);
    *body = first;
    if (!good)
        return false;
    size_t have = used - (size_t)(body - buffer);
    if (!receive(fd, body, response->body_size, &have, error))
        return false;
    if (have < response->body_size)
        return fail(error, "reading the answer: %zu of %zu bytes came", have, response->body_size);
    memmove(buffer, body, response->body_size);
    buffer[response->body_size] = '\0';
    return true;
}

static bool exchange(int fd, const char *path, const char *body, size_t body_size,
                     struct http_response *response, char error[HTTP_ERROR_BYTES])
{
    char head[512];
    int length = snprintf(head, sizeof head,
                          "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                          "Content-Length: %zu\r\nConnection: close\r\n\r\n",
                          path, body_size);
    if (length < 0 || (size_t)length >= sizeof head)
        return fail(error, "sending the request: its path is too long");
    if (!send_all(fd, head, (size_t)length, error) || !send_all(fd, body, body_size, error))
        return false;
    response->body = calloc(1, HTTP_HEAD_BYTES_MAX + HTTP_BODY_BYTES_MAX + 1);
    if (response->body == NULL)
        return fail(error, "reading the answer: not enough memory");
    if (read_response(fd, response->body, response, error))
        return true;
    free(response->body);
    response->body = NULL;
    return false;
}

bool http_post(const char *socket_path, const char *path, const char *body, size_t body_size,
               struct http_response *response, char error[HTTP_ERROR_BYTES])
{
    *response = (struct http_response){0};
    int fd = open_socket(socket_path, error);
    if (fd < 0)
        return false;
    bool good = exchange(fd, path, body, body_size, response, error);
    close(fd);
    return good;
}
