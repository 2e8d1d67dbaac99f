#include "daemon/server/keeper.hpp"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cstring>
#include <utility>

#include "proto/codec.hpp"

namespace taskpool::server {

Keeper::Keeper(wire::Turn& turn, const Config& config, Metrics& metrics, queue::JobTable& jobs, Arenas& arenas)
    : turn_{turn}, config_{config}, metrics_{metrics}, jobs_{jobs}, arenas_{arenas}, timer_{turn.io()} {}

void Keeper::adopt(queue::Job& job, std::optional<Key> key) {
  auto record = std::make_unique<Record>();
  if (key) keys_[*key] = job.id;
  record->key = std::move(key);
  job.listener = this;
  records_[static_cast<std::uint64_t>(job.id)] = std::move(record);
}

Keeper::Record* Keeper::find(const queue::Job& job) const {
  const auto found = records_.find(static_cast<std::uint64_t>(job.id));
  return found == records_.end() ? nullptr : found->second.get();
}

void Keeper::add_inputs(queue::Job& job, std::vector<ArenaRef> inputs) {
  auto& all = find(job)->inputs;
  all.insert(all.end(), inputs.begin(), inputs.end());
}

queue::Job* Keeper::find(const Key& key) {
  const auto found = keys_.find(key);
  return found == keys_.end() ? nullptr : jobs_.find(found->second);
}

bool Keeper::keeps(const queue::Job& job) const { return find(job) != nullptr; }

const ErrorHead* Keeper::error_of(const queue::Job& job) const {
  const auto* record = find(job);
  return record != nullptr && record->error ? &*record->error : nullptr;
}

void Keeper::add(Record& record, Piece piece) {
  const auto bytes = sizeof(Piece) + 3 * piece.head.size() + piece.body.size();  // the refs are there twice more
  // A quarter of the whole is the most that one job may take.
  if (record.overflowed || record.bytes + bytes > limit() / 4) {
    record.overflowed = true;
    return;
  }
  record.bytes += bytes;
  bytes_ += bytes;
  record.pieces.push_back(std::move(piece));
}

void Keeper::on_results(queue::Job& job, std::uint32_t index, std::uint32_t, const Prefix& form,
                        std::span<const std::byte> table, std::span<const std::byte> payload,
                        std::span<const std::string> refs) {
  auto* record = find(job);
  Piece piece{form, {}, {}};
  if (!refs.empty()) {
    piece.refs.assign(refs.begin(), refs.end());
    piece.head = encode(ResultRefs{piece.refs});
    if (pin)
      for (const auto& id : refs) piece.pins.push_back(pin(id, job.uid));
  }
  piece.form.op = Op::results;
  piece.form.target = index;
  piece.form.count = form.count;
  piece.body.reserve(table.size() + payload.size());
  piece.body.insert(piece.body.end(), table.begin(), table.end());
  piece.body.insert(piece.body.end(), payload.begin(), payload.end());
  add(*record, std::move(piece));
  trim();
}

void Keeper::on_failed(queue::Job& job, std::uint32_t index, std::uint32_t count, const ErrorHead& error) {
  auto* record = find(job);
  if (!record->error) {
    record->error = error;
    record->error_index = index;
  }
  add(*record, Piece{Prefix{.op = Op::failed, .target = index, .count = count}, encode(error), {}});
  trim();
}

void Keeper::on_progress(queue::Job&, std::uint32_t, const Report&) {}

bool Keeper::on_done(queue::Job& job) {
  auto* record = find(job);
  release_inputs(*record);
  record->ended = turn_.now();
  record->place = ended_.insert(ended_.end(), job.id);
  // Later: it may be this one that there is no room for, and who waits for it has not been told.
  if (!std::exchange(arming_, true)) {
    boost::asio::post(turn_.io(), [this] {
      arming_ = false;
      if (!stopped_) arm();
    });
  }
  return true;
}

Result<void> Keeper::replay(const queue::Job& job, wire::Channel& to, std::uint64_t request, std::uint32_t session,
                            std::uint64_t index, const std::function<void(std::span<const std::string>)>& hold) {
  auto& record = *find(job);
  record.collected = true;
  if (record.overflowed) return fail(Errc::limit_reached, "kept_result_bytes: the results were too many to be kept");
  for (const auto& piece : record.pieces) {
    auto prefix = piece.form;
    prefix.request = request;
    if (job.is_map && std::uint64_t{prefix.target} + prefix.count <= index) continue;
    std::vector<std::byte> body = piece.body;
    if ((prefix.flags & kInArena) != 0) {
      for (std::size_t at = 0; at + sizeof(ArenaRef) <= body.size(); at += sizeof(ArenaRef)) {
        const auto from = load<ArenaRef>(body.data() + at);
        if (from.bytes == 0) continue;
        const auto into = arenas_.allocate(session, from.bytes);
        if (!into) return into.error();
        const auto source = arenas_.bytes(0, true, from);
        const auto target = arenas_.bytes(session, true, *into);
        std::memcpy(target.data(), source.data(), std::min(source.size(), target.size()));
        store_le(body.data() + at, *into);
      }
    }
    if (!piece.refs.empty()) hold(piece.refs);
    if (job.is_map) {
      to.send(prefix, piece.head, body);
      continue;
    }
    prefix.target = 0;
    prefix.op = prefix.op == Op::failed ? Op::error : Op::result;
    const bool packed = prefix.op == Op::result && (prefix.flags & kInArena) == 0 && !is_array(prefix.encoding);
    to.send(prefix, piece.head, packed ? std::span{body}.subspan(sizeof(std::uint32_t)) : std::span{body});
  }
  return boost::system::in_place_value;
}

void Keeper::release_inputs(Record& record) {
  for (const auto& region : record.inputs) arenas_.release_own(region);
  record.inputs.clear();
}

void Keeper::release_pieces(Record& record) {
  for (const auto& piece : record.pieces)
    if ((piece.form.flags & kInArena) != 0)
      for (std::size_t at = 0; at + sizeof(ArenaRef) <= piece.body.size(); at += sizeof(ArenaRef))
        arenas_.release(0, load<ArenaRef>(piece.body.data() + at));
}

void Keeper::drop(queue::Job& job) {
  const auto found = records_.find(static_cast<std::uint64_t>(job.id));
  if (found == records_.end()) return;
  auto& record = *found->second;
  if (on_dropped) on_dropped(job);
  release_inputs(record);
  release_pieces(record);
  bytes_ -= record.bytes;
  if (record.key) keys_.erase(*record.key);
  ended_.erase(record.place);
  records_.erase(found);
  jobs_.release(job);
}

void Keeper::expire(queue::Job& job) {
  const auto& record = *find(job);
  if (on_uncollected && record.error && !record.collected && record.error->code != Errc::cancelled)
    on_uncollected(job, record.error_index, *record.error);
  drop(job);
}

void Keeper::trim() {
  while (!ended_.empty() && (bytes_ > limit() || ended_.size() > config_.kept_results))
    expire(*jobs_.find(ended_.front()));
  metrics_.results_kept = ended_.size();
  metrics_.results_kept_bytes = bytes_;
}

void Keeper::arm() {
  trim();
  if (armed_ || ended_.empty()) return;
  armed_ = true;
  timer_.expires_at(find(*jobs_.find(ended_.front()))->ended + config_.keep_results_for);
  timer_.async_wait([this](const boost::system::error_code& error) {
    armed_ = false;
    if (error) return;
    const auto now = std::chrono::steady_clock::now();
    while (!ended_.empty()) {
      auto& oldest = *jobs_.find(ended_.front());
      if (find(oldest)->ended + config_.keep_results_for > now) break;
      expire(oldest);
    }
    arm();
    turn_.end_later();  // the daemon may have become idle
  });
}

}  // namespace taskpool::server
