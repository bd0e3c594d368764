/* Asks a model on the agent which digit an image shows, over the agent's Unix socket.
 *
 *     classify [-s SOCKET] [-m MODEL] IMAGE
 *
 * IMAGE is a text file with 64 numbers, the ink of each pixel from 0 to 16 row by row; "-" reads standard input; "#"
 * starts a comment. Exits with 0 after an answer, 1 when the agent could not be reached or refused, 2 on bad usage or a
 * bad image. */
#define _POSIX_C_SOURCE 200809L

#include "http.h"
#include "json.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIXELS 64
#define IMAGE_BYTES_MAX 4096
#define BODY_BYTES 2048
#define TEXT_BYTES 256

enum exit_code { DONE = 0, FAILED = 1, BAD_INPUT = 2 };

struct options {
    const char *socket;
    const char *model;
    const char *image;
};

struct answer {
    char label[TEXT_BYTES];
    char version[TEXT_BYTES];
    double score;
};

static void usage(FILE *out)
{
    fputs("usage: classify [-s SOCKET] [-m MODEL] IMAGE\n"
          "  -s SOCKET  the agent's socket (default: /run/whimbrel/agent.sock)\n"
          "  -m MODEL   the model's name (default: digits)\n"
          "  IMAGE      text file with 64 numbers from 0 to 16; - for standard input\n",
          out);
}

/* Names go into a path: the agent's rule for them keeps everything else out. */
static bool is_model_name(const char *name)
{
    size_t length = strlen(name);
    return length > 0 && length <= 64 && strchr("._-", name[0]) == NULL && strstr(name, "..") == NULL &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-") == length;
}

/* -1 to go on, or the exit code. */
static int parse_options(int argc, char **argv, struct options *options)
{
    int option;
    while ((option = getopt(argc, argv, "s:m:h")) != -1) {
        switch (option) {
        case 's':
            options->socket = optarg;
            break;
        case 'm':
            options->model = optarg;
            break;
        case 'h':
            usage(stdout);
            return DONE;
        default:
            usage(stderr);
            return BAD_INPUT;
        }
    }
    if (argc - optind != 1) {
        usage(stderr);
        return BAD_INPUT;
    }
    options->image = argv[optind];
    if (!is_model_name(options->model)) {
        fprintf(stderr, "error: reading the command line: \"%s\" is not a model name\n", options->model);
        return BAD_INPUT;
    }
    return -1;
}

static bool parse_image(char *text, float pixels[PIXELS])
{
    for (char *comment = strchr(text, '#'); comment != NULL; comment = strchr(comment, '#'))
        memset(comment, ' ', strcspn(comment, "\n"));
    int count = 0;
    for (char *at = text; at[strspn(at, " \t\r\n")] != '\0'; count++) {
        char *rest;
        float value = strtof(at, &rest);
        bool separated = *rest == '\0' || isspace((unsigned char)*rest);
        if (rest == at || !separated || !isfinite(value) || count == PIXELS)
            return false;
        pixels[count] = value;
        at = rest;
    }
    return count == PIXELS;
}

static bool read_image(const char *path, float pixels[PIXELS])
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
    if (file == NULL) {
        fprintf(stderr, "error: reading %s: %s\n", path, strerror(errno));
        return false;
    }
    char text[IMAGE_BYTES_MAX + 1];
    size_t size = fread(text, 1, sizeof text, file);
    bool whole = !ferror(file) && size < sizeof text;
    fclose(file);
    if (whole) {
        text[size] = '\0';
        whole = strlen(text) == size && parse_image(text, pixels);
    }
    if (!whole)
        fprintf(stderr, "error: reading %s: expected %d numbers in at most %d bytes\n", path, PIXELS, IMAGE_BYTES_MAX);
    return whole;
}

/* The request, as the Open Inference Protocol wants it. Its size, or 0 if it does not fit. */
static size_t write_request(const float pixels[PIXELS], char body[BODY_BYTES])
{
    int used = snprintf(body, BODY_BYTES,
                        "{\"inputs\":[{\"name\":\"pixels\",\"datatype\":\"FP32\",\"shape\":[1,1,8,8],\"data\":[");
    for (int i = 0; i < PIXELS && used > 0 && used < BODY_BYTES; i++)
        used += snprintf(body + used, (size_t)(BODY_BYTES - used), "%s%.9g", i == 0 ? "" : ",", (double)pixels[i]);
    if (used > 0 && used < BODY_BYTES)
        used += snprintf(body + used, (size_t)(BODY_BYTES - used),
                         "]}],\"outputs\":[{\"name\":\"label\"},{\"name\":\"score\"}]}");
    return used > 0 && used < BODY_BYTES ? (size_t)used : 0;
}

/* The first element of output `name`, however deep its data is nested. */
static bool first_of_output(struct json response, const char *name, struct json *value)
{
    struct json outputs, output;
    if (!json_member(response, "outputs", &outputs))
        return false;
    for (size_t i = 0; json_element(outputs, i, &output); i++) {
        struct json field;
        char found[TEXT_BYTES];
        if (!json_member(output, "name", &field) || !json_string(field, found, sizeof found) ||
            strcmp(found, name) != 0)
            continue;
        if (!json_member(output, "data", value) || !json_element(*value, 0, value))
            return false;
        while (json_element(*value, 0, &field))
            *value = field;
        return true;
    }
    return false;
}

static bool parse_answer(struct json response, struct answer *answer)
{
    struct json label, score, version;
    if (!first_of_output(response, "label", &label) || !json_string(label, answer->label, sizeof answer->label) ||
        !first_of_output(response, "score", &score) || !json_number(score, &answer->score))
        return false;
    if (!json_member(response, "model_version", &version) ||
        !json_string(version, answer->version, sizeof answer->version))
        strcpy(answer->version, "unknown");
    return true;
}

/* A terminal obeys control characters: none of the agent's reaches it. */
static const char *printable(char *text)
{
    for (char *c = text; *c != '\0'; c++) {
        if (iscntrl((unsigned char)*c))
            *c = '?';
    }
    return text;
}

static enum exit_code report(const struct options *options, const struct http_response *response)
{
    struct json body, field;
    char text[TEXT_BYTES];
    bool parsed = json_parse(response->body, response->body_size, &body);
    if (response->status != 200) {
        bool explained = parsed && json_member(body, "error", &field) && json_string(field, text, sizeof text);
        fprintf(stderr, "error: asking for model %s: status %d: %s\n", options->model, response->status,
                explained ? printable(text) : "no reason given");
        return FAILED;
    }
    struct answer answer;
    if (!parsed || !parse_answer(body, &answer)) {
        fprintf(stderr, "error: asking for model %s: the answer has no label and score\n", options->model);
        fputs("hint: is it a digits model?\n", stderr);
        return FAILED;
    }
    printf("label: %s\nscore: %.6f\nmodel_version: %s\n", printable(answer.label), answer.score,
           printable(answer.version));
    return fflush(stdout) == 0 ? DONE : FAILED;
}

int main(int argc, char **argv)
{
    struct options options = {.socket = "/run/whimbrel/agent.sock", .model = "digits"};
    int code = parse_options(argc, argv, &options);
    if (code >= 0)
        return code;
    float pixels[PIXELS];
    if (!read_image(options.image, pixels))
        return BAD_INPUT;
    char body[BODY_BYTES], path[TEXT_BYTES], error[HTTP_ERROR_BYTES];
    size_t size = write_request(pixels, body);
    if (size == 0) {
        fputs("error: writing the request: it does not fit\n", stderr);
        return FAILED;
    }
    snprintf(path, sizeof path, "/v2/models/%s/infer", options.model);
    struct http_response response;
    if (!http_post(options.socket, path, body, size, &response, error)) {
        fprintf(stderr, "error: %s\nhint: is whimbrel-agent serving at %s?\n", error, options.socket);
        return FAILED;
    }
    code = report(&options, &response);
    free(response.body);
    return code;
}
