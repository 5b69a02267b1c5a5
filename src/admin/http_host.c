/*
 * http_host.c - whether a request's Host header is one that a loopback listener answers: see http_host.h.
 *
 * A page on the web can give its own name the address 127.0.0.1 ("DNS rebinding"); the visitor's browser then lets its
 * script read what listens there.  Such a request betrays itself by the name in its Host header.  An address in it
 * cannot be such a name, and localhost is not for others to give; everything else is refused.
 */
#include "admin/http_host.h"

#include <arpa/inet.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#define NAME_MAX_BYTES  256 /* a name in DNS has at most 253 */
#define PORT_MAX_DIGITS 5

/* Nothing, or a colon and a port. */
static bool is_port(const char *text)
{
    if (*text == '\0')
        return true;
    size_t digits = strspn(text + 1, "0123456789");
    return *text == ':' && digits <= PORT_MAX_DIGITS && text[1 + digits] == '\0';
}

/* The header without port, brackets and final dot.  False when it is not well formed. */
static bool take_name(const char *host, char name[NAME_MAX_BYTES])
{
    const char *begin = host;
    const char *end;
    if (*begin == '[') {
        end = strchr(++begin, ']');
        if (!end || !is_port(end + 1))
            return false;
    } else {
        end = begin + strcspn(begin, ":");
        if (!is_port(end))
            return false;
    }
    size_t length = (size_t)(end - begin);
    if (length > 0 && begin[length - 1] == '.')
        length--;
    if (length == 0 || length >= NAME_MAX_BYTES)
        return false;
    memcpy(name, begin, length);
    name[length] = '\0';
    return true;
}

static bool is_address(const char *name)
{
    uint8_t address[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;
}

static bool is_localhost(const char *name)
{
    static const char localhost[] = "localhost";
    size_t length = strlen(name);
    size_t wanted = sizeof(localhost) - 1;
    if (length < wanted || strcasecmp(name + length - wanted, localhost) != 0)
        return false;
    return length == wanted || name[length - wanted - 1] == '.';
}

bool http_host_is_ours(const char *host, const char *configured)
{
    char name[NAME_MAX_BYTES];
    if (!host)
        return true; /* HTTP/1.0: no browser speaks it */
    if (!take_name(host, name))
        return false;
    return is_address(name) || is_localhost(name) ||
           (configured && strcasecmp(name, configured) == 0);
}
