#include "daemon/journal.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace taskpool::log {
namespace {

/// A socket that plays the journal, in a directory of its own.
struct FakeJournal {
  FakeJournal() {
    BOOST_REQUIRE(::mkdtemp(directory) != nullptr);
    path = std::string{directory} + "/socket";
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    socket.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    BOOST_REQUIRE(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  }
  ~FakeJournal() {
    ::unlink(path.c_str());
    ::rmdir(directory);
  }
  /// What came next; "" if nothing did.
  std::string next() {
    std::string record(1 << 16, '\0');
    const auto size = ::recv(socket.get(), record.data(), record.size(), 0);
    record.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
    return record;
  }

  char directory[32] = "/tmp/taskpool-journal-XXXXXX";
  std::string path;
  os::UniqueFd socket;
};

BOOST_AUTO_TEST_SUITE(journal)

BOOST_AUTO_TEST_CASE(names_are_the_journal_s_and_mean_nothing_else) {
  BOOST_TEST(journal_field("worker") == "WORKER");
  BOOST_TEST(journal_field("retrying_in_ms") == "RETRYING_IN_MS");
  BOOST_TEST(journal_field("odd-key") == "ODD_KEY");
  BOOST_TEST(journal_field("message") == "TASKPOOL_MESSAGE");
  BOOST_TEST(journal_field("_uid") == "TASKPOOL__UID");  // with an underscore it would claim to be the journal's own
  BOOST_TEST(journal_field("1st") == "TASKPOOL_1ST");
  BOOST_TEST(journal_field(std::string(100, 'a')).size() == 64u);
}

BOOST_AUTO_TEST_CASE(a_record_has_the_line_and_its_fields) {
  const auto record =
      journal_record(Level::warning, "worker_exited", {{"worker", 3}, {"pool", "default"}, {"uid", 1000}},
                     "event=worker_exited worker=3 pool=default uid=1000");
  BOOST_TEST(record ==
             "MESSAGE=event=worker_exited worker=3 pool=default uid=1000\n"
             "PRIORITY=4\nSYSLOG_IDENTIFIER=taskpoold\nEVENT=worker_exited\nWORKER=3\nPOOL=default\nUID=1000\n");
}

BOOST_AUTO_TEST_CASE(levels_are_syslog_s) {
  const auto priority = [](Level level) {
    const auto record = journal_record(level, "x", {}, "x");
    return record.substr(record.find("PRIORITY=") + 9, 1);
  };
  BOOST_TEST(priority(Level::debug) == "7");
  BOOST_TEST(priority(Level::info) == "6");
  BOOST_TEST(priority(Level::error) == "3");
  BOOST_TEST(priority(Level::critical) == "2");
}

BOOST_AUTO_TEST_CASE(a_client_cannot_forge_a_field) {
  const auto record = journal_record(Level::info, "x", {{"function", "a\nPRIORITY=0"}}, "text");
  using namespace std::string_literals;
  BOOST_TEST(record.find("FUNCTION\n\x0c\0\0\0\0\0\0\0a\nPRIORITY=0\n"s) != record.npos);
}

BOOST_AUTO_TEST_CASE(long_values_are_cut) {
  BOOST_TEST(journal_record(Level::info, "x", {{"error", std::string(1'000'000, 'x')}}, "text").size() < 3000u);
}

BOOST_AUTO_TEST_CASE(records_arrive_one_a_datagram) {
  FakeJournal fake;
  Journal journal{fake.path};
  BOOST_TEST(journal.send("A=1\n"));
  BOOST_TEST(journal.send("A=2\n"));
  BOOST_TEST(fake.next() == "A=1\n");
  BOOST_TEST(fake.next() == "A=2\n");
}

BOOST_AUTO_TEST_CASE(a_busy_journal_is_not_waited_for_and_hears_of_it) {
  FakeJournal fake;
  Journal journal{fake.path};
  int sent = 0;
  for (; sent < 100'000; ++sent) {  // until its queue is full, which it says by dropping
    BOOST_REQUIRE(journal.send("A=" + std::to_string(sent) + "\n"));
    if (sent > 5000) break;
  }
  int arrived = 0;
  while (!fake.next().empty()) ++arrived;
  BOOST_TEST(arrived > 0);
  BOOST_TEST(arrived < sent + 1);
  BOOST_TEST(journal.send("B=1\n"));
  BOOST_TEST(fake.next() == "B=1\nTASKPOOL_DROPPED=" + std::to_string(sent + 1 - arrived) + "\n");
  BOOST_TEST(journal.send("B=2\n"));
  BOOST_TEST(fake.next() == "B=2\n");
}

BOOST_AUTO_TEST_CASE(without_a_journal_somebody_else_is_told) {
  Journal journal{"/nonexistent/socket"};
  BOOST_TEST(!journal.send("A=1\n"));
  Journal too_long{std::string(200, 'x')};
  BOOST_TEST(!too_long.send("A=1\n"));
}

BOOST_AUTO_TEST_CASE(a_stream_is_known_by_device_and_inode) {
  int ends[2];
  BOOST_REQUIRE(::pipe(ends) == 0);
  struct stat status {};
  ::fstat(ends[0], &status);
  const auto named = std::to_string(status.st_dev) + ":" + std::to_string(status.st_ino);
  BOOST_TEST(is_journal_stream(ends[0], named.c_str()));
  BOOST_TEST(!is_journal_stream(STDIN_FILENO, named.c_str()));
  BOOST_TEST(!is_journal_stream(ends[0], nullptr));
  BOOST_TEST(!is_journal_stream(ends[0], "8:1"));
  BOOST_TEST(!is_journal_stream(ends[0], ""));
  BOOST_TEST(!is_journal_stream(-1, named.c_str()));
  ::close(ends[0]);
  ::close(ends[1]);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::log
