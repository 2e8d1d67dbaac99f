#include "daemon/runtime/command_output.hpp"

#include <algorithm>
#include <cstddef>

namespace taskpool::runtime {
namespace {

bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xc0u) == 0x80u; }

/// Length of the UTF-8 sequence that begins with `lead`; 0 if none does. Unicode, table 3-7.
std::size_t sequence_bytes(unsigned char lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead <= 0xdf) return 2;
  if (lead >= 0xe0 && lead <= 0xef) return 3;
  if (lead >= 0xf0 && lead <= 0xf4) return 4;
  return 0;
}

/// Unicode, table 3-7: no overlong forms, no surrogates, nothing above U+10FFFF.
bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const auto bytes = sequence_bytes(lead);
    if (bytes == 0 || bytes > text.size() - i) return false;
    for (std::size_t k = 1; k < bytes; ++k)
      if (!is_continuation(text[i + k])) return false;
    if (bytes > 1) {
      const auto second = static_cast<unsigned char>(text[i + 1]);
      if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f)) return false;
      if ((lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f)) return false;
    }
    i += bytes;
  }
  return true;
}

/// Without a sequence at the end that its last bytes are missing from.
std::string_view without_cut_end(std::string_view text) {
  for (std::size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const char byte = text[text.size() - back];
    if (is_continuation(byte)) continue;
    if (sequence_bytes(static_cast<unsigned char>(byte)) > back) text.remove_suffix(back);
    break;
  }
  return text;
}

/// Without the rest of a sequence that began before the text does.
std::string_view without_cut_start(std::string_view text) {
  for (int i = 0; i < 3 && !text.empty() && is_continuation(text.front()); ++i) text.remove_prefix(1);
  return text;
}

std::string base64(std::string_view bytes) {
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t have = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k)
      group = (group << 8) | (k < have ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    for (std::size_t k = 0; k < 4; ++k) out += k <= have ? kDigits[(group >> (18 - 6 * k)) & 63u] : '=';
  }
  return out;
}

}  // namespace

void BoundedOutput::add(std::string_view bytes) {
  total_ += bytes.size();
  const auto into_head = std::min(bytes.size(), head_bound_ - head_.size());
  head_.append(bytes.substr(0, into_head));
  bytes.remove_prefix(into_head);

  if (bytes.size() > tail_bound_) bytes.remove_prefix(bytes.size() - tail_bound_);  // the rest would be overwritten
  const auto into_free = std::min(bytes.size(), tail_bound_ - tail_.size());
  tail_.append(bytes.substr(0, into_free));
  bytes.remove_prefix(into_free);
  while (!bytes.empty()) {
    const auto run = std::min(bytes.size(), tail_.size() - tail_begin_);
    tail_.replace(tail_begin_, run, bytes.substr(0, run));
    tail_begin_ = (tail_begin_ + run) % tail_.size();
    bytes.remove_prefix(run);
  }
}

std::string BoundedOutput::tail() const { return tail_.substr(tail_begin_) + tail_.substr(0, tail_begin_); }

nlohmann::json output_to_json(const BoundedOutput& output) {
  const auto tail = output.tail();
  if (!output.truncated()) {
    auto all = output.head() + tail;
    if (is_utf8(all)) return all;
    return {{"base64", base64(all)}};
  }
  const auto first = without_cut_end(output.head());
  const auto last = without_cut_start(tail);
  if (!is_utf8(first) || !is_utf8(last)) return {{"base64", base64(output.head() + tail)}};
  const auto left_out = output.total() - first.size() - last.size();
  return std::string{first} + "\n[" + std::to_string(left_out) + " bytes left out]\n" + std::string{last};
}

}  // namespace taskpool::runtime
