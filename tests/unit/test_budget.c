/*
 * test_budget.c - the one inequality of contract 4, at its edges.
 *
 * The shipped configuration (60 in all: automation 50 + 5, adhoc 5 reserved) is what most tests start from;
 * tests/property/property_budget.c walks everything else at random.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "policy/budget.h"

enum { AUTOMATION, ADHOC };

static struct budget shipped(void)
{
    struct budget budget = {.total = 60};
    budget_configure(&budget, AUTOMATION, 55, 0);
    budget_configure(&budget, ADHOC, 5, 5);
    return budget;
}

static int take_all(struct budget *budget, size_t pool)
{
    int taken = 0;
    while (budget_may_take(budget, pool)) {
        budget_take(budget, pool);
        taken++;
    }
    return taken;
}

static void developers_get_in_under_full_automation_load(void **state)
{
    (void)state;
    struct budget budget = shipped();
    assert_int_equal(take_all(&budget, AUTOMATION), 55);
    assert_int_equal(budget_owed_to_others(&budget, AUTOMATION), 5);
    assert_int_equal(take_all(&budget, ADHOC), 5);
    assert_int_equal(budget_open(&budget), 60);
}

static void a_limit_beyond_the_cap_does_not_touch_the_reservation(void **state)
{
    (void)state;
    struct budget budget = shipped();
    budget_configure(&budget, AUTOMATION, 1000, 0);
    assert_int_equal(take_all(&budget, AUTOMATION), 55);
    assert_int_equal(take_all(&budget, ADHOC), 5);
}

static void the_reserved_pool_in_use_leaves_no_debt(void **state)
{
    (void)state;
    struct budget budget = shipped();
    take_all(&budget, ADHOC);
    assert_int_equal(budget_owed_to_others(&budget, AUTOMATION), 0);
    assert_int_equal(take_all(&budget, AUTOMATION), 55);
}

static void a_place_is_free_again_only_when_given_back(void **state)
{
    (void)state;
    struct budget budget = shipped();
    take_all(&budget, AUTOMATION);
    budget.pools[AUTOMATION].closing = 1;
    assert_false(budget_may_take(&budget, AUTOMATION));
    budget.pools[AUTOMATION].closing = 0;
    budget_give(&budget, AUTOMATION);
    assert_true(budget_may_take(&budget, AUTOMATION));
}

static void a_pool_without_a_limit_opens_nothing(void **state)
{
    (void)state;
    struct budget budget = {.total = 3};
    budget_configure(&budget, 2, 0, 0);
    assert_int_equal(budget.pool_count, 3);
    assert_false(budget_may_take(&budget, 2));
}

static void nothing_is_too_much_before_a_reload(void **state)
{
    (void)state;
    struct budget budget = shipped();
    take_all(&budget, AUTOMATION);
    take_all(&budget, ADHOC);
    assert_false(budget_has_too_many(&budget, AUTOMATION));
    assert_false(budget_has_too_many(&budget, ADHOC));
}

/* The cap falls by three: three automation connections go, not all that are idle, and no reserved one. */
static void a_lower_cap_closes_what_is_too_much_and_no_more(void **state)
{
    (void)state;
    struct budget budget = shipped();
    take_all(&budget, AUTOMATION);
    take_all(&budget, ADHOC);
    budget.total = 57;
    assert_false(budget_has_too_many(&budget, ADHOC));
    while (budget_has_too_many(&budget, AUTOMATION))
        budget.pools[AUTOMATION].closing++;
    assert_int_equal(budget.pools[AUTOMATION].closing, 3);
    assert_false(budget_may_take(&budget, ADHOC));
}

/* A reload that reserves more must not wait for the automation load to end. */
static void a_larger_reservation_claims_its_places(void **state)
{
    (void)state;
    struct budget budget = shipped();
    take_all(&budget, AUTOMATION);
    take_all(&budget, ADHOC);
    budget_configure(&budget, ADHOC, 8, 8);
    assert_false(budget_may_take(&budget, ADHOC));
    while (budget_has_too_many(&budget, AUTOMATION))
        budget_give(&budget, AUTOMATION);
    assert_int_equal(take_all(&budget, ADHOC), 3);
    assert_int_equal(budget_open(&budget), 60);
}

static void a_lower_limit_closes_down_to_it(void **state)
{
    (void)state;
    struct budget budget = shipped();
    take_all(&budget, AUTOMATION);
    budget_configure(&budget, AUTOMATION, 40, 0);
    while (budget_has_too_many(&budget, AUTOMATION))
        budget.pools[AUTOMATION].closing++;
    assert_int_equal(budget.pools[AUTOMATION].closing, 15);
}

/* An upgrade: the old process has all 60 and lets go one by one. */
static void two_processes_of_an_upgrade_share_one_cap(void **state)
{
    (void)state;
    struct budget budget = shipped();
    budget.pools[AUTOMATION].elsewhere = 55;
    budget.pools[ADHOC].elsewhere = 5;
    assert_int_equal(budget_open(&budget), 60);
    assert_int_equal(take_all(&budget, AUTOMATION) + take_all(&budget, ADHOC), 0);
    budget.pools[ADHOC].elsewhere = 3;
    assert_int_equal(take_all(&budget, AUTOMATION),
                     0); /* what adhoc's predecessor gave back is adhoc's */
    assert_int_equal(take_all(&budget, ADHOC), 2);
    budget.pools[AUTOMATION].elsewhere = 50;
    assert_int_equal(take_all(&budget, AUTOMATION), 5);
    budget.pools[AUTOMATION].elsewhere = 0;
    budget.elsewhere = 50; /* of a pool that the new configuration does not have */
    assert_int_equal(take_all(&budget, AUTOMATION), 0);
    budget.elsewhere = 0;
    assert_int_equal(take_all(&budget, AUTOMATION), 50);
}

/* What the other process has too much of is not ours to close. */
static void nothing_is_closed_for_the_other_process(void **state)
{
    (void)state;
    struct budget budget = shipped();
    budget.pools[AUTOMATION].elsewhere = 70;
    assert_false(budget_has_too_many(&budget, AUTOMATION));
    budget.pools[AUTOMATION].open = 1;
    assert_true(budget_has_too_many(&budget, AUTOMATION));
}

static void a_pool_at_its_limit_claims_nothing(void **state)
{
    (void)state;
    struct budget budget = shipped();
    budget_configure(&budget, ADHOC, 7, 5);
    take_all(&budget, ADHOC);
    assert_int_equal(take_all(&budget, AUTOMATION), 53);
    budget_give(&budget, AUTOMATION);
    budget_claim(&budget, ADHOC);
    assert_int_equal(budget.pools[ADHOC].claimed, 0);
    assert_true(budget_may_take(&budget, AUTOMATION));
}

static void a_claimed_place_is_its_claimers_until_it_is_taken(void **state)
{
    (void)state;
    struct budget budget = shipped();
    budget_configure(&budget, ADHOC, 7, 5);
    take_all(&budget, AUTOMATION);
    for (int i = 0; i < 5; i++)
        budget_take(&budget, ADHOC);
    budget_claim(&budget, ADHOC);
    assert_int_equal(budget.pools[ADHOC].claimed, 0); /* nothing has come free */
    budget_give(&budget, AUTOMATION);
    budget_claim(&budget, ADHOC);
    assert_int_equal(budget.pools[ADHOC].claimed, 1);
    assert_false(budget_may_take(&budget, AUTOMATION));
    assert_int_equal(take_all(&budget, ADHOC), 1);
    assert_int_equal(budget.pools[ADHOC].claimed, 0);
    assert_int_equal(budget_open(&budget), 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(developers_get_in_under_full_automation_load),
        cmocka_unit_test(a_limit_beyond_the_cap_does_not_touch_the_reservation),
        cmocka_unit_test(the_reserved_pool_in_use_leaves_no_debt),
        cmocka_unit_test(a_place_is_free_again_only_when_given_back),
        cmocka_unit_test(a_pool_without_a_limit_opens_nothing),
        cmocka_unit_test(nothing_is_too_much_before_a_reload),
        cmocka_unit_test(a_lower_cap_closes_what_is_too_much_and_no_more),
        cmocka_unit_test(a_larger_reservation_claims_its_places),
        cmocka_unit_test(a_lower_limit_closes_down_to_it),
        cmocka_unit_test(two_processes_of_an_upgrade_share_one_cap),
        cmocka_unit_test(nothing_is_closed_for_the_other_process),
        cmocka_unit_test(a_pool_at_its_limit_claims_nothing),
        cmocka_unit_test(a_claimed_place_is_its_claimers_until_it_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
