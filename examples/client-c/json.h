/* Reads single values out of a JSON text, without allocating. */
#ifndef CLASSIFY_JSON_H
#define CLASSIFY_JSON_H

#include <stdbool.h>
#include <stddef.h>

/* Where a value starts, and where the text ends. */
struct json {
    const char *at;
    const char *end;
};

/* Whether `text` of `size` bytes is one JSON value nested at most JSON_DEPTH_MAX deep, with nothing after it. On success
 * `value` is that value. Every other function takes values that came from here. */
bool json_parse(const char *text, size_t size, struct json *value);

/* Finds the member `key` of an object. False if `object` is none or has no such member. */
bool json_member(struct json object, const char *key, struct json *value);

/* Finds element `index` of an array. False if `array` is none or is shorter. */
bool json_element(struct json array, size_t index, struct json *value);

/* Copies a string, as UTF-8 with a closing NUL. False if it is no string or does not fit into `size` bytes. */
bool json_string(struct json value, char *out, size_t size);

/* Reads a number. False if it is none. */
bool json_number(struct json value, double *out);

#define JSON_DEPTH_MAX 32

#endif
