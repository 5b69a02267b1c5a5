/*
 * test_buffer.c - bytes come out as they went in, and an empty buffer costs nothing.
 *
 * A random walk against a plain array stands for the many orders of growing, moving and consuming.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/buffer.h"

static void an_empty_buffer_owns_nothing(void **state)
{
    (void)state;
    struct buffer buffer = {0};
    buffer_append(&buffer, "abc", 3);
    assert_int_equal(buffer_length(&buffer), 3);
    buffer_consume(&buffer, 3);
    assert_null(buffer.block);
    assert_int_equal(buffer_length(&buffer), 0);
    buffer_append(&buffer, "", 0);
    assert_null(buffer.block);
    buffer_free(&buffer);
    buffer_free_list_empty();
}

static void a_block_is_used_again(void **state)
{
    (void)state;
    struct buffer buffer = {0};
    buffer_append(&buffer, "x", 1);
    const uint8_t *first = buffer_bytes(&buffer);
    buffer_free(&buffer);
    buffer_append(&buffer, "y", 1);
    assert_ptr_equal(buffer_bytes(&buffer), first);
    buffer_free(&buffer);
    buffer_free_list_empty();
}

static void large_bytes_arrive_whole(void **state)
{
    (void)state;
    static uint8_t bytes[3 * BUFFER_BLOCK_BYTES + 17];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 7);
    struct buffer buffer = {0};
    buffer_append(&buffer, bytes, sizeof(bytes));
    assert_int_equal(buffer_length(&buffer), sizeof(bytes));
    assert_memory_equal(buffer_bytes(&buffer), bytes, sizeof(bytes));
    buffer_free(&buffer);
    buffer_free_list_empty();
}

static void a_reserved_place_is_added_when_it_is_filled(void **state)
{
    (void)state;
    struct buffer buffer = {0};
    uint8_t *place = buffer_reserve(&buffer, 100);
    memcpy(place, "hello", 5);
    assert_int_equal(buffer_length(&buffer), 0);
    buffer_added(&buffer, 5);
    place = buffer_reserve(&buffer, 2 * BUFFER_BLOCK_BYTES);
    memset(place, '!', 2 * BUFFER_BLOCK_BYTES);
    buffer_added(&buffer, 2 * BUFFER_BLOCK_BYTES);
    assert_memory_equal(buffer_bytes(&buffer), "hello!!", 7);
    assert_int_equal(buffer_length(&buffer), 5 + 2 * BUFFER_BLOCK_BYTES);
    buffer_free(&buffer);
    buffer_free_list_empty();
}

/* A queue that stays nearly full must neither grow for ever nor be moved for every byte. */
static void a_full_queue_stays_small(void **state)
{
    (void)state;
    struct buffer buffer = {0};
    static const uint8_t block[BUFFER_BLOCK_BYTES];
    buffer_append(&buffer, block, sizeof(block));
    size_t moves = 0;
    for (int i = 0; i < 100000; i++) {
        buffer_consume(&buffer, 1);
        const uint8_t *start = buffer_bytes(&buffer);
        buffer_append(&buffer, "z", 1);
        moves += buffer_bytes(&buffer) != start;
    }
    assert_in_range(buffer_capacity(&buffer), BUFFER_BLOCK_BYTES, 4 * BUFFER_BLOCK_BYTES);
    assert_in_range(moves, 1, 100);
    buffer_free(&buffer);
    buffer_free_list_empty();
}

static void bytes_come_out_in_order(void **state)
{
    (void)state;
    struct buffer buffer = {0};
    uint32_t random = 12345;
    uint8_t written = 0;
    uint8_t read = 0;
    for (int i = 0; i < 20000; i++) {
        random = random * 1664525 + 1013904223;
        size_t length = random >> 8 & (random >> 30 ? 255 : 8191);
        if (random & 0x10) {
            uint8_t *place = buffer_reserve(&buffer, length);
            for (size_t j = 0; j < length; j++)
                place[j] = written++;
            buffer_added(&buffer, length);
        } else {
            size_t waiting = buffer_length(&buffer);
            length = length > waiting || random & 0x20 ? waiting : length;
            for (size_t j = 0; j < length; j++)
                assert_int_equal(buffer_bytes(&buffer)[j], read++);
            buffer_consume(&buffer, length);
        }
    }
    buffer_free(&buffer);
    buffer_free_list_empty();
}

static void a_storm_does_not_leave_its_memory_behind(void **state)
{
    (void)state;
    static struct buffer buffers[3000];
    for (size_t i = 0; i < 3000; i++)
        buffer_append(&buffers[i], "x", 1);
    for (size_t i = 0; i < 3000; i++)
        buffer_free(&buffers[i]); /* a leak or a list overrun shows under the sanitizer */
    buffer_free_list_empty();
    buffer_free_list_empty();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_buffer_owns_nothing),
        cmocka_unit_test(a_block_is_used_again),
        cmocka_unit_test(large_bytes_arrive_whole),
        cmocka_unit_test(a_reserved_place_is_added_when_it_is_filled),
        cmocka_unit_test(a_full_queue_stays_small),
        cmocka_unit_test(bytes_come_out_in_order),
        cmocka_unit_test(a_storm_does_not_leave_its_memory_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
