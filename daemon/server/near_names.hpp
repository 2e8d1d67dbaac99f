#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace taskpool::server {

/// "; did you mean 'square'?" for the up to three names that are nearest to a wrong one, or "" if none is near.
std::string near_names(std::string_view wrong, const std::vector<std::string>& names);

}  // namespace taskpool::server
