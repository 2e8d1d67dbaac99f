#pragma once

#include <cstddef>
#include <string>

#include "daemon/server/snapshot.hpp"

/// The page that Prometheus reads: its text format 0.0.4. Every name begins with "taskpool_".
/// https://prometheus.io/docs/instrumenting/exposition_formats/
namespace taskpool::server {

inline constexpr std::string_view kMetricsPageType = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics on the page.
std::size_t metrics_page_parts();
/// Appends one of them: its description and its lines. Of a part at a time, so that a page with very many pools does
/// not hold the loop.
void append_metrics_part(std::string& page, const Snapshot& snapshot, std::size_t part);

/// A label's value between its quotes.
std::string escape_label(std::string_view value);

}  // namespace taskpool::server
