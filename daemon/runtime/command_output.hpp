#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace taskpool::runtime {

/// Keeps the beginning and the end of a stream of any length within a bound, half the bound each.
class BoundedOutput {
 public:
  /// `bound` in bytes; 0 keeps nothing and only counts.
  explicit BoundedOutput(std::size_t bound) : head_bound_{bound - bound / 2}, tail_bound_{bound / 2} {}

  void add(std::string_view bytes);
  /// Bytes that came, kept or not.
  std::uint64_t total() const { return total_; }
  bool truncated() const { return total_ > head_.size() + tail_.size(); }
  const std::string& head() const { return head_; }
  /// What is kept behind head(), in order.
  std::string tail() const;

 private:
  std::size_t head_bound_;
  std::size_t tail_bound_;
  std::string head_;
  std::string tail_;            ///< A ring once it is full.
  std::size_t tail_begin_ = 0;  ///< Where the oldest byte of a full ring is.
  std::uint64_t total_ = 0;
};

/// The stream as JSON: text when what is kept is UTF-8, with a line that says how much is left out in its middle; else
/// `{"base64": TEXT}`, in which the gap is not marked. A character that the bound cuts through is left out too.
nlohmann::json output_to_json(const BoundedOutput& output);

}  // namespace taskpool::runtime
