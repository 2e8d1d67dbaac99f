#pragma once

#include <stdlib.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <string>

#include "taskpool/client.hpp"

namespace taskpool::test {

/// A directory for a private daemon of this test's own.
class Home {
 public:
  Home() {
    std::string name = std::filesystem::temp_directory_path() / "taskpool-home-XXXXXX";
    BOOST_REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
    ::setenv("XDG_RUNTIME_DIR", path_.c_str(), 1);
    ::setenv("TASKPOOL_HOME", TASKPOOL_TEST_HOME, 1);
    ::unsetenv("TASKPOOL_SOCKET");
  }
  Home(const Home&) = delete;
  Home& operator=(const Home&) = delete;
  ~Home() {
    ClientOptions options;
    options.autostart = false;
    if (const auto client = Client::connect(options)) (void)client->shutdown(true);
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

struct Daemon {
  Home home;
  Client client = Client::connect().value();
  Pool pool = client.pool();
};

}  // namespace taskpool::test
