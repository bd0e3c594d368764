#include "json.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define KEY_BYTES_MAX 64
#define NUMBER_BYTES_MAX 64

static bool skip_value(struct json *in, int depth);

static void skip_space(struct json *in)
{
    while (in->at < in->end && (*in->at == ' ' || *in->at == '\t' || *in->at == '\n' || *in->at == '\r'))
        in->at++;
}

static bool take(struct json *in, char wanted)
{
    skip_space(in);
    if (in->at == in->end || *in->at != wanted)
        return false;
    in->at++;
    return true;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool take_digits(struct json *in)
{
    const char *start = in->at;
    while (in->at < in->end && is_digit(*in->at))
        in->at++;
    return in->at > start;
}

static bool skip_number(struct json *in)
{
    if (in->at < in->end && *in->at == '-')
        in->at++;
    if (in->at < in->end && *in->at == '0')
        in->at++;
    else if (!take_digits(in))
        return false;
    if (in->at < in->end && *in->at == '.') {
        in->at++;
        if (!take_digits(in))
            return false;
    }
    if (in->at < in->end && (*in->at == 'e' || *in->at == 'E')) {
        in->at++;
        if (in->at < in->end && (*in->at == '+' || *in->at == '-'))
            in->at++;
        return take_digits(in);
    }
    return true;
}

/* Four hexadecimal digits of a \u escape. */
static bool take_unit(struct json *in, uint32_t *unit)
{
    if (in->end - in->at < 4)
        return false;
    *unit = 0;
    for (int i = 0; i < 4; i++) {
        char c = *in->at++;
        uint32_t digit;
        if (is_digit(c))
            digit = (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (uint32_t)(c - 'a' + 10);
        else if (c >= 'A' && c <= 'F')
            digit = (uint32_t)(c - 'A' + 10);
        else
            return false;
        *unit = *unit * 16 + digit;
    }
    return true;
}

/* The code point after "\u"; two units where it is a surrogate pair. */
static bool take_escaped_code_point(struct json *in, uint32_t *code)
{
    if (!take_unit(in, code))
        return false;
    if (*code < 0xD800 || *code > 0xDFFF)
        return true;
    uint32_t low;
    if (*code > 0xDBFF || in->end - in->at < 6 || in->at[0] != '\\' || in->at[1] != 'u')
        return false;
    in->at += 2;
    if (!take_unit(in, &low) || low < 0xDC00 || low > 0xDFFF)
        return false;
    *code = 0x10000 + ((*code - 0xD800) << 10) + (low - 0xDC00);
    return true;
}

/* Bytes of `code` in UTF-8, written to `out`. */
static size_t to_utf8(uint32_t code, char out[4])
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const unsigned char lead[] = {0, 0xC0, 0xE0, 0xF0};
    out[0] = (char)(lead[more] | (code >> (6 * more)));
    for (size_t i = 1; i <= more; i++)
        out[i] = (char)(0x80 | ((code >> (6 * (more - i))) & 0x3F));
    return more + 1;
}

/* One character of a string, unescaped into at most four bytes. */
static bool take_character(struct json *in, char out[4], size_t *size)
{
    unsigned char c = (unsigned char)*in->at++;
    out[0] = (char)c;
    *size = 1;
    if (c < 0x20)
        return false;
    if (c != '\\')
        return true;
    if (in->at == in->end)
        return false;
    c = (unsigned char)*in->at++;
    static const char escapes[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
    for (const char *pair = escapes; *pair != '\0'; pair += 2) {
        if ((char)c == pair[0]) {
            out[0] = pair[1];
            return true;
        }
    }
    uint32_t code;
    if (c != 'u' || !take_escaped_code_point(in, &code))
        return false;
    *size = to_utf8(code, out);
    return true;
}

/* Reads a string; copies it where `out` is given. False if it is malformed or, with `out`, does not fit. */
static bool take_string(struct json *in, char *out, size_t size)
{
    if (!take(in, '"'))
        return false;
    size_t used = 0;
    while (in->at < in->end && *in->at != '"') {
        char bytes[4];
        size_t count;
        if (!take_character(in, bytes, &count))
            return false;
        if (out == NULL)
            continue;
        if (used + count >= size)
            return false;
        memcpy(out + used, bytes, count);
        used += count;
    }
    if (in->at == in->end || (out != NULL && used >= size))
        return false;
    if (out != NULL)
        out[used] = '\0';
    in->at++;
    return true;
}

static bool skip_items(struct json *in, int depth, bool object)
{
    char close = object ? '}' : ']';
    in->at++;
    if (take(in, close))
        return true;
    do {
        if (object && !(take_string(in, NULL, 0) && take(in, ':')))
            return false;
        if (!skip_value(in, depth + 1))
            return false;
    } while (take(in, ','));
    return take(in, close);
}

static bool skip_word(struct json *in, const char *word)
{
    size_t length = strlen(word);
    if ((size_t)(in->end - in->at) < length || memcmp(in->at, word, length) != 0)
        return false;
    in->at += length;
    return true;
}

static bool skip_value(struct json *in, int depth)
{
    skip_space(in);
    if (in->at == in->end || depth > JSON_DEPTH_MAX)
        return false;
    switch (*in->at) {
    case '{':
        return skip_items(in, depth, true);
    case '[':
        return skip_items(in, depth, false);
    case '"':
        return take_string(in, NULL, 0);
    case 't':
        return skip_word(in, "true");
    case 'f':
        return skip_word(in, "false");
    case 'n':
        return skip_word(in, "null");
    default:
        return skip_number(in);
    }
}

bool json_parse(const char *text, size_t size, struct json *value)
{
    struct json in = {text, text + size};
    *value = in;
    if (!skip_value(&in, 0))
        return false;
    skip_space(&in);
    return in.at == in.end;
}

bool json_member(struct json object, const char *key, struct json *value)
{
    if (!take(&object, '{') || take(&object, '}'))
        return false;
    do {
        char name[KEY_BYTES_MAX];
        struct json start = object;
        bool fits = take_string(&object, name, sizeof name);
        if (!fits) { /* longer than any key asked for */
            object = start;
            if (!take_string(&object, NULL, 0))
                return false;
        }
        if (!take(&object, ':'))
            return false;
        *value = object;
        if (fits && strcmp(name, key) == 0)
            return true;
        if (!skip_value(&object, 0))
            return false;
    } while (take(&object, ','));
    return false;
}

bool json_element(struct json array, size_t index, struct json *value)
{
    if (!take(&array, '[') || take(&array, ']'))
        return false;
    do {
        *value = array;
        if (index-- == 0)
            return true;
        if (!skip_value(&array, 0))
            return false;
    } while (take(&array, ','));
    return false;
}

bool json_string(struct json value, char *out, size_t size)
{
    return take_string(&value, out, size);
}

bool json_number(struct json value, double *out)
{
    skip_space(&value);
    struct json after = value;
    if (value.at == value.end || !skip_number(&after))
        return false;
    char text[NUMBER_BYTES_MAX];
    size_t size = (size_t)(after.at - value.at);
    if (size >= sizeof text)
        return false;
    memcpy(text, value.at, size);
    text[size] = '\0';
    *out = strtod(text, NULL);
    return true;
}
