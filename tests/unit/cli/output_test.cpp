#include "client/cli/output.hpp"

#include <unistd.h>

#include <array>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <csignal>

namespace taskpool::cli {
namespace {

using std::chrono::milliseconds;

BOOST_AUTO_TEST_SUITE(output)

BOOST_AUTO_TEST_CASE(durations_have_two_units_at_most) {
  BOOST_TEST(human_duration(milliseconds{0}) == "0ms");
  BOOST_TEST(human_duration(milliseconds{999}) == "999ms");
  BOOST_TEST(human_duration(milliseconds{1250}) == "1.2s");
  BOOST_TEST(human_duration(milliseconds{59'999}) == "59.9s");
  BOOST_TEST(human_duration(milliseconds{125'000}) == "2m05s");
  BOOST_TEST(human_duration(milliseconds{3'600'000 + 720'000}) == "1h12m");
  BOOST_TEST(human_duration(milliseconds{86'400'000ll * 4 + 3'600'000 * 3}) == "4d03h");
  BOOST_TEST(human_duration(milliseconds{-5}) == "0ms");
}

BOOST_AUTO_TEST_CASE(sizes_are_counted_in_powers_of_1024) {
  BOOST_TEST(human_bytes(0) == "0 B");
  BOOST_TEST(human_bytes(1023) == "1023 B");
  BOOST_TEST(human_bytes(1536) == "1.5 KB");
  BOOST_TEST(human_bytes(1048575) == "1.0 MB");
  BOOST_TEST(human_bytes(std::uint64_t{5} << 40) == "5.0 TB");
  BOOST_TEST(human_bytes(~std::uint64_t{0}) == "16777216.0 TB");
}

BOOST_AUTO_TEST_CASE(no_text_drives_the_terminal) {
  BOOST_TEST(printable("a\x1b[31mb\n\x7f") == "a\\x1b[31mb\\x0a\\x7f");
  BOOST_TEST(printable("\xc2\x9b"
                       "31m") == "\\xc2\\x9b31m");
  BOOST_TEST(printable("\xff"
                       "a\x9b"
                       "b\xc3") == "\\xffa\\x9bb\\xc3");
  BOOST_TEST(printable("gr\xc3\xbc\xc3\x9f"
                       "e") == "gr\xc3\xbc\xc3\x9f"
                               "e");
}

BOOST_AUTO_TEST_CASE(tables_are_aligned_by_characters) {
  Table table{{{"NAME"}, {"N", Table::Align::right}, {"LAST"}}};
  table.add({"gr\xc3\xbcn", "7", ""});
  table.add({"a", "1234", "x"});
  BOOST_TEST(table.text() == "NAME     N  LAST\n"
                             "gr\xc3\xbcn     7\n"
                             "a     1234  x\n");
}

BOOST_AUTO_TEST_CASE(an_empty_table_is_its_heading) {
  const Table table{{{"A"}, {"B"}}};
  BOOST_TEST(table.empty());
  BOOST_TEST(table.text() == "A  B\n");
}

BOOST_AUTO_TEST_CASE(a_writer_keeps_what_is_small_until_flushed) {
  std::array<int, 2> fds{};
  BOOST_REQUIRE(::pipe(fds.data()) == 0);
  Writer writer{fds[1]};
  BOOST_TEST(writer.write("abc").has_value());
  BOOST_TEST(writer.write("def").has_value());
  BOOST_TEST(writer.flush().has_value());
  ::close(fds[1]);
  std::array<char, 16> read{};
  BOOST_TEST(::read(fds[0], read.data(), read.size()) == 6);
  ::close(fds[0]);
}

BOOST_AUTO_TEST_CASE(a_writer_remembers_that_its_reader_is_gone) {
  const auto before = std::signal(SIGPIPE, SIG_IGN);
  std::array<int, 2> fds{};
  BOOST_REQUIRE(::pipe(fds.data()) == 0);
  ::close(fds[0]);
  Writer writer{fds[1]};
  BOOST_TEST(writer.write("abc").has_value());
  BOOST_TEST(writer.flush().has_error());
  BOOST_TEST(writer.error_number() == EPIPE);
  BOOST_TEST(writer.write("more").has_error());
  ::close(fds[1]);
  std::signal(SIGPIPE, before);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::cli
