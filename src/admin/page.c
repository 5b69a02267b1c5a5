/*
 * page.c - the page at `/`: see page.h.
 *
 * The page holds one style and one script.  Its policy names both by their SHA-256, computed when it is asked for, so
 * that it cannot come apart from the file: a script that got into the page some other way, by a client's
 * application_name say, would not run, and nothing is fetched from anywhere but the daemon.
 */
#include "admin/page.h"

#include <string.h>

#include <openssl/evp.h>
#include <openssl/sha.h>

#include "base/memory.h"

extern const char admin_page_html[];

const char *page_text(void)
{
    return admin_page_html;
}

/* The base64 of the SHA-256 of what stands between the two tags. */
static void hash_between(const char *open, const char *close, char out[48])
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    const char *begin = strstr(admin_page_html, open);
    const char *end = begin ? strstr(begin, close) : NULL;
    out[0] = '\0';
    if (!end)
        return;
    begin += strlen(open);
    SHA256((const unsigned char *)begin, (size_t)(end - begin), digest);
    EVP_EncodeBlock((unsigned char *)out, digest, (int)sizeof(digest));
}

char *page_policy(void)
{
    char style[48];
    char script[48];
    hash_between("<style>", "</style>", style);
    hash_between("<script>", "</script>", script);
    return memory_printf("default-src 'none'; style-src 'sha256-%s'; script-src 'sha256-%s'; "
                         "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
                         "frame-ancestors 'none'",
                         style, script);
}
