#include "client/cli/lines.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <boost/test/unit_test.hpp>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

namespace taskpool::cli {
namespace {

/// A pipe whose writing end is fed by a thread.
class Feed {
 public:
  explicit Feed(std::vector<std::string> pieces) {
    std::signal(SIGPIPE, SIG_IGN);  // a reader may stop early
    BOOST_REQUIRE(::pipe(fds_.data()) == 0);
    feeder_ = std::thread{[fd = fds_[1], pieces = std::move(pieces)] {
      for (const auto& piece : pieces)
        for (std::size_t at = 0; at < piece.size();) {
          const auto count = ::write(fd, piece.data() + at, piece.size() - at);
          if (count <= 0) break;
          at += static_cast<std::size_t>(count);
        }
      ::close(fd);
    }};
  }
  ~Feed() {
    ::close(fds_[0]);
    feeder_.join();
  }
  int fd() const { return fds_[0]; }

 private:
  std::array<int, 2> fds_{};
  std::thread feeder_;
};

std::vector<std::string> read_all(LineReader& reader) {
  std::vector<std::string> lines;
  for (;;) {
    const auto line = reader.next().value();
    if (!line) return lines;
    lines.emplace_back(*line);
  }
}

using Lines = std::vector<std::string>;

BOOST_AUTO_TEST_SUITE(lines)

BOOST_AUTO_TEST_CASE(lines_come_whole_however_they_were_written) {
  Feed feed{{"on", "e\ntw", "o\n", "\nthree"}};
  LineReader reader{feed.fd(), '\n'};
  BOOST_TEST(read_all(reader) == (Lines{"one", "two", "", "three"}));
  BOOST_TEST(reader.number() == 4);
}

BOOST_AUTO_TEST_CASE(an_empty_input_has_no_line) {
  Feed feed{{}};
  LineReader reader{feed.fd(), '\n'};
  BOOST_TEST(read_all(reader).empty());
  BOOST_TEST(!reader.next().value().has_value());
}

BOOST_AUTO_TEST_CASE(a_carriage_return_belongs_to_the_end_of_a_line) {
  Feed feed{{"a\r\nb\rc\r\n\r\n"}};
  LineReader reader{feed.fd(), '\n'};
  BOOST_TEST(read_all(reader) == (Lines{"a", "b\rc", ""}));
}

BOOST_AUTO_TEST_CASE(items_may_end_with_nul) {
  using namespace std::string_literals;
  Feed feed{{"a\nb\0c\r\0"s}};
  LineReader reader{feed.fd(), '\0'};
  BOOST_TEST(read_all(reader) == (Lines{"a\nb", "c\r"}));
}

BOOST_AUTO_TEST_CASE(lines_longer_than_the_buffer_are_whole) {
  const std::string longest(300'000, 'x');
  Feed feed{{"a\n", longest, "\n", longest, "y"}};
  LineReader reader{feed.fd(), '\n'};
  BOOST_TEST((read_all(reader) == Lines{"a", longest, longest + "y"}));
}

BOOST_AUTO_TEST_CASE(a_line_above_the_limit_is_an_error_that_names_it) {
  Feed feed{{"a\n", std::string(kMaxLineBytes + (1u << 20), 'x')}};
  LineReader reader{feed.fd(), '\n'};
  BOOST_TEST(reader.next().value().has_value());
  const auto line = reader.next();
  BOOST_REQUIRE(line.has_error());
  BOOST_TEST(line.error().errc() == Errc::body_too_large);
  BOOST_TEST(line.error().detail.starts_with("line 2:"));
}

BOOST_AUTO_TEST_CASE(a_stop_ends_the_reading_at_once) {
  std::array<int, 2> fds{};
  BOOST_REQUIRE(::pipe(fds.data()) == 0);
  const int stop = ::eventfd(1, EFD_CLOEXEC);
  LineReader reader{fds[0], '\n', stop};
  BOOST_TEST(!reader.next().value().has_value());
  for (const int fd : {fds[0], fds[1], stop}) ::close(fd);
}

BOOST_AUTO_TEST_CASE(what_cannot_be_read_is_an_error) {
  std::array<int, 2> fds{};
  BOOST_REQUIRE(::pipe(fds.data()) == 0);
  LineReader wrong_end{fds[1], '\n'};
  ::close(fds[0]);
  BOOST_TEST(wrong_end.next().has_error());
  ::close(fds[1]);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::cli
