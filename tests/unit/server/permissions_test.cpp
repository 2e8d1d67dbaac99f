#include "daemon/server/permissions.hpp"

#include <boost/test/unit_test.hpp>
#include <map>

namespace taskpool::server {
namespace {

constexpr std::uint32_t kDaemon = 900;

/// A host with the users alice (1) and bob (2), and the groups staff (50) and wheel (60).
Lookups host() {
  const auto in = [](std::map<std::string, std::uint32_t> names) {
    return [names = std::move(names)](const std::string& name) {
      const auto found = names.find(name);
      return found == names.end() ? std::nullopt : std::optional{found->second};
    };
  };
  return {in({{"alice", 1}, {"bob", 2}}), in({{"staff", 50}, {"wheel", 60}})};
}

Permissions permissions(const Config& config) { return Permissions::make(config, kDaemon, host()).value(); }

std::string error_of(const Config& config) {
  const auto made = Permissions::make(config, kDaemon, host());
  BOOST_REQUIRE(!made);
  BOOST_TEST((made.error().errc() == Errc::bad_argument));
  return made.error().detail;
}

BOOST_AUTO_TEST_SUITE(permissions_of_users)

BOOST_AUTO_TEST_CASE(roles_come_from_the_lists) {
  Config config;
  config.operators = {"alice", "@staff", "77"};
  config.admins = {"bob", "@wheel", "@61"};
  const auto rules = permissions(config);
  const auto role = [&](Identity who) { return rules.role_of(who); };
  BOOST_TEST((role({0, 5}) == Role::admin));
  BOOST_TEST((role({kDaemon, 5}) == Role::admin));
  BOOST_TEST((role({2, 5}) == Role::admin));
  BOOST_TEST((role({9, 60}) == Role::admin));
  BOOST_TEST((role({9, 5, {7, 61}}) == Role::admin));
  BOOST_TEST((role({1, 5}) == Role::operate));
  BOOST_TEST((role({77, 5}) == Role::operate));
  BOOST_TEST((role({9, 5, {50}}) == Role::operate));
  BOOST_TEST((role({1, 60}) == Role::admin));  // of both
  BOOST_TEST((role({9, 5, {7}}) == Role::user));
  BOOST_TEST((role({50, 1, {2}}) == Role::user));  // the numbers of others' kinds
}

BOOST_AUTO_TEST_CASE(without_lists_there_are_root_and_the_daemons_user) {
  const auto rules = permissions({});
  BOOST_TEST((rules.role_of({0, 0}) == Role::admin));
  BOOST_TEST((rules.role_of({kDaemon, 1}) == Role::admin));
  BOOST_TEST((rules.role_of({1, 0, {0}}) == Role::user));  // root's group is not root
  BOOST_TEST(rules.is_trusted(0));
  BOOST_TEST(rules.is_trusted(kDaemon));
  BOOST_TEST(!rules.is_trusted(1));
}

BOOST_AUTO_TEST_CASE(each_right_takes_a_role) {
  Config config;
  config.operators = {"alice"};
  config.admins = {"bob"};
  const auto rules = permissions(config);
  struct Row {
    Right right;
    bool user, operate, admin;
  };
  for (const auto& row : {Row{Right::others_tasks, false, true, true}, Row{Right::change_pools, false, true, true},
                          Row{Right::drain, false, true, true}, Row{Right::load_code, false, false, true},
                          Row{Right::reload, false, false, true}, Row{Right::shutdown, false, false, true}}) {
    const auto may = [&](std::uint32_t uid) {
      return rules.check(row.right, "it", {uid, 5}, Door::clients).has_value();
    };
    BOOST_TEST(may(9) == row.user);
    BOOST_TEST(may(1) == row.operate);
    BOOST_TEST(may(2) == row.admin);
  }
  const auto refused = rules.check(Right::reload, "reload", {1, 5}, Door::clients);
  BOOST_REQUIRE(!refused);
  BOOST_TEST((refused.error().errc() == Errc::permission_denied));
  BOOST_TEST(refused.error().detail ==
             "reload is for admins: root, the daemon's user and `admins`; user 1 has the role 'operator'");
  BOOST_TEST(rules.check(Right::drain, "drain", {9, 5}, Door::admin).error().detail ==
             "drain is for operators (`operators`) and admins (root, the daemon's user and `admins`); user 9 has the "
             "role 'user'");
}

BOOST_AUTO_TEST_CASE(roles_may_count_at_the_admin_socket_only) {
  Config config;
  config.operators = {"alice"};
  config.admin_requests = "admin_socket";
  const auto rules = permissions(config);
  const Identity alice{1, 5};
  const Identity root{0, 0};
  for (const auto right : {Right::others_tasks, Right::change_pools, Right::drain}) {
    BOOST_TEST(rules.check(right, "it", alice, Door::admin).has_value());
    BOOST_TEST(!rules.check(right, "it", alice, Door::clients).has_value());
    BOOST_TEST(!rules.check(right, "it", root, Door::clients).has_value());
  }
  BOOST_TEST(!rules.check(Right::reload, "reload", alice, Door::admin).has_value());
  BOOST_TEST(rules.check(Right::reload, "reload", root, Door::admin).has_value());
  BOOST_TEST(rules.check(Right::load_code, "it", root, Door::clients).has_value());
  BOOST_TEST((rules.role_of(root) == Role::admin));
  BOOST_TEST((rules.role_at(Door::clients, root) == Role::user));
  BOOST_TEST((rules.role_at(Door::admin, alice) == Role::operate));
  BOOST_TEST(
      rules.check(Right::reload, "reload", root, Door::clients).error().detail ==
      "reload is for the admin socket only (`admin_requests = \"admin_socket\"`); user 0 has the role 'admin' there");
  BOOST_TEST(rules.check(Right::reload, "reload", alice, Door::clients).error().detail ==
             "reload is for admins: root, the daemon's user and `admins`; user 1 has the role 'operator'");
}

/// A limit and its rule, as text.
std::string shown(const Bound& bound) {
  return bound.most == queue::kNoLimit ? "none (" + bound.rule + ")"
                                       : std::to_string(bound.most) + " (" + bound.rule + ")";
}

BOOST_AUTO_TEST_CASE(a_limit_is_the_users_then_the_largest_of_his_groups_then_the_default) {
  Config config;
  config.quotas["default"] = {.sessions = 1, .queued_tasks = 10};
  config.quotas["@staff"] = {.sessions = 2, .queued_tasks = 20, .queued_bytes = 7};
  config.quotas["@wheel"] = {.sessions = 3, .queued_tasks = 0};
  config.quotas["alice"] = {.sessions = 4};
  config.quotas["77"] = {.running_slots = 1, .store_bytes = 1u << 20};
  const auto rules = permissions(config);
  const auto sessions = [&](Identity who) { return shown(rules.bounds_of(who).sessions); };
  const auto tasks = [&](Identity who) { return shown(rules.bounds_of(who).queued_tasks); };
  BOOST_TEST(sessions({9, 5}) == "1 (quota.default.sessions = 1)");
  BOOST_TEST(sessions({9, 50}) == "2 (quota.@staff.sessions = 2)");
  BOOST_TEST(sessions({9, 50, {60}}) == "3 (quota.@wheel.sessions = 3)");
  BOOST_TEST(sessions({1, 50, {60}}) == "4 (quota.alice.sessions = 4)");
  BOOST_TEST(tasks({9, 5}) == "10 (quota.default.queued_tasks = 10)");
  BOOST_TEST(tasks({1, 5, {50}}) == "20 (quota.@staff.queued_tasks = 20)");  // alice's table leaves it out
  BOOST_TEST(tasks({1, 5, {50, 60}}) == "none (quota.@wheel.queued_tasks = 0)");
  BOOST_TEST(shown(rules.bounds_of({9, 50}).queued_bytes) == "7 (quota.@staff.queued_bytes = 7)");
  BOOST_TEST(shown(rules.bounds_of({9, 5}).queued_bytes) == "none ()");
  BOOST_TEST(shown(rules.bounds_of({77, 5}).running_slots) == "1 (quota.77.running_slots = 1)");
  BOOST_TEST(shown(rules.bounds_of({77, 5}).store_bytes) == "1048576 (quota.77.store_bytes = 1048576)");
}

BOOST_AUTO_TEST_CASE(root_and_the_daemons_user_have_the_limits_of_their_own_tables_only) {
  Config config;
  config.quotas["default"] = {.sessions = 1};
  config.quotas["@staff"] = {.queued_tasks = 20};
  config.quotas["900"] = {.running_slots = 5};
  const auto bounds = permissions(config).bounds_of({kDaemon, 50});
  BOOST_TEST(shown(bounds.sessions) == "none ()");
  BOOST_TEST(shown(bounds.queued_tasks) == "none ()");
  BOOST_TEST(shown(bounds.running_slots) == "5 (quota.900.running_slots = 5)");
  BOOST_TEST(shown(permissions(config).bounds_of({0, 50, {50}}).queued_tasks) == "none ()");
}

BOOST_AUTO_TEST_CASE(names_that_are_not_there_are_named) {
  Config config;
  config.operators = {"alice", "carol"};
  BOOST_TEST(error_of(config) == "operators = \"carol\": there is no such user");
  config.operators = {"staff"};  // a group without its @
  BOOST_TEST(error_of(config) == "operators = \"staff\": there is no such user");
  config.operators = {};
  for (const auto* group : {"@alice", "@", "@-1"}) {
    config.admins = {group};
    BOOST_TEST(error_of(config) == std::string{"admins = \""} + group + "\": there is no such group");
  }
  config.quotas["carol"] = {};
  BOOST_TEST(error_of(config) == "admins = \"@-1\": there is no such group");
  config.admins = {};
  BOOST_TEST(error_of(config) == "quota = \"carol\": there is no such user");
  for (const auto* user : {"", "-1", "4294967296", "1x"}) {
    config.admins = {user};
    BOOST_TEST(error_of(config) == std::string{"admins = \""} + user + "\": there is no such user");
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace taskpool::server
