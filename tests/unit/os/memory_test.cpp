#include "daemon/os/memory.hpp"

#include <fcntl.h>
#include <sys/mman.h>

#include <boost/test/unit_test.hpp>
#include <cstdlib>

namespace taskpool::os {
namespace {

UniqueFd copy_of(int fd) { return UniqueFd{::fcntl(fd, F_DUPFD_CLOEXEC, 0)}; }

BOOST_AUTO_TEST_SUITE(memory)

BOOST_AUTO_TEST_CASE(what_one_mapping_writes_the_other_reads) {
  auto mine = SharedMemory::create("test", 10'000).value();
  BOOST_TEST(mine.size() == 10'000u);
  BOOST_TEST(std::to_integer<int>(mine.bytes().back()) == 0);
  const auto theirs = SharedMemory::attach(copy_of(mine.fd()), 10'000).value();
  const auto readers = SharedMemory::attach(copy_of(mine.fd()), 100, SharedMemory::Access::read_only).value();
  mine.data()[99] = std::byte{7};
  BOOST_TEST(std::to_integer<int>(theirs.data()[99]) == 7);
  BOOST_TEST(std::to_integer<int>(readers.data()[99]) == 7);
  mine.close_fd();
  BOOST_TEST(mine.fd() == -1);
  theirs.data()[99] = std::byte{8};
  BOOST_TEST(std::to_integer<int>(mine.data()[99]) == 8);
}

BOOST_AUTO_TEST_CASE(the_size_cannot_be_changed_by_anybody) {
  const auto memory = SharedMemory::create("test", 8192).value();
  BOOST_TEST(::ftruncate(memory.fd(), 4096) == -1);
  BOOST_TEST(::ftruncate(memory.fd(), 16384) == -1);
}

BOOST_AUTO_TEST_CASE(memory_that_could_shrink_is_refused) {
  UniqueFd unsealed{::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
  BOOST_REQUIRE(::ftruncate(unsealed.get(), 4096) == 0);
  BOOST_TEST(SharedMemory::attach(std::move(unsealed), 4096).error().errc() == Errc::bad_message);

  char path[] = "/tmp/taskpool-memory-test-XXXXXX";
  UniqueFd file{::mkostemp(path, O_CLOEXEC)};
  ::unlink(path);
  BOOST_REQUIRE(::ftruncate(file.get(), 4096) == 0);
  BOOST_TEST(SharedMemory::attach(std::move(file), 4096).error().errc() == Errc::bad_message);

  BOOST_TEST(SharedMemory::attach(UniqueFd{}, 4096).error().errc() == Errc::bad_message);
}

BOOST_AUTO_TEST_CASE(a_size_that_is_not_there_is_refused) {
  const auto memory = SharedMemory::create("test", 4096).value();
  BOOST_TEST(SharedMemory::attach(copy_of(memory.fd()), 4097).error().errc() == Errc::bad_message);
  BOOST_TEST(SharedMemory::attach(copy_of(memory.fd()), 0).error().errc() == Errc::bad_message);
}

BOOST_AUTO_TEST_CASE(discarded_pages_read_as_zero_and_can_be_used_again) {
  const auto memory = SharedMemory::create("test", 3 * 4096).value();
  memory.prefault(4096, 8192);
  memory.data()[4096] = std::byte{1};
  memory.data()[0] = std::byte{2};
  memory.discard(4096, 4096);
  BOOST_TEST(std::to_integer<int>(memory.data()[4096]) == 0);
  BOOST_TEST(std::to_integer<int>(memory.data()[0]) == 2);
  memory.data()[4096] = std::byte{3};
}

BOOST_AUTO_TEST_CASE(moving_keeps_one_mapping) {
  auto first = SharedMemory::create("test", 4096).value();
  auto* const data = first.data();
  SharedMemory second{std::move(first)};
  BOOST_TEST(!first);
  BOOST_TEST(second.data() == data);
  first = std::move(second);
  BOOST_TEST(first.data() == data);
}

BOOST_AUTO_TEST_CASE(more_than_there_can_be_is_an_error) {
  BOOST_TEST(!SharedMemory::create("test", std::size_t{1} << 62));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::os
