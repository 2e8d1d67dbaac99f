#include "client/cpp/pending.hpp"

#include <algorithm>
#include <array>

#include "client/cpp/connection.hpp"
#include "client/cpp/mapping.hpp"
#include "proto/codec.hpp"

namespace taskpool::client {

Result<bool> Pending::accept_progress(Connection& connection, const FrameView& frame) {
  auto progress = decode<Progress>(frame.head);
  if (!progress) return progress.error();
  auto& kept = extras();
  if (kept.task.empty()) kept.task = progress->task;
  if (kept.callback && (progress->done || progress->total || !progress->message.empty()))
    connection.call_later([callback = kept.callback, report = *progress] { callback(report); });
  kept.progress = std::move(*progress);
  return false;
}

ErrorHead Pending::judge(ErrorHead error) const {
  constexpr std::array kNothingRan{
      Errc::queue_full,    Errc::draining,          Errc::pool_closed,  Errc::start_failed,     Errc::spawn_failed,
      Errc::limit_reached, Errc::permission_denied, Errc::unknown_pool, Errc::unknown_function, Errc::nesting_too_deep};
  if (!begun || std::find(kNothingRan.begin(), kNothingRan.end(), error.code) == kNothingRan.end()) return error;
  return error_head(Errc::outcome_unknown, "the connection broke when it may have run; sent again, it was refused: " +
                                               std::string{name(error.code)} + ": " + error.detail);
}

Result<bool> Reply::accept(Connection& connection, const FrameView& frame, std::span<Fd> given) {
  switch (frame.prefix.op) {
    case Op::progress: return accept_progress(connection, frame);
    case Op::result: {
      auto read = connection.read_single(frame);
      if (!read) return read.error();
      auto refs = connection.refs_of(frame);
      if (!refs) return refs.error();
      body = std::move(*read);
      Connection::attach_refs(body, std::move(*refs));
      return true;
    }
    case Op::ok: {
      // What a reply says is JSON in the body; a reply that has only a head says it there.
      const auto said = frame.body.empty() ? as_bytes(frame.head) : frame.body;
      body = Body{Encoding::json, 1, Bytes(said.begin(), said.end())};
      for (auto& fd : given) fds.push_back(std::move(fd));
      return true;
    }
    case Op::error: {
      auto error = decode<ErrorHead>(frame.head);
      if (!error) return error.error();
      failure = std::make_unique<ErrorHead>(judge(std::move(*error)));
      return true;
    }
    case Op::results:
    case Op::failed:
    case Op::done:
      // A fetch of what turned out to be a job: the rest of it is dropped.
      connection.release_all(frame);
      if (!failure)
        failure =
            std::make_unique<ErrorHead>(error_head(Errc::bad_argument, "it is a job: take its outcomes one by one"));
      return frame.prefix.op == Op::done;
    default: return fail(Errc::bad_message, "unexpected " + std::string{name(frame.prefix.op)});
  }
}

bool Reply::rewind(Connection&) {
  const auto* again = find_extras();
  return again != nullptr && again->repeatable;
}

bool Reply::pump(Connection& connection) {
  auto& again = extras();
  if (!again.mapping) {
    connection.append(again.prefix, again.head, again.body);
    return false;
  }
  const auto place = connection.try_allocate(again.region.size());
  if (!place) {
    connection.refuse(*this, place.error());
    return false;
  }
  if (!*place) return true;
  const ArenaRef ref{(*place)->ref.segment, (*place)->ref.offset, again.region.size()};
  again.mapping = connection.copy_to(**place, again.region);
  again.region = again.mapping->bytes().subspan(ref.offset, ref.bytes);
  places.push_back(**place);
  bound = true;
  connection.append(again.prefix, again.head, std::as_bytes(std::span{&ref, 1}));
  return false;
}

void Reply::abandon(Connection&, const ErrorHead& error, bool) { failure = std::make_unique<ErrorHead>(error); }

}  // namespace taskpool::client
