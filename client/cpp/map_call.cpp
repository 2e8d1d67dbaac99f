#include "taskpool/map_call.hpp"

#include "client/cpp/job.hpp"
#include "client/cpp/waiting.hpp"

namespace taskpool {

Error item_error(std::uint32_t index, const ErrorHead& error) {
  auto what = to_error(error);
  what.detail = "item " + std::to_string(index) + ": " + what.detail;
  return what;
}

MapCall::MapCall() = default;
MapCall::MapCall(std::shared_ptr<client::Connection> connection, std::shared_ptr<client::CollectJob> job)
    : connection_{std::move(connection)}, job_{std::move(job)} {}
MapCall::MapCall(MapCall&&) noexcept = default;

MapCall& MapCall::operator=(MapCall&& other) noexcept {
  std::swap(connection_, other.connection_);
  std::swap(job_, other.job_);
  return *this;
}

MapCall::~MapCall() {
  if (job_) job_->give_up(*connection_);
}

void MapCall::add(const Item& item) {
  if (job_->input_error || job_->ended() || connection_->is_inherited()) return;
  if (auto added = job_->add(*connection_, item); !added && !job_->ended()) fail(added.error());
}

void MapCall::fail(const Error& error) {
  if (!job_->input_error) job_->input_error = error;
  job_->give_up(*connection_);
}

void MapCall::finish() {
  if (!connection_->is_inherited()) job_->finish(*connection_);
}

bool MapCall::ready() const { return job_->ended(); }

bool MapCall::wait_for(std::chrono::milliseconds timeout) {
  return connection_->wait(*job_, client::deadline_after(timeout));
}

Result<Done> MapCall::wait() {
  if (!connection_->wait(*job_, {})) return connection_->inherited();
  if (job_->input_error) return *job_->input_error;
  return job_->done();
}

Result<std::uint64_t> MapCall::cancel(CancelMode mode) {
  if (connection_->is_inherited()) return std::uint64_t{0};
  job_->flush(*connection_);  // a job that the daemon has not heard of cannot be cancelled there
  return connection_->cancel(*job_, mode);
}
std::string MapCall::task() const { return client::task_of(*connection_, *job_); }
std::optional<Progress> MapCall::progress() const { return client::progress_of(*connection_, *job_); }
void MapCall::on_progress(ProgressCallback callback) { client::set_callback(*connection_, *job_, std::move(callback)); }
std::uint64_t MapCall::completed() const { return job_->completed(); }

}  // namespace taskpool
