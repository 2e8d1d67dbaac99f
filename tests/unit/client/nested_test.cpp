#include <boost/test/unit_test.hpp>
#include <cstdlib>

#include "fake_server.hpp"

using namespace taskpool;
using namespace taskpool::test;

BOOST_AUTO_TEST_SUITE(nested)

BOOST_AUTO_TEST_CASE(a_client_inside_a_task_says_so_and_frames_its_waits) {
  ::setenv("TASKPOOL_WORKER_TOKEN", "secret", 1);
  FakeServer server;
  const Background serving{[&] {
    auto peer = server.accept_raw();
    expect(peer.greet().fields()["worker_token"] == "secret");
    std::vector<Op> seen;
    for (int i = 0; i < 3; ++i) {
      const auto frame = peer.next();
      seen.push_back(frame.prefix.op);
      if (frame.prefix.op == Op::nested_wait) expect(frame.prefix.target == (i < 2 ? 1u : 0u));
      if (frame.prefix.op == Op::apply) peer.result(frame, "1");
    }
    expect((seen == std::vector{Op::apply, Op::nested_wait, Op::nested_wait}));
  }};
  {
    auto client = Client::connect(server.options()).value();
    BOOST_TEST(client.pool().apply<int>("f").value() == 1);
  }
  ::unsetenv("TASKPOOL_WORKER_TOKEN");
}

BOOST_AUTO_TEST_SUITE_END()
