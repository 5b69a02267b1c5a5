/*
 * fuzz_startup.c - the first packet of a connection: any bytes may stand there, before anybody is known.
 */
#include "proto/startup.h"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    struct startup startup = {0};
    char error[256] = "";
    bool is_good = startup_parse(&startup, bytes, length, error, sizeof(error));
    fuzz_claim(is_good || error[0], "a refused packet says why");
    fuzz_claim(!is_good || startup.user != NULL, "a packet that passes names a user");
    for (size_t i = 0; i < startup.setting_count; i++)
        fuzz_claim(startup.settings[i].name && startup.settings[i].value, "a setting is complete");
    startup_free(&startup);
    return 0;
}
