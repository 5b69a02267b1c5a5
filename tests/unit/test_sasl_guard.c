/*
 * test_sasl_guard.c - a server cannot make a login last for ever, and an honest one notices nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/sasl_guard.h"

static struct sasl_guard guard;

/* From a heap copy of the exact size, so that the sanitizer sees a read beyond it. */
static enum sasl_guard_verdict judge(const void *bytes, size_t length)
{
    uint8_t *copy = calloc(1, length ? length : 1);
    memcpy(copy, bytes, length);
    enum sasl_guard_verdict verdict = sasl_guard_judge(&guard, copy, length);
    free(copy);
    return verdict;
}

static size_t make(uint8_t *out, uint8_t type, uint32_t request, const char *text)
{
    size_t length = strlen(text);
    uint32_t message = (uint32_t)length + 8;
    uint8_t header[9] = {type,
                         (uint8_t)(message >> 24),
                         (uint8_t)(message >> 16),
                         (uint8_t)(message >> 8),
                         (uint8_t)message,
                         0,
                         0,
                         0,
                         (uint8_t)request};
    memcpy(out, header, sizeof(header));
    memcpy(out + sizeof(header), text, length);
    return length + sizeof(header);
}

static enum sasl_guard_verdict judge_request(uint32_t request, const char *text)
{
    uint8_t bytes[4096];
    return judge(bytes, make(bytes, 'R', request, text));
}

static int begin(void **state)
{
    (void)state;
    guard = (struct sasl_guard){0};
    return 0;
}

static void an_honest_exchange_passes(void **state)
{
    (void)state;
    assert_int_equal(judge("", 0), SASL_GUARD_MORE);
    assert_int_equal(judge_request(10, "SCRAM-SHA-256"), SASL_GUARD_PASS);
    assert_int_equal(judge_request(11, "r=abc,s=AAAA,i=4096"), SASL_GUARD_PASS);
    assert_int_equal(judge_request(12, "v=AAAA"), SASL_GUARD_PASS);
    assert_int_equal(judge_request(0, ""), SASL_GUARD_PASS);
}

static void other_proofs_pass(void **state)
{
    (void)state;
    assert_int_equal(judge_request(5, "salt"), SASL_GUARD_PASS);
    assert_int_equal(judge_request(0, ""), SASL_GUARD_PASS);
    begin(NULL);
    assert_int_equal(judge_request(3, ""), SASL_GUARD_PASS);
    begin(NULL);
    assert_int_equal(judge_request(7, ""), SASL_GUARD_PASS);
    assert_int_equal(judge_request(8, "token"), SASL_GUARD_PASS);
    assert_int_equal(judge_request(8, "token"), SASL_GUARD_PASS);
    begin(NULL);
    assert_int_equal(judge_request(10, "OAUTHBEARER"), SASL_GUARD_PASS);
    assert_int_equal(judge_request(11, "{\"status\":\"invalid_token\"}"), SASL_GUARD_PASS);
}

static void too_many_rounds_are_refused_and_told(void **state)
{
    static const char *const asked[] = {"r=abc,s=AAAA,i=100001", "r=abc,s=AAAA,i=2147483647",
                                        "r=abc,s=AAAA,i=99999999999999999999999999",
                                        "r=abc,s=AAAA,i=2147483647,x=y"};
    (void)state;
    for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
        begin(NULL);
        assert_int_equal(judge_request(10, "SCRAM-SHA-256"), SASL_GUARD_PASS);
        assert_int_equal(judge_request(11, asked[i]), SASL_GUARD_REFUSE);
        assert_true(guard.iterations > SASL_GUARD_ITERATIONS_MAX);
    }
    begin(NULL);
    assert_int_equal(judge_request(11, "r=abc,s=AAAA,i=100000"), SASL_GUARD_PASS);
}

static void rounds_that_are_no_plain_number_are_refused(void **state)
{
    static const char *const asked[] = {
        "r=abc,s=AAAA",           "r=abc,s=AAAA,i=",   "r=abc,s=AAAA,i= 2147483647",
        "r=abc,s=AAAA,i=+214748", "r=abc,s=AAAA,i=1x", "r=abc,s=AAAA,i=-1"};
    (void)state;
    for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
        begin(NULL);
        assert_int_equal(judge_request(11, asked[i]), SASL_GUARD_REFUSE);
    }
}

static void a_part_of_a_message_is_waited_for(void **state)
{
    uint8_t bytes[256];
    (void)state;
    size_t whole = make(bytes, 'R', 11, "r=abc,s=AAAA,i=4096");
    for (size_t length = 0; length < whole; length++)
        assert_int_equal(judge(bytes, length), SASL_GUARD_MORE);
    assert_int_equal(judge(bytes, whole), SASL_GUARD_PASS);
}

/* Wherever a message was cut, what comes next begins with no message. */
static void the_rest_of_a_message_is_refused(void **state)
{
    uint8_t bytes[256];
    (void)state;
    size_t whole = make(bytes, 'R', 11, "r=REvRabcdefghijklmnop,s=AAAA,i=2147483647");
    for (size_t cut = 1; cut < 20; cut++) {
        begin(NULL);
        assert_int_equal(judge_request(10, "SCRAM-SHA-256"), SASL_GUARD_PASS);
        assert_int_equal(judge(bytes + cut, whole - cut), SASL_GUARD_REFUSE);
    }
}

static void nothing_is_hidden_behind_another_request(void **state)
{
    (void)state;
    for (uint32_t request = 1; request < 16; request++) {
        begin(NULL);
        assert_int_equal(judge_request(10, "SCRAM-SHA-256"), SASL_GUARD_PASS);
        bool belongs = request == 11 || request == 12;
        assert_int_equal(judge_request(request, "x"),
                         belongs ? SASL_GUARD_PASS : SASL_GUARD_REFUSE);
    }
    begin(NULL);
    assert_int_equal(judge("v\0\0\0\x0c\0\3\0\0\0\0\0\0", 13), SASL_GUARD_PASS);
    assert_int_equal(judge("v\0\0\0\x0c\0\3\0\0\0\0\0\0", 13), SASL_GUARD_REFUSE);
    assert_int_equal(judge_request(10, "SCRAM-SHA-256"), SASL_GUARD_PASS);
}

static void errors_pass_old_ones_too(void **state)
{
    (void)state;
    assert_int_equal(judge("Ecould not fork new process for connection\n", 44), SASL_GUARD_PASS);
    assert_int_equal(judge("whatever follows", 16), SASL_GUARD_PASS);
    begin(NULL);
    assert_int_equal(judge_request(10, "SCRAM-SHA-256"), SASL_GUARD_PASS);
    assert_int_equal(judge("E\0\0", 3), SASL_GUARD_MORE);
    assert_int_equal(judge("EabcdefghijklmnopR", 18), SASL_GUARD_REFUSE);
    assert_int_equal(judge("E\0\0\0\x10SFATAL\0", 12), SASL_GUARD_PASS);
}

static void lengths_that_lie_are_refused(void **state)
{
    (void)state;
    assert_int_equal(judge("R\xff\xff\xff\xff\0\0\0\x0a", 9), SASL_GUARD_REFUSE);
    assert_int_equal(judge("R\0\0\0\3\0\0\0\x0a", 9), SASL_GUARD_REFUSE);
    assert_int_equal(judge("R\0\0\x07\xd1\0\0\0\x0a", 9), SASL_GUARD_REFUSE);
    assert_int_equal(judge("v\x7f\xff\xff\xff\0\0\0\x0a", 9), SASL_GUARD_REFUSE);
    assert_int_equal(judge("HTTP/1.1 400", 12), SASL_GUARD_REFUSE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(an_honest_exchange_passes, begin),
        cmocka_unit_test_setup(other_proofs_pass, begin),
        cmocka_unit_test_setup(too_many_rounds_are_refused_and_told, begin),
        cmocka_unit_test_setup(rounds_that_are_no_plain_number_are_refused, begin),
        cmocka_unit_test_setup(a_part_of_a_message_is_waited_for, begin),
        cmocka_unit_test_setup(the_rest_of_a_message_is_refused, begin),
        cmocka_unit_test_setup(nothing_is_hidden_behind_another_request, begin),
        cmocka_unit_test_setup(errors_pass_old_ones_too, begin),
        cmocka_unit_test_setup(lengths_that_lie_are_refused, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
