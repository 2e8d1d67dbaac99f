#include "client/cpp/connection.hpp"
#include "client/cpp/job.hpp"
#include "proto/codec.hpp"

namespace taskpool::client {

/// A request whose answer tells that what was sent before it has been read.
class Connection::Mark final : public Pending {
 public:
  explicit Mark(std::shared_ptr<Job> job) : job_{std::move(job)}, resends_{job_ ? job_->resends : 0} {}

  Result<bool> accept(Connection& connection, const FrameView&, std::span<Fd>) override {
    if (job_ && job_->resends == resends_) job_->all_read(connection);
    return true;
  }
  void abandon(Connection&, const ErrorHead&, bool) override {}

 private:
  const std::shared_ptr<Job> job_;
  const unsigned resends_;  ///< Of the job: what it sent then is what was read.
};

void Connection::mark(const std::shared_ptr<Job>& job, std::vector<UpPlace> places) {
  const auto mark = std::make_shared<Mark>(job);
  register_request(mark);
  mark->bound = !places.empty();
  mark->places = std::move(places);
  Prefix prefix;
  prefix.op = Op::ping;
  prefix.request = mark->request;
  append(prefix, {}, {});
}

void Connection::open_job(const std::shared_ptr<Job>& job, std::optional<Op> op, const std::string& head) {
  const auto& to = job->destination();
  Lock lock{mutex_};
  const auto connected = ensure_connected(lock);
  std::optional<ErrorHead> refused;
  if (!connected) refused = error_head(connected.error());
  if (!refused && to.pool_epoch != 0 && to.pool_epoch != epoch_)
    refused = error_head(Errc::pool_closed, "the pool ended with the connection that opened it");
  if (refused) {
    job->refuse(*this, *refused);
    return end(*job);
  }
  register_request(job);
  job->pool_epoch = to.pool_epoch;
  job->prepared = to.prepared;
  if (!op) return;
  Prefix prefix;
  prefix.op = *op;
  prefix.request = job->request;
  append(prefix, head, {});
}

}  // namespace taskpool::client
