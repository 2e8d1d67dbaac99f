#include "daemon/pool/worker_state.hpp"

#include <boost/test/unit_test.hpp>

namespace taskpool::pool {
namespace {

using S = WorkerState;
using E = WorkerEvent;
using A = WorkerAction;

BOOST_AUTO_TEST_SUITE(worker_state)

BOOST_AUTO_TEST_CASE(every_living_worker_may_exit_and_only_once) {
  for (const auto state : {S::starting, S::working, S::retiring, S::stopping}) {
    const auto next = step(state, E::exited);
    BOOST_REQUIRE(next.has_value());
    BOOST_TEST((next->next == S::dead));
  }
  BOOST_TEST(!step(S::dead, E::exited).has_value());
}

BOOST_AUTO_TEST_CASE(an_exit_means_what_the_state_says) {
  BOOST_TEST((step(S::starting, E::exited)->action == A::back_off));
  BOOST_TEST((step(S::working, E::exited)->action == A::fail_tasks));
  BOOST_TEST((step(S::retiring, E::exited)->action == A::fail_tasks));
  BOOST_TEST((step(S::stopping, E::exited)->action == A::clean_up));
}

BOOST_AUTO_TEST_CASE(a_retiring_worker_stops_when_it_is_empty) {
  BOOST_TEST((step(S::working, E::retire_asked)->next == S::retiring));
  BOOST_TEST((step(S::retiring, E::emptied)->action == A::stop));
  BOOST_TEST((step(S::working, E::emptied)->next == S::working));
}

BOOST_AUTO_TEST_CASE(a_worker_that_was_told_to_end_does_not_begin) {
  BOOST_TEST((step(S::starting, E::stop_asked)->next == S::stopping));
  BOOST_TEST((step(S::stopping, E::ready)->next == S::stopping));
  BOOST_TEST(!step(S::working, E::ready).has_value());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::pool
