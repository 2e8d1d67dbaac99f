#include "taskpool/batch.hpp"

#include "client/cpp/connection.hpp"
#include "client/cpp/opened.hpp"
#include "client/cpp/session.hpp"
#include "client/cpp/store_reply.hpp"

namespace taskpool {
namespace {

/// What is surely left for another operation of usual size. Bytes.
constexpr std::size_t kFullBytes = kMaxFrameBodyBytes / 2;
/// Where the number of its object is in an operation: PROTOCOL.md, `store`.
constexpr std::size_t kTargetAt = 4;

}  // namespace

bool Batch::is_full() const { return count_ == kMaxBatch || body_.size() >= kFullBytes; }

Batch& Batch::add(store::Code code, const Object& object, std::initializer_list<StoreArgument> arguments) {
  if (error_) return *this;
  if (!object.valid()) return refuse(fail(Errc::unknown_object, "a handle of the batch names no object"));
  if (count_ == kMaxBatch) return refuse(fail(Errc::limit_reached, "batch: more than " + std::to_string(kMaxBatch)));
  targets_.emplace_back(body_.size() + kTargetAt, object.opened_);
  store::BodyWriter writer{body_};
  writer.begin(code, 0);
  ++count_;
  for (const auto& argument : arguments) {
    const bool is_list = argument.encoding == store::kItemsEncoding;
    if (!is_list && argument.bytes.size() > kMaxInlineItemBytes)
      return refuse(fail(Errc::body_too_large, "batch: a value is above 64 KiB"));
    if (body_.size() + argument.bytes.size() > kMaxFrameBodyBytes)
      return refuse(fail(Errc::limit_reached, "batch: above " + std::to_string(kMaxFrameBodyBytes) + " bytes"));
    client::append_argument(writer, argument);
  }
  return *this;
}

Result<BatchResult> Batch::commit() {
  const auto error = std::exchange(error_, {});
  const auto targets = std::exchange(targets_, {});
  auto body = std::exchange(body_, {});
  const auto count = std::exchange(count_, 0);
  if (error) return *error;
  if (count == 0) return BatchResult{{}};
  auto results = session_->connection()->store(client::EncodedOperations{body, count, targets});
  if (!results) return results.error();
  return BatchResult{std::move(*results)};
}

Future<void> Batch::commit_async() {
  const auto error = std::exchange(error_, {});
  auto targets = std::exchange(targets_, {});
  auto body = std::exchange(body_, {});
  const auto count = std::exchange(count_, 0);
  auto connection = session_->connection();
  std::shared_ptr<client::Pending> pending;
  if (error || count == 0) {
    auto reply = std::make_shared<client::StoreReply>();
    connection->end_with(*reply, error.value_or(fail(Errc::bad_argument, "the batch is empty")));
    pending = std::move(reply);
  } else {
    pending = connection->store_async(client::EncodedOperations{body, count, targets});
  }
  return Future<void>{RawFuture{std::move(connection), std::move(pending)}};
}

}  // namespace taskpool
