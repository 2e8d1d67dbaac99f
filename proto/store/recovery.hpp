#pragma once

#include <span>
#include <string>
#include <vector>

#include "proto/result.hpp"
#include "proto/store/writer.hpp"

namespace taskpool::store {

struct Recovered {
  Writer writer;
  /// What was found damaged and dropped, for the log: at most kMaxRecoveryMessages, the last then says how many more.
  /// Empty after any crash of a writer: only foreign hands damage a segment.
  std::vector<std::string> messages;
};
inline constexpr std::size_t kMaxRecoveryMessages = 100;

/// Takes over an existing segment, after an orderly end or a crash of its writer at any instruction: completes a
/// committed transaction, walks every object, and rebuilds what the writer keeps privately. Believes nothing: what is
/// not what a writer writes is dropped (an entry, an item, an object) and said. `bad_segment`: the header is not one,
/// or of another format or length; nothing was changed.
Result<Recovered> recover(std::span<std::byte> memory, Extend extend);

}  // namespace taskpool::store
