/*
 * fuzz_main.c - plays files, and the files of directories, through a fuzz target: the regression run of the corpora.
 *
 * It needs no libFuzzer, so that `make test` runs in any build.  Says how many inputs it played; without any it fails,
 * for a corpus that is not found must not pass for a clean one.
 */
#include <dirent.h>
#include <sys/stat.h>

#include "fuzz.h"

static int played;

static void play_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = NULL;
    size_t length = 0;
    size_t room = 0;
    if (!file) {
        perror(path);
        exit(1);
    }
    for (size_t got = 1; got > 0; length += got) {
        room = length + 65536;
        bytes = realloc(bytes, room);
        if (!bytes)
            abort();
        got = fread(bytes + length, 1, room - length, file);
    }
    fclose(file);
    uint8_t *exact = malloc(length ? length : 1);
    if (!exact)
        abort();
    memcpy(exact, bytes, length);
    free(bytes);
    fprintf(stderr, "%s\n", path);
    LLVMFuzzerTestOneInput(exact, length);
    free(exact);
    played++;
}

static void play_directory(const char *path)
{
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        char name[4096];
        snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.')
            play_file(name);
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
}

int main(int count, char **arguments)
{
    for (int i = 1; i < count; i++) {
        struct stat what;
        if (stat(arguments[i], &what) == 0 && S_ISDIR(what.st_mode))
            play_directory(arguments[i]);
        else
            play_file(arguments[i]);
    }
    printf("%d inputs\n", played);
    return played > 0 ? 0 : 1;
}
