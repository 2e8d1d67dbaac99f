#include "client/cpp/spin.hpp"

#include <boost/test/unit_test.hpp>

using taskpool::client::SpinPolicy;

BOOST_AUTO_TEST_SUITE(spin)

BOOST_AUTO_TEST_CASE(it_spins_while_that_succeeds) {
  SpinPolicy policy;
  for (int i = 0; i < 1000; ++i) {
    BOOST_TEST(policy.should_spin());
    policy.spun(true);
  }
}

BOOST_AUTO_TEST_CASE(it_gives_up_after_some_failures_and_tries_again_rarely) {
  SpinPolicy policy;
  unsigned spins = 0;
  constexpr unsigned kWaits = 10 * SpinPolicy::kRetryEvery;
  for (unsigned i = 0; i < kWaits; ++i) {
    if (!policy.should_spin()) continue;
    ++spins;
    policy.spun(false);
  }
  BOOST_TEST(spins >= SpinPolicy::kPatience + 9);
  BOOST_TEST(spins <= SpinPolicy::kPatience + 10);
}

BOOST_AUTO_TEST_CASE(one_success_makes_it_spin_again) {
  SpinPolicy policy;
  for (unsigned i = 0; i < SpinPolicy::kPatience; ++i) policy.spun(false);
  BOOST_TEST(!policy.should_spin());
  policy.spun(true);
  BOOST_TEST(policy.should_spin());
}

BOOST_AUTO_TEST_CASE(a_failure_among_successes_changes_nothing) {
  SpinPolicy policy;
  for (int i = 0; i < 100; ++i) {
    policy.spun(false);
    policy.spun(true);
    BOOST_TEST(policy.should_spin());
  }
}

BOOST_AUTO_TEST_SUITE_END()
