#include "taskpool/map_stream.hpp"

#include "client/cpp/stream_job.hpp"
#include "client/cpp/waiting.hpp"

namespace taskpool {

MapStream::MapStream() = default;
MapStream::MapStream(std::shared_ptr<client::Connection> connection, std::shared_ptr<client::StreamJob> job)
    : connection_{std::move(connection)}, job_{std::move(job)} {}
MapStream::MapStream(MapStream&&) noexcept = default;

MapStream& MapStream::operator=(MapStream&& other) noexcept {
  std::swap(connection_, other.connection_);
  std::swap(job_, other.job_);
  return *this;
}

MapStream::~MapStream() {
  if (job_) job_->give_up(*connection_);
}

Result<bool> MapStream::try_push(const Item& item) {
  if (connection_->is_inherited()) return connection_->inherited();
  return job_->try_push(*connection_, item);
}

Result<void> MapStream::push(const Item& item, std::chrono::milliseconds patience) {
  if (connection_->is_inherited()) return connection_->inherited();
  return job_->push(*connection_, item, patience);
}

void MapStream::finish() {
  if (!connection_->is_inherited()) job_->finish(*connection_);
}

void MapStream::flush() {
  if (!connection_->is_inherited()) job_->flush(*connection_);
}

std::optional<Outcome> MapStream::next() {
  if (connection_->is_inherited()) return std::nullopt;
  for (;;) {
    if (auto outcome = job_->try_next(*connection_)) return outcome;
    if (job_->wait_for(*connection_, {}) != State::ready) return std::nullopt;
  }
}

std::optional<Outcome> MapStream::try_next() {
  return connection_->is_inherited() ? std::nullopt : job_->try_next(*connection_);
}

MapStream::State MapStream::wait_for(std::chrono::milliseconds timeout) {
  if (connection_->is_inherited()) return State::idle;
  return job_->wait_for(*connection_, client::deadline_after(timeout));
}

std::uint64_t MapStream::pushed() const { return job_->pushed(); }
std::uint64_t MapStream::taken() const { return job_->taken(); }

Result<Done> MapStream::done() const {
  if (!job_->ended()) return fail(Errc::not_finished, "the job has not ended");
  return job_->done();
}

Result<std::uint64_t> MapStream::cancel(CancelMode mode) {
  if (connection_->is_inherited()) return std::uint64_t{0};
  job_->flush(*connection_);  // a job that the daemon has not heard of cannot be cancelled there
  return connection_->cancel(*job_, mode);
}
std::string MapStream::task() const { return client::task_of(*connection_, *job_); }
std::optional<Progress> MapStream::progress() const { return client::progress_of(*connection_, *job_); }
void MapStream::on_progress(ProgressCallback callback) {
  client::set_callback(*connection_, *job_, std::move(callback));
}

}  // namespace taskpool
