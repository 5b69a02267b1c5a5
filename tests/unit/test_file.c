/*
 * test_file.c - a file with secrets is read whole or not at all, and why not is said.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

static char path[] = "/tmp/pgreserve-test-file-XXXXXX";

static void write_file(const void *bytes, size_t length)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    assert_int_equal(fclose(file), 0);
}

static void assert_refused(const char *what, size_t most, int error)
{
    errno = 0;
    assert_null(file_read(what, most));
    assert_int_equal(errno, error);
}

static void a_file_is_read_whole(void **state)
{
    static char bytes[100000];
    static const size_t lengths[] = {0, 1, 4094, 4095, 4096, 4097, 8192, sizeof(bytes)};
    (void)state;
    memset(bytes, 'x', sizeof(bytes));
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        write_file(bytes, lengths[i]);
        char *text = file_read(path, sizeof(bytes));
        assert_non_null(text);
        assert_int_equal(strlen(text), lengths[i]);
        assert_memory_equal(text, bytes, lengths[i]);
        memory_free_secret(text);
    }
}

/* What has no size beforehand, as a pipe of systemd's credentials: the buffer grows, and nothing is lost over it. */
static void a_pipe_is_read_whole(void **state)
{
    char bytes[20000];
    char name[32];
    int ends[2];
    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (char)('a' + i % 26);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], bytes, sizeof(bytes)), sizeof(bytes));
    close(ends[1]);
    snprintf(name, sizeof(name), "/proc/self/fd/%d", ends[0]);
    char *text = file_read(name, sizeof(bytes));
    assert_non_null(text);
    assert_int_equal(strlen(text), sizeof(bytes));
    assert_memory_equal(text, bytes, sizeof(bytes));
    memory_free_secret(text);
    close(ends[0]);
}

static void what_cannot_be_read_says_why(void **state)
{
    (void)state;
    assert_refused("/nowhere/at/all", 10, ENOENT);
    assert_refused("/tmp", 10, EISDIR);
    write_file("12345678901", 11);
    assert_refused(path, 10, EFBIG);
    write_file("before\0behind", 13);
    assert_refused(path, 100, EILSEQ);
    assert_string_equal(file_reason(EILSEQ), "it holds a zero byte");
    assert_string_equal(file_reason(ENOENT), strerror(ENOENT));
}

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_read_whole),
        cmocka_unit_test(a_pipe_is_read_whole),
        cmocka_unit_test(what_cannot_be_read_says_why),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
