#include <fmt/format.h>

#include <charconv>
#include <memory>

#include "client/cli/session.hpp"

/// The commands that give the daemon an order.
namespace taskpool::cli {
namespace {

using nlohmann::json;

/// Connects, gives the order and prints its reply as JSON, or `text` for people.
Result<int> order(const Invocation& invocation, const std::function<Result<json>(const Client&)>& give,
                  const std::function<std::string(const json&)>& text) {
  const auto client = connect(invocation.globals, Autostart::no);
  if (!client) return client.error();
  const auto reply = give(*client);
  if (!reply) return reply.error();
  const bool json_wanted = invocation.globals.json;
  if (invocation.globals.quiet && !json_wanted) return kDone;
  const auto shown = json_wanted ? reply->dump() : text(*reply);
  if (shown.empty()) return kDone;
  if (auto printed = print(shown + "\n"); !printed) return printed.error();
  return kDone;
}

std::string nothing(const json&) { return {}; }

std::string list_of(const json& reply, const char* key, std::string_view before) {
  std::string names;
  if (const auto list = reply.find(key); list != reply.end())
    for (const auto& each : *list)
      names += (names.empty() ? "" : ", ") + (each.is_string() ? each.get<std::string>() : each.dump());
  return names.empty() ? "" : fmt::format("; {}: {}", before, printable(names));
}

/// pause and resume.
Run order_to_pool(Result<json> (Client::*give)(const std::string&) const) {
  return [give](const Invocation& invocation) {
    invocation.expect_words(1, 1);
    return order(
        invocation, [&](const Client& client) { return (client.*give)(invocation.words[0]); }, nothing);
  };
}

}  // namespace

Run define_resize(CLI::App&) {
  return [](const Invocation& invocation) {
    invocation.expect_words(2, 2);
    const auto& text = invocation.words[1];
    std::uint32_t workers = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), workers);
    if (error != std::errc{} || end != text.data() + text.size() || workers > kMaxWorkers)
      throw UsageError(fmt::format("'{}' is no number of workers: want 0 to {}", text, kMaxWorkers));
    return order(
        invocation, [&](const Client& client) { return client.pool_resize(invocation.words[0], workers); }, nothing);
  };
}

Run define_pause(CLI::App&) { return order_to_pool(&Client::pool_pause); }
Run define_resume(CLI::App&) { return order_to_pool(&Client::pool_resume); }

Run define_reload(CLI::App&) {
  return [](const Invocation& invocation) {
    invocation.expect_words(0, 0);
    return order(
        invocation, [](const Client& client) { return client.reload(); },
        [](const json& reply) {
          return "reloaded" + list_of(reply, "changed", "changed") +
                 list_of(reply, "needs_restart", "only a restart changes");
        });
  };
}

Run define_drain(CLI::App& app) {
  auto timeout = std::make_shared<std::chrono::milliseconds>(0);
  add_duration(
      app, "--timeout", [timeout](auto time) { *timeout = time; }, "Wait no longer; the daemon stays draining");
  return [timeout](const Invocation& invocation) {
    invocation.expect_words(0, 0);
    return order(
        invocation, [&](const Client& client) { return client.drain(*timeout); }, nothing);
  };
}

Run define_shutdown(CLI::App& app) {
  auto force = std::make_shared<bool>(false);
  app.add_flag("-f,--force", *force, "Do not wait for what runs");
  return [force](const Invocation& invocation) {
    invocation.expect_words(0, 0);
    return order(
        invocation, [&](const Client& client) { return client.shutdown(*force); }, nothing);
  };
}

Run define_ping(CLI::App&) {
  return [](const Invocation& invocation) {
    invocation.expect_words(0, 0);
    std::chrono::steady_clock::duration took{};
    const auto give = [&](const Client& client) {
      const auto start = std::chrono::steady_clock::now();
      auto reply = client.ping();
      took = std::chrono::steady_clock::now() - start;
      return reply;
    };
    const auto text = [&](const json&) {
      return fmt::format("pong in {} us", std::chrono::duration_cast<std::chrono::microseconds>(took).count());
    };
    return order(invocation, give, text);
  };
}

}  // namespace taskpool::cli
