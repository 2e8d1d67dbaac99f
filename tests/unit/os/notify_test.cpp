#include "daemon/os/notify.hpp"

#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

#include "daemon/os/unique_fd.hpp"

namespace taskpool::os {
namespace {

/// Plays the service manager: a datagram socket named by $NOTIFY_SOCKET.
struct Manager {
  std::filesystem::path directory;
  UniqueFd socket{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  Manager() {
    char name[] = "/tmp/taskpool-notify-XXXXXX";
    directory = ::mkdtemp(name);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const auto path = (directory / "notify").string();
    std::strcpy(address.sun_path, path.c_str());
    BOOST_REQUIRE(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
  }
  ~Manager() {
    ::unsetenv("NOTIFY_SOCKET");
    std::filesystem::remove_all(directory);
  }
  std::string next() const {
    std::array<char, 512> text{};
    const auto bytes = ::recv(socket.get(), text.data(), text.size(), MSG_DONTWAIT);
    return bytes < 0 ? "nothing" : std::string(text.data(), static_cast<std::size_t>(bytes));
  }
};

BOOST_AUTO_TEST_SUITE(notify)

BOOST_FIXTURE_TEST_CASE(states_reach_the_service_manager, Manager) {
  notify_ready("2 pools\nREADY=0");
  BOOST_TEST(next() == "READY=1\nSTATUS=2 pools READY=0");
  notify_reloading();
  BOOST_TEST(next().starts_with("RELOADING=1\nMONOTONIC_USEC="));
  notify_watchdog();
  BOOST_TEST(next() == "WATCHDOG=1");
  notify_stopping("draining");
  BOOST_TEST(next() == "STOPPING=1\nSTATUS=draining");
}

BOOST_AUTO_TEST_CASE(without_a_service_manager_nothing_happens) {
  notify_ready("alone");
  BOOST_TEST(!watchdog_interval());
}

BOOST_AUTO_TEST_CASE(the_watchdog_is_fed_twice_as_often_as_asked) {
  ::setenv("WATCHDOG_USEC", "3000000", 1);
  BOOST_TEST(watchdog_interval().value().count() == 1'500'000);
  ::unsetenv("WATCHDOG_USEC");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::os
