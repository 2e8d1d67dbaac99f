#include "client/cpp/spin.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <chrono>
#include <vector>

using std::chrono::microseconds;
using std::chrono::nanoseconds;
using taskpool::client::Spin;
using taskpool::client::SpinPolicy;

BOOST_AUTO_TEST_SUITE(spin)

BOOST_AUTO_TEST_CASE(it_looks_until_something_comes) {
  Spin::Time now{};
  Spin spin{now};
  for (int i = 0; i < 10; ++i) BOOST_TEST(spin.looked(now += microseconds{1}, 0));
  BOOST_TEST((spin.has_paid() == false));
  BOOST_TEST(!spin.looked(now += microseconds{1}, 36));
  BOOST_TEST((spin.has_paid() == true));
}

BOOST_AUTO_TEST_CASE(what_was_there_already_says_nothing) {
  Spin::Time now{};
  Spin spin{now};
  BOOST_TEST(!spin.looked(now += microseconds{1}, 36));
  BOOST_TEST(!spin.has_paid().has_value());
}

BOOST_AUTO_TEST_CASE(it_does_not_look_for_ever) {
  Spin::Time now{};
  Spin spin{now};
  unsigned looks = 1;
  while (spin.looked(now += microseconds{1}, 0)) ++looks;
  BOOST_TEST(looks == Spin::kLongest / microseconds{1});
  BOOST_TEST((spin.has_paid() == false));
}

BOOST_AUTO_TEST_CASE(a_cpu_that_somebody_else_wants_is_not_looked_on) {
  Spin::Time now{};
  Spin spin{now};
  BOOST_TEST(spin.looked(now += Spin::kLook, 0));
  BOOST_TEST(!spin.looked(now += Spin::kLook + nanoseconds{1}, 0));
  // What has come meanwhile came because another one ran.
  Spin next{now};
  BOOST_TEST(next.looked(now += microseconds{1}, 0));
  BOOST_TEST(!next.looked(now += microseconds{20}, 36));
  BOOST_TEST((next.has_paid() == false));
}

BOOST_AUTO_TEST_CASE(many_bytes_take_their_time) {
  Spin::Time now{};
  Spin spin{now};
  BOOST_TEST(spin.looked(now += microseconds{1}, 0));
  BOOST_TEST(!spin.looked(now += microseconds{60}, 1 << 16));
  BOOST_TEST((spin.has_paid() == true));
}

BOOST_AUTO_TEST_CASE(it_spins_while_that_succeeds) {
  SpinPolicy policy;
  for (int i = 0; i < 1000; ++i) {
    BOOST_TEST(policy.should_spin());
    policy.spun(true);
  }
}

BOOST_AUTO_TEST_CASE(it_gives_up_after_some_failures_and_tries_again_ever_more_rarely) {
  SpinPolicy policy;
  std::vector<unsigned> spins;  // in which waits
  for (unsigned wait = 0; wait < 10 * SpinPolicy::kLongestPause; ++wait) {
    if (!policy.should_spin()) continue;
    spins.push_back(wait);
    policy.spun(false);
  }
  BOOST_TEST_REQUIRE(spins.size() > SpinPolicy::kPatience + 4);
  BOOST_TEST(spins[SpinPolicy::kPatience - 1] == SpinPolicy::kPatience - 1);
  unsigned pause = SpinPolicy::kFirstPause;
  for (std::size_t spin = SpinPolicy::kPatience; spin < spins.size(); ++spin) {
    BOOST_TEST(spins[spin] - spins[spin - 1] == pause);
    pause = std::min(SpinPolicy::kLonger * pause, SpinPolicy::kLongestPause);
  }
}

BOOST_AUTO_TEST_CASE(one_success_makes_it_spin_again) {
  SpinPolicy policy;
  for (unsigned i = 0; i < SpinPolicy::kPatience; ++i) policy.spun(false);
  BOOST_TEST(!policy.should_spin());
  policy.spun(true);
  BOOST_TEST(policy.should_spin());
}

/// Has it give up; then in which wait it tries again.
unsigned pause_after_giving_up(SpinPolicy& policy) {
  for (unsigned i = 0; i < SpinPolicy::kPatience; ++i) policy.spun(false);
  unsigned wait = 1;
  while (!policy.should_spin()) ++wait;
  return wait;
}

BOOST_AUTO_TEST_CASE(whoever_gives_up_again_and_again_tries_rarely) {
  SpinPolicy policy;
  BOOST_TEST(pause_after_giving_up(policy) == SpinPolicy::kFirstPause);
  policy.spun(true);
  BOOST_TEST(pause_after_giving_up(policy) == SpinPolicy::kFirstPause * SpinPolicy::kLonger);
  policy.spun(true);
  BOOST_TEST(pause_after_giving_up(policy) == SpinPolicy::kLongestPause);
}

BOOST_AUTO_TEST_CASE(many_spins_that_pay_make_the_next_pause_short) {
  SpinPolicy policy;
  for (int i = 0; i < 100; ++i) policy.spun(false);
  for (unsigned i = 0; i < SpinPolicy::kTrust; ++i) policy.spun(true);
  BOOST_TEST(pause_after_giving_up(policy) == SpinPolicy::kFirstPause);
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
